//! `p2p`: the libp2p node of the running server: who is there, who is found, and where it listens.

use clap::Subcommand;
use kairos_actors::discovery::Address;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::record::ask::Query;
use serde_json::Value;

use super::Session;
use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use crate::p2p::Order;

pub(super) mod node;

/// What of it.
#[derive(Debug, clap::Args)]
pub struct P2pArgs {
    #[command(subcommand)]
    command: P2pCommand,
}

/// See the variants.
#[derive(Debug, Subcommand)]
enum P2pCommand {
    /// Show the node: its name, where it listens, who may learn of this agent
    Status,
    /// List the nodes that are connected, and whose they are
    Peers,
    /// Look for an agent by its id, or for whoever is a Place or hands something out: now, in the network and on the local one
    Find(FindArgs),
    /// Open a connection to the node at an address
    Dial {
        /// Such as /ip4/192.0.2.7/tcp/4001; with /p2p/12D3Koo… at its end nobody else will do
        address: Address,
    },
    /// Listen at one more address until the server ends
    Listen {
        /// Such as /ip4/0.0.0.0/tcp/4002, or through a relay /ip4/192.0.2.7/tcp/4001/p2p/12D3Koo…/p2p-circuit
        address: Address,
    },
    /// Dial the nodes of the setting p2p.bootstrap once more, and look around in the network
    Bootstrap,
}

/// Whom or what to look for.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct FindArgs {
    /// The agent with this id
    agent: Option<AgentId>,

    /// Meeting Places: all, or those with this in their names
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    place: Option<String>,

    /// Whoever hands out a skill or SkillSet of this name
    #[arg(long, value_name = "NAME")]
    offer: Option<String>,

    /// Whoever hands out something with this tag
    #[arg(long)]
    tag: Option<String>,

    /// Whoever hands out content with this hash: 64 hex digits
    #[arg(long, value_name = "HASH")]
    content: Option<ContentHash>,
}

impl FindArgs {
    fn order(self) -> Order {
        let query = match self {
            Self {
                agent: Some(agent), ..
            } => return Order::Find { agent },
            Self {
                offer: Some(name), ..
            } => Query::Offer(name),
            Self { tag: Some(tag), .. } => Query::Tag(tag),
            Self {
                content: Some(hash),
                ..
            } => Query::Content(hash),
            Self { place, .. } => Query::Place(place.unwrap_or_default()),
        };
        Order::Search { query }
    }
}

/// Runs `p2p`.
pub fn run(args: P2pArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let order = match args.command {
        P2pCommand::Status => Order::Status {},
        P2pCommand::Peers => Order::Peers {},
        P2pCommand::Find(args) => args.order(),
        P2pCommand::Dial { address } => Order::Dial {
            address: address.to_string(),
        },
        P2pCommand::Listen { address } => Order::Listen {
            address: address.to_string(),
        },
        P2pCommand::Bootstrap => Order::Bootstrap {},
    };
    session.with_node(|_, node, mut out| async move {
        let told = node.order(&order).await?;
        let is_empty = |told: &Value| told.as_array().is_some_and(Vec::is_empty);
        let found =
            told.get("found") != Some(&Value::Null) && !told.get("matches").is_some_and(is_empty);
        if out.wants_json() {
            out.json(&told)?;
        } else {
            show(&order, &told, &mut out)?;
        }
        Ok(if found { Exit::Done } else { Exit::Failed })
    })
}

fn show(order: &Order, told: &Value, out: &mut Out) -> anyhow::Result<()> {
    let text = |value: &Value, name: &str| match value.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => {
            let texts = list.iter().filter_map(Value::as_str);
            texts.collect::<Vec<_>>().join(" ")
        }
        Some(other) => other.to_string(),
    };
    match order {
        Order::Status {} => {
            let rows = [
                ("node", "peer"),
                ("who may learn of us", "scope"),
                ("our record", "published"),
                ("listens", "listen"),
                ("reached at", "external"),
                ("others say", "reach"),
                ("connected", "peers"),
                ("known nodes", "table"),
                ("records kept", "records"),
                ("agents known", "listed"),
                ("records refused", "records_refused"),
            ];
            let rows = rows.map(|(shown, name)| [Cell::from(shown), Cell::from(text(told, name))]);
            out.table(["", ""], rows)?;
        }
        Order::Peers {} => {
            let peers = told.get("peers").and_then(Value::as_array);
            let rows = peers.into_iter().flatten().map(|peer| {
                ["agent", "name", "peer", "way", "address"].map(|name| Cell::from(text(peer, name)))
            });
            out.table(["AGENT", "NAME", "NODE", "WAY", "ADDRESS"], rows)?;
        }
        Order::Find { agent } => match told.get("found") {
            None | Some(Value::Null) => {
                let word = out.paint_note(Tone::Careful, "not found:");
                out.note(format_args!(
                    "{word} nobody here or in the network knows of {agent}; it may be private, or away"
                ))?;
            }
            Some(found) => {
                let rows = [
                    ("agent", "agent"),
                    ("name", "name"),
                    ("key", "key_fingerprint"),
                    ("node", "peer"),
                    ("addresses", "addresses"),
                    ("place", "place"),
                    ("url", "url"),
                    ("answered", "answered"),
                    ("until", "expires_at"),
                ];
                let rows =
                    rows.map(|(shown, name)| [Cell::from(shown), Cell::from(text(found, name))]);
                out.table(["", ""], rows)?;
                out.note(format_args!("Meet it with:  kairos-chain meet {agent}"))?;
            }
        },
        Order::Search { .. } => {
            let matches = told.get("matches").and_then(Value::as_array);
            let matches = matches.map_or(&[][..], Vec::as_slice);
            if matches.is_empty() {
                let word = out.paint_note(Tone::Careful, "not found:");
                out.note(format_args!(
                    "{word} nobody who is known here or to a neighbour announces that; see p2p peers"
                ))?;
                return Ok(());
            }
            let rows = matches.iter().map(|found| {
                let offers = found.get("offers").and_then(Value::as_array);
                let offers = offers
                    .into_iter()
                    .flatten()
                    .map(|offer| text(offer, "name"));
                let answered = found.get("answered") == Some(&Value::Bool(true));
                [
                    Cell::from(text(found, "agent")),
                    Cell::from(text(found, "name")),
                    Cell::from(text(found, "place")),
                    Cell::from(text(found, "url")),
                    Cell::from(offers.collect::<Vec<_>>().join(" ")),
                    Cell::from(if answered { "yes" } else { "no" }),
                ]
            });
            out.table(
                ["AGENT", "NAME", "PLACE", "URL", "HANDS OUT", "ANSWERED"],
                rows,
            )?;
        }
        Order::Dial { .. } => out.line(format_args!("Connected to {}", text(told, "peer")))?,
        Order::Listen { .. } => out.line(format_args!("Listening at {}", text(told, "address")))?,
        Order::Bootstrap {} => out.line(format_args!("{} reached", text(told, "reached")))?,
        // Commands send these for what they do, and show that.
        Order::Record { .. } | Order::Carry { .. } => {}
    }
    Ok(())
}
