//! What nodes acknowledged, and so may not lose.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::network::{Network, url};
use crate::process;

/// What every secret begins with, so that it is found wherever it leaks to.
pub(crate) const SECRET: &str = "KAIROS-SECRET-";
/// Every so many things, a record instead of a message.
const RECORDS: u64 = 4;
/// Reasons that are kept of those for which something was not acknowledged.
const REASONS_MAX: usize = 50;
/// Senders at work at once.
const SENDERS: u64 = 2;

/// A sealed message that a Place acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) to: String,
    /// The text, which is a secret of the two.
    pub(crate) text: String,
}

/// Everything that was acknowledged since the network is up.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    letters: Mutex<Vec<Letter>>,
    /// Entries of knowledge, by agent.
    records: Mutex<BTreeMap<String, Vec<String>>>,
    /// How long acknowledged sends took, the start of the command included.
    times: Mutex<Vec<Duration>>,
    /// How long lookups took until the agent was found, the start of the command included.
    lookups: Mutex<Vec<Duration>>,
    sent: AtomicU64,
    recorded: AtomicU64,
    refused: AtomicU64,
    reasons: Mutex<Vec<String>>,
    next: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much there is, to tell what one scenario added.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) letters: u64,
    pub(crate) records: u64,
    pub(crate) refused: u64,
}

impl Journal {
    pub(crate) fn count(&self) -> Count {
        Count {
            letters: self.sent.load(Ordering::Relaxed),
            records: self.recorded.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn letters(&self) -> Vec<Letter> {
        lock(&self.letters).clone()
    }

    pub(crate) fn records(&self, agent: &str) -> Vec<String> {
        lock(&self.records).get(agent).cloned().unwrap_or_default()
    }

    /// Forgets what an agent was told that went away with its disk, or that rewrote its past.
    pub(crate) fn forget(&self, agent: &str) {
        lock(&self.records).remove(agent);
        lock(&self.letters).retain(|letter| letter.to != agent);
    }

    /// The times of sends since the last call, in order.
    pub(crate) fn take_times(&self) -> Vec<Duration> {
        let mut times = std::mem::take(&mut *lock(&self.times));
        times.sort_unstable();
        times
    }

    /// Keeps in mind how long a lookup took.
    pub(crate) fn looked_up(&self, took: Duration) {
        lock(&self.lookups).push(took);
    }

    /// The times of lookups since the last call, in order.
    pub(crate) fn take_lookups(&self) -> Vec<Duration> {
        let mut times = std::mem::take(&mut *lock(&self.lookups));
        times.sort_unstable();
        times
    }

    /// Why things were not acknowledged, since the last call.
    pub(crate) fn take_reasons(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.reasons))
    }

    /// Sends and records `per_second` things until `stop`, from agents that can be asked.
    pub(crate) fn flow(&self, network: &Network, per_second: f64, stop: &AtomicBool) {
        let pace = Duration::from_secs_f64(SENDERS as f64 / per_second.max(0.01));
        std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        self.one(network);
                        process::pause(pace.saturating_sub(began.elapsed()));
                    }
                });
            }
        });
    }

    fn one(&self, network: &Network) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut agents = network.honest();
        agents.retain(|agent| !network.is_away(agent));
        let pick = |n: u64, among: &[String]| {
            let index = usize::try_from(n).unwrap_or(0).checked_rem(among.len())?;
            among.get(index).cloned()
        };
        let Some(from) = pick(mixed(number, 1), &agents) else {
            return;
        };
        if number.is_multiple_of(RECORDS) {
            self.record(network, &from, number);
            return;
        }
        agents.retain(|agent| *agent != from);
        let to = pick(mixed(number, 2), &agents);
        let place = pick(mixed(number, 3), &network.places());
        if let (Some(to), Some(place)) = (to, place) {
            self.send(network, &from, &to, &place, number);
        }
    }

    /// Has an agent record something; keeps it in mind if that was acknowledged, and says so.
    pub(crate) fn record(&self, network: &Network, agent: &str, number: u64) -> bool {
        let name = format!("note_{number}");
        let text = format!("---\ndescription: A note of {agent}\n---\n\nNumber {number}.\n");
        let args = [
            "knowledge",
            "create",
            &name,
            "-",
            "--reason",
            "a note of a test",
        ];
        match network.run(agent, &args, &text) {
            Ok(ended) if ended.succeeded() => {
                self.recorded.fetch_add(1, Ordering::Relaxed);
                lock(&self.records)
                    .entry(agent.to_owned())
                    .or_default()
                    .push(name);
                true
            }
            Ok(ended) => self.refuse(agent, &ended.complaint()),
            Err(error) => self.refuse(agent, &format!("{error:#}")),
        }
    }

    /// A number for something that is to be unlike everything else.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn send(&self, network: &Network, from: &str, to: &str, place: &str, number: u64) {
        let text = format!("{SECRET}{number:08}-{from}-{to}-{SECRET}end");
        let sent = network.id(to).and_then(|id| {
            let began = Instant::now();
            let at = url(place);
            let args = [
                "--json", "place", "message", "send", &id, "-", "--place", &at,
            ];
            Ok((network.run(from, &args, &text)?, began.elapsed()))
        });
        match sent {
            Ok((ended, took)) if ended.succeeded() && is_acknowledged(&ended.stdout) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                lock(&self.times).push(took);
                let to = to.to_owned();
                lock(&self.letters).push(Letter { to, text });
            }
            Ok((ended, _)) => drop(self.refuse(from, &ended.complaint())),
            Err(error) => drop(self.refuse(from, &format!("{error:#}"))),
        }
    }

    fn refuse(&self, agent: &str, reason: &str) -> bool {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut reasons = lock(&self.reasons);
        if reasons.len() < REASONS_MAX {
            reasons.push(format!("{agent}: {reason}"));
        }
        false
    }
}

/// A number that looks unlike those for other `number`s and other `use_`s: who writes, to whom, and where are unrelated,
/// and the same each time.
fn mixed(number: u64, use_: u64) -> u64 {
    let mut mixed = number
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(use_ << 32);
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
        mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
    }
    // Small numbers are taken from it on machines of any width.
    (mixed ^ (mixed >> 31)) >> 40
}

fn is_acknowledged(printed: &[u8]) -> bool {
    let result: Result<Value, _> = serde_json::from_slice(printed);
    result.is_ok_and(|result| result.get("message_id").is_some_and(Value::is_string))
}
