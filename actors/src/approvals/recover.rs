//! Finishing what a crash or a failure left between a decision and its end.
//!
//! The ledger tells whether a decision holds; whether its change was made is told by whoever makes it, and never by
//! what the files hold now. A decision that cannot be settled stays begun, is listed with its reason, and keeps nobody
//! else waiting.

use std::sync::Arc;

use kairos_place::proposal::ProposalId;
use kairos_protocol::block::Block;
use kairos_protocol::block::entry::{Decided, Entry};

use super::carry::{Answer, end, take_back, void};
use super::store::{Decision, Stage, Waiting};
use super::{ApprovalError, Parts, blocking};
use crate::skill_set::SkillSetError;
use crate::staging::Held;

/// Finishes every decision that was begun, if there is one.
pub(super) async fn run(parts: Arc<Parts>) -> Answer<()> {
    let lock = {
        let parts = Arc::clone(&parts);
        blocking(move || match parts.store.unfinished()?.is_empty() {
            true => Ok(None),
            false => Ok(Some(Arc::new(parts.store.lock()?))),
        })
        .await?
    };
    match lock {
        None => Ok(()),
        Some(lock) => all(&parts, &lock).await,
    }
}

/// Finishes every decision that was begun, and clears away what belongs to none.
pub(super) async fn all(parts: &Arc<Parts>, lock: &Arc<Held>) -> Answer<()> {
    let begun = {
        let parts = Arc::clone(parts);
        blocking(move || {
            let begun = parts.store.unfinished()?;
            parts.files.tidy(&begun)?;
            Ok(begun)
        })
        .await?
    };
    if begun.is_empty() {
        return Ok(());
    }
    let overtaken = parts.knowledge.settle(begun.clone()).await;
    let overtaken = overtaken.map_err(|error| ApprovalError::from(error).reason());
    for id in begun {
        let settled = one(parts, lock, &id, &overtaken).await;
        if let Err(error) = &settled {
            tracing::error!(approval.id = %id, %error, "a decision that was begun cannot be finished");
        }
        parts.set_stuck(&id, settled.err().map(|error| error.reason()));
    }
    Ok(())
}

async fn one(
    parts: &Arc<Parts>,
    lock: &Arc<Held>,
    id: &ProposalId,
    overtaken: &Result<Vec<ProposalId>, String>,
) -> Answer<()> {
    let waiting = {
        let (parts, id) = (Arc::clone(parts), id.clone());
        blocking(move || parts.store.show(&id)).await?
    };
    let Some(decision) = waiting.decision.clone().filter(|d| !d.is_done()) else {
        return Ok(());
    };
    tracing::warn!(approval.id = %waiting.id, "finishes a decision that was begun");
    let proposal = &waiting.proposal;
    // First, so that whoever makes the change has come to an end and records nothing any more.
    let overtaken = match (proposal.change.is_knowledge(), overtaken) {
        (true, Ok(overtaken)) => overtaken.contains(id),
        (true, Err(reason)) => {
            let (id, reason) = (id.clone(), reason.clone());
            return Err(ApprovalError::Unfinished { id, reason });
        }
        (false, _) => false,
    };
    let is_made = match &proposal.skillset {
        None => false,
        Some(set) => {
            let now = parts.skill_sets.state(proposal.change.subject()).await;
            now.map_err(ApprovalError::SkillSet)? == set.after
        }
    };
    let Some(told) = told(parts, &waiting, &decision).await? else {
        // Nothing is made before it is recorded.
        return take_back(parts, &waiting).await;
    };
    let made = match decision.decided {
        Decided::Rejected | Decided::Void => true,
        Decided::Approved if told.void => false,
        Decided::Approved if proposal.change.is_knowledge() => !overtaken,
        // What somebody did with the SkillSet since is not undone.
        Decided::Approved if proposal.skillset.is_some() => {
            is_made || told.overruled || make_set(parts, lock, &waiting).await?
        }
        Decided::Approved => {
            let (parts, waiting) = (Arc::clone(parts), waiting.clone());
            let decision = decision.clone();
            blocking(move || parts.files.finish(&waiting, &decision)).await?
        }
    };
    if !made && !told.void {
        void(parts, &waiting, &decision).await?;
    }
    let finished = Decision {
        decided: if made {
            decision.decided
        } else {
            Decided::Void
        },
        stage: Stage::Done {
            block: Some(told.block),
        },
        ..decision
    };
    end(parts, lock, &waiting, &finished).await
}

/// What the ledger tells of a decision.
pub(super) struct Told {
    /// The block that tells what was decided.
    pub(super) block: u64,
    /// Whether a later one tells that it came to nothing.
    void: bool,
    /// Whether a later one tells of another change of the same SkillSet.
    overruled: bool,
}

/// What the ledger tells of a decision, if anything. Waits for an append that is still under way.
pub(super) async fn told(
    parts: &Arc<Parts>,
    waiting: &Waiting,
    decision: &Decision,
) -> Answer<Option<Told>> {
    let Stage::Begun { tip } = decision.stage else {
        return Ok(None);
    };
    let proposal = &waiting.proposal;
    let mut found: Option<Told> = None;
    let look = |block: &Block| {
        for text in block.data() {
            match (Entry::read(text), &mut found) {
                (Ok(Entry::ApprovalDecision(told)), found)
                    if told.approval_id == waiting.id.as_str() =>
                {
                    let void = told.decision == Decided::Void;
                    let found = found.get_or_insert(Told {
                        block: block.index(),
                        void,
                        overruled: false,
                    });
                    found.void |= void;
                }
                (Ok(Entry::SkillSetEvent(event)), Some(found)) => {
                    let same = event.skillset_name == proposal.change.subject();
                    found.overruled |= same && block.index() > found.block;
                }
                _ => {}
            }
        }
        None::<()>
    };
    let unreadable = |error| ApprovalError::Unfinished {
        id: waiting.id.clone(),
        reason: format!("the ledger: {error}"),
    };
    parts.chain.rest().await.map_err(unreadable)?;
    let first = tip.map_or(0, |tip| tip + 1);
    parts.chain.find(first, look).await.map_err(unreadable)?;
    Ok(found)
}

/// Makes a change of a SkillSet that the ledger tells of already; `false` where it is not as it was when it was
/// approved, and left alone.
async fn make_set(parts: &Arc<Parts>, lock: &Arc<Held>, waiting: &Waiting) -> Answer<bool> {
    let proposal = &waiting.proposal;
    let Some(shown) = proposal.skillset.clone() else {
        return Ok(false);
    };
    let change = proposal.change.clone();
    let made = parts
        .skill_sets
        .approved(change, shown, None, Arc::clone(lock));
    match made.await {
        Ok(_) => Ok(true),
        Err(
            SkillSetError::NotAsShown(_) | SkillSetError::NotFound(_) | SkillSetError::Unchanged(_),
        ) => Ok(false),
        Err(error) => Err(ApprovalError::SkillSet(error)),
    }
}
