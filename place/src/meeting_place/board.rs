//! What a Place shows: one card for each agent, need and deposit.
//!
//! Cards are text that is ready to be sent: they are written when something changes, which is seldom, and not when
//! somebody looks, which is often.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Bound;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::agent::Agent;
use super::attempts::Attempts;
use super::attestation::{Attestation, Attestations};
use super::condition::Replacements;
use super::deposit::{Deposit, DepositKey};
use super::pool::Pool;
use super::provenance::{Expiring, Locals, Origins};
use super::walk::walked;

mod deposits;
pub mod needs;

pub use needs::{Need, NeedEntry};

/// What a card is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Agent(AgentId),
    Need(AgentId, usize),
    Deposit(DepositKey),
}

impl Subject {
    pub(super) fn agent(&self) -> &AgentId {
        match self {
            Self::Agent(id) | Self::Need(id, _) => id,
            Self::Deposit(key) => &key.owner,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Card {
    /// The entry, compact JSON.
    pub(super) text: Arc<str>,
    /// What a search looks in, lower case.
    pub(super) name: Box<str>,
    /// What a filter by tag compares.
    pub(super) tags: Box<[String]>,
    /// Stands for the agent behind it: who counts agents need not look at names, which lie elsewhere in memory.
    pub(super) agent: AgentMark,
}

/// The hash of an agent's name under a key that nobody outside knows; the same for one agent as long as the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AgentMark(u64);

impl AgentMark {
    fn of(agent: &AgentId) -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEY.hash_one(agent))
    }
}

/// All cards, and the deposits behind some of them.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) cards: Pool<Subject, Card>,
    /// Each with its place in the order in which they first came.
    deposits: BTreeMap<DepositKey, (u64, Deposit)>,
    next_number: u64,
    /// Who deposited a skill of some name, first come first.
    owners: HashMap<String, BTreeMap<u64, AgentId>>,
    pub(super) origins: Origins,
    pub(super) expiring: Expiring,
    pub(super) locals: Locals,
    pub(super) attestations: Attestations,
    needs: HashMap<AgentId, usize>,
    need_count: usize,
    pub(super) attempts: Attempts,
    pub(super) replaced: Replacements<DepositKey>,
    /// Agents of whose deposits nothing is shown.
    hidden: HashSet<AgentId>,
    exchanges: u64,
    /// Of these, as many as the store knows of.
    stored_exchanges: u64,
}

impl Board {
    pub(super) fn new(exchanges: u64, repeat_window: Duration) -> Self {
        Self {
            cards: Pool::new(),
            deposits: BTreeMap::new(),
            next_number: 0,
            owners: HashMap::new(),
            origins: Origins::default(),
            expiring: Expiring::default(),
            locals: Locals::default(),
            attestations: Attestations::default(),
            needs: HashMap::new(),
            need_count: 0,
            attempts: Attempts::default(),
            replaced: Replacements::new(repeat_window),
            hidden: HashSet::new(),
            exchanges,
            stored_exchanges: exchanges,
        }
    }

    /// The names of deposits behind `from`, in their order.
    pub(super) fn deposit_keys(
        &self,
        from: Bound<&DepositKey>,
    ) -> impl Iterator<Item = &DepositKey> {
        let behind = self
            .deposits
            .range::<DepositKey, _>((from, Bound::Unbounded));
        behind.map(|(key, _)| key)
    }

    pub(super) fn text_of(&self, key: &DepositKey) -> Option<Arc<str>> {
        let card = self.cards.get(&Subject::Deposit(key.clone()))?;
        Some(Arc::clone(&card.text))
    }

    pub(super) fn deposits(&self) -> usize {
        self.deposits.len()
    }

    pub(super) fn needs(&self) -> usize {
        self.need_count
    }

    pub(super) fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// Takes over the needs of those who are `here`, the attempts to deposit, what was replaced, and the exchanges.
    pub(super) fn carry_over(&mut self, before: &mut Self, here: &dyn Fn(&AgentId) -> bool) {
        self.attempts = std::mem::take(&mut before.attempts);
        std::mem::swap(&mut self.replaced, &mut before.replaced);
        self.exchanges = before.exchanges;
        for (id, count) in std::mem::take(&mut before.needs) {
            if !here(&id) {
                continue;
            }
            for at in 0..count {
                let subject = Subject::Need(id.clone(), at);
                if let Some(card) = before.cards.remove(&subject) {
                    self.cards.insert(subject, card);
                }
            }
            self.needs.insert(id, count);
            self.need_count += count;
        }
    }

    /// The exchanges, if there were any since the last call.
    pub(super) fn take_exchanges(&mut self) -> Option<u64> {
        let before = std::mem::replace(&mut self.stored_exchanges, self.exchanges);
        (before != self.exchanges).then_some(self.exchanges)
    }

    pub(super) fn owns(&self, id: &AgentId) -> bool {
        self.of(id).next().is_some()
    }

    /// The deposits of one agent.
    pub(super) fn of<'b>(&'b self, id: &'b AgentId) -> impl Iterator<Item = &'b Deposit> {
        let from = DepositKey {
            owner: id.clone(),
            skill_id: String::new(),
        };
        let all = walked(self.deposits.range(from..)).map(|(_, (_, deposit))| deposit);
        all.take_while(move |deposit| deposit.key.owner == *id)
    }

    pub(super) fn deposits_of(&self, id: &AgentId) -> Vec<String> {
        self.of(id)
            .map(|deposit| deposit.key.skill_id.clone())
            .collect()
    }

    /// The first agent with a deposit of this skill that is `wanted`.
    fn owner_of(&self, skill_id: &str, wanted: impl Fn(&AgentId) -> bool) -> Option<&AgentId> {
        self.owners
            .get(skill_id)?
            .values()
            .find(|owner| wanted(owner))
    }

    /// A deposit by its skill and its owner.
    pub(super) fn find(&self, skill_id: &str, owner: Option<&AgentId>) -> Option<&Deposit> {
        let owner = owner?;
        self.get(&DepositKey {
            owner: owner.clone(),
            skill_id: skill_id.to_owned(),
        })
    }

    fn get(&self, key: &DepositKey) -> Option<&Deposit> {
        self.deposits.get(key).map(|(_, deposit)| deposit)
    }

    pub(super) fn show_agent(&mut self, agent: &Agent) {
        let subject = Subject::Agent(agent.id.clone());
        let capabilities = agent.capabilities();
        // As in the reference, an agent that lists its capabilities instead of describing them has no card.
        if !capabilities.is_object() {
            self.hide(&subject);
            return;
        }
        let member = |name: &str| match capabilities.get(name) {
            Some(list @ Value::Array(_)) => list.clone(),
            _ => json!([]),
        };
        let mut shown = json!({
            "agent_id": agent.id, "agent_name": agent.name, "name": agent.name, "format": "agent",
            "type": "agent", "capabilities": member("supported_actions"),
            "skill_formats": member("skill_formats"), "is_self": agent.is_self, "tags": [],
            "registered_at": agent.registered_at.wire(), "deposit_count": self.of(&agent.id).count(),
        });
        agent.describe(&mut shown);
        self.put(subject, &shown, &agent.name, Vec::new());
    }

    pub(super) fn hide_agent(&mut self, id: &AgentId) {
        self.hide(&Subject::Agent(id.clone()));
    }

    pub(super) fn put_deposit(&mut self, deposit: Deposit) {
        let key = deposit.key.clone();
        let number = match self.deposits.get(&key) {
            Some((number, before)) => {
                self.expiring.remove(before);
                self.locals.remove(before);
                *number
            }
            None => {
                self.next_number += 1;
                self.next_number
            }
        };
        self.expiring.insert(&deposit);
        self.locals.insert(&deposit);
        let owners = self.owners.entry(key.skill_id.clone()).or_default();
        owners.insert(number, key.owner.clone());
        let tags = deposit.facts.tags.clone();
        self.put(
            Subject::Deposit(key.clone()),
            &self.card(&deposit),
            &deposit.facts.name,
            tags,
        );
        self.deposits.insert(key, (number, deposit));
    }

    /// Shows nothing of what an agent left here, which stays.
    pub(super) fn hide_deposits(&mut self, id: &AgentId) {
        self.hidden.insert(id.clone());
        for skill_id in self.deposits_of(id) {
            let owner = id.clone();
            self.hide(&Subject::Deposit(DepositKey { owner, skill_id }));
        }
    }

    /// Shows it again.
    pub(super) fn show_deposits(&mut self, id: &AgentId) {
        self.hidden.remove(id);
        let deposits: Vec<Deposit> = self.of(id).cloned().collect();
        for deposit in deposits {
            self.put_deposit(deposit);
        }
    }

    /// The entry of a deposit, with what is attested of its bytes.
    pub(super) fn card(&self, deposit: &Deposit) -> Value {
        let attested = self.attestations.shown(deposit);
        deposit.card(attested.map(Attestation::listed).collect())
    }

    pub(super) fn remove_deposit(&mut self, key: &DepositKey) -> Option<Deposit> {
        let (number, removed) = self.deposits.remove(key)?;
        self.expiring.remove(&removed);
        self.locals.remove(&removed);
        if let Some(owners) = self.owners.get_mut(&key.skill_id) {
            owners.remove(&number);
            if owners.is_empty() {
                self.owners.remove(&key.skill_id);
            }
        }
        self.attestations.remove_of(key);
        self.hide(&Subject::Deposit(key.clone()));
        Some(removed)
    }

    pub(super) fn put_needs(&mut self, id: &AgentId, entry: &NeedEntry, now: Timestamp) {
        self.remove_needs(id);
        for (at, need) in entry.needs.iter().enumerate() {
            let shown = json!({
                "agent_id": id, "agent_name": entry.agent_name, "name": need.name, "format": "need",
                "type": "need", "description": need.description, "agent_mode": entry.agent_mode,
                "tags": ["knowledge_need"], "published_at": now.wire(),
            });
            let subject = Subject::Need(id.clone(), at);
            self.put(
                subject,
                &shown,
                &need.name,
                vec!["knowledge_need".to_owned()],
            );
        }
        if !entry.needs.is_empty() {
            self.needs.insert(id.clone(), entry.needs.len());
            self.need_count += entry.needs.len();
        }
    }

    /// Tells whether there were any.
    pub(super) fn remove_needs(&mut self, id: &AgentId) -> bool {
        let count = self.needs.remove(id).unwrap_or_default();
        self.need_count -= count;
        for at in 0..count {
            self.hide(&Subject::Need(id.clone(), at));
        }
        count > 0
    }

    fn put(&mut self, subject: Subject, shown: &Value, name: &str, tags: Vec<String>) {
        let card = Card {
            text: shown.to_string().into(),
            name: name.to_lowercase().into(),
            tags: tags.into(),
            agent: AgentMark::of(subject.agent()),
        };
        // Whatever changes about it, it is shown with the end of what hides it.
        if let Subject::Deposit(key) = &subject
            && self.hidden.contains(&key.owner)
        {
            return;
        }
        self.cards.insert(subject, card);
    }

    fn hide(&mut self, subject: &Subject) {
        self.cards.remove(subject);
    }
}
