//! How long operations took, and what came of them.
//!
//! The time of an operation counts from when it was due, not from when it was begun: what had to wait since the node was
//! slow with those before it shows in its own time, as agents that do not wait for each other would feel it. The time
//! since it was begun is kept beside it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::Trouble;
use crate::mix::Operation;

/// Longest time that is told apart, in microseconds.
const LONGEST: u64 = 600_000_000;
/// Digits that are kept of each time.
const DIGITS: u8 = 3;
/// Different reasons that are kept for one operation; the rest counts as `other reasons`.
const REASONS: usize = 50;

/// Collects from all agents.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<BTreeMap<Operation, Figures>>);

#[derive(Debug)]
struct Figures {
    done: u64,
    failed: BTreeMap<String, u64>,
    since_due: Histogram<u64>,
    since_begun: Histogram<u64>,
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Times {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// What came of one kind of operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Measured {
    pub(crate) operation: &'static str,
    /// Those that ended as they should.
    pub(crate) done: u64,
    /// The others, by reason.
    pub(crate) failed: BTreeMap<String, u64>,
    /// From when they were due.
    pub(crate) latency_ms: Times,
    /// From when they were begun.
    pub(crate) service_ms: Times,
}

impl Measured {
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

impl Meter {
    /// Notes an operation that ended now.
    pub(crate) fn note(
        &self,
        operation: Operation,
        due: Instant,
        begun: Instant,
        result: &Result<(), Trouble>,
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut all = self.lock();
        let figures = match all.entry(operation) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Figures::new()?),
        };
        match result {
            Ok(()) => figures.done += 1,
            Err(trouble) => {
                let mut reason = trouble.reason();
                if figures.failed.len() >= REASONS && !figures.failed.contains_key(&reason) {
                    reason = "other reasons".to_owned();
                }
                *figures.failed.entry(reason).or_default() += 1;
            }
        }
        figures
            .since_due
            .saturating_record(micros(now.duration_since(due)));
        figures
            .since_begun
            .saturating_record(micros(now.duration_since(begun)));
        Ok(())
    }

    /// How many were done and how many failed so far.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let all = self.lock();
        all.values().fold((0, 0), |(done, failed), figures| {
            (
                done + figures.done,
                failed + figures.failed.values().sum::<u64>(),
            )
        })
    }

    /// How many of one kind were done so far.
    pub(crate) fn done(&self, operation: Operation) -> u64 {
        self.lock()
            .get(&operation)
            .map_or(0, |figures| figures.done)
    }

    /// The middle and the 99th of the hundred of all times from when operations were due, in milliseconds.
    pub(crate) fn overall(&self) -> (f64, f64) {
        let mut sum: Option<Histogram<u64>> = None;
        for figures in self.lock().values() {
            match &mut sum {
                None => sum = Some(figures.since_due.clone()),
                // Both have the same bounds, so nothing is left out.
                Some(sum) => drop(sum.add(&figures.since_due)),
            }
        }
        let at = |part| {
            sum.as_ref()
                .map_or(0.0, |sum| millis(sum.value_at_quantile(part)))
        };
        (at(0.5), at(0.99))
    }

    /// Everything, in the order in which operations are shown.
    pub(crate) fn measured(&self) -> Vec<Measured> {
        let all = self.lock();
        let one = |operation: Operation| {
            let figures = all.get(&operation)?;
            Some(Measured {
                operation: operation.name(),
                done: figures.done,
                failed: figures.failed.clone(),
                latency_ms: times(&figures.since_due),
                service_ms: times(&figures.since_begun),
            })
        };
        Operation::all().filter_map(one).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Operation, Figures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, DIGITS).context("no histogram");
        Ok(Self {
            done: 0,
            failed: BTreeMap::new(),
            since_due: histogram()?,
            since_begun: histogram()?,
        })
    }
}

fn times(histogram: &Histogram<u64>) -> Times {
    let at = |part| millis(histogram.value_at_quantile(part));
    Times {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: millis(histogram.max()),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(LONGEST)
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_to_wait_counts_from_when_it_was_due() {
        let meter = Meter::default();
        let begun = Instant::now();
        let due = begun.checked_sub(Duration::from_secs(2)).unwrap();
        meter.note(Operation::Send, due, begun, &Ok(())).unwrap();
        let all = meter.measured();
        let [one] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!(
            (one.operation, one.done, one.failures()),
            ("relay.send", 1, 0)
        );
        assert!(one.latency_ms.p50 >= 2_000.0, "{one:?}");
        assert!(one.service_ms.p50 < 1_000.0, "{one:?}");
    }

    #[test]
    fn failures_are_counted_by_reason_and_the_reasons_are_bounded() {
        let meter = Meter::default();
        let now = Instant::now();
        for status in 0..200 {
            let code = "busy".to_owned();
            let refused = Err(Trouble::Refused { status, code });
            for _ in 0..2 {
                meter.note(Operation::List, now, now, &refused).unwrap();
            }
        }
        let all = meter.measured();
        let failed = &all[0].failed;
        assert_eq!((failed.len(), all[0].failures()), (REASONS + 1, 400));
        assert_eq!(failed["7 busy"], 2);
        assert_eq!(meter.totals(), (0, 400));
    }
}
