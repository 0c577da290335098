//! The hashes of an RFC 6962 tree, and the right edge of one that grows.

use crate::hash::{ContentHash, Hasher};

/// The hash of a leaf that holds `data`: SHA-256 over a zero byte and the data (RFC 6962, section 2.1).
pub fn leaf_hash(data: &[u8]) -> ContentHash {
    let mut hasher = Hasher::default();
    hasher.update(&[0]);
    hasher.update(data);
    hasher.finish()
}

/// The hash of an inner node: SHA-256 over a one byte and both children.
pub fn node_hash(left: &ContentHash, right: &ContentHash) -> ContentHash {
    let mut hasher = Hasher::default();
    hasher.update(&[1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    hasher.finish()
}

/// The root of the tree without leaves: the hash of nothing.
pub fn empty_root() -> ContentHash {
    ContentHash::of([])
}

/// The right edge of a tree: all that is needed to add leaves and to know the root, at most 64 hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The roots of the complete subtrees that make up the tree, largest first: one for each bit set in `size`.
    roots: Vec<ContentHash>,
}

impl Frontier {
    /// The edge of a tree of `size` leaves whose complete subtrees have `roots`, largest first. Nothing if their
    /// number is not that of the bits set in `size`.
    pub fn of(size: u64, roots: Vec<ContentHash>) -> Option<Self> {
        let complete = u32::try_from(roots.len()).is_ok_and(|n| n == size.count_ones());
        complete.then_some(Self { size, roots })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf, given by its hash.
    pub fn push(&mut self, leaf: ContentHash) {
        let mut hash = leaf;
        // Each bit that carries is a subtree that is now the left half of a larger one.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.roots.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// The root over all leaves.
    pub fn root(&self) -> ContentHash {
        let mut subtrees = self.roots.iter().rev();
        let Some(last) = subtrees.next() else {
            return empty_root();
        };
        subtrees.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The leaves and roots that implementations of RFC 6962 have shared since Certificate Transparency began.
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    /// The definition, word for word: what everything else is compared with.
    pub(crate) fn by_definition(leaves: &[ContentHash]) -> ContentHash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            more => {
                let half = more.len().next_power_of_two() / 2;
                let (left, right) = more.split_at(half);
                node_hash(&by_definition(left), &by_definition(right))
            }
        }
    }

    pub(crate) fn leaves(n: u64) -> Vec<ContentHash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn has_the_roots_that_were_published() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.root().to_hex(), ROOTS[0]);
        for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
            frontier.push(leaf_hash(&hex::decode(leaf).unwrap()));
            assert_eq!(frontier.root().to_hex(), *root);
        }
    }

    #[test]
    fn every_root_is_the_one_of_the_definition() {
        let all = leaves(300);
        let mut frontier = Frontier::default();
        for (n, leaf) in all.iter().enumerate() {
            assert_eq!(frontier.root(), by_definition(&all[..n]));
            let same = Frontier::of(frontier.size(), frontier.roots.clone());
            assert_eq!(same.as_ref(), Some(&frontier));
            frontier.push(*leaf);
        }
        assert_eq!(Frontier::of(3, vec![empty_root()]), None);
    }
}
