//! What every request to `/place/` passes before its handler, in the reference's order: is there a Place, is the address
//! within its allowance, and, but for the open routes, whose token is this.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, web};
use kairos_actors::peer_manager::PeerError;
use kairos_place::meeting_place::Visitor;
use kairos_place::session::Refusal;

use super::{banned, closed};
use crate::http::Doors;
use crate::http::error::ApiError;
use crate::http::guard::bearer;

/// The middleware. Leaves the [`Caller`](kairos_actors::peer_manager::Caller) in the request's extensions; every request
/// of an agent that is registered is a sign of its life.
pub(in crate::http) async fn admit(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let Some(doors) = request.app_data::<web::Data<Doors>>().cloned() else {
        return Err(ApiError::internal(&"the doors are not configured").into());
    };
    let visit = doors.hosting.visit().ok_or_else(closed)?;
    let hosted = visit.hosted();
    let (address, now) = (doors.proxies.address(request.request()), doors.clock.now());
    let counted = doors.allowance.lock().admit(address, now);
    counted.map_err(ApiError::rate_limited)?;
    let mut visitor = Visitor {
        address: Some(address),
        ..Visitor::default()
    };
    if hosted
        .place
        .look(|place| place.banned(visitor, now).is_some())
    {
        return Err(banned().into());
    }
    if !is_open(request.method(), request.path()) {
        let token = bearer(request.request()).ok_or_else(no_token)?;
        let caller = doors.peers.admit(token).map_err(refused)?;
        if caller.strength < doors.read_strength {
            return Err(ApiError::unproven().into());
        }
        if doors.witness.is_convicted(&caller.agent_id) {
            return Err(ApiError::two_histories().into());
        }
        visitor.agent = Some(&caller.agent_id);
        visitor.key = Some(caller.key);
        if hosted
            .place
            .look(|place| place.banned(visitor, now).is_some())
        {
            return Err(banned().into());
        }
        hosted.place.touch(&caller.agent_id);
        request.extensions_mut().insert(caller);
    }
    // Of a streamed answer only the beginning is waited for.
    let answer = next.call(request).await;
    drop(visit);
    answer
}

fn is_open(method: &Method, path: &str) -> bool {
    matches!(
        (method.as_str(), path),
        ("GET", "/place/v1/info" | "/place/v1/welcome") | ("POST", "/place/v1/register")
    )
}

fn no_token() -> ApiError {
    let message = "Bearer token required. Register first to obtain a session token.";
    ApiError::new(StatusCode::UNAUTHORIZED, "authentication_required", message)
}

fn refused(error: PeerError) -> ApiError {
    match error {
        PeerError::Refused(Refusal::Unknown) => ApiError::new(
            StatusCode::UNAUTHORIZED,
            "invalid_or_expired_token",
            "Session token is invalid or has expired.",
        ),
        PeerError::Refused(Refusal::RateLimited { wait }) => ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "Too many requests.",
        )
        .after(wait),
        error => error.into(),
    }
}
