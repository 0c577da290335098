//! The skills of the law (L0): what it says, what its former texts were, and whether a change of it may be.
//!
//! Owns: `skills/versions` and `storage/evolution.json`, which tells since when a session counts its changes; reads
//! `skills/kairos.rb` and `skills/config.yml`. Talks to: the chain, which tells how many changes there were. Asked by:
//! the approvals, which change the law with a person's consent, and HTTP, MCP and the command line, through
//! [`SkillsHandle`].
//! Invariants: it never changes the law itself; every change of it, from wherever it comes, passes the same gates,
//! [`kairos_protocol::dsl::gate`], when it is proposed and again when it is carried out; nothing in the law is run.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use kairos_place::proposal::{Change, Person, VersionName};
use kairos_place::role::Action;
use kairos_protocol::dsl::Law;
use kairos_protocol::dsl::eval::Facts;
use kairos_protocol::dsl::gate::{Asked, Settings, Step, Verdict, judge};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use kairos_protocol::time::Clock;
use serde_json::json;

use crate::action_log::{ActionLog, Record};
use crate::bounded_addr::{Asks, BoundedAddr};
use crate::chain::ChainHandle;

mod difference;
mod draft;
mod error;
mod facts;
mod session;
mod store;
mod transition;

pub use difference::{Difference, Line, Mark};
pub use draft::{Drafted, Edit};
pub use error::SkillsError;
pub use session::Session;
use store::SkillsStore;
pub use store::{VERSIONS_MAX, Version};
pub use transition::transition;

/// Why a law is that of a snapshot again.
const RESTORED: &str = "a snapshot is restored";

/// The law as it is.
#[derive(Debug, Message)]
#[rtype(result = "Result<Text, SkillsError>")]
pub struct Read;

/// What an edit would make of the law, and what the gates say to that. Changes nothing.
#[derive(Debug, Message)]
#[rtype(result = "Result<Drafted, SkillsError>")]
pub struct Draft {
    /// The edit.
    pub edit: Edit,
    /// Why.
    pub reason: Option<String>,
}

/// Whether a change of the law passes every gate. Fails with [`SkillsError::Refused`] if it does not.
#[derive(Debug, Message)]
#[rtype(result = "Result<Verdict, SkillsError>")]
pub struct Judge {
    /// A change of the law.
    pub change: Change,
    /// The law that it comes with, whole.
    pub content: Vec<u8>,
    /// Why.
    pub reason: Option<String>,
    /// Whether it is about to be carried out, so that a session begins where none is open.
    pub begins: bool,
}

/// Whether a law from before, that of a snapshot, may be the law again. Fails as [`Judge`] does.
///
/// Where there is no law, there is none whose rules could forbid it: it must only be read, and not break.
#[derive(Debug, Message)]
#[rtype(result = "Result<Verdict, SkillsError>")]
pub struct MayBecome {
    /// The law, whole.
    pub law: Vec<u8>,
}

/// Every law that was kept, the newest first.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Version>, SkillsError>")]
pub struct Versions;

/// A law that was kept.
#[derive(Debug, Message)]
#[rtype(result = "Result<Text, SkillsError>")]
pub struct View {
    /// Which.
    pub version: VersionName,
}

/// Keeps the law as it is, under a name that nothing else has.
#[derive(Debug, Message)]
#[rtype(result = "Result<VersionName, SkillsError>")]
pub struct Snapshot {
    /// Why.
    pub reason: Option<String>,
    /// Who asks.
    pub by: Person,
}

/// What the last recorded change of the law made of it; nothing where none was recorded.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<Told>, SkillsError>")]
pub struct LastTold;

/// Begins a session where none is open, since the law is about to change.
#[derive(Debug, Message)]
#[rtype(result = "Result<Session, SkillsError>")]
pub struct Open;

/// What the settings say about the law.
#[derive(Debug, Message)]
#[rtype(result = "Result<Settings, SkillsError>")]
pub struct GetSettings;

/// What the agent tells about itself to definitions and to code of the law.
#[derive(Debug, Message)]
#[rtype(result = "Result<Facts, SkillsError>")]
pub struct GetFacts;

/// How many changes this session has had.
#[derive(Debug, Message)]
#[rtype(result = "Result<Session, SkillsError>")]
pub struct GetSession;

/// Begins a new session. Fails with [`SkillsError::Forbidden`] unless `by` is an owner.
#[derive(Debug, Message)]
#[rtype(result = "Result<Session, SkillsError>")]
pub struct Reset {
    /// Who asks.
    pub by: Person,
}

/// Whether the actor answers.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), SkillsError>")]
pub struct Health;

/// Stops; nothing is under way that a crash could not interrupt.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), SkillsError>")]
pub struct Shutdown;

/// What the ledger tells of the law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The block that tells it.
    pub block: u64,
    /// The hash of the law since then; nothing where it was taken away.
    pub law: Option<ContentHash>,
}

/// A law and its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// As they lie on disk.
    pub bytes: Vec<u8>,
    /// What they say.
    pub law: Law,
}

/// See the module.
pub struct SkillsActor {
    parts: Arc<Parts>,
}

/// What judging needs.
struct Parts {
    store: SkillsStore,
    chain: ChainHandle,
    log: ActionLog,
    clock: Arc<dyn Clock>,
}

/// Reaches the skills.
#[derive(Clone)]
pub struct SkillsHandle(BoundedAddr<SkillsActor>);

impl SkillsHandle {
    /// See [`Read`].
    pub async fn read(&self) -> Result<Text, SkillsError> {
        self.0.ask(Read).await?
    }

    /// See [`Draft`].
    pub async fn draft(&self, edit: Edit, reason: Option<String>) -> Result<Drafted, SkillsError> {
        self.0.ask(Draft { edit, reason }).await?
    }

    /// See [`Judge`].
    pub async fn judge(&self, message: Judge) -> Result<Verdict, SkillsError> {
        self.0.ask(message).await?
    }

    /// See [`MayBecome`].
    pub async fn may_become(&self, law: Vec<u8>) -> Result<Verdict, SkillsError> {
        self.0.ask(MayBecome { law }).await?
    }

    /// See [`Versions`].
    pub async fn versions(&self) -> Result<Vec<Version>, SkillsError> {
        self.0.ask(Versions).await?
    }

    /// See [`View`].
    pub async fn view(&self, version: VersionName) -> Result<Text, SkillsError> {
        self.0.ask(View { version }).await?
    }

    /// See [`Snapshot`].
    pub async fn snapshot(
        &self,
        reason: Option<String>,
        by: Person,
    ) -> Result<VersionName, SkillsError> {
        self.0.ask(Snapshot { reason, by }).await?
    }

    /// See [`LastTold`].
    pub async fn last_told(&self) -> Result<Option<Told>, SkillsError> {
        self.0.ask(LastTold).await?
    }

    /// See [`Open`].
    pub async fn open_session(&self) -> Result<Session, SkillsError> {
        self.0.ask(Open).await?
    }

    /// See [`GetSettings`].
    pub async fn settings(&self) -> Result<Settings, SkillsError> {
        self.0.ask(GetSettings).await?
    }

    /// See [`GetFacts`].
    pub async fn facts(&self) -> Result<Facts, SkillsError> {
        self.0.ask(GetFacts).await?
    }

    /// See [`GetSession`].
    pub async fn session(&self) -> Result<Session, SkillsError> {
        self.0.ask(GetSession).await?
    }

    /// See [`Reset`].
    pub async fn reset(&self, by: Person) -> Result<Session, SkillsError> {
        self.0.ask(Reset { by }).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.0.asks()
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), SkillsError> {
        self.0.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), SkillsError> {
        self.0.ask(Shutdown).await?
    }
}

type Answered<T> = ResponseFuture<Result<T, SkillsError>>;

impl SkillsActor {
    /// Starts the skills of the data directory `data`; touches no file before it is asked.
    pub fn start(
        data: &Path,
        chain: ChainHandle,
        log: ActionLog,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> SkillsHandle {
        let parts = Arc::new(Parts {
            store: SkillsStore::new(data),
            chain,
            log,
            clock,
        });
        SkillsHandle(BoundedAddr::start(permits, patience, |_| Self { parts }))
    }

    /// Runs `work`, which touches nothing but files and other actors.
    fn answer<T: 'static, F>(&self, work: impl FnOnce(Arc<Parts>) -> F) -> Answered<T>
    where
        F: Future<Output = Result<T, SkillsError>> + 'static,
    {
        Box::pin(work(Arc::clone(&self.parts)))
    }
}

/// What `change` means to the gates; nothing if it is none of the law.
fn step(change: &Change) -> Option<Step> {
    let id = |id: &SkillName| id.to_string();
    match change {
        Change::Law => Some(Step::Whole),
        Change::SkillEvolve { id: skill } => Some(Step::Evolve(id(skill))),
        Change::SkillAdd { id: skill } => Some(Step::Add(id(skill))),
        Change::SkillRemove { id: skill } => Some(Step::Remove(id(skill))),
        Change::LawRollback { .. } => Some(Step::Rollback),
        Change::KnowledgeCreate { .. }
        | Change::KnowledgeUpdate { .. }
        | Change::KnowledgeDelete { .. }
        | Change::Instructions { .. }
        | Change::InstructionsDelete { .. }
        | Change::InstructionsMode { .. }
        | Change::ExtensionAdopt { .. }
        | Change::ExtensionDisable { .. }
        | Change::SkillsetInstall { .. }
        | Change::SkillsetEnable { .. }
        | Change::SkillsetDisable { .. }
        | Change::SkillsetRemove { .. } => None,
    }
}

/// What the gates say to a change from the law as it is.
async fn verdict(parts: &Arc<Parts>, message: Judge) -> Result<Verdict, SkillsError> {
    let Judge {
        change,
        content,
        reason,
        begins,
    } = message;
    let Some(step) = step(&change) else {
        return Err(SkillsError::NoLaw(change.subject().to_owned()));
    };
    if let Change::LawRollback { version } = change {
        let (parts, of) = (Arc::clone(parts), version.clone());
        if blocking(move || parts.store.version(&of)).await? != content {
            return Err(SkillsError::NotThatVersion(version));
        }
    }
    asked(parts, step, content, reason, begins).await
}

/// What the gates say to a step from the law as it is to `content`.
async fn asked(
    parts: &Arc<Parts>,
    step: Step,
    content: Vec<u8>,
    reason: Option<String>,
    begins: bool,
) -> Result<Verdict, SkillsError> {
    let session = session::now(parts, begins).await?;
    let facts = facts::of(parts, Some(session)).await?;
    let parts = Arc::clone(parts);
    blocking(move || {
        let before = match parts.store.law() {
            Err(SkillsError::NothingThere(_)) if step == Step::Return => Vec::new(),
            law => law?,
        };
        Ok(judge(Asked {
            before: &before,
            after: &content,
            step: &step,
            reason: reason.as_deref(),
            settings: &parts.store.settings()?,
            facts: &facts,
            used: session.used,
        }))
    })
    .await
}

async fn judged(parts: Arc<Parts>, message: Judge) -> Result<Verdict, SkillsError> {
    passed(verdict(&parts, message).await?)
}

async fn may_become(parts: Arc<Parts>, law: Vec<u8>) -> Result<Verdict, SkillsError> {
    let step = {
        let parts = Arc::clone(&parts);
        blocking(move || match parts.store.law() {
            Err(SkillsError::NothingThere(_)) => Ok(Step::Return),
            law => law.map(|_| Step::Rollback),
        })
        .await?
    };
    let reason = Some(RESTORED.to_owned());
    passed(asked(&parts, step, law, reason, true).await?)
}

fn passed(verdict: Verdict) -> Result<Verdict, SkillsError> {
    match verdict.passed() {
        true => Ok(verdict),
        false => Err(SkillsError::Refused(verdict.checks)),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SkillsError> + Send + 'static,
) -> Result<T, SkillsError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => Err(io::Error::other(panic).into()),
    }
}

impl Text {
    fn of(bytes: Vec<u8>) -> Self {
        let law = Law::read(&bytes);
        Self { bytes, law }
    }
}

impl Actor for SkillsActor {
    type Context = Context<Self>;
}

impl Handler<Read> for SkillsActor {
    type Result = Answered<Text>;

    fn handle(&mut self, _: Read, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| blocking(move || Ok(Text::of(parts.store.law()?))))
    }
}

impl Handler<Draft> for SkillsActor {
    type Result = Answered<Drafted>;

    fn handle(&mut self, Draft { edit, reason }: Draft, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| draft::draft(parts, edit, reason))
    }
}

impl Handler<Judge> for SkillsActor {
    type Result = Answered<Verdict>;

    fn handle(&mut self, message: Judge, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| judged(parts, message))
    }
}

impl Handler<MayBecome> for SkillsActor {
    type Result = Answered<Verdict>;

    fn handle(&mut self, MayBecome { law }: MayBecome, _: &mut Self::Context) -> Self::Result {
        self.answer(|parts| may_become(parts, law))
    }
}

impl Handler<Versions> for SkillsActor {
    type Result = Answered<Vec<Version>>;

    fn handle(&mut self, _: Versions, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| blocking(move || parts.store.versions()))
    }
}

impl Handler<View> for SkillsActor {
    type Result = Answered<Text>;

    fn handle(&mut self, View { version }: View, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| blocking(move || Ok(Text::of(parts.store.version(&version)?))))
    }
}

impl Handler<Snapshot> for SkillsActor {
    type Result = Answered<VersionName>;

    fn handle(&mut self, Snapshot { reason, by }: Snapshot, _: &mut Self::Context) -> Self::Result {
        self.answer(|parts| {
            blocking(move || {
                by.role.authorize(Action::Propose)?;
                let now = parts.clock.now();
                let name = parts.store.snapshot(reason.as_deref(), now)?;
                let details = json!({"by": by.user, "door": by.door, "reason": reason});
                let told = Record::new("law_snapshot").about(name.as_str());
                parts.log.tell(&told.details(details), now);
                Ok(name)
            })
        })
    }
}

impl Handler<LastTold> for SkillsActor {
    type Result = Answered<Option<Told>>;

    fn handle(&mut self, _: LastTold, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| async move { draft::last_told(&parts).await })
    }
}

impl Handler<Open> for SkillsActor {
    type Result = Answered<Session>;

    fn handle(&mut self, _: Open, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| async move { session::now(&parts, true).await })
    }
}

impl Handler<GetSettings> for SkillsActor {
    type Result = Answered<Settings>;

    fn handle(&mut self, _: GetSettings, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| blocking(move || parts.store.settings()))
    }
}

impl Handler<GetFacts> for SkillsActor {
    type Result = Answered<Facts>;

    fn handle(&mut self, _: GetFacts, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| async move { facts::now(&parts).await })
    }
}

impl Handler<GetSession> for SkillsActor {
    type Result = Answered<Session>;

    fn handle(&mut self, _: GetSession, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| async move { session::now(&parts, false).await })
    }
}

impl Handler<Reset> for SkillsActor {
    type Result = Answered<Session>;

    fn handle(&mut self, Reset { by }: Reset, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| async move {
            by.role.authorize(Action::WriteLaw)?;
            let session = session::begin(&parts).await?;
            let details = json!({"by": by.user, "door": by.door});
            let told = Record::new("evolution_reset").details(details);
            parts.log.tell(&told, parts.clock.now());
            Ok(session)
        })
    }
}

impl Handler<Health> for SkillsActor {
    type Result = Result<(), SkillsError>;

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Shutdown> for SkillsActor {
    type Result = Result<(), SkillsError>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
