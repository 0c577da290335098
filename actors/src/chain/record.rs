//! Appends whose outcome is found out, and finding what the ledger tells.
//!
//! An append that is not answered in time may still be written. Whoever keeps files that must agree with the ledger
//! asks through [`ChainHandle::record`], and where even that ends without an answer looks with
//! [`ChainHandle::behind`], which waits for what is under way, before anything is undone.

use kairos_protocol::block::{Block, BlockRef};

use super::queue::IdempotencyKey;
use super::store::{HISTORY_MAX, StoreError};
use super::{ChainError, ChainHandle};
use crate::bounded_addr::AskError;

/// How often the ledger is asked for the outcome of an append before it counts as unknown.
const TRIES: usize = 4;

impl ChainHandle {
    /// Records `entries` as [`ChainHandle::append_once`] does, and asks again while there is no answer in time.
    ///
    /// After an error that [`ChainError::may_be_recorded`], the ledger has to be looked into.
    pub async fn record(
        &self,
        key: IdempotencyKey,
        entries: Vec<String>,
    ) -> Result<BlockRef, ChainError> {
        let mut was_asked = false;
        for _ in 0..TRIES {
            match self.append_once(key.clone(), entries.clone()).await {
                Err(ChainError::Ask(AskError::Timeout)) => was_asked = true,
                // Says nothing about the try before.
                Err(ChainError::Ask(AskError::Busy)) if was_asked => {}
                answered => return answered,
            }
        }
        Err(ChainError::Ask(AskError::Timeout))
    }

    /// The position behind `tip`, once no append asked for before is under way any more: from there on the ledger
    /// tells whether it was written. All of the ledger where it is not the one that ended at `tip`.
    pub(crate) async fn behind(&self, tip: Option<BlockRef>) -> Result<u64, ChainError> {
        self.rest().await?;
        let Some(tip) = tip else { return Ok(0) };
        let there = self.blocks(tip.index, 1).await?;
        Ok(
            match there.first().is_some_and(|block| block.to_ref() == tip) {
                true => tip.index + 1,
                false => 0,
            },
        )
    }

    /// The first that `look` finds in the blocks from position `first` on, however many there are.
    pub(crate) async fn find<T>(
        &self,
        first: u64,
        mut look: impl FnMut(&Block) -> Option<T>,
    ) -> Result<Option<T>, ChainError> {
        let mut next = first;
        loop {
            let page = self.blocks(next, HISTORY_MAX).await?;
            if let Some(found) = page.iter().find_map(&mut look) {
                return Ok(Some(found));
            }
            next += page.len() as u64;
            if page.len() < HISTORY_MAX {
                return Ok(None);
            }
        }
    }

    /// The first that `look` finds in the blocks from the last one back, however many there are.
    pub(crate) async fn find_last<T>(
        &self,
        mut look: impl FnMut(&Block) -> Option<T>,
    ) -> Result<Option<T>, ChainError> {
        let mut page = self.history(HISTORY_MAX).await?;
        loop {
            if let Some(found) = page.iter().find_map(&mut look) {
                return Ok(Some(found));
            }
            let Some(oldest) = page.last().map(Block::index).filter(|index| *index > 0) else {
                return Ok(None);
            };
            let first = oldest.saturating_sub(HISTORY_MAX as u64);
            page = self.blocks(first, HISTORY_MAX).await?;
            page.retain(|block| block.index() < oldest);
            page.reverse();
        }
    }
}

impl ChainError {
    /// Whether the entries may be in the ledger, or come into it, all the same.
    pub fn may_be_recorded(&self) -> bool {
        match self {
            Self::Ask(AskError::Timeout | AskError::Stopped)
            | Self::Crashed
            | Self::Store(StoreError::Unsettled { .. }) => true,
            Self::Entries(_) | Self::KeyReused | Self::Store(_) | Self::Ask(AskError::Busy) => {
                false
            }
        }
    }
}
