//! The witness actor: what other agents' logs showed us, and whether they keep to it.
//!
//! Owns: the last checkpoint of each log we saw, and evidence against those that showed two histories, in
//! `storage/witness`; the key that cosigns. Talks to: nobody. Asked by: the meeting actor and the command line, through
//! [`WitnessHandle`].
//! Invariants: a checkpoint takes the place of an older one only if it is shown to continue it; a cosignature is made
//! only for a checkpoint that was recorded; evidence of a fork is on disk before anyone hears of it, and only a person
//! makes us forget it.

mod store;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorContext, Context, Handler, Message, ResponseFuture};
use kairos_protocol::id::AgentId;
use kairos_protocol::time::{Clock, Timestamp};
use kairos_protocol::tlog::checkpoint::{CheckpointError, SignedCheckpoint};
use kairos_protocol::tlog::fork::ForkError;
use kairos_protocol::tlog::note::{NoteSignature, VerifierKey};
use kairos_protocol::tlog::proof::ProofError;
use kairos_protocol::tlog::statement::{Attributed, LogStatement, StatementError};
use kairos_protocol::tlog::witness::CosignRequest;
use kairos_protocol::wire::history::Continued;
use kairos_protocol::wire::rotation::Rotation;
use thiserror::Error;

use crate::bounded_addr::{AskError, BlockingJobs, BoundedAddr, JobError};
use crate::chain::tlog::LogKeys;
use store::WitnessStore;

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

/// Why a checkpoint was not taken.
#[derive(Debug, Error)]
pub enum WitnessError {
    /// The log showed two histories.
    #[error(
        "agent `{agent}` showed two histories; check the evidence with: kairos-verify fork {}",
        .file.display()
    )]
    Fork {
        /// Whose log.
        agent: String,
        /// The evidence.
        file: PathBuf,
    },
    /// The ledger is shorter than it was.
    #[error(
        "its ledger had {known} blocks when we saw it last and has {shown} now; it was cut or is a copy"
    )]
    Shorter {
        /// Blocks we know of.
        known: u64,
        /// Blocks it shows.
        shown: u64,
    },
    /// Nothing shows that the ledger continues what we know.
    #[error("its ledger is not shown to continue the {known} blocks we know of: {source}")]
    Unproven {
        /// Blocks we know of.
        known: u64,
        /// What is wrong with the proof.
        source: ProofError,
    },
    /// The checkpoint is not whose it is said to be.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The checkpoint is not signed by its log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A log we know nothing of.
    #[error("the log `{0}` is not known; meet its agent, or name its key with --key")]
    UnknownLog(String),
    /// The request proves from another size than we know.
    #[error(
        "we know {known} blocks of this ledger; its owner makes the request with: kairos-chain chain checkpoint --from {known}"
    )]
    From {
        /// Blocks we know of.
        known: u64,
    },
    /// As many logs as allowed are known.
    #[error(
        "{limit} logs are known, which is the limit; forget some with: kairos-chain peers forget ID"
    )]
    Full {
        /// The bound.
        limit: usize,
    },
    /// A record cannot be read.
    #[error("{} is not readable: {reason}; restore it from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The evidence could not be written.
    #[error(transparent)]
    Evidence(#[from] ForkError),
    /// A file could not be read or written.
    #[error("what was seen of other ledgers cannot be used: {0}")]
    Io(#[from] io::Error),
    /// The work panicked.
    #[error("the witness ended unexpectedly")]
    Crashed,
    /// The actor did not answer.
    #[error("the witness {0}")]
    Ask(#[from] AskError),
}

impl From<JobError> for WitnessError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Busy => Self::Ask(AskError::Busy),
            JobError::Panicked(_) => Self::Crashed,
        }
    }
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

#[derive(Message)]
#[rtype(result = "Result<NoteSignature, WitnessError>")]
struct Cosign {
    request: CosignRequest,
    key: Option<VerifierKey>,
}

#[derive(Message)]
#[rtype(result = "Result<(), WitnessError>")]
struct Forget {
    id: AgentId,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Health;

#[derive(Message)]
#[rtype(result = "()")]
struct Shutdown;

/// The way to the witness actor. Cheap to clone.
#[derive(Clone)]
pub struct WitnessHandle(BoundedAddr<WitnessActor>);

impl WitnessHandle {
    /// What we know of the log with this origin.
    pub async fn find(&self, origin: String) -> Result<Option<Seen>, WitnessError> {
        self.0.ask(Find { origin }).await?
    }

    /// See [`Observe`].
    ///
    /// Fails with [`WitnessError::Fork`], [`WitnessError::Shorter`] or [`WitnessError::Unproven`] where the log does
    /// not keep to what it showed before.
    pub async fn observe(&self, observe: Observe) -> Result<Observed, WitnessError> {
        self.0.ask(observe).await?
    }

    /// Cosigns the checkpoint in `request` if it continues what we know of its log, or is the first we see of it. The
    /// key is the one we know, else `key`.
    pub async fn cosign(
        &self,
        request: CosignRequest,
        key: Option<VerifierKey>,
    ) -> Result<NoteSignature, WitnessError> {
        self.0.ask(Cosign { request, key }).await?
    }

    /// Forgets what the log of the agent `id` showed. Evidence against it stays on disk.
    pub async fn forget(&self, id: AgentId) -> Result<(), WitnessError> {
        self.0.ask(Forget { id }).await?
    }

    /// Whether the actor answers.
    pub async fn health(&self) -> Result<(), AskError> {
        self.0.probe(Health).await
    }

    /// Ends the actor.
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.0.ask(Shutdown).await
    }
}

struct Witness {
    store: WitnessStore,
    keys: Arc<LogKeys>,
    clock: Arc<dyn Clock>,
    /// Held on blocking threads only, by one change at a time; other processes are kept out by a file lock.
    turn: Mutex<()>,
}

/// See the module.
pub struct WitnessActor {
    witness: Arc<Witness>,
    jobs: BlockingJobs,
}

impl WitnessActor {
    /// Starts the actor on the directory `dir`, for at most `limit` logs. Touches nothing before the first ask.
    pub fn start(
        dir: &Path,
        keys: Arc<LogKeys>,
        clock: Arc<dyn Clock>,
        limit: usize,
        permits: usize,
        patience: Duration,
    ) -> WitnessHandle {
        let witness = Arc::new(Witness {
            store: WitnessStore::new(dir, limit),
            keys,
            clock,
            turn: Mutex::default(),
        });
        WitnessHandle(BoundedAddr::start(permits, patience, |_| Self {
            witness,
            jobs: BlockingJobs::new(permits),
        }))
    }

    /// Runs `work` on a thread that may block, while no other change is under way.
    fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Witness) -> Result<T, WitnessError> + Send + 'static,
    ) -> ResponseFuture<Result<T, WitnessError>> {
        self.read(move |witness| {
            let _turn = witness.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let _lock = witness.store.lock()?;
            work(witness)
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
        self.change(move |witness| witness.store.observe(observe, witness.clock.now()))
    }
}

impl Handler<Cosign> for WitnessActor {
    type Result = ResponseFuture<Result<NoteSignature, WitnessError>>;

    fn handle(&mut self, ask: Cosign, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |witness| {
            let now = witness.clock.now();
            // Recorded first: what was cosigned is never forgotten.
            witness.store.record(&ask.request, ask.key, now)?;
            Ok(ask.request.checkpoint.cosign(&witness.keys.witness, now)?)
        })
    }
}

impl Handler<Forget> for WitnessActor {
    type Result = ResponseFuture<Result<(), WitnessError>>;

    fn handle(&mut self, Forget { id }: Forget, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |witness| witness.store.forget(&id))
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
