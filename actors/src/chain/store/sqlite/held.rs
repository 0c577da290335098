//! A database that is moved or filled as a whole, while nobody else writes to it.

use std::io;
use std::path::Path;

use kairos_protocol::block::Block;
use kairos_protocol::ledger::{LoadState, Problem, Verifier, VerifyReport};
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Value, json};

use super::super::transfer::{Staged, TransferError};
use super::database::{Found, connect, create, find, state};
use super::{READING, SqliteOptions, StoreError, WRITING, refusal, row};

/// Opens the database at `path` with a transaction begun that keeps other writers out; nothing if there is none.
pub(crate) fn hold(path: &Path, options: SqliteOptions) -> Result<Option<Connection>, StoreError> {
    match find(path).map_err(StoreError::io("find the ledger's database"))? {
        Found::Nothing => Ok(None),
        Found::Truncated => Err(StoreError::NotReadable(LoadState::Unreadable)),
        Found::Database(_) => {
            let opened = connect(path, options).and_then(|connection| {
                connection
                    .execute_batch("BEGIN IMMEDIATE")
                    .map(|()| connection)
            });
            opened
                .map(Some)
                .map_err(|error| refusal("lock the ledger's database", error))
        }
    }
}

/// Checks all blocks and hands each good one to `seen`.
pub(crate) fn walk_held(
    connection: &Connection,
    seen: &mut dyn FnMut(&Block),
) -> Result<VerifyReport, StoreError> {
    let verifier = verify(connection, seen).map_err(|error| refusal(READING, error))?;
    Ok(verifier.map_or_else(VerifyReport::absent, Verifier::finish))
}

/// See [`walk_held`]. Nothing if no block was ever written.
pub(super) fn verify(
    connection: &Connection,
    seen: &mut dyn FnMut(&Block),
) -> rusqlite::Result<Option<Verifier>> {
    let mut verifier = Verifier::default();
    match state(connection)? {
        Some(LoadState::Absent) => return Ok(None),
        Some(LoadState::Empty) => {}
        Some(_) => verifier.fail(Problem::Io(
            "the tables are not those of a ledger".to_owned(),
        )),
        None => row::walk(connection, 0, &mut verifier, seen)?,
    }
    Ok(Some(verifier))
}

/// Puts the blocks of `staged` in the place of those that are there, and ends the transaction of [`hold`].
pub(crate) fn refill(connection: &Connection, staged: &Staged) -> Result<(), TransferError> {
    let write = |error| TransferError::from(refusal(WRITING, error));
    super::database::create_tables(connection).map_err(write)?;
    connection
        .execute_batch("DELETE FROM blocks")
        .map_err(write)?;
    staged.each(|block| row::insert(connection, block).map_err(write))?;
    connection.execute_batch("COMMIT").map_err(write)
}

/// Makes a database at `path`, where there is none, that holds the blocks of `staged`.
pub(crate) fn fill_new(path: &Path, staged: &Staged) -> Result<(), TransferError> {
    let made = create(path, |connection| {
        let fill = || {
            connection
                .execute_batch("BEGIN")
                .map_err(|error| refusal(WRITING, error))?;
            refill(connection, staged)
        };
        fill().map_err(io::Error::other)
    });
    let made = made.and_then(|made| {
        made.then_some(())
            .ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    });
    made.map_err(TransferError::io("make", path))
}

/// What the reference keeps beside the ledger: the action log as lines of JSON, and the metadata of knowledge. Both in
/// the form of its exports.
///
/// # Errors
///
/// The database refuses.
pub fn tables(path: &Path) -> Result<(Vec<String>, Vec<Value>), StoreError> {
    let read = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let mut select = connection.prepare(
            "SELECT timestamp, action, skill_id, layer, details FROM action_logs ORDER BY id",
        )?;
        let log = select.query_map([], |row| {
            let details: Option<String> = row.get(4)?;
            let details =
                details.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
            let [timestamp, action, skill_id, layer] = texts(row, [0, 1, 2, 3])?;
            Ok(json!({
                "timestamp": timestamp, "action": action, "skill_id": skill_id, "layer": layer,
                "details": details,
            })
            .to_string())
        })?;
        let log = log.collect::<Result<_, _>>()?;
        let mut select = connection.prepare(
            "SELECT name, content_hash, version, description, archived_at, archived_reason, superseded_by,
             created_at, updated_at, tags, is_archived FROM knowledge_meta ORDER BY name",
        )?;
        let meta = select.query_map([], |row| {
            let [name, content_hash, version, description] = texts(row, [0, 1, 2, 3])?;
            let [archived_at, archived_reason, superseded_by] = texts(row, [4, 5, 6])?;
            let [created_at, updated_at, tags] = texts(row, [7, 8, 9])?;
            let tags = tags.and_then(|text| serde_json::from_str(&text).ok());
            let is_archived = row.get::<_, Option<i64>>(10)? == Some(1);
            Ok(json!({
                "name": name, "content_hash": content_hash, "version": version, "description": description,
                "tags": tags.unwrap_or_else(|| json!([])), "is_archived": is_archived,
                "archived_at": archived_at, "archived_reason": archived_reason,
                "superseded_by": superseded_by, "created_at": created_at, "updated_at": updated_at,
            }))
        })?;
        Ok((log, meta.collect::<Result<_, _>>()?))
    };
    read().map_err(|error| refusal(READING, error))
}

fn texts<const N: usize>(
    row: &Row<'_>,
    columns: [usize; N],
) -> rusqlite::Result<[Option<String>; N]> {
    let mut texts = [const { None }; N];
    for (text, column) in texts.iter_mut().zip(columns) {
        *text = row.get(column)?;
    }
    Ok(texts)
}

/// Ends the transaction of [`hold`] and brings everything into the one file, which stays locked against all others
/// until `connection` is closed. Fails while somebody else has it open.
pub(crate) fn fold(connection: &Connection) -> Result<(), StoreError> {
    let fold = "COMMIT; PRAGMA locking_mode=EXCLUSIVE";
    let folded = connection.execute_batch(fold).and_then(|()| {
        connection.query_row("PRAGMA journal_mode=DELETE", [], |row| {
            row.get::<_, String>(0)
        })?;
        connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")
    });
    folded.map_err(|error| refusal("close the ledger's database", error))
}
