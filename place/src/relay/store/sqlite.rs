//! A relay's state in an embedded SQLite database.
//!
//! One connection writes, a few others read what is committed while it does. A transaction is synced before it is
//! acknowledged. Counts are read and written once a transaction, however many changes share it.

mod row;
#[cfg(test)]
mod tests;
mod transaction;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{ReadWork, RelayStore, StoreError, WriteWork};
use transaction::SqliteTx;

/// Version of the tables, kept as the database's `user_version`.
pub const VERSION: i64 = 1;
/// Marks the database as ours: `krly`, kept as its `application_id`.
const APPLICATION: i64 = 0x6b72_6c79;
/// Most looks at a time; more wait for them.
const READERS: usize = 4;
/// How long to wait for other processes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Statements kept ready for each connection; there are fewer.
const STATEMENTS: usize = 64;
/// Size in bytes to which the log shrinks again after a burst.
const LOG_BYTES: i64 = 64 * 1024 * 1024;

/// `seq` counts on when rows are gone, which is what cursors rely on. The sealed text is last, so that reading what
/// comes before it does not read its pages.
const TABLES: &str = "
CREATE TABLE message (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  sender TEXT NOT NULL,
  box TEXT NOT NULL,
  type TEXT NOT NULL,
  hash BLOB NOT NULL,
  size INTEGER NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  stranger INTEGER NOT NULL,
  sealed TEXT NOT NULL,
  UNIQUE (box, id)
);
CREATE INDEX message_box ON message (box);
CREATE INDEX message_sender ON message (sender);
CREATE INDEX message_expires ON message (expires);
CREATE INDEX message_size ON message (size);
CREATE TABLE receipt (
  sender TEXT NOT NULL,
  id TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  seq INTEGER NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  PRIMARY KEY (sender, id)
) WITHOUT ROWID;
CREATE INDEX receipt_expires ON receipt (expires);
CREATE TABLE tally (
  kind INTEGER NOT NULL,
  a TEXT NOT NULL,
  b TEXT NOT NULL,
  count INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (kind, a, b)
) WITHOUT ROWID;
CREATE TABLE audit (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  action TEXT NOT NULL,
  id TEXT NOT NULL,
  sender TEXT NOT NULL,
  recipient TEXT NOT NULL,
  type TEXT NOT NULL,
  size INTEGER NOT NULL,
  hash BLOB NOT NULL
);
CREATE TABLE signed_prekey (
  agent TEXT PRIMARY KEY,
  id TEXT NOT NULL,
  record BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE one_time_prekey (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  agent TEXT NOT NULL,
  id TEXT NOT NULL,
  record BLOB,
  UNIQUE (agent, id)
);
CREATE INDEX one_time_prekey_next ON one_time_prekey (agent, record IS NULL);
CREATE TABLE prekey_take (
  requester TEXT NOT NULL,
  agent TEXT NOT NULL,
  since INTEGER NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (requester, agent)
) WITHOUT ROWID;
CREATE INDEX prekey_take_since ON prekey_take (since);
";

/// See the module.
pub struct SqliteStore {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: [Mutex<Option<Connection>>; READERS],
    next: AtomicUsize,
}

impl SqliteStore {
    /// Opens the database at `path`, made with its folder if there is none, for its owner only.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`], [`StoreError::Foreign`], and what the system or the database says. Nothing is changed in
    /// a database that is not ours.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        const OPENING: &str = "make the relay's database";
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(OPENING, error))?;
        }
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true);
        let made = options.mode(0o600).open(path);
        drop(made.map_err(|error| failed(OPENING, error))?);
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        prepare(&mut writer)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Default::default(),
            next: AtomicUsize::new(0),
        })
    }
}

impl RelayStore for SqliteStore {
    fn write(&self, work: WriteWork<'_>) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Locks out other processes before anything is read.
        let transaction = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| refusal("begin a change", error))?;
        let mut tx = SqliteTx::new(transaction);
        // Dropped, and thereby taken back, where the work fails.
        work(&mut tx)?;
        tx.commit()
    }

    fn read(&self, work: ReadWork<'_>) -> Result<(), StoreError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % READERS;
        let Some(reader) = self.readers.get(turn) else {
            return Err(StoreError::Damaged("there is no reader"));
        };
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match &mut *reader {
            Some(connection) => connection,
            none => none.insert(connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?),
        };
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(|error| refusal("begin a look", error))?;
        work(&SqliteTx::new(transaction))
    }
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection =
            Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(PATIENCE)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Acknowledged means on disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        Ok(connection)
    };
    open().map_err(|error| refusal("open the relay's database", error))
}

/// Makes the tables in a database that has none; looks whether it is ours otherwise.
fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    const PREPARING: &str = "prepare the relay's database";
    let refused = |error| refusal(PREPARING, error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(refused)?;
    let number = |name: &str| -> rusqlite::Result<i64> {
        transaction.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
    };
    let application = number("application_id").map_err(refused)?;
    let version = number("user_version").map_err(refused)?;
    let tables = "SELECT count(*) FROM sqlite_master";
    let tables: i64 = transaction
        .query_row(tables, [], |row| row.get(0))
        .map_err(refused)?;
    match (tables, application, version) {
        (0, 0, 0) => {
            let make = || -> rusqlite::Result<()> {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "application_id", APPLICATION)?;
                transaction.pragma_update(None, "user_version", VERSION)
            };
            make().map_err(refused)?;
        }
        (_, APPLICATION, VERSION) => {}
        (_, APPLICATION, found) if found > VERSION => {
            let known = VERSION;
            return Err(StoreError::Newer { found, known });
        }
        _ => return Err(StoreError::Foreign),
    }
    transaction.commit().map_err(refused)?;
    let mode = "PRAGMA journal_mode = WAL";
    let mode: String = connection
        .query_row(mode, [], |row| row.get(0))
        .map_err(refused)?;
    match mode.as_str() {
        "wal" => Ok(()),
        _ => Err(StoreError::Damaged("it does not take a write-ahead log")),
    }
}

fn failed(action: &'static str, error: io::Error) -> StoreError {
    StoreError::Io {
        action,
        source: Arc::new(error),
    }
}

/// What the database's refusal means for the caller.
fn refusal(action: &'static str, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked,
        Some(ErrorCode::NotADatabase) => StoreError::Foreign,
        _ => StoreError::Database {
            action,
            source: Arc::new(error),
        },
    }
}
