//! `GET /place/v1/board/browse`, `POST` and `DELETE /place/v1/board/needs`, `POST /place/v1/heartbeat`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use kairos_place::meeting_place::{Answer, Kind, Need, NeedEntry, Outcome, Query};
use serde_json::{Map, Value, json};

use super::once::{self, repeated};
use super::{caller, hosted, names_caller, writer};
use crate::http::error::ApiError;
use crate::http::query::{count, param};
use crate::http::{Doors, body, reply};

/// Entries of an answer if nothing is said.
const LIMIT: usize = 50;
/// Longest text of a need that is read; the Place has bounds of its own.
const TEXT_MAX: usize = 4_096;

/// Entries of the board: a random choice in random order.
pub(in crate::http) async fn browse(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let query = query(request.query_string());
    let hosted = hosted(&doors)?;
    let found = hosted.place.browse(query).await?;
    let now = doors.clock.now();
    let trust = hosted.place.look(|place| {
        let (uptime, census) = (now.since(place.started()).as_secs(), place.census());
        json!({
            "uptime_seconds": uptime, "total_deposits": census.deposits,
            "total_exchanges": census.exchanges,
        })
    });
    Ok(reply::bytes(written(&found, &trust).into()))
}

fn query(text: &str) -> Query {
    let some = |name| param(text, name).filter(|value: &String| !value.is_empty());
    let tags = some("tags").unwrap_or_default();
    Query {
        kind: some("type").map(|kind| Kind::parse(&kind)),
        search: some("search"),
        tags: tags
            .split(',')
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect(),
        limit: some("limit").map_or(LIMIT, |limit| count(&limit)),
    }
}

fn written(found: &Answer, trust: &Value) -> String {
    format!(
        "{{\"entries\":[{}],\"total_available\":{},\"returned\":{},\"sampling\":\"{}\",\"agents_contributing\":{},\"place_trust\":{trust}}}",
        found.entries,
        found.total,
        found.returned,
        found.sampling(),
        found.agents,
    )
}

/// Puts up what the caller looks for, instead of what it looked for before.
pub(in crate::http) async fn publish_needs(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let caller = writer(&doors, &request)?.agent_id;
    let (members, once) = once::read(&doors, &request, payload, &caller).await?;
    require_caller(&members, &caller)?;
    let text = |name, default: &str| {
        let told = body::optional_text(&members, name, TEXT_MAX)?;
        Ok::<_, ApiError>(told.unwrap_or(default).to_owned())
    };
    let entry = NeedEntry {
        agent_name: text("agent_name", "Unknown Agent")?,
        agent_mode: text("agent_mode", "unknown")?,
        needs: needs(&members)?,
    };
    let published = {
        let caller = caller.clone();
        move |count: &usize| {
            let told = json!({
                "status": "published", "agent_id": caller, "needs_count": count, "session_only": true,
            });
            told.to_string()
        }
    };
    let place = &hosted(&doors)?.place;
    let done = place.publish_needs_once(caller, entry, once, published.clone());
    Ok(match done.await? {
        Outcome::Repeated(answer) => repeated(answer),
        Outcome::Done(count) => reply::bytes(published(&count).into()),
    })
}

fn needs(members: &Map<String, Value>) -> Result<Vec<Need>, ApiError> {
    let list = match members.get("needs") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(ApiError::invalid("needs must be an array")),
    };
    let one = |need: &Value| {
        let need = need
            .as_object()
            .ok_or_else(|| ApiError::invalid("each need must be an object"))?;
        Ok(Need {
            name: body::required_text(need, "name", TEXT_MAX)?.to_owned(),
            description: body::optional_text(need, "description", TEXT_MAX)?.map(str::to_owned),
        })
    };
    list.iter().map(one).collect()
}

/// Takes the caller's needs down.
pub(in crate::http) async fn remove_needs(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let caller = writer(&doors, &request)?.agent_id;
    let members = body::read_object(payload, doors.body_limits).await?;
    require_caller(&members, &caller)?;
    hosted(&doors)?.place.remove_needs(caller.clone()).await?;
    Ok(reply::value(
        &json!({"status": "removed", "agent_id": caller}),
    ))
}

fn require_caller(
    members: &Map<String, Value>,
    caller: &kairos_protocol::id::AgentId,
) -> Result<(), ApiError> {
    match names_caller(members, "agent_id", caller)? {
        true => Ok(()),
        false => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "missing_agent_id",
            "agent_id is required",
        )),
    }
}

/// A sign of life, which every request is; this one does nothing else. Tells when the next one is due.
pub(in crate::http) async fn heartbeat(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = caller(&request)?.agent_id;
    // Nothing is in it, but the connection would end with what nobody reads.
    body::read(payload, doors.body_limits).await?;
    let (present, ttl) = hosted(&doors)?
        .place
        .look(|place| (place.agent(&id).is_some(), place.policy().ttl.as_secs()));
    let status = if present { "alive" } else { "not_registered" };
    Ok(reply::value(
        &json!({"status": status, "agent_id": id, "fades_after_seconds": ttl}),
    ))
}
