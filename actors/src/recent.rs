//! What is read from disk for many who ask: once for all who ask within a moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

/// How old an answer to the owner and to programs that act for the owner may be, where a look at the disk costs more
/// than the answer.
///
/// It concerns what other processes change: what this one changes shows at once. A command takes longer than this from
/// its change to its end, so whoever waits for the end sees the change.
pub const RECENT: Duration = Duration::from_millis(10);

/// A value that was read, and when.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    kept: ArcSwapOption<Kept<T>>,
    /// Held while one caller reads; the others find it read.
    reading: Mutex<()>,
}

#[derive(Debug)]
struct Kept<T> {
    value: Arc<T>,
    /// When reading it began: what changed later may be missing.
    read: Instant,
    /// Changes of this process before that.
    changes: u64,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self {
            kept: ArcSwapOption::empty(),
            reading: Mutex::default(),
        }
    }
}

impl<T: PartialEq> Recent<T> {
    /// What `read` gave at most `max_age` ago and after the last of so many `changes`, or gives now. As long as that is
    /// equal, it is the same `Arc`.
    ///
    /// `changes` counts the changes that this process made itself; whoever makes one counts it before telling of it.
    pub(crate) async fn get<E, F>(
        &self,
        max_age: Duration,
        changes: impl Fn() -> u64,
        read: impl FnOnce() -> F,
    ) -> Result<Arc<T>, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let asked = Instant::now();
        let since = asked.checked_sub(max_age).unwrap_or(asked);
        let known = || {
            let kept = self.kept.load();
            let kept = kept.as_ref()?;
            (kept.read >= since && kept.changes == changes()).then(|| Arc::clone(&kept.value))
        };
        if let Some(value) = known() {
            return Ok(value);
        }
        let _one_at_a_time = self.reading.lock().await;
        if let Some(value) = known() {
            return Ok(value);
        }
        let (begun, before) = (Instant::now(), changes());
        let value = read().await?;
        let old = self
            .kept
            .load()
            .as_ref()
            .map(|kept| Arc::clone(&kept.value));
        let value = match old.filter(|old| **old == value) {
            Some(same) => same,
            None => Arc::new(value),
        };
        self.kept.store(Some(Arc::new(Kept {
            value: Arc::clone(&value),
            read: begun,
            changes: before,
        })));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;

    /// Long enough for any machine.
    const AGE: Duration = Duration::from_secs(3600);

    struct Disk {
        recent: Recent<u32>,
        reads: Cell<u32>,
        changes: Cell<u64>,
    }

    impl Disk {
        fn new() -> Self {
            Self {
                recent: Recent::default(),
                reads: Cell::default(),
                changes: Cell::default(),
            }
        }

        async fn get(&self, max_age: Duration) -> u32 {
            let read = || async {
                tokio::task::yield_now().await;
                self.reads.set(self.reads.get() + 1);
                Ok::<_, Infallible>(self.reads.get())
            };
            let Ok(value) = self.recent.get(max_age, || self.changes.get(), read).await;
            *value
        }
    }

    #[tokio::test]
    async fn reads_again_once_it_is_too_old_or_something_changed() {
        let disk = Disk::new();
        assert_eq!(disk.get(AGE).await, 1);
        assert_eq!(disk.get(AGE).await, 1);
        assert_eq!(disk.get(Duration::ZERO).await, 2);
        assert_eq!(disk.get(AGE).await, 2);
        disk.changes.set(1);
        assert_eq!(disk.get(AGE).await, 3);
        assert_eq!(disk.get(AGE).await, 3);
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cause_one_look() {
        let disk = Disk::new();
        let all = futures::future::join_all((0..50).map(|_| disk.get(AGE))).await;
        assert!(all.iter().all(|value| *value == 1), "{all:?}");
    }

    #[tokio::test]
    async fn a_change_while_it_is_read_is_not_missed() {
        let disk = Disk::new();
        let change = async { disk.changes.set(1) };
        let (first, ()) = tokio::join!(disk.get(AGE), change);
        assert_eq!(first, 1);
        assert_eq!(disk.get(AGE).await, 2);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_read_again() {
        let recent = Recent::<u32>::default();
        let failed = recent.get(AGE, || 0, || async { Err("no disk") }).await;
        assert_eq!(failed, Err("no disk"));
        let read = recent.get(AGE, || 0, || async { Ok::<_, &str>(7) }).await;
        assert_eq!(read.as_deref(), Ok(&7));
    }
}
