//! `GET /health`: this process lives. `GET /ready`: every part of it works, and what is wrong with which if not.

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::{Doors, reply};
use crate::condition::Condition;

/// Peers look for `status: ok` and nothing else.
pub(super) async fn alive(doors: web::Data<Doors>) -> HttpResponse {
    reply::value(&json!({
        "status": "ok", "server": "kairos-chain", "version": env!("CARGO_PKG_VERSION"), "tls": false,
        "place_started": doors.hosting.current().is_some(), "ready": condition(&doors).is_ready(),
    }))
}

/// 200 if every part works, else 503; `parts` tells which, and `not_ready` why not.
pub(super) async fn ready(doors: web::Data<Doors>) -> HttpResponse {
    let condition = condition(&doors);
    let (status, word) = match condition.is_ready() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    let Condition { parts, not_ready } = condition;
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, "no-cache"))
        .content_type("application/json")
        .body(json!({"status": word, "parts": parts, "not_ready": not_ready}).to_string())
}

fn condition(doors: &Doors) -> Condition {
    Condition::of(&doors.hosting, &doors.readiness, &doors.room)
}
