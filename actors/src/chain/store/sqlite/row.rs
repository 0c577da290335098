//! A block as a row of the reference's table.

use kairos_protocol::block::{Block, StoredBlock};
use kairos_protocol::ledger::{Fault, Problem, Verifier};
use rusqlite::{Connection, Row, params};

/// The columns of a block, in the order in which they are read.
const COLUMNS: &str = "block_index, timestamp, data, previous_hash, merkle_root, hash";

/// Adds `block`. Fails where its position is taken.
pub(super) fn insert(connection: &Connection, block: &Block) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO blocks (block_index, timestamp, data, previous_hash, merkle_root, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let data = serde_json::to_string(block.data())
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    insert.execute(params![
        i64::try_from(block.index()).unwrap_or(i64::MAX),
        block.timestamp(),
        data,
        block.previous_hash().to_hex(),
        block.merkle_root().to_string(),
        block.hash().to_hex(),
    ])?;
    Ok(())
}

/// Feeds the blocks from position `first` on to `verifier`, and each good one to `seen`. Problems of blocks end up in
/// the verifier.
pub(super) fn walk(
    connection: &Connection,
    first: u64,
    verifier: &mut Verifier,
    mut seen: impl FnMut(&Block),
) -> rusqlite::Result<()> {
    let select =
        format!("SELECT {COLUMNS} FROM blocks WHERE block_index >= ?1 ORDER BY block_index");
    let mut select = connection.prepare_cached(&select)?;
    // From the start, those below zero count too.
    let first = if first == 0 {
        i64::MIN
    } else {
        i64::try_from(first).unwrap_or(i64::MAX)
    };
    let mut rows = select.query([first])?;
    while let Some(row) = rows.next()? {
        let index = verifier.position();
        match stored(row, index).and_then(|stored| verifier.push(stored)) {
            Ok(block) => seen(&block),
            Err(problem) => {
                verifier.fail(problem);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// At most `limit` blocks from position `last` backwards, the newest first, each checked in itself.
pub(super) fn newest(
    connection: &Connection,
    last: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Result<Block, Problem>>> {
    let select = format!(
        "SELECT {COLUMNS} FROM blocks WHERE block_index <= ?1 ORDER BY block_index DESC LIMIT ?2"
    );
    let mut select = connection.prepare_cached(&select)?;
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = select.query([last, limit])?;
    let mut blocks = Vec::new();
    while let Some(row) = rows.next()? {
        blocks.push(stored(row, 0).and_then(|stored| {
            let index = stored.index;
            stored.seal().map_err(|fault| Problem::Block {
                index,
                fault: fault.into(),
            })
        }));
    }
    Ok(blocks)
}

/// What the row at position `index` claims.
fn stored(row: &Row<'_>, index: u64) -> Result<StoredBlock, Problem> {
    read(row).map_err(|reason| Problem::Block {
        index,
        fault: Fault::Malformed(reason),
    })
}

fn read(row: &Row<'_>) -> Result<StoredBlock, String> {
    let text = |column: usize| -> Result<String, String> {
        row.get(column).map_err(|error| error.to_string())
    };
    let index: i64 = row.get(0).map_err(|error| error.to_string())?;
    let hash = text(5)?;
    Ok(StoredBlock {
        index: u64::try_from(index).map_err(|_| format!("its index is {index}"))?,
        timestamp: text(1)?,
        data: serde_json::from_str(&text(2)?).map_err(|error| format!("data: {error}"))?,
        previous_hash: text(3)?
            .parse()
            .map_err(|error| format!("previous_hash: {error}"))?,
        merkle_root: text(4)?
            .parse()
            .map_err(|error| format!("merkle_root: {error}"))?,
        // The column must not be null, so a ledger from elsewhere may have an empty text there.
        hash: match hash.as_str() {
            "" => None,
            hash => Some(hash.parse().map_err(|error| format!("hash: {error}"))?),
        },
    })
}
