//! The watchdog: asks every actor for a sign of life, and ends the node when one stays silent.
//!
//! A dead, blocked or deadlocked actor misses alike. One miss makes the node not ready; repeated ones end it with a
//! reason and a non-zero exit code, and whoever supervises the process starts it anew. No actor is restarted in
//! place: it would come back with the state that made it fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use kairos_actors::HealthCheck;

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(5);
/// Misses in a row after which the node ends.
const MISSES_MAX: u32 = 6;

/// A part of the node, as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Whether it answered when last asked.
    pub works: bool,
    /// How often in a row it did not answer.
    pub misses: u32,
    /// How long its last answer took: about as long as a message waits in its queue. Nothing before the first one.
    pub answered_in: Option<Duration>,
}

impl Part {
    /// `ok` or `silent`.
    pub fn state(&self) -> &'static str {
        if self.works { "ok" } else { "silent" }
    }

    /// What is wrong, if something is.
    pub fn trouble(&self) -> Option<String> {
        (!self.works).then(|| {
            format!(
                "it did not answer {} times in a row; at {MISSES_MAX} the node ends, to be started anew",
                self.misses
            )
        })
    }
}

/// What the watchdog last saw; shared with the HTTP door.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    parts: Vec<(&'static str, Seen)>,
    stopping: AtomicBool,
    /// Grows with each round, so that others can tell whether the watchdog itself runs.
    rounds: AtomicU64,
}

/// What was seen of one part.
#[derive(Debug, Default)]
struct Seen {
    /// In a row.
    misses: AtomicU32,
    /// Microseconds that the last answer took; 0 before the first one.
    micros: AtomicU64,
}

impl Readiness {
    /// Every part is taken to work until it misses: actors are started before anything asks.
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        let parts = names.into_iter().map(|name| (name, Seen::default()));
        Self(Arc::new(Shared {
            parts: parts.collect(),
            ..Shared::default()
        }))
    }

    /// Notes that the node is about to end.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the node is about to end.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Rounds that the watchdog has begun.
    pub fn rounds(&self) -> u64 {
        self.0.rounds.load(Ordering::Relaxed)
    }

    /// Every part.
    pub fn parts(&self) -> Vec<Part> {
        let part = |(name, seen): &(&'static str, Seen)| {
            let micros = seen.micros.load(Ordering::Relaxed);
            let misses = seen.misses.load(Ordering::Relaxed);
            Part {
                name,
                works: misses == 0,
                misses,
                answered_in: (micros > 0).then(|| Duration::from_micros(micros)),
            }
        };
        self.0.parts.iter().map(part).collect()
    }

    /// Notes an answer or a miss; returns the misses in a row.
    fn note(&self, name: &str, answered: bool, taken: Duration) -> u32 {
        let Some((_, seen)) = self.0.parts.iter().find(|(part, _)| *part == name) else {
            return 0;
        };
        if answered {
            let micros = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
            seen.micros.store(micros.max(1), Ordering::Relaxed);
            seen.misses.store(0, Ordering::Relaxed);
            return 0;
        }
        seen.misses.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Asks until an actor has missed too often; returns its name.
pub async fn watch(asks: Vec<(&'static str, HealthCheck)>, readiness: Readiness) -> &'static str {
    watch_every(ROUND, asks, readiness).await
}

async fn watch_every(
    round: Duration,
    asks: Vec<(&'static str, HealthCheck)>,
    readiness: Readiness,
) -> &'static str {
    let mut rounds = tokio::time::interval(round);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        readiness.0.rounds.fetch_add(1, Ordering::Relaxed);
        let answers = join_all(asks.iter().map(|(name, ask)| async move {
            let begun = Instant::now();
            (*name, ask().await, begun.elapsed())
        }));
        for (name, answered, taken) in answers.await {
            let misses = readiness.note(name, answered, taken);
            if misses > 0 {
                tracing::warn!(part = name, misses, "a part of the node did not answer");
            }
            if misses >= MISSES_MAX {
                return name;
            }
        }
    }
}

/// How often the guard looks.
const GUARD_LOOKS: Duration = Duration::from_secs(1);
/// What the guard allows for beyond what the watchdog may take: a machine that is busy or slow.
const GUARD_SPARE: Duration = Duration::from_secs(60);

/// A thread of its own that looks whether the watchdog itself still runs: all actors share one thread, and one that
/// never gave it back would keep the watchdog from telling. Ends when dropped.
#[derive(Debug)]
pub struct Guard {
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How long what is guarded may take.
#[derive(Debug, Clone, Copy)]
pub struct GuardLimits {
    /// One round of the watchdog.
    pub round: Duration,
    /// The end of the node, once it was told to stop.
    pub stop: Duration,
}

impl Guard {
    /// Calls `stuck`, once, where the watchdog makes no round, or the node does not end, within its limit and a minute
    /// to spare. Time is counted in looks, so that a process that was stopped for a while is not taken for a stuck one.
    pub fn watch(
        readiness: Readiness,
        limits: GuardLimits,
        stuck: impl FnOnce(&'static str) + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::watch_every(GUARD_LOOKS, readiness, limits, stuck)
    }

    fn watch_every(
        look: Duration,
        readiness: Readiness,
        limits: GuardLimits,
        stuck: impl FnOnce(&'static str) + Send + 'static,
    ) -> std::io::Result<Self> {
        let done = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&done);
        let thread = std::thread::Builder::new().name("guard".to_owned());
        let thread = thread.spawn(move || {
            let mut patience = Patience::new(limits);
            while !ended.load(Ordering::Relaxed) {
                std::thread::park_timeout(look);
                if let Some(reason) = patience.look(readiness.rounds(), readiness.is_stopping()) {
                    return stuck(reason);
                }
            }
        })?;
        Ok(Self {
            done,
            thread: Some(thread),
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that called `stuck` in vain owes nothing more.
            let _ended = thread.join();
        }
    }
}

/// What the guard has seen; one look is one second.
struct Patience {
    limits: GuardLimits,
    seen: (u64, bool),
    looks: u64,
}

impl Patience {
    fn new(limits: GuardLimits) -> Self {
        Self {
            limits,
            seen: (0, false),
            looks: 0,
        }
    }

    /// Takes note of a look; tells what takes too long, if something does.
    fn look(&mut self, rounds: u64, stopping: bool) -> Option<&'static str> {
        if self.seen != (rounds, stopping) {
            self.seen = (rounds, stopping);
            self.looks = 0;
            return None;
        }
        self.looks += 1;
        let (limit, reason) = match stopping {
            true => (
                self.limits.stop,
                "the node did not end after it was told to stop",
            ),
            false => (
                ROUND + self.limits.round,
                "the thread of the actors does not run any more",
            ),
        };
        let limit = limit.saturating_add(GUARD_SPARE).as_secs();
        (self.looks > limit).then_some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GuardLimits = GuardLimits {
        round: Duration::from_secs(10),
        stop: Duration::from_secs(40),
    };

    #[actix::test]
    async fn a_part_that_stays_silent_ends_the_node_and_is_named() {
        let check =
            |answers: bool| -> HealthCheck { Box::new(move || Box::pin(async move { answers })) };
        let readiness = Readiness::new(["well", "stuck"]);
        let asks = vec![("well", check(true)), ("stuck", check(false))];
        assert_eq!(
            watch_every(Duration::from_millis(1), asks, readiness.clone()).await,
            "stuck"
        );
        assert_eq!(readiness.rounds(), u64::from(MISSES_MAX));
        let parts = readiness.parts();
        assert_eq!(parts[0].trouble(), None);
        let told = parts[1].trouble().unwrap();
        assert!(told.contains("did not answer 6 times"), "{told}");
    }

    #[test]
    fn the_guard_waits_as_long_as_a_round_may_take_and_a_minute_more() {
        let mut patience = Patience::new(LIMITS);
        for round in 1..4 {
            assert_eq!(patience.look(round, false), None);
            assert!(
                (0..75).all(|_| patience.look(round, false).is_none()),
                "{round}"
            );
        }
        assert!(patience.look(3, false).unwrap().contains("actors"));
        assert_eq!(patience.look(3, true), None);
        assert!((0..100).all(|_| patience.look(3, true).is_none()));
        assert!(patience.look(3, true).unwrap().contains("did not end"));
    }

    #[test]
    fn the_guard_tells_when_the_watchdog_makes_no_round_and_ends_when_dropped() {
        let readiness = Readiness::new(["chain"]);
        let (tell, told) = std::sync::mpsc::channel();
        let look = Duration::from_millis(1);
        let stuck = move |reason| tell.send(reason).unwrap();
        let guard = Guard::watch_every(look, readiness.clone(), LIMITS, stuck).unwrap();
        let reason = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(reason.contains("actors"), "{reason}");
        drop(guard);
        let quiet = Guard::watch(readiness, LIMITS, |_| panic!("nothing is stuck")).unwrap();
        drop(quiet);
    }

    #[test]
    fn a_part_works_again_as_soon_as_it_answers() {
        let readiness = Readiness::new(["chain", "peers"]);
        let taken = Duration::from_millis(3);
        let miss = || readiness.note("chain", false, taken);
        assert_eq!((miss(), miss()), (1, 2));
        let states: Vec<_> = readiness
            .parts()
            .iter()
            .map(|p| (p.name, p.state()))
            .collect();
        assert_eq!(states, [("chain", "silent"), ("peers", "ok")]);
        readiness.note("chain", true, taken);
        assert!(readiness.parts().iter().all(|p| p.works));
        assert_eq!(readiness.parts()[0].answered_in, Some(taken));
        assert_eq!(readiness.parts()[1].answered_in, None);
    }
}
