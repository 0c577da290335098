//! Carrying out an upgrade: all of it or nothing, with a copy of whatever is replaced.
//!
//! Each file is written beside its place and renamed in. If one fails, those before it are put back. The version is
//! noted last, once the ledger has the record; a process that dies before that leaves every file as it was or as it
//! will be, with its copy, and the next upgrade goes on from there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use kairos_actors::file_lock;
use kairos_actors::passing::WHOLE;
use kairos_protocol::block::entry::{Entry, SystemUpgrade, UpgradeActions};
use kairos_protocol::time::Timestamp;
use serde::Serialize;

use super::{Item, Plan, Status, Step, UpgradeError, What, plan, read_text};
use crate::data_dir::DataDir;
use crate::data_dir::meta;

/// An upgrade whose files are in place, and which is neither recorded nor noted yet.
#[derive(Debug)]
pub struct Applied {
    /// What was done, in order.
    pub done: Vec<Done>,
    /// What follows the names of copies.
    meta: String,
    meta_file: PathBuf,
    /// Keeps other upgrades, changes of knowledge and backups waiting.
    _lock: File,
}

/// A file that was made or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The file that was written.
    pub path: PathBuf,
    /// What was there before; absent if nothing was.
    pub copy: Option<PathBuf>,
}

/// Looks again at every text and does what [`plan`] says; blocks on the disk and on whoever changes knowledge.
///
/// # Errors
///
/// Nothing was changed, but for [`UpgradeError::HalfDone`].
pub fn apply(
    dir: &DataDir,
    takes: &[String],
    now: Timestamp,
) -> Result<(Plan, Applied), UpgradeError> {
    let path = dir.knowledge().join(".lock");
    fs::create_dir_all(dir.knowledge()).map_err(UpgradeError::io("make", &dir.knowledge()))?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(UpgradeError::io("open", &path))?;
    file_lock::take(&lock).map_err(UpgradeError::io("lock", &path))?;
    let plan = plan(dir, takes)?;
    let meta_file = dir.meta_file();
    let before = match read_text(&meta_file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(UpgradeError::io("read", &meta_file)(error)),
    };
    let mut applied = Applied {
        done: Vec::new(),
        meta: meta::upgraded(before.as_deref(), &plan.from_version, now)?,
        meta_file,
        _lock: lock,
    };
    let stamp: String = now.wire().chars().filter(char::is_ascii_digit).collect();
    for item in &plan.items {
        match carry_out(dir, item, &stamp) {
            Ok(None) => {}
            Ok(Some(done)) => applied.done.push(done),
            Err(failed) => return Err(applied.put_back(failed)),
        }
    }
    Ok((plan, applied))
}

impl Applied {
    /// Puts everything back that was replaced, since `failed` happened, which is returned.
    #[must_use]
    pub fn put_back(self, failed: UpgradeError) -> UpgradeError {
        for done in self.done.iter().rev() {
            let undone = match &done.copy {
                Some(copy) => fs::rename(copy, &done.path),
                None => fs::remove_file(&done.path),
            };
            if undone.is_err() {
                return UpgradeError::HalfDone {
                    failed: Box::new(failed),
                    undone: done.path.display().to_string(),
                };
            }
        }
        failed
    }

    /// Notes the version and the hashes of its texts. Comes after the record.
    ///
    /// # Errors
    ///
    /// The file cannot be written; the next upgrade notes it then.
    pub fn finish(self) -> Result<Vec<Done>, UpgradeError> {
        write(&self.meta_file, &self.meta, true)
            .map_err(UpgradeError::io("write", &self.meta_file))?;
        Ok(self.done)
    }
}

fn carry_out(dir: &DataDir, item: &Item, stamp: &str) -> Result<Option<Done>, UpgradeError> {
    let path = dir.path().join(&item.path);
    let with = |suffix: &str| {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    let Some(text) = item.after.as_deref() else {
        return Ok(None);
    };
    match item.step {
        Step::Keep | Step::Propose => Ok(None),
        Step::Create => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(UpgradeError::io("make", parent))?;
            }
            write(&path, text, false).map_err(UpgradeError::io("write", &path))?;
            Ok(Some(Done { path, copy: None }))
        }
        Step::Beside => {
            let beside = with(".new");
            write(&beside, text, true).map_err(UpgradeError::io("write", &beside))?;
            Ok(Some(Done {
                path: beside,
                copy: None,
            }))
        }
        Step::Replace | Step::Merge => {
            // The owner's editor takes no lock.
            let there = read_text(&path).map_err(UpgradeError::io("read", &path))?;
            if Some(&there) != item.before.as_ref() {
                return Err(UpgradeError::Changed(item.path.clone()));
            }
            let copy = with(&format!(".bak.{stamp}"));
            write(&copy, &there, false).map_err(UpgradeError::io("write", &copy))?;
            let mode = fs::metadata(&path).map(|metadata| metadata.permissions());
            let replaced = write(&path, text, true)
                .and_then(|()| mode.and_then(|mode| fs::set_permissions(&path, mode)));
            if let Err(error) = replaced {
                let failed = UpgradeError::io("write", &path)(error);
                return Err(match fs::rename(&copy, &path) {
                    Ok(()) => failed,
                    Err(_) => UpgradeError::HalfDone {
                        failed: Box::new(failed),
                        undone: item.path.clone(),
                    },
                });
            }
            Ok(Some(Done {
                path,
                copy: Some(copy),
            }))
        }
    }
}

/// Writes a file, whole or not at all and durably.
fn write(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(WHOLE.0)
        .suffix(WHOLE.1)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    let persisted = match replace {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    persisted.map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// The ledger's entry on an upgrade.
pub fn record(plan: &Plan, now: Timestamp) -> Entry {
    let mut actions = UpgradeActions::default();
    for item in &plan.items {
        let list = match (item.what, item.step, item.status) {
            (What::Knowledge, Step::Create, _) => &mut actions.knowledge_installed,
            (What::Knowledge, Step::Replace | Step::Merge, _) => &mut actions.knowledge_updated,
            (What::Knowledge, Step::Beside | Step::Propose, _) => &mut actions.knowledge_conflict,
            (What::Knowledge, Step::Keep, _) => &mut actions.knowledge_kept,
            (_, Step::Create | Step::Replace, _) => &mut actions.auto_updated,
            (_, Step::Merge, _) => &mut actions.merged,
            (What::Law, Step::Propose, _) => &mut actions.l0_proposed,
            (_, Step::Keep, Status::Unchanged) => &mut actions.unchanged,
            (_, Step::Keep | Step::Beside | Step::Propose, _) => &mut actions.skipped,
        };
        // Knowledge goes by its name.
        let name = match item.what {
            What::Knowledge => item.path.split('/').nth(1).unwrap_or(&item.path),
            _ => item.path.as_str(),
        };
        list.push(name.to_owned());
    }
    Entry::SystemUpgrade(SystemUpgrade {
        from_version: plan.from_version.clone(),
        to_version: plan.to_version.to_owned(),
        actions,
        timestamp: now,
    })
}
