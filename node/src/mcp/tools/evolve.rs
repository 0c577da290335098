//! `skills_evolve` and `skills_rollback`: changes of the law (L0), which a model may ask for and a person makes.

use std::fmt::Write as _;

use kairos_actors::skills::{Drafted, Edit, SkillsError};
use kairos_place::proposal::VersionName;
use kairos_place::role::Action;
use kairos_protocol::dsl::diff::{LawDiff, diff};
use kairos_protocol::dsl::gate::{Check, Verdict};
use kairos_protocol::id::SkillName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::{start, table};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::consent::{Governed, govern};
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// What no program answers, as the reference lists it.
const FOR_PEOPLE: [(&str, &str); 3] = [
    ("Traceability", "Traceable to L0 rule"),
    ("Pure Compliance", "No external dependencies"),
    ("Pure Compliance", "LLM-independent semantics"),
];
/// Most characters of a version that are shown, as in the reference.
const VIEW_MAX: usize = 5_000;

pub(super) struct Evolve;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Command {
    #[default]
    Propose,
    Apply,
    Add,
    Reset,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EvolveParams {
    /// propose: check a change, and change nothing. apply: ask a person for it. add: ask a person for a new skill.
    #[serde(default)]
    command: Command,
    /// The skill.
    #[schemars(with = "Option<String>")]
    skill_id: Option<SkillName>,
    /// Its new text: `skill :id do … end`, or for `add` what stands between `do` and `end`.
    definition: Option<String>,
    /// Why; a person reads it, and the ledger keeps it.
    reason: Option<String>,
    /// Has no effect: a person approves.
    #[serde(default, rename = "approved")]
    _approved: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Evolved {
    /// Whether the change passes every gate.
    passed: bool,
    /// Each gate.
    checks: Vec<CheckData>,
    /// What would change, skill by skill and field by field.
    diff: Value,
    /// The hash of it, which goes into the ledger.
    diff_hash: String,
    /// The block of the last recorded change, where somebody changed the law otherwise since.
    changed_since: Option<u64>,
    /// What became of the change that was asked for.
    change: Option<Governed>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CheckData {
    category: &'static str,
    item: &'static str,
    passed: bool,
    detail: String,
}

impl From<&Check> for CheckData {
    fn from(check: &Check) -> Self {
        let (category, item) = check.gate.words();
        Self {
            category,
            item,
            passed: check.passed,
            detail: check.detail.clone(),
        }
    }
}

/// What failed, in the form that programs of the reference read.
fn failed(why: impl std::fmt::Display) -> Refusal {
    Refusal::say(format!("❌ FAILED\n\nError: {why}"))
}

/// What the skills say no to is told; what the machine says about files stays a failure of its own.
pub(super) fn refusal(error: SkillsError) -> Refusal {
    match error {
        error @ (SkillsError::Io(_) | SkillsError::Ask(_) | SkillsError::Ledger(_)) => error.into(),
        error => failed(error),
    }
}

/// The gates one by one, and what is left for a person.
fn report(verdict: &Verdict) -> String {
    let mut text = String::from("### Auto-Check Report\n\n");
    let failed = verdict.refusals().count();
    let _ = match failed {
        0 => writeln!(
            text,
            "✅ All {} mechanical checks PASSED. {} items require human verification.\n",
            verdict.checks.len(),
            FOR_PEOPLE.len()
        ),
        failed => writeln!(
            text,
            "❌ {failed} mechanical check(s) FAILED. Fix these before proceeding.\n"
        ),
    };
    for check in &verdict.checks {
        let (category, item) = check.gate.words();
        let mark = if check.passed { "✅" } else { "❌" };
        let _ = writeln!(text, "- {mark} [{category}] {item}: {}", check.detail);
    }
    for (category, item) in FOR_PEOPLE {
        let _ = writeln!(text, "- ⚠️ [{category}] {item}: a person decides");
    }
    text
}

fn told(drafted: &Drafted, change: Option<Governed>) -> Result<Evolved, serde_json::Error> {
    let verdict = &drafted.verdict;
    Ok(Evolved {
        passed: verdict.passed(),
        checks: verdict.checks.iter().map(CheckData::from).collect(),
        diff: serde_json::to_value(&verdict.diff)?,
        diff_hash: verdict.diff.hash()?.to_hex(),
        changed_since: drafted.changed_since,
        change,
    })
}

/// Asks a person for a change that passes every gate.
pub(super) async fn ask(
    door: &AgentDoor,
    call: &Call,
    tool: &'static str,
    drafted: Drafted,
    reason: Option<String>,
    done: String,
) -> Result<Answer<Evolved>, Refusal> {
    if !drafted.verdict.passed() {
        return Err(failed(format!(
            "the law may not change so.\n\n{}",
            report(&drafted.verdict)
        )));
    }
    // A draft of a text, so it is one.
    let content = String::from_utf8(drafted.content.clone())?;
    let change = drafted.change.clone();
    let answer = govern(door, call, tool, (change, Some(content), reason)).await?;
    let text = match answer.data.is_approved() {
        true => format!("✅ SUCCESS\n\nMessage: {done}\n\n{}", answer.text),
        false => answer.text,
    };
    Ok(Answer::new(text, told(&drafted, Some(answer.data))?))
}

impl Tool<AgentDoor> for Evolve {
    const NAME: &'static str = "skills_evolve";
    const TITLE: &'static str = "Change the law";
    const ABOUT: &'static str = "Checks a change of one skill of the agent's law, layer L0 (propose), or asks a person for it (apply, add). Nothing \
         you pass stands for the person.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::CHANGE;
    type Params = EvolveParams;
    type Output = Evolved;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: EvolveParams,
    ) -> Result<Answer<Evolved>, Refusal> {
        if params.command == Command::Reset {
            return Err(failed(
                "a new session is the owner's to begin: kairos-chain skills reset",
            ));
        }
        let id = params
            .skill_id
            .ok_or_else(|| failed("skill_id is required"))?;
        let definition = params
            .definition
            .ok_or_else(|| failed("definition is required"))?;
        let skills = &door.agent.handles.skills;
        let there = skills.read().await.map_err(refusal)?;
        let is_new = match params.command {
            Command::Add => true,
            Command::Propose => there.law.skill(id.as_str()).is_none(),
            Command::Apply | Command::Reset => false,
        };
        let edit = match is_new {
            true => Edit::Add {
                id: id.clone(),
                definition: definition.clone(),
            },
            false => Edit::Evolve {
                id: id.clone(),
                definition: definition.clone(),
            },
        };
        let reason = params.reason;
        let drafted = skills.draft(edit, reason.clone()).await.map_err(refusal)?;
        if params.command != Command::Propose {
            let done = match is_new {
                true => format!("Skill '{id}' added and recorded on KairosChain."),
                false => format!("Skill '{id}' evolved successfully and recorded on KairosChain."),
            };
            return ask(door, call, Self::NAME, drafted, reason, done).await;
        }
        let report = report(&drafted.verdict);
        if !drafted.verdict.passed() {
            return Err(failed(format!("Auto-check failed.\n\n{report}")));
        }
        let next = if is_new { "add" } else { "apply" };
        let text = format!(
            "✅ SUCCESS\n\nMessage: Proposal validated. Use '{next}' to ask a person for it.\n\n{report}\n### \
             Preview\n\n```ruby\n{}\n```",
            definition.trim().replace("```", "'''")
        );
        Ok(Answer::new(text, told(&drafted, None)?))
    }
}

pub(super) struct Rollback;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RollbackCommand {
    #[default]
    List,
    Snapshot,
    Rollback,
    View,
    Diff,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackParams {
    /// list, view and diff look at former laws; snapshot keeps the one in force; rollback asks a person for one.
    #[serde(default)]
    command: RollbackCommand,
    /// The file name of the version.
    version: Option<String>,
    /// Why.
    reason: Option<String>,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct RolledBack {
    /// The versions, for `list`.
    versions: Vec<VersionData>,
    /// The version that was kept or shown.
    version: Option<String>,
    /// Its text, for `view`.
    content: Option<String>,
    /// What differs between it and the law, for `diff`.
    diff: Option<Value>,
    /// What became of the change that was asked for.
    change: Option<Evolved>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct VersionData {
    filename: String,
    created_at: Option<String>,
    reason: Option<String>,
    /// The SHA-256 of the file, which the ledger tells of.
    hash: Option<String>,
}

impl Tool<AgentDoor> for Rollback {
    const NAME: &'static str = "skills_rollback";
    const TITLE: &'static str = "Former laws";
    const ABOUT: &'static str = "Lists, shows and compares former laws of the agent (L0), keeps the one in force, or asks a person to bring one \
         back. Nothing you pass stands for the person.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::CHANGE;
    type Params = RollbackParams;
    type Output = RolledBack;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: RollbackParams,
    ) -> Result<Answer<RolledBack>, Refusal> {
        let skills = &door.agent.handles.skills;
        let version = || -> Result<VersionName, Refusal> {
            let given = params.version.as_deref();
            let given = given.ok_or_else(|| Refusal::say("Error: version is required"))?;
            let shown = start(given, 200);
            let unknown = |_| Refusal::say(format!("Version not found: {shown}"));
            given.parse().map_err(unknown)
        };
        match params.command {
            RollbackCommand::List => list(door).await,
            RollbackCommand::Snapshot => {
                call.caller.may(Action::Propose)?;
                let by = call.caller.person();
                let name = skills.snapshot(params.reason, by).await.map_err(refusal)?;
                let data = RolledBack {
                    version: Some(name.to_string()),
                    ..RolledBack::default()
                };
                Ok(Answer::new(format!("Snapshot created: {name}"), data))
            }
            RollbackCommand::View => {
                let version = version()?;
                let kept = skills.view(version.clone()).await?;
                let text = String::from_utf8_lossy(&kept.bytes).into_owned();
                let mut shown: String = text.chars().take(VIEW_MAX).collect();
                if shown.len() < text.len() {
                    shown.push_str("\n... (truncated)");
                }
                let data = RolledBack {
                    version: Some(version.to_string()),
                    content: Some(text),
                    ..RolledBack::default()
                };
                Ok(Answer::new(shown, data))
            }
            RollbackCommand::Diff => {
                let version = version()?;
                let kept = skills.view(version.clone()).await?;
                let now = skills.read().await?;
                let found = diff(&kept.law, &now.law);
                let text = format!(
                    "## Diff: {version}\n\n{}{}",
                    counted(&kept.bytes, &now.bytes),
                    skills_of(&found)
                );
                let data = RolledBack {
                    version: Some(version.to_string()),
                    diff: Some(serde_json::to_value(found)?),
                    ..RolledBack::default()
                };
                Ok(Answer::new(text, data))
            }
            RollbackCommand::Rollback => {
                let version = version()?;
                let edit = Edit::Rollback(version.clone());
                let reason = params.reason.clone();
                let drafted = skills.draft(edit, reason.clone()).await.map_err(refusal)?;
                let done = format!("Rollback successful. Restored to: {version}");
                let answer = ask(door, call, Self::NAME, drafted, reason, done).await?;
                let data = RolledBack {
                    version: Some(version.to_string()),
                    change: Some(answer.data),
                    ..RolledBack::default()
                };
                Ok(Answer::new(answer.text, data))
            }
        }
    }
}

async fn list(door: &AgentDoor) -> Result<Answer<RolledBack>, Refusal> {
    let versions = door.agent.handles.skills.versions().await?;
    let rows = versions.iter().map(|version| {
        [
            version.name.to_string(),
            version.created_at.clone().unwrap_or_default(),
            version.reason.clone().unwrap_or_default(),
        ]
    });
    let text = match versions.is_empty() {
        true => "No versions found.".to_owned(),
        false => format!(
            "## Versions\n\n{}",
            table(["Filename", "Created", "Reason"], rows)
        ),
    };
    let data = versions.into_iter().map(|version| VersionData {
        filename: version.name.to_string(),
        created_at: version.created_at,
        reason: version.reason,
        hash: version.hash.map(|hash| hash.to_hex()),
    });
    let data = RolledBack {
        versions: data.collect(),
        ..RolledBack::default()
    };
    Ok(Answer::new(text, data))
}

/// The four numbers of the reference.
fn counted(before: &[u8], after: &[u8]) -> String {
    let (before, after) = (
        String::from_utf8_lossy(before),
        String::from_utf8_lossy(after),
    );
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (lines(&before), lines(&after));
    let beyond = |these: &[String], others: &[String]| {
        let others: std::collections::HashSet<_> = others.iter().collect();
        these.iter().filter(|line| !others.contains(line)).count()
    };
    format!(
        "- old_lines: {}\n- current_lines: {}\n- added: {}\n- removed: {}\n",
        old.len(),
        new.len(),
        beyond(&new, &old),
        beyond(&old, &new)
    )
}

/// Which skills and fields differ.
fn skills_of(found: &LawDiff) -> String {
    let mut text = String::new();
    for skill in &found.skills {
        let fields = skill.fields.iter().map(|field| {
            let name = field
                .field
                .map_or("what cannot be read", |field| field.as_str());
            name.to_owned()
        });
        let fields: Vec<_> = fields.collect();
        let _ = write!(text, "\n- **{}**: {}", skill.id, fields.join(", "));
    }
    text
}
