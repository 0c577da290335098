//! The inverted index in memory.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::token::words;
use super::{DOCUMENTS_MAX, Document, Hit, Layer, POSTINGS_MAX, Query, TOKENS_MAX};

/// Name, tags, description, body.
pub(super) const FIELDS: usize = 4;
pub(super) const BODY: usize = 3;
/// How much a word in each field counts.
const WEIGHTS: [f32; FIELDS] = [4.0, 3.0, 2.0, 1.0];
/// How much the length of each field counts against it.
const LENGTH_SHARE: [f32; FIELDS] = [0.3, 0.3, 0.5, 0.75];
/// How soon more of the same word stops to count.
const SATURATION: f32 = 1.2;
/// Dead postings below which nothing is tidied up.
const DEAD_MIN: usize = 10_000;
/// The place of a word that is not in the body.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Documents and where their words are. See the module above.
#[derive(Debug, Default, Clone)]
pub struct Index {
    /// In the order in which they were put; nothing where one was taken out.
    pub(super) documents: Vec<Option<Entry>>,
    by_key: HashMap<Box<str>, u32>,
    terms: HashMap<Box<str>, u32>,
    /// For each term, the documents that have it, in order, also those that were taken out since.
    pub(super) postings: Vec<Vec<Posting>>,
    /// For each term, in how many documents it is.
    frequencies: Vec<u32>,
    /// Words of all documents, by field.
    totals: [u64; FIELDS],
    /// All postings, and those of documents taken out.
    posted: usize,
    dead: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    pub(super) layer: Layer,
    pub(super) stamp: u64,
    pub(super) name: Box<str>,
    pub(super) description: Box<str>,
    pub(super) tags: Vec<Box<str>>,
    pub(super) lengths: [u32; FIELDS],
    /// The terms it has, for taking it out.
    pub(super) terms: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posting {
    pub(super) document: u32,
    /// Where in the body it is first.
    pub(super) first: u32,
    pub(super) counts: [u16; FIELDS],
}

impl Index {
    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The keys of all documents, and their stamps.
    pub fn stamps(&self) -> impl Iterator<Item = (&str, u64)> {
        self.documents
            .iter()
            .flatten()
            .map(|entry| (&*entry.key, entry.stamp))
    }

    /// Puts a document, in place of the one with its key. False if there is no room: then the index has none of it.
    pub fn put(&mut self, document: &Document<'_>) -> bool {
        self.remove(document.key);
        let (counted, lengths) = count(document);
        if self.len() >= DOCUMENTS_MAX || self.posted - self.dead + counted.len() > POSTINGS_MAX {
            return false;
        }
        let mut terms = Vec::with_capacity(counted.len());
        let id = u32::try_from(self.documents.len()).unwrap_or(u32::MAX);
        for (word, (counts, first)) in counted {
            let posting = Posting {
                document: id,
                first,
                counts,
            };
            terms.push(self.post(word, posting));
        }
        self.enter(Entry {
            key: document.key.into(),
            layer: document.layer,
            stamp: document.stamp,
            name: document.name.into(),
            description: document.description.into(),
            tags: document
                .tags
                .iter()
                .map(|tag| tag.as_str().into())
                .collect(),
            lengths,
            terms,
        });
        true
    }

    /// Adds a posting behind those of the term; returns the term.
    pub(super) fn post(&mut self, word: Box<str>, posting: Posting) -> u32 {
        let next = u32::try_from(self.postings.len()).unwrap_or(u32::MAX);
        let term = *self.terms.entry(word).or_insert(next);
        if term == next {
            self.postings.push(Vec::new());
            self.frequencies.push(0);
        }
        if let Some(postings) = self.postings.get_mut(term as usize) {
            postings.push(posting);
        }
        if let Some(frequency) = self.frequencies.get_mut(term as usize) {
            *frequency += 1;
        }
        self.posted += 1;
        term
    }

    /// Adds a document, the postings of which are there or to come. False if its key is taken.
    pub(super) fn enter(&mut self, entry: Entry) -> bool {
        let id = u32::try_from(self.documents.len()).unwrap_or(u32::MAX);
        if self.by_key.insert(entry.key.clone(), id).is_some() {
            return false;
        }
        for (total, length) in self.totals.iter_mut().zip(entry.lengths) {
            *total += u64::from(length);
        }
        self.documents.push(Some(entry));
        true
    }

    /// Takes a document out; whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let Some(id) = self.by_key.remove(key) else {
            return false;
        };
        let place = self.documents.get_mut(id as usize);
        let Some(entry) = place.and_then(Option::take) else {
            return false;
        };
        for (total, length) in self.totals.iter_mut().zip(entry.lengths) {
            *total -= u64::from(length);
        }
        for term in &entry.terms {
            if let Some(frequency) = self.frequencies.get_mut(*term as usize) {
                *frequency -= 1;
            }
        }
        self.dead += entry.terms.len();
        if self.dead > DEAD_MIN && self.dead > self.posted / 2 {
            self.tidy();
        }
        true
    }

    /// Forgets the postings of what was taken out. Costs as much as the index, but comes only after as much was put.
    fn tidy(&mut self) {
        let mut fresh = Self::default();
        let mut renumbered = Vec::with_capacity(self.documents.len());
        for entry in &mut self.documents {
            renumbered.push(fresh.documents.len());
            if let Some(entry) = entry.take() {
                let terms = Vec::with_capacity(entry.terms.len());
                fresh.enter(Entry { terms, ..entry });
            }
        }
        // Again empty places look like their followers, so only living ones are asked for.
        let living = std::mem::take(&mut self.by_key);
        let living: std::collections::HashSet<u32> = living.into_values().collect();
        for (word, term) in std::mem::take(&mut self.terms) {
            let postings = self.postings.get_mut(term as usize).map(std::mem::take);
            for posting in postings.unwrap_or_default() {
                let Some(document) = renumbered.get(posting.document as usize).copied() else {
                    continue;
                };
                if living.contains(&posting.document) {
                    let moved = Posting {
                        document: u32::try_from(document).unwrap_or(u32::MAX),
                        ..posting
                    };
                    let term = fresh.post(word.clone(), moved);
                    if let Some(Some(entry)) = fresh.documents.get_mut(document) {
                        entry.terms.push(term);
                    }
                }
            }
        }
        *self = fresh;
    }

    #[cfg(test)]
    pub(super) fn tidied(&mut self) {
        self.tidy();
    }

    /// The words that documents have, with their terms, in byte order.
    pub(super) fn words(&self) -> Vec<(&str, u32)> {
        let alive = |term: u32| self.frequencies.get(term as usize).is_some_and(|n| *n > 0);
        let mut words: Vec<_> = self
            .terms
            .iter()
            .map(|(word, term)| (&**word, *term))
            .filter(|(_, term)| alive(*term))
            .collect();
        words.sort_unstable();
        words
    }

    /// The documents that match best, the best first; equals in the order of their keys.
    pub fn search(&self, query: &Query) -> Vec<Hit> {
        let documents = self.len() as f32;
        let averages = self
            .totals
            .map(|total| (total as f32 / documents.max(1.0)).max(1.0));
        // The rarest word first.
        let mut asked: Vec<(f32, &[Posting])> = Vec::new();
        for word in &query.words {
            if let Some(term) = self.terms.get(word.as_str()).map(|term| *term as usize)
                && let (Some(postings), Some(frequency)) =
                    (self.postings.get(term), self.frequencies.get(term))
            {
                let frequency = *frequency as f32;
                let rarity = (1.0 + (documents - frequency + 0.5) / (frequency + 0.5)).ln();
                asked.push((rarity, postings));
            }
        }
        asked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut scores = vec![0.0_f32; self.documents.len()];
        for (rarity, postings) in &asked {
            for posting in *postings {
                let place = posting.document as usize;
                if let (Some(Some(entry)), Some(score)) =
                    (self.documents.get(place), scores.get_mut(place))
                {
                    let mut found = 0.0;
                    for field in 0..FIELDS {
                        found += weight(field, posting, entry, &averages);
                    }
                    *score += rarity * found / (SATURATION + found);
                }
            }
        }
        let tag = query.tag.as_ref().map(|tag| tag.to_lowercase());
        let wanted = |entry: &Entry| {
            query.layer.is_none_or(|layer| layer == entry.layer)
                && tag
                    .as_ref()
                    .is_none_or(|tag| entry.tags.iter().any(|has| has.to_lowercase() == *tag))
        };
        let found = scores.iter().zip(&self.documents).enumerate();
        let mut found: Vec<(f32, usize, &Entry)> = found
            .filter_map(|(place, (score, entry))| Some((*score, place, entry.as_ref()?)))
            .filter(|(score, _, entry)| *score > 0.0 && wanted(entry))
            .collect();
        let better = |a: &(f32, usize, &Entry), b: &(f32, usize, &Entry)| -> Ordering {
            b.0.total_cmp(&a.0).then_with(|| a.2.key.cmp(&b.2.key))
        };
        if found.len() > query.limit && query.limit > 0 {
            found.select_nth_unstable_by(query.limit - 1, better);
        }
        found.truncate(query.limit);
        found.sort_unstable_by(better);
        let hit = |(score, place, entry): (f32, usize, &Entry)| Hit {
            key: entry.key.to_string(),
            layer: entry.layer,
            name: entry.name.to_string(),
            description: entry.description.to_string(),
            tags: entry.tags.iter().map(|tag| tag.to_string()).collect(),
            score,
            at: asked
                .iter()
                .find_map(|(_, postings)| first(postings, place)),
        };
        found.into_iter().map(hit).collect()
    }
}

/// What a word in one field adds.
fn weight(field: usize, posting: &Posting, entry: &Entry, averages: &[f32; FIELDS]) -> f32 {
    let of = |values: &[f32; FIELDS]| values.get(field).copied().unwrap_or_default();
    let count = posting.counts.get(field).copied().unwrap_or_default();
    if count == 0 {
        return 0.0;
    }
    let length = entry.lengths.get(field).copied().unwrap_or_default() as f32;
    let share = of(&LENGTH_SHARE);
    of(&WEIGHTS) * f32::from(count) / (1.0 - share + share * length / of(averages))
}

/// Where the word is first in the body of a document.
fn first(postings: &[Posting], document: usize) -> Option<usize> {
    let found = postings.binary_search_by_key(&document, |posting| posting.document as usize);
    let posting = postings.get(found.ok()?)?;
    (posting.first != NOWHERE).then_some(posting.first as usize)
}

type Counted = HashMap<Box<str>, ([u16; FIELDS], u32)>;

/// The words of a document, how often each is in which field, and how long the fields are.
fn count(document: &Document<'_>) -> (Counted, [u32; FIELDS]) {
    let mut counted = Counted::new();
    let mut lengths = [0_u32; FIELDS];
    let mut left = TOKENS_MAX;
    let mut add = |field: usize, text: &str| {
        words(text, |offset, word| {
            if left == 0 {
                return false;
            }
            left -= 1;
            if let Some(length) = lengths.get_mut(field) {
                *length += 1;
            }
            if !counted.contains_key(word) {
                counted.insert(word.into(), ([0; FIELDS], NOWHERE));
            }
            if let Some((counts, first)) = counted.get_mut(word) {
                if let Some(count) = counts.get_mut(field) {
                    *count = count.saturating_add(1);
                }
                if field == BODY && *first == NOWHERE {
                    *first = u32::try_from(offset).unwrap_or(NOWHERE);
                }
            }
            true
        });
    };
    add(0, document.name);
    for tag in document.tags {
        add(1, tag);
    }
    add(2, document.description);
    add(BODY, document.body);
    (counted, lengths)
}
