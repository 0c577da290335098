//! Sealed messages: `/place/v1/relay/{send,receive,peek,ack,status,stats,events}`, prekeys, and the audit.
//!
//! The Place reads none of them. Who sends and whose box is read is always the caller of the session.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, stream};
use kairos_actors::durable::is_out_of_space;
use kairos_actors::place::PlaceError;
use kairos_actors::recorder::Record;
use kairos_actors::relay::{Letter, RelayError, Subscription};
use kairos_place::meeting_place::{BoardError, Visitor};
use kairos_place::relay::audit::AuditFilter;
use kairos_place::relay::message::{BlobHash, Message, MessageType, RelayId, Sealed};
use kairos_place::relay::policy::Refusal;
use kairos_place::relay::prekey::Prekey;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use super::stay::Stay;
use super::{caller, hosted, names_caller, quota, rest, writer};
use crate::http::error::{ApiError, quoted};
use crate::http::query::{param, percent_decoded};
use crate::http::{Doors, body, reply};
use crate::operate::relay_entry;

/// Messages of an answer if nothing is said.
const LIMIT: usize = 10;
/// Entries of the audit if nothing is said.
const AUDIT_LIMIT: usize = 100;
/// Longest id, type or hash that is read.
const WORD_MAX: usize = 256;
/// Longest that somebody listens; a client that is cut off comes again, and shows its token.
const LISTEN_MAX: Duration = Duration::from_secs(600);

/// Puts a message into the box of its recipient.
pub(in crate::http) async fn send(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let caller = writer(&doors, &request)?;
    quota::message(&doors, &request, &caller)?;
    let from = caller.agent_id;
    // The blob may be as long as a body of another kind, and stands in one.
    let members = body::read_object(payload, doors.relay_body_limits).await?;
    require(&members, &["to", "encrypted_blob", "blob_hash"])?;
    names_caller(&members, "from", &from)?;
    let word = |name| body::required_text(&members, name, WORD_MAX);
    let to: AgentId = word("to")?
        .parse()
        .map_err(|error| ApiError::invalid(format!("to: {error}")))?;
    let kind = body::optional_text(&members, "message_type", WORD_MAX)?.unwrap_or("unknown");
    let message_type: MessageType = kind.parse().map_err(refused_word)?;
    let told: BlobHash = word("blob_hash")?.parse().map_err(refused_word)?;
    let blob = body::required_text(&members, "encrypted_blob", usize::MAX)?;
    if blob.is_empty() {
        return Err(ApiError::invalid("Encrypted blob cannot be empty"));
    }
    let relayed = {
        let (from, to, blob_hash) = (from.clone(), to.clone(), told.to_string());
        let (message_type, bytes) = (kind.to_owned(), blob.len() as u64);
        move |id: String| Record::Relayed {
            id,
            from,
            to,
            blob_hash,
            message_type,
            bytes,
        }
    };
    let sealed = Sealed::new(blob.to_owned(), told).map_err(refused_word)?;
    let id = chosen_id(&request, &members)?;
    let hosted = hosted(&doors)?;
    let (now, visitor) = (
        doors.clock.now(),
        Visitor {
            agent: Some(&to),
            ..Visitor::default()
        },
    );
    let (known, kept_out) = hosted.place.look(|place| {
        let known = place.key(&to).is_some() || place.agent(&to).is_some();
        (known, place.banned(visitor, now).is_some())
    });
    if kept_out {
        let message = format!("This Place takes no mail for agent {to}.");
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "recipient_refused",
            message,
        ));
    }
    let letter = Letter {
        id,
        from,
        to,
        known,
        message_type,
        sealed,
    };
    let sent = hosted.relay.send(letter).await;
    let sent = sent.map_err(|error| full_until(error, now))?;
    if !sent.repeated {
        let id = sent.id.as_str().to_owned();
        hosted.recorder.record(relayed(id));
    }
    let mut answer = reply::value(&json!({
        "relay_id": sent.id.as_str(), "status": "queued", "expires_at": sent.expires_at.wire(),
        "repeated": sent.repeated,
    }));
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}

/// The id that makes a repetition safe: the header `Idempotency-Key`, or the member `id`.
fn chosen_id(
    request: &HttpRequest,
    members: &Map<String, Value>,
) -> Result<Option<RelayId>, ApiError> {
    let header = request.headers().get("idempotency-key");
    let header = header.map(|value| {
        value
            .to_str()
            .map_err(|_| ApiError::invalid("Idempotency-Key"))
    });
    let told = match header.transpose()? {
        Some(key) => Some(key),
        None => body::optional_text(members, "id", WORD_MAX)?,
    };
    told.map(|id| id.parse().map_err(refused_word)).transpose()
}

/// What waits for the caller, the oldest first. As in the reference what is returned is removed, unless the caller says
/// `ack=explicit` and acknowledges later.
pub(in crate::http) async fn receive(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let agent = box_of_caller(&doors, &request)?;
    let query = request.query_string();
    let hosted = hosted(&doors)?;
    let relay = &hosted.relay;
    let page = match param(query, "ack").as_deref() {
        Some("explicit") => relay.receive(agent, after(query)?, limit(query)?).await?,
        _ => relay.receive_and_remove(agent, limit(query)?).await?,
    };
    Ok(reply::value(&json!({
        "count": page.messages.len(), "messages": shown(&page.messages), "next": page.next,
    })))
}

/// What waits for the caller; nothing is removed.
pub(in crate::http) async fn peek(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let agent = box_of_caller(&doors, &request)?;
    let query = request.query_string();
    let page = hosted(&doors)?
        .relay
        .receive(agent, after(query)?, limit(query)?)
        .await?;
    Ok(reply::value(&json!({
        "count": page.messages.len(), "messages": shown(&page.messages),
        "total_pending": page.pending, "next": page.next,
    })))
}

fn shown(messages: &[Message]) -> Vec<Value> {
    let one = |message: &Message| {
        let header = &message.kept.header;
        json!({
            "id": header.id.as_str(), "from": header.from,
            "message_type": header.message_type.as_str(), "encrypted_blob": message.sealed.text(),
            "blob_hash": header.hash.to_string(), "created_at": header.created_at.wire(),
            "seq": message.kept.seq,
        })
    };
    messages.iter().map(one).collect()
}

/// Removes messages that the caller has.
pub(in crate::http) async fn ack(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let agent = writer(&doors, &request)?.agent_id;
    let members = body::read_object(payload, doors.body_limits).await?;
    let Some(Value::Array(ids)) = members.get("ids") else {
        return Err(ApiError::invalid("ids must be an array of message ids"));
    };
    let one = |id: &Value| {
        let id = id
            .as_str()
            .ok_or_else(|| ApiError::invalid("ids must be strings"))?;
        id.parse::<RelayId>().map_err(refused_word)
    };
    let ids = ids.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let removed = hosted(&doors)?.relay.ack(agent, ids).await?;
    let removed: Vec<&str> = removed.iter().map(RelayId::as_str).collect();
    Ok(reply::value(
        &json!({"status": "acknowledged", "removed": removed}),
    ))
}

/// How much waits for the caller.
pub(in crate::http) async fn status(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let agent = box_of_caller(&doors, &request)?;
    let pending = hosted(&doors)?.relay.status(agent.clone()).await?;
    let time = |at: Option<Timestamp>| at.map(|at| at.wire());
    Ok(reply::value(&json!({
        "agent_id": agent, "pending_count": pending.count, "oldest_at": time(pending.oldest_at),
        "newest_at": time(pending.newest_at),
    })))
}

/// How much waits for all.
pub(in crate::http) async fn stats(doors: web::Data<Doors>) -> Result<HttpResponse, ApiError> {
    let stats = hosted(&doors)?.relay.stats().await?;
    let now = doors.clock.now();
    let waiting = stats.waiting;
    Ok(reply::value(&json!({
        "total_messages": waiting.count, "active_queues": stats.boxes,
        "oldest_message": stats.oldest_at.map(|at| now.since(at).as_secs()),
        "total_size_bytes": waiting.bytes,
        "average_size_bytes": waiting.bytes.checked_div(waiting.count).unwrap_or(0),
        "max_size_bytes": stats.largest,
    })))
}

/// Tells the caller of mail while it listens: an event `mail` at once if some waits, and one whenever some came.
pub(in crate::http) async fn events(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let agent = box_of_caller(&doors, &request)?;
    let hosted = hosted(&doors)?;
    // Listening comes before looking, so that nothing that comes in between is missed.
    let subscription = hosted.relay.subscribe(agent.clone())?;
    let waits = hosted.relay.status(agent).await?.count > 0;
    let first = match waits {
        true => "event: mail\ndata: {}\n\n",
        false => ": listening\n\n",
    };
    let stay = Stay::new(&doors, &hosted, &request);
    let later = stream::unfold(
        (subscription, stay),
        |(mut subscription, mut stay)| async move {
            let mail = mail(&mut subscription, &mut stay);
            let event = match tokio::time::timeout(KEEP_ALIVE, mail).await {
                Ok(Some(())) => "event: mail\ndata: {}\n\n",
                Ok(None) => return None,
                Err(_) => ": still here\n\n",
            };
            Some((
                Ok::<_, Infallible>(Bytes::from_static(event.as_bytes())),
                (subscription, stay),
            ))
        },
    );
    let first = stream::iter([Ok(Bytes::from_static(first.as_bytes()))]);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_ENCODING, "identity"))
        .streaming(
            first
                .chain(later)
                .take_until(tokio::time::sleep(LISTEN_MAX)),
        ))
}

/// Waits for mail; nothing once there is nobody any more to tell, or nobody who may be told.
async fn mail(subscription: &mut Subscription, stay: &mut Stay) -> Option<()> {
    tokio::select! {
        biased;
        () = stay.over() => None,
        mail = subscription.mail() => mail.map(drop),
    }
}

/// How often a listener hears something, so that nobody in between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// Publishes prekeys of the caller: `signed` and `one_time`, each `{id, record}` with the record in base64.
pub(in crate::http) async fn publish_prekeys(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let agent = writer(&doors, &request)?.agent_id;
    if hosted(&doors)?
        .place
        .look(|place| place.agent(&agent).is_none())
    {
        return Err(PlaceError::from(BoardError::NotPresent(agent)).into());
    }
    let members = body::read_object(payload, doors.body_limits).await?;
    let signed = prekey(members.get("signed").unwrap_or(&Value::Null))?;
    let one_time = match members.get("one_time") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(keys)) => keys.iter().map(prekey).collect::<Result<_, _>>()?,
        Some(_) => return Err(ApiError::invalid("one_time must be an array")),
    };
    let published = hosted(&doors)?
        .relay
        .publish(agent.clone(), signed, one_time)
        .await?;
    Ok(reply::value(&json!({
        "status": "published", "agent_id": agent, "signed": published.signed.as_str(),
        "one_time_waiting": published.one_time,
    })))
}

/// What the caller has published, so that it knows when to publish more.
pub(in crate::http) async fn published_prekeys(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let agent = writer(&doors, &request)?.agent_id;
    let hosted = hosted(&doors)?;
    let published = hosted.relay.published(agent.clone()).await?;
    let signed = published
        .as_ref()
        .map(|published| published.signed.as_str());
    let waiting = published.as_ref().map_or(0, |published| published.one_time);
    Ok(reply::value(&json!({
        "agent_id": agent, "signed": signed, "one_time_waiting": waiting,
        "one_time_max": hosted.relay.policy().one_time_prekeys,
    })))
}

fn prekey(value: &Value) -> Result<Prekey, ApiError> {
    let wrong =
        || ApiError::invalid("a prekey is an object with `id` and `record`, the record in base64");
    let id = value.get("id").and_then(Value::as_str).ok_or_else(wrong)?;
    let record = value
        .get("record")
        .and_then(Value::as_str)
        .ok_or_else(wrong)?;
    let record = STANDARD.decode(record).map_err(|_| wrong())?;
    let id = id
        .parse()
        .map_err(|error| ApiError::invalid(format!("{error}")))?;
    Prekey::new(id, record).map_err(|error| ApiError::invalid(error.to_string()))
}

/// Hands out prekeys of an agent: each one-time key to one caller only.
pub(in crate::http) async fn take_prekeys(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let requester = writer(&doors, &request)?.agent_id;
    let wanted = percent_decoded(rest(&request, "/place/v1/prekeys/"));
    let unknown = || ApiError::not_found(format!("No prekeys for agent: {}", quoted(&wanted)));
    let agent: AgentId = wanted.parse().map_err(|_| unknown())?;
    // Whom the operator keeps out is not spoken of.
    if !hosted(&doors)?.place.look(|place| place.is_shown(&agent)) {
        return Err(unknown());
    }
    let taken = hosted(&doors)?.relay.take(requester, agent.clone()).await?;
    let taken = taken.ok_or_else(unknown)?;
    let shown =
        |key: &Prekey| json!({"id": key.id().as_str(), "record": STANDARD.encode(key.record())});
    Ok(reply::value(&json!({
        "agent_id": agent, "signed": shown(&taken.signed),
        "one_time": taken.one_time.as_ref().map(shown),
    })))
}

/// The key of the caller, again: it is pinned by its registration, and no other is taken.
pub(in crate::http) async fn register_key(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let agent = writer(&doors, &request)?.agent_id;
    let members = body::read_object(payload, doors.body_limits).await?;
    require(&members, &["agent_id", "public_key"])?;
    names_caller(&members, "agent_id", &agent)?;
    let pem = body::required_text(&members, "public_key", 16 * 1024)?;
    let key = kairos_protocol::crypto::PublicKey::from_pem(pem)
        .map_err(|error| ApiError::invalid(format!("public_key: {error}")))?;
    let pinned = hosted(&doors)?
        .place
        .look(|place| place.key(&agent).map(|key| key.hash()));
    match pinned {
        Some(pinned) if pinned == key.hash() => {
            let mut answer = reply::value(&json!({
                "status": "registered", "agent_id": agent, "fingerprint": key.fingerprint(),
            }));
            *answer.status_mut() = StatusCode::CREATED;
            Ok(answer)
        }
        Some(_) => Err(ApiError::new(
            StatusCode::CONFLICT,
            "identity_conflict",
            "This agent is known by another key, which a message cannot replace.",
        )),
        None => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not_registered",
            "Register with a signed identity first; the key comes with it.",
        )),
    }
}

/// What was relayed from and to the caller, without content, the newest first.
pub(in crate::http) async fn audit(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let caller = writer(&doors, &request)?.agent_id;
    let query = request.query_string();
    let before = number(query, "before")?;
    let since = param(query, "since").map(|since| Timestamp::parse(&since));
    let since = since
        .transpose()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let limit =
        param(query, "limit").map_or(AUDIT_LIMIT, |limit| limit.trim().parse().unwrap_or(0));
    let wanted = AuditFilter {
        since,
        participant: Some(caller),
    };
    let page = hosted(&doors)?.relay.audit(before, wanted, limit).await?;
    let kind = param(query, "type").filter(|kind| !kind.is_empty());
    let entries: Vec<Value> = match kind.is_none_or(|kind| kind == "relay") {
        true => page.entries.iter().map(relay_entry).collect(),
        false => Vec::new(),
    };
    Ok(reply::value(&json!({
        "count": entries.len(), "entries": entries, "next": page.next,
        "note": "Who, when, how much, and the hash of what was sealed. The Place knows no more.",
    })))
}

/// Figures of the last hours.
pub(in crate::http) async fn audit_stats(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller(&request)?;
    let hours = number(request.query_string(), "hours")?.unwrap_or(24);
    let hours = u32::try_from(hours).unwrap_or(u32::MAX).max(1);
    let hosted = hosted(&doors)?;
    let relay = &hosted.relay;
    let (by_hour, total) = (relay.audit_hours(hours).await?, relay.relayed().await?);
    let one = |(hour, stats): (&Timestamp, &kairos_place::relay::audit::HourStats)| {
        let name = hour.wire().get(..13).unwrap_or_default().replace('T', " ");
        let figures = json!({
            "relay_count": stats.relays, "total_bytes": stats.bytes, "unique_agents": stats.agents,
        });
        (format!("{name}:00"), figures)
    };
    let hourly: Map<String, Value> = by_hour.iter().map(one).collect();
    Ok(reply::value(&json!({
        "summary": {"total_relays": total.count, "total_bytes_relayed": total.bytes},
        "hourly": hourly,
    })))
}

/// The caller's own box, which the query may name.
fn box_of_caller(doors: &Doors, request: &HttpRequest) -> Result<AgentId, ApiError> {
    let agent = writer(doors, request)?.agent_id;
    match param(request.query_string(), "agent_id") {
        Some(named) if named != agent.as_str() => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not_yours",
            format!(
                "The token is that of agent {agent}, agent_id names {}",
                quoted(&named)
            ),
        )),
        _ => Ok(agent),
    }
}

fn number(query: &str, name: &str) -> Result<Option<u64>, ApiError> {
    let told = param(query, name).filter(|text| !text.is_empty());
    let parsed = told.map(|text| text.trim().parse()).transpose();
    parsed.map_err(|_| ApiError::invalid(format!("{name} must be a number")))
}

fn after(query: &str) -> Result<u64, ApiError> {
    Ok(number(query, "after")?.unwrap_or(0))
}

fn limit(query: &str) -> Result<usize, ApiError> {
    let told = number(query, "limit")?;
    Ok(told.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
}

/// Refuses a body without one of `names`, in the words of the prototype.
fn require(members: &Map<String, Value>, names: &[&str]) -> Result<(), ApiError> {
    for name in names {
        if members.get(*name).is_none_or(Value::is_null) {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "missing_param",
                format!("`{name}` is required"),
            ));
        }
    }
    Ok(())
}

fn refused_word(error: kairos_place::relay::message::MessageError) -> ApiError {
    ApiError::invalid(error.to_string())
}

/// Says when it is worth trying again, where the relay told.
fn full_until(error: RelayError, now: Timestamp) -> ApiError {
    match &error {
        RelayError::Refused(Refusal::Full { retry_at, .. }) => {
            let wait = retry_at.since(now);
            ApiError::from(error).after(wait)
        }
        _ => error.into(),
    }
}

impl From<RelayError> for ApiError {
    fn from(error: RelayError) -> Self {
        let text = error.to_string();
        match error {
            RelayError::Refused(refusal) => match refusal {
                Refusal::TooLarge { limit, .. } => Self::new(
                    StatusCode::BAD_REQUEST,
                    "too_large",
                    format!("Message exceeds maximum size ({limit} bytes)"),
                ),
                Refusal::Full { .. } => {
                    Self::new(StatusCode::TOO_MANY_REQUESTS, "relay_full", text)
                }
                Refusal::Conflict { .. }
                | Refusal::IdTaken { .. }
                | Refusal::PrekeyConflict { .. } => {
                    Self::new(StatusCode::CONFLICT, "id_in_use", text)
                }
                Refusal::TooMany { .. } => Self::invalid(text),
                Refusal::PrekeysFull { .. } | Refusal::PrekeyAgentsFull { .. } => {
                    Self::new(StatusCode::TOO_MANY_REQUESTS, "prekeys_full", text)
                }
            },
            RelayError::Subscribers { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_listeners", text)
                    .after(Duration::from_secs(60))
            }
            RelayError::Ask(error) => error.into(),
            RelayError::Store(_) if is_out_of_space(&error) => Self::failed(&error),
            RelayError::Store(_) => {
                let message = "The relay cannot store anything at the moment; whether it took effect is unknown.";
                let refused = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "storage_unavailable",
                    message,
                );
                let request = refused.request_id();
                tracing::error!(request.id = %request, %error, "the relay could not store what it was asked to");
                refused.after(Duration::from_secs(30))
            }
            RelayError::Random(_) | RelayError::Crashed => Self::failed(&error),
        }
    }
}
