//! Whole ledgers as directories: what leaves in the reference's form of an export, and what comes in to be looked at.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kairos_actors::action_log::ActionLog;
use kairos_actors::chain::store::place::{Backend, Places};
use kairos_actors::chain::store::transfer::{Form, Held, Progress, Staged, Writer};
use kairos_protocol::block::BlockRef;
use kairos_protocol::ledger::LoadState;
use kairos_protocol::time::Clock as _;
use serde_json::json;

use crate::clock::SystemClock;
use crate::data_dir::DataDir;

/// The ledger, inside an exported directory.
const LEDGER: &str = "blockchain.json";
/// The action log, beside it.
pub(crate) const ACTION_LOG: &str = "action_log.jsonl";
/// The metadata of knowledge, beside it.
const KNOWLEDGE_META: &str = "knowledge_meta.json";
/// Where exports say what they are.
const MANIFEST: &str = "manifest.json";

/// What an export holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exported {
    /// Blocks.
    pub(crate) blocks: u64,
    /// The last of them.
    pub(crate) tip: Option<BlockRef>,
    /// Records of the action log.
    pub(crate) action_logs: u64,
    /// Entries of knowledge that the database tells of.
    pub(crate) knowledge_meta: u64,
}

/// Writes the ledger, checked, into `directory`, which must not exist yet: it is there whole or not at all. Nobody
/// writes to the ledger meanwhile. Blocks.
///
/// # Errors
///
/// The ledger does not load, or the system refuses.
pub(crate) fn export(
    data_dir: &DataDir,
    places: &Places,
    directory: &Path,
    told: Progress<'_>,
) -> anyhow::Result<Exported> {
    if directory.exists() {
        bail!(
            "{} exists already; name a directory that does not",
            directory.display()
        );
    }
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let folder = tempfile::Builder::new()
        .prefix(".export-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot write to {}", parent.display()))?;
    let path = folder.path().join(LEDGER);
    let mut writer = Writer::new(File::create_new(&path)?, Form::Json, &path);
    let mut failed = Ok(());
    let held = Held::take(places, places.backend)?;
    let report = held.blocks(&mut |block| {
        if failed.is_ok() {
            told(block.index() + 1);
            failed = writer.add(block);
        }
    })?;
    failed?;
    drop(held);
    if report.state != LoadState::Readable {
        let why = report
            .problem
            .map(|problem| format!(": {problem}"))
            .unwrap_or_default();
        bail!("the ledger is {}{why}; nothing was exported", report.state);
    }
    let (file, tip) = writer.end()?;
    file.sync_all()?;
    let (action_logs, knowledge_meta) = tables(data_dir, places, folder.path())?;
    let manifest = json!({
        "kairos_chain_export": true,
        "version": "1.0",
        "exported_at": SystemClock.now().entry(),
        "source_db": places.path(places.backend).file_name().map(|name| name.to_string_lossy()),
        "contents": {
            "blockchain": LEDGER, "action_log": ACTION_LOG, "knowledge_meta": KNOWLEDGE_META,
        },
        "counts": {
            "blocks": report.length, "action_logs": action_logs, "knowledge_meta": knowledge_meta,
        },
        "tip": tip,
    });
    write(
        &folder.path().join(MANIFEST),
        serde_json::to_string_pretty(&manifest)?.as_bytes(),
    )?;
    fs::set_permissions(folder.path(), fs::metadata(parent)?.permissions())?;
    File::open(folder.path())?.sync_all()?;
    fs::rename(folder.path(), directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    // It is where it belongs; there is nothing left to clear away.
    let _moved = folder.keep();
    File::open(parent)?.sync_all()?;
    Ok(Exported {
        blocks: report.length,
        tip,
        action_logs,
        knowledge_meta,
    })
}

/// The file of blocks that is meant by an exported directory, or by the file itself.
pub(crate) fn ledger_in(source: &Path) -> PathBuf {
    match source.is_dir() {
        true => source.join(LEDGER),
        false => source.to_owned(),
    }
}

/// Copies a ledger from elsewhere, an exported directory or a file of blocks, beside the one at `beside`, and checks
/// all of it on the way. Blocks.
///
/// # Errors
///
/// It cannot be read, or is no ledger.
pub(crate) fn stage(source: &Path, beside: &Path, told: Progress<'_>) -> anyhow::Result<Staged> {
    let path = ledger_in(source);
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let what = source.display().to_string();
    Ok(Staged::read(file, &what, beside, told)?)
}

/// Writes the action log and the metadata of the knowledge beside an exported ledger, and counts them.
fn tables(data_dir: &DataDir, places: &Places, folder: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut log, meta) = match places.backend {
        Backend::Sqlite => kairos_actors::chain::store::sqlite::tables(&places.sqlite)?,
        Backend::File => (Vec::new(), Vec::new()),
    };
    // The reference keeps its own log in the database; ours is a file in any case.
    log.extend(ActionLog::new(data_dir.path()).lines()?);
    let mut text = log.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    write(&folder.join(ACTION_LOG), text.as_bytes())?;
    write(
        &folder.join(KNOWLEDGE_META),
        serde_json::to_string_pretty(&meta)?.as_bytes(),
    )?;
    Ok((log.len() as u64, meta.len() as u64))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
