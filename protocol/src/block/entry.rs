//! Typed ledger entries: each is one JSON object whose members stand in the order the reference writes them.
//!
//! Readers of a ledger tell entries apart by `type` or `_type`. Only the subsystem that owns a type builds its
//! entry; text from a caller goes through [`Entry::Text`], which cannot be mistaken for any of them.

mod approval;
mod governance;
mod kind;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use thiserror::Error;

use super::json;
use crate::hash::ContentHash;
use crate::time::Timestamp;

pub use approval::{ApprovalDecision, Decided, FILES_NAMED_MAX, FileChange};
pub use governance::{
    CommitActor, CommitType, FormalizationDecision, FormalizationResult, InstructionsAction,
    InstructionsUpdate, SkillTransition, StateCommit, StateSummary, SystemUpgrade, UpgradeActions,
};
pub use kind::Kind;

/// One entry of a block.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A knowledge file changed.
    KnowledgeUpdate(KnowledgeUpdate),
    /// A SkillSet was installed, switched or removed.
    SkillSetEvent(SkillSetEvent),
    /// A skill arrived from another agent.
    SkillProvenance(SkillProvenance),
    /// A SkillSet arrived from another agent.
    SkillSetProvenance(SkillSetProvenance),
    /// A skill of the law changed.
    SkillTransition(SkillTransition),
    /// The instructions of a mode changed.
    InstructionsUpdate(InstructionsUpdate),
    /// A snapshot of all layers was taken.
    StateCommit(StateCommit),
    /// How a text was put into the skills language.
    FormalizationDecision(Box<FormalizationDecision>),
    /// The data directory was brought to a newer version.
    SystemUpgrade(SystemUpgrade),
    /// A person decided about a change that waited for them.
    ApprovalDecision(ApprovalDecision),
    /// A message went between two agents. The reference knows it and never writes it.
    Interaction(Interaction),
    /// Two agents were in touch for a while. The reference knows it and never writes it.
    InteractionSession(InteractionSession),
    /// Free text of a caller.
    Text(String),
}

/// An entry that could not be read: its kind is not known, or it lacks what its kind needs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("entry of the kind `{name}` cannot be read")]
pub struct Unread {
    /// The kind, where it is a known one.
    pub kind: Option<Kind>,
    /// What the entry says it is; empty if it says nothing.
    pub name: String,
}

impl Entry {
    /// The text that goes into the block.
    ///
    /// Free text stays as it is, unless a reader of JSON could take it for an object: then it is wrapped as
    /// `{"type":"chain_record","text":…}`, so that a caller cannot forge an entry of a governed type.
    pub fn to_text(&self) -> String {
        match self {
            Entry::KnowledgeUpdate(entry) => compact(entry),
            Entry::SkillSetEvent(entry) => compact(entry),
            Entry::SkillProvenance(entry) => compact(entry),
            Entry::SkillSetProvenance(entry) => compact(entry),
            Entry::SkillTransition(entry) => compact(entry),
            Entry::InstructionsUpdate(entry) => compact(entry),
            Entry::StateCommit(entry) => compact(entry),
            Entry::FormalizationDecision(entry) => compact(entry),
            Entry::SystemUpgrade(entry) => compact(entry),
            Entry::ApprovalDecision(entry) => compact(entry),
            Entry::Interaction(entry) => compact(entry),
            Entry::InteractionSession(entry) => compact(entry),
            Entry::Text(text) if may_be_an_object(text) => compact(&FreeText { text }),
            Entry::Text(text) => text.clone(),
        }
    }
}

/// Whether some JSON reader, however lenient, could find an object here.
///
/// Lenient readers skip white space, a byte order mark and comments before the value.
fn may_be_an_object(text: &str) -> bool {
    let text =
        text.trim_start_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}');
    ["{", "/*", "//"]
        .iter()
        .any(|start| text.starts_with(start))
}

/// A change of one L1 knowledge file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "knowledge_update")]
pub struct KnowledgeUpdate {
    layer: L1,
    /// The name of the knowledge.
    pub knowledge_id: String,
    /// What happened.
    pub action: KnowledgeAction,
    /// The hash of the whole file before; nothing when it was created.
    pub prev_hash: Option<ContentHash>,
    /// The hash of the whole file after; nothing when it was deleted.
    pub next_hash: Option<ContentHash>,
    /// Why, in the words of whoever changed it.
    pub reason: String,
    /// When.
    #[serde(serialize_with = "offset_form", deserialize_with = "at_any")]
    pub timestamp: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum L1 {
    L1,
}

/// What can happen to knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KnowledgeAction {
    /// It is new.
    Create,
    /// Its text changed.
    Update,
    /// It is gone.
    Delete,
    /// It was put away.
    Archive,
    /// It was taken back.
    Unarchive,
}

impl KnowledgeUpdate {
    /// A change of `knowledge_id` at `at`, from the file that hashes to `prev_hash` to the one that hashes to
    /// `next_hash`. Without a `reason` it says `Create knowledge: NAME` and the like.
    pub fn new(
        knowledge_id: impl Into<String>,
        action: KnowledgeAction,
        (prev_hash, next_hash): (Option<ContentHash>, Option<ContentHash>),
        reason: Option<String>,
        at: Timestamp,
    ) -> Self {
        let knowledge_id = knowledge_id.into();
        Self {
            layer: L1::L1,
            reason: reason.unwrap_or_else(|| format!("{action:?} knowledge: {knowledge_id}")),
            knowledge_id,
            action,
            prev_hash,
            next_hash,
            timestamp: at,
        }
    }
}

/// A step in the life of an installed SkillSet. The reference writes none for layer L2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "skillset_event")]
pub struct SkillSetEvent {
    /// The layer it is installed in, such as `L1`.
    pub layer: String,
    /// Its name.
    pub skillset_name: String,
    /// Its version.
    pub skillset_version: String,
    /// What happened.
    pub action: SkillSetAction,
    /// The hash over its files.
    pub content_hash: ContentHash,
    /// Why; the reference never says.
    pub reason: Option<String>,
    /// When.
    #[serde(serialize_with = "offset_form", deserialize_with = "at_any")]
    pub timestamp: Timestamp,
    /// The hash of each file by path; for layer L0 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_hashes: Option<BTreeMap<String, ContentHash>>,
}

/// What can happen to a SkillSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkillSetAction {
    /// Copied in from a directory.
    Install,
    /// Replaced from a directory.
    Reinstall,
    /// Unpacked from an archive.
    InstallFromArchive,
    /// Replaced from an archive.
    ReinstallFromArchive,
    /// Switched on.
    Enable,
    /// Switched off.
    Disable,
    /// Deleted.
    Remove,
    /// Brought to a newer version.
    Upgrade,
}

/// Where a skill came from, written when it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "_type", rename = "skill_provenance")]
pub struct SkillProvenance {
    /// The name the sender gave it.
    pub skill_name: String,
    /// The hash of what was sent.
    pub original_hash: ContentHash,
    /// The hash of what was stored, which names its sender inside.
    pub content_hash: ContentHash,
    /// Who sent it.
    pub received_from: String,
    /// When it came.
    #[serde(serialize_with = "wire_form", deserialize_with = "at_any")]
    pub received_at: Timestamp,
    /// Everyone it went through, the first holder first, the sender last.
    pub provenance_chain: Vec<String>,
    /// The first holder.
    pub origin: Option<String>,
    /// How often it was passed on before it came here.
    pub hop_count: u64,
    /// Where it was stored, relative to the data directory.
    pub stored_path: String,
    /// When this was written.
    #[serde(serialize_with = "wire_form", deserialize_with = "at_any")]
    pub recorded_at: Timestamp,
}

/// Where a SkillSet came from, written when it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "_type", rename = "skillset_provenance")]
pub struct SkillSetProvenance {
    /// Its name.
    pub skillset_name: String,
    /// Its version.
    pub version: String,
    /// The hash over its files.
    pub content_hash: ContentHash,
    /// Who sent it.
    pub received_from: String,
    /// When it came.
    #[serde(serialize_with = "wire_form", deserialize_with = "at_any")]
    pub received_at: Timestamp,
    /// Everyone it went through, the first holder first, the sender last.
    pub provenance_chain: Vec<String>,
    /// The first holder.
    pub origin: Option<String>,
    /// How often it was passed on before it came here.
    pub hop_count: u64,
    /// When this was written.
    #[serde(serialize_with = "wire_form", deserialize_with = "at_any")]
    pub recorded_at: Timestamp,
}

/// A message between two agents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "_type", rename = "interaction")]
pub struct Interaction {
    /// The type of the message.
    #[serde(rename = "type")]
    pub message_type: Option<String>,
    /// When.
    #[serde(serialize_with = "wire_form", deserialize_with = "at_any")]
    pub timestamp: Timestamp,
    /// The other agent.
    pub peer_id: String,
    /// Which way it went.
    pub direction: Option<String>,
    /// Its id.
    pub message_id: Option<String>,
    /// What it was for.
    pub action: Option<String>,
    /// Whatever else there is to say.
    pub metadata: Option<Value>,
}

/// A time in which two agents were in touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "_type", rename = "interaction_session")]
pub struct InteractionSession {
    /// Its id.
    pub session_id: String,
    /// The other agent.
    pub peer_id: String,
    /// When it began.
    #[serde(serialize_with = "wire_form", deserialize_with = "at_any")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(serialize_with = "wire_form", deserialize_with = "at_any")]
    pub ended_at: Timestamp,
    /// How many messages there were.
    pub message_count: u64,
    /// The hash over them.
    pub messages_hash: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "chain_record")]
struct FreeText<'a> {
    text: &'a str,
}

fn compact<T: Serialize>(entry: &T) -> String {
    json(entry, serde_json::to_string)
}

fn offset_form<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.entry())
}

fn wire_form<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.wire())
}

/// Reads an instant in whichever of its forms it was written.
fn at_any<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    Timestamp::parse(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
