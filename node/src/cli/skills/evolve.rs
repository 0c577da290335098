//! Changes of the law: proposed here, decided by a person, and taken back the same way.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use kairos_actors::approvals::Propose;
use kairos_actors::skills::{Difference, Drafted, Edit};
use kairos_place::proposal::{ProposalId, VersionName};
use kairos_protocol::dsl::gate::{Gate, Verdict};
use kairos_protocol::dsl::{Law, edit};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use serde_json::json;

use super::{counted, diagnostics, difference};
use crate::agent::Agent;
use crate::cli::approvals::{approve, local};
use crate::cli::exit::Exit;
use crate::cli::out::{Cell, Out, Tone};
use crate::cli::propose::text;
use crate::cli::{Session, Usage};
use crate::promotion;

#[derive(Debug, Subcommand)]
pub(super) enum EvolveCommand {
    /// Propose another text of one skill; it waits until an owner approves it
    Propose {
        /// The new text, `skill :id do … end`; - reads standard input
        text: PathBuf,
        #[command(flatten)]
        why: Why,
    },
    /// Propose a new skill
    Add {
        /// Its id
        id: SkillName,
        /// Its text, whole or what stands between `do` and `end`; - reads standard input
        text: PathBuf,
        #[command(flatten)]
        why: Why,
    },
    /// Propose that a skill goes
    Remove {
        /// Its id
        id: SkillName,
        #[command(flatten)]
        why: Why,
    },
    /// Approve a proposed change of the law: shows it, asks, and carries out exactly what was shown
    Apply {
        /// The id of the proposal
        id: ProposalId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Only if the proposal bears this seal
        #[arg(long, value_name = "SEAL")]
        seal: Option<ContentHash>,
    },
    /// Propose that a former law is the law again
    Rollback {
        /// The name of the version
        version: VersionName,
        #[command(flatten)]
        why: Why,
    },
    /// List the laws that were kept, or show one
    Versions {
        /// The name of one
        version: Option<VersionName>,
        /// What differs between it and the law, instead of its text
        #[arg(long, requires = "version")]
        diff: bool,
    },
    /// Keep the law as it is, for a way back
    Snapshot {
        #[command(flatten)]
        why: Why,
    },
    /// Make knowledge of a text of a session, or else propose a skill of the law that says what an entry of knowledge says
    Promote {
        /// The name of the text, or of the entry
        name: SkillName,
        /// The session that the text is of
        #[arg(long)]
        session: Option<SkillName>,
        /// What it is to be called, if not the same
        #[arg(long = "as", value_name = "NAME")]
        target: Option<SkillName>,
        /// Why; it is recorded
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Begin a new session, which may change the law as often as the settings say
    Reset,
}

/// Why a change is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// Why; it is shown with the proposal and recorded with the decision
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Runs one of them, on the law of the agent.
pub(super) fn run(
    command: EvolveCommand,
    file: Option<PathBuf>,
    session: &mut Session,
) -> anyhow::Result<Exit> {
    if file.is_some() {
        let what = "only the law of the agent is changed, not a file; leave --file out";
        return Err(Usage(what.to_owned()).into());
    }
    let (edit, reason) = match command {
        EvolveCommand::Propose { text: file, why } => {
            let Some(edit) = evolution(&file, &mut session.out)? else {
                return Ok(Exit::Failed);
            };
            (edit, why.reason)
        }
        EvolveCommand::Add {
            id,
            text: file,
            why,
        } => {
            let given = utf8(&file)?;
            let declares = !Law::read(given.as_bytes()).skills.is_empty();
            let definition = match declares {
                true => given,
                false => edit::wrapped(id.as_str(), &given),
            };
            if !is_readable(&file, &definition, &mut session.out)? {
                return Ok(Exit::Failed);
            }
            (Edit::Add { id, definition }, why.reason)
        }
        EvolveCommand::Remove { id, why } => (Edit::Remove { id }, why.reason),
        EvolveCommand::Rollback { version, why } => (Edit::Rollback(version), why.reason),
        EvolveCommand::Apply { id, yes, seal } => return approve(id, yes, seal, session),
        EvolveCommand::Versions { version, diff } => return versions(version, diff, session),
        EvolveCommand::Snapshot { why } => return snapshot(why.reason, session),
        EvolveCommand::Reset => return reset(session),
        EvolveCommand::Promote {
            name,
            session: Some(of),
            target,
            reason,
        } => return to_knowledge((of, name), target, reason, session),
        EvolveCommand::Promote {
            name,
            session: None,
            target,
            reason,
        } => {
            return session.with_agent(|agent, mut out| async move {
                let knowledge = &agent.handles.knowledge;
                let (edit, reason) = promotion::to_law(knowledge, name, target, &reason).await?;
                propose(&agent, edit, Some(reason), &mut out).await
            });
        }
    };
    session
        .with_agent(|agent, mut out| async move { propose(&agent, edit, reason, &mut out).await })
}

fn utf8(file: &Path) -> anyhow::Result<String> {
    let bytes = text(file)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Usage(format!("the new text is not UTF-8 at byte {at}")).into()
    })
}

/// Whether all of a text is read; tells what is not, with the lines it is about.
fn is_readable(file: &Path, text: &str, out: &mut Out) -> anyhow::Result<bool> {
    let law = Law::read(text.as_bytes());
    if law.is_whole() {
        return Ok(true);
    }
    if out.wants_json() {
        let faults: Vec<_> = law.errors().map(diagnostics::json).collect();
        out.json(&json!({"file": file, "faults": faults}))?;
        return Ok(false);
    }
    for fault in law.errors() {
        out.note(diagnostics::drawn(text, file, fault, out.is_colored()))?;
        out.note("")?;
    }
    out.note("Nothing was proposed.")?;
    Ok(false)
}

/// What the text in `file` asks for: the skill that it declares gets this text. Nothing where it cannot be read, which
/// is told.
fn evolution(file: &Path, out: &mut Out) -> anyhow::Result<Option<Edit>> {
    let definition = utf8(file)?;
    if !is_readable(file, &definition, out)? {
        return Ok(None);
    }
    let law = Law::read(definition.as_bytes());
    let [skill] = law.skills.as_slice() else {
        let count = law.skills.len();
        return Err(Usage(format!(
            "the text declares {}; a change is of one: `skill :id do … end`",
            counted(count, "skill")
        ))
        .into());
    };
    let id = skill.id.parse()?;
    Ok(Some(Edit::Evolve { id, definition }))
}

/// Has a change wait, if the gates let it.
async fn propose(
    agent: &Agent,
    edit: Edit,
    reason: Option<String>,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let Drafted {
        change,
        content,
        verdict,
        changed_since,
    } = agent.handles.skills.draft(edit, reason.clone()).await?;
    if let Some(block) = changed_since {
        let word = out.paint_note(Tone::Careful, "warning:");
        out.note(format_args!(
            "{word} the law is not what block {block} tells of: somebody changed it otherwise since"
        ))?;
    }
    if !verdict.passed() {
        return refused(&verdict, out);
    }
    let propose = Propose {
        change,
        content: Some(content),
        reason,
        by: local()?,
    };
    let waiting = agent.handles.approvals.propose(propose).await?;
    let difference = Difference::of(verdict.diff)?;
    if out.wants_json() {
        out.json(&json!({
            "id": waiting.id, "seal": waiting.seal, "expires_at": waiting.proposal.expires_at.wire(),
            "checks": verdict.checks, "diff": difference.diff, "diff_hash": difference.hash,
            "changed_since": changed_since,
        }))?;
        return Ok(Exit::Done);
    }
    difference::changes(&difference, out)?;
    out.line(format_args!("Proposed as {}", waiting.id))?;
    out.note(format_args!(
        "Look at it with:  kairos-chain approvals show {0}\nApprove it with:  kairos-chain approve {0}",
        waiting.id
    ))?;
    Ok(Exit::Done)
}

/// Tells which gates do not let a change pass.
fn refused(verdict: &Verdict, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({"checks": verdict.checks, "diff": verdict.diff}))?;
        return Ok(Exit::Failed);
    }
    difference::changes(&Difference::of(verdict.diff.clone())?, out)?;
    for check in verdict.refusals() {
        let (category, item) = check.gate.words();
        let word = out.paint_note(Tone::Bad, "refused:");
        let hint = match check.gate {
            Gate::Reason => "; say why with --reason TEXT",
            _ => "",
        };
        out.note(format_args!(
            "{word} {item} ({category}): {}{hint}",
            check.detail
        ))?;
    }
    out.note("Nothing was proposed.")?;
    Ok(Exit::Failed)
}

fn versions(
    version: Option<VersionName>,
    compare: bool,
    session: &mut Session,
) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let skills = &agent.handles.skills;
        let Some(version) = version else {
            return list(&skills.versions().await?, &mut out);
        };
        let kept = skills.view(version).await?;
        if !compare {
            out.bytes().write_all(&kept.bytes)?;
            return Ok(Exit::Done);
        }
        let now = skills.read().await?;
        let found = Difference::between(&kept.law, &now.law)?;
        if out.wants_json() {
            out.json(&json!({"diff": found.diff, "hash": found.hash}))?;
            return Ok(Exit::Done);
        }
        match found.diff.is_empty() {
            true => out.line("It says what the law says.")?,
            false => difference::changes(&found, &mut out)?,
        }
        Ok(Exit::Done)
    })
}

fn list(versions: &[kairos_actors::skills::Version], out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({"versions": versions}))?;
        return Ok(Exit::Done);
    }
    if versions.is_empty() {
        out.line("No law was kept yet. One is kept with each approved change, or by:  kairos-chain skills snapshot")?;
        return Ok(Exit::Done);
    }
    let rows = versions.iter().map(|version| {
        let hash = match version.hash {
            Some(hash) => Cell::from(hash.to_string().chars().take(12).collect::<String>()),
            None => Cell::toned(Tone::Careful, "not read"),
        };
        [
            Cell::from(&version.name),
            Cell::from(version.created_at.as_deref().unwrap_or_default()),
            hash,
            Cell::from(version.reason.as_deref().unwrap_or_default()),
        ]
    });
    out.table(["VERSION", "KEPT", "HASH", "WHY"], rows)?;
    Ok(Exit::Done)
}

fn snapshot(reason: Option<String>, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let name = agent.handles.skills.snapshot(reason, local()?).await?;
        match out.wants_json() {
            true => out.json(&json!({"version": name}))?,
            false => out.line(format_args!("Kept as {name}"))?,
        }
        Ok(Exit::Done)
    })
}

fn to_knowledge(
    (of, name): (SkillName, SkillName),
    target: Option<SkillName>,
    reason: String,
    session: &mut Session,
) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let knowledge = &agent.handles.knowledge;
        let changed = promotion::to_knowledge(knowledge, of, name, target, &reason).await?;
        match out.wants_json() {
            true => out.json(&json!({"name": changed.name, "action": changed.action, "hash": changed.content_hash}))?,
            false => out.line(format_args!("Promoted to knowledge '{}'", changed.name))?,
        }
        Ok(Exit::Done)
    })
}

fn reset(session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let begun = agent.handles.skills.reset(local()?).await?;
        match out.wants_json() {
            true => out.json(&begun)?,
            false => out.line(format_args!(
                "A session begins: it may change the law {} times",
                begun.limit
            ))?,
        }
        Ok(Exit::Done)
    })
}
