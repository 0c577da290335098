//! The relay on both stores against a list of messages that is searched from end to end.

use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::relay::store::sqlite::SqliteStore;

const AGENTS: [&str; 4] = ["a", "b", "c", "d"];
const IDS: [&str; 4] = ["1", "2", "3", "4"];
const TEXTS: [&str; 3] = ["x", "yy", "zzzzzzzzz"];

#[derive(Debug, Clone)]
enum Step {
    Send {
        from: usize,
        to: usize,
        id: Option<usize>,
        text: usize,
        known: bool,
    },
    Receive {
        to: usize,
        after: u64,
        limit: usize,
    },
    Remove {
        to: usize,
        limit: usize,
    },
    Ack {
        to: usize,
        ids: Vec<usize>,
    },
    /// Acknowledges a page behind a cursor, as a client does that reads on.
    AckPage {
        to: usize,
        after: u64,
        limit: usize,
    },
    Wait {
        secs: i64,
    },
    Expire {
        bound: usize,
    },
    Forget {
        agent: usize,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let agent = 0..AGENTS.len();
    let (id, text) = (prop::option::of(0..IDS.len()), 0..TEXTS.len());
    prop_oneof![
        8 => (agent.clone(), agent.clone(), id, text, prop::bool::weighted(0.7))
            .prop_map(|(from, to, id, text, known)| Step::Send { from, to, id, text, known }),
        2 => (agent.clone(), 0..12_u64, 0..5_usize)
            .prop_map(|(to, after, limit)| Step::Receive { to, after, limit }),
        1 => (agent.clone(), 1..4_usize).prop_map(|(to, limit)| Step::Remove { to, limit }),
        2 => (agent.clone(), prop::collection::vec(0..IDS.len(), 0..3))
            .prop_map(|(to, ids)| Step::Ack { to, ids }),
        2 => (agent.clone(), 0..12_u64, 1..5_usize)
            .prop_map(|(to, after, limit)| Step::AckPage { to, after, limit }),
        2 => prop_oneof![0..5_i64, 50..60_i64, 90..110_i64].prop_map(|secs| Step::Wait { secs }),
        1 => (1..4_usize).prop_map(|bound| Step::Expire { bound }),
        1 => agent.prop_map(|agent| Step::Forget { agent }),
        1 => Just(Step::Reopen),
    ]
}

/// Small, so that everything is reached.
fn policy() -> RelayPolicy {
    RelayPolicy {
        ttl: Duration::from_secs(100),
        blob_bytes: 8,
        box_messages: 4,
        sender_in_box_messages: 2,
        sender_messages: 5,
        sender_bytes: 9,
        place_messages: 8,
        place_bytes: 13,
        stranger_messages: 3,
        stranger_bytes: 5,
        sender_remembered: 4,
        place_remembered: 9,
        page_messages: 3,
        page_bytes: 4,
        ..RelayPolicy::default()
    }
}

#[derive(Debug, Clone)]
struct TwinMessage {
    seq: u64,
    id: String,
    from: usize,
    to: usize,
    text: usize,
    known: bool,
    ends: i64,
}

/// Knows only what is not over.
#[derive(Default)]
struct Twin {
    messages: Vec<TwinMessage>,
    /// Each accepted message whose sender chose its id, as it was.
    receipts: Vec<TwinMessage>,
    last: u64,
    relayed: u64,
}

impl Twin {
    fn tick(&mut self, now: i64) {
        self.messages.retain(|m| m.ends > now);
        self.receipts.retain(|m| m.ends > now);
    }

    /// Number and end, and whether it is a repetition.
    fn send(&mut self, mut new: TwinMessage, given: bool) -> Result<(u64, i64, bool), Refusal> {
        let p = policy();
        let size = |m: &TwinMessage| TEXTS[m.text].len() as u64;
        if size(&new) > p.blob_bytes {
            return Err(Refusal::TooLarge {
                size: size(&new),
                limit: p.blob_bytes,
            });
        }
        let id: RelayId = new.id.parse().unwrap();
        let receipt = self
            .receipts
            .iter()
            .find(|r| r.from == new.from && r.id == new.id);
        if let Some(receipt) = receipt.filter(|_| given) {
            return match (receipt.to, receipt.text) == (new.to, new.text) {
                true => Ok((receipt.seq, receipt.ends, true)),
                false => Err(Refusal::Conflict { id }),
            };
        }
        if self
            .messages
            .iter()
            .any(|m| m.to == new.to && m.id == new.id)
        {
            return Err(Refusal::IdTaken { id });
        }
        let (from, to) = (new.from, new.to);
        let pair = |m: &&TwinMessage| m.from == from && m.to == to;
        let inbox = |m: &&TwinMessage| m.to == to;
        let sender = |m: &&TwinMessage| m.from == from;
        let all = |_: &&TwinMessage| true;
        let strange = |m: &&TwinMessage| !m.known;
        let count =
            |of: &dyn Fn(&&TwinMessage) -> bool| self.messages.iter().filter(of).count() as u64;
        let sum = |of: &dyn Fn(&&TwinMessage) -> bool| {
            self.messages.iter().filter(of).map(size).sum::<u64>() + size(&new)
        };
        let oldest = |of: &dyn Fn(&&TwinMessage) -> bool| {
            self.messages
                .iter()
                .find(|m| of(m))
                .map_or(new.ends, |m| m.ends)
        };
        let remembered = self.receipts.len() as u64;
        let remembered_of = self.receipts.iter().filter(sender).count() as u64;
        let stranger = !new.known;
        let full = [
            (count(&pair) >= 2, Limit::SenderInBox, 2, oldest(&pair)),
            (count(&inbox) >= 4, Limit::Box, 4, oldest(&inbox)),
            (
                count(&sender) >= 5,
                Limit::SenderMessages,
                5,
                oldest(&sender),
            ),
            (sum(&sender) > 9, Limit::SenderBytes, 9, oldest(&sender)),
            (
                stranger && count(&strange) >= 3,
                Limit::StrangerMessages,
                3,
                oldest(&all),
            ),
            (
                stranger && sum(&strange) > 5,
                Limit::StrangerBytes,
                5,
                oldest(&all),
            ),
            (count(&all) >= 8, Limit::PlaceMessages, 8, oldest(&all)),
            (sum(&all) > 13, Limit::PlaceBytes, 13, oldest(&all)),
            (
                given && remembered_of >= 4,
                Limit::SenderRemembered,
                4,
                oldest(&sender),
            ),
            (
                given && remembered >= 9,
                Limit::PlaceRemembered,
                9,
                oldest(&all),
            ),
        ];
        if let Some((_, limit, most, ends)) = full.into_iter().find(|(reached, ..)| *reached) {
            return Err(Refusal::Full {
                limit,
                most,
                retry_at: at(ends),
            });
        }
        self.last += 1;
        self.relayed += 1;
        new.seq = self.last;
        self.messages.push(new.clone());
        if given {
            self.receipts.push(new.clone());
        }
        Ok((new.seq, new.ends, false))
    }

    /// The numbers of a page, and whether there is more.
    fn receive(&self, to: usize, after: u64, limit: usize) -> (Vec<u64>, bool) {
        if limit == 0 {
            return (Vec::new(), false);
        }
        let behind = self.messages.iter().filter(|m| m.to == to && m.seq > after);
        let behind: Vec<_> = behind.collect();
        let (mut page, mut bytes) = (Vec::new(), 0);
        for message in behind.iter().take(limit.min(3)) {
            bytes += TEXTS[message.text].len();
            if page.is_empty() || bytes <= 4 {
                page.push(message.seq);
            } else {
                break;
            }
        }
        let more = behind.len() > page.len();
        (page, more)
    }
}

/// One relay on its store, opened anew when asked to.
struct Subject<'a> {
    store: Box<dyn RelayStore>,
    folder: Option<&'a TempDir>,
}

use crate::relay::store::RelayStore;

impl Subject<'_> {
    fn reopen(&mut self) {
        if let Some(folder) = self.folder {
            self.store = Box::new(SqliteStore::open(&folder.path().join("relay.db")).unwrap());
        }
    }
}

fn seqs(page: &Page) -> (Vec<u64>, bool) {
    (
        page.messages.iter().map(|m| m.kept.seq).collect(),
        page.next.is_some(),
    )
}

fn check(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::new(policy());
    let memory = Subject {
        store: Box::new(MemoryStore::default()),
        folder: None,
    };
    let mut sqlite = Subject {
        store: Box::new(MemoryStore::default()),
        folder: Some(&folder),
    };
    sqlite.reopen();
    let mut subjects = [memory, sqlite];
    let (mut twin, mut now) = (Twin::default(), 0);
    for (n, step) in steps.into_iter().enumerate() {
        twin.tick(now);
        match step {
            Step::Send {
                from,
                to,
                id,
                text,
                known,
            } => {
                let random = (n as u64).to_be_bytes();
                let mut message = letter(AGENTS[from], AGENTS[to], "-", TEXTS[text]);
                message.known = known;
                message.id = id.map_or(MessageId::Random(random), |id| given(IDS[id]));
                let name = id.map_or(RelayId::from_random(random).to_string(), |id| {
                    IDS[id].to_owned()
                });
                let new = TwinMessage {
                    seq: 0,
                    id: name,
                    from,
                    to,
                    text,
                    known,
                    ends: now + 100,
                };
                let expected = twin.send(new, id.is_some());
                for subject in &subjects {
                    let sent = On(&relay, &*subject.store).send(&message, now);
                    let told = sent.map(|s| (s.seq, s.expires_at, s.repeated));
                    let expected = expected
                        .clone()
                        .map(|(seq, ends, repeated)| (seq, at(ends), repeated));
                    prop_assert_eq!(told, expected);
                }
            }
            Step::Receive { to, after, limit } => {
                let expected = twin.receive(to, after, limit);
                for subject in &subjects {
                    let page = On(&relay, &*subject.store).receive(AGENTS[to], after, limit, now);
                    prop_assert_eq!(seqs(&page), expected.clone());
                }
            }
            Step::Remove { to, limit } => {
                let expected = twin.receive(to, 0, limit);
                twin.messages.retain(|m| !expected.0.contains(&m.seq));
                for subject in &subjects {
                    let page = On(&relay, &*subject.store).remove(AGENTS[to], limit, now);
                    prop_assert_eq!(seqs(&page), expected.clone());
                }
            }
            Step::Ack { to, ids } => {
                let ids: Vec<_> = ids.into_iter().map(|id| IDS[id]).collect();
                let mut expected = Vec::new();
                for id in &ids {
                    let before = twin.messages.len();
                    twin.messages.retain(|m| m.to != to || m.id != *id);
                    expected.extend((twin.messages.len() < before).then(|| (*id).to_owned()));
                }
                for subject in &subjects {
                    let removed = On(&relay, &*subject.store).ack(AGENTS[to], &ids, now);
                    prop_assert_eq!(removed, expected.clone());
                }
            }
            Step::AckPage { to, after, limit } => {
                let (page, _) = twin.receive(to, after, limit);
                let in_page = |m: &TwinMessage| page.contains(&m.seq);
                let gone = twin.messages.iter().filter(|m| in_page(m));
                let expected: Vec<String> = gone.map(|m| m.id.clone()).collect();
                twin.messages.retain(|m| !in_page(m));
                for subject in &subjects {
                    let on = On(&relay, &*subject.store);
                    let found = on.receive(AGENTS[to], after, limit, now).messages;
                    let ids = found.iter().map(|m| m.kept.header.id.to_string());
                    let ids: Vec<String> = ids.collect();
                    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                    prop_assert_eq!(on.ack(AGENTS[to], &ids, now), expected.clone());
                }
            }
            Step::Wait { secs } => now += secs,
            Step::Expire { bound } => {
                for subject in &subjects {
                    On(&relay, &*subject.store).expire(now, bound);
                }
            }
            Step::Forget { agent: who } => {
                twin.messages.retain(|m| m.to != who);
                for subject in &subjects {
                    let who = agent(AGENTS[who]);
                    change(&*subject.store, |tx| Ok(relay.forget(tx, &who, at(now))?)).unwrap();
                }
            }
            Step::Reopen => subjects.iter_mut().for_each(Subject::reopen),
        }
    }
    twin.tick(now);
    for subject in &subjects {
        compare(&twin, &On(&relay, &*subject.store), now)?;
    }
    prop_assert_eq!(
        On(&relay, &*subjects[0].store).actions(),
        On(&relay, &*subjects[1].store).actions()
    );
    Ok(())
}

/// Everything that is left, and every count of it.
fn compare(twin: &Twin, on: &On<'_>, now: i64) -> Result<(), TestCaseError> {
    while on.expire(now, 2).3 {}
    let tally = |of: &dyn Fn(&&TwinMessage) -> bool| {
        let found: Vec<_> = twin.messages.iter().filter(of).collect();
        let bytes: usize = found.iter().map(|m| TEXTS[m.text].len()).sum();
        (found.len() as u64, bytes as u64)
    };
    prop_assert_eq!(on.tally(Scope::Place), tally(&|_| true));
    prop_assert_eq!(on.tally(Scope::Strangers), tally(&|m| !m.known));
    prop_assert_eq!(on.tally(Scope::Relayed).0, twin.relayed);
    prop_assert_eq!(on.tally(Scope::Remembered).0, twin.receipts.len() as u64);
    let mut boxes = 0;
    for (n, name) in AGENTS.iter().enumerate() {
        let who = agent(name);
        let inbox = tally(&|m| m.to == n);
        boxes += u64::from(inbox.0 > 0);
        prop_assert_eq!(on.tally(Scope::Box(&who)), inbox);
        prop_assert_eq!(on.tally(Scope::Sender(&who)), tally(&|m| m.from == n));
        let remembered = twin.receipts.iter().filter(|m| m.from == n).count() as u64;
        prop_assert_eq!(on.tally(Scope::RememberedOf(&who)), (remembered, 0));
        let page = on.receive(name, 0, 1, now);
        prop_assert_eq!(page.pending, inbox.0);
        let texts: Vec<_> = page.messages.iter().map(|m| m.sealed.text()).collect();
        let first = twin.messages.iter().find(|m| m.to == n);
        prop_assert_eq!(
            texts,
            first.map(|m| TEXTS[m.text]).into_iter().collect::<Vec<_>>()
        );
    }
    prop_assert_eq!(on.tally(Scope::Boxes), (boxes, 0));
    let stats = look(on.1, |read| on.0.stats(read)).unwrap();
    let sizes = twin.messages.iter().map(|m| TEXTS[m.text].len() as u64);
    prop_assert_eq!(stats.largest, sizes.max().unwrap_or(0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_relay_does_what_a_plain_list_would(steps in prop::collection::vec(step(), 1..60)) {
        check(steps)?;
    }
}
