//! What agents leave for others: put up, replaced and taken down.

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde_json::Value;

use crate::meeting_place::condition::Condition;
use crate::meeting_place::{
    BoardError, Change, Changed, Deposit, DepositKey, MeetingPlace, Replaced,
};

impl MeetingPlace {
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
    /// goes to the store with the change. See [`Offer::check`](crate::meeting_place::Offer::check) for what was checked.
    pub fn deposit(&mut self, deposit: Deposit, content: &str) -> Result<Replaced, BoardError> {
        self.deposit_if(deposit, content, Condition::Any)
    }

    /// Like [`deposit`](Self::deposit), on a condition. A request that was carried out already changes nothing.
    pub fn deposit_if(
        &mut self,
        mut deposit: Deposit,
        content: &str,
        condition: Condition,
    ) -> Result<Replaced, BoardError> {
        let owner = deposit.key.owner.clone();
        if self.agent(&owner).is_none() {
            return Err(BoardError::NotPresent(owner));
        }
        let before = self
            .board
            .find(&deposit.key.skill_id, Some(&owner))
            .cloned();
        let there = before.as_ref().map(|old| old.content_hash);
        if !condition.holds(there) {
            return match before {
                Some(same) if same.content_hash == deposit.content_hash => Ok(Replaced {
                    before: there,
                    deposit: same,
                }),
                _ => Err(BoardError::Changed { there }),
            };
        }
        if condition == Condition::Unsaid {
            self.refuse_replaced(&deposit)?;
        }
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
        if let Some(old) = there {
            let (new, at) = (deposit.content_hash, deposit.deposited_at);
            self.board.replaced.note(&deposit.key, old, new, at);
        }
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

    /// Refuses bytes that were replaced of late, which look like a late copy of an older request.
    fn refuse_replaced(&self, deposit: &Deposit) -> Result<(), BoardError> {
        let (key, hash) = (&deposit.key, deposit.content_hash);
        let replaced = self.board.replaced.when(key, hash, deposit.deposited_at);
        match replaced {
            None => Ok(()),
            Some(at) => Err(BoardError::Rejected(vec![format!(
                "Stale deposit: this content was replaced at {}; to bring it back, update the deposit (PUT), or say what is to be replaced (If-Match)",
                at.wire()
            )])),
        }
    }

    /// Like [`deposit`](Self::deposit), but only in the place of one that is there.
    pub fn update(&mut self, deposit: Deposit, content: &str) -> Result<Replaced, BoardError> {
        self.update_if(deposit, content, Condition::Any)
    }

    /// Like [`update`](Self::update), on a condition.
    pub fn update_if(
        &mut self,
        deposit: Deposit,
        content: &str,
        condition: Condition,
    ) -> Result<Replaced, BoardError> {
        let DepositKey { owner, skill_id } = &deposit.key;
        match self.board.find(skill_id, Some(owner)) {
            Some(_) => self.deposit_if(deposit, content, condition),
            None => Err(BoardError::NoDeposit {
                skill_id: skill_id.clone(),
                owner: owner.clone(),
            }),
        }
    }

    /// Takes a deposit off the board.
    pub fn withdraw(&mut self, owner: &AgentId, skill_id: &str) -> Result<Deposit, BoardError> {
        self.withdraw_if(owner, skill_id, Condition::Any)
    }

    /// Like [`withdraw`](Self::withdraw), on a condition.
    pub fn withdraw_if(
        &mut self,
        owner: &AgentId,
        skill_id: &str,
        condition: Condition,
    ) -> Result<Deposit, BoardError> {
        let there = self.board.find(skill_id, Some(owner));
        let there = there.map(|deposit| deposit.content_hash);
        if there.is_some() && !condition.holds(there) {
            return Err(BoardError::Changed { there });
        }
        match self.remove_deposit(owner, skill_id) {
            Some(removed) => Ok(removed),
            None => Err(BoardError::NoDeposit {
                skill_id: skill_id.to_owned(),
                owner: owner.clone(),
            }),
        }
    }

    pub(in crate::meeting_place) fn remove_deposit(
        &mut self,
        owner: &AgentId,
        skill_id: &str,
    ) -> Option<Deposit> {
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
