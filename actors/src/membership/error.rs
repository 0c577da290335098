//! What can go wrong between an agent and the Places it joined.

use std::io;

use kairos_protocol::crypto::KeyError;
use kairos_protocol::id::{AgentId, MessageId};
use kairos_protocol::relay::SealError;
use kairos_protocol::relay::prekey::PrekeyError;
use kairos_protocol::wire::place::AnswerError;
use thiserror::Error;

use crate::bounded_addr::AskError;
use crate::knowledge::KnowledgeError;
use crate::meeting::MeetingError;
use crate::meeting::client::{ClientError, PeerUrl};
use crate::peer_manager::PeerError;
use crate::quarantine::QuarantineError;

/// What went wrong.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// The Place could not be reached or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The Place answered with something else than its protocol says.
    #[error("the Place's answer: {0}")]
    Answer(#[from] AnswerError),
    /// A check failed; nothing was kept. Always [`MeetingError::Refused`].
    #[error(transparent)]
    Check(#[from] MeetingError),
    /// See there.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// See there.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// See there.
    #[error(transparent)]
    Knowledge(#[from] KnowledgeError),
    /// See there.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The records of this agent could not be read or written.
    #[error("the records of joined Places could not be used: {0}")]
    Store(#[source] io::Error),
    /// Nothing is known of this Place.
    #[error("this agent has not joined {0}; join it with: kairos-chain place join {0}")]
    NotJoined(PeerUrl),
    /// As many Places as the owner allows.
    #[error("{limit} Places are joined, which is the limit; leave one, or raise membership.places")]
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// No such skill, or it is private.
    #[error(
        "there is no public skill `{0}`; offer one with: kairos-chain skill share {0}, or see: kairos-chain skill list"
    )]
    NotPublic(String),
    /// Nothing of ours by this name is there.
    #[error("`{0}` is not among what this agent left there")]
    NotDeposited(String),
    /// The text of a need, or their number, is out of bounds.
    #[error("{0}")]
    Need(&'static str),
    /// The Place relays no messages.
    #[error("{0} relays no messages; its software offers none of the relay's endpoints")]
    NoRelay(PeerUrl),
    /// Mail waits that cannot be taken in.
    #[error(
        "{left} messages wait there that cannot be taken in now; make room with: kairos-chain inbox clear, or leave them \
         behind with --force"
    )]
    MailLeft {
        /// How many.
        left: usize,
    },
    /// Nobody by this id is known there.
    #[error(
        "no key of the agent `{0}` is known here or at the Place, so nothing can be sealed to it"
    )]
    NoKey(AgentId),
    /// Nothing to seal to is at the recipient's Place.
    #[error("`{0}` has left no prekeys at that Place, so nothing can be sealed to it there")]
    NoPrekeys(AgentId),
    /// The recipient's prekeys do not hold.
    #[error("nothing is sealed to `{agent}`: {reason}")]
    Prekey {
        /// Whose they are said to be.
        agent: AgentId,
        /// What is wrong with them.
        #[source]
        reason: PrekeyError,
    },
    /// The recipient has no prekeys, and the older envelope is not wanted.
    #[error(
        "`{0}` has no prekeys there, and the older envelope would neither say who wrote the message nor stay closed to \
         whoever gets its key later; wait until it is there again, or allow that with membership.downgrade"
    )]
    Downgrade(AgentId),
    /// The Place was asked and did not say what became of it.
    #[error(
        "whether the Place took the message is unknown ({source}); send it again with --id {id}, it is not delivered twice"
    )]
    Unknown {
        /// The message.
        id: MessageId,
        /// What happened.
        #[source]
        source: Box<ClientError>,
    },
    /// A Place took too long for somebody who waits.
    #[error("the Place did not answer within {} seconds", .after.as_secs())]
    TooSlow {
        /// How long was waited.
        after: std::time::Duration,
    },
    /// A blocking step panicked; it was logged.
    #[error("a step failed inside")]
    Panicked,
    /// The actor did not answer.
    #[error("the membership actor {0}")]
    Ask(#[from] AskError),
}

impl MembershipError {
    /// The answer of the Place, or why there is none.
    pub(super) fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Client(error) => Some(error),
            _ => None,
        }
    }

    /// Whether asking again soon would change nothing: the Place said no, and not because of our session or its load.
    pub(super) fn is_final(&self) -> bool {
        match self.client() {
            Some(ClientError::Refused { status, code, .. }) => {
                let told = (400..500).contains(status) && ![401, 429].contains(status);
                // As many prekeys as the Place takes are there, or those of as many agents.
                told || code == "prekeys_full"
            }
            _ => false,
        }
    }

    /// Whether what a request was to replace is not there any more.
    pub(super) fn is_outdated(&self) -> bool {
        self.client().is_some_and(|error| error.has_status(412))
    }

    /// Whether the Place does not know our session.
    pub(super) fn is_unauthorized(&self) -> bool {
        self.client().is_some_and(|error| error.has_status(401))
    }

    /// Whether the Place does not know what it was asked for: its software has no such endpoint, or there is no such
    /// thing.
    pub(super) fn is_not_found(&self) -> bool {
        self.client().is_some_and(|error| error.has_status(404))
    }
}
