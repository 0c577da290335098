//! `place partners`, `profile` and `key`, and what `--via` adds to others: what is at Places behind the one that was
//! joined.

use kairos_actors::meeting::client::PeerUrl;
use kairos_actors::membership::{Look, Looked, Seen};
use kairos_protocol::federation::answer::{Answer, Ask};
use kairos_protocol::id::AgentId;
use serde_json::{Value, json};

use super::WhichArgs;
use super::board::{board_json, table};
use crate::agent::Agent;
use crate::cli::exit::Exit;
use crate::cli::meet::show_checks;
use crate::cli::out::{Cell, Out};

/// Through which other Places.
#[derive(Debug, clap::Args)]
pub(super) struct WayArgs {
    /// At a Place behind the one that was joined, by its id; several lead from one to the next, in their order
    #[arg(long, value_name = "PLACE")]
    pub(super) via: Vec<AgentId>,
}

#[derive(Debug, clap::Args)]
pub(super) struct PartnersArgs {
    #[command(flatten)]
    way: WayArgs,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct AgentArgs {
    /// Which agent
    agent: AgentId,
    #[command(flatten)]
    way: WayArgs,
    #[command(flatten)]
    which: WhichArgs,
}

async fn look(
    agent: &Agent,
    url: PeerUrl,
    route: Vec<AgentId>,
    ask: Ask,
) -> anyhow::Result<Looked> {
    let look = Look { url, route, ask };
    Ok(agent.handles.membership.look(look).await?)
}

/// Answers as JSON, with what was checked.
fn as_json(looked: &Looked, answer: Value, out: &mut Out) -> anyhow::Result<Exit> {
    out.json(&json!({"answer": answer, "checks": looked.checks}))?;
    Ok(Exit::Done)
}

/// Shows the board of another Place.
pub(super) async fn browse(
    agent: &Agent,
    url: PeerUrl,
    route: Vec<AgentId>,
    ask: Ask,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let looked = look(agent, url, route, ask).await?;
    let Answer::Board { entries, total } = &looked.answer else {
        anyhow::bail!("the Place answered something else");
    };
    let own = &agent.signed.instance_id;
    let compared = entries.iter().map(|entry| {
        let have = looked.place.freshness(entry, own);
        (entry.clone(), have)
    });
    let seen = Seen {
        entries: compared.collect(),
        total: *total,
        left_out: 0,
    };
    if out.wants_json() {
        let mut told = board_json(&seen);
        told.insert("checks".to_owned(), json!(looked.checks));
        out.json(&Value::Object(told))?;
        return Ok(Exit::Done);
    }
    table(&seen, out)?;
    Ok(Exit::Done)
}

/// Runs `place partners`.
pub(super) async fn partners(
    agent: &Agent,
    args: PartnersArgs,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let url = args.which.choose(agent).await?;
    let looked = look(agent, url, args.way.via, Ask::Places {}).await?;
    let Answer::Places { places } = &looked.answer else {
        anyhow::bail!("the Place answered something else");
    };
    if out.wants_json() {
        return as_json(&looked, json!(places), out);
    }
    if places.is_empty() {
        out.line("That Place is federated with none.")?;
        return Ok(Exit::Done);
    }
    let rows = places.iter().map(|place| {
        [
            Cell::from(&place.place_id),
            Cell::from(place.key.fingerprint()),
        ]
    });
    out.table(["PLACE", "KEY"], rows)?;
    Ok(Exit::Done)
}

/// Runs `place profile`.
pub(super) async fn profile(agent: &Agent, args: AgentArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let url = args.which.choose(agent).await?;
    let ask = Ask::Profile { agent: args.agent };
    let looked = look(agent, url, args.way.via, ask).await?;
    if out.wants_json() {
        return as_json(&looked, json!(looked.answer), out);
    }
    let Answer::Profile {
        agent: id,
        name,
        description,
        scope,
        entries,
    } = &looked.answer
    else {
        anyhow::bail!("the Place answered something else");
    };
    let clean = |text: &str| text.replace(char::is_control, " ");
    out.line(format_args!("{}  {id}", clean(name)))?;
    for text in [description, scope].into_iter().flatten() {
        out.line(clean(text))?;
    }
    if !entries.is_empty() {
        let rows = entries.iter().map(|entry| {
            [
                Cell::from(entry.skill_id.as_ref().unwrap_or(&entry.name)),
                Cell::from(entry.tags.join(", ")),
                Cell::from(&entry.summary),
            ]
        });
        out.table(["SKILL", "TAGS", "SUMMARY"], rows)?;
    }
    Ok(Exit::Done)
}

/// Runs `place key`.
pub(super) async fn key(agent: &Agent, args: AgentArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let url = args.which.choose(agent).await?;
    let ask = Ask::Key { agent: args.agent };
    let looked = look(agent, url, args.way.via, ask).await?;
    if out.wants_json() {
        return as_json(&looked, json!(looked.answer), out);
    }
    let Answer::Key {
        agent: id,
        public_key,
    } = &looked.answer
    else {
        anyhow::bail!("the Place answered something else");
    };
    out.line(format_args!("{id}  {}", public_key.fingerprint()))?;
    out.line(public_key.to_pem().trim_end())?;
    show_checks(&looked.checks, out)?;
    Ok(Exit::Done)
}
