//! One commit: what it writes, what it tells each of those who wait for it, and the thread that does it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{io, thread};

use kairos_protocol::block::BlockRef;
use kairos_protocol::time::Clock;
use tokio::sync::oneshot;

use super::ChainError;
use super::queue::{Job, Outcome};
use super::store::{BlockStore, HISTORY_MAX, StoreError};

/// How long the thread looks for the next batch before it sleeps: about what it takes to wake whoever waited for the
/// last one and to hear from them again. Waking a thread that sleeps costs a lone writer a third of the time that the
/// disk takes; looking for one costs this much of one core a commit, and gives way to whoever else wants to run.
const LINGER: Duration = Duration::from_micros(100);

/// The thread that writes one batch after the other. It ends with this.
#[derive(Debug)]
pub(super) struct Committer(SyncSender<Batch>);

struct Batch {
    jobs: Vec<Job>,
    tell: oneshot::Sender<Committed>,
}

impl Committer {
    /// Starts a thread that writes to `store`. Notes in `begun` where the ledger ended before its first batch.
    pub(super) fn start(
        store: Arc<dyn BlockStore>,
        clock: Arc<dyn Clock>,
        begun: Arc<OnceLock<u64>>,
    ) -> io::Result<Self> {
        let (batches, waiting) = sync_channel(1);
        thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || {
                while let Some(Batch { jobs, tell }) = next(&waiting) {
                    let commit = AssertUnwindSafe(|| run(&*store, jobs, &*clock, &begun));
                    // A panic ends the batch and not the thread.
                    let committed = catch_unwind(commit).unwrap_or(Committed::Crashed);
                    // Whoever does not listen any more finds the blocks in the ledger.
                    let _gone = tell.send(committed);
                }
            })?;
        Ok(Self(batches))
    }

    /// Has `jobs` written; what came of them is told through the channel that is returned. One batch at a time: a
    /// caller that does not wait for the last one is blocked.
    pub(super) fn write(&self, jobs: Vec<Job>) -> oneshot::Receiver<Committed> {
        let (tell, told) = oneshot::channel();
        // A thread that has ended drops the batch, which tells the caller.
        let _ended = self.0.send(Batch { jobs, tell });
        told
    }
}

/// The next batch, once there is one; nothing once there will be none.
fn next(waiting: &Receiver<Batch>) -> Option<Batch> {
    let began = Instant::now();
    while began.elapsed() < LINGER {
        match waiting.try_recv() {
            Ok(batch) => return Some(batch),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => thread::yield_now(),
        }
    }
    waiting.recv().ok()
}

/// What became of a batch.
pub(super) enum Committed {
    /// Each job has its block.
    Done(Vec<BlockRef>),
    /// None has. After [`StoreError::Unsettled`] it may still come.
    Failed(StoreError),
    /// The store panicked.
    Crashed,
}

/// Writes `jobs` in order. Notes in `begun`, once, where the ledger ended before. Blocks.
fn run(
    store: &dyn BlockStore,
    jobs: Vec<Job>,
    clock: &dyn Clock,
    begun: &OnceLock<u64>,
) -> Committed {
    // Where it cannot be told, the append tells why.
    if begun.get().is_none()
        && let Ok(tip) = store.tip()
    {
        begun.get_or_init(|| tip.map_or(0, |tip| tip.index));
    }
    let found = jobs.iter().map(|job| find(store, job));
    let found: Vec<_> = match found.collect::<Result<_, _>>() {
        Ok(found) => found,
        Err(error) => return Committed::Failed(error),
    };
    let missing = jobs.into_iter().zip(&found);
    let missing = missing.filter_map(|(job, found)| found.is_none().then_some(job.entries));
    match store.append(missing.collect(), clock) {
        Ok(written) => {
            let mut written = written.into_iter();
            let refs = found
                .into_iter()
                .map(|found| found.or_else(|| written.next()));
            refs.collect::<Option<_>>()
                .map_or(Committed::Crashed, Committed::Done)
        }
        Err(error) => Committed::Failed(error),
    }
}

/// The block that an earlier try of `job` has left.
fn find(store: &dyn BlockStore, job: &Job) -> Result<Option<BlockRef>, StoreError> {
    let Some(after) = job.tried_after else {
        return Ok(None);
    };
    let mut next = after.saturating_add(1);
    loop {
        let blocks = store.blocks(next, HISTORY_MAX)?;
        if let Some(found) = blocks.iter().find(|block| block.data() == job.entries) {
            return Ok(Some(found.to_ref()));
        }
        let Some(last) = blocks.last() else {
            return Ok(None);
        };
        next = last.index().saturating_add(1);
    }
}

impl Committed {
    /// How the job at position `at` ended, where the ledger had a block at `after` before.
    pub(super) fn outcome(&self, at: usize, after: u64) -> Outcome {
        match self {
            Self::Done(refs) => refs
                .get(at)
                .map_or(Outcome::Unknown { after }, |block| Outcome::Done(*block)),
            Self::Failed(StoreError::Unsettled { after, .. }) => Outcome::Unknown { after: *after },
            Self::Crashed => Outcome::Unknown { after },
            Self::Failed(_) => Outcome::Failed,
        }
    }

    /// What the askers of the job at position `at` are told.
    pub(super) fn answer(&self, at: usize) -> Result<BlockRef, ChainError> {
        match self {
            Self::Done(refs) => refs.get(at).copied().ok_or(ChainError::Crashed),
            Self::Failed(error) => Err(error.again().into()),
            Self::Crashed => Err(ChainError::Crashed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::store::conformance::clock;
    use crate::chain::store::memory::MemoryStore;

    #[test]
    fn what_an_earlier_try_left_is_found_however_much_came_since() {
        let (store, clock) = (MemoryStore::default(), clock());
        let entries = |n: usize| vec![n.to_string()];
        store
            .append((0..HISTORY_MAX + 9).map(entries).collect(), &clock)
            .unwrap();
        let job = |n, tried_after| Job {
            entries: entries(n),
            tried_after,
        };
        let found = |n, after| {
            find(&store, &job(n, after))
                .unwrap()
                .map(|block| block.index)
        };
        assert_eq!(found(1, Some(0)), Some(2));
        assert_eq!(
            found(HISTORY_MAX + 3, Some(0)),
            Some(HISTORY_MAX as u64 + 4)
        );
        assert_eq!(found(1, Some(2)), None);
        assert_eq!(found(1, None), None);
    }
}
