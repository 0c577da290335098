//! Version 1, the reference's envelope: a fresh AES-256-GCM key, encrypted to the recipient's RSA identity.
//!
//! It says nothing about its sender, can be replayed, and opens for ever to whoever gets the identity key. It is for
//! peers that know nothing better.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{BLOB_MAX, Blob, SealError, base64_text};
use crate::crypto::{KeyError, Keypair, PublicKey, random_bytes};
use crate::json;

/// Longest content in bytes: what fits [`BLOB_MAX`] after base64 twice, beside the other members.
pub const CONTENT_MAX: usize = (BLOB_MAX / 4 * 3 - 2_048) / 4 * 3;
/// What the member `algorithm` says, whatever the size of the key.
const ALGORITHM: &str = "RSA-2048+AES-256-GCM";
/// Length of the tag of AES-GCM.
const TAG_LEN: usize = 16;

/// Why an envelope does not open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Another algorithm is named.
    #[error("the envelope names another algorithm than {ALGORITHM}")]
    Algorithm,
    /// Sealed to another key, or changed on its way. Which of them is not told, so that nobody can try keys.
    #[error("the message was not sealed to this key, or was changed since")]
    Unreadable,
    /// The content is not UTF-8.
    #[error("the sealed content is not text")]
    NotText,
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The members of the envelope, in the reference's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    version: u64,
    algorithm: String,
    #[serde(with = "base64_text")]
    encrypted_key: Vec<u8>,
    #[serde(with = "base64_text")]
    iv: [u8; 12],
    #[serde(with = "base64_text")]
    auth_tag: [u8; TAG_LEN],
    #[serde(with = "base64_text")]
    ciphertext: Vec<u8>,
}

/// Seals `content` to `recipient`: a string as its text, anything else as compact JSON in the order of its members.
///
/// At most [`CONTENT_MAX`] bytes.
pub fn seal(recipient: &PublicKey, content: &Value) -> Result<Blob, SealError> {
    let text = match content {
        Value::String(text) => text.clone(),
        other => json::preimage(other),
    };
    if text.len() > CONTENT_MAX {
        let (len, max) = (text.len(), CONTENT_MAX);
        return Err(SealError::TooLong { len, max });
    }
    let secret = Zeroizing::new(random_bytes()?);
    let key =
        RandomizedNonceKey::new(&AES_256_GCM, secret.as_slice()).map_err(|_| KeyError::Library)?;
    let mut ciphertext = text.into_bytes();
    let (nonce, tag) = key
        .seal_in_place_separate_tag(Aad::empty(), &mut ciphertext)
        .map_err(|_| KeyError::Library)?;
    Blob::of(&Envelope {
        version: 1,
        algorithm: ALGORITHM.to_owned(),
        encrypted_key: recipient.encrypt_oaep_sha1(secret.as_slice())?,
        iv: *nonce.as_ref(),
        auth_tag: tag.as_ref().try_into().map_err(|_| KeyError::Library)?,
        ciphertext,
    })
}

impl Envelope {
    /// Opens the envelope. What reads as JSON is its value, as in the reference; anything else is a string.
    ///
    /// Who sent it is not known: the relay's word for it is all there is.
    pub fn open(&self, recipient: &Keypair) -> Result<Value, OpenError> {
        if self.algorithm != ALGORITHM {
            return Err(OpenError::Algorithm);
        }
        let secret = recipient.decrypt_oaep_sha1(&self.encrypted_key)?;
        // A wrong length is refused here, so that no other key size is ever tried.
        let key = secret.and_then(|s| RandomizedNonceKey::new(&AES_256_GCM, &s).ok());
        let key = key.ok_or(OpenError::Unreadable)?;
        let mut sealed = [self.ciphertext.as_slice(), &self.auth_tag].concat();
        let nonce = Nonce::assume_unique_for_key(self.iv);
        let content = key
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .map_err(|_| OpenError::Unreadable)?;
        let text = std::str::from_utf8(content).map_err(|_| OpenError::NotText)?;
        Ok(json::parse(text.as_bytes()).unwrap_or_else(|_| Value::from(text)))
    }
}

#[cfg(test)]
mod tests;
