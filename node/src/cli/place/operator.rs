//! `place start`, `stop`, `status`, `agents`, `kick`, `ban`, `unban`, `bans`, `audit`, `stats`: for whoever runs a Place.
//!
//! A command speaks to the server that hosts the Place, with a token that is good for this one command. Where none hosts
//! it, the command works on the Place as it is stored, under the lock that a server would hold. Each says which of both.

use clap::Subcommand;
use kairos_place::meeting_place::ban::TargetError;
use kairos_place::meeting_place::{AgentCursor, Target};
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde_json::Value;

use super::super::exit::Exit;
use super::super::{Session, Usage};
use crate::cli::token::LOCAL;
use crate::config::Period;
use crate::operate::{Cursor, Order, PAGE, door};

mod show;
mod switch;

pub(in crate::cli) use show::members;

/// What the operator of a Place wants.
#[derive(Debug, Subcommand)]
pub(super) enum OperatorCommand {
    /// Host a Meeting Place: a running server opens it at once, and every later one when it starts
    Start,
    /// Host none any more: a running server closes it at once, once what was asked of it is done
    Stop,
    /// Show whether a Meeting Place is hosted, and by which server
    Status,
    /// List the agents at the Place that is hosted
    Agents {
        /// Behind the page that ended so
        #[arg(long, value_name = "CURSOR")]
        after: Option<AgentCursor>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Make an agent leave: its sessions end, what it left here stays, and it may come back
    Kick {
        /// Which
        agent: AgentId,
        #[command(flatten)]
        why: WhyArgs,
    },
    /// Keep somebody out: an agent, whoever has a key, or whoever asks from an address or network
    Ban {
        /// An agent id, the fingerprint of a key, or an address or network such as 192.0.2.0/24. What could be taken for
        /// something else is written agent:ID, key:FINGERPRINT or address:NETWORK
        #[arg(value_name = "WHOM", value_parser = guessed)]
        target: Target,
        #[command(flatten)]
        why: WhyArgs,
        /// For how long, such as 12h or 30days; otherwise until it is taken back
        #[arg(long = "for", value_name = "DURATION")]
        time: Option<Period>,
    },
    /// Take a ban back
    Unban {
        /// Whose, as `place bans` shows it
        #[arg(value_name = "WHOM", value_parser = guessed)]
        target: Target,
    },
    /// List who is kept out, by whom and why
    Bans {
        /// Behind the page that ended so
        #[arg(long, value_name = "WHOM")]
        after: Option<Target>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show what was relayed, who registered, and what the operator did, the newest first; never any content
    Audit {
        /// Only this kind: relay, registration, key_registration, ban, unban, ban_over, kick or federation
        #[arg(long = "type", value_name = "KIND")]
        kind: Option<String>,
        /// Only what is not older, such as 2026-02-20T12:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
        /// Before the page that ended so
        #[arg(long, value_name = "NEXT", value_parser = cursor)]
        before: Option<Cursor>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show how much there is at the Place and its relay
    Stats,
}

#[derive(Debug, clap::Args)]
pub(super) struct PageArgs {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = PAGE)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
pub(super) struct WhyArgs {
    /// Why, for the audit; nobody else is told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn guessed(text: &str) -> Result<Target, TargetError> {
    Target::guess(text)
}

fn cursor(text: &str) -> Result<Cursor, &'static str> {
    text.parse()
}

/// Runs one of them.
pub(super) fn run(command: OperatorCommand, session: &mut Session) -> anyhow::Result<Exit> {
    let order = match command {
        OperatorCommand::Start => return switch::run(true, session),
        OperatorCommand::Stop => return switch::run(false, session),
        OperatorCommand::Status => return switch::status(session),
        OperatorCommand::Agents { after, page } => Order::Agents {
            after,
            limit: page.limit,
        },
        OperatorCommand::Kick { agent, why } => Order::Kick {
            agent,
            reason: why.reason,
        },
        OperatorCommand::Ban { target, why, time } => Order::Ban {
            target,
            reason: why.reason,
            time: time.map(Period::get),
        },
        OperatorCommand::Unban { target } => Order::Unban { target },
        OperatorCommand::Bans { after, page } => Order::Bans {
            after,
            limit: page.limit,
        },
        OperatorCommand::Audit {
            kind,
            since,
            before,
            page,
        } => Order::Audit {
            before,
            limit: page.limit,
            kind,
            since,
        },
        OperatorCommand::Stats => Order::Stats,
    };
    if let Order::Agents { limit, .. } | Order::Bans { limit, .. } | Order::Audit { limit, .. } =
        &order
        && *limit == 0
    {
        return Err(Usage("--limit must be 1 or more".to_owned()).into());
    }
    session.with_agent(|agent, mut out| async move {
        let (door, told) = door::carry_out(&agent, order.clone(), &LOCAL.parse()?).await?;
        if out.wants_json() {
            let mut told = told;
            if let Value::Object(members) = &mut told {
                members.insert("via".to_owned(), door.as_str().into());
            }
            out.json(&told)?;
            return Ok(Exit::Done);
        }
        show::told(&order, &told, &mut out)?;
        out.note(door)?;
        Ok(Exit::Done)
    })
}
