//! What can be put right without asking anyone: rights that nobody needs, and temporary files of programs that ended.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kairos_protocol::time::Timestamp;
use serde::Serialize;

use super::directory::is_secret;
use super::leftovers::is_stale;
use crate::data_dir::holders::{self, Holding};
use crate::data_dir::survey::{Entry, Survey};

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
/// nobody is at work. Touches nothing else.
pub fn apply(survey: &Survey, now: Timestamp) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for entry in survey
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
    for entry in survey
        .entries
        .iter()
        .filter(|entry| entry.is_temporary() && is_stale(entry, now))
    {
        // Whoever works in a directory holds its lock.
        let lock = entry.path.with_file_name(".lock");
        if lock.exists() && holders::of(&lock) != Holding::Free {
            continue;
        }
        deeds.push(deed(
            entry,
            "removed",
            remove(&entry.path, entry.metadata.is_dir()),
        ));
    }
    deeds
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
