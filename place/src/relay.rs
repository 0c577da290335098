//! The relay of a Meeting Place: sealed messages that wait in boxes for agents which cannot be reached.
//!
//! The Place routes and never reads. [`Relay`] holds the rules and no state: each of its methods is given the time and
//! a transaction of a [`store`]. Whoever calls answers for who asks: that `from` is the sender and that a box is
//! asked for by its owner. A rule that says no has changed nothing that anyone can see, so many changes can share a
//! transaction.
//!
//! Delivery is at least once: a message stays until its recipient acknowledges it, reads it for good, or its time is
//! over. A full box refuses; nobody's mail gives way. [`prekey`] hands out published keys, [`audit`] tells what was
//! relayed.

pub mod audit;
mod expiry;
pub mod message;
pub mod policy;
pub mod prekey;
mod room;
pub mod store;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;

use audit::Action;
pub use expiry::Swept;
use message::{Header, Kept, Message, MessageType, RelayId, Sealed, from_micros, micros};
pub use policy::{Limit, Refusal, RelayError, RelayPolicy};
use store::{Pending, Receipt, RelayRead, RelayTx, Scope, StoreError, Tally, Within};

/// How much whose time is over is removed before a full store refuses.
const MAKE_ROOM: usize = 256;
/// Most messages that one [`Relay::forget`] removes.
const FORGET_STEP: usize = 1_000;
/// Most messages that are listed at once where some may be withheld.
const HELD_STEP: usize = 1_000;

/// The id of a message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageId {
    /// Chosen by its sender, who may repeat the message without doubling it.
    Given(RelayId),
    /// Made of these random bytes. A repetition is another message.
    Random([u8; 8]),
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Its id.
    pub id: MessageId,
    /// Who sends it.
    pub from: AgentId,
    /// For whom it is.
    pub to: AgentId,
    /// Whether the recipient is registered here.
    pub known: bool,
    /// What it is said to be.
    pub message_type: MessageType,
    /// What was sealed.
    pub sealed: Sealed,
}

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: RelayId,
    /// Its place in the order of arrival.
    pub seq: u64,
    /// When it was first accepted.
    pub created_at: Timestamp,
    /// When its time is over.
    pub expires_at: Timestamp,
    /// Whether it had been sent before, so that this time nothing happened.
    pub repeated: bool,
}

/// Part of a box, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// Ask for what is behind this number to read on; nothing if this was all.
    pub next: Option<u64>,
    /// How many wait in the box, these included.
    pub pending: u64,
}

/// What waits at a Place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Messages and their bytes. Those whose time is over count until they are swept.
    pub waiting: Tally,
    /// Boxes with messages.
    pub boxes: u64,
    /// When the oldest message came.
    pub oldest_at: Option<Timestamp>,
    /// Size of the largest message in bytes.
    pub largest: u64,
}

/// Knows whose mail is withheld: it stays in its box, and neither is handed out nor counts as waiting.
pub trait Withholding: fmt::Debug + Send + Sync {
    /// Whether mail of anybody is.
    fn any(&self) -> bool;

    /// Whether mail of `sender` is.
    fn of(&self, sender: &AgentId) -> bool;
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Relay {
    policy: RelayPolicy,
    withholding: Option<Arc<dyn Withholding>>,
}

impl Relay {
    /// A relay with these bounds.
    pub fn new(policy: RelayPolicy) -> Self {
        Self {
            policy,
            withholding: None,
        }
    }

    /// The same relay, which asks `withholding` whose mail is withheld.
    #[must_use]
    pub fn withholding(self, withholding: Arc<dyn Withholding>) -> Self {
        Self {
            withholding: Some(withholding),
            ..self
        }
    }

    /// Its bounds.
    pub fn policy(&self) -> &RelayPolicy {
        &self.policy
    }

    /// Puts a message into the box of its recipient.
    ///
    /// The same sender, id and message get the same answer until the message's time is over, whether it still waits
    /// or not.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooLarge`], [`Refusal::Full`], [`Refusal::Conflict`], [`Refusal::IdTaken`], and what the store says.
    pub fn send(
        &self,
        tx: &mut dyn RelayTx,
        submission: &Submission,
        now: Timestamp,
    ) -> Result<Sent, RelayError> {
        let now = from_micros(micros(now));
        let header = self.header(submission, now)?;
        let given = matches!(submission.id, MessageId::Given(_));
        if given && let Some(sent) = self.repeated(tx, &header, now)? {
            return Ok(sent);
        }
        if let Some(other) = tx.find(&header.to, &header.id)? {
            if other.header.expires_at > now {
                return Err(Refusal::IdTaken { id: header.id }.into());
            }
            self.take_out(tx, &other, Action::Expired, now)?;
        }
        if self.room(tx, &header, given)?.is_err() {
            self.expire(tx, now, MAKE_ROOM)?;
            self.room(tx, &header, given)??;
        }
        let seq = self.put_in(tx, &header, &submission.sealed, now)?;
        let sent = Sent {
            id: header.id.clone(),
            seq,
            created_at: header.created_at,
            expires_at: header.expires_at,
            repeated: false,
        };
        if given {
            remember(tx, &header, seq)?;
        }
        Ok(sent)
    }

    /// Up to `limit` messages of a box behind the number `after`, the oldest first. Removes nothing.
    ///
    /// A page ends at [`RelayPolicy::page_messages`] and at [`RelayPolicy::page_bytes`].
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn receive(
        &self,
        read: &dyn RelayRead,
        agent: &AgentId,
        after: u64,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        if limit == 0 {
            return Ok(Page {
                messages: Vec::new(),
                next: None,
                pending: self.status(read, agent, now)?.count,
            });
        }
        let limit = limit.min(self.policy.page_messages.max(1));
        let mut listed = self.handed_out(read, agent, after, now, limit + 1)?;
        let sums = listed.iter().scan(0_u64, |sum, kept| {
            *sum = sum.saturating_add(kept.header.size);
            Some(*sum)
        });
        let fitting = sums
            .take_while(|sum| *sum <= self.policy.page_bytes)
            .count();
        let count = fitting.clamp(1, limit);
        let more = listed.len() > count;
        listed.truncate(count);
        let next = listed.last().map(|kept| kept.seq).filter(|_| more);
        let with_text = |kept: Kept| match read.sealed(kept.seq)? {
            Some(sealed) => Ok(Message { kept, sealed }),
            None => Err(StoreError::Damaged("a message has no text")),
        };
        let messages = listed
            .into_iter()
            .map(with_text)
            .collect::<Result<_, _>>()?;
        let pending = self.status(read, agent, now)?.count;
        Ok(Page {
            messages,
            next,
            pending,
        })
    }

    /// Like [`receive`](Self::receive) from the beginning of the box, and removes what it returns, for clients that
    /// do not acknowledge. What is lost on the way to them is lost.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn receive_and_remove(
        &self,
        tx: &mut dyn RelayTx,
        agent: &AgentId,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let page = self.receive(tx, agent, 0, limit, now)?;
        for message in &page.messages {
            self.take_out(tx, &message.kept, Action::Dequeue, now)?;
        }
        Ok(page)
    }

    /// Removes the messages with these ids from a box; returns those that were there. Repeating is safe.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooMany`] past [`RelayPolicy::page_messages`], and what the store says.
    pub fn ack(
        &self,
        tx: &mut dyn RelayTx,
        agent: &AgentId,
        ids: Vec<RelayId>,
        now: Timestamp,
    ) -> Result<Vec<RelayId>, RelayError> {
        let limit = self.policy.page_messages;
        if ids.len() > limit {
            return Err(Refusal::TooMany {
                what: "message ids",
                count: ids.len(),
                limit,
            }
            .into());
        }
        let mut removed = Vec::new();
        for id in ids {
            if let Some(kept) = tx.find(agent, &id)?
                && kept.header.expires_at > now
            {
                self.take_out(tx, &kept, Action::Ack, now)?;
                removed.push(id);
            }
        }
        Ok(removed)
    }

    /// What waits in a box.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn status(
        &self,
        read: &dyn RelayRead,
        agent: &AgentId,
        now: Timestamp,
    ) -> Result<Pending, StoreError> {
        if self.withholding.as_ref().is_none_or(|held| !held.any()) {
            return read.pending(agent, now);
        }
        let all = self.handed_out(read, agent, 0, now, usize::MAX)?;
        let times = || all.iter().map(|kept| kept.header.created_at);
        Ok(Pending {
            count: all.len() as u64,
            oldest_at: times().min(),
            newest_at: times().max(),
        })
    }

    /// Up to `limit` messages of a box behind `after` that are not withheld.
    fn handed_out(
        &self,
        read: &dyn RelayRead,
        agent: &AgentId,
        mut after: u64,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Kept>, StoreError> {
        let step = limit.min(HELD_STEP);
        let withheld = |kept: &Kept| {
            let held = self.withholding.as_ref();
            held.is_some_and(|held| held.of(&kept.header.from))
        };
        let mut found = Vec::new();
        loop {
            let listed = read.list(agent, after, now, step)?;
            let all = listed.len() < step;
            after = listed.last().map_or(after, |kept| kept.seq);
            found.extend(listed.into_iter().filter(|kept| !withheld(kept)));
            if all || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    /// How much mail of these senders waits.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn waiting_of(
        &self,
        read: &dyn RelayRead,
        senders: &[AgentId],
    ) -> Result<Tally, StoreError> {
        let mut all = Tally::default();
        for sender in senders {
            let waiting = read.tally(Scope::Sender(sender))?;
            all.count += waiting.count;
            all.bytes += waiting.bytes;
        }
        Ok(all)
    }

    /// What waits in all boxes.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn stats(&self, read: &dyn RelayRead) -> Result<Stats, StoreError> {
        Ok(Stats {
            waiting: read.tally(Scope::Place)?,
            boxes: read.tally(Scope::Boxes)?.count,
            oldest_at: read.first(Within::Place)?.map(|k| k.header.created_at),
            largest: read.largest()?,
        })
    }

    /// Removes the box of `agent` with what is in it, and its prekeys. What it sent stays, as do the ids that are
    /// remembered of it. Returns whether there is more to remove; then ask again.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn forget(
        &self,
        tx: &mut dyn RelayTx,
        agent: &AgentId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.drop_prekeys(tx, agent)?;
        let all = Timestamp::EPOCH;
        let found = tx.list(agent, 0, all, FORGET_STEP)?;
        for kept in &found {
            self.take_out(tx, kept, Action::Forgotten, now)?;
        }
        Ok(found.len() == FORGET_STEP)
    }

    fn header(&self, submission: &Submission, now: Timestamp) -> Result<Header, Refusal> {
        let (size, limit) = (submission.sealed.size(), self.policy.blob_bytes);
        if size > limit {
            return Err(Refusal::TooLarge { size, limit });
        }
        Ok(Header {
            id: match &submission.id {
                MessageId::Given(id) => id.clone(),
                MessageId::Random(bytes) => RelayId::from_random(*bytes),
            },
            from: submission.from.clone(),
            to: submission.to.clone(),
            message_type: submission.message_type.clone(),
            hash: submission.sealed.hash(),
            size,
            created_at: now,
            expires_at: from_micros(micros(now.plus(self.policy.ttl))),
            stranger: !submission.known,
        })
    }

    /// The answer that this message got before, if it did.
    fn repeated(
        &self,
        tx: &mut dyn RelayTx,
        header: &Header,
        now: Timestamp,
    ) -> Result<Option<Sent>, RelayError> {
        let Some(receipt) = tx.receipt(&header.from, &header.id)? else {
            return Ok(None);
        };
        if receipt.expires_at <= now {
            self.forget_receipt(tx, &receipt)?;
            return Ok(None);
        }
        let id = receipt.id;
        if receipt.fingerprint != fingerprint(header) {
            return Err(Refusal::Conflict { id }.into());
        }
        Ok(Some(Sent {
            id,
            seq: receipt.seq,
            created_at: receipt.created_at,
            expires_at: receipt.expires_at,
            repeated: true,
        }))
    }

    fn put_in(
        &self,
        tx: &mut dyn RelayTx,
        header: &Header,
        sealed: &Sealed,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let seq = tx.insert(header, sealed)?;
        if tx.tally(Scope::Box(&header.to))?.count == 0 {
            tx.add(Scope::Boxes, 1, 0)?;
        }
        count(tx, header, 1)?;
        let bytes = i64::try_from(header.size).unwrap_or(i64::MAX);
        tx.add(Scope::Relayed, 1, bytes)?;
        self.record(tx, Action::Enqueue, header, now)?;
        Ok(seq)
    }

    /// Removes a message for the reason `action`.
    fn take_out(
        &self,
        tx: &mut dyn RelayTx,
        kept: &Kept,
        action: Action,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        tx.remove(kept.seq)?;
        count(tx, &kept.header, -1)?;
        if tx.tally(Scope::Box(&kept.header.to))?.count == 0 {
            tx.add(Scope::Boxes, -1, 0)?;
        }
        self.record(tx, action, &kept.header, now)
    }
}

/// Counts a message that came (`by` is 1) or went (-1) wherever it counts.
fn count(tx: &mut dyn RelayTx, header: &Header, by: i64) -> Result<(), StoreError> {
    let bytes = i64::try_from(header.size).unwrap_or(i64::MAX) * by;
    let (from, to) = (&header.from, &header.to);
    let mut scopes = vec![
        Scope::Place,
        Scope::Box(to),
        Scope::Sender(from),
        Scope::Pair(from, to),
    ];
    scopes.extend(header.stranger.then_some(Scope::Strangers));
    for scope in scopes {
        tx.add(scope, by, bytes)?;
    }
    Ok(())
}

fn remember(tx: &mut dyn RelayTx, header: &Header, seq: u64) -> Result<(), StoreError> {
    tx.remember(&Receipt {
        from: header.from.clone(),
        id: header.id.clone(),
        fingerprint: fingerprint(header),
        seq,
        created_at: header.created_at,
        expires_at: header.expires_at,
    })?;
    tx.add(Scope::Remembered, 1, 0)?;
    tx.add(Scope::RememberedOf(&header.from), 1, 0)
}

/// Tells apart what one sender sends under one id. No part has a line break in it.
fn fingerprint(header: &Header) -> ContentHash {
    let (to, kind, hash) = (&header.to, &header.message_type, header.hash);
    ContentHash::of(format!("{to}\n{kind}\n{hash}"))
}
