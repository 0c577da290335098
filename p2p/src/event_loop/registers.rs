//! The part of the loop that keeps this node in the registers of others, and looks into them.
//!
//! A register lists nodes under topics (libp2p calls it a rendezvous point, and topics namespaces). Nodes that keep one say so
//! when they are connected; entries are signed by the key of the node they name, and run out unless they are renewed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

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

/// How old an entry is renewed at the earliest; many things make whoever we serve say again what we are found under.
const RENEWED_AFTER: Duration = Duration::from_secs(20 * 60);
/// How long is waited for further registers after one has answered.
const OTHERS_MAX: Duration = Duration::from_millis(500);

/// A look into registers that is under way. There is one at a time, since answers do not say what was asked.
pub(super) struct Look {
    topic: Namespace,
    /// Nothing once it was told.
    answer: Option<Answer<Vec<Registered>>>,
    waiting: HashSet<PeerId>,
    /// When what was found will do.
    enough: Option<Instant>,
    found: BTreeMap<PeerName, Vec<Address>>,
}

/// Looks, and what this node is to be found under.
#[derive(Default)]
pub(super) struct Registers {
    topics: Vec<Namespace>,
    /// In whose registers we are, under all of them, and since when.
    entered: HashMap<PeerId, Instant>,
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
        let is_same = self.registers.topics == topics;
        let over = std::mem::replace(&mut self.registers.topics, topics);
        let over = over.into_iter();
        let over: Vec<_> = over
            .filter(|old| !self.registers.topics.contains(old))
            .collect();
        let registrars = self.registrars();
        let now = Instant::now();
        let (entered, is_same) = (&mut self.registers.entered, is_same && over.is_empty());
        entered.retain(|registrar, since| {
            is_same && registrars.contains(registrar) && now.duration_since(*since) < RENEWED_AFTER
        });
        for registrar in registrars {
            for topic in &over {
                self.swarm
                    .behaviour_mut()
                    .registered
                    .unregister(topic.clone(), registrar);
            }
            if !self.registers.entered.contains_key(&registrar) {
                self.register_at(registrar);
            }
        }
        tell(answer, Ok(()));
    }

    /// Enters this node in the register of a peer that has just said that it keeps one, unless there are enough.
    pub(super) fn met_registrar(&mut self, registrar: PeerId) {
        if self.registrars().contains(&registrar) {
            self.register_at(registrar);
        }
    }

    /// Enters this node in the register of a peer.
    fn register_at(&mut self, registrar: PeerId) {
        for topic in self.registers.topics.clone() {
            let registered = &mut self.swarm.behaviour_mut().registered;
            if let Err(error) = registered.register(topic, registrar, Some(LIFETIME)) {
                // Nobody has told us yet where we can be reached; it is tried again when somebody did.
                return tracing::debug!(peer.id = %registrar, %error, "not in a register");
            }
        }
        self.registers.entered.insert(registrar, Instant::now());
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
            if answer.is_closed() {
                continue;
            }
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
                answer: Some(answer),
                enough: None,
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
                    look.enough.get_or_insert(Instant::now() + OTHERS_MAX);
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
                self.registers.entered.remove(&rendezvous_node);
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
        self.tell_found();
        self.registers.look = None;
        self.next_look();
    }

    /// When what was found will do.
    pub(super) fn next_found(&self) -> Option<Instant> {
        let look = self.registers.look.as_ref()?;
        look.enough.filter(|_| look.answer.is_some())
    }

    /// Tells what was found if that will do. The look goes on until every register has answered or failed, which takes a
    /// mute one longer than anybody waits.
    pub(super) fn end_look(&mut self) {
        if self.next_found().is_some_and(|then| then <= Instant::now()) {
            self.tell_found();
        }
    }

    fn tell_found(&mut self) {
        let own = PeerName(*self.swarm.local_peer_id());
        let Some(look) = &mut self.registers.look else {
            return;
        };
        if let Some(answer) = look.answer.take() {
            let found = std::mem::take(&mut look.found).into_iter();
            let others = found.filter(|(peer, _)| *peer != own);
            let found = others.map(|(peer, addresses)| Registered { peer, addresses });
            tell(answer, Ok(found.collect()));
        }
    }
}
