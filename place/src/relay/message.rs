//! What is relayed: sealed text that the Place cannot read, and a header of names, sizes and times.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use thiserror::Error;

/// Longest [`RelayId`] in bytes.
pub const RELAY_ID_MAX: usize = 128;
/// Longest [`MessageType`] in bytes.
pub const MESSAGE_TYPE_MAX: usize = 64;

/// Why a text that came with a message is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Not a [`RelayId`].
    #[error("the id of a message has 1 to {RELAY_ID_MAX} visible ASCII characters")]
    Id,
    /// Not a [`MessageType`].
    #[error("the type of a message has 1 to {MESSAGE_TYPE_MAX} bytes and no control characters")]
    Type,
    /// Not a [`BlobHash`].
    #[error("the hash of a message is `sha256:` and 64 lower-case hex digits")]
    Hash,
    /// Nothing was sealed.
    #[error("the sealed text is empty")]
    Empty,
    /// The sealed text has another hash than the one it came with.
    #[error("the sealed text does not have the hash that came with it")]
    Mismatch,
}

/// The id of a message: `relay_` and 16 hex digits, or what its sender chose. Parsing is validating: 1 to
/// [`RELAY_ID_MAX`] visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(String);

impl RelayId {
    /// A name made of `random`, for a message whose sender chose none.
    pub fn from_random(random: [u8; 8]) -> Self {
        Self(format!("relay_{}", hex::encode(random)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RelayId {
    type Err = MessageError;

    fn from_str(text: &str) -> Result<Self, MessageError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let sized = (1..=RELAY_ID_MAX).contains(&text.len());
        let good = visible && sized;
        good.then(|| Self(text.to_owned())).ok_or(MessageError::Id)
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of message it is said to be, 1 to [`MESSAGE_TYPE_MAX`] bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageType(String);

impl MessageType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MessageType {
    type Err = MessageError;

    fn from_str(text: &str) -> Result<Self, MessageError> {
        let plain =
            (1..=MESSAGE_TYPE_MAX).contains(&text.len()) && !text.contains(char::is_control);
        plain
            .then(|| Self(text.to_owned()))
            .ok_or(MessageError::Type)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hash of a sealed text as it stands, written `sha256:` and 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobHash(ContentHash);

impl BlobHash {
    /// The hash of `text`.
    pub fn of(text: &str) -> Self {
        Self(ContentHash::of(text))
    }

    /// The hash itself, as the anchors want it.
    pub fn content_hash(&self) -> ContentHash {
        self.0
    }
}

impl From<ContentHash> for BlobHash {
    fn from(hash: ContentHash) -> Self {
        Self(hash)
    }
}

impl FromStr for BlobHash {
    type Err = MessageError;

    fn from_str(text: &str) -> Result<Self, MessageError> {
        let digits = text.strip_prefix("sha256:").ok_or(MessageError::Hash)?;
        digits.parse().map(Self).map_err(|_| MessageError::Hash)
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0.to_hex())
    }
}

/// A sealed text and its hash. Shows neither in its `Debug` form, so that no log holds any of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    text: String,
    hash: BlobHash,
}

impl Sealed {
    /// Takes in a text that came with the hash `told`; reads all of it once.
    ///
    /// # Errors
    ///
    /// [`MessageError::Empty`], and [`MessageError::Mismatch`] where the hash is another.
    pub fn new(text: String, told: BlobHash) -> Result<Self, MessageError> {
        if text.is_empty() {
            return Err(MessageError::Empty);
        }
        let hash = BlobHash::of(&text);
        let sealed = Self { text, hash };
        (hash == told)
            .then_some(sealed)
            .ok_or(MessageError::Mismatch)
    }

    /// A text that was checked before it was stored. Its recipient finds out if the disk changed it.
    pub(super) fn stored(text: String, hash: BlobHash) -> Self {
        Self { text, hash }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its hash.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.text.len() as u64
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("size", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// Everything about a message but the sealed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its id, the only one of that name in the box.
    pub id: RelayId,
    /// Who sent it; whoever calls answers for that.
    pub from: AgentId,
    /// Whose box it lies in.
    pub to: AgentId,
    /// What its sender says it is.
    pub message_type: MessageType,
    /// The hash of the sealed text.
    pub hash: BlobHash,
    /// Length of the sealed text in bytes.
    pub size: u64,
    /// When it was accepted, in whole microseconds.
    pub created_at: Timestamp,
    /// From when on nobody gets it any more.
    pub expires_at: Timestamp,
    /// Whether its recipient was not registered when it came.
    pub stranger: bool,
}

/// A message in a box, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the order of arrival. One count serves all boxes, and no number comes twice, so a cursor stays
    /// good over an empty box and over a restart.
    pub seq: u64,
    /// The rest.
    pub header: Header,
}

/// A message as its recipient gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where and what it is.
    pub kept: Kept,
    /// What was sealed.
    pub sealed: Sealed,
}

/// Microseconds since the epoch, the precision that is stored; times before it become the epoch.
pub(crate) fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.since(Timestamp::EPOCH).as_micros()).unwrap_or(i64::MAX)
}

/// The reverse of [`micros`].
pub(super) fn from_micros(micros: i64) -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_of_strangers_are_bounded_and_plain() {
        for bad in ["", "a b", "a\n", "é", &"x".repeat(RELAY_ID_MAX + 1)] {
            assert_eq!(bad.parse::<RelayId>(), Err(MessageError::Id), "{bad:?}");
        }
        for bad in ["", "a\u{7}", &"x".repeat(MESSAGE_TYPE_MAX + 1)] {
            assert_eq!(bad.parse::<MessageType>(), Err(MessageError::Type));
        }
        let digits = "ab".repeat(32);
        for bad in [digits.clone(), format!("sha256:{}", digits.to_uppercase())] {
            assert_eq!(bad.parse::<BlobHash>(), Err(MessageError::Hash), "{bad}");
        }
        let hash: BlobHash = format!("sha256:{digits}").parse().unwrap();
        assert_eq!(hash.to_string(), format!("sha256:{digits}"));
        let id = RelayId::from_random([0xab; 8]);
        assert_eq!(id.as_str(), "relay_abababababababab");
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn a_sealed_text_has_its_hash_and_shows_nothing() {
        let hash = BlobHash::of("secret");
        assert_eq!(
            Sealed::new("Secret".into(), hash),
            Err(MessageError::Mismatch)
        );
        assert_eq!(
            Sealed::new(String::new(), BlobHash::of("")),
            Err(MessageError::Empty)
        );
        let sealed = Sealed::new("secret".into(), hash).unwrap();
        assert_eq!((sealed.size(), sealed.hash()), (6, hash));
        assert!(!format!("{sealed:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn microseconds_come_back(micros_in in 0..253_000_000_000_000_000_i64) {
            prop_assert_eq!(micros(from_micros(micros_in)), micros_in);
        }
    }
}
