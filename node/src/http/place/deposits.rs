//! Deposits: `POST /place/v1/deposit`, `PUT` and `DELETE /place/v1/deposit/ID`, `GET /place/v1/skill_content/ID`,
//! `GET /place/v1/preview/ID`, and the two paths by which clients of the reference's prototype ask.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use kairos_actors::place::PlaceError;
use kairos_place::meeting_place::{
    Attestation, BoardError, Condition, Deposit, MeetingPlace, Offer, Outcome, Replaced,
};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use serde_json::{Map, Value, json};

use super::condition::{condition, tagged};
use super::once::{self, repeated};
use super::{caller, hosted, quota, record_exchange, rest, writer};
use crate::http::error::{ApiError, quoted};
use crate::http::query::{param, percent_decoded};
use crate::http::{Doors, body, reply};

/// Lines of a preview if nothing is said.
const PREVIEW_LINES: usize = 30;
/// Longest text of a member, but for the content, that is read; the Place has bounds of its own.
const TEXT_MAX: usize = 8 * 1024;

/// Leaves a skill here.
pub(in crate::http) async fn deposit(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let owner = quota::depositor(&doors, &request)?;
    let condition = condition(&request, Condition::Unsaid)?;
    let (members, once) = once::read(&doors, &request, payload, &owner).await?;
    let offer = offer(&members)?;
    let hosted = hosted(&doors)?;
    let place = &hosted.place;
    match place
        .deposit_once(owner.clone(), offer, condition, once, deposited)
        .await
    {
        Ok(Outcome::Repeated(answer)) => Ok(repeated(answer)),
        Ok(Outcome::Done(done)) => {
            let deposit = &done.deposit;
            let (name, hash) = (&deposit.facts.name, deposit.content_hash);
            record_exchange(&hosted, "deposit", name, hash, vec![owner], previous(&done));
            Ok(tagged(reply::bytes(deposited(&done).into()), hash))
        }
        Err(error) => rejected("deposit_rejected", error),
    }
}

fn deposited(done: &Replaced) -> String {
    let told = json!({
        "status": "deposited", "skill_id": done.deposit.key.skill_id,
        "trust_notice": done.deposit.trust_notice(),
    });
    told.to_string()
}

/// Puts new content in the place of the old.
pub(in crate::http) async fn update(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let owner = quota::depositor(&doors, &request)?;
    let condition = condition(&request, Condition::Any)?;
    let members = body::read_object(payload, doors.body_limits).await?;
    let skill_id = percent_decoded(rest(&request, "/place/v1/deposit/"));
    let mut offer = offer(&members)?;
    offer.skill_id = skill_id.clone();
    let reason = body::optional_text(&members, "reason", TEXT_MAX)?;
    let reason = reason.map(|reason| ("reason_hash", ContentHash::of(reason)));
    let hosted = hosted(&doors)?;
    match hosted.place.update(owner.clone(), offer, condition).await {
        Ok(done) => {
            let deposit = &done.deposit;
            let (name, hash) = (&deposit.facts.name, deposit.content_hash);
            let hashes = previous(&done).into_iter().chain(reason).collect();
            let recorded = record_exchange(&hosted, "update", name, hash, vec![owner], hashes);
            let told = json!({
                "status": "updated", "skill_id": deposit.key.skill_id,
                "previous_hash": done.before, "new_hash": hash,
                "updated_at": deposit.deposited_at.wire(), "chain_recorded": recorded,
            });
            Ok(tagged(reply::value(&told), hash))
        }
        Err(PlaceError::Board(BoardError::NoDeposit { .. })) => Err(ApiError::not_found(format!(
            "No existing deposit found: {} (owner: {owner})",
            quoted(&skill_id)
        ))),
        Err(error) => rejected("update_rejected", error),
    }
}

/// Takes a skill of the caller's off the board.
pub(in crate::http) async fn withdraw(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let owner = writer(&doors, &request)?.agent_id;
    let condition = condition(&request, Condition::Any)?;
    let members = body::read_object(payload, doors.body_limits).await?;
    let reason = body::optional_text(&members, "reason", TEXT_MAX)?.unwrap_or_default();
    if reason.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "reason_required",
            "A reason is required for withdrawal.",
        ));
    }
    let skill_id = percent_decoded(rest(&request, "/place/v1/deposit/"));
    let now = doors.clock.now();
    let hosted = hosted(&doors)?;
    let withdrawn = hosted
        .place
        .withdraw(owner.clone(), skill_id.clone(), condition);
    match withdrawn.await {
        Ok(gone) => {
            let (name, hash) = (&gone.facts.name, gone.content_hash);
            let hashes = vec![("reason_hash", ContentHash::of(reason))];
            let agents = vec![owner.clone()];
            let recorded = record_exchange(&hosted, "withdraw", name, hash, agents, hashes);
            Ok(reply::value(&json!({
                "status": "withdrawn", "skill_id": skill_id, "owner_agent_id": owner,
                "withdrawn_at": now.wire(), "chain_recorded": recorded,
            })))
        }
        Err(PlaceError::Board(BoardError::NoDeposit { .. })) => Err(ApiError::not_found(format!(
            "No deposit found: {} (owner: {owner})",
            quoted(&skill_id)
        ))),
        Err(error) => Err(error.into()),
    }
}

/// All of a skill.
pub(in crate::http) async fn content(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (deposit, content) = found(&doors, &request, "/place/v1/skill_content/").await?;
    handed_out(&doors, &request, &deposit)?;
    let told = json!({
        "skill_id": deposit.key.skill_id, "name": deposit.facts.name, "content": content,
        "content_hash": deposit.content_hash, "format": deposit.facts.format,
        "depositor_id": deposit.key.owner, "trust_notice": deposit.trust_notice(),
        "depositor_signature": deposit.signature,
        "trust_metadata": deposit.trust_metadata(count(&doors, &deposit.key.owner)?),
    });
    Ok(tagged(reply::value(&told), deposit.content_hash))
}

/// The first lines of a skill, and what is known of it.
pub(in crate::http) async fn preview(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (deposit, content) = found(&doors, &request, "/place/v1/preview/").await?;
    let most = hosted(&doors)?
        .place
        .look(|place| place.policy().deposits.preview_lines);
    let wanted = param(request.query_string(), "first_lines");
    let lines = wanted.map_or(PREVIEW_LINES, |lines| lines.trim().parse().unwrap_or(0));
    let deposits = count(&doors, &deposit.key.owner)?;
    let attested = hosted(&doors)?.place.look(|place| {
        let all = place.attestations_of(&deposit);
        all.map(Attestation::full).collect()
    });
    let told = deposit.preview(&content, lines.clamp(1, most), deposits, attested);
    Ok(tagged(reply::value(&told), deposit.content_hash))
}

/// What clients of the prototype ask for instead of [`preview`].
pub(in crate::http) async fn metadata(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let deposit = named(&doors, &request, "/place/v1/skills/metadata/")?;
    let facts = &deposit.facts;
    Ok(reply::value(&json!({
        "id": deposit.key.skill_id, "agent_id": deposit.key.owner, "name": facts.name,
        "description": facts.description, "layer": "L1", "format": facts.format,
        "tags": facts.tags, "version": facts.version,
        "content_hash": format!("sha256:{}", deposit.content_hash), "size_bytes": facts.bytes,
        "published_at": deposit.deposited_at.wire(), "expires_at": null,
    })))
}

/// What clients of the prototype ask for instead of [`content`].
pub(in crate::http) async fn prototype_content(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (deposit, content) = found(&doors, &request, "/place/v1/skills/content/").await?;
    handed_out(&doors, &request, &deposit)?;
    let hops = deposit
        .provenance
        .as_ref()
        .map_or(0, |origin| origin.hop_count);
    Ok(reply::value(&json!({
        "skill_id": deposit.key.skill_id, "agent_id": deposit.key.owner,
        "name": deposit.facts.name, "format": deposit.facts.format, "content": content,
        "content_hash": format!("sha256:{}", deposit.content_hash),
        "size_bytes": deposit.facts.bytes,
        "provenance": {
            "origin": deposit.key.owner, "published_at": deposit.first_deposited.wire(),
            "hop_count": hops + 1,
        },
    })))
}

fn previous(done: &Replaced) -> Vec<(&'static str, ContentHash)> {
    let before = done.before.map(|hash| ("previous_hash", hash));
    before.into_iter().collect()
}

/// Counts and records that a skill was taken.
fn handed_out(doors: &Doors, request: &HttpRequest, deposit: &Deposit) -> Result<(), ApiError> {
    let hosted = hosted(doors)?;
    hosted.place.count_exchange();
    let agents = vec![caller(request)?.agent_id, deposit.key.owner.clone()];
    let (name, hash) = (&deposit.facts.name, deposit.content_hash);
    record_exchange(&hosted, "acquire", name, hash, agents, Vec::new());
    Ok(())
}

fn count(doors: &Doors, owner: &AgentId) -> Result<usize, ApiError> {
    Ok(hosted(doors)?
        .place
        .look(|place| place.deposits_of(owner).count()))
}

/// The deposit that the path, and `owner` in the query, name.
fn named(doors: &Doors, request: &HttpRequest, prefix: &str) -> Result<Deposit, ApiError> {
    let skill_id = percent_decoded(rest(request, prefix));
    let owner = param(request.query_string(), "owner").filter(|owner| !owner.is_empty());
    let owner = owner.map(|id| id.parse::<AgentId>()).transpose();
    let owner = owner.map_err(|_| unknown(&skill_id))?;
    let find = |place: &MeetingPlace| place.find_deposit(&skill_id, owner.as_ref()).cloned();
    let found = hosted(doors)?.place.look(find);
    found.ok_or_else(|| unknown(&skill_id))
}

/// Like [`named`], with the content; both as they are stored, so that hash and signature are those of the content.
async fn found(
    doors: &Doors,
    request: &HttpRequest,
    prefix: &str,
) -> Result<(Deposit, String), ApiError> {
    let key = named(doors, request, prefix)?.key;
    let skill_id = key.skill_id.clone();
    let stored = hosted(doors)?.place.stored(key).await?;
    stored.ok_or_else(|| unknown(&skill_id))
}

fn unknown(skill_id: &str) -> ApiError {
    ApiError::not_found(format!("No deposited skill found: {}", quoted(skill_id)))
}

fn offer(members: &Map<String, Value>) -> Result<Offer, ApiError> {
    let text = |name: &'static str| {
        let told = body::optional_text(members, name, TEXT_MAX)?;
        Ok::<_, ApiError>(told.map(str::to_owned))
    };
    let content = body::optional_text(members, "content", usize::MAX)?;
    let tags = match members.get("tags") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(tags)) => tags
            .iter()
            .map(|tag| tag.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| ApiError::invalid("tags must be an array of strings"))?,
        Some(_) => return Err(ApiError::invalid("tags must be an array of strings")),
    };
    let provenance = match members.get("provenance") {
        None | Some(Value::Null) => None,
        Some(Value::Object(told)) => Some(told.clone()),
        Some(_) => return Err(ApiError::invalid("provenance must be an object")),
    };
    Ok(Offer {
        skill_id: text("skill_id")?.unwrap_or_default(),
        name: text("name")?,
        description: text("description")?,
        tags,
        format: text("format")?.unwrap_or_default(),
        content: content.unwrap_or_default().to_owned(),
        content_hash: text("content_hash")?,
        signature: text("signature")?,
        summary: text("summary")?,
        input_output: members
            .get("input_output")
            .filter(|v| !v.is_null())
            .cloned(),
        provenance,
    })
}

/// All reasons, in the reference's form of an answer.
fn rejected(code: &'static str, error: PlaceError) -> Result<HttpResponse, ApiError> {
    match error {
        PlaceError::Board(BoardError::Rejected(reasons)) => {
            let mut answer = reply::value(&json!({"error": code, "reasons": reasons}));
            *answer.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(answer)
        }
        error => Err(error.into()),
    }
}
