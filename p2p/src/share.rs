//! What one peer, or one machine, may take of what there is for all.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The window in which is counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts by whom, in windows of a minute; the table is empty again at the end of each.
#[derive(Debug)]
pub(crate) struct PerMinute<K> {
    most: u32,
    keys_max: usize,
    began: Instant,
    counted: HashMap<K, u32>,
}

impl<K: Eq + Hash> PerMinute<K> {
    /// Lets `most` through for each key, and `keys_max` keys.
    pub(crate) fn new(most: u32, keys_max: usize, now: Instant) -> Self {
        Self {
            most,
            keys_max,
            began: now,
            counted: HashMap::new(),
        }
    }

    /// Whether one more is within bounds.
    pub(crate) fn admit(&mut self, key: K, now: Instant) -> bool {
        if now.duration_since(self.began) >= WINDOW {
            self.began = now;
            self.counted.clear();
        }
        if self.counted.len() >= self.keys_max && !self.counted.contains_key(&key) {
            return false;
        }
        let count = self.counted.entry(key).or_default();
        *count = count.saturating_add(1);
        *count <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_a_share() {
        let now = Instant::now();
        let mut share = PerMinute::new(2, 2, now);
        let admitted = ["a", "a", "a", "b", "c"].map(|key| share.admit(key, now));
        assert_eq!(admitted, [true, true, false, true, false]);
        assert!(share.admit("c", now + WINDOW));
    }
}
