//! `POST /meeting/v1/request_skill`, `/reflect` and `/message`: what a peer tells us.
//!
//! What a peer says is kept in the inbox before it is acknowledged. `from` is echoed as claimed, as peers expect;
//! the inbox records whom the session speaks for.

use actix_web::{HttpResponse, web};
use kairos_actors::meeting::Keep;
use kairos_actors::peer_manager::Caller;
use kairos_protocol::wire::envelope::{self, Envelope};
use serde_json::{Map, Value, json};

use crate::http::error::ApiError;
use crate::http::{Doors, body, reply};

/// Asks for a skill in words; the owner reads it in the inbox.
pub(in crate::http) async fn request_skill(
    doors: web::Data<Doors>,
    caller: web::ReqData<Caller>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let members = admitted(&doors, &caller, payload).await?;
    let member = |name: &str| members.get(name).cloned().unwrap_or_default();
    let request = json!({"description": member("description"), "skill_id": member("skill_id")});
    keep(&doors, &caller, "request_skill", request, None).await?;
    let answer =
        envelope::skill_requested(&member("from"), &member("description"), &member("skill_id"));
    Ok(reply::value(&answer))
}

/// Tells what came of an exchange.
pub(in crate::http) async fn reflect(
    doors: web::Data<Doors>,
    caller: web::ReqData<Caller>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let members = admitted(&doors, &caller, payload).await?;
    let member = |name: &str| members.get(name).cloned().unwrap_or_default();
    let in_reply_to = members
        .get("in_reply_to")
        .and_then(Value::as_str)
        .map(str::to_owned);
    keep(
        &doors,
        &caller,
        "reflect",
        json!({"reflection": member("reflection")}),
        in_reply_to,
    )
    .await?;
    Ok(reply::value(&envelope::reflected(
        &member("from"),
        &member("reflection"),
    )))
}

/// Any message in an envelope.
pub(in crate::http) async fn message(
    doors: web::Data<Doors>,
    caller: web::ReqData<Caller>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let members = admitted(&doors, &caller, payload).await?;
    let envelope =
        Envelope::from_members(&members).map_err(|e| ApiError::invalid(e.to_string()))?;
    Ok(reply::value(
        &doors.meeting.receive(caller.into_inner(), envelope).await?,
    ))
}

async fn admitted(
    doors: &Doors,
    caller: &Caller,
    payload: web::Payload,
) -> Result<Map<String, Value>, ApiError> {
    if caller.strength < doors.message_strength {
        return Err(ApiError::unproven());
    }
    body::read_object(payload, doors.body_limits).await
}

async fn keep(
    doors: &Doors,
    caller: &Caller,
    action: &'static str,
    payload: Value,
    in_reply_to: Option<String>,
) -> Result<(), ApiError> {
    doors
        .meeting
        .keep(Keep {
            caller: caller.clone(),
            action: action.to_owned(),
            payload,
            in_reply_to,
        })
        .await?;
    Ok(())
}
