//! What the node acknowledged, and what came back of it.
//!
//! A message that was acknowledged must reach the application of its recipient exactly once. The relay may hand it out
//! again until it knows that the recipient has it; from then on never. A skill that was acknowledged must come back with
//! the bytes that were left. Where an answer is missing nobody knows what was done, and both is right.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kairos_protocol::hash::ContentHash;

/// Complaints of which the text is kept; the others are counted.
const KEPT: usize = 20;

/// What became of something that was sent or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The answer is on its way, or never comes.
    Unknown,
    /// The node answers for it.
    Acknowledged,
    /// The node did not take it.
    Refused,
}

#[derive(Debug)]
struct Letter {
    from: usize,
    to: usize,
    text: ContentHash,
    state: State,
    /// Whether the application of the recipient has it.
    taken: bool,
    /// Whether the relay answered that it knows that.
    settled: bool,
}

/// What a recipient does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Its application gets it.
    New,
    /// Its application has it already; the relay does not know that yet.
    Again,
}

/// How many messages there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) acknowledged: u64,
    pub(crate) taken: u64,
    pub(crate) unknown: u64,
    pub(crate) again: u64,
}

/// All messages of a run.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    all: Mutex<HashMap<String, Letter>>,
    again: Mutex<u64>,
}

impl Letters {
    /// Notes a message that is about to be sent.
    pub(crate) fn sending(&self, id: &str, from: usize, to: usize, text: &str) {
        let letter = Letter {
            from,
            to,
            text: ContentHash::of(text),
            state: State::Unknown,
            taken: false,
            settled: false,
        };
        lock(&self.all).insert(id.to_owned(), letter);
    }

    /// Notes what the relay answered.
    pub(crate) fn answered(&self, id: &str, state: State) {
        if let Some(letter) = lock(&self.all).get_mut(id) {
            letter.state = state;
        }
    }

    /// Notes a message that `to` opened. The error says what is wrong with it.
    pub(crate) fn take(
        &self,
        id: &str,
        from: usize,
        to: usize,
        text: &str,
    ) -> Result<Taken, String> {
        let mut all = lock(&self.all);
        let letter = all
            .get_mut(id)
            .ok_or_else(|| format!("message {id} was never sent"))?;
        if (letter.from, letter.to) != (from, to) {
            return Err(format!(
                "message {id} came from agent {from} to {to}, and was sent from {} to {}",
                letter.from, letter.to
            ));
        }
        if letter.text != ContentHash::of(text) {
            return Err(format!("message {id} came with another text"));
        }
        if letter.state == State::Refused {
            return Err(format!(
                "message {id} came although the relay had refused it"
            ));
        }
        if letter.settled {
            return Err(format!(
                "message {id} came again after its receipt was acknowledged"
            ));
        }
        if letter.taken {
            *lock(&self.again) += 1;
            return Ok(Taken::Again);
        }
        letter.taken = true;
        Ok(Taken::New)
    }

    /// Notes that the relay knows who has these messages.
    pub(crate) fn settle<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        let mut all = lock(&self.all);
        for id in ids {
            if let Some(letter) = all.get_mut(id) {
                letter.settled = true;
            }
        }
    }

    pub(crate) fn count(&self) -> Count {
        let mut count = Count {
            again: *lock(&self.again),
            ..Count::default()
        };
        for letter in lock(&self.all).values() {
            count.taken += u64::from(letter.taken);
            match letter.state {
                State::Acknowledged => count.acknowledged += 1,
                State::Unknown => count.unknown += 1,
                State::Refused => {}
            }
        }
        count
    }

    /// Messages that were acknowledged and that nobody got, by name.
    pub(crate) fn lost(&self) -> Vec<String> {
        let all = lock(&self.all);
        let lost = all
            .iter()
            .filter(|(_, letter)| letter.state == State::Acknowledged && !letter.taken);
        lost.map(|(id, letter)| {
            format!(
                "message {id} from agent {} to {} was acknowledged and never came",
                letter.from, letter.to
            )
        })
        .collect()
    }
}

/// One skill of one agent on the board, in all its versions.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Held while a new version is left: its owner leaves one at a time.
    pub(crate) owner: tokio::sync::Mutex<()>,
    versions: Mutex<Vec<(ContentHash, State)>>,
}

impl Slot {
    /// Notes a version that is about to be left, and returns its number.
    pub(crate) fn leaving(&self, hash: ContentHash) -> usize {
        let mut versions = lock(&self.versions);
        versions.push((hash, State::Unknown));
        versions.len() - 1
    }

    /// Notes what the Place answered.
    pub(crate) fn answered(&self, number: usize, state: State) {
        if let Some((_, known)) = lock(&self.versions).get_mut(number) {
            *known = state;
        }
    }

    /// The number of the newest version that was acknowledged.
    pub(crate) fn newest(&self) -> Option<usize> {
        lock(&self.versions)
            .iter()
            .rposition(|(_, state)| *state == State::Acknowledged)
    }

    /// Whether these may be the bytes of a look that began when version `since` was the newest acknowledged one.
    pub(crate) fn may_be(&self, hash: ContentHash, since: usize) -> bool {
        lock(&self.versions)
            .iter()
            .enumerate()
            .any(|(number, (known, state))| {
                let in_time = number >= since || *state == State::Unknown;
                *known == hash && *state != State::Refused && in_time
            })
    }
}

/// What should not have happened.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<(u64, Vec<String>)>);

impl Complaints {
    pub(crate) fn add(&self, text: String) {
        let mut held = lock(&self.0);
        held.0 += 1;
        if held.1.len() < KEPT {
            held.1.push(text);
        }
    }

    /// How many there were, and the first of them.
    pub(crate) fn all(&self) -> (u64, Vec<String>) {
        lock(&self.0).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_once_and_never_again_once_that_is_known() {
        let letters = Letters::default();
        letters.sending("a", 0, 1, "hello");
        // It may come before its sender hears that it was taken.
        assert_eq!(letters.take("a", 0, 1, "hello"), Ok(Taken::New));
        letters.answered("a", State::Acknowledged);
        assert_eq!(letters.take("a", 0, 1, "hello"), Ok(Taken::Again));
        letters.settle(["a"]);
        assert!(
            letters
                .take("a", 0, 1, "hello")
                .unwrap_err()
                .contains("came again")
        );
        let count = Count {
            acknowledged: 1,
            taken: 1,
            unknown: 0,
            again: 1,
        };
        assert_eq!((letters.count(), letters.lost().len()), (count, 0));
    }

    #[test]
    fn what_is_lost_altered_misdelivered_or_made_up_is_told() {
        let letters = Letters::default();
        for id in ["lost", "open", "refused", "changed"] {
            letters.sending(id, 0, 1, "hello");
        }
        letters.answered("lost", State::Acknowledged);
        letters.answered("refused", State::Refused);
        let wrong = |id: &str, to: usize, text: &str| letters.take(id, 0, to, text).unwrap_err();
        assert!(wrong("changed", 1, "hullo").contains("another text"));
        assert!(wrong("changed", 2, "hello").contains("was sent from 0 to 1"));
        assert!(wrong("refused", 1, "hello").contains("had refused"));
        assert!(wrong("made up", 1, "hello").contains("never sent"));
        let lost = letters.lost();
        assert!(
            lost.len() == 1 && lost[0].contains("message lost"),
            "{lost:?}"
        );
        assert_eq!(letters.count().unknown, 2);
    }

    #[test]
    fn a_skill_comes_back_as_it_was_acknowledged_or_newer() {
        let slot = Slot::default();
        let hashes = ["one", "two", "three", "four"].map(ContentHash::of);
        assert_eq!(slot.newest(), None);
        for (hash, state) in hashes.iter().zip([
            State::Acknowledged,
            State::Acknowledged,
            State::Refused,
            State::Unknown,
        ]) {
            let number = slot.leaving(*hash);
            slot.answered(number, state);
        }
        let since = slot.newest().unwrap();
        assert_eq!(since, 1);
        let may_be = hashes.map(|hash| slot.may_be(hash, since));
        assert_eq!(may_be, [false, true, false, true]);
        assert!(slot.may_be(hashes[0], 0));
        assert!(!slot.may_be(ContentHash::of("five"), 0));
    }

    #[test]
    fn complaints_are_all_counted_and_few_are_kept() {
        let complaints = Complaints::default();
        for n in 0..100 {
            complaints.add(n.to_string());
        }
        let (count, kept) = complaints.all();
        assert_eq!((count, kept.len()), (100, KEPT));
    }
}
