//! `POST /api/v1/p2p`: the libp2p node of this server, for its owner and the commands beside it.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use kairos_actors::discovery::DiscoveryError;
use kairos_place::role::Action;

use super::guard::Caller;
use super::read;
use crate::http::error::ApiError;
use crate::http::{Doors, reply};
use crate::p2p::{self, Order, OrderError};

/// Carries out an [`Order`].
pub(in crate::http) async fn order(
    doors: web::Data<Doors>,
    caller: Caller,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::ManagePeers)?;
    let order: Order = read(&doors, payload).await?;
    let node = doors.discovery.get().ok_or_else(off)?;
    let told = p2p::carry_out(order, node).await.map_err(refused)?;
    Ok(reply::value(&told))
}

fn off() -> ApiError {
    let message =
        "This server has no libp2p node; start it with --p2p, or with the setting p2p.enabled.";
    ApiError::new(StatusCode::CONFLICT, "p2p_off", message)
}

fn refused(error: OrderError) -> ApiError {
    let outside = |error: DiscoveryError| {
        ApiError::new(StatusCode::BAD_GATEWAY, "p2p_failed", error.to_string())
    };
    match error {
        OrderError::Invalid(reason) => ApiError::invalid(reason),
        OrderError::Discovery(DiscoveryError::Ask(error)) => error.into(),
        OrderError::Discovery(
            error @ (DiscoveryError::Network(_) | DiscoveryError::Stranger { .. }),
        ) => outside(error),
        OrderError::Discovery(
            error @ (DiscoveryError::Start(_) | DiscoveryError::Key(_) | DiscoveryError::Record(_)),
        ) => ApiError::failed(&error),
    }
}
