//! SkillSets at the Place: `/place/v1/skillset_{deposit,browse,content,withdraw}`.

use std::convert::Infallible;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use kairos_actors::place::PlaceError;
use kairos_place::meeting_place::{
    Condition, Outcome, SkillSetDeposit, SkillSetFault, SkillSetOffer,
};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{AgentId, SkillSetName};
use kairos_protocol::skill_set::parse_name;
use serde_json::{Map, Value, json};

use super::condition::{condition, tagged};
use super::once::{once, repeated};
use super::transfers::Transfer;
use super::{caller, hosted, quota, record_exchange, writer};
use crate::hosted::Hosted;
use crate::http::error::{ApiError, quoted};
use crate::http::query::{count, param};
use crate::http::{Doors, body, reply};

/// Entries of an answer if nothing is said.
const LIMIT: usize = 20;
/// Longest text of a member, but for the archive, that is read.
const TEXT_MAX: usize = 8 * 1024;
/// Bytes of an answer that are sent at once.
const PIECE: usize = 64 * 1024;

/// Leaves a SkillSet here.
pub(in crate::http) async fn deposit(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let owner = quota::depositor(&doors, &request)?;
    let condition = condition(&request, Condition::Unsaid)?;
    let hosted = hosted(&doors)?;
    let _on_its_way = doors.transfers.begin(&owner)?;
    let body = body::read(payload, doors.archive_body_limits).await?;
    // Megabytes of text are not for a thread that serves requests.
    let read = web::block(move || (ContentHash::of(&body), offer(&body))).await;
    let (hash, offer) = read.map_err(|error| ApiError::internal(&error))?;
    let once = once(&request, &owner, hash)?;
    let place = &hosted.place;
    match place
        .deposit_skill_set(owner, offer?, condition, once, deposited)
        .await
    {
        Ok(Outcome::Repeated(answer)) => Ok(repeated(answer)),
        Ok(Outcome::Done(set)) => {
            let agents = vec![set.key.owner.clone()];
            record(&hosted, "skillset_deposit", &set, agents, Vec::new());
            Ok(tagged(
                reply::bytes(deposited(&set).into()),
                set.content_hash,
            ))
        }
        Err(error) => Err(error.into()),
    }
}

fn deposited(set: &SkillSetDeposit) -> String {
    let told = json!({
        "status": "deposited", "name": set.key.name, "version": set.version,
        "content_hash": set.content_hash, "file_count": set.file_list.len(),
        "trust_notice": set.trust_notice(),
    });
    told.to_string()
}

fn offer(body: &[u8]) -> Result<SkillSetOffer, ApiError> {
    let members = body::object(body)?;
    let bad = |code, message: String| ApiError::new(StatusCode::BAD_REQUEST, code, message);
    let text = |name: &'static str| {
        let told = body::optional_text(&members, name, TEXT_MAX)?;
        Ok::<_, ApiError>(told.unwrap_or_default().to_owned())
    };
    let name = named(&text("name")?)?;
    let archive = body::optional_text(&members, "archive_base64", usize::MAX)?;
    let archive = archive
        .filter(|text| !text.is_empty())
        .ok_or_else(|| bad("missing_archive", "archive_base64 is required".to_owned()))?;
    let archive = STANDARD
        .decode(archive)
        .map_err(|error| bad("invalid_base64", format!("Invalid Base64: {error}")))?;
    Ok(SkillSetOffer {
        name,
        version: text("version")?,
        description: text("description")?,
        content_hash: text("content_hash")?,
        signature: Some(text("signature")?),
        file_list: words(&members, "file_list")?,
        tags: words(&members, "tags")?,
        provides: words(&members, "provides")?,
        archive,
    })
}

fn named(text: &str) -> Result<SkillSetName, ApiError> {
    parse_name(text.trim()).map_err(|_| {
        let message = format!("Invalid SkillSet name: {}", quoted(text));
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_name", message)
    })
}

fn words(members: &Map<String, Value>, name: &'static str) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::invalid(format!("{name} must be an array of strings"));
    match members.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list
            .iter()
            .map(|word| word.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(wrong),
        Some(_) => Err(wrong()),
    }
}

/// SkillSets that are here: a random choice in random order.
pub(in crate::http) async fn browse(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let query = request.query_string();
    let search = param(query, "search").unwrap_or_default();
    let limit = param(query, "limit").map_or(LIMIT, |limit| count(&limit));
    let hosted = hosted(&doors)?;
    let found = hosted.place.browse_skill_sets(&search, limit).await?;
    let (returned, total) = (found.entries.len(), found.total);
    let sampling = match total > returned {
        true => "random_sample",
        false => "all_shuffled",
    };
    let body = format!(
        "{{\"entries\":[{}],\"total_available\":{total},\"returned\":{returned},\"sampling\":\"{sampling}\"}}",
        found.entries.join(",")
    );
    Ok(reply::bytes(body.into()))
}

/// A whole SkillSet.
pub(in crate::http) async fn content(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let reader = caller(&request)?.agent_id;
    let query = request.query_string();
    let text = |name| param(query, name).map(|text| text.trim().to_owned());
    let wanted = text("name").unwrap_or_default();
    if wanted.is_empty() {
        return Err(missing_name("Query parameter \"name\" is required"));
    }
    let unknown = || not_found(&wanted);
    let name = wanted.parse::<SkillSetName>().map_err(|_| unknown())?;
    let owner = text("depositor").filter(|owner| !owner.is_empty());
    let owner = owner.map(|owner| owner.parse::<AgentId>()).transpose();
    let owner = owner.map_err(|_| unknown())?;
    let hosted = hosted(&doors)?;
    let found = hosted.place.look(|place| {
        let key = place.find_skill_set(&name, owner.as_ref())?.key.clone();
        let owner_key = place.key(&key.owner).cloned();
        Ok((key, owner_key))
    });
    let (key, owner_key) = match found {
        Ok(found) => found,
        Err(fault @ SkillSetFault::Ambiguous { .. }) => return Ok(ambiguous(&fault)),
        Err(fault) => return Err(PlaceError::from(fault).into()),
    };
    let transfer = doors.transfers.begin(&reader)?;
    let written = hosted.place.stored_skill_set(key, move |set, archive| {
        let pem = owner_key.and_then(|key| key.parse().ok()).map(|key| key.to_pem());
        let told = json!({
            "name": set.key.name, "version": set.version, "archive_base64": STANDARD.encode(archive),
            "content_hash": set.content_hash, "signature": set.signature,
            "depositor_id": set.key.owner, "depositor_public_key": pem, "provides": set.provides,
            "file_list": set.file_list, "trust_notice": set.trust_notice(),
        });
        (told.to_string(), set)
    });
    let (text, set) = written.await?.ok_or_else(unknown)?;
    let agents = vec![reader, set.key.owner.clone()];
    record(&hosted, "skillset_content_served", &set, agents, Vec::new());
    Ok(tagged(in_pieces(text.into(), transfer), set.content_hash))
}

/// Sends an answer so that whoever reads it slowly is counted for as long.
fn in_pieces(all: Bytes, transfer: Transfer) -> HttpResponse {
    let size = all.len() as u64;
    let pieces = stream::unfold((all, transfer), |(mut rest, transfer)| async move {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(rest.len().min(PIECE));
        Some((Ok::<_, Infallible>(piece), (rest, transfer)))
    });
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-cache"))
        .content_type("application/json")
        .body(SizedStream::new(size, Box::pin(pieces)))
}

/// Takes a SkillSet of the caller's off.
pub(in crate::http) async fn withdraw(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let owner = writer(&doors, &request)?.agent_id;
    let condition = condition(&request, Condition::Any)?;
    let members = body::read_object(payload, doors.body_limits).await?;
    let text = |name: &'static str| {
        let told = body::optional_text(&members, name, TEXT_MAX)?;
        Ok::<_, ApiError>(told.unwrap_or_default().trim().to_owned())
    };
    let wanted = text("name")?;
    if wanted.is_empty() {
        return Err(missing_name("Field \"name\" is required"));
    }
    let reason = text("reason")?;
    if reason.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "reason_required",
            "A reason is required for withdrawal.",
        ));
    }
    let name = wanted.parse::<SkillSetName>();
    let name = name.map_err(|_| not_found(&wanted))?;
    let hosted = hosted(&doors)?;
    let set = hosted
        .place
        .withdraw_skill_set(owner, name, condition)
        .await?;
    let (agents, hashes) = (
        vec![set.key.owner.clone()],
        vec![("reason_hash", ContentHash::of(reason))],
    );
    let recorded = record(&hosted, "skillset_withdraw", &set, agents, hashes);
    Ok(reply::value(&json!({
        "status": "withdrawn", "name": set.key.name, "version": set.version,
        "depositor_id": set.key.owner, "chain_recorded": recorded,
        "note": "Copies that others took before are theirs and stay.",
    })))
}

fn record(
    hosted: &Hosted,
    event: &'static str,
    set: &SkillSetDeposit,
    agents: Vec<AgentId>,
    hashes: Vec<(&'static str, ContentHash)>,
) -> Value {
    let (name, hash) = (set.key.name.as_str(), set.content_hash);
    record_exchange(hosted, event, name, hash, agents, hashes)
}

fn missing_name(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "missing_name", message)
}

fn not_found(name: &str) -> ApiError {
    ApiError::not_found(SkillSetFault::NotFound(quoted(name)).to_string())
}

/// Says between whom the caller has to choose.
fn ambiguous(fault: &SkillSetFault) -> HttpResponse {
    let depositors = match fault {
        SkillSetFault::Ambiguous { depositors, .. } => depositors.as_slice(),
        _ => &[],
    };
    let mut answer = reply::value(&json!({
        "error": fault.word(), "message": fault.to_string(), "depositors": depositors,
    }));
    *answer.status_mut() = StatusCode::CONFLICT;
    answer
}

/// The status of a refusal.
pub(super) fn status(fault: &SkillSetFault) -> StatusCode {
    match fault {
        SkillSetFault::NotGzip(_) | SkillSetFault::Tags => StatusCode::BAD_REQUEST,
        SkillSetFault::NotFound(_) => StatusCode::NOT_FOUND,
        SkillSetFault::Ambiguous { .. } | SkillSetFault::Stale { .. } => StatusCode::CONFLICT,
        SkillSetFault::Changed { .. } => StatusCode::PRECONDITION_FAILED,
        SkillSetFault::NotPresent(_) => StatusCode::FORBIDDEN,
        SkillSetFault::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
        SkillSetFault::TooLarge(_)
        | SkillSetFault::Executable(_)
        | SkillSetFault::Scan(_)
        | SkillSetFault::HashMismatch { .. }
        | SkillSetFault::Structure(_)
        | SkillSetFault::Traversal(_)
        | SkillSetFault::Unreadable(_)
        | SkillSetFault::Unsigned
        | SkillSetFault::NoKey
        | SkillSetFault::SignatureInvalid
        | SkillSetFault::AgentFull { .. }
        | SkillSetFault::Full { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    }
}
