//! The Place as the server runs it: decisions at once, answers once they are stored, many sharing one commit.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use kairos_place::meeting_place::store::memory::MemoryStore;
use kairos_place::meeting_place::store::sqlite::SqliteStore;
use kairos_place::meeting_place::store::{Change, Snapshot, Store};
use kairos_place::meeting_place::{
    Claim, Deposit, DepositKey, DepositLimits, Facts, MeetingPlace, Need, NeedEntry, Policy,
    Registration,
};
use kairos_place::relay::message::{BlobHash, RelayId, Sealed};
use kairos_place::relay::policy::{RelayError, RelayPolicy};
use kairos_place::relay::store::memory::MemoryStore as MemoryBoxes;
use kairos_place::relay::store::sqlite::SqliteStore as SqliteBoxes;
use kairos_place::relay::store::{RelayStore, RelayTx, StoreError, look};
use kairos_place::relay::{MessageId, Relay, Submission};
use kairos_place::session::{SessionPolicy, SessionTable, Strength};
use kairos_protocol::crypto::{Keypair, PublicKey};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use rand::Rng as _;
use rand::rngs::SmallRng;
use serde_json::json;
use tempfile::TempDir;

use crate::world::{Millis, SECOND, clock};

/// Messages of one answer.
pub(crate) const PAGE: usize = 10;
/// After how long without a sign of life an agent fades.
pub(crate) const FADES_AFTER: Duration = Duration::from_secs(3600);
/// How long a session lasts.
pub(crate) const SESSION: Duration = Duration::from_secs(3600);
/// Most agents that fade in one step, and most signs of life that are stored with it.
const STEP: usize = 1_000;
const BOX: u64 = 25;
const OF_SENDER: u64 = 6;
const DEPOSITS: usize = 4;
/// How the agents show who they are.
const STRENGTH: Strength = Strength::Proven;

/// Whoever says to be somebody else.
static STRANGER: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Register,
    Impersonate(usize),
    Beat,
    Needs(usize),
    Deposit {
        skill: String,
        text: String,
    },
    Send {
        id: String,
        to: usize,
        sealed: String,
    },
    Receive,
    Ack(Vec<String>),
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) from: usize,
    pub(crate) serial: u64,
    pub(crate) token: Option<String>,
    pub(crate) op: Op,
}

#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Registered(String),
    Done,
    /// Id and text of each message.
    Mail(Vec<(String, String)>),
    /// A rule says no.
    Refused,
    /// The session is gone, or the agent is not here.
    Strange,
    /// It could not be stored.
    Failed,
}

type Told = (Option<Request>, Outcome);

enum Job {
    Send(Request, Submission),
    Ack(Request, AgentId, Vec<RelayId>),
    Forget(AgentId),
    Expire,
}

pub(crate) struct Host {
    pub(crate) up: bool,
    /// How often it was started.
    pub(crate) restarts: u64,
    skew: i64,
    machine: MeetingPlace,
    store: Box<dyn Store>,
    relay: Relay,
    boxes: Box<dyn RelayStore>,
    sessions: SessionTable,
    /// What waits to be stored, and what is being stored.
    waiting: Vec<(Vec<Change>, Told)>,
    storing: Option<Vec<(Vec<Change>, Told)>>,
    jobs: Vec<Job>,
    relaying: Option<Vec<Job>>,
    swept: Millis,
    folder: Option<TempDir>,
}

fn policy() -> Policy {
    Policy {
        ttl: FADES_AFTER,
        deposits: DepositLimits {
            per_agent: DEPOSITS,
            ..DepositLimits::default()
        },
        ..Policy::default()
    }
}

fn myself() -> Registration {
    Registration {
        id: "place".parse().unwrap(),
        name: Some("Place".to_owned()),
        description: None,
        scope: None,
        capabilities: Some(json!({"supported_actions": []})),
        claim: Claim::Unsigned,
    }
}

fn sessions() -> SessionTable {
    SessionTable::new(SessionPolicy {
        max_per_key: 1_000,
        ttl: SESSION,
        ..SessionPolicy::default()
    })
}

impl Host {
    pub(crate) fn new(on_disk: bool, skew: i64) -> Self {
        let folder = on_disk.then(|| tempfile::tempdir().unwrap());
        let mut host = Self {
            up: true,
            restarts: 0,
            skew,
            machine: MeetingPlace::new(policy(), myself(), Snapshot::default(), clock(0, skew)),
            store: Box::new(MemoryStore::default()),
            relay: Relay::new(RelayPolicy {
                ttl: Duration::from_secs(24 * 3600),
                box_messages: BOX,
                sender_in_box_messages: OF_SENDER,
                audit_entries: 50,
                ..RelayPolicy::default()
            }),
            boxes: Box::new(MemoryBoxes::default()),
            sessions: sessions(),
            waiting: Vec::new(),
            storing: None,
            jobs: Vec::new(),
            relaying: None,
            swept: 0,
            folder,
        };
        host.open();
        host.rebuild(0);
        host
    }

    /// Opens the databases anew. What is in memory stands for a disk and stays.
    fn open(&mut self) {
        if let Some(folder) = &self.folder {
            self.store = Box::new(SqliteStore::open(&folder.path().join("place.db")).unwrap());
            self.boxes = Box::new(SqliteBoxes::open(&folder.path().join("relay.db")).unwrap());
        }
    }

    fn rebuild(&mut self, now: Millis) {
        let snapshot = self.store.load().unwrap();
        let now = clock(now, self.skew);
        self.machine = MeetingPlace::new(policy(), myself(), snapshot, now);
        self.store.commit(&self.machine.take_changes()).unwrap();
    }

    pub(crate) fn start(&mut self, now: Millis, skew: i64) {
        self.up = true;
        self.restarts += 1;
        self.skew = skew;
        self.open();
        self.rebuild(now);
    }

    /// Ends it in the middle of what it does.
    pub(crate) fn kill(&mut self, now: Millis, reached: bool) {
        if !self.up {
            return;
        }
        self.up = false;
        let storing = self.storing.take().unwrap_or_default();
        let relaying = self.relaying.take().unwrap_or_default();
        if reached {
            let changes = storing.into_iter().flat_map(|(changes, _)| changes);
            self.store.commit(&changes.collect::<Vec<_>>()).unwrap();
            self.transact(relaying, now, false);
        }
        self.waiting.clear();
        self.jobs.clear();
        self.sessions = sessions();
    }

    pub(crate) fn knows(&self, id: &AgentId) -> bool {
        self.up && self.machine.agent(id).is_some()
    }

    pub(crate) fn shows(&self, owner: &AgentId, skill: &str) -> bool {
        self.machine.find_deposit(skill, Some(owner)).is_some()
    }

    /// The text of a deposit as it is stored.
    pub(crate) fn content(&mut self, owner: &AgentId, skill: &str) -> Option<String> {
        let key = DepositKey {
            owner: owner.clone(),
            skill_id: skill.to_owned(),
        };
        self.store
            .deposit(&key)
            .unwrap()
            .map(|(_, content)| content)
    }

    /// What it does every few seconds.
    pub(crate) fn tick(&mut self, now: Millis) {
        let time = clock(now, self.skew);
        self.machine.note_counts(STEP);
        self.machine.sweep(time, STEP);
        self.sessions.sweep(time);
        let changes = self.machine.take_changes();
        if !changes.is_empty() {
            self.waiting.push((changes, (None, Outcome::Done)));
        }
        if now - self.swept >= 30 * SECOND {
            self.swept = now;
            self.jobs.push(Job::Expire);
        }
    }

    /// Whether something begins to be stored now.
    pub(crate) fn begins(&mut self, relay: bool) -> bool {
        match relay {
            false if self.storing.is_none() && !self.waiting.is_empty() => {
                self.storing = Some(std::mem::take(&mut self.waiting));
                true
            }
            true if self.relaying.is_none() && !self.jobs.is_empty() => {
                self.relaying = Some(std::mem::take(&mut self.jobs));
                true
            }
            _ => false,
        }
    }

    /// Takes a request; answers it at once if nothing has to be stored first.
    pub(crate) fn take(
        &mut self,
        request: Request,
        ids: &[AgentId],
        keypair: &Keypair,
        now: Millis,
        rng: &mut SmallRng,
    ) -> Option<(Request, Outcome)> {
        let time = clock(now, self.skew);
        if let Op::Register | Op::Impersonate(_) = request.op {
            return self.register(request, ids, keypair, time, rng);
        }
        // Who asks is whom the token names.
        let token = request.token.clone().unwrap_or_default();
        let Ok(caller) = self.sessions.admit(&token, time) else {
            return Some((request, Outcome::Strange));
        };
        let caller = caller.agent_id.clone();
        assert_eq!(caller, ids[request.from], "a session speaks for its agent");
        let here = self.machine.touch(&caller, time);
        let outcome = match &request.op {
            Op::Beat if here => Outcome::Done,
            Op::Needs(count) => {
                let entry = needs(*count);
                match self.machine.publish_needs(&caller, &entry, time) {
                    Ok(_) => Outcome::Done,
                    Err(_) => Outcome::Strange,
                }
            }
            Op::Deposit { skill, text } if here => {
                match self
                    .machine
                    .deposit(deposit(&caller, skill, text, time), text)
                {
                    Ok(_) => Outcome::Done,
                    Err(_) => Outcome::Refused,
                }
            }
            // Looks at what is committed, and waits for nothing.
            Op::Receive => {
                let mail = self.mail(&caller, time);
                return Some((request, Outcome::Mail(mail)));
            }
            Op::Send { id, to, sealed } => {
                let to = ids[*to].clone();
                let submission = Submission {
                    id: MessageId::Given(id.parse().unwrap()),
                    from: caller,
                    known: self.machine.key(&to).is_some(),
                    to,
                    message_type: "message".parse().unwrap(),
                    sealed: Sealed::new(sealed.clone(), BlobHash::of(sealed)).unwrap(),
                };
                self.jobs.push(Job::Send(request, submission));
                return None;
            }
            Op::Ack(got) => {
                let got = got.iter().map(|id| id.parse().unwrap()).collect();
                self.jobs.push(Job::Ack(request, caller, got));
                return None;
            }
            _ => Outcome::Strange,
        };
        self.answer(request, outcome)
    }

    fn register(
        &mut self,
        request: Request,
        ids: &[AgentId],
        keypair: &Keypair,
        time: Timestamp,
        rng: &mut SmallRng,
    ) -> Option<(Request, Outcome)> {
        let (at, key) = match request.op {
            Op::Impersonate(other) => (other, STRANGER.public().clone()),
            _ => (request.from, keypair.public().clone()),
        };
        let id = ids[at].clone();
        let wish = Registration {
            id: id.clone(),
            name: Some(format!("Agent {at}")),
            claim: Claim::Signed(key.clone(), STRENGTH),
            ..myself()
        };
        let outcome = match self.machine.register(wish, time) {
            Ok(done) => {
                self.jobs
                    .extend(done.forgotten.into_iter().map(Job::Forget));
                let token = format!("{:032x}", rng.random::<u128>());
                let opened = self.sessions.open(
                    &token,
                    id,
                    key.hash(),
                    STRENGTH,
                    kairos_place::network::UNKNOWN_ADDRESS,
                    time,
                );
                opened.map_or(Outcome::Failed, |()| Outcome::Registered(token))
            }
            Err(_) => Outcome::Refused,
        };
        self.answer(request, outcome)
    }

    /// Answers at once, unless there is something to be stored or the answer may rest on what is not stored yet.
    fn answer(&mut self, request: Request, outcome: Outcome) -> Option<(Request, Outcome)> {
        let changes = self.machine.take_changes();
        if changes.is_empty() && self.storing.is_none() && self.waiting.is_empty() {
            return Some((request, outcome));
        }
        self.waiting.push((changes, (Some(request), outcome)));
        None
    }

    fn mail(&self, of: &AgentId, time: Timestamp) -> Vec<(String, String)> {
        let page = look(&*self.boxes, |read| {
            self.relay.receive(read, of, 0, PAGE, time)
        });
        let one = |message: kairos_place::relay::message::Message| {
            let id = message.kept.header.id.to_string();
            (id, message.sealed.text().to_owned())
        };
        page.unwrap().messages.into_iter().map(one).collect()
    }

    /// Ends the commit under way; if it fails, nothing since the last one has happened.
    pub(crate) fn stored(&mut self, now: Millis, fails: bool) -> Vec<(Request, Outcome)> {
        let mut storing = self.storing.take().unwrap_or_default();
        if fails {
            storing.append(&mut self.waiting);
            let mut before = std::mem::replace(
                &mut self.machine,
                MeetingPlace::new(
                    policy(),
                    myself(),
                    Snapshot::default(),
                    clock(now, self.skew),
                ),
            );
            self.rebuild(now);
            self.machine.carry_over(&mut before);
        } else {
            let changes: Vec<Change> = storing
                .iter_mut()
                .flat_map(|(changes, _)| std::mem::take(changes))
                .collect();
            self.store.commit(&changes).unwrap();
        }
        let told = storing.into_iter().filter_map(|(_, (request, outcome))| {
            Some((request?, if fails { Outcome::Failed } else { outcome }))
        });
        told.collect()
    }

    pub(crate) fn relayed(&mut self, now: Millis, fails: bool) -> Vec<(Request, Outcome)> {
        let jobs = self.relaying.take().unwrap_or_default();
        self.transact(jobs, now, fails)
    }

    /// All jobs in one transaction; what whom is told.
    fn transact(&self, jobs: Vec<Job>, now: Millis, fails: bool) -> Vec<(Request, Outcome)> {
        let time = clock(now, self.skew);
        let mut outcomes = Vec::new();
        let done = self.boxes.write(&mut |tx| {
            for job in &jobs {
                outcomes.push(self.work(tx, job, time)?);
            }
            match fails {
                true => Err(StoreError::Locked),
                false => Ok(()),
            }
        });
        assert_eq!(done.is_err(), fails);
        let told = jobs.into_iter().zip(outcomes).filter_map(|(job, outcome)| {
            let (Job::Send(request, _) | Job::Ack(request, ..)) = job else {
                return None;
            };
            Some((request, if fails { Outcome::Failed } else { outcome }))
        });
        told.collect()
    }

    fn work(
        &self,
        tx: &mut dyn RelayTx,
        job: &Job,
        time: Timestamp,
    ) -> Result<Outcome, StoreError> {
        let done = match job {
            Job::Send(_, submission) => self.relay.send(tx, submission, time).map(drop),
            Job::Ack(_, of, ids) => self.relay.ack(tx, of, ids.clone(), time).map(drop),
            Job::Forget(agent) => self
                .relay
                .forget(tx, agent, time)
                .map(drop)
                .map_err(Into::into),
            Job::Expire => self
                .relay
                .expire(tx, time, STEP)
                .map(drop)
                .map_err(Into::into),
        };
        match done {
            Ok(()) => Ok(Outcome::Done),
            Err(RelayError::Refused(_)) => Ok(Outcome::Refused),
            Err(RelayError::Store(error)) => Err(error),
        }
    }

    /// Counts what is there, and looks at every key.
    pub(crate) fn check_bounds(&self, ids: &[AgentId], key: &PublicKey) {
        for id in ids {
            let all = look(&*self.boxes, |read| {
                read.list(id, 0, Timestamp::EPOCH, 10_000)
            });
            let all = all.unwrap();
            assert!(all.len() as u64 <= BOX, "the box of {id} has {}", all.len());
            let mut senders: BTreeMap<&AgentId, u64> = BTreeMap::new();
            for kept in &all {
                assert_eq!(kept.header.to, *id);
                *senders.entry(&kept.header.from).or_default() += 1;
            }
            let most = senders.values().max().copied().unwrap_or(0);
            assert!(most <= OF_SENDER, "{most} of one sender in the box of {id}");
            assert!(self.machine.deposits_of(id).count() <= DEPOSITS);
            if let Some(pinned) = self.machine.key(id) {
                assert_eq!(pinned.hash(), key.hash(), "{id} has another key");
            }
        }
    }
}

fn needs(count: usize) -> NeedEntry {
    let need = |n: usize| Need {
        name: format!("need {n}"),
        description: None,
    };
    NeedEntry {
        agent_name: "agent".to_owned(),
        agent_mode: "user".to_owned(),
        needs: (0..count).map(need).collect(),
    }
}

/// As it would be after its checks.
fn deposit(owner: &AgentId, skill: &str, text: &str, now: Timestamp) -> Deposit {
    Deposit {
        key: DepositKey {
            owner: owner.clone(),
            skill_id: skill.to_owned(),
        },
        facts: Facts {
            name: skill.to_owned(),
            description: None,
            tags: Vec::new(),
            format: "markdown".to_owned(),
            summary: None,
            sections: Vec::new(),
            input_output: None,
            version: None,
            license: None,
            bytes: text.len(),
            lines: 1,
        },
        content_hash: ContentHash::of(text),
        signature: "c2ln".to_owned(),
        provenance: None,
        deposited_at: now,
        first_deposited: now,
    }
}
