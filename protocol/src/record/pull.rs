//! One node fetches what another has and it has not: part by part where they differ, then the records.

use std::collections::VecDeque;

use super::ask::{ASKED_MAX, RecordsAsked};
use super::book::{Entry, Prefix, RecordBook, Summary};
use crate::id::AgentId;

/// Questions of one pull; with [`WANTED_MAX`] that is far more than two honest nodes need.
pub const QUESTIONS_MAX: usize = 96;
/// Records of one pull. What is beyond comes with the next one.
pub const WANTED_MAX: usize = 512;

/// Parts that wait to be asked for.
const SETS_MAX: usize = 1_024;

/// What is to be asked next.
///
/// ```text
/// while let Some(asked) = pull.next(&book) { … pull.told(&asked, summaries, &book) … }
/// ```
#[derive(Debug, Clone)]
pub struct Pull {
    sets: VecDeque<Prefix>,
    wanted: VecDeque<AgentId>,
    left: usize,
}

impl Default for Pull {
    fn default() -> Self {
        Self {
            sets: VecDeque::from([Prefix::default()]),
            wanted: VecDeque::new(),
            left: QUESTIONS_MAX,
        }
    }
}

impl Pull {
    /// The next question; nothing at the end.
    pub fn next<R: Entry, S: Ord + Clone>(
        &mut self,
        book: &RecordBook<R, S>,
    ) -> Option<RecordsAsked> {
        self.left = self.left.checked_sub(1)?;
        if !self.sets.is_empty() && self.wanted.len() < WANTED_MAX {
            let parts = self.sets.drain(..self.sets.len().min(ASKED_MAX));
            let asked = parts.map(|part| {
                let ours = book.fingerprint(&part);
                (part, ours)
            });
            return Some(RecordsAsked::Sets(asked.collect()));
        }
        let some = self.wanted.drain(..self.wanted.len().min(ASKED_MAX));
        let some: Vec<AgentId> = some.collect();
        (!some.is_empty()).then_some(RecordsAsked::Agents(some))
    }

    /// What `from` told of parts that were asked for.
    pub fn told<R: Entry, S: Ord + Clone>(
        &mut self,
        asked: &RecordsAsked,
        told: &[Option<Summary>],
        book: &RecordBook<R, S>,
        from: &S,
    ) {
        let RecordsAsked::Sets(asked) = asked else {
            return;
        };
        for ((part, _), told) in asked.iter().zip(told) {
            let Some(told) = told else { continue };
            let difference = book.compare(part, told, from);
            let room = SETS_MAX.saturating_sub(self.sets.len());
            self.sets.extend(difference.deeper.into_iter().take(room));
            let room = WANTED_MAX.saturating_sub(self.wanted.len());
            self.wanted.extend(difference.wanted.into_iter().take(room));
        }
    }
}
