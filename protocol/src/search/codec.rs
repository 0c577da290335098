//! The index as bytes: a derived cache, so what is not understood is thrown away and built anew.
//!
//! `KAIROSIX`, the version, documents, words with their postings, and the SHA-256 of all that. Numbers are LEB128.

use thiserror::Error;

use super::index::{Entry, FIELDS, Index, NOWHERE, Posting};
use super::token::WORD_BYTES_MAX;
use super::{DOCUMENTS_MAX, Layer, POSTINGS_MAX};
use crate::hash::ContentHash;

/// The version of the format.
pub const FORMAT_VERSION: u64 = 1;
const MAGIC: &[u8] = b"KAIROSIX";
const HASH_BYTES: usize = 32;
/// Most tags of a document, as read from a frontmatter.
const TAGS_MAX: u64 = 1_024;

/// Why bytes are not an index of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// It begins otherwise.
    #[error("it is no search index")]
    Foreign,
    /// Another version.
    #[error("its version is {0}, not {FORMAT_VERSION}")]
    Version(u64),
    /// The hash does not fit, or the parts do not.
    #[error("it is damaged")]
    Damaged,
}

impl Index {
    /// The index as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        number(FORMAT_VERSION, &mut bytes);
        number(self.len() as u64, &mut bytes);
        // Documents are numbered anew, without gaps.
        let mut numbers = Vec::with_capacity(self.documents.len());
        let mut next = 0_u64;
        for entry in &self.documents {
            numbers.push(entry.as_ref().map(|_| next));
            let Some(entry) = entry else { continue };
            next += 1;
            number(entry.layer as u64, &mut bytes);
            number(entry.stamp, &mut bytes);
            for text in [&entry.key, &entry.name, &entry.description] {
                put_text(text, &mut bytes);
            }
            number(entry.tags.len() as u64, &mut bytes);
            entry.tags.iter().for_each(|tag| put_text(tag, &mut bytes));
            entry
                .lengths
                .iter()
                .for_each(|length| number(u64::from(*length), &mut bytes));
        }
        let words = self.words();
        number(words.len() as u64, &mut bytes);
        for (word, term) in words {
            put_text(word, &mut bytes);
            let postings = self
                .postings
                .get(term as usize)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let of = |posting: &Posting| numbers.get(posting.document as usize).copied().flatten();
            let living: Vec<_> = postings.iter().filter_map(|p| Some((of(p)?, p))).collect();
            number(living.len() as u64, &mut bytes);
            let mut before = 0;
            for (document, posting) in living {
                number(document - before, &mut bytes);
                before = document;
                // 0 for nowhere.
                number(u64::from(posting.first.wrapping_add(1)), &mut bytes);
                posting
                    .counts
                    .iter()
                    .for_each(|count| number(u64::from(*count), &mut bytes));
            }
        }
        let hash = ContentHash::of(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(DecodeError::Foreign)?;
        let mut input = Input(rest);
        let version = input.number()?;
        if version != FORMAT_VERSION {
            return Err(DecodeError::Version(version));
        }
        let end = bytes
            .len()
            .checked_sub(HASH_BYTES)
            .ok_or(DecodeError::Damaged)?;
        let (content, hash) = bytes.split_at(end);
        if ContentHash::of(content).as_bytes() != hash {
            return Err(DecodeError::Damaged);
        }
        let end = input
            .0
            .len()
            .checked_sub(HASH_BYTES)
            .ok_or(DecodeError::Damaged)?;
        input.0 = input.0.get(..end).ok_or(DecodeError::Damaged)?;
        input.index()
    }

    /// Reads an index without its hash, as a forger could write it; for tests.
    #[doc(hidden)]
    pub fn decode_unhashed(content: &[u8]) -> Result<Self, DecodeError> {
        Input(content).index()
    }
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn index(mut self) -> Result<Index, DecodeError> {
        let mut index = Index::default();
        for _ in 0..self.count(DOCUMENTS_MAX as u64)? {
            let entry = self.entry()?;
            if !index.enter(entry) {
                return Err(DecodeError::Damaged);
            }
        }
        let mut postings = 0;
        let mut before: Option<&str> = None;
        for _ in 0..self.count(POSTINGS_MAX as u64)? {
            let word = self.text()?;
            if word.len() > WORD_BYTES_MAX || before.is_some_and(|before| before >= word) {
                return Err(DecodeError::Damaged);
            }
            before = Some(word);
            let living = self.count(index.len() as u64)?;
            postings += living;
            if postings > POSTINGS_MAX as u64 {
                return Err(DecodeError::Damaged);
            }
            let mut document = 0_u64;
            for n in 0..living {
                let step = self.number()?;
                if n > 0 && step == 0 {
                    return Err(DecodeError::Damaged);
                }
                document = document.checked_add(step).ok_or(DecodeError::Damaged)?;
                let first = match self.small::<u32>()? {
                    0 => NOWHERE,
                    first => first - 1,
                };
                let mut counts = [0_u16; FIELDS];
                for count in &mut counts {
                    *count = self.small()?;
                }
                let place = usize::try_from(document).map_err(|_| DecodeError::Damaged)?;
                let id = u32::try_from(document).map_err(|_| DecodeError::Damaged)?;
                if !matches!(index.documents.get(place), Some(Some(_))) {
                    return Err(DecodeError::Damaged);
                }
                let posting = Posting {
                    document: id,
                    first,
                    counts,
                };
                let term = index.post(word.into(), posting);
                if let Some(Some(entry)) = index.documents.get_mut(place) {
                    entry.terms.push(term);
                }
            }
        }
        match self.0.is_empty() {
            true => Ok(index),
            false => Err(DecodeError::Damaged),
        }
    }

    fn entry(&mut self) -> Result<Entry, DecodeError> {
        let layer = match self.number()? {
            0 => Layer::L0,
            1 => Layer::L1,
            2 => Layer::L2,
            _ => return Err(DecodeError::Damaged),
        };
        let stamp = self.number()?;
        let (key, name, description) = (self.text()?, self.text()?, self.text()?);
        let mut tags = Vec::new();
        for _ in 0..self.count(TAGS_MAX)? {
            tags.push(self.text()?.into());
        }
        let mut lengths = [0; FIELDS];
        for length in &mut lengths {
            *length = self.small()?;
        }
        Ok(Entry {
            key: key.into(),
            layer,
            stamp,
            name: name.into(),
            description: description.into(),
            tags,
            lengths,
            terms: Vec::new(),
        })
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(DecodeError::Damaged)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Damaged);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Damaged)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, DecodeError> {
        T::try_from(self.number()?).map_err(|_| DecodeError::Damaged)
    }

    /// A number of things to come, each of which takes a byte at least.
    fn count(&mut self, max: u64) -> Result<u64, DecodeError> {
        let count = self.number()?;
        match count <= max && count <= self.0.len() as u64 {
            true => Ok(count),
            false => Err(DecodeError::Damaged),
        }
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = usize::try_from(self.number()?).map_err(|_| DecodeError::Damaged)?;
        let (text, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(DecodeError::Damaged)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| DecodeError::Damaged)
    }
}

fn number(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn put_text(text: &str, bytes: &mut Vec<u8>) {
    number(text.len() as u64, bytes);
    bytes.extend_from_slice(text.as_bytes());
}
