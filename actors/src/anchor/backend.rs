//! What a place for anchors must be able to do. A file of the owner's is one; a public chain could be another.

use kairos_protocol::anchor::Anchor;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;

use super::store::{AnchorStore, StoreError};

/// A place that anchors are moved to. Blocks the thread.
pub trait AnchorBackend: Send {
    /// The anchor with this hash, read from the place itself.
    fn find(&mut self, hash: &ContentHash) -> Result<Option<Anchor>, StoreError>;

    /// Keeps `anchors` for good, all that are not there yet. What is answered is kept.
    fn submit(&mut self, anchors: &[Anchor], now: Timestamp) -> Result<(), StoreError>;
}

impl AnchorBackend for AnchorStore {
    fn find(&mut self, hash: &ContentHash) -> Result<Option<Anchor>, StoreError> {
        Ok(self.get(hash))
    }

    fn submit(&mut self, anchors: &[Anchor], now: Timestamp) -> Result<(), StoreError> {
        Self::submit(self, anchors, now)
    }
}
