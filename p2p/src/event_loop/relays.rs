//! The part of the loop that keeps places at relays, for a node that others cannot reach.
//!
//! A place is taken at nodes that are connected anyway and offer it, once others found that we cannot be reached. A lost
//! one is taken again when the relay next says who it is, as it does with each new connection.

use libp2p::multiaddr::Protocol as Part;
use libp2p::{Multiaddr, PeerId, relay};

use super::EventLoop;
use crate::network::Reach;

/// Relays at which a node has a place.
const RELAYS_MAX: usize = 2;

impl EventLoop {
    /// Takes places at relays that are connected, if we need and want them.
    pub(super) fn seek_relays(&mut self) {
        if !self.settings.relayed || self.reach != Reach::Private {
            return;
        }
        let offers: Vec<(PeerId, Multiaddr)> = self
            .known
            .iter()
            .filter(|(peer, _)| self.circuits.values().all(|relay| relay != *peer))
            .filter_map(|(peer, known)| Some((*peer, known.relay.clone()?)))
            .collect();
        for (peer, address) in offers {
            if self.circuits.len() >= RELAYS_MAX {
                return;
            }
            match self.swarm.listen_on(address) {
                Ok(id) => {
                    self.circuits.insert(id, peer);
                }
                Err(error) => {
                    tracing::debug!(peer.id = %peer, %error, "no place at a relay can be asked for");
                }
            }
        }
    }

    pub(super) fn relayed(&mut self, event: &relay::Event) {
        match event {
            relay::Event::CircuitReqAccepted { .. } => self.figures.circuits += 1,
            relay::Event::CircuitReqDenied { .. } | relay::Event::ReservationReqDenied { .. } => {
                self.figures.circuits_refused += 1;
            }
            other => tracing::trace!(event = ?other, "the relay tells something"),
        }
    }
}

/// Where we listen at a relay that is reached at `address`.
pub(super) fn place_at(address: &Multiaddr, relay: PeerId) -> Option<Multiaddr> {
    let is_relayed = address.iter().any(|part| part == Part::P2pCircuit);
    // A relay behind another one would cost both of them.
    (!is_relayed).then_some(())?;
    let named = address.clone().with_p2p(relay).ok()?;
    Some(named.with(Part::P2pCircuit))
}
