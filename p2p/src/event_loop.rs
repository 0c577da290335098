//! The loop: alone owns the swarm, carries out commands, and keeps who waits for which answer.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::kad::store::RecordStore as _;
use libp2p::kad::{self, QueryId};
use libp2p::multiaddr::Protocol as Part;
use libp2p::request_response::{self, OutboundRequestId, ResponseChannel};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, autonat, identify, mdns, ping};
use tokio::sync::mpsc;

use crate::address::Address;
use crate::behaviour::{Behaviour, BehaviourEvent, TABLE};
use crate::key::PeerName;
use crate::network::{
    Answer, Command, Connection, Counts, Event, Kept, NetworkError, Protocol, Reply, Request,
    Settings, Status, Way,
};
use crate::share::PerMinute;

/// Answers that are waited for at once, of each kind.
const WAITING_MAX: usize = 64;
/// Neighbours of the local network that are dialled.
const NEIGHBOURS_MAX: usize = 32;
/// Addresses of a peer that are taken over.
const ADDRESSES_MAX: usize = 8;
/// Peers that say they have something.
const PROVIDERS_MAX: usize = 20;
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
    listens: HashMap<ListenerId, Answer<Address>>,
    puts: HashMap<QueryId, Answer<()>>,
    gets: HashMap<QueryId, Get>,
    provisions: HashMap<QueryId, Answer<()>>,
    searches: HashMap<QueryId, (HashSet<PeerId>, Answer<Vec<PeerName>>)>,
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

struct Get {
    best: Option<(Kept, Vec<u8>)>,
    answer: Answer<Option<Vec<u8>>>,
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

/// An answer for a peer, or none.
struct Made {
    protocol: Protocol,
    channel: ResponseChannel<Vec<u8>>,
    bytes: Option<Vec<u8>>,
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
            provisions: HashMap::new(),
            searches: HashMap::new(),
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
            Command::Listen(address, answer) => match self.swarm.listen_on(address.0.clone()) {
                Ok(id) if self.listens.len() < WAITING_MAX => {
                    self.listens.insert(id, answer);
                }
                Ok(_) => tell(answer, Err(NetworkError::Busy)),
                Err(error) => {
                    let reason = error.to_string();
                    tell(answer, Err(NetworkError::Address { address, reason }));
                }
            },
            Command::Bootstrap(answer) => match self.table().bootstrap() {
                Ok(id) if self.looks.len() < WAITING_MAX => {
                    self.looks.insert(id, answer);
                }
                Ok(_) => tell(answer, Err(NetworkError::Busy)),
                Err(_) => {
                    let (peer, reason) = ("the network".to_owned(), "no peer is known".to_owned());
                    tell(answer, Err(NetworkError::Unreachable { peer, reason }));
                }
            },
            Command::Put { key, value, answer } => self.put(key, value, answer),
            Command::Get(key, answer) => {
                if self.gets.len() >= WAITING_MAX {
                    return tell(answer, Err(NetworkError::Busy));
                }
                let id = self.table().get_record(kad::RecordKey::from(key));
                self.gets.insert(id, Get { best: None, answer });
            }
            Command::Forget(key, answer) => {
                self.table().remove_record(&kad::RecordKey::from(key));
                tell(answer, Ok(()));
            }
            Command::Provide(key, answer) => {
                match self.table().start_providing(kad::RecordKey::from(key)) {
                    Ok(id) if self.provisions.len() < WAITING_MAX => {
                        self.provisions.insert(id, answer);
                    }
                    Ok(_) => tell(answer, Err(NetworkError::Busy)),
                    Err(error) => tell(answer, Err(NetworkError::NotStored(error.to_string()))),
                }
            }
            Command::Withdraw(key, answer) => {
                self.table().stop_providing(&kad::RecordKey::from(key));
                tell(answer, Ok(()));
            }
            Command::Providers(key, answer) => {
                if self.searches.len() >= WAITING_MAX {
                    return tell(answer, Err(NetworkError::Busy));
                }
                let id = self.table().get_providers(kad::RecordKey::from(key));
                self.searches.insert(id, (HashSet::new(), answer));
            }
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

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>, answer: Answer<()>) {
        if self.puts.len() >= WAITING_MAX {
            return tell(answer, Err(NetworkError::Busy));
        }
        let kept = match (self.settings.judge)(&key, &value) {
            Ok(kept) => kept,
            Err(reason) => return tell(answer, Err(NetworkError::NotStored(reason))),
        };
        let record = kad::Record {
            key: kad::RecordKey::from(key),
            value,
            publisher: None,
            expires: Some(Instant::now() + kept.lifetime),
        };
        match self.table().put_record(record, kad::Quorum::One) {
            Ok(id) => {
                self.puts.insert(id, answer);
            }
            Err(error) => tell(answer, Err(NetworkError::NotStored(error.to_string()))),
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
                if let Some(answer) = self.listens.remove(&listener_id) {
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
                if let Some(answer) = self.listens.remove(&listener_id) {
                    tell(answer, Err(NetworkError::NotStored(reason)));
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

    fn note_table(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request:
                    kad::InboundRequest::PutRecord {
                        source,
                        record: Some(record),
                        ..
                    },
            } => self.take_record(source, record),
            kad::Event::InboundRequest {
                request:
                    kad::InboundRequest::AddProvider {
                        record: Some(record),
                    },
            } => {
                // What it says is asked of the provider itself, in a signed record; here it only takes room.
                let provider = record.provider;
                if !self.left.admit(provider, Instant::now())
                    || self.table().store_mut().add_provider(record).is_err()
                {
                    Counts::add(&self.counts.refused);
                }
            }
            kad::Event::OutboundQueryProgressed {
                id, result, step, ..
            } => self.progressed(id, result, step.last),
            other => tracing::trace!(event = ?other, "the table tells something"),
        }
    }

    /// Stores a record of a peer's if it is good, within the peer's share, and newer than what is there.
    fn take_record(&mut self, source: PeerId, mut record: kad::Record) {
        let refused = match self.left.admit(source, Instant::now()) {
            false => Err("too many in a minute".to_owned()),
            true => self.judge(&record),
        };
        let refused = refused.and_then(|kept| {
            let held = self
                .table()
                .store_mut()
                .get(&record.key)
                .map(|r| r.into_owned());
            let held = held.and_then(|held| self.judge(&held).ok());
            if held.is_some_and(|held| held.sequence >= kept.sequence) {
                return Ok(());
            }
            record.expires = Some(Instant::now() + kept.lifetime);
            record.publisher = None;
            let put = self.table().store_mut().put(record);
            put.map_err(|error| error.to_string())
        });
        if let Err(reason) = refused {
            Counts::add(&self.counts.refused);
            tracing::debug!(peer.id = %source, %reason, "a record was refused");
        }
    }

    fn judge(&self, record: &kad::Record) -> Result<Kept, String> {
        if record.value.len() > self.settings.limits.record {
            return Err("it is too large".to_owned());
        }
        (self.settings.judge)(record.key.as_ref(), &record.value)
    }

    fn progressed(&mut self, id: QueryId, result: kad::QueryResult, last: bool) {
        use kad::QueryResult as Result;
        match result {
            Result::GetRecord(found) => {
                if let Ok(kad::GetRecordOk::FoundRecord(found)) = found {
                    let judged = self.judge(&found.record);
                    if let (Ok(kept), Some(get)) = (judged, self.gets.get_mut(&id)) {
                        let best = get.best.as_ref().map(|(best, _)| best.sequence);
                        if best.is_none_or(|best| best < kept.sequence) {
                            get.best = Some((kept, found.record.value));
                        }
                    }
                }
                if last && let Some(get) = self.gets.remove(&id) {
                    tell(get.answer, Ok(get.best.map(|(_, value)| value)));
                }
            }
            Result::PutRecord(put) => {
                if let Some(answer) = self.puts.remove(&id) {
                    let told = put.map(drop);
                    tell(
                        answer,
                        told.map_err(|e| NetworkError::NotStored(e.to_string())),
                    );
                }
            }
            Result::StartProviding(told) => {
                if let Some(answer) = self.provisions.remove(&id) {
                    let told = told.map(drop);
                    tell(
                        answer,
                        told.map_err(|e| NetworkError::NotStored(e.to_string())),
                    );
                }
            }
            Result::GetProviders(found) => {
                if let Ok(kad::GetProvidersOk::FoundProviders { providers, .. }) = found
                    && let Some((all, _)) = self.searches.get_mut(&id)
                {
                    let room = PROVIDERS_MAX.saturating_sub(all.len());
                    all.extend(providers.into_iter().take(room));
                }
                if last && let Some((all, answer)) = self.searches.remove(&id) {
                    tell(answer, Ok(all.into_iter().map(PeerName).collect()));
                }
            }
            Result::Bootstrap(_) if last => {
                if let Some(answer) = self.looks.remove(&id) {
                    tell(answer, Ok(()));
                }
            }
            _ => {}
        }
    }

    fn exchanged(&mut self, protocol: Protocol, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        use request_response::{Event as Exchange, Message};
        match event {
            Exchange::Message {
                peer,
                connection_id,
                message:
                    Message::Request {
                        request, channel, ..
                    },
            } => self.hand_over(protocol, peer, connection_id, request, channel),
            Exchange::Message {
                connection_id,
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                let way = self.way(connection_id);
                if let Some(answer) = self.asks.remove(&(protocol, request_id)) {
                    let bytes = response;
                    tell(answer, Ok(Reply { bytes, way }));
                }
            }
            Exchange::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                if let Some(answer) = self.asks.remove(&(protocol, request_id)) {
                    let (peer, reason) = (PeerName(peer), error.to_string());
                    tell(answer, Err(NetworkError::NoAnswer { peer, reason }));
                }
            }
            Exchange::InboundFailure { peer, error, .. } => {
                tracing::debug!(peer.id = %peer, %error, "a peer got no answer");
            }
            Exchange::ResponseSent { .. } => {}
        }
    }

    /// Hands a peer's request to whoever reads the events, and waits for the answer beside everything else.
    fn hand_over(
        &mut self,
        protocol: Protocol,
        peer: PeerId,
        connection: ConnectionId,
        bytes: Vec<u8>,
        channel: ResponseChannel<Vec<u8>>,
    ) {
        let (answer, told) = tokio::sync::oneshot::channel();
        let open = self.open.get(&connection);
        let request = Request {
            peer: PeerName(peer),
            address: open.and_then(|open| ip(open.endpoint.get_remote_address())),
            way: self.way(connection),
            protocol,
            bytes,
            answer,
        };
        if self.events.try_send(Event::Request(request)).is_err() {
            // Dropping the channel ends the peer's stream.
            Counts::add(&self.counts.lost);
            return;
        }
        let made = told.map(move |told| Made {
            protocol,
            channel,
            bytes: told.ok(),
        });
        self.answering.push(made.boxed());
    }

    fn answer(&mut self, made: Made) {
        let Made {
            protocol,
            channel,
            bytes,
        } = made;
        let Some(bytes) = bytes else { return };
        if self
            .exchange(protocol)
            .send_response(channel, bytes)
            .is_err()
        {
            tracing::debug!("a peer went before it had its answer");
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

    fn table(&mut self) -> &mut kad::Behaviour<kad::store::MemoryStore> {
        &mut self.swarm.behaviour_mut().table
    }

    fn exchange(
        &mut self,
        protocol: Protocol,
    ) -> &mut request_response::Behaviour<crate::codec::Frames> {
        match protocol {
            Protocol::Meeting => &mut self.swarm.behaviour_mut().meetings,
            Protocol::Records => &mut self.swarm.behaviour_mut().records,
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
