//! Why the log did not do what it was asked.

use std::io;
use std::path::PathBuf;

use kairos_protocol::tlog::checkpoint::CheckpointError;
use kairos_protocol::tlog::inclusion::InclusionError;
use kairos_protocol::tlog::note::NoteError;
use kairos_protocol::tlog::proof::{Head, ProofError};
use thiserror::Error;

use crate::bounded_addr::{AskError, JobError};
use crate::chain::store::StoreError;

/// Why there is no checkpoint or proof.
#[derive(Debug, Error)]
pub enum TlogError {
    /// The ledger does not load, or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger does not continue a checkpoint that we signed.
    #[error(
        "the ledger was cut or rewritten: we signed a checkpoint over {} blocks that it does not continue, it has \
         {blocks} now. Nothing more is signed. Restore the ledger from a backup that is not older",
        .signed.size
    )]
    Rewritten {
        /// The head we signed.
        signed: Head,
        /// How many blocks there are now.
        blocks: u64,
    },
    /// A checkpoint of ours on disk cannot be read.
    #[error("{} holds no checkpoint: {source}; restore it from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CheckpointError,
    },
    /// There is no such block under the checkpoint.
    #[error("there is no block {index}")]
    NoBlock {
        /// Its position.
        index: u64,
    },
    /// There is nothing to sign.
    #[error(
        "there is no ledger yet; it begins with the first record: kairos-chain chain record TEXT"
    )]
    NoLedger,
    /// Nobody cosigned a checkpoint.
    #[error(
        "no checkpoint was cosigned yet; give one to another agent: kairos-chain chain checkpoint --out FILE"
    )]
    NotCosigned,
    /// A checkpoint that is to be kept as cosigned is not ours, or not signed as it must be.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// None of the signatures is by a known witness.
    #[error("no signature is by a witness that is known; name its key with --key")]
    UnknownWitness,
    /// The proof could not be written.
    #[error(transparent)]
    Inclusion(#[from] InclusionError),
    /// The tiles do not fit together. They are built anew when this is met.
    #[error("the tiles of the log do not fit together: {0}")]
    Tiles(#[from] ProofError),
    /// A file could not be read or written.
    #[error("the files of the log cannot be used: {0}")]
    Io(#[source] io::Error),
    /// The work panicked.
    #[error("the log ended unexpectedly")]
    Crashed,
    /// The actor did not answer.
    #[error("the log {0}")]
    Ask(#[from] AskError),
}

impl TlogError {
    /// Whether what was signed before may be wrong now. Otherwise it stays true: the log is merely busy, or the system
    /// refused.
    pub(super) fn condemns(&self) -> bool {
        matches!(
            self,
            Self::Rewritten { .. }
                | Self::Damaged { .. }
                | Self::Store(StoreError::NotReadable(_) | StoreError::Gone)
        )
    }
}

impl From<JobError> for TlogError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Busy => Self::Ask(AskError::Busy),
            JobError::Panicked(_) => Self::Crashed,
        }
    }
}

impl From<NoteError> for TlogError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}
