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
use libp2p::multiaddr::Protocol as Part;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, autonat, identify, mdns, ping};
use tokio::sync::mpsc;

use crate::address::Address;
use crate::behaviour::{Behaviour, BehaviourEvent, TABLE};
use crate::key::PeerName;
use crate::network::{
    Answer, Command, Connection, Counts, Event, NetworkError, Protocol, Reply, Settings, Status,
    Way,
};
use crate::share::PerMinute;

mod exchange;
mod table;

use exchange::Made;
use table::Get;

/// Answers that are waited for at once, of each kind.
const WAITING_MAX: usize = 64;
/// Neighbours of the local network that are dialled.
const NEIGHBOURS_MAX: usize = 32;
/// Addresses of a peer that are taken over.
const ADDRESSES_MAX: usize = 8;
/// Peers whose records are counted in one minute.
const SOURCES_MAX: usize = 4_096;
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
    // Who is there.
    open: HashMap<ConnectionId, Open>,
    known: HashMap<PeerId, Known>,
    left: PerMinute<PeerId>,
    counts: Counts,
    reach: &'static str,
}

struct Open {
    peer: PeerId,
    endpoint: ConnectedPoint,
    round_trip: Option<Duration>,
}

/// What a connected peer said of itself.
struct Known {
    software: String,
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
            open: HashMap::new(),
            known: HashMap::new(),
            left,
            counts: Counts::default(),
            reach: "unknown",
        }
    }

    /// Runs until nobody can give a command any more.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                // Own work before what the network brings: a flood of it must not keep the owner out.
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.carry_out(command),
                    None => return,
                },
                Some(made) = self.answering.next(), if !self.answering.is_empty() => self.answer(made),
                event = self.swarm.select_next_some() => self.note(event),
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
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
            Command::Ask {
                protocol,
                peer,
                addresses,
                bytes,
                answer,
            } => {
                if self.asks.len() >= WAITING_MAX {
                    return tell(answer, Err(NetworkError::Busy));
                }
                let addresses = addresses.into_iter().take(ADDRESSES_MAX);
                let addresses = addresses.map(|address| address.0).collect();
                let exchange = self.exchange(protocol);
                let id = exchange.send_request_with_addresses(&peer.0, bytes, addresses);
                self.asks.insert((protocol, id), answer);
            }
        }
    }

    fn listen(&mut self, address: Address, answer: Answer<Address>) {
        if self.listens.len() >= WAITING_MAX {
            return tell(answer, Err(NetworkError::Busy));
        }
        match self.swarm.listen_on(address.0.clone()) {
            Ok(id) => {
                self.listens.insert(id, (address, answer));
            }
            Err(error) => {
                let reason = error.to_string();
                tell(answer, Err(NetworkError::Address { address, reason }));
            }
        }
    }

    fn dial(&mut self, address: Address, answer: Answer<PeerName>) {
        if self.dials.len() >= WAITING_MAX {
            return tell(answer, Err(NetworkError::Busy));
        }
        let wanted = address.peer();
        if let Some(peer) = wanted
            && self.swarm.is_connected(&peer.0)
        {
            return tell(answer, Ok(peer));
        }
        let options: DialOpts = match wanted {
            Some(peer) => DialOpts::peer_id(peer.0)
                .addresses(vec![address.0.clone()])
                .build(),
            None => address.0.clone().into(),
        };
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(id, answer);
            }
            Err(error) => tell(answer, Err(unreachable(address.to_string(), &error))),
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
            } => {
                if let Some(answer) = self.dials.remove(&connection_id) {
                    let peer = peer_id.map_or_else(|| "the peer".to_owned(), |p| p.to_string());
                    tell(answer, Err(unreachable(peer, &error)));
                }
            }
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
                if let Some((address, answer)) = self.listens.remove(&listener_id) {
                    tell(answer, Err(NetworkError::Address { address, reason }));
                }
                self.send(Event::AddressesChanged);
            }
            SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => self.send(Event::AddressesChanged),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener of libp2p has trouble");
            }
            other => tracing::trace!(event = ?other, "libp2p tells something"),
        }
    }

    fn opened(&mut self, peer: PeerId, id: ConnectionId, endpoint: ConnectedPoint) {
        if endpoint.is_listener() && self.is_crowded(&endpoint) {
            tracing::debug!(peer.id = %peer, "as many connections as allowed come from one address");
            self.swarm.close_connection(id);
        }
        let open = Open {
            peer,
            endpoint,
            round_trip: None,
        };
        self.open.insert(id, open);
        if let Some(answer) = self.dials.remove(&id) {
            tell(answer, Ok(PeerName(peer)));
        }
    }

    /// Whether there are as many connections from this machine as may be.
    fn is_crowded(&self, endpoint: &ConnectedPoint) -> bool {
        let Some(ip) = ip(endpoint.get_remote_address()) else {
            return false;
        };
        let from_there = self.open.values().filter(|open| {
            let address = open.endpoint.get_remote_address();
            open.endpoint.is_listener() && self::ip(address) == Some(ip)
        });
        from_there.count() >= self.settings.limits.per_address as usize
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
                for (peer, address) in found {
                    self.meet_neighbour(peer, address);
                }
            }
            BehaviourEvent::Table(event) => self.note_table(event),
            BehaviourEvent::Meetings(event) => self.exchanged(Protocol::Meeting, event),
            BehaviourEvent::Records(event) => self.exchanged(Protocol::Records, event),
            BehaviourEvent::Reach(autonat::Event::StatusChanged { new, .. }) => {
                let (reach, mode) = match new {
                    autonat::NatStatus::Public(_) => ("public", kad::Mode::Server),
                    // Nobody could come to look something up.
                    autonat::NatStatus::Private => ("private", kad::Mode::Client),
                    autonat::NatStatus::Unknown => ("unknown", kad::Mode::Server),
                };
                self.reach = reach;
                self.table().set_mode(Some(mode));
            }
            other => tracing::trace!(event = ?other, "libp2p tells something"),
        }
    }

    fn identified(&mut self, peer: PeerId, info: identify::Info, connection: ConnectionId) {
        let speaks = |name: &str| info.protocols.iter().any(|known| known.as_ref() == name);
        let is_ours = speaks(Protocol::Records.name());
        if speaks(TABLE.as_ref()) {
            let from = self.open.get(&connection);
            let from = from.and_then(|open| ip(open.endpoint.get_remote_address()));
            let told = info.listen_addrs.into_iter();
            let told = told.filter(|address| is_plausible(address, from));
            for address in told.take(ADDRESSES_MAX) {
                self.table().add_address(&peer, address);
            }
        }
        let clean = |c: &char| !c.is_control();
        let software = info.agent_version.chars().filter(clean).take(SOFTWARE_MAX);
        let known = Known {
            software: software.collect(),
        };
        if self.known.insert(peer, known).is_none() && is_ours {
            self.send(Event::PeerJoined(PeerName(peer)));
        }
    }

    fn meet_neighbour(&mut self, peer: PeerId, address: Multiaddr) {
        if self.swarm.is_connected(&peer) || self.known.len() >= NEIGHBOURS_MAX {
            return;
        }
        let options = DialOpts::peer_id(peer).addresses(vec![address]).build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(%error, "a neighbour is not dialled");
        }
    }

    fn way(&self, connection: ConnectionId) -> Way {
        match self.open.get(&connection) {
            Some(open) if open.endpoint.is_relayed() => Way::Relayed,
            _ => Way::Direct,
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
        let load = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        Status {
            peer: PeerName(*self.swarm.local_peer_id()),
            listen,
            external: external.collect(),
            peers: self.swarm.connected_peers().count(),
            table,
            records,
            records_refused: load(&self.counts.refused),
            requests_lost: load(&self.counts.lost),
            reach: self.reach,
        }
    }

    fn peers(&self) -> Vec<Connection> {
        let connections = self.open.values().map(|open| Connection {
            peer: PeerName(open.peer),
            address: Address(open.endpoint.get_remote_address().clone()),
            inbound: open.endpoint.is_listener(),
            way: match open.endpoint.is_relayed() {
                true => Way::Relayed,
                false => Way::Direct,
            },
            software: self
                .known
                .get(&open.peer)
                .map(|known| known.software.clone()),
            round_trip: open.round_trip,
        });
        let mut connections: Vec<Connection> = connections.collect();
        connections.sort_by_key(|connection| connection.peer);
        connections
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

fn unreachable(peer: String, error: &DialError) -> NetworkError {
    let reason = error.to_string();
    let reason = reason
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    NetworkError::Unreachable { peer, reason }
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    Address(address.clone()).ip()
}

/// Whether an address that a peer at `from` says it has may be its: nobody on another machine is at our loopback.
fn is_plausible(address: &Multiaddr, from: Option<IpAddr>) -> bool {
    let is_local = from.is_none_or(|from| from.is_loopback());
    address.iter().all(|part| match part {
        Part::Ip4(ip) => !ip.is_unspecified() && (is_local || !ip.is_loopback()),
        Part::Ip6(ip) => !ip.is_unspecified() && (is_local || !ip.is_loopback()),
        _ => true,
    })
}
