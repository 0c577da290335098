//! The discovery actor: how this agent is found, and how it finds others, without a server that knows all of them.
//!
//! Owns: the way to the libp2p node ([`kairos_p2p`], which has a thread of its own), our record, and records of others,
//! which it compares with those of its neighbours, so that late ones see the same. Asks: nobody; it is given what to say, and
//! whom to tell. Asked by: the operator's door, and by conversations that we begin, through
//! [`DiscoveryHandle`]. What peers ask for meetings goes to the [`MeetingDoor`] that it is started with, in front of the
//! same functions as those of HTTP.
//! Invariants: nothing is announced beyond the scope that the owner chose, which is nothing at first; a record counts only
//! when both its signatures hold, and never longer than it says; what is found is looked up when it is asked for.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures::Stream;
use futures::future::{BoxFuture, LocalBoxFuture};
use kairos_p2p::{
    Event, Judge, Kept, Network, NetworkError, NodeKey, Protocol, Request, Settings, StartError,
};
use kairos_protocol::crypto::Keypair;
use kairos_protocol::record::ask::{RecordsAsked, RecordsTold};
use kairos_protocol::record::book::RecordBook;
use kairos_protocol::record::rounds::Rounds;
use kairos_protocol::record::{PeerKey, Record, RecordError, Scope, table_key};
use kairos_protocol::time::{Clock, Timestamp};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bounded_addr::{AskError, BoundedAddr};

mod handle;
mod handlers;
mod message;
mod ours;
mod records;
#[cfg(test)]
mod tests;

pub use handle::DiscoveryHandle;
pub use kairos_p2p::{Address, Figures, Limits, PeerName, Status, Way};
pub use message::{
    Bootstrap, Carry, Dial, Find, Found, Health, ListPeers, Listen, Neighbour, RecordOf, Search,
    Show, Shown, Shutdown,
};
use message::{Publish, Published};
use ours::{LIFETIME, SAID_EVERY};
pub use ours::{Said, Say};
pub use records::ROUND;
use records::{BOOK_MAX, Listed};

/// Requests for meetings that are answered at once.
const MEETINGS_MAX: usize = 32;
/// Errands under way: lookups and messages that are carried.
const ERRANDS: usize = 16;
/// Longest errand.
const ERRAND_MAX: Duration = Duration::from_secs(120);
/// Records of others that are remembered.
const KNOWN_MAX: usize = 1_024;
/// Connected peers that are asked for a record.
const ASKED_MAX: usize = 16;
/// Who is found by one search.
const FOUND_MAX: usize = 24;
/// How long is waited for a node that is said to be there, where there is another answer.
const LIVE_MAX: Duration = Duration::from_secs(3);
/// How long is waited before our record is left with others once more, so that many changes cost one.
const SETTLE: Duration = Duration::from_millis(500);
/// How often a node that is alone dials those it begins with.
pub const REDIAL: Duration = Duration::from_secs(60);
/// Hears of every record that is news.
pub type Noted = Rc<dyn Fn(&Record)>;

/// What a node says of itself, and how that came.
type Asked = BoxFuture<'static, Result<(Record, Way), DiscoveryError>>;

/// Answers what peers ask for meetings.
pub type MeetingDoor = Rc<dyn Fn(Visit) -> LocalBoxFuture<'static, Vec<u8>>>;

/// What a peer asks for a meeting.
#[derive(Debug)]
pub struct Visit {
    /// Whose node it is.
    pub peer: PeerName,
    /// From which machine, or through which relay's.
    pub address: Option<IpAddr>,
    /// What is asked.
    pub message: Vec<u8>,
}

/// What goes wrong with finding and being found.
#[derive(Debug, Error)]
pub enum DiscoveryError {
    /// There is no node.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The key of the node.
    #[error(transparent)]
    Key(#[from] kairos_p2p::KeyFault),
    /// Our record cannot be made.
    #[error("this agent cannot be announced: {0}")]
    Record(#[from] RecordError),
    /// See there.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A peer's record.
    #[error("{peer} says nothing usable about whose node it is: {reason}")]
    Stranger {
        /// Who.
        peer: PeerName,
        /// Why.
        reason: String,
    },
    /// The actor did not answer.
    #[error("the discovery actor {0}")]
    Ask(#[from] AskError),
}

/// What the actor is started with.
pub struct DiscoveryParts {
    /// Our key.
    pub keypair: Arc<Keypair>,
    /// The key of our node.
    pub peer_key: PeerKey,
    /// For people.
    pub name: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who may learn of us.
    pub scope: Scope,
    /// Where the node listens.
    pub listen: Vec<Address>,
    /// Where others reach it, if that is known.
    pub external: Vec<Address>,
    /// Whom it dials at first, and again while it is alone.
    pub bootstrap: Vec<Address>,
    /// How often it does that; [`REDIAL`] but for tests.
    pub redial: Duration,
    /// Whether it looks for neighbours on the local network; never while nobody there may learn of us.
    pub mdns: bool,
    /// Whether it passes on the traffic of others.
    pub relay: bool,
    /// Whether it keeps a register, in which others are found by what they hand out.
    pub register: bool,
    /// Whether addresses are those of this process, for tests.
    pub in_memory: bool,
    /// Bounds of the node.
    pub limits: Limits,
    /// Answers what peers ask for meetings.
    pub door: MeetingDoor,
    /// What our record says beside who and where we are.
    pub say: Say,
    /// Hears of records of others.
    pub noted: Noted,
    /// How often somebody is asked for records that we have not; [`ROUND`] but for tests.
    pub round: Duration,
}

/// See the module.
pub struct DiscoveryActor {
    network: Network,
    keypair: Arc<Keypair>,
    peer_key: Arc<PeerKey>,
    clock: Arc<dyn Clock>,
    name: String,
    scope: Scope,
    external: Vec<Address>,
    bootstrap: Vec<Address>,
    redial: Duration,
    /// Who is at the addresses to begin with, as far as that is known.
    beginnings: HashMap<PeerName, Address>,
    door: MeetingDoor,
    say: Say,
    noted: Noted,
    round: Duration,
    // State.
    ours: Option<Record>,
    /// Until then our record need not be signed anew.
    fresh_until: Timestamp,
    /// Until then it is not said that our ledger grew.
    ledger_due: Timestamp,
    is_publishing: bool,
    is_due: bool,
    published: Published,
    meetings: usize,
    /// What nodes said of themselves, whoever may learn of it.
    known: HashMap<PeerName, Record>,
    /// Records for everybody, which are passed on, by who brought them.
    book: RecordBook<Listed, PeerName>,
    rounds: Rounds,
    /// Who was asked for all it has, and when.
    pulled: HashMap<PeerName, Instant>,
    /// Who is being asked for it.
    pulling: HashSet<PeerName>,
}

/// Decides which records the table of the network takes from others.
fn judge(clock: Arc<dyn Clock>) -> Judge {
    Arc::new(move |key, value| {
        let now = clock.now();
        let record = Record::read(value, now).map_err(|error| error.to_string())?;
        if table_key(record.id()) != key {
            return Err("it is the record of another agent".to_owned());
        }
        if record.scope() != Scope::World {
            return Err("it is not for everybody".to_owned());
        }
        Ok(Kept {
            sequence: record.sequence(),
            lifetime: record.expires_at().since(now),
        })
    })
}

impl DiscoveryActor {
    /// Starts the node and the actor. Must run inside an actix system.
    ///
    /// # Errors
    ///
    /// [`DiscoveryError::Start`] names the address at which the node cannot listen.
    pub fn start(
        parts: DiscoveryParts,
        permits: usize,
        patience: Duration,
    ) -> Result<DiscoveryHandle, DiscoveryError> {
        let settings = Settings {
            key: NodeKey::from_seed(parts.peer_key.seed())?,
            listen: parts.listen,
            external: parts.external.clone(),
            mdns: parts.mdns && parts.scope > Scope::Private,
            relay: parts.relay,
            register: parts.register,
            relayed: parts.scope == Scope::World,
            autonat: !parts.in_memory,
            in_memory: parts.in_memory,
            software: concat!("kairos-chain/", env!("CARGO_PKG_VERSION")).to_owned(),
            limits: parts.limits,
            judge: judge(Arc::clone(&parts.clock)),
        };
        let (network, events) = kairos_p2p::start(settings)?;
        let actor = Self {
            network,
            keypair: parts.keypair,
            peer_key: Arc::new(parts.peer_key),
            clock: parts.clock,
            name: parts.name,
            redial: parts.redial,
            scope: parts.scope,
            external: parts.external,
            beginnings: named(&parts.bootstrap),
            bootstrap: parts.bootstrap,
            door: parts.door,
            say: parts.say,
            noted: parts.noted,
            round: parts.round,
            ours: None,
            fresh_until: Timestamp::EPOCH,
            ledger_due: Timestamp::EPOCH,
            is_publishing: false,
            is_due: false,
            published: Published::Nowhere,
            meetings: 0,
            known: HashMap::new(),
            book: RecordBook::new(BOOK_MAX),
            rounds: Rounds::default(),
            pulled: HashMap::new(),
            pulling: HashSet::new(),
        };
        let addr = Self::create(|ctx| {
            ctx.set_mailbox_capacity(permits.saturating_add(ERRANDS));
            ctx.add_stream(stream(events));
            actor
        });
        Ok(DiscoveryHandle {
            arriving: BoundedAddr::new(addr.clone(), permits, patience),
            begun: BoundedAddr::new(addr, ERRANDS, ERRAND_MAX),
        })
    }

    /// Our record is to be looked at, soon and once however often it is said.
    fn publish_soon(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.is_due, true) {
            ctx.notify_later(Publish, SETTLE);
        }
    }

    /// Remembers what a peer says of itself. Of two records the newer counts.
    fn remember(&mut self, peer: PeerName, record: Record) {
        self.learn(record.clone(), peer);
        let now = self.clock.now();
        self.known.retain(|_, known| known.expires_at() > now);
        let is_known = self.known.contains_key(&peer);
        let newer = self
            .known
            .get(&peer)
            .is_none_or(|k| k.sequence() <= record.sequence());
        if newer && (is_known || self.known.len() < KNOWN_MAX) {
            self.known.insert(peer, record);
        }
    }

    /// Where `peer` says it is.
    fn addresses(&self, peer: PeerName) -> Vec<Address> {
        let told = self.record_at(peer).map(addresses_in);
        let began = self.beginnings.get(&peer);
        let mut all = told.unwrap_or_default();
        all.extend(began.filter(|at| !all.contains(at)).cloned());
        all
    }

    /// Who is connected, each once and in order.
    fn connected(&self) -> BoxFuture<'static, Result<Vec<PeerName>, NetworkError>> {
        let peers = self.network.peers();
        Box::pin(async move {
            let mut names: Vec<PeerName> = peers.await?.iter().map(|open| open.peer).collect();
            names.sort();
            names.dedup();
            Ok(names)
        })
    }

    /// Asks `peer` for its own record.
    fn ask(&self, peer: PeerName, asked: &RecordsAsked) -> Asked {
        let clock = Arc::clone(&self.clock);
        ask_at(&self.network, clock, peer, self.addresses(peer), asked)
    }

    /// Dials the peers to begin with.
    fn begin(&self, ctx: &mut Context<Self>) {
        for address in self.bootstrap.clone() {
            let dialled = self.network.dial(address.clone());
            ctx.spawn(dialled.into_actor(self).map(move |dialled, this, _| {
                match dialled {
                    Ok(peer) => {
                        // One address, one node: who was there before is there no more.
                        this.beginnings.retain(|_, at| *at != address);
                        this.beginnings.insert(peer, address);
                    }
                    Err(error) => {
                        tracing::warn!(%address, %error, "a peer to begin with cannot be reached");
                    }
                }
            }));
        }
    }

    fn answer_meeting(&mut self, request: Request, ctx: &mut Context<Self>) {
        if self.meetings >= MEETINGS_MAX {
            // Dropping it ends the peer's stream; it may come again.
            tracing::debug!(peer.id = %request.peer, "too many meetings at once");
            return;
        }
        self.meetings += 1;
        let Request {
            peer,
            address,
            bytes,
            answer,
            ..
        } = request;
        let answered = (self.door)(Visit {
            peer,
            address,
            message: bytes,
        });
        ctx.spawn(answered.into_actor(self).map(move |bytes, this, _ctx| {
            this.meetings -= 1;
            if answer.send(bytes).is_err() {
                tracing::debug!(peer.id = %peer, "a peer went before it had its answer");
            }
        }));
    }
}

/// The nodes at addresses that name them.
fn named(addresses: &[Address]) -> HashMap<PeerName, Address> {
    let named = addresses.iter();
    let named = named.filter_map(|address| Some((address.peer()?, address.clone())));
    named.collect()
}

/// Asks `peer`, which is dialled at `addresses` if it is not connected, for records.
fn ask_records(
    network: &Network,
    peer: PeerName,
    addresses: Vec<Address>,
    asked: &RecordsAsked,
) -> BoxFuture<'static, Result<(RecordsTold, Way), DiscoveryError>> {
    let reply = network.ask(Protocol::Records, peer, addresses, asked.to_bytes());
    Box::pin(async move {
        let reply = reply.await?;
        let told = RecordsTold::read(&reply.bytes);
        let told = told.map_err(|error| stranger(peer, error))?;
        Ok((told, reply.way))
    })
}

/// The same, where one record is asked for, which must be of the node that tells it.
fn ask_at(
    network: &Network,
    clock: Arc<dyn Clock>,
    peer: PeerName,
    addresses: Vec<Address>,
    asked: &RecordsAsked,
) -> Asked {
    let told = ask_records(network, peer, addresses, asked);
    let wanted = match asked {
        RecordsAsked::Agent(id) => Some(id.clone()),
        _ => None,
    };
    Box::pin(async move {
        let (told, way) = told.await?;
        let RecordsTold::Record(Some(record)) = told else {
            return Err(stranger(peer, "it has no record for us"));
        };
        let record = Record::from_value(record, clock.now());
        let record = record.map_err(|error| stranger(peer, error))?;
        if node_of(&record) != Some(peer) {
            return Err(stranger(peer, "its record is of another node"));
        }
        if wanted.is_some_and(|wanted| wanted != *record.id()) {
            return Err(stranger(peer, "its record is of another agent"));
        }
        Ok((record, way))
    })
}

fn stranger(peer: PeerName, reason: impl std::fmt::Display) -> DiscoveryError {
    let reason = reason.to_string();
    DiscoveryError::Stranger { peer, reason }
}

/// What comes of `asked` within the time that it takes to reach a node that is there.
async fn within<T>(asked: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LIVE_MAX, asked).await.ok()
}

/// Where a record says that its node is.
fn addresses_in(record: &Record) -> Vec<Address> {
    let told = record.addresses().iter();
    told.filter_map(|address| address.parse().ok()).collect()
}

/// Whose node a record is of.
fn node_of(record: &Record) -> Option<PeerName> {
    PeerName::of_ed25519(record.peer_key().as_bytes()).ok()
}

fn stream(events: mpsc::Receiver<Event>) -> impl Stream<Item = Event> {
    futures::stream::unfold(events, |mut events| async move {
        let event = events.recv().await?;
        Some((event, events))
    })
}

impl Actor for DiscoveryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.publish_soon(ctx);
        ctx.run_interval(LIFETIME / 12, |this, ctx| this.publish_soon(ctx));
        self.look_what_to_say(ctx);
        ctx.run_interval(SAID_EVERY, |this, ctx| this.look_what_to_say(ctx));
        ctx.run_interval(self.round, |this, ctx| this.next_round(ctx));
        self.begin(ctx);
        ctx.run_interval(self.redial, |this, ctx| {
            let network = this.network.clone();
            let status = async move { network.status().await };
            ctx.spawn(status.into_actor(this).map(|status, this, ctx| {
                // A node that has ended is told of by the health of this actor.
                if status.is_ok_and(|status| status.peers == 0) {
                    this.begin(ctx);
                }
            }));
        });
    }
}

/// Ends with the node: then nobody answers for it, and the watchdog tells.
impl StreamHandler<Event> for DiscoveryActor {
    fn handle(&mut self, event: Event, ctx: &mut Self::Context) {
        match event {
            Event::Request(request) if request.protocol == Protocol::Records => {
                let Some(asked) = RecordsAsked::read(&request.bytes) else {
                    return;
                };
                if self.ours.is_some() {
                    self.tell(&asked, request, ctx);
                    return;
                }
                // It came before our first record was signed. Without one it would take us for nobody.
                ctx.spawn(self.renewed().map(move |renewed, this, ctx| {
                    if let Err(error) = renewed {
                        tracing::warn!(%error, "this agent cannot say who it is");
                    }
                    this.tell(&asked, request, ctx);
                }));
            }
            Event::Request(request) => self.answer_meeting(request, ctx),
            Event::PeerJoined(peer) => {
                self.publish_soon(ctx);
                let asked = self.ask(peer, &RecordsAsked::Own(true));
                ctx.spawn(asked.into_actor(self).map(move |told, this, ctx| match told {
                    Ok((record, _)) => {
                        tracing::info!(peer.id = %peer, agent.id = %record.id(), "a node joined");
                        this.remember(peer, record);
                        this.pull_from(peer, ctx);
                    }
                    Err(error) => tracing::debug!(%error, "a node does not say whose it is"),
                }));
            }
            Event::AddressesChanged => self.publish_soon(ctx),
        }
    }
}
