//! Extensions of the protocol, as data: what they are called, which actions they name, and what they need.
//!
//! An extension is a Markdown text with frontmatter, as the reference writes them. Nothing in one is ever run, and an
//! action of one has no handler here: it is known, advertised, and answered as an action without a handler. [`Guard`]
//! says whether one may be adopted at all, [`load()`] puts those that are adopted in their order, and [`Registry`] keeps
//! what became of each; it adopts nothing without a person's consent to exactly this text.
//!
//! | the reference | here |
//! |---|---|
//! | any text is a name, and names become paths | a name is one word of small letters |
//! | a later file may take an action of the core, if it is loaded first | the core's names and actions are its own, always |
//! | whoever sends a text may call it part of the core | `bootstrap`, `immutable` and layers other than L2 are refused |
//! | collisions of actions are a warning in a log | they keep an extension from being adopted, and name the other one |
//! | adopting writes a file where nothing looks for it | the registry is what is loaded |
//! | the only state is `adopted` | [`State`], and every step between two is in one table |
//! | adopting takes no one's word | [`Consent`], bound to the hash of the text |
//! | members that name code are left aside | they are refused |

mod guard;
mod load;
mod registry;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::hash::ContentHash;
use crate::skill::Skill;
use crate::version::Version;

pub use self::guard::{CORE_ACTIONS, Guard, Rejection};
pub use self::load::{Collision, Loaded, load};
pub use self::registry::{Consent, ENTRIES_MAX, Entry, Registry, RegistryError, State, Step};

/// Longest text of an extension, in bytes.
pub const TEXT_MAX: usize = 100_000;
/// Most actions of one extension.
pub const ACTIONS_MAX: usize = 20;
/// Most extensions that one needs.
pub const REQUIRES_MAX: usize = 32;
/// Longest description, in characters; what is longer is refused.
pub const DESCRIPTION_MAX: usize = 1_000;
/// Longest word.
const WORD_MAX: usize = 64;
/// Members that would name something to be run. The reference knows none of them, and an extension has no code.
const CODE: [&str; 12] = [
    "code",
    "command",
    "entrypoint",
    "execute",
    "handler",
    "handlers",
    "hooks",
    "lifecycle_hooks",
    "plugin",
    "script",
    "scripts",
    "tool_classes",
];
/// What the reference's own definition is called.
pub const CORE: &str = "meeting_protocol_core";

/// The name of an extension or of an action: a small letter, then small letters, digits and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Word(String);

impl Word {
    /// The name as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{shown}` is no name: write a small letter, then small letters, digits and `_`, {WORD_MAX} at most"
)]
pub struct WordError {
    shown: String,
}

impl FromStr for Word {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let good = text.len() <= WORD_MAX
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(rest);
        match good {
            true => Ok(Self(text.to_owned())),
            false => Err(WordError {
                shown: text
                    .chars()
                    .take(WORD_MAX)
                    .flat_map(char::escape_debug)
                    .collect(),
            }),
        }
    }
}

impl TryFrom<String> for Word {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        text.parse()
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.0
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a text says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `protocol_definition`: part of what the protocol is.
    Definition,
    /// `protocol_extension`
    Extension,
}

/// An extension, as its frontmatter declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// What it is called.
    pub name: Word,
    /// Whether it defines or extends.
    pub kind: Kind,
    /// Its version.
    pub version: Version,
    /// The layer it says it belongs to.
    pub layer: String,
    /// Whether it says that it must be loaded before others.
    pub bootstrap: bool,
    /// Whether it says that it never changes.
    pub immutable: bool,
    /// The actions it names, in its order, each once.
    pub actions: Vec<Word>,
    /// What it extends.
    pub extends: Option<Word>,
    /// The extensions it needs.
    pub requires: Vec<Word>,
    /// What it is for.
    pub description: String,
    /// The hash of its text.
    pub content_hash: ContentHash,
}

/// Why a text declares no extension.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExtensionError {
    /// It is too long.
    #[error("an extension has {TEXT_MAX} bytes at most, this one {0}")]
    TooLong(usize),
    /// It has no frontmatter that can be read.
    #[error(
        "the text has no frontmatter that can be read; begin it with `---`, `name:` and `type:`"
    )]
    NoFrontmatter,
    /// A member is missing, or of another kind than it must be.
    #[error("`{member}` must be {expected}")]
    Member {
        /// Which.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// It names something to be run.
    #[error("`{member}` names something to be run, and an extension has no code; leave it out")]
    Code {
        /// Which member.
        member: &'static str,
    },
    /// A name that is none.
    #[error("`{member}`: {source}")]
    Name {
        /// Where.
        member: &'static str,
        /// What is wrong with it.
        source: WordError,
    },
    /// More entries than there may be.
    #[error("`{member}` has more than {most} entries")]
    TooMany {
        /// Which list.
        member: &'static str,
        /// How many there may be.
        most: usize,
    },
}

impl Extension {
    /// Reads a text. Members that the reference does not know are left aside, as it does, but for those that name code.
    ///
    /// ```
    /// use kairos_protocol::wire::extension::Extension;
    ///
    /// let text = "---\nname: weather\ntype: protocol_extension\nactions: [ask_weather]\n---\n\nHow to ask.\n";
    /// let extension = Extension::read(text)?;
    /// assert_eq!(extension.name.as_str(), "weather");
    /// assert_eq!(extension.actions.len(), 1);
    /// # Ok::<(), kairos_protocol::wire::extension::ExtensionError>(())
    /// ```
    pub fn read(text: &str) -> Result<Self, ExtensionError> {
        if text.len() > TEXT_MAX {
            return Err(ExtensionError::TooLong(text.len()));
        }
        let members = Skill::members(text).ok_or(ExtensionError::NoFrontmatter)?;
        if let Some(member) = CODE.into_iter().find(|code| members.contains_key(*code)) {
            return Err(ExtensionError::Code { member });
        }
        let expected = |member, expected| ExtensionError::Member { member, expected };
        let name = word(&members, "name")?.ok_or(expected("name", "a name"))?;
        let kind = match members.get("type").and_then(Value::as_str) {
            Some("protocol_definition") => Kind::Definition,
            Some("protocol_extension") => Kind::Extension,
            _ => {
                let forms = "protocol_extension or protocol_definition";
                return Err(expected("type", forms));
            }
        };
        let version = match members.get("version") {
            None | Some(Value::Null) => "1.0.0".to_owned(),
            Some(Value::String(version)) => version.clone(),
            Some(Value::Number(version)) => version.to_string(),
            Some(_) => return Err(expected("version", "a version")),
        };
        let version = Version::from_str(&version).map_err(|_| expected("version", "a version"))?;
        let description = text_of(&members, "description")?.unwrap_or_default();
        if description.chars().count() > DESCRIPTION_MAX {
            return Err(expected("description", "a thousand characters at most"));
        }
        Ok(Self {
            name,
            kind,
            version,
            layer: text_of(&members, "layer")?.unwrap_or_else(|| "L2".to_owned()),
            bootstrap: flag(&members, "bootstrap")?,
            immutable: flag(&members, "immutable")?,
            actions: words(&members, "actions", ACTIONS_MAX)?,
            extends: word(&members, "extends")?,
            requires: words(&members, "requires", REQUIRES_MAX)?,
            description,
            content_hash: ContentHash::of(text),
        })
    }
}

fn text_of(
    members: &Map<String, Value>,
    member: &'static str,
) -> Result<Option<String>, ExtensionError> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ExtensionError::Member {
            member,
            expected: "a text",
        }),
    }
}

fn flag(members: &Map<String, Value>, member: &'static str) -> Result<bool, ExtensionError> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(ExtensionError::Member {
            member,
            expected: "true or false",
        }),
    }
}

fn word(
    members: &Map<String, Value>,
    member: &'static str,
) -> Result<Option<Word>, ExtensionError> {
    let text = text_of(members, member)?;
    let word = text.map(|text| text.parse()).transpose();
    word.map_err(|source| ExtensionError::Name { member, source })
}

fn words(
    members: &Map<String, Value>,
    member: &'static str,
    most: usize,
) -> Result<Vec<Word>, ExtensionError> {
    let listed = match members.get(member) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(listed)) => listed,
        Some(_) => {
            return Err(ExtensionError::Member {
                member,
                expected: "a list of names",
            });
        }
    };
    if listed.len() > most {
        return Err(ExtensionError::TooMany { member, most });
    }
    let mut words: Vec<Word> = Vec::with_capacity(listed.len());
    for entry in listed {
        let text = entry.as_str().ok_or(ExtensionError::Member {
            member,
            expected: "a list of names",
        })?;
        let word =
            Word::from_str(text).map_err(|source| ExtensionError::Name { member, source })?;
        if !words.contains(&word) {
            words.push(word);
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests;
