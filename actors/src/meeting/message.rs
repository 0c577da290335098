//! What the meeting actor is asked and tells.

use std::sync::Arc;

use actix::prelude::*;
use kairos_protocol::tlog::statement::Attributed;
use kairos_protocol::wire::envelope::Envelope;
use serde_json::{Map, Value};

use super::client::PeerUrl;
use super::encounter::Encounter;
use super::inbox::InboxEntry;
use super::{Approved, MeetingError, acquire};
use crate::peer_manager::Caller;
use crate::quarantine;

/// Told about a long transfer: bytes received and, if announced, in all.
pub type Progress = Arc<dyn Fn(u64, Option<u64>) + Send + Sync>;

/// Keeps a message and returns its answer.
#[derive(Debug, Message)]
#[rtype(result = "Result<Value, MeetingError>")]
pub struct Receive {
    /// Whom the session speaks for.
    pub caller: Caller,
    /// What was said.
    pub envelope: Envelope,
}

/// Keeps what came over an endpoint of its own.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), MeetingError>")]
pub struct Keep {
    /// Whom the session speaks for.
    pub caller: Caller,
    /// What it asks for.
    pub action: String,
    /// Its content.
    pub payload: Value,
    /// The message it answers.
    pub in_reply_to: Option<String>,
}

/// The messages in the inbox, oldest first.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<InboxEntry>, MeetingError>")]
pub struct ReadInbox;

/// Empties the inbox; returns how many messages there were.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, MeetingError>")]
pub struct ClearInbox;

/// Meets the agent at a URL, and has it show how its ledger continues what others say that they saw of it.
///
/// Fails with [`MeetingError::Refused`] if it does not, where evidence is kept as of any two histories.
#[derive(Debug, Message)]
#[rtype(result = "Result<Encounter, MeetingError>")]
pub struct Confront {
    /// Where.
    pub url: PeerUrl,
    /// What others saw of its ledger. What is not signed by it says nothing, and is left out.
    pub seen: Vec<Attributed>,
}

/// Meets the agent at a URL, looks at what it offers, and says goodbye.
#[derive(Debug, Message)]
#[rtype(result = "Result<Encounter, MeetingError>")]
pub struct Meet {
    /// Where.
    pub url: PeerUrl,
}

/// What is wanted from an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A skill, by id or name.
    Skill(String),
    /// A SkillSet, by name.
    SkillSet(String),
}

/// Meets the agent at a URL and fetches something into the quarantine.
#[derive(Message)]
#[rtype(result = "Result<(Encounter, Fetched), MeetingError>")]
pub struct Acquire {
    /// Where.
    pub url: PeerUrl,
    /// What.
    pub wanted: Wanted,
    /// Told about the transfer.
    pub progress: Progress,
}

/// Something fetched, as it waits for a decision.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Where it waits.
    pub held: quarantine::Held,
    /// What was fetched and checked.
    pub acquisition: acquire::Acquisition,
    /// What became of it, if it did not have to wait: the owner allows that, every check passed, none was left
    /// unknown, and nothing in it looks suspicious.
    pub installed: Option<Approved>,
}

/// Meets the agent at a URL and shows a skill without keeping it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(Encounter, acquire::Acquisition), MeetingError>")]
pub struct Peek {
    /// Where.
    pub url: PeerUrl,
    /// Id or name.
    pub skill: String,
}

/// Meets the agent at a URL and sends one message; returns its answer.
#[derive(Debug, Message)]
#[rtype(result = "Result<(Encounter, Map<String, Value>), MeetingError>")]
pub struct SendMessage {
    /// Where.
    pub url: PeerUrl,
    /// The action.
    pub action: String,
    /// Its content.
    pub payload: Value,
    /// The message it answers.
    pub in_reply_to: Option<String>,
}

/// Whether the actor answers.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), MeetingError>")]
pub struct Health;

/// Stops; conversations under way end with it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), MeetingError>")]
pub struct Shutdown;
