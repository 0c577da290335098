//! What every request to `/api/` passes before its handler.
//!
//! - It comes from this machine, unless the owner has opened the routes to others: a bearer token on plain HTTP is
//!   anyone's who listens.
//! - Its `Host` is an address, `localhost` or a name that the owner has listed, and its `Origin`, if it has one, is
//!   that host: a page in a browser cannot reach this node under a name of its own (DNS rebinding), nor from another
//!   site.
//! - Its address is within its allowance, and its token opens something. Tokens of no use are counted for each
//!   address, and past a bound it is told to wait. A good token is taken even then: tokens cannot be guessed, and
//!   behind a proxy all callers share one address, so whoever sends bad ones must not lock out the owner.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HOST, ORIGIN};
use actix_web::http::uri::Authority;
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest, web};
use kairos_actors::auth::Principal;
use kairos_place::proposal::Person;
use kairos_place::role::Action;

use crate::http::error::ApiError;
use crate::http::{AtOwnersSocket, Doors};

/// Longest token that is looked at.
const TOKEN_MAX: usize = 256;

/// Who asks, as their token says.
#[derive(Debug, Clone)]
pub(in crate::http) struct Caller(pub(in crate::http) Principal);

impl Caller {
    /// Whether their role allows `action`.
    pub(in crate::http) fn may(&self, action: Action) -> Result<(), ApiError> {
        Ok(self.0.role.authorize(action)?)
    }

    /// Who they are, to be written down.
    pub(in crate::http) fn person(&self) -> Person {
        Person {
            user: self.0.user.clone(),
            role: self.0.role,
            door: "http".to_owned(),
        }
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        // Only a route outside of the guard has none.
        ready(caller.ok_or_else(ApiError::missing_token))
    }
}

/// The middleware. Leaves the [`Caller`] in the request's extensions.
pub(in crate::http) async fn admit(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let Some(doors) = request.app_data::<web::Data<Doors>>().cloned() else {
        return Err(ApiError::internal(&"the doors are not configured").into());
    };
    let caller = check(&doors, request.request()).await?;
    request.extensions_mut().insert(caller);
    next.call(request).await
}

async fn check(doors: &Doors, request: &HttpRequest) -> Result<Caller, ApiError> {
    let is_owners = request.app_data::<AtOwnersSocket>().is_some();
    if !(is_owners || doors.api_to_others || doors.proxies.is_local(request)) {
        return Err(forbidden(
            "loopback_only",
            "These routes answer to this machine only. The setting http.api_to_others opens them.",
        ));
    }
    check_host(request, &doors.names)?;
    let (address, now) = (doors.proxies.address(request), doors.clock.now());
    // Whoever comes through the owner's socket has no address, and must not be kept out by peers that have none either.
    if !is_owners {
        let admitted = doors.allowance.lock().admit(address, now);
        admitted.map_err(ApiError::rate_limited)?;
    }
    let token = bearer(request).ok_or_else(ApiError::missing_token)?;
    match doors.auth.authenticate(token).await? {
        Some(principal) => Ok(Caller(principal)),
        None => {
            let counted = doors.failed_tokens.lock().admit(address, now);
            counted.map_err(ApiError::rate_limited)?;
            Err(ApiError::invalid_token())
        }
    }
}

fn forbidden(code: &'static str, message: &'static str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code, message)
}

fn check_host(request: &HttpRequest, names: &[String]) -> Result<(), ApiError> {
    let refused = || {
        forbidden(
            "host_forbidden",
            "These routes answer to addresses, to localhost and to the names in the setting http.names.",
        )
    };
    let header = |name| {
        let mut values = request.headers().get_all(name);
        // Of two nobody knows which one somebody else has looked at.
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(refused()),
        }
    };
    let host = header(HOST)?.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let host = host.ok_or_else(refused)?;
    let asked = request.uri().authority();
    if !is_known(&host, names) || asked.is_some_and(|asked| *asked != host) {
        return Err(refused());
    }
    let Some(origin) = header(ORIGIN)? else {
        return Ok(());
    };
    let site = origin.to_str().ok().and_then(|origin| {
        let rest = origin.strip_prefix("http://");
        rest.or_else(|| origin.strip_prefix("https://"))?
            .parse::<Authority>()
            .ok()
    });
    match site == Some(host) {
        true => Ok(()),
        false => Err(forbidden(
            "origin_forbidden",
            "These routes do not answer to pages of other sites.",
        )),
    }
}

/// Whether `host` can be no name that somebody else gave us: an address, `localhost`, or one of `names`.
pub(in crate::http) fn is_known(host: &Authority, names: &[String]) -> bool {
    let name = host.host();
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let is_address = bare.unwrap_or(name).parse::<IpAddr>().is_ok();
    let listed = names.iter().any(|known| known.eq_ignore_ascii_case(name));
    // `user@host` is nothing that a client sends.
    !host.as_str().contains('@') && (is_address || listed || name.eq_ignore_ascii_case("localhost"))
}

/// The token behind `Bearer`, in any case, as the reference reads it.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.trim().split_once([' ', '\t'])?;
    let token = token.trim();
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    (is_bearer && !token.is_empty() && token.len() <= TOKEN_MAX).then_some(token)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn names() -> Vec<String> {
        vec!["agent.example".to_owned()]
    }

    #[test]
    fn only_names_of_this_node_are_answered_to() {
        for (host, known) in [
            ("localhost:8080", true),
            ("LocalHost", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("192.0.2.7", true),
            ("Agent.Example:443", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost@evil.example", false),
            ("evil.example@localhost", false),
            ("", false),
            ("a b", false),
        ] {
            let request = TestRequest::get()
                .insert_header((HOST, host))
                .to_http_request();
            assert_eq!(check_host(&request, &names()).is_ok(), known, "{host}");
        }
        let none = TestRequest::get().to_http_request();
        assert!(check_host(&none, &names()).is_err());
        let two = TestRequest::get().append_header((HOST, "localhost"));
        let two = two.append_header((HOST, "localhost")).to_http_request();
        assert!(check_host(&two, &names()).is_err());
    }

    #[test]
    fn pages_of_other_sites_are_not_answered() {
        for (origin, ours) in [
            ("http://localhost:8080", true),
            ("https://localhost:8080", true),
            ("http://localhost:9", false),
            ("http://evil.example", false),
            ("null", false),
            ("", false),
            ("file://", false),
        ] {
            let request = TestRequest::get()
                .insert_header((HOST, "localhost:8080"))
                .insert_header((ORIGIN, origin))
                .to_http_request();
            assert_eq!(check_host(&request, &[]).is_ok(), ours, "{origin}");
        }
    }

    #[test]
    fn reads_tokens_as_the_reference_does() {
        for (header, token) in [
            ("Bearer kc_1", Some("kc_1")),
            ("bearer   kc_1  ", Some("kc_1")),
            ("BEARER\tkc_1", Some("kc_1")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic kc_1", None),
            ("kc_1", None),
        ] {
            let request = TestRequest::get().insert_header((AUTHORIZATION, header));
            assert_eq!(bearer(&request.to_http_request()), token, "{header}");
        }
        let long = format!("Bearer {}", "x".repeat(TOKEN_MAX + 1));
        let request = TestRequest::get().insert_header((AUTHORIZATION, long));
        assert_eq!(bearer(&request.to_http_request()), None);
    }
}
