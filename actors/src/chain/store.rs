//! Where blocks are kept: the trait, and what every implementation of it must do.
//!
//! A store is shared with other processes, so it alone knows the current tip: it proposes and commits in one step.

pub mod file;
pub mod memory;
pub mod place;
pub mod sqlite;
pub mod transfer;

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
mod processes;

use std::io;
use std::path::PathBuf;

use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::{LoadState, VerifyReport};
use kairos_protocol::time::Clock;
use prometheus_client::metrics::histogram::Histogram;
use thiserror::Error;

/// Most blocks that one [`BlockStore::history`] returns.
pub const HISTORY_MAX: usize = 1_000;

/// Keeps the blocks of one ledger. All methods block the calling thread.
pub trait BlockStore: Send + Sync {
    /// Appends each list of entries as its own block, all of them or none, and returns once they are durable.
    ///
    /// The first append also writes the genesis block. Fails with [`StoreError::Refused`] on a ledger that is
    /// neither absent nor readable; that one is never touched. After any error but [`StoreError::Unsettled`]
    /// the ledger is as before.
    fn append(
        &self,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
    ) -> Result<Vec<BlockRef>, StoreError>;

    /// The last block; nothing if there is no ledger yet. Fails with [`StoreError::NotReadable`] on a ledger
    /// that does not load.
    fn tip(&self) -> Result<Option<BlockRef>, StoreError>;

    /// Reads and checks everything from genesis on. A bad ledger is a report, not an error.
    fn verify(&self) -> Result<VerifyReport, StoreError>;

    /// The last `limit` blocks (at most [`HISTORY_MAX`]), newest first. Fails like [`tip`](Self::tip).
    fn history(&self, limit: usize) -> Result<Vec<Block>, StoreError>;

    /// At most `limit` blocks (and at most [`HISTORY_MAX`]) from position `first` on, oldest first; fewer where the
    /// chain ends. Fails like [`tip`](Self::tip).
    fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, StoreError>;

    /// Does what is left to do after appends, when there is time: what was acknowledged is durable already, and is
    /// where it belongs afterwards. A store that leaves nothing to do has nothing to do here.
    fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Seconds that each wait for the disk took, if this store has one and times it.
    fn syncs(&self) -> Option<Histogram> {
        None
    }

    /// What this store last had to do about a crash.
    fn recovery(&self) -> Option<file::Recovery> {
        None
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The ledger does not load, so nothing may be added to it.
    #[error("cannot append: ledger is {0}")]
    Refused(LoadState),
    /// The ledger does not load, so its blocks cannot be shown.
    #[error("ledger is {0}")]
    NotReadable(LoadState),
    /// Another process held the ledger's lock for too long.
    #[error("ledger is locked by another process")]
    Locked,
    /// The ledger was there and is not any more, so that whoever took it away must say what is next.
    #[error("the ledger was taken away; start the program anew once that is meant")]
    Gone,
    /// A ledger was begun in the other form meanwhile, so that another one here would hide it.
    #[error("the ledger is in {}; start the program anew", .0.display())]
    Elsewhere(PathBuf),
    /// The blocks together are longer than a ledger file takes at once.
    #[error("blocks of {0} bytes are too long to be written at once")]
    TooLong(usize),
    /// The system refused; the ledger is as before.
    #[error("cannot {action}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused halfway: the blocks are in the journal, and the ledger gets them when it is next used.
    #[error("cannot write the ledger; the blocks may still appear in it")]
    Unsettled {
        /// The position of the last block before them.
        after: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// The same error for another one who waited for the same work.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Refused(state) => Self::Refused(*state),
            Self::NotReadable(state) => Self::NotReadable(*state),
            Self::Locked => Self::Locked,
            Self::Gone => Self::Gone,
            Self::Elsewhere(path) => Self::Elsewhere(path.clone()),
            Self::TooLong(bytes) => Self::TooLong(*bytes),
            Self::Io { action, source } => Self::Io {
                action,
                source: same_io(source),
            },
            Self::Unsettled { after, source } => Self::Unsettled {
                after: *after,
                source: same_io(source),
            },
        }
    }
}

fn same_io(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
