//! Typed ledger entries: each is one JSON object whose members stand in the order the reference writes them.
//!
//! Readers of a ledger tell entries apart by `type` or `_type`. Only the subsystem that owns a type builds its
//! entry; text from a caller goes through [`Entry::Text`], which cannot be mistaken for any of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::json;
use crate::hash::ContentHash;
use crate::time::Timestamp;

/// One entry of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A knowledge file changed.
    KnowledgeUpdate(KnowledgeUpdate),
    /// A SkillSet was installed, switched or removed.
    SkillSetEvent(SkillSetEvent),
    /// A skill arrived from another agent.
    SkillProvenance(SkillProvenance),
    /// A SkillSet arrived from another agent.
    SkillSetProvenance(SkillSetProvenance),
    /// Free text of a caller.
    Text(String),
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    #[serde(serialize_with = "offset_form")]
    pub timestamp: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    #[serde(serialize_with = "offset_form")]
    pub timestamp: Timestamp,
    /// The hash of each file by path; for layer L0 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_hashes: Option<BTreeMap<String, ContentHash>>,
}

/// What can happen to a SkillSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    #[serde(serialize_with = "wire_form")]
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
    #[serde(serialize_with = "wire_form")]
    pub recorded_at: Timestamp,
}

/// Where a SkillSet came from, written when it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    #[serde(serialize_with = "wire_form")]
    pub received_at: Timestamp,
    /// Everyone it went through, the first holder first, the sender last.
    pub provenance_chain: Vec<String>,
    /// The first holder.
    pub origin: Option<String>,
    /// How often it was passed on before it came here.
    pub hop_count: u64,
    /// When this was written.
    #[serde(serialize_with = "wire_form")]
    pub recorded_at: Timestamp,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> ContentHash {
        ContentHash::of(text)
    }

    fn at() -> Timestamp {
        Timestamp::parse("2026-01-20T10:30:00.987Z").unwrap()
    }

    #[test]
    fn writes_a_knowledge_update_as_the_reference_does() {
        let next = "c8d77909b4e454390c0956cd0921e32f5980d30dc81998e475c6e816cff77305";
        let entry = KnowledgeUpdate::new(
            "demo_note",
            KnowledgeAction::Create,
            (None, Some(next.parse().unwrap())),
            None,
            at(),
        );
        // The entry of block 1 in the reference's sample ledger.
        assert_eq!(
            Entry::KnowledgeUpdate(entry).to_text(),
            format!(
                r#"{{"type":"knowledge_update","layer":"L1","knowledge_id":"demo_note","action":"create","prev_hash":null,"next_hash":"{next}","reason":"Create knowledge: demo_note","timestamp":"2026-01-20T10:30:00+00:00"}}"#
            )
        );
    }

    #[test]
    fn writes_a_skillset_event_with_file_hashes_only_where_they_are_given() {
        let mut event = SkillSetEvent {
            layer: "L1".to_owned(),
            skillset_name: "kp".to_owned(),
            skillset_version: "1.0.0".to_owned(),
            action: SkillSetAction::InstallFromArchive,
            content_hash: hash("kp"),
            reason: None,
            timestamp: at(),
            file_hashes: None,
        };
        let head = format!(
            r#"{{"type":"skillset_event","layer":"L1","skillset_name":"kp","skillset_version":"1.0.0","action":"install_from_archive","content_hash":"{}","reason":null,"timestamp":"2026-01-20T10:30:00+00:00""#,
            hash("kp")
        );
        assert_eq!(
            Entry::SkillSetEvent(event.clone()).to_text(),
            format!("{head}}}")
        );
        event.file_hashes = Some([("b".into(), hash("b")), ("a".into(), hash("a"))].into());
        let tail = format!(
            r#","file_hashes":{{"a":"{}","b":"{}"}}}}"#,
            hash("a"),
            hash("b")
        );
        assert_eq!(Entry::SkillSetEvent(event).to_text(), head + &tail);
    }

    #[test]
    fn writes_provenance_of_skills_and_skillsets_in_order() {
        let skill = SkillProvenance {
            skill_name: "demo".to_owned(),
            original_hash: hash("o"),
            content_hash: hash("c"),
            received_from: "agent-a".to_owned(),
            received_at: at(),
            provenance_chain: vec!["agent-a".to_owned()],
            origin: Some("agent-a".to_owned()),
            hop_count: 0,
            stored_path: "knowledge/received/demo_20260120_103000.md".to_owned(),
            recorded_at: at(),
        };
        let text = Entry::SkillProvenance(skill.clone()).to_text();
        assert_eq!(
            text,
            format!(
                r#"{{"_type":"skill_provenance","skill_name":"demo","original_hash":"{}","content_hash":"{}","received_from":"agent-a","received_at":"2026-01-20T10:30:00Z","provenance_chain":["agent-a"],"origin":"agent-a","hop_count":0,"stored_path":"knowledge/received/demo_20260120_103000.md","recorded_at":"2026-01-20T10:30:00Z"}}"#,
                hash("o"),
                hash("c")
            )
        );
        let set = SkillSetProvenance {
            skillset_name: "kp".to_owned(),
            version: "1.0.0".to_owned(),
            content_hash: hash("c"),
            received_from: skill.received_from,
            received_at: at(),
            provenance_chain: vec![],
            origin: None,
            hop_count: 2,
            recorded_at: at(),
        };
        assert_eq!(
            Entry::SkillSetProvenance(set).to_text(),
            format!(
                r#"{{"_type":"skillset_provenance","skillset_name":"kp","version":"1.0.0","content_hash":"{}","received_from":"agent-a","received_at":"2026-01-20T10:30:00Z","provenance_chain":[],"origin":null,"hop_count":2,"recorded_at":"2026-01-20T10:30:00Z"}}"#,
                hash("c")
            )
        );
    }

    #[test]
    fn free_text_stays_as_it_is() {
        for text in [
            "",
            "plain log line",
            "[1,2]",
            "a {\"type\":\"x\"}",
            "/etc/motd",
        ] {
            assert_eq!(Entry::Text(text.to_owned()).to_text(), text);
        }
    }

    #[test]
    fn free_text_cannot_pose_as_a_typed_entry() {
        for text in [
            r#"{"type":"state_commit"}"#,
            " \n\t{\"_type\":\"skill_provenance\"}",
            "\u{feff}{}",
            "/* x */{\"type\":\"state_commit\"}",
            "// x\n{\"type\":\"state_commit\"}",
            "\0{broken",
        ] {
            let wrapped = Entry::Text(text.to_owned()).to_text();
            let object: serde_json::Value = serde_json::from_str(&wrapped).unwrap();
            assert_eq!(object["type"], "chain_record");
            assert_eq!(object["text"], text);
        }
    }
}
