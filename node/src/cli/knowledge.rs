//! `knowledge`: layer L1, every change of which is in the ledger.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use kairos_actors::knowledge::{
    Archive, Archived, CatchUp, Changed, Create, Delete, KnowledgeEntry, KnowledgeError, State,
    Unarchive, Update,
};
use kairos_protocol::block::entry::KnowledgeAction;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use serde_json::{Value, json};

use super::Session;
use super::exit::Exit;
use super::out::{Cell, Out, Tone};

/// Longest text read from a file or from standard input, in bytes; what may be stored is less and a setting.
pub const INPUT_MAX: u64 = 16 * 1024 * 1024;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct KnowledgeArgs {
    #[command(subcommand)]
    command: KnowledgeCommand,
}

#[derive(Debug, Subcommand)]
enum KnowledgeCommand {
    /// List the entries, also those with something wrong
    List {
        /// List the archive instead
        #[arg(long)]
        archived: bool,
    },
    /// Print the text of an entry
    Show {
        /// Its name
        name: String,
        /// Look in the archive instead
        #[arg(long)]
        archived: bool,
    },
    /// Make an entry and record it
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        text: TextArgs,
        /// Make the directories scripts, assets and references too
        #[arg(long)]
        subdirs: bool,
        #[command(flatten)]
        why: ReasonArgs,
    },
    /// Replace the text of an entry and record it
    Update {
        /// Its name
        name: String,
        #[command(flatten)]
        text: TextArgs,
        /// Only if its text has this SHA-256
        #[arg(long, value_name = "HASH")]
        expect: Option<ContentHash>,
        #[command(flatten)]
        why: ReasonArgs,
    },
    /// Remove an entry with all its files, and record it
    Delete {
        /// Its name
        name: String,
        /// Only if its text has this SHA-256
        #[arg(long, value_name = "HASH")]
        expect: Option<ContentHash>,
        #[command(flatten)]
        why: ReasonArgs,
    },
    /// Put an entry away and record it
    Archive {
        /// Its name
        name: String,
        /// The name of what takes its place
        #[arg(long, value_name = "NAME")]
        superseded_by: Option<String>,
        #[command(flatten)]
        why: ReasonArgs,
    },
    /// Bring an entry back from the archive and record it
    Unarchive {
        /// Its name
        name: String,
        #[command(flatten)]
        why: ReasonArgs,
    },
    /// Show what the ledger tells of an entry, newest first
    History {
        /// Its name
        name: String,
        /// How many records
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Compare what is on disk with the ledger; exits with 1 if something is not recorded
    Status {
        /// Show also what agrees
        #[arg(long)]
        all: bool,
    },
    /// Record what was changed past the ledger, by an editor or another program
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
    Record {
        /// Which entries
        #[arg(group = "which")]
        names: Vec<String>,
        /// Everything that is not recorded
        #[arg(long, group = "which")]
        all: bool,
        #[command(flatten)]
        why: ReasonArgs,
    },
}

/// Where a text comes from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct TextArgs {
    /// The file with the text; - is standard input
    pub file: Option<PathBuf>,
    /// The text itself
    #[arg(long)]
    pub text: Option<String>,
}

/// Why something is done.
#[derive(Debug, clap::Args)]
pub struct ReasonArgs {
    /// Why, for the ledger
    #[arg(long)]
    reason: Option<String>,
}

impl TextArgs {
    /// Reads the text.
    pub fn read(self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        match (self.text, self.file) {
            (Some(text), _) => return Ok(text),
            (None, Some(path)) if path != Path::new("-") => {
                let file = std::fs::File::open(&path);
                let file = file.with_context(|| format!("cannot read {}", path.display()))?;
                file.take(INPUT_MAX + 1).read_to_end(&mut bytes)?;
            }
            _ => {
                std::io::stdin()
                    .lock()
                    .take(INPUT_MAX + 1)
                    .read_to_end(&mut bytes)?;
            }
        }
        if bytes.len() as u64 > INPUT_MAX {
            anyhow::bail!("the text is longer than {INPUT_MAX} bytes");
        }
        String::from_utf8(bytes).context("the text is not UTF-8")
    }
}

/// A name that knowledge can have.
pub fn name(text: &str) -> Result<SkillName, KnowledgeError> {
    text.parse().map_err(|reason| KnowledgeError::Name {
        name: text.to_owned(),
        reason,
    })
}

/// Runs `knowledge`.
pub fn run(args: KnowledgeArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let knowledge = &agent.handles.knowledge;
        let changed = match args.command {
            KnowledgeCommand::List { archived: false } => {
                return list(&knowledge.entries(Duration::ZERO).await?, &mut out);
            }
            KnowledgeCommand::List { archived: true } => {
                return list_archived(&knowledge.archived().await?, &mut out);
            }
            KnowledgeCommand::Show {
                name: n,
                archived: false,
            } => {
                let (entry, text) = knowledge.entry(name(&n)?).await?;
                return show(&json!(entry), entry.fault.as_deref(), &text, &mut out);
            }
            KnowledgeCommand::Show {
                name: n,
                archived: true,
            } => {
                let (archived, text) = knowledge.archived_entry(name(&n)?).await?;
                return show(
                    &json!(archived),
                    archived.entry.fault.as_deref(),
                    &text,
                    &mut out,
                );
            }
            KnowledgeCommand::History { name, limit } => {
                let records = knowledge.history(&name, limit).await?;
                return history(&name, &records, &mut out);
            }
            KnowledgeCommand::Status { all } => {
                return status(&knowledge.status().await?, all, &mut out);
            }
            KnowledgeCommand::Record { names, all, why } => {
                let names: Vec<_> = names.iter().map(|n| name(n)).collect::<Result<_, _>>()?;
                let names = (!all).then_some(names);
                let recorded = knowledge
                    .catch_up(CatchUp {
                        names,
                        reason: why.reason,
                    })
                    .await?;
                return told(&recorded, &mut out);
            }
            KnowledgeCommand::Create {
                name: n,
                text,
                subdirs,
                why,
            } => {
                let (name, text) = (name(&n)?, text.read()?);
                let create = Create {
                    name,
                    text,
                    reason: why.reason,
                    subdirectories: subdirs,
                };
                knowledge.create(create).await?
            }
            KnowledgeCommand::Update {
                name: n,
                text,
                expect,
                why,
            } => {
                let (name, text) = (name(&n)?, text.read()?);
                knowledge
                    .update(Update {
                        name,
                        text,
                        reason: why.reason,
                        expect,
                    })
                    .await?
            }
            KnowledgeCommand::Delete {
                name: n,
                expect,
                why,
            } => {
                knowledge
                    .delete(Delete {
                        name: name(&n)?,
                        reason: why.reason,
                        expect,
                    })
                    .await?
            }
            KnowledgeCommand::Archive {
                name: n,
                superseded_by,
                why,
            } => {
                let superseded_by = superseded_by.as_deref().map(name).transpose()?;
                knowledge
                    .archive(Archive {
                        name: name(&n)?,
                        reason: why.reason,
                        superseded_by,
                    })
                    .await?
            }
            KnowledgeCommand::Unarchive { name: n, why } => {
                knowledge
                    .unarchive(Unarchive {
                        name: name(&n)?,
                        reason: why.reason,
                    })
                    .await?
            }
        };
        done(&changed, &mut out)
    })
}

fn word(action: KnowledgeAction) -> &'static str {
    match action {
        KnowledgeAction::Create => "Created",
        KnowledgeAction::Update => "Updated",
        KnowledgeAction::Delete => "Deleted",
        KnowledgeAction::Archive => "Archived",
        KnowledgeAction::Unarchive => "Unarchived",
    }
}

fn done(changed: &Changed, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(changed)?;
        return Ok(Exit::Done);
    }
    out.line(format_args!(
        "{} knowledge '{}'",
        word(changed.action),
        changed.name
    ))?;
    if let Some(path) = &changed.path {
        out.line(format_args!("Path: {path}"))?;
    }
    if let Some(hash) = changed.content_hash {
        out.line(format_args!("Hash: {hash}"))?;
    }
    if let Some(hash) = changed.previous_hash {
        out.line(format_args!("Previous hash: {hash}"))?;
    }
    Ok(Exit::Done)
}

fn told(recorded: &[Changed], out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({ "recorded": recorded }))?;
        return Ok(Exit::Done);
    }
    if recorded.is_empty() {
        out.line("Nothing to record: the ledger tells what is there.")?;
    }
    for changed in recorded {
        let action = word(changed.action).to_lowercase();
        out.line(format_args!("Recorded '{}' as {action}", changed.name))?;
    }
    Ok(Exit::Done)
}

fn list(entries: &[KnowledgeEntry], out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({ "knowledge": entries }))?;
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        out.line("No knowledge. Make some with:  kairos-chain knowledge create NAME FILE")?;
        return Ok(Exit::Done);
    }
    out.table(
        ["NAME", "VERSION", "TAGS", "DESCRIPTION"],
        entries.iter().map(row),
    )?;
    warn(entries, out)
}

/// An entry as a row of a list.
fn row(entry: &KnowledgeEntry) -> [Cell; 4] {
    let texts = |values: &[Value]| values.iter().map(text).collect::<Vec<_>>().join(", ");
    [
        Cell::from(&entry.name),
        Cell::from(entry.version.as_ref().map(text).unwrap_or_default()),
        Cell::from(texts(&entry.tags)),
        Cell::from(&entry.description),
    ]
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Tells what is wrong with entries.
pub fn warn(entries: &[KnowledgeEntry], out: &mut Out) -> anyhow::Result<Exit> {
    for entry in entries {
        if let Some(fault) = &entry.fault {
            let name = out.paint_note(Tone::Careful, &entry.name);
            out.note(format_args!("{name}: {fault}"))?;
        }
    }
    Ok(Exit::Done)
}

fn list_archived(archived: &[Archived], out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({ "archived": archived }))?;
        return Ok(Exit::Done);
    }
    if archived.is_empty() {
        out.line("Nothing is archived.")?;
        return Ok(Exit::Done);
    }
    let rows = archived.iter().map(|archived| {
        let said = |text: &Option<String>| Cell::from(text.as_deref().unwrap_or_default());
        [
            Cell::from(&archived.entry.name),
            said(&archived.archived_at),
            said(&archived.superseded_by),
            said(&archived.archived_reason),
        ]
    });
    out.table(["NAME", "ARCHIVED", "SUPERSEDED BY", "REASON"], rows)?;
    for archived in archived {
        warn(std::slice::from_ref(&archived.entry), out)?;
    }
    Ok(Exit::Done)
}

/// Prints a text, or what is known of it with the text.
pub fn show(about: &Value, fault: Option<&str>, text: &str, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        let mut about = about.clone();
        if let Some(members) = about.as_object_mut() {
            members.insert("text".to_owned(), Value::from(text));
        }
        out.json(&about)?;
        return Ok(Exit::Done);
    }
    out.line(text.trim_end_matches('\n'))?;
    if let Some(fault) = fault {
        let word = out.paint_note(Tone::Careful, "warning:");
        out.note(format_args!("{word} {fault}"))?;
    }
    Ok(Exit::Done)
}

fn history(
    name: &str,
    records: &[kairos_actors::knowledge::Record],
    out: &mut Out,
) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({ "name": name, "records": records }))?;
        return Ok(Exit::Done);
    }
    if records.is_empty() {
        out.line(format_args!("The ledger tells nothing of '{name}'."))?;
        return Ok(Exit::Done);
    }
    let rows = records.iter().map(|record| {
        let short = |hash: Option<ContentHash>| {
            hash.map_or("-".to_owned(), |hash| format!("{:.12}", hash.to_hex()))
        };
        [
            Cell::from(record.block),
            Cell::from(record.timestamp.as_deref().unwrap_or_default()),
            Cell::from(word(record.action).to_lowercase()),
            Cell::from(short(record.prev_hash)),
            Cell::from(short(record.next_hash)),
            Cell::from(record.reason.as_deref().unwrap_or_default()),
        ]
    });
    out.table(
        ["BLOCK", "TIME", "ACTION", "BEFORE", "AFTER", "REASON"],
        rows,
    )?;
    Ok(Exit::Done)
}

fn status(
    standings: &[kairos_actors::knowledge::Standing],
    all: bool,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let agrees = |state: State| matches!(state, State::Recorded | State::Archived);
    let differ = standings.iter().filter(|s| !agrees(s.state)).count();
    let exit = if differ == 0 {
        Exit::Done
    } else {
        Exit::Failed
    };
    if out.wants_json() {
        out.json(&json!({ "knowledge": standings, "not_recorded": differ }))?;
        return Ok(exit);
    }
    let shown = standings.iter().filter(|s| all || !agrees(s.state));
    let rows: Vec<_> = shown
        .map(|standing| {
            let (tone, word) = match standing.state {
                State::Recorded => (Tone::Good, "recorded"),
                State::Archived => (Tone::Quiet, "archived"),
                State::Changed => (Tone::Careful, "changed"),
                State::Unrecorded => (Tone::Careful, "not recorded"),
                State::Missing => (Tone::Bad, "missing"),
                State::PutAway => (Tone::Careful, "put away"),
                State::Returned => (Tone::Careful, "returned"),
                State::Unreadable => (Tone::Bad, "unreadable"),
            };
            let short = |hash: Option<ContentHash>| {
                hash.map_or("-".to_owned(), |hash| format!("{:.12}", hash.to_hex()))
            };
            [
                Cell::from(&standing.name),
                Cell::toned(tone, word),
                Cell::from(short(standing.recorded_hash)),
                Cell::from(short(standing.content_hash)),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.table(["NAME", "STATE", "RECORDED", "ON DISK"], rows)?;
    }
    if differ == 0 {
        out.line(format_args!(
            "The ledger tells what is there ({} entries).",
            standings.len()
        ))?;
    } else {
        out.note("Record it with:  kairos-chain knowledge record NAME... | --all  --reason TEXT")?;
    }
    Ok(exit)
}
