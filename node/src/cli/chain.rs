//! `chain`: the ledger, what is in it, and whether it is intact.

mod transfer;

use clap::Subcommand;
use kairos_protocol::block::entry::Entry;
use serde_json::json;

use super::Session;
use super::exit::Exit;
use super::out::{Cell, Tone};

/// What to do.
#[derive(Debug, clap::Args)]
pub struct ChainArgs {
    #[command(subcommand)]
    command: ChainCommand,
}

#[derive(Debug, Subcommand)]
enum ChainCommand {
    /// Check every block
    Verify,
    /// Show the newest blocks
    History {
        /// How many
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
    Export(transfer::ExportArgs),
    Import(transfer::ImportArgs),
    Migrate(transfer::MigrateArgs),
}

/// What an entry is, as far as it can be told.
fn kind(entry: &str) -> String {
    match Entry::read(entry) {
        Ok(entry) => entry.kind().to_string(),
        Err(unread) if unread.name.is_empty() => "?".to_owned(),
        Err(unread) => format!("{}?", unread.name),
    }
}

/// Runs `chain`. `verify` exits with 1 if the ledger is not intact.
pub fn run(args: ChainArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let command = match args.command {
        ChainCommand::Export(args) => return transfer::export(&args, session),
        ChainCommand::Import(args) => return transfer::import(&args, session),
        ChainCommand::Migrate(args) => return transfer::migrate(&args, session),
        other => other,
    };
    session.with_agent(|agent, mut out| async move {
        let chain = &agent.handles.chain;
        match command {
            ChainCommand::Export(_) | ChainCommand::Import(_) | ChainCommand::Migrate(_) => {
                // Handled above; they work on the files while no actor does.
                Ok(Exit::Invalid)
            }
            ChainCommand::Verify => {
                let report = chain.verify().await?;
                let recovery = chain.recovery().await?.map(|recovery| recovery.to_string());
                let intact = report.is_valid();
                if out.wants_json() {
                    out.json(&json!({
                        "valid": intact, "state": report.state.to_string(), "length": report.length,
                        "tip": report.tip.as_ref().map(|tip| tip.hash),
                        "problem": report.problem.as_ref().map(ToString::to_string),
                        "warnings": report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
                        "warning_count": report.warning_count,
                        "recovery": recovery,
                    }))?;
                } else if intact {
                    out.line(format_args!("Blockchain Integrity Verified: OK (Length: {})", report.length))?;
                } else {
                    let text = out.paint(Tone::Bad, "Blockchain Integrity Check FAILED! Chain may be corrupted.");
                    out.line(text)?;
                }
                if !out.wants_json() {
                    if let Some(recovery) = &recovery {
                        out.line(format_args!("  after a crash: {recovery}"))?;
                    }
                    if let Some(problem) = &report.problem {
                        out.line(format_args!("  {problem}"))?;
                    }
                    for warning in &report.warnings {
                        out.line(format_args!("  warning: {warning}"))?;
                    }
                }
                Ok(if intact { Exit::Done } else { Exit::Failed })
            }
            ChainCommand::History { limit } => {
                let blocks = chain.history(limit).await?;
                if out.wants_json() {
                    out.json(&blocks.iter().map(|b| json!({
                        "index": b.index(), "timestamp": b.timestamp(), "data": b.data(), "hash": b.hash(),
                        "kinds": b.data().iter().map(|entry| kind(entry)).collect::<Vec<_>>(),
                    })).collect::<Vec<_>>())?;
                    return Ok(Exit::Done);
                }
                if blocks.is_empty() {
                    out.line("(No blocks found)")?;
                }
                let rows = blocks.iter().map(|block| {
                    let first = block.data().first().map(String::as_str).unwrap_or_default();
                    let mut text: String = first.chars().take(120).collect();
                    if text.len() < first.len() {
                        text.push('…');
                    }
                    [Cell::from(block.index()), Cell::from(block.timestamp()), Cell::from(kind(first)), Cell::from(text)]
                });
                out.table(["BLOCK", "TIME", "KIND", "ENTRY"], rows)?;
                Ok(Exit::Done)
            }
        }
    })
}
