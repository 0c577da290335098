//! Playing scenarios: one step after the other, and the checks at the end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use super::checks::{self, Check, Tips, meet};
use super::journal::{Count, Journal};
use super::network::{Network, each, url};
use super::scenario::{Nodes, Scenario, Step};
use super::{link, p2p, poison, seed};
use crate::compose::{HIDDEN, SMALL, SMALL_DISK};
use crate::image::USER;
use crate::process;

/// A piece of what fills a disk, in bytes.
const BALLAST: u64 = 1 << 20;
/// Records that a full disk may still take, in the blocks that files leave unused.
const LAST_RECORDS: usize = 300;
/// How often it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What a scenario is played on.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) network: &'a Network,
    pub(crate) journal: &'a Journal,
    pub(crate) tips: &'a Tips,
    /// The verifier, outside of the containers.
    pub(crate) verify: &'a Path,
    /// The image to upgrade to.
    pub(crate) next: &'a str,
    pub(crate) bound: Duration,
}

/// What came of a scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Played {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) passed: bool,
    pub(crate) seconds: f64,
    /// Messages that were acknowledged.
    pub(crate) messages: u64,
    /// Records that were acknowledged.
    pub(crate) records: u64,
    /// What was not acknowledged, as when a Place is away.
    pub(crate) refused: u64,
    /// Why, a few times.
    pub(crate) reasons: Vec<String>,
    /// How long a send took, the start of the command included: half of them, and 95 of 100.
    pub(crate) send_ms: Option<[u64; 2]>,
    /// How long a lookup by id took until the agent was found, the start of the command included: half of them, and all.
    pub(crate) lookup_ms: Option<[u64; 2]>,
    pub(crate) notes: Vec<String>,
    pub(crate) checks: Vec<Check>,
    /// What kept it from being played to its end.
    pub(crate) error: Option<String>,
}

impl Stage<'_> {
    /// Plays a scenario to its end, and checks that all is well; `tell` hears of each step.
    pub(crate) fn play(&self, scenario: &Scenario, tell: &dyn Fn(&str)) -> Played {
        let began = Instant::now();
        let before = self.journal.count();
        let stop = AtomicBool::new(false);
        let mut notes = Vec::new();
        let played = std::thread::scope(|scope| {
            let played = scenario
                .steps
                .iter()
                .try_for_each(|step| -> anyhow::Result<()> {
                    tell(&step.told());
                    if let Step::Traffic(per_second) = step {
                        let (stop, per_second) = (&stop, *per_second);
                        scope.spawn(move || self.journal.flow(self.network, per_second, stop));
                        return Ok(());
                    }
                    let said = self.step(step).with_context(|| step.told())?;
                    notes.extend(said);
                    Ok(())
                });
            stop.store(true, Ordering::Relaxed);
            played
        });
        let mut checks = Vec::new();
        let error = match played {
            Ok(()) => {
                tell("check");
                checks = checks::all(
                    self.network,
                    self.journal,
                    self.tips,
                    self.verify,
                    self.bound,
                );
                self.leave().err().map(|error| format!("{error:#}"))
            }
            Err(error) => Some(format!("{error:#}")),
        };
        let Count {
            letters,
            records,
            refused,
        } = self.journal.count();
        let (sends, lookups) = (self.journal.take_times(), self.journal.take_lookups());
        Played {
            name: scenario.name.clone(),
            title: scenario.title.clone(),
            passed: error.is_none() && checks.iter().all(|check| check.passed),
            seconds: began.elapsed().as_secs_f64(),
            messages: letters - before.letters,
            records: records - before.records,
            refused: refused - before.refused,
            reasons: self.journal.take_reasons(),
            send_ms: shares(&sends, [50, 95]),
            lookup_ms: shares(&lookups, [50, 100]),
            notes,
            checks,
            error,
        }
    }

    /// Takes away the agents that are there for one scenario.
    fn leave(&self) -> anyhow::Result<()> {
        for node in HIDDEN.into_iter().chain([SMALL]) {
            self.journal.forget(node);
            self.tips.forget(node);
        }
        self.network.set_small(false, self.bound)?;
        self.network.remove_hidden()
    }

    fn named(&self, nodes: &Nodes) -> anyhow::Result<Vec<String>> {
        nodes.among(&self.network.agents(), &self.network.places())
    }

    fn step(&self, step: &Step) -> anyhow::Result<Vec<String>> {
        let network = self.network;
        let done = || Ok(Vec::new());
        match step {
            // It goes on beside the other steps.
            Step::Traffic(_) => done(),
            Step::Meet(nodes) => self.everybody_meets(&self.named(nodes)?),
            Step::Find(nodes) => p2p::look_up(self, &self.named(nodes)?),
            Step::Hold(time) => {
                process::pause(time.0);
                done()
            }
            Step::Deposit { by, skill, at } => {
                network.json(by, &["place", "deposit", skill, "--place", &url(at)])?;
                done()
            }
            Step::Acquire { by, skill, at, via } => {
                let take = |agent: &String| self.acquire(agent, skill, at, via);
                for outcome in each(&self.named(by)?, take) {
                    outcome?;
                }
                done()
            }
            Step::Federate { one, other } => self.federate(one, other),
            Step::Kill(nodes) => network.end(&self.named(nodes)?, true).and_then(|()| done()),
            Step::Stop(nodes) => network
                .end(&self.named(nodes)?, false)
                .and_then(|()| done()),
            Step::Start(nodes) => {
                let took = network.start(&self.named(nodes)?, self.bound)?;
                Ok(vec![format!(
                    "ready {:.1} s after the start",
                    took.as_secs_f64()
                )])
            }
            Step::Cut(nodes) => network
                .connect(&self.named(nodes)?, false)
                .and_then(|()| done()),
            Step::Heal => self.heal().and_then(|()| done()),
            Step::Clock { of, seconds } => {
                let change = |plan: &mut crate::compose::Plan| {
                    match seconds {
                        0 => plan.shifts.remove(of),
                        _ => plan.shifts.insert(of.clone(), *seconds),
                    };
                };
                network.remake(of, change, self.bound)?;
                done()
            }
            Step::Refused { by, who, because } => self.refused(by, who, because),
            Step::Upgrade(nodes) => self.upgrade(&self.named(nodes)?),
            Step::Slow(nodes) => {
                let how = self
                    .named(nodes)?
                    .iter()
                    .map(|node| link::slow(network, node))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(how
                    .first()
                    .map(|how| (*how).to_owned())
                    .into_iter()
                    .collect())
            }
            Step::Mend(nodes) => {
                self.named(nodes)?
                    .iter()
                    .try_for_each(|node| link::mend(network, node))?;
                done()
            }
            Step::Small => {
                network.set_small(true, self.bound)?;
                seed::agent(network, SMALL)?;
                done()
            }
            Step::Fill => self.fill(),
            Step::Empty => self.empty(),
            Step::Hidden { ports } => p2p::join(self, *ports),
            Step::Exchange { by, with, over } => p2p::exchange(self, by, with, *over),
            Step::Compromise { who, at, victim } => poison::compromise(self, who, at, victim),
        }
    }

    fn everybody_meets(&self, nodes: &[String]) -> anyhow::Result<Vec<String>> {
        let pairs: Vec<(&String, &String)> = nodes
            .iter()
            .flat_map(|one| {
                nodes
                    .iter()
                    .filter(move |other| *other != one)
                    .map(move |other| (one, other))
            })
            .collect();
        for outcome in each(&pairs, |(one, other)| meet(self.network, one, other)) {
            outcome?;
        }
        Ok(vec![format!("{} encounters", pairs.len())])
    }

    /// Who hosts a Place.
    fn host(&self, node: &str) -> anyhow::Result<String> {
        let told = self.network.json(node, &["identity"])?;
        let id = told.get("id").and_then(Value::as_str);
        Ok(id
            .with_context(|| format!("{node} does not say who it is"))?
            .to_owned())
    }

    fn federate(&self, one: &str, other: &str) -> anyhow::Result<Vec<String>> {
        let (there, here) = (url(other), url(one));
        let propose = ["federation", "propose", &there, "--own-url", &here];
        let proposed = self.network.json(one, &propose)?;
        let id = proposed.get("agreement").and_then(Value::as_str);
        let id = id.with_context(|| format!("{one} proposed nothing: {proposed}"))?;
        let accepted = self.network.json(other, &["federation", "accept", id])?;
        let standing = accepted.get("standing").and_then(Value::as_str);
        ensure!(
            standing == Some("in_effect"),
            "{other} did not agree: {accepted}"
        );
        Ok(Vec::new())
    }

    /// Fetches a skill, approves it on the evidence, and offers it to others; it must be what its author wrote.
    fn acquire(&self, agent: &str, skill: &str, at: &str, via: &[String]) -> anyhow::Result<()> {
        let place = url(at);
        let ids = via.iter().map(|place| self.host(place));
        let ids = ids.collect::<anyhow::Result<Vec<_>>>()?;
        let mut args = vec!["place", "acquire", skill, "--place", &place];
        args.extend(ids.iter().flat_map(|id| ["--via", id]));
        let got = self.network.json(agent, &args)?;
        let stations = got.pointer("/quarantined/evidence/carried/passage");
        let stations = stations.and_then(Value::as_array).map_or(0, Vec::len);
        ensure!(
            via.is_empty() || stations == via.len() + 1,
            "{agent} is not shown the way of `{skill}`: {got}"
        );
        let id = got
            .pointer("/quarantined/id")
            .or_else(|| got.get("id"))
            .and_then(Value::as_str)
            .with_context(|| format!("{agent} has nothing in quarantine: {got}"))?;
        let approved = self
            .network
            .json(agent, &["approve", "--yes", "--share", id])?;
        let hash = approved.get("content_hash").and_then(Value::as_str);
        ensure!(
            hash == Some(seed::hash(skill)?.as_str()),
            "{agent} got another `{skill}` than was written: {hash:?}"
        );
        Ok(())
    }

    fn heal(&self) -> anyhow::Result<()> {
        let wan = self.network.off_the_wan();
        self.network.connect(&wan, true)
    }

    fn refused(&self, by: &str, who: &str, because: &str) -> anyhow::Result<Vec<String>> {
        let ended = self.network.run(who, &["place", "join", &url(by)], "")?;
        let mut said = String::from_utf8_lossy(&ended.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&ended.stderr));
        ensure!(!ended.succeeded(), "{by} took {who} in:\n{said}");
        ensure!(
            said.contains(because),
            "{who} is not told why (`{because}`):\n{said}"
        );
        Ok(vec![
            ended
                .complaint()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        ])
    }

    fn upgrade(&self, nodes: &[String]) -> anyhow::Result<Vec<String>> {
        let began = Instant::now();
        for node in nodes {
            let change = |plan: &mut crate::compose::Plan| {
                plan.images.insert(node.clone(), self.next.to_owned());
            };
            self.network.remake(node, change, self.bound)?;
        }
        let each = began.elapsed().as_secs_f64() / nodes.len().max(1) as f64;
        Ok(vec![format!(
            "{} nodes, {each:.1} s each until ready",
            nodes.len()
        )])
    }

    /// Puts files beside the agent until no more fits, then has it record things until it says that it cannot.
    fn fill(&self) -> anyhow::Result<Vec<String>> {
        let piece = usize::try_from(BALLAST)?;
        let pieces = (0..SMALL_DISK).take_while(|n| {
            let packed = ballast(*n, &vec![0x5a; piece]);
            packed.is_ok_and(|archive| self.network.put(SMALL, &archive).is_ok())
        });
        let pieces = pieces.count();
        ensure!(pieces > 0, "nothing fits on the small disk");
        for kept in 0..LAST_RECORDS {
            let number = self.journal.number();
            if !self.journal.record(self.network, SMALL, number) {
                return Ok(vec![format!("full after {pieces} MiB and {kept} records")]);
            }
        }
        bail!("a full disk takes record after record")
    }

    /// Takes the files away; then the agent keeps records again, without help.
    fn empty(&self) -> anyhow::Result<Vec<String>> {
        for n in 0..SMALL_DISK {
            // Those that did not fit are made, and are as empty.
            self.network.put(SMALL, &ballast(n, &[])?)?;
        }
        let began = Instant::now();
        loop {
            let number = self.journal.number();
            if self.journal.record(self.network, SMALL, number) {
                break;
            }
            ensure!(
                began.elapsed() < self.bound,
                "the agent keeps nothing although there is room"
            );
            process::pause(TRY_AGAIN);
        }
        self.network.wait_ready(&[SMALL.to_owned()], self.bound)?;
        Ok(vec![format!(
            "keeps records again after {:.1} s",
            began.elapsed().as_secs_f64()
        )])
    }
}

/// Of times in order, in milliseconds: those within which so many of 100 are.
fn shares(times: &[Duration], percent: [usize; 2]) -> Option<[u64; 2]> {
    let last = times.len().checked_sub(1)?;
    let at = |part: usize| {
        let index = (times.len() * part / 100).min(last);
        times.get(index).map(|time| time.as_millis() as u64)
    };
    let [one, other] = percent.map(at);
    Some([one?, other?])
}

fn ballast(number: u32, content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_uid(USER);
    header.set_gid(USER);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, format!("ballast-{number}"), content)?;
    Ok(tar.into_inner()?)
}
