//! What the peer manager is asked and tells.

use std::net::IpAddr;
use std::time::Duration;

use actix::prelude::*;
use kairos_place::session::Strength;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::wire::introduction::VerifiedIdentity;
use kairos_protocol::wire::possession::Proof;

use super::PeerError;
use super::table::Peer;

/// A correctly signed identity that wants a session.
#[derive(Debug)]
pub struct Introduce {
    /// Whose signature was checked.
    pub identity: VerifiedIdentity,
    /// The answer to a challenge, if the peer sent one.
    pub proof: Option<Proof>,
    /// Whether the peer wants a challenge.
    pub wants_challenge: bool,
    /// Where the request came from.
    pub address: IpAddr,
    /// A session of the same key that the new one replaces.
    pub replaces: Option<String>,
}

/// An open session, as told to its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The token, 64 hex digits; known to nobody else from here on.
    pub token: String,
    /// How strongly it was established.
    pub strength: Strength,
    /// Lifetime.
    pub ttl: Duration,
    /// A fresh challenge, if one was wanted.
    pub nonce: Option<String>,
}

/// Records what an introduction changes, then opens its session. A proof in it was verified, but not redeemed.
#[derive(Debug, Message)]
#[rtype(result = "Result<Admission, PeerError>")]
pub(super) struct Observe(pub(super) Introduce);

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The agent.
    pub agent_id: AgentId,
    /// Hash of the key that opened the session.
    pub key: ContentHash,
    /// How strongly that is established.
    pub strength: Strength,
}

/// Pins or confirms an agent that we went to meet at `url`.
#[derive(Debug, Message)]
#[rtype(result = "Result<Peer, PeerError>")]
pub struct Meet {
    /// Whose signature was checked.
    pub identity: VerifiedIdentity,
    /// Where it was met.
    pub url: String,
    /// Whether it also proved to hold its key.
    pub strength: Strength,
}

/// Pins or confirms the key that somebody else, such as a Meeting Place, tells of an agent. Returns its record.
///
/// Fails with [`PeerTableError::Conflict`](super::table::PeerTableError::Conflict) when the id is pinned to another key;
/// what somebody else tells changes no pin.
#[derive(Debug, Message)]
#[rtype(result = "Result<Peer, PeerError>")]
pub struct Learn {
    /// Whose key it is said to be.
    pub identity: VerifiedIdentity,
}

/// All known peers, by id.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Peer>, PeerError>")]
pub struct List;

/// The peer with an id, if it is known.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<Peer>, PeerError>")]
pub struct Find {
    /// The id.
    pub id: String,
}

/// A decision of a person about a peer; returns the record after it, or the last one when it was forgotten.
#[derive(Debug, Message)]
#[rtype(result = "Result<Peer, PeerError>")]
pub enum Decide {
    /// Trust it.
    Trust(String),
    /// Forget it and its pin, and end its sessions.
    Forget(String),
    /// Resolve its conflict by keeping the pinned key.
    Keep(String),
    /// Resolve its conflict by accepting the key with this fingerprint; ends the sessions of the old key.
    Accept(String, String),
}

/// Whether the actor answers.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), PeerError>")]
pub struct Health;

/// Flushes and stops.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), PeerError>")]
pub struct Shutdown;

/// Periodic upkeep.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Tick;
