//! What can be put right without asking anyone: rights that nobody needs, and temporary files of programs that ended.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kairos_actors::passing::LOCK;
use kairos_protocol::time::Timestamp;
use serde::Serialize;

use super::directory::is_secret;
use super::leftovers::is_stale;
use crate::data_dir::DataDir;
use crate::data_dir::survey::{Entry, survey};

/// Something that was put right, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// The file or directory, below the data directory.
    pub path: String,
    /// What was done.
    pub done: &'static str,
    /// Why it did not work, if it did not.
    pub error: Option<String>,
}

/// Closes secrets to other users and removes temporary files that are older than an hour at `now` and on which
/// nobody is at work. Touches nothing else. Waits for nobody.
pub fn apply(dir: &DataDir, now: Timestamp) -> Vec<Deed> {
    let found = survey(dir);
    let mut deeds = Vec::new();
    for entry in found
        .entries
        .iter()
        .filter(|entry| is_secret(&entry.shown) && !entry.metadata.is_symlink())
    {
        let mode = entry.metadata.permissions().mode();
        if mode & 0o077 != 0 {
            let closed = Permissions::from_mode(mode & 0o7700);
            deeds.push(deed(
                entry,
                "closed to other users",
                fs::set_permissions(&entry.path, closed),
            ));
        }
    }
    let now = std::time::UNIX_EPOCH
        + std::time::Duration::from_secs(now.as_secs().try_into().unwrap_or(0));
    let mut locks = Locks::default();
    let stale = found.temporary().filter(|entry| is_stale(entry, now));
    let free: Vec<PathBuf> = stale
        .filter(|entry| locks.take(dir, entry))
        .map(|entry| entry.path.clone())
        .collect();
    if free.is_empty() {
        return deeds;
    }
    // Only while nobody else is at work does a look tell what is needed: an intent may have come meanwhile.
    for entry in survey(dir)
        .temporary()
        .filter(|entry| is_stale(entry, now) && free.contains(&entry.path))
    {
        deeds.push(deed(
            entry,
            "removed",
            remove(&entry.path, entry.metadata.is_dir()),
        ));
    }
    deeds
}

/// Locks of those who make temporary files, by their paths; absent where somebody else holds one.
#[derive(Default)]
struct Locks(BTreeMap<PathBuf, Option<File>>);

impl Locks {
    /// Has the locks that protect `entry`; false if somebody is at work there.
    fn take(&mut self, dir: &DataDir, entry: &Entry) -> bool {
        let above = entry.path.ancestors().skip(1);
        let mut folders = above.take_while(|folder| *folder != dir.path());
        // What a lock of a directory protects is all that lies below it.
        let around = folders.find_map(|folder| existing(folder.join(LOCK)));
        // A program may lock what it prepares, too.
        let within = existing(entry.path.join(LOCK));
        around.into_iter().chain(within).all(|lock| self.hold(lock))
    }

    fn hold(&mut self, lock: PathBuf) -> bool {
        let held = self.0.entry(lock).or_insert_with_key(|lock| {
            let file = File::open(lock).ok()?;
            file.try_lock().ok().map(|()| file)
        });
        held.is_some()
    }
}

fn existing(lock: PathBuf) -> Option<PathBuf> {
    lock.is_file().then_some(lock)
}

fn remove(path: &Path, is_dir: bool) -> io::Result<()> {
    if is_dir {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

fn deed(entry: &Entry, done: &'static str, result: io::Result<()>) -> Deed {
    Deed {
        path: entry.shown.clone(),
        done,
        error: result.err().map(|error| error.to_string()),
    }
}
