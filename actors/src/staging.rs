//! Directories that appear whole or not at all.
//!
//! A [`Staging`] is filled beside its target and renamed in. It holds the lock of its parent directory, so that one
//! process at a time changes what lies there, and what a crash left behind can be told from work in progress: the
//! next staging clears it away, or puts back what was being replaced.

use std::fs::{Permissions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{self as fs, File, OpenOptions};

use crate::file_lock;
use crate::passing::{LOCK, REPLACED, STAGED};

/// A directory on its way; dropped without [`Staging::commit`] it leaves nothing.
#[derive(Debug)]
pub(crate) struct Staging {
    dir: tempfile::TempDir,
    mode: u32,
    held: Held,
}

/// A parent directory in which to work, as a rule locked against other writers.
#[derive(Debug)]
pub(crate) struct Held {
    parent: PathBuf,
    /// Mode of directories made here; files get it without the right to execute.
    mode: u32,
    /// Released when closed; absent where nobody else of ours writes.
    _lock: Option<File>,
}

impl Held {
    /// Locks `parent`, made if it is absent, and clears away what a crash left there. Waits for other writers.
    pub(crate) fn lock(parent: &Path, mode: u32) -> io::Result<Self> {
        let held = Self::lock_as_left(parent, mode)?;
        held.recover()?;
        Ok(held)
    }

    /// Locks `parent` as [`Held::lock`] does and leaves what a crash left; [`Held::recover`] clears it away.
    pub(crate) fn lock_as_left(parent: &Path, mode: u32) -> io::Result<Self> {
        let lock = open_lock(parent, mode)?;
        file_lock::take(lock.file())?;
        Ok(Self::with(parent, mode, lock))
    }

    /// As [`Held::lock_as_left`], but without waiting: nothing if somebody else is at work.
    pub(crate) fn try_lock_as_left(parent: &Path, mode: u32) -> io::Result<Option<Self>> {
        let lock = open_lock(parent, mode)?;
        match lock.file().try_lock() {
            Ok(()) => Ok(Some(Self::with(parent, mode, lock))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn with(parent: &Path, mode: u32, lock: File) -> Self {
        Self {
            parent: parent.to_owned(),
            mode,
            _lock: Some(lock),
        }
    }

    /// The directory in which to work.
    pub(crate) fn path(&self) -> &Path {
        &self.parent
    }

    /// Works in a directory that is not ours: neither locks it nor clears anything away.
    pub(crate) fn unlocked(parent: &Path, mode: u32) -> Self {
        let parent = parent.to_owned();
        Self {
            parent,
            mode,
            _lock: None,
        }
    }

    /// Clears away what a crash left, and puts back what was being replaced.
    pub(crate) fn recover(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.parent)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(STAGED) {
                clear(&entry.path());
            } else if let Some(original) = name.strip_prefix(REPLACED) {
                let original = self.parent.join(original);
                match exists(&original)? {
                    true => clear(&entry.path()),
                    false => fs::rename(entry.path(), original)?,
                }
            }
        }
        Ok(())
    }

    /// Removes the directory `name` below the parent, whole; whether it was there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        let target = self.parent.join(name);
        if !exists(&target)? {
            return Ok(false);
        }
        // Under this name a crash would not bring it back.
        let gone = tempfile::Builder::new()
            .prefix(STAGED)
            .tempdir_in(&self.parent)?;
        fs::rename(&target, gone.path().join("gone"))?;
        sync_directory(&self.parent)?;
        gone.close()?;
        Ok(true)
    }

    /// Starts a directory below the parent.
    pub(crate) fn stage(self) -> io::Result<Staging> {
        let dir = tempfile::Builder::new()
            .prefix(STAGED)
            .tempdir_in(&self.parent)?;
        let mode = self.mode;
        fs::set_permissions(dir.path(), Permissions::from_mode(mode))?;
        Ok(Staging {
            dir,
            mode,
            held: self,
        })
    }
}

impl Staging {
    /// Writes one file, durably. `path` is relative, `/`-separated and already found safe.
    pub(crate) fn write(&self, path: &str, bytes: &[u8], executable: bool) -> io::Result<()> {
        let target = self.dir.path().join(path);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        let mode = if executable {
            self.mode
        } else {
            self.mode & 0o666
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(target)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Makes everything written durable and lets go of the directory: returns its name below the parent, for a
    /// rename to come. Whatever is not renamed is cleared away by the next [`Held::recover`].
    pub(crate) fn seal(self) -> io::Result<(Held, String)> {
        sync_tree(self.dir.path())?;
        let name = self.dir.path().file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let _ = self.dir.keep();
        Ok((self.held, name))
    }

    /// Makes an empty directory.
    pub(crate) fn folder(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.dir.path().join(path))
    }

    /// Renames the directory to `name` below the parent. Fails with [`ErrorKind::AlreadyExists`] if something lies
    /// there, unless it is to be replaced.
    pub(crate) fn commit(self, name: &str, replace: bool) -> io::Result<()> {
        let parent = &self.held.parent;
        let target = parent.join(name);
        sync_tree(self.dir.path())?;
        let old = parent.join(format!("{REPLACED}{name}"));
        let replaces = exists(&target)?;
        if replaces && !replace {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if replaces {
            fs::rename(&target, &old)?;
        }
        let staged = self.dir.path().to_owned();
        if let Err(error) = fs::rename(&staged, &target) {
            if replaces {
                fs::rename(&old, &target)?;
            }
            return Err(error);
        }
        // Renamed away: there is nothing left to delete under the old name.
        let _ = self.dir.keep();
        sync_directory(parent)?;
        if replaces {
            clear(&old);
        }
        Ok(())
    }
}

/// Removes leftovers; what cannot be removed is in nobody's way.
fn clear(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(%error, "a leftover of an interrupted change stays");
    }
}

fn open_lock(parent: &Path, mode: u32) -> io::Result<File> {
    if !parent.is_dir() {
        fs::create_dir_all(parent)?;
        fs::set_permissions(parent, Permissions::from_mode(mode))?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(parent.join(LOCK))
}

/// Whether anything lies at `path`, a dangling link included.
pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync_directory(directory)
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(parent: &Path, text: &str) -> Staging {
        let staging = Held::lock(parent, 0o755).unwrap().stage().unwrap();
        staging.write("a/b.txt", text.as_bytes(), false).unwrap();
        staging
    }

    fn names(parent: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(parent)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_appears_whole_or_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        drop(staged(temp.path(), "dropped"));
        assert_eq!(names(temp.path()), [LOCK]);
        staged(temp.path(), "one").commit("x", false).unwrap();
        let refused = staged(temp.path(), "two").commit("x", false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(temp.path().join("x/a/b.txt")).unwrap(), b"one");
        staged(temp.path(), "three").commit("x", true).unwrap();
        assert_eq!(fs::read(temp.path().join("x/a/b.txt")).unwrap(), b"three");
        assert_eq!(names(temp.path()), [LOCK, "x"]);
        let held = Held::lock(temp.path(), 0o755).unwrap();
        assert!(held.remove("x").unwrap());
        assert!(!held.remove("x").unwrap());
        assert_eq!(names(temp.path()), [LOCK]);
    }

    #[test]
    fn what_a_crash_left_is_cleared_away_or_put_back() {
        let temp = tempfile::tempdir().unwrap();
        for left in [
            ".staged-1/a",
            ".replaced-old/a",
            ".replaced-both/old",
            "both/new",
        ] {
            fs::create_dir_all(temp.path().join(left)).unwrap();
        }
        drop(Held::lock(temp.path(), 0o755).unwrap());
        assert_eq!(names(temp.path()), [LOCK, "both", "old"]);
        assert_eq!(names(&temp.path().join("both")), ["new"]);
    }
}
