//! `POST /place/v1/register` and `POST /place/v1/unregister`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use kairos_actors::peer_manager::{Admission, Introduce};
use kairos_actors::recorder::Record;
use kairos_place::meeting_place::{Claim, Registered, Registration, Visitor};
use kairos_protocol::id::AgentId;
use kairos_protocol::wire::introduction::{IdentityFault, ReceivedIntroduction, VerifiedIdentity};
use kairos_protocol::wire::possession::{Possession, Proof};
use serde_json::{Map, Value, json};

use super::{banned, hosted, names_caller, quota, writer};
use crate::hosted::Hosted;
use crate::http::error::{ApiError, quoted};
use crate::http::meeting::introduce;
use crate::http::{Doors, body, guard, reply};

/// Longest text that is read into a registration; the Place has bounds of its own for each member.
const TEXT_MAX: usize = 16 * 1024;

/// Takes an agent in. With a signature that holds it also gets a session.
///
/// As at an introduction, a signature that does not hold is no error of HTTP: the answer says `identity_verified: false`
/// and why. With the member `possession` an agent asks for a challenge, or answers one and so proves to hold its key.
pub(in crate::http) async fn register(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let hosted = hosted(&doors)?;
    let members = body::read_object(payload, doors.body_limits).await?;
    let id = claimed_id(&members)?;
    let mut registration = registration(&members, id.clone())?;
    let address = doors.proxies.address(&request);
    let received = ReceivedIntroduction::new(members);
    let identity = match verified(&doors, &received) {
        Ok(identity) => identity,
        Err(fault) => {
            quota::registration(&doors, None, address, false)?;
            doors.peers.count_stranger(address)?;
            let done = hosted.place.register_from(registration, address).await?;
            forget(&hosted, &done).await;
            return Ok(reply::value(&unverified(&id, &done, &fault)));
        }
    };
    if identity.agent_id != id {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "identity_mismatch",
            format!(
                "The signed identity is that of {}, not of {id}",
                identity.agent_id
            ),
        ));
    }
    if doors.witness.is_convicted(&id) {
        return Err(ApiError::two_histories());
    }
    let (now, visitor) = (
        doors.clock.now(),
        Visitor {
            agent: Some(&id),
            key: Some(identity.key.hash()),
            address: Some(address),
        },
    );
    // Before a challenge is redeemed or a session replaced.
    if hosted
        .place
        .look(|place| place.banned(visitor, now).is_some())
    {
        return Err(banned());
    }
    let pinned = hosted
        .place
        .look(|place| place.key(&id).map(|key| key.hash()));
    let knows = pinned == Some(identity.key.hash());
    quota::registration(&doors, Some(identity.key.hash()), address, knows)?;
    let possession = received.possession();
    let guest = Introduce {
        identity: identity.clone(),
        proof: possession.proof,
        wants_challenge: possession.nonce.is_some(),
        address,
        replaces: guard::bearer(&request).map(str::to_owned),
    };
    let known = hosted.place.look(|place| place.agent(&id).is_some());
    let strength = doors.peers.receive_guest(&guest, known)?;
    registration.claim = Claim::Signed(identity.key.clone(), strength);
    let signed_name = Some(identity.name.clone()).filter(|name| !name.is_empty());
    registration.name = registration.name.or(signed_name);
    let done = hosted.place.register_from(registration, address).await?;
    forget(&hosted, &done).await;
    if done.new {
        hosted.recorder.record(Record::Registered {
            agent: id.clone(),
            key: identity.key.hash(),
        });
    }
    let admission = doors.peers.admit_guest(&guest, strength)?;
    let proof = match possession.nonce {
        Some(nonce) => Some(introduce::prove(&doors, &identity, nonce).await?),
        None => None,
    };
    tracing::info!(agent.id = %id, session.strength = strength.as_str(), "an agent registered");
    Ok(reply::value(&admitted(
        &doors, &id, &done, admission, proof,
    )))
}

fn verified(
    doors: &Doors,
    received: &ReceivedIntroduction,
) -> Result<VerifiedIdentity, IdentityFault> {
    let text = received.key_text().unwrap_or_default();
    let known = doors.keys.get(text);
    let identity = received.verify(known.as_ref())?;
    if known.is_none() {
        doors.keys.keep(text, &identity.key);
    }
    Ok(identity)
}

/// The member `id`, or `agent_id` as a client of the reference calls it.
fn claimed_id(members: &Map<String, Value>) -> Result<AgentId, ApiError> {
    let told = members.get("id").filter(|id| !id.is_null());
    match told.or_else(|| members.get("agent_id")) {
        None | Some(Value::Null) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "missing_id",
            "Agent id is required",
        )),
        Some(Value::String(id)) => id
            .parse()
            .map_err(|error| ApiError::invalid(format!("{} is no agent id: {error}", quoted(id)))),
        Some(_) => Err(ApiError::invalid("id must be a string")),
    }
}

fn registration(members: &Map<String, Value>, id: AgentId) -> Result<Registration, ApiError> {
    let of_identity = |name: &str| {
        let identity = members.get("identity")?.as_object()?;
        identity.get(name)?.as_str().map(str::to_owned)
    };
    let text = |name: &'static str| {
        let told = body::optional_text(members, name, TEXT_MAX)?;
        Ok::<_, ApiError>(told.map(str::to_owned))
    };
    Ok(Registration {
        id,
        name: text("name")?,
        description: text("description")?.or_else(|| of_identity("description")),
        scope: text("scope")?.or_else(|| of_identity("scope")),
        capabilities: members
            .get("capabilities")
            .filter(|c| !c.is_null())
            .cloned(),
        claim: Claim::Unsigned,
    })
}

/// Takes away the boxes and prekeys of agents that the registry forgot. Where it fails they end with their time, and
/// whoever registered is registered all the same.
async fn forget(hosted: &Hosted, done: &Registered) {
    for id in &done.forgotten {
        if let Err(error) = hosted.relay.forget(id.clone()).await {
            tracing::warn!(agent.id = %id, %error, "the box of a forgotten agent stays");
        }
    }
}

fn status(done: &Registered) -> &'static str {
    match done.new {
        true => "registered",
        false => "updated",
    }
}

fn unverified(id: &AgentId, done: &Registered, fault: &IdentityFault) -> Value {
    json!({
        "status": status(done), "agent_id": id, "identity_verified": false,
        "reason": fault.to_string(),
    })
}

fn admitted(
    doors: &Doors,
    id: &AgentId,
    done: &Registered,
    admission: Admission,
    proof: Option<Proof>,
) -> Value {
    let asks = admission.nonce.is_some();
    let possession = (asks || proof.is_some()).then(|| Possession {
        audience: asks.then(|| doors.signed.instance_id.clone()),
        expires_in: asks.then_some(doors.proof_window.as_secs()),
        nonce: admission.nonce,
        proof,
    });
    let mut told = json!({
        "status": status(done), "agent_id": id, "identity_verified": true,
        "session_token": admission.token, "session_strength": admission.strength.as_str(),
        "session_expires_in": admission.ttl.as_secs(),
    });
    if let (Value::Object(members), Some(possession)) = (&mut told, possession) {
        members.insert("possession".to_owned(), json!(possession));
    }
    told
}

/// Takes the caller off the registry, with its needs and deposits.
pub(in crate::http) async fn unregister(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let caller = writer(&doors, &request)?;
    let members = body::read_object(payload, doors.body_limits).await?;
    if !names_caller(&members, "agent_id", &caller.agent_id)? {
        let message = "agent_id is required";
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "missing_agent_id",
            message,
        ));
    }
    let id = caller.agent_id;
    let hosted = hosted(&doors)?;
    let was = hosted.place.unregister(id.clone()).await?;
    if was {
        hosted.relay.forget(id.clone()).await?;
    }
    let status = if was { "unregistered" } else { "not_found" };
    Ok(reply::value(&json!({"status": status, "agent_id": id})))
}
