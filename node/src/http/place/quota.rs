//! How often agents may register, deposit and send: told in `info`, and refused with 429 and when to come again.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use kairos_actors::peer_manager::Caller;
use kairos_place::quota::{Bounds, Exceeded, Quota};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::config::Place;
use crate::http::Doors;
use crate::http::error::ApiError;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Each is held for the time of a count, never across an await.
pub struct Quotas {
    registrations: Mutex<Quota>,
    deposits: Mutex<Quota>,
    messages: Mutex<Quota>,
    questions: Mutex<Quota>,
}

impl Quotas {
    /// With the bounds that the settings tell.
    pub fn new(place: &Place) -> Self {
        let quota = |what, per_key, per_address, total, window| {
            let bounds = Bounds {
                per_key,
                per_address,
                total,
                window,
            };
            Mutex::new(Quota::new(what, bounds))
        };
        Self {
            registrations: quota(
                "registrations",
                place.registrations_per_key,
                place.registrations_per_address,
                place.registrations,
                MINUTE,
            ),
            deposits: quota(
                "attempts to deposit",
                place.deposit_attempts_per_key,
                place.deposit_attempts_per_address,
                place.deposit_attempts,
                HOUR,
            ),
            messages: quota(
                "messages",
                place.sends_per_key,
                place.sends_per_address,
                place.sends,
                MINUTE,
            ),
            questions: quota(
                "questions to other Places",
                place.questions_per_key,
                place.questions_per_address,
                place.questions,
                MINUTE,
            ),
        }
    }

    /// What is told of them.
    pub(super) fn told(&self) -> Value {
        let shown = |quota: &Mutex<Quota>| {
            let bounds = quota.lock().bounds();
            json!({
                "per_key": bounds.per_key, "per_address": bounds.per_address, "total": bounds.total,
                "window_seconds": bounds.window.as_secs(),
            })
        };
        json!({
            "registrations": shown(&self.registrations), "deposits": shown(&self.deposits),
            "messages": shown(&self.messages), "questions": shown(&self.questions),
        })
    }
}

/// Counts a registration by whoever showed `key`. One that the Place knows by it is not kept out by newcomers.
pub(super) fn registration(
    doors: &Doors,
    key: Option<ContentHash>,
    address: IpAddr,
    known: bool,
) -> Result<(), ApiError> {
    let now = doors.clock.now();
    let mut quota = doors.quotas.registrations.lock();
    Ok(quota.count(key, address, known, now)?)
}

/// Who wants to deposit or attest something, and may; counts the attempt, refused ones included.
pub(super) fn depositor(doors: &Doors, request: &HttpRequest) -> Result<AgentId, ApiError> {
    let caller = super::writer(doors, request)?;
    of_caller(&doors.quotas.deposits, doors, request, &caller)?;
    Ok(caller.agent_id)
}

/// Counts a message that somebody wants to send.
pub(super) fn message(
    doors: &Doors,
    request: &HttpRequest,
    caller: &Caller,
) -> Result<(), ApiError> {
    of_caller(&doors.quotas.messages, doors, request, caller)
}

/// Counts a question that other Places may be asked for somebody.
pub(super) fn question(
    doors: &Doors,
    request: &HttpRequest,
    caller: &Caller,
) -> Result<(), ApiError> {
    of_caller(&doors.quotas.questions, doors, request, caller)
}

fn of_caller(
    quota: &Mutex<Quota>,
    doors: &Doors,
    request: &HttpRequest,
    caller: &Caller,
) -> Result<(), ApiError> {
    let (address, now) = (doors.proxies.address(request), doors.clock.now());
    Ok(quota.lock().count(Some(caller.key), address, false, now)?)
}

impl From<Exceeded> for ApiError {
    fn from(exceeded: Exceeded) -> Self {
        let message = format!("{exceeded}; wait {} seconds", exceeded.wait.as_secs());
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).after(exceeded.wait)
    }
}
