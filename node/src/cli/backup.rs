//! `backup`: copy the data directory into one file, while it is in use.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytesize::ByteSize;
use kairos_protocol::backup::{MANIFEST, Manifest};
use kairos_protocol::time::Clock as _;
use serde_json::json;

use super::exit::Exit;
use super::out::Tone;
use super::{Session, Usage, progress};
use crate::agent;
use crate::backup::{self, Wanted};
use crate::clock::SystemClock;

/// The name of a backup on standard output.
const STDOUT: &str = "-";

/// What to copy, and where to.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A server may run, and others may write, meanwhile. The copy is of one moment: whoever changes something that the\n\
    ledger records waits while it is copied, usually for milliseconds.\n\n\
    The file can be read by its owner alone. It is read again from its first to its last byte before it gets its name.\n\
    It is a tar.gz with a list of everything in kairos-backup.json, and the data directory below data/."
)]
pub struct BackupArgs {
    /// The file, or - for standard output [default: kairos-backup-ID-TIME.tar.gz in the working directory]
    file: Option<PathBuf>,

    /// Leave private keys out; restored without them, the agent gets a new identity
    #[arg(long)]
    no_keys: bool,

    /// Leave out links, special files and names that are not UTF-8, instead of failing on them
    #[arg(long)]
    skip_unsupported: bool,

    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// Runs `backup`.
///
/// # Errors
///
/// Nothing was written, or not all of it: then there is no file.
pub fn run(args: &BackupArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let data_dir = session.data_dir().existing()?;
    let to_stdout = args.file.as_deref() == Some(Path::new(STDOUT));
    if to_stdout && (session.out.is_terminal() || session.out.wants_json()) {
        let reason = "a backup on standard output goes to a file or a program, and not with --json";
        return Err(Usage(reason.to_owned()).into());
    }
    let folder = match args.file.as_deref().and_then(Path::parent) {
        Some(folder) if folder != Path::new("") && !to_stdout => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let root = data_dir.path().canonicalize()?;
    let real = folder
        .canonicalize()
        .with_context(|| format!("no directory at {}", folder.display()))?;
    if !to_stdout && real.starts_with(&root) {
        let reason = "a backup inside the data directory would be lost with it; name another place";
        return Err(Usage(reason.to_owned()).into());
    }
    let now = SystemClock.now();
    let wanted = Wanted {
        keys: !args.no_keys,
        skip_unsupported: args.skip_unsupported,
    };
    let places = agent::ledger(&data_dir, &session.settings(&[])?);
    let prepared = backup::prepare(&data_dir, &places, wanted, now)?;
    let manifest = &prepared.manifest;
    let (bar, told) = progress::transfer("Backing up");
    let total = manifest.total();
    let tell = |bytes| told(bytes, Some(total));
    if to_stdout {
        let written = prepared.write(BufWriter::new(session.out.bytes()), tell);
        bar.finish_and_clear();
        written?;
        session.out.note(summary(manifest, "standard output"))?;
        warn(manifest, session)?;
        return Ok(Exit::Done);
    }
    let file = match &args.file {
        Some(file) => file.clone(),
        None => {
            let id = manifest
                .instance_id
                .as_ref()
                .map_or("agent", |id| id.as_str());
            let id: String = id
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .take(32)
                .collect();
            PathBuf::from(format!("kairos-backup-{id}-{}.tar.gz", now.file_stamp()))
        }
    };
    if file.exists() && !args.force {
        bar.finish_and_clear();
        anyhow::bail!(
            "{} exists; name another file, or replace it with --force",
            file.display()
        );
    }
    // Made with mode 0600, and gone again unless everything succeeds.
    let mut temporary = tempfile::Builder::new()
        .prefix(".kairos-backup-")
        .suffix(".tmp")
        .tempfile_in(&folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    prepared.write(BufWriter::new(&mut temporary), tell)?;
    temporary.as_file().sync_all()?;
    bar.set_message("Checking");
    let again = backup::verify(File::open(temporary.path())?, |bytes| {
        told(bytes, Some(total))
    })?;
    bar.finish_and_clear();
    anyhow::ensure!(
        again == *manifest,
        "the backup does not read as it was written; the disk may be failing"
    );
    let size = temporary.as_file().metadata()?.len();
    keep(temporary, &file, args.force)
        .with_context(|| format!("cannot write {}", file.display()))?;
    File::open(&folder)?.sync_all()?;
    if session.out.wants_json() {
        session.out.json(&json!({
            "file": file, "bytes": size, "files": manifest.files().count(), "total": total,
            "created_at": manifest.created_at.wire(), "instance_id": manifest.instance_id, "keys": manifest.keys,
            "ledger": manifest.ledger, "left_out": manifest.left_out, "manifest": MANIFEST,
        }))?;
        return Ok(Exit::Done);
    }
    session
        .out
        .line(summary(manifest, &file.display().to_string()))?;
    warn(manifest, session)?;
    Ok(Exit::Done)
}

fn keep(temporary: tempfile::NamedTempFile, file: &Path, force: bool) -> io::Result<()> {
    let kept = if force {
        temporary.persist(file)
    } else {
        temporary.persist_noclobber(file)
    };
    kept.map_err(|error| error.error)?.flush()
}

fn summary(manifest: &Manifest, place: &str) -> String {
    let (files, size) = (manifest.files().count(), ByteSize(manifest.total()));
    let ledger = match manifest.ledger {
        Some(part) => format!("a ledger of {} blocks up to {}", part.length, part.tip.hash),
        None => "no ledger yet".to_owned(),
    };
    format!("Backed up to {place}: {files} files, {size}, {ledger}")
}

fn warn(manifest: &Manifest, session: &mut Session) -> io::Result<()> {
    let out = &mut session.out;
    let word = out.paint_note(Tone::Careful, "warning:");
    let mut keys = manifest
        .files()
        .filter(|entry| backup::is_private_key(&entry.path))
        .peekable();
    if keys.peek().is_some() {
        let names: Vec<_> = keys.map(|entry| entry.path.as_str()).collect();
        let names = names.join(", ");
        out.note(format_args!(
            "{word} it holds private keys ({names}); whoever has it can be this agent"
        ))?;
    }
    for thing in &manifest.left_out {
        out.note(format_args!(
            "{word} left out {}: {}",
            thing.path, thing.reason
        ))?;
    }
    Ok(())
}
