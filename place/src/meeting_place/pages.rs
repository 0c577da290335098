//! Going through a whole board, page by page, in an order that prefers nobody (rule D3 of DEE).
//!
//! Each walk has a seed of its own. The rank of an entry is a hash of the seed and its name, so the order is another one
//! in each walk, and the same all through one: what is there from its beginning to its end is seen exactly once, whatever
//! comes and goes meanwhile, and also over a restart of the Place.

use std::collections::BinaryHeap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use kairos_protocol::hash::ContentHash;
use thiserror::Error;

use super::MeetingPlace;
use super::browse::{ANSWER_BYTES_MAX, ENTRIES_MAX};
use super::deposit::DepositKey;
use super::walk::walked;

/// The rank of an entry in a walk.
type Rank = [u8; 32];

/// How far a walk has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    seed: u64,
    /// The rank of the last entry that was seen.
    last: Option<Rank>,
}

/// A text that is no cursor of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("after must be what a page before gave as next")]
pub struct NoCursor;

impl Cursor {
    /// The beginning of the walk with this seed.
    pub fn begin(seed: u64) -> Self {
        Self { seed, last: None }
    }

    fn rank(&self, owner: &str, name: &str) -> Rank {
        let lengths = [owner.len() as u64, name.len() as u64];
        let mut text = self.seed.to_be_bytes().to_vec();
        text.extend(lengths.into_iter().flat_map(u64::to_be_bytes));
        text.extend(owner.bytes().chain(name.bytes()));
        *ContentHash::of(text).as_bytes()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.seed)?;
        match &self.last {
            Some(last) => write!(f, "{}", hex::encode(last)),
            None => Ok(()),
        }
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (seed, last) = text.split_at_checked(16).ok_or(NoCursor)?;
        let mut bytes = [0; 8];
        hex::decode_to_slice(seed, &mut bytes).map_err(|_| NoCursor)?;
        let mut rank = [0; 32];
        let last = match last.is_empty() {
            true => None,
            false => {
                hex::decode_to_slice(last, &mut rank).map_err(|_| NoCursor)?;
                Some(rank)
            }
        };
        Ok(Self {
            seed: u64::from_be_bytes(bytes),
            last,
        })
    }
}

/// A page of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkPage {
    /// Entries, each compact JSON.
    pub entries: Vec<Arc<str>>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
    /// How many there are on the board now.
    pub total: usize,
}

impl MeetingPlace {
    /// The deposits of a walk behind `cursor`, at most `limit`. Costs a walk over all keys of deposits.
    pub fn walk_deposits(&self, cursor: Cursor, limit: usize) -> WalkPage {
        let all = self.board.deposit_keys();
        let all = all.filter(|key| self.is_shown(&key.owner));
        let names = all.map(|key| (key.owner.as_str(), key.skill_id.as_str(), key));
        let text = |key: &&DepositKey| self.board.text_of(key);
        page(cursor, limit, self.census().deposits, names, text)
    }

    /// Like [`walk_deposits`](Self::walk_deposits), of SkillSets.
    pub fn walk_skill_sets(&self, cursor: Cursor, limit: usize) -> WalkPage {
        let all = self.shelf.all().map(|set| &set.key);
        let all = all.filter(|key| self.is_shown(&key.owner));
        let names = all.map(|key| (key.owner.as_str(), key.name.as_str(), key));
        let text = |key: &&super::SkillSetKey| self.shelf.text_of(key);
        page(cursor, limit, self.census().skill_sets, names, text)
    }
}

fn page<'a, K: Copy + Ord>(
    cursor: Cursor,
    limit: usize,
    total: usize,
    all: impl Iterator<Item = (&'a str, &'a str, K)>,
    text: impl Fn(&K) -> Option<Arc<str>>,
) -> WalkPage {
    let limit = limit.clamp(1, ENTRIES_MAX);
    // The lowest ranks behind the cursor, and one more to know whether there is another page.
    let mut lowest: BinaryHeap<(Rank, K)> = BinaryHeap::new();
    for (owner, name, key) in walked(all) {
        let rank = cursor.rank(owner, name);
        if cursor.last.is_some_and(|last| rank <= last) {
            continue;
        }
        lowest.push((rank, key));
        if lowest.len() > limit + 1 {
            lowest.pop();
        }
    }
    let (mut entries, mut last, mut bytes) = (Vec::new(), cursor.last, 0_usize);
    let mut more = false;
    for (rank, key) in lowest.into_sorted_vec() {
        let Some(text) = text(&key) else { continue };
        bytes = bytes.saturating_add(text.len());
        if entries.len() == limit || (bytes > ANSWER_BYTES_MAX && !entries.is_empty()) {
            more = true;
            break;
        }
        entries.push(text);
        last = Some(rank);
    }
    WalkPage {
        entries,
        next: more.then_some(Cursor {
            seed: cursor.seed,
            last,
        }),
        total,
    }
}
