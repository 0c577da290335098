//! The Place on both stores against plain lists that are searched from end to end, over commits, failed commits,
//! crashes, and a clock that goes back.

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::meeting_place::store::sqlite::SqliteStore;
use crate::meeting_place::store::{Store, StoreError};

const AGENTS: usize = 6;
const SKILLS: [&str; 3] = ["s", "t", "u"];
const TEXTS: [&str; 3] = ["x", "yy", "zzz"];
const TTL: u64 = 100;
const HOUR: u64 = 3600;

/// Small, so that everything is reached.
fn policy() -> Policy {
    Policy {
        agents_max: 5,
        // The Place, which shows no key here, is one of them.
        unverified_max: 3,
        remembered_max: 2,
        ttl: Duration::from_secs(TTL),
        needs_max: 2,
        deposits: DepositLimits {
            per_agent: 2,
            total: 4,
            per_hour: 3,
            ..DepositLimits::default()
        },
        ..Policy::default()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Register {
        agent: usize,
        name: usize,
        key: Option<(usize, Strength)>,
    },
    Unregister(usize),
    Touch(usize),
    Sweep(usize),
    Needs(usize, usize),
    RemoveNeeds(usize),
    Attempt(usize),
    Deposit {
        agent: usize,
        skill: usize,
        text: usize,
    },
    Update {
        agent: usize,
        skill: usize,
        text: usize,
    },
    Withdraw(usize, usize),
    Exchange,
    Commit,
    /// The process ends; what was not committed is lost.
    Crash,
    /// A commit fails; the machine is built anew beside the old one.
    Fail,
    Wait(u64),
    Back(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let strength = prop_oneof![Just(Strength::Introduced), Just(Strength::Proven)];
    let key = prop::option::weighted(0.8, (0..2_usize, strength));
    let put = || (0..AGENTS, 0..SKILLS.len(), 0..TEXTS.len());
    prop_oneof![
        6 => (0..AGENTS, 0..2_usize, key).prop_map(|(agent, name, key)| Step::Register { agent, name, key }),
        1 => (0..AGENTS).prop_map(Step::Unregister),
        3 => (0..AGENTS).prop_map(Step::Touch),
        2 => prop_oneof![1..3_usize, Just(usize::MAX)].prop_map(Step::Sweep),
        2 => (0..AGENTS, 0..4_usize).prop_map(|(agent, count)| Step::Needs(agent, count)),
        1 => (0..AGENTS).prop_map(Step::RemoveNeeds),
        2 => (0..AGENTS).prop_map(Step::Attempt),
        4 => put().prop_map(|(agent, skill, text)| Step::Deposit { agent, skill, text }),
        1 => put().prop_map(|(agent, skill, text)| Step::Update { agent, skill, text }),
        1 => (0..AGENTS, 0..SKILLS.len()).prop_map(|(agent, skill)| Step::Withdraw(agent, skill)),
        1 => Just(Step::Exchange),
        3 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Fail),
        3 => prop_oneof![0..10_u64, 40..70_u64, 90..120_u64, 3500..3700_u64].prop_map(Step::Wait),
        1 => prop_oneof![0..50_u64, 3500..8000_u64].prop_map(Step::Back),
    ]
}

#[derive(Debug, Clone)]
struct TwinAgent {
    agent: usize,
    name: usize,
    key: Option<(usize, Strength)>,
    here: bool,
    /// When it first came.
    registered: u64,
    /// When it was last seen, from when its time counts, and since when it is away.
    seen: u64,
    counted: u64,
    away: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct TwinDeposit {
    agent: usize,
    skill: usize,
    text: usize,
    at: u64,
    first: u64,
}

#[derive(Debug, Clone, Default)]
struct Twin {
    /// All that are known, in the order in which they were first stored.
    known: Vec<TwinAgent>,
    /// Those that are here.
    order: Vec<usize>,
    /// In the order in which they first came.
    deposits: Vec<TwinDeposit>,
    exchanges: u64,
    /// Never stored: who needs how much, and who tried to deposit when.
    needs: BTreeMap<usize, usize>,
    attempts: Vec<(u64, usize)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Refusal {
    Full,
    Unverified,
    KeyRequired,
    KeyConflict,
    NotPresent,
    NoDeposit,
    Rejected(usize),
}

impl Twin {
    fn of(&mut self, agent: usize) -> Option<&mut TwinAgent> {
        self.known.iter_mut().find(|known| known.agent == agent)
    }

    fn is_here(&self, agent: usize) -> bool {
        self.order.contains(&agent)
    }

    fn unverified(&self) -> usize {
        let here = self.known.iter().filter(|known| known.here);
        here.filter(|known| known.key.is_none()).count()
    }

    /// Whether it is new.
    fn register(
        &mut self,
        agent: usize,
        name: usize,
        key: Option<(usize, Strength)>,
        now: u64,
    ) -> Result<bool, Refusal> {
        let pinned = self.of(agent).and_then(|known| known.key);
        match (pinned, key) {
            (Some(_), None) => return Err(Refusal::KeyRequired),
            (Some((pinned, _)), Some((key, _))) if pinned != key => {
                return Err(Refusal::KeyConflict);
            }
            _ => {}
        }
        let (new, known) = (!self.is_here(agent), self.of(agent).is_some());
        // The Place is one of them.
        if new && !known && self.order.len() + 1 >= 5 {
            return Err(Refusal::Full);
        }
        if new && key.is_none() && self.unverified() >= 2 {
            return Err(Refusal::Unverified);
        }
        if !known {
            self.known.push(TwinAgent {
                agent,
                name,
                key: None,
                here: true,
                registered: now,
                seen: now,
                counted: now,
                away: 0,
            });
        }
        let record = self.of(agent).unwrap();
        // Whoever only shows a copied introduction renames nobody that proved more.
        if record.key.map(|(_, strength)| strength) <= key.map(|(_, strength)| strength) {
            record.name = name;
            record.key = key;
        }
        record.seen = record.seen.max(now);
        record.counted = if new { now } else { record.counted.max(now) };
        record.here = true;
        if new {
            self.order.push(agent);
        }
        self.prune();
        Ok(new)
    }

    fn owns(&self, agent: usize) -> bool {
        self.deposits.iter().any(|deposit| deposit.agent == agent)
    }

    fn remembered(&self) -> usize {
        self.known.iter().filter(|known| !known.here).count()
    }

    fn prune(&mut self) {
        while self.remembered() > 2 {
            let free = self
                .known
                .iter()
                .filter(|known| !known.here && !self.owns(known.agent));
            let Some(first) = free.min_by_key(|known| (known.away, known.agent)) else {
                return;
            };
            let first = first.agent;
            self.known.retain(|known| known.agent != first);
        }
    }

    fn leave(&mut self, agent: usize, now: u64) {
        self.order.retain(|here| *here != agent);
        self.needs.remove(&agent);
        let record = self.of(agent).unwrap();
        (record.here, record.away) = (false, now);
        self.known
            .retain(|known| known.agent != agent || known.key.is_some());
    }

    /// Those whose time is over.
    fn due(&self, now: u64) -> Vec<usize> {
        let over = self
            .known
            .iter()
            .filter(|known| known.here && known.counted + TTL < now);
        over.map(|known| known.agent).collect()
    }

    fn forget_attempts(&mut self, now: u64) {
        self.attempts
            .retain(|(at, _)| *at <= now && now - at < HOUR);
    }

    fn attempt(&mut self, agent: usize, now: u64) -> bool {
        self.forget_attempts(now);
        let room = self.attempts.iter().filter(|(_, of)| *of == agent).count() < 3;
        self.attempts.extend(room.then_some((now, agent)));
        room
    }

    fn find(&mut self, agent: usize, skill: usize) -> Option<&mut TwinDeposit> {
        let mut all = self.deposits.iter_mut();
        all.find(|deposit| (deposit.agent, deposit.skill) == (agent, skill))
    }

    /// The text before, if there was one.
    fn deposit(&mut self, new: TwinDeposit) -> Result<Option<usize>, Refusal> {
        if !self.is_here(new.agent) {
            return Err(Refusal::NotPresent);
        }
        if let Some(old) = self.find(new.agent, new.skill) {
            let before = old.text;
            *old = TwinDeposit {
                first: old.first,
                ..new
            };
            return Ok(Some(before));
        }
        let own = self
            .deposits
            .iter()
            .filter(|deposit| deposit.agent == new.agent);
        let reasons = usize::from(own.count() >= 2) + usize::from(self.deposits.len() >= 4);
        if reasons > 0 {
            return Err(Refusal::Rejected(reasons));
        }
        self.deposits.push(new);
        Ok(None)
    }

    /// As the store has it, at a later time.
    fn restored(&self, now: u64) -> Self {
        let mut twin = Self {
            needs: BTreeMap::new(),
            attempts: Vec::new(),
            ..self.clone()
        };
        let here = twin.known.iter_mut().filter(|known| known.here);
        here.for_each(|known| known.counted = now);
        let here = twin.known.iter().filter(|known| known.here);
        twin.order = here.map(|known| known.agent).collect();
        twin
    }
}

fn name(agent: usize) -> String {
    format!("a{agent}")
}

fn wish(agent: usize, said: usize, key: Option<(usize, Strength)>) -> Registration {
    let who = match key {
        None => unsigned(&name(agent)),
        Some((key, strength)) => signed(&name(agent), key, strength),
    };
    Registration {
        name: Some(format!("Name {said}")),
        ..who
    }
}

fn refused(error: &RegisterError) -> Refusal {
    match error {
        RegisterError::Full { .. } => Refusal::Full,
        RegisterError::TooManyUnverified { .. } => Refusal::Unverified,
        RegisterError::KeyRequired(_) => Refusal::KeyRequired,
        RegisterError::KeyConflict(_) => Refusal::KeyConflict,
        other => panic!("{other}"),
    }
}

fn rejected(error: &BoardError) -> Refusal {
    match error {
        BoardError::NotPresent(_) => Refusal::NotPresent,
        BoardError::NoDeposit { .. } => Refusal::NoDeposit,
        BoardError::Rejected(reasons) => Refusal::Rejected(reasons.len()),
        BoardError::Changed { .. } => unreachable!("nobody sets a condition here"),
    }
}

fn made(agent: usize, skill: usize, text: usize, now: u64) -> Deposit {
    let words = TEXTS[text];
    Deposit {
        key: DepositKey {
            owner: id(&name(agent)),
            skill_id: SKILLS[skill].to_owned(),
        },
        facts: Facts {
            name: SKILLS[skill].to_owned(),
            description: None,
            tags: vec![words.to_owned()],
            format: "markdown".to_owned(),
            summary: None,
            sections: vec![],
            input_output: None,
            version: None,
            license: None,
            bytes: words.len(),
            lines: 1,
        },
        content_hash: ContentHash::of(words),
        signature: "c2ln".to_owned(),
        provenance: None,
        deposited_at: at(now),
        first_deposited: at(now),
    }
}

/// A Place on its store. Memory outlives a crash here, as a disk does.
struct Subject {
    place: MeetingPlace,
    store: Box<dyn Store>,
    path: Option<PathBuf>,
}

impl Subject {
    fn begin(path: Option<PathBuf>) -> Self {
        let store: Box<dyn Store> = match &path {
            None => Box::new(MemoryStore::default()),
            Some(path) => Box::new(SqliteStore::open(path).unwrap()),
        };
        let mut subject = Self {
            place: place(policy()),
            store,
            path,
        };
        subject.commit(0).unwrap();
        subject
    }

    fn commit(&mut self, most: usize) -> Result<(), StoreError> {
        self.place.note_counts(most);
        self.store.commit(&self.place.take_changes())
    }

    fn rebuilt(&mut self, now: u64) -> MeetingPlace {
        let snapshot = self.store.load().unwrap();
        let mut place = MeetingPlace::new(policy(), unsigned("me"), snapshot, at(now));
        self.store.commit(&place.take_changes()).unwrap();
        place
    }

    fn crash(&mut self, now: u64) {
        if let Some(path) = &self.path {
            self.store = Box::new(SqliteStore::open(path).unwrap());
        }
        self.place = self.rebuilt(now);
    }

    fn fail(&mut self, now: u64) {
        self.place.note_counts(usize::MAX);
        drop(self.place.take_changes());
        let mut rebuilt = self.rebuilt(now);
        rebuilt.carry_over(&mut self.place);
        self.place = rebuilt;
    }
}

fn check(steps: &[Step]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("place.db");
    let mut subjects = [Subject::begin(None), Subject::begin(Some(path))];
    let (mut twin, mut now) = (Twin::default(), 10_000);
    let mut stored = twin.clone();
    for step in steps {
        let before = twin.clone();
        match *step {
            Step::Register { agent, name, key } => {
                let expected = twin.register(agent, name, key, now);
                let forgotten: Vec<_> = before
                    .known
                    .iter()
                    .filter(|known| twin.known.iter().all(|other| other.agent != known.agent))
                    .map(|known| id(&self::name(known.agent)))
                    .collect();
                for subject in &mut subjects {
                    let done = subject.place.register(wish(agent, name, key), at(now));
                    if let Ok(done) = &done {
                        let mut found = done.forgotten.clone();
                        found.sort();
                        let mut forgotten = forgotten.clone();
                        forgotten.sort();
                        prop_assert_eq!(found, forgotten);
                    }
                    prop_assert_eq!(
                        done.map(|done| done.new).map_err(|error| refused(&error)),
                        expected.clone()
                    );
                }
            }
            Step::Unregister(agent) => {
                let was = twin.is_here(agent);
                if was {
                    twin.deposits.retain(|deposit| deposit.agent != agent);
                    twin.leave(agent, now);
                }
                for subject in &mut subjects {
                    let gone = subject.place.unregister(&id(&name(agent)), at(now));
                    prop_assert_eq!(gone, was);
                }
            }
            Step::Touch(agent) => {
                let here = twin.is_here(agent);
                if let Some(record) = twin.of(agent).filter(|_| here) {
                    record.seen = record.seen.max(now);
                    record.counted = record.counted.max(now);
                }
                for subject in &mut subjects {
                    prop_assert_eq!(subject.place.touch(&id(&name(agent)), at(now)), here);
                }
            }
            Step::Sweep(most) => {
                let due = twin.due(now);
                let mut faded = Vec::new();
                for subject in &mut subjects {
                    let swept = subject.place.sweep(at(now), most);
                    prop_assert_eq!(swept.len(), due.len().min(most));
                    faded = swept.iter().map(|agent| agent.id.to_string()).collect();
                }
                let gone: Vec<_> = due
                    .into_iter()
                    .filter(|agent| faded.contains(&name(*agent)))
                    .collect();
                prop_assert_eq!(
                    gone.len(),
                    faded.len(),
                    "only who is due fades: {:?}",
                    faded
                );
                gone.into_iter().for_each(|agent| twin.leave(agent, now));
                twin.forget_attempts(now);
            }
            Step::Needs(agent, count) => {
                let expected = match (twin.is_here(agent), count) {
                    (false, _) => Err(Refusal::NotPresent),
                    (true, 3..) => Err(Refusal::Rejected(1)),
                    (true, count) => Ok(count),
                };
                if expected.is_ok() {
                    twin.needs.insert(agent, count);
                }
                let need = |n: usize| Need {
                    name: format!("n{n}"),
                    description: None,
                };
                let entry = NeedEntry {
                    agent_name: "A".to_owned(),
                    agent_mode: "user".to_owned(),
                    needs: (0..count).map(need).collect(),
                };
                for subject in &mut subjects {
                    let who = id(&name(agent));
                    let done = subject.place.publish_needs(&who, &entry, at(now));
                    prop_assert_eq!(&done.map_err(|error| rejected(&error)), &expected);
                }
            }
            Step::RemoveNeeds(agent) => {
                let were = twin.needs.remove(&agent).unwrap_or(0) > 0;
                for subject in &mut subjects {
                    prop_assert_eq!(subject.place.remove_needs(&id(&name(agent))), were);
                }
            }
            Step::Attempt(agent) => {
                let room = twin.attempt(agent, now);
                for subject in &mut subjects {
                    let counted = subject.place.attempt_deposit(&id(&name(agent)), at(now));
                    prop_assert_eq!(counted.is_ok(), room);
                }
            }
            Step::Deposit { agent, skill, text } | Step::Update { agent, skill, text } => {
                let update = matches!(step, Step::Update { .. });
                let new = TwinDeposit {
                    agent,
                    skill,
                    text,
                    at: now,
                    first: now,
                };
                let expected = match update && twin.find(agent, skill).is_none() {
                    true => Err(Refusal::NoDeposit),
                    false => twin.deposit(new),
                };
                for subject in &mut subjects {
                    let offered = made(agent, skill, text, now);
                    let done = match update {
                        true => subject.place.update(offered, TEXTS[text]),
                        false => subject.place.deposit(offered, TEXTS[text]),
                    };
                    let done = done
                        .map(|done| done.before)
                        .map_err(|error| rejected(&error));
                    let hash = |text: usize| ContentHash::of(TEXTS[text]);
                    let expected = expected.clone().map(|before| before.map(hash));
                    prop_assert_eq!(done, expected);
                }
            }
            Step::Withdraw(agent, skill) => {
                let was = twin.find(agent, skill).is_some();
                twin.deposits
                    .retain(|deposit| (deposit.agent, deposit.skill) != (agent, skill));
                for subject in &mut subjects {
                    let gone = subject.place.withdraw(&id(&name(agent)), SKILLS[skill]);
                    prop_assert_eq!(gone.is_ok(), was);
                }
            }
            Step::Exchange => {
                twin.exchanges += 1;
                subjects
                    .iter_mut()
                    .for_each(|subject| subject.place.count_exchange());
            }
            Step::Commit => {
                stored = twin.clone();
                for subject in &mut subjects {
                    subject.commit(usize::MAX).unwrap();
                }
            }
            Step::Crash => {
                twin = stored.restored(now);
                subjects.iter_mut().for_each(|subject| subject.crash(now));
            }
            Step::Fail => {
                let mut rebuilt = stored.restored(now);
                rebuilt.exchanges = twin.exchanges;
                rebuilt.attempts = std::mem::take(&mut twin.attempts);
                rebuilt.needs = std::mem::take(&mut twin.needs);
                let order = &rebuilt.order;
                rebuilt.needs.retain(|agent, _| order.contains(agent));
                twin = rebuilt;
                subjects.iter_mut().for_each(|subject| subject.fail(now));
            }
            Step::Wait(secs) => now += secs,
            Step::Back(secs) => now = now.saturating_sub(secs),
        }
        for subject in &mut subjects {
            compare(&mut twin, &stored, subject)?;
        }
    }
    Ok(())
}

/// Everything that anybody can see, what is stored, and that every bound holds.
fn compare(twin: &mut Twin, stored: &Twin, subject: &mut Subject) -> Result<(), TestCaseError> {
    let place = &subject.place;
    let here = twin.known.iter().filter(|known| known.here);
    let mut here: Vec<_> = here
        .map(|known| (known.registered, name(known.agent)))
        .collect();
    here.push((0, "me".to_owned()));
    here.sort();
    let here: Vec<String> = here.into_iter().map(|(_, name)| name).collect();
    prop_assert_eq!(&listed(place), &here);
    for agent in 0..AGENTS {
        let who = id(&name(agent));
        let record = twin.of(agent).cloned();
        let key = record.as_ref().and_then(|record| record.key);
        let pinned = place.key(&who).map(PinnedKey::hash);
        prop_assert_eq!(pinned, key.map(|(key, _)| KEYS[key].public().hash()));
        let shown = place.agent(&who);
        prop_assert_eq!(shown.is_some(), twin.is_here(agent));
        if let (Some(shown), Some(record)) = (shown, record) {
            prop_assert_eq!(&shown.name, &format!("Name {}", record.name));
            prop_assert_eq!(shown.last_seen, at(record.seen));
            prop_assert_eq!(shown.strength, record.key.map(|(_, strength)| strength));
        }
        let needs = twin.needs.get(&agent).copied().unwrap_or(0);
        prop_assert_eq!(place.needs_of(&who).len(), needs);
        let own = twin
            .deposits
            .iter()
            .filter(|deposit| deposit.agent == agent);
        prop_assert_eq!(place.deposits_of(&who).count(), own.count());
    }
    for (skill, skill_id) in SKILLS.iter().enumerate() {
        let found = place.find_deposit(skill_id, None);
        let first = twin.deposits.iter().find(|deposit| deposit.skill == skill);
        prop_assert_eq!(
            found.map(|deposit| deposit.key.owner.to_string()),
            first.map(|deposit| name(deposit.agent))
        );
    }
    for deposit in &twin.deposits {
        let owner = id(&name(deposit.agent));
        let found = place
            .find_deposit(SKILLS[deposit.skill], Some(&owner))
            .unwrap();
        prop_assert_eq!(found.content_hash, ContentHash::of(TEXTS[deposit.text]));
        prop_assert_eq!(
            (found.deposited_at, found.first_deposited),
            (at(deposit.at), at(deposit.first))
        );
    }
    let census = place.census();
    let needs: usize = twin.needs.values().sum();
    prop_assert_eq!(
        census,
        Census {
            agents: here.len(),
            unverified: twin.unverified() + 1,
            remembered: twin.remembered(),
            deposits: twin.deposits.len(),
            skill_sets: 0,
            needs,
            attestations: 0,
            bans: 0,
            exchanges: twin.exchanges,
        }
    );
    board_shows(place, Some(Kind::Agent), here.len())?;
    board_shows(place, Some(Kind::Need), needs)?;
    board_shows(place, Some(Kind::DepositedSkill), twin.deposits.len())?;
    board_shows(place, None, here.len() + needs + twin.deposits.len())?;
    for deposit in &stored.deposits {
        let key = made(deposit.agent, deposit.skill, deposit.text, 0).key;
        let (kept, content) = subject.store.deposit(&key).unwrap().unwrap();
        prop_assert_eq!(content.as_str(), TEXTS[deposit.text]);
        prop_assert_eq!(kept.content_hash, ContentHash::of(content));
    }
    Ok(())
}

/// Each once, and no more than there are.
fn board_shows(
    place: &MeetingPlace,
    kind: Option<Kind>,
    count: usize,
) -> Result<(), TestCaseError> {
    let query = Query {
        kind: kind.map(Some),
        ..everything()
    };
    let answer = place.browse(&query, &mut SmallRng::seed_from_u64(3));
    let entries = super::entries(&answer);
    prop_assert_eq!((answer.total, entries.len()), (count, count));
    let entries: BTreeSet<String> = entries.iter().map(Value::to_string).collect();
    prop_assert_eq!(entries.len(), count);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_place_does_what_plain_lists_would(steps in prop::collection::vec(step(), 1..80)) {
        check(&steps)?;
    }
}
