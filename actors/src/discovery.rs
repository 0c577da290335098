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
use futures::future::{BoxFuture, LocalBoxFuture, join_all};
use kairos_p2p::{
    Connection, Event, Judge, Kept, Network, NetworkError, NodeKey, Protocol, Request, Settings,
    StartError, Status,
};
use kairos_protocol::crypto::Keypair;
use kairos_protocol::id::AgentId;
use kairos_protocol::record::{Announcement, PeerKey, Record, RecordError, Scope, table_key};
use kairos_protocol::time::{Clock, Timestamp};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::bounded_addr::{AskError, Asks, BoundedAddr};
use crate::meeting::client::{Carried, Carrier};

mod ask;
mod message;
#[cfg(test)]
mod tests;

use ask::{RecordsAsked, RecordsTold};
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
    /// Where we answer over HTTP, if others may know.
    pub url: Option<String>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who may learn of us.
    pub scope: Scope,
    /// Where the node listens.
    pub listen: Vec<Address>,
    /// Where others reach it, if that is known.
    pub external: Vec<Address>,
    /// Whom it dials at first, and again when it is alone.
    pub bootstrap: Vec<Address>,
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
    url: Option<String>,
    scope: Scope,
    external: Vec<Address>,
    bootstrap: Vec<Address>,
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

/// Reaches the actor. Errands, which wait for others, have permits and patience of their own.
#[derive(Clone)]
pub struct DiscoveryHandle {
    arriving: BoundedAddr<DiscoveryActor>,
    begun: BoundedAddr<DiscoveryActor>,
}

impl DiscoveryHandle {
    /// See [`Show`].
    pub async fn show(&self) -> Result<Shown, DiscoveryError> {
        self.arriving.ask(Show).await?
    }

    /// See [`ListPeers`].
    pub async fn peers(&self) -> Result<Vec<Neighbour>, DiscoveryError> {
        self.arriving.ask(ListPeers).await?
    }

    /// See [`Find`].
    pub async fn find(&self, id: AgentId) -> Result<Option<Found>, DiscoveryError> {
        self.begun.ask(Find { id }).await?
    }

    /// See [`Dial`].
    pub async fn dial(&self, address: Address) -> Result<PeerName, DiscoveryError> {
        self.begun.ask(Dial { address }).await?
    }

    /// See [`Listen`].
    pub async fn listen(&self, address: Address) -> Result<Address, DiscoveryError> {
        self.begun.ask(Listen { address }).await?
    }

    /// See [`Bootstrap`].
    pub async fn bootstrap(&self) -> Result<usize, DiscoveryError> {
        self.begun.ask(Bootstrap).await?
    }

    /// See [`RecordOf`].
    pub async fn record_of(&self, peer: PeerName) -> Result<(Record, Way), DiscoveryError> {
        self.begun.ask(RecordOf { peer }).await?
    }

    /// See [`Carry`].
    pub async fn carry(&self, peer: PeerName, message: Vec<u8>) -> Result<Carried, DiscoveryError> {
        self.begun.ask(Carry { peer, message }).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.arriving.asks()
    }

    /// The same for errands.
    pub fn errand_asks(&self) -> &Arc<Asks> {
        self.begun.asks()
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), DiscoveryError> {
        self.arriving.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), DiscoveryError> {
        self.arriving.ask(Shutdown).await?
    }
}

impl Carrier for DiscoveryHandle {
    fn carry(
        &self,
        peer: PeerName,
        message: Vec<u8>,
    ) -> BoxFuture<'static, Result<Carried, String>> {
        let handle = self.clone();
        let carried = async move { DiscoveryHandle::carry(&handle, peer, message).await };
        Box::pin(async move { carried.await.map_err(|error| error.to_string()) })
    }

    fn record(&self, peer: PeerName) -> BoxFuture<'static, Result<(Record, Way), String>> {
        let handle = self.clone();
        Box::pin(async move {
            handle
                .record_of(peer)
                .await
                .map_err(|error| error.to_string())
        })
    }
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
            url: parts.url,
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
        let by_time = u64::try_from(now.as_secs()).unwrap_or_default() * 1_000;
        let last = self.ours.as_ref().map_or(0, Record::sequence);
        let announcement = Announcement {
            name: self.name.clone(),
            sequence: by_time.max(last.saturating_add(1)),
            issued_at: now,
            expires_at: now.plus(LIFETIME),
            scope: self.scope,
            addresses,
            url: self.url.clone(),
            offers: Vec::new(),
        };
        self.ours = Some(Record::sign(announcement, &self.keypair, &self.peer_key)?);
        self.fresh_until = now.plus(LIFETIME / 2);
        Ok(())
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
        for address in self.bootstrap.clone() {
            let dialled = self.network.dial(address.clone());
            ctx.spawn(dialled.into_actor(self).map(move |dialled, _, _| {
                if let Err(error) = dialled {
                    tracing::warn!(%address, %error, "a peer to begin with cannot be reached");
                }
            }));
        }
    }
}

/// Ends with the node: then nobody answers for it, and the watchdog tells.
impl StreamHandler<Event> for DiscoveryActor {
    fn handle(&mut self, event: Event, ctx: &mut Self::Context) {
        match event {
            Event::Request(request) if request.protocol == Protocol::Records => {
                let told = match RecordsAsked::read(&request.bytes) {
                    Some(asked) => self.told(&asked, request.address),
                    None => return,
                };
                if request.answer.send(told.to_bytes()).is_err() {
                    tracing::debug!(peer.id = %request.peer, "a peer went before it had its answer");
                }
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

impl Handler<Publish> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, _: Publish, ctx: &mut Self::Context) {
        self.is_due = false;
        if std::mem::replace(&mut self.is_publishing, true) {
            // What changed meanwhile is looked at afterwards.
            self.publish_soon(ctx);
            return;
        }
        let network = self.network.clone();
        let looked = async move { network.status().await };
        let renewed = looked.into_actor(self).map(|status, this, _| {
            let Status {
                listen, external, ..
            } = status?;
            this.renew(listen, external)?;
            Ok::<_, DiscoveryError>(this.ours.clone())
        });
        let published = renewed.then(|ours, this, _| {
            let network = this.network.clone();
            let is_public = this.scope == Scope::World;
            async move {
                let Some(ours) = ours? else {
                    return Ok(Published::Nowhere);
                };
                if !is_public {
                    return Ok(Published::Nearby);
                }
                match network.put(table_key(ours.id()), ours.to_bytes()).await {
                    Ok(()) => Ok(Published::Table),
                    // Nobody is there yet; whoever joins makes us try again.
                    Err(NetworkError::NotStored(_)) => Ok(Published::Nowhere),
                    Err(error) => Err(DiscoveryError::from(error)),
                }
            }
            .into_actor(this)
        });
        ctx.spawn(published.map(|published, this, _| {
            this.is_publishing = false;
            match published {
                Ok(published) => this.published = published,
                Err(error) => {
                    this.published = Published::Nowhere;
                    tracing::warn!(%error, "this agent is not announced");
                }
            }
        }));
    }
}

impl Handler<Show> for DiscoveryActor {
    type Result = ResponseFuture<Result<Shown, DiscoveryError>>;

    fn handle(&mut self, _: Show, _ctx: &mut Self::Context) -> Self::Result {
        let status = self.network.status();
        let (ours, scope, published) = (self.ours.clone(), self.scope, self.published);
        Box::pin(async move {
            let status = status.await?;
            Ok(Shown {
                status,
                scope,
                published,
                sequence: ours.as_ref().map(Record::sequence),
                expires_at: ours.as_ref().map(Record::expires_at),
            })
        })
    }
}

impl Handler<ListPeers> for DiscoveryActor {
    type Result = ResponseActFuture<Self, Result<Vec<Neighbour>, DiscoveryError>>;

    fn handle(&mut self, _: ListPeers, _ctx: &mut Self::Context) -> Self::Result {
        let peers = self.network.peers();
        Box::pin(peers.into_actor(self).map(|peers, this, _| {
            let now = this.clock.now();
            let with_record = |connection: Connection| {
                let record = this.known.get(&connection.peer);
                let record = record.filter(|record| record.is_current(now).is_ok());
                let agent = record.map(|record| (record.id().clone(), record.name().to_owned()));
                Neighbour { connection, agent }
            };
            Ok(peers?.into_iter().map(with_record).collect())
        }))
    }
}

impl Handler<Find> for DiscoveryActor {
    type Result = ResponseActFuture<Self, Result<Option<Found>, DiscoveryError>>;

    /// Looks in the table of the network and asks who is connected, both at this moment. What was heard before only says
    /// whom to ask.
    fn handle(&mut self, Find { id }: Find, _ctx: &mut Self::Context) -> Self::Result {
        let (network, clock) = (self.network.clone(), Arc::clone(&self.clock));
        let in_table = self.network.get(table_key(&id));
        let wanted = id.clone();
        let in_table = async move {
            let found = in_table.await?;
            let read = found.and_then(|bytes| Record::read(&bytes, clock.now()).ok());
            Ok::<_, DiscoveryError>(read.filter(|record| *record.id() == wanted))
        };
        let nearby = async move { network.peers().await };
        let nearby = nearby.into_actor(self).then(move |peers, this, _| {
            let mut peers: Vec<PeerName> = peers
                .unwrap_or_default()
                .into_iter()
                .map(|connection| connection.peer)
                .collect();
            peers.dedup();
            // Who said that it is the one comes first.
            let is_it = |peer: &PeerName| this.known.get(peer).is_some_and(|r| *r.id() == id);
            peers.sort_by_key(|peer| !is_it(peer));
            let asked = RecordsAsked::Agent(id);
            let asks = peers.into_iter().take(ASKED_MAX);
            let asks: Vec<_> = asks.map(|peer| this.ask(peer, &asked)).collect();
            join_all(asks).into_actor(this)
        });
        let in_table = in_table.into_actor(self);
        let found =
            nearby.then(move |nearby, _, _| in_table.map(move |table, _, _| (table, nearby)));
        Box::pin(found.map(|(table, nearby), this, _| {
            let mut all: Vec<Record> = nearby.into_iter().flatten().map(|(r, _)| r).collect();
            let connected = all.clone();
            all.extend(table?);
            let best = all.into_iter().max_by_key(Record::sequence);
            let Some((record, peer)) = best.and_then(|r| node_of(&r).map(|peer| (r, peer))) else {
                return Ok(None);
            };
            this.remember(peer, record.clone());
            let is_connected = connected
                .iter()
                .any(|near| near.peer_key() == record.peer_key());
            Ok(Some(Found {
                record,
                peer,
                is_connected,
            }))
        }))
    }
}

impl Handler<Dial> for DiscoveryActor {
    type Result = ResponseFuture<Result<PeerName, DiscoveryError>>;

    fn handle(&mut self, Dial { address }: Dial, _ctx: &mut Self::Context) -> Self::Result {
        let dialled = self.network.dial(address);
        Box::pin(async move { Ok(dialled.await?) })
    }
}

impl Handler<Listen> for DiscoveryActor {
    type Result = ResponseFuture<Result<Address, DiscoveryError>>;

    fn handle(&mut self, Listen { address }: Listen, _ctx: &mut Self::Context) -> Self::Result {
        let listening = self.network.listen(address);
        Box::pin(async move { Ok(listening.await?) })
    }
}

impl Handler<Bootstrap> for DiscoveryActor {
    type Result = ResponseFuture<Result<usize, DiscoveryError>>;

    fn handle(&mut self, _: Bootstrap, _ctx: &mut Self::Context) -> Self::Result {
        let dials: Vec<_> = self
            .bootstrap
            .iter()
            .cloned()
            .map(|a| self.network.dial(a))
            .collect();
        let network = self.network.clone();
        Box::pin(async move {
            let looked = async { network.bootstrap().await };
            let dialled = join_all(dials).await;
            let reached = dialled.iter().filter(|dialled| dialled.is_ok()).count();
            // With nobody in the table there is nowhere to look, which is no fault if a peer was just reached.
            match (looked.await, reached) {
                (Err(error), 0) => Err(error.into()),
                _ => Ok(reached),
            }
        })
    }
}

impl Handler<RecordOf> for DiscoveryActor {
    type Result = ResponseActFuture<Self, Result<(Record, Way), DiscoveryError>>;

    fn handle(&mut self, RecordOf { peer }: RecordOf, _ctx: &mut Self::Context) -> Self::Result {
        let asked = self.ask(peer, &RecordsAsked::Own);
        Box::pin(asked.into_actor(self).map(move |told, this, _| {
            let (record, way) = told?;
            this.remember(peer, record.clone());
            Ok((record, way))
        }))
    }
}

impl Handler<Carry> for DiscoveryActor {
    type Result = ResponseFuture<Result<Carried, DiscoveryError>>;

    fn handle(&mut self, Carry { peer, message }: Carry, _ctx: &mut Self::Context) -> Self::Result {
        let addresses = self.addresses(peer);
        let asked = self
            .network
            .ask(Protocol::Meeting, peer, addresses, message);
        Box::pin(async move {
            let reply = asked.await?;
            Ok(Carried {
                message: reply.bytes,
                way: reply.way,
            })
        })
    }
}

impl Handler<Health> for DiscoveryActor {
    type Result = ResponseFuture<Result<(), DiscoveryError>>;

    /// The loop of the node has to answer, too.
    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) -> Self::Result {
        let status = self.network.status();
        Box::pin(async move { Ok(status.await.map(drop)?) })
    }
}

impl Handler<Shutdown> for DiscoveryActor {
    type Result = Result<(), DiscoveryError>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Ok(())
    }
}
