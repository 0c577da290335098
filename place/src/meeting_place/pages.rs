//! Going through a whole board, page by page, in an order that prefers nobody (rule D3 of DEE).
//!
//! Each walk has a seed of its own. The rank of an entry is a hash of the seed and its name, so the order is another one
//! in each walk, and the same all through one: what is there from its beginning to its end is seen exactly once, whatever
//! comes and goes meanwhile, and also over a restart of the Place.

use std::collections::BinaryHeap;
use std::fmt;
use std::ops::Bound::{Excluded, Unbounded};
use std::str::FromStr;
use std::sync::Arc;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use thiserror::Error;

use super::MeetingPlace;
use super::agent::Agent;
use super::browse::{ANSWER_BYTES_MAX, ENTRIES_MAX, SEARCH_STEP};
use super::deposit::DepositKey;
use super::pool::Walked;
use super::skill_set::SkillSetKey;
use super::walk::walked;
use crate::relay::message::micros;

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

/// How far a walk over the registry has come: behind the agent that registered at some time. Agents keep the time of their
/// first registration, so a walk goes on where it was, also over a restart of the Place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentCursor {
    /// In whole microseconds, as it is stored.
    registered: i64,
    id: AgentId,
}

impl AgentCursor {
    /// The place of an agent in the order.
    pub(super) fn at(agent: &Agent) -> Self {
        Self {
            registered: micros(agent.registered_at),
            id: agent.id.clone(),
        }
    }

    pub(super) fn id(&self) -> &AgentId {
        &self.id
    }
}

impl fmt::Display for AgentCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:016x}{}",
            self.registered,
            hex::encode(self.id.as_str())
        )
    }
}

impl FromStr for AgentCursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (registered, id) = text.split_at_checked(16).ok_or(NoCursor)?;
        let mut bytes = [0; 8];
        hex::decode_to_slice(registered, &mut bytes).map_err(|_| NoCursor)?;
        let id = hex::decode(id).map_err(|_| NoCursor)?;
        let id = String::from_utf8(id).map_err(|_| NoCursor)?;
        Ok(Self {
            registered: i64::from_be_bytes(bytes),
            id: id.parse().map_err(|_| NoCursor)?,
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

/// A page in the making. Each costs a walk over all names, in steps, so that whoever drives it can let go of the board in
/// between.
#[derive(Debug)]
pub struct Paging<K: Ord> {
    cursor: Cursor,
    limit: usize,
    /// The lowest ranks behind the cursor, and one more to know whether there is another page.
    lowest: BinaryHeap<(Rank, K)>,
    /// How far the names were looked at: behind this one, or so far in the pool.
    behind: Option<K>,
    walked: Walked,
}

impl<K: Clone + Ord> Paging<K> {
    /// The page behind `cursor`, of at most `limit` entries.
    pub fn new(cursor: Cursor, limit: usize) -> Self {
        Self {
            cursor,
            limit: limit.clamp(1, ENTRIES_MAX),
            lowest: BinaryHeap::new(),
            behind: None,
            walked: Walked::default(),
        }
    }

    fn consider(&mut self, owner: &str, name: &str, key: &K) {
        let rank = self.cursor.rank(owner, name);
        if self.cursor.last.is_some_and(|last| rank <= last) {
            return;
        }
        let full = self.lowest.len() > self.limit;
        if full
            && self
                .lowest
                .peek()
                .is_some_and(|(highest, _)| rank >= *highest)
        {
            return;
        }
        // Who moved while the walk went on is met twice.
        if self.walked.has_twice() && self.lowest.iter().any(|(other, _)| *other == rank) {
            return;
        }
        self.lowest.push((rank, key.clone()));
        if full {
            self.lowest.pop();
        }
    }

    fn page(self, total: usize, text: impl Fn(&K) -> Option<Arc<str>>) -> WalkPage {
        let (mut entries, mut last, mut bytes) = (Vec::new(), self.cursor.last, 0_usize);
        let mut more = false;
        for (rank, key) in self.lowest.into_sorted_vec() {
            let Some(text) = text(&key) else { continue };
            bytes = bytes.saturating_add(text.len());
            if entries.len() == self.limit || (bytes > ANSWER_BYTES_MAX && !entries.is_empty()) {
                more = true;
                break;
            }
            entries.push(text);
            last = Some(rank);
        }
        WalkPage {
            entries,
            next: more.then_some(Cursor {
                seed: self.cursor.seed,
                last,
            }),
            total,
        }
    }
}

impl MeetingPlace {
    /// The deposits of a walk behind `cursor`, at most `limit`, in one go.
    pub fn walk_deposits(&self, cursor: Cursor, limit: usize) -> WalkPage {
        let mut paging = Paging::new(cursor, limit);
        while self.look_at_deposits(&mut paging) {}
        self.page_of_deposits(paging)
    }

    /// Looks at up to [`SEARCH_STEP`] more names of deposits; tells whether there are others.
    pub fn look_at_deposits(&self, paging: &mut Paging<DepositKey>) -> bool {
        let behind = paging.behind.take();
        let from = behind.as_ref().map_or(Unbounded, Excluded);
        let mut count = 0;
        for key in walked(self.board.deposit_keys(from)).take(SEARCH_STEP) {
            count += 1;
            if self.is_shown(&key.owner) {
                paging.consider(key.owner.as_str(), &key.skill_id, key);
            }
            if count == SEARCH_STEP {
                paging.behind = Some(key.clone());
            }
        }
        paging.behind.is_some()
    }

    /// The page, once all names were looked at.
    pub fn page_of_deposits(&self, paging: Paging<DepositKey>) -> WalkPage {
        paging.page(self.board.deposits(), |key| self.board.text_of(key))
    }

    /// The SkillSets of a walk behind `cursor`, at most `limit`, in one go.
    pub fn walk_skill_sets(&self, cursor: Cursor, limit: usize) -> WalkPage {
        let mut paging = Paging::new(cursor, limit);
        while self.look_at_skill_sets(&mut paging) {}
        self.page_of_skill_sets(paging)
    }

    /// Looks at up to [`SEARCH_STEP`] more names of SkillSets; tells whether there are others.
    pub fn look_at_skill_sets(&self, paging: &mut Paging<SkillSetKey>) -> bool {
        let (keys, more) = self.shelf.shown_keys(&mut paging.walked, SEARCH_STEP);
        for key in walked(keys) {
            paging.consider(key.owner.as_str(), key.name.as_str(), key);
        }
        more
    }

    /// The page, once all names were looked at.
    pub fn page_of_skill_sets(&self, paging: Paging<SkillSetKey>) -> WalkPage {
        paging.page(self.shelf.len(), |key| self.shelf.text_of(key))
    }
}
