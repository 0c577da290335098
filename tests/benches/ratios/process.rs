//! What the program costs before anyone asks anything: the time to start, and memory at rest.

use std::time::{Duration, Instant};

use kairos_tests::{Home, Process, TestNode};

use crate::load::{once, request};
use crate::table::{Aim, Row, median};

/// Starts of the program.
const ROUNDS: usize = 10;

pub(crate) fn run() -> Vec<Row> {
    let home = Home::initialized();
    let mut millis = Vec::new();
    let mut megabytes = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let node = TestNode::builder().home(&home).start();
        let url = node.url("");
        let address = url
            .trim_start_matches("http://")
            .parse()
            .expect("an address");
        once(address, &request("GET", "/ready", None, ""));
        millis.push(began.elapsed().as_secs_f64() * 1e3);
        once(address, &request("GET", "/meeting/v1/introduce", None, ""));
        megabytes.push(resident(node.pid()));
        node.stop();
    }
    let row = |what: &str, unit: &str, aim: f64, numbers: Vec<f64>| {
        let (middle, least, most) = median(numbers);
        Row {
            what: what.to_owned(),
            ours: format!("{middle:.1} {unit}"),
            baseline: format!("{aim:.0} {unit}"),
            ratio: middle / aim,
            aim: Aim::AtMost(1.0),
            note: format!("{least:.1}..{most:.1}"),
        }
    };
    vec![
        row("start to ready", "ms", 100.0, millis),
        row("memory at rest", "MB", 25.0, megabytes),
    ]
}

/// Returns the memory of a process that is in RAM, in millions of bytes.
pub(crate) fn resident(pid: u32) -> f64 {
    let bytes = Process::of(pid).resident().expect("Linux, and a process");
    bytes as f64 / 1e6
}

/// Returns the CPU time that a process has used, in user and kernel.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    Process::of(pid).cpu_time().expect("Linux, and a process")
}
