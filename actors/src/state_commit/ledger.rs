//! What the ledger tells about commits and about changes since the last one.

use std::collections::{BTreeSet, HashSet};

use kairos_protocol::block::entry::Kind;
use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::state::Change;
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use crate::chain::queue::IdempotencyKey;
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
    /// At most [`HISTORY_MAX`] blocks from the one at `first` on, oldest first.
    fn blocks(&self, first: u64) -> Result<Vec<Block>, ChainError>;
    /// Whether `is_it` is true of a block from the one at `first` on, once no append is under way any more.
    fn has(&self, first: u64, is_it: &dyn Fn(&Block) -> bool) -> Result<bool, ChainError>;
    /// Appends one block and returns once it is durable, or nothing more can be found out about it.
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

    fn blocks(&self, first: u64) -> Result<Vec<Block>, ChainError> {
        self.runtime.block_on(self.chain.blocks(first, HISTORY_MAX))
    }

    fn has(&self, first: u64, is_it: &dyn Fn(&Block) -> bool) -> Result<bool, ChainError> {
        self.runtime.block_on(async {
            self.chain.rest().await?;
            let found = self.chain.find(first, |block| is_it(block).then_some(()));
            Ok(found.await?.is_some())
        })
    }

    fn append(&self, entries: Vec<String>) -> Result<BlockRef, ChainError> {
        let key = IdempotencyKey::fresh();
        self.runtime.block_on(self.chain.record(key, entries))
    }
}

/// Most blocks looked into for the last commit; beyond them the snapshots themselves decide which is the last.
pub(super) const LOOK_BACK_MAX: usize = 100_000;
/// Most changes since the last commit that are told; a snapshot holds no more.
const CHANGES_MAX: usize = 1_000;

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
}

impl Records {
    /// Reads until the newest commit, and no more than `most` blocks by and large.
    pub(super) fn read(ledger: &dyn Ledger, most: usize) -> Result<Self, ChainError> {
        let mut blocks = ledger.recent()?;
        let mut records = Self::default();
        let mut looked = 0;
        loop {
            let oldest = blocks.last().map_or(0, Block::index);
            looked += blocks.len();
            for block in &blocks {
                records.look_into(block);
            }
            // Genesis is no record.
            if oldest <= 1 || !records.commits.is_empty() || looked >= most {
                break;
            }
            let first = oldest.saturating_sub(HISTORY_MAX as u64).max(1);
            blocks = ledger.blocks(first)?;
            blocks.retain(|block| block.index() < oldest);
            blocks.reverse();
            if blocks.is_empty() {
                break;
            }
        }
        records.since.reverse();
        Ok(records)
    }

    /// Whether the block tells of the commit that wrote `file`.
    pub(super) fn tells(block: &Block, file: &str) -> bool {
        let mut records = Self::default();
        records.look_into(block);
        records.commit_of(file).is_some()
    }

    fn look_into(&mut self, block: &Block) {
        let texts = block.data().iter().rev();
        for text in texts.filter(|text| text.len() <= ENTRY_MAX) {
            if let Ok(Value::Object(entry)) = serde_json::from_str(text) {
                self.note(block, &entry);
            }
        }
    }

    fn note(&mut self, block: &Block, entry: &Map<String, Value>) {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let hash = |name: &str| text(name).and_then(|hash| hash.parse().ok());
        let kind = Kind::of(entry);
        if kind == Some(Kind::StateCommit) {
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
        let (layer, name, action) = match kind {
            Some(Kind::KnowledgeUpdate) => (
                "L1",
                text("knowledge_id"),
                text("action").unwrap_or("update"),
            ),
            Some(Kind::SkillTransition | Kind::InstructionsUpdate) => {
                ("L0", text("skill_id"), "update")
            }
            _ => return,
        };
        let Some(name) = name else { return };
        let reason = text("reason").or_else(|| text("reason_ref"));
        if layer == "L1" && reason.is_some_and(|reason| reason.starts_with("Promot")) {
            self.promoted.insert(name.to_owned());
        }
        if self.since.len() == CHANGES_MAX {
            return;
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

    /// The commit that wrote `file`.
    pub(super) fn commit_of(&self, file: &str) -> Option<&Recorded> {
        self.commits.iter().find(|commit| commit.file == file)
    }
}

/// Which of `texts` are entries of the ledger behind the block at `after`.
pub(super) fn recorded<'a>(
    ledger: &dyn Ledger,
    after: u64,
    texts: &'a [String],
) -> Result<HashSet<&'a str>, ChainError> {
    let mut found = HashSet::new();
    let mut first = after.saturating_add(1);
    loop {
        let blocks = ledger.blocks(first)?;
        let Some(last) = blocks.last() else {
            return Ok(found);
        };
        first = last.index().saturating_add(1);
        let entries: HashSet<&str> = blocks
            .iter()
            .flat_map(|block| block.data().iter().map(String::as_str))
            .collect();
        found.extend(
            texts
                .iter()
                .map(String::as_str)
                .filter(|text| entries.contains(text)),
        );
    }
}

/// The metadata of a change: where it is known from.
pub(super) fn from(source: &str) -> Map<String, Value> {
    match json!({"source": source}) {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
