//! The records of others that a node keeps, and how two nodes find out what one has and the other has not.
//!
//! Records lie in the order of a hash of their ids, so that a few leading hex digits, a [`Prefix`], name a part of them of
//! foreseeable size. Over each part there is a [`Fingerprint`]; where two nodes have the same, they need not look further.
//! Nothing here reads a clock or the network, so a thousand nodes can be played in one process.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::Record;
use crate::hash::ContentHash;
use crate::id::AgentId;
use crate::time::Timestamp;

/// Records of a part that are listed; a larger part is told by the fingerprints of its parts.
pub const LIST_MAX: usize = 32;
/// Parts of a part.
pub const PARTS: usize = 16;
/// Longest prefix, in digits: parts this small have one record, unless somebody made them collide.
pub const PREFIX_MAX: usize = 16;

/// What a book has to know of a record.
pub trait Entry {
    /// Whose it is.
    fn id(&self) -> &AgentId;
    /// Of two records the one with the higher number counts.
    fn sequence(&self) -> u64;
    /// Until when it holds.
    fn expires_at(&self) -> Timestamp;
}

impl Entry for Record {
    fn id(&self) -> &AgentId {
        self.id()
    }

    fn sequence(&self) -> u64 {
        self.sequence()
    }

    fn expires_at(&self) -> Timestamp {
        self.expires_at()
    }
}

/// The text names no part.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a part of the records is named by up to {PREFIX_MAX} lower-case hex digits")]
pub struct PrefixError;

/// The leading hex digits of the hashes of ids; none for all records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(String);

impl Prefix {
    /// Its parts, each with one digit more; none where that would be too long.
    fn parts(&self) -> impl Iterator<Item = Self> {
        let digits = match self.0.len() < PREFIX_MAX {
            true => "0123456789abcdef",
            false => "",
        };
        digits
            .chars()
            .map(|digit| Self(format!("{}{digit}", self.0)))
    }

    /// The first and the last hash that begin so.
    fn range(&self) -> (ContentHash, ContentHash) {
        let (mut first, mut last) = ([0; 32], [0xff; 32]);
        for (at, digit) in self.0.chars().enumerate() {
            let value = digit
                .to_digit(16)
                .and_then(|value| u8::try_from(value).ok());
            let shift = if at % 2 == 0 { 4 } else { 0 };
            let (value, mask) = (value.unwrap_or_default() << shift, 0xf << shift);
            if let (Some(low), Some(high)) = (first.get_mut(at / 2), last.get_mut(at / 2)) {
                *low |= value;
                *high = *high & !mask | value;
            }
        }
        (first.into(), last.into())
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match text.len() <= PREFIX_MAX && text.bytes().all(is_digit) {
            true => Ok(Self(text.to_owned())),
            false => Err(PrefixError),
        }
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> String {
        prefix.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Stands for which records, of which numbers, a part has: a hash over all of them in order, of which 16 bytes are enough,
/// since whoever makes two parts collide only hides records from those who ask him.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    fn of<'e>(entries: impl Iterator<Item = &'e [u8; 32]>) -> Self {
        let mut hash = Sha256::new();
        for entry in entries {
            hash.update(entry);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let mut short = [0; 16];
        short.copy_from_slice(hash.first_chunk::<16>().unwrap_or(&[0; 16]));
        Self(short)
    }

    /// That of a part without records.
    pub fn empty() -> Self {
        Self::of(std::iter::empty())
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 16];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err("a fingerprint has 32 hex digits"),
        }
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        hex::encode(fingerprint.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", hex::encode(self.0))
    }
}

/// What a node tells of a part of its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Summary {
    /// Which there are, each with its number.
    List(Vec<(AgentId, u64)>),
    /// The fingerprints of its [`PARTS`] parts, in order.
    Parts(Vec<Fingerprint>),
}

/// What became of a record that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The first of its agent.
    New,
    /// It took the place of an older one.
    Newer,
    /// There is this one already, or a newer one.
    Known,
    /// It does not hold any more.
    Over,
}

impl Kept {
    /// Whether the book is another one now.
    pub fn is_news(self) -> bool {
        matches!(self, Self::New | Self::Newer)
    }
}

#[derive(Debug, Clone)]
struct Held<R, S> {
    record: R,
    /// Stands for it in fingerprints.
    digest: [u8; 32],
    /// Who brought the first record of this agent.
    from: S,
}

/// See the module. `R` is a record, `S` whoever brings records.
///
/// Whoever brings many records has no more room than others: where there is none left, the record that goes is one of those
/// who brought most.
#[derive(Debug, Clone)]
pub struct RecordBook<R, S> {
    held: BTreeMap<ContentHash, Held<R, S>>,
    brought: BTreeMap<S, usize>,
    capacity: usize,
    /// That of all records, which is asked for most; made anew after each change.
    fingerprint: OnceLock<Fingerprint>,
}

impl<R: Entry, S: Ord + Clone> RecordBook<R, S> {
    /// An empty book for at most `capacity` records.
    pub fn new(capacity: usize) -> Self {
        Self {
            held: BTreeMap::new(),
            brought: BTreeMap::new(),
            capacity: capacity.max(1),
            fingerprint: OnceLock::new(),
        }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// All of them.
    pub fn records(&self) -> impl Iterator<Item = &R> {
        self.held.values().map(|held| &held.record)
    }

    /// The record of an agent, if there is one that holds at `now`.
    pub fn get(&self, id: &AgentId, now: Timestamp) -> Option<&R> {
        let held = self.held.get(&key(id))?;
        (held.record.expires_at() > now).then_some(&held.record)
    }

    /// Keeps a record that `from` brought, if it holds at `now` and is newer than what is there.
    pub fn keep(&mut self, record: R, from: S, now: Timestamp) -> Kept {
        if record.expires_at() <= now {
            return Kept::Over;
        }
        let (key, digest) = (key(record.id()), digest(&record));
        if let Some(held) = self.held.get_mut(&key) {
            if held.record.sequence() >= record.sequence() {
                return Kept::Known;
            }
            (held.record, held.digest) = (record, digest);
            self.fingerprint.take();
            return Kept::Newer;
        }
        if self.held.len() >= self.capacity {
            self.expire(now);
        }
        if self.held.len() >= self.capacity {
            self.make_room();
        }
        *self.brought.entry(from.clone()).or_default() += 1;
        let held = Held {
            record,
            digest,
            from,
        };
        self.held.insert(key, held);
        self.fingerprint.take();
        Kept::New
    }

    /// Lets go of what does not hold any more at `now`.
    pub fn expire(&mut self, now: Timestamp) {
        let over = |held: &Held<R, S>| held.record.expires_at() <= now;
        let over: Vec<ContentHash> = self
            .held
            .iter()
            .filter_map(|(key, held)| over(held).then_some(*key))
            .collect();
        for key in over {
            self.remove(&key);
        }
    }

    /// Lets go of the one that is over first of those who brought most.
    fn make_room(&mut self) {
        let most = self.brought.iter().max_by_key(|(_, count)| **count);
        let Some(most) = most.map(|(from, _)| from.clone()) else {
            return;
        };
        let theirs = self.held.iter().filter(|(_, held)| held.from == most);
        let first = theirs.min_by_key(|(_, held)| held.record.expires_at());
        if let Some(key) = first.map(|(key, _)| *key) {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &ContentHash) {
        let Some(held) = self.held.remove(key) else {
            return;
        };
        self.fingerprint.take();
        if let Some(count) = self.brought.get_mut(&held.from) {
            *count -= 1;
            if *count == 0 {
                self.brought.remove(&held.from);
            }
        }
    }

    fn part(&self, prefix: &Prefix) -> impl Iterator<Item = &Held<R, S>> {
        let (first, last) = prefix.range();
        let range = (Bound::Included(first), Bound::Included(last));
        self.held.range(range).map(|(_, held)| held)
    }

    /// Stands for what a part has.
    pub fn fingerprint(&self, prefix: &Prefix) -> Fingerprint {
        let made = || Fingerprint::of(self.part(prefix).map(|held| &held.digest));
        match prefix.0.is_empty() {
            true => *self.fingerprint.get_or_init(made),
            false => made(),
        }
    }

    /// What there is to tell of a part to somebody for whom `theirs` stands for it; nothing if it is the same here.
    pub fn summary(&self, prefix: &Prefix, theirs: Fingerprint) -> Option<Summary> {
        if self.fingerprint(prefix) == theirs {
            return None;
        }
        let is_short = self.part(prefix).nth(LIST_MAX).is_none();
        Some(match is_short || prefix.0.len() >= PREFIX_MAX {
            true => {
                let listed = self.part(prefix).take(LIST_MAX);
                let entry = |held: &Held<R, S>| (held.record.id().clone(), held.record.sequence());
                Summary::List(listed.map(entry).collect())
            }
            false => Summary::Parts(prefix.parts().map(|part| self.fingerprint(&part)).collect()),
        })
    }

    /// Whether another record that `from` brings would push out one of somebody who brought more.
    fn has_room_for(&self, from: &S) -> bool {
        let brought = self.brought.get(from).copied().unwrap_or_default();
        self.held.len() < self.capacity
            || self
                .brought
                .values()
                .any(|count| *count > brought.saturating_add(1))
    }

    /// What follows from what `from` told of a part. Two nodes that know more than they keep do not fetch the same again
    /// and again: what would only push out something else of theirs is not wanted.
    pub fn compare(&self, prefix: &Prefix, theirs: &Summary, from: &S) -> Difference {
        match theirs {
            Summary::List(listed) => {
                let has_room = self.has_room_for(from);
                let is_news = |(id, sequence): &&(AgentId, u64)| {
                    let ours = self.held.get(&key(id)).map(|held| held.record.sequence());
                    ours.map_or(has_room, |ours| ours < *sequence)
                };
                let news = listed.iter().take(LIST_MAX).filter(is_news);
                Difference {
                    wanted: news.map(|(id, _)| id.clone()).collect(),
                    deeper: Vec::new(),
                }
            }
            Summary::Parts(theirs) => {
                let empty = Fingerprint::empty();
                let parts = prefix.parts().zip(theirs);
                let other = parts.filter(|(part, theirs)| {
                    **theirs != empty && self.fingerprint(part) != **theirs
                });
                Difference {
                    wanted: Vec::new(),
                    deeper: other.map(|(part, _)| part).collect(),
                }
            }
        }
    }
}

/// What somebody else has and we have not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Of these agents there are newer records.
    pub wanted: Vec<AgentId>,
    /// In these parts there is something, which has to be found out.
    pub deeper: Vec<Prefix>,
}

/// Where the record of an agent lies.
fn key(id: &AgentId) -> ContentHash {
    ContentHash::of(id.as_str())
}

fn digest(record: &impl Entry) -> [u8; 32] {
    let text = format!("{}\n{}", record.id(), record.sequence());
    *ContentHash::of(text).as_bytes()
}

#[cfg(test)]
mod tests;
