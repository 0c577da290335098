//! Proposals as they are shown: whether each can be approved now, and what it would change.

use std::sync::Arc;

use kairos_place::proposal::ProposalId;
use kairos_place::token::UserName;
use kairos_protocol::dsl::Law;
use kairos_protocol::skill::findings::{Finding, findings};
use serde_json::{Value, json};

use super::diff::{self, Diff};
use super::store::{Broken, Decision, Waiting};
use super::{ApprovalError, Parts, blocking};
use crate::skill_set::SkillSetError;
use crate::skills::Difference;

/// Most SkillSets whose state one list finds out.
const SETS_MAX: usize = 100;

/// Whether a proposal can be approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It can.
    Open,
    /// It was not compared: its files are too many for a list, or cannot be read. Showing it tells.
    Unlooked,
    /// Its time is over.
    Expired,
    /// What it was based on has changed; this has.
    Void(String),
    /// It was decided, and that is not settled.
    Unfinished {
        /// What was decided.
        decision: Decision,
        /// Why it could not be settled, where that was tried.
        reason: Option<String>,
    },
    /// It was decided, and all of it is done.
    Decided(Decision),
}

impl State {
    /// `open`, `unlooked`, `expired`, `void`, `approved`, `rejected` or `unfinished`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Unlooked => "unlooked",
            Self::Expired => "expired",
            Self::Void(_) => "void",
            Self::Unfinished { .. } => "unfinished",
            Self::Decided(decision) => decision.word(),
        }
    }
}

/// Every proposal with its state, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// Those that can be read.
    pub proposals: Vec<(Waiting, State)>,
    /// The rest.
    pub broken: Vec<Broken>,
}

/// All that a person needs to decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The proposal.
    pub waiting: Waiting,
    /// Whether it can be approved.
    pub state: State,
    /// What would change in the text; nothing where it is decided or void, or no text changes.
    pub diff: Option<Diff>,
    /// What would change in what the law says, with the hash that the ledger gets; nothing unless it is a change of the
    /// law, and `diff` is there.
    pub law: Option<Difference>,
    /// What the heuristics point at in the new text.
    pub findings: Vec<Finding>,
}

/// A proposal for programs.
pub fn to_json(waiting: &Waiting, state: &State) -> Value {
    let proposal = &waiting.proposal;
    let changed = match state {
        State::Void(what) => Some(what.as_str()),
        _ => None,
    };
    let mut value = json!({
        "id": waiting.id, "state": state.word(), "changed": changed, "seal": waiting.seal,
        "change": proposal.change, "subject": proposal.change.subject(), "files": proposal.files,
        "skillset": proposal.skillset, "reason": proposal.reason, "by": proposal.by,
        "proposed_at": proposal.proposed_at.wire(), "expires_at": proposal.expires_at.wire(),
        "decision": waiting.decision.as_ref().map(|decision| json!({
            "decided": decision.decided, "by": decision.by, "at": decision.at.wire(), "stage": decision.stage,
        })),
    });
    if let (State::Unfinished { reason, .. }, Value::Object(members)) = (state, &mut value) {
        members.insert("unfinished_because".to_owned(), json!(reason));
    }
    value
}

impl Shown {
    /// All of it for programs.
    pub fn to_json(&self) -> Value {
        let mut value = to_json(&self.waiting, &self.state);
        if let Value::Object(members) = &mut value {
            let diff = self.diff.as_ref();
            members.insert("diff".to_owned(), json!(diff.map(|d| &d.text)));
            let left_out = diff.map_or(0, |d| d.left_out);
            members.insert("diff_left_out_bytes".to_owned(), json!(left_out));
            let law = self.law.as_ref();
            members.insert("law_diff".to_owned(), json!(law.map(|law| &law.diff)));
            members.insert("law_diff_hash".to_owned(), json!(law.map(|law| law.hash)));
            members.insert("findings".to_owned(), json!(self.findings));
            let content = self.waiting.content.as_deref();
            let content = content.map(String::from_utf8_lossy);
            members.insert("content".to_owned(), json!(content));
        }
        value
    }
}

/// What is plain about `waiting` without a look at what it would change.
fn plain_state(parts: &Parts, waiting: &Waiting) -> Option<State> {
    match &waiting.decision {
        Some(decision) if decision.is_done() => Some(State::Decided(decision.clone())),
        Some(decision) => Some(State::Unfinished {
            decision: decision.clone(),
            reason: parts.stuck(&waiting.id),
        }),
        None if waiting.proposal.is_expired(parts.clock.now()) => Some(State::Expired),
        None => None,
    }
}

/// Whether `waiting` can be approved now; SkillSets are compared as they are installed.
async fn state(parts: &Arc<Parts>, waiting: &Waiting) -> Result<State, ApprovalError> {
    if let Some(state) = plain_state(parts, waiting) {
        return Ok(state);
    }
    let proposal = waiting.proposal.clone();
    let changed = match &proposal.skillset {
        Some(set) => {
            let name = proposal.change.subject();
            let now = parts.skill_sets.state(name).await;
            let now = now.map_err(ApprovalError::SkillSet)?;
            (now != set.before).then(|| name.to_owned())
        }
        None if proposal.change.is_knowledge() => {
            let differs = parts.knowledge.differs(proposal.change, proposal.files);
            differs.await?
        }
        None => {
            let parts = Arc::clone(parts);
            blocking(move || parts.files.changed(&proposal.files)).await?
        }
    };
    Ok(changed.map_or(State::Open, State::Void))
}

pub(super) async fn list(
    parts: Arc<Parts>,
    of: Option<UserName>,
) -> Result<Overview, ApprovalError> {
    let listing = {
        let parts = Arc::clone(&parts);
        blocking(move || {
            let mut listing = parts.store.list()?;
            if let Some(user) = of {
                listing.proposals.retain(|w| w.proposal.by.user == user);
                listing.broken.clear();
            }
            let sized = |waiting: Waiting| (parts.files.size(&waiting.proposal.files), waiting);
            let proposals: Vec<_> = listing.proposals.into_iter().map(sized).collect();
            Ok((proposals, listing.broken))
        })
        .await?
    };
    let (sized, broken) = listing;
    let (mut bytes, mut sets) = (parts.store.policy().looked, SETS_MAX);
    let mut proposals = Vec::new();
    for (size, waiting) in sized {
        let state = match plain_state(&parts, &waiting) {
            Some(state) => state,
            None if size > bytes || sets == 0 => State::Unlooked,
            None => {
                bytes -= size;
                sets -= usize::from(waiting.proposal.skillset.is_some());
                match state(&parts, &waiting).await {
                    Ok(state) => state,
                    Err(error @ ApprovalError::Ask(_)) => return Err(error),
                    Err(error) => {
                        // One that cannot be compared hides no other.
                        tracing::warn!(approval.id = %waiting.id, %error, "a proposal cannot be compared");
                        State::Unlooked
                    }
                }
            }
        };
        proposals.push((waiting, state));
    }
    Ok(Overview { proposals, broken })
}

pub(super) async fn show(parts: Arc<Parts>, id: ProposalId) -> Result<Shown, ApprovalError> {
    let waiting = {
        let parts = Arc::clone(&parts);
        blocking(move || parts.store.show(&id)).await?
    };
    let mut state = state(&parts, &waiting).await?;
    if state == State::Open
        && let Some(set) = &waiting.proposal.skillset
    {
        // A directory to install from may have changed too.
        let change = waiting.proposal.change.clone();
        let subject = change.subject().to_owned();
        match parts.skill_sets.preview(change).await {
            Ok(now) if now == *set => {}
            Ok(_) => state = State::Void(subject),
            Err(SkillSetError::Ask(error)) => return Err(error.into()),
            Err(error) => return Err(ApprovalError::SkillSet(error)),
        }
    }
    blocking(move || {
        let content = waiting.content.as_deref();
        let (mut diff, mut law) = (None, None);
        if let (State::Open, Some(main)) = (&state, waiting.proposal.main_file()) {
            match parts.files.text(main) {
                Ok(before) => {
                    diff = Some(diff::unified(main, before.as_deref(), content));
                    if waiting.proposal.change.is_law() {
                        let [was, is] = [before.as_deref(), content]
                            .map(|text| Law::read(text.unwrap_or_default()));
                        law = Some(Difference::between(&was, &is)?);
                    }
                }
                // It can go, but there is no showing it.
                Err(ApprovalError::TooLarge { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let text = content.map(String::from_utf8_lossy).unwrap_or_default();
        Ok(Shown {
            findings: findings(&text),
            diff,
            law,
            state,
            waiting,
        })
    })
    .await
}
