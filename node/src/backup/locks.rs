//! All locks below a data directory at once, without ever waiting for one while holding another.

use std::fs::File;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use kairos_actors::passing::INBOX;

use super::Failure;
use crate::data_dir::survey::{Entry, Survey};
use crate::data_dir::{DataDir, holders};

/// How long others may take for what they are at.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before all locks are tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// Locks that are held until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Locks {
    held: Vec<File>,
}

impl Locks {
    /// Shares every lock of `survey` with other readers, so that nobody writes.
    pub(super) fn take(dir: &DataDir, survey: &Survey) -> Result<Self, Failure> {
        let begun = Instant::now();
        loop {
            match Self::attempt(survey)? {
                Ok(locks) => return Ok(locks),
                Err(path) if begun.elapsed() >= PATIENCE => {
                    let by = holders::of(&dir.path().join(&path));
                    return Err(Failure::Locked { path, by });
                }
                Err(_) => std::thread::park_timeout(PAUSE),
            }
        }
    }

    /// All locks, or the path of one that somebody else has.
    fn attempt(survey: &Survey) -> Result<Result<Self, String>, Failure> {
        let mut locks = Self::default();
        for entry in &survey.entries {
            if !is_taken(entry) {
                continue;
            }
            let file = match File::open(&entry.path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::io("open", &entry.path)(error)),
            };
            match file.try_lock_shared() {
                Ok(()) => locks.held.push(file),
                Err(std::fs::TryLockError::WouldBlock) => return Ok(Err(entry.shown.clone())),
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(Failure::io("lock", &entry.path)(error));
                }
            }
        }
        Ok(Ok(locks))
    }
}

/// The locks in `survey`, but for the ledger's own and that of the whole directory, which are left to those who know
/// them.
pub(super) fn paths(survey: &Survey) -> Vec<String> {
    let locks = survey.entries.iter().filter(|entry| is_taken(entry));
    locks.map(|entry| entry.shown.clone()).collect()
}

fn is_taken(entry: &Entry) -> bool {
    let own = entry.shown == ".lock" || entry.shown == "storage/blockchain.json.lock";
    !own && (entry.is_lock() || entry.shown == INBOX)
}

/// Whether nobody of ours writes to the file at `path` while the locks at `locks` are held.
pub(super) fn protect(locks: &[String], path: &str) -> bool {
    locks.iter().any(|lock| {
        lock == path
            || lock.strip_suffix(".lock").is_some_and(|base| {
                match base.strip_suffix('/') {
                    // `folder/.lock` is for everything in the folder.
                    Some(folder) => path
                        .strip_prefix(folder)
                        .is_some_and(|below| below.starts_with('/')),
                    None => base == path,
                }
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_protects_its_file_or_everything_in_its_directory() {
        let locks = ["knowledge/.lock", "storage/peers.jsonl.lock", INBOX].map(str::to_owned);
        for (path, protected) in [
            ("knowledge/a/a.md", true),
            ("knowledge", false),
            ("knowledge2/a", false),
            ("storage/peers.jsonl", true),
            ("storage/peers.jsonl.old", false),
            (INBOX, true),
            ("storage/other", false),
        ] {
            assert_eq!(protect(&locks, path), protected, "{path}");
        }
    }
}
