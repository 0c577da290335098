//! `context`: layer L2, the texts of sessions, which are in no ledger.

use clap::Subcommand;
use kairos_actors::knowledge::SaveContext;
use serde_json::json;

use super::Session;
use super::exit::Exit;
use super::knowledge::{TextArgs, name, show, warn};
use super::out::Cell;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct ContextArgs {
    #[command(subcommand)]
    command: ContextCommand,
}

#[derive(Debug, Subcommand)]
enum ContextCommand {
    /// Save a text of a session, new or in place of the one that is there
    Save {
        /// Its name
        name: String,
        #[command(flatten)]
        text: TextArgs,
        /// The session; a new one if nothing is said
        #[arg(long)]
        session: Option<String>,
        /// Make the directories scripts, assets and references too
        #[arg(long)]
        subdirs: bool,
    },
    /// List the sessions, or the texts of one
    List {
        /// The session
        session: Option<String>,
    },
    /// Print a text of a session
    Show {
        /// The session
        session: String,
        /// Its name
        name: String,
    },
    /// Remove a text of a session with all its files, or a whole session
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Delete {
        /// The session
        session: String,
        /// The name of the text
        #[arg(group = "what")]
        name: Option<String>,
        /// The whole session
        #[arg(long, group = "what")]
        all: bool,
    },
}

/// Runs `context`.
pub fn run(args: ContextArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let knowledge = &agent.handles.knowledge;
        match args.command {
            ContextCommand::Save {
                name: n,
                text,
                session,
                subdirs,
            } => {
                let session = session.as_deref().map(name).transpose()?;
                let (name, text) = (name(&n)?, text.read()?);
                let save = SaveContext {
                    session,
                    name,
                    text,
                    subdirectories: subdirs,
                };
                let saved = knowledge.save_context(save).await?;
                if out.wants_json() {
                    out.json(&saved)?;
                    return Ok(Exit::Done);
                }
                let word = if saved.created { "Created" } else { "Updated" };
                out.line(format_args!("{word} context '{}'", saved.name))?;
                out.line(format_args!("Session: {}", saved.session))?;
                out.line(format_args!("Path: {}", saved.path))?;
            }
            ContextCommand::List { session: None } => {
                let sessions = knowledge.sessions().await?;
                if out.wants_json() {
                    out.json(&json!({ "sessions": sessions }))?;
                } else if sessions.is_empty() {
                    out.line(
                        "No sessions. Save a text with:  kairos-chain context save NAME FILE",
                    )?;
                } else {
                    let rows = sessions.iter().map(|session| {
                        let modified = session.modified.map(|at| at.wire()).unwrap_or_default();
                        [
                            Cell::from(&session.session),
                            Cell::from(session.contexts),
                            Cell::from(modified),
                        ]
                    });
                    out.table(["SESSION", "TEXTS", "CHANGED"], rows)?;
                }
            }
            ContextCommand::List {
                session: Some(session),
            } => {
                let contexts = knowledge.contexts(name(&session)?).await?;
                if out.wants_json() {
                    out.json(&json!({ "session": session, "contexts": contexts }))?;
                    return Ok(Exit::Done);
                }
                let rows = contexts
                    .iter()
                    .map(|context| [Cell::from(&context.name), Cell::from(&context.description)]);
                out.table(["NAME", "DESCRIPTION"], rows)?;
                return warn(&contexts, &mut out);
            }
            ContextCommand::Show { session, name: n } => {
                let (entry, text) = knowledge.context(name(&session)?, name(&n)?).await?;
                return show(&json!(entry), entry.fault.as_deref(), &text, &mut out);
            }
            ContextCommand::Delete {
                session, name: n, ..
            } => {
                let wanted = n.as_deref().map(name).transpose()?;
                let gone = knowledge.delete_context(name(&session)?, wanted).await?;
                if out.wants_json() {
                    out.json(&json!({ "session": session, "deleted": gone }))?;
                    return Ok(Exit::Done);
                }
                match n {
                    Some(n) => out.line(format_args!("Deleted context '{n}'"))?,
                    None => out.line(format_args!(
                        "Deleted session '{session}' with {gone} texts"
                    ))?,
                }
            }
        }
        Ok(Exit::Done)
    })
}
