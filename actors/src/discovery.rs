//! The discovery actor: how this agent is found, and how it finds others, without a server that knows all of them.
//!
//! Owns: the way to the libp2p node ([`kairos_p2p`], which has a thread of its own), our record, and what records showed
//! of others. Asks: nobody. Asked by: the operator's door, and by conversations that we begin, through
//! [`DiscoveryHandle`]. What peers ask for meetings goes to the [`MeetingDoor`] that it is started with, in front of the
//! same functions as those of HTTP.
//! Invariants: nothing is announced beyond the scope that the owner chose, which is nothing at first; a record counts only
//! when both its signatures hold, and never longer than it says; what is found is looked up when it is asked for.

use std::collections::HashMap;
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
use kairos_protocol::record::{Announcement, PeerKey, Record, RecordError, Scope, table_key};
use kairos_protocol::time::{Clock, Timestamp};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::bounded_addr::{AskError, BoundedAddr};

mod ask;
mod handle;
mod handlers;
mod message;
#[cfg(test)]
mod tests;

use ask::{RecordsAsked, RecordsTold};
pub use handle::DiscoveryHandle;
pub use kairos_p2p::{Address, Limits, PeerName, Way};
pub use message::{
    Bootstrap, Carry, Dial, Find, Found, Health, ListPeers, Listen, Neighbour, RecordOf, Show,
    Shown, Shutdown,
};
use message::{Publish, Published};

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
/// How long our record holds; it is signed anew when half of that is over.
const LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);
/// How long is waited before our record is left with others once more, so that many changes cost one.
const SETTLE: Duration = Duration::from_millis(500);
/// How often a node that is alone dials those it begins with.
pub const REDIAL: Duration = Duration::from_secs(60);
/// Addresses of ours that are announced.
const ADDRESSES: usize = 8;

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
    /// Whether addresses are those of this process, for tests.
    pub in_memory: bool,
    /// Bounds of the node.
    pub limits: Limits,
    /// Answers what peers ask for meetings.
    pub door: MeetingDoor,
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
    door: MeetingDoor,
    // State.
    ours: Option<Record>,
    /// Until then our record need not be signed anew.
    fresh_until: Timestamp,
    is_publishing: bool,
    is_due: bool,
    published: Published,
    meetings: usize,
    known: HashMap<PeerName, Record>,
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
            bootstrap: parts.bootstrap,
            door: parts.door,
            ours: None,
            fresh_until: Timestamp::EPOCH,
            is_publishing: false,
            is_due: false,
            published: Published::Nowhere,
            meetings: 0,
            known: HashMap::new(),
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

    /// Remembers what a peer's record says. Of two the newer counts.
    fn remember(&mut self, peer: PeerName, record: Record) {
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
        let record = self.known.get(&peer);
        let told = record.into_iter().flat_map(Record::addresses);
        told.filter_map(|address| address.parse().ok()).collect()
    }

    /// What we tell a peer that asks for records.
    fn told(&self, asked: &RecordsAsked, from: Option<IpAddr>) -> RecordsTold {
        let ours = self.ours.as_ref();
        let ours = ours.filter(|ours| match asked {
            // Whoever is connected knows where we are already; this says who we are, as an introduction does.
            RecordsAsked::Own => true,
            RecordsAsked::Agent(id) => {
                let may_know = match self.scope {
                    Scope::Private => false,
                    Scope::Lan => from.is_some_and(is_near),
                    Scope::World => true,
                };
                may_know && ours.id() == id
            }
        });
        RecordsTold::of(ours)
    }

    /// Answers a peer that asks for records.
    fn tell(&self, asked: &RecordsAsked, request: Request) {
        let told = self.told(asked, request.address);
        if request.answer.send(told.to_bytes()).is_err() {
            tracing::debug!(peer.id = %request.peer, "a peer went before it had its answer");
        }
    }

    /// Our record, signed anew if it has to be, with the addresses at which the node is now.
    fn renewed(&self) -> ResponseActFuture<Self, Result<Option<Record>, DiscoveryError>> {
        let network = self.network.clone();
        let looked = async move { network.status().await };
        Box::pin(looked.into_actor(self).map(|status, this, _| {
            let status = status?;
            this.renew(status.listen, status.external)?;
            Ok(this.ours.clone())
        }))
    }

    /// Asks `peer` for records, and gives those of its own that hold.
    fn ask(
        &self,
        peer: PeerName,
        asked: &RecordsAsked,
    ) -> BoxFuture<'static, Result<(Record, Way), DiscoveryError>> {
        let (network, clock) = (self.network.clone(), Arc::clone(&self.clock));
        let (bytes, addresses) = (asked.to_bytes(), self.addresses(peer));
        Box::pin(async move {
            let reply = network
                .ask(Protocol::Records, peer, addresses, bytes)
                .await?;
            let read = RecordsTold::read(&reply.bytes, clock.now());
            let own = read.and_then(|record| match node_of(&record) {
                Some(node) if node == peer => Ok(record),
                _ => Err("its record is of another node".to_owned()),
            });
            let record = own.map_err(|reason| DiscoveryError::Stranger { peer, reason })?;
            Ok((record, reply.way))
        })
    }

    /// Signs our record if something in it changed or its time is half over.
    fn renew(&mut self, listen: Vec<Address>, external: Vec<Address>) -> Result<(), RecordError> {
        let now = self.clock.now();
        let all = self.external.iter().chain(&external).chain(&listen);
        let mut addresses: Vec<String> = Vec::new();
        for address in all {
            let is_useless = address.ip().is_some_and(|ip| ip.is_unspecified());
            let text = address.to_string();
            if !is_useless && !addresses.contains(&text) && addresses.len() < ADDRESSES {
                addresses.push(text);
            }
        }
        if let Some(ours) = &self.ours
            && ours.addresses() == addresses
            && now < self.fresh_until
        {
            return Ok(());
        }
        // Milliseconds, so that a restarted node goes on where it was.
        let by_time = now.since(Timestamp::EPOCH).as_millis();
        let by_time = u64::try_from(by_time).unwrap_or(u64::MAX);
        let last = self.ours.as_ref().map_or(0, Record::sequence);
        let announcement = Announcement {
            name: self.name.clone(),
            sequence: by_time.max(last.saturating_add(1)),
            issued_at: now,
            expires_at: now.plus(LIFETIME),
            scope: self.scope,
            addresses,
            // Behind a proxy a node does not know its own.
            url: None,
            offers: Vec::new(),
        };
        self.ours = Some(Record::sign(announcement, &self.keypair, &self.peer_key)?);
        self.fresh_until = now.plus(LIFETIME / 2);
        Ok(())
    }

    /// Dials the peers to begin with.
    fn begin(&self, ctx: &mut Context<Self>) {
        for address in self.bootstrap.clone() {
            let dialled = self.network.dial(address.clone());
            ctx.spawn(dialled.into_actor(self).map(move |dialled, _, _| {
                if let Err(error) = dialled {
                    tracing::warn!(%address, %error, "a peer to begin with cannot be reached");
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

/// Whose node a record is of.
fn node_of(record: &Record) -> Option<PeerName> {
    PeerName::of_ed25519(record.peer_key().as_bytes()).ok()
}

/// Whether somebody at `ip` is on this machine or in the same network, as far as an address can tell.
fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
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
                    self.tell(&asked, request);
                    return;
                }
                // It came before our first record was signed. Without one it would take us for nobody.
                ctx.spawn(self.renewed().map(move |renewed, this, _| {
                    if let Err(error) = renewed {
                        tracing::warn!(%error, "this agent cannot say who it is");
                    }
                    this.tell(&asked, request);
                }));
            }
            Event::Request(request) => self.answer_meeting(request, ctx),
            Event::PeerJoined(peer) => {
                self.publish_soon(ctx);
                let asked = self.ask(peer, &RecordsAsked::Own);
                ctx.spawn(asked.into_actor(self).map(move |told, this, _| match told {
                    Ok((record, _)) => {
                        tracing::info!(peer.id = %peer, agent.id = %record.id(), "a node joined");
                        this.remember(peer, record);
                    }
                    Err(error) => tracing::debug!(%error, "a node does not say whose it is"),
                }));
            }
            Event::AddressesChanged => self.publish_soon(ctx),
        }
    }
}
