//! The watchdog: asks every actor for a sign of life, and ends the node when one stays silent.
//!
//! A dead, blocked or deadlocked actor misses alike. One miss makes the node not ready; repeated ones end it with a
//! reason and a non-zero exit code, and whoever supervises the process starts it anew. No actor is restarted in
//! place: it would come back with the state that made it fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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
}

impl Part {
    /// `ok` or `silent`.
    pub fn state(&self) -> &'static str {
        if self.works { "ok" } else { "silent" }
    }
}

/// What the watchdog last saw; shared with the HTTP door.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Vec<(&'static str, AtomicU32)>>);

impl Readiness {
    /// Every part is taken to work until it misses: actors are started before anything asks.
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Arc::new(
            names
                .into_iter()
                .map(|name| (name, AtomicU32::new(0)))
                .collect(),
        ))
    }

    /// Every part.
    pub fn parts(&self) -> Vec<Part> {
        let works = |misses: &AtomicU32| misses.load(Ordering::Relaxed) == 0;
        self.0
            .iter()
            .map(|(name, misses)| Part {
                name,
                works: works(misses),
            })
            .collect()
    }

    /// Notes an answer or a miss; returns the misses in a row.
    fn note(&self, name: &str, answered: bool) -> u32 {
        let Some((_, misses)) = self.0.iter().find(|(part, _)| *part == name) else {
            return 0;
        };
        if answered {
            misses.store(0, Ordering::Relaxed);
            return 0;
        }
        misses.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Asks until an actor has missed too often; returns its name.
pub async fn watch(asks: Vec<(&'static str, HealthCheck)>, readiness: Readiness) -> &'static str {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let answers = join_all(
            asks.iter()
                .map(|(name, ask)| async move { (*name, ask().await) }),
        );
        for (name, answered) in answers.await {
            let misses = readiness.note(name, answered);
            if misses > 0 {
                tracing::warn!(part = name, misses, "a part of the node did not answer");
            }
            if misses >= MISSES_MAX {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_works_again_as_soon_as_it_answers() {
        let readiness = Readiness::new(["chain", "peers"]);
        assert_eq!(
            (
                readiness.note("chain", false),
                readiness.note("chain", false)
            ),
            (1, 2)
        );
        let states: Vec<_> = readiness
            .parts()
            .iter()
            .map(|p| (p.name, p.state()))
            .collect();
        assert_eq!(states, [("chain", "silent"), ("peers", "ok")]);
        readiness.note("chain", true);
        assert!(readiness.parts().iter().all(|p| p.works));
    }
}
