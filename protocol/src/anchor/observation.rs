//! What one agent saw of another, or of itself. Several may see the same thing differently, and none is overruled.

use serde_json::{Map, Value, json};

use super::{
    Anchor, AnchorError, AnchorMembers, check_kind, check_metadata, check_text, hash_of,
    parse_hash, without_nulls,
};
use crate::hash::ContentHash;
use crate::time::Timestamp;

/// What can be observed, besides what starts with `custom.`.
pub const OBSERVATION_TYPES: [&str; 4] = ["initiated", "completed", "faded", "observed"];

/// An observation as its maker gave it, unchecked.
#[derive(Debug, Clone, Default)]
pub struct ObservationMembers {
    /// Who observes.
    pub observer_id: String,
    /// Who is observed, which may be the same.
    pub observed_id: String,
    /// The SHA-256 of the interaction, which stays with the observer.
    pub interaction_hash: String,
    /// One of [`OBSERVATION_TYPES`], or a type of one's own.
    pub observation_type: String,
    /// The observer's reading. Only its hash is anchored.
    pub interpretation: Map<String, Value>,
    /// When; now, if nothing is said.
    pub timestamp: Option<String>,
    /// What it belongs to.
    pub context_ref: Option<String>,
    /// Whatever else belongs to it.
    pub metadata: Map<String, Value>,
}

/// A checked observation.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservationLog {
    observer_id: String,
    observed_id: String,
    interaction_hash: ContentHash,
    observation_type: String,
    interpretation: Map<String, Value>,
    timestamp: String,
    context_ref: Option<String>,
    metadata: Map<String, Value>,
}

impl ObservationMembers {
    /// Checks the members as the reference does, and their bounds.
    pub fn check(self, now: Timestamp) -> Result<ObservationLog, AnchorError> {
        check_text("observer_id", &self.observer_id)?;
        check_text("observed_id", &self.observed_id)?;
        let interaction_hash = parse_hash("interaction_hash", &self.interaction_hash)?;
        check_kind(
            "observation_type",
            &self.observation_type,
            &OBSERVATION_TYPES,
        )?;
        check_metadata("interpretation", &self.interpretation)?;
        check_metadata("metadata", &self.metadata)?;
        let observation = ObservationLog {
            observer_id: self.observer_id,
            observed_id: self.observed_id,
            interaction_hash,
            observation_type: self.observation_type,
            interpretation: self.interpretation,
            timestamp: self.timestamp.unwrap_or_else(|| now.wire()),
            context_ref: self.context_ref,
            metadata: self.metadata,
        };
        // The rest of the bounds are those of the anchor it becomes.
        observation.anchor(now).map(|_| observation)
    }
}

impl ObservationLog {
    /// The id, made of a hash over both agents, the interaction and the time.
    pub fn observation_id(&self) -> String {
        let (observer, observed) = (&self.observer_id, &self.observed_id);
        let text = format!(
            "{observer}_{observed}_{}_{}",
            self.interaction_hash, self.timestamp
        );
        let hex: String = ContentHash::of(text).to_hex().chars().take(12).collect();
        format!("obs_{hex}")
    }

    /// The hash of the interaction.
    pub fn interaction_hash(&self) -> ContentHash {
        self.interaction_hash
    }

    /// Whether an agent observed itself.
    pub fn is_of_self(&self) -> bool {
        self.observer_id == self.observed_id
    }

    /// The anchor that shows it. Members of its metadata win over those that are made here.
    pub fn anchor(&self, now: Timestamp) -> Result<Anchor, AnchorError> {
        let mut metadata = Map::new();
        metadata.insert("observation_type".to_owned(), json!(self.observation_type));
        metadata.insert("observer_id".to_owned(), json!(self.observer_id));
        metadata.insert("observed_id".to_owned(), json!(self.observed_id));
        if !self.interpretation.is_empty() {
            let hash = hash_of(&Value::Object(self.interpretation.clone()));
            metadata.insert("interpretation_hash".to_owned(), json!(hash));
        }
        metadata.extend(self.metadata.clone());
        let mut participants = vec![self.observer_id.clone()];
        if !self.is_of_self() {
            participants.push(self.observed_id.clone());
        }
        let members = AnchorMembers {
            anchor_type: "observation_log".to_owned(),
            source_id: self.observation_id(),
            data_hash: self.interaction_hash.to_hex(),
            participants,
            metadata,
            timestamp: Some(self.timestamp.clone()),
            previous_anchor_ref: self.context_ref.clone(),
        };
        members.check(now)
    }

    /// The members as the reference hands them over.
    pub fn to_value(&self) -> Value {
        without_nulls(json!({
            "observation_id": self.observation_id(), "observer_id": self.observer_id,
            "observed_id": self.observed_id, "interaction_hash": self.interaction_hash,
            "observation_type": self.observation_type, "interpretation": self.interpretation,
            "timestamp": self.timestamp, "context_ref": self.context_ref,
            "metadata": self.metadata,
        }))
    }
}

/// The interaction of an agent that was not heard of for too long, as a Meeting Place observes it. Times are in the form
/// of the wire.
pub fn fadeout_hash(agent_id: &str, last_heartbeat: &str, now: Timestamp) -> ContentHash {
    ContentHash::of(format!(
        "fadeout:{agent_id}:{last_heartbeat}:{}",
        now.wire()
    ))
}
