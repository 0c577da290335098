//! Published keys for forward secrecy: each one-time prekey is handed out once, and then the long-lived one.
//!
//! The Place does not read them: what a key is, and who signed it, is for the two agents to check.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use thiserror::Error;

use super::Relay;
use super::message::{from_micros, micros};
use super::policy::{Refusal, RelayError};
use super::store::{OneTime, RelayRead, RelayTx, Scope, StoreError, Takes};

/// Longest [`PrekeyId`] in bytes.
pub const PREKEY_ID_MAX: usize = 64;
/// Longest record of a prekey in bytes: that of the longest agent id, signed with a key of 4096 bits.
pub const PREKEY_RECORD_MAX: usize = 1_536;
/// How many handed out one-time prekeys are remembered of an agent, so that publishing them again is harmless.
pub const USED_MAX: u64 = 1_000;
/// For how long what a requester got is counted.
const HOUR: Duration = Duration::from_secs(3600);

/// Why something is not a [`Prekey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PrekeyError {
    /// Not a [`PrekeyId`].
    #[error("the id of a prekey has 1 to {PREKEY_ID_MAX} visible ASCII characters")]
    Id,
    /// The record is empty or too long.
    #[error("the record of a prekey has 1 to {PREKEY_RECORD_MAX} bytes")]
    Record,
}

/// What its owner calls a prekey: 1 to [`PREKEY_ID_MAX`] visible ASCII characters, never used for another key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrekeyId(String);

impl PrekeyId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PrekeyId {
    type Err = PrekeyError;

    fn from_str(text: &str) -> Result<Self, PrekeyError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let sized = (1..=PREKEY_ID_MAX).contains(&text.len());
        let good = visible && sized;
        good.then(|| Self(text.to_owned())).ok_or(PrekeyError::Id)
    }
}

impl fmt::Display for PrekeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A public key as its owner published it, signatures included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prekey {
    id: PrekeyId,
    record: Vec<u8>,
}

impl Prekey {
    /// Takes 1 to [`PREKEY_RECORD_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// [`PrekeyError::Record`].
    pub fn new(id: PrekeyId, record: Vec<u8>) -> Result<Self, PrekeyError> {
        let sized = (1..=PREKEY_RECORD_MAX).contains(&record.len());
        let prekey = Self { id, record };
        sized.then_some(prekey).ok_or(PrekeyError::Record)
    }

    /// Its id.
    pub fn id(&self) -> &PrekeyId {
        &self.id
    }

    /// Its bytes.
    pub fn record(&self) -> &[u8] {
        &self.record
    }
}

/// What a requester gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The long-lived prekey.
    pub signed: Prekey,
    /// One that nobody else gets. None if there is none left, or none left for this requester in this hour.
    pub one_time: Option<Prekey>,
}

/// What an agent has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The id of its long-lived prekey.
    pub signed: PrekeyId,
    /// One-time prekeys that wait.
    pub one_time: u64,
}

impl Relay {
    /// Sets the long-lived prekey of `agent` and adds one-time prekeys to those that wait. One that waits already, or
    /// was handed out (of which [`USED_MAX`] are remembered), is not added again, so repeating is safe.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooMany`], [`Refusal::PrekeysFull`], [`Refusal::PrekeyAgentsFull`], and
    /// [`Refusal::PrekeyConflict`] where an id of a one-time prekey stands for another one.
    pub fn publish(
        &self,
        tx: &mut dyn RelayTx,
        agent: &AgentId,
        signed: &Prekey,
        one_time: Vec<Prekey>,
    ) -> Result<Published, RelayError> {
        let limit = self.policy.one_time_prekeys;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        if one_time.len() > most {
            return Err(Refusal::TooMany {
                what: "one-time prekeys",
                count: one_time.len(),
                limit: most,
            }
            .into());
        }
        let fresh = fresh(tx, agent, one_time)?;
        let waiting = tx.tally(Scope::OneTime(agent))?.count + fresh.len() as u64;
        if waiting > limit {
            return Err(Refusal::PrekeysFull { limit }.into());
        }
        if tx.signed(agent)?.is_none() {
            let limit = self.policy.prekey_agents;
            if tx.tally(Scope::PrekeyAgents)?.count >= limit {
                return Err(Refusal::PrekeyAgentsFull { limit }.into());
            }
            tx.add(Scope::PrekeyAgents, 1, 0)?;
        }
        tx.put_signed(agent, signed)?;
        for prekey in &fresh {
            tx.put_one_time(agent, prekey)?;
            tx.add(Scope::OneTime(agent), 1, 0)?;
        }
        Ok(Published {
            signed: signed.id.clone(),
            one_time: waiting,
        })
    }

    /// Hands out the prekeys of `agent`; nothing if it has published none. The one-time prekey is gone with the
    /// transaction, whether its requester gets to see it or not.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn take(
        &self,
        tx: &mut dyn RelayTx,
        requester: &AgentId,
        agent: &AgentId,
        now: Timestamp,
    ) -> Result<Option<Taken>, StoreError> {
        let Some(signed) = tx.signed(agent)? else {
            return Ok(None);
        };
        let mut taken = Taken {
            signed,
            one_time: None,
        };
        let Some(next) = tx.next_one_time(agent)? else {
            return Ok(Some(taken));
        };
        if self.count_take(tx, requester, agent, now)? {
            tx.use_one_time(agent, next.id())?;
            tx.add(Scope::OneTime(agent), -1, 0)?;
            if tx.tally(Scope::Used(agent))?.count < USED_MAX {
                tx.add(Scope::Used(agent), 1, 0)?;
            } else {
                tx.forget_oldest_used(agent)?;
            }
            taken.one_time = Some(next);
        }
        Ok(Some(taken))
    }

    /// What `agent` has published; nothing if it has published nothing.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn published(
        &self,
        read: &dyn RelayRead,
        agent: &AgentId,
    ) -> Result<Option<Published>, StoreError> {
        let Some(signed) = read.signed(agent)? else {
            return Ok(None);
        };
        Ok(Some(Published {
            signed: signed.id,
            one_time: read.tally(Scope::OneTime(agent))?.count,
        }))
    }

    /// Removes all prekeys of `agent`, and the memory of those handed out.
    pub(super) fn drop_prekeys(
        &self,
        tx: &mut dyn RelayTx,
        agent: &AgentId,
    ) -> Result<(), StoreError> {
        if tx.signed(agent)?.is_none() {
            return Ok(());
        }
        for scope in [Scope::OneTime(agent), Scope::Used(agent)] {
            let count = tx.tally(scope)?.count;
            tx.add(scope, 0_i64.saturating_sub_unsigned(count), 0)?;
        }
        tx.add(Scope::PrekeyAgents, -1, 0)?;
        tx.drop_prekeys(agent)
    }

    /// Counts one more for this requester, unless it has had its share of this hour.
    fn count_take(
        &self,
        tx: &mut dyn RelayTx,
        requester: &AgentId,
        agent: &AgentId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let now = from_micros(micros(now));
        let before = tx.takes(requester, agent)?;
        // A clock that was set back begins a new hour, or there would be none until it has caught up.
        let current = before.filter(|t| now >= t.since && now.since(t.since) < HOUR);
        let mut takes = current.unwrap_or(Takes {
            since: now,
            count: 0,
        });
        if takes.count >= self.policy.prekeys_per_hour {
            return Ok(false);
        }
        if before.is_none() {
            if tx.tally(Scope::Requesters)?.count >= self.policy.prekey_requesters {
                return Ok(false);
            }
            tx.add(Scope::Requesters, 1, 0)?;
        }
        takes.count += 1;
        tx.put_takes(requester, agent, takes)?;
        Ok(true)
    }

    /// Removes up to `bound` counts whose hour is over; returns how many.
    pub(super) fn expire_takes(
        &self,
        tx: &mut dyn RelayTx,
        now: Timestamp,
        bound: usize,
    ) -> Result<usize, StoreError> {
        let due = tx.due_takes(now.minus(HOUR), bound)?;
        for (requester, agent) in &due {
            tx.drop_takes(requester, agent)?;
            tx.add(Scope::Requesters, -1, 0)?;
        }
        Ok(due.len())
    }
}

/// Those of `prekeys` that are not known yet, each once.
fn fresh(
    read: &dyn RelayTx,
    agent: &AgentId,
    prekeys: Vec<Prekey>,
) -> Result<Vec<Prekey>, RelayError> {
    let mut asked: BTreeMap<PrekeyId, Vec<u8>> = BTreeMap::new();
    let mut fresh = Vec::new();
    for prekey in prekeys {
        let known = match asked.insert(prekey.id.clone(), prekey.record.clone()) {
            Some(record) => Some(record),
            None => match read.one_time(agent, &prekey.id)? {
                None => {
                    fresh.push(prekey);
                    continue;
                }
                // What it was is not kept.
                Some(OneTime::Used) => None,
                Some(OneTime::Waiting(same)) => Some(same.record),
            },
        };
        if known.is_some_and(|record| record != prekey.record) {
            return Err(Refusal::PrekeyConflict { id: prekey.id }.into());
        }
    }
    Ok(fresh)
}
