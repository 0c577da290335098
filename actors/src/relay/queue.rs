//! Changes that wait, and the transaction they share.
//!
//! While one batch is written the next one gathers, so under load many changes share one sync of the disk. Each is
//! told its outcome once the transaction is durable, or that it failed.

use std::collections::VecDeque;
use std::mem;
use std::sync::Weak;

use kairos_place::relay::store::{RelayStore, RelayTx, StoreError};
use kairos_place::relay::{self as rules, Refusal, Relay};
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use tokio::sync::oneshot;

use super::RelayError;
use crate::bounded_addr::AskError;

/// Most changes of one transaction.
const BATCH_JOBS_MAX: usize = 512;
/// Most bytes of sealed text in one transaction, unless a single message has more.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of sealed text that wait. Past it whoever asks is told to come again.
pub(super) const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a change works with.
pub(super) struct Turn<'a> {
    pub(super) relay: &'a Relay,
    pub(super) tx: &'a mut dyn RelayTx,
    pub(super) now: Timestamp,
    /// Whose boxes got mail, and the number of it.
    pub(super) arrived: &'a mut Vec<(AgentId, u64)>,
}

/// What a change does.
pub(super) type Work<T> = Box<dyn FnOnce(&mut Turn<'_>) -> Result<T, rules::RelayError> + Send>;

/// A change that waits, whatever its answer is.
pub(super) trait Job: Send {
    /// Bytes of sealed text that it brings.
    fn bytes(&self) -> usize;
    /// Whether nobody waits for its answer any more.
    fn unwanted(&self) -> bool;
    /// Does it, and keeps the answer. Fails only where the whole transaction does.
    fn run(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError>;
    /// Gives the answer, or says why there is none.
    fn end(self: Box<Self>, failed: Option<&StoreError>);
}

/// A change that somebody asked for.
pub(super) struct Asked<T> {
    bytes: usize,
    /// Held by whoever waits for the answer; nothing if the change is wanted in any case. The channel does not tell,
    /// as its other end stays with the actor's task after the asker has gone.
    asker: Option<Weak<()>>,
    work: Option<Work<T>>,
    answer: Option<Result<T, Refusal>>,
    tell: oneshot::Sender<Result<T, RelayError>>,
}

impl<T: Send + 'static> Asked<T> {
    pub(super) fn new(
        bytes: usize,
        asker: Option<Weak<()>>,
        work: Work<T>,
    ) -> (Box<Self>, oneshot::Receiver<Result<T, RelayError>>) {
        let (tell, told) = oneshot::channel();
        let asked = Self {
            bytes,
            asker,
            work: Some(work),
            answer: None,
            tell,
        };
        (Box::new(asked), told)
    }
}

impl<T: Send> Job for Asked<T> {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn unwanted(&self) -> bool {
        let asker = self.asker.as_ref();
        asker.is_some_and(|asker| asker.strong_count() == 0)
    }

    fn run(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        self.answer = Some(match work(turn) {
            Ok(done) => Ok(done),
            Err(rules::RelayError::Refused(refusal)) => Err(refusal),
            Err(rules::RelayError::Store(error)) => return Err(error),
        });
        Ok(())
    }

    fn end(self: Box<Self>, failed: Option<&StoreError>) {
        let told = match (failed, self.answer) {
            (Some(error), _) => Err(error.clone().into()),
            (None, Some(answer)) => answer.map_err(RelayError::from),
            (None, None) => Err(RelayError::Crashed),
        };
        // A change whose asker went away while it was written is done all the same.
        let _gone = self.tell.send(told);
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Box<dyn Job>>,
    bytes: usize,
    writing: bool,
}

impl Queue {
    /// Takes in a change.
    ///
    /// # Errors
    ///
    /// [`AskError::Busy`] past [`WAITING_BYTES_MAX`].
    pub(super) fn push(&mut self, job: Box<dyn Job>) -> Result<(), AskError> {
        let bytes = self.bytes.saturating_add(job.bytes());
        if bytes > WAITING_BYTES_MAX {
            return Err(AskError::Busy);
        }
        self.bytes = bytes;
        self.waiting.push_back(job);
        Ok(())
    }

    /// The changes to be written next, in the order of asking: none while others are being written, or where nobody
    /// waits. One whose asker is gone is dropped.
    pub(super) fn next_batch(&mut self) -> Vec<Box<dyn Job>> {
        let mut batch: Vec<Box<dyn Job>> = Vec::new();
        if self.writing {
            return batch;
        }
        let mut bytes = 0_usize;
        while let Some(job) = self.waiting.pop_front() {
            bytes = bytes.saturating_add(job.bytes());
            if !batch.is_empty() && (batch.len() >= BATCH_JOBS_MAX || bytes > BATCH_BYTES_MAX) {
                self.waiting.push_front(job);
                break;
            }
            self.bytes = self.bytes.saturating_sub(job.bytes());
            if job.unwanted() {
                bytes = bytes.saturating_sub(job.bytes());
            } else {
                batch.push(job);
            }
        }
        self.writing = !batch.is_empty();
        batch
    }

    /// Notes that the batch is written, or failed.
    pub(super) fn end_batch(&mut self) {
        self.writing = false;
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits and nothing is being written.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.writing
    }
}

/// Runs a batch as one transaction, says whose boxes got mail, and tells each who waits, in this order. Blocks.
pub(super) fn commit(
    store: &dyn RelayStore,
    relay: &Relay,
    mut batch: Vec<Box<dyn Job>>,
    now: Timestamp,
    on_mail: impl FnOnce(Vec<(AgentId, u64)>),
) -> Result<(), StoreError> {
    let mut arrived = Vec::new();
    let done = store.write(&mut |tx| {
        for job in &mut batch {
            let arrived = &mut arrived;
            job.run(&mut Turn {
                relay,
                tx,
                now,
                arrived,
            })?;
        }
        Ok(())
    });
    if done.is_ok() {
        on_mail(mem::take(&mut arrived));
    }
    for job in batch {
        job.end(done.as_ref().err());
    }
    done
}
