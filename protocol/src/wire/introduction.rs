//! Introductions: who an agent is, what it can do, what it offers, and the signature over who it is.
//!
//! Only the `identity` object is signed. Ours is written with its members sorted, the one order that peers of
//! every version verify; received ones are checked as received and as sorted.

use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::extension::{Extension, Word};
use super::listing::{IntroducedSkill, IntroducedSkillSet, SkillEntry, SkillSetEntry};
use super::possession::Possession;
use super::rotation::Rotation;
use super::{MESSAGE_SET_VERSION, PROTOCOL_VERSION, envelope};
use crate::crypto::{KeyError, Keypair, PublicKey, SignatureError};
use crate::id::{AgentId, IdError};
use crate::json;
use crate::tlog::statement::Attributed;

/// Who this agent says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Field of work.
    pub scope: String,
    /// The agent's id.
    pub instance_id: AgentId,
}

impl Identity {
    /// The object that is sent and signed, members sorted.
    pub fn to_value(&self) -> Value {
        json!({
            "description": self.description, "instance_id": self.instance_id, "name": self.name,
            "scope": self.scope, "version": MESSAGE_SET_VERSION,
        })
    }
}

/// An identity with its key and signature, made once per change of either.
#[derive(Debug, Clone)]
pub struct SignedIdentity {
    /// The identity as sent.
    pub identity: Value,
    /// The agent's id.
    pub instance_id: AgentId,
    /// SPKI PEM.
    pub public_key: String,
    /// See [`PublicKey::fingerprint`].
    pub key_fingerprint: String,
    /// Over the canonical identity.
    pub signature: String,
    /// Statements that led to the current key, for peers that know an older one.
    pub rotations: Vec<Rotation>,
}

impl SignedIdentity {
    /// Signs `identity`.
    pub fn new(identity: &Identity, keypair: &Keypair) -> Result<Self, KeyError> {
        let value = identity.to_value();
        Ok(Self {
            signature: keypair.sign(json::canonical(&value).as_bytes())?,
            identity: value,
            instance_id: identity.instance_id.clone(),
            public_key: keypair.public().to_pem(),
            key_fingerprint: keypair.public().fingerprint(),
            rotations: Vec::new(),
        })
    }

    /// The same with the statements that led to its key.
    #[must_use]
    pub fn with_rotations(self, rotations: Vec<Rotation>) -> Self {
        Self { rotations, ..self }
    }
}

/// What an agent accepts, as it advertises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangePolicy {
    /// Version named in `capabilities`.
    pub protocol_version: String,
    /// Skill formats that may be offered.
    pub allowed_formats: Vec<String>,
    /// Whether skills without the `public` key are public.
    pub public_by_default: bool,
    /// Largest skill in bytes.
    pub max_skill_bytes: u64,
    /// Requests a session may make per minute.
    pub requests_per_minute: u32,
}

impl Default for ExchangePolicy {
    fn default() -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION.to_owned(),
            allowed_formats: vec!["markdown".to_owned(), "yaml_frontmatter".to_owned()],
            public_by_default: false,
            max_skill_bytes: 100_000,
            requests_per_minute: 100,
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    identity: &'a Value,
    capabilities: Value,
    skills: Vec<IntroducedSkill<'a>>,
    exchangeable_skillsets: Vec<IntroducedSkillSet<'a>>,
    constraints: Value,
    exchange_policy: Value,
    timestamp: &'a str,
    public_key: &'a str,
    key_fingerprint: &'a str,
    identity_signature: &'a str,
    #[serde(skip_serializing_if = "<[Rotation]>::is_empty")]
    key_rotations: &'a [Rotation],
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<Value>,
}

/// The introduction object with members in the reference's order.
///
/// `timestamp` is written as given, so that a caller may put a placeholder there and fill it in per answer. `ledger`, the
/// sender's checkpoint, is a member of ours, which other implementations ignore.
pub fn introduction(
    signed: &SignedIdentity,
    policy: &ExchangePolicy,
    skills: &[SkillEntry],
    skill_sets: &[SkillSetEntry],
    timestamp: &str,
    ledger: Option<&Attributed>,
) -> Value {
    introduction_with(signed, policy, skills, skill_sets, timestamp, ledger, &[])
}

/// The introduction of an agent that has adopted `extensions`: they and their actions are advertised, none of which has a
/// handler.
pub fn introduction_with(
    signed: &SignedIdentity,
    policy: &ExchangePolicy,
    skills: &[SkillEntry],
    skill_sets: &[SkillSetEntry],
    timestamp: &str,
    ledger: Option<&Attributed>,
    extensions: &[Extension],
) -> Value {
    let more = extensions.iter().flat_map(|extension| &extension.actions);
    let actions = envelope::SUPPORTED_ACTIONS.into_iter();
    let actions: Vec<_> = actions.chain(more.map(Word::as_str)).collect();
    let built_in = json!({
        "name": "meeting_protocol_skillset_exchange", "version": "1.0.0", "actions": envelope::SKILLSET_ACTIONS,
    });
    let adopted = extensions.iter().map(|extension| {
        json!({
            "name": extension.name, "version": extension.version.to_string(), "actions": extension.actions,
        })
    });
    let advertised: Vec<_> = std::iter::once(built_in).chain(adopted).collect();
    let body = Body {
        identity: &signed.identity,
        capabilities: json!({
            "meeting_protocol_version": policy.protocol_version,
            "supported_actions": actions,
            "skill_formats": policy.allowed_formats,
            "extensions": advertised,
        }),
        skills: skills.iter().map(IntroducedSkill::from).collect(),
        exchangeable_skillsets: skill_sets.iter().map(IntroducedSkillSet::from).collect(),
        constraints: json!({
            "max_skill_size_bytes": policy.max_skill_bytes,
            "rate_limit_per_minute": policy.requests_per_minute,
            "allowed_formats": policy.allowed_formats,
            "executable_allowed": false,
        }),
        exchange_policy: json!({
            "allowed_formats": policy.allowed_formats,
            "allow_executable": false,
            "public_by_default": policy.public_by_default,
        }),
        timestamp,
        public_key: &signed.public_key,
        key_fingerprint: &signed.key_fingerprint,
        identity_signature: &signed.signature,
        key_rotations: &signed.rotations,
        ledger: ledger.map(Attributed::to_value),
    };
    serde_json::to_value(body).unwrap_or_default()
}

/// Why an introduction does not establish who sent it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityFault {
    /// No `identity` object.
    #[error("there is no identity object")]
    NoIdentity,
    /// No `public_key`.
    #[error("there is no public_key")]
    NoKey,
    /// No `identity_signature`.
    #[error("there is no identity_signature")]
    NoSignature,
    /// No `instance_id`, or not a text.
    #[error("identity.instance_id is missing or not a string")]
    NoInstanceId,
    /// An `instance_id` that is not one.
    #[error("identity.instance_id: {0}")]
    InstanceId(#[from] IdError),
    /// The key is not acceptable.
    #[error("public_key: {0}")]
    Key(#[from] KeyError),
    /// The signature is not acceptable.
    #[error("identity_signature: {0}")]
    Signature(#[from] SignatureError),
}

/// An introduction as it arrived: nothing in it is established yet.
#[derive(Debug, Clone)]
pub struct ReceivedIntroduction {
    members: Map<String, Value>,
}

/// Who a correctly signed introduction names, with the key that signed it.
///
/// It says that somebody who holds the key once said so; not that the sender does, since introductions can be
/// replayed. See [`super::possession`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedIdentity {
    /// The claimed id; not bound to the key by anything but the receiver's pin.
    pub agent_id: AgentId,
    /// The key that signed.
    pub key: PublicKey,
    /// For people; cut and cleaned.
    pub name: String,
    /// Changes of key it claims; checked by whoever knows an older key.
    pub rotations: Vec<Rotation>,
}

impl ReceivedIntroduction {
    /// Takes the body of an introduction, flat or as an envelope.
    pub fn new(members: Map<String, Value>) -> Self {
        Self { members }
    }

    /// A member, as received.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// The claimed id, if it is one.
    pub fn claimed_id(&self) -> Result<AgentId, IdentityFault> {
        let identity = self
            .get("identity")
            .and_then(Value::as_object)
            .ok_or(IdentityFault::NoIdentity)?;
        let id = identity
            .get("instance_id")
            .and_then(Value::as_str)
            .ok_or(IdentityFault::NoInstanceId)?;
        Ok(id.parse()?)
    }

    /// The key's PEM text, as received.
    pub fn key_text(&self) -> Option<&str> {
        self.get("public_key").and_then(Value::as_str)
    }

    /// Checks the signature and returns who is named.
    ///
    /// `known` is a key already parsed from exactly the text in this introduction, to save parsing it again.
    pub fn verify(&self, known: Option<&PublicKey>) -> Result<VerifiedIdentity, IdentityFault> {
        let agent_id = self.claimed_id()?;
        let identity = self.get("identity").ok_or(IdentityFault::NoIdentity)?;
        let key_text = self.key_text().ok_or(IdentityFault::NoKey)?;
        let signature = self
            .get("identity_signature")
            .and_then(Value::as_str)
            .ok_or(IdentityFault::NoSignature)?;
        let key = match known {
            Some(key) => key.clone(),
            None => PublicKey::from_pem(key_text)?,
        };
        key.verify_any(json::signing_texts(identity), signature)?;
        let rotations = Rotation::from_member(self.get("key_rotations"));
        Ok(VerifiedIdentity {
            rotations,
            agent_id,
            key,
            name: self.shown("name"),
        })
    }

    /// A text of the identity for people: control characters replaced, at most 200 characters.
    pub fn shown(&self, member: &str) -> String {
        let text = self
            .get("identity")
            .and_then(|i| i.get(member))
            .and_then(Value::as_str);
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        text.unwrap_or_default()
            .chars()
            .take(200)
            .map(clean)
            .collect()
    }

    /// The member `ledger`: the sender's checkpoint and whose it is, nothing of it checked. Absent and malformed are the
    /// same.
    pub fn ledger(&self) -> Option<Attributed> {
        self.get("ledger").and_then(Attributed::from_value)
    }

    /// The member `possession`; absent and malformed are the same.
    pub fn possession(&self) -> Possession {
        Possession::from_member(self.get("possession"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static KEY: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());

    fn signed() -> SignedIdentity {
        let identity = Identity {
            name: "Agent".into(),
            description: "d".into(),
            scope: "general".into(),
            instance_id: KEY.public().agent_id(),
        };
        SignedIdentity::new(&identity, &KEY).unwrap()
    }

    fn ours() -> Map<String, Value> {
        let value = introduction(
            &signed(),
            &ExchangePolicy::default(),
            &[],
            &[],
            "2026-02-20T12:00:00Z",
            None,
        );
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn writes_members_in_the_order_of_the_reference() {
        let object = ours();
        let members: Vec<_> = object.keys().map(String::as_str).collect();
        assert_eq!(
            members,
            [
                "identity",
                "capabilities",
                "skills",
                "exchangeable_skillsets",
                "constraints",
                "exchange_policy",
                "timestamp",
                "public_key",
                "key_fingerprint",
                "identity_signature"
            ]
        );
        let identity: Vec<_> = object["identity"].as_object().unwrap().keys().collect();
        assert_eq!(
            identity,
            ["description", "instance_id", "name", "scope", "version"]
        );
    }

    #[test]
    fn verifies_what_it_signs_and_nothing_else() {
        let received = ReceivedIntroduction::new(ours());
        let verified = received.verify(None).unwrap();
        assert_eq!(verified.agent_id, KEY.public().agent_id());
        assert_eq!(&verified.key, KEY.public());
        for (member, value, fault) in [
            ("identity", json!("x"), IdentityFault::NoIdentity),
            ("identity", json!({}), IdentityFault::NoInstanceId),
            (
                "identity",
                json!({"instance_id": 7}),
                IdentityFault::NoInstanceId,
            ),
            (
                "identity",
                json!({"instance_id": "a"}),
                SignatureError::Mismatch.into(),
            ),
            ("public_key", Value::Null, IdentityFault::NoKey),
            ("public_key", json!("x"), KeyError::NotPem.into()),
            (
                "identity_signature",
                json!(["x"]),
                IdentityFault::NoSignature,
            ),
            (
                "identity_signature",
                json!("x"),
                SignatureError::NotBase64.into(),
            ),
        ] {
            let mut object = ours();
            object.insert(member.to_owned(), value);
            assert_eq!(
                ReceivedIntroduction::new(object).verify(None).unwrap_err(),
                fault,
                "{member}"
            );
        }
    }

    #[test]
    fn a_blank_or_long_id_is_not_an_id() {
        for bad in ["", "  ", &"x".repeat(129), "a\nb"] {
            let object = json!({"identity": {"instance_id": bad}});
            let received = ReceivedIntroduction::new(object.as_object().cloned().unwrap());
            assert!(
                matches!(received.claimed_id(), Err(IdentityFault::InstanceId(_))),
                "{bad}"
            );
        }
    }
}
