//! `/api/v1/place`: the Meeting Place that is hosted here, for whoever runs it.
//!
//! What a Place is bound to and who may be where is decided in the machine; these routes give it orders in the name of an
//! owner, and open and close it.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use kairos_place::meeting_place::{AgentCursor, Target};
use kairos_place::role::Action;
use kairos_protocol::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Caller;
use super::read;
use crate::hosting::HostingError;
use crate::http::error::{ApiError, quoted};
use crate::http::place::hosted;
use crate::http::query::param;
use crate::http::{AtOwnersSocket, Doors, reply};
use crate::operate::{self, Order, OrderError, PAGE};

/// Longest time of a ban in seconds; what should last longer has no end.
const BAN_SECS_MAX: u64 = 100 * 365 * 86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    agent: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    target: String,
    reason: Option<String>,
    seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unban {
    target: String,
}

/// `GET /api/v1/place`: whether a Place is hosted, and what it is.
pub(in crate::http) async fn status(
    doors: web::Data<Doors>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::RunPlace)?;
    if doors.hosting.current().is_none() {
        return Ok(reply::value(&json!({"hosted": false})));
    }
    let mut told = ordered(&doors, &caller, Order::Status).await?;
    if let Value::Object(members) = &mut told {
        members.insert("hosted".to_owned(), true.into());
    }
    Ok(reply::value(&told))
}

/// `POST /api/v1/place/start`: begins to host the Place, for every door at once.
pub(in crate::http) async fn start(
    doors: web::Data<Doors>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::RunPlace)?;
    if request.app_data::<AtOwnersSocket>().is_some() {
        let message =
            "This server opens no HTTP port, through which agents come to a Meeting Place.";
        return Err(ApiError::new(StatusCode::CONFLICT, "http_off", message));
    }
    match doors.hosting.start().await {
        Ok(changed) => Ok(reply::value(&json!({"hosted": true, "changed": changed}))),
        Err(error) => Err(refused(&error)),
    }
}

/// `POST /api/v1/place/stop`: ends it once all that was asked of it is done.
pub(in crate::http) async fn stop(
    doors: web::Data<Doors>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::RunPlace)?;
    let changed = doors.hosting.stop().await;
    Ok(reply::value(&json!({"hosted": false, "changed": changed})))
}

fn refused(error: &HostingError) -> ApiError {
    tracing::error!(%error, "the Meeting Place cannot be opened");
    let message = "The Meeting Place cannot be opened; the log of the server tells why.";
    ApiError::new(StatusCode::CONFLICT, "place_not_opened", message)
}

/// `GET /api/v1/place/agents`: who is here, with the key and the address of each.
pub(in crate::http) async fn agents(
    doors: web::Data<Doors>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let after = text(&request, "after").map(|after| after.parse::<AgentCursor>());
    let after = after
        .transpose()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let limit = limit(&request)?;
    answer(&doors, &caller, Order::Agents { after, limit }).await
}

/// `POST /api/v1/place/kick`: ends the sessions and the presence of an agent.
pub(in crate::http) async fn kick(
    doors: web::Data<Doors>,
    caller: Caller,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::RunPlace)?;
    let Kick { agent, reason } = read(&doors, payload).await?;
    let agent = agent.parse().map_err(|error| {
        ApiError::invalid(format!("{} is no agent id: {error}", quoted(&agent)))
    })?;
    answer(&doors, &caller, Order::Kick { agent, reason }).await
}

/// `POST /api/v1/place/bans`: keeps somebody out.
pub(in crate::http) async fn ban(
    doors: web::Data<Doors>,
    caller: Caller,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::RunPlace)?;
    let posted: Ban = read(&doors, payload).await?;
    if posted.seconds.is_some_and(|secs| secs > BAN_SECS_MAX) {
        return Err(ApiError::invalid("seconds: leave it out for no end"));
    }
    let order = Order::Ban {
        target: target(&posted.target)?,
        reason: posted.reason,
        time: posted.seconds.map(Duration::from_secs),
    };
    answer(&doors, &caller, order).await
}

/// `POST /api/v1/place/unban`: takes a ban back.
pub(in crate::http) async fn unban(
    doors: web::Data<Doors>,
    caller: Caller,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::RunPlace)?;
    let posted: Unban = read(&doors, payload).await?;
    let target = target(&posted.target)?;
    answer(&doors, &caller, Order::Unban { target }).await
}

/// `GET /api/v1/place/bans`: who is kept out, by whom and why.
pub(in crate::http) async fn bans(
    doors: web::Data<Doors>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let after = text(&request, "after").map(|after| after.parse::<Target>());
    let after = after
        .transpose()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let limit = limit(&request)?;
    answer(&doors, &caller, Order::Bans { after, limit }).await
}

/// `GET /api/v1/place/audit`: what was relayed, who registered, and what the operator did, the newest first.
pub(in crate::http) async fn audit(
    doors: web::Data<Doors>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let before = text(&request, "before").map(|before| before.parse());
    let since = text(&request, "since").map(|since| Timestamp::parse(&since));
    let order = Order::Audit {
        before: before.transpose().map_err(ApiError::invalid)?,
        limit: limit(&request)?,
        kind: text(&request, "type"),
        since: since
            .transpose()
            .map_err(|error| ApiError::invalid(error.to_string()))?,
    };
    answer(&doors, &caller, order).await
}

/// `GET /api/v1/place/stats`: figures.
pub(in crate::http) async fn stats(
    doors: web::Data<Doors>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    answer(&doors, &caller, Order::Stats).await
}

/// `POST /api/v1/place/federation`: what concerns other Places.
pub(in crate::http) async fn federation(
    doors: web::Data<Doors>,
    caller: Caller,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::RunPlace)?;
    let order = read(&doors, payload).await?;
    answer(&doors, &caller, Order::Federation(order)).await
}

async fn answer(doors: &Doors, caller: &Caller, order: Order) -> Result<HttpResponse, ApiError> {
    Ok(reply::value(&ordered(doors, caller, order).await?))
}

async fn ordered(doors: &Doors, caller: &Caller, order: Order) -> Result<Value, ApiError> {
    caller.may(Action::RunPlace)?;
    let hosted = hosted(doors)?;
    let (by, now) = (caller.0.user.to_string(), doors.clock.now());
    let done = operate::carry_out(order, &hosted, Some(&doors.peers), &by, now).await;
    done.map_err(|error| match error {
        OrderError::Place(error) => error.into(),
        OrderError::Relay(error) => error.into(),
        OrderError::Federation(error) => error.into(),
    })
}

fn target(text: &str) -> Result<Target, ApiError> {
    Target::guess(text).map_err(|error| ApiError::invalid(error.to_string()))
}

fn text(request: &HttpRequest, name: &str) -> Option<String> {
    param(request.query_string(), name).filter(|text| !text.is_empty())
}

fn number(request: &HttpRequest, name: &str) -> Result<Option<u64>, ApiError> {
    let parsed = text(request, name).map(|text| text.parse()).transpose();
    parsed.map_err(|_| ApiError::invalid(format!("{name} must be a whole number")))
}

fn limit(request: &HttpRequest) -> Result<usize, ApiError> {
    let told = number(request, "limit")?;
    Ok(told.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
}
