//! Where a value comes from, and the values that come from one place.

use std::collections::BTreeMap;
use std::fmt;

use config::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Problem;
use super::settings::{Key, keys};

/// The longest part of a wrong value that an error repeats, in characters.
const SHOWN: usize = 60;
/// How like a known key a word must be to be taken for a slip, from 0 to 1.
const ALIKE: f64 = 0.5;

/// The kinds of places a value can come from; a later one wins over an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The program itself.
    BuiltIn,
    /// `skills/config.yml` and the `meeting.yml` of the mmp SkillSet, which the reference reads too.
    Reference,
    /// `config/kairos.yml` in the data directory.
    File,
    /// A `KAIROS_*` variable.
    Environment,
    /// The command line.
    Argument,
}

/// The exact place a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The kind of place.
    pub layer: Layer,
    /// The file and line, or the name of the variable; nothing where the layer says it all.
    pub origin: Option<String>,
}

impl Source {
    pub(super) const BUILT_IN: Source = Source {
        layer: Layer::BuiltIn,
        origin: None,
    };
    pub(super) const ARGUMENT: Source = Source {
        layer: Layer::Argument,
        origin: None,
    };
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, self.layer) {
            (Some(origin), _) => f.write_str(origin),
            (None, Layer::BuiltIn) => f.write_str("built-in"),
            (None, Layer::Reference | Layer::File) => f.write_str("file"),
            (None, Layer::Environment) => f.write_str("environment"),
            (None, Layer::Argument) => f.write_str("argument"),
        }
    }
}

/// The values of one layer and what is wrong with it, while it is read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) values: BTreeMap<&'static str, (Value, Source)>,
    pub(super) problems: Vec<Problem>,
}

impl Reading {
    /// Takes a value if the setting accepts it.
    pub(super) fn take(&mut self, key: &'static Key, value: Value, at: Source) {
        match (key.check)(&value) {
            Ok(()) => {
                self.values.insert(key.name, (value, at));
            }
            Err(wanted) => self.problems.push(Problem::BadValue {
                key: key.name,
                wanted,
                found: value.to_string().chars().take(SHOWN).collect(),
                at,
            }),
        }
    }

    /// Takes a value under the name of a setting written in this layer, which `written` spells.
    pub(super) fn take_named(
        &mut self,
        name: &str,
        written: fn(&str) -> String,
        value: impl FnOnce(&Key) -> Value,
        at: Source,
    ) {
        match keys().find(|key| written(key.name) == name) {
            Some(key) => self.take(key, value(key), at),
            None => self.problems.push(Problem::UnknownKey {
                key: name.chars().take(SHOWN).collect(),
                nearest: nearest(name, written),
                at,
            }),
        }
    }
}

/// The known key most like `name`, if it is at all like it.
fn nearest(name: &str, written: fn(&str) -> String) -> Option<String> {
    let name = name.to_lowercase();
    let like =
        |known: &str| strsim::normalized_damerau_levenshtein(&name, &written(known).to_lowercase());
    let likeness = |key: &Key| like(key.name).max(like(key.field));
    keys()
        .map(|key| (likeness(key), key))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        // Of several that are as much like it, the first one is the one that more people set.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, key)| written(key.name))
}

impl config::Source for Reading {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(Reading {
            values: self.values.clone(),
            problems: Vec::new(),
        })
    }

    fn collect(&self) -> Result<config::Map<String, config::Value>, ConfigError> {
        let convert = |(key, (value, _)): (&&str, &(Value, Source))| {
            let value = config::Value::deserialize(value)
                .map_err(|error| ConfigError::Foreign(Box::new(error)))?;
            Ok(((*key).to_owned(), value))
        };
        self.values.iter().map(convert).collect()
    }
}
