//! Successful answers: JSON, never cached by anyone in between.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Bytes;
use serde_json::Value;

/// Answers with JSON that is already text.
pub(super) fn bytes(body: Bytes) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-cache"))
        .content_type("application/json")
        .body(body)
}

/// Answers with a JSON value.
pub(super) fn value(body: &Value) -> HttpResponse {
    bytes(body.to_string().into())
}
