//! `chain prove | verify-proof | checkpoint | add-cosignature`: what others can check without trusting this node.

use std::path::Path;

use kairos_protocol::tlog::inclusion::{InclusionProof, PROOF_TEXT_MAX, Proven};
use kairos_protocol::tlog::note::{NOTE_MAX, VerifierKey};
use serde_json::json;

use super::files::{Target, read};
use crate::agent::Agent;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};

/// Writes a proof that a block is in the ledger.
pub(super) async fn prove(
    agent: &Agent,
    index: u64,
    (hash_only, cosigned): (bool, bool),
    target: &Target,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let proof = agent.handles.tlog.prove(index, hash_only, cosigned).await?;
    let text = proof.to_string();
    if out.wants_json() && target.file().is_none() {
        let size = proof.checkpoint().head().size;
        out.json(&json!({"index": index, "size": size, "proof": text}))?;
    } else {
        target.write(&text, out)?;
        if out.wants_json() {
            let size = proof.checkpoint().head().size;
            out.json(&json!({"index": index, "size": size, "file": target.file()}))?;
        }
    }
    Ok(Exit::Done)
}

/// Checks a proof. Asks nobody: with `key`, else with our own key for our own log, else with what the proof states.
pub(super) async fn verify_proof(
    agent: &Agent,
    file: &Path,
    key: Option<VerifierKey>,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let text = read(file, PROOF_TEXT_MAX)?;
    let ours = agent.handles.tlog.status().await?.statement.log_key;
    let checked = text.parse::<InclusionProof>().and_then(|proof| {
        let own = proof.checkpoint().checkpoint().origin == ours.name();
        let key = key.or_else(|| own.then_some(ours));
        let size = proof.checkpoint().head().size;
        Ok((proof.verify(key.as_ref())?, size, key.is_some()))
    });
    let (proven, size, pinned) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            if out.wants_json() {
                out.json(&json!({"valid": false, "problem": error.to_string()}))?;
            } else {
                let word = out.paint(Tone::Bad, "The proof does not hold:");
                out.line(format_args!("{word} {error}"))?;
            }
            return Ok(Exit::Failed);
        }
    };
    if out.wants_json() {
        out.json(&json!({
            "valid": true, "index": proven.index, "size": size, "block_hash": proven.block_hash,
            "block": proven.block, "log_key_known": pinned,
            "agent": proven.statement.as_ref().map(|s| &s.instance_id),
            "key_fingerprint": proven.statement.as_ref().map(|s| s.identity_key.fingerprint()),
        }))?;
    } else {
        show(&proven, size, pinned, out)?;
    }
    Ok(Exit::Done)
}

fn show(proven: &Proven, size: u64, pinned: bool, out: &mut Out) -> std::io::Result<()> {
    let word = out.paint(Tone::Good, "The proof holds:");
    let index = proven.index;
    out.line(format_args!(
        "{word} block {index} is in a ledger of {size} blocks"
    ))?;
    out.line(format_args!("  Hash: {}", proven.block_hash))?;
    if let Some(statement) = &proven.statement {
        let (id, key) = (&statement.instance_id, statement.identity_key.fingerprint());
        out.line(format_args!("  Agent: {id}, key {key}"))?;
    }
    if let Some(block) = &proven.block {
        out.line(format_args!("  Time: {}", block.timestamp()))?;
        for entry in block.data() {
            out.line(format_args!("  Entry: {entry}"))?;
        }
    }
    if !pinned {
        out.note("Whose log it is was taken from the proof; compare the key with one you know.")?;
    }
    Ok(())
}

/// Writes our checkpoint; with `from`, as a request to a witness that has seen that many blocks.
pub(super) async fn checkpoint(
    agent: &Agent,
    from: Option<u64>,
    target: &Target,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let tlog = &agent.handles.tlog;
    let request = tlog.cosign_request(from.unwrap_or(0)).await?;
    let head = request.checkpoint.head();
    let text = match from {
        Some(_) => request.to_string(),
        None => request.checkpoint.to_string(),
    };
    if target.file().is_some() {
        target.write(&text, out)?;
    }
    if out.wants_json() {
        out.json(&json!({
            "size": head.size, "root": head.root, "text": text, "log_key": tlog.status().await?.statement.log_key,
        }))?;
    } else if target.file().is_none() {
        target.write(&text, out)?;
    }
    Ok(Exit::Done)
}

/// Takes cosignatures of others on our checkpoints.
pub(super) async fn add_cosignature(
    agent: &Agent,
    file: &Path,
    keys: Vec<VerifierKey>,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let text = read(file, NOTE_MAX)?;
    let taken = agent.handles.tlog.add_cosignatures(text, keys).await?;
    if out.wants_json() {
        let taken = taken
            .iter()
            .map(|one| json!({"witness": one.witness, "at": one.at.wire(), "size": one.size}));
        out.json(&json!({"added": taken.collect::<Vec<_>>()}))?;
    } else {
        for one in &taken {
            let (witness, size, at) = (&one.witness, one.size, one.at.wire());
            out.line(format_args!(
                "Cosigned by {witness} over {size} blocks at {at}"
            ))?;
        }
    }
    Ok(Exit::Done)
}
