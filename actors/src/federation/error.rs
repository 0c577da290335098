//! What goes wrong between this Place and others.

use kairos_protocol::crypto::KeyError;
use kairos_protocol::federation::answer::ToldError;
use kairos_protocol::federation::journey::JourneyError;
use kairos_protocol::id::{AgentId, AgreementId};
use thiserror::Error;

use crate::bounded_addr::AskError;
use crate::meeting::MeetingError;
use crate::meeting::client::{PeerUrl, PeerUrlError};
use crate::membership::MembershipError;
use crate::peer_manager::PeerError;
use crate::place::PlaceError;
use crate::relay::RelayError;
use crate::witness::WitnessError;

/// The code by which a Place says that it knows no such agreement.
pub const UNKNOWN_AGREEMENT: &str = "unknown_agreement";
/// The code by which a Place says that an agreement stands otherwise.
pub const AGREEMENT_STANDS: &str = "agreement_stands";

/// What went wrong.
#[derive(Debug, Error)]
pub enum FederationError {
    /// This Place says so.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The other Place says so, or cannot be reached.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Whoever answers there shows nothing that an agreement could be bound to.
    #[error("the Place at {0} does not prove a key of its own, so there is nobody to agree with")]
    NoKey(PeerUrl),
    /// Whoever answers there is another one than the one in the agreement.
    #[error("the Place at {url} is another one than `{expected}` by its key; nothing was told")]
    OtherPlace {
        /// Where.
        url: PeerUrl,
        /// Who it should be.
        expected: AgentId,
    },
    /// A question goes where it may not.
    #[error(transparent)]
    Journey(#[from] JourneyError),
    /// A question is malformed.
    #[error(transparent)]
    Question(ToldError),
    /// An answer does not hold.
    #[error("the answer of another Place: {0}")]
    Told(#[from] ToldError),
    /// There is no agreement with this Place any more.
    #[error("this Place is not federated with `{0}`")]
    NotFederated(AgentId),
    /// A Place signed with another key than the one it is known by here.
    #[error("the Place `{0}` signed with another key than the one it is known by here")]
    OtherKey(AgentId),
    /// Nobody by this id is here.
    #[error("there is no agent `{0}` at that Place")]
    NotHere(AgentId),
    /// Nobody left such a skill.
    #[error("no skill `{0}` was left at that Place")]
    NoSkill(String),
    /// A message is not of the form that relays take.
    #[error("the sealed message is malformed")]
    Letter,
    /// Somebody writes as somebody else.
    #[error("the key is not that of the agent `{0}`")]
    NotItsKey(AgentId),
    /// The operator keeps the sender out.
    #[error("that Place takes no mail of the agent `{0}`")]
    KeptOut(AgentId),
    /// See there.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// See there.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// See there.
    #[error(transparent)]
    Meeting(#[from] MeetingError),
    /// See there.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// The address in an agreement is none.
    #[error(transparent)]
    Url(#[from] PeerUrlError),
    /// There is no such agreement.
    #[error("there is no agreement `{0}`; see: kairos-chain federation list")]
    Unknown(AgreementId),
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A blocking step panicked; it was logged.
    #[error("a step failed inside")]
    Panicked,
    /// The actor did not answer.
    #[error("the federation actor {0}")]
    Ask(#[from] AskError),
}

impl FederationError {
    /// Whether the other Place says that it has no such agreement, or not one that this could be said of.
    pub(super) fn is_moot(&self) -> bool {
        match self {
            Self::Membership(MembershipError::Client(error)) => {
                error.has_code(UNKNOWN_AGREEMENT) || error.has_code(AGREEMENT_STANDS)
            }
            _ => false,
        }
    }
}
