//! `instructions_update`, and which text a model is given at the start.

use std::fmt::Write as _;
use std::io::{self, Read as _};

use kairos_place::proposal::Change;
use kairos_place::role::Action;
use kairos_protocol::id::SkillName;
use kairos_protocol::instructions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::table;
use crate::agent::Agent;
use crate::data_dir::DataDir;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::consent::{Governed, govern};
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// Longest text that is given, in bytes.
pub(super) const TEXT_MAX: u64 = 1024 * 1024;
/// Longest settings file that is read.
const SETTINGS_MAX: u64 = 1024 * 1024;
/// Most texts that are listed.
const FILES_MAX: usize = 1_000;

/// The mode in force: `user` where nothing is set, as in the reference.
pub(super) fn mode(data_dir: &DataDir) -> io::Result<String> {
    let text = read(&data_dir.skills_config(), SETTINGS_MAX)?.unwrap_or_default();
    instructions::mode(&text).map_err(io::Error::other)
}

/// The file of a mode below `skills/`; nothing for `none` and for what is no name.
pub(super) fn file_of(mode: &str) -> Option<String> {
    match mode {
        "none" => None,
        "developer" => Some("kairos.md".to_owned()),
        "user" => Some("kairos_quickguide.md".to_owned()),
        other => other
            .parse::<SkillName>()
            .ok()
            .map(|name| format!("{name}.md")),
    }
}

/// The text in force; nothing where there is none, or where it cannot be read, which the log tells.
pub(in crate::mcp) async fn in_force(agent: &Agent) -> Option<String> {
    let data_dir = agent.data_dir.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let Some(file) = file_of(&mode(&data_dir)?) else {
            return Ok(None);
        };
        read(&data_dir.skills().join(file), TEXT_MAX)
    });
    match looked
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
    {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(%error, "the instructions for models cannot be read");
            None
        }
    }
}

fn read(path: &std::path::Path, max: u64) -> io::Result<Option<String>> {
    let file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(max + 1).read_to_string(&mut text)?;
    match text.len() as u64 > max {
        true => Err(io::Error::other(format!(
            "{} is longer than {max} bytes",
            path.display()
        ))),
        false => Ok(Some(text)),
    }
}

/// The texts there are: file name and bytes, sorted.
fn texts(data_dir: &DataDir) -> io::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(data_dir.skills())?.take(FILES_MAX) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") && entry.file_type()?.is_file() {
            found.push((name, entry.metadata()?.len()));
        }
    }
    found.sort();
    Ok(found)
}

pub(super) struct Update;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Command {
    Status,
    Create,
    Update,
    Delete,
    SetMode,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    command: Command,
    /// The mode: developer for the constitution, user for the quick guide, or one of your own.
    #[schemars(with = "Option<String>")]
    mode_name: Option<SkillName>,
    /// The whole new text; needed to create and update.
    content: Option<String>,
    /// Why; it is shown to whoever decides.
    reason: Option<String>,
    /// Has no effect: a person approves.
    #[serde(default, rename = "approved")]
    _approved: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Instructions {
    /// The mode in force.
    mode: String,
    /// The texts there are, for `status`.
    files: Vec<FileData>,
    /// What became of the change that was asked for.
    change: Option<Governed>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct FileData {
    /// Its name below `skills/`.
    name: String,
    /// Bytes.
    size: u64,
    /// Whether it is the text in force.
    in_force: bool,
}

impl Tool<AgentDoor> for Update {
    const NAME: &'static str = "instructions_update";
    const TITLE: &'static str = "Instructions";
    const ABOUT: &'static str = "Shows the texts that instruct models (status), or asks a person for another one of a mode (create, update), for its end (delete), or for another mode in force (set_mode). A person decides \
         about each change; nothing you pass stands for them.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::CHANGE;
    type Params = Params;
    type Output = Instructions;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: Params,
    ) -> Result<Answer<Instructions>, Refusal> {
        let data_dir = door.agent.data_dir.clone();
        let looked = tokio::task::spawn_blocking(move || {
            io::Result::Ok((mode(&data_dir)?, texts(&data_dir)?))
        });
        let (mode, found) = looked.await??;
        let command = params.command;
        if command == Command::Status {
            return Ok(status(mode, found));
        }
        let name = params
            .mode_name
            .ok_or_else(|| Refusal::say("Error: mode_name is required"))?;
        let file = file_of(name.as_str());
        let exists = file.is_some_and(|file| found.iter().any(|(found, _)| *found == file));
        match (command, exists) {
            (Command::Create, true) => {
                return Err(Refusal::say(format!(
                    "Error: there is a text of the mode `{name}` already; use update"
                )));
            }
            (Command::Update, false) => {
                return Err(Refusal::say(format!(
                    "Error: there is no text of the mode `{name}` yet; use create"
                )));
            }
            _ => {}
        }
        let reason = params
            .reason
            .ok_or_else(|| Refusal::say("Error: reason is required; a person will read it"))?;
        let (change, content) = match command {
            Command::Delete => (Change::InstructionsDelete { mode: name }, None),
            Command::SetMode => (Change::InstructionsMode { mode: name }, None),
            Command::Status | Command::Create | Command::Update => {
                let content = params.content.ok_or_else(|| {
                    Refusal::say("Error: content is required: the whole new text")
                })?;
                (Change::Instructions { mode: name }, Some(content))
            }
        };
        let answer = govern(door, call, Self::NAME, (change, content, Some(reason))).await?;
        let data = Instructions {
            mode,
            files: Vec::new(),
            change: Some(answer.data),
        };
        Ok(Answer::new(answer.text, data))
    }
}

fn status(mode: String, found: Vec<(String, u64)>) -> Answer<Instructions> {
    let in_force = file_of(&mode);
    let files = found.into_iter().map(|(name, size)| FileData {
        in_force: in_force.as_deref() == Some(name.as_str()),
        name,
        size,
    });
    let files: Vec<_> = files.collect();
    let mut text = format!("## Instructions\n\n**Mode:** {mode}\n\n");
    let rows = files.iter().map(|file| {
        let here = if file.in_force { "yes" } else { "" };
        [
            file.name.clone(),
            super::text::size(file.size),
            here.to_owned(),
        ]
    });
    let _ = write!(text, "{}", table(["File", "Size", "In force"], rows));
    let data = Instructions {
        mode,
        files,
        change: None,
    };
    Answer::new(text, data)
}
