//! `extensions`: what the meeting protocol can be told to know more, with a person's consent, and never with code.

use std::path::PathBuf;

use clap::Subcommand;
use kairos_actors::approvals::{Propose, State, Waiting};
use kairos_actors::extensions::{Listed, Standing};
use kairos_place::proposal::Change;
use kairos_protocol::wire::extension::{Extension, TEXT_MAX, Word};
use serde_json::json;

use super::approvals::local;
use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use super::propose::{self, Why};
use super::{Session, Usage};
use crate::agent::Agent;

/// What to do.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "An extension is a Markdown text with frontmatter: `name`, `type: protocol_extension`, `actions`, and what it\n\
    `requires`. It has no code. Once it is approved, its name and actions are in the introduction of this agent, and who\n\
    sends one of them is told that it is known and has no handler. No extension can take an action of the protocol itself."
)]
pub struct ExtensionsArgs {
    #[command(subcommand)]
    command: ExtensionsCommand,
}

#[derive(Debug, Subcommand)]
enum ExtensionsCommand {
    /// List those that are here and those that wait, and say which are in effect
    List,
    /// Show one, with its text
    Show {
        /// Its name
        name: Word,
    },
    /// Propose one; it comes into effect when an owner approves it
    Propose {
        /// Its text; - reads standard input
        file: PathBuf,
        #[command(flatten)]
        why: Why,
    },
    /// Propose that one that was disabled is in effect again
    Enable {
        /// Its name
        name: Word,
        #[command(flatten)]
        why: Why,
    },
    /// Propose that one goes out of effect; its text is kept aside
    Disable {
        /// Its name
        name: Word,
        #[command(flatten)]
        why: Why,
    },
}

/// Runs `extensions`.
pub fn run(args: ExtensionsArgs, session: &mut Session) -> anyhow::Result<Exit> {
    match args.command {
        ExtensionsCommand::List => {
            session.with_agent(|agent, mut out| async move { list(&agent, &mut out).await })
        }
        ExtensionsCommand::Show { name } => {
            session.with_agent(|agent, mut out| async move { show(&agent, name, &mut out).await })
        }
        ExtensionsCommand::Propose { file, why } => {
            let bytes = propose::text(&file)?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                Usage(format!("the text is not UTF-8 at byte {at}"))
            })?;
            let name = named(&text)?;
            asked(Change::ExtensionAdopt { name }, Some(text), why, session)
        }
        ExtensionsCommand::Enable { name, why } => {
            session.with_agent(|agent, mut out| async move {
                let listed = agent.handles.extensions.list().await?;
                let there = listed.iter().find(|one| one.name == name);
                match there.map(|one| one.standing) {
                    None => return Err(unknown(&name, &listed)),
                    Some(Standing::InEffect) => {
                        return Err(Usage(format!("`{name}` is in effect already")).into());
                    }
                    Some(Standing::Disabled | Standing::NotInEffect) => {}
                }
                let text = agent.handles.extensions.text(name.clone()).await?;
                let change = Change::ExtensionAdopt { name };
                propose::waits(&agent, asking(change, text, why)?, &mut out).await
            })
        }
        ExtensionsCommand::Disable { name, why } => {
            asked(Change::ExtensionDisable { name }, None, why, session)
        }
    }
}

/// What a text is called, or why it is no extension.
fn named(text: &str) -> Result<Word, Usage> {
    match Extension::read(text) {
        Ok(extension) => Ok(extension.name),
        Err(error) => Err(Usage(format!(
            "this is no extension: {error}; one has {TEXT_MAX} bytes at most and begins with\n---\nname: weather\n\
             type: protocol_extension\nactions: [ask_weather]\n---"
        ))),
    }
}

fn asked(
    change: Change,
    text: Option<String>,
    why: Why,
    session: &mut Session,
) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        propose::waits(&agent, asking(change, text, why)?, &mut out).await
    })
}

fn asking(change: Change, text: Option<String>, why: Why) -> anyhow::Result<Propose> {
    Ok(Propose {
        change,
        content: text.map(String::into_bytes),
        reason: why.reason,
        by: local()?,
    })
}

fn unknown(name: &Word, listed: &[Listed]) -> anyhow::Error {
    let names: Vec<_> = listed.iter().map(|one| one.name.as_str()).collect();
    let known = match names.is_empty() {
        true => "there are none here; see: kairos-chain extensions propose --help".to_owned(),
        false => format!("those here are {}", names.join(", ")),
    };
    Usage(format!("there is no extension `{name}`; {known}")).into()
}

/// The proposals about extensions that can still be approved.
async fn waiting(agent: &Agent) -> anyhow::Result<Vec<Waiting>> {
    let all = agent.handles.approvals.list(None).await?;
    let open = all.proposals.into_iter().filter(|(waiting, state)| {
        waiting.proposal.change.is_extension() && matches!(state, State::Open | State::Unlooked)
    });
    Ok(open.map(|(waiting, _)| waiting).collect())
}

fn word(standing: Standing) -> (Tone, &'static str) {
    match standing {
        Standing::InEffect => (Tone::Good, "in effect"),
        Standing::NotInEffect => (Tone::Careful, "not in effect"),
        Standing::Disabled => (Tone::Quiet, "disabled"),
    }
}

fn actions(extension: Option<&Extension>) -> String {
    let actions = extension
        .into_iter()
        .flat_map(|extension| &extension.actions);
    actions.map(Word::as_str).collect::<Vec<_>>().join(", ")
}

async fn list(agent: &Agent, out: &mut Out) -> anyhow::Result<Exit> {
    let listed = agent.handles.extensions.list().await?;
    let waiting = waiting(agent).await?;
    if out.wants_json() {
        let waiting = waiting.iter().map(|waiting| {
            let change = &waiting.proposal.change;
            json!({"id": waiting.id, "change": change.kind(), "name": change.subject()})
        });
        let waiting: Vec<_> = waiting.collect();
        out.json(&json!({"extensions": listed, "waiting": waiting}))?;
        return Ok(Exit::Done);
    }
    if listed.is_empty() && waiting.is_empty() {
        out.line("No extensions. Propose one with:  kairos-chain extensions propose FILE")?;
        return Ok(Exit::Done);
    }
    let rows = listed.iter().map(|one| {
        let (tone, word) = word(one.standing);
        let version = one
            .extension
            .as_ref()
            .map(|known| known.version.to_string());
        [
            Cell::from(one.name.as_str()),
            Cell::toned(tone, word),
            Cell::from(version.unwrap_or_default()),
            Cell::from(actions(one.extension.as_ref())),
            Cell::from(one.why.join("; ")),
        ]
    });
    let waits = waiting.iter().map(|waiting| {
        let change = &waiting.proposal.change;
        let why = match change {
            Change::ExtensionDisable { .. } => "is to be disabled",
            _ => "is to be in effect",
        };
        let content = waiting.content.as_deref().unwrap_or_default();
        let declared = Extension::read(&String::from_utf8_lossy(content)).ok();
        let version = declared.as_ref().map(|known| known.version.to_string());
        [
            Cell::from(change.subject()),
            Cell::toned(Tone::Careful, "waits"),
            Cell::from(version.unwrap_or_default()),
            Cell::from(actions(declared.as_ref())),
            Cell::from(format!("{why}; kairos-chain approve {}", waiting.id)),
        ]
    });
    let head = ["NAME", "STANDING", "VERSION", "ACTIONS", "WHY"];
    out.table(head, rows.chain(waits))?;
    Ok(Exit::Done)
}

async fn show(agent: &Agent, name: Word, out: &mut Out) -> anyhow::Result<Exit> {
    let listed = agent.handles.extensions.list().await?;
    let Some(one) = listed.iter().find(|one| one.name == name) else {
        return Err(unknown(&name, &listed));
    };
    let text = agent.handles.extensions.text(name).await?;
    if out.wants_json() {
        out.json(&json!({"extension": one, "text": text}))?;
        return Ok(Exit::Done);
    }
    let (tone, word) = word(one.standing);
    let title = out.paint(Tone::Strong, &one.name);
    let word = out.paint(tone, word);
    out.line(format_args!("{title}: {word}"))?;
    if let Some(extension) = &one.extension {
        out.line(format_args!("Version: {}", extension.version))?;
        out.line(format_args!("Actions: {}", actions(Some(extension))))?;
        let needs = extension.requires.iter().chain(&extension.extends);
        let needs: Vec<_> = needs.map(Word::as_str).collect();
        if !needs.is_empty() {
            out.line(format_args!("Needs: {}", needs.join(", ")))?;
        }
    }
    if let Some(consent) = &one.consent {
        out.line(format_args!(
            "Consent: {}, {}",
            consent.by,
            consent.at.wire()
        ))?;
    }
    for why in &one.why {
        out.line(format_args!("Why: {why}"))?;
    }
    if let Some(text) = text {
        out.line("")?;
        out.line(text.trim_end())?;
    }
    Ok(Exit::Done)
}
