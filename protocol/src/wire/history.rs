//! How a ledger continues what was seen of it before: the answer of `GET /meeting/v1/checkpoint?from=SIZE`.
//!
//! An agent that wrote its past anew convicts itself by answering truthfully: see [`crate::tlog::fork`].

use serde_json::{Value, json};

use crate::hash::ContentHash;
use crate::tlog::proof::{Head, PROOF_MAX};
use crate::tlog::statement::Attributed;

/// How a later tree continues an earlier one, as the log's owner says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continued {
    /// The last checkpoint.
    pub now: Attributed,
    /// The tree of the size that was asked about.
    pub before: Head,
    /// Shows that `now` continues `before`.
    pub proof: Vec<ContentHash>,
}

impl Continued {
    /// The object that is sent.
    pub fn to_value(&self) -> Value {
        json!({
            "checkpoint": self.now.checkpoint.to_string(), "log": self.now.statement,
            "from": self.before.size, "root": self.before.root, "consistency": self.proof,
        })
    }

    /// Reads [`to_value`](Self::to_value); nothing if it is malformed. Nothing in it is checked.
    pub fn from_value(value: &Value) -> Option<Self> {
        let hash = |value: &Value| value.as_str()?.parse().ok();
        let proof = value.get("consistency")?.as_array()?;
        if proof.len() > PROOF_MAX {
            return None;
        }
        Some(Self {
            now: Attributed::from_value(value)?,
            before: Head {
                size: value.get("from")?.as_u64()?,
                root: hash(value.get("root")?)?,
            },
            proof: proof.iter().map(hash).collect::<Option<_>>()?,
        })
    }
}
