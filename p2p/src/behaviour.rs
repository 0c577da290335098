//! What a node does in the network: the parts of libp2p it is made of, and their bounds.

use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{StreamProtocol, autonat, connection_limits, dcutr, identify, kad, mdns, ping, relay};

use crate::codec::Frames;
use crate::network::{Protocol, Settings, StartError};

/// The table of the network; nodes of other networks speak another one and never meet ours.
pub(crate) const TABLE: StreamProtocol = StreamProtocol::new("/kairos/kad/1");
/// What nodes call themselves.
const FAMILY: &str = "kairos/1";

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // First, so that a connection beyond the bounds is refused before anything else looks at it.
    pub(crate) limits: connection_limits::Behaviour,
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
            .then(|| relay::Behaviour::new(own, relay::Config::default()));
        let reach = settings
            .autonat
            .then(|| autonat::Behaviour::new(own, autonat::Config::default()));
        Ok(Self {
            limits: connection_limits::Behaviour::new(connections),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::default(),
            table: table(settings),
            meetings: exchange(settings, Protocol::Meeting),
            records: exchange(settings, Protocol::Records),
            neighbours: neighbours.into(),
            relayed,
            relay: relay.into(),
            punch: dcutr::Behaviour::new(own),
            reach: reach.into(),
        })
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
