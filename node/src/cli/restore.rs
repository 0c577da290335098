//! `restore`: put a backup in the place of the data directory, once all of it was checked.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytesize::ByteSize;
use kairos_protocol::backup::Manifest;
use kairos_protocol::time::Clock as _;
use serde_json::{Value, json};

use super::exit::Exit;
use super::out::Tone;
use super::{Session, progress};
use crate::agent;
use crate::backup::restore::{Plan, Restored, examine, restore};
use crate::backup::verify;
use crate::clock::SystemClock;

/// What to restore.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Everything is unpacked beside the data directory and checked: every file against its hash, the ledger block by block,\n\
    the key against the id. Then the two directories change places in one step, so that whenever the power fails, one of\n\
    them is there, whole. It refuses while any program has the directory open.\n\n\
    The directory that was there is kept beside, as DIR.before-restore-TIME. A backup that is older than the ledger in\n\
    place takes back blocks that others may have seen: they may take the agent for one that tells two stories."
)]
pub struct RestoreArgs {
    /// The backup, or - for standard input
    file: PathBuf,

    /// Check everything and say what would happen; change nothing
    #[arg(long)]
    dry_run: bool,

    /// Delete the directory that was there, once the other is in its place
    #[arg(long, conflicts_with = "dry_run")]
    discard_old: bool,
}

/// Runs `restore`.
///
/// # Errors
///
/// The directory in place is as it was, unless the error says that the backup is in place.
pub fn run(args: &RestoreArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let data_dir = session.data_dir();
    // What is to be replaced may have no settings, or none that can be read.
    let settings = session.settings(&[]).unwrap_or_default();
    let places = agent::ledger(&data_dir, &settings);
    let (archive, size): (Box<dyn Read>, _) = if args.file == Path::new("-") {
        (Box::new(std::io::stdin().lock()), None)
    } else {
        let file = File::open(&args.file)
            .with_context(|| format!("cannot open {}", args.file.display()))?;
        let size = file.metadata()?.len();
        (Box::new(file), Some(size))
    };
    let (bar, told) = progress::transfer(if args.dry_run {
        "Checking"
    } else {
        "Restoring"
    });
    // The bar counts what is unpacked, and how much that is in all is not known to it.
    let tell = |bytes| told(bytes, None);
    let out = &mut session.out;
    if args.dry_run {
        let checked = verify(archive, tell);
        bar.finish_and_clear();
        let manifest = checked?;
        let plan = examine(&data_dir, &places, &manifest)?;
        if out.wants_json() {
            out.json(&report(&manifest, &plan, size, true, None))?;
            return Ok(Exit::Done);
        }
        out.line(format_args!("The backup is good: {}", contents(&manifest)))?;
        let place = plan.place.display();
        match plan.replaces {
            true => out.line(format_args!(
                "It would replace {place}, which would be kept beside"
            ))?,
            false => out.line(format_args!(
                "It would become {place}, where nothing is yet"
            ))?,
        }
        warn(&manifest, &plan, session)?;
        return Ok(Exit::Done);
    }
    let restored = restore(
        &data_dir,
        &places,
        archive,
        args.discard_old,
        SystemClock.now(),
        tell,
    );
    bar.finish_and_clear();
    let Restored {
        manifest,
        plan,
        kept,
        cleared,
    } = restored?;
    for path in &cleared {
        out.note(format_args!(
            "Removed {}, left by a restore that was interrupted",
            path.display()
        ))?;
    }
    if out.wants_json() {
        out.json(&report(&manifest, &plan, size, false, kept.as_deref()))?;
        return Ok(Exit::Done);
    }
    out.line(format_args!(
        "Restored {}: {}",
        plan.place.display(),
        contents(&manifest)
    ))?;
    if let Some(kept) = kept {
        out.line(format_args!("What was there is in {}", kept.display()))?;
    }
    warn(&manifest, &plan, session)?;
    Ok(Exit::Done)
}

fn contents(manifest: &Manifest) -> String {
    let made = format!("made by {} at {}", manifest.program, manifest.created_at);
    let (files, size) = (manifest.files().count(), ByteSize(manifest.total()));
    let ledger = match manifest.ledger {
        Some(part) => format!("a ledger of {} blocks", part.length),
        None => "no ledger".to_owned(),
    };
    format!("{files} files, {size}, {ledger}, {made}")
}

fn warn(manifest: &Manifest, plan: &Plan, session: &mut Session) -> std::io::Result<()> {
    let out = &mut session.out;
    let word = out.paint_note(Tone::Careful, "warning:");
    if plan.blocks_lost > 0 {
        let (count, s) = (
            plan.blocks_lost,
            if plan.blocks_lost == 1 { "" } else { "s" },
        );
        let more = match plan.other_history {
            true => "of another history",
            false => "more than the backup",
        };
        out.note(format_args!(
            "{word} the ledger in place has {count} block{s} {more}; others may have seen them"
        ))?;
    }
    if let Some(agent) = &plan.other_agent {
        out.note(format_args!(
            "{word} the directory in place is that of another agent, {agent}"
        ))?;
    }
    if !manifest.keys {
        out.note(format_args!("{word} there are no keys in the backup: put keys/ back, or the agent gets a new identity"))?;
    }
    for thing in &manifest.left_out {
        out.note(format_args!(
            "{word} the backup left out {}: {}",
            thing.path, thing.reason
        ))?;
    }
    Ok(())
}

fn report(
    manifest: &Manifest,
    plan: &Plan,
    bytes: Option<u64>,
    dry_run: bool,
    kept: Option<&Path>,
) -> Value {
    json!({
        "data_dir": plan.place, "dry_run": dry_run, "bytes": bytes, "files": manifest.files().count(),
        "total": manifest.total(), "program": manifest.program, "created_at": manifest.created_at.wire(),
        "instance_id": manifest.instance_id, "keys": manifest.keys, "ledger": manifest.ledger,
        "left_out": manifest.left_out, "replaces": plan.replaces, "blocks_lost": plan.blocks_lost,
        "other_history": plan.other_history, "other_agent": plan.other_agent, "kept": kept,
    })
}
