//! How a change that only a person may make gets to that person, and their answer back.
//!
//! Every such change is parked as a proposal first. Then, if the client can show its user a form, the user is asked
//! there, with the whole difference; else the answer of the tool says how to approve. What counts as consent is the
//! user's answer to the question that this server put, about the proposal that the question showed, bound to its seal:
//! in the handshake era the answer comes back on the connection, in the stateless era with a state that only this
//! process can have sealed. Nothing among the arguments of a tool is ever looked at for consent.

use std::collections::BTreeMap;
use std::time::Duration;

use kairos_actors::approvals::{Carried, Decide, Propose, Shown};
use kairos_place::proposal::{Change, ProposalId};
use kairos_place::role::Action;
use kairos_protocol::crypto::random_bytes;
use kairos_protocol::hash::ContentHash;
use rmcp::ErrorData;
use rmcp::model::{
    ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema,
    InputRequest, InputRequiredResult, ProtocolVersion, RequestStateCodec, SealOptions,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::agent::AgentDoor;
use super::call::Call;
use super::tool::{Answer, Refusal};

/// How long a user is waited for, and how long their answer is good.
const ANSWER_TIME: Duration = Duration::from_secs(600);
/// Longest difference that a form shows, in bytes. A longer one is looked at with `approvals show`.
const SHOWN_MAX: usize = 16 * 1024;
/// The name of the question among those of a request, and of the field in its form.
const QUESTION: &str = "approve";

/// What became of a change.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Governed {
    /// `waiting`, `approved` or `rejected`.
    status: &'static str,
    /// The proposal.
    proposal: String,
    /// The kind of change.
    change: String,
    /// What is changed.
    subject: String,
    /// Until when it can be approved.
    expires_at: String,
    /// The difference it makes; null where no text changes.
    diff: Option<String>,
    /// The hash that the ledger gets of what changes in what the law says; null for other changes.
    law_diff_hash: Option<String>,
    /// What a person runs to approve it; null once it is decided.
    approve_with: Option<String>,
}

impl Governed {
    /// Whether a person approved it, and it is carried out.
    pub(super) fn is_approved(&self) -> bool {
        self.status == "approved"
    }
}

/// What a client brings back with the answer, where it is asked without a connection.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    id: ProposalId,
    seal: ContentHash,
}

/// Seals what clients bring back; good for the life of this process.
pub(super) fn codec() -> anyhow::Result<RequestStateCodec> {
    Ok(RequestStateCodec::try_new(random_bytes()?.to_vec())?)
}

/// Parks a change, and has it decided where a person can be asked at once.
pub(super) async fn govern(
    door: &AgentDoor,
    call: &Call,
    tool: &'static str,
    propose: (Change, Option<String>, Option<String>),
) -> Result<Answer<Governed>, Refusal> {
    call.caller.may(Action::Propose)?;
    let (change, content, reason) = propose;
    let bound = bound(call, tool, &change, content.as_deref(), reason.as_deref());
    if let Some(asked) = brought_back(door, call, &bound)? {
        return answered(door, call, asked).await;
    }
    let approvals = &door.agent.handles.approvals;
    let propose = Propose {
        change,
        content: content.map(String::into_bytes),
        reason,
        by: call.caller.person(),
    };
    let waiting = approvals.propose(propose).await?;
    let shown = approvals.show(waiting.id.clone()).await?;
    if !may_ask(door, call) || !fits(&shown) {
        return Ok(parked(&shown));
    }
    let asked = Asked {
        id: waiting.id.clone(),
        seal: waiting.seal,
    };
    let question = question(&shown)?;
    if is_stateless(call) {
        let seal = SealOptions::new()
            .associated_data(bound.as_bytes())
            .ttl(ANSWER_TIME);
        let state = door.consent.seal_json_with(&asked, &seal)?;
        let request = InputRequest::Elicitation(ElicitRequest::new(question));
        let questions = BTreeMap::from([(QUESTION.to_owned(), request)]);
        return Err(Refusal::Asks(Box::new(InputRequiredResult::new(
            Some(questions),
            Some(state),
        ))));
    }
    let peer = &call.context.peer;
    match peer
        .create_elicitation_with_timeout(question, Some(ANSWER_TIME))
        .await
    {
        Ok(answer) => decide(door, call, asked, &answer).await,
        Err(error) => {
            tracing::info!(%error, "the user was not asked; the change waits");
            Ok(parked(&shown))
        }
    }
}

/// Whether the user of this client may be asked here: they must be able to decide, and the client to ask.
fn may_ask(door: &AgentDoor, call: &Call) -> bool {
    let offers = call
        .context
        .client_capabilities()
        .and_then(|can| can.elicitation);
    let form = offers.is_some_and(|offers| offers.form.is_some() || offers.url.is_none());
    door.agent.settings.mcp.ask && form && call.caller.may(Action::Decide).is_ok()
}

fn is_stateless(call: &Call) -> bool {
    let version = call.context.protocol_version();
    version.is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

/// A difference that is whole in a form, or none at all.
fn fits(shown: &Shown) -> bool {
    let law = shown.law.as_ref().map_or(0, |law| law.to_string().len());
    let whole = |diff: &kairos_actors::approvals::Diff| {
        diff.left_out == 0 && law + diff.text.len() <= SHOWN_MAX
    };
    shown.diff.as_ref().is_none_or(whole)
}

/// What a state is bound to: who asked for exactly which change.
fn bound(
    call: &Call,
    tool: &str,
    change: &Change,
    content: Option<&str>,
    reason: Option<&str>,
) -> String {
    let caller = &call.caller;
    let whole = serde_json::json!([tool, caller.user, caller.role, change, content, reason]);
    ContentHash::of(whole.to_string()).to_hex()
}

/// The question that this request answers, if it answers one of ours.
fn brought_back(door: &AgentDoor, call: &Call, bound: &str) -> Result<Option<Asked>, Refusal> {
    let Some(state) = &call.state else {
        return Ok(None);
    };
    let asked = door.consent.open_json_with(state, bound.as_bytes());
    asked.map(Some).map_err(|_| {
        let told = "this answer belongs to no question of this server, or comes too late; nothing was approved, so call \
                    the tool again without it";
        Refusal::Wrong(ErrorData::invalid_params(told, None))
    })
}

async fn answered(
    door: &AgentDoor,
    call: &Call,
    asked: Asked,
) -> Result<Answer<Governed>, Refusal> {
    let answer = call
        .answers
        .as_ref()
        .and_then(|answers| answers.get(QUESTION));
    let answer: ElicitResult = serde_json::from_value(answer.cloned().unwrap_or(Value::Null))
        .map_err(|_| {
            let told = format!(
                "the request brings no answer to the question `{QUESTION}`; nothing was approved"
            );
            Refusal::Wrong(ErrorData::invalid_params(told, None))
        })?;
    decide(door, call, asked, &answer).await
}

/// Does what the user answered. Only a plain yes approves; only a plain no rejects.
async fn decide(
    door: &AgentDoor,
    call: &Call,
    asked: Asked,
    answer: &ElicitResult,
) -> Result<Answer<Governed>, Refusal> {
    let approvals = &door.agent.handles.approvals;
    let said = answer
        .content
        .as_ref()
        .and_then(|content| content.get(QUESTION)?.as_bool());
    let approve = match (&answer.action, said) {
        (ElicitationAction::Accept, Some(approve)) if may_ask(door, call) => approve,
        _ => return Ok(parked(&approvals.show(asked.id).await?)),
    };
    let decide = Decide {
        id: asked.id.clone(),
        seal: asked.seal,
        approve,
        by: call.caller.person(),
    };
    let carried = approvals.decide(decide).await?;
    Ok(done(&asked.id, &carried, approve))
}

fn done(id: &ProposalId, carried: &Carried, approve: bool) -> Answer<Governed> {
    let (kind, subject) = (
        carried.proposal.change.kind(),
        carried.proposal.change.subject(),
    );
    let (status, text) = match approve {
        true => (
            "approved",
            format!("SUCCESS: a person approved it, and it is carried out: {kind} '{subject}'"),
        ),
        false => (
            "rejected",
            format!("A person rejected it: {kind} '{subject}'. Do not propose the same again."),
        ),
    };
    let data = Governed {
        status,
        proposal: id.to_string(),
        change: kind.to_owned(),
        subject: subject.to_owned(),
        expires_at: carried.proposal.expires_at.wire(),
        diff: None,
        law_diff_hash: None,
        approve_with: None,
    };
    Answer::new(text, data)
}

fn parked(shown: &Shown) -> Answer<Governed> {
    let (waiting, proposal) = (&shown.waiting, &shown.waiting.proposal);
    let (kind, subject) = (proposal.change.kind(), proposal.change.subject());
    let diff = shown.diff.as_ref().map(|diff| diff.text.clone());
    let mut text = format!(
        "## Human Approval Required\n\nNothing is changed yet: {kind} '{subject}' waits for a person as proposal {id}, \
         until {until}. Tell the user to look at it and to decide:\n\n    kairos-chain approvals show {id}\n    \
         kairos-chain approve {id}\n    kairos-chain reject {id}\n",
        id = waiting.id,
        until = proposal.expires_at.wire(),
    );
    let law = shown.law.as_ref().map(ToString::to_string);
    for part in [&law, &diff].into_iter().flatten() {
        text.push_str("\n```diff\n");
        text.push_str(&part.replace("```", "'''"));
        text.push_str("\n```\n");
    }
    let data = Governed {
        status: "waiting",
        proposal: waiting.id.to_string(),
        change: kind.to_owned(),
        subject: subject.to_owned(),
        expires_at: proposal.expires_at.wire(),
        diff,
        law_diff_hash: shown.law.as_ref().map(|law| law.hash.to_hex()),
        approve_with: Some(format!("kairos-chain approve {}", waiting.id)),
    };
    Answer::new(text, data)
}

/// The form: what would change, all of it, and one box to tick.
fn question(shown: &Shown) -> Result<ElicitRequestParams, Refusal> {
    let (waiting, proposal) = (&shown.waiting, &shown.waiting.proposal);
    let mut message = format!(
        "{} '{}' (proposal {})\nReason: {}\n",
        proposal.change.kind(),
        proposal.change.subject(),
        waiting.id,
        proposal.reason.as_deref().unwrap_or("none given"),
    );
    for finding in &shown.findings {
        message.push_str(&format!(
            "READ THIS FIRST: {} in line {}: {}\n",
            finding.kind, finding.line, finding.excerpt
        ));
    }
    if let Some(law) = &shown.law {
        message.push_str(&format!("\n{law}"));
    }
    if let Some(diff) = &shown.diff {
        message.push('\n');
        message.push_str(&diff.text);
    }
    // Nothing in a text may move the cursor of a terminal, or hide.
    let message = message.chars().map(|c| match c {
        '\n' | '\t' => c,
        c if c.is_control() => '\u{fffd}',
        c => c,
    });
    let requested_schema = ElicitationSchema::builder()
        .required_bool_property(QUESTION, |tick| {
            tick.title("Carry out exactly this change")
                .description("Without the tick, it is rejected.")
        })
        .build()
        .map_err(|error| Refusal::say(format!("Error: the question could not be put: {error}")))?;
    Ok(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.collect(),
        requested_schema,
    })
}
