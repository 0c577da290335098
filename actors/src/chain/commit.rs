//! One commit: what it writes, and what it tells each of those who wait for it.

use std::sync::OnceLock;

use kairos_protocol::block::BlockRef;
use kairos_protocol::time::Clock;

use super::ChainError;
use super::queue::{Job, Outcome};
use super::store::{BlockStore, HISTORY_MAX, StoreError};

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
pub(super) fn run(
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
