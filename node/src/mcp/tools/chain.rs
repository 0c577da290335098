//! `chain_status`, `chain_record`, `chain_verify`, `chain_history`, `chain_export`, `chain_import` and `chain_prove`: the
//! ledger.

use kairos_actors::chain::tlog::TlogError;
use kairos_actors::recent::RECENT;
use kairos_place::role::Action;
use kairos_protocol::block::entry::Entry;
use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::LoadState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Nothing;
use crate::config::Backend;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

mod history;
mod transfer;

pub(super) use history::History;
pub(super) use transfer::{Export, Import};

/// A block.
#[derive(Debug, Serialize, JsonSchema)]
struct BlockData {
    /// Its position from genesis, which is 0.
    index: u64,
    /// When it was made, as it is hashed.
    timestamp: String,
    /// Its entries: free texts, or JSON objects with a `type`.
    data: Vec<String>,
    /// The hash of the block before, in hex.
    previous_hash: String,
    /// The root over its entries, in hex.
    merkle_root: String,
    /// Its hash, in hex.
    hash: String,
}

impl From<&Block> for BlockData {
    fn from(block: &Block) -> Self {
        Self {
            index: block.index(),
            timestamp: block.timestamp().to_owned(),
            data: block.data().to_vec(),
            previous_hash: block.previous_hash().to_hex(),
            merkle_root: block.merkle_root().to_string(),
            hash: block.hash().to_hex(),
        }
    }
}

pub(super) struct Status;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StatusData {
    /// `readable`, or `absent` before the first record.
    state: String,
    /// Whether the ledger loads as a chain and is no shorter than what was signed. `chain_verify` checks every block.
    valid: bool,
    /// How many blocks there are.
    length: u64,
    /// Where it is kept.
    storage: Storage,
    /// The newest block; null if there is none.
    latest_block: Option<BlockData>,
    /// Blocks under the last signed checkpoint.
    signed: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Storage {
    /// `file` or `sqlite`.
    backend: &'static str,
}

impl Tool<AgentDoor> for Status {
    const NAME: &'static str = "chain_status";
    const TITLE: &'static str = "Ledger status";
    const ABOUT: &'static str = "Shows the state of the ledger (the hash chain of all changes): its length, its newest block, and where it is kept.";
    const NEEDS: Action = Action::ReadLedger;
    const HINTS: Hints = Hints::READ;
    type Params = Nothing;
    type Output = StatusData;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        _: Nothing,
    ) -> Result<Answer<StatusData>, Refusal> {
        let handles = &door.agent.handles;
        let newest = handles.chain.newest(RECENT).await?;
        let log = handles.tlog.status(RECENT).await?;
        let signed = log.signed.as_ref();
        let signed = signed.map_or(0, |signed| signed.head().size);
        let latest_block = newest.as_ref().as_ref().map(BlockData::from);
        let length = latest_block
            .as_ref()
            .map_or(0, |block| block.index.saturating_add(1));
        let state = match latest_block {
            Some(_) => LoadState::Readable,
            None => LoadState::Absent,
        };
        let data = StatusData {
            state: state.to_string(),
            valid: length >= signed,
            length,
            storage: Storage {
                backend: match door.agent.settings.storage.backend {
                    Backend::File => "file",
                    Backend::Sqlite => "sqlite",
                },
            },
            latest_block,
            signed,
        };
        Ok(Answer::new(serde_json::to_string_pretty(&data)?, data))
    }
}

pub(super) struct Record;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordParams {
    /// What to record; each text is an entry of one block.
    logs: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Recorded {
    /// The block.
    index: u64,
    /// Its hash, in hex.
    hash: String,
}

impl From<BlockRef> for Recorded {
    fn from(block: BlockRef) -> Self {
        Self {
            index: block.index,
            hash: block.hash.to_hex(),
        }
    }
}

impl Tool<AgentDoor> for Record {
    const NAME: &'static str = "chain_record";
    const TITLE: &'static str = "Record in the ledger";
    const ABOUT: &'static str = "Records texts as one block of the ledger, for ever: a record is never changed or taken back, so put no secrets in it.";
    const NEEDS: Action = Action::Record;
    const HINTS: Hints = Hints::ADD;
    type Params = RecordParams;
    type Output = Recorded;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: RecordParams,
    ) -> Result<Answer<Recorded>, Refusal> {
        if params.logs.is_empty() {
            return Err(Refusal::say(
                "Error: logs array is required, with at least one text",
            ));
        }
        // Texts of a caller cannot be taken for what the program itself records.
        let entries = params
            .logs
            .into_iter()
            .map(|text| Entry::Text(text).to_text());
        let block = door.agent.handles.chain.append(entries.collect()).await?;
        let text = format!(
            "Block #{} recorded successfully.\nHash: {}",
            block.index, block.hash
        );
        Ok(Answer::new(text, block.into()))
    }
}

pub(super) struct Verify;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Verified {
    /// Whether every block is right, and the ledger continues what was signed.
    valid: bool,
    /// How many blocks, from genesis on, are right.
    length: u64,
    /// What is wrong.
    problem: Option<String>,
    /// Blocks under the checkpoint that it continues; null if none was signed.
    checkpoint_size: Option<u64>,
    /// Oddities that break nothing.
    warnings: Vec<String>,
}

impl Tool<AgentDoor> for Verify {
    const NAME: &'static str = "chain_verify";
    const TITLE: &'static str = "Verify the ledger";
    const ABOUT: &'static str = "Checks every block of the ledger, and that it continues the last checkpoint this agent signed: whether history was rewritten.";
    const NEEDS: Action = Action::ReadLedger;
    const HINTS: Hints = Hints::READ;
    type Params = Nothing;
    type Output = Verified;

    async fn call(door: &AgentDoor, _call: &Call, _: Nothing) -> Result<Answer<Verified>, Refusal> {
        let handles = &door.agent.handles;
        let report = handles.chain.verify().await?;
        let (signed, rewritten) = match handles.tlog.compare().await {
            Ok(signed) => (signed, None),
            Err(error @ TlogError::Rewritten { signed, .. }) => {
                (Some(signed), Some(error.to_string()))
            }
            // The report says why a ledger that does not load cannot be compared.
            Err(TlogError::Store(_)) if !report.is_valid() => (None, None),
            Err(error) => return Err(error.into()),
        };
        let valid = report.is_valid() && rewritten.is_none();
        let problem = report
            .problem
            .as_ref()
            .map(ToString::to_string)
            .or(rewritten);
        let text = match (valid, &problem) {
            (true, _) => format!(
                "Blockchain Integrity Verified: OK (Length: {})",
                report.length
            ),
            (false, problem) => format!(
                "Blockchain Integrity Check FAILED! Chain may be corrupted.\n{}\nThe owner finds out more with: \
                 kairos-chain chain verify",
                problem.as_deref().unwrap_or_default()
            ),
        };
        let data = Verified {
            valid,
            length: report.length,
            problem,
            checkpoint_size: signed.map(|signed| signed.size),
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
        };
        Ok(Answer::new(text, data))
    }
}

pub(super) struct Prove;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProveParams {
    /// The block's index.
    index: u64,
    /// Prove the block's hash without showing what is in it.
    #[serde(default)]
    hash_only: bool,
    /// Prove it under the last checkpoint that other agents cosigned.
    #[serde(default)]
    cosigned: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProofData {
    /// The block.
    index: u64,
    /// Blocks under the checkpoint of the proof.
    size: u64,
    /// The proof, for `kairos-verify` or any tool that reads such proofs.
    proof: String,
}

impl Tool<AgentDoor> for Prove {
    const NAME: &'static str = "chain_prove";
    const TITLE: &'static str = "Prove a block";
    const ABOUT: &'static str = "Makes a proof that a block is in the ledger, which anyone can check without trusting this agent (`kairos-verify`).";
    const NEEDS: Action = Action::ReadLedger;
    const HINTS: Hints = Hints::READ;
    type Params = ProveParams;
    type Output = ProofData;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: ProveParams,
    ) -> Result<Answer<ProofData>, Refusal> {
        let tlog = &door.agent.handles.tlog;
        let proof = tlog
            .prove(params.index, params.hash_only, params.cosigned)
            .await?;
        let text = proof.to_string();
        let data = ProofData {
            index: params.index,
            size: proof.checkpoint().head().size,
            proof: text.clone(),
        };
        Ok(Answer::new(text, data))
    }
}
