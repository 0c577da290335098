//! Which sealed messages were seen, so that none is taken twice.
//!
//! A message is remembered until its time would be refused anyway. What was forgotten can therefore not come back, also
//! where the clock is set back. Whoever keeps a window over a restart writes down each [`Seen`] before acting on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{AgentId, MessageId};
use crate::time::Timestamp;
use crate::wire_time;

/// How long a message may have been on its way: the time that relays keep messages, with room for those that keep
/// them longer.
pub const PAST: Duration = Duration::from_hours(24 * 7);
/// How far the sender's clock may be ahead of ours.
pub const AHEAD: Duration = Duration::from_mins(5);
/// Most messages remembered.
pub const SEEN_MAX: usize = 65_536;
/// Most messages remembered of one sender, so that none fills the window for all.
pub const SEEN_OF_SENDER_MAX: usize = 8_192;

/// Why a message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// It was taken before.
    #[error("the message `{0}` was received before")]
    Seen(MessageId),
    /// Too old to tell whether it was taken before.
    #[error("the message is of {sent_at}, older than is accepted")]
    TooOld {
        /// The sender's time.
        sent_at: Timestamp,
    },
    /// From the future.
    #[error("the message is of {sent_at}, which is not yet; check both clocks")]
    TooNew {
        /// The sender's time.
        sent_at: Timestamp,
    },
    /// Nothing more can be remembered, of this sender or of all.
    #[error("more messages were received than can be remembered; try again later")]
    Full,
}

/// One message that was taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The sender's time.
    #[serde(with = "wire_time")]
    pub sent_at: Timestamp,
    /// Who sent it.
    pub from: AgentId,
    /// Its name.
    pub message_id: MessageId,
}

/// The messages that were taken within a span of time. The time is an argument.
#[derive(Debug)]
pub struct ReplayWindow {
    past: Duration,
    ahead: Duration,
    by_time: BTreeSet<Seen>,
    by_sender: BTreeMap<AgentId, BTreeSet<MessageId>>,
    /// Nothing sent before this is taken: some of it was forgotten.
    forgotten: Timestamp,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new(PAST, AHEAD)
    }
}

impl ReplayWindow {
    /// A window that takes messages sent up to `past` ago, by clocks up to `ahead` of ours.
    pub fn new(past: Duration, ahead: Duration) -> Self {
        Self {
            past,
            ahead,
            by_time: BTreeSet::new(),
            by_sender: BTreeMap::new(),
            forgotten: Timestamp::EPOCH,
        }
    }

    /// Takes a message that was opened, once. What is refused changes nothing.
    pub fn admit(&mut self, seen: &Seen, now: Timestamp) -> Result<(), ReplayError> {
        self.check(seen, now)?;
        self.remember(seen);
        Ok(())
    }

    /// Whether a message would be taken, for those who must keep it before they may remember it.
    pub fn check(&mut self, seen: &Seen, now: Timestamp) -> Result<(), ReplayError> {
        self.forget(now);
        let sent_at = seen.sent_at;
        if sent_at < now.minus(self.past) || sent_at < self.forgotten {
            return Err(ReplayError::TooOld { sent_at });
        }
        if sent_at > now.plus(self.ahead) {
            return Err(ReplayError::TooNew { sent_at });
        }
        let of_sender = self.by_sender.get(&seen.from);
        if of_sender.is_some_and(|ids| ids.contains(&seen.message_id)) {
            return Err(ReplayError::Seen(seen.message_id.clone()));
        }
        let of_sender = of_sender.map_or(0, BTreeSet::len);
        if self.by_time.len() >= SEEN_MAX || of_sender >= SEEN_OF_SENDER_MAX {
            return Err(ReplayError::Full);
        }
        Ok(())
    }

    /// Whether a message by this name of this sender was taken.
    pub fn knows(&self, from: &AgentId, message_id: &MessageId) -> bool {
        let ids = self.by_sender.get(from);
        ids.is_some_and(|ids| ids.contains(message_id))
    }

    /// What is remembered, the oldest first: with [`restore`](Self::restore), the window after a restart.
    pub fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.by_time.iter()
    }

    /// A window that remembers `seen`, as far as it still matters at `now`.
    #[must_use]
    pub fn restore(mut self, seen: impl IntoIterator<Item = Seen>, now: Timestamp) -> Self {
        let oldest = now.minus(self.past);
        for seen in seen {
            if seen.sent_at < oldest {
                self.forgotten = self.forgotten.max(oldest);
            } else {
                // Not `admit`: the clock may have been set back since, and what was taken stays taken.
                self.remember(&seen);
            }
        }
        self
    }

    fn remember(&mut self, seen: &Seen) {
        let ids = self.by_sender.entry(seen.from.clone()).or_default();
        if ids.insert(seen.message_id.clone()) {
            self.by_time.insert(seen.clone());
        }
    }

    fn forget(&mut self, now: Timestamp) {
        let oldest = now.minus(self.past);
        while let Some(first) = self.by_time.first().filter(|seen| seen.sent_at < oldest) {
            self.forgotten = self.forgotten.max(oldest);
            if let Some(ids) = self.by_sender.get_mut(&first.from) {
                ids.remove(&first.message_id);
                if ids.is_empty() {
                    self.by_sender.remove(&first.from);
                }
            }
            self.by_time.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(NOW + secs)
    }

    fn message(from: &str, n: usize, sent: i64) -> Seen {
        Seen {
            sent_at: at(sent),
            from: from.parse().unwrap(),
            message_id: format!("{n:032x}").parse().unwrap(),
        }
    }

    fn window() -> ReplayWindow {
        ReplayWindow::new(Duration::from_secs(100), Duration::from_secs(10))
    }

    #[test]
    fn takes_a_message_once_within_its_window() {
        let mut window = window();
        let first = message("a", 1, 0);
        assert_eq!(window.admit(&first, at(0)), Ok(()));
        let again = Err(ReplayError::Seen(first.message_id.clone()));
        assert_eq!(window.admit(&first, at(100)), again);
        let later = message("a", 1, 50);
        assert_eq!(window.admit(&later, at(50)), again, "under another time");
        assert_eq!(
            window.admit(&message("b", 1, 0), at(0)),
            Ok(()),
            "of another"
        );
        assert!(matches!(
            window.admit(&first, at(101)),
            Err(ReplayError::TooOld { .. })
        ));
        assert_eq!(window.admit(&message("a", 2, 10), at(0)), Ok(()));
        let early = window.admit(&message("a", 3, 11), at(0));
        assert!(matches!(early, Err(ReplayError::TooNew { .. })));
    }

    #[test]
    fn what_was_forgotten_does_not_come_back_with_the_clock() {
        let mut window = window();
        window.admit(&message("a", 1, 0), at(0)).unwrap();
        window.admit(&message("a", 2, 500), at(500)).unwrap();
        let replayed = window.admit(&message("a", 1, 0), at(0));
        assert!(matches!(replayed, Err(ReplayError::TooOld { .. })));
    }

    #[test]
    fn one_sender_fills_no_more_than_its_share() {
        let mut window = window();
        for n in 0..SEEN_OF_SENDER_MAX {
            window.admit(&message("a", n, 0), at(0)).unwrap();
        }
        let more = message("a", SEEN_OF_SENDER_MAX, 0);
        assert_eq!(window.admit(&more, at(0)), Err(ReplayError::Full));
        assert_eq!(window.admit(&message("b", 0, 0), at(0)), Ok(()));
        assert_eq!(window.admit(&message("a", 0, 101), at(101)), Ok(()));
        assert_eq!(window.seen().count(), 1);
        assert_eq!(window.by_sender.len(), 1);
    }

    #[test]
    fn survives_a_restart() {
        let mut before = window();
        for (n, sent) in [(1, -90), (2, 0)] {
            before.admit(&message("a", n, sent), at(0)).unwrap();
        }
        let mut after = window().restore(before.seen().cloned(), at(20));
        let again = after.admit(&message("a", 2, 0), at(20));
        assert!(matches!(again, Err(ReplayError::Seen(_))));
        let old = after.admit(&message("a", 1, -90), at(0));
        assert!(matches!(old, Err(ReplayError::TooOld { .. })));
        // One that no longer matters hides none of the same name that does.
        let both = [message("a", 3, -90), message("a", 3, 10)];
        let mut after = window().restore(both, at(20));
        let again = after.admit(&message("a", 3, 10), at(20));
        assert!(matches!(again, Err(ReplayError::Seen(_))));
    }

    proptest! {
        #[test]
        fn no_message_is_ever_taken_twice(
            tries in prop::collection::vec((0..4_usize, -150..150_i64, -150..150_i64), 1..60),
        ) {
            let mut window = window();
            let mut taken = std::collections::HashSet::new();
            for (n, sent, now) in tries {
                // The sender's signature covers the time, so one message has one.
                let seen = message("a", n * 1_000 + usize::try_from(sent + 150).unwrap(), sent);
                if window.admit(&seen, at(now)).is_ok() {
                    prop_assert!(taken.insert(seen.message_id));
                }
            }
        }
    }
}
