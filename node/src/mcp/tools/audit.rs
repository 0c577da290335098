//! `skills_audit`: what in the layers is old, alike, or worth a second look. It changes nothing: what is put away, the
//! user puts away.

use kairos_actors::knowledge::KnowledgeEntry;
use kairos_place::role::Action;
use kairos_protocol::id::SkillName;
use kairos_protocol::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::assembly::{self, Assembly, Mode};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

mod look;
mod signs;
mod told;

/// Days after which knowledge and sessions are stale.
const STALE_L1: u64 = 180;
const STALE_L2: u64 = 14;
/// Days after which knowledge should be put away, and sessions cleared away.
const ARCHIVE_L1: u64 = 270;
const CLEANUP_L2: u64 = 28;
/// Most of each kind that are recommended.
const RECOMMENDED_MAX: usize = 5;
/// Most issues that are told.
const ISSUES_MAX: usize = 200;

pub(super) struct Audit;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Command {
    Check,
    Conflicts,
    Stale,
    Dangerous,
    Recommend,
    Archive,
    Unarchive,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
enum Layer {
    L0,
    L1,
    L2,
    #[default]
    #[serde(rename = "all")]
    All,
}

impl Layer {
    fn covers(self, layer: Self) -> bool {
        self == Self::All || self == layer
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to look for. archive and unarchive tell how the user does that.
    command: Command,
    /// Only this layer.
    #[serde(default)]
    layer: Layer,
    /// Only this session, where sessions are looked at.
    #[schemars(with = "Option<String>")]
    session_id: Option<SkillName>,
    /// Have personas judge what is found: a prompt comes after it.
    #[serde(default)]
    with_assembly: bool,
    /// How they judge.
    assembly_mode: Option<Mode>,
    /// Who judges.
    personas: Option<Vec<String>>,
    /// Who leads a discussion.
    facilitator: Option<String>,
    /// Most rounds of a discussion.
    max_rounds: Option<u32>,
    /// The agreement that ends a discussion, 0 to 1.
    consensus_threshold: Option<f64>,
    /// The knowledge, for archive and unarchive.
    #[schemars(with = "Option<String>")]
    target: Option<SkillName>,
    /// Why, for archive and unarchive.
    reason: Option<String>,
    /// Has no effect: only the user puts knowledge away.
    #[serde(default, rename = "approved")]
    _approved: Option<bool>,
    /// Count what was put away, too.
    #[serde(default)]
    include_archived: bool,
}

/// Something that was found.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Issue {
    /// `stale`, `version_ref`, `deprecated_pattern`, `similar_topic`, `warning`, `critical`, `promote`, `archive` or
    /// `cleanup`.
    kind: &'static str,
    /// The layer.
    layer: &'static str,
    /// What it is about.
    name: String,
    /// What was found.
    message: String,
    /// Days since it was changed, where that is what was found.
    days_old: Option<u64>,
}

/// How much there is in a layer.
#[derive(Debug, Serialize, JsonSchema)]
struct Count {
    /// The layer.
    layer: &'static str,
    /// Skills, entries of knowledge, or contexts.
    items: usize,
    /// What was found there.
    issues: usize,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Audited {
    /// The layers that were checked, for `check`.
    layers: Vec<Count>,
    /// Knowledge that was put away, if it was asked for.
    archived: Option<usize>,
    /// What was found, as much as is told.
    issues: Vec<Issue>,
    /// How much more there is.
    left_out: usize,
    /// About how many tokens a judgement takes, if one was asked for.
    estimated_tokens: Option<u32>,
}

impl Audited {
    fn of(mut issues: Vec<Issue>) -> Self {
        let left_out = issues.len().saturating_sub(ISSUES_MAX);
        issues.truncate(ISSUES_MAX);
        Self {
            issues,
            left_out,
            ..Self::default()
        }
    }
}

impl Tool<AgentDoor> for Audit {
    const NAME: &'static str = "skills_audit";
    const TITLE: &'static str = "Audit of the layers";
    const ABOUT: &'static str = "Looks through the law, knowledge and sessions for what is old, alike or dangerous, and recommends what to promote or \
         put away. It changes nothing.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = Params;
    type Output = Audited;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: Params,
    ) -> Result<Answer<Audited>, Refusal> {
        let assembly = match params.with_assembly {
            true => Some(Assembly::new(
                params.assembly_mode,
                params.personas.clone(),
                params.facilitator.clone(),
                params.max_rounds,
                params.consensus_threshold,
            )?),
            false => None,
        };
        let layer = params.layer;
        let session = params.session_id.as_ref();
        let (text, mut data) = match params.command {
            Command::Check => {
                let mut data = look::check(door, layer, session).await?;
                if params.include_archived {
                    data.archived = Some(door.agent.handles.knowledge.archived().await?.len());
                }
                (told::check(&data), data)
            }
            Command::Conflicts => {
                let data = Audited::of(look::conflicts(door, layer).await?);
                (told::conflicts(&data), data)
            }
            Command::Stale => {
                let data = Audited::of(look::stale(door, layer, session).await?);
                (told::stale(&data, layer), data)
            }
            Command::Dangerous => {
                let data = Audited::of(look::dangerous(door, layer).await?);
                (told::dangerous(&data), data)
            }
            Command::Recommend => {
                let data = Audited::of(look::recommend(door, layer, session).await?);
                (told::recommend(&data), data)
            }
            Command::Archive => return Err(put_away(door, &params, "archive").await?),
            Command::Unarchive => return Err(put_away(door, &params, "unarchive").await?),
        };
        let text = match &assembly {
            None => text,
            Some(assembly) => {
                data.estimated_tokens = Some(assembly.tokens());
                let definitions = assembly::definitions(door).await?;
                format!(
                    "{text}\n\n---\n\n{}",
                    assembly.prompt("What is judged is the report above.\n\n", &definitions)
                )
            }
        };
        Ok(Answer::new(text, data))
    }
}

/// Says how the user puts an entry away, or brings it back: no call of a model does.
async fn put_away(
    door: &AgentDoor,
    params: &Params,
    command: &'static str,
) -> Result<Refusal, Refusal> {
    let target = params.target.clone().ok_or_else(|| {
        Refusal::say(format!("Error: 'target' is required for {command} command"))
    })?;
    let knowledge = &door.agent.handles.knowledge;
    match command {
        "archive" => drop(knowledge.entry(target.clone()).await?),
        _ => drop(knowledge.archived_entry(target.clone()).await?),
    }
    let reason = params.reason.as_deref().unwrap_or("none given");
    let reason = super::text::start(&reason.replace(['\n', '\r'], " "), 200);
    Ok(Refusal::say(format!(
        "## Human Approval Required\n\nNothing is changed: no tool puts knowledge away or brings it back.\n\n**Target**: \
         {target}\n**Reason**: {reason}\n\nTell the user to run:\n\n    kairos-chain knowledge {command} {target}\n"
    )))
}

/// Whole days since something was changed; nothing where that is not known.
fn days(now: Timestamp, modified: Option<Timestamp>) -> Option<u64> {
    modified.map(|then| now.since(then).as_secs() / 86_400)
}

fn tags(entry: &KnowledgeEntry) -> Vec<String> {
    let tags = entry.tags.iter().filter_map(|tag| tag.as_str());
    tags.map(str::to_owned).collect()
}
