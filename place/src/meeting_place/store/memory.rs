//! A Place that forgets: for tests, and the plain twin of the store on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{AgentId, AgreementId};

use super::{Change, Snapshot, Store, StoreError};
use crate::meeting_place::audit::REGISTRATIONS_MAX;
use crate::meeting_place::{
    Agent, Agreement, Answered, Attestation, AttestationKey, Ban, Deposit, DepositKey, Logged,
    OnceKey, PinnedKey, Provenance, SkillSetDeposit, SkillSetKey, Target,
};

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryStore {
    next: u64,
    agents: BTreeMap<AgentId, (u64, Agent)>,
    deposits: BTreeMap<DepositKey, (u64, Deposit, String)>,
    attestations: BTreeMap<AttestationKey, (u64, Attestation)>,
    origins: BTreeMap<ContentHash, (u64, Provenance)>,
    skill_sets: BTreeMap<SkillSetKey, (u64, SkillSetDeposit, Arc<[u8]>)>,
    answers: BTreeMap<OnceKey, Answered>,
    agreements: BTreeMap<AgreementId, Agreement>,
    guests: BTreeMap<AgentId, (u64, PinnedKey)>,
    bans: BTreeMap<Target, Ban>,
    audit: BTreeMap<u64, Logged>,
    logged: u64,
    exchanges: u64,
}

impl MemoryStore {
    fn apply(&mut self, change: &Change) {
        self.next += 1;
        let next = self.next;
        match change {
            Change::Agent(agent) => {
                let kept = self.agents.get(&agent.id).map_or(next, |(at, _)| *at);
                self.agents
                    .insert(agent.id.clone(), (kept, (**agent).clone()));
            }
            Change::AgentGone(id) => {
                self.agents.remove(id);
            }
            Change::Seen(seen) => {
                for (id, at) in seen {
                    if let Some((_, agent)) = self.agents.get_mut(id) {
                        agent.last_seen = *at;
                    }
                }
            }
            Change::Deposit(deposit, content) => {
                let kept = self.deposits.get(&deposit.key).map_or(next, |(at, ..)| *at);
                let row = (kept, (**deposit).clone(), content.to_string());
                self.deposits.insert(deposit.key.clone(), row);
            }
            Change::DepositGone(key) => {
                self.deposits.remove(key);
                self.attestations.retain(|of, _| of.deposit != *key);
            }
            Change::Attestation(attestation) => {
                let key = &attestation.key;
                let kept = self.attestations.get(key).map_or(next, |(at, _)| *at);
                let row = (kept, (**attestation).clone());
                self.attestations.insert(key.clone(), row);
            }
            Change::AttestationGone(key) => {
                self.attestations.remove(key);
            }
            Change::Origin(hash, origin) => {
                self.origins.insert(*hash, (next, (**origin).clone()));
            }
            Change::OriginGone(hash) => {
                self.origins.remove(hash);
            }
            Change::SkillSet(set, archive) => {
                let kept = self.skill_sets.get(&set.key).map_or(next, |(at, ..)| *at);
                let row = (kept, (**set).clone(), Arc::clone(archive));
                self.skill_sets.insert(set.key.clone(), row);
            }
            Change::SkillSetGone(key) => {
                self.skill_sets.remove(key);
            }
            Change::Answered(answered) => {
                self.answers
                    .insert(answered.key.clone(), (**answered).clone());
            }
            Change::AnswerGone(key) => {
                self.answers.remove(key);
            }
            Change::Agreement(agreement) => {
                self.agreements
                    .insert(agreement.id(), (**agreement).clone());
            }
            Change::AgreementGone(id) => {
                self.agreements.remove(id);
            }
            Change::Guest(id, key) => {
                self.guests.insert(id.clone(), (next, key.clone()));
            }
            Change::GuestGone(id) => {
                self.guests.remove(id);
            }
            Change::Ban(ban) => {
                self.bans.insert(ban.target.clone(), (**ban).clone());
            }
            Change::BanGone(target) => {
                self.bans.remove(target);
            }
            Change::Logged(at, event) => {
                self.logged += 1;
                let number = self.logged;
                let over = number.saturating_sub(REGISTRATIONS_MAX);
                self.audit
                    .retain(|number, logged| *number > over || !logged.event.is_of_agents());
                let (at, event) = (*at, (**event).clone());
                self.audit.insert(number, Logged { number, at, event });
            }
            Change::Exchanges(count) => self.exchanges = *count,
        }
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        let mut agents: Vec<_> = self.agents.values().cloned().collect();
        agents.sort_by_key(|(at, _)| *at);
        let mut deposits: Vec<_> = self.deposits.values().cloned().collect();
        deposits.sort_by_key(|(at, ..)| *at);
        let mut attestations: Vec<_> = self.attestations.values().cloned().collect();
        attestations.sort_by_key(|(at, _)| *at);
        let mut skill_sets: Vec<_> = self.skill_sets.values().collect();
        skill_sets.sort_by_key(|(at, ..)| *at);
        let mut origins: Vec<_> = self.origins.iter().collect();
        origins.sort_by_key(|(_, (at, _))| *at);
        let mut guests: Vec<_> = self.guests.iter().collect();
        guests.sort_by_key(|(_, (at, _))| *at);
        Ok(Snapshot {
            guests: guests
                .into_iter()
                .map(|(id, (_, key))| (id.clone(), key.clone()))
                .collect(),
            origins: origins
                .into_iter()
                .map(|(hash, (_, origin))| (*hash, origin.clone()))
                .collect(),
            skill_sets: skill_sets
                .into_iter()
                .map(|(_, set, _)| set.clone())
                .collect(),
            attestations: attestations.into_iter().map(|(_, said)| said).collect(),
            agents: agents.into_iter().map(|(_, agent)| agent).collect(),
            deposits: deposits
                .into_iter()
                .map(|(_, deposit, _)| deposit)
                .collect(),
            answers: self.answers.values().cloned().collect(),
            agreements: self.agreements.values().cloned().collect(),
            bans: self.bans.values().cloned().collect(),
            exchanges: self.exchanges,
        })
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        for change in changes {
            self.apply(change);
        }
        Ok(())
    }

    fn deposit(&mut self, key: &DepositKey) -> Result<Option<(Deposit, String)>, StoreError> {
        let found = self.deposits.get(key);
        Ok(found.map(|(_, deposit, content)| (deposit.clone(), content.clone())))
    }

    fn skill_set(
        &mut self,
        key: &SkillSetKey,
    ) -> Result<Option<(SkillSetDeposit, Vec<u8>)>, StoreError> {
        let found = self.skill_sets.get(key);
        Ok(found.map(|(_, set, archive)| (set.clone(), archive.to_vec())))
    }

    fn audit(&mut self, before: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let newest = self.audit.range(..before).rev().take(limit);
        Ok(newest.map(|(_, logged)| logged.clone()).collect())
    }
}
