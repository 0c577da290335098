//! Moves whole ledgers: out to a file, in from one, and from one form to the other.
//!
//! Whatever comes in is first written to a file of its own beside the ledger, block by block and checked, so that
//! nothing is replaced by something that was not verified whole. While a ledger is [`Held`] nobody else writes to it.
//! All functions block.

mod read;
mod staged;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kairos_protocol::block::canonical::Header;
use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::{LoadState, Problem, VerifyReport};
use kairos_protocol::time::Timestamp;
use rusqlite::Connection;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;

use super::StoreError;
use super::file::HeldFile;
use super::place::{Backend, Places};
use super::sqlite;

pub use read::read;
pub use staged::{Form, Staged, Writer};

/// Takes note of how many blocks are done.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

/// Why a ledger was not moved. Nothing was replaced.
#[derive(Debug, Error)]
pub enum TransferError {
    /// What should be moved is no ledger.
    #[error("{what} is not a ledger: {problem}")]
    Bad {
        /// What was read.
        what: String,
        /// The first thing wrong with it.
        problem: Problem,
    },
    /// There is nothing to move.
    #[error("there is no ledger at {}", .0.display())]
    Absent(PathBuf),
    /// It is a list without blocks.
    #[error("{0} has no blocks, not even the first one")]
    Empty(String),
    /// The ledger that there is would be lost or cut.
    #[error("the ledger at {} {relation}; --replace puts it away and takes the other one", path.display())]
    WouldReplace {
        /// Where the ledger is that would be replaced.
        path: PathBuf,
        /// How the new one stands to it.
        relation: Relation,
    },
    /// The ledger that there is cannot be copied away.
    #[error("the database at {} does not load and cannot be put away; move it yourself and try again", .0.display())]
    Stuck(PathBuf),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl TransferError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// How a ledger stands to the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// There is none in use.
    New,
    /// They are the same.
    Same,
    /// It goes on where the one in use ends.
    Continues,
    /// It ends before the one in use does.
    Behind,
    /// Their histories differ.
    Differs,
    /// The one in use does not load.
    Broken(LoadState),
}

impl Relation {
    /// Whether taking it loses nothing.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::New | Self::Same | Self::Continues)
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::New => f.write_str("does not exist yet"),
            Self::Same => f.write_str("is the same"),
            Self::Continues => f.write_str("is the beginning of it"),
            Self::Behind => f.write_str("has more blocks"),
            Self::Differs => f.write_str("has another history"),
            Self::Broken(state) => write!(f, "is {state}"),
        }
    }
}

/// A ledger that nobody else writes to until this is dropped.
pub struct Held {
    path: PathBuf,
    kind: Kind,
    /// The outcome of the first walk, which stays true as long as nobody else writes.
    report: OnceCell<VerifyReport>,
}

/// A ledger that nobody else even has open as a database, so that it can be taken away.
pub struct Alone(Held);

enum Kind {
    File(HeldFile),
    Sqlite(Connection),
    /// No database yet.
    Nothing,
}

impl Held {
    /// Waits for the ledger in the form `backend`, and finishes what a crash interrupted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] and what the system says.
    pub fn take(places: &Places, backend: Backend) -> Result<Self, TransferError> {
        let path = places.path(backend).to_owned();
        let kind = match backend {
            Backend::File => Kind::File(HeldFile::take(&path, places.patience)?),
            Backend::Sqlite => match sqlite::hold(&path, places.sqlite_options())? {
                Some(connection) => Kind::Sqlite(connection),
                None => Kind::Nothing,
            },
        };
        Ok(Self {
            path,
            kind,
            report: OnceCell::new(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks all of it and tells `seen` of each good block.
    fn walk(&self, seen: &mut dyn FnMut(&Header)) -> Result<VerifyReport, TransferError> {
        let report = match &self.kind {
            Kind::File(held) => held.walk(seen),
            Kind::Sqlite(connection) => {
                sqlite::walk_held(connection, &mut |block| seen(&block.header()))?
            }
            Kind::Nothing => VerifyReport::absent(),
        };
        Ok(self.report.get_or_init(|| report).clone())
    }

    /// Checks all of it and hands each good block to `seen`.
    ///
    /// # Errors
    ///
    /// The database refuses. A bad ledger is a report, not an error.
    pub fn blocks(&self, seen: &mut dyn FnMut(&Block)) -> Result<VerifyReport, TransferError> {
        let report = match &self.kind {
            Kind::File(held) => held.blocks(seen),
            Kind::Sqlite(connection) => sqlite::walk_held(connection, seen)?,
            Kind::Nothing => VerifyReport::absent(),
        };
        Ok(self.report.get_or_init(|| report).clone())
    }

    /// Checks all of it, unless it was checked before.
    ///
    /// # Errors
    ///
    /// Those of [`blocks`](Self::blocks).
    pub fn report(&self) -> Result<VerifyReport, TransferError> {
        match self.report.get() {
            Some(report) => Ok(report.clone()),
            None => self.walk(&mut |_| ()),
        }
    }

    /// How `staged` stands to it.
    ///
    /// # Errors
    ///
    /// Those of [`blocks`](Self::blocks), and what the system says about the staged file.
    pub fn relation(&self, staged: &Staged) -> Result<Relation, TransferError> {
        let mut at_end = None;
        let end = staged.tip().index;
        let report = self.walk(&mut |block| {
            if block.index() == end {
                at_end = Some(block.to_ref());
            }
        })?;
        let Some(tip) = report.tip.filter(|_| report.state == LoadState::Readable) else {
            return Ok(match report.state {
                LoadState::Absent => Relation::New,
                state => Relation::Broken(state),
            });
        };
        Ok(if tip == staged.tip() {
            Relation::Same
        } else if at_end == Some(staged.tip()) {
            Relation::Behind
        } else if tip.index < end && staged.at(tip.index)? == Some(tip) {
            Relation::Continues
        } else {
            Relation::Differs
        })
    }

    /// Puts `staged` in its place, as one step. The ledger that was there is kept in `backups`; the path to it there is
    /// returned.
    ///
    /// # Errors
    ///
    /// Where it fails, the ledger is as before, unless all that failed was to sync the folder.
    pub fn replace(
        mut self,
        staged: Staged,
        backups: &Path,
        at: Timestamp,
    ) -> Result<Option<PathBuf>, TransferError> {
        let before = self.report()?;
        match &mut self.kind {
            Kind::File(held) => replace_file(held, &self.path, &before, staged, backups, at),
            Kind::Sqlite(connection) => {
                let kept = match before.state {
                    LoadState::Absent => None,
                    LoadState::Readable => {
                        let name = self.path.with_extension("json");
                        let mut copy = Writer::beside(&self.path)?;
                        let mut failed = Ok(());
                        sqlite::walk_held(connection, &mut |block| {
                            if failed.is_ok() {
                                failed = copy.add(block);
                            }
                        })?;
                        failed?;
                        let copy = copy.finish()?.into_path();
                        let kept = keep(&copy, &name, before.tip, backups, at, rename)?;
                        // It has another name by now, under which it stays.
                        copy.keep()
                            .map_err(|error| TransferError::io("keep", &name)(error.error))?;
                        Some(kept)
                    }
                    _ => return Err(TransferError::Stuck(self.path.clone())),
                };
                sqlite::refill(connection, &staged)?;
                Ok(kept)
            }
            Kind::Nothing => {
                sqlite::fill_new(&self.path, &staged)?;
                Ok(None)
            }
        }
    }
}

impl Alone {
    /// Waits for the ledger in the form `backend`, and finishes what a crash interrupted. A database is brought into
    /// one file.
    ///
    /// # Errors
    ///
    /// Those of [`Held::take`]; [`StoreError::Locked`] also while somebody else has the database open.
    pub fn take(places: &Places, backend: Backend) -> Result<Self, TransferError> {
        let held = Held::take(places, backend)?;
        if let Kind::Sqlite(connection) = &held.kind {
            sqlite::fold(connection)?;
        }
        Ok(Self(held))
    }

    /// What there is.
    pub fn held(&self) -> &Held {
        &self.0
    }

    /// Takes the ledger away from its place and keeps it in `backups`. Whoever has it open is told that it is gone.
    ///
    /// # Errors
    ///
    /// Where it fails, the ledger is where it was.
    pub fn put_away(self, backups: &Path, at: Timestamp) -> Result<PathBuf, TransferError> {
        let Self(held) = self;
        let tip = held.report()?.tip;
        let from = match &held.kind {
            Kind::File(file) => file.file(),
            Kind::Sqlite(_) | Kind::Nothing => &held.path,
        };
        keep(from, &held.path, tip, backups, at, rename)
    }
}

/// Keeps the ledger file, which `before` is about, under another name too, and then puts `staged` in its place, so that
/// there is a ledger at any moment.
fn replace_file(
    held: &mut HeldFile,
    path: &Path,
    before: &VerifyReport,
    staged: Staged,
    backups: &Path,
    at: Timestamp,
) -> Result<Option<PathBuf>, TransferError> {
    let old = held.file().to_owned();
    let kept = match before.state {
        LoadState::Absent => None,
        _ => Some(keep(&old, path, before.tip, backups, at, link)?),
    };
    if let Err(error) = held.put(staged.into_path()) {
        if let Some(kept) = &kept {
            // It would go on changing with the ledger. Where it stays, that is all the harm.
            let _still_there = fs::remove_file(kept);
        }
        return Err(TransferError::io("replace", path)(error));
    }
    sync(old.parent().unwrap_or(Path::new(".")))?;
    Ok(kept)
}

/// Has `put` bring `from` into `backups`, under a name made of that of `like`, the time and the tip that nothing has
/// yet, and makes the name durable.
fn keep(
    from: &Path,
    like: &Path,
    tip: Option<BlockRef>,
    backups: &Path,
    at: Timestamp,
    put: fn(&Path, &Path) -> io::Result<()>,
) -> Result<PathBuf, TransferError> {
    fs::create_dir_all(backups).map_err(TransferError::io("make", backups))?;
    let text =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, ending) = (text(like.file_stem()), text(like.extension()));
    let tip = tip.map_or_else(
        || "broken".to_owned(),
        |tip| format!("{:.12}", tip.hash.to_hex()),
    );
    for n in 1..=u32::MAX {
        let more = if n == 1 {
            String::new()
        } else {
            format!("_{n}")
        };
        let to = backups.join(format!("{stem}_{}_{tip}{more}.{ending}", at.file_stamp()));
        match put(from, &to) {
            Ok(()) => {
                for folder in [Some(backups), from.parent()].into_iter().flatten() {
                    sync(folder)?;
                }
                return Ok(to);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(TransferError::io("put away", from)(error)),
        }
    }
    Err(TransferError::io("put away", from)(
        io::ErrorKind::AlreadyExists.into(),
    ))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

/// Gives the file `from` the name `to` as well, or copies it where the file system cannot do that.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let folder = to.parent().unwrap_or(Path::new("."));
            let mut copy = tempfile::Builder::new()
                .prefix(".ledger-")
                .tempfile_in(folder)?;
            io::copy(&mut File::open(from)?, &mut copy)?;
            copy.as_file().sync_all()?;
            copy.persist_noclobber(to).map_err(|error| error.error)?;
            Ok(())
        }
        done => done,
    }
}

fn sync(folder: &Path) -> Result<(), TransferError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(TransferError::io("sync", folder))
}
