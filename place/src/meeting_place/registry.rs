//! Who is registered at a Place, and who faded.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use thiserror::Error;

use super::agent::{Agent, Claim, MemberError, Presence, Registration, UNKNOWN_NAME};
use super::pages::AgentCursor;
use super::policy::Policy;
use super::walk::{self, walked};
use crate::session::Strength;

/// Outcome of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Whether the id was not known, or had faded.
    pub new: bool,
    /// Whether the record says something else now, or the agent is back.
    pub(super) changed: bool,
    /// Agents that were forgotten to make room, with their keys.
    pub forgotten: Vec<AgentId>,
}

/// Why a registration is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// A member is too long or of another kind.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// As many agents are here as the Place takes.
    #[error("Meeting Place is full (max {max} agents)")]
    Full {
        /// The bound.
        max: usize,
    },
    /// As many agents without a key are here as the Place takes.
    #[error(
        "the Place takes no more agents without a signature (max {max}); sign the registration"
    )]
    TooManyUnverified {
        /// The bound.
        max: usize,
    },
    /// The id is pinned to a key that the registration was not signed with.
    #[error("agent {0} is known by a key; sign the registration with it")]
    KeyRequired(AgentId),
    /// The id is pinned to another key.
    #[error("agent {0} is known by another key")]
    KeyConflict(AgentId),
    /// The operator keeps it out.
    #[error("this Place takes no registration of agent {0}")]
    Banned(AgentId),
    /// As many agents are here from this address as the Place takes from one.
    #[error("the Place takes no more agents from this address (max {max})")]
    AddressShare {
        /// The bound.
        max: usize,
    },
    /// As many agents without a key are here from this address as the Place takes from one.
    #[error(
        "the Place takes no more agents without a signature from this address (max {max}); sign the registration"
    )]
    AddressUnverified {
        /// The bound.
        max: usize,
    },
    /// The id is the Place's own.
    #[error("{0} is the Place itself")]
    Own(AgentId),
}

/// A page of the registry.
#[derive(Debug)]
pub struct AgentPage<'r> {
    /// In the order of their first registration.
    pub agents: Vec<&'r Agent>,
    /// Where the next page begins, if there is one.
    pub next: Option<AgentCursor>,
}

#[derive(Debug)]
struct Slot {
    agent: Agent,
    /// Tells this presence from earlier ones of the same agent.
    number: u64,
    /// From when its time to live counts. May be later than the last sign of life: a Place that was down gives
    /// everybody another chance.
    counted_from: Timestamp,
    /// Whether something of it is on the board, for which its key is needed.
    owns: bool,
    /// Whether its last sign of life waits to be stored.
    noted: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Registry {
    ttl: Duration,
    slots: HashMap<AgentId, Slot>,
    /// Those present, in the order of their first registration, which outlives a restart.
    order: BTreeSet<AgentCursor>,
    next_number: u64,
    /// Agents that are not here and own nothing, those that left first in front.
    away: BTreeSet<(Timestamp, AgentId)>,
    /// How many are not here and own something.
    away_owners: usize,
    present: usize,
    unverified: usize,
    /// When to look at whom. An agent that gave a sign of life since then is put back with its later time, so that a
    /// sign of life costs nothing here.
    due: BinaryHeap<Reverse<(Timestamp, u64, AgentId)>>,
    /// Signs of life that wait to be stored, those that wait longest in front.
    seen: VecDeque<AgentId>,
}

impl Registry {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            slots: HashMap::new(),
            order: BTreeSet::new(),
            next_number: 0,
            away: BTreeSet::new(),
            away_owners: 0,
            present: 0,
            unverified: 0,
            due: BinaryHeap::new(),
            seen: VecDeque::new(),
        }
    }

    pub(super) fn get(&self, id: &AgentId) -> Option<&Agent> {
        self.slots.get(id).map(|slot| &slot.agent)
    }

    /// Every record, also of those who are not here, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Agent> {
        walked(self.slots.values()).map(|slot| &slot.agent)
    }

    pub(super) fn is_present(&self, id: &AgentId) -> bool {
        self.get(id)
            .is_some_and(|agent| agent.presence == Presence::Here)
    }

    pub(super) fn is_self(&self, id: &AgentId) -> bool {
        self.get(id).is_some_and(|agent| agent.is_self)
    }

    pub(super) fn selves(&self) -> Vec<AgentId> {
        let here = self.slots.values().filter(|slot| slot.agent.is_self);
        here.map(|slot| slot.agent.id.clone()).collect()
    }

    pub(super) fn present(&self) -> usize {
        self.present
    }

    pub(super) fn unverified(&self) -> usize {
        self.unverified
    }

    pub(super) fn remembered(&self) -> usize {
        self.away.len() + self.away_owners
    }

    pub(super) fn present_ids(&self) -> Vec<AgentId> {
        self.order.iter().map(|at| at.id().clone()).collect()
    }

    /// Takes a record over as it was stored. Those that are here get a whole time to live from `now`.
    pub(super) fn restore(&mut self, agent: Agent, now: Timestamp) {
        self.put(agent, now, None);
    }

    /// Notes whether something of `id` is on the board. Who owns something is not forgotten.
    pub(super) fn set_owner(&mut self, id: &AgentId, owns: bool) {
        if self.slots.get(id).is_none_or(|slot| slot.owns == owns) {
            return;
        }
        if let Some(slot) = self.take(id) {
            self.put_back(Slot { owns, ..slot });
        }
    }

    pub(super) fn put_self(&mut self, me: Registration, now: Timestamp) {
        let before = self.take(&me.id);
        let here = before
            .as_ref()
            .filter(|slot| slot.agent.presence == Presence::Here);
        let number = here.map(|slot| slot.number);
        let mut agent = before
            .as_ref()
            .map_or_else(|| blank(&me.id, now), |slot| slot.agent.clone());
        say(&mut agent, me, now);
        agent.is_self = true;
        self.put_after(before, agent, now, number);
    }

    pub(super) fn register(
        &mut self,
        wish: Registration,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Registered, RegisterError> {
        wish.check()?;
        let known = self.get(&wish.id);
        if known.is_some_and(|agent| agent.is_self) {
            return Err(RegisterError::Own(wish.id));
        }
        let pinned = known.and_then(|agent| agent.key.as_ref());
        match (&wish.claim, pinned) {
            (Claim::Unsigned, Some(_)) => return Err(RegisterError::KeyRequired(wish.id)),
            (Claim::Signed(key, _), Some(pinned)) if key.hash() != pinned.hash() => {
                return Err(RegisterError::KeyConflict(wish.id));
            }
            _ => {}
        }
        let new = !self.is_present(&wish.id);
        // One whose key is known may always come back.
        if new && known.is_none() && self.present >= policy.agents_max {
            let max = policy.agents_max;
            return Err(RegisterError::Full { max });
        }
        let unsigned = matches!(wish.claim, Claim::Unsigned);
        if new && unsigned && self.unverified >= policy.unverified_max {
            let max = policy.unverified_max;
            return Err(RegisterError::TooManyUnverified { max });
        }
        let id = wish.id.clone();
        let slot = self.take(&id);
        let stayed = slot.as_ref().filter(|_| !new);
        let number = stayed.map(|slot| slot.number);
        // A clock that goes back makes nobody older.
        let counted_from = stayed.map_or(now, |slot| slot.counted_from.max(now));
        let before = slot.as_ref().map(|slot| slot.agent.clone());
        let mut agent = before.clone().unwrap_or_else(|| blank(&id, now));
        let seen = agent.last_seen.max(now);
        // A copied introduction opens a session that may read. It says nothing new about one who proved more.
        let weaker = match wish.claim {
            Claim::Unsigned => false,
            Claim::Signed(_, strength) => agent.strength > Some(strength),
        };
        match weaker {
            true => agent.presence = Presence::Here,
            false => say(&mut agent, wish, now),
        }
        agent.last_seen = seen;
        let said = |agent: &Agent| Agent {
            last_seen: seen,
            ..agent.clone()
        };
        let changed = before.as_ref().map(said) != Some(said(&agent));
        self.put_after(slot, agent, counted_from, number);
        if !changed {
            self.note(&id);
        }
        Ok(Registered {
            new,
            changed,
            forgotten: Vec::new(),
        })
    }

    /// Takes an agent off those present and returns its record. One without a key is forgotten.
    pub(super) fn leave(&mut self, id: &AgentId, presence: Presence) -> Option<Agent> {
        let slot = self.take(id)?;
        let agent = Agent {
            presence,
            is_self: false,
            ..slot.agent.clone()
        };
        if agent.key.is_some() {
            self.put_after(Some(slot), agent.clone(), agent.last_seen, None);
        }
        Some(agent)
    }

    /// Notes a sign of life of one that is present.
    pub(super) fn touch(&mut self, id: &AgentId, now: Timestamp) -> bool {
        let Some(slot) = self.slots.get_mut(id) else {
            return false;
        };
        if slot.agent.presence != Presence::Here {
            return false;
        }
        // A clock that goes back makes nobody older.
        slot.counted_from = slot.counted_from.max(now);
        if now > slot.agent.last_seen {
            slot.agent.last_seen = now;
            self.note(id);
        }
        true
    }

    /// Has the last sign of life of `id` stored.
    fn note(&mut self, id: &AgentId) {
        if let Some(slot) = self.slots.get_mut(id)
            && !std::mem::replace(&mut slot.noted, true)
        {
            self.seen.push_back(id.clone());
        }
    }

    /// Up to `most` signs of life that wait to be stored, those that wait longest.
    pub(super) fn take_seen(&mut self, most: usize) -> Vec<(AgentId, Timestamp)> {
        let count = most.min(self.seen.len());
        let slots = &mut self.slots;
        let with_time = walked(self.seen.drain(..count)).filter_map(|id| {
            let slot = slots.get_mut(&id)?;
            slot.noted = false;
            Some((id, slot.agent.last_seen))
        });
        with_time.collect()
    }

    /// Agents whose time is over, at most `most`.
    pub(super) fn due(&mut self, now: Timestamp, most: usize) -> Vec<Agent> {
        let mut over = Vec::new();
        while over.len() < most {
            let Some(Reverse((at, number, id))) = self.due.peek().cloned() else {
                break;
            };
            if at >= now {
                break;
            }
            self.due.pop();
            walk::step();
            let Some(slot) = self.slots.get(&id).filter(|slot| slot.number == number) else {
                continue;
            };
            if slot.agent.is_self || slot.agent.presence != Presence::Here {
                continue;
            }
            let ends = slot.counted_from.plus(self.ttl);
            if ends < now {
                over.push(slot.agent.clone());
            } else {
                self.due.push(Reverse((ends, number, id)));
            }
        }
        over
    }

    /// Forgets those who left first while more than `max` are remembered; who owns something is kept.
    pub(super) fn prune(&mut self, max: usize) -> Vec<AgentId> {
        let excess = self.remembered().saturating_sub(max);
        let first = walked(self.away.iter().take(excess));
        let forgotten: Vec<AgentId> = first.map(|(_, id)| id.clone()).collect();
        for id in &forgotten {
            self.take(id);
        }
        forgotten
    }

    pub(super) fn page(
        &self,
        include_self: bool,
        after: Option<&AgentCursor>,
        limit: usize,
    ) -> AgentPage<'_> {
        let from = after.map_or(Unbounded, Excluded);
        let mut agents = Vec::new();
        let mut last: Option<&AgentCursor> = None;
        for at in walked(self.order.range((from, Unbounded))) {
            let Some(slot) = self.slots.get(at.id()) else {
                continue;
            };
            if slot.agent.is_self && !include_self {
                continue;
            }
            if agents.len() == limit {
                let next = last.cloned();
                return AgentPage { agents, next };
            }
            agents.push(&slot.agent);
            last = Some(at);
        }
        AgentPage { agents, next: None }
    }

    /// Takes a record in that was not here.
    fn put(&mut self, agent: Agent, counted_from: Timestamp, number: Option<u64>) {
        self.put_after(None, agent, counted_from, number);
    }

    /// Takes a record in after `before`; `number` if it was here and keeps its place in the order.
    fn put_after(
        &mut self,
        before: Option<Slot>,
        agent: Agent,
        counted_from: Timestamp,
        number: Option<u64>,
    ) {
        let fresh = self.next_number;
        // One that keeps its number is waited for already.
        if number.is_none() && agent.presence == Presence::Here {
            self.next_number += 1;
            let ends = counted_from.plus(self.ttl);
            self.due.push(Reverse((ends, fresh, agent.id.clone())));
        }
        self.put_back(Slot {
            agent,
            number: number.unwrap_or(fresh),
            counted_from,
            owns: before.as_ref().is_some_and(|slot| slot.owns),
            noted: before.is_some_and(|slot| slot.noted),
        });
    }

    /// The reverse of [`take`](Self::take).
    fn put_back(&mut self, slot: Slot) {
        let id = slot.agent.id.clone();
        match slot.agent.presence {
            Presence::Here => {
                self.present += 1;
                self.unverified += usize::from(slot.agent.key.is_none());
                self.order.insert(AgentCursor::at(&slot.agent));
            }
            Presence::Faded(_) | Presence::Left(_) if slot.owns => self.away_owners += 1,
            Presence::Faded(since) | Presence::Left(since) => {
                self.away.insert((since, id.clone()));
            }
        }
        self.slots.insert(id, slot);
    }

    fn take(&mut self, id: &AgentId) -> Option<Slot> {
        let slot = self.slots.remove(id)?;
        match slot.agent.presence {
            Presence::Here => {
                self.present -= 1;
                self.unverified -= usize::from(slot.agent.key.is_none());
                self.order.remove(&AgentCursor::at(&slot.agent));
            }
            Presence::Faded(_) | Presence::Left(_) if slot.owns => self.away_owners -= 1,
            Presence::Faded(since) | Presence::Left(since) => {
                self.away.remove(&(since, id.clone()));
            }
        }
        Some(slot)
    }
}

fn blank(id: &AgentId, now: Timestamp) -> Agent {
    Agent {
        id: id.clone(),
        name: UNKNOWN_NAME.to_owned(),
        description: None,
        scope: None,
        capabilities: "[]".into(),
        key: None,
        strength: None,
        is_self: false,
        registered_at: now,
        last_seen: now,
        visited_places: Vec::new(),
        presence: Presence::Here,
    }
}

/// Takes over what a registration says: the name always, as in the reference, the rest where it is there.
fn say(agent: &mut Agent, wish: Registration, now: Timestamp) {
    agent.presence = Presence::Here;
    agent.last_seen = now;
    agent.name = wish.name.unwrap_or_else(|| UNKNOWN_NAME.to_owned());
    agent.description = wish.description.or(agent.description.take());
    agent.scope = wish.scope.or(agent.scope.take());
    if let Some(capabilities) = wish.capabilities {
        agent.capabilities = capabilities.to_string().into();
    }
    if let Claim::Signed(key, strength) = wish.claim {
        agent.key = Some((&key).into());
        agent.strength = agent.strength.max(Some::<Strength>(strength));
    }
}
