//! Rows and what they stand for. What does not parse was not written by us.

use std::str::FromStr;

use kairos_protocol::hash::ContentHash;
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};

use crate::relay::audit::{Action, AuditEntry, Participant};
use crate::relay::message::{Header, Kept, from_micros};
use crate::relay::prekey::Prekey;
use crate::relay::store::Receipt;

/// The columns that [`kept`] reads.
pub(super) const KEPT: &str = "seq, id, sender, box, type, hash, size, created, expires, stranger";

pub(super) fn kept(row: &Row<'_>) -> Result<Kept> {
    Ok(Kept {
        seq: number(row, 0)?,
        header: Header {
            id: text(row, 1)?,
            from: text(row, 2)?,
            to: text(row, 3)?,
            message_type: text(row, 4)?,
            hash: hash(row, 5)?.into(),
            size: number(row, 6)?,
            created_at: from_micros(row.get(7)?),
            expires_at: from_micros(row.get(8)?),
            stranger: row.get(9)?,
        },
    })
}

/// The columns that [`receipt`] reads.
pub(super) const RECEIPT: &str = "sender, id, fingerprint, seq, created, expires";

pub(super) fn receipt(row: &Row<'_>) -> Result<Receipt> {
    Ok(Receipt {
        from: text(row, 0)?,
        id: text(row, 1)?,
        fingerprint: hash(row, 2)?,
        seq: number(row, 3)?,
        created_at: from_micros(row.get(4)?),
        expires_at: from_micros(row.get(5)?),
    })
}

/// Reads number, at, action, id, sender, recipient, type, size, hash.
pub(super) fn audit(row: &Row<'_>) -> Result<(u64, AuditEntry)> {
    let word: String = row.get(2)?;
    let action = Action::from_word(&word).ok_or_else(|| strange(2, "an unknown action"))?;
    let entry = AuditEntry {
        at: from_micros(row.get(1)?),
        action,
        relay_id: text(row, 3)?,
        participants: [
            Participant::stored(row.get(4)?),
            Participant::stored(row.get(5)?),
        ],
        message_type: text(row, 6)?,
        size: number(row, 7)?,
        hash: hash(row, 8)?.into(),
    };
    Ok((number(row, 0)?, entry))
}

/// Reads id and record.
pub(super) fn prekey(row: &Row<'_>) -> Result<Prekey> {
    Prekey::new(text(row, 0)?, row.get(1)?).map_err(|error| strange(1, error))
}

pub(super) fn text<T>(row: &Row<'_>, column: usize) -> Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error: T::Err| strange(column, error))
}

pub(super) fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    let number: i64 = row.get(column)?;
    number.try_into().map_err(|error| strange(column, error))
}

pub(super) fn hash(row: &Row<'_>, column: usize) -> Result<ContentHash> {
    let bytes: [u8; 32] = row.get(column)?;
    Ok(bytes.into())
}

fn strange(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, error.into())
}
