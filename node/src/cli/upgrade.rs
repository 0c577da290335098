//! `upgrade`: bring the texts of a data directory to those of this version, and keep what its owner changed.

use kairos_actors::chain::queue::IdempotencyKey;
use kairos_protocol::block::entry::Entry;
use kairos_protocol::time::Timestamp;
use serde_json::json;

use super::Session;
use super::exit::Exit;
use super::out::{Out, Tone};
use crate::upgrade::{self, Item, Plan, Status, Step, What};

/// What to do.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --apply nothing is changed. Each text is compared three ways: as it was made, as it is, and as this version\n\
    has it. What you did not change is replaced; settings are merged, your values and comments staying; everything else\n\
    stays as it is, and what is new is shown. skills/kairos.rb and skills/kairos.md govern the agent and are replaced only\n\
    if you name them with --take.\n\n\
    Whatever is replaced is kept as FILE.bak.TIME. All of it is done or nothing, and the ledger gets one record.\n\
    A directory of KairosChain 2.2 or 3.75 stays usable by them: what they keep track of is not changed."
)]
pub struct UpgradeArgs {
    /// Only say whether there is anything to do; exits with 3 if there is
    #[arg(long, conflicts_with = "apply")]
    check: bool,

    /// Do it
    #[arg(long)]
    apply: bool,

    /// Say what would be done, with every change; this is what happens without options
    #[arg(long, conflicts_with_all = ["apply", "check"])]
    dry_run: bool,

    /// Replace this file too, whatever became of it; may be given several times
    #[arg(long, value_name = "FILE")]
    take: Vec<String>,
}

/// Runs `upgrade`.
///
/// # Errors
///
/// Nothing was changed, unless the error says so.
pub fn run(args: UpgradeArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let data_dir = session.data_dir().existing()?;
    let plan = upgrade::plan(&data_dir, &args.take)?;
    if args.check {
        return check(&plan, &mut session.out);
    }
    if !args.apply {
        preview(&plan, &mut session.out)?;
        return Ok(Exit::Done);
    }
    if !plan.needed {
        tell_none(&plan, &mut session.out)?;
        return Ok(Exit::Done);
    }
    session.with_agent(|agent, mut out| async move {
        let now: Timestamp = agent.clock.now();
        let (takes, dir) = (args.take, agent.data_dir.clone());
        let skills = &agent.handles.skills;
        if plan.changes_law() {
            skills.open_session().await?;
        }
        let apply = move || upgrade::apply(&dir, &takes, now);
        let (plan, applied) = tokio::task::spawn_blocking(apply).await??;
        let told = match applied.tells_of_law() {
            true => skills.last_told().await,
            false => Ok(None),
        };
        let law = match told {
            Ok(told) => applied.law(told.and_then(|told| told.law)),
            // All that can be told is told; of the law more than once, if need be.
            Err(error) => {
                tracing::warn!(%error, "what the ledger tells of the law is not known");
                applied.law(None)
            }
        };
        let entries = upgrade::record(&plan, law, now);
        let entries = entries.iter().map(Entry::to_text).collect();
        let chain = &agent.handles.chain;
        let recorded = chain.record(IdempotencyKey::fresh(), entries).await;
        let end = move || applied.end(recorded);
        let (block, done) = tokio::task::spawn_blocking(end).await??;
        if out.wants_json() {
            out.json(&json!({"plan": plan, "done": done, "block": block}))?;
            return Ok(Exit::Done);
        }
        out.line("# Applying Upgrade")?;
        for item in &plan.items {
            let (tone, tag) = tag(item);
            if let Some(tag) = tag {
                out.line(format_args!("{} {}", out.paint(tone, tag), item.path))?;
            }
        }
        for done in done.iter().filter_map(|done| done.copy.as_ref()) {
            out.line(format_args!("  kept {}", done.display()))?;
        }
        out.line(format_args!("[RECORDED] block {}", block.index))?;
        out.line(format_args!(
            "## Upgrade Complete: {} -> {}",
            plan.from_version, plan.to_version
        ))?;
        Ok(Exit::Done)
    })
}

fn tell_none(plan: &Plan, out: &mut Out) -> std::io::Result<()> {
    if out.wants_json() {
        return out.json(&json!({"plan": plan, "done": [], "block": null}));
    }
    out.line("No upgrade needed. Data directory is already up to date.")
}

fn check(plan: &Plan, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({
            "needed": plan.needed, "from_version": plan.from_version, "to_version": plan.to_version,
        }))?;
    } else if plan.needed {
        out.line("# System Upgrade Check")?;
        out.line(format_args!(
            "{} -> {}; see what would change with kairos-chain upgrade",
            plan.from_version, plan.to_version
        ))?;
    } else {
        tell_none(plan, out)?;
    }
    Ok(if plan.needed {
        Exit::Warned
    } else {
        Exit::Done
    })
}

fn preview(plan: &Plan, out: &mut Out) -> anyhow::Result<()> {
    if out.wants_json() {
        return Ok(out.json(&json!({"plan": plan, "done": [], "block": null}))?);
    }
    out.line("# Upgrade Preview")?;
    out.line(format_args!("{} -> {}", plan.from_version, plan.to_version))?;
    for item in &plan.items {
        let tone = match item.word() {
            "NEW" | "UP" => Tone::Good,
            "OK" | "USER" => Tone::Quiet,
            _ => Tone::Careful,
        };
        out.line(format_args!(
            "### {} {}: {}",
            out.paint(tone, item.word()),
            item.path,
            item.intent()
        ))?;
        if let Some(diff) = &item.diff {
            for line in diff.lines() {
                out.line(format_args!("    {line}"))?;
            }
        }
    }
    match plan.needed {
        true => {
            out.line("Nothing was changed. Carry it out with:  kairos-chain upgrade --apply")?
        }
        false => tell_none(plan, out)?,
    }
    Ok(())
}

fn tag(item: &Item) -> (Tone, Option<&'static str>) {
    match (item.step, item.what) {
        (Step::Keep, _) if item.status == Status::Unchanged => (Tone::Quiet, None),
        (Step::Keep, _) => (Tone::Quiet, Some("[KEPT]")),
        (Step::Create, _) => (Tone::Good, Some("[INSTALLED]")),
        (Step::Replace, What::Knowledge) => (Tone::Good, Some("[UPDATED]")),
        (Step::Replace, _) => (Tone::Good, Some("[AUTO-UPDATED]")),
        (Step::Merge, _) => (Tone::Good, Some("[MERGED]")),
        (Step::Beside, _) => (Tone::Careful, Some("[CONFLICT]")),
        (Step::Propose, What::Law) => (Tone::Careful, Some("[L0-PROPOSAL]")),
        (Step::Propose, _) => (Tone::Careful, Some("[DIFF-ONLY]")),
    }
}
