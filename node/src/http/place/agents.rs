//! `GET /place/v1/agents`, `GET /place/v1/keys/ID`, `GET /place/v1/agent_profile/ID`.

use actix_web::{HttpRequest, HttpResponse, web};
use kairos_place::meeting_place::{Agent, AgentCursor};
use kairos_protocol::id::AgentId;
use serde_json::{Map, Value, json};

use super::{hosted, rest};
use crate::http::error::{ApiError, quoted};
use crate::http::query::{count, param, percent_decoded};
use crate::http::{Doors, reply};

/// Agents of one page; the reference has no pages.
const PAGE: usize = 1_000;

/// A page of the registry, in the order in which agents first registered. `next` is there if there are more; it goes into `after`.
pub(in crate::http) async fn list(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let query = request.query_string();
    let with_self = param(query, "include_self").as_deref() != Some("false");
    let after = param(query, "after").filter(|after| !after.is_empty());
    let after = after.map(|after| after.parse::<AgentCursor>()).transpose();
    let after = after.map_err(|error| ApiError::invalid(error.to_string()))?;
    let limit = param(query, "limit").filter(|limit| !limit.is_empty());
    let limit = limit.map_or(PAGE, |limit| count(&limit).clamp(1, PAGE));
    let (agents, next) = hosted(&doors)?.place.look(|place| {
        let page = place.agents(with_self, after.as_ref(), limit);
        let agents: Vec<Agent> = page.agents.into_iter().cloned().collect();
        (agents, page.next.map(|next| next.to_string()))
    });
    let shown: Vec<Value> = agents.iter().map(Agent::listed).collect();
    let mut told = Map::new();
    let count = shown.len();
    told.insert("agents".to_owned(), shown.into());
    told.insert("count".to_owned(), count.into());
    if let Some(next) = next {
        told.insert("next".to_owned(), next.into());
    }
    Ok(reply::value(&Value::Object(told)))
}

/// The pinned key of an agent, also of one that faded. As in the reference, the id in the path is not percent-decoded.
pub(in crate::http) async fn key(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let wanted = rest(&request, "/place/v1/keys/");
    let unknown = || ApiError::not_found(format!("No public key for agent: {}", quoted(wanted)));
    let id: AgentId = wanted.parse().map_err(|_| unknown())?;
    let hosted = hosted(&doors)?;
    if id == doors.signed.instance_id {
        return Ok(told(
            &id,
            &doors.signed.public_key,
            &doors.signed.key_fingerprint,
        ));
    }
    let pinned = hosted.place.look(|place| {
        let known = place.key(&id).or_else(|| place.guest_key(&id));
        known.cloned()
    });
    let key = pinned.ok_or_else(unknown)?;
    let parsed = key.parse().map_err(|error| ApiError::internal(&error))?;
    Ok(told(&id, &parsed.to_pem(), &key.hash().fingerprint()))
}

fn told(id: &AgentId, pem: &str, fingerprint: &str) -> HttpResponse {
    reply::value(&json!({"agent_id": id, "public_key": pem, "fingerprint": fingerprint}))
}

/// What an agent says of itself and has on the board.
pub(in crate::http) async fn profile(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let wanted = percent_decoded(rest(&request, "/place/v1/agent_profile/"));
    let unknown = || ApiError::not_found(format!("Agent not found: {}", quoted(&wanted)));
    let id: AgentId = wanted.parse().map_err(|_| unknown())?;
    let now = doors.clock.now();
    let told = hosted(&doors)?.place.look(|place| {
        let agent = place.agent(&id)?.profiled();
        let deposits: Vec<Value> = place
            .deposits_of(&id)
            .map(|deposit| place.card(deposit))
            .collect();
        let count = deposits.len();
        Some(json!({
            "agent": agent, "deposited_skills": deposits, "deposit_count": count,
            "posted_needs": place.needs_of(&id), "profile_generated_at": now.wire(),
            "note": "What this agent says of itself. The Place does not judge it.",
        }))
    });
    told.map(|told| reply::value(&told)).ok_or_else(unknown)
}
