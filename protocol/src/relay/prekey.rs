//! Prekeys: short-lived X25519 keys that an agent leaves at a Place so that others can seal to it while it is away.
//!
//! Each is signed by the identity. A one-time prekey is handed out once, and its secret is erased with the message it
//! opened: whoever gets the identity later cannot read that message. Where none is left, the long-lived one serves.

use std::fmt;
use std::time::Duration;

use hpke::{Deserializable as _, Kem as _, Serializable as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;
use zeroize::Zeroizing;

use super::base64_text;
use crate::crypto::{KeyError, Keypair, PublicKey, SignatureError, random_bytes};
use crate::hash::ContentHash;
use crate::id::{AgentId, PrekeyId};
use crate::json;
use crate::time::Timestamp;
use crate::wire_time;

/// Longest time from the making of a prekey to its end.
pub const PREKEY_LIFETIME_MAX: Duration = Duration::from_hours(24 * 90);
/// How far the clock of whoever made a prekey may be ahead of ours.
pub const SKEW: Duration = Duration::from_mins(5);
/// Separates these signatures from everything else an identity signs.
const PURPOSE: &str = "kairos-prekey-v1";

/// The key agreement of version 2: DHKEM(X25519, HKDF-SHA256).
pub(super) type Kem = hpke::kem::X25519HkdfSha256;

/// How often a prekey is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrekeyKind {
    /// For one message.
    OneTime,
    /// For every message until it ends, where no one-time prekey is left.
    LongLived,
}

/// Why nothing is sealed to a prekey.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrekeyError {
    /// It is of somebody else.
    #[error("the prekey belongs to `{0}`")]
    Agent(AgentId),
    /// A one-time prekey where the long-lived one belongs, or the other way round.
    #[error("the prekey is of another kind")]
    Kind,
    /// Its id is not that of its bytes.
    #[error("the prekey's id does not belong to its bytes")]
    Id,
    /// The identity did not sign it.
    #[error("the prekey's signature: {0}")]
    Signature(#[from] SignatureError),
    /// It begins in the future, or lasts longer than [`PREKEY_LIFETIME_MAX`].
    #[error("the prekey is good from {created} to {expires}, which is not acceptable now")]
    Lifetime {
        /// When it was made.
        created: Timestamp,
        /// When it ends.
        expires: Timestamp,
    },
    /// It is over.
    #[error("the prekey expired at {0}")]
    Expired(Timestamp),
}

/// The public half of a prekey, signed by its owner's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prekey {
    /// Whose.
    pub agent_id: AgentId,
    /// How often it is used.
    pub kind: PrekeyKind,
    /// The name of `public_key`.
    pub key_id: PrekeyId,
    /// The X25519 public key.
    #[serde(with = "base64_text")]
    pub public_key: [u8; 32],
    /// When it was made.
    #[serde(with = "wire_time")]
    pub created: Timestamp,
    /// From when on nothing is sealed to it.
    #[serde(with = "wire_time")]
    pub expires: Timestamp,
    /// By the identity key, over all of the above.
    signature: String,
}

impl Prekey {
    /// What the identity signs.
    pub(super) fn text(&self) -> String {
        json::canonical(&json!({
            "purpose": PURPOSE, "agent_id": self.agent_id, "kind": self.kind, "key_id": self.key_id,
            "created": self.created.wire(), "expires": self.expires.wire(),
        }))
    }

    /// Checks that it is a prekey of `owner`, signed by its `identity` and good at `now`.
    pub fn verify(
        &self,
        owner: &AgentId,
        identity: &PublicKey,
        now: Timestamp,
    ) -> Result<(), PrekeyError> {
        if &self.agent_id != owner {
            return Err(PrekeyError::Agent(self.agent_id.clone()));
        }
        // The signature covers the id, and so the bytes.
        if self.key_id != id_of(&self.public_key) {
            return Err(PrekeyError::Id);
        }
        identity.verify(self.text().as_bytes(), &self.signature)?;
        let (created, expires) = (self.created, self.expires);
        if created > now.plus(SKEW) || expires > created.plus(PREKEY_LIFETIME_MAX) {
            return Err(PrekeyError::Lifetime { created, expires });
        }
        if expires <= now {
            return Err(PrekeyError::Expired(expires));
        }
        Ok(())
    }
}

/// What a Place hands to whoever wants to seal to an agent: the long-lived prekey, and a one-time one while it has any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrekeyBundle {
    /// Serves always.
    pub long_lived: Prekey,
    /// Serves once. The Place hands it to nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time: Option<Prekey>,
}

impl PrekeyBundle {
    /// Checks the bundle for `owner`, and takes the one-time prekey if it is still good.
    ///
    /// An expired one counts as none, since nobody is to blame for it. A bad signature, a foreign key or one of
    /// another kind refuses the bundle.
    pub fn choose(
        &self,
        owner: &AgentId,
        identity: &PublicKey,
        now: Timestamp,
    ) -> Result<Recipient, PrekeyError> {
        if self.long_lived.kind != PrekeyKind::LongLived {
            return Err(PrekeyError::Kind);
        }
        if let Some(prekey) = &self.one_time {
            if prekey.kind != PrekeyKind::OneTime {
                return Err(PrekeyError::Kind);
            }
            match prekey.verify(owner, identity, now) {
                Ok(()) => return Ok(Recipient::of(prekey)),
                Err(PrekeyError::Expired(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.long_lived.verify(owner, identity, now)?;
        Ok(Recipient::of(&self.long_lived))
    }
}

/// An agent and a prekey of it that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    pub(super) agent_id: AgentId,
    pub(super) key_id: PrekeyId,
    pub(super) public_key: [u8; 32],
}

impl Recipient {
    fn of(prekey: &Prekey) -> Self {
        Self {
            agent_id: prekey.agent_id.clone(),
            key_id: prekey.key_id.clone(),
            public_key: prekey.public_key,
        }
    }

    /// Whom a message is sealed to.
    pub fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// To which of its prekeys.
    pub fn key_id(&self) -> &PrekeyId {
        &self.key_id
    }
}

/// The secret half of a prekey. It is erased when dropped; its serialised form is for its owner's disk alone.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrekeySecret {
    kind: PrekeyKind,
    #[serde(with = "wire_time")]
    created: Timestamp,
    #[serde(with = "wire_time")]
    expires: Timestamp,
    secret: Secret,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Secret(#[serde(with = "base64_text")] Erased);

#[derive(Clone)]
struct Erased(Zeroizing<[u8; 32]>);

impl AsRef<[u8]> for Erased {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl TryFrom<Vec<u8>> for Erased {
    type Error = ();

    fn try_from(bytes: Vec<u8>) -> Result<Self, ()> {
        let bytes = Zeroizing::new(bytes);
        let mut secret = Zeroizing::new([0; 32]);
        if bytes.len() != secret.len() {
            return Err(());
        }
        secret.copy_from_slice(&bytes);
        Ok(Self(secret))
    }
}

impl PrekeySecret {
    /// Makes a prekey that is good from `now` for `lifetime`, at most [`PREKEY_LIFETIME_MAX`].
    pub fn generate(
        kind: PrekeyKind,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Self, KeyError> {
        let created = Timestamp::from_secs(now.as_secs());
        Ok(Self {
            kind,
            created,
            expires: created.plus(lifetime.min(PREKEY_LIFETIME_MAX)),
            secret: Secret(Erased(Zeroizing::new(random_bytes()?))),
        })
    }

    /// How often it is used.
    pub fn kind(&self) -> PrekeyKind {
        self.kind
    }

    /// From when on nobody seals to it. What was sealed before may still be on its way.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Its name.
    pub fn id(&self) -> Result<PrekeyId, KeyError> {
        Ok(id_of(&self.public_key()?))
    }

    /// The public half, signed for `owner` by its identity.
    pub fn publish(&self, owner: &AgentId, identity: &Keypair) -> Result<Prekey, KeyError> {
        let public_key = self.public_key()?;
        let mut prekey = Prekey {
            agent_id: owner.clone(),
            kind: self.kind,
            key_id: id_of(&public_key),
            public_key,
            created: self.created,
            expires: self.expires,
            signature: String::new(),
        };
        prekey.signature = identity.sign(prekey.text().as_bytes())?;
        Ok(prekey)
    }

    fn public_key(&self) -> Result<[u8; 32], KeyError> {
        let public = Kem::sk_to_pk(&self.private()?).to_bytes();
        public.as_slice().try_into().map_err(|_| KeyError::Library)
    }

    pub(super) fn private(&self) -> Result<<Kem as hpke::Kem>::PrivateKey, KeyError> {
        <Kem as hpke::Kem>::PrivateKey::from_bytes(self.secret.0.as_ref())
            .map_err(|_| KeyError::Library)
    }
}

impl fmt::Debug for PrekeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrekeySecret({:?} until {})", self.kind, self.expires)
    }
}

#[expect(clippy::expect_used, reason = "32 hex digits are a prekey id")]
fn id_of(public_key: &[u8; 32]) -> PrekeyId {
    let hex: String = ContentHash::of(public_key)
        .to_hex()
        .chars()
        .take(32)
        .collect();
    hex.parse().expect("hex is a prekey id")
}

#[cfg(test)]
mod tests;
