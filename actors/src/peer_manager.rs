//! The peer manager: who we know, by which key, and who may speak to us now.
//!
//! Owns: the [`PeerTable`] with its log on disk, the sessions peers opened with us, and the
//! challenges they may answer. Talks to: nobody. Asked by: the HTTP door, the meeting actor and the command line,
//! through [`PeerManagerHandle`].
//! Invariants: a key is on disk before a session opens on it; no message ever changes a pinned key.
//!
//! What every request asks (whose token is this? is this peer the one we know?) changes nothing on disk, so the
//! handle answers it from the [`Reception`] that it shares with the actor. All that is to be written down goes
//! through the actor, one decision at a time.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use futures::FutureExt as _;
use kairos_place::session::{Full, Refusal, Session, SessionPolicy, Strength};
use kairos_protocol::crypto::KeyError;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Clock;
use kairos_protocol::wire::introduction::VerifiedIdentity;
use kairos_protocol::wire::possession::ProofError;
use thiserror::Error;

use crate::bounded_addr::{AskError, Asks, BoundedAddr};

mod census;
mod message;
mod reception;
mod share;
pub mod store;
pub mod table;
#[cfg(test)]
mod tests;

pub use message::{
    Admission, Caller, Decide, Find, Health, Introduce, Learn, List, Meet, Shutdown,
};
use message::{Observe, Tick};
use reception::{Reception, apply};
use store::{Appended, Change, PeerStore};
use table::{Census, Observed, Peer, PeerTable, PeerTableError};

/// How often the table looks for what other processes wrote, and for expired sessions.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Bounds of the peer manager.
#[derive(Debug, Clone)]
pub struct PeerPolicy {
    /// Bounds of sessions.
    pub sessions: SessionPolicy,
    /// Most peers remembered.
    pub peers: usize,
    /// Time a challenge is good for, and by which clocks may differ.
    pub proof_window: Duration,
    /// New ids that one address may introduce per minute.
    pub new_peers_per_address: u32,
    /// Most peers remembered that introduced themselves from one address since the process began.
    pub peers_per_address: usize,
}

impl Default for PeerPolicy {
    fn default() -> Self {
        Self {
            sessions: SessionPolicy::default(),
            peers: 10_000,
            proof_window: Duration::from_secs(60),
            new_peers_per_address: 60,
            peers_per_address: 1_000,
        }
    }
}

/// Who this node is, to tell its own introduction when it comes back.
#[derive(Debug, Clone)]
pub struct Own {
    /// Our id.
    pub agent_id: AgentId,
    /// Hash of our key.
    pub key: ContentHash,
}

/// What went wrong with a peer.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The identity is this node's own: a replay.
    #[error("this is our own identity; an agent cannot introduce itself to itself")]
    Own,
    /// The table refused; see there.
    #[error(transparent)]
    Table(#[from] PeerTableError),
    /// No session is free.
    #[error(transparent)]
    Full(#[from] Full),
    /// The token was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The proof was refused.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Too many new ids from one address.
    #[error("too many new agents from this address; wait {} seconds", .wait.as_secs())]
    TooManyNew {
        /// Until the window ends.
        wait: Duration,
    },
    /// As many peers are remembered from one address as may be.
    #[error("{most} agents from this address are remembered, which is the limit")]
    AddressShare {
        /// The bound.
        most: usize,
    },
    /// The log of peers could not be written or read.
    #[error("the log of peers could not be used: {0}")]
    Store(#[source] io::Error),
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The actor did not answer.
    #[error("the peer manager {0}")]
    Ask(#[from] AskError),
}

/// See the module.
pub struct PeerManagerActor {
    clock: Arc<dyn Clock>,
    reception: Arc<Reception>,
    /// Used from blocking threads only, one at a time; never locked across an await.
    store: Arc<Mutex<PeerStore>>,
}

/// Reaches the peer manager.
#[derive(Clone)]
pub struct PeerManagerHandle {
    addr: BoundedAddr<PeerManagerActor>,
    reception: Arc<Reception>,
    clock: Arc<dyn Clock>,
}

impl PeerManagerHandle {
    /// Opens a session for a correctly signed identity.
    ///
    /// Fails with [`PeerTableError::Conflict`] when the id is pinned to another key, with [`PeerError::Proof`] when
    /// a proof is there and does not hold, and with [`Full`] or [`PeerError::TooManyNew`] at the bounds.
    pub async fn introduce(&self, message: Introduce) -> Result<Admission, PeerError> {
        self.reception.check(&message, self.clock.now())?;
        match self.reception.welcome(&message, self.clock.now()) {
            Some(admission) => admission,
            None => self.addr.ask(Observe(message)).await?,
        }
    }

    /// Takes the proof of an agent that registers at the Place we host; `known` if it is registered already. Nothing is
    /// pinned among the peers, but a pin there is respected. [`admit_guest`](Self::admit_guest) then opens its session.
    pub fn receive_guest(&self, message: &Introduce, known: bool) -> Result<Strength, PeerError> {
        let now = self.clock.now();
        self.reception.check(message, now)?;
        self.reception.desk().receive_guest(message, known, now)
    }

    /// Opens the session of an agent that is registered at the Place we host.
    pub fn admit_guest(
        &self,
        message: &Introduce,
        strength: Strength,
    ) -> Result<Admission, PeerError> {
        let now = self.clock.now();
        self.reception.desk().open_session(message, strength, now)
    }

    /// Counts somebody without a key against its address.
    pub fn count_stranger(&self, address: IpAddr) -> Result<(), PeerError> {
        let now = self.clock.now();
        self.reception.desk().count_newcomer(address, now)
    }

    /// Counts a request of the session behind `token` and tells whom it speaks for.
    pub fn admit(&self, token: &str) -> Result<Caller, PeerError> {
        self.reception.admit(token, self.clock.now())
    }

    /// Whom `token` speaks for, without counting a request: whether somebody who was let in may stay.
    pub fn peek(&self, token: &str) -> Option<Caller> {
        let now = self.clock.now();
        let desk = self.reception.desk();
        desk.sessions.peek(token, now).map(|session| Caller {
            agent_id: session.agent_id.clone(),
            key: session.key,
            strength: session.strength,
        })
    }

    /// How many peers there are of each kind, and how many sessions are open.
    pub fn census(&self) -> (Census, usize) {
        let desk = self.reception.desk();
        (desk.table.census(), desk.sessions.len())
    }

    /// Ends every session that is `unwanted`; returns how many.
    pub fn close_where(&self, unwanted: impl Fn(&Session) -> bool) -> usize {
        self.reception.desk().sessions.close_where(unwanted)
    }

    /// Ends the session behind `token`, if there is one.
    pub fn close(&self, token: &str) {
        self.reception.desk().sessions.close(token);
    }

    /// See [`Meet`].
    pub async fn meet(
        &self,
        identity: VerifiedIdentity,
        url: String,
        strength: Strength,
    ) -> Result<Peer, PeerError> {
        self.addr
            .ask(Meet {
                identity,
                url,
                strength,
            })
            .await?
    }

    /// See [`Learn`].
    pub async fn learn(&self, identity: VerifiedIdentity) -> Result<Peer, PeerError> {
        self.addr.ask(Learn { identity }).await?
    }

    /// See [`List`].
    pub async fn list(&self) -> Result<Vec<Peer>, PeerError> {
        self.addr.ask(List).await?
    }

    /// See [`Find`].
    pub async fn find(&self, id: &str) -> Result<Option<Peer>, PeerError> {
        self.addr.ask(Find { id: id.to_owned() }).await?
    }

    /// See [`Decide`].
    pub async fn decide(&self, decision: Decide) -> Result<Peer, PeerError> {
        self.addr.ask(decision).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.addr.asks()
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), PeerError> {
        self.addr.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), PeerError> {
        self.addr.ask(Shutdown).await?
    }
}

impl PeerManagerActor {
    /// Opens the log at `path`, takes over what the reference kept in `reference_file` if the log is new, and
    /// starts the actor. Blocks on the disk, so it belongs before anything is served.
    pub fn start(
        path: &Path,
        reference_file: &Path,
        own: Own,
        policy: PeerPolicy,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> Result<PeerManagerHandle, PeerError> {
        let is_new = !path.exists();
        let (mut store, changes) = PeerStore::open(path).map_err(PeerError::Store)?;
        let mut table = PeerTable::new(policy.peers);
        apply(&mut table, changes);
        if is_new {
            for peer in store::read_reference_file(reference_file, clock.now()) {
                let put = Change::Put(Box::new(peer.clone()));
                match store.append(put).map_err(PeerError::Store)? {
                    Appended::Done(_) => table.restore(peer),
                    // Another process is taking them over as well.
                    Appended::Stale(news) => apply(&mut table, news.changes),
                }
            }
        }
        store.compact(&table.all()).map_err(PeerError::Store)?;
        let reception = Arc::new(Reception::new(own, policy, table)?);
        let actor = Self {
            clock: Arc::clone(&clock),
            reception: Arc::clone(&reception),
            store: Arc::new(Mutex::new(store)),
        };
        Ok(PeerManagerHandle {
            addr: BoundedAddr::start(permits, patience, |_| actor),
            reception,
            clock,
        })
    }

    /// Lets `decide` change the record of `id` and writes the outcome durably; sessions of a pin that was given up
    /// end.
    ///
    /// If another process changed the same record meanwhile, its change is taken over and `decide` runs again, so
    /// that no decision is lost. What could not be written is taken back.
    fn decide<T: 'static>(
        &mut self,
        id: String,
        decide: impl Fn(&mut PeerTable) -> Decided<T> + 'static,
    ) -> ResponseActFuture<Self, Result<T, PeerError>> {
        let (before, result, change) = {
            let mut desk = self.reception.desk();
            let before = desk.table.get(&id).cloned();
            let (result, change) = decide(&mut desk.table);
            if change.is_some() {
                desk.undecided = Some(id.clone());
            }
            (before, result.map_err(PeerError::from), change)
        };
        let Some(change) = change else {
            return Box::pin(fut::ready(result));
        };
        let store = Arc::clone(&self.store);
        let write = tokio::task::spawn_blocking(move || lock(&store).append(change));
        let write = write.map(|written| written.map_err(io::Error::other).flatten());
        Box::pin(
            write
                .into_actor(self)
                .then(move |written, this, _ctx| match written {
                    Ok(Appended::Done(news)) => {
                        let mut desk = this.reception.desk();
                        desk.undecided = None;
                        desk.end_sessions_of_lost_pins(before);
                        desk.absorb(news);
                        drop(desk);
                        Box::pin(fut::ready(result))
                    }
                    Ok(Appended::Stale(news)) => {
                        let mut desk = this.reception.desk();
                        desk.put_back(&id, before);
                        desk.absorb(news);
                        drop(desk);
                        this.decide(id, decide)
                    }
                    Err(error) => {
                        this.reception.desk().put_back(&id, before);
                        let failed = Err(PeerError::Store(error));
                        Box::pin(fut::ready(result.and(failed)))
                    }
                }),
        )
    }

    /// Rewrites the log if it grew `wasteful`.
    fn compact(&self, wasteful: bool) -> impl Future<Output = ()> + use<> {
        let work = wasteful.then(|| (Arc::clone(&self.store), self.reception.desk().table.all()));
        async move {
            let Some((store, live)) = work else { return };
            let compact = move || lock(&store).compact(&live);
            let done = tokio::task::spawn_blocking(compact).await;
            if let Err(error) = done.map_err(io::Error::other).flatten() {
                tracing::warn!(%error, "the log of peers could not be rewritten");
            }
        }
    }
}

impl Actor for PeerManagerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(HOUSEKEEPING, |_, ctx| ctx.notify(Tick));
    }
}

impl Handler<Observe> for PeerManagerActor {
    type Result = AtomicResponse<Self, Result<Admission, PeerError>>;

    fn handle(&mut self, Observe(message): Observe, _ctx: &mut Self::Context) -> Self::Result {
        let now = self.clock.now();
        let strength = match self.reception.desk().receive(&message, now) {
            Ok(strength) => strength,
            Err(error) => return AtomicResponse::new(Box::pin(fut::err(error))),
        };
        let identity = message.identity.clone();
        let is_new = !self.reception.desk().table.knows(&identity.agent_id);
        let observed = self.decide(identity.agent_id.to_string(), move |table| {
            observation(table.observe(&identity, None, strength, now))
        });
        AtomicResponse::new(Box::pin(observed.map(move |observed, this, _ctx| {
            observed?;
            let now = this.clock.now();
            let mut desk = this.reception.desk();
            if is_new {
                desk.note_share(&message);
            }
            desk.open_session(&message, strength, now)
        })))
    }
}

impl Handler<Meet> for PeerManagerActor {
    type Result = AtomicResponse<Self, Result<Peer, PeerError>>;

    fn handle(&mut self, message: Meet, _ctx: &mut Self::Context) -> Self::Result {
        let id = message.identity.agent_id.clone();
        let now = self.clock.now();
        let met = self.decide(id.to_string(), move |table| {
            let url = Some(message.url.as_str());
            observation(table.observe(&message.identity, url, message.strength, now))
        });
        AtomicResponse::new(Box::pin(met.map(move |met, this, _ctx| {
            met?;
            let known = this.reception.desk().table.get(id.as_str()).cloned();
            known.ok_or_else(|| PeerTableError::Unknown(id.to_string()).into())
        })))
    }
}

impl Handler<Learn> for PeerManagerActor {
    type Result = AtomicResponse<Self, Result<Peer, PeerError>>;

    fn handle(&mut self, message: Learn, _ctx: &mut Self::Context) -> Self::Result {
        let id = message.identity.agent_id.clone();
        let now = self.clock.now();
        let learned = self.decide(id.to_string(), move |table| {
            observation(table.observe(&message.identity, None, Strength::Introduced, now))
        });
        AtomicResponse::new(Box::pin(learned.map(move |learned, this, _ctx| {
            learned?;
            let known = this.reception.desk().table.get(id.as_str()).cloned();
            known.ok_or_else(|| PeerTableError::Unknown(id.to_string()).into())
        })))
    }
}

impl Handler<List> for PeerManagerActor {
    type Result = Result<Vec<Peer>, PeerError>;

    fn handle(&mut self, _message: List, _ctx: &mut Self::Context) -> Self::Result {
        Ok(self.reception.desk().table.all())
    }
}

impl Handler<Find> for PeerManagerActor {
    type Result = Result<Option<Peer>, PeerError>;

    fn handle(&mut self, message: Find, _ctx: &mut Self::Context) -> Self::Result {
        Ok(self.reception.desk().table.get(&message.id).cloned())
    }
}

impl Handler<Decide> for PeerManagerActor {
    type Result = AtomicResponse<Self, Result<Peer, PeerError>>;

    fn handle(&mut self, decision: Decide, _ctx: &mut Self::Context) -> Self::Result {
        let id = match &decision {
            Decide::Trust(id) | Decide::Forget(id) | Decide::Keep(id) | Decide::Accept(id, _) => id,
        };
        AtomicResponse::new(self.decide(id.clone(), move |table| {
            let decided = match &decision {
                Decide::Trust(id) => table.trust(id),
                Decide::Forget(id) => table.forget(id),
                Decide::Keep(id) => table.keep(id),
                Decide::Accept(id, fingerprint) => table.accept(id, fingerprint),
            };
            let change = decided.as_ref().ok().map(|peer| match decision {
                Decide::Forget(_) => Change::Forget(peer.id.clone()),
                _ => Change::Put(Box::new(peer.clone())),
            });
            (decided, change)
        }))
    }
}

impl Handler<Health> for PeerManagerActor {
    type Result = Result<(), PeerError>;

    fn handle(&mut self, _message: Health, _ctx: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Shutdown> for PeerManagerActor {
    type Result = Result<(), PeerError>;

    fn handle(&mut self, _message: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        // Everything acknowledged is on disk already.
        ctx.stop();
        Ok(())
    }
}

impl Handler<Tick> for PeerManagerActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _tick: Tick, _ctx: &mut Self::Context) -> Self::Result {
        self.reception.desk().sessions.sweep(self.clock.now());
        let store = Arc::clone(&self.store);
        let known = self.reception.desk().table.len();
        let read = tokio::task::spawn_blocking(move || {
            let mut store = lock(&store);
            Ok((store.refresh()?, store.is_wasteful(known)))
        });
        let read = read.map(|read| read.map_err(io::Error::other).flatten());
        AtomicResponse::new(Box::pin(read.into_actor(self).then(|read, this, _ctx| {
            let wasteful = match read {
                Ok((news, wasteful)) => {
                    this.reception.desk().absorb(news);
                    wasteful
                }
                Err(error) => {
                    tracing::warn!(%error, "the log of peers could not be read");
                    false
                }
            };
            this.compact(wasteful).into_actor(this)
        })))
    }
}

/// What came of a look at the table, and what is to be written down of it.
type Decided<T> = (Result<T, PeerTableError>, Option<Change>);

fn observation(observed: Result<Observed, PeerTableError>) -> Decided<()> {
    let record = match &observed {
        Ok(Observed::Pinned(peer) | Observed::Known(Some(peer))) => Some(peer.clone()),
        Err(PeerTableError::Conflict { record, .. }) => record.as_deref().cloned(),
        _ => None,
    };
    let change = record.map(|peer| Change::Put(Box::new(peer)));
    (observed.map(drop), change)
}

fn lock(store: &Mutex<PeerStore>) -> std::sync::MutexGuard<'_, PeerStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
