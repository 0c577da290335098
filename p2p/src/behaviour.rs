//! What a node does in the network: the parts of libp2p it is made of, and their bounds.

use std::time::Duration;

use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    StreamProtocol, autonat, connection_limits, dcutr, identify, kad, mdns,
    memory_connection_limits, ping, relay, rendezvous,
};

use crate::codec::Frames;
use crate::limits::Limits;
use crate::network::{Protocol, Settings, StartError};

/// The table of the network; nodes of other networks speak another one and never meet ours.
pub(crate) const TABLE: StreamProtocol = StreamProtocol::new("/kairos/kad/1");
/// What nodes speak that keep a register.
pub(crate) const REGISTER: StreamProtocol = rendezvous::PROTOCOL_NAME;
/// What nodes call themselves.
const FAMILY: &str = "kairos/1";
/// Topics under which one node is in a register.
pub const TOPICS_MAX: usize = 32;
/// How many places in its register a node remembers that others read up to; ours never ask for what follows.
const COOKIES: usize = 256;
/// How often each peer is asked for a sign of life.
const PING: Duration = Duration::from_secs(60);
/// After which time from the start on others are asked whether they reach us: time enough to dial those we begin with.
const FIRST_ASKED: Duration = Duration::from_secs(3);

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // First, so that a connection beyond the bounds is refused before anything else looks at it.
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) memory: Toggle<memory_connection_limits::Behaviour>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) table: kad::Behaviour<MemoryStore>,
    pub(crate) meetings: request_response::Behaviour<Frames>,
    pub(crate) records: request_response::Behaviour<Frames>,
    pub(crate) neighbours: Toggle<mdns::tokio::Behaviour>,
    pub(crate) relayed: relay::client::Behaviour,
    pub(crate) relay: Toggle<relay::Behaviour>,
    pub(crate) punch: dcutr::Behaviour,
    pub(crate) reach: Toggle<autonat::Behaviour>,
    pub(crate) registered: rendezvous::client::Behaviour,
    pub(crate) register: Toggle<rendezvous::server::Behaviour>,
}

impl Behaviour {
    pub(crate) fn new(
        settings: &Settings,
        relayed: relay::client::Behaviour,
    ) -> Result<Self, StartError> {
        let limits = &settings.limits;
        let (public, own) = (settings.key.0.public(), settings.key.name().0);
        let connections = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(limits.pending))
            .with_max_pending_outgoing(Some(limits.pending))
            .with_max_established_incoming(Some(limits.incoming))
            .with_max_established_outgoing(Some(limits.outgoing))
            .with_max_established_per_peer(Some(limits.per_peer));
        let memory = limits.memory;
        let memory = memory.map(memory_connection_limits::Behaviour::with_max_bytes);
        let identify = identify::Config::new(FAMILY.to_owned(), public)
            .with_agent_version(settings.software.clone())
            .with_push_listen_addr_updates(true)
            .with_cache_size(0);
        let neighbours = match settings.mdns {
            true => Some(mdns::tokio::Behaviour::new(mdns::Config::default(), own)?),
            false => None,
        };
        let relay = settings
            .relay
            .then(|| relay::Behaviour::new(own, relayed_for_others(limits)));
        let reach = settings
            .autonat
            .then(|| autonat::Behaviour::new(own, asked_whether_reached()));
        Ok(Self {
            limits: connection_limits::Behaviour::new(connections),
            memory: memory.into(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING)),
            table: table(settings),
            meetings: exchange(settings, Protocol::Meeting),
            records: exchange(settings, Protocol::Records),
            neighbours: neighbours.into(),
            relayed,
            relay: relay.into(),
            punch: dcutr::Behaviour::new(own),
            reach: reach.into(),
            registered: rendezvous::client::Behaviour::new(settings.key.0.clone()),
            register: settings.register.then(|| register(limits)).into(),
        })
    }
}

fn relayed_for_others(limits: &Limits) -> relay::Config {
    relay::Config {
        max_circuits: limits.circuits,
        max_circuit_bytes: limits.circuit_bytes,
        ..relay::Config::default()
    }
}

fn register(limits: &Limits) -> rendezvous::server::Behaviour {
    let config = rendezvous::server::Config::default()
        .with_max_registration_per_peer(TOPICS_MAX)
        .with_max_registration_total(limits.records.saturating_mul(TOPICS_MAX / 4))
        .with_max_stored_cookies(COOKIES);
    rendezvous::server::Behaviour::new(config)
}

fn asked_whether_reached() -> autonat::Config {
    autonat::Config {
        boot_delay: FIRST_ASKED,
        ..autonat::Config::default()
    }
}

fn table(settings: &Settings) -> kad::Behaviour<MemoryStore> {
    let (own, limits) = (settings.key.name().0, &settings.limits);
    let store = MemoryStoreConfig {
        max_records: limits.records,
        max_value_bytes: limits.record,
        // Nobody asks for providers here.
        max_provided_keys: 0,
        ..MemoryStoreConfig::default()
    };
    let mut config = kad::Config::new(TABLE);
    config
        .set_query_timeout(limits.lookup)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        // Whoever publishes signs anew when something changed or the time is half over.
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled);
    let mut table = kad::Behaviour::with_config(own, MemoryStore::with_config(own, store), config);
    table.set_mode(Some(kad::Mode::Server));
    table
}

fn exchange(settings: &Settings, protocol: Protocol) -> request_response::Behaviour<Frames> {
    let limits = &settings.limits;
    let frames = match protocol {
        Protocol::Meeting => Frames {
            request: limits.request,
            answer: limits.answer,
        },
        Protocol::Records => Frames {
            request: limits.record,
            answer: limits.request,
        },
    };
    let config = request_response::Config::default()
        .with_request_timeout(limits.exchange)
        .with_max_concurrent_streams(limits.requests);
    let name = StreamProtocol::new(protocol.name());
    request_response::Behaviour::with_codec(frames, [(name, ProtocolSupport::Full)], config)
}
