//! `place message`: sealed messages through a Place.

use std::io::Read as _;

use clap::Subcommand;
use kairos_actors::meeting::inbox::InboxEntry;
use kairos_actors::membership::mail::Unopened;
use kairos_actors::membership::{Collected, Letters, MembershipError, Post, PostThrough};
use kairos_protocol::id::{AgentId, MessageId, MessageType};
use kairos_protocol::relay::padding;
use serde_json::{Value, json};

use super::elsewhere::WayArgs;
use super::{WhichArgs, told};
use crate::agent::Agent;
use crate::cli::Usage;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};

#[derive(Debug, clap::Args)]
pub(super) struct MessageArgs {
    #[command(subcommand)]
    command: MessageCommand,
}

#[derive(Debug, Subcommand)]
enum MessageCommand {
    /// Seal a message to an agent and leave it at a Place; the agent may be asleep
    Send(SendArgs),
    /// Fetch what waits at the Places, and print what was not printed before
    Read(ReadArgs),
}

#[derive(Debug, clap::Args)]
struct SendArgs {
    /// To whom: the id of an agent
    agent: AgentId,
    /// The text; `-` or none reads it from standard input
    text: Option<String>,
    /// What it is about; the Place sees this word
    #[arg(long = "type", value_name = "WORD", default_value = "message")]
    kind: MessageType,
    /// Send a message again whose fate is unknown, under the id that it had; it is delivered once
    #[arg(long, value_name = "ID")]
    id: Option<MessageId>,
    #[command(flatten)]
    way: WayArgs,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, clap::Args)]
struct ReadArgs {
    /// Print also what was printed before
    #[arg(long)]
    all: bool,
    /// Do not ask the Places, print what is here
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    which: WhichArgs,
}

pub(super) async fn run(agent: &Agent, args: MessageArgs, out: &mut Out) -> anyhow::Result<Exit> {
    match args.command {
        MessageCommand::Send(args) => send(agent, args, out).await,
        MessageCommand::Read(args) => read(agent, args, out).await,
    }
}

async fn send(agent: &Agent, args: SendArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let body = match args.text {
        Some(text) if text != "-" => text,
        _ => from_stdin()?,
    };
    let url = args.which.choose(agent).await?;
    let (to, kind) = (args.agent, args.kind);
    let (membership, route) = (&agent.handles.membership, args.way.via);
    let sent = match route.is_empty() {
        true => {
            let post = Post {
                url: url.clone(),
                to: to.clone(),
                kind,
                body,
                id: args.id,
            };
            membership.post(post).await?
        }
        false => {
            let post = PostThrough {
                url: url.clone(),
                route,
                to: to.clone(),
                kind,
                body,
                id: args.id,
            };
            membership.post_through(post).await?
        }
    };
    let until = sent.expires_at.as_deref().unwrap_or("its time is over");
    told(
        out,
        &json!({
            "message_id": sent.id, "to": to, "place": url, "envelope": sent.version, "expires_at": sent.expires_at,
            "repeated": sent.repeated,
        }),
        format_args!(
            "Sealed message {} waits for {to} at {url} until {until}",
            sent.id
        ),
    )?;
    if sent.repeated {
        out.note("The Place had it already; it is delivered once.")?;
    }
    if sent.version == 1 {
        out.note(
            "It is in the older envelope: nobody can tell by it who wrote it, and whoever gets the key later can read it.",
        )?;
    }
    Ok(Exit::Done)
}

fn from_stdin() -> anyhow::Result<String> {
    let limit = padding::CONTENT_MAX;
    let mut text = String::new();
    let mut stdin = std::io::stdin().take(limit as u64 + 1);
    stdin.read_to_string(&mut text)?;
    match text.len() > limit {
        true => Err(Usage(format!("a message has at most {limit} bytes")).into()),
        false => Ok(text),
    }
}

async fn read(agent: &Agent, args: ReadArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let membership = &agent.handles.membership;
    let places = match &args.which.url {
        Some(url) => vec![url.clone()],
        None => {
            let places = membership.list().await?;
            let relays = places.into_iter().filter(|place| place.has_relay);
            relays.map(|place| place.url).collect()
        }
    };
    if places.is_empty() && !args.offline {
        return Err(Usage(
            "no Place that relays messages is joined; join one with: kairos-chain place join URL"
                .to_owned(),
        )
        .into());
    }
    let (mut troubles, mut left) = (Vec::new(), 0);
    for url in places.into_iter().filter(|_| !args.offline) {
        match membership.collect(url.clone()).await {
            Ok(Collected { left: more, .. }) => left += more,
            Err(error @ MembershipError::NoRelay(_)) => return Err(error.into()),
            // What came before, and what other Places have, is there to be read all the same.
            Err(error) => troubles.push((url, error.to_string())),
        }
    }
    let letters = membership.read(args.which.url, args.all).await?;
    let failed = !troubles.is_empty();
    if out.wants_json() {
        let troubles = troubles
            .iter()
            .map(|(url, error)| json!({"place": url, "error": error}));
        out.json(&json!({
            "messages": letters.messages, "unopened": letters.unopened, "left_at_places": left,
            "troubles": troubles.collect::<Vec<_>>(),
        }))?;
    } else {
        show(&letters, out)?;
        for (url, error) in &troubles {
            let word = out.paint_note(Tone::Bad, "not asked:");
            out.note(format_args!("{word} {url}: {error}"))?;
        }
        if left > 0 {
            out.note(format_args!(
                "{left} messages stay at their Places: there is no room for them here, or the keys of their senders could not \
                 be had. Make room with:  kairos-chain inbox clear"
            ))?;
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn show(letters: &Letters, out: &mut Out) -> std::io::Result<()> {
    if letters.messages.is_empty() {
        out.line("No new messages.")?;
    }
    for message in &letters.messages {
        one(message, out)?;
    }
    for note in &letters.unopened {
        unopened(note, out)?;
    }
    Ok(())
}

fn one(message: &InboxEntry, out: &mut Out) -> std::io::Result<()> {
    let from = out.paint(Tone::Strong, &message.from);
    let signed = match message.strength {
        kairos_place::session::Strength::Proven => "signed",
        kairos_place::session::Strength::Introduced => "not signed; the sender is the Place's word",
    };
    out.line(format_args!(
        "{}  {from}  {}  ({signed})",
        message.at, message.action
    ))?;
    match &message.payload {
        Value::String(text) => out.line(text.trim_end_matches('\n')),
        other => out.line(other),
    }
}

fn unopened(note: &Unopened, out: &mut Out) -> std::io::Result<()> {
    let from = note.from.as_ref().map_or("somebody", |from| from.as_str());
    let word = out.paint_note(Tone::Careful, "not opened:");
    out.note(format_args!(
        "{word} {} from {from} at {}, last at {}: {}",
        note.count, note.place, note.last, note.reason
    ))
}
