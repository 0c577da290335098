//! What is counted and timed of a ledger, since the start of the program.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::ChainError;
use super::commit::Committed;

/// Bounds of the histograms, in seconds: a sync takes from some hundred microseconds on a fast disk to seconds on a
/// card that is worn out.
const SECONDS: [f64; 10] = [
    0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5,
];

/// See the module. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Seconds from asking for a block to its being durable, the time in the queue included.
    pub appends: Histogram,
    /// Seconds that each commit took, which writes all blocks that waited.
    pub commits: Histogram,
    /// Seconds that each wait for the disk took; several for one commit now and then.
    pub syncs: Histogram,
    /// Blocks that were appended.
    pub appended: Counter,
    /// Blocks that were asked for and not appended, or of which that is unknown.
    pub failed: Counter,
}

/// A histogram with the bounds that times of the disk need.
pub(super) fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Figures {
    /// Nothing was counted yet, but for `syncs`, which the store observes itself.
    pub(super) fn new(syncs: Option<Histogram>) -> Self {
        Self {
            appends: seconds(),
            commits: seconds(),
            syncs: syncs.unwrap_or_else(seconds),
            appended: Counter::default(),
            failed: Counter::default(),
        }
    }

    /// Takes note of an append that was asked for at `begun`.
    pub(super) fn note<T>(&self, begun: Instant, answer: &Result<T, ChainError>) {
        if answer.is_ok() {
            self.appends.observe(begun.elapsed().as_secs_f64());
        }
    }

    /// Takes note of a commit of so many `blocks` that began at `begun`.
    pub(super) fn note_commit(&self, begun: Instant, blocks: usize, committed: &Committed) {
        let blocks = u64::try_from(blocks).unwrap_or(u64::MAX);
        match committed {
            Committed::Done(_) => {
                self.commits.observe(begun.elapsed().as_secs_f64());
                self.appended.inc_by(blocks);
            }
            Committed::Failed(_) | Committed::Crashed => {
                self.failed.inc_by(blocks);
            }
        }
    }
}
