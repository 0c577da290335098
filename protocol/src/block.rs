//! Blocks: what is hashed, how a block is written to the ledger file, and how a stored one is checked.
//!
//! [`Block`] is a block whose root and hash are right; [`StoredBlock`] is what a file claims. The bytes that are
//! hashed have one encoder, [`Block::preimage`], and the ledger file has one, [`Block::file_form`].

pub mod canonical;
pub mod entry;
pub mod merkle;

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hash::ContentHash;
use crate::time::Timestamp;
use canonical::Header;
use merkle::MerkleRoot;

/// Most entries that one new block takes.
pub const ENTRIES_MAX: usize = 1_000;
/// Most bytes of entries, in total, that one new block takes.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A block whose Merkle root and hash belong to its content.
///
/// Serializes with the fields in the order of the ledger file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Block {
    index: u64,
    timestamp: String,
    data: Vec<String>,
    previous_hash: ContentHash,
    merkle_root: MerkleRoot,
    hash: ContentHash,
}

/// A place in the chain: the index of a block and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// Position from genesis, which is 0.
    pub index: u64,
    /// The block's hash.
    pub hash: ContentHash,
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} ({:.12})", self.index, self.hash.to_hex())
    }
}

/// Why entries cannot become a block.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EntriesError {
    /// There is nothing to record.
    #[error("a block needs at least one entry")]
    None,
    /// More than [`ENTRIES_MAX`] entries.
    #[error("{0} entries are more than the {ENTRIES_MAX} a block takes")]
    TooMany(usize),
    /// More than [`ENTRY_BYTES_MAX`] bytes.
    #[error("entries of {0} bytes are more than the {ENTRY_BYTES_MAX} a block takes")]
    TooLong(usize),
}

/// Checks that `entries` fit into one new block.
pub fn check_entries(entries: &[String]) -> Result<(), EntriesError> {
    let bytes = entries
        .iter()
        .fold(0_usize, |sum, entry| sum.saturating_add(entry.len()));
    match entries.len() {
        0 => Err(EntriesError::None),
        n if n > ENTRIES_MAX => Err(EntriesError::TooMany(n)),
        _ if bytes > ENTRY_BYTES_MAX => Err(EntriesError::TooLong(bytes)),
        _ => Ok(()),
    }
}

static GENESIS: LazyLock<Block> = LazyLock::new(|| {
    let zeros = ContentHash::from([0; 32]);
    Block {
        index: 0,
        timestamp: Timestamp::EPOCH.block(),
        data: vec!["Genesis Block".to_owned()],
        previous_hash: zeros,
        // A filler of the format, not the root over the data.
        merkle_root: zeros.into(),
        hash: zeros,
    }
    .sealed()
});

impl Block {
    /// The first block of every chain.
    pub fn genesis() -> &'static Block {
        &GENESIS
    }

    /// Makes the block that carries `data` at `index`, written at `at`, on top of `previous_hash`.
    pub fn seal(index: u64, at: Timestamp, data: Vec<String>, previous_hash: ContentHash) -> Self {
        Self {
            index,
            timestamp: at.block(),
            merkle_root: MerkleRoot::of(&data),
            data,
            previous_hash,
            hash: previous_hash,
        }
        .sealed()
    }

    fn sealed(mut self) -> Self {
        self.hash = ContentHash::of(self.preimage());
        self
    }

    /// Position from genesis, which is 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// When the block was written, as text exactly as the ledger holds it.
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }

    /// When the block was written.
    pub fn instant(&self) -> Timestamp {
        Timestamp::parse(&self.timestamp).unwrap_or(Timestamp::EPOCH)
    }

    /// The entries, each one text.
    pub fn data(&self) -> &[String] {
        &self.data
    }

    /// The hash of the block before.
    pub fn previous_hash(&self) -> ContentHash {
        self.previous_hash
    }

    /// The Merkle root over the entries (a filler of zeros for genesis).
    pub fn merkle_root(&self) -> MerkleRoot {
        self.merkle_root
    }

    /// The hash of [`preimage`](Self::preimage).
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Index and hash.
    pub fn to_ref(&self) -> BlockRef {
        BlockRef {
            index: self.index,
            hash: self.hash,
        }
    }

    /// What links the block to its neighbors.
    pub fn header(&self) -> Header {
        Header::new(self.to_ref(), self.previous_hash, self.instant())
    }

    /// The text that is hashed: index, time in its hashed form, previous hash, root and compact JSON of the
    /// entries, with nothing between them.
    pub fn preimage(&self) -> String {
        let at = hashed_time(&self.timestamp).unwrap_or_default();
        let data = json(&self.data, serde_json::to_string);
        format!(
            "{}{at}{}{}{data}",
            self.index, self.previous_hash, self.merkle_root
        )
    }

    /// The block as one element of the ledger file: indented by two, without the indent of its first line.
    pub fn file_form(&self) -> String {
        let array = file_text(std::slice::from_ref(self));
        let element = array.strip_prefix("[\n  ");
        let element = element.and_then(|text| text.strip_suffix("\n]"));
        element.unwrap_or_default().to_owned()
    }
}

/// The whole ledger file that holds `blocks`, without a newline at the end, as the reference writes it.
pub fn file_text(blocks: &[Block]) -> String {
    json(blocks, serde_json::to_string_pretty)
}

#[expect(
    clippy::expect_used,
    reason = "texts, integers and lists of them always have a JSON form, and a String takes every write"
)]
fn json<T: ?Sized>(value: &T, print: fn(&T) -> serde_json::Result<String>) -> String {
    print(value).expect("plain data has a JSON form")
}

/// A block as a ledger file states it, before anything about it is believed.
///
/// Members that the format does not know are ignored, as the hash does not cover them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredBlock {
    /// Claimed position.
    pub index: u64,
    /// Claimed time, as written.
    pub timestamp: String,
    /// The entries.
    pub data: Vec<String>,
    /// Claimed hash of the block before.
    pub previous_hash: ContentHash,
    /// Claimed root over the entries.
    pub merkle_root: MerkleRoot,
    /// Claimed hash of this block. Old ledgers may lack it.
    #[serde(default)]
    pub hash: Option<ContentHash>,
}

/// What is wrong inside a stored block.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The time is not one that could have been hashed.
    #[error("timestamp `{}` is not a time with an offset", .0.chars().take(40).collect::<String>())]
    Timestamp(String),
    /// The root is not the one over the entries.
    #[error("merkle_root does not match data")]
    Root,
    /// The stored hash is not the hash of the content.
    #[error("stored hash does not match the content, whose hash is {actual}")]
    Hash {
        /// The hash of the content.
        actual: ContentHash,
    },
}

impl StoredBlock {
    /// Checks what can be checked without the blocks around it: time, root, and the stored hash if there is one.
    pub fn seal(self) -> Result<Block, BlockError> {
        if hashed_time(&self.timestamp).is_none() {
            return Err(BlockError::Timestamp(self.timestamp));
        }
        let block = Block {
            index: self.index,
            timestamp: self.timestamp,
            data: self.data,
            previous_hash: self.previous_hash,
            merkle_root: self.merkle_root,
            hash: self.previous_hash,
        }
        .sealed();
        if block.merkle_root != MerkleRoot::of(&block.data) && block != *Block::genesis() {
            return Err(BlockError::Root);
        }
        match self.hash {
            Some(stored) if stored != block.hash => Err(BlockError::Hash { actual: block.hash }),
            _ => Ok(block),
        }
    }
}

impl From<Block> for StoredBlock {
    fn from(block: Block) -> Self {
        Self {
            index: block.index,
            timestamp: block.timestamp,
            data: block.data,
            previous_hash: block.previous_hash,
            merkle_root: block.merkle_root,
            hash: Some(block.hash),
        }
    }
}

/// The form in which a block's time is hashed: exactly six fractional digits, offset as written.
///
/// The reference reads the stored time and prints it again, so more digits are cut and fewer are filled up, while
/// `+00:00` and `Z` stay apart. Nothing for a text that is not `YYYY-MM-DDTHH:MM:SS[.digits](Z|±HH:MM)`.
fn hashed_time(text: &str) -> Option<String> {
    const SECONDS: usize = "2026-01-20T10:30:00".len();
    const MICROS: usize = 6;
    let (seconds, rest) = text.split_at_checked(SECONDS)?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            (digits > 0).then(|| rest.split_at(digits))?
        }
    };
    // Neither a leap second nor `-00:00` is ever printed by the reference, which would hash them otherwise.
    let plausible = shaped(seconds, "0000-00-00T00:00:00")
        && !seconds.ends_with("60")
        && offset != "-00:00"
        && (offset == "Z" || shaped(offset, "+00:00"));
    let hashed = format!("{seconds}.{fraction:0<MICROS$.MICROS$}{offset}");
    (plausible && Timestamp::parse(&hashed).is_ok()).then_some(hashed)
}

/// The instant of a time that is hashed as it is written, in UTC; nothing for any other text.
fn exact_time(text: &str) -> Option<Timestamp> {
    let usual = shaped(text, "0000-00-00T00:00:00.000000Z") && text.get(17..19) != Some("60");
    usual.then(|| Timestamp::parse(text).ok())?
}

/// Whether `text` has digits where `shape` has `0`, a sign where it has `+`, and else the same characters.
fn shaped(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text
            .bytes()
            .zip(shape.bytes())
            .all(|(byte, want)| match want {
                b'0' => byte.is_ascii_digit(),
                b'+' => matches!(byte, b'+' | b'-'),
                _ => byte == want,
            })
}

#[cfg(test)]
mod tests;
