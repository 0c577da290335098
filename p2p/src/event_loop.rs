//! The loop: alone owns the swarm, carries out commands, and keeps who waits for which answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::kad::store::RecordStore as _;
use libp2p::kad::{self, QueryId};
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::{ConnectionId, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, autonat, dcutr, identify, mdns, ping};
use tokio::sync::mpsc;

use crate::address::Address;
use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::figures::Figures;
use crate::key::PeerName;
use crate::network::{
    Answer, Command, Event, NetworkError, Protocol, Reach, Reply, Settings, Status,
};
use crate::share::PerMinute;

mod connections;
mod exchange;
mod neighbours;
mod registers;
mod relays;
mod table;

use exchange::{Dial, Errand, Made};
use neighbours::Neighbours;
use registers::Registers;
use table::Get;

/// Answers that are waited for at once, of each kind.
const WAITING_MAX: usize = 64;
/// Addresses of a peer that are taken over.
const ADDRESSES_MAX: usize = 8;
/// Peers whose records are counted in one minute.
const SOURCES_MAX: usize = 4_096;
/// How long the closing of connections may take at the end.
const LEAVING_MAX: Duration = Duration::from_millis(500);
/// Longest name of a program that is shown.
const SOFTWARE_MAX: usize = 64;

/// See the module.
pub(crate) struct EventLoop {
    swarm: Swarm<Behaviour>,
    settings: Settings,
    // Channels.
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Answers that are made for peers.
    answering: FuturesUnordered<BoxFuture<'static, Made>>,
    // Who waits.
    dials: HashMap<ConnectionId, Answer<PeerName>>,
    listens: HashMap<ListenerId, (Address, Answer<Address>)>,
    puts: HashMap<QueryId, Answer<()>>,
    gets: HashMap<QueryId, Get>,
    looks: HashMap<QueryId, Answer<()>>,
    /// Both protocols count their own ids.
    asks: HashMap<(Protocol, OutboundRequestId), Answer<Reply>>,
    /// Requests for peers that are dialled first.
    errands: HashMap<ConnectionId, Dial>,
    // Who is there.
    open: HashMap<ConnectionId, Open>,
    known: HashMap<PeerId, Known>,
    neighbours: Neighbours,
    left: PerMinute<PeerId>,
    figures: Figures,
    reach: Reach,
    /// Our places at relays.
    circuits: HashMap<ListenerId, PeerId>,
    registers: Registers,
}

struct Open {
    peer: PeerId,
    endpoint: ConnectedPoint,
    round_trip: Option<Duration>,
}

/// What a connected peer said of itself.
struct Known {
    software: String,
    /// Where we would have a place, if it is a relay.
    relay: Option<Multiaddr>,
    /// Whether it keeps a register.
    is_registrar: bool,
}

impl EventLoop {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        settings: Settings,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let left = PerMinute::new(
            settings.limits.records_per_minute,
            SOURCES_MAX,
            Instant::now(),
        );
        Self {
            swarm,
            settings,
            commands,
            events,
            answering: FuturesUnordered::new(),
            dials: HashMap::new(),
            listens: HashMap::new(),
            puts: HashMap::new(),
            gets: HashMap::new(),
            looks: HashMap::new(),
            asks: HashMap::new(),
            errands: HashMap::new(),
            open: HashMap::new(),
            known: HashMap::new(),
            neighbours: Neighbours::default(),
            left,
            figures: Figures::default(),
            reach: Reach::Unknown,
            circuits: HashMap::new(),
            registers: Registers::default(),
        }
    }

    /// Runs until nobody can give a command any more.
    pub(crate) async fn run(mut self) {
        loop {
            let due = [
                self.neighbours.next(),
                self.next_enough(),
                self.next_found(),
            ];
            let due = due.into_iter().flatten().min();
            tokio::select! {
                // Own work before what the network brings: a flood of it must not keep the owner out.
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Leave(answer)) => {
                        self.leave().await;
                        return tell(answer, Ok(()));
                    }
                    Some(command) => self.carry_out(command),
                    None => return self.leave().await,
                },
                Some(made) = self.answering.next(), if !self.answering.is_empty() => self.answer(made),
                () = at(due) => {
                    self.meet_neighbours();
                    self.end_lookups();
                    self.end_look();
                }
                event = self.swarm.select_next_some() => self.note(event),
            }
        }
    }

    /// Tells peers that we go, and waits a moment until that is sent.
    async fn leave(&mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            if self.swarm.disconnect_peer_id(peer).is_err() {
                tracing::trace!(peer.id = %peer, "a peer went before us");
            }
        }
        let gone = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.next().await;
            }
        };
        if tokio::time::timeout(LEAVING_MAX, gone).await.is_err() {
            tracing::debug!("not every connection of libp2p was closed in order");
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            // The loop ends with it.
            Command::Leave(answer) => tell(answer, Ok(())),
            Command::Status(answer) => {
                let status = self.status();
                tell(answer, Ok(status));
            }
            Command::Peers(answer) => tell(answer, Ok(self.peers())),
            Command::Dial(address, answer) => self.dial(address, answer),
            Command::Listen(address, answer) => self.listen(address, answer),
            Command::Bootstrap(answer) => self.look_around(answer),
            Command::Put { key, value, answer } => self.put(key, value, answer),
            Command::Get(key, answer) => self.get(key, answer),
            Command::Register(topics, answer) => self.register_under(topics, answer),
            Command::LookUp(topic, answer) => self.look_up(topic, answer),
            Command::Ask {
                protocol,
                peer,
                addresses,
                bytes,
                answer,
            } => {
                let errand = Errand {
                    protocol,
                    peer,
                    bytes,
                    answer,
                };
                self.ask(errand, addresses);
            }
        }
    }

    fn note(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.note_behaviour(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => self.opened(peer_id, connection_id, endpoint),
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                ..
            } => {
                self.open.remove(&connection_id);
                if num_established == 0 {
                    self.known.remove(&peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => self.failed(connection_id, peer_id, &error),
            SwarmEvent::IncomingConnectionError {
                error: ListenError::Denied { cause },
                ..
            } => self.refused(&cause),
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                tracing::info!(%address, "libp2p listens");
                if let Some((_, answer)) = self.listens.remove(&listener_id) {
                    tell(answer, Ok(Address(address)));
                }
                self.send(Event::AddressesChanged);
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                ..
            } => {
                let reason = match reason {
                    Ok(()) => "it was closed".to_owned(),
                    Err(error) => error.to_string(),
                };
                tracing::warn!(%reason, "libp2p listens no longer at one of its addresses");
                self.circuits.remove(&listener_id);
                if let Some((address, answer)) = self.listens.remove(&listener_id) {
                    tell(answer, Err(NetworkError::Address { address, reason }));
                }
                self.send(Event::AddressesChanged);
            }
            SwarmEvent::ExternalAddrConfirmed { .. } => {
                self.register_anew();
                self.send(Event::AddressesChanged);
            }
            SwarmEvent::ExpiredListenAddr { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                self.send(Event::AddressesChanged)
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener of libp2p has trouble");
            }
            other => tracing::trace!(event = ?other, "libp2p tells something"),
        }
    }

    fn note_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                connection_id,
            }) => self.identified(peer_id, info, connection_id),
            BehaviourEvent::Ping(ping::Event {
                connection,
                result: Ok(took),
                ..
            }) => {
                if let Some(open) = self.open.get_mut(&connection) {
                    open.round_trip = Some(took);
                }
            }
            BehaviourEvent::Neighbours(mdns::Event::Discovered(found)) => {
                self.neighbours_shown(found);
            }
            BehaviourEvent::Neighbours(mdns::Event::Expired(gone)) => {
                self.neighbours_ran_out(&gone);
            }
            BehaviourEvent::Table(event) => self.note_table(event),
            BehaviourEvent::Meetings(event) => self.exchanged(Protocol::Meeting, event),
            BehaviourEvent::Records(event) => self.exchanged(Protocol::Records, event),
            BehaviourEvent::Reach(autonat::Event::StatusChanged { new, .. }) => {
                let (reach, mode) = match new {
                    autonat::NatStatus::Public(_) => (Reach::Public, kad::Mode::Server),
                    // Nobody could come to look something up.
                    autonat::NatStatus::Private => (Reach::Private, kad::Mode::Client),
                    autonat::NatStatus::Unknown => (Reach::Unknown, kad::Mode::Server),
                };
                self.reach = reach;
                self.table().set_mode(Some(mode));
                self.seek_relays();
            }
            BehaviourEvent::Relay(event) => self.relayed(&event),
            BehaviourEvent::Registered(event) => self.looked_up(event),
            BehaviourEvent::Register(event) => {
                tracing::trace!(?event, "our register tells something");
            }
            BehaviourEvent::Punch(dcutr::Event { result, .. }) => match result {
                Ok(_) => self.figures.punched += 1,
                Err(_) => self.figures.punches_failed += 1,
            },
            other => tracing::trace!(event = ?other, "libp2p tells something"),
        }
    }

    fn status(&mut self) -> Status {
        let table: usize = self
            .table()
            .kbuckets()
            .map(|bucket| bucket.num_entries())
            .sum();
        let records = self.table().store_mut().records().count();
        let listen = self.swarm.listeners().cloned().map(Address).collect();
        let external = self.swarm.external_addresses().cloned().map(Address);
        let inbound = self
            .open
            .values()
            .filter(|open| open.endpoint.is_listener());
        let inbound = inbound.count();
        Status {
            peer: PeerName(*self.swarm.local_peer_id()),
            listen,
            external: external.collect(),
            peers: self.swarm.connected_peers().count(),
            table,
            records,
            inbound,
            outbound: self.open.len() - inbound,
            figures: self.figures,
            reach: self.reach,
        }
    }

    /// Tells that something changed. One that finds no room is not missed: its reader has others to look after.
    fn send(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            tracing::debug!("events of libp2p are not read");
        }
    }
}

/// Answers whoever asked, if still there.
fn tell<T>(answer: Answer<T>, told: Result<T, NetworkError>) {
    if answer.send(told).is_err() {
        tracing::debug!("nobody waits for an answer of libp2p any more");
    }
}

/// Waits until then, or for ever.
async fn at(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then.into()).await,
        None => std::future::pending().await,
    }
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    Address(address.clone()).ip()
}
