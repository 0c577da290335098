//! An agent: what it wants, what it waits for, and what its application got.

use std::collections::{BTreeSet, VecDeque};
use std::str::FromStr as _;

use kairos_protocol::id::{AgentId, MessageId};
use kairos_protocol::relay::replay::{ReplayError, ReplayWindow, Seen};
use kairos_protocol::time::Timestamp;
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::host::{Op, Outcome};
use crate::world::{Millis, SECOND, clock};

/// How long an answer is waited for.
const PATIENCE: Millis = 20 * SECOND;
/// Most skills of one agent; the Place takes fewer.
const SKILLS: usize = 6;

pub(crate) struct Agent {
    pub(crate) at: usize,
    pub(crate) id: AgentId,
    pub(crate) awake: bool,
    pub(crate) token: Option<String>,
    /// Whether the Place ever took it in.
    pub(crate) registered: bool,
    /// Deposits and messages that are not acknowledged yet.
    pub(crate) outbox: VecDeque<Op>,
    skew: i64,
    serial: u64,
    waits: Option<(u64, Op, Millis)>,
    /// Message ids to acknowledge.
    got: Vec<String>,
    window: ReplayWindow,
    /// Messages whose time has not come by this agent's clock.
    early: Vec<Seen>,
    inbox: BTreeSet<String>,
    /// How often a message came again.
    pub(crate) repeated: usize,
    written: u64,
    skills: usize,
}

impl Agent {
    pub(crate) fn new(at: usize, id: AgentId, skew: i64) -> Self {
        Self {
            at,
            id,
            awake: true,
            token: None,
            registered: false,
            outbox: VecDeque::new(),
            skew,
            serial: 0,
            waits: None,
            got: Vec::new(),
            window: ReplayWindow::default(),
            early: Vec::new(),
            inbox: BTreeSet::new(),
            repeated: 0,
            written: 0,
            skills: 0,
        }
    }

    /// The ids of what its application got.
    pub(crate) fn delivered(&self) -> &BTreeSet<String> {
        &self.inbox
    }

    /// Whoever wakes up does not know whether it is still remembered, and registers anew. What it would have
    /// acknowledged comes again.
    pub(crate) fn sleep(&mut self) {
        self.awake = false;
        self.token = None;
        self.got.clear();
        self.give_up();
    }

    pub(crate) fn write(&mut self, to: usize, name: &AgentId, now: Millis) {
        self.written += 1;
        let id = format!("{:08x}{:024x}", self.at, self.written);
        let sent_at = clock(now, self.skew).as_secs();
        let sealed = format!("{name} {} {id} {sent_at}", self.id);
        self.outbox.push_back(Op::Send { id, to, sealed });
    }

    pub(crate) fn make_skill(&mut self) {
        if self.skills < SKILLS {
            self.skills += 1;
            let skill = format!("skill-{}", self.skills);
            let text = format!("{skill} of {}", self.id);
            self.outbox.push_back(Op::Deposit { skill, text });
        }
    }

    /// Its next request, if it waits for no answer.
    pub(crate) fn next(&mut self, now: Millis, rng: &mut SmallRng) -> Option<(u64, Op)> {
        for seen in std::mem::take(&mut self.early) {
            self.take(seen, now);
        }
        match &self.waits {
            Some((_, _, since)) if now - since < PATIENCE => return None,
            Some(_) => self.give_up(),
            None => {}
        }
        let op = if self.token.is_none() {
            Op::Register
        } else if !self.got.is_empty() && rng.random_bool(0.7) {
            Op::Ack(self.got.clone())
        } else if let Some(op) = self.outbox.pop_front_if(|_| rng.random_bool(0.6)) {
            op
        } else {
            match rng.random_range(0..4) {
                0 => Op::Beat,
                1 => Op::Needs(rng.random_range(0..3)),
                _ => Op::Receive,
            }
        };
        self.serial += 1;
        self.waits = Some((self.serial, op.clone(), now));
        Some((self.serial, op))
    }

    /// What has no answer is asked again, under the same id.
    fn give_up(&mut self) {
        if let Some((_, op @ (Op::Send { .. } | Op::Deposit { .. }), _)) = self.waits.take() {
            self.outbox.push_back(op);
        }
    }

    /// Takes an answer; what was acknowledged by it.
    pub(crate) fn answered(&mut self, serial: u64, outcome: Outcome, now: Millis) -> Option<Op> {
        if self
            .waits
            .as_ref()
            .is_none_or(|(waits, ..)| *waits != serial)
        {
            return None;
        }
        match outcome {
            Outcome::Done => return self.waits.take().map(|(_, op, _)| self.done(op)),
            Outcome::Registered(token) => (self.token, self.registered) = (Some(token), true),
            Outcome::Mail(blobs) => blobs.iter().for_each(|(id, blob)| self.open(id, blob, now)),
            // Such a deposit is never taken; a message may be once there is room.
            Outcome::Refused => {
                if let Some((_, op @ Op::Send { .. }, _)) = self.waits.take() {
                    self.outbox.push_back(op);
                }
            }
            Outcome::Strange => {
                self.give_up();
                self.token = None;
            }
            Outcome::Failed => self.give_up(),
        }
        self.waits = None;
        None
    }

    fn done(&mut self, op: Op) -> Op {
        if let Op::Ack(ids) = &op {
            self.got.retain(|id| !ids.contains(id));
        }
        op
    }

    fn open(&mut self, relay_id: &str, blob: &str, now: Millis) {
        let words: Vec<&str> = blob.split(' ').collect();
        let [to, from, id, sent_at] = words.as_slice() else {
            panic!("no message: {blob}");
        };
        assert_eq!(*to, self.id.as_str(), "{} reads the box of {to}", self.id);
        if !self.got.iter().any(|id| id == relay_id) {
            self.got.push(relay_id.to_owned());
        }
        let seen = Seen {
            sent_at: Timestamp::from_secs(sent_at.parse().unwrap()),
            from: from.parse().unwrap(),
            message_id: MessageId::from_str(id).unwrap(),
        };
        if !self.early.contains(&seen) {
            self.take(seen, now);
        }
    }

    /// Hands a message to the application, if it is new and its time has come.
    fn take(&mut self, seen: Seen, now: Millis) {
        match self.window.admit(&seen, clock(now, self.skew)) {
            Ok(()) => {
                let new = self.inbox.insert(seen.message_id.to_string());
                assert!(new, "{} arrives twice", seen.message_id);
            }
            Err(ReplayError::Seen(_)) => self.repeated += 1,
            Err(ReplayError::TooNew { .. }) => self.early.push(seen),
            Err(other) => panic!("{other}"),
        }
    }
}
