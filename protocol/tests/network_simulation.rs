//! Two hundred nodes in virtual time: they come and go, move, are cut into two networks for longer than a record holds, and
//! forget everything when they are started again. Played is what nodes know and whom they ask, with the machines that the
//! node runs; that messages arrive is left to a network that loses some, and to relays for those behind routers.
//!
//! When the network is whole again, every node that is up and can be reached is found by every other within a bound.
//! Everything random comes from one seed, which is told where a run fails: `KAIROS_SIM_SEED=7 cargo test -p
//! kairos-protocol --test network_simulation` plays that one again, `KAIROS_SIM_RUNS=50` plays so many others.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use kairos_protocol::id::AgentId;
use kairos_protocol::record::ask::RecordsAsked;
use kairos_protocol::record::book::{Entry, RecordBook};
use kairos_protocol::record::pull::Pull;
use kairos_protocol::record::rounds::Rounds;
use kairos_protocol::time::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Runs if nothing else is said.
const RUNS: u64 = 1;

const SECOND: u64 = 1;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

const NODES: usize = 200;
/// Those whose addresses everybody was given to begin with; two in each part of a cut network.
const HUBS: usize = 4;
/// For how long a record holds; it is signed anew when half of that is over. A sixth of what it is in the node, so that a
/// network that was cut for longer is soon played.
const LIFETIME: u64 = HOUR;
/// How often a node asks somebody.
const ROUND: u64 = MINUTE;
/// A connection on which nothing happened for so long is closed.
const IDLE: u64 = 2 * MINUTE;
/// Within which time of the healing everybody is found by everybody.
const BOUND: u64 = 15 * MINUTE;
/// How many of a thousand questions get no answer.
const LOST: u32 = 20;

#[derive(Debug, Clone)]
struct Card {
    of: usize,
    id: AgentId,
    sequence: u64,
    until: Timestamp,
}

impl Entry for Card {
    fn id(&self) -> &AgentId {
        &self.id
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn expires_at(&self) -> Timestamp {
        self.until
    }
}

#[derive(Debug)]
struct Node {
    is_up: bool,
    /// Reached through a hub only.
    is_hidden: bool,
    /// In which part of a cut network.
    side: bool,
    own: Card,
    book: RecordBook<Card, usize>,
    rounds: Rounds,
    /// Who is connected, and when something happened there.
    connected: BTreeMap<usize, u64>,
    round_at: u64,
    renew_at: u64,
}

struct World {
    rng: StdRng,
    now: u64,
    is_cut: bool,
    nodes: Vec<Node>,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_secs(seconds))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = (0..NODES).map(|n| Node {
            is_up: true,
            is_hidden: n >= HUBS && rng.random_ratio(3, 10),
            side: n % 2 == 0,
            own: Card {
                of: n,
                id: format!("{n:016x}").parse().unwrap(),
                sequence: 1,
                until: at(LIFETIME),
            },
            book: RecordBook::new(512),
            rounds: Rounds::default(),
            connected: BTreeMap::new(),
            round_at: rng.random_range(0..ROUND),
            renew_at: LIFETIME / 2,
        });
        let nodes = nodes.collect();
        Self {
            rng,
            now: 0,
            is_cut: false,
            nodes,
        }
    }

    /// Whether `one` gets through to `other`: directly, or through a hub that both reach.
    fn reaches(&self, one: usize, other: usize) -> bool {
        let direct = |one: usize, other: usize| {
            let (one, other) = (&self.nodes[one], &self.nodes[other]);
            one.is_up && other.is_up && (!self.is_cut || one.side == other.side)
        };
        let through = |hub| direct(one, hub) && direct(hub, other);
        direct(one, other) && (!self.nodes[other].is_hidden || (0..HUBS).any(through))
    }

    fn renew(&mut self, n: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        node.own.sequence = now.max(node.own.sequence + 1);
        node.own.until = at(now + LIFETIME);
        node.renew_at = now + LIFETIME / 2;
    }

    /// Each tells the other who it is, and fetches what it has not.
    fn connect(&mut self, one: usize, other: usize) -> bool {
        if one == other || !self.reaches(one, other) {
            return false;
        }
        let now = self.now;
        for (one, other) in [(one, other), (other, one)] {
            let card = self.nodes[other].own.clone();
            let node = &mut self.nodes[one];
            node.connected.insert(other, now);
            node.book.keep(card, other, at(now));
        }
        // Whoever is asked sees from the question whether the other has something else.
        self.pull(one, other);
        self.pull(other, one);
        true
    }

    /// Has `to` fetch what `from` has and it has not, until an answer is lost.
    fn pull(&mut self, to: usize, from: usize) {
        let mut pull = Pull::default();
        while let Some(asked) = pull.next(&self.nodes[to].book) {
            if self.rng.random_ratio(LOST, 1_000) {
                return;
            }
            let theirs = &self.nodes[from].book;
            match &asked {
                RecordsAsked::Sets(sets) => {
                    let told: Vec<_> = sets.iter().map(|(p, f)| theirs.summary(p, *f)).collect();
                    pull.told(&asked, &told, &self.nodes[to].book, &from);
                }
                RecordsAsked::Agents(agents) => {
                    let cards = agents.iter().filter_map(|id| theirs.get(id, at(self.now)));
                    let cards: Vec<Card> = cards.cloned().collect();
                    for card in cards.into_iter().filter(|card| card.of != to) {
                        self.nodes[to].book.keep(card, from, at(self.now));
                    }
                }
                _ => panic!("nothing else is asked"),
            }
        }
    }

    fn round(&mut self, n: usize) {
        let (now, draw) = (self.now, self.rng.random());
        let node = &mut self.nodes[n];
        node.round_at = now + ROUND - 5 + draw % 10;
        node.book.expire(at(now));
        node.connected.retain(|_, used| *used + IDLE > now);
        let connected: Vec<usize> = node.connected.keys().copied().collect();
        let hubs = (0..HUBS).filter(|hub| *hub != n);
        let known = node.book.records().map(|card| card.of).chain(hubs);
        let known: BTreeSet<usize> = known.filter(|n| !node.connected.contains_key(n)).collect();
        let known: Vec<usize> = known.into_iter().collect();
        let whom = node.rounds.next(&connected, &known, draw);
        if let Some(whom) = whom
            && !self.connect(n, whom)
        {
            self.nodes[n].connected.remove(&whom);
        }
        if self.nodes[n].connected.is_empty() {
            for hub in 0..HUBS {
                self.connect(n, hub);
            }
        }
    }

    fn end(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.is_up = false;
        node.connected.clear();
        for node in &mut self.nodes {
            node.connected.remove(&n);
        }
    }

    /// Starts a node that knows nothing but where it begins.
    fn begin(&mut self, n: usize) {
        self.renew(n);
        let node = &mut self.nodes[n];
        (node.is_up, node.book) = (true, RecordBook::new(512));
        node.round_at = self.now;
    }

    /// Passes `time`, in which every so many seconds a node ends or one that ended begins.
    fn pass(&mut self, time: u64, churn: Option<u64>) {
        let until = self.now + time;
        while self.now < until {
            self.now += SECOND;
            if churn.is_some_and(|every| self.now.is_multiple_of(every)) {
                let n = self.rng.random_range(0..NODES);
                match self.nodes[n].is_up {
                    true => self.end(n),
                    false => self.begin(n),
                }
            }
            for n in 0..NODES {
                if !self.nodes[n].is_up {
                    continue;
                }
                if self.nodes[n].renew_at <= self.now {
                    self.renew(n);
                }
                if self.nodes[n].round_at <= self.now {
                    self.round(n);
                }
            }
        }
    }

    /// The hubs are there, without which whoever forgot everything has nowhere to begin; then nothing happens for a while.
    fn settle(&mut self) {
        for hub in 0..HUBS {
            if !self.nodes[hub].is_up {
                self.begin(hub);
            }
        }
        self.pass(BOUND, None);
    }

    fn cut(&mut self) {
        self.is_cut = true;
        for n in 0..NODES {
            let side = self.nodes[n].side;
            let sides: Vec<bool> = self.nodes.iter().map(|node| node.side).collect();
            self.nodes[n]
                .connected
                .retain(|other, _| sides[*other] == side);
        }
    }

    /// Pairs of which one does not find the other, though it is up and can be reached.
    fn lost(&self) -> Vec<(usize, usize)> {
        let mut lost = Vec::new();
        for one in 0..NODES {
            for other in (0..NODES).filter(|other| *other != one && self.reaches(one, *other)) {
                let known = self.nodes[one]
                    .book
                    .get(&self.nodes[other].own.id, at(self.now));
                if known.is_none() {
                    lost.push((one, other));
                }
            }
        }
        lost
    }

    fn everybody_is_found(&self, when: &str) {
        let lost = self.lost();
        assert!(
            lost.is_empty(),
            "{when}: {} pairs do not find each other, such as {:?}",
            lost.len(),
            lost.first()
        );
        for node in self.nodes.iter().filter(|node| node.is_up) {
            let over = node
                .book
                .records()
                .filter(|card| card.until < at(self.now.saturating_sub(ROUND + 5)));
            assert_eq!(over.count(), 0, "{when}: what is over is not let go of");
        }
    }

    fn play(mut self) {
        self.settle();
        self.everybody_is_found("after the beginning");
        self.pass(HOUR / 2, Some(10));
        self.settle();
        self.everybody_is_found("after nodes came and went");
        self.cut();
        self.pass(LIFETIME, Some(60));
        self.settle();
        for node in self.nodes.iter().filter(|node| node.is_up) {
            let is_other = |card: &&Card| self.nodes[card.of].side != node.side;
            let other = node.book.records().filter(is_other).count();
            assert_eq!(other, 0, "the other part is not remembered any more");
        }
        self.everybody_is_found("in each part of the cut network");
        self.is_cut = false;
        self.settle();
        self.everybody_is_found("after the network was healed");
    }
}

fn number(name: &str) -> Option<u64> {
    let told = env::var(name).ok()?;
    Some(
        told.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

#[test]
fn after_healing_everybody_who_can_be_reached_is_found() {
    let seeds = match number("KAIROS_SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("KAIROS_SIM_RUNS").unwrap_or(RUNS),
    };
    for seed in seeds {
        let run = AssertUnwindSafe(|| World::new(seed).play());
        if let Err(panic) = panic::catch_unwind(run) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            panic!(
                "KAIROS_SIM_SEED={seed}: {}",
                text.unwrap_or("it ended unexpectedly")
            );
        }
    }
}
