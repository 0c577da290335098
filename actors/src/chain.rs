//! The chain actor: the only writer of this node's hash chain.
//!
//! Owns: the [`BlockStore`] that keeps the blocks, which other processes may append to as well. Talks to: nobody.
//! Asked by: every actor that records something, and HTTP, MCP and CLI, through [`ChainHandle`].
//! Invariant: a block is acknowledged only after the store has made it durable, and appends of this node happen
//! one after the other, in the order of asking. Those that wait while others are written share the next commit.

mod commit;
pub mod figures;
pub mod queue;
mod record;
pub mod store;
pub mod tlog;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

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

use crate::bounded_addr::{AskError, Asks, BoundedAddr};
use crate::recent::Recent;
use commit::{Committed, Committer};
use figures::Figures;
use queue::{IdempotencyKey, Job, Queue};
use store::file::Recovery;
use store::{BlockStore, StoreError};

/// Writes blocks and answers questions about them.
pub struct ChainActor {
    store: Arc<dyn BlockStore>,
    clock: Arc<dyn Clock>,
    queue: Queue<Teller>,
    /// Started with the first commit: most commands record nothing.
    committer: Option<Committer>,
    health: ChainHealth,
    figures: Figures,
    /// The position of the last block acknowledged.
    last: u64,
    /// The position of the last block before the first commit.
    begun: Arc<OnceLock<u64>>,
    /// Whether the store has something to do once there is time.
    unsettled: bool,
    /// Whom to tell once so many appends have ended, the fewest first.
    resting: VecDeque<(u64, oneshot::Sender<()>)>,
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

/// Waits for every append asked for before, whether anybody waits for it or not.
#[derive(Message)]
#[rtype(result = "()")]
struct Rest;

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
pub struct ChainHandle {
    addr: BoundedAddr<ChainActor>,
    figures: Figures,
    newest: Arc<Recent<Option<Block>>>,
}

impl ChainHandle {
    /// Records `entries` as one block and returns once it is durable.
    ///
    /// Appends of one caller keep their order. A caller that goes away does not take back what it asked for: the
    /// block may still be written. Where files must agree with the ledger, see [`ChainHandle::record`].
    pub async fn append(&self, entries: Vec<String>) -> Result<BlockRef, ChainError> {
        check_entries(&entries)?;
        self.ask_for(Append { entries, key: None }).await
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
        self.ask_for(Append { entries, key }).await
    }

    async fn ask_for(&self, append: Append) -> Result<BlockRef, ChainError> {
        let begun = Instant::now();
        let answer = self.addr.ask(append).await.map_err(ChainError::from);
        let answer = answer.flatten();
        self.figures.note(begun, &answer);
        answer
    }

    /// What was counted and timed since the start.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Waits until every append asked for before has ended one way or the other.
    pub(crate) async fn rest(&self) -> Result<(), ChainError> {
        Ok(self.addr.ask(Rest).await?)
    }

    /// The last block; nothing if there is no ledger yet.
    pub async fn tip(&self) -> Result<Option<BlockRef>, ChainError> {
        self.addr.ask(Tip).await?
    }

    /// The last block as it was at most `max_age` ago; nothing if there is no ledger yet.
    pub async fn newest(&self, max_age: Duration) -> Result<Arc<Option<Block>>, ChainError> {
        let read = || async { Ok(self.history(1).await?.pop()) };
        self.newest
            .get(max_age, || self.figures.appended.get(), read)
            .await
    }

    /// Checks the whole ledger. A bad one is a report, not an error.
    pub async fn verify(&self) -> Result<VerifyReport, ChainError> {
        self.addr.ask(Verify).await?
    }

    /// The last `limit` blocks (at most [`store::HISTORY_MAX`]), newest first.
    pub async fn history(&self, limit: usize) -> Result<Vec<Block>, ChainError> {
        self.addr.ask(History(limit)).await?
    }

    /// What had to be done about a crash since the start; nothing if there was none.
    pub async fn recovery(&self) -> Result<Option<Recovery>, ChainError> {
        Ok(self.addr.ask(Recovered).await?)
    }

    /// Up to `limit` blocks (at most [`store::HISTORY_MAX`]) from position `first` on, oldest first; none behind the
    /// end. For reading all of a ledger page by page.
    pub async fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, ChainError> {
        self.addr.ask(Blocks { first, limit }).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.addr.asks()
    }

    /// Whether the actor answers, and what it counted.
    pub async fn health(&self) -> Result<ChainHealth, AskError> {
        self.addr.probe(Health).await
    }

    /// Ends the actor once all appends asked for before are done. Later ones are told [`AskError::Stopped`].
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.addr.ask(Shutdown).await
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
        let figures = Figures::new(store.syncs());
        let counted = figures.clone();
        let addr = BoundedAddr::start(permits, patience, |_| Self {
            store,
            clock,
            queue: Queue::default(),
            committer: None,
            health: ChainHealth::default(),
            figures,
            last: 0,
            begun: Arc::default(),
            unsettled: false,
            resting: VecDeque::new(),
            stopping: Vec::new(),
        });
        ChainHandle {
            addr,
            figures: counted,
            newest: Arc::default(),
        }
    }

    /// Writes what waits, unless that is being done.
    fn commit(&mut self, ctx: &mut Context<Self>) {
        let jobs = self.queue.next_batch(oneshot::Sender::is_closed);
        self.tell_rested();
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
        let (asked, started) = (jobs.len(), Instant::now());
        let work = self.write(jobs);
        let end = move |committed: Committed, this: &mut Self, ctx: &mut Context<Self>| {
            this.figures.note_commit(started, asked, &committed);
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

    /// Has the thread that commits write `jobs`.
    fn write(&mut self, jobs: Vec<Job>) -> impl Future<Output = Committed> + use<> {
        let committer = match self.committer.take() {
            Some(committer) => Ok(committer),
            None => Committer::start(
                Arc::clone(&self.store),
                Arc::clone(&self.clock),
                Arc::clone(&self.begun),
            ),
        };
        let told = committer.map(|committer| self.committer.insert(committer).write(jobs));
        async move {
            match told {
                Ok(told) => told.await.unwrap_or(Committed::Crashed),
                Err(source) => Committed::Failed(StoreError::Io {
                    action: "start the thread that writes the ledger",
                    source,
                }),
            }
        }
    }

    /// Tells those who wait for appends that have ended by now.
    fn tell_rested(&mut self) {
        let ended = self.queue.ended();
        while let Some((_, tell)) = self.resting.pop_front_if(|(after, _)| *after <= ended) {
            let _gone = tell.send(());
        }
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
        let after = self.last.max(self.begun.get().copied().unwrap_or_default());
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

impl Handler<Rest> for ChainActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Rest, _ctx: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.resting.push_back((self.queue.asked(), tell));
        self.tell_rested();
        Box::pin(async move {
            // Dropped only where the actor ends, and then nothing can be read either.
            let _ended = told.await;
        })
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
pub(crate) mod tests;
