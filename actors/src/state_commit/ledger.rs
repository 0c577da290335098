//! What the ledger tells about commits and about changes since the last one.

use std::collections::BTreeSet;

use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::state::Change;
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use crate::chain::store::HISTORY_MAX;
use crate::chain::{ChainError, ChainHandle};

/// Longest entry looked into, in bytes; what is looked for is far shorter.
const ENTRY_MAX: usize = 64 * 1024;

/// The ledger, for code that may block.
pub(super) trait Ledger {
    /// The last block.
    fn tip(&self) -> Result<Option<BlockRef>, ChainError>;
    /// The last [`HISTORY_MAX`] blocks, newest first.
    fn recent(&self) -> Result<Vec<Block>, ChainError>;
    /// Appends one block and returns once it is durable.
    fn append(&self, entries: Vec<String>) -> Result<BlockRef, ChainError>;
}

/// Asks the chain actor from a blocking thread.
pub(super) struct Asking {
    pub(super) chain: ChainHandle,
    pub(super) runtime: Handle,
}

impl Ledger for Asking {
    fn tip(&self) -> Result<Option<BlockRef>, ChainError> {
        self.runtime.block_on(self.chain.tip())
    }

    fn recent(&self) -> Result<Vec<Block>, ChainError> {
        self.runtime.block_on(self.chain.history(HISTORY_MAX))
    }

    fn append(&self, entries: Vec<String>) -> Result<BlockRef, ChainError> {
        self.runtime.block_on(self.chain.append(entries))
    }
}

/// A commit, as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Name of the snapshot's file.
    pub(super) file: String,
    /// What names the state.
    pub(super) hash: Option<ContentHash>,
    /// The hash over the files, which the reference does not write.
    pub(super) content: Option<ContentHash>,
    pub(super) reason: String,
    pub(super) block: u64,
}

/// What the newest blocks tell.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Commits, newest first.
    pub(super) commits: Vec<Recorded>,
    /// Changes after the newest commit, oldest first.
    pub(super) since: Vec<Change>,
    /// Knowledge that was promoted after the newest commit.
    pub(super) promoted: BTreeSet<String>,
    /// The oldest block looked into.
    oldest: u64,
    /// Every entry, for looking up.
    texts: BTreeSet<String>,
}

impl Records {
    pub(super) fn read(ledger: &dyn Ledger) -> Result<Self, ChainError> {
        let blocks = ledger.recent()?;
        let mut records = Self {
            oldest: blocks.last().map_or(0, Block::index),
            ..Self::default()
        };
        for block in &blocks {
            for text in block
                .data()
                .iter()
                .rev()
                .filter(|text| text.len() <= ENTRY_MAX)
            {
                records.texts.insert(text.clone());
                if let Ok(Value::Object(entry)) = serde_json::from_str(text) {
                    records.note(block, &entry);
                }
            }
        }
        records.since.reverse();
        Ok(records)
    }

    fn note(&mut self, block: &Block, entry: &Map<String, Value>) {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let hash = |name: &str| text(name).and_then(|hash| hash.parse().ok());
        if text("type") == Some("state_commit") {
            let file = text("snapshot_ref").and_then(|path| path.rsplit('/').next());
            self.commits.push(Recorded {
                file: file.unwrap_or_default().to_owned(),
                hash: hash("next_snapshot_hash"),
                content: hash("content_hash"),
                reason: text("reason").unwrap_or_default().to_owned(),
                block: block.index(),
            });
        }
        if !self.commits.is_empty() {
            return;
        }
        let is_transition = entry.contains_key("next_ast_hash") && text("type").is_none();
        let (layer, name, action) = match text("type") {
            Some("knowledge_update") => (
                "L1",
                text("knowledge_id"),
                text("action").unwrap_or("update"),
            ),
            _ if is_transition => ("L0", text("skill_id"), "update"),
            _ => return,
        };
        let Some(name) = name else { return };
        let reason = text("reason").or_else(|| text("reason_ref"));
        if layer == "L1" && reason.is_some_and(|reason| reason.starts_with("Promot")) {
            self.promoted.insert(name.to_owned());
        }
        self.since.push(Change {
            layer,
            action: action.to_owned(),
            skill_id: name.to_owned(),
            reason: reason.map(str::to_owned),
            metadata: from("ledger"),
            timestamp: text("timestamp").unwrap_or_default().to_owned(),
        });
    }

    /// Whether exactly this entry is among the newest blocks.
    pub(super) fn holds(&self, text: &str) -> bool {
        self.texts.contains(text)
    }

    /// Whether every block after the one at `index` was looked into.
    pub(super) fn covers(&self, index: u64) -> bool {
        self.oldest <= index + 1
    }

    /// The commit that wrote `file`.
    pub(super) fn commit_of(&self, file: &str) -> Option<&Recorded> {
        self.commits.iter().find(|commit| commit.file == file)
    }
}

/// The metadata of a change: where it is known from.
pub(super) fn from(source: &str) -> Map<String, Value> {
    match json!({"source": source}) {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
