//! An agent: what it wants, what it waits for, and what its application got. When it does what is up to its
//! [`Rhythm`], the machine by which nodes live at Places; errands of its owner come in between.

use std::collections::{BTreeSet, VecDeque};
use std::str::FromStr as _;
use std::time::Duration;

use kairos_place::member::{Draw, Pace, Rhythm, Step, Trouble};
use kairos_protocol::id::{AgentId, MessageId};
use kairos_protocol::relay::replay::{ReplayError, ReplayWindow, Seen};
use kairos_protocol::time::Timestamp;
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::host::{FADES_AFTER, Op, Outcome, PAGE, SESSION};
use crate::world::{MINUTE, Millis, SECOND, clock};

/// How long an answer is waited for.
const PATIENCE: Millis = 20 * SECOND;
/// Most skills of one agent; the Place takes fewer.
const SKILLS: usize = 6;
/// How fast agents live.
pub(crate) const PACE: Pace = Pace {
    beat: Duration::from_millis(5 * MINUTE),
    poll: Duration::from_millis(30 * SECOND),
    pause_max: Duration::from_millis(2 * MINUTE),
};

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
    waits: Option<Asked>,
    rhythm: Rhythm,
    /// Whether the Place tells it of mail.
    pub(crate) listening: bool,
    /// How often its rhythm asked for something.
    pub(crate) steps: usize,
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

/// A request that has no answer yet.
struct Asked {
    serial: u64,
    op: Op,
    since: Millis,
    /// What it is for, if it is no errand.
    step: Option<Step>,
}

fn draw(rng: &mut SmallRng) -> Draw {
    Draw(rng.random())
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
            rhythm: Rhythm::new(PACE, clock(0, skew)),
            listening: false,
            steps: 0,
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
        self.listening = false;
        if let Some(asked) = self.waits.take() {
            self.keep(asked.op);
        }
    }

    pub(crate) fn wake_up(&mut self, now: Millis) {
        self.awake = true;
        self.rhythm = Rhythm::new(PACE, self.time(now));
    }

    fn time(&self, now: Millis) -> Timestamp {
        clock(now, self.skew)
    }

    /// The Place tells of mail.
    pub(crate) fn told_of_mail(&mut self, now: Millis) {
        if self.awake && self.listening {
            self.rhythm.mail(self.time(now));
        }
    }

    /// The connection on which it is told is gone.
    pub(crate) fn hung_up(&mut self, now: Millis) {
        if std::mem::take(&mut self.listening) {
            self.rhythm.listening(false);
            self.rhythm.mail(self.time(now));
        }
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
        if let Some(asked) = self.waits.take_if(|asked| now - asked.since >= PATIENCE) {
            self.failed(asked, Trouble::Failed { retry_after: None }, now, rng);
        }
        if self.waits.is_some() {
            return None;
        }
        let step = self.rhythm.next(self.time(now));
        let (op, step) = match step {
            Step::Register => (Op::Register, Some(step)),
            Step::Tend => (Op::Needs(rng.random_range(0..3)), Some(step)),
            // What was read is acknowledged before more is.
            Step::Collect if !self.got.is_empty() => (Op::Ack(self.got.clone()), Some(step)),
            Step::Collect => (Op::Receive, Some(step)),
            Step::Beat => (Op::Beat, Some(step)),
            Step::Wait(_) if self.token.is_none() => return None,
            Step::Wait(_) => (self.outbox.pop_front_if(|_| rng.random_bool(0.6))?, None),
        };
        self.steps += usize::from(step.is_some());
        self.serial += 1;
        self.waits = Some(Asked {
            serial: self.serial,
            op: op.clone(),
            since: now,
            step,
        });
        Some((self.serial, op))
    }

    /// What has no answer is asked again, under the same id.
    fn keep(&mut self, op: Op) {
        if matches!(op, Op::Send { .. } | Op::Deposit { .. }) {
            self.outbox.push_back(op);
        }
    }

    fn failed(&mut self, asked: Asked, trouble: Trouble, now: Millis, rng: &mut SmallRng) {
        // An errand that fails says nothing about the Place, unless it says that the session is gone.
        if asked.step.is_some() || trouble == Trouble::Session {
            self.rhythm.failed(trouble, self.time(now), draw(rng));
        }
        self.keep(asked.op);
    }

    /// Takes an answer; what was acknowledged by it.
    pub(crate) fn answered(
        &mut self,
        serial: u64,
        outcome: Outcome,
        now: Millis,
        rng: &mut SmallRng,
    ) -> Option<Op> {
        let asked = self.waits.take_if(|asked| asked.serial == serial)?;
        let time = self.time(now);
        match outcome {
            Outcome::Done => {
                if let Op::Ack(ids) = &asked.op {
                    self.got.retain(|id| !ids.contains(id));
                }
                self.succeeded(asked.step, now, rng);
                return Some(asked.op);
            }
            Outcome::Registered(token) => {
                (self.token, self.registered) = (Some(token), true);
                let fades_after = Some(FADES_AFTER);
                self.rhythm
                    .registered(time, SESSION, fades_after, draw(rng));
            }
            Outcome::Mail(blobs) => {
                blobs.iter().for_each(|(id, blob)| self.open(id, blob, now));
                if !self.listening {
                    self.listening = true;
                    self.rhythm.listening(true);
                }
                // Else there is something to acknowledge first, or more to read.
                if blobs.len() < PAGE && self.got.is_empty() {
                    self.succeeded(asked.step, now, rng);
                }
            }
            // Such a deposit is never taken; a message may be once there is room.
            Outcome::Refused => match asked.op {
                op @ Op::Send { .. } => self.outbox.push_back(op),
                Op::Deposit { .. } => {}
                _ => self.failed(asked, Trouble::Failed { retry_after: None }, now, rng),
            },
            Outcome::Strange => {
                self.token = None;
                self.listening = false;
                self.rhythm.listening(false);
                self.failed(asked, Trouble::Session, now, rng);
            }
            Outcome::Failed => {
                self.failed(asked, Trouble::Failed { retry_after: None }, now, rng);
            }
        }
        None
    }

    fn succeeded(&mut self, step: Option<Step>, now: Millis, rng: &mut SmallRng) {
        if let Some(step) = step {
            self.rhythm.done(step, self.time(now), draw(rng));
        }
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
