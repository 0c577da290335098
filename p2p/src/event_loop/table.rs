//! The part of the loop that speaks to the table of the network: what is left there and looked for, and which records of
//! others are stored.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::kad::store::{MemoryStore, RecordStore as _};
use libp2p::kad::{self, QueryId};

use super::{ADDRESSES_MAX, EventLoop, WAITING_MAX, tell};
use crate::network::{Answer, Kept, NetworkError};

/// How long is waited for a newer record after a peer told a good one. Each record is with the nodes that are nearest to its
/// key, which answer at about the same time; one of them that is gone would keep the lookup until its dial fails.
const NEWER_MAX: Duration = Duration::from_millis(500);

/// A lookup under way.
pub(super) struct Get {
    best: Option<(Kept, Vec<u8>)>,
    /// When the best one will do.
    enough: Option<Instant>,
    answer: Answer<Option<Vec<u8>>>,
}

impl EventLoop {
    pub(super) fn table(&mut self) -> &mut kad::Behaviour<MemoryStore> {
        &mut self.swarm.behaviour_mut().table
    }

    /// Forgets where a peer is that told ever other addresses: the table has no bound for those of one peer.
    pub(super) fn forget_excess(&mut self, peer: PeerId) {
        let table = self.table();
        let known = table.kbucket(peer).and_then(|bucket| {
            let mut entries = bucket.iter();
            let entry = entries.find(|entry| *entry.node.key.preimage() == peer)?;
            Some(entry.node.value.len())
        });
        if known.is_some_and(|known| known > 2 * ADDRESSES_MAX) {
            table.remove_peer(&peer);
        }
    }

    pub(super) fn look_around(&mut self, answer: Answer<()>) {
        if self.looks.len() >= WAITING_MAX {
            return tell(answer, Err(NetworkError::Busy));
        }
        match self.table().bootstrap() {
            Ok(id) => {
                self.looks.insert(id, answer);
            }
            Err(_) => {
                let (peer, reason) = ("the network".to_owned(), "no peer is known".to_owned());
                tell(answer, Err(NetworkError::Unreachable { peer, reason }));
            }
        }
    }

    pub(super) fn get(&mut self, key: Vec<u8>, answer: Answer<Option<Vec<u8>>>) {
        if self.gets.len() >= WAITING_MAX {
            return tell(answer, Err(NetworkError::Busy));
        }
        let id = self.table().get_record(kad::RecordKey::from(key));
        let get = Get {
            best: None,
            enough: None,
            answer,
        };
        self.gets.insert(id, get);
    }

    /// When the next lookup has enough.
    pub(super) fn next_enough(&self) -> Option<Instant> {
        self.gets.values().filter_map(|get| get.enough).min()
    }

    /// Ends the lookups that have enough.
    pub(super) fn end_lookups(&mut self) {
        let now = Instant::now();
        let done = self
            .gets
            .extract_if(|_, get| get.enough.is_some_and(|then| then <= now));
        let done: Vec<_> = done.collect();
        for (id, get) in done {
            if let Some(mut query) = self.table().query_mut(&id) {
                query.finish();
            }
            tell(get.answer, Ok(get.best.map(|(_, value)| value)));
        }
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>, answer: Answer<()>) {
        if self.puts.len() >= WAITING_MAX {
            return tell(answer, Err(NetworkError::Busy));
        }
        let kept = match (self.settings.judge)(&key, &value) {
            Ok(kept) => kept,
            Err(reason) => return tell(answer, Err(NetworkError::NotStored(reason))),
        };
        let record = kad::Record {
            key: kad::RecordKey::from(key),
            value,
            publisher: None,
            expires: Some(Instant::now() + kept.lifetime),
        };
        match self.table().put_record(record, kad::Quorum::One) {
            Ok(id) => {
                self.puts.insert(id, answer);
            }
            Err(error) => tell(answer, Err(NetworkError::NotStored(error.to_string()))),
        }
    }

    pub(super) fn note_table(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request:
                    kad::InboundRequest::PutRecord {
                        source,
                        record: Some(record),
                        ..
                    },
            } => self.take_record(source, record),
            kad::Event::OutboundQueryProgressed {
                id, result, step, ..
            } => self.progressed(id, result, step.last),
            other => tracing::trace!(event = ?other, "the table tells something"),
        }
    }

    /// Stores a record of a peer's if it is good, within the peer's share, and newer than what is there.
    fn take_record(&mut self, source: PeerId, mut record: kad::Record) {
        if !self.left.admit(source, Instant::now()) {
            self.figures.records_refused.share += 1;
            return;
        }
        let kept = match self.judge(&record) {
            Ok(kept) => kept,
            Err(reason) => {
                self.figures.records_refused.unfit += 1;
                tracing::debug!(peer.id = %source, %reason, "a record was refused");
                return;
            }
        };
        let held = self.table().store_mut().get(&record.key);
        let held = held.map(|held| held.into_owned());
        let held = held.and_then(|held| self.judge(&held).ok());
        if held.is_some_and(|held| held.sequence >= kept.sequence) {
            return;
        }
        record.expires = Some(Instant::now() + kept.lifetime);
        record.publisher = None;
        match self.table().store_mut().put(record) {
            Ok(()) => self.figures.records_stored += 1,
            Err(error) => {
                self.figures.records_refused.room += 1;
                tracing::debug!(peer.id = %source, %error, "there is no room for a record");
            }
        }
    }

    fn judge(&self, record: &kad::Record) -> Result<Kept, String> {
        if record.value.len() > self.settings.limits.record {
            return Err("it is too large".to_owned());
        }
        (self.settings.judge)(record.key.as_ref(), &record.value)
    }

    fn progressed(&mut self, id: QueryId, result: kad::QueryResult, last: bool) {
        use kad::QueryResult as Result;
        match result {
            Result::GetRecord(found) => {
                if let Ok(kad::GetRecordOk::FoundRecord(found)) = found {
                    let judged = self.judge(&found.record);
                    if let (Ok(kept), Some(get)) = (judged, self.gets.get_mut(&id)) {
                        let best = get.best.as_ref().map(|(best, _)| best.sequence);
                        if best.is_none_or(|best| best < kept.sequence) {
                            get.best = Some((kept, found.record.value));
                        }
                        // What we keep ourselves may be old.
                        if found.peer.is_some() && get.enough.is_none() {
                            get.enough = Some(Instant::now() + NEWER_MAX);
                        }
                    }
                }
                if last && let Some(get) = self.gets.remove(&id) {
                    tell(get.answer, Ok(get.best.map(|(_, value)| value)));
                }
            }
            Result::PutRecord(put) => {
                if let Some(answer) = self.puts.remove(&id) {
                    let told = put.map(drop);
                    tell(
                        answer,
                        told.map_err(|e| NetworkError::NotStored(e.to_string())),
                    );
                }
            }
            Result::Bootstrap(_) if last => {
                if let Some(answer) = self.looks.remove(&id) {
                    tell(answer, Ok(()));
                }
            }
            _ => {}
        }
    }
}
