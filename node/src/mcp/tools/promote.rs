//! `skills_promote`: a text of a session becomes knowledge (L2 → L1), and knowledge a skill of the law (L1 → L0), which
//! a person decides.

use std::fmt::Write as _;

use kairos_actors::skills::Edit;
use kairos_place::role::Action;
use kairos_protocol::id::SkillName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::assembly::{self, Assembly, Mode};
use super::evolve::{self, Evolved};
use super::knowledge::{self, Updated};
use super::text::start;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};
use crate::promotion;

/// Lines of the text that are shown to those who judge it, as in the reference.
const LINES_SHOWN: usize = 20;
/// Longest of these lines, in characters.
const LINE_MAX: usize = 500;

pub(super) struct Promote;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Command {
    Analyze,
    Promote,
    Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum From {
    L2,
    L1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum To {
    L1,
    L0,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// status: what a promotion needs. analyze: a prompt to judge one. promote: do it, or for the law ask a person.
    command: Command,
    /// The text of a session, or the entry of knowledge.
    #[schemars(with = "Option<String>")]
    source_name: Option<SkillName>,
    /// Where it is.
    from_layer: Option<From>,
    /// Where it goes, one layer up.
    to_layer: Option<To>,
    /// What it is to be called, if not the same.
    #[schemars(with = "Option<String>")]
    target_name: Option<SkillName>,
    /// Why, for the ledger; needed for the law, where a person reads it.
    reason: Option<String>,
    /// The session that the text is of; needed from L2.
    #[schemars(with = "Option<String>")]
    session_id: Option<SkillName>,
    /// Who judges it, for `analyze`.
    personas: Option<Vec<String>>,
    /// How they judge.
    assembly_mode: Option<Mode>,
    /// Who leads a discussion.
    facilitator: Option<String>,
    /// Most rounds of a discussion.
    max_rounds: Option<u32>,
    /// The agreement that ends a discussion, 0 to 1.
    consensus_threshold: Option<f64>,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Promoted {
    /// The name of the text that is promoted.
    source: Option<String>,
    /// What it becomes.
    target: Option<String>,
    /// About how many tokens a judgement takes, for `analyze`.
    estimated_tokens: Option<u32>,
    /// The knowledge that was made.
    knowledge: Option<Updated>,
    /// What became of the change of the law that was asked for.
    law: Option<Evolved>,
}

/// What is promoted to what.
enum Way {
    /// A text of the session becomes knowledge.
    ToKnowledge(SkillName),
    /// Knowledge becomes a skill of the law.
    ToLaw,
}

impl Way {
    fn layers(&self) -> (&'static str, &'static str) {
        match self {
            Self::ToKnowledge(_) => ("L2", "L1"),
            Self::ToLaw => ("L1", "L0"),
        }
    }
}

fn needed(name: &str) -> Refusal {
    Refusal::say(format!("Error: {name} is required"))
}

impl Params {
    fn way(&self) -> Result<(SkillName, Way), Refusal> {
        let source = self
            .source_name
            .clone()
            .ok_or_else(|| needed("source_name"))?;
        let from = self.from_layer.ok_or_else(|| needed("from_layer"))?;
        let to = self.to_layer.ok_or_else(|| needed("to_layer"))?;
        let way = match (from, to) {
            (From::L2, To::L1) => {
                let session = self.session_id.clone();
                Way::ToKnowledge(session.ok_or_else(|| needed("session_id"))?)
            }
            (From::L1, To::L0) => Way::ToLaw,
            (from, to) => {
                let told = format!("Error: Invalid transition: {from:?} → {to:?}. {WAYS}");
                return Err(Refusal::say(told));
            }
        };
        Ok((source, way))
    }
}

const WAYS: &str =
    "Valid transitions:\n- L2 → L1 (Context to Knowledge)\n- L1 → L0 (Knowledge to Meta-skill)";

impl Tool<AgentDoor> for Promote {
    const NAME: &'static str = "skills_promote";
    const TITLE: &'static str = "Promote a text";
    const ABOUT: &'static str = "Makes knowledge of a text of a session (L2 to L1), or asks a person to make a skill of the law of knowledge \
         (L1 to L0). Nothing you pass stands for the person.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::CHANGE;
    type Params = Params;
    type Output = Promoted;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: Params,
    ) -> Result<Answer<Promoted>, Refusal> {
        match params.command {
            Command::Status => status(&params),
            Command::Analyze => analyze(door, params).await,
            Command::Promote => {
                let (source, way) = params.way()?;
                match way {
                    Way::ToKnowledge(session) => {
                        to_knowledge(door, call, (session, source), params).await
                    }
                    Way::ToLaw => to_law(door, call, source, params).await,
                }
            }
        }
    }
}

fn status(params: &Params) -> Result<Answer<Promoted>, Refusal> {
    let mut text = "## Promotion Status\n\n".to_owned();
    match (params.from_layer, params.to_layer) {
        (Some(From::L2), Some(To::L1)) => text.push_str(
            "**L2 → L1**: Valid transition\n\n### Requirements for L2 → L1\n\n- The text is there, with its \
             frontmatter\n- Layer L1 is enabled\n- Its hash is recorded in the ledger\n- No person has to approve it\n",
        ),
        (Some(From::L1), Some(To::L0)) => text.push_str(
            "**L1 → L0**: Valid transition\n\n### Requirements for L1 → L0\n\n- The knowledge is there\n- It passes \
             every gate of the law, see skills_evolve\n- evolution_enabled: true in the settings\n- A reason is \
             given\n- A person approves it\n",
        ),
        (Some(from), Some(to)) => {
            let _ = write!(text, "**{from:?} → {to:?}**: Invalid transition\n\n{WAYS}\n");
        }
        _ => text.push_str(
            "### Available Transitions\n\n| From | To | Requirements |\n|------|----|--------------|\n| L2 | L1 | Its \
             hash is recorded |\n| L1 | L0 | A person approves it; the whole change is recorded |\n\n### Persona \
             Assembly\n\nUse `command: \"analyze\"` with `personas` to have it judged first.\n",
        ),
    }
    Ok(Answer::new(text, Promoted::default()))
}

async fn analyze(door: &AgentDoor, params: Params) -> Result<Answer<Promoted>, Refusal> {
    let (source, way) = params.way()?;
    let knowledge = &door.agent.handles.knowledge;
    let (from, to) = way.layers();
    let (uri, (_, content)) = match way {
        Way::ToKnowledge(session) => (
            format!("context://{session}/{source}"),
            knowledge.context(session, source.clone()).await?,
        ),
        Way::ToLaw => (
            format!("knowledge://{source}"),
            knowledge.entry(source.clone()).await?,
        ),
    };
    let assembly = Assembly::new(
        params.assembly_mode,
        params.personas,
        params.facilitator,
        params.max_rounds,
        params.consensus_threshold,
    )?;
    let target = params.target_name.unwrap_or_else(|| source.clone());
    let reason = params.reason.as_deref().unwrap_or("Not specified");
    let rows = [
        ["**Source**".to_owned(), format!("{source} ({from})")],
        ["**Target**".to_owned(), format!("{target} ({to})")],
        ["**Reason**".to_owned(), start(reason, LINE_MAX)],
        ["**Mode**".to_owned(), assembly.mode().to_owned()],
    ];
    let subject = format!(
        "### Promotion Proposal\n\n{}\n### Source Content Preview\n\n```\n{}```\n\n",
        super::text::table(["Field", "Value"], rows),
        preview(&content)
    );
    let definitions = assembly::definitions(door).await?;
    let text = format!(
        "{}\n---\n\n*Afterwards, `command: \"promote\"` does it; into the law (L0) only a person's yes does.*",
        assembly.prompt(&subject, &definitions)
    );
    let data = Promoted {
        source: Some(uri),
        target: Some(target.to_string()),
        estimated_tokens: Some(assembly.tokens()),
        ..Promoted::default()
    };
    Ok(Answer::new(text, data))
}

/// The first lines, in which nothing ends the block that they stand in.
fn preview(content: &str) -> String {
    let mut shown = String::new();
    for line in content.lines().take(LINES_SHOWN) {
        let _ = writeln!(shown, "{}", start(&line.replace("```", "'''"), LINE_MAX));
    }
    if content.lines().nth(LINES_SHOWN).is_some() {
        shown.push_str("...(truncated)\n");
    }
    shown
}

async fn to_knowledge(
    door: &AgentDoor,
    call: &Call,
    (session, source): (SkillName, SkillName),
    params: Params,
) -> Result<Answer<Promoted>, Refusal> {
    call.caller.may(Action::WriteKnowledge)?;
    let reason = params.reason.filter(|reason| !reason.trim().is_empty());
    let reason = reason.unwrap_or_else(|| "Promoted from L2 to L1".to_owned());
    let uri = format!("context://{session}/{source}");
    let knowledge = &door.agent.handles.knowledge;
    let target = params.target_name;
    let changed = promotion::to_knowledge(knowledge, session, source, target, &reason).await?;
    let data = knowledge::data(&changed);
    let (_, done) = knowledge::action(changed.action);
    let mut text = format!(
        "## Promotion Successful\n\n**Target**: {} (L1)\n**Action**: {done}\n",
        changed.name
    );
    if let Some(hash) = changed.content_hash {
        let _ = writeln!(text, "**Hash**: {hash}");
    }
    text.push_str("\nChange recorded to blockchain (hash reference).");
    let data = Promoted {
        source: Some(uri),
        target: Some(format!("knowledge://{}", changed.name)),
        knowledge: Some(data),
        ..Promoted::default()
    };
    Ok(Answer::new(text, data))
}

async fn to_law(
    door: &AgentDoor,
    call: &Call,
    source: SkillName,
    params: Params,
) -> Result<Answer<Promoted>, Refusal> {
    let reason = params.reason.filter(|reason| !reason.trim().is_empty());
    let reason = reason.ok_or_else(|| needed("reason"))?;
    let handles = &door.agent.handles;
    let uri = format!("knowledge://{source}");
    let target = params.target_name;
    let (edit, reason) = promotion::to_law(&handles.knowledge, source, target, &reason).await?;
    let id = match &edit {
        Edit::Add { id, .. } => Some(id.to_string()),
        _ => None,
    };
    let drafted = handles.skills.draft(edit, Some(reason.clone())).await;
    let drafted = drafted.map_err(evolve::refusal)?;
    let done = format!("{uri} is a skill of the law now.");
    let asked = evolve::ask(door, call, Promote::NAME, drafted, Some(reason), done).await?;
    let text = format!("## L0 Promotion Prepared\n\n{}", asked.text);
    let data = Promoted {
        source: Some(uri),
        target: id,
        law: Some(asked.data),
        ..Promoted::default()
    };
    Ok(Answer::new(text, data))
}
