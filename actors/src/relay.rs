//! The relay actor: sealed messages that wait for agents of this Place.
//!
//! Owns: the boxes, the published prekeys and the audit, in `storage/place/relay.db`, and who waits for mail. Talks to:
//! nobody. Asked by: HTTP, through [`RelayHandle`].
//! Invariants: what is acknowledged is on disk, and changes happen in the order of asking. Those that wait while others
//! are written share the next transaction; when it fails none of them happened, and nothing is kept in memory that
//! could differ from the disk. Looks wait for no change.
//!
//! Whoever asks answers for who it is: that a message is from its sender, and that a box is asked for by its owner.

mod queue;
mod subscribers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult,
    ResponseFuture, WrapFuture,
};
use kairos_place::relay::audit::{AuditFilter, AuditPage, HourStats};
use kairos_place::relay::message::{MessageType, RelayId, Sealed};
use kairos_place::relay::prekey::{Prekey, Published, Taken};
use kairos_place::relay::store::sqlite::SqliteStore;
use kairos_place::relay::store::{Pending, RelayRead, RelayStore, StoreError, Tally, look};
use kairos_place::relay::{
    MessageId, Page, Refusal, Relay, RelayPolicy, Sent, Stats, Submission, Swept, Withholding,
};
use kairos_protocol::crypto::{KeyError, random_bytes};
use kairos_protocol::id::AgentId;
use kairos_protocol::time::{Clock, Timestamp};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::bounded_addr::{AskError, Asks, BlockingJobs, BoundedAddr, JobError};
use queue::{Asked, Queue, Turn, Work};
use subscribers::Subscribers;
pub use subscribers::Subscription;

/// Most of each kind that one step of a sweep removes, so that changes wait for it only briefly.
const SWEEP_STEP: usize = 500;
/// Most looks under way or waiting for one of the store's readers.
const LOOKS_MAX: usize = 256;

/// How the relay is run.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// The bounds of its rules.
    pub policy: RelayPolicy,
    /// How often what is over is removed.
    pub sweep: Duration,
    /// Most subscriptions at once.
    pub subscribers: usize,
    /// Most subscriptions to one box.
    pub subscribers_per_agent: usize,
    /// Knows whose mail is withheld; nobody's if there is none.
    pub withholding: Option<Arc<dyn Withholding>>,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            policy: RelayPolicy::default(),
            sweep: Duration::from_secs(30),
            subscribers: 10_000,
            subscribers_per_agent: 8,
            withholding: None,
        }
    }
}

/// Why the relay did not do what it was asked.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A rule says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store does. Nothing happened, save after [`StoreError::Unsettled`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// As many subscriptions as allowed are open.
    #[error("{limit} subscriptions are open, which is the limit")]
    Subscribers {
        /// The bound.
        limit: usize,
    },
    /// There was no randomness.
    #[error(transparent)]
    Random(#[from] KeyError),
    /// The actor did not answer. After [`AskError::Timeout`] a change may or may not have happened.
    #[error("the relay {0}")]
    Ask(#[from] AskError),
    /// The store panicked. A change may or may not have happened.
    #[error("the relay's store ended unexpectedly")]
    Crashed,
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The id its sender chose, which makes repeating it safe. One is made up if there is none.
    pub id: Option<RelayId>,
    /// Who sends it.
    pub from: AgentId,
    /// For whom it is.
    pub to: AgentId,
    /// Whether the recipient is registered at this Place.
    pub known: bool,
    /// What it is said to be.
    pub message_type: MessageType,
    /// What was sealed.
    pub sealed: Sealed,
}

/// How the relay is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayHealth {
    /// Transactions since the start.
    pub committed: u64,
    /// Transactions that failed since the start.
    pub failed: u64,
    /// Changes that wait.
    pub waiting: usize,
    /// Subscriptions.
    pub subscribers: usize,
}

/// The database of the relay in the data directory `data`, made if there is none. Blocks.
///
/// # Errors
///
/// Those of [`SqliteStore::open`].
pub fn open(data: &Path) -> Result<Arc<dyn RelayStore>, StoreError> {
    let path = data.join("storage").join("place").join("relay.db");
    Ok(Arc::new(SqliteStore::open(&path)?))
}

/// What the actor shares with its handles and with the threads that work for it.
struct Shared {
    relay: Relay,
    store: Arc<dyn RelayStore>,
    clock: Arc<dyn Clock>,
    subscribers: Arc<Subscribers>,
    looks: BlockingJobs,
}

/// See the module.
pub struct RelayActor {
    shared: Arc<Shared>,
    sweep: Duration,
    queue: Queue,
    sweeping: bool,
    health: RelayHealth,
    /// Whom to tell once everything that waits is done, which ends the actor.
    stopping: Vec<oneshot::Sender<()>>,
}

/// Makes a change, and is answered once that is durable.
struct Change<T> {
    bytes: usize,
    /// Gone once nobody waits any more.
    asker: Weak<()>,
    work: Work<T>,
}

impl<T: Send + 'static> Message for Change<T> {
    type Result = Result<T, RelayError>;
}

/// Has the actor write what waits, after it has taken in all that is in its mailbox.
#[derive(Message)]
#[rtype(result = "()")]
struct Commit;

/// Removes what is over.
#[derive(Message)]
#[rtype(result = "()")]
struct Sweep;

#[derive(Message)]
#[rtype(result = "RelayHealth")]
struct Health;

#[derive(Message)]
#[rtype(result = "()")]
struct Shutdown;

/// The way to the relay. Cheap to clone.
#[derive(Clone)]
pub struct RelayHandle {
    actor: BoundedAddr<RelayActor>,
    shared: Arc<Shared>,
}

impl RelayHandle {
    /// Puts a message into the box of its recipient. See [`Relay::send`].
    ///
    /// A caller that goes away does not take back a message that is being written; one that still waits is not.
    pub async fn send(&self, letter: Letter) -> Result<Sent, RelayError> {
        let id = match letter.id {
            Some(id) => MessageId::Given(id),
            None => {
                let mut random = [0; 8];
                random
                    .iter_mut()
                    .zip(random_bytes()?)
                    .for_each(|(to, from)| *to = from);
                MessageId::Random(random)
            }
        };
        let submission = Submission {
            id,
            from: letter.from,
            to: letter.to,
            known: letter.known,
            message_type: letter.message_type,
            sealed: letter.sealed,
        };
        let bytes = submission.sealed.text().len();
        let send = move |turn: &mut Turn<'_>| {
            let sent = turn.relay.send(turn.tx, &submission, turn.now)?;
            if !sent.repeated {
                turn.arrived.push((submission.to, sent.seq));
            }
            Ok(sent)
        };
        self.change(bytes, send).await
    }

    /// Part of a box, of which it removes nothing. See [`Relay::receive`].
    pub async fn receive(
        &self,
        agent: AgentId,
        after: u64,
        limit: usize,
    ) -> Result<Page, RelayError> {
        self.look(move |relay, read, now| relay.receive(read, &agent, after, limit, now))
            .await
    }

    /// The beginning of a box, which it removes: for clients that do not acknowledge. See
    /// [`Relay::receive_and_remove`].
    pub async fn receive_and_remove(
        &self,
        agent: AgentId,
        limit: usize,
    ) -> Result<Page, RelayError> {
        let receive = move |turn: &mut Turn<'_>| {
            let page = turn
                .relay
                .receive_and_remove(turn.tx, &agent, limit, turn.now)?;
            Ok(page)
        };
        self.change(0, receive).await
    }

    /// Removes messages that their recipient has. See [`Relay::ack`].
    pub async fn ack(&self, agent: AgentId, ids: Vec<RelayId>) -> Result<Vec<RelayId>, RelayError> {
        let ack = move |turn: &mut Turn<'_>| turn.relay.ack(turn.tx, &agent, ids, turn.now);
        self.change(0, ack).await
    }

    /// What waits in a box.
    pub async fn status(&self, agent: AgentId) -> Result<Pending, RelayError> {
        self.look(move |relay, read, now| relay.status(read, &agent, now))
            .await
    }

    /// What waits in all boxes.
    pub async fn stats(&self) -> Result<Stats, RelayError> {
        self.look(|relay, read, _| relay.stats(read)).await
    }

    /// How much mail of these senders waits.
    pub async fn waiting_of(&self, senders: Vec<AgentId>) -> Result<Tally, RelayError> {
        self.look(move |relay, read, _| relay.waiting_of(read, &senders))
            .await
    }

    /// Messages, and bytes, ever accepted.
    pub async fn relayed(&self) -> Result<Tally, RelayError> {
        self.look(|relay, read, _| relay.relayed(read)).await
    }

    /// Removes the box and the prekeys of an agent that left, in bounded steps. See [`Relay::forget`].
    pub async fn forget(&self, agent: AgentId) -> Result<(), RelayError> {
        loop {
            let agent = agent.clone();
            let forget = move |turn: &mut Turn<'_>| {
                let more = turn.relay.forget(turn.tx, &agent, turn.now)?;
                Ok(more)
            };
            if !self.change(0, forget).await? {
                return Ok(());
            }
        }
    }

    /// Publishes prekeys. See [`Relay::publish`].
    pub async fn publish(
        &self,
        agent: AgentId,
        signed: Prekey,
        one_time: Vec<Prekey>,
    ) -> Result<Published, RelayError> {
        let publish =
            move |turn: &mut Turn<'_>| turn.relay.publish(turn.tx, &agent, &signed, one_time);
        self.change(0, publish).await
    }

    /// Hands out prekeys of `agent`. See [`Relay::take`].
    pub async fn take(
        &self,
        requester: AgentId,
        agent: AgentId,
    ) -> Result<Option<Taken>, RelayError> {
        let take = move |turn: &mut Turn<'_>| {
            let taken = turn.relay.take(turn.tx, &requester, &agent, turn.now)?;
            Ok(taken)
        };
        self.change(0, take).await
    }

    /// What an agent has published; nothing if it has published nothing.
    pub async fn published(&self, agent: AgentId) -> Result<Option<Published>, RelayError> {
        self.look(move |relay, read, _| relay.published(read, &agent))
            .await
    }

    /// Part of the audit, the newest first. See [`Relay::audit`].
    pub async fn audit(
        &self,
        before: Option<u64>,
        wanted: AuditFilter,
        limit: usize,
    ) -> Result<AuditPage, RelayError> {
        self.look(move |relay, read, _| relay.audit(read, before, &wanted, limit))
            .await
    }

    /// What was relayed in each of the last hours. See [`Relay::audit_hours`].
    pub async fn audit_hours(
        &self,
        hours: u32,
    ) -> Result<BTreeMap<Timestamp, HourStats>, RelayError> {
        self.look(move |relay, read, now| relay.audit_hours(read, hours, now))
            .await
    }

    /// The bounds of its rules.
    pub fn policy(&self) -> &RelayPolicy {
        self.shared.relay.policy()
    }

    /// Hears of mail for `agent` from now on.
    ///
    /// # Errors
    ///
    /// [`RelayError::Subscribers`], and [`AskError::Stopped`] once the relay has ended.
    pub fn subscribe(&self, agent: AgentId) -> Result<Subscription, RelayError> {
        self.shared.subscribers.subscribe(agent)
    }

    /// Ends all subscriptions, and lets nobody begin one: so that who listens does not hold up the end of the node.
    pub fn hang_up(&self) {
        self.shared.subscribers.end();
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.actor.asks()
    }

    /// Whether the actor answers, and what it counted.
    pub async fn health(&self) -> Result<RelayHealth, AskError> {
        self.actor.probe(Health).await
    }

    /// Ends the actor once all changes asked for before are done. Later ones are told [`AskError::Stopped`].
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.actor.ask(Shutdown).await
    }

    async fn change<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T, kairos_place::relay::RelayError> + Send + 'static,
    ) -> Result<T, RelayError> {
        let waiting = Arc::new(());
        let asker = Arc::downgrade(&waiting);
        let work = Box::new(work);
        let change = Change { bytes, asker, work };
        let answer = self.actor.ask(change).await;
        drop(waiting);
        answer?
    }

    /// Looks at what is committed, on a thread that may block.
    async fn look<T: Send + 'static>(
        &self,
        see: impl FnOnce(&Relay, &dyn RelayRead, Timestamp) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, RelayError> {
        let shared = Arc::clone(&self.shared);
        let seen = self.shared.looks.run(move || {
            look(&*shared.store, |read| {
                see(&shared.relay, read, shared.clock.now())
            })
        });
        match seen.await {
            Ok(seen) => Ok(seen?),
            Err(JobError::Busy) => Err(AskError::Busy.into()),
            Err(JobError::Panicked(_)) => Err(RelayError::Crashed),
        }
    }
}

impl RelayActor {
    /// Starts the actor. At most `permits` changes are under way at a time, and each is waited for `patience` long.
    pub fn start(
        store: Arc<dyn RelayStore>,
        settings: RelaySettings,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> RelayHandle {
        let (total, per_agent) = (settings.subscribers, settings.subscribers_per_agent);
        let relay = Relay::new(settings.policy);
        let relay = match settings.withholding {
            Some(withholding) => relay.withholding(withholding),
            None => relay,
        };
        let shared = Arc::new(Shared {
            relay,
            store,
            clock,
            subscribers: Arc::new(Subscribers::new(total, per_agent)),
            looks: BlockingJobs::new(LOOKS_MAX),
        });
        let actor = BoundedAddr::start(permits, patience, |_| Self {
            shared: Arc::clone(&shared),
            sweep: settings.sweep,
            queue: Queue::default(),
            sweeping: false,
            health: RelayHealth::default(),
            stopping: Vec::new(),
        });
        RelayHandle { actor, shared }
    }

    /// Writes what waits, unless that is being done.
    fn commit(&mut self, ctx: &mut Context<Self>) {
        let batch = self.queue.next_batch();
        if batch.is_empty() {
            if self.queue.is_idle() && !self.stopping.is_empty() {
                self.shared.subscribers.end();
                ctx.stop();
                for tell in self.stopping.drain(..) {
                    // Whoever does not listen any more need not know.
                    let _gone = tell.send(());
                }
            }
            return;
        }
        let shared = Arc::clone(&self.shared);
        let work = spawn_blocking(move || {
            let on_mail = |mail| shared.subscribers.arrived(mail);
            let now = shared.clock.now();
            queue::commit(&*shared.store, &shared.relay, batch, now, on_mail)
        });
        let end = |done: Result<Result<(), StoreError>, _>, this: &mut Self, ctx: &mut _| {
            this.queue.end_batch();
            match done {
                Ok(Ok(())) => this.health.committed += 1,
                Ok(Err(error)) => {
                    this.health.failed += 1;
                    tracing::error!(%error, "the relay could not write");
                }
                Err(error) => {
                    this.health.failed += 1;
                    tracing::error!(%error, "the relay's store ended unexpectedly");
                }
            }
            this.commit(ctx);
        };
        ctx.spawn(work.into_actor(self).map(end));
    }

    /// Puts `work` among what waits.
    fn enqueue<T: Send + 'static>(
        &mut self,
        bytes: usize,
        asker: Option<Weak<()>>,
        work: Work<T>,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<T, RelayError>> {
        if !self.stopping.is_empty() {
            return Box::pin(async { Err(AskError::Stopped.into()) });
        }
        let (job, told) = Asked::new(bytes, asker, work);
        if let Err(busy) = self.queue.push(job) {
            return Box::pin(async move { Err(busy.into()) });
        }
        ctx.notify(Commit);
        // Dropped without an answer where the store panics.
        Box::pin(async move { told.await.unwrap_or(Err(RelayError::Crashed)) })
    }
}

impl Actor for RelayActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.sweep, |_, ctx| {
            ctx.notify(Sweep);
        });
    }
}

impl<T: Send + 'static> Handler<Change<T>> for RelayActor {
    type Result = ResponseFuture<Result<T, RelayError>>;

    fn handle(&mut self, change: Change<T>, ctx: &mut Self::Context) -> Self::Result {
        self.enqueue(change.bytes, Some(change.asker), change.work, ctx)
    }
}

impl Handler<Commit> for RelayActor {
    type Result = ();

    fn handle(&mut self, _: Commit, ctx: &mut Self::Context) {
        self.commit(ctx);
    }
}

impl Handler<Sweep> for RelayActor {
    type Result = ();

    fn handle(&mut self, _: Sweep, ctx: &mut Self::Context) {
        if self.sweeping || !self.stopping.is_empty() {
            return;
        }
        self.sweeping = true;
        let sweep = Box::new(|turn: &mut Turn<'_>| {
            let swept = turn.relay.expire(turn.tx, turn.now, SWEEP_STEP)?;
            Ok(swept)
        });
        let swept = self.enqueue(0, None, sweep, ctx);
        let end = |swept: Result<Swept, RelayError>, this: &mut Self, ctx: &mut Context<Self>| {
            this.sweeping = false;
            // An error was told of where the transaction failed; the next interval tries again.
            if swept.is_ok_and(|swept| swept.more) {
                ctx.notify(Sweep);
            }
        };
        ctx.spawn(swept.into_actor(self).map(end));
    }
}

impl Handler<Health> for RelayActor {
    type Result = MessageResult<Health>;

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(RelayHealth {
            waiting: self.queue.len(),
            subscribers: self.shared.subscribers.len(),
            ..self.health
        })
    }
}

impl Handler<Shutdown> for RelayActor {
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
