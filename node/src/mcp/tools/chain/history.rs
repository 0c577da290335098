//! `chain_history`: the newest blocks, in the text of the reference.

use std::fmt::Write as _;

use kairos_place::role::Action;
use kairos_protocol::block::Block;
use kairos_protocol::block::entry::{Entry, StateCommit};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::BlockData;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};
use crate::mcp::tools::text::start;

/// Blocks shown if nothing is said.
const LIMIT: usize = 10;
/// Most blocks shown.
const LIMIT_MAX: usize = 1_000;
/// Blocks read at a time.
const CHUNK: usize = 500;
/// Most blocks looked at for those of one type.
const LOOKED_MAX: u64 = 100_000;

pub(in crate::mcp::tools) struct History;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Formatted,
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Type {
    #[default]
    All,
    StateCommit,
    SkillTransition,
    KnowledgeUpdate,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct Params {
    /// How many blocks, from 1 to 1000; 10 if nothing is said.
    limit: Option<usize>,
    /// Whether the text is for reading or JSON.
    format: Option<Format>,
    /// Only blocks of this type, that of their first entry.
    #[serde(rename = "type")]
    kind: Option<Type>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct Blocks {
    /// The blocks, newest first.
    blocks: Vec<BlockData>,
}

impl Tool<AgentDoor> for History {
    const NAME: &'static str = "chain_history";
    const TITLE: &'static str = "Ledger history";
    const ABOUT: &'static str = "Shows the newest blocks of the ledger: what changed, when, and why. Can show those of one type only.";
    const NEEDS: Action = Action::ReadLedger;
    const HINTS: Hints = Hints::READ;
    type Params = Params;
    type Output = Blocks;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: Params,
    ) -> Result<Answer<Blocks>, Refusal> {
        let limit = params.limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Refusal::say(format!(
                "Error: limit is from 1 to {LIMIT_MAX}"
            )));
        }
        let kind = params.kind.unwrap_or_default();
        let blocks = match kind {
            Type::All => door.agent.handles.chain.history(limit).await?,
            kind => newest_of(door, kind, limit).await?,
        };
        let data = Blocks {
            blocks: blocks.iter().map(BlockData::from).collect(),
        };
        let text = match params.format.unwrap_or_default() {
            Format::Json => serde_json::to_string_pretty(&data.blocks)?,
            Format::Formatted => formatted(&blocks),
        };
        Ok(Answer::new(text, data))
    }
}

async fn newest_of(door: &AgentDoor, kind: Type, limit: usize) -> Result<Vec<Block>, Refusal> {
    let chain = &door.agent.handles.chain;
    let Some(tip) = chain.tip().await? else {
        return Ok(Vec::new());
    };
    let least = (tip.index + 1).saturating_sub(LOOKED_MAX);
    let (mut end, mut found) = (tip.index + 1, Vec::new());
    while end > least && found.len() < limit {
        let first = end.saturating_sub(CHUNK as u64).max(least);
        let count = usize::try_from(end - first).unwrap_or(CHUNK);
        let mut blocks = chain.blocks(first, count).await?;
        blocks.reverse();
        found.extend(blocks.into_iter().filter(|block| is(block, kind)));
        end = first;
    }
    found.truncate(limit);
    Ok(found)
}

fn first(block: &Block) -> &str {
    block.data().first().map(String::as_str).unwrap_or_default()
}

fn is(block: &Block, kind: Type) -> bool {
    let wanted = match kind {
        Type::All => return true,
        Type::StateCommit => "state_commit",
        // Of the kinds of entry the only one that has no member `type`.
        Type::SkillTransition => {
            return matches!(Entry::read(first(block)), Ok(Entry::SkillTransition(_)));
        }
        Type::KnowledgeUpdate => "knowledge_update",
    };
    name(block) == wanted
}

/// The type of a block: that of its first entry.
fn name(block: &Block) -> String {
    if block.index() == 0 {
        return "genesis".to_owned();
    }
    let entry = serde_json::from_str::<Value>(first(block)).ok();
    let kind = entry.as_ref().and_then(|entry| entry.get("type")?.as_str());
    kind.unwrap_or("unknown").to_owned()
}

/// The text of the reference.
fn formatted(blocks: &[Block]) -> String {
    let mut text = format!("Blockchain History\n{}\n\n", "=".repeat(50));
    if blocks.is_empty() {
        text.push_str("(No blocks found)\n");
    }
    for block in blocks {
        let _ = writeln!(text, "Block #{} ({})", block.index(), name(block));
        let _ = writeln!(text, "  Hash: {}", short(Some(block.hash())));
        let _ = writeln!(text, "  Time: {}", time(block.instant()));
        details(&mut text, block);
        let _ = writeln!(text, "\n{}", "-".repeat(40));
    }
    let _ = write!(text, "Total: {} blocks shown", blocks.len());
    text
}

fn details(text: &mut String, block: &Block) {
    if block.index() == 0 {
        text.push_str("  Data: Genesis Block\n");
        return;
    }
    match Entry::read(first(block)) {
        Ok(Entry::StateCommit(commit)) => state_commit(text, &commit),
        Ok(Entry::KnowledgeUpdate(update)) => {
            let action = serde_json::to_value(update.action).unwrap_or_default();
            let _ = writeln!(text, "  Layer: L1");
            let _ = writeln!(text, "  Knowledge: {}", update.knowledge_id);
            let _ = writeln!(text, "  Action: {}", action.as_str().unwrap_or_default());
            if update.prev_hash.is_some() {
                let _ = writeln!(text, "  Prev Hash: {}", short(update.prev_hash));
            }
            if update.next_hash.is_some() {
                let _ = writeln!(text, "  Next Hash: {}", short(update.next_hash));
            }
            let _ = writeln!(text, "  Reason: {}", update.reason);
        }
        _ => {
            let _ = writeln!(text, "  Data: {}", start(first(block), 101));
        }
    }
}

fn state_commit(text: &mut String, commit: &StateCommit) {
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let kind = serde_json::to_value(commit.commit_type).unwrap_or_default();
    let actor = serde_json::to_value(commit.actor).unwrap_or_default();
    let _ = writeln!(text, "  Commit Type: {}", word(kind));
    let _ = writeln!(text, "  Actor: {}", word(actor));
    let _ = writeln!(
        text,
        "  Reason: {}",
        commit.reason.as_deref().unwrap_or_default()
    );
    let summary = &commit.summary;
    let _ = writeln!(text, "  Summary:");
    let changed = if summary.l0_changed { "true" } else { "No" };
    let _ = writeln!(text, "    L0 Changed: {changed}");
    let parts = [
        ('+', summary.l1_added),
        ('~', summary.l1_modified),
        ('-', summary.l1_deleted),
    ];
    let parts: Vec<_> = parts.iter().filter(|(_, count)| *count > 0).collect();
    if !parts.is_empty() {
        let parts: Vec<_> = parts
            .iter()
            .map(|(sign, count)| format!("{sign}{count}"))
            .collect();
        let _ = writeln!(text, "    L1: {}", parts.join(", "));
    }
    if summary.promotions > 0 {
        let _ = writeln!(text, "    Promotions: {}", summary.promotions);
    }
    let _ = writeln!(text, "  Snapshot: {}", commit.snapshot_ref);
}

/// The first 16 digits, as the reference shows hashes.
fn short(hash: Option<ContentHash>) -> String {
    let hash = hash.map(|hash| hash.to_hex()).unwrap_or_default();
    format!("{}...", hash.chars().take(16).collect::<String>())
}

/// `2026-02-20 12:00:00 UTC`.
fn time(at: Timestamp) -> String {
    let wire = at.wire();
    format!("{} UTC", wire.trim_end_matches('Z').replacen('T', " ", 1))
}
