//! `/place/v1/*`: the Meeting Place, if this node hosts one.

pub(super) mod agents;
pub(super) mod all;
pub(super) mod attest;
pub(super) mod board;
mod condition;
pub(super) mod deposits;
pub(super) mod federation;
pub(super) mod guard;
pub(super) mod info;
mod once;
pub(super) mod quota;
pub(super) mod register;
pub(super) mod relay;
pub(super) mod skill_sets;
mod stay;
pub(super) mod transfers;

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpMessage as _, HttpRequest};
use kairos_actors::durable::is_out_of_space;
use kairos_actors::peer_manager::Caller;
use kairos_actors::place::PlaceError;
use kairos_actors::recorder::Record;
use kairos_place::meeting_place::{BanError, BoardError, RegisterError};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use serde_json::{Map, Value};

use super::error::{ApiError, quoted};
use crate::hosted::Hosted;

/// The Place that is hosted, or that there is none.
pub(super) fn hosted(doors: &super::Doors) -> Result<Arc<Hosted>, ApiError> {
    doors.hosting.current().ok_or_else(closed)
}

fn closed() -> ApiError {
    let message = "Meeting Place is not started. Use meeting_place_start tool first.";
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "place_not_started",
        message,
    )
}

/// 403 `banned`: the operator keeps the caller out, and owes it no reason.
fn banned() -> ApiError {
    let message = "The operator of this Place keeps you out.";
    ApiError::new(StatusCode::FORBIDDEN, "banned", message)
}

/// Has an exchange of a skill or a SkillSet recorded; what the answer says of that.
fn record_exchange(
    hosted: &Hosted,
    event: &'static str,
    name: &str,
    hash: ContentHash,
    agents: Vec<AgentId>,
    hashes: Vec<(&'static str, ContentHash)>,
) -> Value {
    hosted.recorder.record(Record::Exchanged {
        event,
        name: name.to_owned(),
        hash,
        agents,
        hashes,
    });
    match hosted.recorder.records_exchanges() {
        true => "attempted".into(),
        false => false.into(),
    }
}

/// The rest of the path behind `prefix`, as it is written.
fn rest<'r>(request: &'r HttpRequest, prefix: &str) -> &'r str {
    request.path().strip_prefix(prefix).unwrap_or_default()
}

/// Whom the token of the request speaks for.
fn caller(request: &HttpRequest) -> Result<Caller, ApiError> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| ApiError::internal(&"the guard left no caller"))
}

/// The caller, if it has shown what changes need.
fn writer(doors: &super::Doors, request: &HttpRequest) -> Result<Caller, ApiError> {
    let caller = caller(request)?;
    match caller.strength < doors.place_write_strength {
        true => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "proof_required",
            "This action needs a proven session. Register again and answer the challenge in the reply.",
        )),
        false => Ok(caller),
    }
}

/// Refuses a body that names somebody else than the caller in `member`; whether it names anybody.
fn names_caller(
    members: &Map<String, Value>,
    member: &'static str,
    caller: &AgentId,
) -> Result<bool, ApiError> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::String(named)) if named == caller.as_str() => Ok(true),
        Some(named) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not_yours",
            format!(
                "The token is that of agent {caller}, {member} names {}",
                quoted(named.as_str().unwrap_or("something else"))
            ),
        )),
    }
}

impl From<PlaceError> for ApiError {
    fn from(error: PlaceError) -> Self {
        let text = error.to_string();
        match error {
            PlaceError::Register(error) => error.into(),
            PlaceError::Board(BoardError::Rejected(_)) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "rejected", text)
            }
            PlaceError::Board(BoardError::NoDeposit { .. }) => Self::not_found(text),
            PlaceError::Board(BoardError::Changed { .. }) => {
                Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", text)
            }
            PlaceError::Board(BoardError::NotPresent(_)) => {
                Self::new(StatusCode::FORBIDDEN, "not_registered", text)
            }
            PlaceError::Attest(error) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.word(), text)
            }
            PlaceError::SkillSet(fault) => {
                Self::new(skill_sets::status(&fault), fault.word(), text)
            }
            PlaceError::Once(_) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                text,
            ),
            PlaceError::Ban(error) => error.into(),
            PlaceError::Step(error) => error.into(),
            PlaceError::Store(_) if is_out_of_space(&error) => Self::failed(&error),
            PlaceError::Store(_) => {
                let message = "The Place cannot store anything at the moment; nothing was changed.";
                let refused = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "storage_unavailable",
                    message,
                );
                let request = refused.request_id();
                tracing::error!(request.id = %request, %error, "the Place could not store what it was asked to");
                refused.after(std::time::Duration::from_secs(30))
            }
            PlaceError::Directory(_) | PlaceError::Taken(_) => Self::failed(&error),
            PlaceError::Ask(error) => error.into(),
        }
    }
}

impl From<BanError> for ApiError {
    fn from(error: BanError) -> Self {
        let text = error.to_string();
        match error {
            BanError::Own(_) | BanError::Full => Self::new(StatusCode::CONFLICT, "refused", text),
            BanError::Reason(_) | BanError::Over => Self::invalid(text),
            BanError::Unknown(_) | BanError::NotPresent(_) => Self::not_found(text),
        }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        let text = error.to_string();
        match error {
            RegisterError::Member(_) => Self::invalid(text),
            RegisterError::Full { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "place_full", text)
            }
            RegisterError::TooManyUnverified { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "signature_required", text)
            }
            RegisterError::Banned(_) => banned(),
            RegisterError::AddressShare { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "address_full", text)
            }
            RegisterError::AddressUnverified { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "signature_required", text)
            }
            RegisterError::KeyRequired(_) => {
                Self::new(StatusCode::FORBIDDEN, "signature_required", text)
            }
            RegisterError::KeyConflict(_) => {
                Self::new(StatusCode::CONFLICT, "identity_conflict", text)
            }
            RegisterError::Own(_) => Self::new(StatusCode::CONFLICT, "own_identity", text),
        }
    }
}
