//! Waiting for a file lock, but not for ever: the system's own waiting call knows no limit, and a process that was
//! stopped while it held the lock would stop everyone else.
//!
//! A lock ends with the file it was taken on, at the latest when the process does. All calls block the thread.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long others may hold a lock that is held for one change; the largest install takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// First pause between two tries; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_micros(200);
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Why there is no lock.
#[derive(Debug)]
pub enum Unlocked {
    /// Somebody else held it all the time.
    TimedOut,
    /// The system refused.
    Failed(io::Error),
}

/// Tries until it works or `patience` is over; once if that is zero.
///
/// # Errors
///
/// Both of [`Unlocked`].
pub fn wait(
    patience: Duration,
    mut attempt: impl FnMut() -> Result<(), TryLockError>,
) -> Result<(), Unlocked> {
    let begin = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(Unlocked::Failed(error)),
            Err(TryLockError::WouldBlock) if begin.elapsed() >= patience => {
                return Err(Unlocked::TimedOut);
            }
            Err(TryLockError::WouldBlock) => thread::park_timeout(pause),
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Opens the lock file at `path`, made if it is absent, as is its folder, and locks it as [`take`] does. Held until the
/// file is dropped. Lock files are never removed: whoever came late would lock another one.
///
/// # Errors
///
/// Those of [`take`].
pub fn hold(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    take(&file)?;
    Ok(file)
}

/// Like [`hold`], but waits for nobody: for what one process holds as long as it runs.
///
/// # Errors
///
/// [`io::ErrorKind::WouldBlock`] when somebody else holds it, and what the system says.
pub fn hold_now(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// Locks `file` against all others within 30 seconds.
///
/// # Errors
///
/// [`io::ErrorKind::TimedOut`] when somebody else held it all the time, and what the system says.
pub fn take(file: &File) -> io::Result<()> {
    wait(PATIENCE, || file.try_lock()).map_err(|unlocked| match unlocked {
        Unlocked::Failed(error) => error,
        Unlocked::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            "another process holds its lock; try again when that one is done",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_another_only_so_long() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::create(folder.path().join("lock")).unwrap();
        let (ours, theirs) = (open(), open());
        theirs.lock().unwrap();
        let refused = wait(Duration::from_millis(5), || ours.try_lock());
        assert!(matches!(refused, Err(Unlocked::TimedOut)));
        theirs.unlock().unwrap();
        take(&ours).unwrap();
    }
}
