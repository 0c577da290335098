//! What a store does to its files, behind a trait so that tests can make each call fail.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;

/// For what a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// To read it.
    Read,
    /// To read and write it; it must exist.
    Write,
    /// To read and write it; it is made if need be.
    Create,
    /// To read and write it; it must not exist.
    CreateNew,
}

/// The calls to the system of which an append consists.
pub(super) trait Disk: Send + Sync {
    /// Opens the file at `path`.
    fn open(&self, path: &Path, how: How) -> io::Result<File>;
    /// Tries to lock the file, against all others or only against writers.
    fn lock(&self, file: &File, shared: bool) -> Result<(), TryLockError>;
    /// Reads from byte `at` on until `bytes` is full or the file ends, and says how much that was.
    fn read(&self, file: &File, at: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` from byte `at` on.
    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;
    /// Returns once everything written so far survives a power cut.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Returns once the names in the folder at `path` survive a power cut.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Deletes the file at `path`.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real thing.
pub(super) struct Os;

impl Disk for Os {
    fn open(&self, path: &Path, how: How) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(how != How::Read)
            .create(how == How::Create)
            .create_new(how == How::CreateNew)
            .truncate(false)
            .open(path)
    }

    fn lock(&self, file: &File, shared: bool) -> Result<(), TryLockError> {
        match shared {
            true => file.try_lock_shared(),
            false => file.try_lock(),
        }
    }

    fn read(&self, file: &File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        super::journal::read_at(file, at, bytes)
    }

    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        // The length is synced too, as without it the data could not be read; the time of change need not be.
        file.sync_data()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// The real thing, which notes how many seconds each sync of a file took.
pub(super) struct Timed(pub(super) Histogram);

impl Disk for Timed {
    fn open(&self, path: &Path, how: How) -> io::Result<File> {
        Os.open(path, how)
    }

    fn lock(&self, file: &File, shared: bool) -> Result<(), TryLockError> {
        Os.lock(file, shared)
    }

    fn read(&self, file: &File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        Os.read(file, at, bytes)
    }

    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        Os.write(file, at, bytes)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        Os.set_len(file, len)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let begun = Instant::now();
        let synced = Os.sync(file);
        self.0.observe(begun.elapsed().as_secs_f64());
        synced
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        Os.sync_folder(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Os.remove(path)
    }
}
