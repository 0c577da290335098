//! The section `state_commit` of `skills/config.yml`, and when a commit is made without being asked for.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::skill::frontmatter::{self, Reading};

/// Snapshots kept where nothing else is said, the reference's default.
const SNAPSHOTS: usize = 100;
/// Most snapshots that a setting can ask for.
const SNAPSHOTS_MAX: usize = 10_000;

/// When and where state is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// Whether at all.
    pub enabled: bool,
    /// Where snapshots lie, below the data directory.
    pub snapshot_dir: String,
    /// Snapshots kept; at least one.
    pub max_snapshots: usize,
    /// When without being asked; nothing for never, which is so without a section.
    pub auto: Option<AutoCommit>,
    /// What could not be followed, in words.
    pub problems: Vec<String>,
}

/// When a commit is made without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoCommit {
    /// Not if nothing differs from the last snapshot.
    pub skip_if_no_changes: bool,
    /// When L0 changed.
    pub l0_change: bool,
    /// When a context became knowledge.
    pub promotion: bool,
    /// When knowledge was put away.
    pub demotion: bool,
    /// When the server ends.
    pub session_end: bool,
    /// When so many changes of L1 gathered.
    pub l1_changes: Option<u64>,
    /// When so many changes gathered.
    pub total_changes: Option<u64>,
}

/// Why a commit was made without being asked for. The names are the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// L0 changed.
    L0Change,
    /// A context became knowledge.
    Promotion,
    /// Knowledge was put away.
    Demotion,
    /// Enough of L1 changed.
    L1Threshold,
    /// Enough changed.
    TotalThreshold,
    /// The server ends.
    SessionEnd,
}

impl Trigger {
    /// The reference's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L0Change => "l0_change",
            Self::Promotion => "promotion",
            Self::Demotion => "demotion",
            Self::L1Threshold => "l1_threshold",
            Self::TotalThreshold => "total_threshold",
            Self::SessionEnd => "session_end",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            snapshot_dir: "storage/snapshots".to_owned(),
            max_snapshots: SNAPSHOTS,
            auto: None,
            problems: Vec::new(),
        }
    }
}

impl StateSettings {
    /// Reads the section out of the whole file. What is wrong counts as not said and is told.
    pub fn read(yaml: &str) -> Self {
        let mut settings = Self::default();
        let file = match frontmatter::read(yaml) {
            Reading::Mapping(members) => members,
            Reading::Empty => return settings,
            Reading::Other(_) | Reading::Unreadable => {
                settings
                    .problems
                    .push("skills/config.yml is not a mapping in YAML".to_owned());
                return settings;
            }
        };
        let nothing = Value::Null;
        let section = file.get("state_commit").unwrap_or(&nothing);
        settings.enabled = section.get("enabled") != Some(&Value::Bool(false));
        match section.get("snapshot_dir") {
            None | Some(Value::Null) => {}
            Some(Value::String(dir)) if is_below(dir) => settings.snapshot_dir = dir.clone(),
            Some(other) => settings.problems.push(format!(
                "state_commit.snapshot_dir is {other}, a path below the data directory is expected"
            )),
        }
        match section.get("max_snapshots") {
            None | Some(Value::Null) => {}
            Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(max) if (1..=SNAPSHOTS_MAX).contains(&max) => settings.max_snapshots = max,
                _ => settings.problems.push(format!(
                    "state_commit.max_snapshots is {value}, a number from 1 to {SNAPSHOTS_MAX} is expected"
                )),
            },
        }
        let auto = section.get("auto_commit").unwrap_or(&nothing);
        if is_true(auto.get("enabled")) {
            settings.auto = Some(AutoCommit::read(auto));
        }
        settings
    }
}

impl AutoCommit {
    fn read(auto: &Value) -> Self {
        let event = |name| is_true(auto.get("on_events").and_then(|events| events.get(name)));
        let threshold = |name, default| {
            let section = auto.get("change_threshold")?;
            let given = section.get(name).and_then(Value::as_u64);
            is_true(section.get("enabled")).then_some(given.unwrap_or(default))
        };
        Self {
            skip_if_no_changes: auto.get("skip_if_no_changes") != Some(&Value::Bool(false)),
            l0_change: event("l0_change"),
            promotion: event("promotion"),
            demotion: event("demotion"),
            session_end: event("session_end"),
            l1_changes: threshold("l1_changes", 5),
            total_changes: threshold("total_changes", 10),
        }
    }

    /// The first reason, in the reference's order, to commit what is pending.
    pub fn trigger(&self, pending: &Pending) -> Option<Trigger> {
        let enough = |count: u64, threshold: Option<u64>| threshold.is_some_and(|min| count >= min);
        [
            (self.l0_change && pending.l0 > 0, Trigger::L0Change),
            (self.promotion && pending.promotions > 0, Trigger::Promotion),
            (self.demotion && pending.demotions > 0, Trigger::Demotion),
            (enough(pending.l1, self.l1_changes), Trigger::L1Threshold),
            (
                enough(pending.total, self.total_changes),
                Trigger::TotalThreshold,
            ),
        ]
        .into_iter()
        .find_map(|(met, trigger)| met.then_some(trigger))
    }
}

/// How much changed since the last commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Changes of L0.
    pub l0: u64,
    /// Changes of L1.
    pub l1: u64,
    /// Sessions of L2 that changed.
    pub l2: u64,
    /// Contexts that became knowledge.
    pub promotions: u64,
    /// Knowledge that was put away.
    pub demotions: u64,
    /// All of it.
    pub total: u64,
}

impl Pending {
    /// Why a commit was made without being asked for, in the reference's words.
    pub fn reason(&self, trigger: Trigger) -> String {
        let mut parts = Vec::new();
        if self.l0 > 0 {
            parts.push("L0 changed".to_owned());
        }
        let counted = [
            ("L1", self.l1, " changes"),
            ("L2", self.l2, " changes"),
            ("promotions", self.promotions, ""),
        ];
        let told = counted.iter().filter(|(_, count, _)| *count > 0);
        parts.extend(told.map(|(name, count, unit)| format!("{name}: {count}{unit}")));
        let details = if parts.is_empty() {
            String::new()
        } else {
            format!(": {}", parts.join(", "))
        };
        format!("Auto-commit ({trigger}){details}")
    }
}

/// Whether Ruby takes it for true.
fn is_true(value: Option<&Value>) -> bool {
    !matches!(value, None | Some(Value::Null | Value::Bool(false)))
}

/// Whether a path stays below the directory it is joined to.
fn is_below(path: &str) -> bool {
    let mut parts = path.trim_end_matches('/').split('/');
    !path.contains(char::is_control) && parts.all(|part| !matches!(part, "" | "." | ".."))
}
