//! Keys of agents of other Places who wrote to agents of this one: whoever gets such mail asks for them here.
//!
//! Only ids that follow from their keys are taken, so nobody can claim one for somebody else.

use std::collections::{BTreeMap, HashMap};

use kairos_protocol::crypto::PublicKey;
use kairos_protocol::id::AgentId;

use super::{Change, MeetingPlace, PinnedKey};

/// Most keys that are remembered; those that came first are forgotten.
pub(super) const GUESTS_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Guests {
    of: HashMap<AgentId, (u64, PinnedKey)>,
    order: BTreeMap<u64, AgentId>,
    next: u64,
}

impl Guests {
    /// Remembers a key, the newest; returns who is forgotten for it.
    pub(super) fn put(&mut self, id: AgentId, key: PinnedKey) -> Option<AgentId> {
        let number = self.next;
        self.next += 1;
        if let Some((old, _)) = self.of.insert(id.clone(), (number, key)) {
            self.order.remove(&old);
        }
        self.order.insert(number, id);
        if self.order.len() <= GUESTS_MAX {
            return None;
        }
        let (_, oldest) = self.order.pop_first()?;
        self.of.remove(&oldest);
        Some(oldest)
    }
}

impl MeetingPlace {
    /// The key of an agent of another Place that wrote to one of this.
    pub fn guest_key(&self, id: &AgentId) -> Option<&PinnedKey> {
        let (_, key) = self.guests.of.get(id)?;
        self.is_shown(id).then_some(key)
    }

    /// Remembers the key of an agent of another Place, if its id follows from it and it is not known here already.
    pub fn note_guest(&mut self, id: &AgentId, key: &PublicKey) {
        let known = self.key(id).is_some() || self.guest_key(id).is_some();
        if known || key.agent_id() != *id {
            return;
        }
        let pinned = PinnedKey::from(key);
        if let Some(gone) = self.guests.put(id.clone(), pinned.clone()) {
            self.changes.push(Change::GuestGone(gone));
        }
        self.changes.push(Change::Guest(id.clone(), pinned));
    }
}
