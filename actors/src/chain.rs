//! The chain actor: the only writer of this node's hash chain.
//!
//! Owns: the [`BlockStore`] that keeps the blocks, which other processes may append to as well. Talks to: nobody.
//! Asked by: every actor that records something, and HTTP, MCP and CLI, through [`ChainHandle`].
//! Invariant: a block is acknowledged only after the store has made it durable, and appends of this node happen
//! one after the other, in the order of asking. Those that wait while others are written share the next commit.

mod commit;
pub mod queue;
pub mod store;
pub mod tlog;

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult,
    ResponseFuture, WrapFuture,
};
use kairos_protocol::block::{Block, BlockRef, EntriesError, check_entries};
use kairos_protocol::ledger::VerifyReport;
use kairos_protocol::time::Clock;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::bounded_addr::{AskError, BoundedAddr};
use commit::Committed;
use queue::{IdempotencyKey, Queue};
use store::file::Recovery;
use store::{BlockStore, StoreError};

/// Writes blocks and answers questions about them.
pub struct ChainActor {
    store: Arc<dyn BlockStore>,
    clock: Arc<dyn Clock>,
    queue: Queue<Teller>,
    health: ChainHealth,
    /// The position of the last block acknowledged.
    last: u64,
    /// Whether the store has something to do once there is time.
    unsettled: bool,
    /// Whom to tell once everything that waits is done, which ends the actor.
    stopping: Vec<oneshot::Sender<()>>,
}

/// How long after an append the store is asked to bring the ledger to rest: often enough for programs that know
/// nothing of its journal, seldom enough to cost writers nothing.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// Answers whoever asked for an append.
type Teller = oneshot::Sender<Result<BlockRef, ChainError>>;

/// How the chain actor is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainHealth {
    /// Blocks appended since the start.
    pub appended: u64,
    /// Appends that failed since the start.
    pub failed: u64,
}

/// Why the chain did not do what it was asked.
#[derive(Debug, Error)]
pub enum ChainError {
    /// The entries are none, too many or too long. Nothing was asked of the actor.
    #[error(transparent)]
    Entries(#[from] EntriesError),
    /// The key was used before, with other entries. Nothing was written.
    #[error("the idempotency key was used for other entries")]
    KeyReused,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The actor did not answer. After [`AskError::Timeout`] an append may or may not have happened.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The store panicked. An append may or may not have happened.
    #[error("the ledger's store ended unexpectedly")]
    Crashed,
}

#[derive(Message)]
#[rtype(result = "Result<BlockRef, ChainError>")]
struct Append {
    entries: Vec<String>,
    key: Option<IdempotencyKey>,
}

/// Has the actor write what waits, after it has taken in all that is in its mailbox.
#[derive(Message)]
#[rtype(result = "()")]
struct Commit;

#[derive(Message)]
#[rtype(result = "Result<Option<BlockRef>, ChainError>")]
struct Tip;

#[derive(Message)]
#[rtype(result = "Result<VerifyReport, ChainError>")]
struct Verify;

#[derive(Message)]
#[rtype(result = "Result<Vec<Block>, ChainError>")]
struct History(usize);

#[derive(Message)]
#[rtype(result = "Option<Recovery>")]
struct Recovered;

#[derive(Message)]
#[rtype(result = "Result<Vec<Block>, ChainError>")]
struct Blocks {
    first: u64,
    limit: usize,
}

#[derive(Message)]
#[rtype(result = "ChainHealth")]
struct Health;

#[derive(Message)]
#[rtype(result = "()")]
struct Shutdown;

/// The way to the chain actor.
#[derive(Debug, Clone)]
pub struct ChainHandle(BoundedAddr<ChainActor>);

impl ChainHandle {
    /// Records `entries` as one block and returns once it is durable.
    ///
    /// Appends of one caller keep their order. A caller that goes away does not take back a block that is being
    /// written; one that still waits is not written.
    pub async fn append(&self, entries: Vec<String>) -> Result<BlockRef, ChainError> {
        check_entries(&entries)?;
        self.0.ask(Append { entries, key: None }).await?
    }

    /// Records `entries` as one block, once for each `key`: asked again with the same key, it gives the block that
    /// there is, also when the outcome of the first try was unknown.
    ///
    /// Keys are remembered until the actor ends, the last [`queue::KEYS_MAX`] of them. A caller that must survive
    /// a restart looks into the ledger first. Fails with [`ChainError::KeyReused`] where `key` came with other
    /// entries before.
    pub async fn append_once(
        &self,
        key: IdempotencyKey,
        entries: Vec<String>,
    ) -> Result<BlockRef, ChainError> {
        check_entries(&entries)?;
        let key = Some(key);
        self.0.ask(Append { entries, key }).await?
    }

    /// The last block; nothing if there is no ledger yet.
    pub async fn tip(&self) -> Result<Option<BlockRef>, ChainError> {
        self.0.ask(Tip).await?
    }

    /// Checks the whole ledger. A bad one is a report, not an error.
    pub async fn verify(&self) -> Result<VerifyReport, ChainError> {
        self.0.ask(Verify).await?
    }

    /// The last `limit` blocks (at most [`store::HISTORY_MAX`]), newest first.
    pub async fn history(&self, limit: usize) -> Result<Vec<Block>, ChainError> {
        self.0.ask(History(limit)).await?
    }

    /// What had to be done about a crash since the start; nothing if there was none.
    pub async fn recovery(&self) -> Result<Option<Recovery>, ChainError> {
        Ok(self.0.ask(Recovered).await?)
    }

    /// Up to `limit` blocks (at most [`store::HISTORY_MAX`]) from position `first` on, oldest first; none behind the
    /// end. For reading all of a ledger page by page.
    pub async fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, ChainError> {
        self.0.ask(Blocks { first, limit }).await?
    }

    /// Whether the actor answers, and what it counted.
    pub async fn health(&self) -> Result<ChainHealth, AskError> {
        self.0.probe(Health).await
    }

    /// Ends the actor once all appends asked for before are done. Later ones are told [`AskError::Stopped`].
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.0.ask(Shutdown).await
    }
}

impl ChainActor {
    /// Starts the actor. At most `permits` asks are under way at a time, and each is waited for `patience` long,
    /// which should exceed the time that a check of the whole ledger takes.
    pub fn start(
        store: Arc<dyn BlockStore>,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> ChainHandle {
        ChainHandle(BoundedAddr::start(permits, patience, |_| Self {
            store,
            clock,
            queue: Queue::default(),
            health: ChainHealth::default(),
            last: 0,
            unsettled: false,
            stopping: Vec::new(),
        }))
    }

    /// Writes what waits, unless that is being done.
    fn commit(&mut self, ctx: &mut Context<Self>) {
        let jobs = self.queue.next_batch(oneshot::Sender::is_closed);
        if jobs.is_empty() {
            let stops = self.queue.is_idle() && !self.stopping.is_empty();
            if stops && self.unsettled {
                self.settle(ctx);
            } else if stops {
                ctx.stop();
                for tell in self.stopping.drain(..) {
                    // Whoever does not listen any more need not know.
                    let _gone = tell.send(());
                }
            }
            return;
        }
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        let work = spawn_blocking(move || commit::run(&*store, jobs, &*clock));
        let end = |done: Result<Committed, _>, this: &mut Self, ctx: &mut Context<Self>| {
            let committed = done.unwrap_or(Committed::Crashed);
            this.end(&committed);
            if !this.unsettled {
                this.unsettled = true;
                ctx.run_later(SETTLE_AFTER, |this, ctx| {
                    if this.unsettled {
                        this.settle(ctx);
                    }
                });
            }
            this.commit(ctx);
        };
        ctx.spawn(work.into_actor(self).map(end));
    }

    /// Lets the store do what is left to do.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        self.unsettled = false;
        let store = Arc::clone(&self.store);
        let end = |done: Result<(), ChainError>, this: &mut Self, ctx: &mut Context<Self>| {
            if let Err(error) = done {
                // Whoever uses the ledger next does it.
                tracing::warn!(%error, "the ledger was not brought to rest");
            }
            this.commit(ctx);
        };
        ctx.spawn(blocking(move || store.settle()).into_actor(self).map(end));
    }

    /// Tells each asker of the last batch what came of it.
    fn end(&mut self, committed: &Committed) {
        let after = self.last;
        let tell = self.queue.end_batch(|at| committed.outcome(at, after));
        for (at, tellers) in tell.into_iter().enumerate() {
            let answer = committed.answer(at);
            match &answer {
                Ok(block) => {
                    self.last = self.last.max(block.index);
                    self.health.appended += 1;
                }
                Err(_) => self.health.failed += 1,
            }
            for tell in tellers {
                // A caller that went away finds its block in the ledger.
                let _gone = tell.send(committed.answer(at));
            }
        }
    }

    /// Asks the store on a thread that may block.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn BlockStore) -> Result<T, StoreError> + Send + 'static,
    ) -> ResponseFuture<Result<T, ChainError>> {
        let store = Arc::clone(&self.store);
        Box::pin(blocking(move || read(&*store)))
    }
}

impl Actor for ChainActor {
    type Context = Context<Self>;
}

impl Handler<Append> for ChainActor {
    type Result = ResponseFuture<Result<BlockRef, ChainError>>;

    fn handle(&mut self, Append { entries, key }: Append, ctx: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        if self.stopping.is_empty() {
            match self.queue.push(entries, key, tell) {
                None => {
                    ctx.notify(Commit);
                }
                Some((tell, known)) => {
                    let _gone = tell.send(known.map_err(|_| ChainError::KeyReused));
                }
            }
        }
        // Dropped without an answer where the actor ends.
        Box::pin(async move { told.await.unwrap_or(Err(AskError::Stopped.into())) })
    }
}

impl Handler<Commit> for ChainActor {
    type Result = ();

    fn handle(&mut self, _: Commit, ctx: &mut Self::Context) {
        self.commit(ctx);
    }
}

impl Handler<Tip> for ChainActor {
    type Result = ResponseFuture<Result<Option<BlockRef>, ChainError>>;

    fn handle(&mut self, _: Tip, _ctx: &mut Self::Context) -> Self::Result {
        self.read(|store| store.tip())
    }
}

impl Handler<Verify> for ChainActor {
    type Result = ResponseFuture<Result<VerifyReport, ChainError>>;

    fn handle(&mut self, _: Verify, _ctx: &mut Self::Context) -> Self::Result {
        self.read(|store| store.verify())
    }
}

impl Handler<History> for ChainActor {
    type Result = ResponseFuture<Result<Vec<Block>, ChainError>>;

    fn handle(&mut self, History(limit): History, _ctx: &mut Self::Context) -> Self::Result {
        self.read(move |store| store.history(limit))
    }
}

impl Handler<Recovered> for ChainActor {
    type Result = MessageResult<Recovered>;

    fn handle(&mut self, _: Recovered, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.store.recovery())
    }
}

impl Handler<Blocks> for ChainActor {
    type Result = ResponseFuture<Result<Vec<Block>, ChainError>>;

    fn handle(
        &mut self,
        Blocks { first, limit }: Blocks,
        _ctx: &mut Self::Context,
    ) -> Self::Result {
        self.read(move |store| store.blocks(first, limit))
    }
}

impl Handler<Health> for ChainActor {
    type Result = MessageResult<Health>;

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.health)
    }
}

impl Handler<Shutdown> for ChainActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.stopping.push(tell);
        ctx.notify(Commit);
        Box::pin(async move {
            // Dropped only by an actor that ended some other way.
            let _ended = told.await;
        })
    }
}

/// Runs `work` where blocking is allowed. A panic in it becomes an error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ChainError> {
    match spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ChainError::Crashed),
    }
}

#[cfg(test)]
mod tests {
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
    struct Gated {
        inner: MemoryStore,
        begun: Sender<()>,
        go: Mutex<Receiver<()>>,
    }

    fn gated() -> (Gated, Receiver<()>, Sender<()>) {
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
    }

    impl BlockStore for Forgetful {
        fn append(
            &self,
            batch: Vec<Vec<String>>,
            clock: &dyn Clock,
        ) -> Result<Vec<BlockRef>, StoreError> {
            let done = self.inner.append(batch, clock);
            if self.tried.swap(true, std::sync::atomic::Ordering::SeqCst) {
                return done;
            }
            Err(StoreError::Unsettled(
                std::io::ErrorKind::StorageFull.into(),
            ))
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
            ChainError::Store(StoreError::Unsettled(_))
        ));
        let (other, again) = futures::join!(
            chain.append(entry("other")),
            chain.append_once(key(), entry("x"))
        );
        assert_eq!((other.unwrap().index, again.unwrap().index), (2, 1));
    }
}
