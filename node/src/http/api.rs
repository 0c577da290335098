//! Routes below `/api/v1`: for people and programs that act for this agent's owner, with a bearer token.
//!
//! Their tokens are those of [`kairos_actors::auth`], not sessions of peers. `/mcp` will take the same ones.

pub(super) mod approvals;
pub(super) mod guard;
pub(super) mod p2p;
pub(super) mod place;
pub(super) mod status;
pub(super) mod whoami;

use actix_web::web;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ApiError, quoted};
use super::{Doors, body};

/// A body that is an object with exactly the members of `T`.
async fn read<T: DeserializeOwned>(doors: &Doors, payload: web::Payload) -> Result<T, ApiError> {
    let members = body::read_object(payload, doors.body_limits).await?;
    serde_json::from_value(Value::Object(members))
        .map_err(|error| ApiError::invalid(quoted(&error.to_string())))
}
