//! `mcp install` and `mcp uninstall`: one entry in the settings of another program.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kairos_actors::durable;
use kairos_protocol::time::Clock as _;
use serde_json::json;

use super::client::{Client, Start};
use crate::cli::Session;
use crate::cli::exit::Exit;
use crate::clock::SystemClock;

/// The largest settings file that is read, in bytes.
const SETTINGS_MAX: u64 = 64 * 1024 * 1024;

/// Which program, and where its settings are.
#[derive(Debug, clap::Args)]
pub(super) struct WhichArgs {
    /// Which program
    #[arg(long)]
    pub(super) client: Client,
    /// Its settings file, if it is not where the program keeps it for its user
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// The name of the server there
    #[arg(long, value_name = "NAME", default_value = "kairos-chain", value_parser = name)]
    pub(super) name: String,
}

fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("a name has 1 to 64 letters, digits, - and _".to_owned()),
    }
}

impl WhichArgs {
    /// The settings file. Behind a link it is what the link leads to: the link stays.
    pub(super) fn file(&self, session: &Session) -> anyhow::Result<PathBuf> {
        let file = match (&self.file, &session.around.home) {
            (Some(file), _) => session.around.current_dir.join(file),
            (None, Some(home)) => self.client.file(home),
            (None, None) => {
                bail!("there is no home directory; say --file with the settings of the program")
            }
        };
        match file.canonicalize() {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(file),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }
}

/// The settings as they are; nothing if there are none.
pub(super) fn settings(file: &Path) -> anyhow::Result<Option<String>> {
    let size = match fs::metadata(file) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    if size > SETTINGS_MAX {
        bail!("{} is larger than any settings file", file.display());
    }
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Some(text))
}

/// Runs `mcp install`: absolute paths, everything else in the file kept, a copy of it made.
pub(super) fn install(which: &WhichArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let data_dir = session.initialize()?;
    let data_dir = fs::canonicalize(data_dir.path())?;
    let start = Start {
        command: text(&std::env::current_exe()?)?,
        args: vec![
            "--data-dir".to_owned(),
            text(&data_dir)?,
            "mcp".to_owned(),
            "serve".to_owned(),
        ],
    };
    let file = which.file(session)?;
    let before = settings(&file)?;
    let after = which
        .client
        .with(before.as_deref().unwrap_or_default(), &which.name, &start);
    let after = after.with_context(|| by_hand(&file, &which.name, &start))?;
    let kept = match &before {
        Some(before) if *before == after => {
            return told(
                session,
                &file,
                None,
                "nothing to do: the server is there already",
            );
        }
        Some(_) => Some(keep(&file)?),
        None => {
            let folder = file
                .parent()
                .context("the settings file has no directory")?;
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            None
        }
    };
    replace(&file, &after)?;
    told(session, &file, kept.as_deref(), "installed")?;
    if !session.out.wants_json() {
        session.out.note(which.client.next())?;
    }
    Ok(Exit::Done)
}

/// Runs `mcp uninstall`.
pub(super) fn uninstall(which: &WhichArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let file = which.file(session)?;
    let before = settings(&file)?.unwrap_or_default();
    let after = which.client.without(&before, &which.name);
    let after = after.with_context(|| format!("{} cannot be changed", file.display()))?;
    match after {
        None => told(
            session,
            &file,
            None,
            "nothing to do: the server is not there",
        ),
        Some(after) => {
            let kept = keep(&file)?;
            replace(&file, &after)?;
            told(session, &file, Some(&kept), "uninstalled")
        }
    }
}

/// What is to be written by hand where we cannot.
fn by_hand(file: &Path, name: &str, start: &Start) -> String {
    let entry = json!({ name: {"command": start.command, "args": start.args} });
    format!("{} cannot be changed. The entry is {entry}", file.display())
}

fn text(path: &Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("the path {} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

/// Copies the file beside itself, to a name that was not there.
fn keep(file: &Path) -> anyhow::Result<PathBuf> {
    let stamp = SystemClock.now().file_stamp();
    for round in 0..100 {
        let mut name = file.as_os_str().to_owned();
        name.push(match round {
            0 => format!(".bak.{stamp}"),
            _ => format!(".bak.{stamp}.{round}"),
        });
        let copy = PathBuf::from(name);
        match fs::File::create_new(&copy) {
            Ok(mut to) => {
                io::copy(&mut fs::File::open(file)?, &mut to)?;
                to.set_permissions(fs::metadata(file)?.permissions())?;
                to.sync_all()?;
                return Ok(copy);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write {}", copy.display()));
            }
        }
    }
    bail!("{} has too many copies beside it", file.display())
}

/// Replaces the file whole; who may read it stays as it was.
fn replace(file: &Path, settings: &str) -> anyhow::Result<()> {
    let permissions = fs::metadata(file).map(|found| found.permissions()).ok();
    durable::replace(file, settings.as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))?;
    if let Some(permissions) = permissions {
        fs::set_permissions(file, permissions)?;
    }
    Ok(())
}

fn told(
    session: &mut Session,
    file: &Path,
    kept: Option<&Path>,
    what: &str,
) -> anyhow::Result<Exit> {
    if session.out.wants_json() {
        session
            .out
            .json(&json!({"file": file, "kept": kept, "done": what}))?;
        return Ok(Exit::Done);
    }
    session
        .out
        .line(format_args!("{}: {what}", file.display()))?;
    if let Some(kept) = kept {
        session
            .out
            .line(format_args!("  The file before is {}", kept.display()))?;
    }
    Ok(Exit::Done)
}
