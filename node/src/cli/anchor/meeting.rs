//! `anchor session` and `anchor meetings`: what was said between two agents, as two hashes, and what all anchors of
//! meetings add up to.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kairos_actors::meeting::inbox::InboxEntry;
use kairos_protocol::anchor::meeting::{self, MeetingStats};
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use super::super::Usage;
use super::super::exit::Exit;
use super::super::knowledge::TextArgs;
use super::super::out::Out;
use super::submitted;
use crate::agent::Agent;

/// A session with another agent.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("session").required(true))]
pub(super) struct SessionArgs {
    /// The file with the session, a JSON object with session_id, peer_id, messages, and perhaps started_at and ended_at;
    /// - is standard input
    #[arg(group = "session")]
    file: Option<PathBuf>,
    /// The session itself
    #[arg(long, value_name = "JSON", group = "session")]
    text: Option<String>,
    /// Take what this agent wrote to us, as the inbox has it
    #[arg(long, value_name = "AGENT", group = "session", requires = "keep")]
    with: Option<AgentId>,
    /// Only messages that came from this time on, such as 2026-02-23T10:00:00Z
    #[arg(long, value_name = "TIME", requires = "with")]
    since: Option<Timestamp>,
    /// Where to write the session: an anchor holds only hashes, and this is what can be shown for them
    #[arg(long, value_name = "FILE", requires = "with")]
    keep: Option<PathBuf>,
    /// Only tell the hashes
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn session(
    args: SessionArgs,
    agent: &Agent,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let SessionArgs {
        file,
        text,
        with,
        since,
        keep,
        dry_run,
    } = args;
    let session = match &with {
        Some(peer) => of_inbox(&agent.handles.meeting.inbox().await?, peer, since)?,
        None => {
            let text = TextArgs { file, text }.read()?;
            let parsed = kairos_protocol::json::parse_object(text.as_bytes());
            parsed.map_err(|error| Usage(format!("the session: {error}")))?
        }
    };
    let made = meeting::session(&session, agent.clock.now())?;
    let anchor = &made.anchor;
    let messages = session.get("messages").and_then(Value::as_array);
    let count = messages.map_or(0, Vec::len);
    let mut whole = json!({
        "session_id": anchor.source_id(), "peer_id": session.get("peer_id"), "message_count": count,
        "data_hash": anchor.data_hash(), "messages_hash": made.messages_hash,
    });
    if !out.wants_json() {
        let id = anchor.source_id();
        let peer = anchor.participants().join(", ");
        out.line(format_args!("Session {id} with {peer}: {count} messages"))?;
        out.line(format_args!("  Data: {}", anchor.data_hash()))?;
        out.line(format_args!("  Messages: {}", made.messages_hash))?;
    }
    if dry_run {
        if out.wants_json() {
            out.json(&whole)?;
        }
        return Ok(Exit::Done);
    }
    // Before its hash is anchored: without the text the hash is of no use.
    if let Some(keep) = keep {
        let text = Value::Object(session).to_string();
        tokio::task::spawn_blocking(move || write_new(&keep, &text)).await??;
    }
    let done = agent.handles.anchors.submit(made.anchor, false).await?;
    if let (Value::Object(whole), Value::Object(told)) = (&mut whole, json!(done)) {
        whole.extend(told);
    }
    submitted(&done, &whole, out)
}

/// What `peer` wrote to us, as a session.
fn of_inbox(
    entries: &[InboxEntry],
    peer: &AgentId,
    since: Option<Timestamp>,
) -> anyhow::Result<Map<String, Value>> {
    let from_peer = entries.iter().filter(|entry| entry.from == *peer);
    let wanted = from_peer.filter(|entry| since.is_none_or(|since| entry.at >= since));
    let wanted: Vec<&InboxEntry> = wanted.collect();
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
        bail!("the inbox holds no such message from {peer}");
    };
    let messages = wanted.iter().map(|entry| {
        json!({
            "id": entry.id, "at": entry.at.wire(), "action": entry.action, "payload": entry.payload,
            "in_reply_to": entry.in_reply_to, "place": entry.place,
        })
    });
    let id = format!("inbox_{peer}_{}", first.at.file_stamp());
    let members = [
        ("session_id", json!(id)),
        ("peer_id", json!(peer)),
        ("messages", messages.collect()),
        ("started_at", json!(first.at.wire())),
        ("ended_at", json!(last.at.wire())),
    ];
    let members = members.into_iter();
    Ok(members
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut file = std::fs::File::create_new(path).with_context(cannot)?;
    writeln!(file, "{text}").with_context(cannot)?;
    file.sync_all().with_context(cannot)
}

pub(super) fn meetings(stats: &MeetingStats, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(stats)?;
        return Ok(Exit::Done);
    }
    out.line(format_args!(
        "Anchors of meetings: {}, with {} agents",
        stats.total_anchors, stats.unique_peers
    ))?;
    out.line(format_args!(
        "  Sessions: {}, of {} messages",
        stats.sessions, stats.total_messages
    ))?;
    out.line(format_args!(
        "  Relayed messages: {}, of {} bytes",
        stats.relays, stats.total_bytes_relayed
    ))?;
    out.line(format_args!(
        "  Skills that changed hands: {}",
        stats.skill_exchanges
    ))?;
    Ok(Exit::Done)
}
