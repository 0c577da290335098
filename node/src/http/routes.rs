//! Every route, grouped by caller.

use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, web};

use super::api;
use super::error::{ApiError, quoted};
use super::meeting::{checkpoint, introduce, messages, skill_sets, skills};
use super::{guard, health, place};

/// The table of routes.
pub(super) fn configure(app: &mut web::ServiceConfig) {
    // Anyone.
    app.route("/health", web::get().to(health::alive));
    app.route("/ready", web::get().to(health::ready));

    // Peers. Everything below `/meeting/` passes the guard, unknown paths too.
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

    // Agents at the hosted Meeting Place. Everything below `/place/` passes the guard, unknown paths too.
    app.service(
        web::scope("/place")
            .wrap(from_fn(place::guard::admit))
            .route("/v1/info", web::get().to(place::info::info))
            .route("/v1/welcome", web::get().to(place::info::welcome))
            .route("/v1/register", web::post().to(place::register::register))
            .route(
                "/v1/unregister",
                web::post().to(place::register::unregister),
            )
            .route("/v1/heartbeat", web::post().to(place::board::heartbeat))
            .route("/v1/agents", web::get().to(place::agents::list))
            .route("/v1/keys/{id:.*}", web::get().to(place::agents::key))
            .route(
                "/v1/agent_profile/{id:.*}",
                web::get().to(place::agents::profile),
            )
            .route("/v1/board/browse", web::get().to(place::board::browse))
            .route(
                "/v1/board/needs",
                web::post().to(place::board::publish_needs),
            )
            .route(
                "/v1/board/needs",
                web::delete().to(place::board::remove_needs),
            )
            .route("/v1/board/attest", web::post().to(place::attest::attest))
            .route("/v1/deposit", web::post().to(place::deposits::deposit))
            .route(
                "/v1/deposit/{id:.*}",
                web::put().to(place::deposits::update),
            )
            .route(
                "/v1/deposit/{id:.*}",
                web::delete().to(place::deposits::withdraw),
            )
            .route(
                "/v1/skill_content/{id:.*}",
                web::get().to(place::deposits::content),
            )
            .route(
                "/v1/preview/{id:.*}",
                web::get().to(place::deposits::preview),
            )
            .route(
                "/v1/skills/metadata/{id:.*}",
                web::get().to(place::deposits::metadata),
            )
            .route(
                "/v1/skills/content/{id:.*}",
                web::get().to(place::deposits::prototype_content),
            )
            .route("/v1/deposits", web::get().to(place::all::deposits))
            .route("/v1/events", web::get().to(place::all::events))
            .route(
                "/v1/skillset_deposit",
                web::post().to(place::skill_sets::deposit),
            )
            .route(
                "/v1/skillset_browse",
                web::get().to(place::skill_sets::browse),
            )
            .route(
                "/v1/skillset_content",
                web::get().to(place::skill_sets::content),
            )
            .route(
                "/v1/skillset_withdraw",
                web::post().to(place::skill_sets::withdraw),
            )
            .route(
                "/v1/keys/register",
                web::post().to(place::relay::register_key),
            )
            .route(
                "/v1/prekeys",
                web::get().to(place::relay::published_prekeys),
            )
            .route("/v1/prekeys", web::post().to(place::relay::publish_prekeys))
            .route(
                "/v1/prekeys/{id:.*}",
                web::get().to(place::relay::take_prekeys),
            )
            .route("/v1/relay/send", web::post().to(place::relay::send))
            .route("/v1/relay/receive", web::get().to(place::relay::receive))
            .route("/v1/relay/peek", web::get().to(place::relay::peek))
            .route("/v1/relay/ack", web::post().to(place::relay::ack))
            .route("/v1/relay/status", web::get().to(place::relay::status))
            .route("/v1/relay/stats", web::get().to(place::relay::stats))
            .route("/v1/relay/events", web::get().to(place::relay::events))
            .route("/v1/audit", web::get().to(place::relay::audit))
            .route("/v1/audit/stats", web::get().to(place::relay::audit_stats))
            .default_service(web::to(unknown_place)),
    );

    // Owners and those who act for them. Everything below `/api/` passes the guard, unknown paths too.
    app.service(
        web::scope("/api")
            .wrap(from_fn(api::guard::admit))
            .route("/v1/whoami", web::get().to(api::whoami::get))
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
            .default_service(web::to(unknown)),
    );

    app.default_service(web::to(unknown));
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
