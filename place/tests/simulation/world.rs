//! Virtual time: what happens when, and what must hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use kairos_protocol::crypto::Keypair;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::agent::Agent;
use crate::host::{Host, Op, Outcome, Request};

/// Milliseconds of true time.
pub(crate) type Millis = u64;
pub(crate) const SECOND: Millis = 1_000;
pub(crate) const MINUTE: Millis = 60 * SECOND;
pub(crate) const HOUR: Millis = 60 * MINUTE;

/// After the troubles every agent is found again within this time.
const FOUND_AGAIN: Millis = 10 * MINUTE;
/// Then all that is under way arrives: sender and recipient may disagree by two hours, which a message waits out.
const ARRIVED: Millis = 3 * HOUR;
/// How wrong a clock may be.
const SKEW: i64 = HOUR as i64;
/// Between two looks at every bound.
const LOOK_EVERY: Millis = 30 * SECOND;

/// How a run is laid out.
pub(crate) struct Plan {
    pub(crate) agents: usize,
    /// For how long things go wrong.
    pub(crate) troubled: Millis,
    pub(crate) on_disk: bool,
}

enum Event {
    /// An agent does something, if it is awake.
    Turn(usize),
    WakeUp(usize),
    /// A request reaches the Place, an answer its agent.
    Arrive(Request),
    Answer(usize, u64, Outcome),
    /// The Place tells an agent of mail, or the connection for that is gone.
    Mail(usize),
    HungUp(usize),
    /// The Place has stored what it was storing. Void if it ended meanwhile.
    Stored {
        of: u64,
        relay: bool,
    },
    /// The Place does what it does in regular intervals.
    Tick(u64),
    Kill,
    Start,
    Look,
}

pub(crate) struct World {
    pub(crate) rng: SmallRng,
    now: Millis,
    troubled: Millis,
    order: u64,
    events: BinaryHeap<Reverse<(Millis, u64)>>,
    waiting: BTreeMap<u64, Event>,
    host: Host,
    agents: Vec<Agent>,
    ids: Vec<AgentId>,
    keypair: Keypair,
    /// What the Place acknowledged: deposits by owner with their text, and messages by recipient.
    deposited: Vec<BTreeMap<String, String>>,
    sent: Vec<BTreeSet<String>>,
}

/// What a clock shows that is wrong by `skew`.
pub(crate) fn clock(now: Millis, skew: i64) -> Timestamp {
    let since = i64::try_from(now).unwrap() + skew;
    let start = Timestamp::from_secs(1_800_000_000);
    match u64::try_from(since) {
        Ok(later) => start.plus(Duration::from_millis(later)),
        Err(_) => start.minus(Duration::from_millis(since.unsigned_abs())),
    }
}

impl World {
    pub(crate) fn new(seed: u64, plan: &Plan) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let ids: Vec<AgentId> = (0..plan.agents)
            .map(|n| format!("agent-{n}").parse().unwrap())
            .collect();
        let mut skew = || rng.random_range(-SKEW..=SKEW);
        let host = Host::new(plan.on_disk, skew());
        let agents = ids.iter().enumerate();
        let agents = agents
            .map(|(at, id)| Agent::new(at, id.clone(), skew()))
            .collect();
        let mut world = Self {
            rng,
            now: 0,
            troubled: plan.troubled,
            order: 0,
            events: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            host,
            agents,
            deposited: vec![BTreeMap::new(); plan.agents],
            sent: vec![BTreeSet::new(); plan.agents],
            ids,
            keypair: Keypair::generate().unwrap(),
        };
        for at in 0..plan.agents {
            let first = world.rng.random_range(0..MINUTE);
            world.at(first, Event::Turn(at));
        }
        world.at(0, Event::Tick(0));
        world.at(LOOK_EVERY, Event::Look);
        world.at(10 * MINUTE, Event::Kill);
        world
    }

    /// Runs to the end and looks at what is there then.
    pub(crate) fn run(mut self) {
        let calm = self.troubled + FOUND_AGAIN;
        self.until(calm);
        for agent in &self.agents {
            assert!(
                self.host.knows(&agent.id),
                "{} is not found again",
                agent.id
            );
        }
        self.until(calm + ARRIVED);
        assert!(self.host.restarts > 1, "the Place was killed");
        let sent: usize = self.sent.iter().map(BTreeSet::len).sum();
        assert!(sent > self.agents.len(), "only {sent} messages were sent");
        let repeated: usize = self.agents.iter().map(|agent| agent.repeated).sum();
        // Only whoever falls asleep between reading and acknowledging reads again, which few agents may never do.
        assert!(
            repeated > 0 || self.agents.len() < 50,
            "no message comes again, which tests nothing"
        );
        for agent in &self.agents {
            // Whatever goes wrong, nobody asks without end.
            let most = usize::try_from(self.now / (12 * SECOND)).unwrap();
            assert!(
                (20..most).contains(&agent.steps),
                "{} asked {} times, at most {most} are expected",
                agent.id,
                agent.steps
            );
            assert!(
                agent.outbox.is_empty(),
                "{} has mail left to send",
                agent.id
            );
            let got = agent.delivered();
            let lost: Vec<_> = self.sent[agent.at].difference(got).collect();
            assert!(
                lost.is_empty(),
                "acknowledged and lost: {lost:?} for {}",
                agent.id
            );
            for (skill, text) in &self.deposited[agent.at] {
                let found = self.host.content(&agent.id, skill);
                assert_eq!(
                    found.as_deref(),
                    Some(text.as_str()),
                    "{} {skill}",
                    agent.id
                );
            }
        }
    }

    fn until(&mut self, end: Millis) {
        while let Some(Reverse((at, order))) = self.events.pop() {
            if at > end {
                self.events.push(Reverse((at, order)));
                break;
            }
            self.now = at;
            let event = self.waiting.remove(&order).unwrap();
            self.happen(event);
        }
    }

    fn at(&mut self, at: Millis, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order)));
        self.waiting.insert(self.order, event);
    }

    fn after(&mut self, time: Millis, event: Event) {
        self.at(self.now + time, event);
    }

    fn is_troubled(&self) -> bool {
        self.now < self.troubled
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(at) => self.turn(at),
            Event::WakeUp(at) => self.agents[at].wake_up(self.now),
            Event::Mail(at) => self.agents[at].told_of_mail(self.now),
            Event::HungUp(at) => self.agents[at].hung_up(self.now),
            Event::Arrive(request) => self.arrive(request),
            Event::Answer(at, serial, outcome) => {
                if self.agents[at].awake {
                    self.answered(at, serial, outcome);
                }
            }
            Event::Stored { of, relay } => {
                if of == self.host.restarts {
                    let fails = self.is_troubled() && self.rng.random_bool(0.01);
                    let answers = match relay {
                        true => self.host.relayed(self.now, fails),
                        false => self.host.stored(self.now, fails),
                    };
                    self.tell(answers);
                    self.store();
                }
            }
            Event::Tick(of) => {
                if of == self.host.restarts && self.host.up {
                    self.host.tick(self.now);
                    self.store();
                    self.after(5 * SECOND, Event::Tick(of));
                }
            }
            Event::Kill => self.kill(),
            Event::Start => {
                let skew = self.rng.random_range(-SKEW..=SKEW);
                self.host.start(self.now, skew);
                self.after(0, Event::Tick(self.host.restarts));
            }
            Event::Look => {
                self.look();
                self.after(LOOK_EVERY, Event::Look);
            }
        }
    }

    fn turn(&mut self, at: usize) {
        let pause = self.rng.random_range(2 * SECOND..20 * SECOND);
        self.after(pause, Event::Turn(at));
        let (now, troubled, count) = (self.now, self.is_troubled(), self.agents.len());
        let agent = &mut self.agents[at];
        if !agent.awake {
            return;
        }
        // Asleep for a while, also for longer than the Place remembers.
        if troubled && self.rng.random_bool(0.003) {
            agent.sleep();
            let left = self.troubled - now;
            let long = self.rng.random_range(MINUTE..90 * MINUTE).min(left);
            self.after(long, Event::WakeUp(at));
            return;
        }
        if troubled && self.rng.random_bool(0.02) {
            // Some write to all, some mostly to one, whose box fills.
            let other = match self.rng.random_bool(0.3) {
                true => 1,
                false => self.rng.random_range(0..count),
            };
            if other != at {
                let to = self.ids[other].clone();
                agent.write(other, &to, now);
            }
        }
        if troubled && self.rng.random_bool(0.005) {
            agent.make_skill();
        }
        let Some((serial, op)) = agent.next(now, &mut self.rng) else {
            return;
        };
        let token = agent.token.clone();
        let from = at;
        let request = Request {
            from,
            serial,
            token,
            op,
        };
        self.carry(Event::Arrive(request));
        // Somebody with another key says to be somebody else.
        let other = self.rng.random_range(0..count);
        if self.agents[other].registered && self.rng.random_bool(0.002) {
            let claim = Op::Impersonate(other);
            self.carry(Event::Arrive(Request {
                from,
                serial: 0,
                token: None,
                op: claim,
            }));
        }
    }

    /// Takes something to the other side, some time, once, twice or not at all.
    fn carry(&mut self, event: Event) {
        let (lost, doubled) = match self.is_troubled() {
            true => (self.rng.random_bool(0.08), self.rng.random_bool(0.05)),
            false => (false, false),
        };
        if doubled && let Some(copy) = copy(&event) {
            let time = self.delay();
            self.after(time, copy);
        }
        if !lost {
            let time = self.delay();
            self.after(time, event);
        }
    }

    fn delay(&mut self) -> Millis {
        match self.is_troubled() && self.rng.random_bool(0.05) {
            true => self.rng.random_range(SECOND..2 * MINUTE),
            false => self.rng.random_range(10..400),
        }
    }

    fn arrive(&mut self, request: Request) {
        if !self.host.up {
            return;
        }
        let answer = self
            .host
            .take(request, &self.ids, &self.keypair, self.now, &mut self.rng);
        self.tell(answer);
        self.store();
    }

    fn tell(&mut self, answers: impl IntoIterator<Item = (Request, Outcome)>) {
        for (request, outcome) in answers {
            if let Op::Impersonate(other) = request.op {
                let refused = matches!(outcome, Outcome::Refused | Outcome::Failed);
                assert!(refused, "somebody becomes {other}");
                continue;
            }
            if let (Op::Send { to, .. }, Outcome::Done) = (&request.op, &outcome)
                && self.agents[*to].listening
            {
                let time = self.delay();
                self.after(time, Event::Mail(*to));
            }
            self.carry(Event::Answer(request.from, request.serial, outcome));
        }
    }

    /// Has the Place store what waits, which takes a while.
    fn store(&mut self) {
        for relay in [false, true] {
            if self.host.begins(relay) {
                let time = self.rng.random_range(2..60);
                let of = self.host.restarts;
                self.after(time, Event::Stored { of, relay });
            }
        }
    }

    fn kill(&mut self) {
        if !self.is_troubled() {
            return;
        }
        // What was being stored may have reached the disk, though nobody was told.
        let reached = self.rng.random_bool(0.5);
        self.host.kill(self.now, reached);
        // Some hear of it late.
        for at in 0..self.agents.len() {
            if self.agents[at].listening {
                let time = self.rng.random_range(10..MINUTE);
                self.after(time, Event::HungUp(at));
            }
        }
        let down = self.rng.random_range(SECOND..2 * MINUTE);
        let left = self.troubled - self.now;
        self.after(down.min(left), Event::Start);
        let next = self.rng.random_range(3 * MINUTE..15 * MINUTE);
        self.after(next, Event::Kill);
    }

    fn answered(&mut self, at: usize, serial: u64, outcome: Outcome) {
        let agent = &mut self.agents[at];
        let Some(done) = agent.answered(serial, outcome, self.now, &mut self.rng) else {
            return;
        };
        match done {
            Op::Deposit { skill, text } => {
                self.deposited[at].insert(skill, text);
            }
            Op::Send { id, to, .. } => {
                self.sent[to].insert(id);
            }
            _ => {}
        }
    }

    /// Every bound, every key, and everything that was acknowledged.
    fn look(&mut self) {
        if !self.host.up {
            return;
        }
        self.host.check_bounds(&self.ids, self.keypair.public());
        for (at, deposits) in self.deposited.iter().enumerate() {
            for skill in deposits.keys() {
                assert!(
                    self.host.shows(&self.ids[at], skill),
                    "{skill} of {at} is gone"
                );
            }
        }
    }
}

fn copy(event: &Event) -> Option<Event> {
    match event {
        Event::Arrive(request) => Some(Event::Arrive(request.clone())),
        Event::Answer(at, serial, outcome) => Some(Event::Answer(*at, *serial, outcome.clone())),
        _ => None,
    }
}
