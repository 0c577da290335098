//! The anchor actor: the node's one client of HestiaChain.
//!
//! Owns: the anchors and the batch that waits, see [`store`]. Talks to: nobody. Asked by: the command line and the
//! recorder, through [`AnchorHandle`].
//! Invariants: an anchor that was acknowledged is on disk, at every stage and also while it waits for a batch; an anchor
//! is never changed or removed; a migration copies and compares, and a dry run writes nothing.

pub mod backend;
pub mod migrate;
pub mod reply;
pub mod store;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{
    Actor, ActorContext as _, AsyncContext as _, AtomicResponse, Context, Handler, Message,
    ResponseFuture, WrapFuture as _,
};
use kairos_protocol::anchor::Anchor;
use kairos_protocol::anchor::meeting::MeetingStats;
use kairos_protocol::anchor::stage::{Stage, StageError};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::{Clock, Timestamp};
use thiserror::Error;
use tokio::task::spawn_blocking;

use crate::bounded_addr::{AskError, Asks, BoundedAddr, Health};
use migrate::{DryRun, Migrated};
use reply::{Flushed, Overview, Submitted};
use store::{AnchorStore, Files, StoreError};

/// Most anchors in a list.
pub const LIST_MAX: usize = 10_000;
/// One part in so many of all anchors is left to the owner by what is anchored without asking.
const OWNERS_PART: usize = 4;
/// How often a waiting batch is looked at.
const TICK: Duration = Duration::from_secs(30);

/// When a batch becomes anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// After this time.
    pub interval: Duration,
    /// With so many.
    pub max: usize,
}

/// What the actor is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorPolicy {
    /// Whether anything is anchored.
    pub enabled: bool,
    /// Where: [`Stage::InMemory`] or [`Stage::Private`].
    pub stage: Stage,
    /// The reference's file, for the private stage.
    pub file: PathBuf,
    /// The journal of the stage before. The reference keeps that stage in memory, and loses it with every process.
    pub unfiled: PathBuf,
    /// Most anchors.
    pub max_anchors: usize,
    /// Whether anchors may wait for others.
    pub batching: Option<Batching>,
}

impl AnchorPolicy {
    fn files(&self, stage: Stage) -> Files {
        match stage {
            Stage::InMemory => Files::Journal(self.unfiled.clone()),
            _ => Files::Json(self.file.clone()),
        }
    }
}

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum AnchorError {
    /// The files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stage that was asked for.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The work panicked.
    #[error("the anchors' part of the node ended unexpectedly")]
    Crashed,
    /// The actor did not answer.
    #[error("the anchors' part of the node {0}")]
    Ask(#[from] AskError),
}

#[derive(Message)]
#[rtype(result = "Result<Submitted, AnchorError>")]
struct Submit {
    anchor: Anchor,
    batched: bool,
}

#[derive(Message)]
#[rtype(result = "Result<Kept, AnchorError>")]
struct SubmitAll(Vec<Anchor>);

/// What became of many anchors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Now on disk.
    pub kept: u64,
    /// There already.
    pub known: u64,
    /// Refused for want of room.
    pub full: u64,
}

#[derive(Message)]
#[rtype(result = "Result<Flushed, AnchorError>")]
struct Flush;

#[derive(Message)]
#[rtype(result = "Result<Option<Anchor>, AnchorError>")]
struct Get(ContentHash);

/// Asks for anchors, the newest first by what they say of their time.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Anchor>, AnchorError>")]
pub struct List {
    /// At most so many, and [`LIST_MAX`].
    pub limit: usize,
    /// Only of this type.
    pub anchor_type: Option<String>,
    /// Only those whose time is not before this, compared as texts.
    pub since: Option<String>,
}

#[derive(Message)]
#[rtype(result = "Result<Overview, AnchorError>")]
struct Look;

#[derive(Message)]
#[rtype(result = "Result<MeetingStats, AnchorError>")]
struct Meetings;

#[derive(Message)]
#[rtype(result = "Result<Migrated, AnchorError>")]
struct Migrate(i64);

#[derive(Message)]
#[rtype(result = "Result<DryRun, AnchorError>")]
struct Rehearse(i64);

#[derive(Message)]
#[rtype(result = "()")]
struct Tick;

#[derive(Message)]
#[rtype(result = "Result<(), AnchorError>")]
struct Shutdown;

/// The way to the anchor actor. Cheap to clone.
#[derive(Clone)]
pub struct AnchorHandle(BoundedAddr<AnchorActor>);

impl AnchorHandle {
    /// Keeps `anchor`. With `batched`, and where batches are made, it waits for others first.
    pub async fn submit(&self, anchor: Anchor, batched: bool) -> Result<Submitted, AnchorError> {
        self.0.ask(Submit { anchor, batched }).await?
    }

    /// Keeps what the node anchors by itself, with one write, as far as there is room: the last quarter is the owner's.
    /// Does nothing where nothing is anchored.
    pub async fn submit_all(&self, anchors: Vec<Anchor>) -> Result<Kept, AnchorError> {
        self.0.ask(SubmitAll(anchors)).await?
    }

    /// Makes anchors of all that wait.
    pub async fn flush(&self) -> Result<Flushed, AnchorError> {
        self.0.ask(Flush).await?
    }

    /// The anchor with this hash.
    pub async fn get(&self, hash: ContentHash) -> Result<Option<Anchor>, AnchorError> {
        self.0.ask(Get(hash)).await?
    }

    /// See [`List`].
    pub async fn list(&self, list: List) -> Result<Vec<Anchor>, AnchorError> {
        self.0.ask(list).await?
    }

    /// What there is, and where.
    pub async fn overview(&self) -> Result<Overview, AnchorError> {
        self.0.ask(Look).await?
    }

    /// What the anchors of meetings add up to.
    pub async fn meetings(&self) -> Result<MeetingStats, AnchorError> {
        self.0.ask(Meetings).await?
    }

    /// Copies all anchors to the stage `target`. Settings are not changed: the owner does that afterwards.
    ///
    /// Fails with [`AnchorError::Stage`] where that stage cannot be reached from here.
    pub async fn migrate(&self, target: i64) -> Result<Migrated, AnchorError> {
        self.0.ask(Migrate(target)).await?
    }

    /// Tells what [`migrate`](Self::migrate) would do. Writes nothing.
    pub async fn rehearse(&self, target: i64) -> Result<DryRun, AnchorError> {
        self.0.ask(Rehearse(target)).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.0.asks()
    }

    /// Whether the actor answers.
    pub async fn health(&self) -> Result<(), AskError> {
        self.0.probe(Health).await
    }

    /// Writes the reference's file and ends the actor. What waits for a batch goes on waiting, on disk.
    pub async fn shutdown(&self) -> Result<(), AnchorError> {
        self.0.ask(Shutdown).await?
    }
}

struct Client {
    policy: AnchorPolicy,
    clock: Arc<dyn Clock>,
    /// Held on blocking threads only; other processes are kept out by file locks.
    store: Mutex<AnchorStore>,
}

/// See the module.
pub struct AnchorActor(Arc<Client>);

impl AnchorActor {
    /// Starts the actor. Touches nothing before the first ask.
    pub fn start(
        policy: AnchorPolicy,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> AnchorHandle {
        let store = Mutex::new(AnchorStore::new(policy.files(policy.stage)));
        let client = Arc::new(Client {
            policy,
            clock,
            store,
        });
        AnchorHandle(BoundedAddr::start(permits, patience, |_| Self(client)))
    }

    /// Runs `work` on a thread that may block, with what others wrote read and everyone else kept out.
    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Client, &mut AnchorStore, Timestamp) -> Result<T, AnchorError>
        + Send
        + 'static,
    ) -> ResponseFuture<Result<T, AnchorError>> {
        let client = Arc::clone(&self.0);
        let done = spawn_blocking(move || {
            let mut store = client.store.lock().unwrap_or_else(PoisonError::into_inner);
            let _locks = store.enter()?;
            let now = client.clock.now();
            client.flush_if_due(&mut store, now)?;
            work(&client, &mut store, now)
        });
        Box::pin(async move { done.await.unwrap_or(Err(AnchorError::Crashed)) })
    }
}

impl Client {
    fn flush_if_due(&self, store: &mut AnchorStore, now: Timestamp) -> Result<(), StoreError> {
        let Some(since) = store.queued_since() else {
            return Ok(());
        };
        // What still waits once batches are switched off waits for nothing.
        let interval = self.policy.batching.map_or(Duration::ZERO, |b| b.interval);
        if now.since(since) >= interval {
            store.flush(now)?;
        }
        Ok(())
    }

    fn submit(
        &self,
        store: &mut AnchorStore,
        ask: &Submit,
        now: Timestamp,
    ) -> Result<Submitted, AnchorError> {
        let hash = ask.anchor.hash();
        if !self.policy.enabled {
            return Ok(Submitted::disabled());
        }
        if store.get(&hash).is_some() || store.is_queued(&hash) {
            return Ok(Submitted::exists(hash));
        }
        if store.len() + store.queued() >= self.policy.max_anchors {
            return Ok(Submitted::full(hash, self.policy.max_anchors));
        }
        if let (true, Some(batching)) = (ask.batched, self.policy.batching) {
            store.enqueue(&ask.anchor, now)?;
            let position = store.queued();
            if position >= batching.max {
                store.flush(now)?;
            }
            store.fold_if_due(now)?;
            return Ok(Submitted::enqueued(hash, store.queued(), position));
        }
        store.submit(std::slice::from_ref(&ask.anchor), now)?;
        store.fold_if_due(now)?;
        Ok(Submitted::kept(hash, self.policy.stage, store.file()))
    }

    fn submit_all(
        &self,
        store: &mut AnchorStore,
        anchors: Vec<Anchor>,
        now: Timestamp,
    ) -> Result<Kept, AnchorError> {
        let mut done = Kept::default();
        if !self.policy.enabled {
            return Ok(done);
        }
        let most = self.policy.max_anchors;
        let room = (most - most / OWNERS_PART).saturating_sub(store.len() + store.queued());
        let (mut new, mut seen) = (Vec::new(), HashSet::new());
        for anchor in anchors {
            let hash = anchor.hash();
            if store.get(&hash).is_some() || store.is_queued(&hash) || !seen.insert(hash) {
                done.known += 1;
            } else if new.len() < room {
                done.kept += 1;
                new.push(anchor);
            } else {
                done.full += 1;
            }
        }
        store.submit(&new, now)?;
        store.fold_if_due(now)?;
        Ok(done)
    }

    fn migrate(
        &self,
        store: &AnchorStore,
        target: i64,
        now: Timestamp,
    ) -> Result<Migrated, AnchorError> {
        let from = self.policy.stage;
        let target = from.to(target)?;
        let anchors: Vec<_> = store.anchors().collect();
        let mut to = AnchorStore::new(self.policy.files(target));
        let _locks = to.enter()?;
        let clock = || self.clock.now();
        let migrated = migrate::copy((from, target), &anchors, &mut to, &clock)?;
        to.fold(now)?;
        Ok(migrated)
    }
}

fn list(store: &AnchorStore, ask: &List) -> Vec<Anchor> {
    let wanted = |anchor: &Anchor| {
        let kind = ask.anchor_type.as_deref();
        kind.is_none_or(|kind| anchor.anchor_type().as_str() == kind)
            && ask
                .since
                .as_deref()
                .is_none_or(|since| anchor.timestamp() >= since)
    };
    let mut anchors: Vec<_> = store.anchors().filter(wanted).collect();
    anchors.sort_by(|a, b| b.timestamp().cmp(a.timestamp()));
    anchors.truncate(ask.limit.min(LIST_MAX));
    anchors
}

impl Actor for AnchorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.0.policy.batching.is_some() {
            ctx.run_interval(TICK, |_, ctx| ctx.notify(Tick));
        }
    }
}

impl Handler<Submit> for AnchorActor {
    type Result = ResponseFuture<Result<Submitted, AnchorError>>;

    fn handle(&mut self, ask: Submit, _ctx: &mut Self::Context) -> Self::Result {
        self.work(move |client, store, now| client.submit(store, &ask, now))
    }
}

impl Handler<SubmitAll> for AnchorActor {
    type Result = ResponseFuture<Result<Kept, AnchorError>>;

    fn handle(&mut self, ask: SubmitAll, _ctx: &mut Self::Context) -> Self::Result {
        self.work(move |client, store, now| client.submit_all(store, ask.0, now))
    }
}

impl Handler<Flush> for AnchorActor {
    type Result = ResponseFuture<Result<Flushed, AnchorError>>;

    fn handle(&mut self, _: Flush, _ctx: &mut Self::Context) -> Self::Result {
        self.work(|client, store, now| {
            let hashes = store.flush(now)?;
            store.fold_if_due(now)?;
            Ok(Flushed::new(hashes, client.policy.stage, now))
        })
    }
}

impl Handler<Get> for AnchorActor {
    type Result = ResponseFuture<Result<Option<Anchor>, AnchorError>>;

    fn handle(&mut self, Get(hash): Get, _ctx: &mut Self::Context) -> Self::Result {
        self.work(move |_, store, _| Ok(store.get(&hash)))
    }
}

impl Handler<List> for AnchorActor {
    type Result = ResponseFuture<Result<Vec<Anchor>, AnchorError>>;

    fn handle(&mut self, ask: List, _ctx: &mut Self::Context) -> Self::Result {
        self.work(move |_, store, _| Ok(list(store, &ask)))
    }
}

impl Handler<Look> for AnchorActor {
    type Result = ResponseFuture<Result<Overview, AnchorError>>;

    fn handle(&mut self, _: Look, _ctx: &mut Self::Context) -> Self::Result {
        self.work(|client, store, _| Ok(Overview::of(&client.policy, store)))
    }
}

impl Handler<Meetings> for AnchorActor {
    type Result = ResponseFuture<Result<MeetingStats, AnchorError>>;

    fn handle(&mut self, _: Meetings, _ctx: &mut Self::Context) -> Self::Result {
        self.work(|_, store, _| {
            let anchors: Vec<_> = store.anchors().collect();
            Ok(MeetingStats::of(&anchors))
        })
    }
}

impl Handler<Migrate> for AnchorActor {
    type Result = ResponseFuture<Result<Migrated, AnchorError>>;

    fn handle(&mut self, Migrate(target): Migrate, _ctx: &mut Self::Context) -> Self::Result {
        self.work(move |client, store, now| client.migrate(store, target, now))
    }
}

impl Handler<Rehearse> for AnchorActor {
    type Result = ResponseFuture<Result<DryRun, AnchorError>>;

    fn handle(&mut self, Rehearse(target): Rehearse, _ctx: &mut Self::Context) -> Self::Result {
        let policy = self.0.policy.clone();
        // Without locks: each file is replaced whole or appended to, and nothing is to be written.
        let done = spawn_blocking(move || {
            let from = policy.stage;
            let target = from.to(target)?;
            let source = AnchorStore::look(policy.files(from))?;
            let there = AnchorStore::look(policy.files(target))?;
            let known = source.anchors().filter(|a| there.get(&a.hash()).is_some());
            let (total, already) = (source.len(), known.count());
            Ok(DryRun {
                status: "dry_run",
                source_backend: from.name(),
                destination_backend: target.name(),
                total_in_source: total,
                already_in_destination: already,
                would_migrate: total - already,
            })
        });
        Box::pin(async move { done.await.unwrap_or(Err(AnchorError::Crashed)) })
    }
}

impl Handler<Tick> for AnchorActor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        let looked = self.work(|_, store, now| Ok(store.fold_if_due(now)?));
        let told = async move {
            if let Err(error) = looked.await {
                tracing::error!(%error, "a batch of anchors still waits");
            }
        };
        ctx.spawn(told.into_actor(self));
    }
}

impl Handler<Health> for AnchorActor {
    type Result = ();

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) -> Self::Result {}
}

impl Handler<Shutdown> for AnchorActor {
    type Result = AtomicResponse<Self, Result<(), AnchorError>>;

    fn handle(&mut self, _: Shutdown, _ctx: &mut Self::Context) -> Self::Result {
        let client = Arc::clone(&self.0);
        let fold = async move {
            let folded = spawn_blocking(move || client.fold()).await;
            folded.unwrap_or(Err(AnchorError::Crashed))
        };
        AtomicResponse::new(Box::pin(actix::fut::ActorFutureExt::map(
            fold.into_actor(self),
            |folded, _, ctx: &mut Context<Self>| {
                ctx.stop();
                folded
            },
        )))
    }
}

impl Client {
    /// Folds the journal into the reference's file, if this process ever used the store.
    fn fold(&self) -> Result<(), AnchorError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if !store.was_used() {
            return Ok(());
        }
        let _locks = store.enter()?;
        Ok(store.fold(self.clock.now())?)
    }
}
