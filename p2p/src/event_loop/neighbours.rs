//! The part of the loop that connects to neighbours: nodes that show themselves on the local network.
//!
//! A neighbour shows itself once and may be silent for minutes after that. So one that is not reached at once is dialled
//! again after a while, which grows, until a connection is there or its sign has run out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId};

use super::{ADDRESSES_MAX, EventLoop};

/// Neighbours that are dialled, and peers with whom nobody is dialled only because it is near.
const NEIGHBOURS_MAX: usize = 32;
/// How long is waited before a neighbour is dialled for the second time.
const WAIT: Duration = Duration::from_secs(1);
/// How long is waited at most before it is dialled once more.
const WAIT_MAX: Duration = Duration::from_secs(64);

/// The neighbours that show themselves, and when each is dialled next.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    seen: HashMap<PeerId, Neighbour>,
}

#[derive(Debug)]
struct Neighbour {
    addresses: Vec<Multiaddr>,
    /// When it is dialled; never once it was connected.
    due: Option<Instant>,
    /// What is waited after that.
    wait: Duration,
}

impl Neighbours {
    /// Takes note that a neighbour showed itself at an address, where it is dialled from now on.
    fn shown(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        if self.seen.len() >= NEIGHBOURS_MAX && !self.seen.contains_key(&peer) {
            return;
        }
        let neighbour = self.seen.entry(peer).or_insert_with(|| Neighbour {
            addresses: Vec::new(),
            due: None,
            wait: WAIT,
        });
        if neighbour.addresses.len() < ADDRESSES_MAX && !neighbour.addresses.contains(&address) {
            neighbour.addresses.push(address);
            (neighbour.due, neighbour.wait) = (Some(now), WAIT);
        }
    }

    /// Takes note that the sign of a neighbour at an address has run out.
    fn ran_out(&mut self, peer: PeerId, address: &Multiaddr) {
        if let Some(neighbour) = self.seen.get_mut(&peer) {
            neighbour.addresses.retain(|known| known != address);
            if neighbour.addresses.is_empty() {
                self.seen.remove(&peer);
            }
        }
    }

    /// Takes note that a peer is connected, whoever it is.
    pub(super) fn connected(&mut self, peer: PeerId) {
        if let Some(neighbour) = self.seen.get_mut(&peer) {
            neighbour.due = None;
        }
    }

    /// When somebody is to be dialled next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.seen.values().filter_map(|one| one.due).min()
    }

    /// Those who are to be dialled now. Each is due again later, unless it is [connected](Self::connected) by then.
    fn due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut all = Vec::new();
        for (peer, neighbour) in &mut self.seen {
            if neighbour.due.is_some_and(|due| due <= now) {
                neighbour.due = Some(now + neighbour.wait);
                neighbour.wait = WAIT_MAX.min(neighbour.wait * 2);
                all.push((*peer, neighbour.addresses.clone()));
            }
        }
        all
    }
}

impl EventLoop {
    pub(super) fn neighbours_shown(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let now = Instant::now();
        for (peer, address) in found {
            if !self.swarm.is_connected(&peer) {
                self.neighbours.shown(peer, address, now);
            }
        }
        self.meet_neighbours();
    }

    pub(super) fn neighbours_ran_out(&mut self, gone: &[(PeerId, Multiaddr)]) {
        for (peer, address) in gone {
            self.neighbours.ran_out(*peer, address);
        }
    }

    /// Dials the neighbours that are due.
    pub(super) fn meet_neighbours(&mut self) {
        let due = self.neighbours.due(Instant::now());
        if self.known.len() >= NEIGHBOURS_MAX {
            return;
        }
        for (peer, addresses) in due {
            // Both see each other at the same moment. Were both to dial from the port that the other one dials, what
            // crosses would be one connection without a listener, and the end of both.
            let options = DialOpts::peer_id(peer)
                .addresses(addresses)
                .allocate_new_port()
                .build();
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(%error, "a neighbour is not dialled");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: usize) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{n}").parse().unwrap()
    }

    #[test]
    fn a_neighbour_is_dialled_until_it_is_connected() {
        let (peer, now, mut neighbours) = (PeerId::random(), Instant::now(), Neighbours::default());
        neighbours.shown(peer, at(1), now);
        let mut then = now;
        for wait in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert_eq!(neighbours.next(), Some(then));
            assert_eq!(neighbours.due(then), [(peer, vec![at(1)])]);
            assert_eq!(neighbours.due(then), []);
            then += Duration::from_secs(wait);
        }
        // Somewhere else it may be reached at once.
        neighbours.shown(peer, at(1), now);
        assert_eq!(neighbours.next(), Some(then));
        neighbours.shown(peer, at(2), now);
        assert_eq!(neighbours.due(now), [(peer, vec![at(1), at(2)])]);
        assert_eq!(neighbours.next(), Some(now + WAIT));
        neighbours.connected(peer);
        assert_eq!(neighbours.next(), None);
    }

    #[test]
    fn who_showed_itself_no_longer_is_not_dialled() {
        let (peer, now, mut neighbours) = (PeerId::random(), Instant::now(), Neighbours::default());
        neighbours.shown(peer, at(1), now);
        neighbours.shown(peer, at(2), now);
        neighbours.ran_out(peer, &at(1));
        assert_eq!(neighbours.due(now), [(peer, vec![at(2)])]);
        neighbours.ran_out(peer, &at(2));
        assert_eq!(neighbours.next(), None);
        assert!(neighbours.seen.is_empty());
    }

    #[test]
    fn neither_neighbours_nor_addresses_are_without_bound() {
        let (now, mut neighbours) = (Instant::now(), Neighbours::default());
        for _ in 0..2 * NEIGHBOURS_MAX {
            let peer = PeerId::random();
            for n in 1..=2 * ADDRESSES_MAX {
                neighbours.shown(peer, at(n), now);
            }
        }
        let due = neighbours.due(now);
        assert_eq!(due.len(), NEIGHBOURS_MAX);
        assert!(due.iter().all(|(_, at)| at.len() == ADDRESSES_MAX));
    }
}
