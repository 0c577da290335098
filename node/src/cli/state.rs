//! `state`: snapshots of all layers, what changed since the last one, and the way back.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Subcommand;
use kairos_actors::state_commit::{
    Commit, Committed, Comparison, Restore, Restored, StateCommitHandle, StateError, Status, Step,
};
use kairos_protocol::state::{Diff, LayerDiff};

use super::Session;
use super::exit::Exit;
use super::out::{Cell, Out, Tone};

/// Most names or files of one kind that are listed; `--json` has them all.
const SHOWN_MAX: usize = 50;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Take a snapshot of all layers and record it in the ledger
    Commit {
        /// Why
        #[arg(long, short = 'm')]
        reason: String,
        /// Also if nothing changed
        #[arg(long)]
        force: bool,
    },
    /// Show what changed since the last snapshot
    Status,
    /// List the snapshots, newest first
    History {
        /// How many
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
    /// Show what changed between two snapshots, or since one
    Diff {
        /// The older one: `last`, a file name, or the start of its hash or time [default: last]
        before: Option<String>,
        /// The newer one [default: the state as it is]
        after: Option<String>,
    },
    /// Bring all layers back to a snapshot; what is there now is committed first
    Restore {
        /// Which: `last`, a file name, or the start of its hash or time
        snapshot: String,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// Restore without asking; needed where nobody can be asked
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

/// Runs `state`.
pub fn run(args: StateArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let state = &agent.handles.state;
        match args.command {
            StateCommand::Commit { reason, force } => {
                let done = state.commit(Commit { reason, force }).await?;
                committed(&done, &mut out)?;
            }
            StateCommand::Status => status(&state.status().await?, &mut out)?,
            StateCommand::History { limit } => return history(state, limit, &mut out).await,
            StateCommand::Diff { before, after } => {
                let found = state.compare(before, after).await?;
                compared(&found, &mut out)?;
            }
            StateCommand::Restore {
                snapshot,
                dry_run,
                yes,
            } => return restore(state, snapshot, dry_run, yes, &mut out).await,
        }
        Ok(Exit::Done)
    })
}

fn committed(done: &Committed, out: &mut Out) -> anyhow::Result<()> {
    if out.wants_json() {
        out.json(done)?;
        return Ok(());
    }
    out.line("State Committed")?;
    out.line(format_args!("  Hash: {}", done.snapshot_hash))?;
    out.line(format_args!("  Snapshot: {}", done.snapshot_ref))?;
    out.line(format_args!("  Block: {}", done.block.index))?;
    out.line(format_args!("  Reason: {}", done.reason))?;
    out.line(format_args!("  Changes: {}", done.summary.total_changes))?;
    problems(&done.problems, out)
}

fn status(status: &Status, out: &mut Out) -> anyhow::Result<()> {
    if out.wants_json() {
        out.json(status)?;
        return Ok(());
    }
    match &status.last_commit {
        None => out.line("No snapshot yet.")?,
        Some(last) => {
            let at = &last.created_at;
            out.line(format_args!(
                "Last snapshot: {} ({at}, {})",
                last.file, last.commit_type
            ))?;
            out.line(format_args!("  Reason: {}", last.reason))?;
        }
    }
    let kind = match status.is_reference_hash {
        true => "",
        false => " (of the content; the Ruby system's cannot be computed)",
    };
    out.line(format_args!("Current hash: {}{kind}", status.current_hash))?;
    if status.last_commit.is_some() {
        if status.has_changes {
            out.line("Changed since then:")?;
            differences(&status.changes, out)?;
        } else {
            out.line("Nothing changed since then.")?;
        }
    }
    let auto = match (status.enabled, status.auto_commit, status.trigger) {
        (false, ..) => "state commits are disabled".to_owned(),
        (_, false, _) => "off".to_owned(),
        (_, true, None) => "on".to_owned(),
        (_, true, Some(trigger)) => format!("on, due for {trigger}"),
    };
    out.line(format_args!("Automatic commits: {auto}"))?;
    for unread in &status.unread {
        out.note(format_args!(
            "not in the hash: {}: {}",
            unread.path, unread.reason
        ))?;
    }
    problems(&status.problems, out)
}

async fn history(state: &StateCommitHandle, limit: usize, out: &mut Out) -> anyhow::Result<Exit> {
    let history = state.history(limit).await?;
    if out.wants_json() {
        out.json(&history)?;
        return Ok(Exit::Done);
    }
    if history.commits.is_empty() {
        out.line("No state commits found.")?;
    } else {
        let rows = history.commits.iter().map(|commit| {
            let restorable = match commit.content_hash {
                Some(_) => Cell::from("yes"),
                None => Cell::toned(Tone::Quiet, "no, hashes only"),
            };
            let hash: String = commit.snapshot_hash.to_hex().chars().take(8).collect();
            let block = commit
                .block
                .map_or("-".to_owned(), |block| block.to_string());
            [
                Cell::from(hash),
                Cell::from(&commit.created_at),
                Cell::from(&commit.commit_type),
                Cell::from(block),
                restorable,
                Cell::from(&commit.reason),
            ]
        });
        out.table(
            ["HASH", "CREATED", "TYPE", "BLOCK", "RESTORABLE", "REASON"],
            rows,
        )?;
    }
    problems(&history.problems, out)?;
    Ok(Exit::Done)
}

fn compared(found: &Comparison, out: &mut Out) -> anyhow::Result<()> {
    if out.wants_json() {
        out.json(found)?;
        return Ok(());
    }
    let before = found.before.as_deref().unwrap_or("nothing");
    let after = found.after.as_deref().unwrap_or("the state as it is");
    out.line(format_args!("From {before} to {after}:"))?;
    if found.changes.changed {
        differences(&found.changes, out)?;
    } else {
        out.line("  no difference")?;
    }
    match &found.files {
        Some(files) => steps(files, out)?,
        None => out.note("One side holds only hashes, so no files can be told.")?,
    }
    problems(&found.problems, out)
}

async fn restore(
    state: &StateCommitHandle,
    snapshot: String,
    dry_run: bool,
    yes: bool,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let ask = |snapshot: &str, dry_run| Restore {
        snapshot: snapshot.to_owned(),
        dry_run,
    };
    let plan = state.restore(ask(&snapshot, true)).await?;
    if dry_run || plan.steps.is_empty() {
        restored(&plan, out)?;
        return Ok(Exit::Done);
    }
    if !yes {
        if out.wants_json() {
            out.note("With --json nobody is asked. Look with --dry-run, restore with --yes.")?;
            return Ok(Exit::Failed);
        }
        restored(&plan, out)?;
        if !std::io::stdin().is_terminal() {
            out.note("Nobody can be asked here. Restore with --yes.")?;
            return Ok(Exit::Failed);
        }
        out.note("Restore these files? (y/N)")?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            out.note("Nothing was changed.")?;
            return Ok(Exit::Failed);
        }
    }
    // By its file, so that it is the one that was shown.
    let done = state.restore(ask(&plan.file, false)).await?;
    restored(&done, out)?;
    match done.commit {
        Some(_) => Ok(Exit::Done),
        None => Err(StateError::Restless.into()),
    }
}

fn restored(done: &Restored, out: &mut Out) -> anyhow::Result<()> {
    if out.wants_json() {
        out.json(done)?;
        return Ok(());
    }
    match &done.commit {
        None if done.steps.is_empty() => {
            out.line(format_args!("Everything is as in {}.", done.file))?;
        }
        None => out.line(format_args!("To restore {}:", done.file))?,
        Some(_) => out.line(format_args!("Restored {}:", done.file))?,
    }
    steps(&done.steps, out)?;
    if !done.confirmed {
        out.note("The newest blocks of the ledger do not tell of this snapshot.")?;
    }
    if let Some(safety) = &done.safety {
        out.line(format_args!(
            "What was there before: {}",
            safety.snapshot_ref
        ))?;
    }
    if let Some(commit) = &done.commit {
        out.line(format_args!(
            "Recorded in block {}: {}",
            commit.block.index, commit.snapshot_ref
        ))?;
        problems(&commit.problems, out)?;
    }
    Ok(())
}

fn differences(diff: &Diff, out: &mut Out) -> anyhow::Result<()> {
    let layers = [("L0", &diff.l0), ("L1", &diff.l1), ("L2", &diff.l2)];
    for (layer, changes) in layers {
        if layer == "L0" && diff.l0_changed && changes.is_empty() {
            out.line("  L0  changed outside of its skills")?;
        }
        let LayerDiff {
            added,
            modified,
            deleted,
        } = changes;
        for (sign, tone, names) in [
            ('+', Tone::Good, added),
            ('~', Tone::Careful, modified),
            ('-', Tone::Bad, deleted),
        ] {
            for name in names.iter().take(SHOWN_MAX) {
                let sign = out.paint(tone, sign);
                out.line(format_args!("  {layer}  {sign} {name}"))?;
            }
            more(names.len(), out)?;
        }
    }
    for (what, names) in [
        ("promoted", &diff.promotions),
        ("archived", &diff.demotions),
    ] {
        if !names.is_empty() {
            let shown: Vec<_> = names.iter().take(SHOWN_MAX).map(String::as_str).collect();
            out.line(format_args!("  {what}: {}", shown.join(", ")))?;
        }
    }
    Ok(())
}

fn steps(steps: &[Step], out: &mut Out) -> anyhow::Result<()> {
    for step in steps.iter().take(SHOWN_MAX) {
        let (sign, tone) = match (step.from, step.to) {
            (None, _) => ('+', Tone::Good),
            (_, None) => ('-', Tone::Bad),
            _ => ('~', Tone::Careful),
        };
        let sign = out.paint(tone, sign);
        out.line(format_args!("  {sign} {}", step.path))?;
    }
    more(steps.len(), out)
}

fn more(count: usize, out: &mut Out) -> anyhow::Result<()> {
    if let Some(more) = count.checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        out.line(format_args!("  … and {more} more; --json lists all"))?;
    }
    Ok(())
}

fn problems(problems: &[String], out: &mut Out) -> anyhow::Result<()> {
    for problem in problems {
        let word = out.paint_note(Tone::Careful, "warning:");
        out.note(format_args!("{word} {problem}"))?;
    }
    Ok(())
}
