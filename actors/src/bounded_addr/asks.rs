//! The bound of an address, and what became of the asks at it.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::AskError;

/// Bounds of the histogram of answer times, in seconds: a message that changes nothing takes some microseconds, one
/// that waits for the disk milliseconds.
const ANSWER_SECONDS: [f64; 9] = [0.0001, 0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

/// Lets a fixed number of asks through at a time, and counts. One for all clones of an address.
#[derive(Debug)]
pub struct Asks {
    permits: Semaphore,
    limit: usize,
    refused: Counter,
    unanswered: Counter,
    answers: Histogram,
}

impl Asks {
    pub(super) fn new(permits: usize) -> Self {
        let limit = permits.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Semaphore::new(limit),
            limit,
            refused: Counter::default(),
            unanswered: Counter::default(),
            answers: Histogram::new(ANSWER_SECONDS),
        }
    }

    /// Lets an ask through, or counts that it is refused.
    pub(super) fn enter(&self) -> Result<SemaphorePermit<'_>, AskError> {
        self.permits.try_acquire().map_err(|_| {
            self.refused.inc();
            AskError::Busy
        })
    }

    /// Takes note of how an ask that began at `begun` ended.
    pub(super) fn note<T>(&self, begun: Instant, answer: &Result<T, AskError>) {
        match answer {
            Ok(_) => self.answers.observe(begun.elapsed().as_secs_f64()),
            Err(_) => {
                self.unanswered.inc();
            }
        }
    }

    /// Asks let through at a time.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Asks under way: queued, or being handled.
    pub fn under_way(&self) -> usize {
        self.limit.saturating_sub(self.permits.available_permits())
    }

    /// Asks told [`AskError::Busy`] since the start.
    pub fn refused(&self) -> &Counter {
        &self.refused
    }

    /// Asks told [`AskError::Timeout`] or [`AskError::Stopped`] since the start.
    pub fn unanswered(&self) -> &Counter {
        &self.unanswered
    }

    /// Seconds from ask to answer, the time in the queue included. Asks that were given up are not in it.
    pub fn answers(&self) -> &Histogram {
        &self.answers
    }
}
