//! The state of all layers: what is in them, as one hash, and what changed between two moments.
//!
//! Two views of the same files. The [`Manifest`] is the reference's, preimage by preimage, so that both systems agree
//! on `snapshot_hash`; it covers no text of L2 and no file beside a main text. The [`Tree`] is ours and covers every
//! byte; it decides whether something changed, and what it names can be restored.

mod diff;
mod entry;
mod manifest;
mod settings;
mod snapshot;
mod tree;

pub use self::diff::{Diff, LayerDiff, Side};
pub use self::entry::{Archived, Context, Entry};
pub use self::manifest::{Layers, LayersError, Manifest, Observed, Session};
pub use self::settings::{AutoCommit, Pending, StateSettings, Trigger};
pub use self::snapshot::{Change, SNAPSHOT_MAX, Snapshot, SnapshotError, TreeRef};
pub use self::tree::{TREE_FILES_MAX, Tree, TreeError, TreeFile};

use serde::{Deserialize, Serialize};

/// A part of the state that the manifest leaves out, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unread {
    /// Path below the data directory.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

#[cfg(test)]
mod tests;
