//! Layered configuration: built-in values, the reference's files, our file, the environment, arguments.
//!
//! Owns the whole list of settings ([`Settings`]) and resolves it once. Every value is checked in the layer that
//! gives it, so an error names the exact place, and every value remembers its [`Source`]. Nothing here writes.

pub(crate) mod edit;
mod error;
mod example;
mod file;
mod layer;
mod rule;
mod settings;
mod value;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

pub use self::error::{ConfigError, Problem};
pub use self::example::example;
pub use self::layer::{Layer, Source};
pub use self::settings::{
    Acquire, Anchors, Client, Http, Identity, Limits, Log, Meeting, Metrics, P2p, Place, Sessions,
    Settings, Storage,
};
pub use self::value::{AnchorBackend, Backend, LogFormat, Period, ProxyHeader, Size, Strength};

pub(crate) use self::file::OWN as OWN_FILE;

use self::layer::Reading;

/// What variables of settings begin with.
const PREFIX: &str = "KAIROS_";

/// Variables that begin like ours but say something else: where the data directory is, or, in the reference,
/// how its server, its workers and its tests run.
const NOT_SETTINGS: [&str; 19] = [
    "KAIROS_AGENT_WORKER_CMD",
    "KAIROS_ALLOW_OPEN_ENDPOINT",
    "KAIROS_CONFIDENTIALITY_GUARD",
    "KAIROS_DATA_DIR",
    "KAIROS_DEV_MODE",
    "KAIROS_ENV",
    "KAIROS_ERASURE_ONLY",
    "KAIROS_ERASURE_ROUNDS",
    "KAIROS_HARNESS",
    "KAIROS_HOOK_CONFIG_ROOT",
    "KAIROS_PROJECTION_MODE",
    "KAIROS_PROJECT_ROOT",
    "KAIROS_READABLE_GATE_SCRIPT",
    "KAIROS_SANDBOX_FALLBACK",
    "KAIROS_SERVER_LIB",
    "KAIROS_SESSION_SECRET",
    "KAIROS_TEST_CLOCK_SHIFT",
    "KAIROS_TEST_FORCE_REVIEW",
    "KAIROS_WORKSPACE",
];
/// What further variables of the reference begin with.
const NOT_SETTINGS_PREFIX: &str = "KAIROS_SKILLSET_PIN_";

/// The resolved settings and where each value comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Every setting, within its bounds.
    pub settings: Settings,
    /// The source of each key that is not built-in.
    pub sources: BTreeMap<String, Source>,
}

/// One setting as `config show` lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `group.field`.
    pub key: &'static str,
    /// The value as it would stand in the file.
    pub value: Value,
    /// Where the value comes from.
    pub source: Source,
    /// What the setting means.
    pub doc: String,
}

impl Row {
    /// The value on one line of YAML.
    pub fn value_text(&self) -> String {
        example::yaml(&self.value)
    }
}

impl Loaded {
    /// Every setting in the order of the example.
    pub fn rows(&self) -> Vec<Row> {
        let row = |(key, value): (&settings::Key, Value)| Row {
            key: key.name,
            value,
            source: self
                .sources
                .get(key.name)
                .cloned()
                .unwrap_or(Source::BUILT_IN),
            doc: key
                .doc
                .iter()
                .map(|line| line.trim())
                .collect::<Vec<_>>()
                .join(" "),
        };
        self.settings
            .values()
            .map(|(key, value)| row((key, value)))
            .collect()
    }
}

/// Resolves the settings of the data directory `data_dir`.
///
/// `env` may hold any variables; those that do not begin with `KAIROS_`, and empty ones, are ignored. `args` are
/// keys with the text of their values; of one key given twice the last counts. Files that do not exist say nothing.
///
/// # Errors
///
/// Lists every unknown key with the nearest known one, every value that is not accepted, every file that cannot
/// be read or is not YAML, with file and line, and limits that contradict each other.
pub fn load(
    data_dir: &Path,
    env: impl Iterator<Item = (String, String)>,
    args: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let layers = [
        file::reference(data_dir),
        file::own(data_dir),
        environment(env),
        arguments(args),
    ];
    let mut sources = BTreeMap::new();
    let mut problems = Vec::new();
    let mut builder = config::Config::builder();
    for mut layer in layers {
        problems.append(&mut layer.problems);
        sources.extend(
            layer
                .values
                .iter()
                .map(|(key, (_, at))| ((*key).to_owned(), at.clone())),
        );
        builder = builder.add_source(layer);
    }
    let merged = builder
        .build()
        .and_then(config::Config::try_deserialize::<Settings>);
    match merged {
        Ok(settings) => {
            problems.extend(contradictions(&settings));
            if problems.is_empty() {
                return Ok(Loaded { settings, sources });
            }
        }
        Err(error) => problems.push(error.into()),
    }
    Err(ConfigError::new(problems))
}

fn environment(env: impl Iterator<Item = (String, String)>) -> Reading {
    let mut reading = Reading::default();
    let ours = env.filter(|(name, text)| {
        name.starts_with(PREFIX)
            && !text.is_empty()
            && !NOT_SETTINGS.contains(&name.as_str())
            && !name.starts_with(NOT_SETTINGS_PREFIX)
    });
    for (name, text) in ours {
        let at = Source {
            layer: Layer::Environment,
            origin: Some(format!("variable {name}")),
        };
        reading.take_named(&name, variable, |key| (key.from_text)(&text), at);
    }
    reading
}

fn arguments(args: &[(String, String)]) -> Reading {
    let mut reading = Reading::default();
    for (name, text) in args {
        reading.take_named(
            name,
            str::to_owned,
            |key| (key.from_text)(text),
            Source::ARGUMENT,
        );
    }
    reading
}

/// The variable for a key: `KAIROS_HTTP__PORT` for `http.port`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

fn contradictions(settings: &Settings) -> Vec<Problem> {
    let value = |wanted: &str| {
        let found = settings.values().find(|(key, _)| key.name == wanted);
        found
            .map(|(_, value)| example::yaml(&value))
            .unwrap_or_default()
    };
    settings
        .contradictions()
        .map(|(small, large)| Problem::Contradiction {
            small,
            small_is: value(small),
            large,
            large_is: value(large),
        })
        .collect()
}

#[cfg(test)]
mod tests;
