//! Main texts of knowledge and contexts, read as the reference's manifest reads them.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use crate::hash::ContentHash;
use crate::skill::frontmatter::{self, Reading};

/// What is known of one entry of L1: a directory with a main text.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The name of the directory.
    pub dir: String,
    /// The hash of the main text.
    pub hash: ContentHash,
    /// What its frontmatter says, or why that cannot be read.
    pub head: Result<Head, String>,
}

/// A context of L2 has the same form.
pub type Context = Entry;

/// The members of a frontmatter that manifests hold, typed as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The name it gives itself, else that of its directory.
    pub name: String,
    /// Null if not given.
    pub description: Value,
    /// Null if not given.
    pub version: Value,
    /// An empty list if not given.
    pub tags: Value,
}

/// An archived entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Archived {
    /// The name it gives itself, else that of its directory.
    pub name: Result<String, String>,
    /// When it was archived, as its sidecar says.
    pub archived_at: Value,
    /// The hash of its main text at that time, as its sidecar says.
    pub content_hash: Value,
}

impl Entry {
    /// Reads the main text of the directory `dir`.
    pub fn read(dir: &str, text: &[u8]) -> Self {
        Self {
            dir: dir.to_owned(),
            hash: ContentHash::of(text),
            head: head(dir, text),
        }
    }
}

impl Archived {
    /// Reads an archived entry from its main text and its sidecar, where there are any.
    pub fn read(dir: &str, text: Option<&[u8]>, sidecar: Option<&[u8]>) -> Self {
        let mut name = match text {
            None => Ok(dir.to_owned()),
            Some(text) => head(dir, text).map(|head| head.name),
        };
        let sidecar = sidecar.map(|bytes| match std::str::from_utf8(bytes) {
            Err(_) => Err("the archive's sidecar is not UTF-8".to_owned()),
            Ok(text) => members(text, "the archive's sidecar"),
        });
        let sidecar = match sidecar.transpose() {
            Ok(members) => members.unwrap_or_default(),
            Err(reason) => {
                name = Err(reason);
                Map::new()
            }
        };
        let member = |key| sidecar.get(key).cloned().unwrap_or_default();
        Self {
            name,
            archived_at: member("archived_at"),
            content_hash: member("content_hash"),
        }
    }
}

fn head(dir: &str, text: &[u8]) -> Result<Head, String> {
    /// The reference's own expression: a block of at least one character between two lines `---`.
    static BLOCK: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?s)\A---\r?\n(.+?)\r?\n---\r?\n").ok());
    let text = std::str::from_utf8(text)
        .map_err(|error| format!("the text is not UTF-8 at byte {}", error.valid_up_to()))?;
    let block = BLOCK.as_ref().and_then(|block| block.captures(text));
    let block = block.and_then(|found| Some(found.get(1)?.as_str()));
    let mut members = match block {
        None => Map::new(),
        Some(block) => members(block, "the frontmatter")?,
    };
    // What Ruby takes for false counts as not given.
    let mut take = |key| {
        let given = members.shift_remove(key).unwrap_or_default();
        if given == Value::Bool(false) {
            Value::Null
        } else {
            given
        }
    };
    let name = match take("name") {
        Value::Null => dir.to_owned(),
        Value::String(name) => name,
        other => {
            let kind = crate::json::kind(&other);
            return Err(format!(
                "`name` in the frontmatter is {kind}, a string is expected"
            ));
        }
    };
    let tags = match take("tags") {
        Value::Null => Value::Array(Vec::new()),
        tags => tags,
    };
    Ok(Head {
        name,
        tags,
        description: members.shift_remove("description").unwrap_or_default(),
        version: members.shift_remove("version").unwrap_or_default(),
    })
}

fn members(block: &str, what: &str) -> Result<Map<String, Value>, String> {
    match frontmatter::read(block) {
        Reading::Mapping(members) => Ok(members),
        Reading::Empty => Ok(Map::new()),
        Reading::Other(found) => Err(format!("{what} is {found}, a mapping is expected")),
        Reading::Unreadable => Err(format!("{what} is not valid YAML")),
    }
}
