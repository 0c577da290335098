//! What an agent says it has: entries of skill and SkillSet lists, and the answers about one of them.
//!
//! Member order is the reference's. Lists are written by this crate and read leniently: entries of a peer that
//! lack a member are shown without it, entries without an id are dropped.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One public skill, as in `GET /skills`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkillEntry {
    /// 16 hex digits derived from the path below the data directory.
    pub id: String,
    /// File name without extension.
    pub name: String,
    /// Always `L1`.
    pub layer: String,
    /// Always `markdown`.
    pub format: String,
    /// One line for people.
    pub summary: String,
    /// Tags of the frontmatter.
    pub tags: Vec<Value>,
    /// SHA-256 of the file, in hex.
    pub content_hash: String,
}

/// One public skill, as in an introduction: the members of the reference without the private `path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IntroducedSkill<'a> {
    id: &'a str,
    name: &'a str,
    layer: &'a str,
    format: &'a str,
    public: bool,
    summary: &'a str,
    content_hash: &'a str,
}

impl<'a> From<&'a SkillEntry> for IntroducedSkill<'a> {
    fn from(skill: &'a SkillEntry) -> Self {
        let SkillEntry {
            id,
            name,
            layer,
            format,
            summary,
            content_hash,
            ..
        } = skill;
        Self {
            id,
            name,
            layer,
            format,
            public: true,
            summary,
            content_hash,
        }
    }
}

/// The answer of `GET /skill_details`.
#[derive(Debug, Serialize)]
pub struct SkillDetails<'a> {
    id: &'a str,
    name: &'a str,
    layer: &'a str,
    format: &'a str,
    summary: &'a str,
    content_hash: &'a str,
    available: bool,
}

impl<'a> From<&'a SkillEntry> for SkillDetails<'a> {
    fn from(skill: &'a SkillEntry) -> Self {
        let SkillEntry {
            id,
            name,
            layer,
            format,
            summary,
            content_hash,
            ..
        } = skill;
        Self {
            id,
            name,
            layer,
            format,
            summary,
            content_hash,
            available: true,
        }
    }
}

/// One exchangeable SkillSet, as in `GET /skillsets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkillSetEntry {
    /// Its name.
    pub name: String,
    /// Its version, as written.
    pub version: String,
    /// `L0`, `L1` or `L2`.
    pub layer: String,
    /// One line for people.
    pub description: String,
    /// Always true: others are not listed.
    pub knowledge_only: bool,
    /// Hash over all files.
    pub content_hash: String,
    /// Number of files.
    pub file_count: usize,
}

/// One exchangeable SkillSet, as in an introduction.
#[derive(Debug, Serialize)]
pub struct IntroducedSkillSet<'a> {
    name: &'a str,
    version: &'a str,
    layer: &'a str,
    description: &'a str,
    content_hash: &'a str,
}

impl<'a> From<&'a SkillSetEntry> for IntroducedSkillSet<'a> {
    fn from(set: &'a SkillSetEntry) -> Self {
        let SkillSetEntry {
            name,
            version,
            layer,
            description,
            content_hash,
            ..
        } = set;
        Self {
            name,
            version,
            layer,
            description,
            content_hash,
        }
    }
}

/// The answer of `GET /skillset_details`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkillSetDetails {
    /// Its name.
    pub name: String,
    /// Its version, as written.
    pub version: String,
    /// `L0`, `L1` or `L2`.
    pub layer: String,
    /// One line for people.
    pub description: String,
    /// As declared.
    pub author: String,
    /// Names only.
    pub depends_on: Vec<String>,
    /// As declared.
    pub provides: Vec<Value>,
    /// Hash over all files.
    pub content_hash: String,
    /// Sorted relative paths.
    pub file_list: Vec<String>,
    /// Whether no file can execute.
    pub knowledge_only: bool,
    /// Knowledge-only and valid.
    pub exchangeable: bool,
}

/// A skill a peer says it has. Every member but the id may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedSkill {
    /// What to ask for.
    pub id: String,
    /// Its name, or the id.
    pub name: String,
    /// As told.
    pub summary: String,
    /// As told, in hex.
    pub content_hash: Option<String>,
}

/// A SkillSet a peer says it has. Every member but the name may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedSkillSet {
    /// What to ask for.
    pub name: String,
    /// As told.
    pub version: String,
    /// As told.
    pub layer: String,
    /// As told.
    pub description: String,
    /// As told, in hex.
    pub content_hash: Option<String>,
}

/// Longest text taken from a peer's list for show; more is cut.
const SHOWN_MAX: usize = 300;

fn shown(members: &Map<String, Value>, name: &str) -> Option<String> {
    let text = members.get(name)?.as_str()?;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    Some(text.chars().take(SHOWN_MAX).map(clean).collect())
}

/// Reads a peer's list of skills, at most `limit` entries; private ones (as the reference lists them) are left
/// out.
pub fn offered_skills(list: Option<&Value>, limit: usize) -> Vec<OfferedSkill> {
    let entries = list
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object);
    entries
        .filter(|entry| entry.get("public") != Some(&Value::Bool(false)))
        .filter_map(|entry| {
            let id = shown(entry, "id")?;
            Some(OfferedSkill {
                name: shown(entry, "name").unwrap_or_else(|| id.clone()),
                summary: shown(entry, "summary").unwrap_or_default(),
                content_hash: shown(entry, "content_hash"),
                id,
            })
        })
        .take(limit)
        .collect()
}

/// Reads a peer's list of SkillSets, at most `limit` entries.
pub fn offered_skill_sets(list: Option<&Value>, limit: usize) -> Vec<OfferedSkillSet> {
    let entries = list
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object);
    entries
        .filter_map(|entry| {
            Some(OfferedSkillSet {
                name: shown(entry, "name")?,
                version: shown(entry, "version").unwrap_or_default(),
                layer: shown(entry, "layer").unwrap_or_default(),
                description: shown(entry, "description").unwrap_or_default(),
                content_hash: shown(entry, "content_hash"),
            })
        })
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_lists_of_peers_leniently_and_bounded() {
        let list = json!([
            {"id": "a", "name": "note\u{1b}[31m", "summary": "s"}, {"name": "no id"}, 7,
            {"id": "secret", "public": false}, {"id": "b"}, {"id": "c"},
        ]);
        let skills = offered_skills(Some(&list), 2);
        assert_eq!(
            skills.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(skills[0].name, "note [31m");
        assert_eq!(offered_skills(Some(&json!("x")), 9), []);
        assert_eq!(
            offered_skill_sets(Some(&json!([{"name": "kp"}])), 9)[0].name,
            "kp"
        );
    }
}
