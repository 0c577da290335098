//! The Merkle tree over the entries of one block, in the form the reference hashes it.
//!
//! A leaf is the hash of the entry's UTF-8 bytes; a node is the hash of the two children written as hex,
//! left then right; the last node of an odd level is paired with itself; no entries have the empty root.
//! The tree has no domain separation between leaves and nodes, so a proof shows membership only to someone who
//! also holds the block hash, which covers the entries themselves.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hash::{ContentHash, HashError, Hasher};

/// Most steps that [`verify`] follows: the depth of a tree with more leaves than a block can have.
pub const PROOF_STEPS_MAX: usize = 64;

/// The root over a block's entries: a hash, or the empty text for a block without entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MerkleRoot(Option<ContentHash>);

impl MerkleRoot {
    /// The root of a block without entries, written as the empty text.
    pub const EMPTY: MerkleRoot = MerkleRoot(None);

    /// The root over `entries`.
    pub fn of<T: AsRef<str>>(entries: &[T]) -> Self {
        let mut level = leaves(entries);
        while level.len() > 1 {
            level = parents(&level);
        }
        Self(level.first().copied())
    }

    /// The root as a hash; nothing for a block without entries.
    pub fn hash(&self) -> Option<ContentHash> {
        self.0
    }
}

impl From<ContentHash> for MerkleRoot {
    fn from(hash: ContentHash) -> Self {
        Self(Some(hash))
    }
}

impl FromStr for MerkleRoot {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        match text {
            "" => Ok(Self::EMPTY),
            hex => hex.parse().map(|hash| Self(Some(hash))),
        }
    }
}

impl TryFrom<String> for MerkleRoot {
    type Error = HashError;
    fn try_from(text: String) -> Result<Self, HashError> {
        text.parse()
    }
}

impl From<MerkleRoot> for String {
    fn from(root: MerkleRoot) -> String {
        root.to_string()
    }
}

impl fmt::Display for MerkleRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |hash| hash.fmt(f))
    }
}

/// On which side of the running hash a proof's sibling stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The sibling comes first.
    Left,
    /// The sibling comes second.
    Right,
}

/// One step of a proof, from the leaf upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofStep {
    /// Where the sibling stands.
    pub position: Side,
    /// The sibling's hash.
    pub data: ContentHash,
}

/// Proves that the entry at `index` is under the root of `entries`; nothing if there is no such entry.
pub fn prove<T: AsRef<str>>(entries: &[T], index: usize) -> Option<Vec<ProofStep>> {
    let mut level = leaves(entries);
    let mut at = index;
    let mut proof = Vec::new();
    level.get(at)?;
    while level.len() > 1 {
        let (position, sibling) = if at.is_multiple_of(2) {
            (Side::Right, at + 1)
        } else {
            (Side::Left, at - 1)
        };
        // The last node of an odd level is its own sibling.
        let data = *level.get(sibling).or(level.get(at))?;
        proof.push(ProofStep { position, data });
        level = parents(&level);
        at /= 2;
    }
    Some(proof)
}

/// Whether `proof` leads from `entry` to `root`.
pub fn verify(root: &MerkleRoot, entry: &str, proof: &[ProofStep]) -> bool {
    let climb = |below: ContentHash, step: &ProofStep| match step.position {
        Side::Left => node(&step.data, &below),
        Side::Right => node(&below, &step.data),
    };
    proof.len() <= PROOF_STEPS_MAX
        && root.0 == Some(proof.iter().fold(ContentHash::of(entry), climb))
}

fn leaves<T: AsRef<str>>(entries: &[T]) -> Vec<ContentHash> {
    entries
        .iter()
        .map(|entry| ContentHash::of(entry.as_ref()))
        .collect()
}

fn parents(level: &[ContentHash]) -> Vec<ContentHash> {
    level
        .chunks(2)
        .filter_map(|pair| Some(node(pair.first()?, pair.last()?)))
        .collect()
}

fn node(left: &ContentHash, right: &ContentHash) -> ContentHash {
    let mut hasher = Hasher::default();
    hasher.update(left.to_hex().as_bytes());
    hasher.update(right.to_hex().as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn proves_nothing_about_an_entry_that_is_not_there() {
        assert_eq!(prove(&["a", "b"], 2), None);
        assert_eq!(prove::<&str>(&[], 0), None);
        assert!(!verify(&MerkleRoot::EMPTY, "", &[]));
    }

    #[test]
    fn refuses_a_proof_deeper_than_any_tree() {
        let step = ProofStep {
            position: Side::Left,
            data: ContentHash::of("x"),
        };
        let proof = vec![step; PROOF_STEPS_MAX + 1];
        let root = proof
            .iter()
            .fold(ContentHash::of("a"), |below, step| node(&step.data, &below));
        assert!(!verify(&root.into(), "a", &proof));
    }

    proptest! {
        #[test]
        fn every_entry_has_a_proof_that_holds_for_it_alone(
            entries in prop::collection::vec("[a-z]{0,3}", 1..20),
            pick in any::<prop::sample::Index>(),
            other in "[A-Z]{1,3}",
        ) {
            let at = pick.index(entries.len());
            let root = MerkleRoot::of(&entries);
            let proof = prove(&entries, at).unwrap();
            prop_assert!(verify(&root, &entries[at], &proof));
            prop_assert!(!verify(&root, &other, &proof));
        }

        #[test]
        fn a_root_reads_back_as_written(entries in prop::collection::vec(".{0,8}", 0..6)) {
            let root = MerkleRoot::of(&entries);
            prop_assert_eq!(root.to_string().parse::<MerkleRoot>(), Ok(root));
        }
    }
}
