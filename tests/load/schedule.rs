//! When what is done: at a steady rate, whether or not the node keeps up with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::meter::Meter;
use crate::mix::Mix;
use crate::operations::Choice;
use crate::world::World;

/// What is asked of the agents together.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) duration: Duration,
    /// Operations a second.
    pub(crate) rate: f64,
    pub(crate) mix: Mix,
    pub(crate) seed: u64,
    /// Operations under way at once; more wait, and their time runs.
    pub(crate) in_flight: usize,
    /// How long what is late may still take when the time is over.
    pub(crate) grace: Duration,
}

/// How the plan was kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Kept {
    /// Operations that were due.
    pub(crate) due: u64,
    /// Those of them that were never begun, or had not ended when the grace was over.
    pub(crate) unfinished: u64,
    /// From the first operation until the last one had ended.
    pub(crate) seconds: f64,
    /// Whether somebody ended it early.
    pub(crate) interrupted: bool,
}

/// Carries the plan out. Must run in a `LocalSet`.
///
/// # Errors
///
/// An operation panicked.
pub(crate) async fn run(
    plan: &Plan,
    world: &Arc<World>,
    meter: &Arc<Meter>,
) -> anyhow::Result<Kept> {
    let begun = Instant::now();
    let mut random = StdRng::seed_from_u64(plan.seed);
    let room = Arc::new(Semaphore::new(plan.in_flight));
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let (mut due, mut started, mut finished) = (0_u64, 0_u64, 0_u64);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut interrupted = false;
    loop {
        let after = Duration::from_secs_f64(due as f64 / plan.rate);
        if after >= plan.duration {
            break;
        }
        let at = begun + after;
        due += 1;
        let operation = plan.mix.choose(random.random());
        let choice = choose(&mut random, world.agents.len());
        let waited = async {
            tokio::time::sleep_until(at.into()).await;
            Arc::clone(&room).acquire_owned().await
        };
        // Nobody waits longer for a place than the whole run and its grace.
        let most = (begun + plan.duration + plan.grace).saturating_duration_since(Instant::now());
        let permit = tokio::select! {
            waited = tokio::time::timeout(most, waited) => match waited {
                Ok(permit) => permit?,
                Err(_) => {
                    due = planned(plan);
                    break;
                }
            },
            _ = &mut interrupt => {
                due -= 1;
                interrupted = true;
                break;
            }
        };
        started += 1;
        let (world, meter) = (Arc::clone(world), Arc::clone(meter));
        tasks.spawn_local(async move {
            let now = Instant::now();
            let result = world.act(operation, choice).await;
            meter.note(operation, at, now, &result)?;
            if let Err(trouble) = &result {
                world.note(trouble);
            }
            drop(permit);
            Ok(())
        });
        while let Some(ended) = tasks.try_join_next() {
            ended??;
            finished += 1;
        }
    }
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
            finished += 1;
        }
        anyhow::Ok(())
    };
    // What has not ended by then is counted below.
    if let Ok(ended) = tokio::time::timeout(plan.grace, rest).await {
        ended?;
    }
    tasks.abort_all();
    Ok(Kept {
        due,
        unfinished: (due - started) + (started - finished),
        seconds: begun.elapsed().as_secs_f64(),
        interrupted,
    })
}

/// How many operations are due in all of the time.
fn planned(plan: &Plan) -> u64 {
    (plan.duration.as_secs_f64() * plan.rate).ceil() as u64
}

fn choose(random: &mut StdRng, agents: usize) -> Choice {
    let agent = random.random_range(0..agents);
    // Anybody but the agent itself.
    let other = (agent + random.random_range(1..agents)) % agents;
    Choice {
        agent,
        other,
        thing: random.random_range(0..1 << 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_to_itself_and_everybody_writes() {
        let mut random = StdRng::seed_from_u64(7);
        let choices: Vec<_> = (0..1_000).map(|_| choose(&mut random, 3)).collect();
        assert!(choices.iter().all(|choice| choice.agent != choice.other));
        for agent in 0..3 {
            assert!(choices.iter().any(|choice| choice.agent == agent));
            assert!(choices.iter().any(|choice| choice.other == agent));
        }
    }
}
