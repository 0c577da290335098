//! Why a state was not committed, shown or restored.

use std::io;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::state::{SnapshotError, TreeError};
use thiserror::Error;

use crate::bounded_addr::AskError;
use crate::chain::ChainError;
use crate::skills::SkillsError;

/// What went wrong. [`StateError::Io`] may name local paths: its text is for the owner only.
#[derive(Debug, Error)]
pub enum StateError {
    /// Nothing differs from the last snapshot.
    #[error("No changes since last commit. Use --force to commit anyway.")]
    NoChanges {
        /// What names the last snapshot.
        last: ContentHash,
    },
    /// Switched off in the settings.
    #[error("State commit is disabled; set state_commit.enabled in skills/config.yml")]
    Disabled,
    /// Nobody said why.
    #[error("Reason is required for explicit commit")]
    NoReason,
    /// No snapshot is meant by that name, or several are.
    #[error("{} by `{wanted}`; see: kairos-chain state history", if *.several { "several snapshots are meant" } else { "no snapshot is meant" })]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// More than one.
        several: bool,
    },
    /// The file is not a snapshot.
    #[error("{file} is not a snapshot that can be used: {source}")]
    Unreadable {
        /// Its name.
        file: String,
        /// Why.
        source: SnapshotError,
    },
    /// The snapshot names no files, as those of the reference.
    #[error(
        "{file} holds only hashes: it was made by the Ruby system, which keeps no texts, so nothing can be restored from it"
    )]
    NoTexts {
        /// Its name.
        file: String,
    },
    /// The ledger tells of another content.
    #[error("{file} is not what the ledger tells of: block {block} names another {what}")]
    NotAsRecorded {
        /// Its name.
        file: String,
        /// The block.
        block: u64,
        /// `state` or `content`.
        what: &'static str,
    },
    /// A kept text is gone or damaged.
    #[error("the kept text {hash} is {what}, so nothing was changed")]
    Object {
        /// Which.
        hash: ContentHash,
        /// `missing` or `damaged`.
        what: &'static str,
    },
    /// The list of files of a snapshot is not one.
    #[error("the snapshot's list of files cannot be used: {0}")]
    Tree(#[from] TreeError),
    /// Files kept changing while they were read.
    #[error("the files of the layers keep changing; try again when nobody writes them")]
    Restless,
    /// A process died while it changed knowledge, and nobody has settled that yet.
    #[error("a change of knowledge was interrupted; settle it with: kairos-chain skill list")]
    Unsettled,
    /// There is too much to keep.
    #[error("the layers have more than {max} {what}")]
    TooMuch {
        /// `files`, `bytes` or `levels`.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// The law may not change so.
    #[error("the snapshot has another law: {0}")]
    Law(Box<SkillsError>),
    /// A path leads through a link or a file.
    #[error("`{path}` cannot be restored: a directory on its way is a link or a file")]
    InTheWay {
        /// Path below the data directory.
        path: String,
    },
    /// A restore failed halfway and could not be taken back.
    #[error(
        "a restore is half done and can neither be completed nor taken back: {0}; the next state command tries again"
    )]
    HalfRestored(Box<StateError>),
    /// The ledger did not do its part.
    #[error("the ledger: {0}")]
    Chain(#[from] ChainError),
    /// The disk failed.
    #[error("the state could not be used: {0}")]
    Io(#[from] io::Error),
    /// The actor did not answer.
    #[error("the state: {0}")]
    Ask(#[from] AskError),
}
