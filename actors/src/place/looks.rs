//! Looking at the Place: at the machine, which is quick or goes step by step, and at what is stored.

use std::fmt;
use std::sync::Arc;

use kairos_place::meeting_place::audit::AUDIT_PAGE_MAX;
use kairos_place::meeting_place::{
    Answer, Cursor, Deposit, DepositKey, Logged, MeetingPlace, Paging, Query, Search,
    SkillSetDeposit, SkillSetKey, SkillSetSearch, SkillSetsShown, WalkPage,
};
use kairos_place::relay::Withholding;
use kairos_protocol::id::AgentId;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::{Machine, PlaceError, PlaceHandle};

impl PlaceHandle {
    /// Looks at the machine. `look` must be quick: who decides waits meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&MeetingPlace) -> T) -> T {
        look(&self.machine.read())
    }

    /// Takes steps over the machine until there is none left, on a thread that may block, then comes to an end with it.
    /// Whoever decides gets a turn between two steps.
    async fn walk<S: Send + 'static, T: Send + 'static>(
        &self,
        mut state: S,
        step: fn(&MeetingPlace, &mut S) -> bool,
        end: impl FnOnce(&MeetingPlace, S) -> T + Send + 'static,
    ) -> Result<T, PlaceError> {
        let machine = Arc::clone(&self.machine);
        let walk = move || {
            while step(&machine.read(), &mut state) {}
            end(&machine.read(), state)
        };
        self.run(walk).await
    }

    /// Entries of the board that answer to `query`: a random choice in random order.
    pub async fn browse(&self, query: Query) -> Result<Answer, PlaceError> {
        let mut rng = SmallRng::from_rng(&mut rand::rng());
        // Only this is quick whatever the size of the board.
        if query.is_open() {
            return Ok(self.look(|place| place.draw(query.limit, &mut rng)));
        }
        let end = move |_: &MeetingPlace, search: Search| search.answer(&mut rng);
        self.walk(Search::new(query), MeetingPlace::go_on, end)
            .await
    }

    /// SkillSets in which `search` occurs: a random choice in random order.
    pub async fn browse_skill_sets(
        &self,
        search: &str,
        limit: usize,
    ) -> Result<SkillSetsShown, PlaceError> {
        let mut rng = SmallRng::from_rng(&mut rand::rng());
        if search.is_empty() {
            return Ok(self.look(|place| place.draw_skill_sets(limit, &mut rng)));
        }
        let end = move |_: &MeetingPlace, search: SkillSetSearch| search.answer(limit, &mut rng);
        let search = SkillSetSearch::new(search);
        self.walk(search, MeetingPlace::look_for_skill_sets, end)
            .await
    }

    /// The deposits behind `cursor`, at most `limit`.
    pub async fn deposits(&self, cursor: Cursor, limit: usize) -> Result<WalkPage, PlaceError> {
        let paging = Paging::new(cursor, limit);
        let (step, end) = (
            MeetingPlace::look_at_deposits,
            MeetingPlace::page_of_deposits,
        );
        self.walk(paging, step, end).await
    }

    /// The SkillSets behind `cursor`, at most `limit`.
    pub async fn skill_sets(&self, cursor: Cursor, limit: usize) -> Result<WalkPage, PlaceError> {
        let paging = Paging::new(cursor, limit);
        let (step, end) = (
            MeetingPlace::look_at_skill_sets,
            MeetingPlace::page_of_skill_sets,
        );
        self.walk(paging, step, end).await
    }

    /// Up to `limit` entries of the audit with lower numbers than `before`, the newest first.
    pub async fn audit(&self, before: u64, limit: usize) -> Result<Vec<Logged>, PlaceError> {
        let (reader, limit) = (Arc::clone(&self.reader), limit.min(AUDIT_PAGE_MAX));
        Ok(self
            .run(move || reader.lock().audit(before, limit))
            .await??)
    }

    /// A SkillSet with its archive, as they are stored, after `then` on a thread that may block.
    pub async fn stored_skill_set<T: Send + 'static>(
        &self,
        key: SkillSetKey,
        then: impl FnOnce(SkillSetDeposit, Vec<u8>) -> T + Send + 'static,
    ) -> Result<Option<T>, PlaceError> {
        let reader = Arc::clone(&self.reader);
        let work = move || {
            let found = reader.lock().skill_set(&key)?;
            Ok::<_, PlaceError>(found.map(|(set, archive)| then(set, archive)))
        };
        self.run(work).await?
    }

    /// A deposit with its content, as they are stored.
    pub async fn stored(&self, key: DepositKey) -> Result<Option<(Deposit, String)>, PlaceError> {
        let reader = Arc::clone(&self.reader);
        Ok(self.run(move || reader.lock().deposit(&key)).await??)
    }
}

/// Knows whom the operator keeps out, as the machine has it at each moment.
struct Barred(Machine);

impl fmt::Debug for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Barred")
    }
}

impl Withholding for Barred {
    fn any(&self) -> bool {
        self.0.read().bars_anybody()
    }

    fn of(&self, sender: &AgentId) -> bool {
        !self.0.read().is_shown(sender)
    }
}

impl PlaceHandle {
    /// For a relay that is to hand out nothing of those whom the operator keeps out.
    pub fn withholding(&self) -> Arc<dyn Withholding> {
        Arc::new(Barred(Arc::clone(&self.machine)))
    }
}
