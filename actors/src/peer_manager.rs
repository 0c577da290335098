//! The peer manager: who we know, by which key, and who may speak to us now.
//!
//! Owns: the [`PeerTable`] with its log on disk, the sessions peers opened with us, and the challenges they may
//! answer. Talks to: nobody. Asked by: the HTTP door for every request that carries a token, the meeting actor and
//! the command line, through [`PeerManagerHandle`].
//! Invariants: a key is on disk before a session opens on it; no message ever changes a pinned key.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use futures::FutureExt as _;
use kairos_place::allowance::AddressAllowance;
use kairos_place::nonce::NonceBook;
use kairos_place::session::{Full, Refusal, SessionPolicy, SessionTable, Strength};
use kairos_protocol::crypto::{self, KeyError};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Clock;
use kairos_protocol::wire::introduction::VerifiedIdentity;
use kairos_protocol::wire::possession::{Proof, ProofError, Side};
use thiserror::Error;

use crate::bounded_addr::{AskError, BoundedAddr};

pub mod store;
pub mod table;
#[cfg(test)]
mod tests;

use store::{Appended, Change, News, PeerStore};
use table::{Observed, Peer, PeerTable, PeerTableError};

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
}

impl Default for PeerPolicy {
    fn default() -> Self {
        Self {
            sessions: SessionPolicy::default(),
            peers: 10_000,
            proof_window: Duration::from_secs(60),
            new_peers_per_address: 60,
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

/// Opens a session for a correctly signed identity.
///
/// Fails with [`PeerTableError::Conflict`] when the id is pinned to another key, with [`PeerError::Proof`] when a
/// proof is there and does not hold, and with [`Full`] or [`PeerError::TooManyNew`] at the bounds.
#[derive(Debug, Message)]
#[rtype(result = "Result<Admission, PeerError>")]
pub struct Introduce {
    /// Whose signature was checked.
    pub identity: VerifiedIdentity,
    /// The answer to a challenge, if the peer sent one.
    pub proof: Option<Proof>,
    /// Whether the peer wants a challenge.
    pub wants_challenge: bool,
    /// Where the request came from.
    pub address: IpAddr,
    /// A session of the same key that the new one replaces.
    pub replaces: Option<String>,
}

/// An open session, as told to its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The token, 64 hex digits; known to nobody else from here on.
    pub token: String,
    /// How strongly it was established.
    pub strength: Strength,
    /// Lifetime.
    pub ttl: Duration,
    /// A fresh challenge, if one was wanted.
    pub nonce: Option<String>,
}

/// Counts a request of the session behind `token`.
#[derive(Debug, Message)]
#[rtype(result = "Result<Caller, PeerError>")]
pub struct Admit {
    /// The bearer token.
    pub token: String,
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The agent.
    pub agent_id: AgentId,
    /// How strongly that is established.
    pub strength: Strength,
}

/// Ends the session behind `token`, if there is one.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), PeerError>")]
pub struct Close {
    /// The bearer token.
    pub token: String,
}

/// Pins or confirms an agent that we went to meet at `url`.
#[derive(Debug, Message)]
#[rtype(result = "Result<Peer, PeerError>")]
pub struct Meet {
    /// Whose signature was checked.
    pub identity: VerifiedIdentity,
    /// Where it was met.
    pub url: String,
    /// Whether it also proved to hold its key.
    pub strength: Strength,
}

/// All known peers, by id.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Peer>, PeerError>")]
pub struct List;

/// The peer with an id, if it is known.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<Peer>, PeerError>")]
pub struct Find {
    /// The id.
    pub id: String,
}

/// A decision of a person about a peer; returns the record after it, or the last one when it was forgotten.
#[derive(Debug, Message)]
#[rtype(result = "Result<Peer, PeerError>")]
pub enum Decide {
    /// Trust it.
    Trust(String),
    /// Forget it and its pin, and end its sessions.
    Forget(String),
    /// Resolve its conflict by keeping the pinned key.
    Keep(String),
    /// Resolve its conflict by accepting the key with this fingerprint; ends the sessions of the old key.
    Accept(String, String),
}

/// Whether the actor answers.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), PeerError>")]
pub struct Health;

/// Flushes and stops.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), PeerError>")]
pub struct Shutdown;

/// Periodic upkeep.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Tick;

/// See the module.
pub struct PeerManagerActor {
    own: Own,
    clock: Arc<dyn Clock>,
    policy: PeerPolicy,
    table: PeerTable,
    sessions: SessionTable,
    nonces: NonceBook,
    newcomers: AddressAllowance,
    /// Used from blocking threads only, one at a time; never locked across an await.
    store: Arc<Mutex<PeerStore>>,
}

/// Reaches the peer manager.
#[derive(Clone)]
pub struct PeerManagerHandle(BoundedAddr<PeerManagerActor>);

impl PeerManagerHandle {
    /// See [`Introduce`].
    pub async fn introduce(&self, message: Introduce) -> Result<Admission, PeerError> {
        self.0.ask(message).await?
    }

    /// See [`Admit`].
    pub async fn admit(&self, token: String) -> Result<Caller, PeerError> {
        self.0.ask(Admit { token }).await?
    }

    /// See [`Close`].
    pub async fn close(&self, token: String) -> Result<(), PeerError> {
        self.0.ask(Close { token }).await?
    }

    /// See [`Meet`].
    pub async fn meet(
        &self,
        identity: VerifiedIdentity,
        url: String,
        strength: Strength,
    ) -> Result<Peer, PeerError> {
        self.0
            .ask(Meet {
                identity,
                url,
                strength,
            })
            .await?
    }

    /// See [`List`].
    pub async fn list(&self) -> Result<Vec<Peer>, PeerError> {
        self.0.ask(List).await?
    }

    /// See [`Find`].
    pub async fn find(&self, id: &str) -> Result<Option<Peer>, PeerError> {
        self.0.ask(Find { id: id.to_owned() }).await?
    }

    /// See [`Decide`].
    pub async fn decide(&self, decision: Decide) -> Result<Peer, PeerError> {
        self.0.ask(decision).await?
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), PeerError> {
        self.0.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), PeerError> {
        self.0.ask(Shutdown).await?
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
        let actor = Self {
            own,
            clock,
            sessions: SessionTable::new(policy.sessions.clone()),
            nonces: NonceBook::new(crypto::random_bytes()?, policy.proof_window),
            newcomers: AddressAllowance::new(policy.new_peers_per_address),
            table,
            policy,
            store: Arc::new(Mutex::new(store)),
        };
        Ok(PeerManagerHandle(BoundedAddr::start(
            permits,
            patience,
            |_| actor,
        )))
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
        let before = self.table.get(&id).cloned();
        let (result, change) = decide(&mut self.table);
        let result = result.map_err(PeerError::from);
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
                        this.end_sessions_of_lost_pins(before);
                        this.absorb(news);
                        Box::pin(fut::ready(result))
                    }
                    Ok(Appended::Stale(news)) => {
                        this.put_back(&id, before);
                        this.absorb(news);
                        this.decide(id, decide)
                    }
                    Err(error) => {
                        this.put_back(&id, before);
                        let failed = Err(PeerError::Store(error));
                        Box::pin(fut::ready(result.and(failed)))
                    }
                }),
        )
    }

    /// What is not on disk was not decided.
    fn put_back(&mut self, id: &str, before: Option<Peer>) {
        match before {
            Some(known) => self.table.restore(known),
            None => drop(self.table.forget(id)),
        }
    }

    /// Takes over what other processes wrote. Their decisions end the same sessions as those made here.
    fn absorb(&mut self, news: News) {
        let before = if news.whole {
            let fresh = PeerTable::new(self.policy.peers);
            std::mem::replace(&mut self.table, fresh).all()
        } else {
            let ids = news.changes.iter().map(|change| change.id().as_str());
            ids.filter_map(|id| self.table.get(id).cloned()).collect()
        };
        apply(&mut self.table, news.changes);
        self.end_sessions_of_lost_pins(before);
    }

    /// Rewrites the log if it grew `wasteful`.
    fn compact(&self, wasteful: bool) -> impl Future<Output = ()> + use<> {
        let work = wasteful.then(|| (Arc::clone(&self.store), self.table.all()));
        async move {
            let Some((store, live)) = work else { return };
            let compact = move || lock(&store).compact(&live);
            let done = tokio::task::spawn_blocking(compact).await;
            if let Err(error) = done.map_err(io::Error::other).flatten() {
                tracing::warn!(%error, "the log of peers could not be rewritten");
            }
        }
    }

    fn end_sessions_of_lost_pins(&mut self, before: impl IntoIterator<Item = Peer>) {
        for old in before {
            let now = self.table.get(old.id.as_str());
            if now.is_none_or(|peer| peer.key != old.key) {
                self.sessions.close_all_of(&old.key.hash());
            }
        }
    }

    /// Checks an answered challenge; without one the session is merely introduced.
    fn strength_of(&mut self, message: &Introduce) -> Result<Strength, PeerError> {
        let Some(proof) = &message.proof else {
            return Ok(Strength::Introduced);
        };
        let now = self.clock.now();
        let identity = &message.identity;
        let window = self.policy.proof_window;
        proof.verify(
            Side::Guest,
            &identity.key,
            &identity.agent_id,
            &self.own.agent_id,
            now,
            window,
        )?;
        // Redeemed last: a proof that fails must not burn the challenge of the one who holds the key.
        if !self.nonces.redeem(&proof.nonce, &identity.key.hash(), now) {
            return Err(ProofError::Nonce.into());
        }
        Ok(Strength::Proven)
    }

    /// Checks all that comes before the table is asked.
    fn admit_newcomer(&mut self, message: &Introduce) -> Result<Strength, PeerError> {
        let identity = &message.identity;
        if identity.agent_id == self.own.agent_id || identity.key.hash() == self.own.key {
            return Err(PeerError::Own);
        }
        let strength = self.strength_of(message)?;
        if self.table.get(identity.agent_id.as_str()).is_none() {
            self.newcomers
                .admit(message.address, self.clock.now())
                .map_err(|wait| PeerError::TooManyNew { wait })?;
        }
        Ok(strength)
    }

    fn open_session(
        &mut self,
        message: &Introduce,
        strength: Strength,
    ) -> Result<Admission, PeerError> {
        let now = self.clock.now();
        let key = message.identity.key.hash();
        let token = hex::encode(crypto::random_bytes()?);
        if let Some(old) = &message.replaces {
            self.sessions.close(old);
        }
        self.sessions.open(
            &token,
            message.identity.agent_id.clone(),
            key,
            strength,
            now,
        )?;
        let nonce = match message.wants_challenge {
            true => Some(self.nonces.issue(&key, half(crypto::random_bytes()?), now)),
            false => None,
        };
        Ok(Admission {
            token,
            strength,
            ttl: self.sessions.ttl(),
            nonce,
        })
    }
}

impl Actor for PeerManagerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(HOUSEKEEPING, |_, ctx| ctx.notify(Tick));
    }
}

impl Handler<Introduce> for PeerManagerActor {
    type Result = AtomicResponse<Self, Result<Admission, PeerError>>;

    fn handle(&mut self, message: Introduce, _ctx: &mut Self::Context) -> Self::Result {
        let strength = match self.admit_newcomer(&message) {
            Ok(strength) => strength,
            Err(error) => return AtomicResponse::new(Box::pin(fut::err(error))),
        };
        let (identity, now) = (message.identity.clone(), self.clock.now());
        let observed = self.decide(identity.agent_id.to_string(), move |table| {
            observation(table.observe(&identity, None, strength, now))
        });
        AtomicResponse::new(Box::pin(observed.map(move |observed, this, _ctx| {
            observed?;
            this.open_session(&message, strength)
        })))
    }
}

impl Handler<Admit> for PeerManagerActor {
    type Result = Result<Caller, PeerError>;

    fn handle(&mut self, message: Admit, _ctx: &mut Self::Context) -> Self::Result {
        let session = self.sessions.admit(&message.token, self.clock.now())?;
        Ok(Caller {
            agent_id: session.agent_id.clone(),
            strength: session.strength,
        })
    }
}

impl Handler<Close> for PeerManagerActor {
    type Result = Result<(), PeerError>;

    fn handle(&mut self, message: Close, _ctx: &mut Self::Context) -> Self::Result {
        self.sessions.close(&message.token);
        Ok(())
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
            let known = this.table.get(id.as_str()).cloned();
            known.ok_or_else(|| PeerTableError::Unknown(id.to_string()).into())
        })))
    }
}

impl Handler<List> for PeerManagerActor {
    type Result = Result<Vec<Peer>, PeerError>;

    fn handle(&mut self, _message: List, _ctx: &mut Self::Context) -> Self::Result {
        Ok(self.table.all())
    }
}

impl Handler<Find> for PeerManagerActor {
    type Result = Result<Option<Peer>, PeerError>;

    fn handle(&mut self, message: Find, _ctx: &mut Self::Context) -> Self::Result {
        Ok(self.table.get(&message.id).cloned())
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
        self.sessions.sweep(self.clock.now());
        let store = Arc::clone(&self.store);
        let known = self.table.len();
        let read = tokio::task::spawn_blocking(move || {
            let mut store = lock(&store);
            Ok((store.refresh()?, store.is_wasteful(known)))
        });
        let read = read.map(|read| read.map_err(io::Error::other).flatten());
        AtomicResponse::new(Box::pin(read.into_actor(self).then(|read, this, _ctx| {
            let wasteful = match read {
                Ok((news, wasteful)) => {
                    this.absorb(news);
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

fn apply(table: &mut PeerTable, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(peer) => table.restore(*peer),
            Change::Forget(id) => {
                let _ = table.forget(id.as_str());
            }
        }
    }
}

fn lock(store: &Mutex<PeerStore>) -> std::sync::MutexGuard<'_, PeerStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn half(bytes: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(bytes) {
        *to = from;
    }
    half
}
