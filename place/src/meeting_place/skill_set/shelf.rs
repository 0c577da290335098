//! The SkillSets of a Place: what is there, and what browsing shows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kairos_protocol::id::{AgentId, SkillSetName};
use kairos_protocol::time::Timestamp;
use rand::Rng;
use rand::seq::{SliceRandom as _, index};

use super::{SKILL_SETS_SHOWN_MAX, SkillSetDeposit, SkillSetFault, SkillSetKey};
use crate::meeting_place::browse::SEARCH_STEP;
use crate::meeting_place::condition::{Condition, Replacements};
use crate::meeting_place::pool::{Pool, Walked};
use crate::meeting_place::walk::walked;
use crate::meeting_place::{Change, Changed, MeetingPlace};

/// A look at the SkillSets for something, in steps like a [`Search`](crate::meeting_place::Search) of the board.
#[derive(Debug)]
pub struct SkillSetSearch {
    /// Lower case.
    wanted: String,
    walked: Walked,
    found: Vec<(SkillSetKey, Arc<str>)>,
}

impl SkillSetSearch {
    /// Has looked at nothing yet.
    pub fn new(search: &str) -> Self {
        Self {
            wanted: search.to_lowercase(),
            walked: Walked::default(),
            found: Vec::new(),
        }
    }

    /// Draws at most `limit` of what was found, and at most [`SKILL_SETS_SHOWN_MAX`].
    pub fn answer(mut self, limit: usize, rng: &mut impl Rng) -> SkillSetsShown {
        if self.walked.has_twice() {
            let mut seen = HashSet::new();
            self.found.retain(|(key, _)| seen.insert(key.clone()));
        }
        let total = self.found.len();
        let limit = limit.clamp(1, SKILL_SETS_SHOWN_MAX);
        let (drawn, _) = self.found.partial_shuffle(rng, limit);
        SkillSetsShown {
            entries: drawn.iter().map(|(_, text)| Arc::clone(text)).collect(),
            total,
        }
    }
}

/// What a look at the SkillSets found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillSetsShown {
    /// Entries in random order, each compact JSON.
    pub entries: Vec<Arc<str>>,
    /// How many answer.
    pub total: usize,
}

#[derive(Debug)]
struct Card {
    text: Arc<str>,
    searched: Box<str>,
}

/// All SkillSets of a Place.
#[derive(Debug)]
pub(in crate::meeting_place) struct Shelf {
    sets: HashMap<AgentId, BTreeMap<SkillSetName, SkillSetDeposit>>,
    /// Who left one of some name, first come first.
    owners: HashMap<SkillSetName, Vec<AgentId>>,
    cards: Pool<SkillSetKey, Card>,
    /// Agents of whose SkillSets nothing is shown.
    hidden: HashSet<AgentId>,
    pub(in crate::meeting_place) replaced: Replacements<SkillSetKey>,
    count: usize,
    /// Of all archives.
    bytes: u64,
}

impl Shelf {
    pub(in crate::meeting_place) fn new(repeat_window: Duration) -> Self {
        Self {
            sets: HashMap::new(),
            owners: HashMap::new(),
            cards: Pool::new(),
            hidden: HashSet::new(),
            replaced: Replacements::new(repeat_window),
            count: 0,
            bytes: 0,
        }
    }

    /// Takes over what was replaced.
    pub(in crate::meeting_place) fn carry_over(&mut self, before: &mut Self) {
        std::mem::swap(&mut self.replaced, &mut before.replaced);
    }

    pub(in crate::meeting_place) fn len(&self) -> usize {
        self.count
    }

    /// Shows nothing of what an agent left here, which stays.
    pub(in crate::meeting_place) fn hide(&mut self, owner: &AgentId) {
        self.hidden.insert(owner.clone());
        let keys: Vec<SkillSetKey> = self.of(owner).map(|set| set.key.clone()).collect();
        for key in keys {
            self.cards.remove(&key);
        }
    }

    /// Shows it again.
    pub(in crate::meeting_place) fn show(&mut self, owner: &AgentId) {
        self.hidden.remove(owner);
        let sets: Vec<SkillSetDeposit> = self.of(owner).cloned().collect();
        for set in sets {
            self.put_card(&set);
        }
    }

    fn put_card(&mut self, set: &SkillSetDeposit) {
        if self.hidden.contains(&set.key.owner) {
            return;
        }
        let card = Card {
            text: set.card().to_string().into(),
            searched: set.searched().into(),
        };
        self.cards.insert(set.key.clone(), card);
    }

    pub(in crate::meeting_place) fn text_of(&self, key: &SkillSetKey) -> Option<Arc<str>> {
        Some(Arc::clone(&self.cards.get(key)?.text))
    }

    pub(in crate::meeting_place) fn owns(&self, owner: &AgentId) -> bool {
        self.of(owner).next().is_some()
    }

    /// The next up to `most` names of a walk over what is shown, and whether there are more.
    pub(in crate::meeting_place) fn shown_keys<'s>(
        &'s self,
        walked: &mut Walked,
        most: usize,
    ) -> (impl Iterator<Item = &'s SkillSetKey> + use<'s>, bool) {
        let (cards, more) = self.cards.go_on(walked, most);
        (cards.map(|(key, _)| key), more)
    }

    pub(in crate::meeting_place) fn names_of(&self, owner: &AgentId) -> Vec<SkillSetName> {
        self.of(owner).map(|set| set.key.name.clone()).collect()
    }

    fn of(&self, owner: &AgentId) -> impl Iterator<Item = &SkillSetDeposit> {
        let mine = self.sets.get(owner).into_iter();
        mine.flat_map(BTreeMap::values)
    }

    fn get(&self, key: &SkillSetKey) -> Option<&SkillSetDeposit> {
        self.sets.get(&key.owner)?.get(&key.name)
    }

    pub(in crate::meeting_place) fn put(&mut self, set: SkillSetDeposit) {
        let key = set.key.clone();
        self.remove(&key);
        let owners = self.owners.entry(key.name.clone()).or_default();
        owners.push(key.owner.clone());
        self.put_card(&set);
        self.count += 1;
        self.bytes += set.archive_bytes;
        let of_owner = self.sets.entry(key.owner).or_default();
        of_owner.insert(key.name, set);
    }

    fn remove(&mut self, key: &SkillSetKey) -> Option<SkillSetDeposit> {
        let of_owner = self.sets.get_mut(&key.owner)?;
        let set = of_owner.remove(&key.name)?;
        if of_owner.is_empty() {
            self.sets.remove(&key.owner);
        }
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(set.archive_bytes);
        if let Some(owners) = self.owners.get_mut(&key.name) {
            owners.retain(|owner| *owner != key.owner);
            if owners.is_empty() {
                self.owners.remove(&key.name);
            }
        }
        self.cards.remove(key);
        Some(set)
    }
}

impl MeetingPlace {
    /// Counts an attempt of `id` to deposit a SkillSet; attempts to deposit skills are counted with it.
    pub fn attempt_skill_set(&mut self, id: &AgentId, now: Timestamp) -> Result<(), SkillSetFault> {
        let max = self.policy.deposits.per_hour;
        let tried = self.attempt_deposit(id, now);
        tried.map_err(|_| SkillSetFault::TooOften { max })
    }

    /// Takes a checked SkillSet, instead of the one of this agent and name before. The archive goes to the store with
    /// the change. See [`SkillSetOffer::check`](super::SkillSetOffer::check) for what was checked.
    pub fn deposit_skill_set(
        &mut self,
        set: SkillSetDeposit,
        archive: Arc<[u8]>,
    ) -> Result<SkillSetDeposit, SkillSetFault> {
        self.deposit_skill_set_if(set, archive, Condition::Any)
    }

    /// Like [`deposit_skill_set`](Self::deposit_skill_set), on a condition. A request that was carried out already
    /// changes nothing.
    pub fn deposit_skill_set_if(
        &mut self,
        set: SkillSetDeposit,
        archive: Arc<[u8]>,
        condition: Condition,
    ) -> Result<SkillSetDeposit, SkillSetFault> {
        let owner = &set.key.owner;
        if self.agent(owner).is_none() {
            return Err(SkillSetFault::NotPresent(owner.clone()));
        }
        let limits = &self.policy.skill_sets;
        let before = self.shelf.get(&set.key);
        let there = before.map(|old| old.content_hash);
        if !condition.holds(there) {
            return match before {
                Some(same) if same.content_hash == set.content_hash => Ok(same.clone()),
                _ => Err(SkillSetFault::Changed { there }),
            };
        }
        let replaced = &self.shelf.replaced;
        if condition == Condition::Unsaid
            && let Some(at) = replaced.when(&set.key, set.content_hash, set.deposited_at)
        {
            return Err(SkillSetFault::Stale { at });
        }
        if before.is_none() && self.shelf.of(owner).count() >= limits.per_agent {
            let max = limits.per_agent;
            return Err(SkillSetFault::AgentFull { max });
        }
        let replaced = before.map_or(0, |set| set.archive_bytes);
        let bytes = self.shelf.bytes.saturating_sub(replaced) + set.archive_bytes;
        if bytes > limits.bytes || (before.is_none() && self.shelf.len() >= limits.total) {
            return Err(SkillSetFault::Full {
                bytes: limits.bytes,
                sets: limits.total,
            });
        }
        if let Some(old) = there {
            let (new, at) = (set.content_hash, set.deposited_at);
            self.shelf.replaced.note(&set.key, old, new, at);
        }
        self.shelf.put(set.clone());
        let (owner, name) = (&set.key.owner, set.key.name.as_str());
        self.note_owner(owner);
        self.tell(Changed::SkillSet, owner, Some(name));
        let change = Change::SkillSet(Box::new(set.clone()), archive);
        self.changes.push(change);
        Ok(set)
    }

    /// Takes a SkillSet off.
    pub fn withdraw_skill_set(
        &mut self,
        owner: &AgentId,
        name: &SkillSetName,
    ) -> Result<SkillSetDeposit, SkillSetFault> {
        self.withdraw_skill_set_if(owner, name, Condition::Any)
    }

    /// Like [`withdraw_skill_set`](Self::withdraw_skill_set), on a condition.
    pub fn withdraw_skill_set_if(
        &mut self,
        owner: &AgentId,
        name: &SkillSetName,
        condition: Condition,
    ) -> Result<SkillSetDeposit, SkillSetFault> {
        let key = SkillSetKey {
            owner: owner.clone(),
            name: name.clone(),
        };
        let there = self.shelf.get(&key).map(|set| set.content_hash);
        if there.is_some() && !condition.holds(there) {
            return Err(SkillSetFault::Changed { there });
        }
        let removed = self.shelf.remove(&key);
        let removed = removed.ok_or_else(|| SkillSetFault::NotFound(name.to_string()))?;
        self.note_owner(owner);
        self.changes.push(Change::SkillSetGone(key));
        self.tell(Changed::SkillSetGone, owner, Some(name.as_str()));
        Ok(removed)
    }

    pub(in crate::meeting_place) fn withdraw_skill_sets(&mut self, owner: &AgentId) {
        let keys: Vec<_> = self.shelf.of(owner).map(|set| set.key.clone()).collect();
        for key in keys {
            self.shelf.remove(&key);
            self.tell(Changed::SkillSetGone, owner, Some(key.name.as_str()));
            self.changes.push(Change::SkillSetGone(key));
        }
        self.note_owner(owner);
    }

    /// A SkillSet by its name, and by its owner where several agents left one of that name.
    pub fn find_skill_set(
        &self,
        name: &SkillSetName,
        owner: Option<&AgentId>,
    ) -> Result<&SkillSetDeposit, SkillSetFault> {
        let missing = || SkillSetFault::NotFound(name.to_string());
        let owners = self.shelf.owners.get(name).ok_or_else(missing)?;
        let shown = owners.iter().filter(|owner| self.is_shown(owner));
        let shown: Vec<&AgentId> = shown.collect();
        let owner = match (owner, &shown[..]) {
            (Some(owner), _) if !self.is_shown(owner) => return Err(missing()),
            (Some(owner), _) => owner,
            (None, [owner]) => *owner,
            (None, []) => return Err(missing()),
            (None, several) => {
                return Err(SkillSetFault::Ambiguous {
                    name: name.clone(),
                    depositors: several.iter().map(|id| (*id).clone()).collect(),
                });
            }
        };
        let key = SkillSetKey {
            owner: owner.clone(),
            name: name.clone(),
        };
        self.shelf.get(&key).ok_or_else(missing)
    }

    /// Draws SkillSets in whose name, description or labels `search` occurs, without regard to case: a random choice in
    /// random order, at most [`SKILL_SETS_SHOWN_MAX`]. Without a search this costs O(limit), else a walk over all.
    pub fn browse_skill_sets(
        &self,
        search: &str,
        limit: usize,
        rng: &mut impl Rng,
    ) -> SkillSetsShown {
        if search.is_empty() {
            return self.draw_skill_sets(limit, rng);
        }
        let mut search = SkillSetSearch::new(search);
        while self.look_for_skill_sets(&mut search) {}
        search.answer(limit, rng)
    }

    /// Draws from all SkillSets.
    pub fn draw_skill_sets(&self, limit: usize, rng: &mut impl Rng) -> SkillSetsShown {
        let cards = &self.shelf.cards;
        let limit = limit.clamp(1, SKILL_SETS_SHOWN_MAX);
        let drawn = index::sample(rng, cards.len(), limit.min(cards.len()));
        let drawn = drawn.iter().filter_map(|number| cards.draw(number));
        SkillSetsShown {
            entries: drawn.map(|(_, card)| Arc::clone(&card.text)).collect(),
            total: cards.len(),
        }
    }

    /// Looks at up to [`SEARCH_STEP`] more SkillSets; tells whether there are others.
    pub fn look_for_skill_sets(&self, search: &mut SkillSetSearch) -> bool {
        let (cards, more) = self.shelf.cards.go_on(&mut search.walked, SEARCH_STEP);
        let fitting = walked(cards).filter(|(_, card)| card.searched.contains(&search.wanted));
        let fitting = fitting.map(|(key, card)| (key.clone(), Arc::clone(&card.text)));
        search.found.extend(fitting);
        more
    }
}
