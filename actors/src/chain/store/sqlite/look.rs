//! A database that is looked at without changing anything in or beside it, and one copied as it is at a moment.
//!
//! SQLite makes files beside a database with a write-ahead log also for those who only read it. So a database at rest
//! is opened as one that cannot change, and whether it did is asked afterwards; where the files are there already,
//! because somebody is at work, nothing is made; and what a crash left half written is looked at in a copy.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::{LoadState, Verifier, VerifyReport};
use kairos_protocol::time::Timestamp;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

use super::database::{Found, connect, find};
use super::{READING, SqliteOptions, StoreError, failing, held, refusal};
use crate::chain::store::file::{Inspection, Leftover};

/// How long a write under way may hold up a look.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks at a database that changes meanwhile before giving up.
const LOOKS: u32 = 3;

/// Looks at the ledger in the database at `path`, which need not exist, and at its block at position `at`. Creates
/// nothing and repairs nothing.
///
/// # Errors
///
/// [`StoreError::Locked`] and what the system says. A bad ledger is a report, not an error.
pub fn inspect(path: &Path, at: Option<u64>) -> Result<Inspection, StoreError> {
    let look = || StoreError::io("look at the ledger's database");
    for _ in 0..LOOKS {
        match find(path).map_err(look())? {
            Found::Nothing => return Ok(found(VerifyReport::absent(), 0)),
            Found::Truncated => return Ok(found(failing("the file is empty".into()).finish(), 0)),
            Found::Database(_) => {}
        }
        let before = Rest::of(path).map_err(look())?;
        let read = Opened::new(path, &before).and_then(|opened| read(&opened.connection, at));
        if before.is_still() && Rest::of(path).map_err(look())? != before {
            continue;
        }
        return match read {
            Ok(seen) => Ok(Inspection {
                bytes: before.main.1 + before.wal,
                ..seen
            }),
            Err(error) => match refusal(READING, error) {
                StoreError::Io { source, .. } => {
                    Ok(found(failing(source.to_string()).finish(), before.main.1))
                }
                other => Err(other),
            },
        };
    }
    Err(StoreError::Locked)
}

fn found(report: VerifyReport, bytes: u64) -> Inspection {
    Inspection {
        report,
        bytes,
        newest: None,
        at: None,
        journal: Leftover::Nothing,
    }
}

fn read(connection: &Connection, wanted: Option<u64>) -> rusqlite::Result<Inspection> {
    connection.execute_batch("BEGIN")?;
    let (mut newest, mut at): (Option<Timestamp>, Option<BlockRef>) = (None, None);
    let verifier = held::verify(connection, &mut |block: &Block| {
        newest = Some(block.instant());
        if wanted == Some(block.index()) {
            at = Some(block.to_ref());
        }
    })?;
    let report = verifier.map_or_else(VerifyReport::absent, Verifier::finish);
    let newest = newest.filter(|_| report.is_valid());
    Ok(Inspection {
        newest,
        at,
        ..found(report, 0)
    })
}

/// A database and the files beside it.
#[derive(Debug, PartialEq, Eq)]
struct Rest {
    /// Number, bytes, and time of the last write.
    main: (u64, u64, i64, i64),
    /// Bytes of the write-ahead log, and of the journal of a change under way.
    wal: u64,
    journal: u64,
    /// Whether there is an index of the log.
    shared: bool,
}

impl Rest {
    fn of(path: &Path) -> io::Result<Self> {
        let size = |suffix| match fs::metadata(beside(path, suffix)) {
            Ok(there) => Ok(Some(there.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let main = fs::metadata(path)?;
        Ok(Self {
            main: (main.ino(), main.len(), main.mtime(), main.mtime_nsec()),
            wal: size("-wal")?.unwrap_or(0),
            journal: size("-journal")?.unwrap_or(0),
            shared: size("-shm")?.is_some(),
        })
    }

    /// Whether all of it is in the one file.
    fn is_still(&self) -> bool {
        self.wal == 0 && self.journal == 0
    }
}

/// The names of the files that SQLite may have beside the database at `path`.
pub fn beside_database(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", "-journal"].map(|suffix| beside(path, suffix))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A database opened to be read.
struct Opened {
    connection: Connection,
    /// What is read instead, gone when this is dropped.
    _copy: Option<TempDir>,
}

impl Opened {
    fn new(path: &Path, rest: &Rest) -> rusqlite::Result<Self> {
        if rest.is_still() {
            return Self::uri(path, "immutable=1");
        }
        if rest.wal > 0 && !rest.shared {
            return Self::copied(path);
        }
        match Self::uri(path, "mode=ro") {
            Err(error) if is_left_by_a_crash(&error) => Self::copied(path),
            opened => opened,
        }
    }

    fn uri(path: &Path, how: &str) -> rusqlite::Result<Self> {
        let mut uri = OsString::from("file:");
        for byte in path.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                    uri.push(OsStr::from_bytes(&[*byte]));
                }
                byte => uri.push(format!("%{byte:02X}")),
            }
        }
        uri.push(format!("?{how}"));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri, flags)?;
        connection.busy_timeout(PATIENCE)?;
        // Opening reads nothing; this does.
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(Self {
            connection,
            _copy: None,
        })
    }

    /// Opens a copy, in which what a crash left is completed or taken back.
    fn copied(path: &Path) -> rusqlite::Result<Self> {
        let copy = || -> io::Result<(TempDir, PathBuf)> {
            let folder = tempfile::tempdir()?;
            let target = folder.path().join("ledger.db");
            for suffix in ["", "-wal", "-journal"] {
                match fs::copy(beside(path, suffix), beside(&target, suffix)) {
                    Err(error) if suffix.is_empty() || error.kind() != ErrorKind::NotFound => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
            Ok((folder, target))
        };
        let failed = |error: io::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
        let (folder, target) = copy().map_err(failed)?;
        Ok(Self {
            connection: Connection::open(target)?,
            _copy: Some(folder),
        })
    }
}

fn is_left_by_a_crash(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
}

/// A database as it was at one moment, while others go on writing to it; those who keep no write-ahead log wait until
/// this is dropped.
pub struct Snapshot(Connection);

impl Snapshot {
    /// The database at `path` as it is now; nothing if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotReadable`] on an empty file, [`StoreError::Locked`], and what the system says.
    pub fn begin(path: &Path, options: SqliteOptions) -> Result<Option<Self>, StoreError> {
        match find(path).map_err(StoreError::io("find the ledger's database"))? {
            Found::Nothing => return Ok(None),
            Found::Truncated => return Err(StoreError::NotReadable(LoadState::Unreadable)),
            Found::Database(_) => {}
        }
        let begun = connect(path, options).and_then(|connection| {
            // The moment is that of the first read.
            connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_master")?;
            Ok(connection)
        });
        begun
            .map(|connection| Some(Self(connection)))
            .map_err(|error| refusal(READING, error))
    }

    /// Writes all of it into a new file at `target`. Not synced.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn copy(&self, target: &Path) -> Result<(), StoreError> {
        let copied = Connection::open(target).and_then(|mut copy| {
            let done = Backup::new(&self.0, &mut copy)?.step(-1)?;
            Ok(done == StepResult::Done)
        });
        match copied {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Locked),
            Err(error) => Err(refusal("copy the ledger's database", error)),
        }
    }
}
