//! The ledger file of the reference, `storage/blockchain.json`, extended in place.
//!
//! An append overwrites the closing bracket with a comma, the new blocks and a new bracket, so it costs as much
//! as what it adds. What it is about to write stands in a journal first (`blockchain.json.journal`): once that is
//! on disk the blocks are safe, and whoever uses the ledger next after a crash makes them part of it. The ledger file
//! itself is synced only now and then, before the journal begins anew: one append costs one sync. Others may not have
//! synced what they wrote, so that is done before anything is acknowledged that follows on it.
//!
//! Writers of the reference and of this program exclude each other by `flock` on `blockchain.json.lock`. They may
//! append between any two calls, so nothing is believed about the file without a look at its length and time;
//! when it grew, only what was added is read, provided that the last block known is where it was.
//!
//! A ledger that does not load is never written to, with one exception: when the journal holds whole records, and
//! everything before them is a chain that they continue.

mod disk;
mod held;
mod inspect;
mod journal;
mod kept;
mod known;
mod lock;
mod mark;
mod patch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::{LoadState, VerifyReport};
use kairos_protocol::time::Clock;
use prometheus_client::metrics::histogram::Histogram;
use tracing::warn;

use super::{BlockStore, HISTORY_MAX, StoreError};
use crate::chain::figures;
use disk::{Disk, How, Os, Timed};
pub(crate) use held::HeldFile;
pub use inspect::{Inspection, Leftover, Prefix, inspect, verify};
use journal::{Journal, Record, Run, is_applied, joined, sync_directory_of};
use kept::Kept;
use known::{Chain, Known, Stamp, scan_file, scan_patched};
use lock::{Locked, Paths};
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
    /// How long the disk took to sync, where that is timed.
    syncs: Option<Histogram>,
    state: Mutex<State>,
    /// Whether there was a chain when last looked.
    seen: AtomicBool,
    /// Where the ledger would be in the other form.
    rival: Option<PathBuf>,
    /// The last thing that had to be done about a crash.
    recovered: Mutex<Option<Recovery>>,
}

/// What was last seen of the files.
#[derive(Default)]
struct State {
    known: Known,
    /// The records of the journal that are known to be in the ledger.
    run: Run,
    /// The ledger file of which every block is durable or in the journal's run, as this store left it.
    vouched: Option<Stamp>,
    /// Where the files are.
    paths: Option<Arc<Paths>>,
    lock: Kept,
    journal: Kept,
    ledger: Kept,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("nothing was left over"),
            Self::Discarded { bytes } => {
                write!(
                    f,
                    "an append of up to {bytes} bytes, which nobody was told of, was cut off and discarded"
                )
            }
            Self::Completed(tip) => write!(f, "all appends up to {tip} were found complete"),
            Self::Replayed(tip) => write!(f, "appends up to {tip} were completed from the journal"),
            Self::SetAside(name) => {
                write!(
                    f,
                    "the journal does not continue the ledger and was kept as {name}"
                )
            }
            Self::Blocked => f.write_str("the ledger does not load, even with the journal's help"),
        }
    }
}

impl FileStore {
    /// Opens the ledger at `path`, which need not exist, and finishes what a crash interrupted.
    ///
    /// A ledger that does not load opens too; its state is told by [`BlockStore::verify`]. Waits at most
    /// `lock_patience` for other writers, here and in every later call. Nothing is created before the first
    /// append but the lock file.
    pub fn open(path: &Path, lock_patience: Duration) -> Result<(Self, Recovery), StoreError> {
        let syncs = figures::seconds();
        let disk = Box::new(Timed(syncs.clone()));
        let (store, recovery) = Self::open_on(disk, path, lock_patience)?;
        let syncs = Some(syncs);
        Ok((Self { syncs, ..store }, recovery))
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
            syncs: None,
            state: Mutex::default(),
            seen: AtomicBool::new(false),
            rival: None,
            recovered: Mutex::default(),
        };
        let recovery = store.reading(|_, _, recovery| Ok(recovery))?;
        Ok((store, recovery))
    }

    /// This store, whose ledger `existed` a moment ago, and which begins none while there is one at `rival`.
    pub(crate) fn beside(mut self, rival: &Path, existed: bool) -> Self {
        self.seen.fetch_or(existed, Ordering::Relaxed);
        self.rival = Some(rival.to_owned());
        self
    }

    /// Runs `read` on what the ledger is now, while nobody writes to it.
    fn reading<T>(
        &self,
        read: impl FnOnce(&Known, &Paths, Recovery) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state();
        let paths = self.paths(&mut state)?;
        let mut lock = paths.lock_for_reading(&mut state.lock, &*self.disk, self.lock_patience)?;
        let mut recovery = Recovery::Clean;
        if !self.is_settled(&mut state, &paths)? {
            drop(lock.take());
            let alone = paths.lock_for_writing(&mut state.lock, &*self.disk, self.lock_patience)?;
            lock = Some(alone);
            recovery = self.recover(&mut state, &paths)?;
        }
        state.known.refresh(&paths.ledger, &paths.mark);
        self.note(&state.known);
        let result = read(&state.known, &paths, recovery);
        drop(lock);
        result
    }

    fn note(&self, known: &Known) {
        if matches!(known, Known::Chain(_)) {
            self.seen.store(true, Ordering::Relaxed);
        }
    }

    /// Fails where a new ledger would hide another one.
    fn may_begin(&self) -> Result<(), StoreError> {
        if self.seen.load(Ordering::Relaxed) {
            return Err(StoreError::Gone);
        }
        self.rival.as_deref().map_or(Ok(()), none_at)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paths(&self, state: &mut State) -> Result<Arc<Paths>, StoreError> {
        if let Some(paths) = &state.paths
            && let Ok(metadata) = fs::symlink_metadata(&self.path)
            // Not where a link leads, which may be elsewhere by now.
            && state.ledger.is(&metadata)
        {
            return Ok(Arc::clone(paths));
        }
        let paths = Paths::resolve(&self.path).map_err(StoreError::io("find the ledger"))?;
        let paths = Arc::new(paths);
        state.paths = Some(Arc::clone(&paths));
        Ok(paths)
    }

    /// Whether all that the journal promises is in the ledger, and nothing in it was cut off.
    fn is_settled(&self, state: &mut State, paths: &Paths) -> Result<bool, StoreError> {
        let mut look = || {
            let journal = Journal::look(&mut state.journal, &paths.journal, &*self.disk)?;
            let Some(journal) = journal else {
                return Ok(Some(Run::default()));
            };
            let news = journal.news(state.run)?;
            if news.torn > 0 {
                return Ok(None);
            }
            if !news.records.is_empty() {
                let ledger = match self.disk.open(&paths.ledger, How::Read) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    opened => opened?,
                };
                for change in joined(news.records) {
                    if !is_applied(&*self.disk, &ledger, &change)? {
                        return Ok(None);
                    }
                }
            }
            Ok(Some(news.run))
        };
        let found = look().map_err(StoreError::io("read the ledger's journal"))?;
        state.run = found.unwrap_or(state.run);
        Ok(found.is_some())
    }

    /// Deals with what the journal holds, and says so. The caller has the writers' lock.
    fn recover(&self, state: &mut State, paths: &Paths) -> Result<Recovery, StoreError> {
        let recovery = self
            .bring_in_all(state, paths)
            .map_err(StoreError::io("recover the ledger from its journal"))?;
        if recovery != Recovery::Clean {
            warn!(chain.recovery = %recovery, "the ledger was brought into order after a crash");
            let mut recovered = self
                .recovered
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *recovered = Some(recovery.clone());
        }
        Ok(recovery)
    }

    fn bring_in_all(&self, state: &mut State, paths: &Paths) -> io::Result<Recovery> {
        let journal = Journal::open(&mut state.journal, &paths.journal, &*self.disk)?;
        let news = journal.news(state.run)?;
        let mut recovery = Recovery::Clean;
        if news.torn > 0 {
            journal.revoke(news.run)?;
            recovery = Recovery::Discarded { bytes: news.torn };
        }
        if !news.records.is_empty() {
            // After a crash nothing is taken for granted.
            state.known = Known::Unknown;
            state.known.refresh(&paths.ledger, &paths.mark);
        }
        for change in joined(news.records) {
            recovery = self.bring_in(&mut state.known, paths, &change)?;
            match recovery {
                Recovery::SetAside(_) => {
                    state.run = Run::default();
                    return Ok(recovery);
                }
                Recovery::Blocked => return Ok(recovery),
                _ => {}
            }
        }
        state.run = news.run;
        if matches!(recovery, Recovery::Completed(_) | Recovery::Replayed(_)) {
            self.end_run(state, paths)?;
        }
        Ok(recovery)
    }

    /// Makes the ledger durable, and lets the journal begin anew.
    fn end_run(&self, state: &mut State, paths: &Paths) -> io::Result<()> {
        self.disk
            .sync(&self.disk.open(&paths.ledger, How::Write)?)?;
        sync_directory_of(&paths.ledger, &*self.disk)?;
        if !state.run.is_empty() {
            Journal::open(&mut state.journal, &paths.journal, &*self.disk)?.clear()?;
            state.run = Run::default();
        }
        if let Known::Chain(chain) = &mut state.known {
            state.vouched = chain.stamp();
            chain.note(&paths.mark, &paths.ledger);
        }
        Ok(())
    }

    /// Does what is left to do after appends. The caller has the writers' lock.
    fn settle_locked(&self, state: &mut State, paths: &Paths) -> Result<(), StoreError> {
        if !self.is_settled(state, paths)? {
            self.recover(state, paths)?;
        }
        if !state.run.is_empty() {
            self.end_run(state, paths)
                .map_err(StoreError::io("sync the ledger"))?;
        }
        Ok(())
    }

    /// Brings `record` into the ledger, or finds out why not.
    fn bring_in(&self, known: &mut Known, paths: &Paths, record: &Record) -> io::Result<Recovery> {
        let follows = match &*known {
            Known::Absent => record.at == 0,
            Known::Chain(chain) if chain.ledger.length() > record.tip.index => {
                let found = chain.read(&paths.ledger, record.tip.index, 1)?;
                if found.first().map(Block::to_ref) == Some(record.tip) {
                    return Ok(Recovery::Completed(record.tip));
                }
                false
            }
            // Some of its blocks may be there already; then the chain that it makes has them too.
            Known::Chain(chain) => record.at <= chain.end() && chain.end() <= record.after(),
            // What the record would cut off must be no more than an interrupted append can have left.
            Known::Unknown | Known::Broken { .. } => {
                let ours = record.after().max(record.before.unwrap_or(0));
                fs::metadata(&paths.ledger)?.len() <= ours
            }
        };
        if follows
            && let Some(chain) = scan_patched(&paths.ledger, record)?
            && known.leads_to(record, &paths.ledger)?
        {
            let file = self.disk.open(&paths.ledger, How::Create)?;
            record.apply(&*self.disk, &file, file.metadata()?.len())?;
            self.disk.sync(&file)?;
            sync_directory_of(&paths.ledger, &*self.disk)?;
            *known = Known::Chain(chain.stored_in(&file));
            return Ok(Recovery::Replayed(record.tip));
        }
        if matches!(known, Known::Broken { .. }) {
            return Ok(Recovery::Blocked);
        }
        set_aside(paths, record.tip).map(Recovery::SetAside)
    }

    /// Writes `record` to the journal and then to the ledger, whose last block is at `after`. The caller has the writers' lock.
    fn commit(
        &self,
        state: &mut State,
        paths: &Paths,
        record: &Record,
        undo: &Undo,
        after: u64,
    ) -> Result<Arc<File>, StoreError> {
        if state.run.is_full_for(record.patch.len()) {
            self.end_run(state, paths)
                .map_err(StoreError::io("sync the ledger"))?;
        }
        let action = "write the ledger's journal";
        let journal = Journal::open(&mut state.journal, &paths.journal, &*self.disk)
            .map_err(StoreError::io(action))?;
        let run = match journal.write(state.run, record) {
            Ok(run) => run,
            Err(source) => {
                return Err(match journal.revoke(state.run) {
                    Ok(()) => StoreError::Io { action, source },
                    Err(_) => StoreError::Unsettled { after, source },
                });
            }
        };
        match self.change(&mut state.ledger, &paths.ledger, record, undo) {
            Ok(ledger) => {
                state.run = run;
                Ok(ledger)
            }
            Err((source, undone)) => Err(match undone.and_then(|()| journal.revoke(state.run)) {
                Ok(()) => StoreError::io("write the ledger")(source),
                Err(_) => StoreError::Unsettled { after, source },
            }),
        }
    }

    fn undo(&self, kept: &mut Kept, paths: &Paths, before: Option<&Chain>) -> io::Result<Undo> {
        let Some(chain) = before else {
            return Undo::of(&*self.disk, None);
        };
        let file = kept.open(&*self.disk, &paths.ledger, How::Write)?;
        Undo::of(&*self.disk, Some((&file, chain)))
    }

    /// Changes the ledger as `record` says, or else tells why not and whether it is as before.
    fn change(
        &self,
        kept: &mut Kept,
        ledger: &Path,
        record: &Record,
        undo: &Undo,
    ) -> Result<Arc<File>, (io::Error, io::Result<()>)> {
        let disk = &*self.disk;
        let how = match undo {
            Undo::Remove => How::CreateNew,
            Undo::Restore { .. } => How::Write,
        };
        let file = kept.open(disk, ledger, how);
        let file = file.map_err(|source| (source, Ok(())))?;
        match record.apply(disk, &file, undo.length().unwrap_or(0)) {
            Ok(()) => Ok(file),
            Err(source) => Err((source, undo.run(disk, ledger, &file))),
        }
    }
}

/// Fails where there is a ledger in another form at `rival`.
pub(super) fn none_at(rival: &Path) -> Result<(), StoreError> {
    match rival.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(StoreError::Elsewhere(rival.to_owned())),
        Err(source) => Err(StoreError::io("look for another ledger")(source)),
    }
}

/// Waits for the lock of the ledger file at `path`, which need not exist. It ends with the returned file.
pub(super) fn lock(path: &Path, patience: Duration) -> Result<Locked, StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(StoreError::io("make the ledger's folder"))?;
    let paths = Paths::resolve(path).map_err(StoreError::io("find the ledger"))?;
    paths.lock_for_writing(&mut Kept::default(), &Os, patience)
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

impl BlockStore for FileStore {
    fn append(
        &self,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
    ) -> Result<Vec<BlockRef>, StoreError> {
        let mut state = self.state();
        if let Some(folder) = self.path.parent()
            && state.ledger.is_none()
        {
            fs::create_dir_all(folder).map_err(StoreError::io("make the ledger's folder"))?;
        }
        let paths = self.paths(&mut state)?;
        let _lock = paths.lock_for_writing(&mut state.lock, &*self.disk, self.lock_patience)?;
        if !self.is_settled(&mut state, &paths)? {
            self.recover(&mut state, &paths)?;
        }
        state.known.refresh(&paths.ledger, &paths.mark);
        let now = state.known.state();
        if now == LoadState::Absent {
            self.may_begin()?;
        }
        if !now.allows_append() {
            return Err(StoreError::Refused(now));
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        if let Known::Chain(chain) = &state.known
            && (chain.stamp().is_none() || chain.stamp() != state.vouched)
        {
            // Others may have written what they did not sync, as the reference does. What is acknowledged next would
            // be lost with it.
            self.end_run(&mut state, &paths)
                .map_err(StoreError::io("sync the ledger"))?;
        }
        // Taken out, so that a failure on the way leaves nothing believed about the file.
        let before = match std::mem::take(&mut state.known) {
            Known::Chain(chain) => Some(chain),
            _ => None,
        };
        let undo = self
            .undo(&mut state.ledger, &paths, before.as_ref())
            .map_err(StoreError::io("read the ledger"))?;
        let mut patch = Patch::behind(before.as_ref());
        let mut refs = Vec::with_capacity(batch.len());
        for entries in batch {
            refs.push(patch.add(entries, clock.now())?);
        }
        let (record, ledger, blocks) = patch.finish(undo.length());
        let after = before.as_ref().map_or(0, |chain| chain.ledger.tip().index);
        let file = self.commit(&mut state, &paths, &record, &undo, after)?;
        let chain = Chain::grown(before, ledger, &blocks).stored_in(&file);
        state.vouched = chain.stamp();
        state.known = Known::Chain(chain);
        self.note(&state.known);
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
        let (paths, settled) = {
            let mut state = self.state();
            let paths = self.paths(&mut state)?;
            let settled = self.is_settled(&mut state, &paths)?;
            (paths, settled)
        };
        if settled {
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

    fn settle(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.run.is_empty() {
            return Ok(());
        }
        let paths = self.paths(&mut state)?;
        let _lock = paths.lock_for_writing(&mut state.lock, &*self.disk, self.lock_patience)?;
        self.settle_locked(&mut state, &paths)
    }

    fn syncs(&self) -> Option<Histogram> {
        self.syncs.clone()
    }

    fn recovery(&self) -> Option<Recovery> {
        let recovered = self
            .recovered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        recovered.clone()
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
