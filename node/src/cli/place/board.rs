//! `place browse`, `search`, `deposit`, `withdraw`, `acquire`, `need`: the board of a Place.

use clap::Subcommand;
use kairos_actors::membership::record::NeedRecord;
use kairos_actors::membership::{
    Acquire, AcquireThrough, Browse, ChangeNeeds, Deposit, NeedChange, Seen, Withdraw,
};
use kairos_actors::quarantine::Held;
use kairos_protocol::federation::answer::{Ask, ENTRIES_MAX};
use kairos_protocol::id::AgentId;
use serde_json::{Map, Value, json};

use super::elsewhere::{self, WayArgs};
use super::{WhichArgs, told};
use crate::agent::Agent;
use crate::cli::exit::Exit;
use crate::cli::out::{Cell, Out, Tone};
use crate::cli::quarantine::{held_json, waits};
use crate::cli::{Usage, progress};
use kairos_actors::membership::record::Freshness;

/// What an entry of the board is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Somebody who is there.
    Agent,
    /// Something somebody looks for.
    Need,
    /// Something somebody left.
    Skill,
}

impl Kind {
    /// Its name on the wire.
    fn wire(self) -> String {
        match self {
            Self::Agent => "agent",
            Self::Need => "need",
            Self::Skill => "deposited_skill",
        }
        .to_owned()
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct BrowseArgs {
    /// Only entries of this kind
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,
    /// Only entries with one of these tags, separated by commas
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,
    /// Most entries
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    way: WayArgs,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct SearchArgs {
    /// What the name contains
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    browse: BrowseArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct DepositArgs {
    /// The id or name of a public skill of ours
    skill: String,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct WithdrawArgs {
    /// The name of the skill there
    skill: String,
    /// Why, for others to read
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct AcquireArgs {
    /// The name of the skill there
    skill: String,
    /// Who left it, where several left one by this name
    #[arg(long, value_name = "AGENT")]
    owner: Option<AgentId>,
    #[command(flatten)]
    way: WayArgs,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct NeedArgs {
    #[command(subcommand)]
    command: NeedCommand,
}

#[derive(Debug, Subcommand)]
enum NeedCommand {
    /// Say that we look for something
    Add {
        /// What
        name: String,
        /// In a sentence
        #[arg(default_value = "")]
        description: String,
        #[command(flatten)]
        which: WhichArgs,
    },
    /// No longer look for something
    Remove {
        /// What
        name: String,
        #[command(flatten)]
        which: WhichArgs,
    },
    /// List what we look for, at all Places or at one
    List {
        #[command(flatten)]
        which: WhichArgs,
    },
}

pub(super) async fn browse(agent: &Agent, args: BrowseArgs, out: &mut Out) -> anyhow::Result<Exit> {
    look(agent, args, None, out).await
}

pub(super) async fn search(agent: &Agent, args: SearchArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let words = args.words.join(" ");
    look(agent, args.browse, Some(words), out).await
}

async fn look(
    agent: &Agent,
    args: BrowseArgs,
    words: Option<String>,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let url = args.which.choose(agent).await?;
    if !args.way.via.is_empty() {
        let ask = Ask::Board {
            kind: args.kind.map(Kind::wire),
            search: words,
            tags: args.tags,
            limit: usize::from(args.limit).min(ENTRIES_MAX),
        };
        return elsewhere::browse(agent, url, args.way.via, ask, out).await;
    }
    let seen = agent
        .handles
        .membership
        .browse(Browse {
            url,
            kind: args.kind.map(Kind::wire),
            words,
            tags: args.tags,
            limit: usize::from(args.limit),
        })
        .await?;
    if out.wants_json() {
        out.json(&Value::Object(board_json(&seen)))?;
        return Ok(Exit::Done);
    }
    table(&seen, out)?;
    Ok(Exit::Done)
}

/// A board for programs.
pub(super) fn board_json(seen: &Seen) -> Map<String, Value> {
    let entries = seen.entries.iter();
    let entries = entries.map(|(entry, have)| json!({"entry": entry, "have": have}));
    let entries: Vec<Value> = entries.collect();
    let told = [
        ("entries", entries.into()),
        ("total", json!(seen.total)),
        ("unreadable", json!(seen.left_out)),
    ];
    told.map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

pub(super) fn table(seen: &Seen, out: &mut Out) -> std::io::Result<()> {
    if seen.entries.is_empty() {
        out.line("Nothing there.")?;
    } else {
        let rows = seen.entries.iter().map(|(entry, have)| {
            let have = match have {
                None => Cell::from(""),
                Some(Freshness::Changed) => Cell::toned(Tone::Careful, Freshness::Changed.as_str()),
                Some(have) => Cell::from(have.as_str()),
            };
            [
                Cell::from(&entry.kind),
                Cell::from(entry.skill_id.as_ref().unwrap_or(&entry.name)),
                Cell::from(&entry.agent_id),
                have,
                Cell::from(entry.tags.join(", ")),
                Cell::from(&entry.summary),
            ]
        });
        out.table(["KIND", "NAME", "AGENT", "HAVE", "TAGS", "SUMMARY"], rows)?;
    }
    let shown = seen.entries.len() as u64;
    if seen.total > shown {
        out.note(format_args!(
            "{shown} of {}, chosen at random; narrow it down with --type, --tags or `place search`.",
            seen.total
        ))?;
    }
    if seen.left_out > 0 {
        out.note(format_args!("{} entries could not be read.", seen.left_out))?;
    }
    Ok(())
}

pub(super) async fn deposit(
    agent: &Agent,
    args: DepositArgs,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let url = args.which.choose(agent).await?;
    let left = agent
        .handles
        .membership
        .deposit(Deposit {
            url: url.clone(),
            skill: args.skill,
        })
        .await?;
    told(
        out,
        &json!({"deposited": left.skill_id, "content_hash": left.content_hash, "place": url}),
        format_args!(
            "Left '{}' at {url}, signed\nContent hash: {}",
            left.skill_id, left.content_hash
        ),
    )
}

pub(super) async fn withdraw(
    agent: &Agent,
    args: WithdrawArgs,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    if args.reason.trim().is_empty() {
        return Err(
            Usage("a reason is needed, such as --reason 'it is out of date'".to_owned()).into(),
        );
    }
    let url = args.which.choose(agent).await?;
    let withdraw = Withdraw {
        url: url.clone(),
        skill_id: args.skill.clone(),
        reason: args.reason,
    };
    agent.handles.membership.withdraw(withdraw).await?;
    told(
        out,
        &json!({"withdrawn": args.skill, "place": url}),
        format_args!(
            "Took '{}' back from {url}; copies that others took stay theirs",
            args.skill
        ),
    )
}

pub(super) async fn acquire(
    agent: &Agent,
    args: AcquireArgs,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let url = args.which.choose(agent).await?;
    if !args.way.via.is_empty() {
        let acquire = AcquireThrough {
            url,
            route: args.way.via,
            skill_id: args.skill,
            owner: args.owner,
        };
        let held = agent.handles.membership.acquire_through(acquire).await?;
        return came(&held, out);
    }
    let (bar, progress) = progress::transfer(&args.skill);
    let held = agent.handles.membership.acquire(Acquire {
        url,
        skill_id: args.skill,
        owner: args.owner,
        progress,
    });
    let held = held.await;
    bar.finish_and_clear();
    came(&held?, out)
}

fn came(held: &Held, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({"quarantined": held_json(held)}))?;
        return Ok(Exit::Done);
    }
    waits(held, out)?;
    Ok(Exit::Done)
}

pub(super) async fn need(agent: &Agent, args: NeedArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let (which, change, sentence) = match args.command {
        NeedCommand::List { which } => return needs(agent, &which, out).await,
        NeedCommand::Add {
            name,
            description,
            which,
        } => {
            let sentence = format!("Looking for '{name}'");
            (
                which,
                NeedChange::Add(NeedRecord { name, description }),
                sentence,
            )
        }
        NeedCommand::Remove { name, which } => {
            let sentence = format!("No longer looking for '{name}'");
            (which, NeedChange::Remove(name), sentence)
        }
    };
    let url = which.choose(agent).await?;
    let change = ChangeNeeds {
        url: url.clone(),
        change,
    };
    let needs = agent.handles.membership.change_needs(change).await?;
    told(
        out,
        &json!({"place": url, "needs": needs}),
        format_args!("{sentence} at {url}"),
    )
}

async fn needs(agent: &Agent, which: &WhichArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let mut places = agent.handles.membership.list().await?;
    if let Some(url) = &which.url {
        places.retain(|place| &place.url == url);
    }
    let needs = places
        .iter()
        .flat_map(|place| place.needs.iter().map(move |need| (&place.url, need)));
    if out.wants_json() {
        let needs = needs.map(|(url, need)| json!({"place": url, "need": need}));
        out.json(&needs.collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = needs
        .map(|(url, need)| {
            [
                Cell::from(url),
                Cell::from(&need.name),
                Cell::from(&need.description),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => out.line("Looking for nothing.")?,
        false => out.table(["PLACE", "NEED", "DESCRIPTION"], rows)?,
    }
    Ok(Exit::Done)
}
