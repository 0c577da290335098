//! Backups of a data directory: a gzip-compressed tar whose first entry tells everything about the others.
//!
//! The archive holds `kairos-backup.json`, the [`Manifest`], and then below `data/` exactly the entries that the
//! manifest lists, in its order, each with the kind, size, mode and hash it names. So a reader knows from the first
//! bytes what will come and how much of it, and everything else is refused. `tar xzf` unpacks it too.

use std::io;

use thiserror::Error;

mod manifest;
mod read;
mod write;

pub use manifest::{Entry, Kind, LEDGER, LedgerPart, LeftOut, Manifest, ManifestFault};
pub use read::{Visitor, read};
pub use write::write;

/// The name of the manifest in the archive.
pub const MANIFEST: &str = "kairos-backup.json";
/// What the paths of all other entries begin with.
const DATA: &str = "data/";
/// Most bytes of zeros behind the last entry; tar programs fill up their last record.
const PADDING_MAX: u64 = 64 * 1024;

/// What a backup may cost to read. Checked before the bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupLimits {
    /// Bytes of the manifest.
    pub manifest: u64,
    /// Files and directories.
    pub entries: usize,
    /// Bytes of all files together.
    pub total: u64,
}

impl Default for BackupLimits {
    fn default() -> Self {
        Self {
            manifest: 128 * 1024 * 1024,
            entries: 200_000,
            total: 256 * 1024 * 1024 * 1024,
        }
    }
}

/// Why a backup cannot be written or read.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The stream does not begin as gzip.
    #[error("not a backup: the file is not gzip-compressed")]
    NotGzip,
    /// The first entry is not a manifest.
    #[error("not a backup: it does not begin with {MANIFEST}")]
    NoManifest,
    /// The manifest is not one, or contradicts itself.
    #[error("the backup's manifest is not valid: {0}")]
    Manifest(#[from] ManifestFault),
    /// The stream ends too early.
    #[error("the backup is cut off")]
    Truncated,
    /// The compressed stream or a header is damaged.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// Something else lies where the manifest's next entry should.
    #[error("the backup has `{found}` where its manifest names {expected}")]
    Unexpected {
        /// What is there, shortened.
        found: String,
        /// What should be.
        expected: String,
    },
    /// An entry is there, but is not what the manifest says.
    #[error("`{path}` in the backup has not the {what} that its manifest names")]
    Differs {
        /// Which.
        path: String,
        /// `kind`, `size`, `mode` or `hash`.
        what: &'static str,
    },
    /// Something follows the last entry.
    #[error("the backup goes on behind its end")]
    Trailing,
    /// More than the limits allow.
    #[error("the backup has more than {max} {what}")]
    TooLarge {
        /// `bytes of manifest`, `entries` or `bytes`.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// A file changed while it was being written to the backup.
    #[error("`{0}` changed while it was backed up")]
    Changed(String),
    /// The source failed.
    #[error("cannot read: {0}")]
    Source(#[source] io::Error),
    /// The target failed, or whoever took the entries refused one.
    #[error("{0}")]
    Sink(#[source] io::Error),
}

#[cfg(test)]
mod tests;
