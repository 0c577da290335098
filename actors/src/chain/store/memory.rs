//! A ledger in memory, for tests and for nodes that keep nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kairos_protocol::block::{Block, BlockRef, StoredBlock};
use kairos_protocol::ledger::{Ledger, LoadState, Verifier, VerifyReport};
use kairos_protocol::time::Clock;

use super::{BlockStore, HISTORY_MAX, StoreError};

/// Blocks in a list. Clones share it, as processes share a file.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Option<Vec<StoredBlock>>>>);

impl MemoryStore {
    /// A ledger that holds `blocks`, right or wrong.
    pub fn holding(blocks: Vec<StoredBlock>) -> Self {
        Self(Arc::new(Mutex::new(Some(blocks))))
    }

    fn blocks_held(&self) -> MutexGuard<'_, Option<Vec<StoredBlock>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chain(&self) -> Result<Vec<Block>, StoreError> {
        let mut chain = Vec::new();
        let (report, _) = walk(self.blocks_held().as_ref(), |block| chain.push(block));
        match report.is_valid() {
            true => Ok(chain),
            false => Err(StoreError::NotReadable(report.state)),
        }
    }
}

/// Checks `blocks` and hands each good one to `seen`.
fn walk(
    blocks: Option<&Vec<StoredBlock>>,
    mut seen: impl FnMut(Block),
) -> (VerifyReport, Option<Ledger>) {
    let Some(blocks) = blocks else {
        return (VerifyReport::absent(), None);
    };
    let mut verifier = Verifier::default();
    for block in blocks {
        match verifier.push(block.clone()) {
            Ok(block) => seen(block),
            Err(_) => break,
        }
    }
    let ledger = verifier.ledger().copied();
    (verifier.finish(), ledger)
}

impl BlockStore for MemoryStore {
    fn append(
        &self,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
    ) -> Result<Vec<BlockRef>, StoreError> {
        let mut blocks = self.blocks_held();
        let (report, ledger) = walk(blocks.as_ref(), drop);
        if !report.state.allows_append() {
            return Err(StoreError::Refused(report.state));
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut ledger = ledger.unwrap_or_default();
        let blocks = blocks.get_or_insert_with(|| vec![Block::genesis().clone().into()]);
        let mut refs = Vec::with_capacity(batch.len());
        for entries in batch {
            let block = ledger.propose(entries, clock.now());
            // A chain of u64::MAX blocks does not fit into memory.
            ledger
                .adopt(&block)
                .map_err(|_| StoreError::Refused(LoadState::Corrupt))?;
            refs.push(block.to_ref());
            blocks.push(block.into());
        }
        Ok(refs)
    }

    fn tip(&self) -> Result<Option<BlockRef>, StoreError> {
        let report = self.verify()?;
        if report.is_valid() {
            Ok(report.tip)
        } else {
            Err(StoreError::NotReadable(report.state))
        }
    }

    fn verify(&self) -> Result<VerifyReport, StoreError> {
        Ok(walk(self.blocks_held().as_ref(), drop).0)
    }

    fn history(&self, limit: usize) -> Result<Vec<Block>, StoreError> {
        let chain = self.chain()?;
        Ok(chain
            .into_iter()
            .rev()
            .take(limit.min(HISTORY_MAX))
            .collect())
    }

    fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, StoreError> {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let chain = self.chain()?.into_iter().skip(first);
        Ok(chain.take(limit.min(HISTORY_MAX)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::store::conformance;

    #[test]
    fn conforms() {
        let store = MemoryStore::default();
        conformance::check_lifecycle(|| Box::new(store.clone()));
        conformance::check_refusals(|blocks| Box::new(MemoryStore::holding(blocks)));
        let shared = MemoryStore::default();
        conformance::check_concurrency(|| Box::new(shared.clone()));
    }
}
