//! `GET /meeting/v1/skillsets`, `GET /meeting/v1/skillset_details`, `POST /meeting/v1/skillset_content`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::http::error::{ApiError, quoted};
use crate::http::query::param;
use crate::http::{Doors, body, reply};

/// Longest name that is looked up.
const NAME_MAX: usize = 256;

/// All exchangeable SkillSets.
pub(in crate::http) async fn list(doors: web::Data<Doors>) -> Result<HttpResponse, ApiError> {
    exchange_enabled(&doors)?;
    Ok(reply::bytes(
        doors.listings.current().await?.skill_sets.clone(),
    ))
}

/// One exchangeable SkillSet.
pub(in crate::http) async fn details(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    exchange_enabled(&doors)?;
    let name = param(request.query_string(), "name").ok_or_else(|| ApiError::missing("name"))?;
    let listing = doors.listings.current().await?;
    let found = listing.sets.find_offered(&name);
    let Some(listed) = found else {
        return Err(ApiError::not_found(format!(
            "SkillSet not found: {}",
            quoted(&name)
        )));
    };
    if !listed.is_exchangeable() {
        let message = format!("SkillSet '{name}' contains executable code and cannot be exchanged");
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not_exchangeable",
            message,
        ));
    }
    Ok(reply::value(&json!({"metadata": listed.details()})))
}

/// One exchangeable SkillSet as a package.
pub(in crate::http) async fn content(
    doors: web::Data<Doors>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    exchange_enabled(&doors)?;
    let members = body::read_object(payload, doors.body_limits).await?;
    let name = body::required_text(&members, "name", NAME_MAX)?;
    let listing = doors.listings.current().await?;
    let Some(listed) = listing.sets.find_offered(name) else {
        return Err(ApiError::not_found(format!(
            "SkillSet '{}' not found",
            quoted(name)
        )));
    };
    if !listed.is_exchangeable() {
        let message = "Only knowledge-only SkillSets can be packaged for exchange";
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not_exchangeable",
            message,
        ));
    }
    let package = doors.skill_sets.package(name.to_owned()).await?;
    let package = package.to_json().map_err(|e| ApiError::internal(&e))?;
    Ok(reply::value(&json!({"skillset_package": package})))
}

fn exchange_enabled(doors: &Doors) -> Result<(), ApiError> {
    if doors.skill_set_exchange {
        return Ok(());
    }
    let message = "SkillSet exchange is not enabled in MMP configuration";
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "skillset_exchange_disabled",
        message,
    ))
}
