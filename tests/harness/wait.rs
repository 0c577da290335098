//! Waiting for something to become true.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything that is waited for takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until `look` sees something, and fails the test if it never does.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "it never happens: {what}");
        thread::park_timeout(PAUSE);
    }
}
