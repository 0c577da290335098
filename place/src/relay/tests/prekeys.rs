//! Published prekeys on both stores against plain lists.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::relay::prekey::{Prekey, Published};
use crate::relay::store::RelayStore;
use crate::relay::store::sqlite::SqliteStore;

const AGENTS: [&str; 3] = ["a", "b", "c"];
const IDS: [&str; 5] = ["1", "2", "3", "4", "5"];
const RECORDS: [&str; 2] = ["x", "y"];
const HOUR: i64 = 3600;

#[derive(Debug, Clone)]
enum Step {
    Publish {
        agent: usize,
        signed: usize,
        one_time: Vec<(usize, usize)>,
    },
    Take {
        requester: usize,
        agent: usize,
    },
    Forget(usize),
    Wait(i64),
    Back(i64),
    Expire,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let agent = 0..AGENTS.len();
    // The same record mostly, as an owner that repeats itself has it.
    let record = prop_oneof![9 => Just(0), 1 => Just(1_usize)];
    let keys = prop::collection::vec((0..IDS.len(), record), 0..5);
    prop_oneof![
        4 => (agent.clone(), 0..2_usize, keys)
            .prop_map(|(agent, signed, one_time)| Step::Publish { agent, signed, one_time }),
        6 => (agent.clone(), agent.clone()).prop_map(|(requester, agent)| Step::Take { requester, agent }),
        1 => agent.prop_map(Step::Forget),
        2 => prop_oneof![0..50_i64, 3_500..3_700_i64].prop_map(Step::Wait),
        1 => prop_oneof![0..50_i64, 3_500..3_700_i64].prop_map(Step::Back),
        1 => Just(Step::Expire),
        1 => Just(Step::Reopen),
    ]
}

fn policy() -> RelayPolicy {
    RelayPolicy {
        one_time_prekeys: 3,
        prekey_agents: 2,
        prekeys_per_hour: 2,
        ..RelayPolicy::default()
    }
}

#[derive(Default)]
struct Of {
    signed: usize,
    /// Those that wait, in the order in which they came, and the ids of those that were handed out.
    waiting: Vec<(usize, usize)>,
    used: Vec<usize>,
}

#[derive(Default)]
struct Twin {
    published: BTreeMap<usize, Of>,
    /// Beginning of the hour and how many since, by requester and agent.
    takes: BTreeMap<(usize, usize), (i64, u64)>,
}

fn key(id: usize, record: usize) -> Prekey {
    let record = RECORDS[record].as_bytes().to_vec();
    Prekey::new(IDS[id].parse().unwrap(), record).unwrap()
}

impl Twin {
    fn publish(
        &mut self,
        agent: usize,
        signed: usize,
        one_time: &[(usize, usize)],
    ) -> Result<Published, Refusal> {
        if one_time.len() > 3 {
            return Err(Refusal::TooMany {
                what: "one-time prekeys",
                count: one_time.len(),
                limit: 3,
            });
        }
        let nothing = Of::default();
        let before = self.published.get(&agent).unwrap_or(&nothing);
        let mut waiting = before.waiting.clone();
        let mut asked: Vec<(usize, usize)> = Vec::new();
        for (id, record) in one_time {
            let same = asked.iter().rev().find(|(other, _)| other == id);
            let same = same.or_else(|| waiting.iter().find(|(other, _)| other == id));
            if same.is_some_and(|(_, other)| other != record) {
                let id = IDS[*id].parse().unwrap();
                return Err(Refusal::PrekeyConflict { id });
            }
            if same.is_none() && !before.used.contains(id) {
                waiting.push((*id, *record));
            }
            asked.push((*id, *record));
        }
        if waiting.len() > 3 {
            return Err(Refusal::PrekeysFull { limit: 3 });
        }
        if !self.published.contains_key(&agent) && self.published.len() >= 2 {
            return Err(Refusal::PrekeyAgentsFull { limit: 2 });
        }
        let told = Published {
            signed: IDS[signed].parse().unwrap(),
            one_time: waiting.len() as u64,
        };
        let of = self.published.entry(agent).or_default();
        (of.signed, of.waiting) = (signed, waiting);
        Ok(told)
    }

    /// The long-lived prekey and the one-time one; nothing if nothing is published.
    fn take(
        &mut self,
        requester: usize,
        agent: usize,
        now: i64,
    ) -> Option<(Prekey, Option<Prekey>)> {
        let of = self.published.get_mut(&agent)?;
        let signed = key(of.signed, 0);
        if of.waiting.is_empty() {
            return Some((signed, None));
        }
        let before = self.takes.get(&(requester, agent)).copied();
        let current = before.filter(|(since, _)| (0..HOUR).contains(&(now - since)));
        let (since, count) = current.unwrap_or((now, 0));
        if count >= 2 {
            return Some((signed, None));
        }
        self.takes.insert((requester, agent), (since, count + 1));
        let (id, record) = of.waiting.remove(0);
        of.used.push(id);
        Some((signed, Some(key(id, record))))
    }
}

impl Twin {
    fn expire(&mut self, now: i64) {
        self.takes.retain(|_, (since, _)| now - *since < HOUR);
    }
}

fn check(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let relay = Relay::new(policy());
    let open = || -> Box<dyn RelayStore> {
        Box::new(SqliteStore::open(&folder.path().join("relay.db")).unwrap())
    };
    let mut stores: [Box<dyn RelayStore>; 2] = [Box::new(MemoryStore::default()), open()];
    let (mut twin, mut now) = (Twin::default(), 10_000);
    for step in steps {
        match step {
            Step::Publish {
                agent: of,
                signed,
                one_time,
            } => {
                let expected = twin.publish(of, signed, &one_time);
                for store in &stores {
                    let keys = one_time
                        .iter()
                        .map(|(id, record)| key(*id, *record))
                        .collect();
                    let published = change(&**store, |tx| {
                        relay.publish(tx, &agent(AGENTS[of]), &key(signed, 0), keys)
                    });
                    let published = published.map_err(|error| match error {
                        RelayError::Refused(refusal) => refusal,
                        RelayError::Store(error) => panic!("{error}"),
                    });
                    prop_assert_eq!(published, expected.clone());
                }
            }
            Step::Take {
                requester,
                agent: of,
            } => {
                let expected = twin.take(requester, of, now);
                for store in &stores {
                    let taken = change(&**store, |tx| {
                        let (requester, of) = (agent(AGENTS[requester]), agent(AGENTS[of]));
                        Ok(relay.take(tx, &requester, &of, at(now))?)
                    });
                    let taken = taken.unwrap().map(|taken| (taken.signed, taken.one_time));
                    prop_assert_eq!(taken, expected.clone());
                }
            }
            Step::Forget(of) => {
                twin.published.remove(&of);
                for store in &stores {
                    let of = agent(AGENTS[of]);
                    change(&**store, |tx| Ok(relay.forget(tx, &of, at(now))?)).unwrap();
                }
            }
            Step::Wait(secs) => now += secs,
            Step::Back(secs) => now -= secs,
            Step::Expire => {
                twin.expire(now);
                for store in &stores {
                    while On(&relay, &**store).expire(now, 2).3 {}
                }
            }
            Step::Reopen => stores[1] = open(),
        }
        for store in &stores {
            compare(&twin, &relay, &**store)?;
        }
    }
    twin.expire(now);
    for store in &stores {
        let on = On(&relay, &**store);
        while on.expire(now, 2).3 {}
        prop_assert_eq!(on.tally(Scope::Requesters), (twin.takes.len() as u64, 0));
    }
    Ok(())
}

fn compare(twin: &Twin, relay: &Relay, store: &dyn RelayStore) -> Result<(), TestCaseError> {
    for (n, name) in AGENTS.iter().enumerate() {
        let published = look(store, |read| relay.published(read, &agent(name))).unwrap();
        let expected = twin.published.get(&n).map(|of| Published {
            signed: IDS[of.signed].parse().unwrap(),
            one_time: of.waiting.len() as u64,
        });
        prop_assert_eq!(published, expected);
    }
    let on = On(relay, store);
    let agents = twin.published.len() as u64;
    prop_assert_eq!(on.tally(Scope::PrekeyAgents), (agents, 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn prekeys_are_handed_out_as_plain_lists_would(steps in prop::collection::vec(step(), 1..50)) {
        check(steps)?;
    }
}
