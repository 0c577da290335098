//! Full-text search over documents with four fields, ranked by BM25F.
//!
//! The index is inverted and incremental: putting a document costs as much as the document, whatever else is there.
//! A query is a list of words and never a pattern, so no query is expensive. Every size has a bound.
//!
//! Ranking follows Robertson and Zaragoza, «The Probabilistic Relevance Framework: BM25 and Beyond» (2009), section
//! 3.6: the frequencies of a word in the fields are weighted and normalised by the length of each field, then added
//! up and saturated.

mod codec;
mod index;
mod snippet;
mod token;

pub use codec::{DecodeError, FORMAT_VERSION};
pub use index::Index;
pub use snippet::{SNIPPET_CHARS, snippet};

use serde::Serialize;
use thiserror::Error;

/// Most documents in an index.
pub const DOCUMENTS_MAX: usize = 50_000;
/// Most word occurrences that are remembered, over all documents; one takes 16 bytes.
pub const POSTINGS_MAX: usize = 8_000_000;
/// Most words taken from one document; the rest of its body is not found.
pub const TOKENS_MAX: usize = 200_000;
/// Longest query in bytes.
pub const QUERY_BYTES_MAX: usize = 1_024;
/// Most different words of a query that count.
pub const QUERY_WORDS_MAX: usize = 32;
/// Most hits of one query.
pub const HITS_MAX: usize = 100;

/// Where a document comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Layer {
    /// The constitution and the law.
    L0,
    /// Knowledge.
    L1,
    /// Contexts of sessions.
    L2,
}

/// A document to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'a> {
    /// What tells it from all others.
    pub key: &'a str,
    /// Its layer.
    pub layer: Layer,
    /// Changes with its content; kept for the caller.
    pub stamp: u64,
    /// Its name, which counts most.
    pub name: &'a str,
    /// Its tags.
    pub tags: &'a [String],
    /// One line about it.
    pub description: &'a str,
    /// Its text.
    pub body: &'a str,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    words: Vec<String>,
    /// Only in this layer.
    pub layer: Option<Layer>,
    /// Only what has this tag, letter case aside.
    pub tag: Option<String>,
    /// Most hits, at most [`HITS_MAX`].
    pub limit: usize,
}

/// Why a text is no query.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueryError {
    /// Longer than [`QUERY_BYTES_MAX`].
    #[error("a query has at most {QUERY_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// There is no word in it.
    #[error("a query needs a letter or a digit")]
    NoWords,
}

/// A document that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Its key.
    pub key: String,
    /// Its layer.
    pub layer: Layer,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// How well it matches; comparable within one answer only.
    pub score: f32,
    /// Where in the body the rarest word of the query stands first, in bytes.
    pub at: Option<usize>,
}

impl Query {
    /// Takes the words of `text`.
    pub fn new(text: &str, limit: usize) -> Result<Self, QueryError> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(QueryError::TooLong(text.len()));
        }
        let mut words: Vec<String> = Vec::new();
        token::query_words(text, |word| {
            if words.len() < QUERY_WORDS_MAX && !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        });
        if words.is_empty() {
            return Err(QueryError::NoWords);
        }
        Ok(Self {
            words,
            layer: None,
            tag: None,
            limit: limit.min(HITS_MAX),
        })
    }
}

#[cfg(test)]
mod tests;
