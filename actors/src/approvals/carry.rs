//! Carrying out what was decided, as one unit with its record.
//!
//! The order is: the decision is written down as begun, the ledger gets it in one block with the entry of the change,
//! the change is made, the decision is written down as done. Nothing is changed that the ledger does not tell of; a
//! crash in between is finished, or taken back where nothing was recorded, by [`super::recover`].

use std::sync::Arc;

use kairos_place::proposal::{Person, Proposal, ProposalId};
use kairos_place::role::Action;
use kairos_protocol::block::entry::{ApprovalDecision, Decided, Entry, FILES_NAMED_MAX};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use serde_json::json;

use super::store::{Decision, Stage, Waiting};
use super::{ApprovalError, Parts, blocking, judge, recover};
use crate::action_log::Record;
use crate::bounded_addr::AskError;
use crate::chain::ChainError;
use crate::chain::queue::IdempotencyKey;
use crate::knowledge::{Approved, KnowledgeError};
use crate::skill_set::SkillSetError;
use crate::staging::Held;

pub(super) type Answer<T> = Result<T, ApprovalError>;

/// What an approval or a rejection has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// What was proposed.
    pub proposal: Proposal,
    /// What was decided, and where that is recorded.
    pub decision: Decision,
}

/// Decides about `id`, if it is what bears `seal`.
pub(super) async fn decide(
    parts: Arc<Parts>,
    id: ProposalId,
    seal: ContentHash,
    approve: bool,
    by: Person,
) -> Answer<Carried> {
    by.role.authorize(Action::Decide)?;
    let lock = {
        let (parts, id) = (Arc::clone(&parts), id.clone());
        blocking(move || match parts.store.is_made() {
            true => Ok(Arc::new(parts.store.lock()?)),
            false => Err(ApprovalError::Unknown(id)),
        })
        .await?
    };
    recover::all(&parts, &lock).await?;
    let now = parts.clock.now();
    let waiting = {
        let parts = Arc::clone(&parts);
        blocking(move || {
            let waiting = parts.store.show(&id)?;
            check(&parts, &waiting, seal, approve, now)?;
            Ok(waiting)
        })
        .await?
    };
    let decision = Decision {
        decided: if approve {
            Decided::Approved
        } else {
            Decided::Rejected
        },
        by,
        at: now,
        seal,
        stage: Stage::Begun {
            tip: parts
                .chain
                .tip()
                .await
                .map_err(ApprovalError::Unrecorded)?
                .map(|tip| tip.index),
        },
    };
    let decision = carry(&parts, &lock, &waiting, decision).await?;
    Ok(Carried {
        proposal: waiting.proposal,
        decision,
    })
}

fn check(
    parts: &Parts,
    waiting: &Waiting,
    seal: ContentHash,
    approve: bool,
    now: Timestamp,
) -> Answer<()> {
    let id = || waiting.id.clone();
    match &waiting.decision {
        Some(decision) if decision.is_done() => {
            let how = decision.word();
            return Err(ApprovalError::Decided { id: id(), how });
        }
        Some(_) => {
            let reason = parts.stuck(&waiting.id).unwrap_or_default();
            return Err(ApprovalError::Unfinished { id: id(), reason });
        }
        None => {}
    }
    if waiting.seal != seal {
        return Err(ApprovalError::NotAsShown(id()));
    }
    if approve && waiting.proposal.is_expired(now) {
        return Err(ApprovalError::Expired(id()));
    }
    Ok(())
}

async fn carry(
    parts: &Arc<Parts>,
    lock: &Arc<Held>,
    waiting: &Waiting,
    decision: Decision,
) -> Answer<Decision> {
    let proposal = &waiting.proposal;
    let done = match decision.decided {
        Decided::Approved if proposal.skillset.is_some() => {
            approve_set(parts, lock, waiting, &decision).await
        }
        Decided::Approved if proposal.change.is_knowledge() => {
            approve_knowledge(parts, lock, waiting, &decision).await
        }
        Decided::Approved => approve_files(parts, waiting, &decision).await,
        Decided::Rejected | Decided::Void => record_only(parts, waiting, &decision).await,
    };
    let (decision, failed) = match done {
        Ok(block) => {
            let stage = Stage::Done { block };
            (Decision { stage, ..decision }, None)
        }
        Err(error @ ApprovalError::BasisChanged { .. }) => {
            let (decided, stage) = (Decided::Void, Stage::Done { block: None });
            let void = Decision {
                decided,
                stage,
                ..decision
            };
            (void, Some(error))
        }
        Err(error) => {
            if let ApprovalError::Unfinished { id, reason } = &error {
                parts.set_stuck(id, Some(reason.clone()));
            }
            return Err(error);
        }
    };
    end(parts, lock, waiting, &decision).await?;
    failed.map_or(Ok(decision), Err)
}

/// Writes the decision down as done.
pub(super) async fn end(
    parts: &Arc<Parts>,
    lock: &Arc<Held>,
    waiting: &Waiting,
    decision: &Decision,
) -> Answer<()> {
    let (parts, lock) = (Arc::clone(parts), Arc::clone(lock));
    let (waiting, decision) = (waiting.clone(), decision.clone());
    blocking(move || {
        parts.store.decide(&waiting.id, &decision)?;
        parts.set_stuck(&waiting.id, None);
        parts.store.forget_old(&lock)?;
        parts
            .log
            .tell(&record(&waiting, &decision), parts.clock.now());
        Ok(())
    })
    .await
}

fn record(waiting: &Waiting, decision: &Decision) -> Record {
    let action = match decision.decided {
        Decided::Approved => "approval_approved",
        Decided::Rejected => "approval_rejected",
        Decided::Void => "approval_void",
    };
    let proposal = &waiting.proposal;
    Record::new(action)
        .about(proposal.change.subject())
        .details(json!({
            "id": waiting.id, "change": proposal.change.kind(), "proposed_by": proposal.by.user,
            "by": decision.by.user, "door": decision.by.door,
        }))
}

pub(super) fn entry(waiting: &Waiting, decision: &Decision, decided: Decided) -> Entry {
    let proposal = &waiting.proposal;
    Entry::ApprovalDecision(ApprovalDecision {
        approval_id: waiting.id.to_string(),
        decision: decided,
        change: proposal.change.kind().to_owned(),
        subject: proposal.change.subject().to_owned(),
        proposed_by: proposal.by.user.to_string(),
        decided_by: decision.by.user.to_string(),
        seal: decision.seal,
        files: proposal
            .files
            .iter()
            .take(FILES_NAMED_MAX)
            .cloned()
            .collect(),
        reason: proposal.reason.clone(),
        timestamp: decision.at,
    })
}

/// Writes the decision down as begun; after that only its end, [`take_back`] or a recovery lets
/// go of it.
async fn begin(parts: &Arc<Parts>, waiting: &Waiting, decision: &Decision) -> Answer<()> {
    let (parts, id, decision) = (Arc::clone(parts), waiting.id.clone(), decision.clone());
    blocking(move || Ok(parts.store.decide(&id, &decision)?)).await
}

pub(super) async fn take_back(parts: &Arc<Parts>, waiting: &Waiting) -> Answer<()> {
    let (parts, id) = (Arc::clone(parts), waiting.id.clone());
    blocking(move || Ok(parts.store.undecide(&id)?)).await
}

/// That it is not known yet, or not done yet, what was decided.
fn unfinished(waiting: &Waiting, error: &ApprovalError) -> ApprovalError {
    tracing::error!(approval.id = %waiting.id, %error, "a decision was begun and is not settled yet");
    let (id, reason) = (waiting.id.clone(), error.reason());
    ApprovalError::Unfinished { id, reason }
}

/// What an append that failed means: where it is certain that there is no block, the decision is taken back.
async fn not_recorded(parts: &Arc<Parts>, waiting: &Waiting, error: ChainError) -> ApprovalError {
    match error.may_be_recorded() {
        false => taken_back(parts, waiting, ApprovalError::Unrecorded(error)).await,
        true => {
            let (id, reason) = (waiting.id.clone(), format!("the ledger: {error}"));
            ApprovalError::Unfinished { id, reason }
        }
    }
}

/// Takes the decision back, since of `error` nothing was recorded.
async fn taken_back(parts: &Arc<Parts>, waiting: &Waiting, error: ApprovalError) -> ApprovalError {
    match take_back(parts, waiting).await {
        Ok(()) => error,
        Err(failed) => unfinished(waiting, &failed),
    }
}

/// Appends the entries as one block.
async fn append(parts: &Arc<Parts>, waiting: &Waiting, entries: Vec<Entry>) -> Answer<u64> {
    let texts = entries.iter().map(Entry::to_text).collect();
    match parts.chain.record(IdempotencyKey::fresh(), texts).await {
        Ok(block) => Ok(block.index),
        Err(error) => Err(not_recorded(parts, waiting, error).await),
    }
}

async fn record_only(
    parts: &Arc<Parts>,
    waiting: &Waiting,
    decision: &Decision,
) -> Answer<Option<u64>> {
    begin(parts, waiting, decision).await?;
    let entry = entry(waiting, decision, decision.decided);
    append(parts, waiting, vec![entry]).await.map(Some)
}

async fn approve_files(
    parts: &Arc<Parts>,
    waiting: &Waiting,
    decision: &Decision,
) -> Answer<Option<u64>> {
    let at = decision.at;
    let basis = {
        let (parts, waiting) = (Arc::clone(parts), waiting.clone());
        blocking(move || parts.files.basis(&waiting)).await?
    };
    // Again, and now that nothing of ours changes the files: the settings and the session may be others than then.
    let proposal = &waiting.proposal;
    let (content, reason) = (waiting.content.as_deref(), proposal.reason.as_deref());
    judge(parts, &proposal.change, content, reason, true).await?;
    let (basis, change) = {
        let (parts, waiting) = (Arc::clone(parts), waiting.clone());
        blocking(move || {
            let change = parts.files.entry(&basis, &waiting, at)?;
            parts.files.stage(&basis, &waiting)?;
            Ok((basis, change))
        })
        .await?
    };
    begin(parts, waiting, decision).await?;
    let mut entries: Vec<_> = change.into_iter().collect();
    entries.push(entry(waiting, decision, decision.decided));
    let block = append(parts, waiting, entries).await?;
    let made = {
        let (parts, waiting) = (Arc::clone(parts), waiting.clone());
        let decision = decision.clone();
        blocking(move || parts.files.make(&basis, &waiting, &decision)).await
    };
    match made {
        Ok(true) => Ok(Some(block)),
        Ok(false) => Err(void(parts, waiting, decision).await?),
        Err(error) => Err(unfinished(waiting, &error)),
    }
}

async fn approve_knowledge(
    parts: &Arc<Parts>,
    lock: &Arc<Held>,
    waiting: &Waiting,
    decision: &Decision,
) -> Answer<Option<u64>> {
    begin(parts, waiting, decision).await?;
    let proposal = &waiting.proposal;
    let approved = Approved {
        id: waiting.id.clone(),
        change: proposal.change.clone(),
        files: proposal.files.clone(),
        content: waiting.content.clone(),
        reason: proposal.reason.clone(),
        decision: entry(waiting, decision, decision.decided),
    };
    let made = parts.knowledge.approved(approved, Arc::clone(lock));
    let Err(error) = made.await else {
        return block_of(parts, waiting, decision).await;
    };
    Err(match error {
        KnowledgeError::Moved { .. }
        | KnowledgeError::Exists { .. }
        | KnowledgeError::NotFound { .. }
        | KnowledgeError::NoChanges => {
            let (change, files) = (proposal.change.clone(), proposal.files.clone());
            let differs = parts.knowledge.differs(change, files).await;
            changed(waiting, differs.unwrap_or_default())
        }
        KnowledgeError::Overtaken { .. } => void(parts, waiting, decision).await?,
        KnowledgeError::Ledger(error) => not_recorded(parts, waiting, error).await,
        // Whether it is recorded and made is found out later.
        error @ (KnowledgeError::Unsettled { .. }
        | KnowledgeError::Io(_)
        | KnowledgeError::Ask(AskError::Timeout | AskError::Stopped)) => {
            unfinished(waiting, &error.into())
        }
        error => taken_back(parts, waiting, error.into()).await,
    })
}

fn changed(waiting: &Waiting, what: Option<String>) -> ApprovalError {
    let proposal = &waiting.proposal;
    let subject = proposal.main_file().unwrap_or(proposal.change.subject());
    ApprovalError::BasisChanged {
        id: waiting.id.clone(),
        what: what.unwrap_or_else(|| subject.to_owned()),
    }
}

/// Records that what was approved came to nothing after all, and says so.
pub(super) async fn void(
    parts: &Arc<Parts>,
    waiting: &Waiting,
    decision: &Decision,
) -> Answer<ApprovalError> {
    let text = entry(waiting, decision, Decided::Void).to_text();
    let told = parts.chain.record(IdempotencyKey::fresh(), vec![text]);
    match told.await {
        Ok(_) => Ok(changed(waiting, None)),
        Err(error) => {
            let (id, reason) = (waiting.id.clone(), format!("the ledger: {error}"));
            Err(ApprovalError::Unfinished { id, reason })
        }
    }
}

async fn approve_set(
    parts: &Arc<Parts>,
    lock: &Arc<Held>,
    waiting: &Waiting,
    decision: &Decision,
) -> Answer<Option<u64>> {
    let proposal = &waiting.proposal;
    let shown = proposal.skillset.clone();
    let Some(shown) = shown else {
        return Err(ApprovalError::NothingThere(
            proposal.change.subject().to_owned(),
        ));
    };
    begin(parts, waiting, decision).await?;
    let entry = entry(waiting, decision, decision.decided);
    let change = proposal.change.clone();
    let made = parts
        .skill_sets
        .approved(change, shown, Some(entry), Arc::clone(lock));
    let Err(error) = made.await else {
        return block_of(parts, waiting, decision).await;
    };
    Err(match error {
        SkillSetError::NotAsShown(_) | SkillSetError::Unchanged(_) | SkillSetError::NotFound(_) => {
            changed(waiting, None)
        }
        SkillSetError::Unrecorded(error) => not_recorded(parts, waiting, error).await,
        // Whether it is recorded or made is found out later.
        error @ (SkillSetError::Unfinished(_)
        | SkillSetError::Crashed
        | SkillSetError::Ask(AskError::Timeout | AskError::Stopped)) => {
            unfinished(waiting, &ApprovalError::SkillSet(error))
        }
        error => taken_back(parts, waiting, ApprovalError::SkillSet(error)).await,
    })
}

/// The block that tells of a decision that was carried out.
async fn block_of(
    parts: &Arc<Parts>,
    waiting: &Waiting,
    decision: &Decision,
) -> Answer<Option<u64>> {
    match recover::told(parts, waiting, decision).await {
        Ok(told) => Ok(told.map(|told| told.block)),
        Err(error) => Err(unfinished(waiting, &error)),
    }
}
