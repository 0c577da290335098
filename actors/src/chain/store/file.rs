//! The ledger file of the reference, `storage/blockchain.json`, extended in place.
//!
//! An append overwrites the closing bracket with a comma, the new blocks and a new bracket, so it costs as much
//! as what it adds. What it is about to write stands in a journal first (`blockchain.json.journal`): once that is
//! on disk the blocks are safe, and whoever uses the ledger next after a crash makes them part of it.
//!
//! Writers of the reference and of this program exclude each other by `flock` on `blockchain.json.lock`. They may
//! append between any two calls, so nothing is believed about the file without a look at its length and time;
//! when it grew, only what was added is read, provided that the last block known is where it was.
//!
//! A ledger that does not load is never written to, with one exception: when the journal holds a whole record,
//! and everything before it is a chain that the record continues.

mod disk;
mod inspect;
mod journal;
mod known;
mod lock;
mod patch;
mod scan;

#[cfg(test)]
mod tests;

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::VerifyReport;
use kairos_protocol::time::Clock;
use tracing::warn;

use super::{BlockStore, HISTORY_MAX, StoreError};
use disk::{Disk, Os};
pub use inspect::{Inspection, Leftover, Prefix, inspect, verify};
use journal::{Content, Journal, Record, sync_directory_of};
use known::{Chain, Known, scan_file, scan_patched};
use lock::Paths;
use patch::{Patch, Undo};

/// How long to wait for the lock unless told otherwise.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// What was found in the journal, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing was left over.
    Clean,
    /// An append was cut off before it was acknowledged. It left no trace in the ledger.
    Discarded {
        /// How much of it there was.
        bytes: u64,
    },
    /// An acknowledged append was already in the ledger.
    Completed(BlockRef),
    /// An acknowledged append was missing from the ledger, or half in it, and is there now.
    Replayed(BlockRef),
    /// An acknowledged append does not follow on the ledger, which somebody changed since. Its record was kept
    /// under this name beside the ledger.
    SetAside(String),
    /// The ledger does not load, even with the journal's help. Nothing was touched.
    Blocked,
}

/// A ledger in the reference's file format.
pub struct FileStore {
    path: PathBuf,
    lock_patience: Duration,
    disk: Box<dyn Disk>,
    known: Mutex<Known>,
}

impl FileStore {
    /// Opens the ledger at `path`, which need not exist, and finishes what a crash interrupted.
    ///
    /// A ledger that does not load opens too; its state is told by [`BlockStore::verify`]. Waits at most
    /// `lock_patience` for other writers, here and in every later call. Nothing is created before the first
    /// append but the lock file.
    pub fn open(path: &Path, lock_patience: Duration) -> Result<(Self, Recovery), StoreError> {
        Self::open_on(Box::new(Os), path, lock_patience)
    }

    fn open_on(
        disk: Box<dyn Disk>,
        path: &Path,
        lock_patience: Duration,
    ) -> Result<(Self, Recovery), StoreError> {
        let store = Self {
            path: path.to_owned(),
            lock_patience,
            disk,
            known: Mutex::default(),
        };
        let recovery = store.reading(|_, _, recovery| Ok(recovery))?;
        Ok((store, recovery))
    }

    /// Runs `read` on what the ledger is now, while nobody writes to it.
    fn reading<T>(
        &self,
        read: impl FnOnce(&Known, &Paths, Recovery) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut known = self.known();
        let paths = self.paths()?;
        let mut lock = paths.lock_for_reading(self.lock_patience)?;
        let mut recovery = Recovery::Clean;
        if pending(&paths)? {
            drop(lock.take());
            lock = Some(paths.lock_for_writing(self.lock_patience)?);
            recovery = self.recover(&mut known, &paths)?;
        }
        known.refresh(&paths.ledger);
        let result = read(&known, &paths, recovery);
        drop(lock);
        result
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paths(&self) -> Result<Paths, StoreError> {
        Paths::resolve(&self.path).map_err(StoreError::io("find the ledger"))
    }

    /// Deals with what the journal holds, and says so. The caller has the writers' lock.
    fn recover(&self, known: &mut Known, paths: &Paths) -> Result<Recovery, StoreError> {
        let recovery = self
            .empty_journal(known, paths)
            .map_err(StoreError::io("recover the ledger from its journal"))?;
        if recovery != Recovery::Clean {
            warn!(chain.recovery = ?recovery, "the ledger's journal was left over from a crash");
        }
        Ok(recovery)
    }

    fn empty_journal(&self, known: &mut Known, paths: &Paths) -> io::Result<Recovery> {
        let journal = Journal::open(&paths.journal, &*self.disk)?;
        let record = match journal.read()? {
            Content::Empty => return Ok(Recovery::Clean),
            Content::Torn(bytes) => {
                journal.revoke()?;
                return Ok(Recovery::Discarded { bytes });
            }
            Content::Whole(record) => record,
        };
        // After a crash nothing is taken for granted.
        *known = Known::Unknown;
        known.refresh(&paths.ledger);
        let recovery = self.settle(known, paths, &record)?;
        if matches!(recovery, Recovery::Completed(_) | Recovery::Replayed(_)) {
            journal.revoke()?;
        }
        Ok(recovery)
    }

    /// Brings `record` into the ledger, or finds out why not.
    fn settle(&self, known: &mut Known, paths: &Paths, record: &Record) -> io::Result<Recovery> {
        let follows = match &*known {
            Known::Absent => record.at == 0,
            Known::Chain(chain) if chain.ledger.length() > record.tip.index => {
                let found = chain.read(&paths.ledger, record.tip.index, 1)?;
                if found.first().map(Block::to_ref) == Some(record.tip) {
                    return Ok(Recovery::Completed(record.tip));
                }
                false
            }
            Known::Chain(chain) => chain.end() == record.at,
            // What the record would cut off must be no more than an interrupted append can have left.
            Known::Unknown | Known::Broken { .. } => {
                let ours = record.after().max(record.before.unwrap_or(0));
                fs::metadata(&paths.ledger)?.len() <= ours
            }
        };
        if follows && let Some(chain) = scan_patched(&paths.ledger, record)? {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&paths.ledger)?;
            record.apply(&*self.disk, &file)?;
            sync_directory_of(&paths.ledger, &*self.disk)?;
            *known = chain.stored_at(&paths.ledger);
            return Ok(Recovery::Replayed(record.tip));
        }
        if matches!(known, Known::Broken { .. }) {
            return Ok(Recovery::Blocked);
        }
        set_aside(paths, record.tip).map(Recovery::SetAside)
    }

    /// Writes `record` to the journal and then to the ledger. The caller has the writers' lock.
    fn commit(&self, paths: &Paths, record: &Record, undo: &Undo) -> Result<(), StoreError> {
        let action = "write the ledger's journal";
        let journal = Journal::open(&paths.journal, &*self.disk).map_err(StoreError::io(action))?;
        if let Err(source) = journal.write(record) {
            return Err(match journal.revoke() {
                Ok(()) => StoreError::Io { action, source },
                Err(_) => StoreError::Unsettled(source),
            });
        }
        if let Err((source, undone)) = self.change(&paths.ledger, record, undo) {
            return Err(match undone.and_then(|()| journal.revoke()) {
                Ok(()) => StoreError::io("write the ledger")(source),
                Err(_) => StoreError::Unsettled(source),
            });
        }
        if let Err(error) = journal.clear() {
            // Harmless: the record is found to be in the ledger when it is next read.
            warn!(%error, "cannot clear the ledger's journal");
        }
        Ok(())
    }

    /// Changes the ledger as `record` says, or else tells why not and whether it is as before.
    fn change(
        &self,
        ledger: &Path,
        record: &Record,
        undo: &Undo,
    ) -> Result<(), (io::Error, io::Result<()>)> {
        let disk = &*self.disk;
        let begins = matches!(undo, Undo::Remove);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(begins)
            .open(ledger);
        let file = opened.map_err(|source| (source, Ok(())))?;
        let mut done = record.apply(disk, &file);
        if begins {
            done = done.and_then(|()| sync_directory_of(ledger, disk));
        }
        done.map_err(|source| (source, undo.run(disk, ledger, &file)))
    }
}

/// Keeps a record that does not follow on the ledger where a person can find it.
fn set_aside(paths: &Paths, tip: BlockRef) -> io::Result<String> {
    let mut path = paths.journal.clone().into_os_string();
    path.push(format!(".{:.12}", tip.hash.to_hex()));
    let path = PathBuf::from(path);
    fs::rename(&paths.journal, &path)?;
    let name = path.file_name().unwrap_or_default();
    Ok(name.to_string_lossy().into_owned())
}

fn pending(paths: &Paths) -> Result<bool, StoreError> {
    Journal::is_pending(&paths.journal).map_err(StoreError::io("look at the ledger's journal"))
}

impl BlockStore for FileStore {
    fn append(
        &self,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
    ) -> Result<Vec<BlockRef>, StoreError> {
        let mut known = self.known();
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(StoreError::io("make the ledger's folder"))?;
        }
        let paths = self.paths()?;
        let _lock = paths.lock_for_writing(self.lock_patience)?;
        if pending(&paths)? {
            self.recover(&mut known, &paths)?;
        }
        known.refresh(&paths.ledger);
        let state = known.state();
        if !state.allows_append() {
            return Err(StoreError::Refused(state));
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // Taken out, so that a failure on the way leaves nothing believed about the file.
        let before = match std::mem::take(&mut *known) {
            Known::Chain(chain) => Some(chain),
            _ => None,
        };
        let undo =
            Undo::of(&paths.ledger, before.as_ref()).map_err(StoreError::io("read the ledger"))?;
        let mut patch = Patch::behind(before.as_ref());
        let mut refs = Vec::with_capacity(batch.len());
        for entries in batch {
            refs.push(patch.add(entries, clock.now())?);
        }
        let (record, ledger, blocks) = patch.finish(undo.length());
        self.commit(&paths, &record, &undo)?;
        *known = Chain::grown(before, ledger, &blocks).stored_at(&paths.ledger);
        Ok(refs)
    }

    fn tip(&self) -> Result<Option<BlockRef>, StoreError> {
        self.reading(|known, _, _| match known {
            Known::Absent => Ok(None),
            Known::Chain(chain) => Ok(Some(chain.ledger.tip())),
            other => Err(StoreError::NotReadable(other.state())),
        })
    }

    fn verify(&self) -> Result<VerifyReport, StoreError> {
        // Without the lock first, so that a long ledger does not keep writers waiting: they change only what is
        // behind the last block. What looks wrong may be an append under way, so it is looked at again.
        let paths = self.paths()?;
        if !pending(&paths)? {
            let report = scan_file(&paths.ledger).0;
            if report.is_valid() {
                return Ok(report);
            }
        }
        self.reading(|_, paths, _| Ok(scan_file(&paths.ledger).0))
    }

    fn history(&self, limit: usize) -> Result<Vec<Block>, StoreError> {
        let limit = limit.min(HISTORY_MAX);
        let mut blocks = self.read(limit, |length| length.saturating_sub(limit as u64))?;
        blocks.reverse();
        Ok(blocks)
    }

    fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, StoreError> {
        self.read(limit.min(HISTORY_MAX), |_| first)
    }
}

impl FileStore {
    /// At most `limit` blocks from the position that `first` picks in a chain of given length.
    fn read(&self, limit: usize, first: impl FnOnce(u64) -> u64) -> Result<Vec<Block>, StoreError> {
        self.reading(|known, paths, _| match known {
            Known::Absent => Ok(Vec::new()),
            Known::Chain(chain) => {
                let first = first(chain.ledger.length());
                let read = chain.read(&paths.ledger, first, limit);
                read.map_err(StoreError::io("read the ledger"))
            }
            other => Err(StoreError::NotReadable(other.state())),
        })
    }
}
