//! `chain export` and `chain import`, and in a file of its own `chain migrate`: whole ledgers out, in, and from one
//! form to the other.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kairos_actors::action_log::ActionLog;
use kairos_actors::chain::store::place::Places;
use kairos_actors::chain::store::transfer::{Form, Held, Relation, Staged, Writer};
use kairos_protocol::time::Clock as _;
use serde_json::json;

use super::super::Session;
use super::super::exit::Exit;
use crate::agent;
use crate::clock::SystemClock;
use crate::data_dir::{DataDir, Tenancy};
use crate::transfer::{self, ACTION_LOG};

mod migrate;
mod settings;

pub(super) use migrate::{MigrateArgs, migrate};

/// Longest action log that is taken from an export.
const ACTION_LOG_MAX: u64 = 64 * 1024 * 1024;

/// Write the ledger, checked, into a new directory or to standard output
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// A directory that does not exist yet
    #[arg(required_unless_present = "stream")]
    directory: Option<PathBuf>,
    /// Write the blocks to standard output: a JSON array, or one JSON object a line
    #[arg(long, value_name = "FORM", conflicts_with = "directory")]
    stream: Option<StreamForm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StreamForm {
    Json,
    Jsonl,
}

/// Check a ledger from elsewhere and take it; the one in use is kept aside
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// An exported directory, a file of blocks (a JSON array, or one JSON object a line), or - for standard input
    source: PathBuf,
    /// Take it also where it does not continue the ledger in use
    #[arg(long)]
    replace: bool,
    /// Check, and say what would happen
    #[arg(long)]
    dry_run: bool,
}

/// Runs `chain export`.
pub(super) fn export(args: &ExportArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let (data_dir, places, _tenancy) = places(session)?;
    // Finishes what a crash interrupted, and refuses to look in the wrong place.
    drop(places.open()?);
    let bar = bar("exporting");
    if let Some(form) = args.stream {
        let form = match form {
            StreamForm::Json => Form::Json,
            StreamForm::Jsonl => Form::JsonLines,
        };
        // What is wrong must be told before anything is written, so the whole is checked first.
        let held = Held::take(&places, places.backend)?;
        let staged = Staged::copy(&held, held.path(), &mut |done| bar.set_position(done))?;
        drop(held);
        let mut writer = Writer::new(io::stdout().lock(), form, Path::new("standard output"));
        staged.each(|block| writer.add(block))?;
        let (_stdout, _tip) = writer.end()?;
        bar.finish_and_clear();
        return Ok(Exit::Done);
    }
    let Some(directory) = &args.directory else {
        bail!("name a directory, or give --stream");
    };
    if directory == Path::new("-") {
        bail!("what goes to standard output has a form: --stream json, or --stream jsonl");
    }
    let exported = transfer::export(&data_dir, &places, directory, &mut |done| {
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let out = &mut session.out;
    if out.wants_json() {
        out.json(&json!({"directory": directory, "blocks": exported.blocks, "tip": exported.tip}))?;
    } else {
        out.line(format_args!(
            "Exported {} blocks to {}",
            exported.blocks,
            directory.display()
        ))?;
    }
    Ok(Exit::Done)
}

/// Runs `chain import`.
pub(super) fn import(args: &ImportArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let (data_dir, places, _tenancy) = places(session)?;
    let path = places.path(places.backend);
    let bar = bar("checking");
    let told = &mut |done| bar.set_position(done);
    let staged = if args.source == Path::new("-") {
        Staged::read(io::stdin().lock(), "standard input", path, told)?
    } else {
        transfer::stage(&args.source, path, told)?
    };
    bar.finish_and_clear();
    let held = Held::take(&places, places.backend)?;
    let relation = held.relation(&staged)?;
    let (blocks, tip) = (staged.length(), staged.tip());
    let takes = relation != Relation::Same;
    let refused = !relation.is_harmless() && !args.replace;
    let kept = if refused || args.dry_run || !takes {
        None
    } else {
        held.replace(staged, &backups(&data_dir), SystemClock.now())?
    };
    let records = match refused || args.dry_run {
        true => 0,
        false => action_log(&data_dir, &args.source)?,
    };
    let out = &mut session.out;
    if out.wants_json() {
        out.json(&json!({
            "blocks": blocks, "tip": tip, "relation": format!("{relation:?}").to_lowercase(),
            "imported": takes && !refused && !args.dry_run, "kept": kept, "action_logs": records,
        }))?;
    } else if refused {
        out.note(format_args!(
            "error: the ledger in use {relation}; --replace puts it into {} and takes this one",
            backups(&data_dir).display()
        ))?;
    } else if !takes {
        out.line(format_args!(
            "The ledger in use is the same {blocks} blocks"
        ))?;
    } else if args.dry_run {
        out.line(format_args!(
            "Would import {blocks} blocks, all of them good; the ledger in use {relation}"
        ))?;
    } else {
        out.line(format_args!("Imported {blocks} blocks, all of them good"))?;
        if let Some(kept) = &kept {
            out.line(format_args!("  The ledger before is in {}", kept.display()))?;
        }
    }
    if records > 0 && !out.wants_json() {
        out.line(format_args!(
            "  {records} records were added to the action log"
        ))?;
    }
    Ok(if refused { Exit::Failed } else { Exit::Done })
}

/// Takes the action log of an exported directory, as far as it is not here yet, and says how many records that were.
/// The metadata of knowledge beside it is derived from the files of knowledge, which an export does not hold.
fn action_log(data_dir: &DataDir, source: &Path) -> anyhow::Result<u64> {
    let path = source.join(ACTION_LOG);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(0);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut text = String::new();
    file.take(ACTION_LOG_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(ActionLog::new(data_dir.path()).take(text.lines())?)
}

/// Where the ledger may be, in a directory that nobody replaces meanwhile.
fn places(session: &Session) -> anyhow::Result<(DataDir, Places, Tenancy)> {
    let data_dir = session.data_dir().existing()?;
    let tenancy = data_dir.enter()?;
    let settings = session.settings(&[])?;
    let places = agent::ledger(&data_dir, &settings);
    Ok((data_dir, places, tenancy))
}

fn backups(data_dir: &DataDir) -> PathBuf {
    data_dir.storage().join("backups")
}

/// Counts blocks on standard error, where a person is watching.
fn bar(what: &'static str) -> ProgressBar {
    use std::io::IsTerminal as _;
    let bar = if io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {human_pos} blocks {per_sec}")
    {
        bar.set_style(style);
    }
    bar.with_message(what)
}
