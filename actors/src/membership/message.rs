//! What the membership actor is asked and tells.

use std::sync::Arc;

use actix::prelude::*;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::wire::place::{BoardEntry, PlaceInfo};

use super::error::MembershipError;
use super::record::{Freshness, Membership, NeedRecord};
use crate::check::Checks;
use crate::meeting::client::PeerUrl;
use crate::quarantine::Held;

/// Told about a step of something long.
pub type Steps = Arc<dyn Fn(&str) + Send + Sync>;

/// Joins the Place at a URL: registers, proves who we are, pins its key, and publishes prekeys if it relays messages. A
/// Place that is joined already is registered at again.
#[derive(Message)]
#[rtype(result = "Result<Joined, MembershipError>")]
pub struct Join {
    /// Where.
    pub url: PeerUrl,
    /// Told about each step.
    pub steps: Steps,
}

/// What came of a [`Join`].
#[derive(Debug, Clone)]
pub struct Joined {
    /// What is known of it from here on.
    pub place: Membership,
    /// What it says about itself.
    pub info: PlaceInfo,
    /// Whether it was not joined before.
    pub first: bool,
    /// Whether our session there is proven.
    pub proven: bool,
    /// What was checked.
    pub checks: Checks,
    /// Why prekeys, needs or deposits are not there as they should be, if so. It is tried again.
    pub untended: Option<String>,
}

/// Leaves a Place: fetches what waits there, unregisters, and erases the prekeys. What we left there goes with us.
#[derive(Debug, Message)]
#[rtype(result = "Result<Left, MembershipError>")]
pub struct Leave {
    /// Which.
    pub url: PeerUrl,
    /// Also if the Place cannot be told.
    pub force: bool,
}

/// What came of a [`Leave`].
#[derive(Debug, Clone)]
pub struct Left {
    /// What was known of it.
    pub place: Membership,
    /// Why the Place was not told, if it was not.
    pub untold: Option<String>,
}

/// The Places that are joined, in the order of joining.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Membership>, MembershipError>")]
pub struct List;

/// Looks at the board of a Place.
#[derive(Debug, Message)]
#[rtype(result = "Result<Seen, MembershipError>")]
pub struct Browse {
    /// Where.
    pub url: PeerUrl,
    /// `agent`, `need` or `deposited_skill`; all if none.
    pub kind: Option<String>,
    /// Words that a name contains.
    pub words: Option<String>,
    /// Tags of which an entry has one.
    pub tags: Vec<String>,
    /// Most entries.
    pub limit: usize,
}

/// What is on a board.
#[derive(Debug, Clone)]
pub struct Seen {
    /// A random choice in random order, each beside how it compares with what we have.
    pub entries: Vec<(BoardEntry, Option<Freshness>)>,
    /// How many there are in all.
    pub total: u64,
    /// Entries that could not be read.
    pub left_out: usize,
}

/// Leaves one of our public skills at a Place, signed.
#[derive(Debug, Message)]
#[rtype(result = "Result<Deposited, MembershipError>")]
pub struct Deposit {
    /// Where.
    pub url: PeerUrl,
    /// Its id or name.
    pub skill: String,
}

/// What was left at a Place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposited {
    /// Its name there.
    pub skill_id: String,
    /// Of its text.
    pub content_hash: ContentHash,
}

/// Takes something back that we left at a Place; copies that others took stay theirs.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), MembershipError>")]
pub struct Withdraw {
    /// Where.
    pub url: PeerUrl,
    /// Its name there.
    pub skill_id: String,
    /// Why, for others to read.
    pub reason: String,
}

/// Fetches a skill from a Place into the quarantine.
#[derive(Message)]
#[rtype(result = "Result<Held, MembershipError>")]
pub struct Acquire {
    /// Where.
    pub url: PeerUrl,
    /// Its name there.
    pub skill_id: String,
    /// Who left it there, where several did.
    pub owner: Option<AgentId>,
    /// Told about the transfer.
    pub progress: crate::meeting::Progress,
}

/// Changes what we look for at a Place, and tells the Place.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<NeedRecord>, MembershipError>")]
pub struct ChangeNeeds {
    /// Where.
    pub url: PeerUrl,
    /// How.
    pub change: NeedChange,
}

/// A change of needs.
#[derive(Debug, Clone)]
pub enum NeedChange {
    /// One more, or another description of one.
    Add(NeedRecord),
    /// One less.
    Remove(String),
}

/// Begins to live at the Places in the background, until the actor ends.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), MembershipError>")]
pub struct Live;

/// Whether the actor answers.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), MembershipError>")]
pub struct Health;

/// Ends the sessions and stops.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), MembershipError>")]
pub struct Shutdown;

/// Looks whether Places were joined or left by another process.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Tick;
