//! What must hold when a scenario is over: everybody is there again, nothing that was acknowledged is lost, every
//! ledger is valid and continues what it was, and no third party has read a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;

use super::journal::{Journal, SECRET};
use super::network::{Network, each, url};
use crate::process;

/// How often it is looked again whether all is well.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Longer than checking one ledger takes.
const VERIFY: Duration = Duration::from_secs(60);
/// Complaints that are shown of one check.
const SHOWN: usize = 5;

/// What came of one check.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) passed: bool,
    pub(crate) detail: String,
}

impl Check {
    fn of(name: &'static str, complaints: &[String], well: impl FnOnce() -> String) -> Self {
        let passed = complaints.is_empty();
        let detail = if passed {
            well()
        } else {
            let more = complaints.len().saturating_sub(SHOWN);
            let mut shown = complaints
                .iter()
                .take(SHOWN)
                .cloned()
                .collect::<Vec<_>>()
                .join("; ");
            if more > 0 {
                shown.push_str(&format!("; and {more} more"));
            }
            shown
        };
        Self {
            name,
            passed,
            detail,
        }
    }
}

/// How long each ledger was when it was last looked at, and the hash of its last block then.
#[derive(Debug, Default)]
pub(crate) struct Tips(Mutex<BTreeMap<String, (usize, String)>>);

impl Tips {
    /// Forgets a node whose ledger is another one now.
    pub(crate) fn forget(&self, node: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(node);
    }
}

/// Runs all checks; the first waits until all is well, for at most `bound`.
pub(crate) fn all(
    network: &Network,
    journal: &Journal,
    tips: &Tips,
    verify: &Path,
    bound: Duration,
) -> Vec<Check> {
    let until = Instant::now() + bound;
    vec![
        everybody_found(network, until),
        nothing_lost(network, journal, until),
        ledgers_valid(network, tips, verify),
        nothing_read(network, journal),
    ]
}

/// Repeats `look` until it finds nothing to complain of, or time is over.
fn eventually(until: Instant, look: impl Fn() -> Vec<String>) -> (Vec<String>, Duration) {
    let began = Instant::now();
    loop {
        let complaints = look();
        if complaints.is_empty() || Instant::now() > until {
            return (complaints, began.elapsed());
        }
        process::pause(LOOK_AGAIN);
    }
}

/// Every agent sees every other one at every Place, and reaches its neighbour directly.
fn everybody_found(network: &Network, until: Instant) -> Check {
    let agents = network.honest();
    let places = network.places();
    let seen: Vec<(String, String)> = agents
        .iter()
        .flat_map(|agent| places.iter().map(|place| (agent.clone(), place.clone())))
        .collect();
    // What once was well in this check is not asked again.
    let done: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());
    let (complaints, took) = eventually(until, || {
        let open: Vec<usize> = {
            let done = done.lock().unwrap_or_else(PoisonError::into_inner);
            (0..seen.len() + agents.len())
                .filter(|index| !done.contains(index))
                .collect()
        };
        let outcomes = each(&open, |&index| {
            let outcome = match seen.get(index) {
                Some((agent, place)) => sees_everybody(network, agent, place, &agents),
                None => meets_the_next(network, &agents, index - seen.len()),
            };
            if outcome.is_ok() {
                done.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(index);
            }
            outcome
        });
        outcomes
            .into_iter()
            .filter_map(|outcome| Some(format!("{:#}", outcome.err()?)))
            .collect()
    });
    Check::of("everybody found", &complaints, || {
        format!(
            "{} agents at {} Places, after {:.1} s",
            agents.len(),
            places.len(),
            took.as_secs_f64()
        )
    })
}

fn sees_everybody(
    network: &Network,
    agent: &str,
    place: &str,
    agents: &[String],
) -> anyhow::Result<()> {
    let at = url(place);
    let args = [
        "place", "browse", "--type", "agent", "--limit", "1000", "--place", &at,
    ];
    let seen = network.json(agent, &args)?;
    let entries = seen
        .get("entries")
        .and_then(Value::as_array)
        .context("no entries")?;
    let ids: BTreeSet<_> = entries
        .iter()
        .filter_map(|entry| entry.get("entry")?.get("agent_id")?.as_str())
        .collect();
    for other in agents.iter().filter(|other| *other != agent) {
        let id = network.id(other)?;
        ensure!(
            ids.contains(id.as_str()),
            "{agent} does not see {other} at {place}"
        );
    }
    Ok(())
}

fn meets_the_next(network: &Network, agents: &[String], index: usize) -> anyhow::Result<()> {
    let next = (index + 1).checked_rem(agents.len()).unwrap_or(0);
    if let (Some(agent), Some(other)) = (agents.get(index), agents.get(next)) {
        meet(network, agent, other)?;
    }
    Ok(())
}

/// One agent meets another and finds it to be who it is.
pub(crate) fn meet(network: &Network, agent: &str, other: &str) -> anyhow::Result<()> {
    let met = network.json(agent, &["meet", &url(other)])?;
    let id = met
        .get("agent")
        .and_then(|agent| agent.get("id"))
        .and_then(Value::as_str);
    let expected = network.id(other)?;
    ensure!(
        id == Some(expected.as_str()),
        "{agent} met {id:?} where {other} is"
    );
    Ok(())
}

/// Every acknowledged message is with its recipient, once, and every acknowledged record is there.
fn nothing_lost(network: &Network, journal: &Journal, until: Instant) -> Check {
    let agents = network.honest();
    let letters = journal.letters();
    let (complaints, took) = eventually(until, || {
        each(&agents, |agent| missing(network, journal, agent, &letters))
            .into_iter()
            .flatten()
            .collect()
    });
    let records: usize = agents
        .iter()
        .map(|agent| journal.records(agent).len())
        .sum();
    Check::of("nothing lost", &complaints, || {
        format!(
            "{} messages and {records} records, after {:.1} s",
            letters.len(),
            took.as_secs_f64()
        )
    })
}

fn missing(
    network: &Network,
    journal: &Journal,
    agent: &str,
    letters: &[super::journal::Letter],
) -> Vec<String> {
    let asked = || -> anyhow::Result<(Value, Value)> {
        let mail = network.json(agent, &["place", "message", "read", "--all", "--offline"])?;
        Ok((mail, network.json(agent, &["knowledge", "list"])?))
    };
    let (mail, knowledge) = match asked() {
        Ok(told) => told,
        Err(error) => return vec![format!("{error:#}")],
    };
    let texts: Vec<&str> = mail
        .get("messages")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|message| message.get("payload")?.as_str())
        .collect();
    let mut complaints = Vec::new();
    for letter in letters.iter().filter(|letter| letter.to == agent) {
        match texts
            .iter()
            .filter(|text| text.trim_end() == letter.text)
            .count()
        {
            1 => {}
            0 => complaints.push(format!("{agent} did not get {}", letter.text)),
            count => complaints.push(format!("{agent} got {} {count} times", letter.text)),
        }
    }
    let known: BTreeSet<&str> = knowledge
        .get("knowledge")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("name")?.as_str())
        .collect();
    let records = journal.records(agent);
    let lost = records.iter().filter(|name| !known.contains(name.as_str()));
    complaints.extend(lost.map(|name| format!("{agent} lost its record {name}")));
    complaints
}

/// `kairos-verify` finds every ledger valid, and each continues what it was when it was last looked at.
fn ledgers_valid(network: &Network, tips: &Tips, verify: &Path) -> Check {
    let nodes = network.nodes();
    let outcomes = each(&nodes, |node| {
        ledger(network, node, tips, verify).map_err(|error| format!("{node}: {error:#}"))
    });
    let mut blocks = 0;
    let mut complaints = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(length) => blocks += length,
            Err(complaint) => complaints.push(complaint),
        }
    }
    Check::of("ledgers valid", &complaints, || {
        format!("{} ledgers with {blocks} blocks", nodes.len())
    })
}

fn ledger(network: &Network, node: &str, tips: &Tips, verify: &Path) -> anyhow::Result<usize> {
    let text = network
        .run(node, &["chain", "export", "--stream", "json"], "")?
        .done()?;
    let mut verifier = Command::new(verify);
    process::run(verifier.args(["ledger", "-"]), &text, VERIFY)?.done()?;
    let blocks: Vec<Value> =
        serde_json::from_slice(&text).context("a ledger is an array of blocks")?;
    let hash = |index: usize| {
        let hash = blocks
            .get(index)
            .and_then(|block| block.get("hash"))
            .and_then(Value::as_str);
        hash.map(str::to_owned)
    };
    let mut known = tips.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((length, tip)) = known.get(node).filter(|_| !network.is_taken_over(node)) {
        let there = hash(length - 1);
        ensure!(
            there.as_ref() == Some(tip),
            "it had {length} blocks and has {} now, which do not continue them",
            blocks.len()
        );
    }
    if let Some(tip) = blocks.len().checked_sub(1).and_then(hash) {
        known.insert(node.to_owned(), (blocks.len(), tip));
    }
    Ok(blocks.len())
}

/// No file of a node holds a secret of two others. That the search finds any is shown by those of the recipients.
fn nothing_read(network: &Network, journal: &Journal) -> Check {
    let nodes = network.nodes();
    let outcomes = each(&nodes, |node| secrets(network, node));
    let letters = journal.letters();
    let mut complaints = Vec::new();
    let mut found = 0;
    let (mut bytes, mut expected) = (0, 0);
    for (node, outcome) in nodes.iter().zip(outcomes) {
        match outcome {
            Ok((secrets, size)) => {
                bytes += size;
                for secret in secrets {
                    if secret.between(node) {
                        found += 1;
                    } else {
                        complaints.push(format!("{node} has {secret}, a secret of others"));
                    }
                }
            }
            Err(error) => complaints.push(format!("{node}: {error:#}")),
        }
        expected += usize::from(letters.iter().any(|letter| letter.to == *node));
    }
    if found < expected {
        complaints.push("the search does not find secrets where they belong".to_owned());
    }
    Check::of("nothing read by others", &complaints, || {
        format!(
            "{} nodes, {:.1} MB searched for {} secrets",
            nodes.len(),
            bytes as f64 / 1e6,
            letters.len()
        )
    })
}

/// Who wrote a secret, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Secret {
    from: String,
    to: String,
}

impl Secret {
    fn between(&self, node: &str) -> bool {
        self.from == node || self.to == node
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "what {} wrote to {}", self.from, self.to)
    }
}

/// The secrets in the files of a node, each pair once, and how much was searched.
fn secrets(network: &Network, node: &str) -> anyhow::Result<(BTreeSet<Secret>, usize)> {
    let files = network.files(node)?;
    Ok((found(&files), files.len()))
}

fn found(bytes: &[u8]) -> BTreeSet<Secret> {
    let mut found = BTreeSet::new();
    let mut rest = bytes;
    while let Some(at) = rest
        .windows(SECRET.len())
        .position(|window| window == SECRET.as_bytes())
    {
        rest = rest.get(at + SECRET.len()..).unwrap_or_default();
        let text = String::from_utf8_lossy(rest.get(..64.min(rest.len())).unwrap_or_default())
            .into_owned();
        let mut parts = text.split('-');
        let (number, from, to) = (parts.next(), parts.next(), parts.next());
        if let (Some(number), Some(from), Some(to)) = (number, from, to)
            && number.len() == 8
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            found.insert(Secret {
                from: from.to_owned(),
                to: to.to_owned(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_any_bytes() {
        let text = format!(
            "\0\u{1}{SECRET}00000012-agent1-agent2-{SECRET}end\u{ff}{SECRET}00000013-agent2-small-"
        );
        let found = found(text.as_bytes());
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["what agent1 wrote to agent2", "what agent2 wrote to small"]
        );
        assert!(found.iter().all(|secret| secret.between("agent2")));
        assert!(!found.iter().any(|secret| secret.between("place1")));
    }

    #[test]
    fn a_check_with_complaints_fails_and_shows_some() {
        let complaints: Vec<_> = (0..7).map(|n| format!("c{n}")).collect();
        let check = Check::of("x", &complaints, || "well".to_owned());
        assert!(!check.passed);
        assert_eq!(check.detail, "c0; c1; c2; c3; c4; and 2 more");
        assert!(Check::of("x", &[], || "well".to_owned()).passed);
    }
}
