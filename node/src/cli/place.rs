//! `place`: this agent at the Meeting Places it joined, and the one that it hosts.
//!
//! The commands work while a server runs on the same data directory, and without one.

use std::fmt::Display;
use std::sync::Arc;

use clap::Subcommand;
use indicatif::ProgressBar;
use kairos_actors::meeting::MeetingError;
use kairos_actors::meeting::client::PeerUrl;
use kairos_actors::membership::record::Membership;
use kairos_actors::membership::{Joined, MembershipError, Steps};
use serde_json::{Value, json};

use super::exit::Exit;
use super::meet::{refused, show_checks};
use super::out::{Cell, Out, Tone};
use super::{Session, Usage, progress};
use crate::agent::Agent;

mod board;
mod elsewhere;
mod mail;
pub(super) mod operator;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct PlaceArgs {
    #[command(subcommand)]
    command: PlaceCommand,
}

#[derive(Debug, Subcommand)]
enum PlaceCommand {
    /// Join the Meeting Place at a URL: register there, and prove who we are
    Join(JoinArgs),
    /// Leave a Meeting Place, and take along what we left there
    Leave(LeaveArgs),
    /// List the Meeting Places that are joined
    List,
    /// Look at the board of a Place: a random choice in random order
    Browse(board::BrowseArgs),
    /// Find what is called like this on the board of a Place
    Search(board::SearchArgs),
    /// Leave one of our public skills at a Place, signed
    Deposit(board::DepositArgs),
    /// Take back a skill that we left at a Place; copies that others took stay theirs
    Withdraw(board::WithdrawArgs),
    /// Fetch a skill from a Place into the quarantine
    Acquire(board::AcquireArgs),
    /// List the Places that a Place is federated with
    Partners(elsewhere::PartnersArgs),
    /// Show what an agent says of itself and left at a Place
    Profile(elsewhere::AgentArgs),
    /// Show the key by which a Place knows an agent
    Key(elsewhere::AgentArgs),
    /// What we look for, for others at a Place to see
    Need(board::NeedArgs),
    /// Sealed messages, which a Place passes on and cannot read
    Message(mail::MessageArgs),
    #[command(flatten)]
    Operate(operator::OperatorCommand),
}

#[derive(Debug, clap::Args)]
struct JoinArgs {
    /// Where the Place is, such as http://192.0.2.7:8080
    url: PeerUrl,
}

#[derive(Debug, clap::Args)]
struct LeaveArgs {
    /// Where the Place is
    url: PeerUrl,
    /// Also if it cannot be told, or mail waits there that cannot be taken in
    #[arg(long)]
    force: bool,
}

/// At which Place, where several are joined.
#[derive(Debug, clap::Args)]
struct WhichArgs {
    /// At which Place; may be left out if only one is joined
    #[arg(long = "place", value_name = "URL")]
    url: Option<PeerUrl>,
}

impl WhichArgs {
    /// The Place that is meant.
    async fn choose(&self, agent: &Agent) -> anyhow::Result<PeerUrl> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let places = agent.handles.membership.list().await?;
        let urls: Vec<String> = places.iter().map(|place| place.url.to_string()).collect();
        match places.as_slice() {
            [only] => Ok(only.url.clone()),
            [] => Err(Usage(
                "no Place is joined; join one with: kairos-chain place join URL".to_owned(),
            )
            .into()),
            _ => Err(Usage(format!(
                "several Places are joined; say --place with one of: {}",
                urls.join(", ")
            ))
            .into()),
        }
    }
}

/// Runs `place`.
pub fn run(args: PlaceArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let command = match args.command {
        PlaceCommand::Operate(command) => return operator::run(command, session),
        command => command,
    };
    session.with_agent(|agent, mut out| async move {
        let done = match command {
            PlaceCommand::Operate(_) => {
                return Err(Usage("not a command of a member".to_owned()).into());
            }
            PlaceCommand::Join(args) => join(&agent, args.url, &mut out).await,
            PlaceCommand::Leave(args) => leave(&agent, args, &mut out).await,
            PlaceCommand::List => list(&agent, &mut out).await,
            PlaceCommand::Browse(args) => board::browse(&agent, args, &mut out).await,
            PlaceCommand::Search(args) => board::search(&agent, args, &mut out).await,
            PlaceCommand::Deposit(args) => board::deposit(&agent, args, &mut out).await,
            PlaceCommand::Withdraw(args) => board::withdraw(&agent, args, &mut out).await,
            PlaceCommand::Acquire(args) => board::acquire(&agent, args, &mut out).await,
            PlaceCommand::Partners(args) => elsewhere::partners(&agent, args, &mut out).await,
            PlaceCommand::Profile(args) => elsewhere::profile(&agent, args, &mut out).await,
            PlaceCommand::Key(args) => elsewhere::key(&agent, args, &mut out).await,
            PlaceCommand::Need(args) => board::need(&agent, args, &mut out).await,
            PlaceCommand::Message(args) => mail::run(&agent, args, &mut out).await,
        };
        match done.map_err(|error| error.downcast::<MembershipError>()) {
            Ok(exit) => Ok(exit),
            Err(Ok(MembershipError::Check(error @ MeetingError::Refused { .. }))) => {
                refused(error, &mut out)
            }
            Err(Ok(error)) => Err(error.into()),
            Err(Err(error)) => Err(error),
        }
    })
}

/// A line for each step of something long, where a person is watching.
fn steps() -> (ProgressBar, Steps) {
    let bar = progress::spinner();
    let told = bar.clone();
    let steps: Steps = Arc::new(move |step: &str| {
        told.set_message(step.to_owned());
        told.tick();
    });
    (bar, steps)
}

/// One result: as JSON, or as a sentence.
fn told(out: &mut Out, value: &Value, sentence: impl Display) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(value)?;
    } else {
        out.line(sentence)?;
    }
    Ok(Exit::Done)
}

async fn join(agent: &Agent, url: PeerUrl, out: &mut Out) -> anyhow::Result<Exit> {
    let (bar, steps) = steps();
    let joined = agent.handles.membership.join(url, steps).await;
    bar.finish_and_clear();
    let joined = joined?;
    let Joined {
        place,
        info,
        first,
        proven,
        checks,
        untended,
    } = &joined;
    if out.wants_json() {
        out.json(&json!({
            "joined": place.url, "first": first, "proven": proven, "checks": checks, "place": shown(place),
            "agents": info.agents, "untended": untended,
        }))?;
        return Ok(Exit::Done);
    }
    let name = out.paint(Tone::Strong, &place.name);
    let id = place.place_id.as_ref().map_or("", |id| id.as_str());
    out.line(format_args!("{name}  {id}"))?;
    out.line("")?;
    show_checks(checks, out)?;
    out.line("")?;
    let verb = if *first {
        "Joined"
    } else {
        "Registered again at"
    };
    out.line(format_args!("{verb} {}", place.url))?;
    if !place.has_relay {
        out.note("It relays no messages: its software offers none of the relay's endpoints.")?;
    }
    if !proven {
        out.note("Its software asks for no proof, so anybody could copy our registration.")?;
    }
    if let Some(trouble) = untended {
        out.note(format_args!(
            "Not everything is there yet, it is tried again: {trouble}"
        ))?;
    }
    if *first {
        out.note("Look around with:  kairos-chain place browse")?;
        out.note("A running server lives there from now on; without one, mail waits until it is fetched.")?;
    }
    Ok(Exit::Done)
}

async fn leave(agent: &Agent, args: LeaveArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let left = agent.handles.membership.leave(args.url, args.force).await?;
    let url = left.place.url.to_string();
    told(
        out,
        &json!({"left": url, "deposits": left.place.deposits.len(), "untold": left.untold}),
        format_args!("Left {url}"),
    )?;
    if let Some(reason) = &left.untold {
        out.note(format_args!(
            "The Place was not told ({reason}); it forgets this agent when its time is over."
        ))?;
    }
    Ok(Exit::Done)
}

async fn list(agent: &Agent, out: &mut Out) -> anyhow::Result<Exit> {
    let places = agent.handles.membership.list().await?;
    if out.wants_json() {
        out.json(&places.iter().map(shown).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    if places.is_empty() {
        out.line("No Place is joined.")?;
        out.note("Join one with:  kairos-chain place join URL")?;
        return Ok(Exit::Done);
    }
    let rows = places.iter().map(|place| {
        let state = match &place.contact {
            Some(contact) if contact.trouble.is_some() => Cell::toned(Tone::Careful, "trouble"),
            Some(_) => Cell::toned(Tone::Good, "good"),
            None => Cell::from("unknown"),
        };
        [
            Cell::from(&place.url),
            Cell::from(&place.name),
            Cell::from(place.joined_at),
            Cell::from(if place.has_relay { "yes" } else { "no" }),
            Cell::from(place.deposits.len()),
            Cell::from(place.needs.len()),
            state,
        ]
    });
    out.table(
        [
            "PLACE", "NAME", "JOINED", "RELAY", "DEPOSITS", "NEEDS", "STATE",
        ],
        rows,
    )?;
    for place in &places {
        if let Some((contact, trouble)) = place
            .contact
            .as_ref()
            .and_then(|contact| Some((contact, contact.trouble.as_ref()?)))
        {
            out.note(format_args!(
                "{} since {}: {trouble}",
                place.url, contact.at
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// A Place for programs.
fn shown(place: &Membership) -> Value {
    let deposits = place.deposits.iter().map(|(skill_id, left)| {
        json!({"skill_id": skill_id, "content_hash": left.content_hash, "at": left.at.wire()})
    });
    let acquired = place.acquired.iter().map(|came| {
        json!({
            "skill_id": came.skill_id, "owner": came.owner, "content_hash": came.content_hash, "at": came.at.wire(),
        })
    });
    json!({
        "url": place.url, "place_id": place.place_id, "name": place.name,
        "key_fingerprint": place.key.as_ref().map(|key| key.fingerprint()), "proved_its_key": place.proven,
        "joined_at": place.joined_at.wire(), "relay": place.has_relay, "needs": place.needs,
        "deposits": deposits.collect::<Vec<_>>(), "acquired": acquired.collect::<Vec<_>>(),
        "since": place.contact.as_ref().map(|contact| contact.at.wire()),
        "trouble": place.contact.as_ref().and_then(|contact| contact.trouble.as_ref()),
    })
}
