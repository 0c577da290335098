//! Looking at the board: a random choice in random order, never a ranking.

use std::sync::Arc;

use rand::Rng;
use rand::seq::{SliceRandom as _, index};

use super::MeetingPlace;
use super::board::{Card, Subject};
use super::walk::walked;

/// Most entries that one answer holds, whatever is asked for.
pub const ENTRIES_MAX: usize = 1_000;
/// Most bytes of entries that one answer holds.
pub const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An agent.
    Agent,
    /// What an agent looks for.
    Need,
    /// What an agent left here.
    DepositedSkill,
}

impl Kind {
    /// Reads `agent`, `need` or `deposited_skill`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "agent" => Some(Self::Agent),
            "need" => Some(Self::Need),
            "deposited_skill" => Some(Self::DepositedSkill),
            _ => None,
        }
    }

    fn is_of(self, subject: &Subject) -> bool {
        matches!(
            (self, subject),
            (Self::Agent, Subject::Agent(_))
                | (Self::Need, Subject::Need(..))
                | (Self::DepositedSkill, Subject::Deposit(_))
        )
    }
}

/// A card, and what it is about.
type Found<'p> = (&'p Subject, &'p Card);

/// What is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this kind; `Some(None)` is a kind that does not exist, of which there is nothing.
    pub kind: Option<Option<Kind>>,
    /// Part of the name, without regard to case.
    pub search: Option<String>,
    /// Any of these.
    pub tags: Vec<String>,
    /// Most entries, at most [`ENTRIES_MAX`].
    pub limit: usize,
}

impl Query {
    /// Whether all of the board answers to it, so that nothing need be looked through.
    pub fn is_open(&self) -> bool {
        self.kind.is_none()
            && self.search.as_ref().is_none_or(String::is_empty)
            && self.tags.is_empty()
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Entries in random order, each compact JSON.
    pub entries: Vec<Arc<str>>,
    /// How many there are on the board.
    pub total: usize,
    /// Agents behind what is returned.
    pub agents: usize,
}

impl Answer {
    /// `random_sample` if not all that was found is returned, else `all_shuffled`; the reference's words.
    pub fn sampling(&self) -> &'static str {
        match self.total > self.entries.len() {
            true => "random_sample",
            false => "all_shuffled",
        }
    }
}

impl MeetingPlace {
    /// Draws entries that answer to `query`. An open query costs O(limit), any other a walk over the board.
    pub fn browse(&self, query: &Query, rng: &mut impl Rng) -> Answer {
        let limit = query.limit.min(ENTRIES_MAX);
        let (total, drawn) = match query.is_open() {
            true => self.draw(limit, rng),
            false => self.search(query, limit, rng),
        };
        let mut bytes = 0_usize;
        let fitting = drawn.iter().take_while(|(_, card)| {
            bytes = bytes.saturating_add(card.text.len());
            bytes <= ANSWER_BYTES_MAX
        });
        let (mut agents, entries): (Vec<_>, Vec<_>) = fitting
            .map(|(subject, card)| (subject.agent(), Arc::clone(&card.text)))
            .unzip();
        agents.sort_unstable();
        agents.dedup();
        Answer {
            agents: agents.len(),
            entries,
            total,
        }
    }

    fn draw(&self, limit: usize, rng: &mut impl Rng) -> (usize, Vec<Found<'_>>) {
        let cards = &self.board.cards;
        let drawn = index::sample(rng, cards.len(), limit.min(cards.len()));
        let drawn = drawn.iter().filter_map(|number| cards.draw(number));
        (cards.len(), drawn.collect())
    }

    fn search(&self, query: &Query, limit: usize, rng: &mut impl Rng) -> (usize, Vec<Found<'_>>) {
        let wanted = query.search.as_deref().unwrap_or_default().to_lowercase();
        let of_kind = |subject: &Subject| match query.kind {
            None => true,
            Some(None) => false,
            Some(Some(kind)) => kind.is_of(subject),
        };
        let tagged = |card: &Card| {
            query.tags.is_empty() || query.tags.iter().any(|tag| card.tags.contains(tag))
        };
        let fits = |(subject, card): &Found<'_>| {
            of_kind(subject) && tagged(card) && card.name.contains(&wanted)
        };
        let mut found: Vec<_> = walked(self.board.cards.iter()).filter(fits).collect();
        let total = found.len();
        let (drawn, _) = found.partial_shuffle(rng, limit);
        (total, drawn.to_vec())
    }
}
