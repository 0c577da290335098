//! HestiaChain anchors: that something with a hash existed, who took part, and when. Never the thing itself.
//!
//! An anchor is a witness record and no authority. Its hash is that of the reference, so anchors of both systems are
//! the same anchors. Error texts are the reference's too, since its tools hand them to people and programs.

pub mod declaration;
pub mod meeting;
pub mod observation;
pub mod stage;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::hash::ContentHash;
use crate::json;
use crate::time::Timestamp;

/// The types there are, besides those that start with [`CUSTOM`].
pub const ANCHOR_TYPES: [&str; 9] = [
    "meeting",
    "generic",
    "genomics",
    "research",
    "agreement",
    "audit",
    "release",
    "philosophy_declaration",
    "observation_log",
];
/// What a type of one's own starts with.
pub const CUSTOM: &str = "custom.";
/// Longest text of an anchor in bytes: its type, its source, a participant, a reference, a time.
pub const TEXT_MAX: usize = 1_024;
/// Most participants.
pub const PARTICIPANTS_MAX: usize = 256;
/// Longest metadata in bytes of compact JSON.
pub const METADATA_MAX: usize = 64 * 1_024;
/// Longest text of a caller in an error, in characters.
const SHOWN_MAX: usize = 80;

/// Why something is not an anchor, in the words of the reference where it has any.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnchorError {
    /// A kind that is not known.
    #[error("Invalid {member}: '{}'. Use one of {} or 'custom.your_type'", shown(.found), .known.join(", "))]
    Type {
        /// Which member.
        member: &'static str,
        /// What was found.
        found: String,
        /// What there is.
        known: &'static [&'static str],
    },
    /// Blank.
    #[error("{0} cannot be empty")]
    Blank(&'static str),
    /// No SHA-256 in hex.
    #[error("Invalid {member} format. Expected 64-character hex string (SHA256), got: {}", shown(.found))]
    Hash {
        /// Which member.
        member: &'static str,
        /// What was found.
        found: String,
    },
    /// Longer than its bound.
    #[error("{member} is longer than {max}")]
    TooLong {
        /// Which member.
        member: &'static str,
        /// The bound, in bytes or entries.
        max: usize,
    },
    /// Missing, or of another kind of value.
    #[error("{0} is missing or of another kind")]
    Malformed(&'static str),
}

fn shown(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(SHOWN_MAX).collect()
}

/// Reads a hash as the reference does: in any case, with or without a leading `0x`.
pub fn parse_hash(member: &'static str, text: &str) -> Result<ContentHash, AnchorError> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.strip_prefix("0x").unwrap_or(&lower);
    digits.parse().map_err(|_| AnchorError::Hash {
        member,
        found: text.to_owned(),
    })
}

/// The hash by which data is anchored: of a string's bytes, of anything else's compact JSON in the order of its members.
pub fn hash_of(data: &Value) -> ContentHash {
    match data {
        Value::String(text) => ContentHash::of(text),
        other => ContentHash::of(json::preimage(other)),
    }
}

fn check_kind(
    member: &'static str,
    text: &str,
    known: &'static [&'static str],
) -> Result<(), AnchorError> {
    if !known.contains(&text) && !text.starts_with(CUSTOM) {
        let found = text.to_owned();
        return Err(AnchorError::Type {
            member,
            found,
            known,
        });
    }
    check_length(member, text)
}

fn check_text(member: &'static str, text: &str) -> Result<(), AnchorError> {
    if text.trim().is_empty() {
        return Err(AnchorError::Blank(member));
    }
    check_length(member, text)
}

fn check_length(member: &'static str, text: &str) -> Result<(), AnchorError> {
    if text.len() > TEXT_MAX {
        let max = TEXT_MAX;
        return Err(AnchorError::TooLong { member, max });
    }
    Ok(())
}

fn check_texts(member: &'static str, texts: &[String]) -> Result<(), AnchorError> {
    if texts.len() > PARTICIPANTS_MAX {
        let max = PARTICIPANTS_MAX;
        return Err(AnchorError::TooLong { member, max });
    }
    texts.iter().try_for_each(|text| check_length(member, text))
}

fn check_metadata(member: &'static str, metadata: &Map<String, Value>) -> Result<(), AnchorError> {
    let len = json::preimage(&Value::Object(metadata.clone())).len();
    if len > METADATA_MAX {
        let max = METADATA_MAX;
        return Err(AnchorError::TooLong { member, max });
    }
    Ok(())
}

/// The object without the members that are null: how the reference hands a record over.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().filter(|(_, v)| !v.is_null()).collect())
        }
        other => other,
    }
}

/// What kind of thing an anchor tells of.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AnchorType(String);

impl AnchorType {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AnchorType {
    type Err = AnchorError;

    fn from_str(text: &str) -> Result<Self, AnchorError> {
        check_kind("anchor_type", text, &ANCHOR_TYPES)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for AnchorType {
    type Error = AnchorError;

    fn try_from(text: String) -> Result<Self, AnchorError> {
        text.parse()
    }
}

impl From<AnchorType> for String {
    fn from(kind: AnchorType) -> String {
        kind.0
    }
}

impl fmt::Display for AnchorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AnchorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnchorType({})", self.0)
    }
}

/// The members of an anchor as somebody gave them, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct AnchorMembers {
    /// See [`AnchorType`].
    #[serde(default)]
    pub anchor_type: String,
    /// What the anchor is of, in the words of whoever anchors.
    #[serde(default)]
    pub source_id: String,
    /// The SHA-256 of what is anchored.
    #[serde(default)]
    pub data_hash: String,
    /// Who took part.
    #[serde(default)]
    pub participants: Vec<String>,
    /// Whatever else belongs to it.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// When; now, if nothing is said.
    #[serde(default)]
    pub timestamp: Option<String>,
    /// The anchor before this one, if its maker keeps such an order. Nothing checks it.
    #[serde(default)]
    pub previous_anchor_ref: Option<String>,
}

impl AnchorMembers {
    /// Checks the members as the reference does, and their bounds.
    pub fn check(self, now: Timestamp) -> Result<Anchor, AnchorError> {
        let anchor_type = self.anchor_type.parse()?;
        check_text("source_id", &self.source_id)?;
        let data_hash = parse_hash("data_hash", &self.data_hash)?;
        check_texts("participants", &self.participants)?;
        check_metadata("metadata", &self.metadata)?;
        let timestamp = self.timestamp.unwrap_or_else(|| now.wire());
        check_length("timestamp", &timestamp)?;
        if let Some(before) = &self.previous_anchor_ref {
            check_length("previous_anchor_ref", before)?;
        }
        let mut anchor = Anchor {
            hash: data_hash,
            anchor_type,
            source_id: self.source_id,
            data_hash,
            participants: self.participants,
            metadata: self.metadata,
            timestamp,
            previous_anchor_ref: self.previous_anchor_ref,
        };
        anchor.hash = ContentHash::of(anchor.preimage());
        Ok(anchor)
    }
}

/// An anchor. Two are equal when their hashes are.
#[derive(Debug, Clone)]
pub struct Anchor {
    hash: ContentHash,
    anchor_type: AnchorType,
    source_id: String,
    data_hash: ContentHash,
    participants: Vec<String>,
    metadata: Map<String, Value>,
    timestamp: String,
    previous_anchor_ref: Option<String>,
}

impl PartialEq for Anchor {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Anchor {}

impl Anchor {
    /// The name of the anchor: the hash over all of it.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// What kind of thing it tells of.
    pub fn anchor_type(&self) -> &AnchorType {
        &self.anchor_type
    }

    /// What it is of.
    pub fn source_id(&self) -> &str {
        &self.source_id
    }

    /// The hash of what is anchored.
    pub fn data_hash(&self) -> ContentHash {
        self.data_hash
    }

    /// Who took part, in the order given.
    pub fn participants(&self) -> &[String] {
        &self.participants
    }

    /// Whatever else belongs to it, in the order given.
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }

    /// When, as its maker wrote it. Not checked to be a time.
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }

    /// The anchor before it, as its maker wrote it.
    pub fn previous_anchor_ref(&self) -> Option<&str> {
        self.previous_anchor_ref.as_deref()
    }

    /// The text that is hashed. Participants and the names of the metadata are sorted, what is nested is not.
    pub fn preimage(&self) -> String {
        let mut participants = self.participants.clone();
        participants.sort();
        let mut names: Vec<_> = self.metadata.iter().collect();
        names.sort_by(|a, b| a.0.cmp(b.0));
        let metadata: Map<String, Value> = names
            .into_iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        json::preimage(&json!({
            "t": self.anchor_type, "s": self.source_id, "d": self.data_hash, "p": participants,
            "m": metadata, "ts": self.timestamp, "prev": self.previous_anchor_ref,
        }))
    }

    /// The members as the reference hands them over, without those that are null.
    pub fn to_value(&self) -> Value {
        without_nulls(self.record())
    }

    /// The members as the reference stores them, a missing reference as null.
    pub fn record(&self) -> Value {
        json!({
            "anchor_hash": self.hash, "anchor_type": self.anchor_type, "source_id": self.source_id,
            "data_hash": self.data_hash, "participants": self.participants,
            "metadata": self.metadata, "timestamp": self.timestamp,
            "previous_anchor_ref": self.previous_anchor_ref,
        })
    }
}

#[cfg(test)]
mod tests;
