//! Requests that are repeated because their answer was lost: whoever asks again with the same key is answered the same,
//! and nothing is done twice.
//!
//! Only what was done is remembered; what was refused is decided anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use thiserror::Error;

use super::{Change, MeetingPlace};

/// Longest key in bytes.
pub const ONCE_KEY_MAX: usize = 128;
/// How long an answer is remembered.
pub const ONCE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Answers remembered for one agent; the oldest make room.
pub const ONCE_PER_AGENT_MAX: usize = 100;

/// Whose key, and the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OnceKey {
    /// Who asks.
    pub agent: AgentId,
    /// As it chose it.
    pub key: String,
}

/// A request that may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    key: OnceKey,
    request: ContentHash,
}

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("Idempotency-Key must be 1 to {ONCE_KEY_MAX} visible ASCII characters")]
pub struct NoKey;

/// The key was used for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this Idempotency-Key was used for another request; take a new one for each")]
pub struct OtherRequest;

impl Once {
    /// `request` is the hash of all that tells one request from another.
    pub fn new(agent: AgentId, key: &str, request: ContentHash) -> Result<Self, NoKey> {
        let fits = (1..=ONCE_KEY_MAX).contains(&key.len());
        if !fits || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoKey);
        }
        let key = OnceKey {
            agent,
            key: key.to_owned(),
        };
        Ok(Self { key, request })
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// To whom.
    pub key: OnceKey,
    /// To what.
    pub request: ContentHash,
    /// The answer.
    pub answer: String,
    /// When.
    pub at: Timestamp,
}

/// What a request comes to that may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It was done now.
    Done(T),
    /// It was done before, and answered so.
    Repeated(String),
}

/// All answers that are remembered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    of: BTreeMap<OnceKey, Answered>,
    by_age: BTreeSet<(Timestamp, OnceKey)>,
}

impl Answers {
    pub(super) fn put(&mut self, answered: Answered) {
        self.remove(&answered.key);
        self.by_age.insert((answered.at, answered.key.clone()));
        self.of.insert(answered.key.clone(), answered);
    }

    fn remove(&mut self, key: &OnceKey) {
        if let Some(old) = self.of.remove(key) {
            self.by_age.remove(&(old.at, old.key));
        }
    }

    fn of_agent<'a>(&'a self, agent: &'a AgentId) -> impl Iterator<Item = &'a Answered> {
        let first = OnceKey {
            agent: agent.clone(),
            key: String::new(),
        };
        let all = self.of.range(first..).map(|(_, answered)| answered);
        all.take_while(move |answered| answered.key.agent == *agent)
    }
}

impl MeetingPlace {
    /// What `once` was answered before.
    pub fn answered(&self, once: &Once, now: Timestamp) -> Result<Option<&str>, OtherRequest> {
        match self.answers.of.get(&once.key) {
            Some(old) if now.since(old.at) >= ONCE_LIFETIME => Ok(None),
            Some(old) if old.request == once.request => Ok(Some(&old.answer)),
            Some(_) => Err(OtherRequest),
            None => Ok(None),
        }
    }

    /// Has `act` done unless it was before. What it is answered with is remembered, and stored with it if it is `stored`.
    pub fn once<T, E>(
        &mut self,
        once: Option<Once>,
        stored: bool,
        now: Timestamp,
        act: impl FnOnce(&mut Self) -> Result<T, E>,
        answer: impl FnOnce(&T) -> String,
    ) -> Result<Result<Outcome<T>, E>, OtherRequest> {
        let Some(once) = once else {
            return Ok(act(self).map(Outcome::Done));
        };
        if let Some(before) = self.answered(&once, now)? {
            return Ok(Ok(Outcome::Repeated(before.to_owned())));
        }
        let done = act(self);
        if let Ok(done) = &done {
            let answered = Answered {
                key: once.key,
                request: once.request,
                answer: answer(done),
                at: now,
            };
            self.remember(answered, stored);
        }
        Ok(done.map(Outcome::Done))
    }

    fn remember(&mut self, answered: Answered, stored: bool) {
        let agent = answered.key.agent.clone();
        if stored {
            let change = Change::Answered(Box::new(answered.clone()));
            self.changes.push(change);
        }
        self.answers.put(answered);
        let of_agent = self.answers.of_agent(&agent);
        let oldest = match of_agent.count() > ONCE_PER_AGENT_MAX {
            true => self.answers.of_agent(&agent).min_by_key(|old| old.at),
            false => None,
        };
        if let Some(oldest) = oldest.map(|old| old.key.clone()) {
            self.forget_answer(oldest);
        }
        while self.answers.of.len() > self.policy.answers_max {
            let Some((_, oldest)) = self.answers.by_age.first().cloned() else {
                break;
            };
            self.forget_answer(oldest);
        }
    }

    fn forget_answer(&mut self, key: OnceKey) {
        self.answers.remove(&key);
        self.changes.push(Change::AnswerGone(key));
    }

    /// Forgets answers whose time is over, at most `most`.
    pub(super) fn forget_answers(&mut self, now: Timestamp, most: usize) {
        let over = self.answers.by_age.iter();
        let over = over.take_while(|(at, _)| now.since(*at) >= ONCE_LIFETIME);
        let over: Vec<_> = over.take(most).map(|(_, key)| key.clone()).collect();
        for key in over {
            self.forget_answer(key);
        }
    }
}
