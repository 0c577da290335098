//! Scenarios as data: what is done to the network, step by step, and within which time all must be well again.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::Error as _;

use super::link::Ports;
use crate::compose::{HIDDEN, SMALL};

/// Most steps of a scenario.
const STEPS_MAX: usize = 64;
/// The longest that a scenario may wait for anything.
const BOUND_MAX: Duration = Duration::from_secs(600);

/// One file of `deploy/testnet/scenarios`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// The name of the file.
    #[serde(skip)]
    pub(crate) name: String,
    /// What happens, in a sentence.
    pub(crate) title: String,
    /// Whether it belongs to the short set.
    #[serde(default)]
    pub(crate) short: bool,
    /// Within which time after the last step everybody has found everybody again, and has its mail.
    pub(crate) bound: Span,
    pub(crate) steps: Vec<Step>,
}

impl Scenario {
    /// Finds out before anything is started whether a network of `agents` and `places` has all nodes that are named.
    ///
    /// # Errors
    ///
    /// Names the first one that it has not.
    pub(crate) fn fits(&self, agents: &[String], places: &[String]) -> anyhow::Result<()> {
        for name in self.steps.iter().flat_map(Step::named) {
            Nodes::One(name.to_owned())
                .among(agents, places)
                .with_context(|| format!("`{}` takes a larger network", self.name))?;
        }
        Ok(())
    }

    /// Whether something in it is done to the network of a container from outside, which not everybody may.
    pub(crate) fn takes_root(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step, Step::Slow(_) | Step::Mend(_) | Step::Hidden { .. }))
    }
}

/// A length of time, written like `30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match humantime::parse_duration(&text) {
            Ok(time) if time <= BOUND_MAX => Ok(Self(time)),
            Ok(_) => Err(D::Error::custom(format!(
                "{text} is longer than a scenario may take"
            ))),
            Err(error) => Err(D::Error::custom(format!("{text}: {error}"))),
        }
    }
}

/// Nodes by their names, or by one of the words `agents`, `places`, `everybody`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Nodes {
    One(String),
    Several(Vec<String>),
}

impl Nodes {
    fn words(&self) -> &[String] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Several(words) => words,
        }
    }

    /// Their names, in a network of `agents` and `places`.
    ///
    /// # Errors
    ///
    /// Names a node that is not there.
    pub(crate) fn among(
        &self,
        agents: &[String],
        places: &[String],
    ) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for word in self.words() {
            match word.as_str() {
                "agents" => names.extend_from_slice(agents),
                "places" => names.extend_from_slice(places),
                "everybody" => names.extend(places.iter().chain(agents).cloned()),
                name if agents.iter().chain(places).any(|known| known == name) => {
                    names.push(name.to_owned())
                }
                name if name == SMALL || HIDDEN.contains(&name) => names.push(name.to_owned()),
                name => bail!(
                    "there is no `{name}` among {} agents and {} Places; give more with --agents and --places",
                    agents.len(),
                    places.len()
                ),
            }
        }
        Ok(names)
    }
}

/// One thing that is done, or that must hold before the next.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// Each of these meets each other one, and checks its key.
    Meet(Nodes),
    /// Each of these looks others of them up by their ids, in the table of the network.
    Find(Nodes),
    /// Messages and records flow from now on until the scenario ends: so many a second.
    Traffic(f64),
    /// Nothing is done for so long.
    Hold(Span),
    /// An agent leaves a skill at a Place. It is one of its own, or one that it got.
    Deposit {
        by: String,
        skill: String,
        at: String,
    },
    /// Agents take a skill from a Place, or from one behind it, look at the evidence, and approve it.
    Acquire {
        by: Nodes,
        skill: String,
        at: String,
        /// The Places that lead there from the one they are at, in order; the last one has it.
        #[serde(default)]
        via: Vec<String>,
    },
    /// Two Places agree: the operator of the first proposes, that of the second accepts.
    Federate { one: String, other: String },
    /// These are ended at once, as by a power cut.
    Kill(Nodes),
    /// These are told to stop, and stop in order.
    Stop(Nodes),
    /// These run again.
    Start(Nodes),
    /// These reach only their region.
    Cut(Nodes),
    /// Everybody reaches everybody again.
    Heal,
    /// The clock of a node is wrong by so many seconds; 0 puts it right.
    Clock { of: String, seconds: i64 },
    /// A Place turns an agent away, and what the agent's owner reads contains these words.
    Refused {
        by: String,
        who: String,
        because: String,
    },
    /// One after the other runs from another image, on the same volume.
    Upgrade(Nodes),
    /// The network of these is slow and loses packets.
    Slow(Nodes),
    /// It no longer is.
    Mend(Nodes),
    /// An agent with a small disk joins.
    Small,
    /// Its disk fills until it can keep nothing more, and says so.
    Fill,
    /// There is room again, and it keeps what it is told.
    Empty,
    /// Two agents without an HTTP port join, each behind a router that translates addresses.
    Hidden { ports: Ports },
    /// One agent finds another by its id, meets it, gets its SkillSet, looks at the evidence, and approves it.
    Exchange {
        by: String,
        with: String,
        over: Over,
    },
    /// An agent is taken over: what it sends is poison, and then it rewrites its past.
    Compromise {
        who: String,
        at: String,
        victim: String,
    },
}

/// By which way two agents are connected in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Over {
    /// Through a relay, and not otherwise.
    Relayed,
    /// Directly, past the relay through which they met.
    Direct,
}

impl Over {
    /// What nodes call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Relayed => "relayed",
            Self::Direct => "direct",
        }
    }
}

impl Step {
    /// The nodes that it names, and words that stand for several.
    fn named(&self) -> Vec<&str> {
        let words = |nodes| {
            Nodes::words(nodes)
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
        };
        match self {
            Self::Meet(nodes)
            | Self::Find(nodes)
            | Self::Kill(nodes)
            | Self::Stop(nodes)
            | Self::Start(nodes)
            | Self::Cut(nodes)
            | Self::Upgrade(nodes)
            | Self::Slow(nodes)
            | Self::Mend(nodes) => words(nodes),
            Self::Deposit { by, at, .. } => vec![by, at],
            Self::Acquire { by, at, via, .. } => {
                let mut named = words(by);
                named.extend([at].into_iter().chain(via).map(String::as_str));
                named
            }
            Self::Federate { one, other } => vec![one, other],
            Self::Exchange { by, with, .. } => vec![by, with],
            Self::Clock { of, .. } => vec![of],
            Self::Refused { by, who, .. } => vec![by, who],
            Self::Compromise { who, at, victim } => vec![who, at, victim],
            Self::Traffic(_)
            | Self::Hold(_)
            | Self::Heal
            | Self::Small
            | Self::Fill
            | Self::Empty
            | Self::Hidden { .. } => Vec::new(),
        }
    }

    /// What is done, in a few words.
    pub(crate) fn told(&self) -> String {
        let list = |nodes: &Nodes| match nodes {
            Nodes::One(name) => name.clone(),
            Nodes::Several(names) => names.join(", "),
        };
        match self {
            Self::Meet(nodes) => format!("{} meet each other", list(nodes)),
            Self::Find(nodes) => format!("{} look each other up by id", list(nodes)),
            Self::Traffic(rate) => format!("{rate} messages and records a second from now on"),
            Self::Hold(time) => format!("hold {}", humantime::format_duration(time.0)),
            Self::Deposit { by, skill, at } => format!("{by} leaves `{skill}` at {at}"),
            Self::Acquire { by, skill, at, via } => {
                let way: Vec<&str> = [at].into_iter().chain(via).map(String::as_str).collect();
                format!("{} take `{skill}` from {}", list(by), way.join(", "))
            }
            Self::Federate { one, other } => format!("{one} and {other} agree"),
            Self::Kill(nodes) => format!("kill {}", list(nodes)),
            Self::Stop(nodes) => format!("stop {}", list(nodes)),
            Self::Start(nodes) => format!("start {}", list(nodes)),
            Self::Cut(nodes) => format!("cut {} off", list(nodes)),
            Self::Heal => "heal the network".to_owned(),
            Self::Clock { of, seconds: 0 } => format!("put the clock of {of} right"),
            Self::Clock { of, seconds } => format!("the clock of {of} is {seconds} s off"),
            Self::Refused { by, who, .. } => format!("{by} turns {who} away"),
            Self::Upgrade(nodes) => format!("upgrade {}, one after the other", list(nodes)),
            Self::Slow(nodes) => {
                format!("the network of {} is slow and loses packets", list(nodes))
            }
            Self::Mend(nodes) => format!("the network of {} is good again", list(nodes)),
            Self::Small => "an agent with a small disk joins".to_owned(),
            Self::Fill => "its disk fills".to_owned(),
            Self::Empty => "its disk has room again".to_owned(),
            Self::Hidden { ports } => {
                let how = match ports {
                    Ports::Kept => "keep ports",
                    Ports::Changed => "change ports",
                };
                format!("two agents without an HTTP port join, behind routers that {how}")
            }
            Self::Exchange { by, with, over } => {
                format!("{by} gets a SkillSet of {with}, {}", over.word())
            }
            Self::Compromise { who, .. } => format!("{who} is taken over"),
        }
    }
}

/// Reads the scenarios in `folder` in the order of their names: those `wanted`, else all, else the short ones.
///
/// # Errors
///
/// Tells which file is wrong, or that a wanted one is not there.
pub(crate) fn read(folder: &Path, wanted: &[String], short: bool) -> anyhow::Result<Vec<Scenario>> {
    let shown = folder.display();
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("cannot read {shown}"))?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    let mut scenarios = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        // The number puts them in order.
        let name = name.split_once('-').map_or(&*name, |(_, name)| name);
        scenarios.push(parse(name, &text).with_context(|| format!("{} is wrong", file.display()))?);
    }
    let known: BTreeSet<_> = scenarios
        .iter()
        .map(|scenario| scenario.name.clone())
        .collect();
    for name in wanted {
        ensure!(
            known.contains(name),
            "there is no scenario `{name}`; there are: {}",
            known.iter().cloned().collect::<Vec<_>>().join(", ")
        );
    }
    scenarios.retain(|scenario| match wanted {
        [] => scenario.short || !short,
        wanted => wanted.contains(&scenario.name),
    });
    ensure!(!scenarios.is_empty(), "there is no scenario in {shown}");
    Ok(scenarios)
}

fn parse(name: &str, text: &str) -> anyhow::Result<Scenario> {
    let mut scenario: Scenario = serde_saphyr::from_str(text)?;
    ensure!(!scenario.steps.is_empty(), "it has no steps");
    ensure!(
        scenario.steps.len() <= STEPS_MAX,
        "it has more than {STEPS_MAX} steps"
    );
    name.clone_into(&mut scenario.name);
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::{Plan, Size};

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testnet/scenarios");

    #[test]
    fn every_scenario_of_the_repository_can_be_read() {
        let all = read(Path::new(FOLDER), &[], false).unwrap();
        let short = read(Path::new(FOLDER), &[], true).unwrap();
        assert!(all.len() >= 9, "{}", all.len());
        assert!(!short.is_empty() && short.len() < all.len());
        let one = read(Path::new(FOLDER), &[all[0].name.clone()], false).unwrap();
        assert_eq!(one.len(), 1);
        let none = read(Path::new(FOLDER), &["nothing".to_owned()], false).unwrap_err();
        assert!(none.to_string().contains(&all[0].name), "{none}");
    }

    #[test]
    fn a_network_that_is_too_small_for_a_scenario_is_told_so() {
        let plan = |agents, places| {
            let plan = Plan::new(Size { agents, places });
            (plan.agents(), plan.places())
        };
        let (agents, places) = plan(10, 3);
        for scenario in read(Path::new(FOLDER), &[], false).unwrap() {
            scenario.fits(&agents, &places).unwrap();
        }
        let wanted = ["places_federate".to_owned()];
        let [federate] = &read(Path::new(FOLDER), &wanted, false).unwrap()[..] else {
            panic!("there is one");
        };
        for (size, missing) in [((10, 2), "place3"), ((4, 3), "agent5")] {
            let (agents, places) = plan(size.0, size.1);
            let told = format!("{:#}", federate.fits(&agents, &places).unwrap_err());
            assert!(
                told.contains(missing) && told.contains("--agents"),
                "{told}"
            );
        }
    }

    #[test]
    fn what_is_not_a_scenario_is_refused() {
        let steps = "title: T\nbound: 5s\nsteps:\n";
        assert_eq!(
            parse("x", &format!("{steps}  - kill: place1\n  - heal\n"))
                .unwrap()
                .steps
                .len(),
            2
        );
        for (wrong, told) in [
            ("title: T\nbound: 5s\nsteps: []\n".to_owned(), "no steps"),
            (format!("{steps}  - explode: place1\n"), "explode"),
            (format!("{steps}  - hold: 2h\n"), "longer"),
            (format!("{steps}  - hold: soon\n"), "soon"),
            (format!("{steps}  - heal\nmore: 1\n"), "more"),
        ] {
            let error = format!("{:#}", parse("x", &wrong).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn words_stand_for_several_nodes_and_names_must_be_known() {
        let (agents, places) = (
            ["agent1".to_owned(), "agent2".to_owned()],
            ["place1".to_owned()],
        );
        let among = |words: &[&str]| {
            let words = words.iter().map(|&word| word.to_owned()).collect();
            Nodes::Several(words)
                .among(&agents, &places)
                .map_err(|e| e.to_string())
        };
        assert_eq!(
            among(&["everybody"]).unwrap(),
            ["place1", "agent1", "agent2"]
        );
        assert_eq!(
            among(&["agents", "small", "hidden2"]).unwrap(),
            ["agent1", "agent2", "small", "hidden2"]
        );
        assert!(among(&["agent3"]).unwrap_err().contains("agent3"));
    }
}
