//! `GET /place/v1/info` and `GET /place/v1/welcome`: what anybody may know of the Place.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::hosted;
use crate::http::error::ApiError;
use crate::http::{Doors, reply};

/// Version of the Place's protocol: that of the reference's library that serves the same endpoints.
const VERSION: &str = "0.2.0";
/// What a newcomer is told.
const GUIDE: &str = include_str!("welcome.md");

/// What it is, and what it is bound to.
pub(in crate::http) async fn info(doors: web::Data<Doors>) -> Result<HttpResponse, ApiError> {
    let hosted = hosted(&doors)?;
    let told = hosted.place.look(|place| {
        let (policy, deposits) = (place.policy(), &place.policy().deposits);
        json!({
            "place_id": place.id(), "name": &*hosted.name, "version": VERSION,
            "registered_agents": place.census().agents, "max_agents": policy.agents_max,
            "started_at": place.started().wire(),
            "deposit_limits": {
                "max_skills_per_agent": deposits.per_agent, "max_total_deposits": deposits.total,
                "max_skill_size_bytes": deposits.content_bytes,
                "deposit_rate_limit_per_hour": deposits.per_hour,
                "deposit_rate_limit_scope": "process", "max_summary_bytes": deposits.summary_bytes,
                "max_description_bytes": deposits.description_bytes,
                "max_preview_lines": deposits.preview_lines,
                "max_attestations_per_deposit": policy.attestations_per_deposit,
                "max_attestations_per_agent": policy.attestations_per_agent,
                "max_skillsets_per_agent": policy.skill_sets.per_agent,
                "max_total_skillsets": policy.skill_sets.total,
                "max_total_archive_bytes": policy.skill_sets.bytes,
                "max_archive_size_bytes": policy.skill_sets.package.compressed,
                "max_archive_expanded_bytes": policy.skill_sets.package.expanded,
                "max_archive_entries": policy.skill_sets.package.entries,
            },
            "agent_limits": {
                "max_unverified": policy.unverified_max,
                "max_agents_per_address": policy.agents_per_address,
                "max_unverified_per_address": policy.unverified_per_address,
            },
            "quotas": doors.quotas.told(),
            "session_rate_limit_per_minute": doors.requests_per_minute,
            "fades_after_seconds": policy.ttl.as_secs(),
            "write_strength": doors.place_write_strength.as_str(),
        })
    });
    Ok(reply::value(&told))
}

/// How to take part.
pub(in crate::http) async fn welcome(doors: web::Data<Doors>) -> Result<HttpResponse, ApiError> {
    let hosted = hosted(&doors)?;
    let tools = [
        "meeting_connect",
        "meeting_browse",
        "meeting_preview_skill",
        "meeting_acquire_skill",
        "meeting_deposit",
        "meeting_update_deposit",
        "meeting_withdraw",
        "meeting_check_freshness",
        "meeting_get_agent_profile",
        "meeting_attest_skill",
        "skillset_deposit",
        "skillset_browse",
        "skillset_acquire",
        "skillset_withdraw",
        "philosophy_anchor",
        "record_observation",
    ];
    Ok(reply::value(&json!({
        "place_name": &*hosted.name, "guide": GUIDE.replace("{name}", &hosted.name),
        "available_tools": tools,
    })))
}
