//! What a SkillSet is: its layer, its name, its `skillset.json`, and the hash over its files.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::hash::ContentHash;
use crate::id::{SKILL_SET_NAME_MAX, SkillSetName};
use crate::json;

mod metadata;

pub use metadata::{Dependency, METADATA_FILE, METADATA_MAX, MetadataError, SkillSetMetadata};

/// How deep a change reaches: `L0` rules the agent, `L1` is its shared knowledge, `L2` is one session's context.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Layer {
    /// Rules of the agent; changes need a human and are recorded with every file hash.
    L0,
    /// Knowledge; changes are recorded by hash.
    L1,
    /// Context; changes are not recorded.
    L2,
}

/// The text names no layer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Invalid layer '{}': must be L0, L1 or L2", .0.chars().take(64).collect::<String>())]
pub struct LayerError(String);

impl Layer {
    /// `L0`, `L1` or `L2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L2 => "L2",
        }
    }
}

impl FromStr for Layer {
    type Err = LayerError;

    fn from_str(text: &str) -> Result<Self, LayerError> {
        match text {
            "L0" => Ok(Self::L0),
            "L1" => Ok(Self::L1),
            "L2" => Ok(Self::L2),
            other => Err(LayerError(other.to_owned())),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not the name of a SkillSet, in the words of the reference.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// No character at all.
    #[error("SkillSet name cannot be empty")]
    Empty,
    /// More than [`SKILL_SET_NAME_MAX`] characters.
    #[error("SkillSet name too long (max {SKILL_SET_NAME_MAX}): {0}")]
    TooLong(String),
    /// A character outside the set, or a name that some system cannot create.
    #[error("Invalid SkillSet name '{0}': must match \\A[a-zA-Z0-9][a-zA-Z0-9_-]*\\z")]
    Invalid(String),
}

/// Reads the name of a SkillSet. Over-long names are quoted cut to four times the limit.
pub fn parse_name(text: &str) -> Result<SkillSetName, NameError> {
    let quoted = || text.chars().take(4 * SKILL_SET_NAME_MAX).collect();
    if text.is_empty() {
        Err(NameError::Empty)
    } else if text.chars().count() > SKILL_SET_NAME_MAX {
        Err(NameError::TooLong(quoted()))
    } else {
        text.parse().map_err(|_| NameError::Invalid(quoted()))
    }
}

/// Whether the file at `path` is part of the content hash: neither it nor a directory above it is a dot-file.
pub fn is_content(path: &str) -> bool {
    !path.split('/').any(|part| part.starts_with('.'))
}

/// The hash over a whole SkillSet: SHA-256 of the compact JSON object of its paths and file hashes, sorted by path.
///
/// Takes each file's `/`-separated path below the root. Dot-files are left out ([`is_content`]); modes, times and
/// the order of `files` play no part.
pub fn content_hash<'p>(files: impl IntoIterator<Item = (&'p str, ContentHash)>) -> ContentHash {
    let members: Map<String, Value> = files
        .into_iter()
        .filter(|(path, _)| is_content(path))
        .map(|(path, hash)| (path.to_owned(), hash.to_hex().into()))
        .collect();
    ContentHash::of(json::canonical(&members.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(files: &[(&str, &[u8])], expected: &str) {
        let hashed = files
            .iter()
            .map(|(path, bytes)| (*path, ContentHash::of(bytes)));
        assert_eq!(content_hash(hashed.clone()).to_hex(), expected);
        assert_eq!(content_hash(hashed.rev()).to_hex(), expected);
    }

    #[test]
    fn hashes_as_the_reference_does() {
        check(
            &[
                ("skillset.json", br#"{"name":"vec1","version":"1.0.0"}"#),
                ("knowledge/topic_a/topic_a.md", b"# A\n"),
            ],
            "cf6830ea04c4a80c51c55638099f4b884fe488d5c2db3c5b266e817d0e2999e1",
        );
        check(
            &[
                (
                    "skillset.json",
                    b"{\n  \"name\": \"vec2\",\n  \"version\": \"0.1.0\",\n  \"layer\": \"L2\"\n}\n",
                ),
                ("knowledge/a.md", b"x"),
                ("knowledge/a/b.md", b"\r\nCRLF\r\n"),
                ("knowledge/a-b.md", b"dash"),
                ("knowledge/Z.md", b"upper"),
                ("knowledge/café.md", "café\n".as_bytes()),
                ("knowledge/q\"uote.md", b"q"),
                ("knowledge/empty.md", b""),
                ("knowledge/bin.dat", b"\x00\xff\xfe\n"),
                (".hidden", b"left out"),
                ("knowledge/.DS_Store", b"left out"),
                (".git/config", b"left out"),
            ],
            "e366fa82d335c310791a0d2e696d7f498013cdef8d4458a2fcb23a229c004284",
        );
    }

    #[test]
    fn hashes_the_recorded_set() {
        let vector = include_str!("../tests/fixtures/skillset-content-hash.json");
        let vector = json::parse(vector.as_bytes()).unwrap();
        let files: Vec<(&str, &[u8])> = vector["files"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str().unwrap().as_bytes()))
            .collect();
        check(&files, vector["content_hash"].as_str().unwrap());
        assert_eq!(
            ContentHash::of(vector["preimage"].as_str().unwrap()).to_hex(),
            vector["content_hash"]
        );
    }

    #[test]
    fn a_bad_name_is_refused_in_the_words_of_the_reference() {
        let long = "a".repeat(65);
        for (name, text) in [
            ("", "SkillSet name cannot be empty".to_owned()),
            (
                long.as_str(),
                format!("SkillSet name too long (max 64): {long}"),
            ),
            (
                "bad name!",
                "Invalid SkillSet name 'bad name!': must match \\A[a-zA-Z0-9][a-zA-Z0-9_-]*\\z"
                    .to_owned(),
            ),
            (
                "a\n",
                "Invalid SkillSet name 'a\n': must match \\A[a-zA-Z0-9][a-zA-Z0-9_-]*\\z"
                    .to_owned(),
            ),
        ] {
            assert_eq!(parse_name(name).unwrap_err().to_string(), text);
        }
        assert!(parse_name("con").is_err());
        assert!(parse_name(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn knows_three_layers() {
        for layer in [Layer::L0, Layer::L1, Layer::L2] {
            assert_eq!(layer.to_string().parse(), Ok(layer));
        }
        assert_eq!(
            "L9".parse::<Layer>().unwrap_err().to_string(),
            "Invalid layer 'L9': must be L0, L1 or L2"
        );
    }

    proptest! {
        #[test]
        fn a_changed_byte_changes_the_hash(
            files in prop::collection::btree_map("[a-c]{1,3}(/[a-c]{1,3})?", any::<u8>(), 1..6),
            pick in any::<prop::sample::Index>(),
        ) {
            let hash = |files: &std::collections::BTreeMap<String, u8>| {
                content_hash(files.iter().map(|(path, byte)| (path.as_str(), ContentHash::of([*byte]))))
            };
            let mut changed = files.clone();
            let path = files.keys().nth(pick.index(files.len())).unwrap();
            changed.entry(path.clone()).and_modify(|byte| *byte ^= 1);
            prop_assert_ne!(hash(&files), hash(&changed));
        }
    }
}
