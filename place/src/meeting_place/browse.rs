//! Looking at the board: a random choice in random order, never a ranking.

use std::collections::HashSet;
use std::sync::Arc;

use rand::Rng;
use rand::seq::{SliceRandom as _, index};

use super::MeetingPlace;
use super::board::{AgentMark, Card, Subject};
use super::pool::Walked;
use super::walk::walked;

/// Most entries that one answer holds, whatever is asked for.
pub const ENTRIES_MAX: usize = 1_000;
/// Most bytes of entries that one answer holds.
pub const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most entries that are looked at in one step of a search, or of a walk: well below a millisecond.
pub const SEARCH_STEP: usize = 2_000;

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
    /// Entries in random order, each compact JSON, with commas between them.
    pub entries: String,
    /// How many these are.
    pub returned: usize,
    /// How many there are on the board.
    pub total: usize,
    /// Agents behind what is returned.
    pub agents: usize,
}

impl Answer {
    /// `random_sample` if not all that was found is returned, else `all_shuffled`; the reference's words.
    pub fn sampling(&self) -> &'static str {
        match self.total > self.returned {
            true => "random_sample",
            false => "all_shuffled",
        }
    }
}

/// A look at the board through a filter. It goes over the cards in steps, so that whoever drives it can let go of the board
/// in between: a filter costs a walk over the board, and nobody is to wait for all of it.
#[derive(Debug)]
pub struct Search {
    query: Query,
    /// What is searched for, lower case.
    wanted: String,
    walked: Walked,
    found: Vec<(Subject, AgentMark, Arc<str>)>,
}

impl Search {
    /// Has looked at nothing yet.
    pub fn new(query: Query) -> Self {
        Self {
            wanted: query.search.as_deref().unwrap_or_default().to_lowercase(),
            query,
            walked: Walked::default(),
            found: Vec::new(),
        }
    }

    fn fits(&self, subject: &Subject, card: &Card) -> bool {
        let of_kind = match self.query.kind {
            None => true,
            Some(None) => false,
            Some(Some(kind)) => kind.is_of(subject),
        };
        let tags = &self.query.tags;
        let tagged = || tags.is_empty() || tags.iter().any(|tag| card.tags.contains(tag));
        of_kind && tagged() && card.name.contains(&self.wanted)
    }

    /// Draws of what was found.
    pub fn answer(mut self, rng: &mut impl Rng) -> Answer {
        if self.walked.has_twice() {
            let mut seen = HashSet::new();
            let new = |(subject, ..): &(Subject, _, _)| seen.insert(subject.clone());
            self.found.retain(new);
        }
        let total = self.found.len();
        let limit = self.query.limit.min(ENTRIES_MAX);
        let (drawn, _) = self.found.partial_shuffle(rng, limit);
        answered(total, drawn.iter().map(|(_, agent, text)| (*agent, text)))
    }
}

/// As many of what was drawn as fit into an answer. Texts are copied at once instead of shared: counting who shares a
/// text that lies far from the processor takes longer than copying it.
fn answered<'a>(total: usize, drawn: impl Iterator<Item = (AgentMark, &'a Arc<str>)>) -> Answer {
    let mut bytes = 0_usize;
    let fitting = drawn.take_while(|(_, text)| {
        bytes = bytes.saturating_add(text.len());
        bytes <= ANSWER_BYTES_MAX
    });
    let (mut agents, texts): (Vec<AgentMark>, Vec<&str>) =
        fitting.map(|(agent, text)| (agent, &**text)).unzip();
    agents.sort_unstable();
    agents.dedup();
    Answer {
        agents: agents.len(),
        returned: texts.len(),
        entries: texts.join(","),
        total,
    }
}

impl MeetingPlace {
    /// Draws entries that answer to `query`. An open query costs O(limit), any other a walk over the board.
    pub fn browse(&self, query: &Query, rng: &mut impl Rng) -> Answer {
        if query.is_open() {
            return self.draw(query.limit, rng);
        }
        let mut search = Search::new(query.clone());
        while self.go_on(&mut search) {}
        search.answer(rng)
    }

    /// Draws from all of the board.
    pub fn draw(&self, limit: usize, rng: &mut impl Rng) -> Answer {
        let cards = &self.board.cards;
        let limit = limit.min(ENTRIES_MAX).min(cards.len());
        let drawn = index::sample(rng, cards.len(), limit);
        let drawn = drawn.iter().filter_map(|number| cards.draw(number));
        answered(cards.len(), drawn.map(|(_, card)| (card.agent, &card.text)))
    }

    /// Looks at up to [`SEARCH_STEP`] more cards; tells whether there are others.
    pub fn go_on(&self, search: &mut Search) -> bool {
        let (cards, more) = self.board.cards.go_on(&mut search.walked, SEARCH_STEP);
        let fitting: Vec<_> = walked(cards)
            .filter(|(subject, card)| search.fits(subject, card))
            .map(|(subject, card)| (subject.clone(), card.agent, Arc::clone(&card.text)))
            .collect();
        search.found.extend(fitting);
        more
    }
}
