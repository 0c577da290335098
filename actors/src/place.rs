//! The Place actor: the Meeting Place that this node hosts.
//!
//! Owns: the [`MeetingPlace`] and its database, `storage/place/place.db`. Talks to: nobody. Asked by: the HTTP door, the
//! heartbeat actor, through [`PlaceHandle`].
//! Invariants: a decision is told to whoever asked only after it is in the database, synced; decisions that wait share
//! one commit. If a commit fails, all that was to be stored since is void, and the machine is built anew from the database; what
//! is only ever in memory stays.
//!
//! Looking changes nothing, so handles answer it from the machine itself, behind a lock that is held for one look.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture,
    WrapFuture,
};
use kairos_place::meeting_place::store::sqlite::SqliteStore;
use kairos_place::meeting_place::store::{Change, Store, StoreError};
use kairos_place::meeting_place::{
    Agent, Ban, Banned, Deposit, Event, MeetingPlace, Policy, Registered, Registration, Target,
};
use kairos_protocol::id::AgentId;
use kairos_protocol::time::{Clock, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use tokio::task::{JoinError, spawn_blocking};

use crate::bounded_addr::{AskError, Asks, BlockingJobs, BoundedAddr, Health, JobError};
use crate::file_lock;

mod agreements;
mod board;
mod error;
mod events;
mod looks;
#[cfg(test)]
mod tests;

pub use error::PlaceError;
use events::EventChannel;
pub use events::{Heard, Listener};

/// How often a sign of life of one agent is noted; it may ask a hundred times a minute.
const TOUCH_EVERY: Duration = Duration::from_secs(1);

/// Most signs of life that are stored with one sweep, so that changes wait for them only briefly; the others are with
/// later ones.
const SEEN_STEP: usize = 1_000;

/// Reads, checks and searches under way at once; more are told that the Place is busy.
const JOBS_MAX: usize = 64;

/// Archives that are examined at once; each may unfold to many megabytes.
const SCANS_MAX: usize = 4;

type Machine = Arc<RwLock<MeetingPlace>>;
type SharedStore = Arc<Mutex<Box<dyn Store>>>;
type Rebuild = dyn Fn(&mut dyn Store) -> Result<MeetingPlace, StoreError> + Send + Sync;
type Decision<T> = dyn FnOnce(&mut MeetingPlace, Timestamp) -> T + Send;
/// Why a commit failed, and the machine as the database has it.
type Failed = (StoreError, Result<MeetingPlace, StoreError>);
type Told = oneshot::Sender<Result<(), PlaceError>>;
/// What a decision has stored, then told to all, then to whoever asked.
type Waiting = (Vec<Change>, Vec<Event>, Told);

/// See the module.
pub struct PlaceActor {
    machine: Machine,
    /// Used from blocking threads only.
    store: SharedStore,
    clock: Arc<dyn Clock>,
    /// Builds the machine anew.
    rebuild: Arc<Rebuild>,
    waiting: Vec<Waiting>,
    events: Arc<EventChannel>,
    committing: bool,
    /// Keeps others from hosting the same Place, until this one has ended.
    lock: Option<File>,
}

/// A Place that is read from the disk and not at work yet.
pub struct OpenPlace {
    lock: Option<File>,
    store: SharedStore,
    reader: SharedStore,
    machine: Machine,
    rebuild: Arc<Rebuild>,
    clock: Arc<dyn Clock>,
}

/// Reaches the Place.
#[derive(Clone)]
pub struct PlaceHandle {
    addr: BoundedAddr<PlaceActor>,
    machine: Machine,
    /// A connection of its own, so that who reads does not wait for who writes.
    reader: SharedStore,
    /// What readers have done on threads that may block.
    jobs: BlockingJobs,
    /// Like `jobs`, for archives.
    scans: BlockingJobs,
    events: Arc<EventChannel>,
    clock: Arc<dyn Clock>,
}

/// Lets `0` decide something, and answers once that is stored.
struct Decide<T>(Box<Decision<T>>);

impl<T: Send + 'static> Message for Decide<T> {
    type Result = Result<T, PlaceError>;
}

/// Stops once all is stored.
#[derive(Message)]
#[rtype(result = "Result<(), PlaceError>")]
struct Shutdown;

impl PlaceHandle {
    /// Registers an agent or takes over what it says anew.
    pub async fn register(&self, registration: Registration) -> Result<Registered, PlaceError> {
        let done = self.decide(move |place, now| place.register(registration, now));
        Ok(done.await??)
    }

    /// The same for one that asks from `address`.
    pub async fn register_from(
        &self,
        registration: Registration,
        address: IpAddr,
    ) -> Result<Registered, PlaceError> {
        let done =
            self.decide(move |place, now| place.register_from(registration, Some(address), now));
        Ok(done.await??)
    }

    /// Keeps somebody out, from `ban.since`, which is now, on. See [`MeetingPlace::ban`].
    pub async fn ban(&self, mut ban: Ban) -> Result<Banned, PlaceError> {
        let done = self.decide(move |place, now| {
            ban.since = now;
            place.ban(ban, now)
        });
        Ok(done.await??)
    }

    /// Writes down how much mail a ban withholds. See [`MeetingPlace::note_withheld`].
    pub async fn note_withheld(
        &self,
        target: Target,
        messages: u64,
        bytes: u64,
    ) -> Result<(), PlaceError> {
        self.decide(move |place, now| place.note_withheld(target, messages, bytes, now))
            .await
    }

    /// Takes a ban back.
    pub async fn unban(&self, target: Target, by: String) -> Result<Ban, PlaceError> {
        let done = self.decide(move |place, now| place.unban(&target, &by, now));
        Ok(done.await??)
    }

    /// Takes an agent off those who are here.
    pub async fn kick(
        &self,
        id: AgentId,
        by: String,
        reason: Option<String>,
    ) -> Result<(), PlaceError> {
        let done = self.decide(move |place, now| place.kick(&id, &by, reason.as_deref(), now));
        Ok(done.await??)
    }

    /// Takes an agent off with all it has here; tells whether it was there.
    pub async fn unregister(&self, id: AgentId) -> Result<bool, PlaceError> {
        self.decide(move |place, now| place.unregister(&id, now))
            .await
    }

    /// Notes a sign of life; tells whether the agent is present. Never waits for the disk.
    pub fn touch(&self, id: &AgentId) -> bool {
        let now = self.clock.now();
        let seen = self.look(|place| place.agent(id).map(|agent| agent.last_seen));
        match seen {
            Some(seen) if now.since(seen) < TOUCH_EVERY => true,
            None => false,
            // Whoever looks for long is not waited for: the next request is a sign of life too.
            Some(_) => match self.machine.try_write() {
                Some(mut place) => place.touch(id, now),
                None => true,
            },
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PlaceError> {
        self.jobs.run(work).await.map_err(not_done)
    }

    /// Counts that a skill was handed out. Never waits for the disk: like signs of life it is stored with the next
    /// [`sweep`](Self::sweep).
    pub fn count_exchange(&self) {
        self.machine.write().count_exchange();
    }

    /// Lets agents fade whose time is over, at most `most`, and stores what was counted since the last call.
    pub async fn sweep(&self, most: usize) -> Result<Vec<Agent>, PlaceError> {
        self.decide(move |place, now| {
            place.note_counts(SEEN_STEP);
            place.sweep(now, most)
        })
        .await
    }

    /// Takes deposits from other Places down that were first left too long ago, at most `most`.
    pub async fn expire(&self, most: usize) -> Result<Vec<Deposit>, PlaceError> {
        self.decide(move |place, now| place.expire(now, most)).await
    }

    /// Hears of changes of the board from now on.
    pub fn listen(&self) -> Option<Listener> {
        self.events.listen()
    }

    /// Ends all listening, and lets nobody begin: so that who listens does not hold up the end of the node.
    pub fn hang_up(&self) {
        self.events.end();
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.addr.asks()
    }

    /// Whether the actor answers.
    pub async fn health(&self) -> Result<(), AskError> {
        self.addr.probe(Health).await
    }

    /// Stops once all is stored.
    pub async fn shutdown(&self) -> Result<(), PlaceError> {
        self.addr.ask(Shutdown).await?
    }

    async fn decide<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut MeetingPlace, Timestamp) -> T + Send + 'static,
    ) -> Result<T, PlaceError> {
        self.addr.ask(Decide(Box::new(decide))).await?
    }
}

fn not_done(error: JobError) -> PlaceError {
    match error {
        JobError::Busy => AskError::Busy.into(),
        JobError::Panicked(_) => AskError::Stopped.into(),
    }
}

impl OpenPlace {
    /// Opens the Place below `dir`; begins one if there is none. Blocks on the disk.
    pub fn open(
        dir: &Path,
        me: Registration,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PlaceError> {
        let lock =
            file_lock::hold_now(&dir.join("hosted")).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => PlaceError::Taken(dir.to_owned()),
                _ => PlaceError::Directory(Arc::new(error)),
            })?;
        let path = dir.join("place.db");
        let store = Box::new(SqliteStore::open(&path)?);
        let reader = Box::new(SqliteStore::open(&path)?);
        Self::on(Some(lock), store, reader, me, policy, clock)
    }

    fn on(
        lock: Option<File>,
        mut store: Box<dyn Store>,
        reader: Box<dyn Store>,
        me: Registration,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PlaceError> {
        let time = Arc::clone(&clock);
        let rebuild = move |store: &mut dyn Store| {
            let snapshot = store.load()?;
            let mut place = MeetingPlace::new(policy.clone(), me.clone(), snapshot, time.now());
            store.commit(&place.take_changes())?;
            Ok(place)
        };
        let machine = Arc::new(RwLock::new(rebuild(&mut *store)?));
        Ok(Self {
            lock,
            store: Arc::new(Mutex::new(store)),
            reader: Arc::new(Mutex::new(reader)),
            machine,
            rebuild: Arc::new(rebuild),
            clock,
        })
    }

    /// Starts the actor. Must run inside an actix system; never blocks.
    pub fn start(self, permits: usize, patience: Duration) -> PlaceHandle {
        let (machine, clock) = (Arc::clone(&self.machine), Arc::clone(&self.clock));
        let events = Arc::new(EventChannel::default());
        let actor = PlaceActor {
            machine: self.machine,
            store: self.store,
            clock: self.clock,
            rebuild: self.rebuild,
            waiting: Vec::new(),
            events: Arc::clone(&events),
            committing: false,
            lock: self.lock,
        };
        PlaceHandle {
            addr: BoundedAddr::start(permits, patience, |_| actor),
            machine,
            reader: self.reader,
            jobs: BlockingJobs::new(JOBS_MAX),
            scans: BlockingJobs::new(SCANS_MAX),
            events,
            clock,
        }
    }
}

impl PlaceActor {
    /// Opens the Place below `dir` and starts the actor; begins a Place if there is none. Blocks on the disk, so it
    /// belongs before anything is served.
    pub fn start(
        dir: &Path,
        me: Registration,
        policy: Policy,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> Result<PlaceHandle, PlaceError> {
        Ok(OpenPlace::open(dir, me, policy, clock)?.start(permits, patience))
    }

    /// Stores all that waits, if nothing is being stored.
    fn commit(&mut self, ctx: &mut Context<Self>) {
        if self.committing || self.waiting.is_empty() {
            return;
        }
        self.committing = true;
        let waiting = std::mem::take(&mut self.waiting);
        let (mut changes, mut events, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for (change, event, teller) in waiting {
            changes.extend(change);
            events.extend(event);
            told.push(teller);
        }
        let (store, rebuild) = (Arc::clone(&self.store), Arc::clone(&self.rebuild));
        let work = move || {
            let mut store = store.lock();
            let failed = store.commit(&changes).err()?;
            Some((failed, rebuild(&mut **store)))
        };
        let done = spawn_blocking(work).into_actor(self);
        ctx.spawn(done.map(move |done, this, ctx| this.committed(done, events, told, ctx)));
    }

    fn committed(
        &mut self,
        done: Result<Option<Failed>, JoinError>,
        events: Vec<Event>,
        told: Vec<Told>,
        ctx: &mut Context<Self>,
    ) {
        self.committing = false;
        match done {
            Ok(None) => {
                self.events.tell(events);
                for teller in told {
                    // Who asked may have gone; what it asked for is done.
                    let _gone = teller.send(Ok(()));
                }
                self.commit(ctx);
            }
            Ok(Some((failed, rebuilt))) => {
                tracing::error!(error = %failed, "the Place could not be stored");
                let failed = PlaceError::from(failed);
                let since = std::mem::take(&mut self.waiting);
                for teller in told
                    .into_iter()
                    .chain(since.into_iter().map(|(_, _, told)| told))
                {
                    let _gone = teller.send(Err(failed.clone()));
                }
                match rebuilt {
                    Ok(mut place) => {
                        let mut machine = self.machine.write();
                        place.carry_over(&mut machine);
                        *machine = place;
                    }
                    Err(error) => {
                        tracing::error!(%error, "the Place cannot be read either, so it ends");
                        ctx.stop();
                    }
                }
            }
            Err(panic) => {
                tracing::error!(error = %panic, "storing the Place panicked, so it ends");
                ctx.stop();
            }
        }
    }
}

impl Actor for PlaceActor {
    type Context = Context<Self>;
}

impl<T: Send + 'static> Handler<Decide<T>> for PlaceActor {
    type Result = ResponseFuture<Result<T, PlaceError>>;

    fn handle(&mut self, Decide(decide): Decide<T>, ctx: &mut Self::Context) -> Self::Result {
        let now = self.clock.now();
        let (outcome, changes, events) = {
            let mut place = self.machine.write();
            let outcome = decide(&mut place, now);
            (outcome, place.take_changes(), place.take_events())
        };
        // What changes nothing may still rest on a decision that is not stored yet.
        if changes.is_empty() && !self.committing && self.waiting.is_empty() {
            self.events.tell(events);
            return Box::pin(std::future::ready(Ok(outcome)));
        }
        let (told, stored) = oneshot::channel();
        self.waiting.push((changes, events, told));
        self.commit(ctx);
        Box::pin(async move {
            match stored.await {
                Ok(stored) => stored.map(|()| outcome),
                Err(_) => Err(AskError::Stopped.into()),
            }
        })
    }
}

impl Handler<Health> for PlaceActor {
    type Result = ();

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) {}
}

impl Handler<Shutdown> for PlaceActor {
    type Result = ResponseFuture<Result<(), PlaceError>>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let changes = {
            let mut place = self.machine.write();
            place.note_counts(usize::MAX);
            place.take_changes()
        };
        let (told, stored) = oneshot::channel();
        self.waiting.push((changes, Vec::new(), told));
        self.commit(ctx);
        let end = ctx.address();
        Box::pin(async move {
            let stored = stored.await.unwrap_or(Err(AskError::Stopped.into()));
            // Fails only if the actor has ended already. Whoever is told may host the Place at once.
            let _ended = end.send(Stop).await;
            stored
        })
    }
}

/// Ends the actor.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for PlaceActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.lock = None;
        ctx.stop();
    }
}
