//! The audit of a relay: that something was relayed, between whom, when and how large; never what.
//!
//! An entry is made of a [`Header`], which has no content, so that there is nothing to leave out.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;

use super::Relay;
use super::message::{BlobHash, Header, MessageType, RelayId, from_micros, micros};
use super::store::{RelayRead, RelayTx, Scope, StoreError, Tally};

/// Most entries of one page.
pub const AUDIT_PAGE_MAX: usize = 1_000;
/// Most hours of one summary.
pub const AUDIT_HOURS_MAX: u32 = 24 * 7;

const HOUR_SECS: i64 = 3600;

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was accepted.
    Enqueue,
    /// It was removed by being read.
    Dequeue,
    /// It was removed because its recipient said that it has it.
    Ack,
    /// It was removed because its time was over.
    Expired,
    /// It was removed with its box. The reference has no such case.
    Forgotten,
}

impl Action {
    /// All, for reading words back.
    const ALL: [Self; 5] = [
        Self::Enqueue,
        Self::Dequeue,
        Self::Ack,
        Self::Expired,
        Self::Forgotten,
    ];

    /// The word of the reference.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Dequeue => "dequeue",
            Self::Ack => "ack",
            Self::Expired => "expired",
            Self::Forgotten => "forgotten",
        }
    }

    /// The action of this word.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }
}

/// Who took part: the id of an agent, or what stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Participant(String);

impl Participant {
    /// The agent itself.
    pub(crate) fn of(agent: &AgentId) -> Self {
        Self(agent.to_string())
    }

    /// What was stored.
    pub(super) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Puts `anon_` and 12 hex digits in the place of an agent's id, the same for the same id.
#[derive(Clone, PartialEq, Eq)]
pub struct Anonymiser {
    salt: String,
}

impl Anonymiser {
    /// Whoever knows `salt` can test whether an entry tells of an agent, so it is random or secret.
    pub fn new(salt: String) -> Self {
        Self { salt }
    }

    pub(crate) fn hide(&self, agent: &AgentId) -> Participant {
        let mut text = ContentHash::of(format!("{agent}:{}", self.salt)).to_hex();
        text.truncate(12);
        text.insert_str(0, "anon_");
        Participant(text)
    }
}

impl fmt::Debug for Anonymiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anonymiser").finish_non_exhaustive()
    }
}

/// One line of the audit. Its `event_type` is `relay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it happened, in whole microseconds.
    pub at: Timestamp,
    /// What happened.
    pub action: Action,
    /// To which message.
    pub relay_id: RelayId,
    /// Its sender and its recipient.
    pub participants: [Participant; 2],
    /// What its sender said it is.
    pub message_type: MessageType,
    /// Size of the sealed text in bytes.
    pub size: u64,
    /// Hash of the sealed text.
    pub hash: BlobHash,
}

impl AuditEntry {
    fn new(
        at: Timestamp,
        action: Action,
        header: &Header,
        show: impl Fn(&AgentId) -> Participant,
    ) -> Self {
        Self {
            at: from_micros(micros(at)),
            action,
            relay_id: header.id.clone(),
            participants: [show(&header.from), show(&header.to)],
            message_type: header.message_type.clone(),
            size: header.size,
            hash: header.hash,
        }
    }
}

/// Part of the audit, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Ask for what is before this number to read on; nothing if this was all.
    pub next: Option<u64>,
}

/// Which entries of the audit are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Those not older.
    pub since: Option<Timestamp>,
    /// Those that this agent took part in.
    pub participant: Option<AgentId>,
}

/// What was relayed in one hour, as far as its entries are still kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HourStats {
    /// Messages accepted.
    pub relays: u64,
    /// Bytes accepted.
    pub bytes: u64,
    /// Agents that took part in anything.
    pub agents: u64,
}

impl Relay {
    /// Writes down what happened to a message, and lets the oldest entry go if there are too many.
    pub(super) fn record(
        &self,
        tx: &mut dyn RelayTx,
        action: Action,
        header: &Header,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let show = |agent: &AgentId| self.shown(agent);
        let number = tx.record(&AuditEntry::new(now, action, header, show))?;
        tx.prune_audit(number.saturating_sub(self.policy.audit_entries.max(1)))
    }

    /// Up to `limit` (at most [`AUDIT_PAGE_MAX`]) of the newest entries with numbers below `before`; those
    /// that are not `wanted` are left out.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn audit(
        &self,
        read: &dyn RelayRead,
        mut before: Option<u64>,
        wanted: &AuditFilter,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let limit = limit.clamp(1, AUDIT_PAGE_MAX);
        let participant = wanted.participant.as_ref().map(|agent| self.shown(agent));
        let is_wanted = |entry: &AuditEntry| {
            let part = |wanted| entry.participants.contains(wanted);
            wanted.since.is_none_or(|since| entry.at >= since)
                && participant.as_ref().is_none_or(part)
        };
        let mut entries = Vec::new();
        loop {
            let rows = read.audit(before.unwrap_or(u64::MAX), AUDIT_PAGE_MAX)?;
            let all = rows.len() < AUDIT_PAGE_MAX;
            for (number, entry) in rows {
                before = Some(number);
                if is_wanted(&entry) {
                    entries.push(entry);
                }
                if entries.len() == limit {
                    let next = before;
                    return Ok(AuditPage { entries, next });
                }
            }
            if all {
                let next = None;
                return Ok(AuditPage { entries, next });
            }
        }
    }

    /// An agent as the audit names it.
    fn shown(&self, agent: &AgentId) -> Participant {
        match &self.policy.anonymiser {
            Some(anonymiser) => anonymiser.hide(agent),
            None => Participant::of(agent),
        }
    }

    /// What was relayed in each of the last `hours` (at most [`AUDIT_HOURS_MAX`]), by the beginning of the hour.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn audit_hours(
        &self,
        read: &dyn RelayRead,
        hours: u32,
        now: Timestamp,
    ) -> Result<BTreeMap<Timestamp, HourStats>, StoreError> {
        let span = Duration::from_secs(3600 * u64::from(hours.min(AUDIT_HOURS_MAX)));
        let since = now.minus(span);
        let mut seen: BTreeMap<Timestamp, (HourStats, HashSet<Participant>)> = BTreeMap::new();
        let mut before = None;
        loop {
            let wanted = AuditFilter {
                since: Some(since),
                participant: None,
            };
            let page = self.audit(read, before, &wanted, AUDIT_PAGE_MAX)?;
            for entry in page.entries {
                let hour = entry.at.as_secs() / HOUR_SECS * HOUR_SECS;
                let (stats, agents) = seen.entry(Timestamp::from_secs(hour)).or_default();
                if entry.action == Action::Enqueue {
                    stats.relays += 1;
                    stats.bytes += entry.size;
                }
                agents.extend(entry.participants);
                stats.agents = agents.len() as u64;
            }
            before = page.next;
            if before.is_none() {
                return Ok(seen
                    .into_iter()
                    .map(|(hour, (stats, _))| (hour, stats))
                    .collect());
            }
        }
    }

    /// How many messages, and bytes, were ever accepted.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn relayed(&self, read: &dyn RelayRead) -> Result<Tally, StoreError> {
        read.tally(Scope::Relayed)
    }
}
