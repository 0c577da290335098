//! One transaction: each small step a statement, the counts kept until the end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use rusqlite::{OptionalExtension as _, Params, Row, Transaction, params};

use super::{refusal, row};
use crate::relay::audit::AuditEntry;
use crate::relay::message::{Header, Kept, RelayId, Sealed, from_micros, micros};
use crate::relay::prekey::{Prekey, PrekeyId};
use crate::relay::store::{
    OneTime, Pending, Receipt, RelayRead, RelayTx, Scope, StoreError, Takes, Tally, Within,
};

type Result<T> = std::result::Result<T, StoreError>;

const READING: &str = "read the relay's database";
const WRITING: &str = "write the relay's database";

/// A count, and whether it differs from what is stored.
#[derive(Clone, Copy)]
struct Counted {
    tally: Tally,
    changed: bool,
}

pub(super) struct SqliteTx<'c> {
    transaction: Transaction<'c>,
    counted: RefCell<HashMap<(u8, String, String), Counted>>,
}

impl<'c> SqliteTx<'c> {
    pub(super) fn new(transaction: Transaction<'c>) -> Self {
        Self {
            transaction,
            counted: RefCell::default(),
        }
    }

    /// Ends the transaction; once it returns all is durable.
    pub(super) fn commit(self) -> Result<()> {
        let counted = self.counted.take();
        for ((kind, a, b), counted) in counted.iter().filter(|(_, counted)| counted.changed) {
            let Tally { count, bytes } = counted.tally;
            if counted.tally == Tally::default() {
                let delete = "DELETE FROM tally WHERE kind = ?1 AND a = ?2 AND b = ?3";
                self.execute(delete, params![kind, a, b])?;
            } else {
                let upsert = "INSERT OR REPLACE INTO tally (kind, a, b, count, bytes)
                    VALUES (?1, ?2, ?3, ?4, ?5)";
                self.execute(upsert, params![kind, a, b, bounded(count), bounded(bytes)])?;
            }
        }
        self.transaction.commit().map_err(|error| {
            match refusal(WRITING, error) {
                // The log may hold all of it, and then it counts once the database is opened again.
                StoreError::Database { source, .. } => StoreError::Unsettled(Arc::clone(&source)),
                other => other,
            }
        })
    }

    fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        let run = || self.transaction.prepare_cached(sql)?.execute(params);
        run().map_err(|error| refusal(WRITING, error))
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let run = || {
            let mut statement = self.transaction.prepare_cached(sql)?;
            statement.query_row(params, read).optional()
        };
        run().map_err(|error| refusal(READING, error))
    }

    fn many<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let run = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.transaction.prepare_cached(sql)?;
            statement.query_map(params, read)?.collect()
        };
        run().map_err(|error| refusal(READING, error))
    }

    fn kept(&self, rest: &str, params: impl Params) -> Result<Vec<Kept>> {
        let sql = format!("SELECT {} FROM message {rest}", row::KEPT);
        self.many(&sql, params, row::kept)
    }
}

/// SQLite's numbers have a sign.
fn bounded(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl RelayRead for SqliteTx<'_> {
    fn tally(&self, of: Scope<'_>) -> Result<Tally> {
        let (kind, a, b) = of.key();
        let key = (kind, a.to_owned(), b.to_owned());
        if let Some(counted) = self.counted.borrow().get(&key) {
            return Ok(counted.tally);
        }
        let sql = "SELECT count, bytes FROM tally WHERE kind = ?1 AND a = ?2 AND b = ?3";
        let tally = self.one(sql, params![kind, a, b], |row| {
            let (count, bytes) = (row::number(row, 0)?, row::number(row, 1)?);
            Ok(Tally { count, bytes })
        })?;
        let tally = tally.unwrap_or_default();
        let changed = false;
        let counted = Counted { tally, changed };
        self.counted.borrow_mut().insert(key, counted);
        Ok(tally)
    }

    fn receipt(&self, from: &AgentId, id: &RelayId) -> Result<Option<Receipt>> {
        let sql = format!(
            "SELECT {} FROM receipt WHERE sender = ?1 AND id = ?2",
            row::RECEIPT
        );
        self.one(&sql, params![from.as_str(), id.as_str()], row::receipt)
    }

    fn due_receipts(&self, until: Timestamp, limit: usize) -> Result<Vec<Receipt>> {
        let sql = format!(
            "SELECT {} FROM receipt WHERE expires <= ?1 ORDER BY expires LIMIT ?2",
            row::RECEIPT
        );
        self.many(&sql, params![micros(until), bounded(limit)], row::receipt)
    }

    fn find(&self, to: &AgentId, id: &RelayId) -> Result<Option<Kept>> {
        let found = self.kept(
            "WHERE box = ?1 AND id = ?2",
            params![to.as_str(), id.as_str()],
        )?;
        Ok(found.into_iter().next())
    }

    fn list(&self, to: &AgentId, after: u64, now: Timestamp, limit: usize) -> Result<Vec<Kept>> {
        self.kept(
            "WHERE box = ?1 AND seq > ?2 AND expires > ?3 ORDER BY seq LIMIT ?4",
            params![to.as_str(), bounded(after), micros(now), bounded(limit)],
        )
    }

    fn pending(&self, to: &AgentId, now: Timestamp) -> Result<Pending> {
        let sql = "SELECT count(*), min(created), max(created) FROM message
            WHERE box = ?1 AND expires > ?2";
        let time = |micros: Option<i64>| micros.map(from_micros);
        let pending = self.one(sql, params![to.as_str(), micros(now)], |row| {
            Ok(Pending {
                count: row::number(row, 0)?,
                oldest_at: time(row.get(1)?),
                newest_at: time(row.get(2)?),
            })
        })?;
        Ok(pending.unwrap_or_default())
    }

    fn sealed(&self, seq: u64) -> Result<Option<Sealed>> {
        let sql = "SELECT sealed, hash FROM message WHERE seq = ?1";
        self.one(sql, params![bounded(seq)], |row| {
            Ok(Sealed::stored(row.get(0)?, row::hash(row, 1)?.into()))
        })
    }

    fn first(&self, within: Within<'_>) -> Result<Option<Kept>> {
        let found = match within {
            Within::Place => self.kept("ORDER BY seq LIMIT 1", []),
            Within::Box(to) => self.kept("WHERE box = ?1 ORDER BY seq LIMIT 1", [to.as_str()]),
            Within::Sender(from) => {
                self.kept("WHERE sender = ?1 ORDER BY seq LIMIT 1", [from.as_str()])
            }
            // A box has few messages.
            Within::Pair(from, to) => self.kept(
                "INDEXED BY message_box WHERE box = ?2 AND sender = ?1 ORDER BY seq LIMIT 1",
                [from.as_str(), to.as_str()],
            ),
        };
        Ok(found?.into_iter().next())
    }

    fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Kept>> {
        self.kept(
            "WHERE expires <= ?1 ORDER BY expires, seq LIMIT ?2",
            params![micros(until), bounded(limit)],
        )
    }

    fn largest(&self) -> Result<u64> {
        let sql = "SELECT size FROM message ORDER BY size DESC LIMIT 1";
        let largest = self.one(sql, [], |row| row::number(row, 0))?;
        Ok(largest.unwrap_or(0))
    }

    fn audit(&self, before: u64, limit: usize) -> Result<Vec<(u64, AuditEntry)>> {
        let sql = "SELECT number, at, action, id, sender, recipient, type, size, hash FROM audit
            WHERE number < ?1 ORDER BY number DESC LIMIT ?2";
        self.many(sql, params![bounded(before), bounded(limit)], row::audit)
    }

    fn signed(&self, agent: &AgentId) -> Result<Option<Prekey>> {
        let sql = "SELECT id, record FROM signed_prekey WHERE agent = ?1";
        self.one(sql, [agent.as_str()], row::prekey)
    }

    fn one_time(&self, agent: &AgentId, id: &PrekeyId) -> Result<Option<OneTime>> {
        let sql = "SELECT id, record FROM one_time_prekey WHERE agent = ?1 AND id = ?2";
        self.one(sql, [agent.as_str(), id.as_str()], |row| {
            match row.get_ref(1)?.as_blob_or_null()? {
                None => Ok(OneTime::Used),
                Some(_) => row::prekey(row).map(OneTime::Waiting),
            }
        })
    }

    fn next_one_time(&self, agent: &AgentId) -> Result<Option<Prekey>> {
        let sql = "SELECT id, record FROM one_time_prekey
            WHERE agent = ?1 AND (record IS NULL) = 0 ORDER BY position LIMIT 1";
        self.one(sql, [agent.as_str()], row::prekey)
    }

    fn takes(&self, requester: &AgentId, agent: &AgentId) -> Result<Option<Takes>> {
        let sql = "SELECT since, count FROM prekey_take WHERE requester = ?1 AND agent = ?2";
        self.one(sql, [requester.as_str(), agent.as_str()], |row| {
            Ok(Takes {
                since: from_micros(row.get(0)?),
                count: row::number(row, 1)?,
            })
        })
    }

    fn due_takes(&self, until: Timestamp, limit: usize) -> Result<Vec<(AgentId, AgentId)>> {
        let sql = "SELECT requester, agent FROM prekey_take
            WHERE since <= ?1 ORDER BY since LIMIT ?2";
        self.many(sql, params![micros(until), bounded(limit)], |row| {
            Ok((row::text(row, 0)?, row::text(row, 1)?))
        })
    }
}

impl RelayTx for SqliteTx<'_> {
    fn add(&mut self, to: Scope<'_>, count: i64, bytes: i64) -> Result<()> {
        let tally = self.tally(to)?.plus(count, bytes)?;
        let (kind, a, b) = to.key();
        let key = (kind, a.to_owned(), b.to_owned());
        let changed = true;
        self.counted
            .get_mut()
            .insert(key, Counted { tally, changed });
        Ok(())
    }

    fn insert(&mut self, header: &Header, sealed: &Sealed) -> Result<u64> {
        self.execute(
            "INSERT INTO message
                (id, sender, box, type, hash, size, created, expires, stranger, sealed)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                header.id.as_str(),
                header.from.as_str(),
                header.to.as_str(),
                header.message_type.as_str(),
                header.hash.content_hash().as_bytes(),
                bounded(header.size),
                micros(header.created_at),
                micros(header.expires_at),
                header.stranger,
                sealed.text(),
            ],
        )?;
        Ok(self.transaction.last_insert_rowid().unsigned_abs())
    }

    fn remove(&mut self, seq: u64) -> Result<()> {
        self.execute("DELETE FROM message WHERE seq = ?1", [bounded(seq)])?;
        Ok(())
    }

    fn remember(&mut self, receipt: &Receipt) -> Result<()> {
        self.execute(
            "INSERT INTO receipt (sender, id, fingerprint, seq, created, expires)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                receipt.from.as_str(),
                receipt.id.as_str(),
                receipt.fingerprint.as_bytes(),
                bounded(receipt.seq),
                micros(receipt.created_at),
                micros(receipt.expires_at),
            ],
        )?;
        Ok(())
    }

    fn forget(&mut self, from: &AgentId, id: &RelayId) -> Result<()> {
        let sql = "DELETE FROM receipt WHERE sender = ?1 AND id = ?2";
        self.execute(sql, [from.as_str(), id.as_str()])?;
        Ok(())
    }

    fn record(&mut self, entry: &AuditEntry) -> Result<u64> {
        let [from, to] = &entry.participants;
        self.execute(
            "INSERT INTO audit (at, action, id, sender, recipient, type, size, hash)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                micros(entry.at),
                entry.action.as_str(),
                entry.relay_id.as_str(),
                from.as_str(),
                to.as_str(),
                entry.message_type.as_str(),
                bounded(entry.size),
                entry.hash.content_hash().as_bytes(),
            ],
        )?;
        Ok(self.transaction.last_insert_rowid().unsigned_abs())
    }

    fn prune_audit(&mut self, upto: u64) -> Result<()> {
        self.execute("DELETE FROM audit WHERE number <= ?1", [bounded(upto)])?;
        Ok(())
    }

    fn put_signed(&mut self, agent: &AgentId, prekey: &Prekey) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO signed_prekey (agent, id, record) VALUES (?1, ?2, ?3)";
        let id = prekey.id().as_str();
        self.execute(sql, params![agent.as_str(), id, prekey.record()])?;
        Ok(())
    }

    fn put_one_time(&mut self, agent: &AgentId, prekey: &Prekey) -> Result<()> {
        let sql = "INSERT INTO one_time_prekey (agent, id, record) VALUES (?1, ?2, ?3)";
        let id = prekey.id().as_str();
        self.execute(sql, params![agent.as_str(), id, prekey.record()])?;
        Ok(())
    }

    fn use_one_time(&mut self, agent: &AgentId, id: &PrekeyId) -> Result<()> {
        // A new row, so that the rows of what was used are in the order of use.
        let sql =
            "INSERT OR REPLACE INTO one_time_prekey (agent, id, record) VALUES (?1, ?2, NULL)";
        self.execute(sql, [agent.as_str(), id.as_str()])?;
        Ok(())
    }

    fn forget_oldest_used(&mut self, agent: &AgentId) -> Result<()> {
        let sql = "DELETE FROM one_time_prekey WHERE position =
            (SELECT min(position) FROM one_time_prekey WHERE agent = ?1 AND (record IS NULL) = 1)";
        self.execute(sql, [agent.as_str()])?;
        Ok(())
    }

    fn drop_prekeys(&mut self, agent: &AgentId) -> Result<()> {
        let agent = [agent.as_str()];
        self.execute("DELETE FROM signed_prekey WHERE agent = ?1", agent)?;
        self.execute("DELETE FROM one_time_prekey WHERE agent = ?1", agent)?;
        Ok(())
    }

    fn put_takes(&mut self, requester: &AgentId, agent: &AgentId, takes: Takes) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO prekey_take (requester, agent, since, count)
            VALUES (?1, ?2, ?3, ?4)";
        let (since, count) = (micros(takes.since), bounded(takes.count));
        self.execute(
            sql,
            params![requester.as_str(), agent.as_str(), since, count],
        )?;
        Ok(())
    }

    fn drop_takes(&mut self, requester: &AgentId, agent: &AgentId) -> Result<()> {
        let sql = "DELETE FROM prekey_take WHERE requester = ?1 AND agent = ?2";
        self.execute(sql, [requester.as_str(), agent.as_str()])?;
        Ok(())
    }
}
