//! The changes that a store makes to its files, behind a trait so that tests can make each of them fail.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// What is done to an open file.
pub(super) trait Disk: Send + Sync {
    /// Writes all of `bytes` from byte `at` on.
    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;
    /// Returns once everything written so far survives a power cut.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Deletes the file at `path`.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real thing.
pub(super) struct Os;

impl Disk for Os {
    fn write(&self, mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}
