//! A transparency log over the ledger: what lets anyone notice that a ledger was cut, rewritten or shown in two
//! versions, without reading all of it.
//!
//! The leaves are the hashes of the blocks. The tree is that of RFC 6962, section 2; it is kept in tiles as C2SP
//! `tlog-tiles` lays them out, and its head is stated by a C2SP `tlog-checkpoint`, which is a `signed-note`. Proofs
//! travel as `tlog-proof` text, and other nodes vouch for a checkpoint by `tlog-cosignature`, so tools that know
//! nothing of this program can check all of it.
//!
//! - [`tree`]: hashing, and the right edge of a growing tree.
//! - [`tile`]: where hashes are kept, and proofs made from a few of them.
//! - [`proof`]: checking inclusion and consistency.
//! - [`note`]: keys, signatures and the text they are written in.
//! - [`checkpoint`]: the signed head of a log, and the cosignatures on it.
//! - [`inclusion`]: a proof that a block is in a ledger, as a text that needs nothing else.
//! - [`witness`]: what a log asks of a witness.
//! - [`statement`]: whose log it is.
//! - [`fork`]: evidence against a log that showed two histories.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hash::ContentHash;

pub mod checkpoint;
pub mod fork;
pub mod inclusion;
pub mod note;
pub mod proof;
pub mod statement;
pub mod tile;
pub mod tree;
pub mod witness;

/// The leaf of the block with this hash: over the 32 raw bytes.
pub fn block_leaf(block_hash: &ContentHash) -> ContentHash {
    tree::leaf_hash(block_hash.as_bytes())
}

/// A hash as C2SP texts write it: 44 characters of base64.
pub fn hash_text(hash: &ContentHash) -> String {
    STANDARD.encode(hash.as_bytes())
}

/// Reads [`hash_text`]; strict, so that a hash has one text.
pub fn parse_hash(text: &str) -> Option<ContentHash> {
    const LENGTH: usize = 44;
    if text.len() != LENGTH {
        return None;
    }
    let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(bytes.into())
}

/// A decimal number without a sign or leading zeros.
fn parse_decimal(text: &str) -> Option<u64> {
    let plain = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && digits).then(|| text.parse().ok()).flatten()
}
