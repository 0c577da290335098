//! Request bodies: bounded in size, bounded in time, an object or nothing.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, BytesMut};
use futures::StreamExt as _;
use kairos_protocol::json;
use serde_json::{Map, Value};

use super::error::ApiError;

/// Bounds of a request body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Largest body in bytes.
    pub bytes: usize,
    /// Longest time for all of it to arrive.
    pub time: Duration,
}

/// Reads a whole body.
pub(super) async fn read(mut payload: web::Payload, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let all = async {
        let mut body = BytesMut::new();
        while let Some(piece) = payload.next().await {
            let piece = piece.map_err(|error| {
                tracing::debug!(%error, "a request body broke off");
                ApiError::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_body",
                    "The request body broke off.",
                )
            })?;
            if body.len() + piece.len() > limits.bytes {
                let message = format!("The request body is larger than {} bytes.", limits.bytes);
                return Err(ApiError::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "payload_too_large",
                    message,
                ));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    };
    match tokio::time::timeout(limits.time, all).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!(
                "The request body did not arrive within {} seconds.",
                limits.time.as_secs_f32()
            );
            Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                message,
            ))
        }
    }
}

/// Reads a body that is a JSON object; an empty one counts as an object without members.
pub(super) async fn read_object(
    payload: web::Payload,
    limits: BodyLimits,
) -> Result<Map<String, Value>, ApiError> {
    object(&read(payload, limits).await?)
}

/// Reads a body that arrived as an object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    json::parse_object(body).map_err(|error| {
        let code = match error {
            json::JsonError::NotAnObject { .. } => "invalid_body",
            _ => "invalid_json",
        };
        ApiError::new(
            StatusCode::BAD_REQUEST,
            code,
            format!("The request body is refused: {error}."),
        )
    })
}

/// A member that must be a non-null text. Longer ones than `max` bytes are refused rather than looked up.
pub(super) fn required_text<'m>(
    members: &'m Map<String, Value>,
    name: &str,
    max: usize,
) -> Result<&'m str, ApiError> {
    match members.get(name) {
        None | Some(Value::Null) => Err(ApiError::missing(name)),
        Some(Value::String(text)) if text.len() <= max => Ok(text),
        Some(Value::String(_)) => Err(ApiError::invalid(format!(
            "{name} is longer than {max} bytes"
        ))),
        Some(other) => Err(ApiError::invalid(format!(
            "{name} must be a string, it is {}",
            json::kind(other)
        ))),
    }
}

/// A member that may be absent, and else is a text of at most `max` bytes.
pub(super) fn optional_text<'m>(
    members: &'m Map<String, Value>,
    name: &str,
    max: usize,
) -> Result<Option<&'m str>, ApiError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => required_text(members, name, max).map(Some),
    }
}
