//! Whether what was seen of a node is what it should be.

use anyhow::bail;

use super::{Curve, Sample, Soaked, disk};
use crate::mix::Operation;
use crate::verdict::Check;

/// Fewest looks after the warm-up of which anything can be said.
const LEAST: usize = 5;
/// What memory may grow by in any case, in bytes: an allocator keeps more or less of what is free.
const MEMORY_FREE: f64 = 4.0 * 1024.0 * 1024.0;
/// Bytes of memory that the node keeps of each skill that was left or taken, until there are `anchors.max_anchors`: the
/// text of its anchor, its name, and what it takes to find it.
const ANCHOR: f64 = 800.0;
/// How many more descriptors, beside those for connections of ours, and threads there may be at the end.
const MORE: f64 = 8.0;

/// What is still well.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// The part of the time, from 0 to 1, that is not judged.
    pub(super) warm_up: f64,
    /// Bytes.
    pub(super) memory_per_hour: f64,
    /// Length of a skill in bytes.
    pub(super) text: u64,
}

/// Judges what was seen, in order.
///
/// # Errors
///
/// Too little was seen.
pub(super) fn judge(samples: &[Sample], bounds: &Bounds) -> anyhow::Result<(Soaked, Vec<Check>)> {
    let all = samples.last().map_or(0.0, |sample| sample.seconds);
    let judged: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.seconds >= all * bounds.warm_up)
        .collect();
    let enough = judged.len() >= LEAST;
    let ([first, .., last], true) = (judged.as_slice(), enough) else {
        bail!(
            "the node was looked at {} times after the warm-up, and {LEAST} times are needed; make --duration longer, \
             or --every shorter",
            judged.len()
        );
    };
    let curve = |of: fn(&Sample) -> u64| {
        curve(
            judged
                .iter()
                .map(|sample| (sample.seconds, of(sample) as f64)),
        )
    };
    let soaked = Soaked {
        judged_seconds: last.seconds - first.seconds,
        samples: judged.len(),
        memory: curve(|sample| sample.resident),
        descriptors: curve(|sample| sample.descriptors),
        threads: curve(|sample| sample.threads),
        disk: disk::parts(first, last, bounds.text),
    };
    let hours = soaked.judged_seconds / 3600.0;
    let anchored =
        |sample: &Sample| sample.done(Operation::Deposit) + sample.done(Operation::Acquire);
    let anchors = anchored(last).saturating_sub(anchored(first));
    let mut checks = vec![memory(&soaked, hours, anchors, bounds)];
    let beside = curve(|sample| sample.descriptors.saturating_sub(sample.own_descriptors));
    for (name, curve) in [("descriptors", beside), ("threads", soaked.threads)] {
        let grown = curve.per_hour * hours;
        let detail = format!("{grown:+.1} over the time that was judged, at most {MORE}");
        checks.push(Check::new(name, grown <= MORE, detail));
    }
    if !soaked.disk.is_empty() {
        let odd: Vec<String> = soaked
            .disk
            .iter()
            .filter(|part| !part.fits)
            .map(|part| {
                format!(
                    "{} grew by {} bytes, predicted {} ({})",
                    part.name, part.grown, part.predicted, part.formula
                )
            })
            .collect();
        let well = format!("{} parts of the data directory", soaked.disk.len());
        checks.push(Check::of("disk", odd.len() as u64, &odd, well));
    }
    checks.extend(figures(&judged));
    Ok((soaked, checks))
}

fn memory(soaked: &Soaked, hours: f64, anchors: u64, bounds: &Bounds) -> Check {
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let kept = anchors as f64 * ANCHOR;
    let grown = soaked.memory.per_hour * hours - kept;
    let most = (bounds.memory_per_hour * hours).max(MEMORY_FREE);
    let detail = format!(
        "{:+.2} MiB over the time that was judged, at most {:.2}, beside {:.2} MiB for {anchors} anchors of {ANCHOR} bytes",
        mib(grown),
        mib(most),
        mib(kept)
    );
    Check::new("memory", grown <= most, detail)
}

/// What the node itself says must not happen.
fn figures(judged: &[&Sample]) -> Option<Check> {
    let mut told = judged.iter().filter(|sample| !sample.figures.is_empty());
    let (first, last) = (told.next()?, told.next_back()?);
    let mut odd = Vec::new();
    for name in [
        "kairos_place_records_lost_total",
        "kairos_relay_failed_commits_total",
        "kairos_ledger_failed_blocks_total",
    ] {
        let value = |sample: &Sample| sample.figures.get(name).copied().unwrap_or_default();
        let more = value(last) - value(first);
        if more > 0.0 {
            odd.push(format!("{name} went up by {more}"));
        }
    }
    let well = "the node lost no record and failed no commit, by its own account".to_owned();
    Some(Check::of("figures", odd.len() as u64, &odd, well))
}

/// Fits a straight line.
fn curve(points: impl Iterator<Item = (f64, f64)>) -> Curve {
    let points: Vec<(f64, f64)> = points.collect();
    let count = points.len().max(1) as f64;
    let (sum_x, sum_y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), (dx, dy)| (x + dx, y + dy));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in &points {
        covariance += (x - mean_x) * (y - mean_y);
        variance += (x - mean_x) * (x - mean_x);
    }
    Curve {
        first: points.first().map_or(0.0, |(_, y)| *y),
        last: points.last().map_or(0.0, |(_, y)| *y),
        most: points.iter().map(|(_, y)| *y).fold(0.0, f64::max),
        per_hour: if variance > 0.0 {
            covariance / variance * 3600.0
        } else {
            0.0
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// Half an hour, a look every ten seconds; `grow` says what it looks like after so many of them.
    fn seen(grow: impl Fn(u64) -> Sample) -> Vec<Sample> {
        let at = |n: u64| Sample {
            seconds: n as f64 * 10.0,
            ..grow(n)
        };
        (0..180).map(at).collect()
    }

    fn flat(n: u64) -> Sample {
        Sample {
            // It breathes, and warms up.
            resident: 40 * MIB + (n % 7) * 100_000 + n.min(20) * 100_000,
            // Connections come and go on both sides.
            descriptors: 60 + n % 50,
            own_descriptors: 15 + n % 50,
            threads: 18,
            disk: Some(BTreeMap::from([("anchors", 0)])),
            figures: BTreeMap::from([("kairos_place_records_lost_total", 3.0)]),
            ..Sample::default()
        }
    }

    fn failed(samples: &[Sample]) -> Vec<&'static str> {
        let bounds = Bounds {
            warm_up: 0.2,
            memory_per_hour: 8.0 * MIB as f64,
            text: 2048,
        };
        let (_, checks) = judge(samples, &bounds).unwrap();
        let failed = checks.iter().filter(|check| !check.passed);
        failed.map(|check| check.name).collect()
    }

    #[test]
    fn a_node_that_stays_as_it_is_passes() {
        assert_eq!(failed(&seen(flat)), [""; 0]);
    }

    #[test]
    fn whatever_grows_and_should_not_is_found() {
        let leaks = |n| Sample {
            resident: 40 * MIB + n * MIB / 25,
            ..flat(n)
        };
        assert_eq!(failed(&seen(leaks)), ["memory"]);
        let forgets_to_close = |n| Sample {
            descriptors: 60 + n % 50 + n / 10,
            ..flat(n)
        };
        assert_eq!(failed(&seen(forgets_to_close)), ["descriptors"]);
        let spawns = |n| Sample {
            threads: 18 + n / 10,
            ..flat(n)
        };
        assert_eq!(failed(&seen(spawns)), ["threads"]);
        let writes = |part| {
            move |n| Sample {
                disk: Some(BTreeMap::from([(part, n * MIB / 10)])),
                ..flat(n)
            }
        };
        for part in disk::PARTS {
            assert_eq!(failed(&seen(writes(part))), ["disk"], "{part}");
        }
        let loses = |n: u64| Sample {
            figures: BTreeMap::from([("kairos_place_records_lost_total", n as f64)]),
            ..flat(n)
        };
        assert_eq!(failed(&seen(loses)), ["figures"]);
    }

    #[test]
    fn memory_may_hold_the_anchors_of_what_was_done_and_no_more() {
        let holds = |bytes: u64| {
            move |n: u64| Sample {
                resident: 40 * MIB + n * 20 * bytes,
                done: BTreeMap::from([(Operation::Acquire, n * 20)]),
                disk: None,
                ..flat(n)
            }
        };
        assert_eq!(failed(&seen(holds(900))), [""; 0]);
        assert_eq!(failed(&seen(holds(4_000))), ["memory"]);
    }

    #[test]
    fn the_disk_grows_with_what_was_done_and_with_no_less() {
        let done =
            |n: u64| BTreeMap::from([(Operation::Deposit, n * 100), (Operation::Acquire, n * 200)]);
        let honest = |n| Sample {
            done: done(n),
            disk: Some(BTreeMap::from([("anchors", n * 300 * 480)])),
            ..flat(n)
        };
        assert_eq!(failed(&seen(honest)), [""; 0]);
        let forgetful = |n| Sample {
            done: done(n),
            ..flat(n)
        };
        assert_eq!(failed(&seen(forgetful)), ["disk"]);
    }

    #[test]
    fn too_few_looks_are_no_verdict() {
        let bounds = Bounds {
            warm_up: 0.5,
            memory_per_hour: 0.0,
            text: 0,
        };
        for count in [0, 1, 8] {
            let seen: Vec<_> = seen(flat).into_iter().take(count).collect();
            let error = judge(&seen, &bounds).unwrap_err().to_string();
            assert!(error.contains("make --duration longer"), "{error}");
        }
    }

    #[test]
    fn the_line_that_fits_best_is_found() {
        let curve = curve([(0.0, 1.0), (10.0, 3.0), (20.0, 2.0), (30.0, 4.0)].into_iter());
        assert_eq!((curve.first, curve.last, curve.most), (1.0, 4.0, 4.0));
        assert!((curve.per_hour - 0.08 * 3600.0).abs() < 1e-6, "{curve:?}");
    }
}
