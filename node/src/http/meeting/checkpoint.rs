//! `GET /meeting/v1/checkpoint`: what our ledger is, and how it continues what a peer saw of it.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::error::ApiError;
use crate::http::query::param;
use crate::http::{Doors, reply};

/// Our checkpoint, with the proof that it continues our ledger of `from` blocks (by default 0, which needs none).
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
