//! A relay's state in memory: gone with the process, and searched from end to end, so it is for tests and
//! demonstrations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;

use super::{
    OneTime, Pending, ReadWork, Receipt, RelayRead, RelayStore, RelayTx, Scope, StoreError, Takes,
    Tally, Within, WriteWork,
};
use crate::relay::audit::AuditEntry;
use crate::relay::message::{Header, Kept, RelayId, Sealed};
use crate::relay::prekey::{Prekey, PrekeyId};

/// See the module.
#[derive(Default)]
pub struct MemoryStore {
    committed: Mutex<Arc<State>>,
    /// Held by the one writer.
    writing: Mutex<()>,
}

#[derive(Clone, Default)]
struct State {
    messages: BTreeMap<u64, (Header, Arc<Sealed>)>,
    last_message: u64,
    receipts: BTreeMap<(AgentId, RelayId), Receipt>,
    tallies: BTreeMap<(u8, String, String), Tally>,
    audit: BTreeMap<u64, AuditEntry>,
    last_audit: u64,
    signed: BTreeMap<AgentId, Prekey>,
    /// By owner and order: of adding while they wait, of use afterwards.
    one_time: BTreeMap<(AgentId, u64), (PrekeyId, OneTime)>,
    last_one_time: u64,
    takes: BTreeMap<(AgentId, AgentId), Takes>,
}

impl MemoryStore {
    fn committed(&self) -> Arc<State> {
        Arc::clone(
            &self
                .committed
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl RelayStore for MemoryStore {
    fn write(&self, work: WriteWork<'_>) -> Result<(), StoreError> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut draft = State::clone(&self.committed());
        work(&mut draft)?;
        *self
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(draft);
        Ok(())
    }

    fn read(&self, work: ReadWork<'_>) -> Result<(), StoreError> {
        work(&*self.committed())
    }
}

impl State {
    fn kept<'a>(
        &'a self,
        mut wanted: impl FnMut(&Header) -> bool + 'a,
    ) -> impl Iterator<Item = Kept> + 'a {
        let wanted = self
            .messages
            .iter()
            .filter(move |(_, (header, _))| wanted(header));
        wanted.map(|(seq, (header, _))| Kept {
            seq: *seq,
            header: header.clone(),
        })
    }

    fn one_times<'a>(
        &'a self,
        agent: &'a AgentId,
    ) -> impl Iterator<Item = (u64, &'a PrekeyId, &'a OneTime)> {
        let all = (agent.clone(), 0)..=(agent.clone(), u64::MAX);
        let all = self.one_time.range(all);
        all.map(|((_, order), (id, state))| (*order, id, state))
    }

    fn set_one_time(&mut self, agent: &AgentId, id: &PrekeyId, state: OneTime) {
        self.one_time
            .retain(|(owner, _), (known, _)| owner != agent || *known != *id);
        self.last_one_time += 1;
        let key = (agent.clone(), self.last_one_time);
        self.one_time.insert(key, (id.clone(), state));
    }
}

fn owned(scope: Scope<'_>) -> (u8, String, String) {
    let (kind, a, b) = scope.key();
    (kind, a.to_owned(), b.to_owned())
}

impl RelayRead for State {
    fn tally(&self, of: Scope<'_>) -> Result<Tally, StoreError> {
        Ok(self.tallies.get(&owned(of)).copied().unwrap_or_default())
    }

    fn receipt(&self, from: &AgentId, id: &RelayId) -> Result<Option<Receipt>, StoreError> {
        Ok(self.receipts.get(&(from.clone(), id.clone())).cloned())
    }

    fn due_receipts(&self, until: Timestamp, limit: usize) -> Result<Vec<Receipt>, StoreError> {
        let due = self.receipts.values().filter(|r| r.expires_at <= until);
        let mut due: Vec<_> = due.cloned().collect();
        due.sort_by_key(|receipt| receipt.expires_at);
        due.truncate(limit);
        Ok(due)
    }

    fn find(&self, to: &AgentId, id: &RelayId) -> Result<Option<Kept>, StoreError> {
        Ok(self.kept(|h| (&h.to, &h.id) == (to, id)).next())
    }

    fn list(
        &self,
        to: &AgentId,
        after: u64,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Kept>, StoreError> {
        let alive = self.kept(|h| h.to == *to && h.expires_at > now);
        Ok(alive.filter(|kept| kept.seq > after).take(limit).collect())
    }

    fn pending(&self, to: &AgentId, now: Timestamp) -> Result<Pending, StoreError> {
        let alive: Vec<_> = self.kept(|h| h.to == *to && h.expires_at > now).collect();
        let times = || alive.iter().map(|kept| kept.header.created_at);
        Ok(Pending {
            count: alive.len() as u64,
            oldest_at: times().min(),
            newest_at: times().max(),
        })
    }

    fn sealed(&self, seq: u64) -> Result<Option<Sealed>, StoreError> {
        Ok(self
            .messages
            .get(&seq)
            .map(|(_, sealed)| Sealed::clone(sealed)))
    }

    fn first(&self, within: Within<'_>) -> Result<Option<Kept>, StoreError> {
        let counts = |h: &Header| match within {
            Within::Place => true,
            Within::Box(to) => h.to == *to,
            Within::Sender(from) => h.from == *from,
            Within::Pair(from, to) => (&h.from, &h.to) == (from, to),
        };
        Ok(self.kept(counts).next())
    }

    fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Kept>, StoreError> {
        let mut due: Vec<_> = self.kept(|h| h.expires_at <= until).collect();
        due.sort_by_key(|kept| (kept.header.expires_at, kept.seq));
        due.truncate(limit);
        Ok(due)
    }

    fn largest(&self) -> Result<u64, StoreError> {
        let sizes = self.messages.values().map(|(header, _)| header.size);
        Ok(sizes.max().unwrap_or(0))
    }

    fn audit(&self, before: u64, limit: usize) -> Result<Vec<(u64, AuditEntry)>, StoreError> {
        let newest = self.audit.range(..before).rev().take(limit);
        Ok(newest
            .map(|(number, entry)| (*number, entry.clone()))
            .collect())
    }

    fn signed(&self, agent: &AgentId) -> Result<Option<Prekey>, StoreError> {
        Ok(self.signed.get(agent).cloned())
    }

    fn one_time(&self, agent: &AgentId, id: &PrekeyId) -> Result<Option<OneTime>, StoreError> {
        let mut known = self.one_times(agent);
        Ok(known
            .find(|(_, known, _)| *known == id)
            .map(|(_, _, state)| state.clone()))
    }

    fn next_one_time(&self, agent: &AgentId) -> Result<Option<Prekey>, StoreError> {
        let mut waiting = self
            .one_times(agent)
            .filter_map(|(_, _, state)| match state {
                OneTime::Waiting(prekey) => Some(prekey.clone()),
                OneTime::Used => None,
            });
        Ok(waiting.next())
    }

    fn takes(&self, requester: &AgentId, agent: &AgentId) -> Result<Option<Takes>, StoreError> {
        Ok(self.takes.get(&(requester.clone(), agent.clone())).copied())
    }

    fn due_takes(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(AgentId, AgentId)>, StoreError> {
        let due = self.takes.iter().filter(|(_, takes)| takes.since <= until);
        let mut due: Vec<_> = due
            .map(|(pair, takes)| (takes.since, pair.clone()))
            .collect();
        due.sort();
        Ok(due.into_iter().take(limit).map(|(_, pair)| pair).collect())
    }
}

impl RelayTx for State {
    fn add(&mut self, to: Scope<'_>, count: i64, bytes: i64) -> Result<(), StoreError> {
        let tally = self.tally(to)?.plus(count, bytes)?;
        self.tallies.insert(owned(to), tally);
        self.tallies.retain(|_, tally| *tally != Tally::default());
        Ok(())
    }

    fn insert(&mut self, header: &Header, sealed: &Sealed) -> Result<u64, StoreError> {
        self.last_message += 1;
        let message = (header.clone(), Arc::new(sealed.clone()));
        self.messages.insert(self.last_message, message);
        Ok(self.last_message)
    }

    fn remove(&mut self, seq: u64) -> Result<(), StoreError> {
        self.messages.remove(&seq);
        Ok(())
    }

    fn remember(&mut self, receipt: &Receipt) -> Result<(), StoreError> {
        let key = (receipt.from.clone(), receipt.id.clone());
        self.receipts.insert(key, receipt.clone());
        Ok(())
    }

    fn forget(&mut self, from: &AgentId, id: &RelayId) -> Result<(), StoreError> {
        self.receipts.remove(&(from.clone(), id.clone()));
        Ok(())
    }

    fn record(&mut self, entry: &AuditEntry) -> Result<u64, StoreError> {
        self.last_audit += 1;
        self.audit.insert(self.last_audit, entry.clone());
        Ok(self.last_audit)
    }

    fn prune_audit(&mut self, upto: u64) -> Result<(), StoreError> {
        self.audit = self.audit.split_off(&upto.saturating_add(1));
        Ok(())
    }

    fn put_signed(&mut self, agent: &AgentId, prekey: &Prekey) -> Result<(), StoreError> {
        self.signed.insert(agent.clone(), prekey.clone());
        Ok(())
    }

    fn put_one_time(&mut self, agent: &AgentId, prekey: &Prekey) -> Result<(), StoreError> {
        self.set_one_time(agent, prekey.id(), OneTime::Waiting(prekey.clone()));
        Ok(())
    }

    fn use_one_time(&mut self, agent: &AgentId, id: &PrekeyId) -> Result<(), StoreError> {
        self.set_one_time(agent, id, OneTime::Used);
        Ok(())
    }

    fn forget_oldest_used(&mut self, agent: &AgentId) -> Result<(), StoreError> {
        let mut used = self
            .one_times(agent)
            .filter(|(_, _, state)| **state == OneTime::Used);
        let oldest = used.next().map(|(order, ..)| order);
        drop(used);
        if let Some(order) = oldest {
            self.one_time.remove(&(agent.clone(), order));
        }
        Ok(())
    }

    fn drop_prekeys(&mut self, agent: &AgentId) -> Result<(), StoreError> {
        self.signed.remove(agent);
        self.one_time.retain(|(owner, _), _| owner != agent);
        Ok(())
    }

    fn put_takes(
        &mut self,
        requester: &AgentId,
        agent: &AgentId,
        takes: Takes,
    ) -> Result<(), StoreError> {
        self.takes.insert((requester.clone(), agent.clone()), takes);
        Ok(())
    }

    fn drop_takes(&mut self, requester: &AgentId, agent: &AgentId) -> Result<(), StoreError> {
        self.takes.remove(&(requester.clone(), agent.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::store::conformance;

    /// What is opened again is the same state.
    impl RelayStore for Arc<MemoryStore> {
        fn write(&self, work: WriteWork<'_>) -> Result<(), StoreError> {
            MemoryStore::write(self, work)
        }

        fn read(&self, work: ReadWork<'_>) -> Result<(), StoreError> {
            MemoryStore::read(self, work)
        }
    }

    fn fresh() -> Box<dyn RelayStore> {
        Box::new(MemoryStore::default())
    }

    #[test]
    fn it_does_what_every_store_does() {
        let [one, two] = [Arc::<MemoryStore>::default(), Arc::default()];
        conformance::check_lifecycle(|| Box::new(Arc::clone(&one)));
        conformance::check_prekeys(|| Box::new(Arc::clone(&two)));
        conformance::check_transactions(fresh());
        conformance::check_counts(fresh());
        conformance::check_reading(fresh());
        conformance::check_used_prekeys(fresh());
        conformance::check_oldest(fresh());
    }
}
