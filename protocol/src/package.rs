//! SkillSet packages: a gzip-compressed ustar archive, and the JSON object it travels in.
//!
//! [`pack`] writes the same bytes for the same files; [`unpack`] is the one reader, a single pass over any stream.
//! Both check everything on the way: the archive's form, [`PackageLimits`], the knowledge-only [gate](crate::gate),
//! `skillset.json`. What they hand back, [`Contents`], names every file with its hash.

use std::fmt;
use std::io;

use thiserror::Error;

use crate::gate::Refusal;
use crate::hash::ContentHash;
use crate::id::SkillSetName;
use crate::skill_set::{self, MetadataError, SkillSetMetadata};

mod envelope;
mod inspect;
mod read;
mod stream;
mod write;

pub use envelope::{EnvelopeError, SkillSetPackage};
pub use read::unpack;
pub use write::{MODE_PACKED, pack};

/// What a package may cost to read. Checked while streaming, before the bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageLimits {
    /// Bytes of the gzip stream.
    pub compressed: u64,
    /// Bytes of the tar stream, headers and padding included.
    pub expanded: u64,
    /// Entries, directories included.
    pub entries: usize,
    /// Expanded by compressed bytes, at any point beyond the first [`RATIO_FREE`] bytes.
    pub ratio: u64,
    /// Components of a path below the SkillSet.
    pub depth: usize,
    /// Bytes of a path in the archive; ustar itself ends at 256.
    pub path: usize,
}

/// Expanded bytes to which [`PackageLimits::ratio`] does not apply: a small archive is mostly padding.
pub const RATIO_FREE: u64 = 1024 * 1024;

impl Default for PackageLimits {
    fn default() -> Self {
        Self {
            compressed: 5 * 1024 * 1024,
            expanded: 50 * 1024 * 1024,
            entries: 2_000,
            ratio: 100,
            depth: 32,
            path: 256,
        }
    }
}

/// The limit that a package exceeds, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`PackageLimits::compressed`].
    Compressed(u64),
    /// [`PackageLimits::expanded`].
    Expanded(u64),
    /// [`PackageLimits::entries`].
    Entries(usize),
    /// [`PackageLimits::ratio`].
    Ratio(u64),
    /// [`PackageLimits::depth`].
    Depth(usize),
    /// [`PackageLimits::path`].
    Path(usize),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compressed(max) => write!(f, "more than {max} bytes compressed"),
            Self::Expanded(max) => write!(f, "more than {max} bytes expanded"),
            Self::Entries(max) => write!(f, "more than {max} entries"),
            Self::Ratio(max) => write!(f, "more than {max} times its compressed size"),
            Self::Depth(max) => write!(f, "a path with more than {max} components"),
            Self::Path(max) => write!(f, "a path with more than {max} bytes"),
        }
    }
}

impl std::error::Error for Limit {}

/// Why a package was not read or written.
#[derive(Debug, Error)]
pub enum PackageError {
    /// No gzip header.
    #[error("not in gzip format")]
    NotGzip,
    /// The stream ends before the archive does.
    #[error("the archive is cut off")]
    Truncated,
    /// The gzip or tar structure is broken.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// A header that is not plain ustar.
    #[error("the archive entry {entry} {problem}")]
    Header {
        /// The name of the entry, escaped.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Bytes after the end of the archive or of the gzip stream.
    #[error("the archive is followed by other data")]
    Trailing,
    /// A limit is exceeded.
    #[error("the archive has {0}")]
    Limit(Limit),
    /// Nothing lies in the directory that the package's name asks for.
    #[error("Archive does not contain expected directory '{0}'")]
    MissingDirectory(SkillSetName),
    /// The archive, or the directory to pack, has no `skillset.json`.
    #[error("skillset.json not found in '{0}'")]
    MissingMetadata(SkillSetName),
    /// `skillset.json` is not acceptable.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// `skillset.json` carries another name than the package.
    #[error("Archive name mismatch: declared '{declared}' but skillset.json contains '{found}'")]
    NameMismatch {
        /// The name of the package.
        declared: SkillSetName,
        /// The name in `skillset.json`.
        found: SkillSetName,
    },
    /// The gate found something.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A path does not fit the name and prefix fields of ustar.
    #[error("File \"{0}\" has a too long name (should be 100 or less)")]
    NameTooLong(String),
    /// A file had another size when it was packed than when it was listed.
    #[error("{0} changed while it was packed")]
    Changed(String),
    /// Reading the archive, or the files to pack, failed.
    #[error(transparent)]
    Io(io::Error),
    /// Whoever takes the files, or the packed bytes, failed.
    #[error(transparent)]
    Sink(io::Error),
}

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// The path below the SkillSet.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits as packed.
    pub mode: u32,
    /// The hash of the bytes.
    pub sha256: ContentHash,
}

/// What a package was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Its `skillset.json`.
    pub metadata: SkillSetMetadata,
    /// Its files, sorted by path.
    pub files: Vec<FileRecord>,
}

impl Contents {
    /// The hash over the whole SkillSet: [`skill_set::content_hash`].
    pub fn content_hash(&self) -> ContentHash {
        let hashes = self.files.iter().map(|f| (f.path.as_str(), f.sha256));
        skill_set::content_hash(hashes)
    }

    /// The sorted paths.
    pub fn file_list(&self) -> Vec<String> {
        self.files.iter().map(|f| f.path.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
