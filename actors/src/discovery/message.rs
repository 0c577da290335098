//! What the discovery actor is asked and tells.

use actix::prelude::*;
use kairos_p2p::{Address, Connection, PeerName, Status, Way};
use kairos_protocol::id::AgentId;
use kairos_protocol::record::ask::Query;
use kairos_protocol::record::{Record, Scope};
use kairos_protocol::time::Timestamp;

use super::DiscoveryError;
use crate::meeting::client::Carried;

/// Tells how the node is.
#[derive(Debug, Message)]
#[rtype(result = "Result<Shown, DiscoveryError>")]
pub struct Show;

/// Where our record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// With nobody.
    Nowhere,
    /// Told to those nearby who ask.
    Nearby,
    /// In the table of the network.
    Table,
}

impl Published {
    /// `nowhere`, `nearby` or `table`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::Nearby => "nearby",
            Self::Table => "table",
        }
    }
}

/// How the node is.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The node itself.
    pub status: Status,
    /// Who may learn of us.
    pub scope: Scope,
    /// Where our record is.
    pub published: Published,
    /// Its number.
    pub sequence: Option<u64>,
    /// Until when it holds.
    pub expires_at: Option<Timestamp>,
    /// Records of others that are known here and passed on.
    pub listed: usize,
}

/// Lists who is connected.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Neighbour>, DiscoveryError>")]
pub struct ListPeers;

/// Somebody who is connected.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// The connection.
    pub connection: Connection,
    /// Whose node it is, and the name of that agent, if it said so.
    pub agent: Option<(AgentId, String)>,
}

/// Looks for an agent, in the table of the network and with those who are connected.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<Found>, DiscoveryError>")]
pub struct Find {
    /// Whom.
    pub id: AgentId,
}

/// An agent that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its record, both signatures checked.
    pub record: Record,
    /// Its node.
    pub peer: PeerName,
    /// Whether the node itself answered, just now.
    pub has_answered: bool,
}

/// Looks who matches, in what is known here and with those who are connected, and asks each of them whether it still does.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Found>, DiscoveryError>")]
pub struct Search {
    /// What for.
    pub query: Query,
}

/// Opens a connection; answers who is there.
#[derive(Debug, Message)]
#[rtype(result = "Result<PeerName, DiscoveryError>")]
pub struct Dial {
    /// Where.
    pub address: Address,
}

/// Listens at one more address until the node ends; answers what it became.
#[derive(Debug, Message)]
#[rtype(result = "Result<Address, DiscoveryError>")]
pub struct Listen {
    /// Where.
    pub address: Address,
}

/// Dials the peers to begin with once more, and looks around; answers how many of them were reached.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, DiscoveryError>")]
pub struct Bootstrap;

/// Asks a node whose it is.
#[derive(Debug, Message)]
#[rtype(result = "Result<(Record, Way), DiscoveryError>")]
pub struct RecordOf {
    /// Which.
    pub peer: PeerName,
}

/// Takes a message of a meeting to a node and brings its answer.
#[derive(Debug, Message)]
#[rtype(result = "Result<Carried, DiscoveryError>")]
pub struct Carry {
    /// To whom.
    pub peer: PeerName,
    /// See [`kairos_protocol::wire::carried`].
    pub message: Vec<u8>,
}

/// Has our record looked at, and left with others.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Publish;

/// Whether the actor answers, and its node.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), DiscoveryError>")]
pub struct Health;

/// Stops, and the node with it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), DiscoveryError>")]
pub struct Shutdown;
