//! Blocks, roots and proofs as the reference computed them.
#![expect(
    clippy::unwrap_used,
    reason = "a vector that does not parse fails its test"
)]

use kairos_protocol::block::merkle::{self, MerkleRoot, ProofStep};
use kairos_protocol::block::{Block, StoredBlock, file_text};
use kairos_protocol::hash::ContentHash;
use serde::Deserialize;

const LEDGER: &str = include_str!("fixtures/vectors/blockchain-3.json");
const VECTORS: &str = include_str!("fixtures/vectors/block-and-merkle.json");

/// Every member is read by a test below; a vector that grows a member fails to parse here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "source")]
    _source: String,
    block_preimages: Vec<PreimageVector>,
    merkle: Vec<TreeVector>,
    merkle_special: Vec<RootVector>,
    merkle_proof_5_leaf_e: Vec<ProofStep>,
    merkle_proof_5_leaf_b: Vec<ProofStep>,
    proof_verify: std::collections::BTreeMap<String, bool>,
    empty_data_block: StoredBlock,
    offset_timestamp_block: StoredBlock,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreimageVector {
    index: usize,
    preimage_utf8: String,
    preimage_sha256: ContentHash,
    hash: ContentHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TreeVector {
    leaves: Vec<String>,
    leaf_hashes: Vec<ContentHash>,
    root: MerkleRoot,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootVector {
    leaves: Vec<String>,
    root: MerkleRoot,
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).unwrap()
}

fn ledger() -> Vec<Block> {
    let stored: Vec<StoredBlock> = serde_json::from_str(LEDGER).unwrap();
    stored
        .into_iter()
        .map(|block| block.seal().unwrap())
        .collect()
}

#[test]
fn writes_the_ledger_file_byte_for_byte() {
    assert_eq!(file_text(&ledger()), LEDGER);
    let elements: Vec<String> = ledger().iter().map(Block::file_form).collect();
    assert_eq!(format!("[\n  {}\n]", elements.join(",\n  ")), LEDGER);
}

#[test]
fn hashes_the_same_preimages() {
    let blocks = ledger();
    let expected = vectors().block_preimages;
    assert_eq!(expected.len(), blocks.len());
    for vector in expected {
        let block = &blocks[vector.index];
        assert_eq!(block.preimage(), vector.preimage_utf8);
        assert_eq!(
            ContentHash::of(&vector.preimage_utf8),
            vector.preimage_sha256
        );
        assert_eq!(block.hash(), vector.hash);
    }
    assert_eq!(&blocks[0], Block::genesis());
}

#[test]
fn computes_the_same_roots() {
    let vectors = vectors();
    assert_eq!(vectors.merkle.len(), 8);
    for tree in &vectors.merkle {
        let hashes: Vec<_> = tree.leaves.iter().map(ContentHash::of).collect();
        assert_eq!(hashes, tree.leaf_hashes);
        assert_eq!(MerkleRoot::of(&tree.leaves), tree.root);
    }
    assert_eq!(vectors.merkle_special.len(), 5);
    for tree in &vectors.merkle_special {
        assert_eq!(MerkleRoot::of(&tree.leaves), tree.root, "{:?}", tree.leaves);
    }
}

#[test]
fn builds_the_same_proofs_and_accepts_them() {
    let vectors = vectors();
    let five = &vectors.merkle[5];
    for (at, proof) in [
        (4, &vectors.merkle_proof_5_leaf_e),
        (1, &vectors.merkle_proof_5_leaf_b),
    ] {
        assert_eq!(merkle::prove(&five.leaves, at).as_ref(), Some(proof));
    }
    assert_eq!(vectors.proof_verify.len(), five.leaves.len());
    for (at, leaf) in five.leaves.iter().enumerate() {
        let proof = merkle::prove(&five.leaves, at).unwrap();
        assert_eq!(
            merkle::verify(&five.root, leaf, &proof),
            vectors.proof_verify[leaf]
        );
    }
}

#[test]
fn seals_a_block_without_entries_and_one_with_a_foreign_offset() {
    let vectors = vectors();
    for stored in [vectors.empty_data_block, vectors.offset_timestamp_block] {
        let claimed = stored.hash;
        let written = stored.timestamp.clone();
        let block = stored.seal().unwrap();
        assert_eq!(Some(block.hash()), claimed);
        assert_eq!(block.timestamp(), written);
        assert_eq!(block.previous_hash(), ledger()[2].hash());
    }
}
