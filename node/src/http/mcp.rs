//! `/mcp`: language models over streamable HTTP.
//!
//! What is said is the business of the SDK and of [`crate::mcp`]. Here every request passes the guard of the owners'
//! routes (this machine, `Host`, `Origin`, token), finds its caller, and has a time for its body. Sessions of the
//! handshake era belong to whoever opened them, are few, and end when nobody uses them.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpMessage as _, HttpRequest, web};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use kairos_place::token::UserName;
use kairos_protocol::time::Timestamp;
use parking_lot::Mutex;
use rmcp::model::{Extensions, ProtocolVersion};
use rmcp::transport::streamable_http_server::session::local::{LocalSessionManager, SessionConfig};
use rmcp::transport::streamable_http_server::session::{SessionId, SessionManager as _};
use rmcp_actix_web::transport::StreamableHttpService;
use tokio_util::sync::CancellationToken;

use super::api::guard::{self, Caller};
use super::error::ApiError;
use super::{BodyLimits, Doors};
use crate::mcp::call::Caller as McpCaller;
use crate::mcp::server::{Door, Server};

/// The header that names a session.
const SESSION: &str = "Mcp-Session-Id";
/// The header in which a client says what it saw last of a stream.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often a stream that says nothing shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Longest id of a session.
const ID_MAX: usize = 128;

/// Bounds of what is served here.
#[derive(Debug, Clone, Copy)]
pub struct McpLimits {
    /// Of request bodies.
    pub body: BodyLimits,
    /// Sessions open at once.
    pub sessions: usize,
    /// How long a session is kept that nobody uses.
    pub idle: Duration,
}

/// The service of a door; one for all workers.
pub struct Mcp<D> {
    service: StreamableHttpService<Server<D>, LocalSessionManager>,
    manager: Arc<LocalSessionManager>,
    sessions: Arc<Sessions>,
    body_time: Duration,
}

impl<D> Clone for Mcp<D> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            manager: Arc::clone(&self.manager),
            sessions: Arc::clone(&self.sessions),
            body_time: self.body_time,
        }
    }
}

impl<D: Door> Mcp<D> {
    /// Serves `door`, until `stop` is cancelled.
    pub fn new(door: Arc<D>, limits: McpLimits, stop: CancellationToken) -> Self {
        let mut config = SessionConfig::default();
        config.keep_alive = Some(limits.idle);
        let mut manager = LocalSessionManager::default();
        manager.session_config = config;
        let manager = Arc::new(manager);
        let service = StreamableHttpService::builder()
            .service_factory(Arc::new(move || {
                io::Result::Ok(Server::of_requests(Arc::clone(&door)))
            }))
            .session_manager(Arc::clone(&manager))
            .sse_keep_alive(KEEP_ALIVE)
            .json_response(true)
            .max_request_body_bytes(limits.body.bytes)
            // The guard checks both, with the names that the owner has listed.
            .allowed_hosts(Vec::new())
            .cancellation_token(stop)
            .on_request_fn(hand_on)
            .build();
        let sessions = Sessions {
            max: limits.sessions,
            idle: limits.idle,
            open: Mutex::default(),
        };
        Self {
            service,
            manager,
            sessions: Arc::new(sessions),
            body_time: limits.body.time,
        }
    }

    /// Mounts it.
    pub(super) fn configure(&self, app: &mut web::ServiceConfig) {
        let of = self.clone();
        let belongs = from_fn(move |request: ServiceRequest, next: Next<_>| {
            let of = of.clone();
            async move { of.pass(request, next).await }
        });
        app.service(
            web::scope("/mcp")
                .wrap(belongs)
                .wrap(from_fn(guard::admit))
                .service(self.service.clone().scope()),
        );
    }

    /// Ends a session for which there is no room.
    async fn close(&self, id: &str) {
        let id: SessionId = id.into();
        if let Err(error) = self.manager.close_session(&id).await {
            tracing::warn!(%error, "a session was not ended");
        }
    }

    /// Lets a request through to its own session, and notes a session that was opened.
    async fn pass<B: MessageBody + 'static>(
        &self,
        mut request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<impl MessageBody + use<B, D>>, Error> {
        let (user, now) = {
            let doors = request.app_data::<web::Data<Doors>>();
            let doors = doors.ok_or_else(|| ApiError::internal(&"the doors are not configured"))?;
            let extensions = request.extensions();
            let caller = extensions
                .get::<Caller>()
                .ok_or_else(ApiError::missing_token)?;
            (caller.0.user.clone(), doors.clock.now())
        };
        let named = request
            .headers()
            .get(SESSION)
            .map(|id| id.as_bytes().to_vec());
        let ends = request.method() == Method::DELETE;
        match &named {
            Some(id) => self.sessions.enter(id, &user, now, ends)?,
            None if is_stateless(&request) => {}
            None => self.sessions.room(now)?,
        }
        if let Some(next) = behind_last_event(request.headers()) {
            request.headers_mut().insert(LAST_EVENT_ID, next);
        }
        let payload = request.take_payload();
        request.set_payload(within(payload, self.body_time));
        let response = next.call(request).await?;
        if named.is_none()
            && let Some(id) = response.headers().get(SESSION)
        {
            if self.sessions.room(now).is_err() {
                self.close(id.to_str().unwrap_or_default()).await;
                return Err(sessions_full().into());
            }
            self.sessions.open(id.as_bytes(), user, now);
        }
        Ok(response)
    }
}

/// Whether a request says that it speaks a revision without sessions.
fn is_stateless(request: &ServiceRequest) -> bool {
    let version = request.headers().get("Mcp-Protocol-Version");
    version.is_some_and(|version| {
        version.as_bytes() >= ProtocolVersion::V_2026_07_28.as_str().as_bytes()
    })
}

/// The id of the event behind the last one that a client saw, where it says which. The SDK begins with the event that is
/// named; a client that saw it must not get it twice, least of all where it is a question.
fn behind_last_event(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(LAST_EVENT_ID)?.to_str().ok()?;
    let (index, stream) = match id.split_once('/') {
        Some((index, stream)) => (index, Some(stream)),
        None => (id, None),
    };
    let next = index.parse::<u64>().ok()?.checked_add(1)?;
    let next = match stream {
        Some(stream) => format!("{next}/{stream}"),
        None => next.to_string(),
    };
    HeaderValue::try_from(next).ok()
}

/// Tells the server who calls.
fn hand_on(request: &HttpRequest, extensions: &mut Extensions) {
    if let Some(Caller(principal)) = request.extensions().get::<Caller>() {
        extensions.insert(McpCaller {
            user: principal.user.clone(),
            role: principal.role,
        });
    }
}

fn sessions_full() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "sessions_full",
        "As many sessions as mcp.sessions allows are open. End one, or speak the revision that needs none.",
    )
}

/// A body that has to be there in time.
fn within(payload: Payload, time: Duration) -> Payload {
    let ends = tokio::time::Instant::now() + time;
    let body = payload.take_until(tokio::time::sleep_until(ends));
    let body = body.chain(futures::stream::poll_fn(move |_| {
        // Here the body has ended or its time has; what came too late is no body.
        std::task::Poll::Ready(match tokio::time::Instant::now() < ends {
            true => None,
            false => Some(Err(PayloadError::Incomplete(None))),
        })
    }));
    let body: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>> = Box::pin(body.fuse());
    Payload::Stream { payload: body }
}

/// The sessions that are open, and whose they are.
struct Sessions {
    max: usize,
    idle: Duration,
    open: Mutex<HashMap<Vec<u8>, Session>>,
}

struct Session {
    user: UserName,
    used: Timestamp,
}

impl Sessions {
    /// Whether there is room for one more.
    fn room(&self, now: Timestamp) -> Result<(), ApiError> {
        let mut open = self.open.lock();
        if open.len() >= self.max {
            open.retain(|_, session| now.since(session.used) < self.idle);
        }
        match open.len() < self.max {
            true => Ok(()),
            false => Err(sessions_full()),
        }
    }

    fn open(&self, id: &[u8], user: UserName, now: Timestamp) {
        let session = Session { user, used: now };
        self.open.lock().insert(id.to_vec(), session);
    }

    /// Whether `id` is a session of `user`. One of somebody else is none.
    fn enter(
        &self,
        id: &[u8],
        user: &UserName,
        now: Timestamp,
        ends: bool,
    ) -> Result<(), ApiError> {
        let gone = || {
            ApiError::new(
                StatusCode::NOT_FOUND,
                "unknown_session",
                "There is no such session (any more). Begin again with initialize.",
            )
        };
        if id.len() > ID_MAX {
            return Err(gone());
        }
        let mut open = self.open.lock();
        let session = open
            .get_mut(id)
            .filter(|session| session.user == *user)
            .ok_or_else(gone)?;
        session.used = now;
        if ends {
            open.remove(id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    #[test]
    fn a_session_is_of_use_to_its_own_user_only() {
        let sessions = Sessions {
            max: 2,
            idle: Duration::from_secs(60),
            open: Mutex::default(),
        };
        let at = Timestamp::from_secs;
        sessions.open(b"s", user("ada"), at(0));
        assert!(sessions.enter(b"s", &user("ada"), at(1), false).is_ok());
        assert!(sessions.enter(b"s", &user("ben"), at(1), false).is_err());
        assert!(sessions.enter(b"t", &user("ada"), at(1), false).is_err());
        assert!(sessions.enter(b"s", &user("ada"), at(2), true).is_ok());
        assert!(sessions.enter(b"s", &user("ada"), at(2), false).is_err());
    }

    #[test]
    fn a_stream_goes_on_behind_what_was_seen() {
        for (seen, next) in [
            (Some("0/3"), Some("1/3")),
            (Some("41/0"), Some("42/0")),
            (Some("7"), Some("8")),
            (Some("x/3"), None),
            (Some("18446744073709551615/3"), None),
            (None, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(seen) = seen {
                headers.insert(LAST_EVENT_ID, HeaderValue::from_static(seen));
            }
            let found = behind_last_event(&headers);
            assert_eq!(found, next.map(HeaderValue::from_static), "{seen:?}");
        }
    }

    #[test]
    fn sessions_are_few_and_those_that_nobody_uses_make_room() {
        let sessions = Sessions {
            max: 1,
            idle: Duration::from_secs(60),
            open: Mutex::default(),
        };
        let at = Timestamp::from_secs;
        assert!(sessions.room(at(0)).is_ok());
        sessions.open(b"s", user("ada"), at(0));
        assert!(sessions.room(at(59)).is_err());
        assert!(sessions.room(at(60)).is_ok());
    }
}
