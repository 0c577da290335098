//! Reads blocks at the speed of hashing, where they are written as this program and the reference write them.
//!
//! [`Scanner::scan`] takes that one form, byte for byte, and only a block that is right in itself. All else it leaves
//! to [`StoredBlock`](super::StoredBlock), which says what is wrong with it, if anything is: whatever the scanner
//! takes, that one takes too, and finds the same in it. No block costs an allocation once the scanner is warm.

use std::str;

use super::{BlockRef, exact_time};
use crate::hash::ContentHash;
use crate::time::Timestamp;

/// What links a block that is right in itself to its neighbors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    index: u64,
    previous_hash: ContentHash,
    hash: ContentHash,
    at: Timestamp,
}

impl Header {
    pub(super) fn new(place: BlockRef, previous_hash: ContentHash, at: Timestamp) -> Self {
        Self {
            index: place.index,
            previous_hash,
            hash: place.hash,
            at,
        }
    }

    /// Position from genesis, which is 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The hash of the block before.
    pub fn previous_hash(&self) -> ContentHash {
        self.previous_hash
    }

    /// The block's hash.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// When the block was written.
    pub fn instant(&self) -> Timestamp {
        self.at
    }

    /// Index and hash.
    pub fn to_ref(&self) -> BlockRef {
        BlockRef {
            index: self.index,
            hash: self.hash,
        }
    }
}

const INDEX: &[u8] = b"{\n    \"index\": ";
const TIMESTAMP: &[u8] = b",\n    \"timestamp\": \"";
const DATA: &[u8] = b"\",\n    \"data\": [\n";
const ENTRY: &[u8] = b"      \"";
const NEXT_ENTRY: &[u8] = b",\n";
const PREVIOUS_HASH: &[u8] = b"\n    ],\n    \"previous_hash\": \"";
const MERKLE_ROOT: &[u8] = b"\",\n    \"merkle_root\": \"";
const HASH: &[u8] = b"\",\n    \"hash\": \"";
const END: &[u8] = b"\"\n  }";

/// The time as such blocks have it, which is also how it is hashed.
const TIME_LEN: usize = "2026-01-20T10:30:00.000000Z".len();
const HEX_LEN: usize = 64;
/// How many bytes of a string are looked at at once.
const WORD: usize = size_of::<u64>();

/// See the module. Keeps what it writes into from one block to the next.
#[derive(Debug, Default)]
pub struct Scanner {
    /// What is hashed for the block.
    preimage: Vec<u8>,
    /// An entry without its escapes.
    entry: Vec<u8>,
    /// A level of the Merkle tree.
    level: Vec<ContentHash>,
    /// The hash of the block before as it is written, and what it is: mostly what the next block names as well.
    last: Option<([u8; HEX_LEN], ContentHash)>,
}

impl Scanner {
    /// The block that `bytes` begin with, and how many of them it takes; nothing unless it is written in the usual
    /// form, is there up to its end, and is right in itself.
    pub fn scan(&mut self, bytes: &[u8]) -> Option<(Header, usize)> {
        let mut rest = bytes.strip_prefix(INDEX)?;
        let index = take_index(&mut rest)?;
        rest = rest.strip_prefix(TIMESTAMP)?;
        let time = str::from_utf8(take(&mut rest, TIME_LEN)?).ok()?;
        let at = exact_time(time)?;
        rest = rest.strip_prefix(DATA)?;

        self.preimage.clear();
        self.preimage.extend_from_slice(index.as_bytes());
        self.preimage.extend_from_slice(time.as_bytes());
        let hashes = self.preimage.len();
        // Stand behind the entries in the text, before them in what is hashed.
        self.preimage.extend_from_slice(&[0; 2 * HEX_LEN]);
        self.entries(&mut rest)?;

        rest = rest.strip_prefix(PREVIOUS_HASH)?;
        let previous = take(&mut rest, HEX_LEN)?;
        rest = rest.strip_prefix(MERKLE_ROOT)?;
        let root = take(&mut rest, HEX_LEN)?;
        rest = rest.strip_prefix(HASH)?;
        let hash = take(&mut rest, HEX_LEN)?;
        rest = rest.strip_prefix(END)?;

        if hex_of(&self.root()?)? != *root {
            return None;
        }
        let (first, second) = self.preimage.get_mut(hashes..)?.split_at_mut(HEX_LEN);
        first.copy_from_slice(previous);
        second.get_mut(..HEX_LEN)?.copy_from_slice(root);
        let actual = ContentHash::of(&self.preimage);
        let text = hex_of(&actual)?;
        if text != *hash {
            return None;
        }
        let previous_hash = match self.last {
            Some((text, hash)) if text == *previous => hash,
            _ => str::from_utf8(previous).ok()?.parse().ok()?,
        };
        self.last = Some((text, actual));
        let header = Header {
            index: index.parse().ok()?,
            previous_hash,
            hash: actual,
            at,
        };
        Some((header, bytes.len() - rest.len()))
    }

    /// Reads the entries: into `preimage` as compact JSON, and the hash of each into `level`.
    fn entries(&mut self, rest: &mut &[u8]) -> Option<()> {
        self.level.clear();
        self.preimage.push(b'[');
        loop {
            *rest = rest.strip_prefix(ENTRY)?;
            self.entry.clear();
            let escaped = take_string(rest, &mut self.entry)?;
            str::from_utf8(&self.entry).ok()?;
            self.level.push(ContentHash::of(&self.entry));
            self.preimage.push(b'"');
            self.preimage.extend_from_slice(escaped);
            self.preimage.push(b'"');
            let Some(more) = rest.strip_prefix(NEXT_ENTRY) else {
                break;
            };
            *rest = more;
            self.preimage.push(b',');
        }
        self.preimage.push(b']');
        Some(())
    }

    /// The Merkle root over `level`, which is used up.
    fn root(&mut self) -> Option<ContentHash> {
        while self.level.len() > 1 {
            let parents = self.level.len().div_ceil(2);
            for n in 0..parents {
                let left = *self.level.get(2 * n)?;
                let right = self.level.get(2 * n + 1).copied().unwrap_or(left);
                let mut children = [0; 2 * HEX_LEN];
                let (first, second) = children.split_at_mut(HEX_LEN);
                first.copy_from_slice(&hex_of(&left)?);
                second.copy_from_slice(&hex_of(&right)?);
                *self.level.get_mut(n)? = ContentHash::of(children);
            }
            self.level.truncate(parents);
        }
        self.level.first().copied()
    }
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(bytes)?;
    *rest = behind;
    Some(taken)
}

/// A whole number without a sign or leading zeros. Whether it is too large is left open.
fn take_index<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let index = take(rest, digits)?;
    let usual = matches!(index, [b'0'] | [b'1'..=b'9', ..]);
    usual.then(|| str::from_utf8(index).ok())?
}

/// Takes a JSON string up to and with its closing `"`, and returns it as written; what it says goes to `said`.
///
/// Nothing for escapes that are not the ones [`crate::json`] names. UTF-8 is left to the caller.
fn take_string<'a>(rest: &mut &'a [u8], said: &mut Vec<u8>) -> Option<&'a [u8]> {
    let text = *rest;
    let mut at = 0;
    loop {
        let behind = text.get(at..)?;
        let plain = take_plain(behind, said)?;
        let (_, special) = behind.split_at_checked(plain)?;
        at += plain;
        match special {
            [b'"', behind @ ..] => {
                *rest = behind;
                return text.get(..at);
            }
            [b'\\', escape @ ..] => {
                let (byte, len) = unescape(escape)?;
                said.push(byte);
                at += 1 + len;
            }
            // A control character.
            _ => return None,
        }
    }
}

/// Copies what stands for itself up to the first byte that does not, and says how much that was; nothing if all does.
fn take_plain(text: &[u8], said: &mut Vec<u8>) -> Option<usize> {
    // A word at a time, and past the end of what is wanted: runs are short, and a copy of fixed length is a store.
    let (words, rest) = text.as_chunks::<WORD>();
    let begun = said.len();
    for word in words {
        said.extend_from_slice(word);
        if let Some(at) = find_special(u64::from_le_bytes(*word)) {
            said.truncate(said.len() - WORD + at);
            return Some(said.len() - begun);
        }
    }
    let plain = rest.iter().position(|byte| is_special(*byte))?;
    said.extend_from_slice(rest.get(..plain)?);
    Some(said.len() - begun)
}

/// The position of the first of eight bytes for which [`is_special`] holds.
///
/// A byte less than n, here 1 for what was made zero and 32 for control characters, borrows into its highest bit when
/// n is subtracted, which it does not have itself. A borrow can make this hold for bytes behind the first one, never
/// before it.
fn find_special(word: u64) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & (ONES * 0x80);
    let found = below(word ^ (ONES * u64::from(b'"')), 1)
        | below(word ^ (ONES * u64::from(b'\\')), 1)
        | below(word, 0x20);
    (found != 0).then_some(found.trailing_zeros() as usize / 8)
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..b' ')
}

/// What the escape says whose text behind the `\` begins `text`, and how long that text is.
fn unescape(text: &[u8]) -> Option<(u8, usize)> {
    let short = |byte| Some((byte, 1));
    match *text {
        [byte @ (b'"' | b'\\'), ..] => short(byte),
        [b'b', ..] => short(0x08),
        [b'f', ..] => short(0x0c),
        [b'n', ..] => short(b'\n'),
        [b'r', ..] => short(b'\r'),
        [b't', ..] => short(b'\t'),
        [b'u', b'0', b'0', tens @ (b'0' | b'1'), ones, ..] => {
            let low = match ones {
                b'0'..=b'9' => ones - b'0',
                b'a'..=b'f' => ones - b'a' + 10,
                _ => return None,
            };
            let byte = (tens - b'0') * 16 + low;
            let has_short = matches!(byte, 0x08 | 0x0c | b'\n' | b'\r' | b'\t');
            (!has_short).then_some((byte, "u0000".len()))
        }
        _ => None,
    }
}

fn hex_of(hash: &ContentHash) -> Option<[u8; HEX_LEN]> {
    let mut text = [0; HEX_LEN];
    hex::encode_to_slice(hash.as_bytes(), &mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests;
