//! `skillset.json`: what a SkillSet says about itself.

use serde_json::{Map, Value};
use thiserror::Error;

use super::{Layer, LayerError, NameError, parse_name};
use crate::id::SkillSetName;
use crate::json::{self, JsonError};
use crate::version::{Requirement, RequirementError};

/// The name of the file in the root of a SkillSet.
pub const METADATA_FILE: &str = "skillset.json";
/// Largest `skillset.json` read, in bytes.
pub const METADATA_MAX: usize = 64 * 1024;

/// Keys whose content some version of the reference loads, calls or projects into the host.
const EXECUTING_KEYS: [&str; 7] = [
    "tool_classes",
    "place_extensions",
    "plugin",
    "lifecycle_hooks",
    "activation_hook",
    "entry_point",
    "gem_dependencies",
];

/// The parsed `skillset.json`. Keys that are not listed here are left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillSetMetadata {
    /// The name, which is also that of the directory it is installed in.
    pub name: SkillSetName,
    /// The version as written; not blank, but not necessarily a [`Version`](crate::version::Version).
    pub version: String,
    /// One sentence for people, or nothing.
    pub description: String,
    /// Who wrote it, in their own words.
    pub author: String,
    /// The layer it asks for; `L1` when it does not say.
    pub layer: Layer,
    /// What must be installed and enabled first.
    pub depends_on: Vec<Dependency>,
    /// Labels for what it offers.
    pub provides: Vec<String>,
    /// Classes that the reference instantiates as tools.
    pub tool_classes: Vec<String>,
    /// Files that an upgrade keeps.
    pub config_files: Vec<String>,
    /// Directories with knowledge.
    pub knowledge_dirs: Vec<String>,
    /// Whether its knowledge is searched; by default it is for `L0` and `L1`.
    pub index_knowledge: bool,
    /// The oldest version of the system it runs on.
    pub min_core_version: Option<String>,
    executes: Vec<&'static str>,
}

/// One entry of `depends_on`: `"mmp"` or `{"name": "mmp", "version": ">= 1.0.0"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The SkillSet needed.
    pub name: SkillSetName,
    /// The requirement as written; see [`Self::requirement`].
    pub version: Option<String>,
}

impl Dependency {
    /// The versions that satisfy this dependency; everything when it does not say.
    ///
    /// Read only when it matters, as the reference does: an ill-formed requirement does not hide the SkillSet.
    pub fn requirement(&self) -> Result<Requirement, RequirementError> {
        self.version.as_deref().unwrap_or_default().parse()
    }
}

/// Why bytes are not a `skillset.json`.
#[derive(Debug, Error)]
pub enum MetadataError {
    /// More than [`METADATA_MAX`] bytes.
    #[error("Invalid skillset.json: larger than {METADATA_MAX} bytes")]
    TooLarge,
    /// Not a JSON object.
    #[error("Invalid skillset.json: {0}")]
    Json(#[from] JsonError),
    /// Name or version is absent or blank.
    #[error("Invalid SkillSet: missing required fields")]
    MissingFields,
    /// The name is not acceptable.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The layer is unknown.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A key holds a value of another kind.
    #[error("Invalid skillset.json: `{key}` is {found}, {expected} is expected")]
    Kind {
        /// The key.
        key: &'static str,
        /// What was found.
        found: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
}

impl SkillSetMetadata {
    /// Reads `skillset.json`. A key that is `null` counts as absent.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        if bytes.len() > METADATA_MAX {
            return Err(MetadataError::TooLarge);
        }
        let mut members = json::parse_object(bytes)?;
        members.retain(|_, value| !value.is_null());
        let name = text(&members, "name")?.unwrap_or_default();
        let version = version(&members)?.unwrap_or_default();
        if name.trim().is_empty() || version.trim().is_empty() {
            return Err(MetadataError::MissingFields);
        }
        let layer = match text(&members, "layer")? {
            Some(layer) => layer.parse()?,
            None => Layer::L1,
        };
        Ok(Self {
            name: parse_name(&name)?,
            version,
            description: text(&members, "description")?.unwrap_or_default(),
            author: text(&members, "author")?.unwrap_or_default(),
            layer,
            depends_on: dependencies(&members)?,
            provides: list(&members, "provides")?,
            tool_classes: list(&members, "tool_classes")?,
            config_files: list(&members, "config_files")?,
            knowledge_dirs: list(&members, "knowledge_dirs")?,
            index_knowledge: flag(&members, "index_knowledge")?.unwrap_or(layer != Layer::L2),
            min_core_version: text(&members, "min_core_version")?,
            executes: EXECUTING_KEYS
                .into_iter()
                .filter(|key| members.get(*key).is_some_and(is_set))
                .collect(),
        })
    }

    /// The keys that make a host run something. Knowledge has none.
    pub fn executes(&self) -> &[&'static str] {
        &self.executes
    }
}

/// Whether a value says anything: not `false`, not empty.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

type Members = Map<String, Value>;

fn mismatch(key: &'static str, value: &Value, expected: &'static str) -> MetadataError {
    let found = json::kind(value);
    MetadataError::Kind {
        key,
        found,
        expected,
    }
}

fn text(members: &Members, key: &'static str) -> Result<Option<String>, MetadataError> {
    match members.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(mismatch(key, other, "a string")),
    }
}

fn flag(members: &Members, key: &'static str) -> Result<Option<bool>, MetadataError> {
    match members.get(key) {
        None => Ok(None),
        Some(Value::Bool(yes)) => Ok(Some(*yes)),
        Some(other) => Err(mismatch(key, other, "a boolean")),
    }
}

/// The version; a number is taken for its digits, as the reference does.
fn version(members: &Members) -> Result<Option<String>, MetadataError> {
    match members.get("version") {
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        _ => text(members, "version"),
    }
}

fn items<'m>(members: &'m Members, key: &'static str) -> Result<&'m [Value], MetadataError> {
    match members.get(key) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(mismatch(key, other, "a list")),
    }
}

fn list(members: &Members, key: &'static str) -> Result<Vec<String>, MetadataError> {
    items(members, key)?
        .iter()
        .map(|item| match item {
            Value::String(text) => Ok(text.clone()),
            other => Err(mismatch(key, other, "a list of strings")),
        })
        .collect()
}

fn dependencies(members: &Members) -> Result<Vec<Dependency>, MetadataError> {
    const KEY: &str = "depends_on";
    const EXPECTED: &str = "a list of names or of objects with `name` and `version`";
    let dependency = |item: &Value| {
        let (name, version) = match item {
            Value::String(name) => (Some(name), None),
            Value::Object(members) => {
                let version = match members.get("version") {
                    None | Some(Value::Null) => None,
                    Some(Value::String(version)) => Some(version.clone()),
                    Some(other) => return Err(mismatch(KEY, other, EXPECTED)),
                };
                match members.get("name") {
                    Some(Value::String(name)) => (Some(name), version),
                    _ => (None, None),
                }
            }
            _ => (None, None),
        };
        let name = name.ok_or_else(|| mismatch(KEY, item, EXPECTED))?;
        let name = parse_name(name)?;
        Ok(Dependency { name, version })
    };
    items(members, KEY)?.iter().map(dependency).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<SkillSetMetadata, MetadataError> {
        SkillSetMetadata::parse(text.as_bytes())
    }

    #[test]
    fn reads_every_key() {
        let metadata = parse(
            r#"{"name":"kp","version":"1.2.0","description":"Pack","author":"Me","layer":"L2",
                "depends_on":["mmp",{"name":"hestia","version":">= 1.0, < 2"}],"provides":["p1"],
                "tool_classes":[],"config_files":["config/a.yml"],"knowledge_dirs":["knowledge/t"],
                "index_knowledge":true,"min_core_version":"3.0.0","x_future":{"a":1}}"#,
        )
        .unwrap();
        assert_eq!(metadata.name.as_str(), "kp");
        assert_eq!(metadata.layer, Layer::L2);
        assert!(metadata.index_knowledge && metadata.executes().is_empty());
        let [mmp, hestia] = metadata.depends_on.as_slice() else {
            panic!("two dependencies")
        };
        let version = "1.5".parse().unwrap();
        assert!(mmp.requirement().unwrap().allows(&version));
        assert_eq!(hestia.version.as_deref(), Some(">= 1.0, < 2"));
        assert!(hestia.requirement().unwrap().allows(&version));
    }

    #[test]
    fn what_is_not_said_has_the_default_of_the_reference() {
        let metadata = parse(r#"{"name":"kp","version":1.5,"author":null}"#).unwrap();
        assert_eq!(
            (metadata.version.as_str(), metadata.layer),
            ("1.5", Layer::L1)
        );
        assert!(metadata.index_knowledge && metadata.depends_on.is_empty());
        let l2 = parse(r#"{"name":"kp","version":"1","layer":"L2"}"#).unwrap();
        assert!(!l2.index_knowledge);
    }

    #[test]
    fn names_the_keys_that_execute() {
        for (member, executes) in [
            (r#""tool_classes":["A"]"#, &["tool_classes"][..]),
            (
                r#""place_extensions":[{"file":"x.md"}]"#,
                &["place_extensions"],
            ),
            (
                r#""plugin":{"hooks":"x"},"entry_point":"a""#,
                &["plugin", "entry_point"],
            ),
            (r#""lifecycle_hooks":{"on_load":"x"}"#, &["lifecycle_hooks"]),
            (r#""activation_hook":true"#, &["activation_hook"]),
            (r#""gem_dependencies":["rake"]"#, &["gem_dependencies"]),
            (
                r#""plugin":{},"activation_hook":null,"entry_point":"","tool_classes":[],"gem_dependencies":false"#,
                &[],
            ),
        ] {
            let metadata = parse(&format!(r#"{{"name":"kp","version":"1",{member}}}"#)).unwrap();
            assert_eq!(metadata.executes(), executes, "{member}");
        }
    }

    #[test]
    fn refuses_in_words_that_name_the_key() {
        for (text, error) in [
            ("{}", "Invalid SkillSet: missing required fields"),
            (
                r#"{"name":"kp","version":" "}"#,
                "Invalid SkillSet: missing required fields",
            ),
            (
                r#"{"name":null,"version":"1"}"#,
                "Invalid SkillSet: missing required fields",
            ),
            (
                r#"{"name":"../x","version":"1"}"#,
                "Invalid SkillSet name '../x': must match \\A[a-zA-Z0-9][a-zA-Z0-9_-]*\\z",
            ),
            (
                r#"{"name":5,"version":"1"}"#,
                "Invalid skillset.json: `name` is a number, a string is expected",
            ),
            (
                r#"{"name":"kp","version":["1"]}"#,
                "Invalid skillset.json: `version` is an array, a string is expected",
            ),
            (
                r#"{"name":"kp","version":"1","layer":"L9"}"#,
                "Invalid layer 'L9': must be L0, L1 or L2",
            ),
            (
                r#"{"name":"kp","version":"1","provides":[1]}"#,
                "Invalid skillset.json: `provides` is a number, a list of strings is expected",
            ),
            (
                r#"{"name":"kp","version":"1","depends_on":"mmp"}"#,
                "Invalid skillset.json: `depends_on` is a string, a list is expected",
            ),
            (
                "[]",
                "Invalid skillset.json: the JSON is an array, an object is expected",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), error);
        }
        for broken in [
            "{nope",
            r#"{"name":"kp","version":"1","depends_on":[{"version":"1"}]}"#,
            r#"{"name":"kp","version":"1","depends_on":["../x"]}"#,
        ] {
            assert!(parse(broken).is_err());
        }
        assert!(matches!(
            parse(&" ".repeat(METADATA_MAX + 1)),
            Err(MetadataError::TooLarge)
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = SkillSetMetadata::parse(&bytes);
        }

        #[test]
        fn no_member_makes_the_parser_panic(key in prop::sample::select(&EXECUTING_KEYS[..]), value in ".{0,20}") {
            let text = serde_json::json!({"name": "kp", "version": "1", "depends_on": [value], key: value});
            let _ = parse(&text.to_string());
        }
    }
}
