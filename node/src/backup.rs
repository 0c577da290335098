//! Backups: a copy of a data directory in use, and the way back.
//!
//! A copy is a state that the directory was in, as far as the parts go that name each other. Writers hold the lock of
//! what they change until the ledger has the record of it. So everything is copied first, while others go on; then all
//! those locks are taken, together or not at all; what changed since is copied again; the ledger's last block is looked
//! up; and they are let go. The ledger grows only at its end, so its part up to that block is read afterwards at leisure.
//!
//! What is restored stands whole and checked beside the old directory before the two change places in one step.

mod collect;
mod copy;
mod ledger;
mod locks;
pub mod restore;
mod swap;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kairos_actors::chain::store::file::{self, Prefix};
use kairos_actors::chain::store::place::OpenError;
use kairos_actors::chain::store::{StoreError, sqlite};
use kairos_protocol::backup::{
    self, BackupError, BackupLimits, Entry, LEDGER, LedgerPart, LeftOut, Manifest, Visitor,
};
use kairos_protocol::id::AgentId;
use kairos_protocol::ledger::VerifyReport;
use thiserror::Error;

use crate::data_dir::holders::Holding;
use crate::data_dir::{DataDirError, Tenancy};
use crate::identity;

pub use collect::prepare;

/// Room that is left free, as a part of what is written: file systems need some for themselves.
const SPARE: u64 = 20;

/// What goes into a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Whether private keys do.
    pub keys: bool,
    /// Whether links, special files and names that are not UTF-8 may be left out; else they are an error.
    pub skip_unsupported: bool,
}

/// Why there is no backup, or none is restored.
#[derive(Debug, Error)]
pub enum Failure {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Things that an archive cannot hold.
    #[error(
        "{} cannot be backed up: {}; move them away, or leave them out with --skip-unsupported",
        .0.len(), listed(.0)
    )]
    Unsupported(Vec<LeftOut>),
    /// Part of the directory cannot be read.
    #[error("cannot read all of the data directory: {0}")]
    Unreadable(String),
    /// Too many files.
    #[error("the data directory has more files than a backup takes, or deeper directories")]
    TooMany,
    /// The ledger is in a database elsewhere.
    #[error(
        "the ledger is in {}, outside of the data directory, and a backup holds what is in it; \
         run kairos-chain chain migrate --to file first, or move the database and change storage.sqlite_path",
        .0.display()
    )]
    Outside(PathBuf),
    /// The ledger is not where the settings say.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The ledger does not load, or cannot be read.
    #[error(
        "{0}; see kairos-chain doctor, and copy the directory as it is while no program uses it"
    )]
    Ledger(#[from] StoreError),
    /// The ledger is not what it was a moment ago.
    #[error(
        "the ledger was rewritten while it was backed up; try again, and use no other program on it meanwhile"
    )]
    LedgerRewritten,
    /// The keys are unusable, or do not belong together.
    #[error(
        "the keys are not sound: {0}; see kairos-chain doctor, or leave them out with --no-keys"
    )]
    Keys(String),
    /// A lock was held for too long.
    #[error("{path} is held by {by}; try again when that one is done")]
    Locked {
        /// The lock file, below the data directory.
        path: String,
        /// Who holds it.
        by: Holding,
    },
    /// A file changes faster than it can be read.
    #[error("{0} keeps changing; try again when it is at rest")]
    Restless(String),
    /// The archive cannot be written or read.
    #[error(transparent)]
    Archive(#[from] BackupError),
    /// Another program uses the directory that would be replaced.
    #[error("{} is in use by {by}; stop it first, or restore to another directory with --data-dir", .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who uses it.
        by: Holding,
    },
    /// The directory cannot change places with another one.
    #[error("{} cannot be replaced in one step: {reason}; nothing was changed, restore to another directory with --data-dir", .path.display())]
    NotReplaceable {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The backup is in place, and something after that failed.
    #[error("the backup is in place at {}{}, but cannot {action}: {source}", .place.display(), kept(.old.as_deref()))]
    Unfinished {
        /// Where it is.
        place: PathBuf,
        /// Where the directory is that was there.
        old: Option<PathBuf>,
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not enough room.
    #[error("{needed} bytes are needed in {}, which has {free} free; nothing was changed", .path.display())]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// Bytes of all files, with some to spare.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The archive is sound, but what is in it does not make an agent.
    #[error("the backup holds no usable agent: {0}")]
    Content(String),
    /// The system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Failure {
    fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Fails unless so many `bytes` of files fit on the disk of the directory at `path`.
fn room(path: &Path, bytes: u64) -> Result<(), Failure> {
    let needed = bytes.saturating_add(bytes / SPARE);
    let space =
        rustix::fs::statvfs(path).map_err(|error| Failure::io("look at", path)(error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if needed > free {
        let path = path.to_owned();
        return Err(Failure::NoRoom { path, needed, free });
    }
    Ok(())
}

fn kept(old: Option<&Path>) -> String {
    let told = old.map(|old| format!(", and what was there is in {}", old.display()));
    told.unwrap_or_default()
}

fn listed(things: &[LeftOut]) -> String {
    const SHOWN: usize = 5;
    let named = things.iter().take(SHOWN);
    let named: Vec<_> = named
        .map(|thing| format!("{} ({})", thing.path, thing.reason))
        .collect();
    match things.len().saturating_sub(SHOWN) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// A copy of everything, ready to be written. What was copied apart goes away with it.
#[derive(Debug)]
pub struct Prepared {
    /// What the backup will hold.
    pub manifest: Manifest,
    ledger: Option<Prefix>,
    copies: copy::Copies,
    _tenancy: Tenancy,
}

impl Prepared {
    /// Writes the archive and returns `out`; `told` hears the bytes of files written so far.
    ///
    /// # Errors
    ///
    /// Those of [`backup::write`].
    pub fn write<W: Write>(&self, out: W, told: impl FnMut(u64)) -> Result<W, Failure> {
        let open = |entry: &Entry| -> io::Result<Box<dyn Read>> {
            match &self.ledger {
                Some(ledger) if entry.path == LEDGER => Ok(Box::new(ledger.open()?)),
                _ => Ok(Box::new(File::open(self.copies.path(&entry.path)?)?)),
            }
        };
        match backup::write(out, &self.manifest, open, told) {
            Err(BackupError::Changed(path)) if path == LEDGER && self.ledger.is_some() => {
                Err(Failure::LedgerRewritten)
            }
            written => Ok(written?),
        }
    }
}

/// A database can only be read where it can be looked into.
fn verify_database(bytes: &mut dyn Read) -> io::Result<VerifyReport> {
    let mut copy = tempfile::NamedTempFile::new()?;
    io::copy(bytes, &mut copy)?;
    let found = sqlite::inspect(copy.path(), None).map_err(io::Error::other)?;
    Ok(found.report)
}

/// Reads a whole backup, block by block where it is the ledger, and keeps nothing. Returns its manifest if all of it
/// is good.
///
/// # Errors
///
/// [`Failure::Archive`] and [`Failure::Content`].
pub fn verify(archive: impl Read, told: impl FnMut(u64)) -> Result<Manifest, Failure> {
    struct Look<T> {
        read: u64,
        told: T,
        ledger: Option<LedgerPart>,
        path: String,
        database: bool,
    }
    impl<T: FnMut(u64)> Visitor for Look<T> {
        fn manifest(&mut self, manifest: &Manifest) -> io::Result<()> {
            self.ledger = manifest.ledger;
            self.path = manifest.ledger_path().to_owned();
            self.database = manifest.is_database();
            check_agent(manifest).map_err(io::Error::other)
        }

        fn entry(&mut self, entry: &Entry, bytes: &mut dyn Read) -> io::Result<()> {
            if let Some(part) = self.ledger.filter(|_| entry.path == self.path) {
                let report = match self.database {
                    true => verify_database(bytes)?,
                    false => file::verify(bytes),
                };
                check_ledger(part, &report)?;
            }
            self.read += entry.size();
            (self.told)(self.read);
            Ok(())
        }
    }
    let mut look = Look {
        read: 0,
        told,
        ledger: None,
        path: String::new(),
        database: false,
    };
    Ok(backup::read(archive, &BackupLimits::default(), &mut look)?)
}

/// The folders of private keys.
const KEYS: [&str; 2] = ["keys/", "storage/tls/"];

/// Whether the file at `path`, below the data directory, may be a private key: all in the folders of keys that is not
/// known to be for everyone.
pub fn is_private_key(path: &str) -> bool {
    let public = [".pub", ".json", ".crt", "/instance_id"];
    is_with_keys(path) && !public.iter().any(|end| path.ends_with(end))
}

/// Whether the file at `path` lies with private keys.
fn is_with_keys(path: &str) -> bool {
    KEYS.iter().any(|folder| path.starts_with(folder))
}

/// Whether the files without which no agent works are named.
fn check_agent(manifest: &Manifest) -> Result<(), Failure> {
    let names = |path: &str| manifest.files().any(|entry| entry.path == path);
    match ["skills/kairos.rb", "skills/config.yml"]
        .into_iter()
        .find(|path| !names(path))
    {
        Some(path) => Err(Failure::Content(format!("it has no {path}"))),
        None => Ok(()),
    }
}

/// The agent whose keys are in `keys`, if there are any; fails on those that do not belong together.
fn agent_of(keys: &Path) -> Result<Option<AgentId>, String> {
    match identity::inspect(keys) {
        Ok(Some(found)) if !found.public_matches => {
            Err("the public key is not that of the private key".to_owned())
        }
        Ok(found) => Ok(found.map(|found| found.loaded.instance_id)),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a ledger is the one that the manifest names.
fn check_ledger(part: LedgerPart, report: &VerifyReport) -> io::Result<()> {
    if let Some(problem) = &report.problem {
        return Err(io::Error::other(format!(
            "the ledger in the backup is {}: {problem}",
            report.state
        )));
    }
    if report.length != part.length || report.tip != Some(part.tip) {
        return Err(io::Error::other(
            "the ledger in the backup does not end with the block that its manifest names",
        ));
    }
    Ok(())
}
