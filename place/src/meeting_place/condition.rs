//! What a deposit is to replace, and which bytes were replaced.
//!
//! A copy of a request that comes late must not bring old bytes back. Whoever says what their deposit is to replace is
//! safe for good: once something else is there, the copy is refused. For those who say nothing the Place remembers which
//! bytes were replaced for as long as a session lasts, since no copy of a request is let in without one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;

/// Most replaced contents that are remembered; those that were replaced first are forgotten.
const REPLACED_MAX: usize = 50_000;

/// What must be there for a deposit to be taken, replaced or withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Whatever is there: the newest request wins.
    #[default]
    Any,
    /// Nothing was said. As [`Any`](Self::Any), but bytes that were replaced of late do not come back.
    Unsaid,
    /// Nothing.
    Nothing,
    /// Something.
    Something,
    /// These bytes.
    Is(ContentHash),
}

impl Condition {
    /// Whether it holds where `there` is.
    pub fn holds(self, there: Option<ContentHash>) -> bool {
        match self {
            Self::Any | Self::Unsaid => true,
            Self::Nothing => there.is_none(),
            Self::Something => there.is_some(),
            Self::Is(wanted) => there == Some(wanted),
        }
    }
}

/// Which bytes were replaced, and when.
#[derive(Debug)]
pub(super) struct Replacements<K> {
    /// For how long they are remembered.
    window: Duration,
    since: HashMap<(K, ContentHash), Timestamp>,
    /// Each replacement, in the order in which they happened.
    log: VecDeque<(Timestamp, K, ContentHash)>,
}

impl<K: Clone + Eq + Hash> Replacements<K> {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            since: HashMap::new(),
            log: VecDeque::new(),
        }
    }

    /// Notes that `now_there` took the place of `before`.
    pub(super) fn note(
        &mut self,
        key: &K,
        before: ContentHash,
        now_there: ContentHash,
        now: Timestamp,
    ) {
        self.forget(now);
        self.since.remove(&(key.clone(), now_there));
        if before == now_there {
            return;
        }
        self.since.insert((key.clone(), before), now);
        self.log.push_back((now, key.clone(), before));
        if self.log.len() > REPLACED_MAX {
            self.drop_first();
        }
    }

    /// When these bytes were replaced, if that was of late.
    pub(super) fn when(&self, key: &K, content: ContentHash, now: Timestamp) -> Option<Timestamp> {
        let at = *self.since.get(&(key.clone(), content))?;
        (now.since(at) < self.window).then_some(at)
    }

    /// Forgets what was replaced too long ago.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while self
            .log
            .front()
            .is_some_and(|(at, ..)| now.since(*at) >= self.window)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((at, key, content)) = self.log.pop_front() else {
            return;
        };
        // The same bytes may have been there again and been replaced again.
        let entry = (key, content);
        if self.since.get(&entry) == Some(&at) {
            self.since.remove(&entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    #[test]
    fn what_was_replaced_is_known_for_a_while_and_what_is_there_is_not_old() {
        let mut replaced = Replacements::new(Duration::from_secs(60));
        let (a, b) = (ContentHash::of("a"), ContentHash::of("b"));
        replaced.note(&1, a, b, at(0));
        assert_eq!(replaced.when(&1, a, at(59)), Some(at(0)));
        assert_eq!(replaced.when(&2, a, at(0)), None);
        assert_eq!(replaced.when(&1, a, at(60)), None);
        // Back on purpose, and replaced once more.
        replaced.note(&1, b, a, at(10));
        assert_eq!(replaced.when(&1, a, at(10)), None);
        assert_eq!(replaced.when(&1, b, at(10)), Some(at(10)));
        replaced.note(&1, a, b, at(20));
        replaced.forget(at(65));
        assert_eq!(replaced.when(&1, a, at(65)), Some(at(20)));
        replaced.forget(at(200));
        assert!(replaced.since.is_empty() && replaced.log.is_empty());
    }

    #[test]
    fn no_more_is_remembered_than_fits() {
        let mut replaced = Replacements::new(Duration::from_secs(60));
        for n in 0..REPLACED_MAX + 10 {
            let before = ContentHash::of(n.to_string());
            replaced.note(&0, before, ContentHash::of("new"), at(0));
        }
        assert_eq!(replaced.since.len(), REPLACED_MAX);
        assert_eq!(replaced.when(&0, ContentHash::of("9"), at(0)), None);
        assert!(replaced.when(&0, ContentHash::of("10"), at(0)).is_some());
    }

    #[test]
    fn a_condition_is_about_what_is_there() {
        let (a, b) = (ContentHash::of("a"), ContentHash::of("b"));
        let all = [
            Condition::Any,
            Condition::Unsaid,
            Condition::Nothing,
            Condition::Something,
            Condition::Is(a),
        ];
        let holding = |there| all.map(|condition| condition.holds(there));
        assert_eq!(holding(None), [true, true, true, false, false]);
        assert_eq!(holding(Some(a)), [true, true, false, true, true]);
        assert_eq!(holding(Some(b)), [true, true, false, true, false]);
    }
}
