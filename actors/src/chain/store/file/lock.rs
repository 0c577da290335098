//! The files beside a ledger, and the lock that all its writers share.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::StoreError;
use super::disk::{Disk, How};
use super::kept::Kept;
use crate::file_lock::{self, Unlocked};

/// Most symbolic links that lead to a ledger.
const LINKS_MAX: usize = 16;

/// A ledger file and what stands beside it.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) ledger: PathBuf,
    pub(super) journal: PathBuf,
    /// How far it was checked.
    pub(super) mark: PathBuf,
    lock: PathBuf,
}

impl Paths {
    /// Follows links from `path`, so that every name of a ledger leads to one lock, even before it exists.
    pub(super) fn resolve(path: &Path) -> io::Result<Self> {
        let ledger = real_path(path)?;
        let beside = |suffix: &str| {
            let mut name = ledger.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        Ok(Self {
            journal: beside(".journal"),
            mark: beside(".verified"),
            lock: beside(".lock"),
            ledger,
        })
    }

    /// Waits for the lock that keeps everyone else out.
    pub(super) fn lock_for_writing(
        &self,
        kept: &mut Kept,
        disk: &dyn Disk,
        patience: Duration,
    ) -> Result<Locked, StoreError> {
        let file = self.lock_file(kept, disk);
        let file = file.map_err(StoreError::io(LOCKING))?;
        wait(patience, || disk.lock(&file, false))?;
        Ok(Locked(file))
    }

    /// Waits for the lock that keeps writers out. Where the lock file cannot be made, as on a read-only disk,
    /// reading goes without.
    pub(super) fn lock_for_reading(
        &self,
        kept: &mut Kept,
        disk: &dyn Disk,
        patience: Duration,
    ) -> Result<Option<Locked>, StoreError> {
        let Ok(file) = self.lock_file(kept, disk) else {
            return Ok(None);
        };
        wait(patience, || disk.lock(&file, true))?;
        Ok(Some(Locked(file)))
    }

    /// The lock file if somebody made it already.
    pub(super) fn existing_lock_file(&self) -> io::Result<Option<File>> {
        match File::open(&self.lock) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lock_file(&self, kept: &mut Kept, disk: &dyn Disk) -> io::Result<Arc<File>> {
        // Never deleted: whoever came late would lock another file than those before.
        kept.open(disk, &self.lock, How::Create)
    }
}

/// The lock, until it is dropped.
#[must_use]
pub(crate) struct Locked(Arc<File>);

impl Drop for Locked {
    fn drop(&mut self) {
        // The file may stay open. Nothing can go wrong with one that is.
        let _unlocked = self.0.unlock();
    }
}

const LOCKING: &str = "lock the ledger";

/// See [`file_lock::wait`].
fn wait(
    patience: Duration,
    attempt: impl FnMut() -> Result<(), TryLockError>,
) -> Result<(), StoreError> {
    file_lock::wait(patience, attempt).map_err(|unlocked| match unlocked {
        Unlocked::TimedOut => StoreError::Locked,
        Unlocked::Failed(source) => StoreError::io(LOCKING)(source),
    })
}

fn real_path(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        // Absent: the folder is resolved, and the last name if it is a link to where the ledger will be.
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        match path.read_link() {
            Ok(target) => path = folder.join(target),
            Err(_) => {
                let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                return match folder.canonicalize() {
                    Ok(folder) => Ok(folder.join(name)),
                    // No folder, so nobody writes there yet either.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
                    Err(error) => Err(error),
                };
            }
        }
    }
    Err(io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::disk::Os;
    use super::*;

    #[test]
    fn every_name_of_a_ledger_leads_to_one_lock_before_and_after_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("dir")).unwrap();
        symlink("dir/chain.json", root.join("link.json")).unwrap();
        symlink("link.json", root.join("link2.json")).unwrap();
        let names = [
            "real/chain.json",
            "dir/chain.json",
            "link.json",
            "link2.json",
            "real/../dir/./chain.json",
        ];
        for _ in 0..2 {
            for name in names {
                let paths = Paths::resolve(&root.join(name)).unwrap();
                assert_eq!(paths.lock, root.join("real/chain.json.lock"));
                assert_eq!(paths.journal, root.join("real/chain.json.journal"));
            }
            std::fs::write(root.join("real/chain.json"), "[]").unwrap();
        }
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(Paths::resolve(&folder.path().join("a")).is_err());
    }

    #[test]
    fn readers_share_the_lock_and_writers_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(&folder.path().join("chain.json")).unwrap();
        let now = Duration::ZERO;
        let first = paths
            .lock_for_reading(&mut Kept::default(), &Os, now)
            .unwrap();
        let second = paths
            .lock_for_reading(&mut Kept::default(), &Os, now)
            .unwrap();
        assert!(first.is_some() && second.is_some());
        assert!(matches!(
            paths.lock_for_writing(&mut Kept::default(), &Os, now),
            Err(StoreError::Locked)
        ));
        drop((first, second));
        let writer = paths
            .lock_for_writing(&mut Kept::default(), &Os, now)
            .unwrap();
        assert!(matches!(
            paths.lock_for_reading(&mut Kept::default(), &Os, now),
            Err(StoreError::Locked)
        ));
        drop(writer);
        assert!(
            paths
                .lock_for_writing(&mut Kept::default(), &Os, now)
                .is_ok()
        );
    }

    #[test]
    fn reading_goes_on_where_no_lock_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(&folder.path().join("missing/chain.json")).unwrap();
        assert!(
            paths
                .lock_for_reading(&mut Kept::default(), &Os, Duration::ZERO)
                .unwrap()
                .is_none()
        );
        assert!(matches!(
            paths.lock_for_writing(&mut Kept::default(), &Os, Duration::ZERO),
            Err(StoreError::Io { .. })
        ));
    }
}
