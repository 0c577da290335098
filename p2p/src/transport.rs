//! How bytes travel: TCP with Noise and Yamux, QUIC, names where the system says how to look them up, and relays.

use std::io;
use std::path::Path;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, MemoryTransport};
use libp2p::core::upgrade::Version;
use libp2p::{PeerId, Transport as _, dns, noise, quic, relay, tcp, yamux};

use crate::key::NodeKey;
use crate::limits::Limits;
use crate::network::StartError;

/// How often a QUIC connection shows that it is there: before a router forgets it, which none does within 30 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// After so many milliseconds without a sign of life a QUIC connection is over.
const SILENCE_MAX_MS: u32 = 50_000;

type Muxed = Boxed<(PeerId, StreamMuxerBox)>;

/// Without this file nobody says where names are looked up; then only addresses by number are dialled.
const RESOLVER: &str = "/etc/resolv.conf";

/// The transport of a node, and the part of its behaviour that comes through relays. With `in_memory` nothing leaves the
/// process.
pub(crate) fn build(
    key: &NodeKey,
    limits: &Limits,
    in_memory: bool,
) -> Result<(Muxed, relay::client::Behaviour), StartError> {
    let (circuits, client) = relay::client::new(key.name().0);
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise(key)?)
        .multiplex(yamux(limits))
        .boxed();
    let direct = match in_memory {
        true => MemoryTransport::default()
            .upgrade(Version::V1Lazy)
            .authenticate(noise(key)?)
            .multiplex(yamux(limits))
            .boxed(),
        false => named(key, limits)?,
    };
    let all = TransportTimeout::new(either(circuits, direct), limits.connect);
    Ok((all.boxed(), client))
}

/// TCP and QUIC, by name too where that is possible.
fn named(key: &NodeKey, limits: &Limits) -> Result<Muxed, StartError> {
    if Path::new(RESOLVER).exists() {
        match dns::tokio::Transport::system(numbered(key, limits)?) {
            Ok(transport) => return Ok(transport.boxed()),
            Err(error) => {
                tracing::warn!(%error, "names are not looked up for libp2p; use addresses by number");
            }
        }
    }
    numbered(key, limits)
}

fn numbered(key: &NodeKey, limits: &Limits) -> Result<Muxed, StartError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise(key)?)
        .multiplex(yamux(limits))
        .boxed();
    let mut config = quic::Config::new(&key.0);
    config.keep_alive_interval = KEEP_ALIVE;
    config.max_idle_timeout = SILENCE_MAX_MS;
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
        .boxed();
    Ok(either(tcp, quic))
}

fn either(one: Muxed, other: Muxed) -> Muxed {
    one.or_transport(other)
        .map(|either, _| either.into_inner())
        .boxed()
}

fn noise(key: &NodeKey) -> Result<noise::Config, StartError> {
    noise::Config::new(&key.0).map_err(|error| StartError::Io(io::Error::other(error)))
}

fn yamux(limits: &Limits) -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(limits.streams);
    config
}
