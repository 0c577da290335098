//! All locks below a data directory at once. Whoever waits for one of them holds none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use kairos_actors::passing::INBOX;

use super::Failure;
use crate::data_dir::survey::{Entry, Survey, survey};
use crate::data_dir::{DataDir, holders};

/// How long others may take for what they are at.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before all locks are tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// Locks that are held until this is dropped, by their paths.
#[derive(Debug, Default)]
pub(super) struct Locks {
    held: BTreeMap<String, Held>,
}

#[derive(Debug)]
struct Held {
    /// Device and number of the file, which another one may have replaced.
    identity: (u64, u64),
    _lock: File,
}

impl Locks {
    /// Shares every lock below `dir` with other readers, so that nobody writes, and looks at what is there then.
    pub(super) fn take(dir: &DataDir) -> Result<(Self, Survey), Failure> {
        let begun = Instant::now();
        let mut known = survey(dir);
        loop {
            let missing = match Self::attempt(&known)? {
                Ok(locks) => {
                    // Whoever made a lock meanwhile may be writing.
                    known = survey(dir);
                    match locks.missing(&known) {
                        None => return Ok((locks, known)),
                        Some(path) => path,
                    }
                }
                Err(path) => path,
            };
            if begun.elapsed() >= PATIENCE {
                let by = holders::of(&dir.path().join(&missing));
                return Err(Failure::Locked { path: missing, by });
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// All locks, or the path of one that somebody else has.
    fn attempt(survey: &Survey) -> Result<Result<Self, String>, Failure> {
        let mut locks = Self::default();
        for entry in survey.entries.iter().filter(|entry| is_taken(entry)) {
            let file = match File::open(&entry.path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::io("open", &entry.path)(error)),
            };
            match file.try_lock_shared() {
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => return Ok(Err(entry.shown.clone())),
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(Failure::io("lock", &entry.path)(error));
                }
            }
            let metadata = file
                .metadata()
                .map_err(Failure::io("look at", &entry.path))?;
            let held = Held {
                identity: (metadata.dev(), metadata.ino()),
                _lock: file,
            };
            locks.held.insert(entry.shown.clone(), held);
        }
        Ok(Ok(locks))
    }

    /// The path of a lock in `survey` that is not among these.
    fn missing(&self, survey: &Survey) -> Option<String> {
        let is_held = |entry: &&Entry| {
            let held = self.held.get(&entry.shown);
            let identity = (entry.metadata.dev(), entry.metadata.ino());
            held.is_some_and(|held| held.identity == identity)
        };
        let mut locks = survey.entries.iter().filter(|entry| is_taken(entry));
        locks
            .find(|entry| !is_held(entry))
            .map(|entry| entry.shown.clone())
    }
}

/// Whether `entry` is a lock that is taken: not the ledger's own nor that of the whole directory, which are left to those
/// who know them.
fn is_taken(entry: &Entry) -> bool {
    let own = entry.shown == ".lock" || entry.shown == "storage/blockchain.json.lock";
    !own && entry.lasts() && (entry.is_lock() || entry.shown == INBOX)
}
