//! `skills_list`, `skills_get`, `skills_dsl_list` and `skills_dsl_get`: the constitution and the law of the agent (L0).

use std::fmt::Write as _;

use kairos_place::role::Action;
use kairos_protocol::dsl::{Fault, Keyword, Law, Literal, Skill, Spanned};
use kairos_protocol::resource::{Law as LawFile, ResourceUri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Nothing;
use super::text::{start, table};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// Most skills of the law that a search shows, as in the reference.
const FOUND_MAX: usize = 3;

pub(super) async fn file(door: &AgentDoor, which: LawFile) -> Result<Vec<u8>, Refusal> {
    let resource = door
        .agent
        .handles
        .knowledge
        .resource(ResourceUri::L0(which))
        .await?;
    Ok(resource.bytes)
}

/// A section of the constitution.
#[derive(Debug, PartialEq, Eq)]
struct Section<'a> {
    id: &'a str,
    title: &'a str,
    use_when: Option<&'a str>,
    body: &'a str,
}

/// The sections of a text: each begins with a line `## [ID] Title`. When to use one is in the table before them, if
/// there is one.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let head = line
            .trim_end()
            .strip_prefix("## [")
            .and_then(|rest| rest.split_once(']'));
        if let Some((id, title)) = head {
            starts.push((at, at + line.len(), id.trim(), title.trim()));
        }
        at += line.len();
    }
    let table = text
        .get(..starts.first().map_or(text.len(), |first| first.0))
        .unwrap_or_default();
    let use_when = |id: &str| {
        let cells = table
            .lines()
            .map(|line| line.trim().trim_matches('|').split('|').map(str::trim));
        cells
            .map(Iterator::collect::<Vec<_>>)
            .find_map(|cells| match cells.as_slice() {
                [found, _, when] if *found == id => Some(*when),
                _ => None,
            })
    };
    let ends = starts.iter().skip(1).map(|next| next.0).chain([text.len()]);
    let found = starts
        .iter()
        .zip(ends)
        .map(|((_, body, id, title), end)| Section {
            id,
            title,
            use_when: use_when(id),
            body: text.get(*body..end).unwrap_or_default().trim(),
        });
    found.collect()
}

pub(super) struct List;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Sections {
    /// The sections, in the order of the text.
    sections: Vec<SectionData>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SectionData {
    /// Its id.
    id: String,
    /// Its title.
    title: String,
    /// When to read it.
    use_when: Option<String>,
}

impl Tool<AgentDoor> for List {
    const NAME: &'static str = "skills_list";
    const TITLE: &'static str = "The constitution";
    const ABOUT: &'static str =
        "Lists the sections of the agent's constitution (kairos.md), and when to read which.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = Nothing;
    type Output = Sections;

    async fn call(door: &AgentDoor, _call: &Call, _: Nothing) -> Result<Answer<Sections>, Refusal> {
        let bytes = file(door, LawFile::Markdown).await?;
        let text = String::from_utf8_lossy(&bytes);
        let found: Vec<_> = sections(&text)
            .into_iter()
            .map(|section| SectionData {
                id: section.id.to_owned(),
                title: section.title.to_owned(),
                use_when: section.use_when.map(str::to_owned),
            })
            .collect();
        if found.is_empty() {
            let text = "No skills sections found. Check if skills/kairos.md exists.";
            return Ok(Answer::new(text, Sections { sections: found }));
        }
        let rows = found.iter().map(|section| {
            [
                section.id.clone(),
                section.title.clone(),
                section.use_when.clone().unwrap_or_default(),
            ]
        });
        let told = format!(
            "Available KairosChain Skills Sections:\n\n{}\nUse skills_get with a section_id to read one.",
            table(["ID", "Title", "Use When"], rows)
        );
        Ok(Answer::new(told, Sections { sections: found }))
    }
}

pub(super) struct Get;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetParams {
    /// The id of the section, such as PHILOSOPHY-001; letter case does not matter.
    section_id: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SectionText {
    /// Its id.
    id: String,
    /// Its title.
    title: String,
    /// Its text.
    text: String,
}

impl Tool<AgentDoor> for Get {
    const NAME: &'static str = "skills_get";
    const TITLE: &'static str = "Read the constitution";
    const ABOUT: &'static str = "Reads one section of the agent's constitution (kairos.md).";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = GetParams;
    type Output = SectionText;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: GetParams,
    ) -> Result<Answer<SectionText>, Refusal> {
        let bytes = file(door, LawFile::Markdown).await?;
        let text = String::from_utf8_lossy(&bytes);
        let wanted = params.section_id.to_uppercase();
        let sections = sections(&text);
        let Some(section) = sections.iter().find(|section| section.id == wanted) else {
            let ids: Vec<_> = sections.iter().map(|section| section.id).collect();
            let wanted = start(&wanted, 64);
            return Err(Refusal::say(format!(
                "Section '{wanted}' not found. Available sections: {}",
                ids.join(", ")
            )));
        };
        let told = format!("## [{}] {}\n\n{}", section.id, section.title, section.body);
        let data = SectionText {
            id: section.id.to_owned(),
            title: section.title.to_owned(),
            text: section.body.to_owned(),
        };
        Ok(Answer::new(told, data))
    }
}

pub(super) struct LawList;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LawParams {
    /// Only skills with this text in their id, title or content, at most 3; letter case does not matter.
    search: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LawData {
    /// The skills, in the order of the file.
    skills: Vec<LawSkill>,
    /// What in the file cannot be read, and where.
    faults: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LawSkill {
    /// Its id.
    id: String,
    /// Its title.
    title: Option<String>,
    /// Its version.
    version: Option<String>,
    /// Its hash, as snapshots name it; null where a member cannot be read.
    hash: Option<String>,
}

/// A literal as a text; nothing if it is not given.
fn literal(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

impl Tool<AgentDoor> for LawList {
    const NAME: &'static str = "skills_dsl_list";
    const TITLE: &'static str = "The law";
    const ABOUT: &'static str = "Lists the skills of the agent's law (kairos.rb, layer L0). They are read here and never run.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = LawParams;
    type Output = LawData;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: LawParams,
    ) -> Result<Answer<LawData>, Refusal> {
        let law = law(door).await?;
        let mut skills: Vec<&Skill> = law.skills.iter().map(|skill| &skill.node).collect();
        if let Some(search) = &params.search {
            let search = search.to_lowercase();
            let holds = |text: Option<String>| {
                text.is_some_and(|text| text.to_lowercase().contains(&search))
            };
            skills.retain(|skill| {
                holds(Some(skill.id.clone()))
                    || holds(literal(&skill.value_json(Keyword::Title)))
                    || holds(literal(&skill.value_json(Keyword::Content)))
            });
            skills.truncate(FOUND_MAX);
        }
        let data = LawData {
            skills: skills
                .iter()
                .map(|skill| LawSkill {
                    id: skill.id.clone(),
                    title: literal(&skill.value_json(Keyword::Title)),
                    version: literal(&skill.value_json(Keyword::Version)),
                    hash: skill.hash().map(|hash| hash.to_hex()),
                })
                .collect(),
            faults: law.errors().map(ToString::to_string).collect(),
        };
        let rows = data.skills.iter().map(|skill| {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
            [
                skill.id.clone(),
                or_none(&skill.title),
                or_none(&skill.version),
            ]
        });
        let mut told = match data.skills.is_empty() {
            true => "No skills found in skills/kairos.rb.".to_owned(),
            false => format!(
                "Available KairosChain DSL Skills:\n\n{}\nUse skills_dsl_get with a skill_id to read one.",
                table(["ID", "Title", "Version"], rows)
            ),
        };
        for fault in &data.faults {
            let _ = write!(told, "\nnot read: {fault}");
        }
        Ok(Answer::new(told, data))
    }
}

/// Parsing takes time that other requests must not wait for.
pub(super) async fn law(door: &AgentDoor) -> Result<Law, Refusal> {
    let source = file(door, LawFile::Ruby).await?;
    Ok(tokio::task::spawn_blocking(move || Law::read(&source)).await?)
}

/// The skill with this id, or those that there are.
pub(super) fn found<'a>(law: &'a Law, id: &str) -> Result<&'a Spanned<Skill>, Refusal> {
    law.skill(id).ok_or_else(|| {
        let ids: Vec<_> = law.skills.iter().map(|skill| skill.id.as_str()).collect();
        Refusal::say(format!(
            "Skill '{}' not found. Available: {}",
            start(id, 64),
            ids.join(", ")
        ))
    })
}

pub(super) struct LawGet;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LawGetParams {
    /// The id of the skill.
    skill_id: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LawText {
    /// What is known of it.
    skill: LawSkill,
    /// Its content.
    content: Option<String>,
    /// What it guarantees, by name.
    guarantees: Vec<String>,
    /// Fields that may change; null if it says nothing about that.
    may_change: Option<Vec<String>>,
    /// Fields that may not change; null if it says nothing about that.
    may_not_change: Option<Vec<String>>,
    /// What in it cannot be read, and where.
    faults: Vec<String>,
}

impl Tool<AgentDoor> for LawGet {
    const NAME: &'static str = "skills_dsl_get";
    const TITLE: &'static str = "Read the law";
    const ABOUT: &'static str = "Reads one skill of the agent's law (kairos.rb, layer L0): its content, guarantees, and what of it may change.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = LawGetParams;
    type Output = LawText;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: LawGetParams,
    ) -> Result<Answer<LawText>, Refusal> {
        let law = law(door).await?;
        let skill = found(&law, &params.skill_id)?;
        let words = |values: &[Value]| values.iter().filter_map(literal).collect::<Vec<_>>();
        let fields = |fields: &[Literal]| fields.iter().map(ToString::to_string).collect();
        let within =
            |fault: &&Fault| (skill.span.start..skill.span.end).contains(&fault.span.start);
        let data = LawText {
            skill: LawSkill {
                id: skill.id.clone(),
                title: literal(&skill.value_json(Keyword::Title)),
                version: literal(&skill.value_json(Keyword::Version)),
                hash: skill.hash().map(|hash| hash.to_hex()),
            },
            content: literal(&skill.value_json(Keyword::Content)),
            guarantees: match skill.guarantees_json() {
                Value::Array(names) => words(&names),
                other => words(std::slice::from_ref(&other)),
            },
            may_change: skill.evolution().map(|rules| fields(&rules.allowed)),
            may_not_change: skill.evolution().map(|rules| fields(&rules.denied)),
            faults: law
                .errors()
                .filter(within)
                .map(ToString::to_string)
                .collect(),
        };
        let of = &data.skill;
        let mut told = format!(
            "## [{}] {}\n",
            of.id,
            of.title.as_deref().unwrap_or_default()
        );
        let mut line = |name: &str, text: String| {
            if !text.is_empty() {
                let _ = write!(told, "\n**{name}:** {text}");
            }
        };
        line("Version", of.version.clone().unwrap_or_default());
        line("Guarantees", data.guarantees.join(", "));
        line(
            "May change",
            data.may_change.clone().unwrap_or_default().join(", "),
        );
        line(
            "May not change",
            data.may_not_change.clone().unwrap_or_default().join(", "),
        );
        line("Not read", data.faults.join("; "));
        let _ = write!(
            told,
            "\n\n---\n\n{}",
            data.content.as_deref().unwrap_or_default()
        );
        Ok(Answer::new(told.trim_end(), data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_begin_with_their_id() {
        let text = "# Title\n\n| Section | Title | Use when |\n|---|---|---|\n| A-1 | One | often |\n\n## [A-1] One\n\nBody\n## No id\n\n## [B] Two\n";
        let found = sections(text);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            Section {
                id: "A-1",
                title: "One",
                use_when: Some("often"),
                body: "Body\n## No id"
            }
        );
        assert_eq!(
            found[1],
            Section {
                id: "B",
                title: "Two",
                use_when: None,
                body: ""
            }
        );
        assert_eq!(sections("nothing here"), []);
    }
}
