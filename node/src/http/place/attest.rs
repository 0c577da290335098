//! `POST /place/v1/board/attest`: what the caller says of a deposit.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use kairos_actors::place::PlaceError;
use kairos_place::meeting_place::{AttestError, Attestation, Claimed, DepositKey, Outcome};
use kairos_protocol::hash::ContentHash;
use serde_json::{Value, json};

use super::once::{self, repeated};
use super::{hosted, quota, record_exchange};
use crate::http::error::ApiError;
use crate::http::{Doors, body, reply};

/// Longest text of a member that is read; the Place has bounds of its own.
const TEXT_MAX: usize = 8 * 1024;

/// Keeps an attestation.
pub(in crate::http) async fn attest(
    doors: web::Data<Doors>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let attester = quota::depositor(&doors, &request)?;
    let (members, once) = once::read(&doors, &request, payload, &attester).await?;
    let text = |name: &'static str| {
        let told = body::optional_text(&members, name, TEXT_MAX)?;
        Ok::<_, ApiError>(told.map(str::to_owned))
    };
    let (Some(skill_id), Some(owner), Some(claim)) =
        (text("skill_id")?, text("owner_agent_id")?, text("claim")?)
    else {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "missing_fields",
            "skill_id, owner_agent_id, and claim are required",
        ));
    };
    let claimed = Claimed {
        claim,
        evidence_hash: text("evidence_hash")?,
        signature: text("signature")?,
        signed_payload: text("signed_payload")?,
    };
    // What is no id is nobody's.
    let Ok(named) = owner.parse() else {
        return Ok(refused(&AttestError::NoDeposit { skill_id, owner }));
    };
    let deposit = DepositKey {
        owner: named,
        skill_id,
    };
    let hosted = hosted(&doors)?;
    let place = &hosted.place;
    match place
        .attest(attester, deposit, claimed, once, attested)
        .await
    {
        Ok(Outcome::Repeated(answer)) => Ok(repeated(answer)),
        Ok(Outcome::Done(kept)) => {
            let key = &kept.key;
            let agents = vec![key.attester.clone(), key.deposit.owner.clone()];
            let hashes = vec![("claim_hash", ContentHash::of(&key.claim))];
            let name = &key.deposit.skill_id;
            record_exchange(
                &hosted,
                "attestation",
                name,
                key.content_hash,
                agents,
                hashes,
            );
            Ok(reply::bytes(attested(&kept).into()))
        }
        Err(PlaceError::Attest(error)) => Ok(refused(&error)),
        Err(error) => Err(error.into()),
    }
}

fn attested(kept: &Attestation) -> String {
    let told = json!({
        "valid": true, "status": "attestation_deposited", "claim": kept.key.claim,
        "skill_id": kept.key.deposit.skill_id, "deposited_at": kept.deposited_at.wire(),
    });
    told.to_string()
}

/// A refusal in the reference's form, which has a list where an agent tried too often.
fn refused(error: &AttestError) -> HttpResponse {
    let told: Value = match error {
        AttestError::TooOften { .. } => json!({"valid": false, "errors": [error.to_string()]}),
        _ => json!({"valid": false, "error": error.word(), "message": error.to_string()}),
    };
    let mut answer = reply::value(&told);
    *answer.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    answer
}
