//! `approvals_list` and `approvals_show`: what waits for a person. Deciding is theirs, so there is no tool for it.

use std::fmt::Write as _;

use kairos_actors::approvals::{ApprovalError, State};
use kairos_place::proposal::ProposalId;
use kairos_place::role::Action;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::table;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

pub(super) struct List;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Also proposals that were decided.
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Waiting {
    /// Changes that were proposed.
    proposals: Vec<ProposalData>,
    /// What was acquired from other agents and waits in quarantine; for owners.
    quarantine: Vec<HeldData>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ProposalData {
    /// Its id.
    id: String,
    /// `open`, `expired`, `void`, `approved`, `rejected`, `unfinished` or `unlooked`.
    state: &'static str,
    /// The kind of change.
    change: &'static str,
    /// What is changed.
    subject: String,
    /// Why.
    reason: Option<String>,
    /// Who proposed it.
    by: String,
    /// Until when it can be approved.
    expires_at: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct HeldData {
    /// Its id.
    id: String,
    /// `skill` or `skillset`.
    kind: String,
    /// Its name.
    name: String,
    /// The agent that sent it.
    from: String,
    /// What its reader should look at, as kinds of findings.
    findings: Vec<String>,
    /// When it came.
    acquired_at: String,
}

impl Tool<AgentDoor> for List {
    const NAME: &'static str = "approvals_list";
    const TITLE: &'static str = "What waits for a person";
    const ABOUT: &'static str = "Lists changes and acquisitions that wait for a person, and how the person decides: kairos-chain approve ID. No tool \
         decides.";
    const NEEDS: Action = Action::ReadOwnProposals;
    const HINTS: Hints = Hints::READ;
    type Params = ListParams;
    type Output = Waiting;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: ListParams,
    ) -> Result<Answer<Waiting>, Refusal> {
        let everyones = call.caller.may(Action::ReadProposals).is_ok();
        let of = (!everyones).then(|| call.caller.user.clone());
        let overview = door.agent.handles.approvals.list(of).await?;
        let wanted = |state: &State| params.all || !matches!(state, State::Decided(_));
        let proposals = overview.proposals.iter().filter(|(_, state)| wanted(state));
        let proposals: Vec<_> = proposals
            .map(|(waiting, state)| {
                let proposal = &waiting.proposal;
                ProposalData {
                    id: waiting.id.to_string(),
                    state: state.word(),
                    change: proposal.change.kind(),
                    subject: proposal.change.subject().to_owned(),
                    reason: proposal.reason.clone(),
                    by: proposal.by.user.to_string(),
                    expires_at: proposal.expires_at.wire(),
                }
            })
            .collect();
        let mut quarantine = Vec::new();
        if everyones {
            let listing = door.agent.handles.quarantine.list().await?;
            quarantine.extend(listing.held.iter().map(|held| {
                HeldData {
                    id: held.id.to_string(),
                    kind: held.evidence.kind.as_str().to_owned(),
                    name: held.evidence.name.clone(),
                    from: held.evidence.from.to_string(),
                    findings: held
                        .evidence
                        .findings
                        .iter()
                        .map(|found| found.kind.to_string())
                        .collect(),
                    acquired_at: held.evidence.acquired_at.wire(),
                }
            }));
        }
        if proposals.is_empty() && quarantine.is_empty() {
            let data = Waiting {
                proposals,
                quarantine,
            };
            return Ok(Answer::new("Nothing waits for a decision.", data));
        }
        let mut text = String::new();
        if !proposals.is_empty() {
            let rows = proposals.iter().map(|p| {
                [
                    p.id.clone(),
                    p.state.to_owned(),
                    p.change.to_owned(),
                    p.subject.clone(),
                    p.by.clone(),
                    p.expires_at.clone(),
                ]
            });
            let head = ["ID", "State", "Change", "Of", "By", "Expires"];
            let _ = writeln!(text, "### Proposals\n\n{}", table(head, rows));
        }
        if !quarantine.is_empty() {
            let rows = quarantine.iter().map(|held| {
                [
                    held.id.clone(),
                    held.kind.clone(),
                    held.name.clone(),
                    held.from.clone(),
                    held.findings.join(", "),
                ]
            });
            let head = ["ID", "Kind", "Name", "From", "Findings"];
            let _ = writeln!(text, "### Quarantine\n\n{}", table(head, rows));
        }
        text.push_str(
            "A person decides with: kairos-chain approve ID   or   kairos-chain reject ID",
        );
        Ok(Answer::new(
            text,
            Waiting {
                proposals,
                quarantine,
            },
        ))
    }
}

pub(super) struct Show;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowParams {
    /// The id of a proposal.
    #[schemars(with = "String")]
    id: ProposalId,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Shown {
    /// The proposal.
    proposal: ProposalData,
    /// The difference it makes; null where it is decided, void, or no text changes.
    diff: Option<String>,
    /// Bytes of the difference that are not shown.
    diff_left_out: usize,
    /// For a change of the law: what changes in what it says, skill by skill and field by field; else null.
    law_diff: Option<Value>,
    /// The hash of that, which the ledger gets; else null.
    law_diff_hash: Option<String>,
}

impl Tool<AgentDoor> for Show {
    const NAME: &'static str = "approvals_show";
    const TITLE: &'static str = "A change that waits";
    const ABOUT: &'static str =
        "Shows one proposal with the difference it makes, and whether it can still be approved.";
    const NEEDS: Action = Action::ReadOwnProposals;
    const HINTS: Hints = Hints::READ;
    type Params = ShowParams;
    type Output = Shown;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: ShowParams,
    ) -> Result<Answer<Shown>, Refusal> {
        let shown = door.agent.handles.approvals.show(params.id.clone()).await?;
        let (waiting, proposal) = (&shown.waiting, &shown.waiting.proposal);
        // What is not theirs is nothing they get to know of.
        if call.caller.may(Action::ReadProposals).is_err() && proposal.by.user != call.caller.user {
            return Err(ApprovalError::Unknown(params.id).into());
        }
        let data = Shown {
            proposal: ProposalData {
                id: waiting.id.to_string(),
                state: shown.state.word(),
                change: proposal.change.kind(),
                subject: proposal.change.subject().to_owned(),
                reason: proposal.reason.clone(),
                by: proposal.by.user.to_string(),
                expires_at: proposal.expires_at.wire(),
            },
            diff: shown.diff.as_ref().map(|diff| diff.text.clone()),
            diff_left_out: shown.diff.as_ref().map_or(0, |diff| diff.left_out),
            law_diff: shown
                .law
                .as_ref()
                .map(|law| serde_json::to_value(&law.diff))
                .transpose()?,
            law_diff_hash: shown.law.as_ref().map(|law| law.hash.to_hex()),
        };
        let about = &data.proposal;
        let mut text = format!(
            "{} '{}'\n\n**State:** {}\n**By:** {}\n",
            about.change, about.subject, about.state, about.by
        );
        if let Some(reason) = &about.reason {
            let _ = writeln!(text, "**Reason:** {reason}");
        }
        let law = shown.law.as_ref().map(ToString::to_string);
        for part in [&law, &data.diff].into_iter().flatten() {
            let _ = writeln!(text, "\n```diff\n{}\n```", part.replace("```", "'''"));
        }
        let _ = write!(
            text,
            "\nA person decides with: kairos-chain approve {}",
            about.id
        );
        Ok(Answer::new(text, data))
    }
}
