//! The part of the loop that keeps this node in the registers of others, and looks into them.
//!
//! A register lists nodes under topics (libp2p calls it a rendezvous point, and topics namespaces). Nodes that keep one say so
//! when they are connected; entries are signed by the key of the node they name, and run out unless they are renewed.

use std::collections::{BTreeMap, HashSet, VecDeque};

use libp2p::rendezvous::{Namespace, client};
use libp2p::{Multiaddr, PeerId};

use super::{ADDRESSES_MAX, EventLoop, WAITING_MAX, tell};
use crate::address::Address;
use crate::key::PeerName;
use crate::network::{Answer, NetworkError, Registered};

/// Registers in which a node is, and that are looked into at once.
const REGISTERS_MAX: usize = 3;
/// Nodes of one topic that are taken from one register.
const LISTED_MAX: u64 = 32;
/// How long an entry is to hold, in seconds: the least that every register takes.
const LIFETIME: u64 = libp2p::rendezvous::DEFAULT_TTL;

/// A look into registers that is under way. There is one at a time, since answers do not say what was asked.
pub(super) struct Look {
    topic: Namespace,
    answer: Answer<Vec<Registered>>,
    waiting: HashSet<PeerId>,
    found: BTreeMap<PeerName, Vec<Address>>,
}

/// Looks, and what this node is to be found under.
#[derive(Default)]
pub(super) struct Registers {
    topics: Vec<Namespace>,
    look: Option<Look>,
    later: VecDeque<(Namespace, Answer<Vec<Registered>>)>,
}

impl EventLoop {
    /// Peers that keep a register.
    fn registrars(&self) -> Vec<PeerId> {
        let mut some: Vec<PeerId> = self
            .known
            .iter()
            .filter_map(|(peer, known)| known.is_registrar.then_some(*peer))
            .collect();
        // The same ones whoever looks, as far as they know the same.
        some.sort();
        some.truncate(REGISTERS_MAX);
        some
    }

    /// Has this node be found under `topics`, and no longer under others, from now on.
    pub(super) fn register_under(&mut self, topics: Vec<String>, answer: Answer<()>) {
        let named: Result<Vec<Namespace>, _> = topics.into_iter().map(Namespace::new).collect();
        let Ok(topics) = named else {
            let reason = "a topic is too long for a register".to_owned();
            return tell(answer, Err(NetworkError::NotStored(reason)));
        };
        let over = std::mem::replace(&mut self.registers.topics, topics);
        let over = over.into_iter();
        let over: Vec<_> = over
            .filter(|old| !self.registers.topics.contains(old))
            .collect();
        for registrar in self.registrars() {
            for topic in &over {
                self.swarm
                    .behaviour_mut()
                    .registered
                    .unregister(topic.clone(), registrar);
            }
            self.register_at(registrar);
        }
        tell(answer, Ok(()));
    }

    /// Enters this node in the register of a peer.
    pub(super) fn register_at(&mut self, registrar: PeerId) {
        for topic in self.registers.topics.clone() {
            let registered = &mut self.swarm.behaviour_mut().registered;
            if let Err(error) = registered.register(topic, registrar, Some(LIFETIME)) {
                // Nobody has told us yet where we can be reached; it is tried again when somebody did.
                return tracing::debug!(peer.id = %registrar, %error, "not in a register");
            }
        }
    }

    /// Enters it in every register, because it can be reached elsewhere now.
    pub(super) fn register_anew(&mut self) {
        for registrar in self.registrars() {
            self.register_at(registrar);
        }
    }

    pub(super) fn look_up(&mut self, topic: String, answer: Answer<Vec<Registered>>) {
        if self.registers.later.len() >= WAITING_MAX {
            return tell(answer, Err(NetworkError::Busy));
        }
        match Namespace::new(topic) {
            Ok(topic) => self.registers.later.push_back((topic, answer)),
            // Nobody can be there.
            Err(_) => return tell(answer, Ok(Vec::new())),
        }
        self.next_look();
    }

    fn next_look(&mut self) {
        while self.registers.look.is_none() {
            let Some((topic, answer)) = self.registers.later.pop_front() else {
                return;
            };
            let registrars = self.registrars();
            if registrars.is_empty() {
                tell(answer, Ok(Vec::new()));
                continue;
            }
            for registrar in &registrars {
                let (topic, limit) = (Some(topic.clone()), Some(LISTED_MAX));
                let registered = &mut self.swarm.behaviour_mut().registered;
                registered.discover(topic, None, limit, *registrar);
            }
            self.registers.look = Some(Look {
                topic,
                answer,
                waiting: registrars.into_iter().collect(),
                found: BTreeMap::new(),
            });
        }
    }

    pub(super) fn looked_up(&mut self, event: client::Event) {
        match event {
            client::Event::Discovered {
                rendezvous_node,
                registrations,
                ..
            } => {
                if let Some(look) = &mut self.registers.look {
                    let listed = registrations.into_iter().take(LISTED_MAX as usize);
                    for entry in listed.filter(|entry| entry.namespace == look.topic) {
                        let at: Vec<Multiaddr> = entry.record.addresses().to_vec();
                        let at = at.into_iter().take(ADDRESSES_MAX).map(Address);
                        let peer = PeerName(entry.record.peer_id());
                        look.found.entry(peer).or_insert_with(|| at.collect());
                    }
                }
                self.answered(rendezvous_node);
            }
            client::Event::DiscoverFailed {
                rendezvous_node,
                error,
                ..
            } => {
                tracing::debug!(peer.id = %rendezvous_node, ?error, "a register does not answer");
                self.answered(rendezvous_node);
            }
            client::Event::RegisterFailed {
                rendezvous_node,
                error,
                ..
            } => {
                tracing::debug!(peer.id = %rendezvous_node, ?error, "a register does not take us");
            }
            client::Event::Registered { .. } | client::Event::Expired { .. } => {}
        }
    }

    /// One register fewer to wait for.
    fn answered(&mut self, registrar: PeerId) {
        let Some(look) = &mut self.registers.look else {
            return;
        };
        look.waiting.remove(&registrar);
        if !look.waiting.is_empty() {
            return;
        }
        if let Some(look) = self.registers.look.take() {
            let own = PeerName(*self.swarm.local_peer_id());
            let others = look.found.into_iter().filter(|(peer, _)| *peer != own);
            let found = others.map(|(peer, addresses)| Registered { peer, addresses });
            tell(look.answer, Ok(found.collect()));
        }
        self.next_look();
    }
}
