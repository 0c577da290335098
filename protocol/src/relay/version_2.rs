//! Version 2: HPKE (RFC 9180, base mode) to a prekey, with the sender's signature inside.
//!
//! The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305. Whoever carries an envelope sees its header
//! and cannot change it; the recipient knows who wrote it, and cannot pass it on as if it had been written to somebody
//! else. `protocol/docs/relay-envelope-2.md` specifies it for others.

use std::fmt;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;
use zeroize::Zeroizing;

use super::prekey::{Kem, PrekeySecret, Recipient};
use super::replay::Seen;
use super::{Blob, SealError, base64_text, padding};
use crate::crypto::{KeyError, Keypair, PublicKey, SignatureError, random_bytes};
use crate::hash::ContentHash;
use crate::id::{AgentId, MessageId, MessageType, PrekeyId};
use crate::json;
use crate::time::Timestamp;
use crate::wire_time;

/// Separates this use of HPKE from every other.
const INFO: &[u8] = b"kairos-relay-envelope-v2";
/// Separates these signatures from everything else an identity signs.
const PURPOSE: &str = "kairos-relay-message-v2";
/// Longest ciphertext: the largest bucket and the tag.
const CIPHERTEXT_MAX: usize = padding::CONTENT_MAX + 4 + 16;

/// Why an envelope does not open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Addressed to another agent.
    #[error("the message is addressed to `{0}`")]
    Recipient(AgentId),
    /// Sealed to another prekey than the one given.
    #[error("the message was sealed to the prekey `{0}`")]
    Prekey(PrekeyId),
    /// Not sealed to this prekey, or changed on its way.
    #[error("the message was not sealed to this prekey, or was changed since")]
    Unreadable,
    /// What was sealed is not a padded message.
    #[error("the sealed content is not a message")]
    Content,
    /// What was sealed says otherwise than the envelope.
    #[error("the sealed message names another {0} than its envelope")]
    Header(&'static str),
    /// The sender's identity did not sign it.
    #[error("the sealed message's signature: {0}")]
    Signature(#[from] SignatureError),
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What is sealed: everything of a message but its recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who sends it.
    pub from: AgentId,
    /// Its name, which no other message of the sender has.
    pub message_id: MessageId,
    /// What it is about. The relay sees it.
    pub message_type: MessageType,
    /// The sender's time, in whole seconds.
    pub sent_at: Timestamp,
    /// The content; a structure is its JSON text.
    pub body: String,
}

impl Draft {
    /// A message with a new name.
    pub fn new(
        from: AgentId,
        message_type: MessageType,
        body: String,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        let hex: String = hex::encode(random_bytes()?).chars().take(32).collect();
        Ok(Self {
            from,
            message_id: hex.parse().map_err(|_| KeyError::Library)?,
            message_type,
            sent_at: Timestamp::from_secs(now.as_secs()),
            body,
        })
    }

    /// What a [`ReplayWindow`](super::replay::ReplayWindow) remembers of it.
    pub fn seen(&self) -> Seen {
        Seen {
            sent_at: self.sent_at,
            from: self.from.clone(),
            message_id: self.message_id.clone(),
        }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("from", &self.from)
            .field("message_id", &self.message_id)
            .field("message_type", &self.message_type)
            .field("sent_at", &self.sent_at)
            .field("body_len", &self.body.len())
            .finish()
    }
}

/// The members of the envelope. All but the last two are its header, which is authenticated and not hidden.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    version: u64,
    from: AgentId,
    to: AgentId,
    message_id: MessageId,
    #[serde(rename = "type")]
    message_type: MessageType,
    key_id: PrekeyId,
    #[serde(with = "base64_text")]
    enc: [u8; 32],
    #[serde(with = "base64_text")]
    ciphertext: Vec<u8>,
}

/// What is padded and encrypted, its members in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    from: AgentId,
    to: AgentId,
    message_id: MessageId,
    #[serde(rename = "type")]
    message_type: MessageType,
    #[serde(with = "wire_time")]
    sent_at: Timestamp,
    body: String,
    signature: String,
}

/// Seals `draft` to `recipient`, signed by the `sender`'s identity.
///
/// Fails with [`SealError::TooLong`] if the message with its signature is longer than
/// [`padding::CONTENT_MAX`] bytes of JSON.
pub fn seal(draft: &Draft, recipient: &Recipient, sender: &Keypair) -> Result<Blob, SealError> {
    let public = <Kem as hpke::Kem>::PublicKey::from_bytes(&recipient.public_key)
        .map_err(|_| KeyError::Library)?;
    let (enc, mut context) =
        hpke::setup_sender::<ChaCha20Poly1305, HkdfSha256, Kem>(&OpModeS::Base, &public, INFO)
            .map_err(|_| SealError::Prekey)?;
    let mut envelope = Envelope {
        version: 2,
        from: draft.from.clone(),
        to: recipient.agent_id.clone(),
        message_id: draft.message_id.clone(),
        message_type: draft.message_type.clone(),
        key_id: recipient.key_id.clone(),
        enc: enc
            .to_bytes()
            .as_slice()
            .try_into()
            .map_err(|_| KeyError::Library)?,
        ciphertext: Vec::new(),
    };
    let signed = envelope.signed_text(draft.sent_at, &draft.body);
    let sealed = Sealed {
        from: draft.from.clone(),
        to: recipient.agent_id.clone(),
        message_id: draft.message_id.clone(),
        message_type: draft.message_type.clone(),
        sent_at: draft.sent_at,
        body: draft.body.clone(),
        signature: sender.sign(signed.as_bytes())?,
    };
    let content = Zeroizing::new(serde_json::to_vec(&sealed).map_err(|_| KeyError::Library)?);
    let padded = padding::pad(&content).ok_or(SealError::TooLong {
        len: content.len(),
        max: padding::CONTENT_MAX,
    })?;
    envelope.ciphertext = context
        .seal(&padded, envelope.header().as_bytes())
        .map_err(|_| KeyError::Library)?;
    Blob::of(&envelope)
}

impl Envelope {
    /// Who claims to have sent it. Nothing is checked before [`open`](Self::open).
    pub fn from(&self) -> &AgentId {
        &self.from
    }

    /// Whom it is addressed to.
    pub fn to(&self) -> &AgentId {
        &self.to
    }

    /// Its name.
    pub fn message_id(&self) -> &MessageId {
        &self.message_id
    }

    /// What it is about.
    pub fn message_type(&self) -> &MessageType {
        &self.message_type
    }

    /// The prekey whose secret opens it.
    pub fn key_id(&self) -> &PrekeyId {
        &self.key_id
    }

    /// Opens the envelope as `recipient` with the secret of [`key_id`](Self::key_id), and checks that the holder of
    /// `sender`, the key known for [`from`](Self::from), wrote it to this recipient.
    ///
    /// Whether it was received before is for a [`ReplayWindow`](super::replay::ReplayWindow) to tell.
    pub fn open(
        &self,
        recipient: &AgentId,
        secret: &PrekeySecret,
        sender: &PublicKey,
    ) -> Result<Draft, OpenError> {
        if &self.to != recipient {
            return Err(OpenError::Recipient(self.to.clone()));
        }
        if self.key_id != secret.id()? {
            return Err(OpenError::Prekey(self.key_id.clone()));
        }
        let padded = self.decrypt(secret)?;
        let content = padding::unpad(&padded).ok_or(OpenError::Content)?;
        let sealed: Sealed = serde_json::from_slice(content).map_err(|_| OpenError::Content)?;
        self.compare(&sealed)?;
        let signed = self.signed_text(sealed.sent_at, &sealed.body);
        sender.verify(signed.as_bytes(), &sealed.signature)?;
        Ok(Draft {
            from: sealed.from,
            message_id: sealed.message_id,
            message_type: sealed.message_type,
            sent_at: sealed.sent_at,
            body: sealed.body,
        })
    }

    fn decrypt(&self, secret: &PrekeySecret) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if self.ciphertext.len() > CIPHERTEXT_MAX {
            return Err(OpenError::Content);
        }
        let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(&self.enc)
            .map_err(|_| OpenError::Unreadable)?;
        let mut context = hpke::setup_receiver::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeR::Base,
            &secret.private()?,
            &enc,
            INFO,
        )
        .map_err(|_| OpenError::Unreadable)?;
        context
            .open(&self.ciphertext, self.header().as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| OpenError::Unreadable)
    }

    /// The same members again, so that an envelope is worth nothing around another message.
    fn compare(&self, sealed: &Sealed) -> Result<(), OpenError> {
        let same = [
            ("from", self.from == sealed.from),
            ("to", self.to == sealed.to),
            ("message_id", self.message_id == sealed.message_id),
            ("type", self.message_type == sealed.message_type),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((member, _)) => Err(OpenError::Header(member)),
            None => Ok(()),
        }
    }

    /// The associated data of the encryption.
    fn header(&self) -> String {
        json::canonical(&json!({
            "version": self.version, "from": self.from, "to": self.to, "message_id": self.message_id,
            "type": self.message_type, "key_id": self.key_id,
        }))
    }

    /// What the sender signs. With `enc` in it the message stays in the envelope it was written for.
    fn signed_text(&self, sent_at: Timestamp, body: &str) -> String {
        json::canonical(&json!({
            "purpose": PURPOSE, "from": self.from, "to": self.to, "message_id": self.message_id,
            "type": self.message_type, "key_id": self.key_id, "enc": hex::encode(self.enc),
            "sent_at": sent_at.wire(), "body_hash": ContentHash::of(body),
        }))
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Envelope({}, {} bytes)",
            self.header(),
            self.ciphertext.len()
        )
    }
}

#[cfg(test)]
mod tests;
