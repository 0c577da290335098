//! The reference's SQLite ledger: one row a block, in a database that other programs may have open too.
//!
//! Appends insert and never replace. Each happens in a transaction that locks out other writers from its first
//! statement, and is synced before it is acknowledged. Others may append between any two calls, so nothing is
//! believed without asking whether the database changed; when it did, only the rows behind the last block known are
//! read, provided that this block is where it was.
//!
//! A database that does not load is never written to, and a missing one is made beside its place and renamed in, so
//! that an empty file is always an accident.

mod database;
mod held;
mod look;
mod row;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::{Ledger, LoadState, Problem, Verifier, VerifyReport};
use kairos_protocol::time::Clock;
use prometheus_client::metrics::histogram::Histogram;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{BlockStore, HISTORY_MAX, StoreError, file};
use crate::chain::figures;
use database::{Found, Identity, find};
pub use held::tables;
pub(crate) use held::{fill_new, fold, hold, refill, walk_held};
pub use look::{Snapshot, beside_database, inspect};

/// How the database is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Whether readers and a writer may work at once (write-ahead log).
    pub wal: bool,
    /// How long to wait for other writers.
    pub patience: Duration,
}

/// A ledger in the reference's SQLite schema.
pub struct SqliteStore {
    path: PathBuf,
    options: SqliteOptions,
    /// Seconds that each commit took, which are those of its syncs.
    syncs: Histogram,
    open: Mutex<Option<Open>>,
    /// Whether there was a ledger when last looked.
    seen: AtomicBool,
    /// Where the ledger would be as a file.
    rival: Option<PathBuf>,
}

/// The database, and what was last seen in it.
struct Open {
    connection: Connection,
    /// Which file it is: another one may have been put in its place.
    identity: Identity,
    known: Option<Known>,
}

/// The outcome of the last look.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Changes when another connection has written.
    version: i64,
    state: LoadState,
    /// The chain where it is readable.
    ledger: Option<Ledger>,
}

impl SqliteStore {
    /// Opens the ledger in the database at `path`, which need not exist. Nothing is created before the first append.
    pub fn open(path: &Path, options: SqliteOptions) -> Self {
        Self {
            path: path.to_owned(),
            options,
            syncs: figures::seconds(),
            open: Mutex::default(),
            seen: AtomicBool::new(false),
            rival: None,
        }
    }

    /// This store, whose ledger `existed` a moment ago, and which begins none while there is a file at `rival`.
    pub(crate) fn beside(mut self, rival: &Path, existed: bool) -> Self {
        self.seen.fetch_or(existed, Ordering::Relaxed);
        self.rival = Some(rival.to_owned());
        self
    }

    /// Makes the database, unless somebody else just did.
    fn begin(&self) -> Result<(), StoreError> {
        // Whoever begins or takes away the file has its lock.
        let lock = self.rival.as_deref().map(|rival| {
            let lock = file::lock(rival, self.options.patience)?;
            file::none_at(rival).map(|()| lock)
        });
        let _lock = lock.transpose()?;
        database::create(&self.path, |_| Ok(()))
            .map(drop)
            .map_err(StoreError::io("make the ledger's database"))
    }

    fn note(&self, ledger: Option<Ledger>) {
        if ledger.is_some() {
            self.seen.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the database that is at the path now open in `slot`; `false` if there is none.
    fn reopen(&self, slot: &mut Option<Open>) -> Result<bool, StoreError> {
        match find(&self.path).map_err(StoreError::io("find the ledger's database"))? {
            Found::Nothing => {
                *slot = None;
                Ok(false)
            }
            Found::Truncated => {
                *slot = None;
                Err(StoreError::NotReadable(LoadState::Unreadable))
            }
            Found::Database(identity) => {
                if slot.as_ref().is_none_or(|open| open.identity != identity) {
                    *slot = None;
                    *slot = Some(Open {
                        connection: database::connect(&self.path, self.options)
                            .map_err(|error| refusal("open the ledger's database", error))?,
                        identity,
                        known: None,
                    });
                }
                Ok(true)
            }
        }
    }

    /// Runs `read` on what the ledger is now; nothing if there is none.
    fn reading<T>(
        &self,
        read: impl FnOnce(&Transaction<'_>, &Ledger) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut slot = self.lock();
        if !self.reopen(&mut slot)? {
            return Ok(None);
        }
        let Some(Open {
            connection, known, ..
        }) = &mut *slot
        else {
            return Ok(None);
        };
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(|error| refusal(READING, error))?;
        let now = look(&transaction, *known)?;
        *known = Some(now);
        self.note(now.ledger);
        match (now.state, now.ledger) {
            (LoadState::Absent, _) => Ok(None),
            (_, Some(ledger)) => read(&transaction, &ledger).map(Some),
            (state, None) => Err(StoreError::NotReadable(state)),
        }
    }
}

const READING: &str = "read the ledger's database";
const WRITING: &str = "write the ledger's database";

/// What the ledger is now, given what it was.
fn look(transaction: &Transaction<'_>, known: Option<Known>) -> Result<Known, StoreError> {
    let broken = |error: rusqlite::Error| match refusal(READING, error) {
        // What is no database, or not this one, is a ledger that does not load.
        StoreError::Io { .. } => StoreError::NotReadable(LoadState::Unreadable),
        other => other,
    };
    let version = transaction
        .query_row("PRAGMA data_version", [], |row| row.get(0))
        .map_err(broken)?;
    if let Some(known) = known
        && known.version == version
    {
        return Ok(known);
    }
    let seen = |state, ledger| Known {
        version,
        state,
        ledger,
    };
    if let Some(before) = known.and_then(|known| known.ledger)
        && let Some(ledger) = read_on(transaction, before).map_err(broken)?
    {
        return Ok(seen(LoadState::Readable, Some(ledger)));
    }
    match database::state(transaction) {
        Ok(None) => {}
        Ok(Some(state)) => return Ok(seen(state, None)),
        Err(error) => return Err(broken(error)),
    }
    let mut verifier = Verifier::default();
    row::walk(transaction, 0, &mut verifier, |_| ()).map_err(broken)?;
    let ledger = verifier.ledger().copied();
    let state = verifier.finish().state;
    Ok(seen(state, ledger.filter(|_| state == LoadState::Readable)))
}

/// The chain that `before` has grown to; nothing if it is not the beginning of what is there.
fn read_on(transaction: &Transaction<'_>, before: Ledger) -> rusqlite::Result<Option<Ledger>> {
    let tip = before.tip();
    let last = row::newest(transaction, tip.index, 1)?;
    let stands =
        |block: &Result<Block, Problem>| matches!(block, Ok(block) if block.to_ref() == tip);
    if !last.first().is_some_and(stands) {
        return Ok(None);
    }
    let mut verifier = Verifier::resume(before);
    row::walk(transaction, before.length(), &mut verifier, |_| ())?;
    let ledger = verifier.ledger().copied();
    Ok(ledger.filter(|_| verifier.finish().state == LoadState::Readable))
}

impl BlockStore for SqliteStore {
    fn append(
        &self,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
    ) -> Result<Vec<BlockRef>, StoreError> {
        let mut slot = self.lock();
        let exists = self.reopen(&mut slot).map_err(refused)?;
        if !exists && self.seen.load(Ordering::Relaxed) {
            return Err(StoreError::Gone);
        }
        if !exists && batch.is_empty() {
            return Ok(Vec::new());
        }
        if !exists {
            self.begin()?;
            self.reopen(&mut slot).map_err(refused)?;
        }
        // Somebody may have taken it away in this very moment.
        let open = slot.as_mut().ok_or(StoreError::Gone)?;
        let refs = open.append(&self.path, batch, clock, &self.syncs)?;
        self.note(open.known.and_then(|known| known.ledger));
        Ok(refs)
    }

    fn tip(&self) -> Result<Option<BlockRef>, StoreError> {
        self.reading(|_, ledger| Ok(ledger.tip()))
    }

    fn verify(&self) -> Result<VerifyReport, StoreError> {
        // On a connection of its own, so that a long ledger keeps nobody waiting.
        let verifier =
            match find(&self.path).map_err(StoreError::io("find the ledger's database"))? {
                Found::Nothing => return Ok(VerifyReport::absent()),
                Found::Truncated => failing("the file is empty".to_owned()),
                Found::Database(_) => {
                    let all = database::connect(&self.path, self.options)
                        .and_then(|connection| held::verify(&connection, &mut |_| ()));
                    match all {
                        Ok(None) => return Ok(VerifyReport::absent()),
                        Ok(Some(verifier)) => verifier,
                        Err(error) => match refusal(READING, error) {
                            StoreError::Io { source, .. } => failing(source.to_string()),
                            other => return Err(other),
                        },
                    }
                }
            };
        Ok(verifier.finish())
    }

    fn history(&self, limit: usize) -> Result<Vec<Block>, StoreError> {
        let limit = limit.min(HISTORY_MAX);
        let blocks = self.reading(|transaction, ledger| {
            let rows = row::newest(transaction, ledger.tip().index, limit)
                .map_err(|error| refusal(READING, error))?;
            let blocks = rows.into_iter().collect::<Result<_, _>>();
            blocks.map_err(|problem| StoreError::io(READING)(io::Error::other(problem)))
        })?;
        Ok(blocks.unwrap_or_default())
    }

    fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, StoreError> {
        let limit = limit.min(HISTORY_MAX);
        let blocks = self.reading(|transaction, ledger| {
            let last = first.saturating_add(limit as u64).min(ledger.length());
            let count = usize::try_from(last.saturating_sub(first)).unwrap_or(0);
            if count == 0 {
                return Ok(Vec::new());
            }
            let rows = row::newest(transaction, last - 1, count)
                .map_err(|error| refusal(READING, error))?;
            let blocks = rows.into_iter().rev().collect::<Result<_, _>>();
            blocks.map_err(|problem| StoreError::io(READING)(io::Error::other(problem)))
        })?;
        Ok(blocks.unwrap_or_default())
    }

    fn syncs(&self) -> Option<Histogram> {
        Some(self.syncs.clone())
    }
}

impl Open {
    fn append(
        &mut self,
        path: &Path,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
        syncs: &Histogram,
    ) -> Result<Vec<BlockRef>, StoreError> {
        // Taken out, so that a failure on the way leaves nothing believed about the database.
        let before = self.known.take();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| refusal("lock the ledger's database", error))?;
        // Whoever takes the database away locks it before.
        match find(path).map_err(StoreError::io("find the ledger's database"))? {
            Found::Database(identity) if identity == self.identity => {}
            _ => return Err(StoreError::Gone),
        }
        let known = look(&transaction, before).map_err(refused)?;
        if !known.state.allows_append() {
            return Err(StoreError::Refused(known.state));
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let write = |error| refusal(WRITING, error);
        let mut ledger = known.ledger.unwrap_or_default();
        let after = known.ledger.map_or(0, |ledger| ledger.tip().index);
        if known.ledger.is_none() {
            database::create_tables(&transaction).map_err(write)?;
            row::insert(&transaction, Block::genesis()).map_err(write)?;
        }
        let mut refs = Vec::with_capacity(batch.len());
        for entries in batch {
            let block = ledger.propose(entries, clock.now());
            // Only a chain of u64::MAX blocks has no place for another one.
            ledger
                .adopt(&block)
                .map_err(|_| StoreError::Refused(LoadState::Corrupt))?;
            row::insert(&transaction, &block).map_err(write)?;
            refs.push(block.to_ref());
        }
        let begun = Instant::now();
        let committed = transaction.commit();
        syncs.observe(begun.elapsed().as_secs_f64());
        committed.map_err(|error| match refusal(WRITING, error) {
            // The log may hold all of it, and then it counts.
            StoreError::Io { source, .. } => StoreError::Unsettled { after, source },
            other => other,
        })?;
        self.known = Some(Known {
            state: LoadState::Readable,
            ledger: Some(ledger),
            ..known
        });
        Ok(refs)
    }
}

/// A verification that found nothing but this.
fn failing(reason: String) -> Verifier {
    let mut verifier = Verifier::default();
    verifier.fail(Problem::Io(reason));
    verifier
}

/// The same error for whoever wanted to append.
fn refused(error: StoreError) -> StoreError {
    match error {
        StoreError::NotReadable(state) => StoreError::Refused(state),
        other => other,
    }
}

/// What the database's refusal means for the caller.
fn refusal(action: &'static str, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            StoreError::Locked
        }
        _ => StoreError::io(action)(io::Error::other(error)),
    }
}
