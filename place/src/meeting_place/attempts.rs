//! How often agents tried to deposit within the last hour.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;

/// Within which attempts are counted.
const HOUR: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    counts: HashMap<AgentId, usize>,
    /// Each that is counted, in order of time.
    log: VecDeque<(Timestamp, AgentId)>,
}

impl Attempts {
    /// Counts one more of `id`; false if there were `most` already.
    pub(super) fn count(&mut self, id: &AgentId, most: usize, now: Timestamp) -> bool {
        self.forget(now);
        let count = self.counts.entry(id.clone()).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        self.log.push_back((now, id.clone()));
        true
    }

    /// Drops what is not counted any more: what is an hour old, and what was counted by a clock that has been set back
    /// since, or nobody could deposit until it has caught up.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.log.pop_back_if(|(at, _)| *at > now) {
            self.uncount(&id);
        }
        while let Some((_, id)) = self.log.pop_front_if(|(at, _)| now.since(*at) >= HOUR) {
            self.uncount(&id);
        }
    }

    fn uncount(&mut self, id: &AgentId) {
        if let Some(count) = self.counts.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(id);
            }
        }
    }
}
