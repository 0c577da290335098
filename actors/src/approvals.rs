//! The approvals: changes that only a person may make wait here until one has decided.
//!
//! Owns: `storage/approvals` below the data directory, and how the law, instructions and knowledge are changed with a
//! person's consent. Talks to: the chain, which records what was decided, the knowledge and the SkillSets, which make
//! their changes themselves, and the skills, which say whether the law may change so. Asked by: HTTP, MCP and the command line, through [`ApprovalHandle`].
//! Invariants: nothing is changed without a decision of an owner about exactly that change, bound to hashes of what
//! was there and what is to be there; a decision is good once, in all processes and after any crash; nothing is
//! changed that the ledger does not tell of; one decision that cannot be finished keeps no other waiting.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use kairos_place::proposal::{CONTENT_MAX, Change, Person, Proposal, ProposalId, SetChange};
use kairos_place::role::Action;
use kairos_place::token::UserName;
use kairos_protocol::block::entry::FileChange;
use kairos_protocol::crypto::random_bytes;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Clock;
use serde_json::json;

use crate::action_log::{ActionLog, Record};
use crate::bounded_addr::{Asks, BoundedAddr};
use crate::chain::ChainHandle;
use crate::knowledge::{KnowledgeError, KnowledgeHandle};
use crate::skill_set::{SkillSetError, SkillSetHandle};
use crate::skills::{Judge, SkillsError, SkillsHandle};

mod carry;
mod diff;
mod error;
mod files;
mod recover;
mod shown;
pub mod store;

pub use carry::Carried;
pub use diff::{DIFF_MAX, Diff};
pub use error::ApprovalError;
use files::Files;
pub use shown::{Overview, Shown, State, to_json};
use shown::{list, show};
use store::ApprovalStore;
pub use store::{ApprovalPolicy, Broken, Decision, Stage, Waiting};

/// Has a change wait for a person. One that waits already is told, not stored twice.
#[derive(Debug, Message)]
#[rtype(result = "Result<Waiting, ApprovalError>")]
pub struct Propose {
    /// What is to change.
    pub change: Change,
    /// The text it comes with.
    pub content: Option<Vec<u8>>,
    /// Why.
    pub reason: Option<String>,
    /// Who asks.
    pub by: Person,
}

/// Every proposal, or those of one user.
///
/// At most [`ApprovalPolicy::looked`] bytes are compared for it; see [`State::Unlooked`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Overview, ApprovalError>")]
pub struct List {
    /// Whose; everyone's if nothing is said. What cannot be read is nobody's.
    pub of: Option<UserName>,
}

/// How many proposals are kept, readable or not: those that wait, and those that were not cleared away yet.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, ApprovalError>")]
pub struct Count;

/// One proposal with all that a person needs to decide.
#[derive(Debug, Message)]
#[rtype(result = "Result<Shown, ApprovalError>")]
pub struct Show {
    /// Which.
    pub id: ProposalId,
}

/// Decides about a proposal, if it is what bears the seal that was shown.
///
/// Fails with [`ApprovalError::Forbidden`] unless `by` is an owner.
#[derive(Debug, Message)]
#[rtype(result = "Result<Carried, ApprovalError>")]
pub struct Decide {
    /// Which.
    pub id: ProposalId,
    /// [`Waiting::seal`] of what was shown.
    pub seal: ContentHash,
    /// Whether it is to be made.
    pub approve: bool,
    /// Who decides.
    pub by: Person,
}

/// Deletes a proposal that cannot be read.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ApprovalError>")]
pub struct Discard {
    /// Which.
    pub id: ProposalId,
    /// Who decides.
    pub by: Person,
}

/// Finishes what a crash left.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ApprovalError>")]
struct Recover;

/// Whether the actor answers.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ApprovalError>")]
pub struct Health;

/// Stops; everything acknowledged is on disk.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ApprovalError>")]
pub struct Shutdown;

/// See the module.
pub struct ApprovalActor {
    parts: Arc<Parts>,
}

/// What carrying out needs.
struct Parts {
    store: ApprovalStore,
    files: Files,
    chain: ChainHandle,
    knowledge: KnowledgeHandle,
    skills: SkillsHandle,
    skill_sets: SkillSetHandle,
    log: ActionLog,
    clock: Arc<dyn Clock>,
    /// Decisions that were begun, and why they could not be settled. No more than are begun.
    stuck: Mutex<BTreeMap<ProposalId, String>>,
}

impl Parts {
    /// Why the decision about `id` could not be settled.
    fn stuck(&self, id: &ProposalId) -> Option<String> {
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.get(id).cloned()
    }

    /// Notes why the decision about `id` could not be settled, or that it was.
    fn set_stuck(&self, id: &ProposalId, reason: Option<String>) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => drop(stuck.insert(id.clone(), reason)),
            None => drop(stuck.remove(id)),
        }
    }
}

/// What the approvals are started with.
pub struct ApprovalParts {
    /// Bounds of what waits.
    pub policy: ApprovalPolicy,
    /// Records what was decided.
    pub chain: ChainHandle,
    /// Changes with consent.
    pub knowledge: KnowledgeHandle,
    /// Say whether the law may change so.
    pub skills: SkillsHandle,
    /// Change with consent, too.
    pub skill_sets: SkillSetHandle,
    /// Is told of what was proposed and decided.
    pub log: ActionLog,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Reaches the approvals.
#[derive(Clone)]
pub struct ApprovalHandle(BoundedAddr<ApprovalActor>);

impl ApprovalHandle {
    /// See [`Propose`].
    pub async fn propose(&self, message: Propose) -> Result<Waiting, ApprovalError> {
        self.0.ask(message).await?
    }

    /// See [`List`].
    pub async fn list(&self, of: Option<UserName>) -> Result<Overview, ApprovalError> {
        self.0.ask(List { of }).await?
    }

    /// See [`Count`].
    pub async fn count(&self) -> Result<usize, ApprovalError> {
        self.0.ask(Count).await?
    }

    /// See [`Show`].
    pub async fn show(&self, id: ProposalId) -> Result<Shown, ApprovalError> {
        self.0.ask(Show { id }).await?
    }

    /// See [`Decide`].
    pub async fn decide(&self, message: Decide) -> Result<Carried, ApprovalError> {
        self.0.ask(message).await?
    }

    /// See [`Discard`].
    pub async fn discard(&self, id: ProposalId, by: Person) -> Result<(), ApprovalError> {
        self.0.ask(Discard { id, by }).await?
    }

    /// Finishes what a crash left between a decision and its end. What cannot be finished is listed with its reason.
    pub async fn recover(&self) -> Result<(), ApprovalError> {
        self.0.ask(Recover).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.0.asks()
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), ApprovalError> {
        self.0.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), ApprovalError> {
        self.0.ask(Shutdown).await?
    }
}

type Answered<T> = AtomicResponse<ApprovalActor, Result<T, ApprovalError>>;

impl ApprovalActor {
    /// Starts the approvals of the data directory `data`; touches no file before it is asked.
    pub fn start(
        data: &Path,
        parts: ApprovalParts,
        permits: usize,
        patience: Duration,
    ) -> ApprovalHandle {
        let root = data.join("storage").join("approvals");
        let parts = Arc::new(Parts {
            store: ApprovalStore::new(&root, parts.policy),
            files: Files::new(data),
            chain: parts.chain,
            knowledge: parts.knowledge,
            skills: parts.skills,
            skill_sets: parts.skill_sets,
            log: parts.log,
            clock: parts.clock,
            stuck: Mutex::default(),
        });
        ApprovalHandle(BoundedAddr::start(permits, patience, |_| Self { parts }))
    }

    /// Runs `work`; no other message is handled meanwhile.
    fn answer<T: 'static, F>(&self, work: impl FnOnce(Arc<Parts>) -> F) -> Answered<T>
    where
        F: Future<Output = Result<T, ApprovalError>> + 'static,
    {
        AtomicResponse::new(Box::pin(work(Arc::clone(&self.parts)).into_actor(self)))
    }
}

async fn propose(parts: Arc<Parts>, message: Propose) -> Result<Waiting, ApprovalError> {
    let Propose {
        change,
        mut content,
        reason,
        by,
    } = message;
    by.role.authorize(Action::Propose)?;
    if let Change::InstructionsMode { mode } = &change {
        if content.is_some() {
            return Err(ApprovalError::Content("does not take"));
        }
        let (parts, mode) = (Arc::clone(&parts), mode.clone());
        content = Some(blocking(move || parts.files.config_with(&mode)).await?);
    }
    match (&content, change.has_content()) {
        (None, true) => return Err(ApprovalError::Content("needs")),
        (Some(content), true) if content.is_empty() => return Err(ApprovalError::Content("needs")),
        (Some(_), false) => return Err(ApprovalError::Content("does not take")),
        _ => {}
    }
    if let Some(content) = &content {
        fits(content)?;
    }
    let (files, skillset) = look(&parts, &change, content.as_deref()).await?;
    judge(
        &parts,
        &change,
        content.as_deref(),
        reason.as_deref(),
        false,
    )
    .await?;
    blocking(move || {
        let now = parts.clock.now();
        let proposal = Proposal {
            files,
            change,
            skillset,
            reason,
            by,
            proposed_at: now,
            expires_at: now.plus(parts.store.policy().lifetime),
        };
        let id = ProposalId::from_random(random_bytes()?);
        let fresh = id.clone();
        let waiting = parts.store.park(id, proposal, content, now)?;
        if waiting.id == fresh {
            let proposal = &waiting.proposal;
            let told = Record::new("approval_proposed").about(proposal.change.subject());
            let details = json!({
                "id": waiting.id, "change": proposal.change.kind(), "by": proposal.by.user, "door": proposal.by.door,
            });
            parts.log.tell(&told.details(details), now);
        }
        Ok(waiting)
    })
    .await
}

/// What `change` would do to which files or to which SkillSet, as they are now.
async fn look(
    parts: &Arc<Parts>,
    change: &Change,
    content: Option<&[u8]>,
) -> Result<(Vec<FileChange>, Option<SetChange>), ApprovalError> {
    let (change, content) = (change.clone(), content.map(<[u8]>::to_vec));
    if change.is_knowledge() {
        let subject = change.subject().to_owned();
        let files = parts.knowledge.preview(change, content).await;
        let files = files.map_err(|error| match error {
            KnowledgeError::NoChanges => ApprovalError::Unchanged(subject),
            error => error.into(),
        })?;
        return Ok((files, None));
    }
    if change.main_file().is_some() {
        let parts = Arc::clone(parts);
        let files = blocking(move || parts.files.look(&change, content.as_deref())).await?;
        return Ok((files, None));
    }
    match parts.skill_sets.preview(change).await {
        Ok(becomes) => Ok((Vec::new(), Some(becomes))),
        Err(SkillSetError::Unchanged(name)) => Err(ApprovalError::Unchanged(name.to_string())),
        Err(SkillSetError::Ask(error)) => Err(error.into()),
        Err(error) => Err(ApprovalError::SkillSet(error)),
    }
}

/// Whether the gates let the law change so, or the guard an extension; nothing is asked about other changes.
async fn judge(
    parts: &Arc<Parts>,
    change: &Change,
    content: Option<&[u8]>,
    reason: Option<&str>,
    begins: bool,
) -> Result<(), ApprovalError> {
    if change.is_extension() {
        let (parts, change) = (Arc::clone(parts), change.clone());
        let content = content.unwrap_or_default().to_vec();
        return blocking(move || parts.files.judge(&change, &content)).await;
    }
    if !change.is_law() {
        return Ok(());
    }
    let judge = Judge {
        change: change.clone(),
        content: content.unwrap_or_default().to_vec(),
        reason: reason.map(str::to_owned),
        begins,
    };
    match parts.skills.judge(judge).await {
        Ok(_) => Ok(()),
        Err(SkillsError::Ask(error)) => Err(error.into()),
        Err(error) => Err(ApprovalError::Law(error)),
    }
}

/// Whether a text can wait at all.
fn fits(content: &[u8]) -> Result<(), ApprovalError> {
    if content.len() > CONTENT_MAX {
        return Err(ApprovalError::TooLarge {
            what: "the text".to_owned(),
            max: format!("{CONTENT_MAX} bytes"),
        });
    }
    std::str::from_utf8(content).map_err(|e| ApprovalError::NotUtf8(e.valid_up_to()))?;
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApprovalError> + Send + 'static,
) -> Result<T, ApprovalError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => Err(io::Error::other(panic).into()),
    }
}

impl Actor for ApprovalActor {
    type Context = Context<Self>;
}

impl Handler<Propose> for ApprovalActor {
    type Result = Answered<Waiting>;

    fn handle(&mut self, message: Propose, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| propose(parts, message))
    }
}

impl Handler<List> for ApprovalActor {
    type Result = Answered<Overview>;

    fn handle(&mut self, List { of }: List, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| list(parts, of))
    }
}

impl Handler<Count> for ApprovalActor {
    type Result = Answered<usize>;

    fn handle(&mut self, _: Count, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| blocking(move || parts.store.count()))
    }
}

impl Handler<Show> for ApprovalActor {
    type Result = Answered<Shown>;

    fn handle(&mut self, Show { id }: Show, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| show(parts, id))
    }
}

impl Handler<Decide> for ApprovalActor {
    type Result = Answered<Carried>;

    fn handle(&mut self, message: Decide, _ctx: &mut Self::Context) -> Self::Result {
        let Decide {
            id,
            seal,
            approve,
            by,
        } = message;
        self.answer(|parts| carry::decide(parts, id, seal, approve, by))
    }
}

impl Handler<Discard> for ApprovalActor {
    type Result = Answered<()>;

    fn handle(&mut self, Discard { id, by }: Discard, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(|parts| {
            blocking(move || {
                by.role.authorize(Action::Decide)?;
                if !parts.store.is_made() {
                    return Err(ApprovalError::Unknown(id));
                }
                let lock = parts.store.lock()?;
                match parts.store.show(&id) {
                    Err(ApprovalError::Damaged { .. }) => parts.store.discard(&lock, &id)?,
                    Ok(_) => return Err(ApprovalError::NotAsShown(id)),
                    Err(error) => return Err(error),
                }
                let details = json!({"id": id, "by": by.user, "door": by.door});
                let told = Record::new("approval_discarded").details(details);
                parts.log.tell(&told, parts.clock.now());
                Ok(())
            })
        })
    }
}

impl Handler<Recover> for ApprovalActor {
    type Result = Answered<()>;

    fn handle(&mut self, _recover: Recover, _ctx: &mut Self::Context) -> Self::Result {
        self.answer(recover::run)
    }
}

impl Handler<Health> for ApprovalActor {
    type Result = Result<(), ApprovalError>;

    fn handle(&mut self, _health: Health, _ctx: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Shutdown> for ApprovalActor {
    type Result = Result<(), ApprovalError>;

    fn handle(&mut self, _shutdown: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
