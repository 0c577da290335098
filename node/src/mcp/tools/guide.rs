//! `tool_guide`: which tools there are, which fits a goal, and in which order they are used.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kairos_place::role::Action;
use rmcp::model::Tool as Described;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::start;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::server::Door as _;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// Characters of a description that a list shows.
const SHOWN: usize = 80;
/// Most tools that a search tells.
const FOUND_MAX: usize = 5;
/// Longest question.
const QUERY_MAX: usize = 1_000;

/// Kinds of tools: the prefixes of their names, and what the kind is called.
const KINDS: [(&[&str], &str, &str); 9] = [
    (&["chain_"], "chain", "Blockchain"),
    (&["knowledge_"], "knowledge", "Knowledge (L1)"),
    (&["context_"], "context", "Context (L2)"),
    (&["skills_"], "skills", "Skills (L0)"),
    (&["resource_"], "resource", "Resource"),
    (&["state_"], "state", "State"),
    (&["tool_guide"], "guide", "Guide"),
    (
        &["peer_", "meeting_", "place_", "inbox_"],
        "peers",
        "Peers and Places",
    ),
    (&[""], "utility", "Utility"),
];

/// Work that takes several tools: a name, what it is for, and its steps.
const WORKFLOWS: [(&str, &str, &[&str]); 4] = [
    (
        "knowledge_lifecycle",
        "A note becomes knowledge that others can rely on",
        &[
            "context_save: keep what was found out in this session",
            "knowledge_list, search: see what is known already",
            "knowledge_update: make an entry of it, or correct the one there is",
            "why: see how the entry came about",
            "state_commit: keep a snapshot of all of it",
        ],
    ),
    (
        "health_check",
        "See whether the agent is sound",
        &[
            "chain_verify: is the ledger intact",
            "chain_status: how long it is, and where it is kept",
            "state_status: what changed since the last snapshot",
            "system_upgrade: are the agent's own texts those of this version",
        ],
    ),
    (
        "skill_evolution",
        "The law changes, with the user's consent",
        &[
            "skills_dsl_list, skills_dsl_get: read the law, and what of it may change",
            "definition_verify: see what of a definition holds",
            "definition_drift: see where definition and content went apart",
            "approvals_list: see what waits for the user, who alone approves",
        ],
    ),
    (
        "tool_onboarding",
        "Find the right tool",
        &[
            "tool_guide: catalog, then search or recommend with a goal",
            "tool_guide: detail, for what a tool takes and who may call it",
            "hello_world: see that calls arrive",
        ],
    ),
];

pub(super) struct Guide;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to tell.
    command: Command,
    /// Words to look for, for `search`.
    query: Option<String>,
    /// What is to be done, for `recommend`.
    goal: Option<String>,
    /// Which tool, for `detail`, `suggest` and `validate`.
    tool_name: Option<String>,
    /// Which workflow; all of them are named if it is left out.
    workflow_name: Option<Workflow>,
    /// What to look at, for `validate`.
    metadata: Option<Metadata>,
    /// Has no effect: tools describe themselves.
    #[serde(default, rename = "approved")]
    _approved: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Command {
    Catalog,
    Search,
    Recommend,
    Detail,
    Workflow,
    Suggest,
    Validate,
    ApplyMetadata,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Workflow {
    KnowledgeLifecycle,
    HealthCheck,
    SkillEvolution,
    ToolOnboarding,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Metadata {
    /// A kind of tools.
    category: Option<String>,
    /// When it is of use.
    usecase_tags: Option<Vec<String>>,
    /// Calls as examples.
    examples: Option<Vec<Value>>,
    /// Other tools.
    related_tools: Option<Vec<String>>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Told {
    /// The tools that are told of, in the order of the text.
    tools: Vec<Entry>,
    /// The steps of a workflow.
    steps: Vec<String>,
    /// What is wrong with the metadata that was to be validated.
    faults: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Entry {
    /// Its name.
    name: String,
    /// Its kind.
    category: &'static str,
    /// What it does.
    description: String,
}

impl Tool<AgentDoor> for Guide {
    const NAME: &'static str = "tool_guide";
    const TITLE: &'static str = "Guide to the tools";
    const ABOUT: &'static str = "Tells which tools there are, which fits a goal, what one takes, and which workflows they make up.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = Params;
    type Output = Told;

    async fn call(door: &AgentDoor, call: &Call, params: Params) -> Result<Answer<Told>, Refusal> {
        let tools = door.tools(&call.caller).await;
        match params.command {
            Command::Catalog => Ok(catalog(&tools)),
            Command::Search => found(&tools, &asked(params.query, "query")?, "Search Results"),
            Command::Recommend => found(&tools, &asked(params.goal, "goal")?, "Recommended Tools"),
            Command::Detail => Ok(detail(named(&tools, params.tool_name)?)),
            Command::Workflow => Ok(workflow(params.workflow_name)),
            Command::Suggest => Ok(suggest(&tools, named(&tools, params.tool_name)?)),
            Command::Validate => {
                let metadata = params.metadata.ok_or_else(|| missing("metadata"))?;
                Ok(validate(&tools, &metadata))
            }
            Command::ApplyMetadata => Err(Refusal::say(
                "Error: tools describe themselves in this program, so there is no metadata to change; nothing was written.",
            )),
        }
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::say(format!("Error: '{name}' is required for this command"))
}

fn asked(text: Option<String>, name: &str) -> Result<String, Refusal> {
    let text = text.filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| missing(name))?;
    match text.len() <= QUERY_MAX {
        true => Ok(text.to_lowercase()),
        false => Err(Refusal::say(format!(
            "Error: '{name}' is longer than {QUERY_MAX} bytes"
        ))),
    }
}

fn named(tools: &[Described], name: Option<String>) -> Result<&Described, Refusal> {
    let name = name.ok_or_else(|| missing("tool_name"))?;
    tools
        .iter()
        .find(|tool| tool.name == name)
        .ok_or_else(|| Refusal::say(format!("Tool '{}' not found.", start(&name, 64))))
}

/// The kind of a tool, and what that is called.
fn kind(name: &str) -> (&'static str, &'static str) {
    let of = |(prefixes, ..): &&(&[&str], &str, &str)| {
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let found = KINDS.iter().find(of);
    found.map_or(("utility", "Utility"), |(_, kind, label)| (kind, label))
}

fn description(tool: &Described) -> &str {
    tool.description.as_deref().unwrap_or_default()
}

fn told<'a>(tools: impl IntoIterator<Item = &'a Described>) -> Told {
    let entry = |tool: &Described| Entry {
        name: tool.name.to_string(),
        category: kind(&tool.name).0,
        description: description(tool).to_owned(),
    };
    Told {
        tools: tools.into_iter().map(entry).collect(),
        steps: Vec::new(),
        faults: Vec::new(),
    }
}

fn line(tool: &Described) -> String {
    format!("- **{}**: {}", tool.name, start(description(tool), SHOWN))
}

fn catalog(tools: &[Described]) -> Answer<Told> {
    let mut text = format!(
        "# KairosChain Tool Catalog\n\nTotal: {} tools\n",
        tools.len()
    );
    let mut all = Vec::new();
    for (_, name, label) in KINDS {
        let of: Vec<_> = tools
            .iter()
            .filter(|tool| kind(&tool.name).0 == name)
            .collect();
        if of.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {label} ({})\n\n", of.len());
        for tool in of {
            let _ = writeln!(text, "{}", line(tool));
            all.push(tool);
        }
    }
    Answer::new(text.trim_end(), told(all))
}

/// The tools with most of the words, in name or description; a word of the name counts three times.
fn found(tools: &[Described], query: &str, title: &str) -> Result<Answer<Told>, Refusal> {
    let words: BTreeSet<_> = query
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() > 2)
        .collect();
    let mut scored: Vec<_> = tools
        .iter()
        .map(|tool| {
            let (name, about) = (tool.name.to_lowercase(), description(tool).to_lowercase());
            let score = |word: &&str| {
                3 * usize::from(name.contains(word)) + usize::from(about.contains(word))
            };
            (words.iter().map(score).sum::<usize>(), tool)
        })
        .filter(|(score, _)| *score > 0)
        .collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored.truncate(FOUND_MAX);
    let found: Vec<_> = scored.into_iter().map(|(_, tool)| tool).collect();
    let mut text = format!("# {title}\n\n");
    match found.is_empty() {
        true => text.push_str("No tool fits these words. See all of them with command `catalog`."),
        false => found.iter().for_each(|tool| {
            let _ = writeln!(text, "{}", line(tool));
        }),
    }
    Ok(Answer::new(text.trim_end(), told(found)))
}

fn detail(tool: &Described) -> Answer<Told> {
    let mut text = format!("# {}\n\n{}\n", tool.name, description(tool));
    let _ = write!(text, "\n**Category:** {}\n", kind(&tool.name).1);
    let hints = tool.annotations.as_ref();
    let read_only = hints.and_then(|hints| hints.read_only_hint) == Some(true);
    let _ = writeln!(
        text,
        "**Changes something:** {}",
        if read_only { "no" } else { "yes" }
    );
    let list = |name: &str| tool.input_schema.get(name);
    let required: Vec<_> = list("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    text.push_str("\n## Parameters\n\n");
    match list("properties").and_then(Value::as_object) {
        Some(members) if !members.is_empty() => {
            for (name, of) in members {
                let word = |key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default();
                let must = match required.contains(&name.as_str()) {
                    true => ", required",
                    false => "",
                };
                let _ = writeln!(
                    text,
                    "- `{name}` ({}{must}): {}",
                    word("type"),
                    word("description")
                );
            }
        }
        _ => text.push_str("None.\n"),
    }
    Answer::new(text.trim_end(), told([tool]))
}

fn workflow(name: Option<Workflow>) -> Answer<Told> {
    let name = name.map(|name| match name {
        Workflow::KnowledgeLifecycle => "knowledge_lifecycle",
        Workflow::HealthCheck => "health_check",
        Workflow::SkillEvolution => "skill_evolution",
        Workflow::ToolOnboarding => "tool_onboarding",
    });
    let mut data = told([]);
    let mut text = String::new();
    for (known, about, steps) in WORKFLOWS {
        match name {
            None => {
                let _ = writeln!(text, "- **{known}**: {about}");
            }
            Some(name) if name == known => {
                let _ = write!(text, "# Workflow: {known}\n\n{about}\n\n");
                for (at, step) in steps.iter().enumerate() {
                    let _ = writeln!(text, "{}. {step}", at + 1);
                    data.steps.push((*step).to_owned());
                }
            }
            Some(_) => {}
        }
    }
    let text = match name {
        None => format!("# Available Workflows\n\n{text}"),
        Some(_) => text,
    };
    Answer::new(text.trim_end(), data)
}

/// Tools of the same kind.
fn suggest(tools: &[Described], tool: &Described) -> Answer<Told> {
    let (of, label) = kind(&tool.name);
    let related: Vec<_> = tools
        .iter()
        .filter(|other| other.name != tool.name && kind(&other.name).0 == of)
        .collect();
    let mut text = format!(
        "# Suggested Metadata: {}\n\ncategory: {of} ({label})\nrelated_tools:\n",
        tool.name
    );
    for other in &related {
        let _ = writeln!(text, "  - {}", other.name);
    }
    Answer::new(text.trim_end(), told(related))
}

fn validate(tools: &[Described], metadata: &Metadata) -> Answer<Told> {
    let mut faults = Vec::new();
    if let Some(category) = &metadata.category
        && !KINDS.iter().any(|(_, kind, _)| kind == category)
    {
        let known: Vec<_> = KINDS.iter().map(|(_, kind, _)| *kind).collect();
        faults.push(format!(
            "unknown category '{}'; there are {}",
            start(category, 64),
            known.join(", ")
        ));
    }
    for related in metadata.related_tools.iter().flatten() {
        if !tools.iter().any(|tool| tool.name == *related) {
            faults.push(format!(
                "there is no tool '{}' to be related to",
                start(related, 64)
            ));
        }
    }
    let empty = |tags: &Vec<String>| tags.iter().any(|tag| tag.trim().is_empty());
    if metadata.usecase_tags.as_ref().is_some_and(empty) {
        faults.push("a tag is empty".to_owned());
    }
    if metadata.examples.as_ref().is_some_and(Vec::is_empty) {
        faults.push("the examples are empty; leave them out instead".to_owned());
    }
    let text = match faults.is_empty() {
        true => "# Metadata Validation\n\nValid.".to_owned(),
        false => format!(
            "# Metadata Validation\n\nInvalid:\n- {}",
            faults.join("\n- ")
        ),
    };
    let mut data = told([]);
    data.faults = faults;
    Answer::new(text, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_of_no_kind_are_utilities() {
        for (name, of) in [
            ("chain_status", "chain"),
            ("skills_dsl_get", "skills"),
            ("definition_verify", "utility"),
            ("place_join", "peers"),
            ("tool_guide", "guide"),
            ("", "utility"),
        ] {
            assert_eq!(kind(name).0, of, "{name}");
        }
    }
}
