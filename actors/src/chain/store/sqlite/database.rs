//! The database file: finding, making and opening it, and the reference's tables.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use kairos_protocol::ledger::LoadState;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::SqliteOptions;
use crate::passing::FRESH;

/// The tables and indices of the reference. `IF NOT EXISTS`, as it made some of them where it used the database for
/// something else first.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS blocks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  block_index INTEGER NOT NULL UNIQUE,
  timestamp TEXT NOT NULL,
  data TEXT NOT NULL,
  previous_hash TEXT NOT NULL,
  merkle_root TEXT NOT NULL,
  hash TEXT NOT NULL,
  created_at TEXT DEFAULT (datetime('now'))
);
CREATE TABLE IF NOT EXISTS action_logs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  timestamp TEXT NOT NULL,
  action TEXT NOT NULL,
  skill_id TEXT,
  layer TEXT,
  details TEXT,
  created_at TEXT DEFAULT (datetime('now'))
);
CREATE TABLE IF NOT EXISTS knowledge_meta (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  content_hash TEXT NOT NULL,
  version TEXT,
  description TEXT,
  tags TEXT,
  is_archived INTEGER DEFAULT 0,
  archived_at TEXT,
  archived_reason TEXT,
  superseded_by TEXT,
  created_at TEXT DEFAULT (datetime('now')),
  updated_at TEXT DEFAULT (datetime('now'))
);
CREATE INDEX IF NOT EXISTS idx_blocks_hash ON blocks(hash);
CREATE INDEX IF NOT EXISTS idx_blocks_index ON blocks(block_index);
CREATE INDEX IF NOT EXISTS idx_action_logs_timestamp ON action_logs(timestamp);
CREATE INDEX IF NOT EXISTS idx_action_logs_skill ON action_logs(skill_id);
CREATE INDEX IF NOT EXISTS idx_knowledge_meta_archived ON knowledge_meta(is_archived);
CREATE INDEX IF NOT EXISTS idx_knowledge_meta_hash ON knowledge_meta(content_hash);
";

/// What is at the place of the database.
pub(super) enum Found {
    Nothing,
    /// An empty file. A database of ours never is one, and SQLite would take it for new.
    Truncated,
    Database(Identity),
}

/// Device and number of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

pub(super) fn find(path: &Path) -> io::Result<Found> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() == 0 => Ok(Found::Truncated),
        Ok(metadata) => Ok(Found::Database(Identity(metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

/// Opens the database at `path`, which must exist.
pub(super) fn connect(path: &Path, options: SqliteOptions) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(options.patience)?;
    // Acknowledged means on disk: the reference's NORMAL would sync the log only now and then.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if options.wal {
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        // On a disk that is read-only it stays as it is.
        if mode != "wal" && !connection.is_readonly(rusqlite::MAIN_DB)? {
            connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
        }
    }
    Ok(connection)
}

/// Makes a database with what `fill` puts into it at `path`, whole or not at all. Nothing happens to one that exists:
/// then it is `false`.
pub(super) fn create(
    path: &Path,
    fill: impl FnOnce(&Connection) -> io::Result<()>,
) -> io::Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = tempfile::Builder::new()
        .prefix(FRESH)
        .suffix(".db")
        .tempfile_in(folder)?;
    let connection = Connection::open(temporary.path()).map_err(io::Error::other)?;
    create_tables(&connection).map_err(io::Error::other)?;
    fill(&connection)?;
    connection
        .close()
        .map_err(|(_, error)| io::Error::other(error))?;
    temporary.as_file().sync_all()?;
    match renameat_with(CWD, temporary.path(), CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => File::open(folder)?.sync_all().map(|()| true),
        // Somebody was faster.
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)
}

/// What the database is if there are no blocks to look at; nothing if there are some.
pub(super) fn state(connection: &Connection) -> rusqlite::Result<Option<LoadState>> {
    let tables = "SELECT count(*), total(name = 'blocks') FROM sqlite_master WHERE type = 'table'";
    let (tables, of_blocks): (i64, f64) =
        connection.query_row(tables, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if of_blocks < 1.0 {
        return Ok(Some(match tables {
            0 => LoadState::Absent,
            // Somebody else's database.
            _ => LoadState::Unreadable,
        }));
    }
    let block = connection
        .query_row("SELECT 1 FROM blocks LIMIT 1", [], |_| Ok(()))
        .optional()?;
    if block.is_some() {
        return Ok(None);
    }
    // SQLite remembers that there were rows.
    let ever = "SELECT 1 FROM sqlite_sequence WHERE name = 'blocks' AND seq > 0";
    let ever = connection.query_row(ever, [], |_| Ok(())).optional()?;
    Ok(Some(match ever {
        Some(()) => LoadState::Empty,
        None => LoadState::Absent,
    }))
}
