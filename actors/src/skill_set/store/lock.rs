//! The lock that every process takes before it changes the SkillSets of a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::SkillSetError;

/// The lock file; a dot-file, so that no version of the reference takes it for a SkillSet.
const LOCK_FILE: &str = ".lock";
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Keeps everyone else out until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits at most `patience`; fails with [`SkillSetError::Locked`].
    pub(super) fn take(root: &Path, patience: Duration) -> Result<Self, SkillSetError> {
        const ACTION: &str = "lock the SkillSets";
        // Never deleted: whoever came late would lock another file than those before.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join(LOCK_FILE))
            .map_err(SkillSetError::io(ACTION))?;
        let begin = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(SkillSetError::io(ACTION)(error)),
                Err(TryLockError::WouldBlock) if begin.elapsed() >= patience => {
                    return Err(SkillSetError::Locked);
                }
                Err(TryLockError::WouldBlock) => thread::park_timeout(pause),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
