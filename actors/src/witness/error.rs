//! Why the witness did not do what it was asked.

use std::io;
use std::path::PathBuf;

use kairos_protocol::tlog::checkpoint::CheckpointError;
use kairos_protocol::tlog::fork::ForkError;
use kairos_protocol::tlog::proof::ProofError;
use kairos_protocol::tlog::statement::StatementError;
use thiserror::Error;

use crate::bounded_addr::{AskError, JobError};

/// Why a checkpoint was not taken.
#[derive(Debug, Error)]
pub enum WitnessError {
    /// The log showed two histories.
    #[error(
        "agent `{agent}` showed two histories; check the evidence with: kairos-verify fork {}",
        .file.display()
    )]
    Fork {
        /// Whose log.
        agent: String,
        /// The evidence.
        file: PathBuf,
    },
    /// The ledger is shorter than it was.
    #[error(
        "its ledger had {known} blocks when we saw it last and has {shown} now; it was cut or is a copy"
    )]
    Shorter {
        /// Blocks we know of.
        known: u64,
        /// Blocks it shows.
        shown: u64,
    },
    /// Nothing shows that the ledger continues what we know.
    #[error("its ledger is not shown to continue the {known} blocks we know of: {source}")]
    Unproven {
        /// Blocks we know of.
        known: u64,
        /// What is wrong with the proof.
        source: ProofError,
    },
    /// The checkpoint is not whose it is said to be.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The checkpoint is not signed by its log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A log we know nothing of.
    #[error("the log `{0}` is not known; meet its agent, or name its key with --key")]
    UnknownLog(String),
    /// The request proves from another size than we know.
    #[error(
        "we know {known} blocks of this ledger; its owner makes the request with: kairos-chain chain checkpoint --from {known}"
    )]
    From {
        /// Blocks we know of.
        known: u64,
    },
    /// As many logs as allowed are known.
    #[error(
        "{limit} logs are known, which is the limit; forget some with: kairos-chain peers forget ID"
    )]
    Full {
        /// The bound.
        limit: usize,
    },
    /// A record cannot be read.
    #[error("{} is not readable: {reason}; restore it from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The evidence could not be written.
    #[error(transparent)]
    Evidence(#[from] ForkError),
    /// A file could not be read or written.
    #[error("what was seen of other ledgers cannot be used: {0}")]
    Io(#[from] io::Error),
    /// The work panicked.
    #[error("the witness ended unexpectedly")]
    Crashed,
    /// The actor did not answer.
    #[error("the witness {0}")]
    Ask(#[from] AskError),
}

impl From<JobError> for WitnessError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Busy => Self::Ask(AskError::Busy),
            JobError::Panicked(_) => Self::Crashed,
        }
    }
}
