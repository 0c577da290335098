//! `Idempotency-Key`: requests that may be sent again when their answer was lost.

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use kairos_place::meeting_place::Once;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use serde_json::{Map, Value};

use crate::http::error::ApiError;
use crate::http::{Doors, body, reply};

/// Says that an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The request as one that may come again, if its header says so.
pub(super) fn once(
    request: &HttpRequest,
    agent: &AgentId,
    body: ContentHash,
) -> Result<Option<Once>, ApiError> {
    let Some(key) = request.headers().get("idempotency-key") else {
        return Ok(None);
    };
    let key = key.to_str().unwrap_or_default();
    let what = ContentHash::of(format!("{} {}\n{body}", request.method(), request.uri()));
    let once = Once::new(agent.clone(), key, what);
    once.map(Some)
        .map_err(|error| ApiError::invalid(error.to_string()))
}

/// Reads a body that may come again, and what its header says of that.
pub(super) async fn read(
    doors: &Doors,
    request: &HttpRequest,
    payload: web::Payload,
    agent: &AgentId,
) -> Result<(Map<String, Value>, Option<Once>), ApiError> {
    let body = body::read(payload, doors.body_limits).await?;
    let once = once(request, agent, ContentHash::of(&body))?;
    Ok((body::object(&body)?, once))
}

/// The answer to the first of equal requests.
pub(super) fn repeated(answer: String) -> HttpResponse {
    let mut told = reply::bytes(answer.into());
    let said = HeaderValue::from_static("true");
    told.headers_mut().insert(REPLAYED, said);
    told
}
