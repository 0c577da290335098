//! The list of everything in a backup.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{BackupError, BackupLimits};
use crate::block::BlockRef;
use crate::hash::ContentHash;
use crate::id::AgentId;
use crate::time::Timestamp;

/// What `format` says.
const FORMAT: &str = "kairos-backup";
/// The last version of the format that is read.
const VERSION: u32 = 2;
/// The version that is written where the ledger is a file, which earlier programs read too.
const WITH_FILE: u32 = 1;
/// Where the ledger is, below the data directory, if it is a file.
pub const LEDGER: &str = "storage/blockchain.json";
/// Most bytes of a path.
const PATH_MAX: usize = 4000;
/// Most bytes of one part of a path, as file systems have it.
const PART_MAX: usize = 255;
/// Most parts of a path.
const DEPTH_MAX: usize = 64;
/// The permission bits that are kept; nothing runs with the rights of its owner.
const MODE_BITS: u32 = 0o777;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u32,
    /// The program that made it, with its version.
    pub program: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The agent, if its id was known.
    pub instance_id: Option<AgentId>,
    /// Whether the agent's private keys are in it.
    pub keys: bool,
    /// The ledger, if there was one.
    pub ledger: Option<LedgerPart>,
    /// The path of the database that the ledger is in; nothing if it is the file [`LEDGER`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    /// Every file and directory, in byte order of the paths.
    pub entries: Vec<Entry>,
    /// What lay in the data directory and is not in the backup.
    pub left_out: Vec<LeftOut>,
}

/// The ledger of a backup, up to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerPart {
    /// How many blocks, genesis included.
    pub length: u64,
    /// The last one.
    pub tip: BlockRef,
}

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredEntry", into = "StoredEntry")]
pub struct Entry {
    /// Below the data directory, `/`-separated.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// Hash over the bytes.
        sha256: ContentHash,
    },
}

/// An entry as it is written; a directory has neither size nor hash.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredEntry {
    path: String,
    mode: u32,
    kind: StoredKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<ContentHash>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredKind {
    Directory,
    File,
}

impl TryFrom<StoredEntry> for Entry {
    type Error = &'static str;

    fn try_from(stored: StoredEntry) -> Result<Self, Self::Error> {
        let kind = match (stored.kind, stored.size, stored.sha256) {
            (StoredKind::Directory, None, None) => Kind::Directory,
            (StoredKind::File, Some(size), Some(sha256)) => Kind::File { size, sha256 },
            (StoredKind::Directory, ..) => return Err("a directory has neither size nor hash"),
            (StoredKind::File, ..) => return Err("a file has a size and a hash"),
        };
        let StoredEntry { path, mode, .. } = stored;
        Ok(Self { path, mode, kind })
    }
}

impl From<Entry> for StoredEntry {
    fn from(entry: Entry) -> Self {
        let (kind, size, sha256) = match entry.kind {
            Kind::Directory => (StoredKind::Directory, None, None),
            Kind::File { size, sha256 } => (StoredKind::File, Some(size), Some(sha256)),
        };
        let Entry { path, mode, .. } = entry;
        Self {
            path,
            mode,
            kind,
            size,
            sha256,
        }
    }
}

/// Something that was not backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Below the data directory; what is not UTF-8 is replaced.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestFault {
    /// Not the JSON it should be.
    #[error("{0}")]
    Syntax(String),
    /// Another format.
    #[error("it is of the format `{0}`")]
    Format(String),
    /// A later version of the format.
    #[error(
        "it is of version {0} of the format, and this program reads {VERSION}; use a newer kairos-chain"
    )]
    Newer(u32),
    /// A path that leads out of the directory, or to nowhere.
    #[error("`{0}` is not a path below the data directory")]
    Path(String),
    /// Not in order, or twice there.
    #[error("`{0}` is there twice or not in order")]
    Order(String),
    /// Nothing says that its parent is a directory.
    #[error("`{0}` has no directory to lie in")]
    Parent(String),
    /// Bits other than permissions.
    #[error("`{path}` has the impossible mode {mode:o}")]
    Mode {
        /// Which.
        path: String,
        /// What it says.
        mode: u32,
    },
    /// A ledger without what is said of it, or the other way round.
    #[error("what it says about the ledger does not fit its entries")]
    Ledger,
    /// Keys where it denies them.
    #[error("it denies the keys it lists")]
    Keys,
}

impl Manifest {
    /// A manifest of this version without any entries.
    pub fn new(program: impl Into<String>, created_at: Timestamp) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: WITH_FILE,
            program: program.into(),
            created_at,
            instance_id: None,
            keys: false,
            ledger: None,
            database: None,
            entries: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Reads a manifest; whatever is returned has been checked in itself.
    ///
    /// # Errors
    ///
    /// [`BackupError::Manifest`] and [`BackupError::TooLarge`].
    pub fn parse(json: &[u8], limits: &BackupLimits) -> Result<Self, BackupError> {
        // The format and version first: a later one may have members that this program does not know.
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let syntax = |error: serde_json::Error| ManifestFault::Syntax(error.to_string());
        let head: Head = serde_json::from_slice(json).map_err(syntax)?;
        if head.format != FORMAT {
            return Err(ManifestFault::Format(shown(&head.format)).into());
        }
        if head.version > VERSION {
            return Err(ManifestFault::Newer(head.version).into());
        }
        let manifest: Self = serde_json::from_slice(json).map_err(syntax)?;
        manifest.check(limits)?;
        Ok(manifest)
    }

    /// The text of the manifest.
    ///
    /// # Errors
    ///
    /// What [`parse`](Self::parse) would find wrong with it.
    pub fn to_json(&self, limits: &BackupLimits) -> Result<Vec<u8>, BackupError> {
        self.check(limits)?;
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|error| ManifestFault::Syntax(error.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Notes that the ledger is `part`, in the SQLite database at `path` below the data directory.
    pub fn set_database(&mut self, path: impl Into<String>, part: LedgerPart) {
        self.version = VERSION;
        self.ledger = Some(part);
        self.database = Some(path.into());
    }

    /// Whether the ledger is in a database.
    pub fn is_database(&self) -> bool {
        self.database.is_some()
    }

    /// The path of the entry that holds the ledger, if there is one.
    pub fn ledger_path(&self) -> &str {
        self.database.as_deref().unwrap_or(LEDGER)
    }

    /// Bytes of all files together.
    pub fn total(&self) -> u64 {
        self.entries
            .iter()
            .fold(0, |sum, entry| sum.saturating_add(entry.size()))
    }

    /// The files among the entries.
    pub fn files(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| matches!(entry.kind, Kind::File { .. }))
    }

    fn check(&self, limits: &BackupLimits) -> Result<(), BackupError> {
        let too_large = |what, max| BackupError::TooLarge { what, max };
        if self.entries.len() > limits.entries {
            return Err(too_large("entries", limits.entries as u64));
        }
        if self.total() > limits.total {
            return Err(too_large("bytes", limits.total));
        }
        let mut directories = HashSet::new();
        let mut before: Option<&str> = None;
        for entry in &self.entries {
            let path = entry.path.as_str();
            if !is_below(path) {
                return Err(ManifestFault::Path(shown(path)).into());
            }
            if before.is_some_and(|before| before >= path) {
                return Err(ManifestFault::Order(shown(path)).into());
            }
            before = Some(path);
            let parent = path.rsplit_once('/').map(|(parent, _)| parent);
            if parent.is_some_and(|parent| !directories.contains(parent)) {
                return Err(ManifestFault::Parent(shown(path)).into());
            }
            if entry.mode & !MODE_BITS != 0 {
                let (path, mode) = (shown(path), entry.mode);
                return Err(ManifestFault::Mode { path, mode }.into());
            }
            if entry.kind == Kind::Directory {
                directories.insert(path);
            }
        }
        let path = self.ledger_path();
        let ledger = self.files().any(|entry| entry.path == path);
        let fits = self.database.is_none() || self.version > WITH_FILE;
        if ledger != self.ledger.is_some() || !fits {
            return Err(ManifestFault::Ledger.into());
        }
        if !self.keys && self.files().any(|entry| entry.path.starts_with("keys/")) {
            return Err(ManifestFault::Keys.into());
        }
        Ok(())
    }
}

impl Entry {
    /// Bytes of a file; 0 for a directory.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            Kind::Directory => 0,
        }
    }
}

/// Whether `path` names something below where it is taken from, on any Unix.
fn is_below(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= PART_MAX;
    path.len() <= PATH_MAX
        && !path.contains('\0')
        && path.split('/').count() <= DEPTH_MAX
        && path.split('/').all(part)
}

/// A text of a stranger, for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .take(120)
        .flat_map(char::escape_default)
        .collect()
}
