//! `chain prove | verify-proof | checkpoint | cosign | add-cosignature`: what others can check without trusting this node.

use std::path::Path;

use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::inclusion::{InclusionProof, PROOF_TEXT_MAX, Proven};
use kairos_protocol::tlog::note::{self, NOTE_MAX, VerifierKey};
use kairos_protocol::tlog::witness::CosignRequest;
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

/// Checks a proof. Asks nobody: with `key`, else with the key by which we know its log, else with what the proof states.
pub(super) async fn verify_proof(
    agent: &Agent,
    file: &Path,
    key: Option<VerifierKey>,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let text = read(file, PROOF_TEXT_MAX)?;
    let parsed = text.parse::<InclusionProof>();
    let key = match (key, &parsed) {
        (None, Ok(proof)) => known_key(agent, &proof.checkpoint().checkpoint().origin).await?,
        (key, _) => key,
    };
    let checked = parsed.and_then(|proof| {
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

/// The key by which we know a log: our own, or that of an agent we met.
async fn known_key(agent: &Agent, origin: &str) -> anyhow::Result<Option<VerifierKey>> {
    let ours = &agent.handles.tlog.statement().log_key;
    if origin == ours.name() {
        return Ok(Some(ours.clone()));
    }
    let seen = agent.handles.witness.find(origin.to_owned()).await?;
    Ok(seen.map(|seen| seen.key))
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
            "size": head.size, "root": head.root, "text": text, "log_key": tlog.statement().log_key,
        }))?;
    } else if target.file().is_none() {
        target.write(&text, out)?;
    }
    Ok(Exit::Done)
}

/// Cosigns a checkpoint of another log.
pub(super) async fn cosign(
    agent: &Agent,
    file: &Path,
    key: Option<VerifierKey>,
    line: bool,
    target: &Target,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let text = read(file, NOTE_MAX)?;
    let request: CosignRequest = text.parse()?;
    let mut checkpoint = request.checkpoint.clone();
    let signature = agent.handles.witness.cosign(request, key).await?;
    let signed = format!("{signature}\n");
    checkpoint.add(signature)?;
    let text = match line {
        true => signed,
        false => checkpoint.to_string(),
    };
    if target.file().is_some() {
        target.write(&text, out)?;
    }
    if out.wants_json() {
        let witness = &agent.handles.tlog.statement().witness_key;
        out.json(&json!({
            "log": checkpoint.checkpoint().origin, "size": checkpoint.head().size, "text": text,
            "witness_key": witness,
        }))?;
    } else if target.file().is_none() {
        target.write(&text, out)?;
    }
    Ok(Exit::Done)
}

/// The keys of those witnesses in `text` whose agents we met.
async fn known_witnesses(agent: &Agent, text: &str) -> anyhow::Result<Vec<VerifierKey>> {
    let lines = match text.parse::<SignedCheckpoint>() {
        Ok(checkpoint) => checkpoint.note().signatures().to_vec(),
        Err(_) => note::parse_signatures(text).unwrap_or_default(),
    };
    let mut keys = Vec::new();
    for line in &lines {
        // The log of the same agent, which stated both keys.
        if let Some((log, "witness")) = line.name().rsplit_once('/')
            && let Some(seen) = agent.handles.witness.find(log.to_owned()).await?
        {
            keys.extend(seen.statement.map(|statement| statement.witness_key));
        }
    }
    Ok(keys)
}

/// Takes cosignatures of others on our checkpoints.
pub(super) async fn add_cosignature(
    agent: &Agent,
    file: &Path,
    mut keys: Vec<VerifierKey>,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let text = read(file, NOTE_MAX)?;
    keys.extend(known_witnesses(agent, &text).await?);
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
