//! The federation actor: this Place among other Places.
//!
//! Owns: what went wrong when other Places were told, in memory. Talks to: the Place, which keeps the agreements,
//! membership, which is the way to other Places, the peer manager (pins), the relay, and meeting and witness, which follow
//! the ledgers of other Places. Asked by: the HTTP door, and the operator's orders, through
//! [`FederationHandle`].
//! Invariants: a step of an agreement is stored before the other Place hears of it, and told again until it was heard; the
//! other Place is the one in the agreement, by its key, or is told nothing.

mod ask;
mod error;
mod mail;
mod tell;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture,
    WrapFuture,
};
use kairos_place::meeting_place::{Agreement, Standing};
use kairos_protocol::crypto::Keypair;
use kairos_protocol::federation::agreement::{Party, Word};
use kairos_protocol::id::{AgentId, AgreementId};
use kairos_protocol::time::{Clock, Timestamp};
use parking_lot::Mutex;

use crate::bounded_addr::{AskError, Asks, BoundedAddr, Health, Shutdown};
use crate::meeting::MeetingHandle;
use crate::meeting::client::PeerUrl;
use crate::membership::MembershipHandle;
use crate::peer_manager::PeerManagerHandle;
use crate::place::PlaceHandle;
use crate::relay::RelayHandle;
use crate::witness::WitnessHandle;

pub use ask::Answered;
pub use error::{AGREEMENT_STANDS, FederationError, UNKNOWN_AGREEMENT};
use tell::Trouble;

/// Orders of the operator that may be under way at once.
const ORDERS: usize = 8;
/// Longest order: another Place is joined for it.
const ORDER_MAX: Duration = Duration::from_secs(120);
/// How often is looked who is to be told of something.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the actor works with.
pub struct FederationParts {
    /// The agent that hosts the Place.
    pub id: AgentId,
    /// Its key.
    pub keypair: Arc<Keypair>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Neighbour.
    pub place: PlaceHandle,
    /// Neighbour.
    pub membership: MembershipHandle,
    /// Neighbour.
    pub peers: PeerManagerHandle,
    /// Neighbour.
    pub relay: RelayHandle,
    /// Neighbour.
    pub meeting: MeetingHandle,
    /// Neighbour.
    pub witness: WitnessHandle,
    /// How often the ledgers of other Places are looked at.
    pub watch_every: Duration,
}

/// An agreement, and how it stands.
#[derive(Debug, Clone)]
pub struct Shown {
    /// As it is kept.
    pub agreement: Agreement,
    /// How it stands.
    pub standing: Standing,
    /// The other Place.
    pub partner: Party,
    /// Why the other Place was not told of the last step, if it was tried.
    pub trouble: Option<String>,
    /// What was last seen of its ledger, if something was.
    pub ledger: Option<Ledger>,
}

/// What was seen of the ledger of another Place.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Blocks.
    pub size: u64,
    /// When.
    pub at: Timestamp,
    /// Evidence that it showed two histories.
    pub fork: Option<PathBuf>,
}

/// Offers the Place at `url` an agreement.
#[derive(Debug, Message)]
#[rtype(result = "Result<Shown, FederationError>")]
pub struct Propose {
    /// Where it is.
    pub url: PeerUrl,
    /// Where it reaches this one.
    pub own: PeerUrl,
    /// Who decided it.
    pub by: String,
}

/// Takes a step of this Place.
#[derive(Debug, Message)]
#[rtype(result = "Result<Shown, FederationError>")]
pub struct Decide {
    /// About which agreement.
    pub agreement: AgreementId,
    /// Which step.
    pub word: Word,
    /// Who decided it.
    pub by: String,
}

/// Every agreement that is remembered.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Shown>, FederationError>")]
struct List;

#[derive(Message)]
#[rtype(result = "()")]
struct Tick;

#[derive(Message)]
#[rtype(result = "()")]
struct Watch;

/// Reaches the federation actor. Questions are answered by whoever asks: they change nothing that the actor has.
#[derive(Clone)]
pub struct FederationHandle(BoundedAddr<FederationActor>, Arc<Federation>);

impl FederationHandle {
    /// See [`Propose`].
    pub async fn propose(&self, message: Propose) -> Result<Shown, FederationError> {
        self.0.ask(message).await?
    }

    /// See [`Decide`].
    pub async fn decide(&self, message: Decide) -> Result<Shown, FederationError> {
        self.0.ask(message).await?
    }

    /// Every agreement that is remembered, in no order.
    pub async fn list(&self) -> Result<Vec<Shown>, FederationError> {
        self.0.ask(List).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.0.asks()
    }

    /// Whether the actor answers.
    pub async fn health(&self) -> Result<(), AskError> {
        self.0.probe(Health).await
    }

    /// Ends the actor; what was not told yet is told by the next one.
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.0.ask(Shutdown).await
    }
}

/// What every errand of the actor needs.
struct Federation {
    id: AgentId,
    keypair: Arc<Keypair>,
    clock: Arc<dyn Clock>,
    place: PlaceHandle,
    membership: MembershipHandle,
    peers: PeerManagerHandle,
    relay: RelayHandle,
    meeting: MeetingHandle,
    witness: WitnessHandle,
    /// Held for a look, never across an await.
    troubles: Mutex<BTreeMap<AgreementId, Trouble>>,
}

/// See the module.
pub struct FederationActor {
    federation: Arc<Federation>,
    telling: bool,
    watch_every: Duration,
    watching: bool,
}

impl FederationActor {
    /// Starts the actor of a Place.
    pub fn start(parts: FederationParts) -> FederationHandle {
        let federation = Arc::new(Federation {
            id: parts.id,
            keypair: parts.keypair,
            clock: parts.clock,
            place: parts.place,
            membership: parts.membership,
            peers: parts.peers,
            relay: parts.relay,
            meeting: parts.meeting,
            witness: parts.witness,
            troubles: Mutex::default(),
        });
        let actor = Self {
            federation: Arc::clone(&federation),
            telling: false,
            watch_every: parts.watch_every,
            watching: false,
        };
        let addr = BoundedAddr::start(ORDERS, ORDER_MAX, |_| actor);
        FederationHandle(addr, federation)
    }
}

impl Actor for FederationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(LOOK_EVERY, |_, ctx| ctx.notify(Tick));
        ctx.run_interval(self.watch_every, |_, ctx| ctx.notify(Watch));
    }
}

impl Handler<Propose> for FederationActor {
    type Result = ResponseFuture<Result<Shown, FederationError>>;

    fn handle(&mut self, message: Propose, _: &mut Self::Context) -> Self::Result {
        let federation = Arc::clone(&self.federation);
        Box::pin(async move { federation.propose(message).await })
    }
}

impl Handler<Decide> for FederationActor {
    type Result = ResponseFuture<Result<Shown, FederationError>>;

    fn handle(&mut self, message: Decide, _: &mut Self::Context) -> Self::Result {
        let federation = Arc::clone(&self.federation);
        Box::pin(async move { federation.decide(message).await })
    }
}

impl Handler<List> for FederationActor {
    type Result = ResponseFuture<Result<Vec<Shown>, FederationError>>;

    fn handle(&mut self, _: List, _: &mut Self::Context) -> Self::Result {
        let federation = Arc::clone(&self.federation);
        Box::pin(async move { federation.list().await })
    }
}

impl Handler<Tick> for FederationActor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.telling, true) {
            return;
        }
        let federation = Arc::clone(&self.federation);
        let told = async move { federation.tell_all().await };
        ctx.spawn(
            told.into_actor(self)
                .map(|(), this, _| this.telling = false),
        );
    }
}

impl Handler<Watch> for FederationActor {
    type Result = ();

    fn handle(&mut self, _: Watch, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.watching, true) {
            return;
        }
        let federation = Arc::clone(&self.federation);
        let watched = async move { federation.watch_all().await };
        ctx.spawn(
            watched
                .into_actor(self)
                .map(|(), this, _| this.watching = false),
        );
    }
}

impl Handler<Health> for FederationActor {
    type Result = ();

    fn handle(&mut self, _: Health, _: &mut Self::Context) {}
}

impl Handler<Shutdown> for FederationActor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
