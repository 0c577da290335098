//! `GET /api/v1/status`: how the node is, on one page.

use actix_web::{HttpResponse, web};
use kairos_place::role::Action;

use super::guard::Caller;
use crate::http::error::ApiError;
use crate::http::{Doors, reply};

/// The page, for owners: it tells of peers, Places and what went wrong.
pub(in crate::http) async fn get(
    doors: web::Data<Doors>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::ReadStatus)?;
    Ok(reply::value(&doors.status.look().await))
}
