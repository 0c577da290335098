//! `formalization`: how texts were put into the skills language, and why others stay texts.

use clap::Subcommand;
use kairos_protocol::block::entry::Entry;
use serde_json::json;

use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use super::{Session, Usage};
use crate::agent::Agent;
use crate::formalization::{Category, Given, LIMIT, LIMIT_MAX, newest, result};

/// What to do.
#[derive(Debug, clap::Args)]
pub struct FormalizationArgs {
    #[command(subcommand)]
    command: FormalizationCommand,
}

#[derive(Debug, Subcommand)]
enum FormalizationCommand {
    /// Record a decision in the ledger
    Record(Box<Given>),
    /// Show decisions, the newest first
    History {
        /// Only of this skill
        #[arg(long, value_name = "ID")]
        skill_id: Option<String>,
        /// Only of this kind
        #[arg(long)]
        category: Option<Category>,
        /// How many
        #[arg(long, default_value_t = LIMIT)]
        limit: usize,
    },
}

/// Runs `formalization`.
pub fn run(args: FormalizationArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        match args.command {
            FormalizationCommand::Record(given) => record(&agent, *given, &mut out).await,
            FormalizationCommand::History {
                skill_id,
                category,
                limit,
            } => {
                if !(1..=LIMIT_MAX).contains(&limit) {
                    return Err(Usage(format!("--limit is from 1 to {LIMIT_MAX}")).into());
                }
                let chain = &agent.handles.chain;
                let found = newest(chain, limit, skill_id.as_deref(), category).await?;
                history(&found, &mut out)
            }
        }
    })
}

async fn record(agent: &Agent, given: Given, out: &mut Out) -> anyhow::Result<Exit> {
    let decision = given
        .decision(agent.clock.now())
        .map_err(|error| Usage(error.to_string()))?;
    let entry = Entry::FormalizationDecision(Box::new(decision)).to_text();
    let block = agent.handles.chain.append(vec![entry]).await?;
    match out.wants_json() {
        true => out.json(&json!({"block": block.index, "hash": block.hash}))?,
        false => out.line(format_args!("Recorded in block {}", block.index))?,
    }
    Ok(Exit::Done)
}

fn history(
    found: &[(u64, kairos_protocol::block::entry::FormalizationDecision)],
    out: &mut Out,
) -> anyhow::Result<Exit> {
    if out.wants_json() {
        let decisions = found
            .iter()
            .map(|(block, decision)| json!({"block": block, "decision": decision}));
        let decisions: Vec<_> = decisions.collect();
        out.json(&json!({"decisions": decisions}))?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        out.line("No formalization decisions found.")?;
        return Ok(Exit::Done);
    }
    let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
    let rows = found.iter().map(|(block, decision)| {
        let tone = match result(decision) {
            "formalized" => Tone::Good,
            _ => Tone::Quiet,
        };
        [
            Cell::from(block),
            Cell::from(&decision.skill_id),
            Cell::from(or_none(&decision.skill_version)),
            Cell::toned(tone, result(decision)),
            Cell::from(or_none(&decision.formalization_category)),
            Cell::from(or_none(&decision.rationale)),
        ]
    });
    out.table(
        ["BLOCK", "SKILL", "VERSION", "RESULT", "CATEGORY", "WHY"],
        rows,
    )?;
    Ok(Exit::Done)
}
