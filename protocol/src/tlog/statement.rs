//! Whose log it is: the agent's identity key signs which keys its log and its witness use.
//!
//! The statement travels beside a checkpoint, so whoever knows the agent's key knows whose log they look at. A new
//! log key needs a new statement, and both stay attributable to the agent: changing the key is no way out of a
//! history.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::checkpoint::{CheckpointError, SignedCheckpoint};
use super::note::{Purpose, VerifierKey};
use crate::crypto::{KeyError, Keypair, PublicKey, SignatureError};
use crate::id::AgentId;
use crate::json;
use crate::time::Timestamp;

/// Separates these signatures from everything else a key signs.
const PURPOSE: &str = "kairos-log-keys-v1";

/// Why a statement, or a checkpoint with one, does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StatementError {
    /// The keys are not those of the log and the witness of the agent it names.
    #[error("the statement names keys of another log than that of `{0}`")]
    Names(AgentId),
    /// The identity key did not sign it.
    #[error("the statement about the log's keys: {0}")]
    Signature(#[from] SignatureError),
    /// The checkpoint does not hold for the stated key.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// The agent's statement which keys are those of its log and its witness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogStatement {
    /// Whose log.
    pub instance_id: AgentId,
    /// Signs checkpoints.
    pub log_key: VerifierKey,
    /// Cosigns those of others.
    pub witness_key: VerifierKey,
    /// When, by the signer's clock.
    pub at: String,
    /// The identity key that signs this.
    pub identity_key: PublicKey,
    /// Over all of the above.
    signature: String,
}

/// The name of the log of the agent `id`; its checkpoints have it as their origin.
///
/// Bytes of the id that have no place in the name of a key are written as `%` and two hex digits.
pub fn log_name(id: &AgentId) -> String {
    let mut name = String::from("kairos-chain/");
    for byte in id.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.len() > LOG_NAME_MAX {
        // Only for ids of many strange characters: still one name for each.
        let hash = crate::hash::ContentHash::of(id.as_str()).to_hex();
        name = format!("kairos-chain/sha256:{hash}");
    }
    name
}

/// The name of the witness of the agent `id`.
pub fn witness_name(id: &AgentId) -> String {
    format!("{}/witness", log_name(id))
}

/// Longest name of a log: it must fit an origin, and the name of the witness beside it.
const LOG_NAME_MAX: usize = 200;

impl LogStatement {
    /// States that `log_key` and `witness_key` are those of the agent `instance_id`.
    pub fn sign(
        identity: &Keypair,
        instance_id: &AgentId,
        log_key: &VerifierKey,
        witness_key: &VerifierKey,
        at: Timestamp,
    ) -> Result<Self, KeyError> {
        let mut statement = Self {
            instance_id: instance_id.clone(),
            log_key: log_key.clone(),
            witness_key: witness_key.clone(),
            at: at.wire(),
            identity_key: identity.public().clone(),
            signature: String::new(),
        };
        statement.signature = identity.sign(statement.text().as_bytes())?;
        Ok(statement)
    }

    fn text(&self) -> String {
        json::canonical(&json!({
            "purpose": PURPOSE, "instance_id": self.instance_id, "log_key": self.log_key,
            "witness_key": self.witness_key, "at": self.at, "identity_key": self.identity_key.hash(),
        }))
    }

    /// Checks that the identity key it names signed it, and that the keys are named after the agent. Whether that
    /// identity key is the agent's is for the caller to know.
    pub fn verify(&self) -> Result<(), StatementError> {
        let id = &self.instance_id;
        let log = self.log_key.name() == log_name(id) && self.log_key.purpose() == Purpose::Note;
        let witness = self.witness_key.name() == witness_name(id)
            && self.witness_key.purpose() == Purpose::Cosignature;
        if !log || !witness {
            return Err(StatementError::Names(id.clone()));
        }
        let text = self.text();
        Ok(self.identity_key.verify(text.as_bytes(), &self.signature)?)
    }
}

/// A checkpoint, and whose it is: what peers show each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributed {
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// Whose log it is of.
    pub statement: LogStatement,
}

impl Attributed {
    /// Checks the statement, and the checkpoint under its key.
    pub fn verify(&self) -> Result<(), StatementError> {
        self.statement.verify()?;
        Ok(self.checkpoint.verify(&self.statement.log_key)?)
    }

    /// The object that is sent: the members `checkpoint` and `log`.
    pub fn to_value(&self) -> Value {
        json!({"checkpoint": self.checkpoint.to_string(), "log": self.statement})
    }

    /// Reads [`to_value`](Self::to_value), which may have further members. Nothing if it is malformed.
    pub fn from_value(value: &Value) -> Option<Self> {
        let checkpoint = value.get("checkpoint")?.as_str()?.parse().ok()?;
        let statement = LogStatement::deserialize(value.get("log")?).ok()?;
        Some(Self {
            checkpoint,
            statement,
        })
    }
}

impl Serialize for Attributed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Attributed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let malformed =
            || serde::de::Error::custom("not a checkpoint with a statement whose it is");
        Self::from_value(&value).ok_or_else(malformed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use super::super::note::SigningKey;
    use super::super::proof::Head;
    use super::*;

    pub(in crate::tlog) static IDENTITY: LazyLock<Keypair> =
        LazyLock::new(|| Keypair::generate().unwrap());

    pub(in crate::tlog) fn id() -> AgentId {
        "agent".parse().unwrap()
    }

    pub(in crate::tlog) fn log_key() -> SigningKey {
        SigningKey::generate(&log_name(&id()), Purpose::Note).unwrap()
    }

    pub(in crate::tlog) fn attributed(head: Head, key: &SigningKey) -> Attributed {
        let witness = SigningKey::generate(&witness_name(&id()), Purpose::Cosignature).unwrap();
        let at = Timestamp::EPOCH;
        let (log, witness) = (key.verifier(), witness.verifier());
        Attributed {
            checkpoint: SignedCheckpoint::sign(head, key).unwrap(),
            statement: LogStatement::sign(&IDENTITY, &id(), log, witness, at).unwrap(),
        }
    }

    fn sample() -> Attributed {
        let root = super::super::tree::empty_root();
        attributed(Head { size: 0, root }, &log_key())
    }

    #[test]
    fn says_whose_log_it_is() {
        let shown = sample();
        shown.verify().unwrap();
        let read = Attributed::from_value(&shown.to_value()).unwrap();
        assert_eq!(read, shown);
        let other = log_key();
        let swapped = Attributed {
            checkpoint: SignedCheckpoint::sign(shown.checkpoint.head(), &other).unwrap(),
            ..shown
        };
        assert!(matches!(
            swapped.verify(),
            Err(StatementError::Checkpoint(_))
        ));
    }

    #[test]
    fn any_change_breaks_it() {
        let value = sample().to_value();
        for (pointer, changed) in [
            ("/log/at", json!("2026-01-01T00:00:00Z")),
            ("/log/log_key", json!(log_key().verifier())),
            ("/log/instance_id", json!("other")),
            ("/log/signature", json!("AAAA")),
            (
                "/log/identity_key",
                json!(Keypair::generate().unwrap().public()),
            ),
        ] {
            let mut value = value.clone();
            *value.pointer_mut(pointer).unwrap() = changed;
            let read = Attributed::from_value(&value).unwrap();
            assert!(read.verify().is_err(), "{pointer}");
        }
        for pointer in [
            "/log/witness_key",
            "/log/identity_key",
            "/checkpoint",
            "/log",
        ] {
            let mut value = value.clone();
            *value.pointer_mut(pointer).unwrap() = json!("x");
            assert_eq!(Attributed::from_value(&value), None, "{pointer}");
        }
    }

    #[test]
    fn every_id_has_a_name_for_its_log() {
        for (id, name) in [
            ("a1b2", "kairos-chain/a1b2".to_owned()),
            ("a b+c/é", "kairos-chain/a%20b%2bc%2f%c3%a9".to_owned()),
        ] {
            assert_eq!(log_name(&id.parse().unwrap()), name);
        }
        for id in ["é".repeat(64), "x".repeat(128), "/".repeat(128)] {
            let id: AgentId = id.parse().unwrap();
            for name in [log_name(&id), witness_name(&id)] {
                SigningKey::generate(&name, Purpose::Note).unwrap();
                assert!(name.len() <= super::super::checkpoint::ORIGIN_MAX);
            }
        }
    }
}
