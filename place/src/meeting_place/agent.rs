//! An agent as a Place knows it.

use kairos_protocol::crypto::{KeyError, PublicKey};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::session::Strength;

/// Longest name in bytes.
pub const NAME_MAX: usize = 256;
/// Longest description in bytes.
pub const DESCRIPTION_MAX: usize = 2_000;
/// Longest scope in bytes.
pub const SCOPE_MAX: usize = 256;
/// Longest capabilities, as compact JSON, in bytes.
pub const CAPABILITIES_MAX: usize = 8_192;

/// What is said of an agent that gives no name, the reference's word.
pub const UNKNOWN_NAME: &str = "Unknown Agent";

/// A checked wish to be registered. Whether its signature holds was found out before.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Who.
    pub id: AgentId,
    /// For people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Field of work.
    pub scope: Option<String>,
    /// An object or an array as sent, at most [`CAPABILITIES_MAX`] bytes.
    pub capabilities: Option<Value>,
    /// How it showed who it is.
    pub claim: Claim,
}

/// How an agent showed who it is.
#[derive(Debug, Clone)]
pub enum Claim {
    /// Not at all.
    Unsigned,
    /// By a signature that holds under this key.
    Signed(PublicKey, Strength),
}

/// A member of a registration that is too long or of another kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{member} is {found}; at most {max} bytes of {kind} are accepted")]
pub struct MemberError {
    /// Which.
    pub member: &'static str,
    /// What was found.
    pub found: String,
    /// What is accepted.
    pub kind: &'static str,
    /// The bound.
    pub max: usize,
}

impl Registration {
    /// Checks the bounds of every member.
    pub fn check(&self) -> Result<(), MemberError> {
        let text = |member, value: &Option<String>, max| match value {
            Some(value) if value.len() > max => Err(MemberError {
                member,
                found: format!("{} bytes long", value.len()),
                kind: "text",
                max,
            }),
            _ => Ok(()),
        };
        text("name", &self.name, NAME_MAX)?;
        text("description", &self.description, DESCRIPTION_MAX)?;
        text("scope", &self.scope, SCOPE_MAX)?;
        let Some(capabilities) = &self.capabilities else {
            return Ok(());
        };
        let refuse = |found| MemberError {
            member: "capabilities",
            found,
            kind: "an object or an array",
            max: CAPABILITIES_MAX,
        };
        if !matches!(capabilities, Value::Object(_) | Value::Array(_)) {
            return Err(refuse(kairos_protocol::json::kind(capabilities).to_owned()));
        }
        let bytes = capabilities.to_string().len();
        match bytes > CAPABILITIES_MAX {
            true => Err(refuse(format!("{bytes} bytes long"))),
            false => Ok(()),
        }
    }
}

/// A key as it is remembered: a parsed one takes five times the memory, and there may be very many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedKey {
    hash: ContentHash,
    spki: Box<[u8]>,
}

impl PinnedKey {
    /// Its hash, by which keys are compared.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The key, to verify with.
    pub fn parse(&self) -> Result<PublicKey, KeyError> {
        PublicKey::from_der(&self.spki)
    }
}

impl From<&PublicKey> for PinnedKey {
    fn from(key: &PublicKey) -> Self {
        Self {
            hash: key.hash(),
            spki: key.spki_der().into(),
        }
    }
}

/// Whether an agent is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "since")]
pub enum Presence {
    /// It is.
    Here,
    /// It gave no sign of life.
    Faded(Timestamp),
    /// It said goodbye, or was made to leave.
    Left(Timestamp),
}

/// The record of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Who.
    pub id: AgentId,
    /// For people.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Field of work.
    pub scope: Option<String>,
    /// As sent, compact JSON: an object, or an array.
    pub capabilities: Box<str>,
    /// The key it is pinned to. Never replaced by a message.
    pub key: Option<PinnedKey>,
    /// The strongest it ever showed.
    pub strength: Option<Strength>,
    /// Whether this is the Place itself.
    pub is_self: bool,
    /// When it first came.
    pub registered_at: Timestamp,
    /// Its last sign of life.
    pub last_seen: Timestamp,
    /// URLs of other Places it came from, for federation.
    pub visited_places: Vec<String>,
    /// Whether it is there.
    pub presence: Presence,
}

impl Agent {
    /// The record as `GET /place/v1/agents` shows it, members in the reference's order.
    pub fn listed(&self) -> Value {
        let mut shown = json!({
            "id": self.id, "name": self.name, "url": null, "capabilities": self.capabilities(),
            "is_self": self.is_self, "registered_at": self.registered_at.wire(),
            "last_heartbeat": self.last_seen.wire(), "visited_places": self.visited_places,
        });
        self.describe(&mut shown);
        shown
    }

    /// The part of the record that an agent's profile shows.
    pub fn profiled(&self) -> Value {
        let mut shown = json!({"id": self.id, "name": self.name});
        self.describe(&mut shown);
        if let Value::Object(members) = &mut shown {
            members.insert("capabilities".to_owned(), self.capabilities());
            members.insert("registered_at".to_owned(), self.registered_at.wire().into());
        }
        shown
    }

    /// Adds the members that are left out when there is nothing to say.
    pub(super) fn describe(&self, shown: &mut Value) {
        let Value::Object(members) = shown else {
            return;
        };
        for (name, text) in [("description", &self.description), ("scope", &self.scope)] {
            if let Some(text) = text {
                members.insert(name.to_owned(), text.as_str().into());
            }
        }
    }

    /// The capabilities as a value; an empty array if there are none.
    pub fn capabilities(&self) -> Value {
        serde_json::from_str(&self.capabilities).unwrap_or_else(|_| json!([]))
    }
}
