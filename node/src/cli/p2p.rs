//! `p2p`: the libp2p node of the running server: who is there, who is found, and where it listens.

use clap::Subcommand;
use kairos_actors::discovery::Address;
use kairos_protocol::id::AgentId;
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
    /// Look for an agent by its id, now, in the network and on the local one
    Find {
        /// Whom
        agent: AgentId,
    },
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

/// Runs `p2p`.
pub fn run(args: P2pArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let order = match args.command {
        P2pCommand::Status => Order::Status {},
        P2pCommand::Peers => Order::Peers {},
        P2pCommand::Find { agent } => Order::Find { agent },
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
        let found = told.get("found") != Some(&Value::Null);
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
                    ("until", "expires_at"),
                ];
                let rows =
                    rows.map(|(shown, name)| [Cell::from(shown), Cell::from(text(found, name))]);
                out.table(["", ""], rows)?;
                out.note(format_args!("Meet it with:  kairos-chain meet {agent}"))?;
            }
        },
        Order::Dial { .. } => out.line(format_args!("Connected to {}", text(told, "peer")))?,
        Order::Listen { .. } => out.line(format_args!("Listening at {}", text(told, "address")))?,
        Order::Bootstrap {} => out.line(format_args!("{} reached", text(told, "reached")))?,
        // Commands send these for what they do, and show that.
        Order::Record { .. } | Order::Carry { .. } => {}
    }
    Ok(())
}
