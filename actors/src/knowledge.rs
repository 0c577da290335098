//! The knowledge actor: the skills of this node, listed, read, taken in and given out.
//!
//! Owns: `knowledge/` and `context/` below the data directory, shared with the owner's editor and with other processes,
//! and the search index over all layers. Talks to: the chain, which records every change of layer L1. Asked by: HTTP, MCP and the command line, through [`KnowledgeHandle`].
//! Lists are published as one [`Catalogue`] after each change, so readers never wait for the actor; texts are read
//! from disk when they are served.
//! Invariant: what its sidecar keeps private is in no list for peers and is served to none of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use kairos_protocol::time::{Clock, Timestamp};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;

use crate::bounded_addr::{Asks, BoundedAddr};
use crate::chain::ChainHandle;
use crate::recent::Recent;

mod approvals;
pub mod catalogue;
mod changes;
mod commit;
mod error;
mod layers;
mod recorded;
mod search;
pub mod store;

use catalogue::{Catalogue, is_main};
pub use changes::CatchUp;
pub use error::KnowledgeError;
pub use recorded::{Record, Standing, State};
pub use search::{Answer, Found};
pub use store::{
    Approved, Archive, Archived, Audience, Authorship, Changed, ContextSession, Create, Delete,
    Imported, KnowledgeEntry, KnowledgePolicy, Origin, Resource, ResourceInfo, SaveContext,
    SavedContext, Served, Stored, Unarchive, Update, signed_provenance,
};
use store::{Described, KnowledgeStore, Snapshot};

/// Most texts read from disk at once; more wait their turn.
const READS: usize = 32;

/// Looks the directory over unless somebody has since `since`.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KnowledgeError>")]
struct Check {
    since: Timestamp,
}

/// Stores a text that was approved, its bytes unchanged, as `knowledge/<name>/<name>.md`, with a sidecar that says
/// where it came from and that it is not shared.
///
/// The name is made safe first. The ledger gets `knowledge_update` and `skill_provenance`, each as its own block;
/// files and records come about together or not at all, also over a crash.
///
/// Fails with [`KnowledgeError::Exists`] unless `replace` lets a whole entry of that name give way, and with
/// [`KnowledgeError::Unfit`] for what could not be listed.
#[derive(Debug, Message)]
#[rtype(result = "Result<Stored, KnowledgeError>")]
pub struct Receive {
    /// The name it shall have.
    pub name: String,
    /// The text.
    pub bytes: Vec<u8>,
    /// Where it came from.
    pub origin: Origin,
    /// Whether an entry of that name gives way.
    pub replace: bool,
}

/// Takes in an Agent Skill directory, every file as it is, and records it, both or neither.
///
/// Shared with peers if that is wanted and nothing in it can run. Fails with [`KnowledgeError::Exists`] as
/// [`Receive`] does, and with [`KnowledgeError::AgentSkill`] for what is not one.
#[derive(Debug, Message)]
#[rtype(result = "Result<Imported, KnowledgeError>")]
pub struct Import {
    /// The directory that holds `SKILL.md`.
    pub directory: PathBuf,
    /// Whether peers shall see its main text.
    pub public: bool,
    /// Whether an entry of that name gives way.
    pub replace: bool,
}

/// Decides whether peers see the main text of an entry, in its sidecar; its bytes stay.
///
/// Fails with [`KnowledgeError::CarriesScripts`] for an imported entry in which something can run, and with
/// [`KnowledgeError::NotAnEntry`] for a text that has no directory of its own.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KnowledgeError>")]
pub struct SetShare {
    /// Its id or name.
    pub name: String,
    /// Whether it is public.
    pub share: bool,
}

/// Whether the actor answers.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KnowledgeError>")]
pub struct Health;

/// Stops; everything acknowledged is on disk.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KnowledgeError>")]
pub struct Shutdown;

/// See the module.
pub struct KnowledgeActor {
    shared: Arc<Shared>,
    chain: ChainHandle,
    /// The last look, to see what changed since.
    snapshot: Snapshot,
}

/// What the actor and its handles share.
struct Shared {
    store: KnowledgeStore,
    clock: Arc<dyn Clock>,
    current: ArcSwap<Current>,
    /// The entries of layer L1.
    entries: Recent<Vec<KnowledgeEntry>>,
    described: std::sync::Mutex<Described>,
    /// Changes that this process made.
    changes: AtomicU64,
    search: search::Search,
}

impl Shared {
    /// Whether the catalogue was true since `since`.
    fn is_fresh(&self, since: Timestamp) -> bool {
        let checked = self.current.load().checked;
        self.clock.saw_since(checked, since)
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

/// The catalogue and when it was last true.
struct Current {
    catalogue: Arc<Catalogue>,
    checked: Timestamp,
}

/// Reaches the knowledge.
#[derive(Clone)]
pub struct KnowledgeHandle {
    addr: BoundedAddr<KnowledgeActor>,
    shared: Arc<Shared>,
    /// Held while one caller asks for a check; the others find it done.
    checking: Arc<Mutex<()>>,
    /// The same for the search index.
    searching: Arc<Mutex<()>>,
    reads: Arc<Semaphore>,
    chain: ChainHandle,
}

impl KnowledgeHandle {
    /// The skills as they were last seen. Never waits.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.shared.current.load().catalogue)
    }

    /// The skills as they were at most `max_age` ago; the same `Arc` as before if nothing changed.
    ///
    /// However many callers find the catalogue too old, the directory is looked over once. If that fails, it is
    /// logged and the last catalogue stays.
    pub async fn fresh(&self, max_age: Duration) -> Arc<Catalogue> {
        let asked = self.shared.clock.now();
        let since = asked.minus(max_age);
        if !self.shared.is_fresh(since) {
            let _one_at_a_time = self.checking.lock().await;
            if !self.shared.is_fresh(since)
                && let Err(error) = self.check(since).await
            {
                tracing::warn!(%error, "could not look for changed knowledge");
            }
        }
        self.catalogue()
    }

    async fn check(&self, since: Timestamp) -> Result<(), KnowledgeError> {
        self.addr.ask(Check { since }).await?
    }

    /// The text that answers to an id or a name, read and hashed now.
    ///
    /// Fails with [`KnowledgeError::NotFound`] for what is not in the catalogue of that audience, with
    /// [`KnowledgeError::Unavailable`] for what has gone or become private since, and with
    /// [`KnowledgeError::Unfit`] for what has become something else.
    pub async fn content(
        &self,
        wanted: &str,
        audience: Audience,
    ) -> Result<Served, KnowledgeError> {
        let catalogue = self.catalogue();
        let found = match audience {
            Audience::Owner => catalogue.find(wanted),
            Audience::Peer => catalogue.find_public(wanted),
        };
        let skill = found.cloned();
        let skill = skill.ok_or_else(|| KnowledgeError::NotFound {
            name: wanted.to_owned(),
        })?;
        self.read(move |store| store.content(&skill, audience))
            .await
    }

    /// Where the entry `name` came from, as its sidecar tells; `None` if it was made here.
    pub async fn provenance(
        &self,
        name: &str,
    ) -> Result<Option<Map<String, Value>>, KnowledgeError> {
        let name = name.to_owned();
        self.read(move |store| store.provenance(&name)).await
    }

    /// Whose work the text of the skill `name` with `hash` is. A sidecar that cannot be read is an error: it does
    /// not make the text ours.
    pub async fn authorship(
        &self,
        name: &str,
        hash: ContentHash,
    ) -> Result<Authorship, KnowledgeError> {
        match self.provenance(name).await {
            Ok(sidecar) => Ok(Authorship::of(sidecar.as_ref(), &hash)),
            // Only a text with a directory of its own can have come from a peer.
            Err(KnowledgeError::NotFound { .. }) => Ok(Authorship::Ours),
            Err(error) => Err(error),
        }
    }

    /// The entry `name` as an Agent Skill directory.
    pub async fn as_agent_skill(
        &self,
        name: SkillName,
    ) -> Result<kairos_protocol::skill::agent_skill::Directory, KnowledgeError> {
        self.read(move |store| store.as_agent_skill(name.as_str()))
            .await
    }

    /// Writes the entry `name` as an Agent Skill directory below `target`; returns where.
    pub async fn export(&self, name: &str, target: &Path) -> Result<PathBuf, KnowledgeError> {
        let (name, target) = (name.to_owned(), target.to_owned());
        self.read(move |store| store.export(&name, &target)).await
    }

    /// Every entry of layer L1, as it was at most `max_age` ago; the same `Arc` as long as nothing changed.
    pub async fn entries(
        &self,
        max_age: Duration,
    ) -> Result<Arc<Vec<KnowledgeEntry>>, KnowledgeError> {
        let shared = Arc::clone(&self.shared);
        let read = || {
            self.read(move |store| {
                let described = shared.described.lock();
                let mut described = described.unwrap_or_else(PoisonError::into_inner);
                Ok(store.entries(&mut described)?)
            })
        };
        let changes = || self.shared.changes();
        self.shared.entries.get(max_age, changes, read).await
    }

    /// Every archived entry, as it is now.
    pub async fn archived(&self) -> Result<Vec<Archived>, KnowledgeError> {
        self.read(|store| Ok(store.archived()?)).await
    }

    /// The entry `name` with its main text, as it is now.
    pub async fn entry(&self, name: SkillName) -> Result<(KnowledgeEntry, String), KnowledgeError> {
        self.read(move |store| store.entry(&name)).await
    }

    /// The archived entry `name` with its main text.
    pub async fn archived_entry(
        &self,
        name: SkillName,
    ) -> Result<(Archived, String), KnowledgeError> {
        self.read(move |store| store.archived_entry(&name)).await
    }

    /// See [`Receive`].
    pub async fn receive(&self, message: Receive) -> Result<Stored, KnowledgeError> {
        self.addr.ask(message).await?
    }

    /// See [`Import`].
    pub async fn import(&self, message: Import) -> Result<Imported, KnowledgeError> {
        self.addr.ask(message).await?
    }

    /// See [`SetShare`].
    pub async fn set_share(&self, name: String, share: bool) -> Result<(), KnowledgeError> {
        self.fresh(Duration::ZERO).await;
        self.addr.ask(SetShare { name, share }).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.addr.asks()
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), KnowledgeError> {
        self.addr.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), KnowledgeError> {
        self.addr.ask(Shutdown).await?
    }

    /// Reads on a blocking thread, without asking the actor: nothing it owns in memory is involved.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&KnowledgeStore) -> Result<T, KnowledgeError> + Send + 'static,
    ) -> Result<T, KnowledgeError> {
        let _turn = self.reads.acquire().await.map_err(io::Error::other)?;
        let shared = Arc::clone(&self.shared);
        blocking(move || read(&shared.store)).await
    }
}

impl KnowledgeActor {
    /// Looks the knowledge of the data directory `data` over and starts the actor. Blocks on the disk, so it
    /// belongs before anything is served.
    pub fn start(
        data: &Path,
        policy: KnowledgePolicy,
        chain: ChainHandle,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> Result<KnowledgeHandle, KnowledgeError> {
        let store = KnowledgeStore::new(data, policy);
        Self::start_on(store, chain, clock, permits, patience)
    }

    /// Starts the actor on a store; see [`Self::start`].
    pub(crate) fn start_on(
        store: KnowledgeStore,
        chain: ChainHandle,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> Result<KnowledgeHandle, KnowledgeError> {
        let checked = clock.now();
        let (snapshot, catalogue) = store.look(&Snapshot::default())?.unwrap_or_default();
        let current = ArcSwap::from_pointee(Current {
            catalogue: Arc::new(catalogue),
            checked,
        });
        let shared = Arc::new(Shared {
            store,
            clock,
            current,
            entries: Recent::default(),
            described: std::sync::Mutex::default(),
            changes: AtomicU64::new(0),
            search: search::Search::default(),
        });
        let actor = Self {
            shared: Arc::clone(&shared),
            chain: chain.clone(),
            snapshot,
        };
        Ok(KnowledgeHandle {
            addr: BoundedAddr::start(permits, patience, |_| actor),
            shared,
            checking: Arc::default(),
            searching: Arc::default(),
            reads: Arc::new(Semaphore::new(READS)),
            chain,
        })
    }

    /// Does `work`, then looks the directory over and publishes what is new.
    fn change<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = Result<T, KnowledgeError>> + 'static,
    ) -> impl ActorFuture<Self, Output = Result<T, KnowledgeError>> + 'static {
        let shared = Arc::clone(&self.shared);
        let before = std::mem::take(&mut self.snapshot);
        let run = async move {
            let done = work.await;
            blocking(move || {
                let checked = shared.clock.now();
                let looked = shared.store.look(&before);
                Ok((done, before, looked, checked))
            })
            .await
        };
        run.into_actor(self).map(|ran, this, _ctx| {
            this.shared.changes.fetch_add(1, Ordering::Release);
            let (done, before, looked, checked) = ran?;
            let catalogue = match looked {
                Ok(Some((snapshot, catalogue))) => {
                    this.snapshot = snapshot;
                    Arc::new(catalogue)
                }
                Ok(None) => {
                    this.snapshot = before;
                    Arc::clone(&this.shared.current.load().catalogue)
                }
                // What was done is done; an empty snapshot makes the next look a full one.
                Err(error) => return done.and(Err(error.into())),
            };
            this.shared
                .current
                .store(Arc::new(Current { catalogue, checked }));
            done
        })
    }

    /// Settles what a crash left, here or in another process, and looks the directory over.
    fn check(&mut self) -> impl ActorFuture<Self, Output = Result<(), KnowledgeError>> + 'static {
        let (shared, chain) = (Arc::clone(&self.shared), self.chain.clone());
        self.change(async move {
            if let Err(error) = commit::tidy(&shared, &chain).await {
                // Reading goes on; whoever wants to change something is told.
                tracing::warn!(%error, "an interrupted change of the knowledge is not settled yet");
            }
            Ok(())
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KnowledgeError> + Send + 'static,
) -> Result<T, KnowledgeError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => Err(io::Error::other(panic).into()),
    }
}

impl Actor for KnowledgeActor {
    type Context = Context<Self>;

    /// Nothing is answered before it is settled what a crash left.
    fn started(&mut self, ctx: &mut Self::Context) {
        if self.shared.store.has_intent() {
            ctx.wait(self.check().map(|_checked, _this, _ctx| ()));
        }
    }
}

impl Handler<Check> for KnowledgeActor {
    type Result = AtomicResponse<Self, Result<(), KnowledgeError>>;

    fn handle(&mut self, Check { since }: Check, _ctx: &mut Self::Context) -> Self::Result {
        if self.shared.is_fresh(since) {
            return AtomicResponse::new(Box::pin(fut::ok(())));
        }
        AtomicResponse::new(Box::pin(self.check()))
    }
}

impl Handler<Receive> for KnowledgeActor {
    type Result = AtomicResponse<Self, Result<Stored, KnowledgeError>>;

    fn handle(&mut self, message: Receive, _ctx: &mut Self::Context) -> Self::Result {
        let Receive {
            name,
            bytes,
            origin,
            replace,
        } = message;
        let name = SkillName::sanitized(&name);
        let (shared, chain) = (Arc::clone(&self.shared), self.chain.clone());
        let receive = commit::change(shared, chain, move |store, held, now| {
            store.receive(held, &name, &bytes, &origin, replace, now)
        });
        AtomicResponse::new(Box::pin(self.change(receive)))
    }
}

impl Handler<Import> for KnowledgeActor {
    type Result = AtomicResponse<Self, Result<Imported, KnowledgeError>>;

    fn handle(&mut self, message: Import, _ctx: &mut Self::Context) -> Self::Result {
        let Import {
            directory,
            public,
            replace,
        } = message;
        let (shared, chain) = (Arc::clone(&self.shared), self.chain.clone());
        let import = commit::change(shared, chain, move |store, held, now| {
            store.import(held, &directory, public, replace, now)
        });
        AtomicResponse::new(Box::pin(self.change(import)))
    }
}

impl Handler<SetShare> for KnowledgeActor {
    type Result = AtomicResponse<Self, Result<(), KnowledgeError>>;

    fn handle(
        &mut self,
        SetShare { name, share }: SetShare,
        _ctx: &mut Self::Context,
    ) -> Self::Result {
        let catalogue = Arc::clone(&self.shared.current.load().catalogue);
        let (shared, chain) = (Arc::clone(&self.shared), self.chain.clone());
        AtomicResponse::new(Box::pin(self.change(async move {
            let skill = catalogue
                .find(&name)
                .ok_or(KnowledgeError::NotFound { name })?;
            let name = skill.name.clone();
            if !is_main(&skill.path) {
                return Err(KnowledgeError::NotAnEntry { name });
            }
            let held = commit::lock(&shared, &chain).await?;
            blocking(move || shared.store.set_share(&held, &name, share)).await
        })))
    }
}

impl Handler<Health> for KnowledgeActor {
    type Result = Result<(), KnowledgeError>;

    fn handle(&mut self, _health: Health, _ctx: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Shutdown> for KnowledgeActor {
    type Result = Result<(), KnowledgeError>;

    fn handle(&mut self, _shutdown: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
