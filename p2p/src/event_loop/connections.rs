//! The part of the loop that opens, takes and refuses connections, and knows who is at their other ends.

use std::net::IpAddr;

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol as Part;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionDenied, ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, connection_limits, identify, memory_connection_limits, relay};

use super::relays::place_at;
use super::{ADDRESSES_MAX, EventLoop, Known, Open, SOFTWARE_MAX, WAITING_MAX, ip, tell};
use crate::address::{Address, is_near};
use crate::behaviour::{REGISTER, TABLE};
use crate::key::PeerName;
use crate::network::{Answer, Connection, Event, NetworkError, Protocol, Way, why};

impl EventLoop {
    pub(super) fn listen(&mut self, address: Address, answer: Answer<Address>) {
        if self.listens.len() >= WAITING_MAX {
            return tell(answer, Err(NetworkError::Busy));
        }
        match self.swarm.listen_on(address.0.clone()) {
            Ok(id) => {
                self.listens.insert(id, (address, answer));
            }
            Err(error) => {
                let reason = why(&error);
                tell(answer, Err(NetworkError::Address { address, reason }));
            }
        }
    }

    pub(super) fn dial(&mut self, address: Address, answer: Answer<PeerName>) {
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
            // Another dial that is under way may lead elsewhere; this one is to be told of here.
            Some(peer) => DialOpts::peer_id(peer.0)
                .condition(PeerCondition::Disconnected)
                .addresses(vec![address.0.clone()])
                .build(),
            None => address.0.clone().into(),
        };
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(id, answer);
            }
            Err(error) => {
                self.figures.dials_failed += 1;
                tell(answer, Err(unreachable(address.to_string(), &error)));
            }
        }
    }

    pub(super) fn opened(&mut self, peer: PeerId, id: ConnectionId, endpoint: ConnectedPoint) {
        let is_refused = endpoint.is_listener() && self.is_crowded(&endpoint);
        if is_refused {
            tracing::debug!(peer.id = %peer, "as many connections as allowed come from one address");
            self.figures.connections_refused.address += 1;
            self.swarm.close_connection(id);
        }
        match endpoint.is_listener() {
            true => self.figures.opened_in += 1,
            false => self.figures.opened_out += 1,
        }
        let open = Open {
            peer,
            endpoint,
            round_trip: None,
        };
        self.open.insert(id, open);
        self.neighbours.connected(peer);
        if let Some(answer) = self.dials.remove(&id) {
            tell(answer, Ok(PeerName(peer)));
        }
        if !is_refused {
            self.send_errands(peer);
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

    pub(super) fn identified(
        &mut self,
        peer: PeerId,
        info: identify::Info,
        connection: ConnectionId,
    ) {
        let speaks = |name: &str| info.protocols.iter().any(|known| known.as_ref() == name);
        let is_ours = speaks(Protocol::Records.name());
        let (in_table, is_relay, is_registrar) = (
            speaks(TABLE.as_ref()),
            speaks(relay::HOP_PROTOCOL_NAME.as_ref()),
            speaks(REGISTER.as_ref()),
        );
        let endpoint = self.open.get(&connection).map(|open| &open.endpoint);
        let from = endpoint.and_then(|endpoint| ip(endpoint.get_remote_address()));
        // Where it was dialled it is, else where it says.
        let dialled = endpoint.filter(|endpoint| endpoint.is_dialer());
        let dialled = dialled.map(|endpoint| endpoint.get_remote_address().clone());
        let told = info.listen_addrs.into_iter();
        let told = told.filter(|address| is_plausible(address, from));
        let told: Vec<Multiaddr> = told.take(ADDRESSES_MAX).collect();
        let at = dialled.as_ref().or(told.first()).filter(|_| is_relay);
        let place = at.and_then(|at| place_at(at, peer));
        if in_table {
            self.forget_excess(peer);
            for address in told {
                self.table().add_address(&peer, address);
            }
        }
        let clean = |c: &char| !c.is_control();
        let software = info.agent_version.chars().filter(clean).take(SOFTWARE_MAX);
        let known = Known {
            software: software.collect(),
            relay: place,
            is_registrar,
        };
        let before = self.known.insert(peer, known);
        if before.is_none() && is_ours {
            self.send(Event::PeerJoined(PeerName(peer)));
        }
        if is_registrar && !before.is_some_and(|before| before.is_registrar) {
            self.met_registrar(peer);
        }
        self.seek_relays();
    }

    pub(super) fn way(&self, connection: ConnectionId) -> Way {
        match self.open.get(&connection) {
            Some(open) if open.endpoint.is_relayed() => Way::Relayed,
            _ => Way::Direct,
        }
    }

    pub(super) fn peers(&self) -> Vec<Connection> {
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

    /// Tells whoever dialled, if somebody did. What waits for a connection goes by another one, if there is one by now.
    pub(super) fn failed(&mut self, id: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        self.figures.dials_failed += 1;
        let dial = self.errands.remove(&id);
        for errand in dial.into_iter().flat_map(|dial| dial.errands) {
            if self.swarm.is_connected(&errand.peer.0) {
                self.send_errand(errand);
            } else {
                let refusal = unreachable(errand.peer.to_string(), error);
                tell(errand.answer, Err(refusal));
            }
        }
        if let Some(answer) = self.dials.remove(&id) {
            let peer = peer.map_or_else(|| "the peer".to_owned(), |peer| peer.to_string());
            tell(answer, Err(unreachable(peer, error)));
        }
    }

    /// Counts why a connection was not taken. What went wrong on its way is nobody's refusal.
    pub(super) fn refused(&mut self, cause: &ConnectionDenied) {
        let refused = &mut self.figures.connections_refused;
        let is_memory = cause
            .downcast_ref::<memory_connection_limits::MemoryUsageLimitExceeded>()
            .is_some();
        if is_memory {
            refused.memory += 1;
        } else if cause
            .downcast_ref::<connection_limits::Exceeded>()
            .is_some()
        {
            refused.bound += 1;
        }
    }
}

pub(super) fn unreachable(peer: String, error: &DialError) -> NetworkError {
    let reason = error.to_string();
    let reason = reason
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    NetworkError::Unreachable { peer, reason }
}

/// Whether an address that a peer at `from` says it has may be reached at all: nobody on another machine is at our loopback,
/// and nobody who comes from the open network has an address there that is private.
fn is_plausible(address: &Multiaddr, from: Option<IpAddr>) -> bool {
    let is_local = from.is_none_or(|from| from.is_loopback());
    let is_near = from.is_none_or(is_near);
    address.iter().all(|part| {
        let ip = match part {
            Part::Ip4(ip) => IpAddr::from(ip),
            Part::Ip6(ip) => IpAddr::from(ip),
            _ => return true,
        };
        !ip.is_unspecified() && (is_local || !ip.is_loopback()) && (is_near || !self::is_near(ip))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_count_with_those_who_are_near() {
        for (address, from, plausible) in [
            ("/ip4/192.168.1.2/tcp/4001", "192.168.1.2", true),
            ("/ip4/192.168.1.2/tcp/4001", "127.0.0.1", true),
            ("/ip4/192.168.1.2/tcp/4001", "44.1.1.1", false),
            ("/ip4/44.1.1.1/tcp/4001", "44.1.1.1", true),
            ("/ip4/44.1.1.1/tcp/4001", "10.0.0.1", true),
            ("/ip4/127.0.0.1/tcp/4001", "10.0.0.1", false),
            ("/ip4/0.0.0.0/tcp/4001", "127.0.0.1", false),
            ("/ip6/fd00::1/tcp/4001", "2001:db8::1", false),
            ("/dns4/place/tcp/4001", "44.1.1.1", true),
        ] {
            let from = Some(from.parse().unwrap());
            let parsed = address.parse().unwrap();
            assert_eq!(is_plausible(&parsed, from), plausible, "{address} {from:?}");
        }
    }
}
