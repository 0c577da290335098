//! The bounds of a relay, and what is said where one is reached.

use std::fmt;
use std::time::Duration;

use kairos_protocol::time::Timestamp;
use thiserror::Error;

use super::audit::Anonymiser;
use super::message::RelayId;
use super::prekey::PrekeyId;
use super::store::StoreError;

/// Every bound of a relay.
#[derive(Debug, Clone)]
pub struct RelayPolicy {
    /// How long a message waits, and for how long its id is remembered.
    pub ttl: Duration,
    /// Largest sealed text in bytes.
    pub blob_bytes: u64,
    /// Most messages in a box.
    pub box_messages: u64,
    /// Most messages of one sender in a box.
    pub sender_in_box_messages: u64,
    /// Most messages of one sender in all boxes.
    pub sender_messages: u64,
    /// Most bytes of one sender in all boxes.
    pub sender_bytes: u64,
    /// Most messages in all boxes.
    pub place_messages: u64,
    /// Most bytes in all boxes.
    pub place_bytes: u64,
    /// Most messages for agents that are not registered.
    pub stranger_messages: u64,
    /// Most bytes for agents that are not registered.
    pub stranger_bytes: u64,
    /// Most ids remembered of one sender.
    pub sender_remembered: u64,
    /// Most ids remembered in all.
    pub place_remembered: u64,
    /// Most messages of one answer, and most ids of one acknowledgement.
    pub page_messages: usize,
    /// Most bytes of sealed text in one answer, unless a single message has more.
    pub page_bytes: u64,
    /// Most one-time prekeys that an agent has here.
    pub one_time_prekeys: u64,
    /// Most agents that have prekeys here.
    pub prekey_agents: u64,
    /// How many one-time prekeys of an agent one requester gets per hour.
    pub prekeys_per_hour: u64,
    /// Most pairs of requester and agent that are counted at once; past it newcomers get long-lived keys only.
    pub prekey_requesters: u64,
    /// Audit entries kept; older ones are removed.
    pub audit_entries: u64,
    /// Hides the ids of agents in the audit; ids are written as they are if there is none.
    pub anonymiser: Option<Anonymiser>,
}

impl Default for RelayPolicy {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            ttl: Duration::from_secs(3600),
            blob_bytes: MIB,
            box_messages: 100,
            sender_in_box_messages: 20,
            sender_messages: 1_000,
            sender_bytes: 64 * MIB,
            place_messages: 100_000,
            place_bytes: 1024 * MIB,
            stranger_messages: 10_000,
            stranger_bytes: 128 * MIB,
            sender_remembered: 10_000,
            place_remembered: 1_000_000,
            page_messages: 100,
            page_bytes: 4 * MIB,
            one_time_prekeys: 100,
            prekey_agents: 100_000,
            prekeys_per_hour: 5,
            prekey_requesters: 100_000,
            audit_entries: 10_000,
            anonymiser: None,
        }
    }
}

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Messages in the box.
    Box,
    /// Messages of the sender in the box.
    SenderInBox,
    /// Messages of the sender in all boxes.
    SenderMessages,
    /// Bytes of the sender in all boxes.
    SenderBytes,
    /// Messages in all boxes.
    PlaceMessages,
    /// Bytes in all boxes.
    PlaceBytes,
    /// Messages for agents that are not registered.
    StrangerMessages,
    /// Bytes for agents that are not registered.
    StrangerBytes,
    /// Ids remembered of the sender.
    SenderRemembered,
    /// Ids remembered in all.
    PlaceRemembered,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Box => "messages in this box",
            Self::SenderInBox => "messages of yours in this box",
            Self::SenderMessages => "messages of yours at this Place",
            Self::SenderBytes => "bytes of yours at this Place",
            Self::PlaceMessages => "messages at this Place",
            Self::PlaceBytes => "bytes at this Place",
            Self::StrangerMessages => "messages for agents not registered here",
            Self::StrangerBytes => "bytes for agents not registered here",
            Self::SenderRemembered => "message ids of yours remembered here",
            Self::PlaceRemembered => "message ids remembered here",
        })
    }
}

/// What the relay does not do, and why. Nothing that was asked for happened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The sealed text is too large.
    #[error("the message has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        limit: u64,
    },
    /// There is no room. Nobody's mail gives way to anybody else's.
    #[error("no room: {most} {limit} are allowed; try again at {retry_at}")]
    Full {
        /// The bound that was reached.
        limit: Limit,
        /// Its value.
        most: u64,
        /// When it is worth trying again: the oldest message in the way ends then, unless it is taken before.
        retry_at: Timestamp,
    },
    /// The sender used this id for another message before.
    #[error("the id `{id}` was used for another message before")]
    Conflict {
        /// The id.
        id: RelayId,
    },
    /// A message of this id from somebody else waits in the box.
    #[error("the id `{id}` is in use in this box; choose another one")]
    IdTaken {
        /// The id.
        id: RelayId,
    },
    /// The request names more than one request may.
    #[error("{count} {what} in one request, the limit is {limit}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// The agent would have more one-time prekeys than it may.
    #[error("{limit} one-time prekeys are allowed")]
    PrekeysFull {
        /// The bound.
        limit: u64,
    },
    /// As many agents as allowed have prekeys here.
    #[error("{limit} agents have prekeys here, which is the limit")]
    PrekeyAgentsFull {
        /// The bound.
        limit: u64,
    },
    /// The id stands for another prekey.
    #[error("the prekey id `{id}` stands for another key")]
    PrekeyConflict {
        /// The id.
        id: PrekeyId,
    },
}

/// Why the relay did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum RelayError {
    /// A rule says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store does.
    #[error(transparent)]
    Store(#[from] StoreError),
}
