//! What came of all scenarios, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use serde::Serialize;

use super::play::Played;

/// When to color.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// Where a person is reading and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether standard output is to be colored.
    pub(crate) fn applies(self) -> bool {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match self {
            Self::Auto => wanted && io::stdout().is_terminal(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// What came of it all.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) passed: bool,
    pub(crate) agents: usize,
    pub(crate) places: usize,
    pub(crate) image: String,
    pub(crate) image_bytes: usize,
    /// From the first container's start until all nodes were ready, in seconds.
    pub(crate) ready_seconds: f64,
    /// From one container's start until it was ready, in seconds.
    pub(crate) one_ready_seconds: f64,
    /// Memory of nodes when all was over, in bytes.
    pub(crate) memory: BTreeMap<String, u64>,
    /// Scenarios that this machine cannot play.
    pub(crate) left_out: Vec<String>,
    pub(crate) scenarios: Vec<Played>,
    pub(crate) seconds: f64,
}

const GOOD: &str = "32";
const BAD: &str = "31;1";
const STRONG: &str = "1";

/// The verdict for a person.
pub(crate) fn text(verdict: &Verdict, color: bool) -> String {
    let paint = |code: &str, text: &str| match color {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let word = |passed| {
        if passed {
            paint(GOOD, "passed")
        } else {
            paint(BAD, "FAILED")
        }
    };
    let mut text = String::new();
    for played in &verdict.scenarios {
        let _ = writeln!(
            text,
            "\n{}  {}  {:.0} s\n  {}",
            word(played.passed),
            paint(STRONG, &played.name),
            played.seconds,
            played.title
        );
        if played.messages + played.records + played.refused > 0 {
            let _ = write!(
                text,
                "  acknowledged: {} messages, {} records; not acknowledged: {}",
                played.messages, played.records, played.refused
            );
            if let Some([half, most]) = played.send_ms {
                let _ = write!(text, "; a send took {half} ms, 95 of 100 at most {most} ms");
            }
            text.push('\n');
        }
        if let Some([half, all]) = played.lookup_ms {
            let _ = writeln!(
                text,
                "  a lookup by id took {half} ms, the longest {all} ms"
            );
        }
        for note in &played.notes {
            let _ = writeln!(text, "  {note}");
        }
        for check in &played.checks {
            let _ = writeln!(
                text,
                "  {}  {}: {}",
                word(check.passed),
                check.name,
                check.detail
            );
        }
        if let Some(error) = &played.error {
            let _ = writeln!(
                text,
                "  {}: {}",
                paint(BAD, "stopped"),
                error.replace('\n', "\n    ")
            );
        }
        if !played.passed {
            for reason in &played.reasons {
                let _ = writeln!(text, "  not acknowledged by {}", reason.replace('\n', " "));
            }
        }
    }
    if !verdict.left_out.is_empty() {
        let _ = writeln!(
            text,
            "\nleft out, for this machine cannot play them: {}",
            verdict.left_out.join(", ")
        );
    }
    let mut memory: Vec<_> = verdict.memory.values().copied().collect();
    memory.sort_unstable();
    let mib = |bytes: Option<&u64>| bytes.map_or(0.0, |bytes| *bytes as f64 / f64::from(1 << 20));
    let well = verdict
        .scenarios
        .iter()
        .filter(|played| played.passed)
        .count();
    let _ = writeln!(
        text,
        "\n{}  {well} of {} scenarios with {} agents and {} Places in {:.0} s\n  \
         image {:.1} MB; one node ready {:.2} s after its start, all after {:.1} s; memory at the end {:.1} to {:.1} MiB",
        word(verdict.passed),
        verdict.scenarios.len(),
        verdict.agents,
        verdict.places,
        verdict.seconds,
        verdict.image_bytes as f64 / 1e6,
        verdict.one_ready_seconds,
        verdict.ready_seconds,
        mib(memory.first()),
        mib(memory.last()),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::super::checks::Check;
    use super::*;

    fn verdict(passed: bool) -> Verdict {
        let check = Check {
            name: "nothing lost",
            passed,
            detail: "12 messages".to_owned(),
        };
        Verdict {
            passed,
            agents: 4,
            places: 2,
            image: "sha256:0".to_owned(),
            image_bytes: 35_000_000,
            ready_seconds: 3.0,
            one_ready_seconds: 0.5,
            memory: BTreeMap::from([("agent1".to_owned(), 10 << 20)]),
            left_out: vec!["slow_link".to_owned()],
            scenarios: vec![Played {
                name: "killed".to_owned(),
                title: "A Place is killed".to_owned(),
                passed,
                seconds: 10.0,
                messages: 12,
                records: 3,
                refused: 1,
                reasons: vec!["agent1: busy".to_owned()],
                send_ms: Some([80, 200]),
                lookup_ms: Some([250, 400]),
                notes: Vec::new(),
                checks: vec![check],
                error: None,
            }],
            seconds: 20.0,
        }
    }

    #[test]
    fn the_verdict_says_what_passed_and_what_did_not() {
        let good = text(&verdict(true), false);
        assert!(good.contains("passed  killed  10 s"), "{good}");
        assert!(
            good.contains("12 messages, 3 records; not acknowledged: 1"),
            "{good}"
        );
        assert!(good.contains("took 250 ms, the longest 400 ms"), "{good}");
        assert!(
            !good.contains("FAILED") && !good.contains('\x1b') && !good.contains("busy"),
            "{good}"
        );
        let bad = text(&verdict(false), true);
        assert!(bad.contains("\x1b[31;1mFAILED\x1b[0m"), "{bad}");
        assert!(bad.contains("not acknowledged by agent1: busy"), "{bad}");
        assert!(bad.contains("0 of 1 scenarios"), "{bad}");
        assert!(bad.contains("cannot play them: slow_link"), "{bad}");
    }
}
