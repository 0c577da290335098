//! Changing a key without losing one's name: the old key says which key comes after it.
//!
//! A statement travels in the member `key_rotations` of an introduction. Peers that pinned the old key follow it to
//! the new one; to everyone else, and to software that does not know the member, it means nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::crypto::{KeyError, Keypair, PublicKey};
use crate::id::AgentId;
use crate::json;
use crate::time::Timestamp;

/// Most statements kept and read: a peer that missed more of them has to be told by its owner.
pub const ROTATIONS_MAX: usize = 8;

/// Separates these signatures from everything else a key signs.
const PURPOSE: &str = "kairos-key-rotation-v1";

/// One change of key, signed with the key that is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Whose key.
    pub instance_id: AgentId,
    /// The key that is given up.
    pub old_key: PublicKey,
    /// The key that takes its place.
    pub new_key: PublicKey,
    /// When, by the signer's clock.
    pub at: String,
    /// By the old key, over all of the above.
    signature: String,
}

impl Rotation {
    /// States that `new_key` takes the place of `old` for `instance_id`.
    pub fn sign(
        old: &Keypair,
        new_key: &PublicKey,
        instance_id: &AgentId,
        at: Timestamp,
    ) -> Result<Self, KeyError> {
        let mut rotation = Self {
            instance_id: instance_id.clone(),
            old_key: old.public().clone(),
            new_key: new_key.clone(),
            at: at.wire(),
            signature: String::new(),
        };
        rotation.signature = old.sign(rotation.text().as_bytes())?;
        Ok(rotation)
    }

    fn text(&self) -> String {
        json::canonical(&json!({
            "purpose": PURPOSE, "instance_id": self.instance_id, "old_key": self.old_key.hash(),
            "new_key": self.new_key.hash(), "at": self.at,
        }))
    }

    fn holds(&self) -> bool {
        self.old_key
            .verify(self.text().as_bytes(), &self.signature)
            .is_ok()
    }

    /// Reads the statements in a received member; anything malformed counts as absent.
    pub fn from_member(value: Option<&Value>) -> Vec<Self> {
        let statements = value
            .and_then(Value::as_array)
            .filter(|list| list.len() <= ROTATIONS_MAX);
        statements
            .into_iter()
            .flatten()
            .filter_map(|s| Self::deserialize(s).ok())
            .collect()
    }
}

/// Whether `rotations` lead from the key `pinned` for `id` to `offered`, each step signed by the key before it.
pub fn leads(
    rotations: &[Rotation],
    id: &AgentId,
    pinned: &PublicKey,
    offered: &PublicKey,
) -> bool {
    let mut key = pinned;
    for _ in 0..rotations.len() {
        let next = rotations
            .iter()
            .find(|r| &r.instance_id == id && &r.old_key == key && r.holds());
        let Some(next) = next else { return false };
        key = &next.new_key;
        if key == offered {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_lead_from_the_pinned_key_to_the_current_one_and_nowhere_else() {
        let keys: Vec<_> = (0..4).map(|_| Keypair::generate().unwrap()).collect();
        let [a, b, c, other] = [0, 1, 2, 3].map(|n| keys[n].public().clone());
        let [id, stranger]: [AgentId; 2] = ["me", "you"].map(|id| id.parse().unwrap());
        let now = Timestamp::EPOCH;
        let first = Rotation::sign(&keys[0], &b, &id, now).unwrap();
        let second = Rotation::sign(&keys[1], &c, &id, now).unwrap();
        let both = [second.clone(), first.clone()];
        assert!(leads(&both, &id, &a, &c), "two steps, in any order");
        assert!(leads(&both, &id, &b, &c) && leads(&both, &id, &a, &b));
        assert!(!leads(&both, &id, &c, &a), "backwards");
        assert!(!leads(&both, &id, &other, &c), "from another key");
        assert!(!leads(&both, &stranger, &a, &c), "for another agent");
        let forged = Rotation {
            new_key: other.clone(),
            ..first.clone()
        };
        assert!(!leads(&[forged], &id, &a, &other), "to another key");
        let circle = [first, Rotation::sign(&keys[1], &a, &id, now).unwrap()];
        assert!(!leads(&circle, &id, &a, &other), "in circles");
    }

    #[test]
    fn statements_survive_the_wire_and_malformed_ones_are_nothing() {
        let [old, new] = [Keypair::generate().unwrap(), Keypair::generate().unwrap()];
        let rotation =
            Rotation::sign(&old, new.public(), &"me".parse().unwrap(), Timestamp::EPOCH).unwrap();
        let read = Rotation::from_member(Some(&json!([&rotation])));
        assert_eq!(read, std::slice::from_ref(&rotation));
        assert_eq!(
            Rotation::from_member(Some(&json!([{"old_key": 1}, "x"]))),
            []
        );
        assert_eq!(
            Rotation::from_member(Some(&json!(vec![rotation; ROTATIONS_MAX + 1]))),
            []
        );
    }
}
