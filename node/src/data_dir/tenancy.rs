//! Who uses a data directory: the lock that tells a program at work from a directory that may be replaced.
//!
//! Every process that has an agent open shares the lock on `.lock` in the data directory; whoever wants to put
//! another directory in its place takes it alone. It says nothing about single files: those have locks of their own.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use kairos_actors::file_lock::{self, Unlocked};

use super::holders::{self, Holding};
use super::{DataDir, DataDirError};

/// How long to wait for one who replaces the directory, which takes two renames.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most directories that take each other's place while we wait for one of them.
const REPLACEMENTS_MAX: usize = 8;

/// The use of a data directory; ends when dropped.
#[derive(Debug)]
pub struct Tenancy {
    /// Absent where the lock file can be neither made nor opened, as on a read-only disk.
    _lock: Option<File>,
}

/// Why a directory cannot be had alone.
#[derive(Debug, thiserror::Error)]
pub enum Occupied {
    /// Others use it.
    #[error("in use by {0}")]
    InUse(Holding),
    /// The lock cannot be taken.
    #[error("cannot be locked: {0}")]
    Io(#[from] io::Error),
}

impl DataDir {
    /// Begins to use the directory, together with others. Waits two seconds for one who is replacing it.
    ///
    /// # Errors
    ///
    /// [`DataDirError::BeingReplaced`], and what the disk says.
    pub fn enter(&self) -> Result<Tenancy, DataDirError> {
        let path = self.tenancy_file();
        for _ in 0..REPLACEMENTS_MAX {
            let lock = match open(&path) {
                Ok(lock) => lock,
                Err(error) if is_unwritable(&error) => return Ok(Tenancy { _lock: None }),
                Err(error) => return Err(DataDirError::from_io(&path, error)),
            };
            match file_lock::wait(PATIENCE, || shared(&lock)) {
                Ok(()) => {}
                Err(Unlocked::TimedOut) => break,
                Err(Unlocked::Failed(error)) => return Err(DataDirError::from_io(&path, error)),
            }
            // The directory may have been replaced while we waited for its lock.
            if is_at(&lock, &path) {
                return Ok(Tenancy { _lock: Some(lock) });
            }
        }
        Err(DataDirError::BeingReplaced {
            path: self.path().to_owned(),
            by: holders::of(&path).to_string(),
        })
    }

    /// Takes the directory for oneself alone, at once or not at all.
    ///
    /// # Errors
    ///
    /// Names who uses it.
    pub fn reserve(&self) -> Result<Tenancy, Occupied> {
        let path = self.tenancy_file();
        let lock = open(&path)?;
        match file_lock::wait(Duration::ZERO, || lock.try_lock()) {
            Ok(()) if is_at(&lock, &path) => Ok(Tenancy { _lock: Some(lock) }),
            Ok(()) | Err(Unlocked::TimedOut) => Err(Occupied::InUse(holders::of(&path))),
            Err(Unlocked::Failed(error)) => Err(error.into()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Never deleted: whoever came late would lock another file than those before.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

fn shared(lock: &File) -> Result<(), TryLockError> {
    lock.try_lock_shared()
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

/// Whether `lock` is the file that one finds at `path` now.
fn is_at(lock: &File, path: &Path) -> bool {
    match (lock.metadata(), path.metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Surroundings;
    use super::*;

    fn made() -> (tempfile::TempDir, DataDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::resolve(Some(temp.path()), &Surroundings::default());
        (temp, dir)
    }

    #[test]
    fn many_use_a_directory_and_one_replaces_it() {
        let (_temp, dir) = made();
        let (first, second) = (dir.enter().unwrap(), dir.enter().unwrap());
        let refused = dir.reserve().unwrap_err();
        assert!(matches!(refused, Occupied::InUse(_)));
        let told = refused.to_string();
        let pid = format!("process {}", std::process::id());
        assert!(told.contains(&pid), "{told}");
        drop((first, second));
        let alone = dir.reserve().unwrap();
        let refused = dir.enter().unwrap_err().to_string();
        assert!(refused.contains("is being restored"), "{refused}");
        drop(alone);
        dir.enter().unwrap();
    }

    #[test]
    fn whoever_waited_gets_the_directory_that_is_there_now() {
        let (temp, dir) = made();
        drop(dir.enter().unwrap());
        let lock = open(&dir.tenancy_file()).unwrap();
        std::fs::remove_file(dir.tenancy_file()).unwrap();
        std::fs::write(temp.path().join(".lock"), "").unwrap();
        assert!(!is_at(&lock, &dir.tenancy_file()));
        let ours = dir.enter().unwrap();
        assert!(is_at(&ours._lock.unwrap(), &dir.tenancy_file()));
    }
}
