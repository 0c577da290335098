//! Puts one directory in the place of another, in one step.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Failure;

/// Makes everything below `folder` durable.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    let file = File::open(folder)?;
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(&file)?;
    #[cfg(not(target_os = "linux"))]
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    file.sync_all()
}

/// Puts `fresh` where `place` is, and returns where that went: to `old`, or nowhere if there was nothing. Whoever is
/// killed on the way leaves `place` as one of the two, whole.
pub(super) fn swap(fresh: &Path, place: &Path, old: &Path) -> Result<Option<PathBuf>, Failure> {
    let parent = place.parent().unwrap_or(Path::new("/"));
    let synced = |done: Result<Option<PathBuf>, Failure>| {
        let done = done?;
        let sync = File::open(parent).and_then(|parent| parent.sync_all());
        sync.map_err(Failure::io("make durable", parent))?;
        Ok(done)
    };
    match renameat_with(CWD, fresh, CWD, place, RenameFlags::NOREPLACE) {
        Ok(()) => return synced(Ok(None)),
        Err(error) if io::Error::from(error).kind() == ErrorKind::AlreadyExists => {}
        // Where the system knows no such flag: renaming never replaces a directory that holds anything.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !place.exists() => {
            fs::rename(fresh, place).map_err(Failure::io("rename", fresh))?;
            return synced(Ok(None));
        }
        Err(error) => return Err(refused(place, error)),
    }
    // Under its later name first: after the exchange nothing is left to be done for the old one to be found.
    fs::rename(fresh, old).map_err(Failure::io("rename", fresh))?;
    if let Err(error) = renameat_with(CWD, old, CWD, place, RenameFlags::EXCHANGE) {
        fs::rename(old, fresh).map_err(Failure::io("rename", old))?;
        return Err(refused(place, error));
    }
    synced(Ok(Some(old.to_owned())))
}

fn refused(place: &Path, error: rustix::io::Errno) -> Failure {
    let reason = match error {
        rustix::io::Errno::BUSY => "something is mounted there".to_owned(),
        rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS => {
            "its file system cannot exchange two directories".to_owned()
        }
        other => io::Error::from(other).to_string(),
    };
    Failure::NotReplaceable {
        path: place.to_owned(),
        reason,
    }
}
