//! The witness actor: what other agents' logs showed us, and whether they keep to it.
//!
//! Owns: the last checkpoint of each log we saw, and evidence against those that showed two histories, in
//! `storage/witness`; the key that cosigns. Talks to: nobody. Asked by: the meeting actor, the HTTP door about those who
//! come, and the command line, through [`WitnessHandle`].
//! Invariants: a checkpoint takes the place of an older one only if it is shown to continue it; a cosignature is made
//! only for a checkpoint that was recorded; evidence of a fork is on disk before anyone hears of it, and only a person
//! makes us forget it.

mod error;
mod store;
mod visit;
mod vouch;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, ResponseFuture};
use kairos_protocol::id::AgentId;
use kairos_protocol::time::{Clock, Timestamp};
use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::note::{NoteSignature, VerifierKey};
use kairos_protocol::tlog::statement::{Attributed, LogStatement};
use kairos_protocol::tlog::witness::CosignRequest;
use kairos_protocol::wire::history::Continued;
use kairos_protocol::wire::rotation::Rotation;

use crate::bounded_addr::{AskError, Asks, BlockingJobs, BoundedAddr, Health, Shutdown};
use crate::chain::tlog::LogKeys;
use store::WitnessStore;
use visit::Gate;

pub use error::WitnessError;
pub use vouch::Vouched;

/// How often is looked for what other processes found out and forgot.
const HOUSEKEEPING: Duration = Duration::from_secs(2);
/// What is logged when that fails.
const LOOK_FAILED: &str = "it cannot be told who showed two histories";

/// What we know of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its last checkpoint that continued the one before.
    pub checkpoint: SignedCheckpoint,
    /// Its key.
    pub key: VerifierKey,
    /// Whose it is, if its owner said so.
    pub statement: Option<LogStatement>,
    /// When the checkpoint was seen.
    pub at: Timestamp,
    /// Evidence that it showed two histories.
    pub fork: Option<PathBuf>,
}

/// What a checkpoint turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// The first of its log.
    First,
    /// The one we knew.
    Same,
    /// It continues the one we knew, over so many blocks.
    Grown {
        /// Blocks of the one we knew.
        from: u64,
    },
}

#[derive(Message)]
#[rtype(result = "Result<Option<Seen>, WitnessError>")]
struct Find {
    origin: String,
}

/// Takes note of what a log shows.
#[derive(Debug, Message)]
#[rtype(result = "Result<Observed, WitnessError>")]
pub struct Observe {
    /// Its checkpoint. That the identity key in it is the agent's is for the caller to know.
    pub shown: Attributed,
    /// How it continues the one we know; needed only if it is larger.
    pub continued: Option<Continued>,
    /// Changes of the agent's key.
    pub rotations: Vec<Rotation>,
}

/// Checks that what an agent answered continues what it introduced itself with.
#[derive(Message)]
#[rtype(result = "Result<(), WitnessError>")]
struct Compare {
    shown: Attributed,
    continued: Continued,
    rotations: Vec<Rotation>,
}

#[derive(Message)]
#[rtype(result = "Result<NoteSignature, WitnessError>")]
struct Cosign {
    request: CosignRequest,
    key: Option<VerifierKey>,
}

#[derive(Message)]
#[rtype(result = "Result<bool, WitnessError>")]
struct Forget {
    id: AgentId,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Tick;

/// The way to the witness actor. Cheap to clone.
#[derive(Clone)]
pub struct WitnessHandle {
    addr: BoundedAddr<WitnessActor>,
    gate: Arc<Gate>,
}

impl WitnessHandle {
    /// What we know of the log with this origin.
    pub async fn find(&self, origin: String) -> Result<Option<Seen>, WitnessError> {
        self.addr.ask(Find { origin }).await?
    }

    /// See [`Observe`].
    ///
    /// Fails with [`WitnessError::Fork`], [`WitnessError::Shorter`] or [`WitnessError::Unproven`] where the log does
    /// not keep to what it showed before.
    pub async fn observe(&self, observe: Observe) -> Result<Observed, WitnessError> {
        self.addr.ask(observe).await?
    }

    /// Checks that a log of which something is known continues `shown` as `continued` says.
    ///
    /// Fails with [`WitnessError::Fork`] if both are signed and contradict each other, and as [`observe`](Self::observe)
    /// does.
    pub async fn compare(
        &self,
        shown: Attributed,
        continued: Continued,
        rotations: Vec<Rotation>,
    ) -> Result<(), WitnessError> {
        let compare = Compare {
            shown,
            continued,
            rotations,
        };
        self.addr.ask(compare).await?
    }

    /// Cosigns the checkpoint in `request` if it continues what we know of its log, or is the first we see of it. The
    /// key is the one we know, else `key`.
    pub async fn cosign(
        &self,
        request: CosignRequest,
        key: Option<VerifierKey>,
    ) -> Result<NoteSignature, WitnessError> {
        self.addr.ask(Cosign { request, key }).await?
    }

    /// Forgets what the log of the agent `id` showed, and says whether that was anything. Evidence against it stays on
    /// disk.
    pub async fn forget(&self, id: AgentId) -> Result<bool, WitnessError> {
        self.addr.ask(Forget { id }).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.addr.asks()
    }

    /// Whether the actor answers.
    pub async fn health(&self) -> Result<(), AskError> {
        self.addr.probe(Health).await
    }

    /// Ends the actor.
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.addr.ask(Shutdown).await
    }
}

struct Witness {
    store: WitnessStore,
    keys: Arc<LogKeys>,
    clock: Arc<dyn Clock>,
    limit: usize,
    gate: Arc<Gate>,
    /// Held on blocking threads only, by one change at a time; other processes are kept out by a file lock.
    turn: Mutex<()>,
}

impl Witness {
    /// Looks which logs showed two histories.
    fn look(&self) -> Result<(), WitnessError> {
        self.gate.convict(self.store.convicted()?);
        Ok(())
    }
}

/// See the module.
pub struct WitnessActor {
    witness: Arc<Witness>,
    jobs: BlockingJobs,
}

impl WitnessActor {
    /// Starts the actor on the directory `dir`, for at most `limit` logs. Looks which of them showed two histories, so it
    /// belongs before anything is served, and touches nothing else before the first ask.
    pub fn start(
        dir: &Path,
        keys: Arc<LogKeys>,
        clock: Arc<dyn Clock>,
        limit: usize,
        permits: usize,
        patience: Duration,
    ) -> WitnessHandle {
        let gate = Arc::new(Gate::default());
        let witness = Arc::new(Witness {
            store: WitnessStore::new(dir),
            keys,
            clock,
            limit,
            gate: Arc::clone(&gate),
            turn: Mutex::default(),
        });
        if let Err(error) = witness.look() {
            tracing::warn!(%error, "{LOOK_FAILED}");
        }
        let addr = BoundedAddr::start(permits, patience, |_| Self {
            witness,
            jobs: BlockingJobs::new(permits),
        });
        WitnessHandle { addr, gate }
    }

    /// Runs `work` on a thread that may block, while no other change is under way.
    fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Witness) -> Result<T, WitnessError> + Send + 'static,
    ) -> ResponseFuture<Result<T, WitnessError>> {
        self.read(move |witness| {
            let _turn = witness.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let _lock = witness.store.lock()?;
            let done = work(witness);
            if let Err(WitnessError::Fork { .. }) = &done {
                witness.look()?;
            }
            done
        })
    }

    /// Runs `work` on a thread that may block. Files are replaced whole, so a look needs no lock.
    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Witness) -> Result<T, WitnessError> + Send + 'static,
    ) -> ResponseFuture<Result<T, WitnessError>> {
        let witness = Arc::clone(&self.witness);
        let done = self.jobs.run(move || work(&witness));
        Box::pin(async move { done.await? })
    }
}

impl Actor for WitnessActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(HOUSEKEEPING, |_, ctx| ctx.notify(Tick));
    }
}

impl Handler<Tick> for WitnessActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Tick, _ctx: &mut Self::Context) -> Self::Result {
        let looked = self.read(Witness::look);
        Box::pin(async move {
            if let Err(error) = looked.await {
                tracing::warn!(%error, "{LOOK_FAILED}");
            }
        })
    }
}

impl Handler<Find> for WitnessActor {
    type Result = ResponseFuture<Result<Option<Seen>, WitnessError>>;

    fn handle(&mut self, Find { origin }: Find, _ctx: &mut Self::Context) -> Self::Result {
        self.read(move |witness| witness.store.find(&origin))
    }
}

impl Handler<Observe> for WitnessActor {
    type Result = ResponseFuture<Result<Observed, WitnessError>>;

    fn handle(&mut self, observe: Observe, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |witness| {
            let now = witness.clock.now();
            witness.store.observe(observe, now, witness.limit)
        })
    }
}

impl Handler<Compare> for WitnessActor {
    type Result = ResponseFuture<Result<(), WitnessError>>;

    fn handle(&mut self, ask: Compare, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |witness| {
            let Compare {
                shown,
                continued,
                rotations,
            } = ask;
            witness.store.compare(shown, continued, rotations)
        })
    }
}

impl Handler<Cosign> for WitnessActor {
    type Result = ResponseFuture<Result<NoteSignature, WitnessError>>;

    fn handle(&mut self, ask: Cosign, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |witness| {
            let now = witness.clock.now();
            // Recorded first: what was cosigned is never forgotten.
            let Cosign { request, key } = ask;
            witness.store.record(&request, key, now, witness.limit)?;
            Ok(request.checkpoint.cosign(&witness.keys.witness, now)?)
        })
    }
}

impl Handler<Forget> for WitnessActor {
    type Result = ResponseFuture<Result<bool, WitnessError>>;

    fn handle(&mut self, Forget { id }: Forget, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |witness| {
            let forgot = witness.store.forget(&id)?;
            witness.look()?;
            Ok(forgot)
        })
    }
}

impl Handler<Health> for WitnessActor {
    type Result = ();

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) -> Self::Result {}
}

impl Handler<Shutdown> for WitnessActor {
    type Result = ();

    /// A change under way is on disk whole or not at all, so nothing waits for it.
    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
