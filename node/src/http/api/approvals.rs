//! `/api/v1/approvals`: changes that wait for a person.
//!
//! Members propose and see what they proposed; owners see everything and decide. A decision names the seal of what was
//! shown. Nothing that a proposal says about itself is a decision.

use actix_web::{HttpResponse, web};
use kairos_actors::approvals::{Decide, Propose, State, to_json};
use kairos_place::proposal::{Change, ProposalId};
use kairos_place::role::Action;
use kairos_protocol::hash::ContentHash;
use serde::Deserialize;
use serde_json::json;

use super::guard::Caller;
use super::read;
use crate::http::error::ApiError;
use crate::http::{Doors, query, reply};

/// A proposal as it is posted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    change: Change,
    content: Option<String>,
    reason: Option<String>,
}

/// A decision as it is posted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    seal: ContentHash,
}

/// `GET /api/v1/approvals`: those that wait, with `?all=true` also those that were decided.
pub(in crate::http) async fn list(
    doors: web::Data<Doors>,
    caller: Caller,
    request: actix_web::HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::ReadOwnProposals)?;
    let everyones = caller.may(Action::ReadProposals).is_ok();
    let all = query::param(request.query_string(), "all").as_deref() == Some("true");
    let of = (!everyones).then(|| caller.0.user.clone());
    let overview = doors.approvals.list(of).await?;
    let proposals = overview.proposals.iter();
    let wanted = proposals.filter(|(_, state)| all || !matches!(state, State::Decided(_)));
    let proposals: Vec<_> = wanted
        .map(|(waiting, state)| to_json(waiting, state))
        .collect();
    let broken = overview.broken.iter();
    let broken: Vec<_> = broken
        .map(|b| json!({"id": b.id, "reason": b.reason}))
        .collect();
    Ok(reply::value(
        &json!({"proposals": proposals, "broken": broken}),
    ))
}

/// `POST /api/v1/approvals`: has a change wait.
pub(in crate::http) async fn propose(
    doors: web::Data<Doors>,
    caller: Caller,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::Propose)?;
    let posted: Posted = read(&doors, payload).await?;
    if matches!(posted.change, Change::SkillsetInstall { .. }) {
        return Err(ApiError::invalid(
            "a directory of this machine can only be named at its command line",
        ));
    }
    let propose = Propose {
        change: posted.change,
        content: posted.content.map(String::into_bytes),
        reason: posted.reason,
        by: caller.person(),
    };
    let waiting = doors.approvals.propose(propose).await?;
    Ok(reply::value(&to_json(&waiting, &State::Open)))
}

/// `GET /api/v1/approvals/{id}`: everything that is needed to decide.
pub(in crate::http) async fn show(
    doors: web::Data<Doors>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::ReadOwnProposals)?;
    let id = parsed(&id)?;
    let shown = doors.approvals.show(id.clone()).await?;
    // What is not theirs is nothing they get to know of.
    if caller.may(Action::ReadProposals).is_err() && shown.waiting.proposal.by.user != caller.0.user
    {
        return Err(kairos_actors::approvals::ApprovalError::Unknown(id).into());
    }
    Ok(reply::value(&shown.to_json()))
}

/// `POST /api/v1/approvals/{id}/approve`: carries out exactly what bears the seal.
pub(in crate::http) async fn approve(
    doors: web::Data<Doors>,
    caller: Caller,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    decide(&doors, &caller, &id, payload, true).await
}

/// `POST /api/v1/approvals/{id}/reject`: refuses it.
pub(in crate::http) async fn reject(
    doors: web::Data<Doors>,
    caller: Caller,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    decide(&doors, &caller, &id, payload, false).await
}

async fn decide(
    doors: &Doors,
    caller: &Caller,
    id: &str,
    payload: web::Payload,
    approve: bool,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::Decide)?;
    let decided: Decided = read(doors, payload).await?;
    let decide = Decide {
        id: parsed(id)?,
        seal: decided.seal,
        approve,
        by: caller.person(),
    };
    let carried = doors.approvals.decide(decide).await?;
    let (proposal, decision) = (&carried.proposal, &carried.decision);
    Ok(reply::value(&json!({
        "id": id, "decided": decision.decided, "change": proposal.change.kind(),
        "subject": proposal.change.subject(), "stage": decision.stage,
    })))
}

fn parsed(id: &str) -> Result<ProposalId, ApiError> {
    id.parse()
        .map_err(|error: kairos_place::proposal::ProposalIdError| {
            ApiError::invalid(error.to_string())
        })
}
