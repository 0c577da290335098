//! What a Place keeps: records of agents, deposits with their contents, and one counter.

pub mod memory;
pub mod sqlite;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{AgentId, AgreementId};
use kairos_protocol::time::Timestamp;

use super::agent::{Agent, PinnedKey};
use super::agreement::Agreement;
use super::attestation::{Attestation, AttestationKey};
use super::audit::{Event, Logged};
use super::ban::{Ban, Target};
use super::deposit::{Deposit, DepositKey};
use super::once::{Answered, OnceKey};
use super::provenance::Provenance;
use super::skill_set::{SkillSetDeposit, SkillSetKey};

/// One thing to store. Changes are taken over in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A record, new or changed.
    Agent(Box<Agent>),
    /// A record that is forgotten.
    AgentGone(AgentId),
    /// Last signs of life.
    Seen(Vec<(AgentId, Timestamp)>),
    /// A deposit with its content, new or in the place of another.
    Deposit(Box<Deposit>, Box<str>),
    /// A deposit that was taken down, with all that was attested of it.
    DepositGone(DepositKey),
    /// An attestation.
    Attestation(Box<Attestation>),
    /// An attestation that made room, or whose attester is forgotten.
    AttestationGone(AttestationKey),
    /// Where bytes came from that were first left at another Place. The newest is last, whatever was there before.
    Origin(ContentHash, Box<Provenance>),
    /// An origin that made room.
    OriginGone(ContentHash),
    /// A SkillSet with its archive, new or in the place of another.
    SkillSet(Box<SkillSetDeposit>, Arc<[u8]>),
    /// A SkillSet that was taken off.
    SkillSetGone(SkillSetKey),
    /// What a request was answered that may come again.
    Answered(Box<Answered>),
    /// An answer that is forgotten.
    AnswerGone(OnceKey),
    /// An agreement with another Place, new or a step further.
    Agreement(Box<Agreement>),
    /// An agreement that is forgotten.
    AgreementGone(AgreementId),
    /// The key of an agent of another Place. The newest is last, whatever was there before.
    Guest(AgentId, PinnedKey),
    /// Such a key that made room.
    GuestGone(AgentId),
    /// A ban, new or in the place of another.
    Ban(Box<Ban>),
    /// A ban that ended.
    BanGone(Target),
    /// An entry of the audit.
    Logged(Timestamp, Box<Event>),
    /// Skills handed out in all.
    Exchanges(u64),
}

/// All that is stored, without the contents of deposits and the archives of SkillSets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// In the order in which they were first stored.
    pub agents: Vec<Agent>,
    /// In the order in which they were first stored.
    pub deposits: Vec<Deposit>,
    /// Of bytes from elsewhere, in the order in which they were last stored.
    pub origins: Vec<(ContentHash, Provenance)>,
    /// In the order in which they were first stored.
    pub skill_sets: Vec<SkillSetDeposit>,
    /// In the order in which they came.
    pub attestations: Vec<Attestation>,
    /// In no order.
    pub answers: Vec<Answered>,
    /// In the order of their names.
    pub agreements: Vec<Agreement>,
    /// In the order in which they were last stored.
    pub guests: Vec<(AgentId, PinnedKey)>,
    /// In the order of their targets.
    pub bans: Vec<Ban>,
    /// See [`Change::Exchanges`].
    pub exchanges: u64,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("the database of the Place: {0}")]
    Database(#[from] rusqlite::Error),
    /// It was written by a later version of this program.
    #[error(
        "the database of the Place has version {found}, this program knows up to {known}; use a newer program"
    )]
    Newer {
        /// What was found.
        found: i64,
        /// What this program writes.
        known: i64,
    },
    /// A row does not say what it should.
    #[error("the database of the Place has a damaged {what} `{key}`: {reason}")]
    Damaged {
        /// Kind of row.
        what: &'static str,
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// Where a Place is kept. Blocks.
pub trait Store: Send {
    /// All that is there.
    fn load(&mut self) -> Result<Snapshot, StoreError>;

    /// Takes all changes over, durably, or none.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// A deposit with its content, both of one moment.
    fn deposit(&mut self, key: &DepositKey) -> Result<Option<(Deposit, String)>, StoreError>;

    /// A SkillSet with its archive, both of one moment.
    fn skill_set(
        &mut self,
        key: &SkillSetKey,
    ) -> Result<Option<(SkillSetDeposit, Vec<u8>)>, StoreError>;

    /// Up to `limit` entries of the audit with lower numbers than `before`, the newest first.
    fn audit(&mut self, before: u64, limit: usize) -> Result<Vec<Logged>, StoreError>;
}
