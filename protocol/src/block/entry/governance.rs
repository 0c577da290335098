//! Entries about the rules themselves: transitions of skills and instructions, state commits, decisions on how a
//! skill was formalized, and upgrades.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{at_any, offset_form, wire_form};
use crate::hash::ContentHash;
use crate::time::Timestamp;

/// What the skill id of an [`InstructionsUpdate`] begins with.
pub(super) const INSTRUCTIONS: &str = "instructions:";
/// What stands for a hash that there is none of.
const NIL: &str = "nil";

/// A skill of the law changed. The one entry that the reference writes without a `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillTransition {
    /// The skill.
    pub skill_id: String,
    /// The hash of the whole file of the law before, despite the name; nothing if there was none.
    pub prev_ast_hash: Option<ContentHash>,
    /// The hash of the whole file afterwards.
    pub next_ast_hash: Option<ContentHash>,
    /// The hash of the text before and the text afterwards, one behind the other.
    pub diff_hash: ContentHash,
    /// Who did it; the reference always says `AI`.
    pub actor: String,
    /// Through which agent; the reference always says `Kairos`.
    pub agent_id: String,
    /// When.
    #[serde(serialize_with = "offset_form", deserialize_with = "at_any")]
    pub timestamp: Timestamp,
    /// What keeps the text from before: the file name of a version, of a copy, or of a snapshot.
    pub reason_ref: Option<String>,
    /// The hash of the difference, skill by skill and field by field, which the reference does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub law_diff_hash: Option<ContentHash>,
}

impl SkillTransition {
    /// The file of the law went from `before` to `after` because of `skill_id`; `version` is the name of the copy
    /// of `before` that was kept.
    pub fn new(
        skill_id: impl Into<String>,
        (before, after): (&str, &str),
        version: Option<String>,
        at: Timestamp,
    ) -> Self {
        Self {
            skill_id: skill_id.into(),
            prev_ast_hash: Some(ContentHash::of(before)),
            next_ast_hash: Some(ContentHash::of(after)),
            diff_hash: ContentHash::of([before, after].concat()),
            actor: "AI".to_owned(),
            agent_id: "Kairos".to_owned(),
            timestamp: at,
            reason_ref: version,
            law_diff_hash: None,
        }
    }
}

/// The instructions of a mode changed, or another mode was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionsUpdate {
    /// `instructions:` and the mode.
    skill_id: String,
    #[serde(serialize_with = "or_nil", deserialize_with = "nil_or")]
    prev_ast_hash: Option<ContentHash>,
    #[serde(serialize_with = "or_nil", deserialize_with = "nil_or")]
    next_ast_hash: Option<ContentHash>,
    diff_hash: ContentHash,
    actor: String,
    agent_id: String,
    #[serde(serialize_with = "offset_form", deserialize_with = "at_any")]
    timestamp: Timestamp,
    reason_ref: String,
}

/// What can happen to instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionsAction {
    /// A mode is new.
    Create,
    /// The text of a mode changed.
    Update,
    /// A mode is gone.
    Delete,
    /// Another mode is in force; the hashes are those of the two names.
    SetMode,
}

impl InstructionsUpdate {
    /// What happened to the instructions of `mode`, whose text hashes to the two hashes before and after.
    pub fn new(
        mode: &str,
        action: InstructionsAction,
        (prev, next): (Option<ContentHash>, Option<ContentHash>),
        reason: &str,
        at: Timestamp,
    ) -> Self {
        let action = match action {
            InstructionsAction::Create => "create_instructions",
            InstructionsAction::Update => "update_instructions",
            InstructionsAction::Delete => "delete_instructions",
            InstructionsAction::SetMode => "set_instructions_mode",
        };
        let hex = |hash: Option<ContentHash>| hash.map(|hash| hash.to_hex()).unwrap_or_default();
        Self {
            skill_id: format!("{INSTRUCTIONS}{mode}"),
            prev_ast_hash: prev,
            next_ast_hash: next,
            diff_hash: ContentHash::of(hex(prev) + &hex(next)),
            actor: "AI".to_owned(),
            agent_id: "Kairos".to_owned(),
            timestamp: at,
            reason_ref: format!("{action}: {reason}"),
        }
    }

    /// The mode it is about.
    pub fn mode(&self) -> &str {
        let mode = self.skill_id.strip_prefix(INSTRUCTIONS);
        mode.unwrap_or(&self.skill_id)
    }

    /// What happened and why, such as `update_instructions: clearer words`.
    pub fn reason_ref(&self) -> &str {
        &self.reason_ref
    }

    /// The hash before; nothing where there was nothing.
    pub fn prev_hash(&self) -> Option<ContentHash> {
        self.prev_ast_hash
    }

    /// The hash after; nothing where nothing is left.
    pub fn next_hash(&self) -> Option<ContentHash> {
        self.next_ast_hash
    }
}

/// A snapshot of all layers was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "state_commit")]
pub struct StateCommit {
    /// Whether somebody asked for it.
    pub commit_type: CommitType,
    /// Who did it.
    pub actor: CommitActor,
    /// The hash of the snapshot before; nothing for the first.
    pub prev_snapshot_hash: Option<ContentHash>,
    /// The hash of this one.
    pub next_snapshot_hash: ContentHash,
    /// Where it is, relative to the storage directory: `snapshots/FILE`.
    pub snapshot_ref: String,
    /// How much changed.
    pub summary: StateSummary,
    /// Why.
    pub reason: Option<String>,
    /// When.
    #[serde(serialize_with = "offset_form", deserialize_with = "at_any")]
    pub timestamp: Timestamp,
    /// The hash over every file of the layers, which the reference does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<ContentHash>,
}

/// How a state commit came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitType {
    /// Somebody asked for it.
    Explicit,
    /// Enough had changed.
    Auto,
}

/// Who made a state commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitActor {
    /// A person.
    Human,
    /// The program.
    System,
}

/// How much changed between two snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateSummary {
    /// Whether the law or a skill of it did.
    #[serde(rename = "L0_changed")]
    pub l0_changed: bool,
    /// New knowledge.
    #[serde(rename = "L1_added")]
    pub l1_added: u64,
    /// Changed knowledge.
    #[serde(rename = "L1_modified")]
    pub l1_modified: u64,
    /// Knowledge that is gone.
    #[serde(rename = "L1_deleted")]
    pub l1_deleted: u64,
    /// New sessions.
    #[serde(rename = "L2_sessions_added")]
    pub l2_sessions_added: u64,
    /// Sessions that are gone.
    #[serde(rename = "L2_sessions_deleted")]
    pub l2_sessions_deleted: u64,
    /// Contexts that became knowledge.
    pub promotions: u64,
    /// Knowledge that was put away.
    pub demotions: u64,
    /// All of it.
    pub total_changes: u64,
    /// Sessions whose texts changed, which the reference does not count.
    #[serde(rename = "L2_sessions_modified", skip_serializing_if = "is_zero")]
    pub l2_sessions_modified: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How a part of a skill was put into the skills language, or why not. All members are written, unset ones as null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "formalization_decision")]
pub struct FormalizationDecision {
    /// The skill.
    pub skill_id: String,
    /// Its version.
    pub skill_version: Option<String>,
    /// The text it was about.
    pub source_text: Option<String>,
    /// Where that text is.
    pub source_span: Option<Value>,
    /// What was decided.
    pub result: FormalizationResult,
    /// Why.
    pub rationale: Option<String>,
    /// What kind of statement the text is.
    pub formalization_category: Option<String>,
    /// How ambiguous it was.
    pub ambiguity_before: Option<Value>,
    /// How ambiguous it is.
    pub ambiguity_after: Option<Value>,
    /// Who decided.
    pub decided_by: Option<String>,
    /// With which model.
    pub model: Option<String>,
    /// When.
    #[serde(serialize_with = "offset_form", deserialize_with = "at_any")]
    pub timestamp: Timestamp,
    /// How sure, from 0 to 1.
    pub confidence: Option<f64>,
    /// The formal part in words again. No tool of the reference sets it.
    pub decompile_text: Option<String>,
    /// How far those words are from the text. No tool of the reference sets it.
    pub source_decompile_divergence: Option<Value>,
}

/// Whether a text was put into the skills language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormalizationResult {
    /// It was.
    Formalized,
    /// It stays text.
    NotFormalized,
}

/// The data directory was brought to a newer version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "system_upgrade")]
pub struct SystemUpgrade {
    /// The version before, or `unknown`.
    pub from_version: String,
    /// The version now.
    pub to_version: String,
    /// What was done to each file.
    pub actions: UpgradeActions,
    /// When; in the form of the wire, unlike other entries.
    #[serde(serialize_with = "wire_form", deserialize_with = "at_any")]
    pub timestamp: Timestamp,
}

/// The files and the knowledge an upgrade looked at, by what it did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeActions {
    /// Replaced, since the user had not changed them.
    pub auto_updated: Vec<String>,
    /// Merged with what the user had changed.
    pub merged: Vec<String>,
    /// Left for a person to decide, being law.
    pub l0_proposed: Vec<String>,
    /// Left alone.
    pub skipped: Vec<String>,
    /// The same before and after.
    pub unchanged: Vec<String>,
    /// New knowledge.
    pub knowledge_installed: Vec<String>,
    /// Replaced knowledge.
    pub knowledge_updated: Vec<String>,
    /// Knowledge of the user that stayed.
    pub knowledge_kept: Vec<String>,
    /// Knowledge that both sides changed.
    pub knowledge_conflict: Vec<String>,
}

fn or_nil<S: Serializer>(hash: &Option<ContentHash>, serializer: S) -> Result<S::Ok, S::Error> {
    match hash {
        Some(hash) => hash.serialize(serializer),
        None => serializer.serialize_str(NIL),
    }
}

fn nil_or<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ContentHash>, D::Error> {
    match Option::<String>::deserialize(from)?.as_deref() {
        None | Some(NIL) => Ok(None),
        Some(hash) => hash.parse().map(Some).map_err(serde::de::Error::custom),
    }
}
