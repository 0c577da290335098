//! What came of a run, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::meter::Measured;
use crate::schedule::Kept;
use crate::soak::Soaked;

/// Complaints that are shown of one check.
const SHOWN: usize = 5;

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) passed: bool,
    pub(crate) detail: String,
}

impl Check {
    pub(crate) fn new(name: &'static str, passed: bool, detail: String) -> Self {
        Self {
            name,
            passed,
            detail,
        }
    }

    /// Passes if nothing is to be complained of; `count` may be more than there are texts.
    pub(crate) fn of(name: &'static str, count: u64, complaints: &[String], well: String) -> Self {
        if count == 0 {
            return Self::new(name, true, well);
        }
        let mut detail = format!("{well}; {count} times: ");
        let shown: Vec<&str> = complaints.iter().take(SHOWN).map(String::as_str).collect();
        detail.push_str(&shown.join("; "));
        if count > shown.len() as u64 {
            let _ = write!(detail, "; and {} more", count - shown.len() as u64);
        }
        Self::new(name, false, detail)
    }
}

/// What came of it all.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) passed: bool,
    pub(crate) node: String,
    pub(crate) agents: usize,
    pub(crate) rate: f64,
    pub(crate) mix: String,
    pub(crate) schedule: Kept,
    pub(crate) operations: Vec<Measured>,
    pub(crate) checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) soak: Option<Soaked>,
}

/// The verdict for a person.
pub(crate) fn text(verdict: &Verdict) -> String {
    let mut text = String::new();
    let done: u64 = verdict.operations.iter().map(|one| one.done).sum();
    let _ = writeln!(
        text,
        "\n{done} of {} operations of {} agents at {} in {:.0} s, {} a second were due{}\n",
        verdict.schedule.due,
        verdict.agents,
        verdict.node,
        verdict.schedule.seconds,
        verdict.rate,
        if verdict.schedule.interrupted {
            "; ended early"
        } else {
            ""
        },
    );
    let _ = writeln!(
        text,
        "{:18} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}   milliseconds from when it was due",
        "", "done", "failed", "p50", "p90", "p99", "p99.9", "max"
    );
    for one in &verdict.operations {
        let times = one.latency_ms;
        let _ = writeln!(
            text,
            "{:18} {:>9} {:>7} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            one.operation,
            one.done,
            one.failures(),
            times.p50,
            times.p90,
            times.p99,
            times.p999,
            times.max
        );
        for (reason, count) in &one.failed {
            let _ = writeln!(text, "{:18} {count:>17} × {reason}", "");
        }
    }
    text.push('\n');
    if let Some(soaked) = &verdict.soak {
        text.push_str(&soaked.text());
    }
    for check in &verdict.checks {
        let word = if check.passed { "passed" } else { "FAILED" };
        let _ = writeln!(text, "{word}  {}: {}", check.name, check.detail);
    }
    let word = if verdict.passed { "passed" } else { "FAILED" };
    let _ = writeln!(text, "\n{word}");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::meter::Times;

    #[test]
    fn a_verdict_says_what_failed_and_why() {
        let times = Times {
            p50: 1.0,
            p90: 2.0,
            p99: 3.0,
            p999: 4.0,
            max: 5.0,
        };
        let complaints: Vec<String> = (0..9).map(|n| format!("message {n} was lost")).collect();
        let verdict = Verdict {
            passed: false,
            node: "http://127.0.0.1:1".to_owned(),
            agents: 2,
            rate: 50.0,
            mix: "relay=1".to_owned(),
            schedule: Kept {
                due: 101,
                unfinished: 0,
                seconds: 2.0,
                interrupted: false,
            },
            operations: vec![Measured {
                operation: "relay.send",
                done: 100,
                failed: BTreeMap::from([("429 rate_limited".to_owned(), 1)]),
                latency_ms: times,
                service_ms: times,
            }],
            checks: vec![
                Check::of("messages", 30, &complaints, "100 acknowledged".to_owned()),
                Check::of("ledger", 0, &[], "OK".to_owned()),
            ],
            soak: None,
        };
        let text = text(&verdict);
        for part in [
            "100 of 101 operations of 2 agents at http://127.0.0.1:1 in 2 s",
            "1 × 429 rate_limited",
            "FAILED  messages: 100 acknowledged; 30 times: message 0 was lost; ",
            "message 4 was lost; and 25 more",
            "passed  ledger: OK",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(text.ends_with("\nFAILED\n"), "{text}");
    }
}
