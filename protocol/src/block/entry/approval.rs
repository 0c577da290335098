//! What a person decided about a change that waited for them. The reference knows no such entry.

use serde::{Deserialize, Serialize};

use super::{at_any, offset_form};
use crate::hash::ContentHash;
use crate::time::Timestamp;

/// Most files that an [`ApprovalDecision`] names; its seal covers the others too.
pub const FILES_NAMED_MAX: usize = 20;

/// A change that waited for a person was approved or rejected, or an approval came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "approval_decision")]
pub struct ApprovalDecision {
    /// The name it waited under.
    pub approval_id: String,
    /// What was decided.
    pub decision: Decided,
    /// The kind of change, such as `knowledge_update`.
    pub change: String,
    /// What it changes.
    pub subject: String,
    /// Who proposed it.
    pub proposed_by: String,
    /// Who decided.
    pub decided_by: String,
    /// The hash over everything that was shown.
    pub seal: ContentHash,
    /// The files it changes, at most [`FILES_NAMED_MAX`].
    pub files: Vec<FileChange>,
    /// Why, in the words of whoever proposed it.
    pub reason: Option<String>,
    /// When.
    #[serde(serialize_with = "offset_form", deserialize_with = "at_any")]
    pub timestamp: Timestamp,
}

/// What became of a change that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decided {
    /// It is to be made; the entries beside this one tell of it.
    Approved,
    /// It is not made.
    Rejected,
    /// It was approved and could not be made: what it was based on had changed.
    Void,
}

/// One file, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Where it is, relative to the data directory.
    pub path: String,
    /// The hash of what is there before; nothing where there is nothing.
    pub before: Option<ContentHash>,
    /// The hash of what is there after; nothing where nothing is left.
    pub after: Option<ContentHash>,
}
