//! Carrying out what was decided, as one unit with its record.
//!
//! The order is: the decision is written down as begun, the ledger gets it in one block with the entry of the change,
//! the change is made, the decision is written down as done. Nothing is changed that the ledger does not tell of; a
//! crash in between is finished, or taken back where nothing was recorded, by [`recover`].

use std::sync::Arc;

use kairos_place::proposal::{Person, Proposal, ProposalId};
use kairos_place::role::Action;
use kairos_protocol::block::entry::{ApprovalDecision, Decided, Entry, FILES_NAMED_MAX};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use serde_json::json;

use super::store::{Decision, Stage, Waiting};
use super::{ApprovalError, Parts, blocking};
use crate::action_log::Record;
use crate::bounded_addr::AskError;
use crate::chain::ChainError;
use crate::chain::store::{HISTORY_MAX, StoreError};
use crate::skill_set::SkillSetError;
use crate::staging::Held;

type Answer<T> = Result<T, ApprovalError>;

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
    recover(Arc::clone(&parts)).await?;
    let now = parts.clock.now();
    let (lock, waiting) = {
        let parts = Arc::clone(&parts);
        blocking(move || {
            if !parts.store.is_made() {
                return Err(ApprovalError::Unknown(id));
            }
            let lock = parts.store.lock()?;
            let waiting = parts.store.show(&id)?;
            check(&waiting, seal, approve, now)?;
            Ok((lock, waiting))
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
    let decision = carry(&parts, lock, &waiting, decision).await?;
    Ok(Carried {
        proposal: waiting.proposal,
        decision,
    })
}

fn check(waiting: &Waiting, seal: ContentHash, approve: bool, now: Timestamp) -> Answer<()> {
    let id = || waiting.id.clone();
    match &waiting.decision {
        Some(decision) if decision.is_done() => {
            let how = decision.word();
            return Err(ApprovalError::Decided { id: id(), how });
        }
        Some(_) => return Err(ApprovalError::Unfinished(id())),
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
    lock: Held,
    waiting: &Waiting,
    decision: Decision,
) -> Answer<Decision> {
    let done = match decision.decided {
        Decided::Approved if waiting.proposal.skillset.is_some() => {
            approve_set(parts, waiting, &decision).await
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
        Err(error) => return Err(error),
    };
    let (parts, waiting, kept) = (Arc::clone(parts), waiting.clone(), decision.clone());
    blocking(move || {
        parts.store.decide(&waiting.id, &kept)?;
        parts.store.forget_old(&lock)?;
        parts.log.tell(&record(&waiting, &kept), parts.clock.now());
        Ok(())
    })
    .await?;
    failed.map_or(Ok(decision), Err)
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

fn entry(waiting: &Waiting, decision: &Decision, decided: Decided) -> Entry {
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

/// Writes the decision down as begun; after that only its end or [`recover`] lets go of it.
async fn begin(parts: &Arc<Parts>, waiting: &Waiting, decision: &Decision) -> Answer<()> {
    let (parts, id, decision) = (Arc::clone(parts), waiting.id.clone(), decision.clone());
    blocking(move || Ok(parts.store.decide(&id, &decision)?)).await
}

async fn take_back(parts: &Arc<Parts>, waiting: &Waiting) -> Answer<()> {
    let (parts, id) = (Arc::clone(parts), waiting.id.clone());
    blocking(move || Ok(parts.store.undecide(&id)?)).await
}

/// Appends the entries as one block. Where it is certain that there is none, the decision is taken back.
async fn append(parts: &Arc<Parts>, waiting: &Waiting, entries: Vec<Entry>) -> Answer<u64> {
    let texts = entries.iter().map(Entry::to_text).collect();
    match parts.chain.append(texts).await {
        Ok(block) => Ok(block.index),
        Err(error) => {
            if !may_be_recorded(&error) {
                take_back(parts, waiting).await?;
            }
            Err(ApprovalError::Unrecorded(error))
        }
    }
}

fn may_be_recorded(error: &ChainError) -> bool {
    matches!(
        error,
        ChainError::Ask(AskError::Timeout | AskError::Stopped)
            | ChainError::Crashed
            | ChainError::Store(StoreError::Unsettled { .. })
    )
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
    let (basis, change) = {
        let (parts, waiting) = (Arc::clone(parts), waiting.clone());
        blocking(move || {
            let basis = parts.files.basis(&waiting)?;
            let change = parts.files.entry(&basis, &waiting, at)?;
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
        blocking(move || {
            let proposal = &waiting.proposal;
            // An editor takes no lock of ours.
            match parts.files.changed(&proposal.change, &proposal.files)? {
                Some(what) => Ok(Err(what)),
                None => parts.files.make(basis, &waiting).map(Ok),
            }
        })
        .await?
    };
    match made {
        Ok(()) => Ok(Some(block)),
        Err(what) => Err(void(parts, waiting, decision, what).await?),
    }
}

/// Records that what was approved came to nothing after all, and says so.
async fn void(
    parts: &Arc<Parts>,
    waiting: &Waiting,
    decision: &Decision,
    what: String,
) -> Answer<ApprovalError> {
    let text = entry(waiting, decision, Decided::Void).to_text();
    parts
        .chain
        .append(vec![text])
        .await
        .map_err(ApprovalError::Unrecorded)?;
    let id = waiting.id.clone();
    Ok(ApprovalError::BasisChanged { id, what })
}

async fn approve_set(
    parts: &Arc<Parts>,
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
    let made = parts
        .skill_sets
        .approved(proposal.change.clone(), shown, entry)
        .await;
    match made {
        Ok(_) => Ok(find(parts, waiting, decision).await?.block()),
        Err(
            SkillSetError::NotAsShown(_) | SkillSetError::Unchanged(_) | SkillSetError::NotFound(_),
        ) => Err(ApprovalError::BasisChanged {
            id: waiting.id.clone(),
            what: proposal.change.subject().to_owned(),
        }),
        // Whether it is recorded or made is found out later.
        Err(error @ (SkillSetError::Unfinished(_) | SkillSetError::Crashed)) => {
            Err(ApprovalError::SkillSet(error))
        }
        Err(SkillSetError::Ask(error @ (AskError::Timeout | AskError::Stopped))) => {
            Err(error.into())
        }
        Err(SkillSetError::Unrecorded(error)) => {
            if !may_be_recorded(&error) {
                take_back(parts, waiting).await?;
            }
            Err(ApprovalError::Unrecorded(error))
        }
        Err(error) => {
            take_back(parts, waiting).await?;
            Err(ApprovalError::SkillSet(error))
        }
    }
}

/// Whether the ledger tells of a decision.
enum Found {
    Block(u64),
    Nowhere,
    /// Too much was recorded since to look through.
    TooFarBack,
}

impl Found {
    fn block(&self) -> Option<u64> {
        match self {
            Self::Block(index) => Some(*index),
            Self::Nowhere | Self::TooFarBack => None,
        }
    }
}

async fn find(parts: &Arc<Parts>, waiting: &Waiting, decision: &Decision) -> Answer<Found> {
    let Stage::Begun { tip } = decision.stage else {
        return Ok(Found::TooFarBack);
    };
    let blocks = parts
        .chain
        .history(HISTORY_MAX)
        .await
        .map_err(ApprovalError::Unrecorded)?;
    let after = |index: u64| tip.is_none_or(|tip| index > tip);
    let tells = |text: &String| match Entry::read(text) {
        Ok(Entry::ApprovalDecision(told)) => told.approval_id == waiting.id.as_str(),
        _ => false,
    };
    let since = blocks.iter().filter(|block| after(block.index()));
    if let Some(block) = since.clone().find(|block| block.data().iter().any(tells)) {
        return Ok(Found::Block(block.index()));
    }
    // Where some of them are older, or there are no more, nothing was left out.
    let all = blocks.len() < HISTORY_MAX || since.count() < blocks.len();
    Ok(match all {
        true => Found::Nowhere,
        false => Found::TooFarBack,
    })
}

/// Finishes every decision that a crash or a failure left begun.
pub(super) async fn recover(parts: Arc<Parts>) -> Answer<()> {
    let unfinished = {
        let parts = Arc::clone(&parts);
        blocking(move || parts.store.unfinished()).await?
    };
    for id in unfinished {
        let (lock, waiting) = {
            let parts = Arc::clone(&parts);
            blocking(move || {
                let lock = parts.store.lock()?;
                Ok((lock, parts.store.show(&id)?))
            })
            .await?
        };
        // Whoever was at it may have finished while we waited for the lock.
        let Some(decision) = waiting.decision.clone().filter(|d| !d.is_done()) else {
            continue;
        };
        tracing::warn!(approval.id = %waiting.id, "finishes a decision that was begun");
        let found = find(&parts, &waiting, &decision).await?;
        let block = found.block();
        let made = is_made(&parts, &waiting).await?;
        let (decided, block) = match (decision.decided, found) {
            // Nothing is made before it is recorded.
            (_, Found::Nowhere) => {
                take_back(&parts, &waiting).await?;
                continue;
            }
            (Decided::Approved, Found::TooFarBack) if !made => {
                take_back(&parts, &waiting).await?;
                continue;
            }
            (Decided::Approved, Found::Block(_)) if !made => {
                match make_recorded(&parts, &waiting, &decision).await {
                    Ok(()) => (Decided::Approved, block),
                    Err(ApprovalError::BasisChanged { .. }) => (Decided::Void, block),
                    Err(error) => return Err(error),
                }
            }
            (decided, _) => (decided, block),
        };
        let finished = Decision {
            decided,
            stage: Stage::Done { block },
            ..decision
        };
        let parts = Arc::clone(&parts);
        blocking(move || {
            parts.store.decide(&waiting.id, &finished)?;
            parts
                .log
                .tell(&record(&waiting, &finished), parts.clock.now());
            drop(lock);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn is_made(parts: &Arc<Parts>, waiting: &Waiting) -> Answer<bool> {
    let proposal = waiting.proposal.clone();
    if let Some(set) = &proposal.skillset {
        let now = parts.skill_sets.state(proposal.change.subject()).await;
        return Ok(now.map_err(ApprovalError::SkillSet)? == set.after);
    }
    let parts = Arc::clone(parts);
    blocking(move || parts.files.is_made(&proposal.files)).await
}

/// Makes what the ledger tells of already. What is not as it was when it was approved is left alone, and the ledger
/// gets to know.
async fn make_recorded(parts: &Arc<Parts>, waiting: &Waiting, decision: &Decision) -> Answer<()> {
    let proposal = &waiting.proposal;
    if let Some(shown) = proposal.skillset.clone() {
        let entry = entry(waiting, decision, decision.decided);
        let made = parts
            .skill_sets
            .approved(proposal.change.clone(), shown, entry)
            .await;
        return match made {
            Ok(_) => Ok(()),
            Err(SkillSetError::NotAsShown(_) | SkillSetError::NotFound(_)) => Err(void(
                parts,
                waiting,
                decision,
                proposal.change.subject().to_owned(),
            )
            .await?),
            Err(error) => Err(ApprovalError::SkillSet(error)),
        };
    }
    let made = {
        let (parts, waiting) = (Arc::clone(parts), waiting.clone());
        blocking(move || {
            let basis = parts.files.basis(&waiting)?;
            parts.files.make(basis, &waiting)
        })
        .await
    };
    match made {
        Err(ApprovalError::BasisChanged { what, .. }) => {
            Err(void(parts, waiting, decision, what).await?)
        }
        other => other,
    }
}
