use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::super::proof::{verify_consistency, verify_inclusion};
use super::super::tree::tests::{by_definition, leaves};
use super::super::tree::{empty_root, leaf_hash};
use super::*;

/// Tiles in memory; a tile is found by any of its widths.
#[derive(Default, Clone)]
struct Tiles(BTreeMap<TileId, Vec<ContentHash>>);

impl TileSource for &Tiles {
    type Error = ProofError;

    fn tile(&mut self, id: TileId) -> Result<Vec<ContentHash>, ProofError> {
        let mut wider = (id.width..=TILE_WIDTH).map(|width| TileId { width, ..id });
        let found = wider.find_map(|id| self.0.get(&id));
        found.cloned().ok_or(ProofError::Length)
    }
}

impl Tiles {
    fn grow(&mut self, builder: &mut TileBuilder, leaves: &[ContentHash]) {
        for leaf in leaves {
            let keep = |id, hashes: &[ContentHash]| {
                self.0.insert(id, hashes.to_vec());
                Ok::<(), Infallible>(())
            };
            let Ok(()) = builder.push(*leaf, keep);
        }
        for (id, hashes) in builder.partial() {
            self.0.insert(id, hashes.to_vec());
        }
    }

    fn of(leaves: &[ContentHash]) -> Self {
        let mut tiles = Self::default();
        tiles.grow(&mut TileBuilder::default(), leaves);
        tiles
    }
}

fn head(leaves: &[ContentHash]) -> Head {
    Head {
        size: leaves.len() as u64,
        root: by_definition(leaves),
    }
}

#[test]
fn tiles_have_the_paths_of_the_specification() {
    for (level, index, width, path) in [
        (0, 0, 256, "tile/0/000"),
        (0, 0, 1, "tile/0/000.p/1"),
        (3, 999, 256, "tile/3/999"),
        (1, 1234067, 256, "tile/1/x001/x234/067"),
        (2, 1_000_000, 255, "tile/2/x001/x000/000.p/255"),
    ] {
        let id = TileId {
            level,
            index,
            width,
        };
        assert_eq!(id.path(), path);
    }
}

/// The example of the specification: a tree of 70,000.
#[test]
fn a_tree_has_the_tiles_of_the_specification() {
    let tiles = Tiles::of(&leaves(70_000));
    let of_level = |level| tiles.0.keys().filter(move |id| id.level == level);
    let full = |level| of_level(level).filter(|id| !id.is_partial()).count();
    let partial = |level| {
        of_level(level)
            .find(|id| id.is_partial())
            .map(|id| id.width)
    };
    assert_eq!((full(0), partial(0)), (273, Some(112)));
    assert_eq!((full(1), partial(1)), (1, Some(17)));
    assert_eq!((full(2), partial(2)), (0, Some(1)));
    assert_eq!(of_level(3).count(), 0);
    let exact = Tiles::of(&leaves(256));
    let ids: Vec<_> = exact.0.keys().map(TileId::path).collect();
    assert_eq!(ids, ["tile/0/000", "tile/1/000.p/1"]);
}

#[test]
fn every_pair_of_sizes_is_consistent_and_every_leaf_included() {
    let all = leaves(66);
    let tiles = Tiles::of(&all);
    for new in 0..=all.len() {
        let newer = head(&all[..new]);
        let mut tree = TileTree::new(&tiles, newer.size);
        assert_eq!(tree.head(), Ok(newer));
        for (index, leaf) in all[..new].iter().enumerate() {
            let index = index as u64;
            assert_eq!(tree.leaf(index), Ok(*leaf));
            let proof = tree.prove_inclusion(index).unwrap();
            verify_inclusion(leaf, index, newer.size, &newer.root, &proof).unwrap();
            for wrong in [index + 1, index ^ 1, newer.size - 1 - index] {
                let held = verify_inclusion(leaf, wrong, newer.size, &newer.root, &proof);
                assert_eq!(held.is_ok(), wrong == index, "{index} as {wrong} in {new}");
            }
        }
        for old in 0..=new {
            let older = head(&all[..old]);
            let proof = tree.prove_consistency(older.size).unwrap();
            assert_eq!(
                verify_consistency(older, newer, &proof),
                Ok(()),
                "{old} to {new}"
            );
            if old < new {
                assert!(verify_consistency(newer, older, &proof).is_err());
            }
        }
        assert!(tree.prove_consistency(newer.size + 1).is_err());
        assert!(tree.prove_inclusion(newer.size).is_err());
    }
}

#[test]
fn a_proof_costs_a_few_tiles() {
    let all = leaves(70_000);
    let tiles = Tiles::of(&all);
    let mut tree = TileTree::new(&tiles, 70_000);
    let proof = tree.prove_inclusion(12_345).unwrap();
    assert_eq!(proof.len(), 17);
    assert!(tree.read.len() <= 5, "{}", tree.read.len());
    let root = tree.head().unwrap().root;
    verify_inclusion(&all[12_345], 12_345, 70_000, &root, &proof).unwrap();
}

#[test]
fn only_whole_hashes_are_a_tile() {
    let hashes = leaves(256);
    let bytes = tile_bytes(&hashes);
    assert_eq!(parse_tile(&bytes), Some(hashes));
    assert_eq!(parse_tile(&bytes[..32]).map(|tile| tile.len()), Some(1));
    for bad in [
        &bytes[..0],
        &bytes[..31],
        &bytes[..33],
        &[bytes.as_slice(), &[0; 32]].concat(),
    ] {
        assert_eq!(parse_tile(bad), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_tree_that_grows_in_steps_is_the_same(steps in prop::collection::vec(0_usize..400, 0..5)) {
        let all = leaves(steps.iter().sum::<usize>() as u64);
        let (mut tiles, mut size) = (Tiles::default(), 0);
        for step in steps {
            let mut builder = TileBuilder::resume(&tiles, size as u64).unwrap();
            tiles.grow(&mut builder, &all[size..size + step]);
            size += step;
            prop_assert_eq!(builder.head(), head(&all[..size]));
        }
        for (id, hashes) in &Tiles::of(&all).0 {
            prop_assert_eq!(tiles.0.get(id), Some(hashes));
        }
    }

    /// What a changed hash, a changed size or another leaf turns a proof into is refused.
    #[test]
    fn a_changed_proof_is_refused(
        size in 2_u64..700, index in any::<u64>(), old in any::<u64>(), at in any::<prop::sample::Index>(),
        byte in 0_usize..32, bit in 0_u8..8,
    ) {
        let all = leaves(size);
        let tiles = Tiles::of(&all);
        let (index, old) = (index % size, 1 + old % (size - 1));
        let mut tree = TileTree::new(&tiles, size);
        let newer = tree.head().unwrap();
        let older = TileTree::new(&tiles, old).head().unwrap();
        let leaf = all[usize::try_from(index).unwrap()];
        let flip = |hash: &ContentHash| {
            let mut bytes = *hash.as_bytes();
            bytes[byte] ^= 1 << bit;
            ContentHash::from(bytes)
        };

        let proof = tree.prove_inclusion(index).unwrap();
        let mut changed = proof.clone();
        let n = at.index(proof.len());
        changed[n] = flip(&changed[n]);
        prop_assert!(verify_inclusion(&leaf, index, size, &newer.root, &changed).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &newer.root, &proof[1..]).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &newer.root, &[&proof[..], &[leaf]].concat()).is_err());
        prop_assert!(verify_inclusion(&flip(&leaf), index, size, &newer.root, &proof).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &flip(&newer.root), &proof).is_err());

        let proof = tree.prove_consistency(old).unwrap();
        prop_assert_eq!(verify_consistency(older, newer, &proof), Ok(()));
        let mut changed = proof.clone();
        let n = at.index(proof.len());
        changed[n] = flip(&changed[n]);
        prop_assert!(verify_consistency(older, newer, &changed).is_err());
        prop_assert!(verify_consistency(older, newer, &proof[1..]).is_err());
        let other = Head { root: flip(&older.root), ..older };
        prop_assert!(verify_consistency(other, newer, &proof).is_err());
        let other = Head { root: flip(&newer.root), ..newer };
        prop_assert!(verify_consistency(older, other, &proof).is_err());
    }

    /// A log that rewrote its past cannot hide it: its own proof says so.
    #[test]
    fn a_rewritten_past_is_told_from_a_broken_proof(size in 2_u64..300, old in any::<u64>(), at in any::<u64>()) {
        let old = 1 + old % (size - 1);
        let honest = leaves(size);
        let mut rewritten = honest.clone();
        rewritten[usize::try_from(at % old).unwrap()] = leaf_hash(b"another");
        let shown_before = TileTree::new(&Tiles::of(&honest), old).head().unwrap();
        let tiles = Tiles::of(&rewritten);
        let mut tree = TileTree::new(&tiles, size);
        let now = tree.head().unwrap();
        let proof = tree.prove_consistency(old).unwrap();
        let told = verify_consistency(shown_before, now, &proof);
        // A complete subtree is left out of the proof, so that there the root of the newer tree does not fit either.
        let expected = if old.is_power_of_two() { ProofError::Root } else { ProofError::OldRoot };
        prop_assert_eq!(told, Err(expected));
        let claimed = TileTree::new(&tiles, old).head().unwrap();
        prop_assert_eq!(verify_consistency(claimed, now, &proof), Ok(()));
    }
}

#[test]
fn the_empty_tree_is_continued_by_every_tree() {
    let empty = Head {
        size: 0,
        root: empty_root(),
    };
    assert_eq!(verify_consistency(empty, head(&leaves(7)), &[]), Ok(()));
    let other = Head {
        size: 0,
        root: leaf_hash(b""),
    };
    assert!(verify_consistency(other, head(&leaves(7)), &[]).is_err());
    assert!(verify_consistency(empty, head(&leaves(7)), &leaves(1)).is_err());
}
