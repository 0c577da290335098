//! `GET /meeting/v1/skills`, `GET /meeting/v1/skill_details`, `POST /meeting/v1/skill_content`.

use actix_web::{HttpRequest, HttpResponse, web};
use kairos_actors::knowledge::Audience;
use kairos_protocol::wire::envelope;
use kairos_protocol::wire::listing::SkillDetails;
use serde_json::json;

use crate::http::error::{ApiError, quoted};
use crate::http::query::param;
use crate::http::{Doors, body, reply};

/// Longest id or name of a skill that is looked up.
const NAME_MAX: usize = 1024;

/// All public skills.
pub(in crate::http) async fn list(doors: web::Data<Doors>) -> Result<HttpResponse, ApiError> {
    Ok(reply::bytes(doors.listings.current().await?.skills.clone()))
}

/// One public skill by id or name.
pub(in crate::http) async fn details(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let wanted =
        param(request.query_string(), "skill_id").ok_or_else(|| ApiError::missing("skill_id"))?;
    let listing = doors.listings.current().await?;
    let found = listing.catalogue.find_public(&wanted);
    let skill = found.ok_or_else(|| unknown(&wanted))?;
    Ok(reply::value(
        &json!({"metadata": SkillDetails::from(&skill.entry())}),
    ))
}

/// The text of one public skill by id or name, as a message and as a package.
pub(in crate::http) async fn content(
    doors: web::Data<Doors>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let members = body::read_object(payload, doors.body_limits).await?;
    let wanted = body::required_text(&members, "skill_id", NAME_MAX)?;
    let to = body::optional_text(&members, "to", NAME_MAX)?.unwrap_or("requester");
    let in_reply_to =
        body::optional_text(&members, "in_reply_to", NAME_MAX)?.unwrap_or("direct_request");
    let listing = doors.listings.current().await?;
    if listing.catalogue.find_public(wanted).is_none() {
        return Err(unknown(wanted));
    }
    let served = doors.knowledge.content(wanted, Audience::Peer).await?;
    let provenance = doors.provenances.of(&served).await?;
    let (skill, now) = (&served.skill, doors.clock.now());
    let message = envelope::message(
        "skill_content",
        &doors.signed.instance_id,
        Some(to),
        json!({
            "skill_id": skill.id, "skill_name": skill.name, "format": "markdown",
            "content": served.text, "content_hash": skill.content_hash,
        }),
        Some(in_reply_to),
        now,
    );
    Ok(reply::value(&json!({
        "message": message,
        "packaged_skill": skill.packaged(&served.text, now),
        "provenance": *provenance,
    })))
}

fn unknown(wanted: &str) -> ApiError {
    ApiError::not_found(format!("Skill not found: {}", quoted(wanted)))
}
