//! Sealed messages: what one agent leaves for another at a Meeting Place that must not read it.
//!
//! The member `encrypted_blob` of the relay's requests carries an [`Envelope`] as base64 of JSON. [`version_1`] is the
//! reference's: it hides the content and nothing else. [`version_2`] also tells who wrote the message and to whom, binds
//! it to its envelope, hides its length, and stays closed to whoever gets the identity key later.

mod base64_text;
pub mod keyring;
pub mod padding;
pub mod prekey;
pub mod replay;
pub mod version_1;
pub mod version_2;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;

use crate::crypto::KeyError;
use crate::hash::ContentHash;

/// Longest blob in bytes of its text, the bound of the reference.
pub const BLOB_MAX: usize = 1_048_576;
/// Longest text of a stranger in an error.
const SHOWN_MAX: usize = 160;

/// Why a text is not a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BlobError {
    /// Nothing.
    #[error("the sealed message is empty")]
    Empty,
    /// Longer than [`BLOB_MAX`].
    #[error("the sealed message has {len} bytes, the limit is {BLOB_MAX}")]
    TooLong {
        /// What was found.
        len: usize,
    },
}

/// Why a blob is not an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// Not strict base64.
    #[error("the sealed message is not strict base64")]
    NotBase64,
    /// Not JSON, or not with the members that its version has.
    #[error("the envelope is malformed: {0}")]
    Malformed(Reason),
    /// Neither 1 nor 2.
    #[error("the envelope has version {found}; 1 and 2 are known")]
    Version {
        /// What was found.
        found: u64,
    },
}

/// What the parser of JSON said, without control characters and cut to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<serde_json::Error> for EnvelopeError {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        let plain = text.chars().filter(|c| !c.is_control()).take(SHOWN_MAX);
        Self::Malformed(Reason(plain.collect()))
    }
}

/// Why a message could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SealError {
    /// It would not fit a blob.
    #[error("the message has {len} bytes, {max} can be sealed")]
    TooLong {
        /// What was asked for.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The prekey is of a kind that agrees on no secret.
    #[error("the prekey is no usable X25519 key")]
    Prekey,
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// An envelope as it travels: base64 text that everyone but the two ends treats as opaque.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob(String);

impl Blob {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the relay's `blob_hash` is: over the text, not over what it encodes.
    pub fn hash(&self) -> String {
        format!("sha256:{}", ContentHash::of(&self.0))
    }

    /// Reads the envelope. Nothing is decrypted.
    pub fn envelope(&self) -> Result<Envelope, EnvelopeError> {
        let json = STANDARD
            .decode(&self.0)
            .map_err(|_| EnvelopeError::NotBase64)?;
        let Head { version } = serde_json::from_slice(&json)?;
        match version {
            1 => Ok(Envelope::V1(serde_json::from_slice(&json)?)),
            2 => Ok(Envelope::V2(serde_json::from_slice(&json)?)),
            found => Err(EnvelopeError::Version { found }),
        }
    }

    fn of(envelope: &impl serde::Serialize) -> Result<Self, SealError> {
        let json = serde_json::to_vec(envelope).map_err(|_| KeyError::Library)?;
        let text = STANDARD.encode(json);
        let too_long = |_| SealError::TooLong {
            len: text.len(),
            max: BLOB_MAX,
        };
        text.parse().map_err(too_long)
    }
}

impl FromStr for Blob {
    type Err = BlobError;

    fn from_str(text: &str) -> Result<Self, BlobError> {
        match text.len() {
            0 => Err(BlobError::Empty),
            len if len > BLOB_MAX => Err(BlobError::TooLong { len }),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

/// An envelope of either version, parsed and unopened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// The reference's.
    V1(version_1::Envelope),
    /// Ours.
    V2(version_2::Envelope),
}

#[derive(Deserialize)]
struct Head {
    version: u64,
}
