//! `GET` and `POST /meeting/v1/checkpoint`: what our ledger is, and what a peer's is.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use kairos_actors::peer_manager::Caller;
use kairos_actors::witness::{Observe, Vouched, WitnessError};
use kairos_place::session::Strength;
use kairos_protocol::wire::history::Continued;
use serde_json::{Value, json};

use crate::http::error::ApiError;
use crate::http::query::param;
use crate::http::{Doors, body, reply};

/// `GET`: our checkpoint, with the proof that it continues our ledger of `from` blocks (by default 0, which needs none).
pub(in crate::http) async fn get(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let from = match param(request.query_string(), "from") {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| ApiError::invalid("from must be a number of blocks"))?,
    };
    Ok(reply::value(&doors.tlog.continued(from).await?.to_value()))
}

/// `POST`: takes the caller's checkpoint, in the form in which ours is given, and cosigns it.
///
/// Where an older one is known, the answer names its size as `known` instead, until the request says how it continues
/// that. A request that shows another history is evidence, which is kept.
pub(in crate::http) async fn post(
    doors: web::Data<Doors>,
    caller: web::ReqData<Caller>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    if caller.strength < Strength::Proven {
        return Err(ApiError::unproven());
    }
    if doors.witness.is_convicted(&caller.agent_id) {
        return Err(ApiError::two_histories());
    }
    let members = body::read_object(payload, doors.body_limits).await?;
    let malformed = || {
        ApiError::invalid("the body must be of the form that GET /meeting/v1/checkpoint answers")
    };
    let continued = Continued::from_value(&Value::Object(members)).ok_or_else(malformed)?;
    let peer = doors.peers.find(caller.agent_id.as_str()).await?;
    let peer = peer.ok_or_else(ApiError::bad_token)?;
    let not_own = || ApiError::invalid("the checkpoint is of another agent or key");
    let observe = Observe::by(&peer.id, &peer.key, continued).ok_or_else(not_own)?;
    Ok(match doors.witness.vouch(observe).await.map_err(refused)? {
        Vouched::Known { size } => reply::value(&json!({"status": "known", "known": size})),
        Vouched::Cosigned {
            signature,
            statement,
        } => reply::value(&json!({
            "status": "cosigned", "cosignature": format!("{signature}\n"), "log": statement,
        })),
    })
}

/// What a peer is told. What the owner is told may name files.
fn refused(error: WitnessError) -> ApiError {
    let conflict = |code, message: String| ApiError::new(StatusCode::CONFLICT, code, message);
    match error {
        WitnessError::Fork { .. } => ApiError::two_histories(),
        WitnessError::Shorter { known, shown } => conflict(
            "shorter_ledger",
            format!("This agent saw {known} blocks of your ledger before, and {shown} now."),
        ),
        WitnessError::Unproven { known, .. } => conflict(
            "history_not_proven",
            format!("Your ledger is not shown to continue the {known} blocks that this agent saw."),
        ),
        WitnessError::Statement(_) | WitnessError::Checkpoint(_) => {
            ApiError::invalid("the checkpoint, or the statement whose it is, does not hold")
        }
        WitnessError::Full { .. } => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "witness_full",
            "This agent cannot follow more ledgers.",
        ),
        WitnessError::Ask(error) => error.into(),
        error @ (WitnessError::UnknownLog(_)
        | WitnessError::From { .. }
        | WitnessError::Damaged { .. }
        | WitnessError::Evidence(_)
        | WitnessError::Io(_)
        | WitnessError::Crashed) => ApiError::failed(&error),
    }
}
