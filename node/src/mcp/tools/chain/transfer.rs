//! `chain_export` and `chain_import`: whole ledgers. One is written where nothing is yet; one from elsewhere is looked
//! at, and only the user takes it.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use kairos_actors::chain::store::place::{Backend, Places};
use kairos_actors::chain::store::transfer::{Held, Relation};
use kairos_place::role::Action;
use kairos_protocol::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::{self, Agent};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};
use crate::transfer;

/// Longest name of a directory that is made for an export, in bytes.
const NAME_MAX: usize = 100;

/// Most exports of one second that get a name by themselves.
const TRIES: u32 = 20;

/// Where exports are, below the data directory.
fn exports(agent: &Agent) -> PathBuf {
    agent.data_dir.storage().join("export")
}

pub(in crate::mcp::tools) struct Export;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct ExportParams {
    /// The name of a new directory, which is made in storage/export; one that tells the time if it is left out.
    output_dir: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct ExportData {
    /// The directory.
    output_dir: String,
    /// Blocks.
    blocks: u64,
    /// Records of the action log.
    action_logs: u64,
    /// Entries of knowledge that the database tells of.
    knowledge_meta: u64,
    /// The hash of the last block, in hex.
    tip: Option<String>,
}

impl Tool<AgentDoor> for Export {
    const NAME: &'static str = "chain_export";
    const TITLE: &'static str = "Export the ledger";
    const ABOUT: &'static str = "Writes the ledger, every block of it checked, and the action log into a new directory below storage/export. \
         Nothing that is there is written over.";
    const NEEDS: Action = Action::ReadActionLog;
    const HINTS: Hints = Hints::ADD;
    type Params = ExportParams;
    type Output = ExportData;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: ExportParams,
    ) -> Result<Answer<ExportData>, Refusal> {
        let agent = &door.agent;
        let folder = exports(agent);
        let name = name(&folder, params.output_dir, agent.clock.now())?;
        let (data_dir, places) = (
            agent.data_dir.clone(),
            agent::ledger(&agent.data_dir, &agent.settings),
        );
        let directory = folder.join(name);
        let target = directory.clone();
        let done = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            transfer::export(&data_dir, &places, &target, &mut |_| ())
        });
        let done = done.await?;
        let done = done.map_err(|error| {
            Refusal::say(format!(
                "Export failed: {error:#}. Nothing is there that was not before."
            ))
        })?;
        let output_dir = directory.display().to_string();
        let text = format!(
            "Export completed successfully!\n\nOutput directory: {output_dir}\n\nExported:\n- Blocks: {}\n- Action logs: \
             {}\n- Knowledge metadata: {}\n\nFiles created:\n- blockchain.json\n- action_log.jsonl\n- \
             knowledge_meta.json\n- manifest.json\n",
            done.blocks, done.action_logs, done.knowledge_meta
        );
        let data = ExportData {
            output_dir,
            blocks: done.blocks,
            action_logs: done.action_logs,
            knowledge_meta: done.knowledge_meta,
            tip: done.tip.map(|tip| tip.hash.to_hex()),
        };
        Ok(Answer::new(text, data))
    }
}

/// The name of the directory: one step below `folder`, so that a model writes nowhere else.
fn name(folder: &Path, given: Option<String>, now: Timestamp) -> Result<String, Refusal> {
    let Some(given) = given else {
        let stamp = now.file_stamp();
        let mut names = (2..=TRIES).map(|nth| format!("ledger_{stamp}_{nth}"));
        let first = format!("ledger_{stamp}");
        return match folder.join(&first).exists() {
            false => Ok(first),
            // Another one of the same second.
            true => names
                .find(|name| !folder.join(name).exists())
                .ok_or_else(|| {
                    Refusal::say("Error: there were many exports just now; name an output_dir")
                }),
        };
    };
    let given = Path::new(&given);
    let inside = given.strip_prefix(folder).unwrap_or(given);
    let mut steps = inside.components();
    match (steps.next(), steps.next()) {
        (Some(Component::Normal(name)), None) => name
            .to_str()
            .filter(|name| !name.starts_with('.') && name.len() <= NAME_MAX)
            .map(str::to_owned),
        _ => None,
    }
    .ok_or_else(|| {
        Refusal::say(
            "Error: output_dir is the name of a new directory, which is made in storage/export. For any other place, tell \
             the user to run: kairos-chain chain export DIRECTORY",
        )
    })
}

pub(in crate::mcp::tools) struct Import;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Source {
    Files,
    Export,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct ImportParams {
    /// files: storage/blockchain.json, where the ledger in use is a database. export: an exported directory.
    source: Source,
    /// The exported directory; storage/export if it is left out.
    input_dir: Option<PathBuf>,
    /// false: look at it. true is refused: only the user takes a ledger.
    approved: bool,
    /// Has no effect: what is replaced is always kept.
    #[serde(default, rename = "skip_backup")]
    _skip_backup: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct ImportData {
    /// What was looked at.
    source: String,
    /// Its blocks, all of them good.
    blocks: u64,
    /// The hash of its last block, in hex.
    tip: String,
    /// The blocks of the ledger in use.
    current_blocks: u64,
    /// How the ledger in use stands to it.
    relation: String,
    /// Whether taking it loses nothing of the ledger in use.
    harmless: bool,
    /// What the user runs to take it; null where it is the same.
    import_with: Option<String>,
}

impl Tool<AgentDoor> for Import {
    const NAME: &'static str = "chain_import";
    const TITLE: &'static str = "Look at a ledger to import";
    const ABOUT: &'static str = "Checks every block of a ledger from elsewhere and tells how it stands to the one in use. Only the user takes it, \
         with the command that is told.";
    const NEEDS: Action = Action::Import;
    const HINTS: Hints = Hints::READ;
    type Params = ImportParams;
    type Output = ImportData;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: ImportParams,
    ) -> Result<Answer<ImportData>, Refusal> {
        let agent = &door.agent;
        let places = agent::ledger(&agent.data_dir, &agent.settings);
        let source = match params.source {
            Source::Files if places.backend == Backend::File => {
                return Err(Refusal::say(
                    "Error: the ledger in use is storage/blockchain.json itself, so there is nothing to import from it",
                ));
            }
            Source::Files => places.file.clone(),
            Source::Export => params.input_dir.unwrap_or_else(|| exports(agent)),
        };
        let kind = match params.source {
            Source::Files => "files",
            Source::Export => "export",
        };
        let looked = tokio::task::spawn_blocking(move || look(&places, &source)).await?;
        let data = looked.map_err(|error| {
            Refusal::say(format!("Import failed: {error:#}. Nothing was changed."))
        })?;
        let text = told(kind, &data);
        match (params.approved, &data.import_with) {
            (true, Some(_)) => Err(Refusal::say(format!(
                "## Human Approval Required\n\nNothing was imported: no tool takes a ledger.\n\n{text}"
            ))),
            _ => Ok(Answer::new(text, data)),
        }
    }
}

/// Checks a ledger and compares it with the one in use. What is copied for that is gone afterwards.
fn look(places: &Places, source: &Path) -> anyhow::Result<ImportData> {
    let path = places.path(places.backend);
    let file = transfer::ledger_in(source);
    let metadata =
        std::fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?;
    // Anything else may never end.
    if !metadata.is_file() {
        bail!("{} is not a file", file.display());
    }
    let staged = transfer::stage(source, path, &mut |_| ())?;
    let held = Held::take(places, places.backend)?;
    let relation = held.relation(&staged)?;
    let current_blocks = held.report()?.length;
    let replace = if relation.is_harmless() {
        ""
    } else {
        " --replace"
    };
    let source = std::path::absolute(source)?.display().to_string();
    let import_with = (relation != Relation::Same)
        .then(|| format!("kairos-chain chain import {}{replace}", quoted(&source)));
    Ok(ImportData {
        source,
        blocks: staged.length(),
        tip: staged.tip().hash.to_hex(),
        current_blocks,
        relation: relation.to_string(),
        harmless: relation.is_harmless(),
        import_with,
    })
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn told(kind: &str, data: &ImportData) -> String {
    let ImportData {
        source,
        blocks,
        tip,
        current_blocks,
        relation,
        ..
    } = data;
    let mut text = format!(
        "=== Import Preview (DRY RUN) ===\n\nSource: {kind}\n\nCurrent ledger contains:\n  - Blocks: \
         {current_blocks}\n\nData to be imported:\n  - Blocks: {blocks}, all of them good\n  - Last block: {tip}\n  \
         (from {source})\n\nThe ledger in use {relation}.\n"
    );
    match &data.import_with {
        None => text.push_str("There is nothing to import.\n"),
        Some(command) => {
            text.push_str("\nTo take it, the user runs:\n\n    ");
            text.push_str(command);
            text.push_str("\n\nThe ledger before is kept in storage/backups.\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_goes_one_step_below_its_folder() {
        let folder = Path::new("/data/storage/export");
        let name = |given: &str| name(folder, Some(given.to_owned()), Timestamp::from_secs(0));
        assert_eq!(name("spring").unwrap(), "spring");
        assert_eq!(name("/data/storage/export/spring").unwrap(), "spring");
        assert_eq!(name("spring/").unwrap(), "spring");
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/tmp/x",
            ".hidden",
            "/data/storage/export",
            "/data/storage/export/../x",
            &"x".repeat(101),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_is_one_word_of_the_command() {
        assert_eq!(quoted("/a/b-c.d_1"), "/a/b-c.d_1");
        assert_eq!(quoted("/a b/it's;x"), r"'/a b/it'\''s;x'");
        assert_eq!(quoted("/a\nb"), "'/a\nb'");
    }
}
