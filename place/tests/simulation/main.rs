//! One Place and fifty agents in virtual time, over a network that delays, loses, doubles and reorders, with a Place
//! that is killed, agents that sleep, and clocks that are up to an hour wrong.
//!
//! Everything random comes from one seed, which is told where a run fails: `KAIROS_SIM_SEED=7 cargo test -p
//! kairos-place --test simulation` runs that one again, `KAIROS_SIM_RUNS=200` runs so many others. Sealing is a text
//! that names whom it is for; all else is the machines that the server runs, and agents live by that of the client.
#![cfg(test)]

mod agent;
mod host;
mod world;

use std::env;
use std::panic::{self, AssertUnwindSafe};

use world::{Plan, World};

/// Runs if nothing else is said.
const RUNS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    let told = env::var(name).ok()?;
    Some(
        told.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Runs `plan` under the seed that is asked for, or under several.
fn check(plan: &Plan) {
    let seeds = match number("KAIROS_SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("KAIROS_SIM_RUNS").unwrap_or(RUNS),
    };
    for seed in seeds {
        let run = AssertUnwindSafe(|| World::new(seed, plan).run());
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

#[test]
fn nothing_acknowledged_is_lost_and_nothing_arrives_twice() {
    check(&Plan {
        agents: 50,
        troubled: 3 * world::HOUR,
        on_disk: false,
    });
}

#[test]
fn the_same_holds_of_databases() {
    check(&Plan {
        agents: 12,
        troubled: world::HOUR / 2,
        on_disk: true,
    });
}
