//! Every route, grouped by caller.

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{FromRequest, Handler, HttpRequest, Responder, Route, web};

use super::api;
use super::error::{ApiError, quoted};
use super::meeting::{checkpoint, introduce, messages, skill_sets, skills};
use super::{guard, health, metrics, place};

/// The table of routes.
pub(super) fn configure(app: &mut web::ServiceConfig) {
    meetings(app);

    // Agents at the hosted Meeting Place. Everything below `/place/` passes the guard, unknown paths too.
    let scope = web::scope("/place").wrap(from_fn(place::guard::admit));
    let scope = place_doors().into_iter().fold(scope, |scope, door| {
        scope.route(door.path, door.route.method(door.method))
    });
    app.service(scope.default_service(web::to(unknown_place)));

    owners(app);
}

/// Owners and those who act for them, and what tells how the node is.
pub(super) fn owners(app: &mut web::ServiceConfig) {
    // Anyone.
    app.route("/health", web::get().to(health::alive));
    app.route("/ready", web::get().to(health::ready));

    // Everything below `/api/` passes the guard, unknown paths too.
    app.service(
        web::scope("/api")
            .wrap(from_fn(api::guard::admit))
            .route("/v1/whoami", web::get().to(api::whoami::get))
            .route("/v1/metrics", web::get().to(metrics::for_callers))
            .route("/v1/status", web::get().to(api::status::get))
            .route("/v1/approvals", web::get().to(api::approvals::list))
            .route("/v1/approvals", web::post().to(api::approvals::propose))
            .route("/v1/approvals/{id}", web::get().to(api::approvals::show))
            .route(
                "/v1/approvals/{id}/approve",
                web::post().to(api::approvals::approve),
            )
            .route(
                "/v1/approvals/{id}/reject",
                web::post().to(api::approvals::reject),
            )
            .route("/v1/place", web::get().to(api::place::status))
            .route("/v1/place/start", web::post().to(api::place::start))
            .route("/v1/place/stop", web::post().to(api::place::stop))
            .route("/v1/place/agents", web::get().to(api::place::agents))
            .route("/v1/place/kick", web::post().to(api::place::kick))
            .route("/v1/place/bans", web::get().to(api::place::bans))
            .route("/v1/place/bans", web::post().to(api::place::ban))
            .route("/v1/place/unban", web::post().to(api::place::unban))
            .route("/v1/place/audit", web::get().to(api::place::audit))
            .route("/v1/place/stats", web::get().to(api::place::stats))
            .route(
                "/v1/place/federation",
                web::post().to(api::place::federation),
            )
            .route("/v1/p2p", web::post().to(api::p2p::order))
            .default_service(web::to(unknown)),
    );

    app.default_service(web::to(unknown));
}

/// Peers, whichever way they come. Everything below `/meeting/` passes the guard, unknown paths too.
pub(super) fn meetings(app: &mut web::ServiceConfig) {
    app.service(
        web::scope("/meeting")
            .wrap(from_fn(guard::admit))
            .route("/v1/introduce", web::get().to(introduce::get))
            .route("/v1/introduce", web::post().to(introduce::post))
            .route("/v1/goodbye", web::post().to(introduce::goodbye))
            .route("/v1/checkpoint", web::get().to(checkpoint::get))
            .route("/v1/checkpoint", web::post().to(checkpoint::post))
            .route("/v1/skills", web::get().to(skills::list))
            .route("/v1/skill_details", web::get().to(skills::details))
            .route("/v1/skill_content", web::post().to(skills::content))
            .route("/v1/request_skill", web::post().to(messages::request_skill))
            .route("/v1/reflect", web::post().to(messages::reflect))
            .route("/v1/message", web::post().to(messages::message))
            .route("/v1/skillsets", web::get().to(skill_sets::list))
            .route("/v1/skillset_details", web::get().to(skill_sets::details))
            .route("/v1/skillset_content", web::post().to(skill_sets::content))
            .default_service(web::to(unknown_meeting)),
    );
}

/// A way in.
pub struct Door {
    /// How it is asked.
    pub method: Method,
    /// Below `/place`; the last part may be a name.
    pub path: &'static str,
    route: Route,
}

fn door<F, Args>(method: Method, path: &'static str, handler: F) -> Door
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    Door {
        method,
        path,
        route: web::to(handler),
    }
}

/// Every door of the Meeting Place. A list, so that a test can try each of them.
pub fn place_doors() -> Vec<Door> {
    vec![
        door(Method::GET, "/v1/info", place::info::info),
        door(Method::GET, "/v1/welcome", place::info::welcome),
        door(Method::POST, "/v1/register", place::register::register),
        door(Method::POST, "/v1/unregister", place::register::unregister),
        door(Method::POST, "/v1/heartbeat", place::board::heartbeat),
        door(Method::GET, "/v1/agents", place::agents::list),
        door(Method::GET, "/v1/keys/{id:.*}", place::agents::key),
        door(
            Method::GET,
            "/v1/agent_profile/{id:.*}",
            place::agents::profile,
        ),
        door(Method::GET, "/v1/board/browse", place::board::browse),
        door(Method::POST, "/v1/board/needs", place::board::publish_needs),
        door(
            Method::DELETE,
            "/v1/board/needs",
            place::board::remove_needs,
        ),
        door(Method::POST, "/v1/board/attest", place::attest::attest),
        door(Method::POST, "/v1/deposit", place::deposits::deposit),
        door(Method::PUT, "/v1/deposit/{id:.*}", place::deposits::update),
        door(
            Method::DELETE,
            "/v1/deposit/{id:.*}",
            place::deposits::withdraw,
        ),
        door(
            Method::GET,
            "/v1/skill_content/{id:.*}",
            place::deposits::content,
        ),
        door(Method::GET, "/v1/preview/{id:.*}", place::deposits::preview),
        door(
            Method::GET,
            "/v1/skills/metadata/{id:.*}",
            place::deposits::metadata,
        ),
        door(
            Method::GET,
            "/v1/skills/content/{id:.*}",
            place::deposits::prototype_content,
        ),
        door(Method::GET, "/v1/deposits", place::all::deposits),
        door(Method::GET, "/v1/events", place::all::events),
        door(
            Method::POST,
            "/v1/skillset_deposit",
            place::skill_sets::deposit,
        ),
        door(
            Method::GET,
            "/v1/skillset_browse",
            place::skill_sets::browse,
        ),
        door(
            Method::GET,
            "/v1/skillset_content",
            place::skill_sets::content,
        ),
        door(
            Method::POST,
            "/v1/skillset_withdraw",
            place::skill_sets::withdraw,
        ),
        door(
            Method::POST,
            "/v1/keys/register",
            place::relay::register_key,
        ),
        door(Method::GET, "/v1/prekeys", place::relay::published_prekeys),
        door(Method::POST, "/v1/prekeys", place::relay::publish_prekeys),
        door(
            Method::GET,
            "/v1/prekeys/{id:.*}",
            place::relay::take_prekeys,
        ),
        door(Method::POST, "/v1/relay/send", place::relay::send),
        door(Method::GET, "/v1/relay/receive", place::relay::receive),
        door(Method::GET, "/v1/relay/peek", place::relay::peek),
        door(Method::POST, "/v1/relay/ack", place::relay::ack),
        door(Method::GET, "/v1/relay/status", place::relay::status),
        door(Method::GET, "/v1/relay/stats", place::relay::stats),
        door(Method::GET, "/v1/relay/events", place::relay::events),
        door(
            Method::POST,
            "/v1/federation/proposal",
            place::federation::propose,
        ),
        door(
            Method::POST,
            "/v1/federation/statement",
            place::federation::state,
        ),
        door(Method::POST, "/v1/federation/ask", place::federation::ask),
        door(Method::GET, "/v1/audit", place::relay::audit),
        door(Method::GET, "/v1/audit/stats", place::relay::audit_stats),
    ]
}

async fn unknown_meeting(request: HttpRequest) -> Result<&'static str, ApiError> {
    let path = quoted(request.path());
    Err(ApiError::not_found(format!(
        "Unknown meeting endpoint: {path}"
    )))
}

async fn unknown_place(request: HttpRequest) -> Result<&'static str, ApiError> {
    let path = quoted(request.path());
    Err(ApiError::not_found(format!(
        "Unknown place endpoint: {path}"
    )))
}

async fn unknown() -> Result<&'static str, ApiError> {
    Err(ApiError::not_found(
        "Endpoint not found. Agents meet at /meeting/v1/introduce.",
    ))
}
