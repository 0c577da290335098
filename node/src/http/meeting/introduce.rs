//! `GET` and `POST /meeting/v1/introduce`, `POST /meeting/v1/goodbye`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use kairos_actors::peer_manager::{Admission, Introduce};
use kairos_protocol::wire::introduction::{IdentityFault, ReceivedIntroduction, VerifiedIdentity};
use kairos_protocol::wire::possession::{Possession, Proof, Side};
use serde_json::{Map, Value, json};

use crate::http::error::ApiError;
use crate::http::{Doors, body, guard, reply};

/// `GET`: who this agent is and what it offers.
pub(in crate::http) async fn get(doors: web::Data<Doors>) -> Result<HttpResponse, ApiError> {
    let listing = doors.listings.current().await?;
    Ok(reply::bytes(listing.introduction(doors.clock.now())))
}

/// `POST`: takes a peer's introduction, answers with ours, and opens a session if the peer's signature holds.
///
/// A signature that does not hold is no error of HTTP: the answer says `identity_verified: false` and why. With the
/// member `possession` a peer asks for a challenge, answers one, or asks us to prove who we are. An agent that showed two
/// histories gets 403, and what a peer shows of its ledger is noted behind the answer.
pub(in crate::http) async fn post(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let members = body::read_object(payload, doors.body_limits).await?;
    let echo = Echo::of(&members);
    let received = ReceivedIntroduction::new(members);
    let listing = doors.listings.current().await?;
    let ours = listing.introduction(doors.clock.now());
    let key_text = received.key_text().unwrap_or_default();
    let known = doors.keys.get(key_text);
    let identity = match received.verify(known.as_ref()) {
        Ok(identity) => {
            if known.is_none() {
                doors.keys.keep(key_text, &identity.key);
            }
            identity
        }
        Err(fault) => return Ok(reply::bytes(unverified(&ours, &echo, &fault).into())),
    };
    if doors.witness.is_convicted(&identity.agent_id) {
        return Err(ApiError::two_histories());
    }
    let possession = received.possession();
    let admission = doors
        .peers
        .introduce(Introduce {
            identity: identity.clone(),
            proof: possession.proof.clone(),
            wants_challenge: possession.nonce.is_some(),
            address: doors.proxies.address(&request),
            replaces: guard::bearer(&request).map(str::to_owned),
        })
        .await?;
    tracing::info!(
        peer.id = %identity.agent_id, session.strength = admission.strength.as_str(),
        "a peer introduced itself"
    );
    if let Some(ledger) = received.get("ledger") {
        doors.witness.visited(&identity, ledger);
    }
    let proof = match possession.nonce {
        Some(nonce) => Some(prove(&doors, &identity, nonce).await?),
        None => None,
    };
    Ok(reply::bytes(
        admitted(&doors, &ours, &echo, admission, proof).into(),
    ))
}

/// What an introduction gets back of itself.
struct Echo {
    from: Value,
    payload: Value,
}

impl Echo {
    fn of(members: &Map<String, Value>) -> Self {
        let member = |name: &str| members.get(name).cloned().unwrap_or_default();
        Self {
            from: member("from"),
            payload: member("payload"),
        }
    }

    fn result(&self) -> Value {
        json!({"status": "received", "action": "introduce", "from": self.from, "peer_identity": self.payload})
    }
}

/// Writes the answer around our introduction, which is already text.
fn answer(ours: &[u8], verified: bool, echo: &Echo, more: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(ours.len() + more.len() + 256);
    body.extend_from_slice(b"{\"status\":\"received\",\"peer_identity\":");
    body.extend_from_slice(ours);
    body.extend_from_slice(format!(",\"identity_verified\":{verified},\"result\":").as_bytes());
    body.extend_from_slice(echo.result().to_string().as_bytes());
    body.extend_from_slice(more.as_bytes());
    body.push(b'}');
    body
}

fn unverified(ours: &[u8], echo: &Echo, fault: &IdentityFault) -> Vec<u8> {
    answer(
        ours,
        false,
        echo,
        &format!(",\"reason\":{}", json!(fault.to_string())),
    )
}

fn admitted(
    doors: &Doors,
    ours: &[u8],
    echo: &Echo,
    admission: Admission,
    proof: Option<Proof>,
) -> Vec<u8> {
    let mut more = format!(
        ",\"session_token\":\"{}\",\"session_strength\":\"{}\",\"session_expires_in\":{}",
        admission.token,
        admission.strength.as_str(),
        admission.ttl.as_secs()
    );
    if admission.nonce.is_some() || proof.is_some() {
        let possession = Possession {
            audience: admission
                .nonce
                .is_some()
                .then(|| doors.signed.instance_id.clone()),
            expires_in: admission
                .nonce
                .is_some()
                .then_some(doors.proof_window.as_secs()),
            nonce: admission.nonce,
            proof,
        };
        more.push_str(&format!(",\"possession\":{}", json!(possession)));
    }
    answer(ours, true, echo, &more)
}

/// Signs the peer's nonce, off the threads that serve requests.
pub(in crate::http) async fn prove(
    doors: &Doors,
    peer: &VerifiedIdentity,
    nonce: String,
) -> Result<Proof, ApiError> {
    let (keypair, own) = (doors.keypair.clone(), doors.signed.instance_id.clone());
    let (audience, now) = (peer.agent_id.clone(), doors.clock.now());
    web::block(move || Proof::sign(Side::Host, &keypair, &own, &audience, &nonce, now))
        .await
        .map_err(|e| ApiError::internal(&e))?
        .map_err(|e| ApiError::internal(&e))
}

/// `POST /meeting/v1/goodbye`: ends the session in the header, known or not.
pub(in crate::http) async fn goodbye(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Some(token) = guard::bearer(&request) else {
        let message = "No session token provided";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "no_token", message));
    };
    doors.peers.close(token);
    Ok(reply::value(
        &json!({"status": "goodbye", "message": "Session ended"}),
    ))
}

#[cfg(test)]
mod tests {
    use kairos_protocol::json;

    use super::*;

    #[test]
    fn an_answer_is_one_json_object_with_members_in_order() {
        let echo = Echo {
            from: json!("f"),
            payload: Value::Null,
        };
        let body = unverified(b"{\"a\":1}", &echo, &IdentityFault::NoKey);
        let value = json::parse_object(&body).unwrap();
        let members: Vec<_> = value.keys().map(String::as_str).collect();
        assert_eq!(
            members,
            [
                "status",
                "peer_identity",
                "identity_verified",
                "result",
                "reason"
            ]
        );
        assert_eq!(value["result"]["from"], "f");
    }
}
