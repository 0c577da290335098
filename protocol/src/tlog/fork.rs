//! Evidence that an agent showed two histories, which anyone can check without asking anyone.
//!
//! It holds two checkpoints that the agent signed, and a consistency proof for the later tree *from another beginning
//! than the earlier checkpoint states*. The proof binds the later tree to that beginning, so both cannot be the history
//! of one ledger. An agent that went back and wrote anew produces such a proof itself, by answering as it should.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::proof::{Head, PROOF_MAX, ProofError, verify_consistency};
use super::statement::{Attributed, StatementError};
use crate::crypto::PublicKey;
use crate::hash::ContentHash;
use crate::id::AgentId;
use crate::json::{self, JsonError};
use crate::wire::rotation::{self, Rotation};

/// Longest evidence in bytes.
pub const FORK_MAX: usize = 1024 * 1024;
/// What kind of file it is.
const FORMAT: &str = "kairos-fork-proof-v1";

/// Why something is not evidence.
#[derive(Debug, Error)]
pub enum ForkError {
    /// Longer than [`FORK_MAX`].
    #[error("the fork proof is longer than {FORK_MAX} bytes")]
    TooLong,
    /// Not JSON.
    #[error("the fork proof is not usable: {0}")]
    Json(#[from] JsonError),
    /// Not the members of a fork proof.
    #[error("not a fork proof: {0}")]
    Form(#[from] serde_json::Error),
    /// Another version, or another thing.
    #[error("not a fork proof of the form {FORMAT}")]
    Format,
    /// One of the checkpoints is not its agent's.
    #[error("the {which} checkpoint: {source}")]
    Shown {
        /// `first` or `second`.
        which: &'static str,
        /// Why.
        source: StatementError,
    },
    /// The checkpoints are of two agents.
    #[error("the checkpoints are of two agents")]
    TwoAgents,
    /// The proof shows nothing.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Nothing contradicts: one ledger can have both.
    #[error("the checkpoints do not contradict each other")]
    Consistent,
}

/// Two checkpoints that cannot both be of one ledger, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkProof {
    format: String,
    /// The one with fewer entries.
    first: Attributed,
    /// The one with more, or as many.
    second: Attributed,
    /// The root over as many entries as `first` has, in the tree of `second`.
    root: ContentHash,
    /// Shows that.
    consistency: Vec<ContentHash>,
    /// Changes of the identity key, if the two were signed under different ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rotations: Vec<Rotation>,
}

/// What a fork proof that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// Who showed two histories, as it names itself.
    pub agent: AgentId,
    /// The keys it is known by, as it names them itself: that which signed the one history, and that which signed the
    /// other. They are the same unless it changed its key in between.
    pub keys: [PublicKey; 2],
    /// The one history.
    pub first: Head,
    /// The other.
    pub second: Head,
}

impl ForkProof {
    /// Puts evidence together, in the order of the trees, and checks it.
    ///
    /// `root` and `consistency` are what the agent answered when it was asked how its tree of `now` continues that of
    /// `before`. Fails with [`ForkError::Consistent`] if it does.
    pub fn new(
        before: Attributed,
        now: Attributed,
        root: ContentHash,
        consistency: Vec<ContentHash>,
        rotations: Vec<Rotation>,
    ) -> Result<Self, ForkError> {
        let proof = Self {
            format: FORMAT.to_owned(),
            first: before,
            second: now,
            root,
            consistency,
            rotations,
        };
        proof.verify().map(|_| proof)
    }

    /// Checks that the two checkpoints are of one agent and contradict each other.
    pub fn verify(&self) -> Result<Fork, ForkError> {
        if self.format != FORMAT {
            return Err(ForkError::Format);
        }
        for (which, shown) in [("first", &self.first), ("second", &self.second)] {
            let held = shown.verify();
            held.map_err(|source| ForkError::Shown { which, source })?;
        }
        let (a, b) = (&self.first.statement, &self.second.statement);
        let one_key = a.identity_key == b.identity_key
            || rotation::leads(
                &self.rotations,
                &a.instance_id,
                &a.identity_key,
                &b.identity_key,
            );
        if a.instance_id != b.instance_id || !one_key {
            return Err(ForkError::TwoAgents);
        }
        if self.consistency.len() > PROOF_MAX {
            return Err(ProofError::Length.into());
        }
        let (first, second) = (self.first.checkpoint.head(), self.second.checkpoint.head());
        if self.root == first.root {
            return Err(ForkError::Consistent);
        }
        let begins = Head {
            root: self.root,
            ..first
        };
        verify_consistency(begins, second, &self.consistency)?;
        Ok(Fork {
            agent: b.instance_id.clone(),
            keys: [a.identity_key.clone(), b.identity_key.clone()],
            first,
            second,
        })
    }

    /// Reads evidence; nothing is checked yet.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ForkError> {
        if bytes.len() > FORK_MAX {
            return Err(ForkError::TooLong);
        }
        Ok(Self::deserialize(json::parse(bytes)?)?)
    }

    /// The evidence as a file.
    pub fn to_json(&self) -> Result<String, ForkError> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::note::SigningKey;
    use super::super::statement::tests::{attributed, log_key};
    use super::super::tree::{Frontier, leaf_hash, node_hash};
    use super::*;

    fn head(leaves: &[ContentHash]) -> Head {
        let mut frontier = Frontier::default();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        Head {
            size: frontier.size(),
            root: frontier.root(),
        }
    }

    fn leaf(text: &str) -> ContentHash {
        leaf_hash(text.as_bytes())
    }

    /// Of the ledgers `a b` and `a x c`.
    fn evidence(one: &SigningKey, two: &SigningKey) -> Result<ForkProof, ForkError> {
        let (a, b, x, c) = (leaf("a"), leaf("b"), leaf("x"), leaf("c"));
        let before = attributed(head(&[a, b]), one);
        let now = attributed(head(&[a, x, c]), two);
        ForkProof::new(before, now, node_hash(&a, &x), vec![c], Vec::new())
    }

    #[test]
    fn two_histories_are_evidence_whatever_keys_they_were_signed_with() {
        let key = log_key();
        for other in [&key, &log_key()] {
            let proof = evidence(&key, other).unwrap();
            let read = ForkProof::from_json(proof.to_json().unwrap().as_bytes()).unwrap();
            assert_eq!(read, proof);
            let fork = read.verify().unwrap();
            assert_eq!((fork.first.size, fork.second.size), (2, 3));
            assert_eq!(fork.agent.as_str(), "agent");
        }
        let (a, b) = (leaf("a"), leaf("b"));
        let one = attributed(head(&[a]), &key);
        let two = attributed(head(&[b]), &key);
        ForkProof::new(one, two, b, vec![], vec![]).unwrap();
    }

    #[test]
    fn one_history_is_no_evidence() {
        let key = log_key();
        let (a, b, c) = (leaf("a"), leaf("b"), leaf("c"));
        let before = attributed(head(&[a, b]), &key);
        let now = attributed(head(&[a, b, c]), &key);
        let root = before.checkpoint.head().root;
        let told = |root, proof| {
            ForkProof::new(before.clone(), now.clone(), root, proof, vec![]).unwrap_err()
        };
        assert!(matches!(told(root, vec![c]), ForkError::Consistent));
        // Accusing somebody takes more than another root.
        assert!(matches!(told(leaf("x"), vec![c]), ForkError::Proof(_)));
        assert!(matches!(told(leaf("x"), vec![]), ForkError::Proof(_)));
        // Two empty ledgers.
        let none = attributed(head(&[]), &key);
        assert!(ForkProof::new(none.clone(), none, leaf("x"), vec![], vec![]).is_err());
    }

    #[test]
    fn any_change_breaks_it() {
        let key = log_key();
        let good = serde_json::to_value(evidence(&key, &key).unwrap()).unwrap();
        for (pointer, changed) in [
            ("/format", json!("kairos-fork-proof-v2")),
            ("/root", json!(leaf("z"))),
            ("/consistency/0", json!(leaf("z"))),
            ("/consistency", json!([])),
            ("/first/log/instance_id", json!("other")),
            ("/second", good["first"].clone()),
        ] {
            let mut value: Value = good.clone();
            *value.pointer_mut(pointer).unwrap() = changed;
            let read = ForkProof::from_json(value.to_string().as_bytes()).unwrap();
            assert!(read.verify().is_err(), "{pointer}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ForkProof::from_json(&bytes);
        }
    }
}
