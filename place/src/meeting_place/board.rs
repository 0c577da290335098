//! What a Place shows: one card for each agent, need and deposit.
//!
//! Cards are text that is ready to be sent: they are written when something changes, which is seldom, and not when
//! somebody looks, which is often.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::agent::Agent;
use super::attempts::Attempts;
use super::attestation::{Attestation, Attestations};
use super::deposit::{Deposit, DepositKey};
use super::pool::Pool;
use super::provenance::{Expiring, Origins};
use super::walk::walked;
use super::{BoardError, Change, Changed, MeetingPlace, Replaced};

/// Longest name of a need in bytes.
pub const NEED_NAME_MAX: usize = 256;
/// Longest description of a need in bytes.
pub const NEED_DESCRIPTION_MAX: usize = 1_000;
/// Longest name of a mode in bytes.
pub const AGENT_MODE_MAX: usize = 64;

/// Something an agent looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// At most [`NEED_NAME_MAX`] bytes.
    pub name: String,
    /// At most [`NEED_DESCRIPTION_MAX`] bytes.
    pub description: Option<String>,
}

/// What an agent says with its needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedEntry {
    /// As it calls itself here.
    pub agent_name: String,
    /// Its mode of work, `unknown` in the reference if it does not say.
    pub agent_mode: String,
    /// What it looks for.
    pub needs: Vec<Need>,
}

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
    pub(super) attestations: Attestations,
    needs: HashMap<AgentId, usize>,
    need_count: usize,
    pub(super) attempts: Attempts,
    /// Agents of whose deposits nothing is shown.
    hidden: HashSet<AgentId>,
    exchanges: u64,
    /// Of these, as many as the store knows of.
    stored_exchanges: u64,
}

impl Board {
    pub(super) fn new(exchanges: u64) -> Self {
        Self {
            cards: Pool::new(),
            deposits: BTreeMap::new(),
            next_number: 0,
            owners: HashMap::new(),
            origins: Origins::default(),
            expiring: Expiring::default(),
            attestations: Attestations::default(),
            needs: HashMap::new(),
            need_count: 0,
            attempts: Attempts::default(),
            hidden: HashSet::new(),
            exchanges,
            stored_exchanges: exchanges,
        }
    }

    pub(super) fn deposit_keys(&self) -> impl Iterator<Item = &DepositKey> {
        self.deposits.keys()
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

    /// Takes over the needs of those who are `here`, the attempts to deposit, and the exchanges.
    pub(super) fn carry_over(&mut self, before: &mut Self, here: &dyn Fn(&AgentId) -> bool) {
        self.attempts = std::mem::take(&mut before.attempts);
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
                *number
            }
            None => {
                self.next_number += 1;
                self.next_number
            }
        };
        self.expiring.insert(&deposit);
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

impl MeetingPlace {
    /// Puts up what an agent looks for, instead of what it looked for before. Needs live in memory only.
    pub fn publish_needs(
        &mut self,
        id: &AgentId,
        entry: &NeedEntry,
        now: Timestamp,
    ) -> Result<usize, BoardError> {
        if self.agent(id).is_none() {
            return Err(BoardError::NotPresent(id.clone()));
        }
        let most = self.policy.needs_max;
        let too_long = |need: &&Need| {
            need.name.len() > NEED_NAME_MAX
                || need
                    .description
                    .as_ref()
                    .is_some_and(|text| text.len() > NEED_DESCRIPTION_MAX)
        };
        let mut reasons = Vec::new();
        if entry.needs.len() > most {
            reasons.push(format!("more than {most} needs"));
        }
        if let Some(need) = entry.needs.iter().find(too_long) {
            let start: String = need.name.chars().take(40).collect();
            reasons.push(format!(
                "need `{start}`: at most {NEED_NAME_MAX} bytes of name and {NEED_DESCRIPTION_MAX} of description"
            ));
        }
        if entry.agent_mode.len() > AGENT_MODE_MAX || entry.agent_name.len() > NEED_NAME_MAX {
            reasons.push(format!(
                "at most {NEED_NAME_MAX} bytes of agent_name and {AGENT_MODE_MAX} of agent_mode"
            ));
        }
        if !reasons.is_empty() {
            return Err(BoardError::Rejected(reasons));
        }
        self.board.put_needs(id, entry, now);
        self.tell(Changed::Needs, id, None);
        Ok(entry.needs.len())
    }

    /// The needs of an agent as the board shows them.
    pub fn needs_of(&self, id: &AgentId) -> Vec<Value> {
        let count = self.board.needs.get(id).copied().unwrap_or_default();
        let subjects = (0..count).map(|at| Subject::Need(id.clone(), at));
        let cards = subjects.filter_map(|subject| self.board.cards.get(&subject));
        cards
            .filter_map(|card| serde_json::from_str(&card.text).ok())
            .collect()
    }

    /// Takes the needs of an agent down. Tells whether there were any.
    pub fn remove_needs(&mut self, id: &AgentId) -> bool {
        let were = self.board.remove_needs(id);
        if were {
            self.tell(Changed::NeedsGone, id, None);
        }
        were
    }

    /// Counts an attempt of `id` to deposit, refused ones too.
    pub fn attempt_deposit(&mut self, id: &AgentId, now: Timestamp) -> Result<(), BoardError> {
        let most = self.policy.deposits.per_hour;
        match self.board.attempts.count(id, most, now) {
            true => Ok(()),
            false => Err(BoardError::Rejected(vec![format!(
                "Deposit rate limit exceeded (max {most}/hour)"
            )])),
        }
    }

    /// Takes a checked deposit onto the board, instead of the one of this agent and skill before. The content itself
    /// goes to the store with the change. See [`Offer::check`](super::Offer::check) for what was checked.
    pub fn deposit(&mut self, mut deposit: Deposit, content: &str) -> Result<Replaced, BoardError> {
        let owner = deposit.key.owner.clone();
        if self.agent(&owner).is_none() {
            return Err(BoardError::NotPresent(owner));
        }
        let before = self
            .board
            .find(&deposit.key.skill_id, Some(&owner))
            .cloned();
        let limits = &self.policy.deposits;
        let mut reasons = Vec::new();
        if before.is_none() && self.board.of(&owner).count() >= limits.per_agent {
            reasons.push(format!(
                "Per-agent quota exceeded (max {})",
                limits.per_agent
            ));
        }
        if before.is_none() && self.board.deposits() >= limits.total {
            reasons.push(format!(
                "Total deposit quota exceeded (max {})",
                limits.total
            ));
        }
        if !reasons.is_empty() {
            return Err(BoardError::Rejected(reasons));
        }
        self.settle_origin(&mut deposit, before.as_ref())
            .map_err(BoardError::Rejected)?;
        deposit.first_deposited = before
            .as_ref()
            .map_or(deposit.deposited_at, |old| old.first_deposited);
        self.board.put_deposit(deposit.clone());
        self.registry.set_owner(&owner, true);
        self.changes
            .push(Change::Deposit(Box::new(deposit.clone()), content.into()));
        self.show(&owner);
        let kind = match before.is_some() {
            true => Changed::Update,
            false => Changed::Deposit,
        };
        self.tell(kind, &owner, Some(&deposit.key.skill_id));
        Ok(Replaced {
            before: before.map(|old| old.content_hash),
            deposit,
        })
    }

    /// Like [`deposit`](Self::deposit), but only in the place of one that is there.
    pub fn update(&mut self, deposit: Deposit, content: &str) -> Result<Replaced, BoardError> {
        let DepositKey { owner, skill_id } = &deposit.key;
        match self.board.find(skill_id, Some(owner)) {
            Some(_) => self.deposit(deposit, content),
            None => Err(BoardError::NoDeposit {
                skill_id: skill_id.clone(),
                owner: owner.clone(),
            }),
        }
    }

    /// Takes a deposit off the board.
    pub fn withdraw(&mut self, owner: &AgentId, skill_id: &str) -> Result<Deposit, BoardError> {
        match self.remove_deposit(owner, skill_id) {
            Some(removed) => Ok(removed),
            None => Err(BoardError::NoDeposit {
                skill_id: skill_id.to_owned(),
                owner: owner.clone(),
            }),
        }
    }

    pub(super) fn remove_deposit(&mut self, owner: &AgentId, skill_id: &str) -> Option<Deposit> {
        let key = DepositKey {
            owner: owner.clone(),
            skill_id: skill_id.to_owned(),
        };
        let removed = self.board.remove_deposit(&key)?;
        self.note_owner(owner);
        self.changes.push(Change::DepositGone(key));
        self.tell(Changed::Withdrawal, owner, Some(skill_id));
        if self.agent(owner).is_some() {
            self.show(owner);
        }
        Some(removed)
    }

    /// A deposit; of several agents' with this skill the first, without an owner.
    pub fn find_deposit(&self, skill_id: &str, owner: Option<&AgentId>) -> Option<&Deposit> {
        let owner = match owner {
            Some(owner) => Some(owner).filter(|owner| self.is_shown(owner)),
            None => self.board.owner_of(skill_id, |owner| self.is_shown(owner)),
        };
        self.board.find(skill_id, owner)
    }

    /// A deposit as the board shows it.
    pub fn card(&self, deposit: &Deposit) -> Value {
        self.board.card(deposit)
    }

    /// All deposits of one agent, unless it is kept out.
    pub fn deposits_of<'p>(&'p self, owner: &'p AgentId) -> impl Iterator<Item = &'p Deposit> {
        let shown = self.is_shown(owner);
        self.board.of(owner).filter(move |_| shown)
    }

    /// Counts that a skill was handed out. [`note_counts`](Self::note_counts) hands the count to the store.
    pub fn count_exchange(&mut self) {
        self.board.exchanges += 1;
    }
}
