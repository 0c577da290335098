//! `peers`: agents we know, the keys by which we know them, and what to do about conflicts.

use clap::Subcommand;
use kairos_actors::peer_manager::table::{Peer, PeerTableError};
use kairos_actors::peer_manager::{Decide, PeerError};
use kairos_actors::witness::Seen;
use kairos_protocol::tlog::statement::log_name;
use serde_json::{Value, json};

use super::Session;
use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use crate::agent::Agent;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct PeersArgs {
    #[command(subcommand)]
    command: PeersCommand,
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// List known agents
    List,
    /// Show one agent
    Show {
        /// Its id
        id: String,
    },
    /// Mark an agent as trusted
    Trust {
        /// Its id
        id: String,
    },
    /// Forget an agent, the key by which we know it, and what its ledger was
    Forget {
        /// Its id
        id: String,
    },
    /// Decide about an agent that showed another key than the known one
    #[command(group = clap::ArgGroup::new("decision").required(true))]
    Resolve {
        /// Its id
        id: String,
        /// Keep the known key and drop the other
        #[arg(long, group = "decision")]
        keep: bool,
        /// Accept the other key, named by its fingerprint as shown by `peers show`
        #[arg(long, group = "decision", value_name = "FINGERPRINT")]
        accept: Option<String>,
    },
}

/// Runs `peers`.
pub fn run(args: PeersArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let peers = &agent.handles.peers;
        let (decision, done) = match args.command {
            PeersCommand::List => {
                list(&peers.list().await?, &mut out)?;
                return Ok(Exit::Done);
            }
            PeersCommand::Show { id } => {
                return match peers.find(&id).await? {
                    Some(peer) => {
                        let log = log_name(&peer.id);
                        let seen = agent.handles.witness.find(log).await?;
                        show(&peer, seen.as_ref(), &mut out)
                    }
                    None => {
                        out.note(format_args!(
                            "No peer `{id}` is known. See: kairos-chain peers list"
                        ))?;
                        Ok(Exit::Failed)
                    }
                };
            }
            PeersCommand::Trust { id } => (Decide::Trust(id), "Trusted"),
            PeersCommand::Forget { id } => (Decide::Forget(id), "Forgot"),
            PeersCommand::Resolve {
                id,
                accept: Some(key),
                ..
            } => (Decide::Accept(id, key), "Accepted the new key of"),
            PeersCommand::Resolve { id, .. } => (Decide::Keep(id), "Kept the known key of"),
        };
        // Its ledger first: whoever is stopped in between can say it again. A log may be known without its agent.
        let forgot_log = match &decision {
            Decide::Forget(id) => forget_log(&agent, id).await?,
            _ => false,
        };
        let peer = match peers.decide(decision).await {
            Err(PeerError::Table(PeerTableError::Unknown(id))) if forgot_log => {
                return forgot_only_log(&id, &mut out);
            }
            decided => decided?,
        };
        if out.wants_json() {
            out.json(&peer_json(&peer))?;
        } else {
            out.line(format_args!("{done} peer '{}'", peer.id))?;
        }
        Ok(Exit::Done)
    })
}

/// Forgets what the ledger of `id` was, and says whether anything was known of it.
async fn forget_log(agent: &Agent, id: &str) -> anyhow::Result<bool> {
    // What is no id is told of by whoever looks for the peer.
    let Ok(id) = id.parse() else { return Ok(false) };
    Ok(agent.handles.witness.forget(id).await?)
}

fn forgot_only_log(id: &str, out: &mut Out) -> anyhow::Result<Exit> {
    match out.wants_json() {
        true => out.json(&json!({"id": id}))?,
        false => out.line(format_args!("Forgot the ledger of '{id}'"))?,
    }
    Ok(Exit::Done)
}

fn list(peers: &[Peer], out: &mut Out) -> std::io::Result<()> {
    if out.wants_json() {
        return out.json(&peers.iter().map(peer_json).collect::<Vec<_>>());
    }
    if peers.is_empty() {
        out.line("No peers known.")?;
        return out.note("Meet one with:  kairos-chain meet URL");
    }
    let rows = peers.iter().map(|peer| {
        let trust = match &peer.conflict {
            Some(_) => Cell::toned(Tone::Bad, "CONFLICT"),
            None => Cell::from(peer.trust.as_str()),
        };
        let url = peer.url.as_deref().unwrap_or("-");
        [
            Cell::from(&peer.id),
            Cell::from(&peer.name),
            trust,
            Cell::from(peer.strength.as_str()),
            Cell::from(peer.last_seen),
            Cell::from(url),
        ]
    });
    out.table(["ID", "NAME", "TRUST", "KEY", "LAST SEEN", "URL"], rows)
}

fn show(peer: &Peer, seen: Option<&Seen>, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        let mut value = peer_json(peer);
        let ledger = seen.map(|seen| {
            json!({
                "size": seen.checkpoint.head().size, "root": seen.checkpoint.head().root,
                "seen": seen.at.wire(), "log_key": seen.key, "fork": seen.fork,
            })
        });
        if let Some(members) = value.as_object_mut() {
            members.insert("ledger".to_owned(), json!(ledger));
        }
        out.json(&value)?;
        return Ok(Exit::Done);
    }
    out.line(format_args!("Peer: {}", peer.id))?;
    out.line(format_args!("  Name: {}", peer.name))?;
    out.line(format_args!(
        "  URL: {}",
        peer.url.as_deref().unwrap_or("it came to us")
    ))?;
    out.line(format_args!("  Trust: {}", peer.trust.as_str()))?;
    out.line(format_args!(
        "  Key: {} ({})",
        peer.key.fingerprint(),
        peer.strength.as_str()
    ))?;
    out.line(format_args!("  Known since: {}", peer.first_seen))?;
    out.line(format_args!("  Last seen: {}", peer.last_seen))?;
    if let Some(seen) = seen {
        let (size, at) = (seen.checkpoint.head().size, seen.at);
        out.line(format_args!("  Ledger: {size} blocks, seen {at}"))?;
        if let Some(file) = &seen.fork {
            let word = out.paint(Tone::Bad, "TWO HISTORIES");
            out.line(format_args!("  {word}: evidence in {}", file.display()))?;
            out.note("It contradicts what it signed before. Check the evidence, which anyone may see, with:")?;
            out.note(format_args!("  kairos-verify fork {}", file.display()))?;
            out.note("If you want to deal with it all the same, forget it first:")?;
            out.note(format_args!("  kairos-chain peers forget {}", peer.id))?;
        }
    }
    if let Some(conflict) = &peer.conflict {
        let word = out.paint(Tone::Bad, "CONFLICT");
        out.line(format_args!(
            "  {word}: key {} was shown {} times since {}",
            conflict.key.fingerprint(),
            conflict.count,
            conflict.first_seen
        ))?;
        out.note("Ask the agent's owner by another way which key is right, then run one of:")?;
        out.note(format_args!(
            "  kairos-chain peers resolve {} --keep",
            peer.id
        ))?;
        out.note(format_args!(
            "  kairos-chain peers resolve {} --accept {}",
            peer.id,
            conflict.key.fingerprint()
        ))?;
    }
    Ok(Exit::Done)
}

fn peer_json(peer: &Peer) -> Value {
    json!({
        "id": peer.id, "name": peer.name, "url": peer.url, "trust": peer.trust, "key_possession": peer.strength,
        "key_fingerprint": peer.key.fingerprint(), "public_key": peer.key.to_pem(),
        "first_seen": peer.first_seen.wire(), "last_seen": peer.last_seen.wire(),
        "conflict": peer.conflict.as_ref().map(|c| json!({
            "key_fingerprint": c.key.fingerprint(), "url": c.url, "count": c.count,
            "first_seen": c.first_seen.wire(), "last_seen": c.last_seen.wire(),
        })),
    })
}
