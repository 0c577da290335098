//! `chain migrate`: the ledger from one form to the other.

use std::path::PathBuf;

use anyhow::bail;
use kairos_actors::chain::store::StoreError;
use kairos_actors::chain::store::place::{Backend, Places};
use kairos_actors::chain::store::transfer::{Alone, Held, Relation, Staged, TransferError};
use kairos_protocol::ledger::LoadState;
use kairos_protocol::time::{Clock as _, Timestamp};
use serde_json::json;

use super::super::super::Session;
use super::super::super::exit::Exit;
use super::{backups, bar, places, settings};
use crate::clock::SystemClock;
use crate::config::{Layer, Source as Setting};
use crate::data_dir::DataDir;

/// Bring the ledger from one form into the other, and use it from then on
#[derive(Debug, clap::Args)]
pub(in super::super) struct MigrateArgs {
    /// The new form
    #[arg(long)]
    to: To,
    /// Check, and say what would happen
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum To {
    File,
    Sqlite,
}

/// Runs `chain migrate`.
pub(in super::super) fn migrate(args: &MigrateArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let (data_dir, mut places, _tenancy) = places(session)?;
    let to = match args.to {
        To::File => Backend::File,
        To::Sqlite => Backend::Sqlite,
    };
    let from = match to {
        Backend::File => Backend::Sqlite,
        Backend::Sqlite => Backend::File,
    };
    let chosen = backend_source(session)?;
    settings::check(&data_dir, &chosen, to)?;
    if places.backend == to && !places.path(from).exists() {
        session
            .out
            .line(format_args!("The ledger is kept as {to} already"))?;
        return Ok(Exit::Done);
    }
    let is_moved = !places.path(from).exists() && places.path(to).exists();
    if places.backend == from && is_moved {
        return finish(args, session, &data_dir, &places, to);
    }
    places.backend = from;
    drop(places.open()?);
    // To look, it need not be had alone.
    let source = if args.dry_run {
        Source::Held(Held::take(&places, from)?)
    } else {
        Source::Alone(Alone::take(&places, from).map_err(in_use)?)
    };
    let bar = bar("copying");
    let staged = Staged::copy(source.held(), places.path(to), &mut |done| {
        bar.set_position(done)
    })?;
    bar.finish_and_clear();
    let (blocks, tip) = (staged.length(), staged.tip());
    let target = Held::take(&places, to)?;
    let relation = target.relation(&staged)?;
    if !relation.is_harmless() {
        bail!(
            "there is another ledger at {}, which {relation}; move it away and try again",
            places.path(to).display()
        );
    }
    let kept = if let Source::Alone(source) = source {
        let (backups, now): (PathBuf, Timestamp) = (backups(&data_dir), SystemClock.now());
        if relation != Relation::Same {
            target.replace(staged, &backups, now)?;
        }
        let kept = source.put_away(&backups, now)?;
        settings::choose(&data_dir, to)?;
        Some(kept)
    } else {
        None
    };
    let out = &mut session.out;
    if out.wants_json() {
        out.json(&json!({
            "blocks": blocks, "tip": tip, "from": from.to_string(), "to": to.to_string(),
            "migrated": !args.dry_run, "kept": kept,
        }))?;
    } else if let Some(kept) = kept {
        out.line(format_args!("Migrated {blocks} blocks from {from} to {to}"))?;
        out.line(format_args!("  The ledger before is in {}", kept.display()))?;
        out.line("  A running server takes it when it is started again.")?;
    } else {
        out.line(format_args!(
            "Would migrate {blocks} blocks from {from} to {to}, all of them good"
        ))?;
    }
    Ok(Exit::Done)
}

/// The ledger that a migration starts from.
enum Source {
    Held(Held),
    Alone(Alone),
}

impl Source {
    fn held(&self) -> &Held {
        match self {
            Self::Held(held) => held,
            Self::Alone(alone) => alone.held(),
        }
    }
}

/// Says what to do about an open database.
fn in_use(error: TransferError) -> anyhow::Error {
    match error {
        TransferError::Store(StoreError::Locked) => {
            anyhow::anyhow!("another program has the ledger open; stop the server and try again")
        }
        other => other.into(),
    }
}

/// Ends a migration that was cut off after the old ledger was put away.
fn finish(
    args: &MigrateArgs,
    session: &mut Session,
    data_dir: &DataDir,
    places: &Places,
    to: Backend,
) -> anyhow::Result<Exit> {
    let target = Held::take(places, to)?;
    let report = target.report()?;
    if report.state != LoadState::Readable {
        bail!(
            "the ledger at {} is {}",
            target.path().display(),
            report.state
        );
    }
    if !args.dry_run {
        settings::choose(data_dir, to)?;
    }
    let out = &mut session.out;
    if out.wants_json() {
        out.json(&json!({
            "blocks": report.length, "tip": report.tip, "from": places.backend.to_string(), "to": to.to_string(),
            "migrated": !args.dry_run, "kept": null,
        }))?;
    } else if args.dry_run {
        out.line(format_args!(
            "All {} blocks are in {to} already; would use them from there",
            report.length
        ))?;
    } else {
        out.line(format_args!(
            "All {} blocks were in {to} already, and are used from there now",
            report.length
        ))?;
    }
    Ok(Exit::Done)
}

/// Which layer says in which form the ledger is kept.
fn backend_source(session: &Session) -> anyhow::Result<Setting> {
    let loaded = session.loaded(&[])?;
    let source = loaded.sources.get("storage.backend");
    Ok(source.cloned().unwrap_or(Setting {
        layer: Layer::BuiltIn,
        origin: None,
    }))
}
