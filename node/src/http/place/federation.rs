//! `/place/v1/federation/*`: what other Places say to this one, and what is asked of other Places through it.
//!
//! A Place comes as an ordinary agent, in a proven session. What it hands over is signed by it, and by nobody else.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use kairos_actors::federation::{AGREEMENT_STANDS, FederationError, UNKNOWN_AGREEMENT};
use kairos_actors::membership::MembershipError;
use kairos_actors::peer_manager::Caller;
use kairos_place::meeting_place::StepError;
use kairos_place::session::Strength;
use kairos_protocol::federation::agreement::{Proposal, Statement};
use kairos_protocol::federation::answer::{Answer, Ask, Question};
use kairos_protocol::federation::journey::JourneyError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{caller, hosted, quota, record_exchange};
use crate::http::body::BodyLimits;
use crate::http::error::{ApiError, quoted};
use crate::http::{Doors, body, reply};

/// Longest body that is read here: two keys and a signature.
const BODY_MAX: usize = 32 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proposed {
    proposal: Proposal,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    statement: Statement,
}

/// Another Place offers an agreement. The operator decides, later.
pub(in crate::http) async fn propose(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let caller = proven(&doors, &request)?;
    let Proposed { proposal } = read(small(&doors), payload).await?;
    let id = proposal.id();
    let place = &hosted(&doors)?.place;
    let taken = place.take_proposal(proposal, caller.agent_id, caller.key);
    let standing = taken.await?;
    Ok(reply::value(
        &json!({"agreement": id, "standing": standing}),
    ))
}

/// Another Place accepts, refuses or ends an agreement.
pub(in crate::http) async fn state(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let caller = proven(&doors, &request)?;
    let Stated { statement } = read(small(&doors), payload).await?;
    let id = statement.agreement.clone();
    let place = &hosted(&doors)?.place;
    let standing = place.hear(statement, caller.agent_id, caller.key).await?;
    Ok(reply::value(
        &json!({"agreement": id, "standing": standing}),
    ))
}

/// What an agent, or another Place in the name of one, asks of this Place or of one behind it.
pub(in crate::http) async fn ask(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let caller = caller(&request)?;
    quota::question(&doors, &request, &caller)?;
    // A sealed message is part of the question.
    let question: Question = read(doors.relay_body_limits, payload).await?;
    let writes = matches!(question.ask, Ask::Prekeys { .. } | Ask::Deliver { .. });
    if writes || !question.journey.path.is_empty() {
        require_proof(&caller)?;
    }
    if writes {
        quota::message(&doors, &request, &caller)?;
    }
    let hosted = hosted(&doors)?;
    let agent = caller.agent_id.clone();
    let answered = hosted.federation.ask(question, caller.agent_id).await?;
    if answered.here
        && let Answer::Skill { facts } = &answered.told.answer
    {
        let agents = vec![agent, facts.depositor.clone()];
        let hash = facts.content_hash;
        record_exchange(&hosted, "acquire", &facts.name, hash, agents, Vec::new());
    }
    Ok(reply::value(&json!(answered.told)))
}

/// Who asks, if it has proven its key, whatever agents must show here otherwise: what Places agree on is for nobody who has
/// a copy of a registration. Counts the request like a message.
fn proven(doors: &Doors, request: &HttpRequest) -> Result<Caller, ApiError> {
    let caller = caller(request)?;
    require_proof(&caller)?;
    quota::message(doors, request, &caller)?;
    Ok(caller)
}

fn require_proof(caller: &Caller) -> Result<(), ApiError> {
    match caller.strength < Strength::Proven {
        true => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "proof_required",
            "This action needs a proven session. Register again and answer the challenge in the reply.",
        )),
        false => Ok(()),
    }
}

/// The bounds of what is no message.
fn small(doors: &Doors) -> BodyLimits {
    BodyLimits {
        bytes: doors.body_limits.bytes.min(BODY_MAX),
        ..doors.body_limits
    }
}

async fn read<T: serde::de::DeserializeOwned>(
    limits: BodyLimits,
    payload: web::Payload,
) -> Result<T, ApiError> {
    let members = body::read_object(payload, limits).await?;
    serde_json::from_value(Value::Object(members))
        .map_err(|error| ApiError::invalid(quoted(&error.to_string())))
}

impl From<StepError> for ApiError {
    fn from(error: StepError) -> Self {
        let text = error.to_string();
        match error {
            StepError::Signed(_) | StepError::OtherKey => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "agreement_refused", text)
            }
            StepError::NotYours => Self::new(StatusCode::FORBIDDEN, "not_yours", text),
            StepError::Stale => Self::new(StatusCode::CONFLICT, "stale", text),
            StepError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, UNKNOWN_AGREEMENT, text),
            StepError::Stands(_) => Self::new(StatusCode::CONFLICT, AGREEMENT_STANDS, text),
            StepError::Partner(_) => Self::new(StatusCode::CONFLICT, "federated_already", text),
            StepError::Full { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "agreements_full", text)
            }
        }
    }
}

impl From<FederationError> for ApiError {
    fn from(error: FederationError) -> Self {
        let text = error.to_string();
        match error {
            FederationError::Place(error) => error.into(),
            FederationError::Unknown(_) => {
                Self::new(StatusCode::NOT_FOUND, UNKNOWN_AGREEMENT, text)
            }
            FederationError::Membership(MembershipError::Client(ref client))
                if client.has_status(404) =>
            {
                Self::not_found(text)
            }
            // It is no use to ask again.
            FederationError::Membership(MembershipError::Client(ref client))
                if [400, 403, 409].iter().any(|code| client.has_status(*code)) =>
            {
                Self::new(StatusCode::CONFLICT, "other_place_refused", text)
            }
            FederationError::Membership(MembershipError::Ask(error)) => error.into(),
            FederationError::Membership(_)
            | FederationError::Meeting(_)
            | FederationError::NoKey(_)
            | FederationError::Told(_)
            | FederationError::OtherKey(_)
            | FederationError::OtherPlace { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "other_place", text)
            }
            FederationError::Journey(JourneyError::TooLong | JourneyError::Loop(_)) => {
                Self::new(StatusCode::CONFLICT, "no_way", text)
            }
            FederationError::Journey(_) | FederationError::NotFederated(_) => {
                Self::new(StatusCode::FORBIDDEN, "not_federated", text)
            }
            FederationError::Question(_) => Self::invalid(text),
            FederationError::NotHere(_) | FederationError::NoSkill(_) => Self::not_found(text),
            FederationError::Peer(error) => error.into(),
            FederationError::Letter => Self::invalid(text),
            FederationError::NotItsKey(_) => Self::new(StatusCode::FORBIDDEN, "not_yours", text),
            FederationError::KeptOut(_) => Self::new(StatusCode::FORBIDDEN, "banned", text),
            FederationError::Relay(error) => error.into(),
            FederationError::Url(_) => Self::invalid(text),
            FederationError::Key(_) | FederationError::Panicked | FederationError::Witness(_) => {
                Self::failed(&error)
            }
            FederationError::Ask(error) => error.into(),
        }
    }
}
