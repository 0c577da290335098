//! What ends with time: messages, remembered ids, and what requesters of prekeys got.

use kairos_protocol::time::Timestamp;

use super::Relay;
use super::audit::Action;
use super::store::{Receipt, RelayTx, Scope, StoreError};

/// What one sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Messages that nobody fetched in time.
    pub messages: usize,
    /// Ids that were remembered.
    pub receipts: usize,
    /// Counts of requesters.
    pub takes: usize,
    /// Whether there may be more to remove.
    pub more: bool,
}

impl Relay {
    /// Removes what ended at `now` or before, at most `bound` of each kind. Nobody can tell a message that was swept
    /// from one whose time is over, save by the counts.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn expire(
        &self,
        tx: &mut dyn RelayTx,
        now: Timestamp,
        bound: usize,
    ) -> Result<Swept, StoreError> {
        let messages = self.expire_messages(tx, now, bound)?;
        let due = tx.due_receipts(now, bound)?;
        for receipt in &due {
            self.forget_receipt(tx, receipt)?;
        }
        let takes = self.expire_takes(tx, now, bound)?;
        let receipts = due.len();
        Ok(Swept {
            messages,
            receipts,
            takes,
            more: messages.max(receipts).max(takes) >= bound,
        })
    }

    pub(super) fn expire_messages(
        &self,
        tx: &mut dyn RelayTx,
        now: Timestamp,
        bound: usize,
    ) -> Result<usize, StoreError> {
        let due = tx.due(now, bound)?;
        for kept in &due {
            self.take_out(tx, kept, Action::Expired, now)?;
        }
        Ok(due.len())
    }

    pub(super) fn forget_receipt(
        &self,
        tx: &mut dyn RelayTx,
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        tx.forget(&receipt.from, &receipt.id)?;
        tx.add(Scope::Remembered, -1, 0)?;
        tx.add(Scope::RememberedOf(&receipt.from), -1, 0)
    }
}
