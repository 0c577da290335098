//! What an agent declares of itself, to be seen by others and binding on nobody.

use serde_json::{Map, Value, json};

use super::{
    Anchor, AnchorError, AnchorMembers, check_kind, check_metadata, check_text, check_texts,
    parse_hash, without_nulls,
};
use crate::hash::ContentHash;
use crate::time::Timestamp;

/// What can be declared, besides what starts with `custom.`.
pub const PHILOSOPHY_TYPES: [&str; 3] = ["exchange", "interaction", "fadeout"];
/// The version of a declaration that names none.
pub const VERSION: &str = "1.0";

/// A declaration as its maker gave it, unchecked.
#[derive(Debug, Clone, Default)]
pub struct DeclarationMembers {
    /// Who declares.
    pub agent_id: String,
    /// One of [`PHILOSOPHY_TYPES`], or a type of one's own.
    pub philosophy_type: String,
    /// The SHA-256 of the text, which stays with its author.
    pub philosophy_hash: String,
    /// Tags of what it goes together with.
    pub compatible_with: Vec<String>,
    /// Its version; [`VERSION`], if nothing is said.
    pub version: Option<String>,
    /// When; now, if nothing is said.
    pub timestamp: Option<String>,
    /// The declaration that this one follows.
    pub previous_declaration_ref: Option<String>,
    /// Whatever else belongs to it.
    pub metadata: Map<String, Value>,
}

/// A checked declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct PhilosophyDeclaration {
    agent_id: String,
    philosophy_type: String,
    philosophy_hash: ContentHash,
    compatible_with: Vec<String>,
    version: String,
    timestamp: String,
    previous_declaration_ref: Option<String>,
    metadata: Map<String, Value>,
}

impl DeclarationMembers {
    /// Checks the members as the reference does, and their bounds.
    pub fn check(self, now: Timestamp) -> Result<PhilosophyDeclaration, AnchorError> {
        check_text("agent_id", &self.agent_id)?;
        check_kind("philosophy_type", &self.philosophy_type, &PHILOSOPHY_TYPES)?;
        let philosophy_hash = parse_hash("philosophy_hash", &self.philosophy_hash)?;
        check_texts("compatible_with", &self.compatible_with)?;
        check_metadata("metadata", &self.metadata)?;
        let version = self.version.unwrap_or_else(|| VERSION.to_owned());
        let timestamp = self.timestamp.unwrap_or_else(|| now.wire());
        let declaration = PhilosophyDeclaration {
            agent_id: self.agent_id,
            philosophy_type: self.philosophy_type,
            philosophy_hash,
            compatible_with: self.compatible_with,
            version,
            timestamp,
            previous_declaration_ref: self.previous_declaration_ref,
            metadata: self.metadata,
        };
        // The rest of the bounds are those of the anchor it becomes.
        declaration.anchor(now).map(|_| declaration)
    }
}

impl PhilosophyDeclaration {
    /// The id, made of its agent, type, version and the digits of its time.
    pub fn declaration_id(&self) -> String {
        let digits: String = (self.timestamp.chars())
            .filter(char::is_ascii_digit)
            .collect();
        let (agent, kind, version) = (&self.agent_id, &self.philosophy_type, &self.version);
        format!("philo_{agent}_{kind}_{version}_{digits}")
    }

    /// The hash of the declared text.
    pub fn philosophy_hash(&self) -> ContentHash {
        self.philosophy_hash
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The anchor that shows it. Members of its metadata win over those that are made here.
    pub fn anchor(&self, now: Timestamp) -> Result<Anchor, AnchorError> {
        let mut metadata = Map::new();
        metadata.insert("philosophy_type".to_owned(), json!(self.philosophy_type));
        metadata.insert("compatible_with".to_owned(), json!(self.compatible_with));
        metadata.insert("version".to_owned(), json!(self.version));
        metadata.extend(self.metadata.clone());
        let members = AnchorMembers {
            anchor_type: "philosophy_declaration".to_owned(),
            source_id: self.declaration_id(),
            data_hash: self.philosophy_hash.to_hex(),
            participants: vec![self.agent_id.clone()],
            metadata,
            timestamp: Some(self.timestamp.clone()),
            previous_anchor_ref: self.previous_declaration_ref.clone(),
        };
        members.check(now)
    }

    /// The members as the reference hands them over.
    pub fn to_value(&self) -> Value {
        without_nulls(json!({
            "declaration_id": self.declaration_id(), "agent_id": self.agent_id,
            "philosophy_type": self.philosophy_type, "philosophy_hash": self.philosophy_hash,
            "compatible_with": self.compatible_with, "version": self.version,
            "timestamp": self.timestamp,
            "previous_declaration_ref": self.previous_declaration_ref, "metadata": self.metadata,
        }))
    }
}
