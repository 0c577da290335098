//! The log actor: signs what the ledger is, and proves it.
//!
//! Owns: the log's keys, its tiles and checkpoints in `storage/tlog`. Reads the ledger's store, never writes to it.
//! Talks to: nobody. Asked by: the HTTP door for what peers see, and the command line, through [`TlogHandle`].
//! Invariants: a checkpoint is durable before anyone sees it; one is signed only if the ledger continues the one
//! signed before; a proof is checked before it is handed out.

mod error;
mod log;
mod store;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorContext, Context, Handler, Message, ResponseFuture};
use arc_swap::ArcSwap;
use kairos_protocol::time::{Clock, Timestamp};
use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::inclusion::InclusionProof;
use kairos_protocol::tlog::note::{SigningKey, VerifierKey};
use kairos_protocol::tlog::proof::Head;
use kairos_protocol::tlog::statement::{Attributed, LogStatement};
use kairos_protocol::tlog::witness::CosignRequest;
use kairos_protocol::wire::history::Continued;

use super::store::BlockStore;
use crate::bounded_addr::{AskError, Asks, BlockingJobs, BoundedAddr};
use crate::recent::Recent;
use log::{Current, Log, Shared};
use store::{Held, TlogStore};

pub use error::TlogError;

/// The keys of our log and our witness, and our statement that they are ours.
#[derive(Debug)]
pub struct LogKeys {
    /// Signs our checkpoints.
    pub log: SigningKey,
    /// Cosigns those of others.
    pub witness: SigningKey,
    /// Signed with our identity key.
    pub statement: LogStatement,
}

impl LogKeys {
    fn attributed(&self, checkpoint: SignedCheckpoint) -> Attributed {
        Attributed {
            checkpoint,
            statement: self.statement.clone(),
        }
    }
}

/// What the log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogStatus {
    /// The last checkpoint we signed.
    pub signed: Option<SignedCheckpoint>,
    /// The largest one that others cosigned.
    pub cosigned: Option<SignedCheckpoint>,
}

/// A cosignature that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// By whom.
    pub witness: String,
    /// When, by the witness's clock.
    pub at: Timestamp,
    /// Over how many blocks.
    pub size: u64,
}

#[derive(Message)]
#[rtype(result = "Result<Option<SignedCheckpoint>, TlogError>")]
struct Sign;

#[derive(Message)]
#[rtype(result = "Result<InclusionProof, TlogError>")]
struct Prove {
    index: u64,
    hash_only: bool,
    cosigned: bool,
}

#[derive(Message)]
#[rtype(result = "Result<Continued, TlogError>")]
struct Continue {
    from: u64,
}

#[derive(Message)]
#[rtype(result = "Result<Vec<Witnessed>, TlogError>")]
struct AddCosignatures {
    text: String,
    keys: Vec<VerifierKey>,
}

#[derive(Message)]
#[rtype(result = "Result<TlogStatus, TlogError>")]
struct Status;

#[derive(Message)]
#[rtype(result = "Result<Option<Head>, TlogError>")]
struct Compare;

#[derive(Message)]
#[rtype(result = "()")]
struct Health;

#[derive(Message)]
#[rtype(result = "()")]
struct Shutdown;

/// The way to the log actor. Cheap to clone.
#[derive(Clone)]
pub struct TlogHandle {
    addr: BoundedAddr<TlogActor>,
    shared: Arc<Shared>,
    keys: Arc<LogKeys>,
    /// One at a time looks whether the ledger grew, so that many who want to know cause one look.
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl TlogHandle {
    /// The checkpoint over the ledger as it is now, signed if the ledger grew since the last one; nothing if there is
    /// no ledger yet. Fails with [`TlogError::Rewritten`] if the ledger does not continue the last one.
    pub async fn checkpoint(&self) -> Result<Option<SignedCheckpoint>, TlogError> {
        self.addr.ask(Sign).await?
    }

    /// Our checkpoint, at most `max_age` behind the ledger where the log keeps up, else the last one we signed; nothing
    /// if there is none, or the ledger does not bear it out.
    ///
    /// Costs a look at memory unless `max_age` is over. Then one caller looks, and the others take what there is.
    pub async fn fresh(&self, max_age: Duration) -> Option<Arc<Attributed>> {
        let since = self.shared.clock.now().minus(max_age);
        let checked = self.shared.current.load().checked;
        if !self.shared.clock.saw_since(checked, since)
            && let Ok(_one_at_a_time) = self.looking.try_lock()
            && let Err(error) = self.checkpoint().await
        {
            tracing::error!(%error, "no checkpoint of now can be given to peers");
            match error.condemns() {
                true => self.shared.publish(None),
                false => self.shared.keep(),
            }
        }
        self.shared.current.load().checkpoint.clone()
    }

    /// Proves that the block at `index` is in the ledger, under the last checkpoint or the largest cosigned one. The
    /// block is part of the proof unless `hash_only`.
    pub async fn prove(
        &self,
        index: u64,
        hash_only: bool,
        cosigned: bool,
    ) -> Result<InclusionProof, TlogError> {
        let prove = Prove {
            index,
            hash_only,
            cosigned,
        };
        self.addr.ask(prove).await?
    }

    /// Shows how our last checkpoint continues our tree of `from` blocks.
    pub async fn continued(&self, from: u64) -> Result<Continued, TlogError> {
        self.addr.ask(Continue { from }).await?
    }

    /// The request to a witness that has seen `from` blocks of our ledger.
    pub async fn cosign_request(&self, from: u64) -> Result<CosignRequest, TlogError> {
        let continued = self.continued(from).await?;
        Ok(CosignRequest {
            old: from,
            proof: continued.proof,
            checkpoint: continued.now.checkpoint,
        })
    }

    /// Takes cosignatures by any of `keys`, and says which are on disk now: a checkpoint of ours with signature lines,
    /// or the lines alone, which then belong to the last checkpoint or to those that were cosigned.
    pub async fn add_cosignatures(
        &self,
        text: String,
        keys: Vec<VerifierKey>,
    ) -> Result<Vec<Witnessed>, TlogError> {
        self.addr.ask(AddCosignatures { text, keys }).await?
    }

    /// What the log held at most `max_age` ago; looks at its files only.
    pub async fn status(&self, max_age: Duration) -> Result<Arc<TlogStatus>, TlogError> {
        let changes = || self.shared.changes.load(Ordering::Acquire);
        let read = || async { self.addr.ask(Status).await? };
        self.shared.status.get(max_age, changes, read).await
    }

    /// Whose log it is.
    pub fn statement(&self) -> &LogStatement {
        &self.keys.statement
    }

    /// Compares every block with the last checkpoint that we signed, which is returned. Fails with
    /// [`TlogError::Rewritten`] if the ledger does not continue it.
    pub async fn compare(&self) -> Result<Option<Head>, TlogError> {
        self.addr.ask(Compare).await?
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

/// See the module.
pub struct TlogActor {
    log: Arc<Log>,
    jobs: BlockingJobs,
}

impl TlogActor {
    /// Starts the actor on the log in the directory `dir`, over the ledger in `store`. Reads the last checkpoint that
    /// was signed, so that there is one to give before the ledger was looked at, and touches nothing else.
    pub fn start(
        dir: &Path,
        store: Arc<dyn BlockStore>,
        keys: Arc<LogKeys>,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> TlogHandle {
        let store = TlogStore::new(dir, store);
        // One that cannot be read is told of by whoever looks at the ledger first.
        let signed = store.signed().ok().flatten();
        let signed = signed.filter(|signed| signed.verify(keys.log.verifier()).is_ok());
        let signed = signed.map(|checkpoint| keys.attributed(checkpoint));
        let shared = Arc::new(Shared {
            current: ArcSwap::from_pointee(Current {
                checkpoint: signed.map(Arc::new),
                checked: Timestamp::EPOCH,
            }),
            clock,
            status: Recent::default(),
            changes: AtomicU64::new(0),
        });
        let log = Arc::new(Log {
            store,
            keys: Arc::clone(&keys),
            turn: Mutex::default(),
            shared: Arc::clone(&shared),
        });
        TlogHandle {
            addr: BoundedAddr::start(permits, patience, |_| Self {
                log,
                jobs: BlockingJobs::new(permits),
            }),
            shared,
            keys,
            looking: Arc::default(),
        }
    }

    /// Runs `work` on a thread that may block, while no other change is under way. The actor answers meanwhile: to
    /// build the tiles of a long ledger takes longer than it may be silent.
    fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Log, &Held) -> Result<T, TlogError> + Send + 'static,
    ) -> ResponseFuture<Result<T, TlogError>> {
        self.read(move |log| {
            let _turn = log.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let done = work(log, &log.store.lock()?);
            log.shared.changes.fetch_add(1, Ordering::Release);
            done
        })
    }

    /// Runs `work` on a thread that may block.
    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Log) -> Result<T, TlogError> + Send + 'static,
    ) -> ResponseFuture<Result<T, TlogError>> {
        let log = Arc::clone(&self.log);
        let done = self.jobs.run(move || work(&log));
        Box::pin(async move { done.await? })
    }
}

impl Actor for TlogActor {
    type Context = Context<Self>;
}

impl Handler<Sign> for TlogActor {
    type Result = ResponseFuture<Result<Option<SignedCheckpoint>, TlogError>>;

    fn handle(&mut self, _: Sign, _ctx: &mut Self::Context) -> Self::Result {
        self.change(Log::sign)
    }
}

impl Handler<Prove> for TlogActor {
    type Result = ResponseFuture<Result<InclusionProof, TlogError>>;

    fn handle(&mut self, ask: Prove, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |log, held| log.prove(held, &ask))
    }
}

impl Handler<Continue> for TlogActor {
    type Result = ResponseFuture<Result<Continued, TlogError>>;

    fn handle(&mut self, ask: Continue, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |log, held| log.continued(held, ask.from))
    }
}

impl Handler<AddCosignatures> for TlogActor {
    type Result = ResponseFuture<Result<Vec<Witnessed>, TlogError>>;

    fn handle(&mut self, ask: AddCosignatures, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |log, held| log.add_cosignatures(held, &ask.text, &ask.keys))
    }
}

impl Handler<Status> for TlogActor {
    type Result = ResponseFuture<Result<TlogStatus, TlogError>>;

    fn handle(&mut self, _: Status, _ctx: &mut Self::Context) -> Self::Result {
        self.read(|log| {
            Ok(TlogStatus {
                signed: log.store.signed()?,
                cosigned: log.store.cosigned()?.into_iter().next(),
            })
        })
    }
}

impl Handler<Compare> for TlogActor {
    type Result = ResponseFuture<Result<Option<Head>, TlogError>>;

    fn handle(&mut self, _: Compare, _ctx: &mut Self::Context) -> Self::Result {
        self.read(|log| {
            let signed = log.store.signed()?.map(|signed| signed.head());
            if let Some(signed) = signed {
                log.store.compare(signed)?;
            }
            Ok(signed)
        })
    }
}

impl Handler<Health> for TlogActor {
    type Result = ();

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) -> Self::Result {}
}

impl Handler<Shutdown> for TlogActor {
    type Result = ();

    /// A change under way is on disk whole or not at all, so nothing waits for it.
    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
