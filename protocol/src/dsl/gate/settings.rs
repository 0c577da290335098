//! What `skills/config.yml` says about the law: its changes and its tools. What cannot be read allows nothing.

use serde_json::{Map, Value};

use super::Governance;
use crate::skill::frontmatter::{self, Reading};

/// Most changes of a session where nothing is said, the reference's default.
const PER_SESSION: u32 = 3;

/// What the settings say about the law.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether changes are switched on; they are not unless somebody said so.
    pub enabled: bool,
    /// Whether the layer may change.
    pub mutable: bool,
    /// Most changes in one session.
    pub per_session: u32,
    /// Which skills there may be and which never change, where the law does not say it.
    pub fallback: Governance,
    /// Whether `tool` blocks of the law become tools; they do not unless somebody said so.
    pub tools: bool,
    /// Why nothing is allowed, where the file cannot be read.
    pub problem: Option<String>,
}

impl Settings {
    /// Reads the settings out of the whole file; of repeated keys the last counts, as in the reference.
    pub fn read(yaml: &str) -> Self {
        let nothing = Map::new();
        match frontmatter::read(yaml) {
            Reading::Mapping(members) => Self::of(&members),
            Reading::Empty => Self::of(&nothing),
            Reading::Other(_) | Reading::Unreadable => Self {
                enabled: false,
                mutable: false,
                tools: false,
                problem: Some("skills/config.yml is not a mapping in YAML".to_owned()),
                ..Self::of(&nothing)
            },
        }
    }

    fn of(members: &Map<String, Value>) -> Self {
        let says = |section: Option<&Value>, unsaid: bool| match section {
            None | Some(Value::Null) => unsaid,
            Some(value) => value == &Value::Bool(true),
        };
        let member = |name: &str| members.get(name);
        let layer = member("layers").and_then(|layers| layers.get("L0_law"));
        let of_layer = |name: &str| says(layer.and_then(|layer| layer.get(name)), true);
        let per_session = match member("max_evolutions_per_session") {
            None | Some(Value::Null) => PER_SESSION,
            Some(value) => {
                let limit = value.as_u64().unwrap_or_default();
                u32::try_from(limit).unwrap_or(u32::MAX)
            }
        };
        let list = |name: &str| {
            let items = member(name)?.as_array()?.iter();
            let ids = items.filter_map(Value::as_str).map(str::to_owned);
            Some(ids.collect::<Vec<_>>())
        };
        Self {
            enabled: says(member("enabled"), true) && says(member("evolution_enabled"), false),
            mutable: of_layer("enabled") && of_layer("mutable"),
            per_session,
            fallback: Governance {
                allowed: list("kairos_meta_skills"),
                immutable: list("immutable_skills")
                    .unwrap_or_else(|| vec!["core_safety".to_owned()]),
            },
            tools: says(member("skill_tools_enabled"), false),
            problem: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_unless_somebody_said_so() {
        let silent = Settings::read("");
        assert!(!silent.enabled && silent.mutable && !silent.tools);
        assert!(Settings::read("skill_tools_enabled: true\n").tools);
        assert_eq!(
            (silent.per_session, silent.fallback.immutable),
            (3, vec!["core_safety".to_owned()])
        );
        for (yaml, enabled, mutable, per_session) in [
            ("evolution_enabled: true\n", true, true, 3),
            ("evolution_enabled: true\nenabled: false\n", false, true, 3),
            ("evolution_enabled: 'true'\n", false, true, 3),
            (
                "evolution_enabled: true\nmax_evolutions_per_session: many\n",
                true,
                true,
                0,
            ),
            (
                "max_evolutions_per_session: 7\nlayers:\n  L0_law:\n    mutable: false\n",
                false,
                false,
                7,
            ),
            ("a: [", false, false, 3),
        ] {
            let read = Settings::read(yaml);
            assert_eq!(
                (read.enabled, read.mutable, read.per_session),
                (enabled, mutable, per_session),
                "{yaml}"
            );
        }
        let twice = Settings::read("kairos_meta_skills: [a, b]\nkairos_meta_skills: [a]\n");
        assert_eq!(twice.fallback.allowed.unwrap(), ["a"]);
    }
}
