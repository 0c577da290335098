//! Scenarios as data: what is done to the network, step by step, and within which time all must be well again.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::Error as _;

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
        let words = match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Several(words) => words,
        };
        let mut names = Vec::new();
        for word in words {
            match word.as_str() {
                "agents" => names.extend_from_slice(agents),
                "places" => names.extend_from_slice(places),
                "everybody" => names.extend(places.iter().chain(agents).cloned()),
                name if agents.iter().chain(places).any(|known| known == name) => {
                    names.push(name.to_owned())
                }
                name if name == crate::compose::SMALL => names.push(name.to_owned()),
                name => bail!("there is no node `{name}` in this network"),
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
    /// Agents take a skill from a Place, look at the evidence, and approve it.
    Acquire {
        by: Nodes,
        skill: String,
        at: String,
    },
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
    /// An agent is taken over: what it sends is poison, and then it rewrites its past.
    Compromise {
        who: String,
        at: String,
        victim: String,
    },
}

impl Step {
    /// What is done, in a few words.
    pub(crate) fn told(&self) -> String {
        let list = |nodes: &Nodes| match nodes {
            Nodes::One(name) => name.clone(),
            Nodes::Several(names) => names.join(", "),
        };
        match self {
            Self::Meet(nodes) => format!("{} meet each other", list(nodes)),
            Self::Traffic(rate) => format!("{rate} messages and records a second from now on"),
            Self::Hold(time) => format!("hold {}", humantime::format_duration(time.0)),
            Self::Deposit { by, skill, at } => format!("{by} leaves `{skill}` at {at}"),
            Self::Acquire { by, skill, at } => format!("{} take `{skill}` from {at}", list(by)),
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
            among(&["agents", "small"]).unwrap(),
            ["agent1", "agent2", "small"]
        );
        assert!(among(&["agent3"]).unwrap_err().contains("agent3"));
    }
}
