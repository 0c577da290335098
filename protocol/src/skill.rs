//! Skills: one Markdown text with an optional YAML frontmatter, as it is listed, offered and packaged.
//!
//! Whether a text is public is decided here and nowhere else, and the decision errs towards private: a
//! frontmatter that cannot be read never publishes what it may have meant to keep.

pub mod agent_skill;
pub mod archive_meta;
pub mod findings;
pub(crate) mod frontmatter;
pub mod outline;

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::hash::ContentHash;
use crate::time::Timestamp;
use crate::wire::listing::SkillEntry;
use frontmatter::Reading;

/// Longest summary in characters when it comes from a `description`.
pub const SUMMARY_MAX: usize = 1024;
/// Longest summary in characters when it is the first line of the text, the bound of the reference.
pub const FIRST_LINE_MAX: usize = 200;
/// Most tags taken from a frontmatter.
pub const TAGS_MAX: usize = 64;

/// The summary of a text that offers none, in the reference's words.
const NO_SUMMARY: &str = "No description available";

/// What the owner configured about the skills of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether a skill that does not say is public. False by default.
    pub public_by_default: bool,
    /// Longest skill in bytes that is listed or served.
    pub max_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            public_by_default: false,
            max_bytes: 100_000,
        }
    }
}

/// Why a file is not a skill that can be offered. Such files are listed for their owner and never served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SkillFault {
    /// Longer than the limit. The reference lists such a skill and fails when it is asked for.
    #[error("the skill has {size} bytes, the limit is {max}")]
    TooLarge {
        /// What was found.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// Not UTF-8.
    #[error("the skill is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// The frontmatter is YAML, but not a mapping.
    #[error("the frontmatter is {found}, a mapping is expected")]
    FrontmatterNotMapping {
        /// What was found instead.
        found: &'static str,
    },
    /// A file name that cannot be shown or asked for.
    #[error("the file name is empty or has control characters")]
    Name,
}

/// What a text is written in. The names are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkillFormat {
    /// Markdown alone.
    Markdown,
    /// Markdown that starts with `---`.
    YamlFrontmatter,
    /// A Ruby file.
    Ruby,
    /// A YAML file.
    Yaml,
}

impl SkillFormat {
    /// The format by file name and, for Markdown, by the first characters.
    pub fn detect(path: &str, text: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        let extension = name.rsplit_once('.').map_or("", |(_, e)| e);
        match extension.to_ascii_lowercase().as_str() {
            "md" | "markdown" if without_bom(text).starts_with("---") => Self::YamlFrontmatter,
            "rb" => Self::Ruby,
            "yml" | "yaml" => Self::Yaml,
            _ => Self::Markdown,
        }
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Markdown => "markdown",
            Self::YamlFrontmatter => "yaml_frontmatter",
            Self::Ruby => "ruby",
            Self::Yaml => "yaml",
        }
    }
}

/// A skill of this node: all that is known of it but the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Skill {
    /// First 16 hex digits of the hash of [`Skill::path`].
    pub id: String,
    /// File name without `.md`; the frontmatter's `name` is not used.
    pub name: String,
    /// Path below the data directory, `/`-separated. Never leaves this node.
    pub path: String,
    /// Whether peers may see it.
    pub public: bool,
    /// One line for people.
    ///
    /// With a frontmatter that has no `description` this is the first line of the *body*; the reference gives the
    /// first line of the frontmatter (`name: x`), visible in its lists. A `description` that is not text is
    /// written as text here; the reference sends it as it is.
    pub summary: String,
    /// The scalars among the frontmatter's `tags`; a single text is split at commas.
    pub tags: Vec<Value>,
    /// Detected format.
    pub format: SkillFormat,
    /// Hash of the bytes.
    pub content_hash: ContentHash,
    /// Number of bytes.
    pub size_bytes: usize,
    /// The frontmatter, if there is one and it can be read.
    pub frontmatter: Option<Map<String, Value>>,
    /// There is a frontmatter, and it cannot be read.
    pub frontmatter_unreadable: bool,
}

impl Skill {
    /// Reads a skill from the bytes of the file at `relative_path` below the data directory.
    pub fn parse(
        relative_path: &str,
        bytes: &[u8],
        options: &ReadOptions,
    ) -> Result<Self, SkillFault> {
        let file = relative_path.rsplit('/').next().unwrap_or(relative_path);
        let name = file.strip_suffix(".md").unwrap_or(file);
        if name.trim().is_empty() || relative_path.chars().any(char::is_control) {
            return Err(SkillFault::Name);
        }
        if bytes.len() > options.max_bytes {
            return Err(SkillFault::TooLarge {
                size: bytes.len(),
                max: options.max_bytes,
            });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| SkillFault::NotUtf8 {
            at: e.valid_up_to(),
        })?;
        let head = Head::read(without_bom(text))?;
        Ok(Self {
            id: Self::id_of(relative_path),
            name: name.to_owned(),
            path: relative_path.to_owned(),
            public: head.public(options.public_by_default),
            summary: head.summary(),
            tags: head.tags(),
            format: SkillFormat::detect(relative_path, text),
            content_hash: ContentHash::of(bytes),
            size_bytes: bytes.len(),
            frontmatter_unreadable: head.unreadable,
            frontmatter: head.members,
        })
    }

    /// The members of the frontmatter; nothing where there is none that is a mapping.
    pub fn members(text: &str) -> Option<Map<String, Value>> {
        match frontmatter::read(frontmatter::split(text)?.block) {
            Reading::Mapping(members) => Some(members),
            Reading::Empty | Reading::Other(_) | Reading::Unreadable => None,
        }
    }

    /// The text behind the frontmatter; all of it where there is none.
    pub fn body(text: &str) -> &str {
        frontmatter::split(text).map_or(text, |parts| parts.body)
    }

    /// The id of a skill at `relative_path` below the data directory.
    pub fn id_of(relative_path: &str) -> String {
        let mut id = ContentHash::of(relative_path).to_hex();
        id.truncate(16);
        id
    }

    /// Whether a peer that asks for `wanted` means this skill.
    pub fn answers_to(&self, wanted: &str) -> bool {
        self.id == wanted || self.name == wanted
    }

    /// The skill as it appears in lists.
    pub fn entry(&self) -> SkillEntry {
        SkillEntry {
            id: self.id.clone(),
            name: self.name.clone(),
            layer: "L1".to_owned(),
            format: SkillFormat::Markdown.as_str().to_owned(),
            summary: self.summary.clone(),
            tags: self.tags.clone(),
            content_hash: self.content_hash.to_hex(),
        }
    }

    /// The `packaged_skill` of a `skill_content` answer. `text` is the text this skill was parsed from.
    pub fn packaged<'a>(&'a self, text: &'a str, now: Timestamp) -> PackagedSkill<'a> {
        PackagedSkill {
            name: &self.name,
            format: self.format,
            content: text,
            content_hash: self.content_hash,
            size_bytes: self.size_bytes,
            frontmatter: self.frontmatter.as_ref(),
            packaged_at: now.wire(),
        }
    }
}

/// The `packaged_skill` member of a `skill_content` answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackagedSkill<'a> {
    name: &'a str,
    format: SkillFormat,
    content: &'a str,
    content_hash: ContentHash,
    size_bytes: usize,
    frontmatter: Option<&'a Map<String, Value>>,
    packaged_at: String,
}

/// A text with its frontmatter read.
struct Head<'a> {
    members: Option<Map<String, Value>>,
    unreadable: bool,
    /// Where a `public` may have been written: the block, or the whole of a text whose block never closes.
    block: &'a str,
    body: &'a str,
}

impl<'a> Head<'a> {
    fn read(text: &'a str) -> Result<Self, SkillFault> {
        let Some(parts) = frontmatter::split(text) else {
            let unclosed = text.starts_with("---");
            return Ok(Self {
                members: None,
                unreadable: false,
                block: if unclosed { text } else { "" },
                body: text,
            });
        };
        let (members, unreadable) = match frontmatter::read(parts.block) {
            Reading::Mapping(members) => (Some(members), false),
            Reading::Empty => (None, false),
            Reading::Unreadable => (None, true),
            Reading::Other(found) => return Err(SkillFault::FrontmatterNotMapping { found }),
        };
        Ok(Self {
            members,
            unreadable,
            block: parts.block,
            body: parts.body,
        })
    }

    fn public(&self, by_default: bool) -> bool {
        match &self.members {
            Some(members) => match members.get("public") {
                None => by_default,
                Some(Value::String(_)) => frontmatter::says_yes(self.block, "public"),
                Some(value) => value == &Value::Bool(true),
            },
            // What cannot be read may have said `public: false`.
            None => by_default && !self.block.contains("public"),
        }
    }

    fn summary(&self) -> String {
        let member = self.members.as_ref().and_then(|m| m.get("description"));
        let text = match member {
            None | Some(Value::Null | Value::Bool(false)) => {
                return first_line(self.body).unwrap_or_else(|| NO_SUMMARY.to_owned());
            }
            Some(Value::String(text)) => return text.chars().take(SUMMARY_MAX).collect(),
            Some(other) => other.to_string(),
        };
        text.chars().take(SUMMARY_MAX).collect()
    }

    fn tags(&self) -> Vec<Value> {
        let member = self.members.as_ref().and_then(|m| m.get("tags"));
        let tags: Vec<Value> = match member {
            Some(Value::String(text)) => {
                let tags = text.split(',').map(str::trim).filter(|t| !t.is_empty());
                tags.take(TAGS_MAX).map(Value::from).collect()
            }
            Some(Value::Array(tags)) => {
                let scalars = tags
                    .iter()
                    .filter(|t| matches!(t, Value::String(_) | Value::Number(_) | Value::Bool(_)));
                scalars.take(TAGS_MAX).cloned().collect()
            }
            _ => Vec::new(),
        };
        tags
    }
}

/// The first line that is neither blank nor a heading, trimmed and cut.
fn first_line(body: &str) -> Option<String> {
    let mut lines = body.lines().map(str::trim);
    let line = lines.find(|l| !l.is_empty() && !l.starts_with('#') && *l != "---")?;
    Some(line.chars().take(FIRST_LINE_MAX).collect())
}

fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
mod tests;
