//! `GET /health`: this process lives. `GET /ready`: every part of it works.

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::{Doors, reply};
use crate::node::PLACE;

/// Peers look for `status: ok` and nothing else.
pub(super) async fn alive(doors: web::Data<Doors>) -> HttpResponse {
    reply::value(&json!({
        "status": "ok", "server": "kairos-chain", "version": env!("CARGO_PKG_VERSION"), "tls": false,
        "place_started": doors.hosting.current().is_some(),
    }))
}

/// 200 if every part works, else 503; `parts` tells which.
pub(super) async fn ready(doors: web::Data<Doors>) -> HttpResponse {
    let mut parts = doors.readiness.parts();
    if doors.hosting.current().is_none() {
        parts.retain(|part| part.name != PLACE);
    }
    let ready = parts.iter().all(|part| part.works);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let parts: serde_json::Map<_, _> = parts
        .into_iter()
        .map(|part| (part.name.to_owned(), json!(part.state())))
        .collect();
    let word = if ready { "ready" } else { "not_ready" };
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, "no-cache"))
        .content_type("application/json")
        .body(json!({"status": word, "parts": parts}).to_string())
}
