//! Snapshots: one JSON file for each commit, in the reference's form with members of ours behind its own.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{Layers, LayersError, Manifest, Unread};
use crate::block::entry::{CommitActor, CommitType};
use crate::hash::ContentHash;
use crate::json::{JsonError, parse_object};
use crate::time::Timestamp;

/// Longest snapshot read, in bytes.
pub const SNAPSHOT_MAX: u64 = 32 * 1024 * 1024;
/// Most changes that one snapshot tells.
const CHANGES_MAX: usize = 1_000;

/// What a commit keeps of a state.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What names the state.
    pub hash: ContentHash,
    /// When, as written.
    pub created_at: String,
    /// `human`, `ai` or `system`.
    pub created_by: String,
    /// `explicit`, `auto` or `checkpoint`.
    pub commit_type: String,
    /// Why.
    pub reason: String,
    /// The state.
    pub layers: Layers,
    /// What happened since the commit before, as written.
    pub changes: Vec<Value>,
    /// Where the files are; nothing in snapshots of the reference.
    pub tree: Option<TreeRef>,
    /// What the layers leave out.
    pub unread: Vec<Unread>,
}

/// Where the texts of a snapshot are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRef {
    /// The hash of the tree's text, which lies among the objects like every file.
    pub hash: ContentHash,
    /// Number of files.
    pub files: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// One change since the commit before, with the reference's members in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `L0`, `L1` or `L2`.
    pub layer: &'static str,
    /// `create`, `update`, `delete`, `archive` or `unarchive`.
    pub action: String,
    /// The name of the entry.
    pub skill_id: String,
    /// Why; nothing where the ledger does not tell.
    pub reason: Option<String>,
    /// Where the change is known from: `{"source":"ledger"}` or `{"source":"files"}`.
    pub metadata: Map<String, Value>,
    /// When, as the ledger tells it, else when it was noticed.
    pub timestamp: String,
}

/// Why bytes are not a snapshot.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// Not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A member is absent or of another kind.
    #[error("`{0}` is absent or has another form")]
    Member(&'static str),
    /// The layers are not what their hashes say.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// The layers do not have the hash that names the snapshot.
    #[error("the layers do not have the hash that names the snapshot")]
    Hash,
}

impl Snapshot {
    /// The snapshot of `manifest`.
    pub fn take(
        manifest: &Manifest,
        (commit_type, actor): (CommitType, CommitActor),
        reason: &str,
        mut changes: Vec<Change>,
        now: Timestamp,
    ) -> Self {
        changes.truncate(CHANGES_MAX);
        Self {
            hash: manifest.snapshot_hash(),
            created_at: now.entry(),
            created_by: word(&actor),
            commit_type: word(&commit_type),
            reason: reason.to_owned(),
            layers: manifest.layers.clone(),
            changes: changes.into_iter().map(|change| json!(change)).collect(),
            tree: Some(TreeRef {
                hash: manifest.tree.hash(),
                files: manifest.tree.len() as u64,
                bytes: manifest.tree.bytes(),
            }),
            unread: manifest.unread.clone(),
        }
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let value = json!({
            "snapshot_hash": self.hash, "created_at": self.created_at, "created_by": self.created_by,
            "commit_type": self.commit_type, "reason": self.reason, "layers": self.layers.members(),
            "changes_since_last": self.changes, "content": self.tree, "unread": self.unread,
        });
        format!("{value:#}")
    }

    /// Reads the bytes of a file and checks that the layers have the hashes they claim.
    pub fn parse(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut members = parse_object(bytes)?;
        let text = |members: &Map<String, Value>, name: &'static str| {
            let text = members.get(name).and_then(Value::as_str).map(str::to_owned);
            text.ok_or(SnapshotError::Member(name))
        };
        let hash: ContentHash = text(&members, "snapshot_hash")?
            .parse()
            .map_err(|_| SnapshotError::Member("snapshot_hash"))?;
        let Some(Value::Object(layers)) = members.shift_remove("layers") else {
            return Err(SnapshotError::Member("layers"));
        };
        let layers = Layers::check(layers)?;
        let tree = match members.shift_remove("content") {
            None | Some(Value::Null) => None,
            Some(content) => {
                let tree = serde_json::from_value(content);
                Some(tree.map_err(|_| SnapshotError::Member("content"))?)
            }
        };
        let named = layers.combined().or(tree.map(|tree: TreeRef| tree.hash));
        if named != Some(hash) {
            return Err(SnapshotError::Hash);
        }
        let unread = members.shift_remove("unread").unwrap_or_default();
        Ok(Self {
            hash,
            created_at: text(&members, "created_at")?,
            created_by: text(&members, "created_by")?,
            commit_type: text(&members, "commit_type")?,
            reason: text(&members, "reason").unwrap_or_default(),
            layers,
            changes: match members.shift_remove("changes_since_last") {
                Some(Value::Array(changes)) => changes,
                _ => Vec::new(),
            },
            tree,
            // What it left out is for people; a foreign form is no reason to refuse the rest.
            unread: serde_json::from_value(unread).unwrap_or_default(),
        })
    }

    /// The name of its file, which the reference finds as `snapshot_*.json`. `again` tells files of one second and
    /// one state apart.
    pub fn file_name(&self, now: Timestamp, again: u32) -> String {
        let hash = self.hash.to_hex();
        let start = hash.get(..8).unwrap_or(&hash);
        let again = Suffix(again);
        format!("snapshot_{}_{start}{again}.json", now.file_stamp())
    }
}

/// `_2`, or nothing for the first.
struct Suffix(u32);

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            again => write!(f, "_{}", again + 1),
        }
    }
}

/// The word that a fieldless variant is written as.
fn word(variant: &impl Serialize) -> String {
    match json!(variant) {
        Value::String(word) => word,
        other => other.to_string(),
    }
}
