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
use kairos_place::allowance::AddressAllowance;
use kairos_place::nonce::NonceBook;
use kairos_place::session::{Full, Refusal, SessionPolicy, SessionTable, Strength};
use kairos_protocol::crypto::{self, KeyError};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Clock;
use kairos_protocol::wire::introduction::VerifiedIdentity;
use kairos_protocol::wire::possession::{Proof, ProofError};
use thiserror::Error;

use crate::bounded_addr::{AskError, BoundedAddr};

pub mod store;
pub mod table;

use store::{Appended, Change, PeerStore};
use table::{Observed, Peer, PeerTable, PeerTableError};

/// How often the table looks for what other processes wrote, and for expired sessions.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How often an observation starts over because another process wrote about the same peer meanwhile.
const RETRIES: u32 = 8;

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

impl PeerError {
    fn contended() -> Self {
        Self::Store(io::Error::other(
            "other processes keep writing about this peer",
        ))
    }
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
        self.0.ask(Health).await?
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
                store
                    .append(Change::Put(Box::new(peer.clone())))
                    .map_err(PeerError::Store)?;
                table.restore(peer);
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

    /// Writes `change` durably, then takes over what other processes wrote.
    fn persist(
        &self,
        change: Option<Change>,
    ) -> impl ActorFuture<Self, Output = Result<(), PeerError>> + 'static {
        let store = Arc::clone(&self.store);
        let write = async move {
            let Some(change) = change else {
                return Ok(Vec::new());
            };
            let append = move || lock(&store).append(change);
            match tokio::task::spawn_blocking(append).await {
                Ok(others) => others.map_err(PeerError::Store),
                Err(panic) => Err(PeerError::Store(io::Error::other(panic))),
            }
        };
        write.into_actor(self).map(|others, this, _ctx| {
            apply(&mut this.table, others?);
            Ok(())
        })
    }

    /// Writes `peer` durably unless another process wrote about it first, and takes over what others wrote; whether
    /// the table and the log now tell of `peer`.
    fn persist_if_current(
        &self,
        peer: Option<Peer>,
    ) -> impl ActorFuture<Self, Output = Result<bool, PeerError>> + 'static {
        let store = Arc::clone(&self.store);
        let write = async move {
            let Some(peer) = peer else {
                return Ok(Appended {
                    others: Vec::new(),
                    written: true,
                });
            };
            let append = move || lock(&store).append_if_current(Change::Put(Box::new(peer)));
            match tokio::task::spawn_blocking(append).await {
                Ok(appended) => appended.map_err(PeerError::Store),
                Err(panic) => Err(PeerError::Store(io::Error::other(panic))),
            }
        };
        write.into_actor(self).map(|appended, this, _ctx| {
            let appended = appended?;
            apply(&mut this.table, appended.others);
            Ok(appended.written)
        })
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

    fn observe(&mut self, message: &Introduce, strength: Strength) -> Result<Observed, PeerError> {
        let now = self.clock.now();
        if self.table.get(message.identity.agent_id.as_str()).is_none() {
            self.newcomers
                .admit(message.address, now)
                .map_err(|wait| PeerError::TooManyNew { wait })?;
        }
        Ok(self.table.observe(&message.identity, None, strength, now)?)
    }

    /// Observes, writes, and opens a session; again from the start if another process wrote about this peer first.
    fn introduced(
        &mut self,
        message: Introduce,
        strength: Strength,
        retries: u32,
    ) -> ResponseActFuture<Self, Result<Admission, PeerError>> {
        let (result, change) = match self.observe(&message, strength) {
            Ok(Observed::Pinned(peer)) => (Ok(()), Some(peer)),
            Ok(Observed::Known(changed)) => (Ok(()), changed),
            Err(error) => {
                let record = conflict_in(&error);
                (Err(error), record)
            }
        };
        let write = self.persist_if_current(change);
        Box::pin(write.then(move |written, this, _ctx| {
            let done = match (result, written) {
                (_, Ok(false)) if retries > 0 => {
                    return this.introduced(message, strength, retries - 1);
                }
                (Err(error), _) => Err(error),
                (Ok(()), Ok(true)) => this.open_session(&message, strength),
                (Ok(()), Ok(false)) => Err(PeerError::contended()),
                (Ok(()), Err(error)) => {
                    // Not on disk, so not pinned: the next introduction starts over.
                    let _ = this.table.forget(message.identity.agent_id.as_str());
                    Err(error)
                }
            };
            Box::pin(fut::ready(done))
        }))
    }

    /// Observes and writes; again from the start if another process wrote about this peer first.
    fn met(
        &mut self,
        message: Meet,
        retries: u32,
    ) -> ResponseActFuture<Self, Result<Peer, PeerError>> {
        let now = self.clock.now();
        let observed =
            self.table
                .observe(&message.identity, Some(&message.url), message.strength, now);
        let observed = observed.map_err(PeerError::from);
        let change = match &observed {
            Ok(Observed::Pinned(peer) | Observed::Known(Some(peer))) => Some(peer.clone()),
            Ok(Observed::Known(None)) => None,
            Err(error) => conflict_in(error),
        };
        let write = self.persist_if_current(change);
        Box::pin(write.then(move |written, this, _ctx| {
            let id = &message.identity.agent_id;
            let done = match (observed, written) {
                (_, Ok(false)) if retries > 0 => return this.met(message, retries - 1),
                (Err(error), _) => Err(error),
                (Ok(_), Ok(true)) => {
                    let known = this.table.get(id.as_str()).cloned();
                    known.ok_or_else(|| PeerTableError::Unknown(id.to_string()).into())
                }
                (Ok(_), Ok(false)) => Err(PeerError::contended()),
                (Ok(observed), Err(error)) => {
                    if matches!(observed, Observed::Pinned(_)) {
                        let _ = this.table.forget(id.as_str());
                    }
                    Err(error)
                }
            };
            Box::pin(fut::ready(done))
        }))
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
        let own = &self.own;
        if message.identity.agent_id == own.agent_id || message.identity.key.hash() == own.key {
            return AtomicResponse::new(Box::pin(fut::err(PeerError::Own)));
        }
        AtomicResponse::new(match self.strength_of(&message) {
            Ok(strength) => self.introduced(message, strength, RETRIES),
            Err(error) => Box::pin(fut::err(error)),
        })
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
        AtomicResponse::new(self.met(message, RETRIES))
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
        let before = self.table.get(id).cloned();
        let decided = match &decision {
            Decide::Trust(id) => self.table.trust(id),
            Decide::Forget(id) => self.table.forget(id),
            Decide::Keep(id) => self.table.keep(id),
            Decide::Accept(id, fingerprint) => self.table.accept(id, fingerprint),
        };
        let change = decided.as_ref().ok().map(|peer| match decision {
            Decide::Forget(_) => Change::Forget(peer.id.clone()),
            _ => Change::Put(Box::new(peer.clone())),
        });
        let ends_sessions = matches!(decision, Decide::Forget(_) | Decide::Accept(..));
        let write = self.persist(change);
        AtomicResponse::new(Box::pin(write.map(move |written, this, _ctx| {
            let peer = decided?;
            if let Err(error) = written {
                before.into_iter().for_each(|old| this.table.restore(old));
                return Err(error);
            }
            if let Some(old) = before.filter(|_| ends_sessions) {
                this.sessions.close_all_of(&old.key.hash());
            }
            Ok(peer)
        })))
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
        let read = tokio::task::spawn_blocking(move || lock(&store).refresh());
        AtomicResponse::new(Box::pin(read.into_actor(self).map(
            |read, this, _ctx| match read {
                Ok(Ok(changes)) => {
                    for change in &changes {
                        this.end_sessions_of_lost_pins(change);
                    }
                    apply(&mut this.table, changes);
                }
                Ok(Err(error)) => tracing::warn!(%error, "the log of peers could not be read"),
                Err(panic) => tracing::error!(error = %panic, "reading the log of peers panicked"),
            },
        )))
    }
}

impl PeerManagerActor {
    /// A decision made in another process ends the same sessions as one made here.
    fn end_sessions_of_lost_pins(&mut self, change: &Change) {
        let (id, key) = match change {
            Change::Put(peer) => (&peer.id, Some(&peer.key)),
            Change::Forget(id) => (id, None),
        };
        let lost = self
            .table
            .get(id.as_str())
            .filter(|known| Some(&known.key) != key);
        if let Some(key) = lost.map(|known| known.key.hash()) {
            self.sessions.close_all_of(&key);
        }
    }
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

/// The record of a conflict that is worth writing.
fn conflict_in(error: &PeerError) -> Option<Peer> {
    match error {
        PeerError::Table(PeerTableError::Conflict { record, .. }) => record.as_deref().cloned(),
        _ => None,
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

#[cfg(test)]
mod tests {
    use kairos_protocol::crypto::Keypair;
    use kairos_protocol::time::{ManualClock, Timestamp};

    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        clock: Arc<ManualClock>,
        own: Own,
        peer: Keypair,
    }

    impl Bench {
        fn new() -> Self {
            let own = Keypair::generate().unwrap();
            Self {
                folder: tempfile::tempdir().unwrap(),
                clock: Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000))),
                own: Own {
                    agent_id: own.public().agent_id(),
                    key: own.public().hash(),
                },
                peer: Keypair::generate().unwrap(),
            }
        }

        fn start(&self, policy: PeerPolicy) -> PeerManagerHandle {
            let path = self.folder.path().join("peers.jsonl");
            let old = self.folder.path().join("peers.json");
            let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
            PeerManagerActor::start(
                &path,
                &old,
                self.own.clone(),
                policy,
                clock,
                8,
                Duration::from_secs(5),
            )
            .unwrap()
        }

        fn introduce(&self, id: &str, proof: Option<Proof>) -> Introduce {
            Introduce {
                identity: VerifiedIdentity {
                    agent_id: id.parse().unwrap(),
                    key: self.peer.public().clone(),
                    name: "peer".into(),
                },
                proof,
                wants_challenge: true,
                address: IpAddr::from([127, 0, 0, 1]),
                replaces: None,
            }
        }
    }

    #[actix::test]
    async fn an_answered_challenge_makes_a_proven_session_once() {
        let bench = Bench::new();
        let peers = bench.start(PeerPolicy::default());
        let first = peers.introduce(bench.introduce("a", None)).await.unwrap();
        assert_eq!(first.strength, Strength::Introduced);
        let (id, now) = ("a".parse().unwrap(), bench.clock.now());
        let proof = Proof::sign(
            &bench.peer,
            &id,
            &bench.own.agent_id,
            &first.nonce.unwrap(),
            now,
        )
        .unwrap();
        let mut again = bench.introduce("a", Some(proof.clone()));
        again.replaces = Some(first.token.clone());
        let second = peers.introduce(again).await.unwrap();
        assert_eq!(second.strength, Strength::Proven);
        assert_eq!(
            peers.admit(second.token).await.unwrap().strength,
            Strength::Proven
        );
        assert!(matches!(
            peers.admit(first.token).await,
            Err(PeerError::Refused(Refusal::Unknown))
        ));
        let replayed = peers
            .introduce(bench.introduce("a", Some(proof)))
            .await
            .unwrap_err();
        assert!(
            matches!(replayed, PeerError::Proof(ProofError::Nonce)),
            "{replayed}"
        );
    }

    #[actix::test]
    async fn a_pin_survives_a_restart_and_another_key_is_refused() {
        let bench = Bench::new();
        let peers = bench.start(PeerPolicy::default());
        peers.introduce(bench.introduce("a", None)).await.unwrap();
        peers.shutdown().await.unwrap();
        let peers = bench.start(PeerPolicy::default());
        let other = Keypair::generate().unwrap().public().clone();
        let mut claim = bench.introduce("a", None);
        claim.identity.key = other.clone();
        let refused = peers.introduce(claim).await.unwrap_err();
        assert!(matches!(
            refused,
            PeerError::Table(PeerTableError::Conflict { .. })
        ));
        let peer = peers
            .decide(Decide::Accept("a".into(), other.fingerprint()))
            .await
            .unwrap();
        assert_eq!(peer.key, other);
        peers.shutdown().await.unwrap();
        let peers = bench.start(PeerPolicy::default());
        assert_eq!(peers.list().await.unwrap()[0].key, other);
    }

    #[actix::test]
    async fn our_own_identity_opens_no_session() {
        let bench = Bench::new();
        let peers = bench.start(PeerPolicy::default());
        let own_id = peers
            .introduce(bench.introduce(bench.own.agent_id.as_str(), None))
            .await;
        assert!(matches!(own_id, Err(PeerError::Own)));
    }

    #[actix::test]
    async fn one_address_introduces_a_bounded_number_of_new_agents() {
        let bench = Bench::new();
        let peers = bench.start(PeerPolicy {
            new_peers_per_address: 2,
            ..PeerPolicy::default()
        });
        for id in ["a", "b"] {
            peers.introduce(bench.introduce(id, None)).await.unwrap();
        }
        let third = peers.introduce(bench.introduce("c", None)).await;
        assert!(matches!(third, Err(PeerError::TooManyNew { .. })));
        peers.introduce(bench.introduce("a", None)).await.unwrap();
        bench.clock.advance(Duration::from_secs(61));
        peers.introduce(bench.introduce("c", None)).await.unwrap();
    }

    #[actix::test]
    async fn a_decision_of_another_process_is_seen_and_ends_sessions() {
        let bench = Bench::new();
        let [ours, theirs] = [(), ()].map(|()| bench.start(PeerPolicy::default()));
        let session = ours.introduce(bench.introduce("a", None)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while theirs.list().await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            theirs.decide(Decide::Forget("a".into())).await.unwrap();
            let gone = |answer| matches!(answer, Err(PeerError::Refused(Refusal::Unknown)));
            while !gone(ours.admit(session.token.clone()).await) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the other process's change is seen");
        assert!(ours.list().await.unwrap().is_empty());
    }
}
