//! Where a relay keeps its state: transactions of small steps, and what each implementation must do.
//!
//! All rules are in the machine; a store finds, adds and removes what it is told to, all of a transaction or nothing.

#[cfg(test)]
pub(crate) mod conformance;
pub mod memory;
pub mod sqlite;

use std::sync::Arc;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use thiserror::Error;

use super::audit::AuditEntry;
use super::message::{Header, Kept, RelayId, Sealed};
use super::policy::RelayError;
use super::prekey::{Prekey, PrekeyId};

/// Why a store failed. Cheap to clone, as all that shared a transaction are told.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// A newer program wrote it.
    #[error(
        "the relay's database has version {found}, this program knows {known}; use the newer program"
    )]
    Newer {
        /// Its version.
        found: i64,
        /// The version known here.
        known: i64,
    },
    /// The file is somebody else's database.
    #[error("the file is not a relay's database")]
    Foreign,
    /// What is stored contradicts itself.
    #[error("the relay's database is damaged: {0}")]
    Damaged(&'static str),
    /// Another process held the database for too long. Nothing happened.
    #[error("the relay's database is in use by another process")]
    Locked,
    /// The database refused. Nothing happened.
    #[error("cannot {action}")]
    Database {
        /// What was attempted.
        action: &'static str,
        /// What it said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The system refused. Nothing happened.
    #[error("cannot {action}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// What it said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The end of the transaction failed: it may or may not take effect. Repeating a message with its id is safe.
    #[error("cannot complete the change; it may still take effect")]
    Unsettled(#[source] Arc<rusqlite::Error>),
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Messages in all boxes.
    Place,
    /// Boxes with messages.
    Boxes,
    /// Messages for agents that are not registered.
    Strangers,
    /// Messages in the box of an agent.
    Box(&'a AgentId),
    /// Messages of a sender.
    Sender(&'a AgentId),
    /// Messages of a sender in a box.
    Pair(&'a AgentId, &'a AgentId),
    /// Ids remembered.
    Remembered,
    /// Ids remembered of a sender.
    RememberedOf(&'a AgentId),
    /// Messages ever accepted.
    Relayed,
    /// Agents with prekeys.
    PrekeyAgents,
    /// One-time prekeys of an agent.
    OneTime(&'a AgentId),
    /// Ids of handed out one-time prekeys that are remembered for an agent.
    Used(&'a AgentId),
    /// Pairs of requester and agent that are counted.
    Requesters,
}

impl<'a> Scope<'a> {
    /// A key that no other scope has. The numbers are stored: none is ever used for something else.
    pub(crate) fn key(self) -> (u8, &'a str, &'a str) {
        match self {
            Self::Place => (0, "", ""),
            Self::Boxes => (1, "", ""),
            Self::Strangers => (2, "", ""),
            Self::Box(agent) => (3, agent.as_str(), ""),
            Self::Sender(agent) => (4, agent.as_str(), ""),
            Self::Pair(from, to) => (5, from.as_str(), to.as_str()),
            Self::Remembered => (6, "", ""),
            Self::RememberedOf(agent) => (7, agent.as_str(), ""),
            Self::Relayed => (8, "", ""),
            Self::PrekeyAgents => (9, "", ""),
            Self::OneTime(agent) => (10, agent.as_str(), ""),
            Self::Used(agent) => (11, agent.as_str(), ""),
            Self::Requesters => (12, "", ""),
        }
    }
}

/// How many, and how many bytes they have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Bytes of sealed text.
    pub bytes: u64,
}

impl Tally {
    /// This tally and a change of it; damage where it would fall below nothing.
    pub(crate) fn plus(self, count: i64, bytes: i64) -> Result<Self, StoreError> {
        let count = self.count.checked_add_signed(count);
        let bytes = self.bytes.checked_add_signed(bytes);
        match (count, bytes) {
            (Some(count), Some(bytes)) => Ok(Self { count, bytes }),
            _ => Err(StoreError::Damaged("a count is below nothing")),
        }
    }
}

/// Among which messages the oldest is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within<'a> {
    /// All.
    Place,
    /// Those in the box of an agent.
    Box(&'a AgentId),
    /// Those of a sender.
    Sender(&'a AgentId),
    /// Those of a sender (first) in a box (second).
    Pair(&'a AgentId, &'a AgentId),
}

/// What waits in a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// How many messages.
    pub count: u64,
    /// When the oldest came.
    pub oldest_at: Option<Timestamp>,
    /// When the newest came.
    pub newest_at: Option<Timestamp>,
}

/// What is remembered of a message whose sender chose its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who sent it.
    pub from: AgentId,
    /// The id.
    pub id: RelayId,
    /// Tells the message from others of the same id.
    pub fingerprint: ContentHash,
    /// Its place in the order of arrival.
    pub seq: u64,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When the message, and the memory of it, end.
    pub expires_at: Timestamp,
}

/// What is known of a one-time prekey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneTime {
    /// It waits to be handed out.
    Waiting(Prekey),
    /// It was handed out.
    Used,
}

/// How many one-time prekeys of an agent a requester got since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takes {
    /// Beginning of the hour.
    pub since: Timestamp,
    /// How many since.
    pub count: u64,
}

/// Reads what is stored as it is at one moment. Orders are ascending by number or time unless said otherwise.
pub trait RelayRead {
    /// How many there are.
    fn tally(&self, of: Scope<'_>) -> Result<Tally, StoreError>;
    /// What is remembered of a sender's id.
    fn receipt(&self, from: &AgentId, id: &RelayId) -> Result<Option<Receipt>, StoreError>;
    /// Up to `limit` receipts that end at `until` or before.
    fn due_receipts(&self, until: Timestamp, limit: usize) -> Result<Vec<Receipt>, StoreError>;
    /// The message with this id in the box of `to`.
    fn find(&self, to: &AgentId, id: &RelayId) -> Result<Option<Kept>, StoreError>;
    /// Up to `limit` messages in the box of `to` behind the number `after` that end later than `now`.
    fn list(
        &self,
        to: &AgentId,
        after: u64,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Kept>, StoreError>;
    /// What waits in the box of `to` and ends later than `now`.
    fn pending(&self, to: &AgentId, now: Timestamp) -> Result<Pending, StoreError>;
    /// The sealed text of a message.
    fn sealed(&self, seq: u64) -> Result<Option<Sealed>, StoreError>;
    /// The message with the lowest number.
    fn first(&self, within: Within<'_>) -> Result<Option<Kept>, StoreError>;
    /// Up to `limit` messages that end at `until` or before, the earliest end first.
    fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Kept>, StoreError>;
    /// Size of the largest message; zero if there is none.
    fn largest(&self) -> Result<u64, StoreError>;
    /// Up to `limit` audit entries with lower numbers than `before`, the newest first.
    fn audit(&self, before: u64, limit: usize) -> Result<Vec<(u64, AuditEntry)>, StoreError>;
    /// The long-lived prekey of an agent.
    fn signed(&self, agent: &AgentId) -> Result<Option<Prekey>, StoreError>;
    /// What is known of a one-time prekey.
    fn one_time(&self, agent: &AgentId, id: &PrekeyId) -> Result<Option<OneTime>, StoreError>;
    /// The one-time prekey that waits longest.
    fn next_one_time(&self, agent: &AgentId) -> Result<Option<Prekey>, StoreError>;
    /// What a requester got of an agent.
    fn takes(&self, requester: &AgentId, agent: &AgentId) -> Result<Option<Takes>, StoreError>;
    /// Up to `limit` pairs of requester and agent whose hour began at `until` or before.
    fn due_takes(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(AgentId, AgentId)>, StoreError>;
}

/// Changes what is stored. Seen by later reads of the same transaction at once, by others once it is committed.
pub trait RelayTx: RelayRead {
    /// Changes a count; damage where it would fall below nothing.
    fn add(&mut self, to: Scope<'_>, count: i64, bytes: i64) -> Result<(), StoreError>;
    /// Adds a message and returns its number, higher than every one before, removed ones included.
    fn insert(&mut self, header: &Header, sealed: &Sealed) -> Result<u64, StoreError>;
    /// Removes a message.
    fn remove(&mut self, seq: u64) -> Result<(), StoreError>;
    /// Adds a receipt.
    fn remember(&mut self, receipt: &Receipt) -> Result<(), StoreError>;
    /// Removes a receipt.
    fn forget(&mut self, from: &AgentId, id: &RelayId) -> Result<(), StoreError>;
    /// Adds an audit entry and returns its number, higher than every one before, removed ones included.
    fn record(&mut self, entry: &AuditEntry) -> Result<u64, StoreError>;
    /// Removes the audit entries up to the number `upto`.
    fn prune_audit(&mut self, upto: u64) -> Result<(), StoreError>;
    /// Sets the long-lived prekey of an agent.
    fn put_signed(&mut self, agent: &AgentId, prekey: &Prekey) -> Result<(), StoreError>;
    /// Adds a one-time prekey behind those that wait.
    fn put_one_time(&mut self, agent: &AgentId, prekey: &Prekey) -> Result<(), StoreError>;
    /// Keeps of a one-time prekey no more than that it was used, as the latest of those.
    fn use_one_time(&mut self, agent: &AgentId, id: &PrekeyId) -> Result<(), StoreError>;
    /// Forgets the one-time prekey that was used first.
    fn forget_oldest_used(&mut self, agent: &AgentId) -> Result<(), StoreError>;
    /// Removes every prekey of an agent.
    fn drop_prekeys(&mut self, agent: &AgentId) -> Result<(), StoreError>;
    /// Sets what a requester got of an agent.
    fn put_takes(
        &mut self,
        requester: &AgentId,
        agent: &AgentId,
        takes: Takes,
    ) -> Result<(), StoreError>;
    /// Removes what a requester got of an agent.
    fn drop_takes(&mut self, requester: &AgentId, agent: &AgentId) -> Result<(), StoreError>;
}

/// What a transaction does.
pub type WriteWork<'a> = &'a mut dyn FnMut(&mut dyn RelayTx) -> Result<(), StoreError>;
/// What a look does.
pub type ReadWork<'a> = &'a mut dyn FnMut(&dyn RelayRead) -> Result<(), StoreError>;

/// Keeps the state of one relay. All methods block the calling thread.
pub trait RelayStore: Send + Sync {
    /// Runs `work` once, alone among writers, and returns once all it did is durable. After an error, or a panic in
    /// `work`, nothing of it is there, save after [`StoreError::Unsettled`].
    fn write(&self, work: WriteWork<'_>) -> Result<(), StoreError>;

    /// Runs `work` once on what is committed. Waits for no writer.
    fn read(&self, work: ReadWork<'_>) -> Result<(), StoreError>;
}

/// Runs one change as a transaction of its own.
///
/// # Errors
///
/// Those of `work`, and what the store says.
pub fn change<T>(
    store: &dyn RelayStore,
    work: impl FnOnce(&mut dyn RelayTx) -> Result<T, RelayError>,
) -> Result<T, RelayError> {
    let mut work = Some(work);
    let mut done = None;
    store.write(&mut |tx| {
        let Some(work) = work.take() else {
            return Err(StoreError::Damaged("a transaction began twice"));
        };
        match work(tx) {
            Err(RelayError::Store(error)) => return Err(error),
            other => done = Some(other),
        }
        Ok(())
    })?;
    done.unwrap_or(Err(StoreError::Damaged("a transaction did nothing").into()))
}

/// Runs one look.
///
/// # Errors
///
/// Those of `work`, and what the store says.
pub fn look<T>(
    store: &dyn RelayStore,
    work: impl FnOnce(&dyn RelayRead) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut work = Some(work);
    let mut seen = None;
    store.read(&mut |read| {
        if let Some(work) = work.take() {
            seen = Some(work(read)?);
        }
        Ok(())
    })?;
    seen.ok_or(StoreError::Damaged("a look saw nothing"))
}
