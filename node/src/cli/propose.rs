//! `propose`: have a change wait until an owner approves it.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use kairos_actors::approvals::Propose;
use kairos_place::proposal::{CONTENT_MAX, Change};
use kairos_protocol::id::{SkillName, SkillSetName};
use kairos_protocol::skill_set::{Layer, METADATA_FILE, METADATA_MAX, SkillSetMetadata};
use serde_json::json;

use super::Session;
use super::approvals::local;
use super::exit::Exit;
use super::out::Out;
use crate::agent::Agent;

/// What to propose.
#[derive(Debug, clap::Args)]
pub struct ProposeArgs {
    #[command(subcommand)]
    what: What,
    /// Why; it is shown with the proposal and recorded with the decision
    #[arg(long, global = true, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A change of knowledge (L1)
    Knowledge {
        #[command(subcommand)]
        what: KnowledgeWhat,
    },
    /// Another law of the agent: the whole file skills/kairos.rb (L0), in which one skill differs
    L0 {
        /// The new text; - reads standard input
        file: PathBuf,
    },
    /// Another text of an instructions mode, the whole file
    Instructions {
        /// The mode: developer for skills/kairos.md, user for the quick guide, or one of your own
        mode: SkillName,
        /// The new text; - reads standard input
        file: PathBuf,
    },
    /// Another instructions mode in force
    InstructionsMode {
        /// The mode: developer, user, none, or one of your own
        mode: SkillName,
    },
    /// The text of an instructions mode goes
    DeleteInstructions {
        /// The mode
        mode: SkillName,
    },
    /// A change of a SkillSet, also on L0
    Skillset {
        #[command(subcommand)]
        what: SkillsetWhat,
    },
}

#[derive(Debug, Subcommand)]
enum KnowledgeWhat {
    /// A new entry
    Create {
        /// Its name
        name: SkillName,
        /// Its text; - reads standard input
        file: PathBuf,
    },
    /// Another text of an entry
    Update {
        /// Its name
        name: SkillName,
        /// Its new text; - reads standard input
        file: PathBuf,
    },
    /// An entry goes, with everything in its directory
    Delete {
        /// Its name
        name: SkillName,
    },
}

#[derive(Debug, Subcommand)]
enum SkillsetWhat {
    /// Install the SkillSet in a directory
    Install {
        /// The directory
        path: PathBuf,
        /// Replace what is installed under the same name
        #[arg(long)]
        force: bool,
        /// Layer to install on, instead of the one in skillset.json
        #[arg(long)]
        layer: Option<Layer>,
    },
    /// Switch a SkillSet on
    Enable {
        /// Its name
        name: SkillSetName,
    },
    /// Switch a SkillSet off
    Disable {
        /// Its name
        name: SkillSetName,
    },
    /// Remove a SkillSet
    Remove {
        /// Its name
        name: SkillSetName,
    },
}

/// Runs `propose`.
pub fn run(args: ProposeArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let (change, file) = change(args.what)?;
    let content = file.map(|file| text(&file)).transpose()?;
    session.with_agent(|agent, mut out| async move {
        let propose = Propose {
            change,
            content,
            reason: args.reason,
            by: local()?,
        };
        waits(&agent, propose, &mut out).await
    })
}

/// Why a change is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// Why; it is shown with the proposal and recorded with the decision
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

/// Has a change wait, and says how it is decided about.
pub(super) async fn waits(agent: &Agent, propose: Propose, out: &mut Out) -> anyhow::Result<Exit> {
    let waiting = agent.handles.approvals.propose(propose).await?;
    let proposal = &waiting.proposal;
    if out.wants_json() {
        out.json(&json!({
            "id": waiting.id, "seal": waiting.seal, "expires_at": proposal.expires_at.wire(),
        }))?;
        return Ok(Exit::Done);
    }
    out.line(format_args!("Proposed as {}", waiting.id))?;
    out.note(format_args!(
        "Look at it with:  kairos-chain approvals show {0}\nApprove it with:  kairos-chain approve {0}",
        waiting.id
    ))?;
    Ok(Exit::Done)
}

/// The change that is asked for, and where its text is.
fn change(what: What) -> anyhow::Result<(Change, Option<PathBuf>)> {
    Ok(match what {
        What::Knowledge { what } => match what {
            KnowledgeWhat::Create { name, file } => (Change::KnowledgeCreate { name }, Some(file)),
            KnowledgeWhat::Update { name, file } => (Change::KnowledgeUpdate { name }, Some(file)),
            KnowledgeWhat::Delete { name } => (Change::KnowledgeDelete { name }, None),
        },
        What::L0 { file } => (Change::Law, Some(file)),
        What::Instructions { mode, file } => (Change::Instructions { mode }, Some(file)),
        What::InstructionsMode { mode } => (Change::InstructionsMode { mode }, None),
        What::DeleteInstructions { mode } => (Change::InstructionsDelete { mode }, None),
        What::Skillset { what } => {
            let change = match what {
                SkillsetWhat::Install { path, force, layer } => {
                    let source = std::path::absolute(&path)?;
                    let bytes = read(&source.join(METADATA_FILE), METADATA_MAX)?;
                    let source = source.into_os_string().into_string();
                    Change::SkillsetInstall {
                        name: SkillSetMetadata::parse(&bytes)?.name,
                        source: source.map_err(|_| {
                            anyhow::anyhow!("the path of the directory is not UTF-8")
                        })?,
                        force,
                        layer,
                    }
                }
                SkillsetWhat::Enable { name } => Change::SkillsetEnable { name },
                SkillsetWhat::Disable { name } => Change::SkillsetDisable { name },
                SkillsetWhat::Remove { name } => Change::SkillsetRemove { name },
            };
            (change, None)
        }
    })
}

pub(super) fn text(file: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    if file.as_os_str() != "-" {
        return read(file, CONTENT_MAX);
    }
    let mut bytes = Vec::new();
    let limit = CONTENT_MAX as u64 + 1;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file, one byte more than `max` at most: what is too long is refused by whoever knows what it is.
fn read(file: &std::path::Path, max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file);
    opened
        .and_then(|opened| opened.take(max as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes)
}
