//! The state commit actor: what all layers held at a moment, as one hash in the ledger and as texts beside it.
//!
//! Owns: the snapshots and the texts they need. Talks to: the ledger. Asked by: HTTP, MCP and CLI, through
//! [`StateCommitHandle`].
//!
//! Nobody reports changes here, so none can be missed: what is pending is what differs from the last snapshot, and
//! the ledger's records since its commit say why. Files are the only memory; a restart loses nothing. The actor looks
//! by itself whenever the ledger has grown, and commits if the settings ask for it.
//! Invariant: a snapshot is there if and only if a block tells of it, also after a crash between the two.

mod error;
mod ledger;
mod objects;
mod pending;
mod restore;
mod scan;
mod snapshots;
mod store;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFuture, ActorFutureExt, AsyncContext, Context, Handler, Message,
    ResponseActFuture, ResponseFuture, WrapFuture,
};
use kairos_protocol::state::Trigger;
use kairos_protocol::time::Clock;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::bounded_addr::{AskError, Asks, BoundedAddr, Health, Shutdown};
use crate::chain::ChainHandle;
use crate::skills::SkillsHandle;
use ledger::{Asking, Ledger};
use store::StateStore;

pub use error::StateError;
pub use restore::{Restored, Step};
pub use store::Committed;
pub use view::{Comparison, History, Status, Summary, Thresholds};

/// How often a running node looks whether the ledger has grown.
const REVIEW_EVERY: Duration = Duration::from_secs(5);
/// Commits, restores and looks that may be asked for at once; they are done one after the other.
const WORKS: usize = 16;
/// Longest that one is waited for: it may copy and sync as much as all layers may hold.
const WORK_MAX: Duration = Duration::from_secs(20 * 60);
/// Most snapshots that one history tells of.
pub const HISTORY_MAX: usize = 1_000;

/// Commits the state of all layers.
pub struct StateCommitActor {
    store: Arc<StateStore>,
    chain: ChainHandle,
    skills: SkillsHandle,
    /// Held by whoever works, on its blocking thread, so that the actor answers meanwhile.
    turn: Arc<Mutex<()>>,
    /// The tip of the ledger at the last look.
    reviewed: Option<u64>,
    /// Whether a look that nobody asked for is under way.
    reviewing: bool,
}

/// Commits the state. Fails with [`StateError::NoChanges`] unless `force`.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Committed, StateError>")]
pub struct Commit {
    /// Why.
    pub reason: String,
    /// Also if nothing changed.
    pub force: bool,
}

/// How the state stands against the last snapshot.
#[derive(Debug, Message)]
#[rtype(result = "Result<Status, StateError>")]
struct GetStatus;

#[derive(Debug, Message)]
#[rtype(result = "Result<History, StateError>")]
struct GetHistory(usize);

#[derive(Debug, Message)]
#[rtype(result = "Result<Comparison, StateError>")]
struct Compare {
    before: Option<String>,
    after: Option<String>,
}

/// Brings all layers back to a snapshot, after committing what is there.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Restored, StateError>")]
pub struct Restore {
    /// `last`, the name of a file, or the start of a hash or of a time.
    pub snapshot: String,
    /// Only tell what would change.
    pub dry_run: bool,
}

#[derive(Debug, Message)]
#[rtype(result = "Result<Option<(Trigger, Committed)>, StateError>")]
struct Review {
    ends: bool,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Tick;

/// The way to the state commit actor. What may take long has permits and patience of its own.
#[derive(Debug, Clone)]
pub struct StateCommitHandle {
    short: BoundedAddr<StateCommitActor>,
    long: BoundedAddr<StateCommitActor>,
}

impl StateCommitHandle {
    /// See [`Commit`].
    pub async fn commit(&self, message: Commit) -> Result<Committed, StateError> {
        self.long.ask(message).await?
    }

    /// How the state stands against the last snapshot.
    pub async fn status(&self) -> Result<Status, StateError> {
        self.long.ask(GetStatus).await?
    }

    /// The newest `limit` snapshots, at most [`HISTORY_MAX`].
    pub async fn history(&self, limit: usize) -> Result<History, StateError> {
        self.long.ask(GetHistory(limit)).await?
    }

    /// Compares two snapshots; without `after` the state as it is, without `before` the last snapshot.
    pub async fn compare(
        &self,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<Comparison, StateError> {
        self.long.ask(Compare { before, after }).await?
    }

    /// See [`Restore`].
    pub async fn restore(&self, message: Restore) -> Result<Restored, StateError> {
        self.long.ask(message).await?
    }

    /// Commits if the ledger has grown since the last look and the settings ask for it; what was committed and why.
    pub async fn review(&self) -> Result<Option<(Trigger, Committed)>, StateError> {
        self.long.ask(Review { ends: false }).await?
    }

    /// Like [`review`](Self::review), at the end of a session, for which the settings may ask too.
    pub async fn end_session(&self) -> Result<Option<(Trigger, Committed)>, StateError> {
        self.long.ask(Review { ends: true }).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.short.asks()
    }

    /// The same for commits and restores, which wait for others.
    pub fn errand_asks(&self) -> &Arc<Asks> {
        self.long.asks()
    }

    /// Whether the actor answers.
    pub async fn health(&self) -> Result<(), AskError> {
        self.short.probe(Health).await
    }

    /// Ends the actor once the commit under way is done.
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.short.ask(Shutdown).await
    }
}

impl StateCommitActor {
    /// Starts the actor for the data directory `data`. What the ledger holds by now counts as looked at.
    pub async fn start(
        data: &Path,
        chain: ChainHandle,
        skills: SkillsHandle,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> StateCommitHandle {
        // A ledger that does not load is told by whoever wants to append to it.
        let tip = chain.tip().await.ok().flatten();
        let data = data.to_owned();
        let actor = Self {
            store: Arc::new(StateStore { data, clock }),
            chain,
            skills,
            turn: Arc::default(),
            reviewed: tip.map(|tip| tip.index),
            reviewing: false,
        };
        let addr = Self::create(|ctx| {
            ctx.set_mailbox_capacity(permits.saturating_add(WORKS));
            actor
        });
        StateCommitHandle {
            short: BoundedAddr::new(addr.clone(), permits, patience),
            long: BoundedAddr::new(addr, WORKS, WORK_MAX),
        }
    }

    /// Works with the store and the ledger on a thread that may block, once nobody else does. Goes on when whoever
    /// asked has given up.
    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StateStore, &dyn Ledger) -> Result<T, StateError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StateError>> + 'static {
        let store = Arc::clone(&self.store);
        let ledger = Asking {
            chain: self.chain.clone(),
            runtime: Handle::current(),
        };
        let turn = Arc::clone(&self.turn);
        async move {
            let turn = turn.lock_owned().await;
            let work = move || {
                let _turn = turn;
                work(&store, &ledger)
            };
            match spawn_blocking(work).await {
                Ok(done) => done,
                Err(panic) => Err(std::io::Error::other(panic).into()),
            }
        }
    }

    /// Looks at the state if the ledger has grown, or the session `ends`.
    fn review(
        &self,
        ends: bool,
    ) -> impl ActorFuture<Self, Output = Result<Option<(Trigger, Committed)>, StateError>> + 'static
    {
        let seen = self.reviewed;
        let review = self.work(move |store, ledger| {
            // A ledger that does not load is told by whoever wants something of it.
            let Ok(tip) = ledger.tip() else {
                return Ok((seen, None));
            };
            let tip = tip.map(|tip| tip.index);
            if tip == seen && !ends {
                return Ok((tip, None));
            }
            let done = store.review(ledger, ends)?;
            let tip = done.as_ref().map(|(_, commit)| commit.block.index).or(tip);
            Ok((tip, done))
        });
        review.into_actor(self).map(|done, this: &mut Self, _ctx| {
            let (tip, done) = done?;
            this.reviewed = tip;
            if let Some((trigger, commit)) = &done {
                tracing::info!(%trigger, snapshot = %commit.snapshot_ref, "the state was committed");
            }
            Ok(done)
        })
    }
}

impl Actor for StateCommitActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(REVIEW_EVERY, |_, ctx| ctx.notify(Tick));
    }
}

impl Handler<Commit> for StateCommitActor {
    type Result = ResponseFuture<Result<Committed, StateError>>;

    fn handle(&mut self, message: Commit, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(self.work(move |store, ledger| store.commit_now(ledger, &message)))
    }
}

impl Handler<GetStatus> for StateCommitActor {
    type Result = ResponseFuture<Result<Status, StateError>>;

    fn handle(&mut self, _: GetStatus, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(self.work(|store, ledger| store.status(ledger)))
    }
}

impl Handler<GetHistory> for StateCommitActor {
    type Result = ResponseFuture<Result<History, StateError>>;

    fn handle(&mut self, GetHistory(limit): GetHistory, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(self.work(move |store, ledger| store.history(ledger, limit)))
    }
}

impl Handler<Compare> for StateCommitActor {
    type Result = ResponseFuture<Result<Comparison, StateError>>;

    fn handle(&mut self, message: Compare, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(self.work(move |store, ledger| store.compare(ledger, &message)))
    }
}

impl Handler<Restore> for StateCommitActor {
    type Result = ResponseFuture<Result<Restored, StateError>>;

    fn handle(&mut self, message: Restore, _ctx: &mut Self::Context) -> Self::Result {
        let Restore { snapshot, dry_run } = message;
        let (skills, runtime) = (self.skills.clone(), Handle::current());
        Box::pin(self.work(move |store, ledger| {
            let may = |law| runtime.block_on(skills.may_become(law)).map(drop);
            store.restore(ledger, &snapshot, dry_run, &may)
        }))
    }
}

impl Handler<Review> for StateCommitActor {
    type Result = ResponseActFuture<Self, Result<Option<(Trigger, Committed)>, StateError>>;

    fn handle(&mut self, Review { ends }: Review, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(self.review(ends))
    }
}

impl Handler<Tick> for StateCommitActor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.reviewing, true) {
            return;
        }
        ctx.spawn(self.review(false).map(|done, this: &mut Self, _ctx| {
            this.reviewing = false;
            if let Err(error) = done {
                tracing::error!(%error, "the state was not committed");
            }
        }));
    }
}

impl Handler<Health> for StateCommitActor {
    type Result = ();

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) {}
}

impl Handler<Shutdown> for StateCommitActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Shutdown, _ctx: &mut Self::Context) -> Self::Result {
        let turn = Arc::clone(&self.turn).lock_owned();
        Box::pin(turn.into_actor(self).map(|_turn, _, ctx| ctx.stop()))
    }
}

#[cfg(test)]
mod tests;
