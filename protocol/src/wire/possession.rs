//! Proof of possession: an introduction is replayable, so a peer that wants to do more than read proves that it
//! holds its key *now*, to *this* audience, for one nonce that is never accepted twice.
//!
//! Both sides may ask. The member `possession` of an introduction or its reply carries a fresh nonce for the
//! other side, a proof for the nonce received before, or both. Peers that do not know the member ignore it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::crypto::{KeyError, Keypair, PublicKey};
use crate::id::AgentId;
use crate::json;
use crate::time::Timestamp;

/// Length of a nonce in hex digits.
pub const NONCE_LEN: usize = 64;

/// Who answers a challenge. The two sides sign different texts: what a host signs for any caller would else open a
/// session in the host's name at the agent whose challenge the caller passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who introduces itself; its proof opens a session.
    Guest,
    /// Who is introduced to; its proof opens nothing.
    Host,
}

impl Side {
    /// Separates these signatures from everything else the key signs.
    fn purpose(self) -> &'static str {
        match self {
            Self::Guest => "kairos-possession-v1",
            Self::Host => "kairos-possession-host-v1",
        }
    }
}

/// The member `possession` of an introduction or of its reply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Possession {
    /// A nonce the receiver is asked to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Whom the proof must name: the sender of the nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<AgentId>,
    /// Seconds for which the nonce is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// The answer to a nonce received before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// A signature over nonce, audience, prover and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The nonce that was asked to be signed.
    pub nonce: String,
    /// Who asked.
    pub audience: AgentId,
    /// When it was signed.
    pub timestamp: String,
    /// RSA signature over the canonical text.
    pub signature: String,
}

/// Why a proof was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Made for somebody else.
    #[error("the proof names another audience")]
    Audience,
    /// Outside the window around the verifier's clock.
    #[error("the proof's time differs from ours by more than {} seconds; check both clocks", .window.as_secs())]
    Time {
        /// The window allowed to either side.
        window: Duration,
    },
    /// Unknown, expired or already used.
    #[error("the nonce is unknown, expired or already used")]
    Nonce,
    /// The signature does not fit.
    #[error("the proof's signature does not match")]
    Signature,
}

impl Proof {
    /// Signs `nonce` for `audience` on behalf of `prover`, who is on the given side.
    pub fn sign(
        side: Side,
        keypair: &Keypair,
        prover: &AgentId,
        audience: &AgentId,
        nonce: &str,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        let timestamp = now.wire();
        let signature = keypair.sign(text(side, prover, audience, nonce, &timestamp).as_bytes())?;
        Ok(Self {
            nonce: nonce.to_owned(),
            audience: audience.clone(),
            timestamp,
            signature,
        })
    }

    /// Checks everything but that the nonce is one of ours and unused, which only its keeper knows. `side` is the
    /// prover's.
    pub fn verify(
        &self,
        side: Side,
        key: &PublicKey,
        prover: &AgentId,
        audience: &AgentId,
        now: Timestamp,
        window: Duration,
    ) -> Result<(), ProofError> {
        if &self.audience != audience {
            return Err(ProofError::Audience);
        }
        let signed_at =
            Timestamp::parse(&self.timestamp).map_err(|_| ProofError::Time { window })?;
        if signed_at.since(now).max(now.since(signed_at)) > window {
            return Err(ProofError::Time { window });
        }
        key.verify(
            text(side, prover, audience, &self.nonce, &self.timestamp).as_bytes(),
            &self.signature,
        )
        .map_err(|_| ProofError::Signature)
    }
}

fn text(side: Side, prover: &AgentId, audience: &AgentId, nonce: &str, timestamp: &str) -> String {
    let statement = json!({
        "purpose": side.purpose(), "prover": prover, "audience": audience, "nonce": nonce, "timestamp": timestamp,
    });
    json::canonical(&statement)
}

impl Possession {
    /// Reads the member from a received object; anything malformed counts as absent, as for peers that do not
    /// know it.
    pub fn from_member(value: Option<&Value>) -> Self {
        let parsed: Option<Self> = value.and_then(|v| Self::deserialize(v).ok());
        parsed
            .filter(|p| p.nonce.as_deref().is_none_or(is_nonce))
            .unwrap_or_default()
    }
}

/// Whether `text` has the form of a nonce: [`NONCE_LEN`] lower-case hex digits.
pub fn is_nonce(text: &str) -> bool {
    text.len() == NONCE_LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_prover_audience_nonce_and_time_only() {
        let keypair = Keypair::generate().unwrap();
        let key = keypair.public();
        let [a, b]: [AgentId; 2] = ["agent-a", "agent-b"].map(|id| id.parse().unwrap());
        let now = Timestamp::from_secs(1_800_000_000);
        let window = Duration::from_secs(60);
        let guest = Side::Guest;
        let proof = Proof::sign(guest, &keypair, &a, &b, &"0".repeat(64), now).unwrap();
        assert_eq!(proof.verify(guest, key, &a, &b, now, window), Ok(()));
        assert_eq!(
            proof.verify(Side::Host, key, &a, &b, now, window),
            Err(ProofError::Signature)
        );
        assert_eq!(
            proof.verify(guest, key, &a, &a, now, window),
            Err(ProofError::Audience)
        );
        assert_eq!(
            proof.verify(guest, key, &b, &b, now, window),
            Err(ProofError::Signature)
        );
        let late = now.plus(Duration::from_secs(61));
        assert_eq!(
            proof.verify(guest, key, &a, &b, late, window),
            Err(ProofError::Time { window })
        );
        let early = now.minus(Duration::from_secs(61));
        assert_eq!(
            proof.verify(guest, key, &a, &b, early, window),
            Err(ProofError::Time { window })
        );
        let other = Proof {
            nonce: "1".repeat(64),
            ..proof
        };
        assert_eq!(
            other.verify(guest, key, &a, &b, now, window),
            Err(ProofError::Signature)
        );
    }

    #[test]
    fn a_malformed_member_counts_as_absent() {
        for bad in [
            json!("x"),
            json!({"nonce": 1}),
            json!({"nonce": "short"}),
            json!({"proof": {}}),
        ] {
            assert_eq!(
                Possession::from_member(Some(&bad)),
                Possession::default(),
                "{bad}"
            );
        }
    }
}
