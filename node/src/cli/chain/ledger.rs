//! `chain status | verify | history | record`: the ledger itself.

use std::time::Duration;

use kairos_actors::chain::tlog::TlogError;
use kairos_protocol::block::entry::Entry;
use kairos_protocol::ledger::LoadState;
use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::cli::exit::Exit;
use crate::cli::out::{Cell, Out, Tone};

/// Shows what there is, without checking every block.
pub(super) async fn status(agent: &Agent, out: &mut Out) -> anyhow::Result<Exit> {
    let tip = agent.handles.chain.tip().await;
    let log = agent.handles.tlog.status(Duration::ZERO).await?;
    let own = agent.handles.tlog.statement();
    let (state, tip) = match tip {
        Ok(Some(tip)) => (LoadState::Readable, Some(tip)),
        Ok(None) => (LoadState::Absent, None),
        Err(error) => {
            out.note(format_args!("The ledger does not load: {error}"))?;
            out.note("See what is wrong with:  kairos-chain chain verify")?;
            return Ok(Exit::Failed);
        }
    };
    let length = tip.map_or(0, |tip| tip.index.saturating_add(1));
    let size = |of: &Option<SignedCheckpoint>| of.as_ref().map(|of| of.head().size);
    let signed = size(&log.signed).unwrap_or(0);
    let unsigned = length.saturating_sub(signed);
    // Cheap to see; that no block was rewritten is for `verify`.
    let exit = match length < signed {
        true => Exit::Failed,
        false => Exit::Done,
    };
    if out.wants_json() {
        let shown = |of: &Option<SignedCheckpoint>| {
            of.as_ref().map(|of| {
                json!({
                    "size": of.head().size, "root": of.head().root,
                    "signatures": of.note().signatures().iter().map(|s| s.name()).collect::<Vec<_>>(),
                })
            })
        };
        out.json(&json!({
            "state": state, "length": length, "tip": tip.map(|tip| tip.hash),
            "checkpoint": shown(&log.signed), "cosigned": shown(&log.cosigned), "unsigned": unsigned,
            "log_key": own.log_key, "witness_key": own.witness_key,
        }))?;
        return Ok(exit);
    }
    out.line(format_args!("Ledger: {state}, {length} blocks"))?;
    if let Some(tip) = tip {
        out.line(format_args!("  Tip: {tip}"))?;
    }
    match &log.signed {
        None => out.line("  Checkpoint: none signed yet")?,
        Some(signed) => out.line(format_args!(
            "  Checkpoint: signed over {} blocks, {unsigned} since",
            signed.head().size
        ))?,
    }
    if let Some(cosigned) = &log.cosigned {
        let ours = own.log_key.name();
        let lines = cosigned.note().signatures();
        let others: Vec<_> = lines
            .iter()
            .map(|s| s.name())
            .filter(|name| *name != ours)
            .collect();
        out.line(format_args!(
            "  Cosigned: over {} blocks by {}",
            cosigned.head().size,
            others.join(", ")
        ))?;
    }
    out.line(format_args!("  Log key: {}", own.log_key))?;
    out.line(format_args!("  Witness key: {}", own.witness_key))?;
    if exit == Exit::Failed {
        let word = out.paint(Tone::Bad, "CUT:");
        out.line(format_args!(
            "  {word} fewer blocks than we signed a checkpoint over"
        ))?;
    }
    Ok(exit)
}

/// Checks every block, and the ledger against the last checkpoint we signed. Exits with 1 if either is not right.
pub(super) async fn verify(agent: &Agent, out: &mut Out) -> anyhow::Result<Exit> {
    let report = agent.handles.chain.verify().await?;
    let recovery = agent.handles.chain.recovery().await?;
    let recovery = recovery.map(|recovery| recovery.to_string());
    let (signed, rewritten) = match agent.handles.tlog.compare().await {
        Ok(signed) => (signed, None),
        Err(error @ TlogError::Rewritten { signed, .. }) => (Some(signed), Some(error.to_string())),
        // The report says why a ledger that does not load cannot be compared.
        Err(TlogError::Store(_)) if !report.is_valid() => (None, None),
        Err(error) => return Err(error.into()),
    };
    let intact = report.is_valid() && rewritten.is_none();
    if out.wants_json() {
        out.json(&json!({
            "valid": intact, "state": report.state.to_string(), "length": report.length,
            "tip": report.tip.as_ref().map(|tip| tip.hash),
            "problem": report.problem.as_ref().map(ToString::to_string).or(rewritten),
            "checkpoint": signed.map(|signed| json!({"size": signed.size, "root": signed.root})),
            "warnings": report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "warning_count": report.warning_count,
            "recovery": recovery,
        }))?;
        return Ok(if intact { Exit::Done } else { Exit::Failed });
    }
    if intact {
        out.line(format_args!(
            "Blockchain Integrity Verified: OK (Length: {})",
            report.length
        ))?;
    } else {
        let text = out.paint(
            Tone::Bad,
            "Blockchain Integrity Check FAILED! Chain may be corrupted.",
        );
        out.line(text)?;
    }
    if let Some(recovery) = &recovery {
        out.line(format_args!("  after a crash: {recovery}"))?;
    }
    if let Some(problem) = &report.problem {
        out.line(format_args!("  {problem}"))?;
    }
    if let Some(rewritten) = &rewritten {
        out.line(format_args!("  {rewritten}"))?;
    } else if let Some(signed) = signed {
        out.line(format_args!(
            "  It continues the checkpoint that we signed over {} blocks.",
            signed.size
        ))?;
    }
    for warning in &report.warnings {
        out.line(format_args!("  warning: {warning}"))?;
    }
    Ok(if intact { Exit::Done } else { Exit::Failed })
}

/// Shows the newest blocks.
pub(super) async fn history(agent: &Agent, limit: usize, out: &mut Out) -> anyhow::Result<Exit> {
    let blocks = agent.handles.chain.history(limit).await?;
    if out.wants_json() {
        let shown = blocks.iter().map(|b| {
            json!({
                "index": b.index(), "timestamp": b.timestamp(), "data": b.data(), "hash": b.hash(),
                "kinds": b.data().iter().map(|entry| kind(entry)).collect::<Vec<_>>(),
            })
        });
        out.json(&shown.collect::<Vec<Value>>())?;
        return Ok(Exit::Done);
    }
    if blocks.is_empty() {
        out.line("(No blocks found)")?;
    }
    let rows = blocks.iter().map(|block| {
        let first = block.data().first().map(String::as_str).unwrap_or_default();
        let mut text: String = first.chars().take(120).collect();
        if text.len() < first.len() {
            text.push('…');
        }
        [
            Cell::from(block.index()),
            Cell::from(block.timestamp()),
            Cell::from(kind(first)),
            Cell::from(text),
        ]
    });
    out.table(["BLOCK", "TIME", "KIND", "ENTRY"], rows)?;
    Ok(Exit::Done)
}

/// What an entry is, as far as it can be told.
fn kind(entry: &str) -> String {
    match Entry::read(entry) {
        Ok(entry) => entry.kind().to_string(),
        Err(unread) if unread.name.is_empty() => "?".to_owned(),
        Err(unread) => format!("{}?", unread.name),
    }
}

/// Records texts of the caller as one block. They cannot be taken for what the program itself records.
pub(super) async fn record(
    agent: &Agent,
    texts: Vec<String>,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let entries = texts.into_iter().map(|text| Entry::Text(text).to_text());
    let block = agent.handles.chain.append(entries.collect()).await?;
    if out.wants_json() {
        out.json(&json!({"index": block.index, "hash": block.hash}))?;
    } else {
        out.line(format_args!("Recorded in block {}", block.index))?;
        out.line(format_args!("Hash: {}", block.hash))?;
    }
    Ok(Exit::Done)
}
