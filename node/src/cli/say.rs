//! `reflect`, `message`, `inbox`: what agents say to each other beside skills.

use clap::Subcommand;
use kairos_actors::meeting::SendMessage;
use kairos_actors::meeting::client::PeerUrl;
use serde_json::{Value, json};

use super::exit::Exit;
use super::meet::refused;
use super::out::{Cell, Out};
use super::{Session, Usage};

/// What came of an exchange.
#[derive(Debug, clap::Args)]
pub struct ReflectArgs {
    /// Where the agent is
    url: PeerUrl,
    /// What to tell it
    text: String,
    /// The id of the message this is about
    #[arg(long, value_name = "ID")]
    in_reply_to: Option<String>,
}

/// A message.
#[derive(Debug, clap::Args)]
pub struct MessageArgs {
    /// Where the agent is
    url: PeerUrl,
    /// The action, such as request_skill, offer_skill, accept, decline, reflect
    action: String,
    /// The content, a JSON object
    #[arg(default_value = "{}")]
    payload: String,
    /// The id of the message this one answers
    #[arg(long, value_name = "ID")]
    in_reply_to: Option<String>,
}

/// What to do with the inbox.
#[derive(Debug, clap::Args)]
pub struct InboxArgs {
    #[command(subcommand)]
    command: Option<InboxCommand>,
}

#[derive(Debug, Subcommand)]
enum InboxCommand {
    /// List the messages, oldest first
    List,
    /// Drop all messages
    Clear,
}

/// Runs `reflect`.
pub fn reflect(args: ReflectArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let ReflectArgs {
        url,
        text,
        in_reply_to,
    } = args;
    let payload = json!({"reflection": text});
    send(
        SendMessage {
            url,
            action: "reflect".to_owned(),
            payload,
            in_reply_to,
        },
        session,
    )
}

/// Runs `message`.
pub fn message(args: MessageArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let MessageArgs {
        url,
        action,
        payload,
        in_reply_to,
    } = args;
    let payload: Value = serde_json::from_str(&payload)
        .map_err(|error| Usage(format!("the payload is not JSON: {error}")))?;
    if !payload.is_object() {
        return Err(Usage(
            "the payload must be a JSON object, such as '{\"reason\":\"no\"}'".into(),
        )
        .into());
    }
    send(
        SendMessage {
            url,
            action,
            payload,
            in_reply_to,
        },
        session,
    )
}

fn send(message: SendMessage, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let action = message.action.clone();
        let (met, answer) = match agent.handles.meeting.send(message).await {
            Ok(sent) => sent,
            Err(error) => return refused(error, &mut out),
        };
        let status = answer.get("status").and_then(Value::as_str).unwrap_or("none").to_owned();
        let accepted = !matches!(status.as_str(), "error" | "rejected" | "action_not_supported" | "none");
        if out.wants_json() {
            out.json(&json!({"to": met.peer.id, "action": action, "accepted": accepted, "answer": answer}))?;
        } else {
            out.line(format_args!("{} answered: {status}", met.peer.id))?;
            for member in ["reason", "error", "message"] {
                if let Some(text) = answer.get(member).and_then(Value::as_str) {
                    out.line(format_args!("  {text}"))?;
                }
            }
        }
        Ok(if accepted { Exit::Done } else { Exit::Failed })
    })
}

/// Runs `inbox`.
pub fn inbox(args: InboxArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        match args.command {
            Some(InboxCommand::Clear) => {
                let count = agent.handles.meeting.clear_inbox().await?;
                if out.wants_json() {
                    out.json(&json!({"cleared": count}))?;
                } else {
                    out.line(format_args!("Dropped {count} messages"))?;
                }
            }
            None | Some(InboxCommand::List) => {
                list(&agent.handles.meeting.inbox().await?, &mut out)?
            }
        }
        Ok(Exit::Done)
    })
}

fn list(
    entries: &[kairos_actors::meeting::inbox::InboxEntry],
    out: &mut Out,
) -> std::io::Result<()> {
    if out.wants_json() {
        return out.json(&entries);
    }
    if entries.is_empty() {
        return out.line("No messages.");
    }
    let rows = entries.iter().map(|entry| {
        let mut text = entry.payload.to_string();
        if let Some((at, _)) = text.char_indices().nth(120) {
            text.truncate(at);
            text.push('…');
        }
        [
            Cell::from(entry.at),
            Cell::from(format_args!("{} ({})", entry.from, entry.strength.as_str())),
            Cell::from(&entry.action),
            Cell::from(text),
        ]
    });
    out.table(["RECEIVED", "FROM", "ACTION", "CONTENT"], rows)
}
