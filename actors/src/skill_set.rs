//! The SkillSet actor: installs, switches, removes and packs the SkillSets of this node.
//!
//! Owns: the [`SkillSetStore`], which other processes may change as well, and the [`Catalogue`] of what is in it.
//! Talks to: the chain actor, to record what it changes. Asked by: HTTP, MCP and CLI, through [`SkillSetHandle`].
//!
//! A change goes through three steps, one change at a time: it is prepared beside its place, recorded, made visible.
//! If recording fails, nothing was changed. If making it visible fails, or the node dies in between, the ledger
//! tells of a change that did not happen ([`SkillSetError::Unfinished`]); asking again records and makes it. The
//! reverse, a change that nobody recorded, does not occur. What was prepared is cleaned up by the next
//! [`SkillSetStore::open`].
//!
//! The catalogue is read without asking the actor. It is renewed after each change, and when a reader wants it fresher
//! than it is ([`SkillSetHandle::fresh`]), reading only files whose stamps changed.

mod error;
pub mod store;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AtomicResponse, Context, Handler, Message, MessageResult,
    ResponseActFuture, ResponseFuture, WrapFuture, fut,
};
use arc_swap::ArcSwap;
use kairos_place::proposal::{self, SetChange, SetState};
use kairos_protocol::block::entry::Entry;
use kairos_protocol::package::SkillSetPackage;
use kairos_protocol::time::{Clock, Timestamp};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::bounded_addr::{AskError, Asks, BoundedAddr};
use crate::chain::ChainHandle;
use crate::chain::queue::IdempotencyKey;
use crate::staging::Held;
pub use error::SkillSetError;
use store::Change;
pub use store::{
    Catalogue, Info, Listed, Options, Origin, Outcome, PeerEvidence, Signer, SkillSetStore,
};

/// Most bytes of packages kept for the next one who asks.
pub const PACKAGES_KEPT_BYTES: usize = 8 * 1024 * 1024;

/// Changes SkillSets and records the changes.
pub struct SkillSetActor {
    store: Arc<SkillSetStore>,
    chain: ChainHandle,
    clock: Arc<dyn Clock>,
    signer: Option<Signer>,
    current: Arc<ArcSwap<Current>>,
    packages: Packages,
    health: SkillSetHealth,
}

/// The catalogue and when it was last true.
#[derive(Debug)]
struct Current {
    catalogue: Arc<Catalogue>,
    checked: Timestamp,
}

/// How the SkillSet actor is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SkillSetHealth {
    /// Changes made since the start.
    pub changed: u64,
    /// Changes refused or failed since the start.
    pub failed: u64,
}

type Answer<T> = Result<T, SkillSetError>;

#[derive(Message)]
#[rtype(result = "Answer<Outcome>")]
struct Install(PathBuf, Options);

#[derive(Message)]
#[rtype(result = "Answer<Outcome>")]
struct InstallArchive(Box<SkillSetPackage>, Origin, Options);

#[derive(Message)]
#[rtype(result = "Answer<Outcome>")]
struct Enable(String);

#[derive(Message)]
#[rtype(result = "Answer<Outcome>")]
struct Disable(String);

#[derive(Message)]
#[rtype(result = "Answer<Outcome>")]
struct Remove(String);

/// What would become of a SkillSet; nothing is changed.
#[derive(Message)]
#[rtype(result = "Answer<SetChange>")]
struct Preview(proposal::Change);

/// Makes a change that a person approved, if it still is the one that was shown.
#[derive(Message)]
#[rtype(result = "Answer<Outcome>")]
struct Approved {
    wanted: proposal::Change,
    shown: SetChange,
    decision: Option<Entry>,
    lock: Arc<Held>,
}

#[derive(Message)]
#[rtype(result = "Answer<Option<SetState>>")]
struct State(String);

#[derive(Message)]
#[rtype(result = "Answer<Info>")]
struct GetInfo(String);

#[derive(Message)]
#[rtype(result = "Answer<Arc<SkillSetPackage>>")]
struct Package(String);

/// Renews the catalogue unless it was true at or after an instant.
#[derive(Message)]
#[rtype(result = "Answer<()>")]
struct Refresh(Timestamp);

#[derive(Message)]
#[rtype(result = "SkillSetHealth")]
struct Health;

#[derive(Message)]
#[rtype(result = "()")]
struct Shutdown;

/// The way to the SkillSet actor, and to the catalogue.
#[derive(Clone)]
pub struct SkillSetHandle {
    addr: BoundedAddr<SkillSetActor>,
    current: Arc<ArcSwap<Current>>,
    clock: Arc<dyn Clock>,
    /// Held while one caller asks for a renewal; the others find it done.
    renewing: Arc<Mutex<()>>,
}

impl SkillSetHandle {
    /// The catalogue as it was when last renewed, without asking anyone.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.current.load().catalogue)
    }

    /// The catalogue as it was at most `max_age` ago; the same `Arc` as before if nothing changed.
    ///
    /// However many callers find it too old, the disk is looked over once.
    pub async fn fresh(&self, max_age: Duration) -> Answer<Arc<Catalogue>> {
        let since = self.clock.now().minus(max_age);
        let is_fresh = || self.clock.saw_since(self.current.load().checked, since);
        if !is_fresh() {
            let _one_at_a_time = self.renewing.lock().await;
            if !is_fresh() {
                self.addr.ask(Refresh(since)).await??;
            }
        }
        Ok(self.catalogue())
    }

    /// Everything about the SkillSet `name`, read anew.
    pub async fn info(&self, name: impl Into<String>) -> Answer<Info> {
        self.addr.ask(GetInfo(name.into())).await?
    }

    /// Installs the SkillSet in a directory; see [`SkillSetStore::install`].
    pub async fn install(&self, source: PathBuf, options: Options) -> Answer<Outcome> {
        self.addr.ask(Install(source, options)).await?
    }

    /// Installs a package; see [`SkillSetStore::install_archive`].
    pub async fn install_archive(
        &self,
        package: SkillSetPackage,
        origin: Origin,
        options: Options,
    ) -> Answer<Outcome> {
        let message = InstallArchive(Box::new(package), origin, options);
        self.addr.ask(message).await?
    }

    /// Switches the SkillSet `name` on.
    pub async fn enable(&self, name: impl Into<String>) -> Answer<Outcome> {
        self.addr.ask(Enable(name.into())).await?
    }

    /// Switches the SkillSet `name` off.
    pub async fn disable(&self, name: impl Into<String>) -> Answer<Outcome> {
        self.addr.ask(Disable(name.into())).await?
    }

    /// Removes the SkillSet `name`.
    pub async fn remove(&self, name: impl Into<String>) -> Answer<Outcome> {
        self.addr.ask(Remove(name.into())).await?
    }

    /// What would become of a SkillSet if `wanted` were approved now; see [`SkillSetStore::prepare`].
    pub async fn preview(&self, wanted: proposal::Change) -> Answer<SetChange> {
        self.addr.ask(Preview(wanted)).await?
    }

    /// Makes a change that a person approved and records it in one block with `decision`; without one it is recorded
    /// already. `lock` is let go of when that is over, which may be after whoever asked has given up.
    ///
    /// Fails with [`SkillSetError::NotAsShown`] if it is not the one that was shown, to the byte; nothing is recorded
    /// then.
    pub(crate) async fn approved(
        &self,
        wanted: proposal::Change,
        shown: SetChange,
        decision: Option<Entry>,
        lock: Arc<Held>,
    ) -> Answer<Outcome> {
        let message = Approved {
            wanted,
            shown,
            decision,
            lock,
        };
        self.addr.ask(message).await?
    }

    /// The SkillSet `name` as it is; nothing if it is not installed.
    pub async fn state(&self, name: impl Into<String>) -> Answer<Option<SetState>> {
        self.addr.ask(State(name.into())).await?
    }

    /// The package of the SkillSet `name`, signed if the actor has a signer; see [`SkillSetStore::package`].
    ///
    /// Packages of unchanged SkillSets are kept, up to [`PACKAGES_KEPT_BYTES`].
    pub async fn package(&self, name: impl Into<String>) -> Answer<Arc<SkillSetPackage>> {
        self.addr.ask(Package(name.into())).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.addr.asks()
    }

    /// Whether the actor answers, and what it counted.
    pub async fn health(&self) -> Result<SkillSetHealth, AskError> {
        self.addr.probe(Health).await
    }

    /// Ends the actor once the change under way is done. Whoever still waits is told [`AskError::Stopped`].
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.addr.ask(Shutdown).await
    }
}

impl SkillSetActor {
    /// Starts the actor once the catalogue has been read, so that the first reader finds it complete.
    ///
    /// At most `permits` asks are under way at a time, and each is waited for `patience` long, which should exceed
    /// the patience with which `chain` is asked. Without a `signer`, packages carry no evidence of ours.
    pub async fn start(
        store: SkillSetStore,
        chain: ChainHandle,
        clock: Arc<dyn Clock>,
        signer: Option<Signer>,
        permits: usize,
        patience: Duration,
    ) -> Answer<SkillSetHandle> {
        let store = Arc::new(store);
        let reader = Arc::clone(&store);
        let checked = clock.now();
        let catalogue = blocking(move || reader.catalogue(&Catalogue::default())).await?;
        let catalogue = Arc::new(catalogue);
        let current = Arc::new(ArcSwap::from_pointee(Current { catalogue, checked }));
        let (shared, time) = (Arc::clone(&current), Arc::clone(&clock));
        let addr = BoundedAddr::start(permits, patience, |_| Self {
            store,
            chain,
            clock,
            signer,
            current: shared,
            packages: Packages::default(),
            health: SkillSetHealth::default(),
        });
        let renewing = Arc::default();
        Ok(SkillSetHandle {
            addr,
            current,
            clock: time,
            renewing,
        })
    }

    /// Prepares, records and makes a change, then renews the catalogue; nothing else happens meanwhile.
    fn change(
        &self,
        prepare: impl FnOnce(&SkillSetStore, Timestamp) -> Answer<Change> + Send + 'static,
    ) -> AtomicResponse<Self, Answer<Outcome>> {
        let (store, chain, now) = (
            Arc::clone(&self.store),
            self.chain.clone(),
            self.clock.now(),
        );
        let (reader, known) = (Arc::clone(&self.store), self.catalogue());
        let work = async move {
            let change = blocking(move || prepare(&store, now)).await?;
            let outcome = record_and_commit(chain, change).await?;
            // The change is made; a catalogue that cannot be read yet is renewed for the next reader.
            let catalogue = blocking(move || reader.catalogue(&known)).await.ok();
            Ok((outcome, catalogue))
        };
        let finish = move |done: Answer<(Outcome, Option<Catalogue>)>,
                           this: &mut Self,
                           _: &mut _| match done {
            Ok((outcome, catalogue)) => {
                this.health.changed += 1;
                match catalogue {
                    Some(catalogue) => this.adopt(catalogue, now),
                    None => this.outdate(),
                }
                Ok(outcome)
            }
            Err(error) => {
                this.health.failed += 1;
                Err(error)
            }
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(finish)))
    }

    fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.current.load().catalogue)
    }

    /// Publishes a catalogue that was true at `checked`; one that says the same keeps its `Arc`.
    fn adopt(&mut self, catalogue: Catalogue, checked: Timestamp) {
        let known = self.catalogue();
        let catalogue = if *known == catalogue {
            known
        } else {
            self.packages.retain(&catalogue);
            Arc::new(catalogue)
        };
        self.current.store(Arc::new(Current { catalogue, checked }));
    }

    /// Makes the next reader look at the disk.
    fn outdate(&mut self) {
        let catalogue = self.catalogue();
        self.current.store(Arc::new(Current {
            catalogue,
            checked: Timestamp::EPOCH,
        }));
    }
}

/// Records the entries of `change`, if it has any, and makes it; see the module for what can come of it.
async fn record_and_commit(chain: ChainHandle, change: Change) -> Answer<Outcome> {
    let entries: Vec<String> = change.entries().iter().map(Entry::to_text).collect();
    let is_recorded = !entries.is_empty();
    if is_recorded && let Err(error) = chain.record(IdempotencyKey::fresh(), entries).await {
        // Deletes what was prepared, which may block.
        blocking(move || {
            drop(change);
            Ok(())
        })
        .await?;
        return Err(SkillSetError::Unrecorded(error));
    }
    let made = blocking(move || change.commit()).await;
    made.map_err(|error| match is_recorded {
        true => SkillSetError::Unfinished(Box::new(error)),
        false => error,
    })
}

impl Actor for SkillSetActor {
    type Context = Context<Self>;
}

impl Handler<Install> for SkillSetActor {
    type Result = AtomicResponse<Self, Answer<Outcome>>;

    fn handle(
        &mut self,
        Install(source, options): Install,
        _ctx: &mut Self::Context,
    ) -> Self::Result {
        self.change(move |store, now| store.install(&source, options, now))
    }
}

impl Handler<InstallArchive> for SkillSetActor {
    type Result = AtomicResponse<Self, Answer<Outcome>>;

    fn handle(&mut self, msg: InstallArchive, _ctx: &mut Self::Context) -> Self::Result {
        let InstallArchive(package, origin, options) = msg;
        self.change(move |store, now| store.install_archive(&package, &origin, options, now))
    }
}

impl Handler<Enable> for SkillSetActor {
    type Result = AtomicResponse<Self, Answer<Outcome>>;

    fn handle(&mut self, Enable(name): Enable, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |store, now| store.enable(&name, now))
    }
}

impl Handler<Disable> for SkillSetActor {
    type Result = AtomicResponse<Self, Answer<Outcome>>;

    fn handle(&mut self, Disable(name): Disable, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |store, now| store.disable(&name, now))
    }
}

impl Handler<Remove> for SkillSetActor {
    type Result = AtomicResponse<Self, Answer<Outcome>>;

    fn handle(&mut self, Remove(name): Remove, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |store, now| store.remove(&name, now))
    }
}

impl Handler<Preview> for SkillSetActor {
    type Result = AtomicResponse<Self, Answer<SetChange>>;

    fn handle(&mut self, Preview(wanted): Preview, _ctx: &mut Self::Context) -> Self::Result {
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        let looked = blocking(move || Ok(store.prepare(&wanted, now)?.1));
        AtomicResponse::new(Box::pin(looked.into_actor(self)))
    }
}

impl Handler<Approved> for SkillSetActor {
    type Result = AtomicResponse<Self, Answer<Outcome>>;

    fn handle(&mut self, message: Approved, _ctx: &mut Self::Context) -> Self::Result {
        let Approved {
            wanted,
            shown,
            decision,
            lock,
        } = message;
        self.change(move |store, now| {
            let (mut change, becomes) = store.prepare(&wanted, now)?;
            if becomes != shown {
                let name = change.outcome().set.metadata.name.clone();
                return Err(SkillSetError::NotAsShown(name));
            }
            change.approve(decision, lock);
            Ok(change)
        })
    }
}

impl Handler<State> for SkillSetActor {
    type Result = ResponseFuture<Answer<Option<SetState>>>;

    fn handle(&mut self, State(name): State, _ctx: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        Box::pin(blocking(move || store.state(&name)))
    }
}

impl Handler<GetInfo> for SkillSetActor {
    type Result = ResponseFuture<Answer<Info>>;

    fn handle(&mut self, GetInfo(name): GetInfo, _ctx: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        Box::pin(blocking(move || store.info(&name)))
    }
}

impl Handler<Package> for SkillSetActor {
    type Result = ResponseActFuture<Self, Answer<Arc<SkillSetPackage>>>;

    /// May overlap with others: what comes back is only added to what is kept.
    fn handle(&mut self, Package(name): Package, _ctx: &mut Self::Context) -> Self::Result {
        let (store, signer, now) = (
            Arc::clone(&self.store),
            self.signer.clone(),
            self.clock.now(),
        );
        let kept = self.packages.find(&name);
        let work = blocking(move || {
            let set = store.find(&name)?;
            if let Some((listed, package)) = kept.filter(|(listed, _)| listed.is_current(&set)) {
                return Ok((listed, package));
            }
            let listed = Listed::read(set)?;
            let package = store.package(&name, signer.as_ref(), now)?;
            Ok((Arc::new(listed), Arc::new(package)))
        });
        Box::pin(work.into_actor(self).map(|packed, this, _| {
            packed.map(|(listed, package)| {
                this.packages.keep(listed, Arc::clone(&package));
                package
            })
        }))
    }
}

impl Handler<Refresh> for SkillSetActor {
    type Result = AtomicResponse<Self, Answer<()>>;

    fn handle(&mut self, Refresh(since): Refresh, _ctx: &mut Self::Context) -> Self::Result {
        if self.clock.saw_since(self.current.load().checked, since) {
            return AtomicResponse::new(Box::pin(fut::ok(())));
        }
        let (store, known, now) = (Arc::clone(&self.store), self.catalogue(), self.clock.now());
        let renewed = blocking(move || store.catalogue(&known)).into_actor(self);
        AtomicResponse::new(Box::pin(renewed.map(move |catalogue, this, _| {
            this.adopt(catalogue?, now);
            Ok(())
        })))
    }
}

impl Handler<Health> for SkillSetActor {
    type Result = MessageResult<Health>;

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.health)
    }
}

impl Handler<Shutdown> for SkillSetActor {
    type Result = ();

    /// Comes after the change before it, since that one is atomic.
    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Packages ready to be sent again, the last used last.
#[derive(Default)]
struct Packages(VecDeque<(Arc<Listed>, Arc<SkillSetPackage>)>);

impl Packages {
    fn find(&self, name: &str) -> Option<(Arc<Listed>, Arc<SkillSetPackage>)> {
        let mut kept = self.0.iter();
        kept.find(|(listed, _)| listed.set.metadata.name.as_str() == name)
            .cloned()
    }

    /// Keeps a package, and forgets others as far as room is needed.
    fn keep(&mut self, listed: Arc<Listed>, package: Arc<SkillSetPackage>) {
        self.0.retain(|(_, kept)| kept.name != package.name);
        self.0.push_back((listed, package));
        let size = |kept: &Self| {
            kept.0
                .iter()
                .map(|(_, p)| p.archive_base64.len())
                .sum::<usize>()
        };
        while size(self) > PACKAGES_KEPT_BYTES {
            self.0.pop_front();
        }
    }

    /// Forgets what is gone or not exchanged any more.
    fn retain(&mut self, catalogue: &Catalogue) {
        self.0.retain(|(listed, _)| {
            let now = catalogue.find(listed.set.metadata.name.as_str());
            now.is_some_and(|now| **now == **listed)
        });
    }
}

/// Runs `work` where blocking is allowed. A panic in it becomes an error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(SkillSetError::Crashed),
    }
}

#[cfg(test)]
mod tests;
