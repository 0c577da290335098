//! `federation`: with which other Places the one that is hosted here deals, for whoever runs it.

use anyhow::Context as _;
use clap::Subcommand;
use kairos_actors::meeting::client::PeerUrl;
use kairos_protocol::id::AgreementId;
use serde_json::Value;

use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use super::place::operator::members;
use super::token::LOCAL;
use super::{Session, Usage};
use crate::agent::Agent;
use crate::federation::Order as Federation;
use crate::operate::Order;
use crate::operate::door::carry_out;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct FederationArgs {
    #[command(subcommand)]
    command: FederationCommand,
}

/// See the variants.
#[derive(Debug, Subcommand)]
enum FederationCommand {
    /// Offer another Place an agreement, signed; nothing is in effect before its operator accepts
    Propose {
        /// Where the other Place is, an HTTP URL
        url: PeerUrl,
        /// Where it reaches ours; otherwise the setting place.url
        #[arg(long = "own-url", value_name = "URL")]
        own: Option<PeerUrl>,
    },
    /// Accept what another Place offered: it is in effect from then on
    Accept {
        /// Which, as `federation list` shows it
        agreement: AgreementId,
    },
    /// Refuse what another Place offered
    Refuse {
        /// Which
        agreement: AgreementId,
    },
    /// End an agreement, or take back what was offered; the other Place is told
    End {
        /// Which
        agreement: AgreementId,
    },
    /// List the agreements with other Places, also those that were refused or ended lately
    List,
    /// Show how many agreements there are, and what other Places were not told yet
    Status,
}

/// Runs `federation`.
pub fn run(args: FederationArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let order = order(args.command, &agent)?;
        let by = LOCAL.parse()?;
        let (door, mut told) = carry_out(&agent, Order::Federation(order.clone()), &by).await?;
        let untold = told.get("told") == Some(&Value::Bool(false));
        if out.wants_json() {
            if let Value::Object(members) = &mut told {
                members.insert("via".to_owned(), door.as_str().into());
            }
            out.json(&told)?;
        } else {
            show(&order, &told, &mut out)?;
            out.note(door)?;
        }
        Ok(if untold { Exit::Failed } else { Exit::Done })
    })
}

fn order(command: FederationCommand, agent: &Agent) -> anyhow::Result<Federation> {
    Ok(match command {
        FederationCommand::Propose { url, own } => Federation::Propose {
            url,
            own: match own {
                Some(own) => own,
                None => own_url(agent)?,
            },
        },
        FederationCommand::Accept { agreement } => Federation::Accept { agreement },
        FederationCommand::Refuse { agreement } => Federation::Refuse { agreement },
        FederationCommand::End { agreement } => Federation::End { agreement },
        FederationCommand::List => Federation::List {},
        FederationCommand::Status => Federation::Status {},
    })
}

fn own_url(agent: &Agent) -> anyhow::Result<PeerUrl> {
    let told = &agent.settings.place.url;
    if told.is_empty() {
        let text =
            "say where the other Place reaches ours, with --own-url URL or the setting place.url";
        return Err(Usage(text.to_owned()).into());
    }
    told.parse().context("place.url")
}

fn show(order: &Federation, told: &Value, out: &mut Out) -> std::io::Result<()> {
    match order {
        Federation::List {} => list(told, out),
        Federation::Status {} => members("", told, out),
        _ => one(told, out),
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn one(told: &Value, out: &mut Out) -> std::io::Result<()> {
    let id = text(told, "agreement");
    let place = format!("{} at {}", text(told, "place"), text(told, "url"));
    match text(told, "standing") {
        "proposed" => out.line(format_args!(
            "Offered {place} an agreement: {id}\nNothing is in effect before its operator accepts it."
        ))?,
        "in_effect" => out.line(format_args!("Federated with {place}: {id}"))?,
        "refused" => out.line(format_args!("Refused the agreement {id} with {place}"))?,
        _ => out.line(format_args!("Ended the agreement {id} with {place}"))?,
    }
    match told.get("trouble").and_then(Value::as_str) {
        None => Ok(()),
        Some(trouble) => {
            let word = out.paint_note(Tone::Careful, "not told yet:");
            out.note(format_args!(
                "{word} {trouble}. A running server tells it again and again."
            ))
        }
    }
}

fn list(told: &Value, out: &mut Out) -> std::io::Result<()> {
    let all = told.get("agreements").and_then(Value::as_array);
    let all = all.map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        return out.line("This Place has agreed on nothing with others.");
    }
    let rows = all.iter().map(|agreement| {
        let standing = text(agreement, "standing").replace('_', " ");
        let tone = match standing.as_str() {
            "asked" => Tone::Careful,
            _ => Tone::Strong,
        };
        let told = match agreement.get("told") {
            Some(Value::Bool(false)) => Cell::toned(Tone::Careful, "not yet"),
            _ => Cell::from("yes"),
        };
        [
            Cell::from(text(agreement, "agreement")),
            Cell::toned(tone, standing),
            Cell::from(text(agreement, "place")),
            Cell::from(text(agreement, "url")),
            Cell::from(text(agreement, "key_fingerprint")),
            told,
            Cell::from(text(agreement, "since")),
        ]
    });
    for agreement in all {
        if let Some(file) = agreement.pointer("/ledger/fork").and_then(Value::as_str) {
            let word = out.paint_note(Tone::Bad, "two histories:");
            out.note(format_args!(
                "{word} {} wrote its ledger anew; check the evidence with: kairos-verify fork {file}",
                text(agreement, "place")
            ))?;
        }
    }
    let head = [
        "AGREEMENT",
        "STANDING",
        "PLACE",
        "URL",
        "KEY",
        "TOLD",
        "SINCE",
    ];
    out.table(head, rows)
}
