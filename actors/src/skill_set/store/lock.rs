//! The lock that every process takes before it changes the SkillSets of a data directory.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use super::SkillSetError;
use crate::file_lock::{self, Unlocked};
use crate::passing::LOCK;

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
            .open(root.join(LOCK))
            .map_err(SkillSetError::io(ACTION))?;
        match file_lock::wait(patience, || file.try_lock()) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Unlocked::TimedOut) => Err(SkillSetError::Locked),
            Err(Unlocked::Failed(error)) => Err(SkillSetError::io(ACTION)(error)),
        }
    }
}
