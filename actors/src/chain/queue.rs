//! Appends that wait, and which of them share the next commit.
//!
//! Pure: who is to be told of an outcome is a type parameter. While one batch is being written the next one
//! gathers, so under load many appends share one sync of the disk. The order of asking is the order of blocks.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use kairos_protocol::block::BlockRef;
use kairos_protocol::hash::ContentHash;
use thiserror::Error;
use uuid::Uuid;

/// Most blocks of one batch.
pub const BATCH_BLOCKS_MAX: usize = 1_024;
/// Most bytes of entries in one batch, unless a single block has more.
///
/// With [`ENTRY_BYTES_MAX`](kairos_protocol::block::ENTRY_BYTES_MAX), and every byte escaped, it stays below what a
/// store writes at once, so no append can make its neighbours too long.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many keys of finished appends are remembered.
pub const KEYS_MAX: usize = 4_096;
/// Most bytes of a key.
const KEY_BYTES_MAX: usize = 128;

/// Tells a retry from a second append of the same entries.
///
/// One to 128 bytes without control characters; a caller makes up a new one for each thing it records.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// Why a text is no [`IdempotencyKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a key has 1 to {KEY_BYTES_MAX} bytes and no control characters")]
pub struct KeyError;

impl FromStr for IdempotencyKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let plain = (1..=KEY_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
        plain.then(|| Self(text.to_owned())).ok_or(KeyError)
    }
}

impl IdempotencyKey {
    /// A key that nobody else uses.
    pub fn fresh() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// The key of part `part` of what `whole` names.
    pub fn part(whole: Uuid, part: usize) -> Self {
        Self(format!("{whole}-{part}"))
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key came with other entries before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reused;

/// One block to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) entries: Vec<String>,
    /// An earlier try of the same append, whose outcome is unknown, may have left its block behind this position.
    pub(super) tried_after: Option<u64>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done(BlockRef),
    /// Nothing was written.
    Failed,
    /// Something may have been written, behind this position.
    Unknown {
        after: u64,
    },
}

/// A key, and the hash of the entries it stands for.
type Keyed = (IdempotencyKey, ContentHash);

struct Waiting<T> {
    keyed: Option<Keyed>,
    job: Job,
    tellers: Vec<T>,
}

/// See the module.
pub(super) struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// What is being written: whom to tell of each job.
    writing: Vec<(Option<Keyed>, Vec<T>)>,
    recent: HashMap<IdempotencyKey, (ContentHash, Outcome)>,
    /// The keys of `recent`, the oldest first.
    order: VecDeque<IdempotencyKey>,
    /// Appends taken in, ever.
    asked: u64,
    /// Appends of those that ended, or were dropped.
    ended: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            writing: Vec::new(),
            recent: HashMap::new(),
            order: VecDeque::new(),
            asked: 0,
            ended: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Takes in an append. Gives `teller` back where there is nothing to wait for: its key has a block already, or
    /// came with other entries.
    pub(super) fn push(
        &mut self,
        entries: Vec<String>,
        key: Option<IdempotencyKey>,
        teller: T,
    ) -> Option<(T, Result<BlockRef, Reused>)> {
        let keyed = key.map(|key| (key, hash(&entries)));
        let mut tried_after = None;
        if let Some((key, hash)) = &keyed {
            match self.recent.get(key) {
                Some((other, _)) if other != hash => return Some((teller, Err(Reused))),
                Some((_, Outcome::Done(block))) => return Some((teller, Ok(*block))),
                Some((_, Outcome::Unknown { after })) => tried_after = Some(*after),
                Some((_, Outcome::Failed)) | None => {}
            }
            let waiting = self
                .waiting
                .iter_mut()
                .map(|waiting| (&waiting.keyed, &mut waiting.tellers));
            let writing = self.writing.iter_mut();
            let writing = writing.map(|(keyed, tellers)| (&*keyed, tellers));
            for (other, tellers) in waiting.chain(writing) {
                match other {
                    Some((same, same_hash)) if same == key && same_hash == hash => {
                        tellers.push(teller);
                        return None;
                    }
                    Some((same, _)) if same == key => return Some((teller, Err(Reused))),
                    _ => {}
                }
            }
        }
        self.asked += 1;
        self.waiting.push_back(Waiting {
            keyed,
            job: Job {
                entries,
                tried_after,
            },
            tellers: vec![teller],
        });
        None
    }

    /// The jobs to be written next: none while others are being written, or where nobody waits. An append whose
    /// tellers are all `gone` is dropped.
    pub(super) fn next_batch(&mut self, gone: impl Fn(&T) -> bool) -> Vec<Job> {
        let mut jobs = Vec::new();
        if !self.writing.is_empty() {
            return jobs;
        }
        let mut bytes = 0_usize;
        while let Some(waiting) = self.waiting.front() {
            if waiting.tellers.iter().all(&gone) {
                self.waiting.pop_front();
                self.ended += 1;
                continue;
            }
            bytes = waiting
                .job
                .entries
                .iter()
                .fold(bytes, |sum, entry| sum.saturating_add(entry.len()));
            let full = jobs.len() >= BATCH_BLOCKS_MAX || bytes > BATCH_BYTES_MAX;
            if full && !jobs.is_empty() {
                break;
            }
            if let Some(Waiting {
                keyed,
                job,
                tellers,
            }) = self.waiting.pop_front()
            {
                jobs.push(job);
                self.writing.push((keyed, tellers));
            }
        }
        jobs
    }

    /// Takes in how each job of the batch ended, by its position, and says whom to tell.
    pub(super) fn end_batch(&mut self, outcome: impl Fn(usize) -> Outcome) -> Vec<Vec<T>> {
        let written = std::mem::take(&mut self.writing);
        self.ended += written.len() as u64;
        let mut tell = Vec::with_capacity(written.len());
        for (at, (keyed, tellers)) in written.into_iter().enumerate() {
            if let Some((key, hash)) = keyed {
                self.remember(key, hash, outcome(at));
            }
            tell.push(tellers);
        }
        tell
    }

    /// How many appends were taken in. They end in this order, so all of them have once [`Self::ended`] says as much.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// How many appends have ended.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// Whether nothing waits and nothing is being written.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.writing.is_empty()
    }

    fn remember(&mut self, key: IdempotencyKey, hash: ContentHash, outcome: Outcome) {
        let outcome = match (self.recent.get(&key), outcome) {
            // What may have been written by an earlier try still may.
            (
                Some((_, earlier @ Outcome::Unknown { .. })),
                Outcome::Failed | Outcome::Unknown { .. },
            ) => *earlier,
            (_, outcome) => outcome,
        };
        if self.recent.insert(key.clone(), (hash, outcome)).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }
}

/// A hash over entries that tells `["ab"]` from `["a", "b"]`.
fn hash(entries: &[String]) -> ContentHash {
    let hashes: String = entries
        .iter()
        .map(|entry| ContentHash::of(entry).to_hex())
        .collect();
    ContentHash::of(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    fn key(text: &str) -> Option<IdempotencyKey> {
        Some(text.parse().unwrap())
    }

    fn block(index: u64) -> BlockRef {
        BlockRef {
            index,
            hash: ContentHash::of(index.to_string()),
        }
    }

    fn texts(jobs: &[Job]) -> Vec<&str> {
        jobs.iter().map(|job| job.entries[0].as_str()).collect()
    }

    fn all_there(_: &u32) -> bool {
        false
    }

    #[test]
    fn what_comes_while_a_batch_is_written_makes_the_next_one() {
        let mut queue = Queue::default();
        for n in 0..3 {
            assert_eq!(queue.push(text(&n.to_string()), None, n), None);
        }
        assert_eq!(texts(&queue.next_batch(all_there)), ["0", "1", "2"]);
        queue.push(text("3"), None, 3);
        assert_eq!(queue.next_batch(all_there), []);
        let done = [block(1), block(2), block(3)].map(Outcome::Done);
        assert_eq!(queue.end_batch(|at| done[at]), [[0], [1], [2]]);
        assert!(!queue.is_idle());
        assert_eq!(texts(&queue.next_batch(all_there)), ["3"]);
        assert_eq!(queue.end_batch(|_| Outcome::Failed), [[3]]);
        assert!(queue.is_idle());
    }

    #[test]
    fn a_batch_is_bounded_in_blocks_and_in_bytes() {
        let mut queue = Queue::default();
        for n in 0..=BATCH_BLOCKS_MAX as u32 {
            queue.push(text("x"), None, n);
        }
        assert_eq!(queue.next_batch(all_there).len(), BATCH_BLOCKS_MAX);
        queue.end_batch(|_| Outcome::Failed);
        assert_eq!(queue.next_batch(all_there).len(), 1);
        queue.end_batch(|_| Outcome::Failed);

        let long = "x".repeat(BATCH_BYTES_MAX);
        for (n, entry) in [long.as_str(), "a", "b", &long, "c"]
            .into_iter()
            .enumerate()
        {
            queue.push(text(entry), None, n as u32);
        }
        let lengths = |jobs: Vec<Job>| jobs.iter().map(|job| job.entries[0].len()).collect();
        let mut batches: Vec<Vec<usize>> = Vec::new();
        while !queue.is_idle() {
            batches.push(lengths(queue.next_batch(all_there)));
            queue.end_batch(|_| Outcome::Failed);
        }
        let long = long.len();
        assert_eq!(batches, [vec![long], vec![1, 1], vec![long], vec![1]]);
    }

    #[test]
    fn an_append_that_nobody_waits_for_any_more_is_not_begun() {
        let mut queue = Queue::default();
        for n in 0..4 {
            queue.push(text(&n.to_string()), None, n);
        }
        assert_eq!(texts(&queue.next_batch(|n| n % 2 == 0)), ["1", "3"]);
        assert_eq!(queue.end_batch(|_| Outcome::Failed), [[1], [3]]);
        queue.push(text("4"), None, 4);
        assert_eq!(queue.next_batch(|_| true), []);
        assert!(queue.is_idle());
    }

    #[test]
    fn a_retry_gets_the_block_of_the_first_try() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(text("x"), key("k"), 0), None);
        assert_eq!(queue.push(text("x"), key("k"), 1), None, "while it waits");
        assert_eq!(queue.next_batch(all_there).len(), 1);
        assert_eq!(
            queue.push(text("x"), key("k"), 2),
            None,
            "while it is written"
        );
        assert_eq!(queue.end_batch(|_| Outcome::Done(block(7))), [[0, 1, 2]]);
        assert_eq!(queue.push(text("x"), key("k"), 3), Some((3, Ok(block(7)))));
        assert!(queue.is_idle());
        assert_eq!(queue.push(text("x"), key("other"), 4), None);
        assert_eq!(
            queue.push(text("x"), None, 5),
            None,
            "without a key it is another block"
        );
        assert_eq!(queue.next_batch(all_there).len(), 2);
    }

    #[test]
    fn a_key_stands_for_one_list_of_entries() {
        let mut queue = Queue::default();
        queue.push(text("ab"), key("k"), 0);
        let other = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(queue.push(other(), key("k"), 1), Some((1, Err(Reused))));
        queue.next_batch(all_there);
        assert_eq!(queue.push(other(), key("k"), 2), Some((2, Err(Reused))));
        queue.end_batch(|_| Outcome::Done(block(1)));
        assert_eq!(queue.push(other(), key("k"), 3), Some((3, Err(Reused))));
    }

    #[test]
    fn a_retry_after_an_unknown_outcome_says_where_to_look() {
        let mut queue = Queue::default();
        let mut round = |outcome| {
            queue.push(text("x"), key("k"), 0);
            let tried_after = queue.next_batch(all_there)[0].tried_after;
            queue.end_batch(|_| outcome);
            tried_after
        };
        assert_eq!(round(Outcome::Failed), None);
        assert_eq!(round(Outcome::Unknown { after: 4 }), None);
        assert_eq!(round(Outcome::Unknown { after: 9 }), Some(4));
        assert_eq!(round(Outcome::Failed), Some(4));
        assert_eq!(round(Outcome::Done(block(5))), Some(4));
        assert_eq!(queue.push(text("x"), key("k"), 0), Some((0, Ok(block(5)))));
    }

    #[test]
    fn the_oldest_keys_are_forgotten() {
        let mut queue = Queue::default();
        for n in 0..=KEYS_MAX as u64 {
            queue.push(text("x"), key(&n.to_string()), 0);
            queue.next_batch(all_there);
            queue.end_batch(|_| Outcome::Done(block(n)));
        }
        assert_eq!(
            (queue.recent.len(), queue.order.len()),
            (KEYS_MAX, KEYS_MAX)
        );
        assert!(queue.push(text("x"), key("1"), 0).is_some());
        assert!(queue.push(text("x"), key("0"), 0).is_none());
    }

    #[test]
    fn a_key_is_short_and_plain() {
        for bad in ["", "a\nb", &"x".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!(bad.parse::<IdempotencyKey>(), Err(KeyError));
        }
        let key: IdempotencyKey = "a b".parse().unwrap();
        assert_eq!(key.to_string(), "a b");
    }
}
