//! `anchor`: HestiaChain. Content stays here; only its hash is recorded.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use kairos_actors::anchor::reply::{Overview, Submitted};
use kairos_actors::anchor::{AnchorHandle, List};
use kairos_protocol::anchor::declaration::DeclarationMembers;
use kairos_protocol::anchor::observation::ObservationMembers;
use kairos_protocol::anchor::{Anchor, AnchorMembers, parse_hash};
use kairos_protocol::hash::{ContentHash, Hasher};
use serde_json::{Map, Value, json};

use super::exit::Exit;
use super::knowledge::TextArgs;
use super::out::{Cell, Out, Tone};
use super::{Session, Usage};
use crate::agent::Agent;

mod meeting;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct AnchorArgs {
    #[command(subcommand)]
    command: AnchorCommand,
}

#[derive(Debug, Subcommand)]
enum AnchorCommand {
    /// Anchor a text, a file, or a hash
    Submit(SubmitArgs),
    /// Tell whether an anchor is there and intact; exits with 1 if not
    Verify {
        /// Its hash
        hash: String,
    },
    /// Show an anchor
    Get {
        /// Its hash
        hash: String,
    },
    /// List anchors, the newest first
    List {
        /// How many
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Only of this type
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Only those from this time on, such as 2026-02-23T10:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Anchor what was said in a session with another agent: a hash of all of it, and one of the messages
    Session(meeting::SessionArgs),
    /// Show what the anchors of sessions, relayed messages and exchanged skills add up to
    Meetings,
    /// Show where anchors are kept, how many there are, and which step could come next
    Status,
    /// Make anchors of all that wait for a batch
    Flush,
    /// Copy all anchors to the next stage and compare every one; the setting anchors.backend is yours to change
    Migrate {
        /// 1 is the private file; 2 and 3 are public chains, which this version cannot write to
        #[arg(allow_negative_numbers = true)]
        stage: i64,
        /// Only tell what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Declare how this agent means to act, for others to see and binding on nobody
    Declare {
        /// exchange, interaction, fadeout, or custom.NAME
        kind: String,
        #[command(flatten)]
        text: TextArgs,
        /// A tag of what it goes together with, such as cooperative; may be given several times
        #[arg(long, value_name = "TAG")]
        compatible_with: Vec<String>,
        /// The version of the declaration
        #[arg(long, value_name = "VERSION", default_value = "1.0")]
        as_version: String,
    },
    /// Record what this agent saw of another, or of itself
    Observe {
        /// The id of the agent that was observed
        observed: String,
        /// initiated, completed, faded, observed, or custom.NAME
        kind: String,
        #[command(flatten)]
        text: TextArgs,
        /// How this agent reads it, as a JSON object; only its hash is recorded
        #[arg(long, value_name = "JSON")]
        interpretation: Option<String>,
    },
}

/// What is anchored.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("data").required(true))]
struct SubmitArgs {
    /// What it is, in words of your own
    source_id: String,
    /// The file whose bytes are hashed; - is standard input
    #[arg(group = "data")]
    file: Option<PathBuf>,
    /// The text that is hashed
    #[arg(long, group = "data")]
    text: Option<String>,
    /// The SHA-256, if you have it already
    #[arg(long, group = "data")]
    hash: Option<String>,
    /// meeting, generic, genomics, research, agreement, audit, release, or custom.NAME
    #[arg(long = "type", value_name = "TYPE", default_value = "generic")]
    kind: String,
    /// The id of an agent that took part; may be given several times
    #[arg(long, value_name = "ID")]
    participant: Vec<String>,
    /// Whatever else belongs to it, as a JSON object
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// The hash of the anchor before it
    #[arg(long, value_name = "HASH")]
    previous: Option<String>,
    /// Let it wait for others, where the setting anchors.batching allows that
    #[arg(long)]
    batch: bool,
}

/// Runs `anchor`.
pub fn run(args: AnchorArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let anchors = &agent.handles.anchors;
        match args.command {
            AnchorCommand::Submit(args) => submit(args, &agent, &mut out).await,
            AnchorCommand::Verify { hash } => verify(&hash, anchors, &mut out).await,
            AnchorCommand::Get { hash } => get(&hash, anchors, &mut out).await,
            AnchorCommand::List { limit, kind, since } => {
                let ask = List {
                    limit,
                    anchor_type: kind,
                    since,
                };
                list(&anchors.list(ask).await?, &mut out)
            }
            AnchorCommand::Session(args) => meeting::session(args, &agent, &mut out).await,
            AnchorCommand::Meetings => meeting::meetings(&anchors.meetings().await?, &mut out),
            AnchorCommand::Status => status(&anchors.overview().await?, &mut out),
            AnchorCommand::Flush => flush(anchors, &mut out).await,
            AnchorCommand::Migrate { stage, dry_run } => {
                migrate(stage, dry_run, anchors, &mut out).await
            }
            AnchorCommand::Declare {
                kind,
                text,
                compatible_with,
                as_version,
            } => {
                let members = DeclarationMembers {
                    philosophy_type: kind,
                    compatible_with,
                    version: Some(as_version),
                    ..DeclarationMembers::default()
                };
                declare(members, &text.read()?, &agent, &mut out).await
            }
            AnchorCommand::Observe {
                observed,
                kind,
                text,
                interpretation,
            } => {
                let members = ObservationMembers {
                    observed_id: observed,
                    observation_type: kind,
                    interpretation: object("interpretation", interpretation.as_deref())?,
                    ..ObservationMembers::default()
                };
                observe(members, &text.read()?, &agent, &mut out).await
            }
        }
    })
}

async fn submit(args: SubmitArgs, agent: &Agent, out: &mut Out) -> anyhow::Result<Exit> {
    let data_hash = match (args.hash, args.text, args.file) {
        (Some(hash), ..) => hash,
        (_, Some(text), _) => ContentHash::of(text).to_hex(),
        (_, _, file) => {
            let file = file.unwrap_or_else(|| PathBuf::from("-"));
            let hashed = tokio::task::spawn_blocking(move || hash_of(&file));
            hashed.await??.to_hex()
        }
    };
    let members = AnchorMembers {
        anchor_type: args.kind,
        source_id: args.source_id,
        data_hash,
        participants: args.participant,
        metadata: object("metadata", args.metadata.as_deref())?,
        timestamp: None,
        previous_anchor_ref: args.previous,
    };
    let anchor = members.check(agent.clock.now())?;
    let done = agent.handles.anchors.submit(anchor, args.batch).await?;
    submitted(&done, &json!(done), out)
}

/// Hashes a file of any size without holding it.
fn hash_of(path: &Path) -> anyhow::Result<ContentHash> {
    let mut from: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(stdin().lock()),
        _ => {
            let file = File::open(path);
            Box::new(file.with_context(|| format!("cannot read {}", path.display()))?)
        }
    };
    let mut hasher = Hasher::default();
    std::io::copy(&mut from, &mut hasher)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finish())
}

fn object(what: &str, text: Option<&str>) -> Result<Map<String, Value>, Usage> {
    let Some(text) = text else {
        return Ok(Map::new());
    };
    let parsed = kairos_protocol::json::parse_object(text.as_bytes());
    parsed.map_err(|error| Usage(format!("--{what}: {error}")))
}

/// Shows what came of an anchor; `whole` is what programs get.
fn submitted(done: &Submitted, whole: &Value, out: &mut Out) -> anyhow::Result<Exit> {
    let exit = match done.is_kept() {
        true => Exit::Done,
        false => Exit::Failed,
    };
    if out.wants_json() {
        out.json(whole)?;
        return Ok(exit);
    }
    let hash = done.anchor_hash.map(|hash| hash.to_hex());
    let hash = hash.unwrap_or_default();
    match done.queue_position {
        _ if !done.is_kept() => {
            let word = out.paint_note(Tone::Bad, "error:");
            let message = done.message.clone().unwrap_or_default();
            out.note(format_args!("{word} {message}"))?;
        }
        Some(position) => out.line(format_args!(
            "Waits for a batch, at place {position}: {hash}"
        ))?,
        None if done.status == "exists" => {
            out.line(format_args!("Was anchored before: {hash}"))?;
        }
        None => out.line(format_args!("Anchored: {hash}"))?,
    }
    Ok(exit)
}

async fn verify(hash: &str, anchors: &AnchorHandle, out: &mut Out) -> anyhow::Result<Exit> {
    let hash = parse_hash("anchor_hash", hash)?;
    let found = anchors.get(hash).await?;
    if out.wants_json() {
        let mut told = json!({"exists": found.is_some(), "anchor_hash": hash});
        if let (Some(anchor), Some(told)) = (&found, told.as_object_mut()) {
            told.insert("anchor_type".to_owned(), json!(anchor.anchor_type()));
            told.insert("timestamp".to_owned(), json!(anchor.timestamp()));
        }
        out.json(&told)?;
    } else if let Some(anchor) = &found {
        let (kind, at) = (anchor.anchor_type(), anchor.timestamp());
        out.line(format_args!("Anchored: {kind}, {at}"))?;
    } else {
        out.line(format_args!("No such anchor: {hash}"))?;
    }
    Ok(match found {
        Some(_) => Exit::Done,
        None => Exit::Failed,
    })
}

async fn get(hash: &str, anchors: &AnchorHandle, out: &mut Out) -> anyhow::Result<Exit> {
    let hash = parse_hash("anchor_hash", hash)?;
    let Some(anchor) = anchors.get(hash).await? else {
        anyhow::bail!("no such anchor: {hash}");
    };
    if out.wants_json() {
        out.json(&anchor.to_value())?;
        return Ok(Exit::Done);
    }
    out.line(format_args!(
        "{} '{}'",
        anchor.anchor_type(),
        anchor.source_id()
    ))?;
    out.line(format_args!("  Hash: {hash}"))?;
    out.line(format_args!("  Data: {}", anchor.data_hash()))?;
    out.line(format_args!("  Time: {}", anchor.timestamp()))?;
    if !anchor.participants().is_empty() {
        let all = anchor.participants().join(", ");
        out.line(format_args!("  Participants: {all}"))?;
    }
    for (name, value) in anchor.metadata() {
        out.line(format_args!("  {name}: {value}"))?;
    }
    if let Some(before) = anchor.previous_anchor_ref() {
        out.line(format_args!("  After: {before}"))?;
    }
    Ok(Exit::Done)
}

fn list(anchors: &[Anchor], out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        let all: Vec<_> = anchors.iter().map(Anchor::to_value).collect();
        out.json(&json!({ "anchors": all }))?;
    } else if anchors.is_empty() {
        out.line("No anchors. Make one with:  kairos-chain anchor submit NAME FILE")?;
    } else {
        let rows = anchors.iter().map(|anchor| {
            [
                Cell::from(anchor.hash().to_hex().chars().take(12).collect::<String>()),
                Cell::from(anchor.anchor_type()),
                Cell::from(anchor.timestamp()),
                Cell::from(anchor.source_id()),
            ]
        });
        out.table(["HASH", "TYPE", "TIME", "OF"], rows)?;
    }
    Ok(Exit::Done)
}

fn status(found: &Overview, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(found)?;
        return Ok(Exit::Done);
    }
    let backend = &found.current_backend;
    let (number, what) = (found.current_stage, backend.description);
    out.line(format_args!("Stage {number} ({}): {what}", backend.name))?;
    if !found.client_status.enabled {
        out.line("  Nothing is anchored: the setting anchors.enabled is false.")?;
    }
    if let Some(path) = &found.backend_stats.storage_path {
        out.line(format_args!("  File: {path}"))?;
    }
    let (total, most) = (found.total_anchors, found.backend_stats.max_anchors);
    out.line(format_args!("  Anchors: {total} of at most {most}"))?;
    for (kind, count) in &found.backend_stats.anchors_by_type {
        out.line(format_args!("    {kind}: {count}"))?;
    }
    if found.client_status.batching_enabled {
        let waiting = found.client_status.batch_queue_size;
        out.line(format_args!("  Waiting for a batch: {waiting}"))?;
    }
    for step in &found.available_migrations {
        let needs = match step.self_contained {
            true => "kairos-chain anchor migrate 1".to_owned(),
            false => format!("needs {}", step.prerequisites.join(", ")),
        };
        out.line(format_args!(
            "  Next: stage {} ({}): {needs}",
            step.to, step.to_name
        ))?;
    }
    for damaged in &found.backend_stats.damaged {
        let word = out.paint_note(Tone::Bad, "damaged:");
        let (hash, reason) = (&damaged.anchor_hash, &damaged.reason);
        out.note(format_args!("{word} {hash}: {reason}"))?;
    }
    Ok(Exit::Done)
}

async fn flush(anchors: &AnchorHandle, out: &mut Out) -> anyhow::Result<Exit> {
    let done = anchors.flush().await?;
    if out.wants_json() {
        out.json(&done)?;
    } else {
        out.line(format_args!("Anchored {} that waited", done.count))?;
    }
    Ok(Exit::Done)
}

async fn migrate(
    stage: i64,
    dry_run: bool,
    anchors: &AnchorHandle,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    if dry_run {
        let plan = anchors.rehearse(stage).await?;
        if out.wants_json() {
            out.json(&plan)?;
        } else {
            let (from, to) = (plan.source_backend, plan.destination_backend);
            out.line(format_args!(
                "Would copy {} of {} anchors from {from} to {to}; {} are there",
                plan.would_migrate, plan.total_in_source, plan.already_in_destination
            ))?;
        }
        return Ok(Exit::Done);
    }
    let done = anchors.migrate(stage).await?;
    let exit = match done.status {
        "completed" => Exit::Done,
        _ => Exit::Failed,
    };
    if out.wants_json() {
        out.json(&done)?;
        return Ok(exit);
    }
    let (from, to) = (done.source_backend, done.destination_backend);
    out.line(format_args!(
        "Copied {} of {} anchors from {from} to {to}; {} were there",
        done.migrated, done.total, done.skipped
    ))?;
    let checked = &done.verification;
    out.line(format_args!(
        "Compared: {} of {} are the same",
        checked.verified, checked.sample_size
    ))?;
    for failed in &done.errors {
        let word = out.paint_note(Tone::Bad, "error:");
        let (hash, error) = (&failed.anchor_hash, &failed.error);
        out.note(format_args!("{word} {hash}: {error}"))?;
    }
    out.note(format_args!(
        "New anchors go there once the setting anchors.backend is {to}."
    ))?;
    Ok(exit)
}

async fn declare(
    members: DeclarationMembers,
    text: &str,
    agent: &Agent,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let now = agent.clock.now();
    let agent_id = agent.signed.instance_id.to_string();
    let declaration = DeclarationMembers {
        agent_id: agent_id.clone(),
        philosophy_hash: ContentHash::of(text).to_hex(),
        ..members.clone()
    };
    let declaration = declaration.check(now)?;
    let done = agent
        .handles
        .anchors
        .submit(declaration.anchor(now)?, false)
        .await?;
    let whole = json!({
        "status": done.status, "declaration_id": declaration.declaration_id(),
        "anchor_hash": done.anchor_hash, "philosophy_type": members.philosophy_type,
        "philosophy_hash": declaration.philosophy_hash(),
        "compatible_with": members.compatible_with, "version": declaration.version(),
        "agent_id": agent_id, "message": done.message,
        "note": "The content stays private; only its hash is recorded.",
    });
    if !out.wants_json() && done.is_kept() {
        out.line(format_args!("Declared {}", declaration.declaration_id()))?;
    }
    submitted(&done, &whole, out)
}

async fn observe(
    members: ObservationMembers,
    text: &str,
    agent: &Agent,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let now = agent.clock.now();
    let observer_id = agent.signed.instance_id.to_string();
    let observation = ObservationMembers {
        observer_id: observer_id.clone(),
        interaction_hash: ContentHash::of(text).to_hex(),
        ..members.clone()
    };
    let observation = observation.check(now)?;
    let done = agent
        .handles
        .anchors
        .submit(observation.anchor(now)?, false)
        .await?;
    let whole = json!({
        "status": done.status, "observation_id": observation.observation_id(),
        "anchor_hash": done.anchor_hash, "observation_type": members.observation_type,
        "observer_id": observer_id, "observed_id": members.observed_id,
        "interaction_hash": observation.interaction_hash(),
        "self_observation": observation.is_of_self(),
        "fadeout": members.observation_type == "faded", "message": done.message,
        "note": "The content stays private; only its hash is recorded.",
    });
    if !out.wants_json() && done.is_kept() {
        out.line(format_args!("Recorded {}", observation.observation_id()))?;
    }
    submitted(&done, &whole, out)
}
