//! A Meeting Place: who is registered, by which key, and what they show on the board.
//!
//! A deterministic machine. Whoever drives it passes the time in, lets it decide, and then has a
//! [`Store`](store::Store) take over all [`Change`]s of one or many decisions at once; nothing is acknowledged before.
//! If the store fails, the machine is built anew from what the store holds.
//!
//! The Place never judges (rules D1 to D5 of DEE): what it shows has a random order, an agent that fades is an
//! observation and no failure, and the Place is itself one of its agents.

pub mod agent;
pub mod agreement;
mod attempts;
pub mod attestation;
pub mod audit;
pub mod ban;
pub mod board;
pub mod browse;
mod condition;
pub mod deposit;
pub mod event;
mod guest;
pub mod once;
mod origin;
pub mod pages;
mod policy;
mod pool;
pub mod provenance;
mod registry;
pub mod skill_set;
pub mod store;
#[cfg(test)]
mod tests;
mod walk;

use std::net::IpAddr;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;

pub use agent::{Agent, Claim, MemberError, PinnedKey, Presence, Registration};
pub use agreement::{Agreement, Standing, StepError};
pub use attestation::{AttestError, AttestFault, Attestation, AttestationKey, Claimed};
pub use audit::Logged;
pub use ban::{Ban, BanError, BanPage, Banned, Target, Visitor};
pub use board::{Need, NeedEntry};
pub use browse::{Answer, Kind, Query, Search};
pub use condition::Condition;
pub use deposit::{Deposit, DepositKey, Facts, Offer};
pub use event::{Changed, Event};
pub use once::{Answered, Once, OnceKey, OtherRequest, Outcome};
pub use pages::{AgentCursor, Cursor, NoCursor, Paging, WalkPage};
pub use policy::{DepositLimits, Federation, Policy, SkillSetLimits};
pub use provenance::Provenance;
pub use registry::{AgentPage, RegisterError, Registered};
pub use skill_set::{
    SkillSetDeposit, SkillSetFault, SkillSetKey, SkillSetOffer, SkillSetSearch, SkillSetsShown,
};
pub use store::{Change, Snapshot};

use agreement::Agreements;
use ban::Bans;
use board::Board;
use guest::Guests;
use once::Answers;
use origin::Origins;
use registry::Registry;
use skill_set::Shelf;

/// See the module.
#[derive(Debug)]
pub struct MeetingPlace {
    policy: Policy,
    /// Its own id.
    me: AgentId,
    started: Timestamp,
    registry: Registry,
    board: Board,
    shelf: Shelf,
    answers: Answers,
    bans: Bans,
    agreements: Agreements,
    guests: Guests,
    origins: Origins,
    changes: Vec<Change>,
    events: Vec<Event>,
}

/// Why something about a deposit is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// All reasons, in the reference's words.
    #[error("the deposit is refused: {}", .0.join("; "))]
    Rejected(Vec<String>),
    /// There is no such deposit of this agent.
    #[error("no deposit `{skill_id}` of agent {owner}")]
    NoDeposit {
        /// What was named.
        skill_id: String,
        /// Whose it should be.
        owner: AgentId,
    },
    /// Something else is there than the request says, so it may be a late copy of an older one.
    #[error("{}", match there {
        Some(there) => format!("the deposit is {there} now, which is not what the request says it replaces"),
        None => "there is no deposit any more, which is not what the request says".to_owned(),
    })]
    Changed {
        /// The content that is there.
        there: Option<ContentHash>,
    },
    /// Only agents that are present may publish.
    #[error("agent {0} is not registered here; register first")]
    NotPresent(AgentId),
}

/// What a withdrawal or an update replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Replaced {
    /// Hash of the content before, if there was one.
    pub before: Option<ContentHash>,
    /// The deposit as it is now.
    pub deposit: Deposit,
}

/// Figures for whoever runs the Place, and for its public page.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Census {
    /// Agents present, the Place included.
    pub agents: usize,
    /// Of these, agents without a key.
    pub unverified: usize,
    /// Agents whose key is remembered though they faded or left.
    pub remembered: usize,
    /// Deposits on the board.
    pub deposits: usize,
    /// SkillSets left here.
    pub skill_sets: usize,
    /// Attestations of deposits, those of bytes that were replaced included.
    pub attestations: usize,
    /// Needs on the board.
    pub needs: usize,
    /// Bans in force.
    pub bans: usize,
    /// Skills handed out since the Place began.
    pub exchanges: u64,
}

impl MeetingPlace {
    /// Builds the Place from what its store holds. `me` is the agent that hosts it and takes part in it.
    ///
    /// Agents that were present get a whole time to live from `now`: they could not reach a Place that was down.
    pub fn new(policy: Policy, me: Registration, snapshot: Snapshot, now: Timestamp) -> Self {
        let mut place = Self {
            me: me.id.clone(),
            started: now,
            registry: Registry::new(policy.ttl),
            board: Board::new(snapshot.exchanges, policy.repeat_window),
            shelf: Shelf::new(policy.repeat_window),
            answers: Answers::default(),
            bans: Bans::default(),
            agreements: Agreements::default(),
            guests: Guests::default(),
            origins: Origins::default(),
            changes: Vec::new(),
            events: Vec::new(),
            policy,
        };
        for agent in snapshot.agents {
            place.registry.restore(agent, now);
        }
        for agreement in snapshot.agreements {
            place.agreements.put(agreement);
        }
        for (id, key) in snapshot.guests {
            place.guests.put(id, key);
        }
        for ban in snapshot.bans {
            place.bans.put(ban);
        }
        place.bar_all();
        for attestation in snapshot.attestations {
            place.board.attestations.put(attestation);
        }
        let most = place.policy.federation.origins_max;
        for (hash, origin) in snapshot.origins {
            place.board.origins.put(hash, origin, most);
        }
        for deposit in snapshot.deposits {
            place.registry.set_owner(&deposit.key.owner, true);
            place.restore_origin(&deposit);
            place.board.put_deposit(deposit);
        }
        for answered in snapshot.answers {
            place.answers.put(answered);
        }
        for set in snapshot.skill_sets {
            place.registry.set_owner(&set.key.owner, true);
            place.shelf.put(set);
        }
        let ids: Vec<AgentId> = place.registry.present_ids();
        for id in ids {
            place.show(&id);
        }
        place.admit_self(me, now);
        place
    }

    /// Takes over what `before`, the same Place until now, holds in memory only: since when it runs, the needs of agents
    /// that are still here, and who tried to deposit how often.
    pub fn carry_over(&mut self, before: &mut Self) {
        self.started = before.started;
        self.origins = std::mem::take(&mut before.origins);
        let registry = &self.registry;
        self.board
            .carry_over(&mut before.board, &|id| registry.is_present(id));
        self.shelf.carry_over(&mut before.shelf);
    }

    /// What the Place is bound to.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The id of the agent that hosts it.
    pub fn id(&self) -> &AgentId {
        &self.me
    }

    /// Since when it runs.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// What is to be stored before anything since the last call is acknowledged.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What is to be told of the board once the changes since the last call are stored.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn tell(&mut self, kind: Changed, agent: &AgentId, id: Option<&str>) {
        if self.events.len() < event::EVENTS_MAX {
            self.events.push(Event {
                kind,
                agent: agent.clone(),
                id: id.map(str::to_owned),
            });
        }
    }

    fn admit_self(&mut self, me: Registration, now: Timestamp) {
        let id = me.id.clone();
        for stale in self.registry.selves() {
            if stale != id {
                self.leave(&stale, Presence::Left(now));
            }
        }
        self.registry.put_self(me, now);
        self.record(&id);
    }

    /// Registers an agent or takes over what it says anew. A refused one changes nothing.
    pub fn register(
        &mut self,
        registration: Registration,
        now: Timestamp,
    ) -> Result<Registered, RegisterError> {
        self.register_from(registration, None, now)
    }

    /// The same for one that asks from `address`, of which only so many are taken that the Place does not know.
    pub fn register_from(
        &mut self,
        registration: Registration,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Registered, RegisterError> {
        let id = registration.id.clone();
        let key = match &registration.claim {
            Claim::Signed(key, _) => Some(key.hash()),
            Claim::Unsigned => None,
        };
        let visitor = Visitor {
            agent: Some(&id),
            key,
            address,
        };
        if self.banned(visitor, now).is_some() {
            return Err(RegisterError::Banned(id));
        }
        let before = self.registry.get(&id);
        let had_key = before.is_some_and(|agent| agent.key.is_some());
        if let Some(address) = address
            && before.is_none()
        {
            self.has_room_for(address, key.is_none())?;
        }
        let mut done = self.registry.register(registration, &self.policy, now)?;
        // What it left here may have outlived the memory of it.
        self.note_owner(&id);
        if done.changed {
            self.record(&id);
            self.log_registration(&id, had_key, now);
        }
        if let Some(address) = address {
            let unverified = self.key(&id).is_none();
            self.origins.note(&id, address, unverified);
        }
        done.forgotten = self.registry.prune(self.policy.remembered_max);
        for id in &done.forgotten {
            self.forget_attester(id);
            self.changes.push(Change::AgentGone(id.clone()));
        }
        Ok(done)
    }

    fn has_room_for(&self, address: IpAddr, unverified: bool) -> Result<(), RegisterError> {
        let share = self.origins.share(address);
        let max = self.policy.agents_per_address;
        if share.agents >= max {
            return Err(RegisterError::AddressShare { max });
        }
        let max = self.policy.unverified_per_address;
        if unverified && share.unverified >= max {
            return Err(RegisterError::AddressUnverified { max });
        }
        Ok(())
    }

    /// From where an agent registered that is here, if that is known.
    pub fn origin(&self, id: &AgentId) -> Option<IpAddr> {
        self.origins.of(id)
    }

    /// Takes an agent off the registry with its needs, deposits and SkillSets. Its key stays remembered, so that nobody else
    /// becomes it. Tells whether it was there.
    pub fn unregister(&mut self, id: &AgentId, now: Timestamp) -> bool {
        if self.registry.is_self(id) || !self.registry.is_present(id) {
            return false;
        }
        for skill_id in self.board.deposits_of(id) {
            self.remove_deposit(id, &skill_id);
        }
        self.withdraw_skill_sets(id);
        self.leave(id, Presence::Left(now));
        true
    }

    fn leave(&mut self, id: &AgentId, presence: Presence) {
        self.board.hide_agent(id);
        self.remove_needs(id);
        self.origins.forget(id);
        if let Some(agent) = self.registry.leave(id, presence) {
            self.changes.push(match agent.key.is_some() {
                true => Change::Agent(Box::new(agent)),
                false => Change::AgentGone(agent.id),
            });
        }
    }

    /// Notes a sign of life. Tells whether the agent is present.
    pub fn touch(&mut self, id: &AgentId, now: Timestamp) -> bool {
        self.registry.touch(id, now)
    }

    /// Hands the exchanges and up to `most` signs of life to the store, which need not be told of each: those that
    /// wait longest first, each agent once.
    pub fn note_counts(&mut self, most: usize) {
        if let Some(exchanges) = self.board.take_exchanges() {
            self.changes.push(Change::Exchanges(exchanges));
        }
        let seen = self.registry.take_seen(most);
        if !seen.is_empty() {
            self.changes.push(Change::Seen(seen));
        }
    }

    /// Lets agents fade that gave no sign of life for the time to live, at most `most` of them; returns them as they
    /// were. Their deposits stay: they were given for others to find.
    pub fn sweep(&mut self, now: Timestamp, most: usize) -> Vec<Agent> {
        let faded = self.registry.due(now, most);
        for agent in &faded {
            self.leave(&agent.id, Presence::Faded(now));
        }
        self.board.attempts.forget(now);
        self.board.replaced.forget(now);
        self.shelf.replaced.forget(now);
        self.forget_answers(now, most);
        self.end_bans(now, most);
        self.forget_agreements(now);
        faded
    }

    /// A page of the registry, in the order in which agents first registered.
    pub fn agents(
        &self,
        include_self: bool,
        after: Option<&AgentCursor>,
        limit: usize,
    ) -> AgentPage<'_> {
        self.registry.page(include_self, after, limit)
    }

    /// The record of an agent that is present.
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.registry
            .get(id)
            .filter(|agent| agent.presence == Presence::Here)
    }

    /// The key an agent is known by, also of one that faded: its mail can still be sealed.
    pub fn key(&self, id: &AgentId) -> Option<&PinnedKey> {
        let key = self.registry.get(id)?.key.as_ref();
        key.filter(|_| self.is_shown(id))
    }

    /// Figures about the Place.
    pub fn census(&self) -> Census {
        Census {
            agents: self.registry.present(),
            unverified: self.registry.unverified(),
            remembered: self.registry.remembered(),
            deposits: self.board.deposits(),
            skill_sets: self.shelf.len(),
            attestations: self.board.attestations.count(),
            needs: self.board.needs(),
            bans: self.bans.len(),
            exchanges: self.board.exchanges(),
        }
    }

    /// Notes whether `id` has something here, for which it is remembered.
    fn note_owner(&mut self, id: &AgentId) {
        let owns = self.board.owns(id) || self.shelf.owns(id);
        self.registry.set_owner(id, owns);
    }

    /// Stores the record of `id` and shows it on the board.
    fn record(&mut self, id: &AgentId) {
        if let Some(agent) = self.registry.get(id) {
            self.changes.push(Change::Agent(Box::new(agent.clone())));
        }
        self.show(id);
    }

    /// Shows an agent that is present on the board as its record is now.
    fn show(&mut self, id: &AgentId) {
        if let Some(agent) = self.registry.get(id) {
            self.board.show_agent(agent);
        }
    }
}
