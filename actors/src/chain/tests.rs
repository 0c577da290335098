use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use futures::future::join_all;
use kairos_protocol::ledger::LoadState;

use super::*;
use store::conformance::clock;
use store::memory::MemoryStore;

const PATIENCE: Duration = Duration::from_secs(60);

fn start(store: impl BlockStore + 'static, permits: usize) -> ChainHandle {
    ChainActor::start(Arc::new(store), Arc::new(clock()), permits, PATIENCE)
}

fn entry(text: impl Into<String>) -> Vec<String> {
    vec![text.into()]
}

/// Tells when an append begins and lets it go on when told to, or panics if there is nobody to tell.
pub(crate) struct Gated {
    inner: MemoryStore,
    begun: Sender<()>,
    go: Mutex<Receiver<()>>,
}

pub(crate) fn gated() -> (Gated, Receiver<()>, Sender<()>) {
    let ((begun, has_begun), (go, may_go)) = (channel(), channel());
    let store = Gated {
        inner: MemoryStore::default(),
        begun,
        go: Mutex::new(may_go),
    };
    (store, has_begun, go)
}

impl BlockStore for Gated {
    fn append(
        &self,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
    ) -> Result<Vec<BlockRef>, StoreError> {
        self.begun.send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        self.inner.append(batch, clock)
    }
    fn tip(&self) -> Result<Option<BlockRef>, StoreError> {
        self.inner.tip()
    }
    fn verify(&self) -> Result<VerifyReport, StoreError> {
        self.inner.verify()
    }
    fn history(&self, limit: usize) -> Result<Vec<Block>, StoreError> {
        self.inner.history(limit)
    }
    fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, StoreError> {
        self.inner.blocks(first, limit)
    }
}

#[actix::test]
async fn appends_each_ask_as_its_own_block_in_the_order_of_asking() {
    let chain = start(MemoryStore::default(), 64);
    assert_eq!(chain.tip().await.unwrap(), None);
    let asks = (0..50).map(|n| chain.append(entry(n.to_string())));
    let refs: Vec<_> = join_all(asks)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let indices: Vec<_> = refs.iter().map(|block| block.index).collect();
    assert_eq!(indices, (1..=50).collect::<Vec<_>>());
    assert_eq!(chain.tip().await.unwrap(), refs.last().copied());

    let history = chain.history(3).await.unwrap();
    let newest: Vec<_> = history.iter().map(|b| b.data()[0].as_str()).collect();
    assert_eq!(newest, ["49", "48", "47"]);
    let report = chain.verify().await.unwrap();
    assert!(report.is_valid());
    assert_eq!(report.length, 51);
    let health = ChainHealth {
        appended: 50,
        failed: 0,
    };
    assert_eq!(chain.health().await, Ok(health));
}

#[actix::test]
async fn callers_beyond_the_permits_are_told_busy() {
    let (store, _begun, go) = gated();
    let chain = start(store, 2);
    let asks = join_all((0..5).map(|n| chain.append(entry(n.to_string()))));
    for _ in 0..2 {
        go.send(()).unwrap();
    }
    let answers = asks.await;
    let busy = answers
        .iter()
        .filter(|a| matches!(a, Err(ChainError::Ask(AskError::Busy))))
        .count();
    assert_eq!((answers.iter().filter(|a| a.is_ok()).count(), busy), (2, 3));
}

#[actix::test]
async fn entries_that_make_no_block_do_not_reach_the_actor() {
    let (store, begun, _go) = gated();
    let chain = start(store, 1);
    let error = chain.append(vec![]).await.unwrap_err();
    assert!(matches!(error, ChainError::Entries(EntriesError::None)));
    let long = "x".repeat(kairos_protocol::block::ENTRY_BYTES_MAX + 1);
    let error = chain.append(entry(long)).await.unwrap_err();
    assert!(matches!(
        error,
        ChainError::Entries(EntriesError::TooLong(_))
    ));
    assert!(begun.try_recv().is_err());
}

#[actix::test]
async fn a_ledger_that_does_not_load_is_reported_and_refused() {
    let chain = start(MemoryStore::holding(vec![]), 1);
    let error = chain.append(entry("x")).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot append: ledger is empty");
    let error = chain.tip().await.unwrap_err();
    assert_eq!(error.to_string(), "ledger is empty");
    assert_eq!(chain.verify().await.unwrap().state, LoadState::Empty);
    assert_eq!(chain.health().await.unwrap().failed, 1);
}

#[actix::test]
async fn a_store_that_panics_is_an_error_and_the_actor_lives_on() {
    let (store, begun, go) = gated();
    let chain = start(store, 1);
    drop(begun);
    let error = chain.append(entry("x")).await.unwrap_err();
    assert!(matches!(error, ChainError::Crashed));
    drop(go);
    assert_eq!(chain.tip().await.unwrap(), None);
    assert_eq!(chain.health().await.unwrap().failed, 1);
}

#[actix::test]
async fn shutdown_waits_for_the_append_under_way_and_ends_the_rest() {
    let (store, begun, go) = gated();
    let kept = store.inner.clone();
    let chain = start(store, 8);
    let append = actix_rt::spawn({
        let chain = chain.clone();
        async move { chain.append(entry("under way")).await }
    });
    spawn_blocking(move || begun.recv()).await.unwrap().unwrap();
    let (stopped, late, ()) =
        futures::join!(chain.shutdown(), chain.append(entry("too late")), async {
            go.send(()).unwrap()
        });
    assert_eq!(stopped, Ok(()));
    assert!(matches!(late, Err(ChainError::Ask(AskError::Stopped))));
    assert_eq!(append.await.unwrap().unwrap().index, 1);
    assert_eq!(chain.health().await, Err(AskError::Stopped));
    assert_eq!(kept.history(1).unwrap()[0].data(), ["under way"]);
}

#[actix::test]
async fn a_caller_that_goes_away_does_not_undo_a_block() {
    let (store, begun, go) = gated();
    let chain = start(store, 2);
    let caller = actix_rt::spawn({
        let chain = chain.clone();
        async move { chain.append(entry("under way")).await }
    });
    let _begun = spawn_blocking(move || begun.recv().map(|()| begun))
        .await
        .unwrap()
        .unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    go.send(()).unwrap();
    go.send(()).unwrap();
    // Begun after the first is done.
    assert_eq!(chain.append(entry("next")).await.unwrap().index, 2);
    assert_eq!(chain.health().await.unwrap().appended, 2);
}

#[actix::test]
async fn appends_that_wait_share_one_commit_and_each_has_its_own_block() {
    let (store, begun, go) = gated();
    let chain = start(store, 64);
    let first = actix_rt::spawn({
        let chain = chain.clone();
        async move { chain.append(entry("first")).await }
    });
    let begun = spawn_blocking(move || begun.recv().map(|()| begun))
        .await
        .unwrap()
        .unwrap();
    let asks = join_all((0..40).map(|n| chain.append(entry(n.to_string()))));
    let long = "x".repeat(kairos_protocol::block::ENTRY_BYTES_MAX + 1);
    let (refs, bad, ()) = futures::join!(asks, chain.append(entry(long)), async {
        go.send(()).unwrap();
        go.send(()).unwrap();
    });
    assert!(matches!(bad, Err(ChainError::Entries(_))));
    assert_eq!(first.await.unwrap().unwrap().index, 1);
    let indices: Vec<_> = refs.into_iter().map(|block| block.unwrap().index).collect();
    assert_eq!(indices, (2..=41).collect::<Vec<_>>());
    assert_eq!(
        begun.try_iter().count(),
        1,
        "one commit for all that waited"
    );
}

#[actix::test]
async fn each_asker_of_a_batch_is_told_why_it_failed() {
    let chain = start(MemoryStore::holding(vec![]), 8);
    for answer in join_all((0..8).map(|n| chain.append(entry(n.to_string())))).await {
        assert_eq!(
            answer.unwrap_err().to_string(),
            "cannot append: ledger is empty"
        );
    }
    assert_eq!(chain.health().await.unwrap().failed, 8);
}

#[actix::test]
async fn a_retry_with_the_same_key_is_no_second_block() {
    let chain = start(MemoryStore::default(), 8);
    let key = || "k".parse().unwrap();
    let asks = join_all((0..5).map(|_| chain.append_once(key(), entry("x"))));
    let mut refs: Vec<_> = asks.await.into_iter().map(Result::unwrap).collect();
    refs.push(chain.append_once(key(), entry("x")).await.unwrap());
    assert!(refs.iter().all(|block| block.index == 1));
    let other = chain.append_once(key(), entry("y")).await;
    assert!(matches!(other, Err(ChainError::KeyReused)));
    assert_eq!(chain.tip().await.unwrap().map(|tip| tip.index), Some(1));
}

/// Writes the first append and then does not know whether it did.
#[derive(Default)]
struct Forgetful {
    inner: MemoryStore,
    tried: std::sync::atomic::AtomicBool,
    /// What becomes of the first append.
    first: First,
}

#[derive(Default, Clone, Copy)]
enum First {
    #[default]
    Written,
    Lost,
    Panics,
}

impl BlockStore for Forgetful {
    fn append(
        &self,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
    ) -> Result<Vec<BlockRef>, StoreError> {
        if self.tried.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return self.inner.append(batch, clock);
        }
        let after = self.inner.tip()?.map_or(0, |tip| tip.index);
        match self.first {
            First::Written => self.inner.append(batch, clock).map(drop)?,
            First::Lost => {}
            First::Panics => panic!("as told"),
        }
        Err(StoreError::Unsettled {
            after,
            source: std::io::ErrorKind::StorageFull.into(),
        })
    }
    fn tip(&self) -> Result<Option<BlockRef>, StoreError> {
        self.inner.tip()
    }
    fn verify(&self) -> Result<VerifyReport, StoreError> {
        self.inner.verify()
    }
    fn history(&self, limit: usize) -> Result<Vec<Block>, StoreError> {
        self.inner.history(limit)
    }
    fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, StoreError> {
        self.inner.blocks(first, limit)
    }
}

#[actix::test]
async fn a_retry_after_an_unknown_outcome_finds_the_block_of_the_first_try() {
    let chain = start(Forgetful::default(), 8);
    let key = || "k".parse().unwrap();
    let unknown = chain.append_once(key(), entry("x")).await.unwrap_err();
    assert!(matches!(
        unknown,
        ChainError::Store(StoreError::Unsettled { .. })
    ));
    let (other, again) = futures::join!(
        chain.append(entry("other")),
        chain.append_once(key(), entry("x"))
    );
    assert_eq!((other.unwrap().index, again.unwrap().index), (2, 1));
}

#[actix::test]
async fn a_retry_never_takes_an_older_block_for_its_own() {
    for first in [First::Lost, First::Panics] {
        let store = Forgetful {
            first,
            ..Forgetful::default()
        };
        store.inner.append(vec![entry("x")], &clock()).unwrap();
        let chain = start(store, 8);
        let key = || "k".parse().unwrap();
        chain.append_once(key(), entry("x")).await.unwrap_err();
        let again = chain.append_once(key(), entry("x")).await.unwrap();
        assert_eq!(again.index, 2);
    }
}

#[actix::test]
async fn a_retry_finds_its_block_however_many_came_since() {
    let store = Arc::new(Forgetful::default());
    let chain = ChainActor::start(store.clone(), Arc::new(clock()), 8, PATIENCE);
    let key = || "k".parse().unwrap();
    chain.append_once(key(), entry("x")).await.unwrap_err();
    let more = vec![entry("more"); store::HISTORY_MAX + 1];
    store.inner.append(more, &clock()).unwrap();
    let again = chain.append_once(key(), entry("x")).await.unwrap();
    assert_eq!(again.index, 1);
}

/// Shorter than the gate of [`Gated`] is closed, and long enough to ask four times while it opens.
const IMPATIENCE: Duration = Duration::from_millis(500);

fn impatient(store: impl BlockStore + 'static) -> ChainHandle {
    ChainActor::start(Arc::new(store), Arc::new(clock()), 4, IMPATIENCE)
}

#[actix::test]
async fn who_looks_for_an_append_that_was_given_up_waits_for_it() {
    let (store, _begun, go) = gated();
    let chain = impatient(store);
    let unknown = chain.append(entry("late")).await.unwrap_err();
    assert!(unknown.may_be_recorded());
    let busy = chain.behind(None).await.unwrap_err();
    assert!(matches!(busy, ChainError::Ask(AskError::Timeout)), "{busy}");
    go.send(()).unwrap();
    let first = chain.behind(None).await.unwrap();
    let late = |block: &Block| (block.data() == ["late"]).then(|| block.index());
    assert_eq!(chain.find(first, late).await.unwrap(), Some(1));
    // With nothing under way there is nothing to wait for.
    let tip = chain.tip().await.unwrap();
    assert_eq!(chain.behind(tip).await.unwrap(), 2);
    let other = tip.map(|tip| BlockRef { index: 0, ..tip });
    assert_eq!(chain.behind(other).await.unwrap(), 0, "another ledger");
}

#[actix::test]
async fn a_record_that_takes_long_is_asked_for_again_and_written_once() {
    let (store, _begun, go) = gated();
    let chain = impatient(store);
    let late = async {
        let busy = chain.rest().await.unwrap_err();
        assert!(matches!(busy, ChainError::Ask(AskError::Timeout)), "{busy}");
        go.send(()).unwrap();
    };
    let record = chain.record(IdempotencyKey::fresh(), entry("late"));
    let (block, ()) = futures::join!(record, late);
    assert_eq!(block.unwrap().index, 1);
    assert_eq!(chain.history(9).await.unwrap().len(), 2);
}

#[actix::test]
async fn blocks_are_found_from_either_end_however_many_there_are() {
    let store = MemoryStore::default();
    let entries = |n: usize| entry((n % 1_500).to_string());
    store
        .append((1..2_500).map(entries).collect(), &clock())
        .unwrap();
    let chain = start(store, 4);
    let wanted = |block: &Block| (block.data() == ["900"]).then(|| block.index());
    assert_eq!(chain.find(0, wanted).await.unwrap(), Some(900));
    assert_eq!(chain.find(901, wanted).await.unwrap(), Some(2_400));
    assert_eq!(chain.find_last(wanted).await.unwrap(), Some(2_400));
    let mut seen = Vec::new();
    let all = |block: &Block| {
        seen.push(block.index());
        None::<()>
    };
    assert_eq!(chain.find_last(all).await.unwrap(), None);
    assert_eq!(seen, (0..2_500).rev().collect::<Vec<_>>());
    assert_eq!(
        start(MemoryStore::default(), 4)
            .find_last(wanted)
            .await
            .unwrap(),
        None
    );
}
