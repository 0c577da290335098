//! What every request to `/meeting/` passes before its handler: is meeting possible, is the address within its
//! allowance, and, but for the three open routes, whose token is this, is it within its allowance, and did its owner
//! keep to one history.
//!
//! An unknown path without a token is therefore 401, not 404, as in the reference.

use std::panic::AssertUnwindSafe;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest, web};
use futures::FutureExt as _;

use super::Doors;
use super::error::ApiError;

/// Longest bearer token looked up; ours have 64 characters.
const TOKEN_MAX: usize = 256;

/// The middleware. Leaves the [`Caller`](kairos_actors::peer_manager::Caller) in the request's extensions.
pub(super) async fn admit(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let Some(doors) = request.app_data::<web::Data<Doors>>().cloned() else {
        return Err(ApiError::internal(&"the doors are not configured").into());
    };
    if !doors.meeting_enabled {
        return Err(ApiError::unavailable().into());
    }
    let (address, now) = (doors.proxies.address(request.request()), doors.clock.now());
    let counted = doors.allowance.lock().admit(address, now);
    counted.map_err(ApiError::rate_limited)?;
    if !is_open(request.method(), request.path()) {
        let token = bearer(request.request()).ok_or_else(ApiError::unauthenticated)?;
        let caller = doors.peers.admit(token).map_err(ApiError::from)?;
        if caller.strength < doors.read_strength {
            return Err(ApiError::unproven().into());
        }
        if doors.witness.is_convicted(&caller.agent_id) {
            return Err(ApiError::two_histories().into());
        }
        request.extensions_mut().insert(caller);
    }
    next.call(request).await
}

fn is_open(method: &Method, path: &str) -> bool {
    matches!(
        (method.as_str(), path),
        ("GET" | "POST", "/meeting/v1/introduce") | ("POST", "/meeting/v1/goodbye")
    )
}

/// The bearer token of a request: `Bearer `, in this case, and what follows, trimmed.
pub(super) fn bearer(request: &HttpRequest) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let token = header.strip_prefix("Bearer ")?.trim();
    (!token.is_empty() && token.len() <= TOKEN_MAX).then_some(token)
}

/// Turns a panic of a handler into 500: the connection and the worker live on, and nothing of it is sent.
pub(super) async fn never_panic(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::internal(&"a handler panicked").into()),
    }
}
