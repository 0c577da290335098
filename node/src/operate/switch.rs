//! Opening and closing the Meeting Place: the setting, and the server that follows it.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kairos_place::token::UserName;
use serde_json::Value;

use super::door::{self, Key};
use crate::agent::Agent;
use crate::config::edit;
use crate::data_dir::DataDir;
use crate::serving::ServerAt;

/// The setting.
pub const SETTING: &str = "place.enabled";

/// What throwing the switch did.
#[derive(Debug)]
pub struct Switched {
    /// Where the setting was written.
    pub file: PathBuf,
    /// The server that is concerned; none if none runs, or none hosts what is to be closed.
    pub server: Option<Followed>,
}

/// How a server followed the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Where it listens.
    pub address: ServerAt,
    /// Whether something changed there.
    pub changed: bool,
}

/// What is hosted at the moment.
#[derive(Debug)]
pub struct Standing {
    /// Servers of this data directory that run.
    pub servers: Vec<ServerAt>,
    /// The one that hosts the Place, and what it tells of it.
    pub host: Option<(ServerAt, Value)>,
}

/// Has this and every later server host the Place, or none, for `by`.
///
/// # Errors
///
/// If the setting cannot be written; or if it was, and the running server did not follow.
pub async fn throw(agent: &Agent, on: bool, by: &UserName) -> anyhow::Result<Switched> {
    let dir = agent.data_dir.clone();
    let file = tokio::task::spawn_blocking(move || write(&dir, on)).await??;
    let servers = door::servers(agent).await?;
    if servers.is_empty() {
        return Ok(Switched { file, server: None });
    }
    let key = Key::make(agent, by).await?;
    let server = follow(agent, &key, &servers, on).await;
    key.discard(agent).await?;
    let server = server.with_context(|| {
        format!(
            "{SETTING} is {on} in {}, but the server did not follow",
            file.display()
        )
    })?;
    Ok(Switched { file, server })
}

/// Looks who hosts the Place.
pub async fn standing(agent: &Agent, by: &UserName) -> anyhow::Result<Standing> {
    let servers = door::servers(agent).await?;
    let host = match servers.is_empty() {
        true => None,
        false => {
            let key = Key::make(agent, by).await?;
            let host = key.host(agent, &servers).await;
            key.discard(agent).await?;
            host?
        }
    };
    Ok(Standing { servers, host })
}

/// Has the server follow; nothing if none is concerned.
async fn follow(
    agent: &Agent,
    key: &Key,
    servers: &[ServerAt],
    on: bool,
) -> anyhow::Result<Option<Followed>> {
    let host = key.host(agent, servers).await?;
    let (address, path) = match (host, on) {
        (Some((address, _)), true) => {
            let changed = false;
            return Ok(Some(Followed { address, changed }));
        }
        (Some((address, _)), false) => (address, "/api/v1/place/stop"),
        (None, false) => return Ok(None),
        (None, true) => match servers.first() {
            Some(first) => (first.clone(), "/api/v1/place/start"),
            None => return Ok(None),
        },
    };
    let told = key
        .ask(agent, &address, "POST", path.to_owned(), None)
        .await?;
    let changed = told.get("changed") == Some(&Value::Bool(true));
    Ok(Some(Followed { address, changed }))
}

/// Writes the setting into our own file, in which every key counts; returns which that is.
fn write(dir: &DataDir, on: bool) -> anyhow::Result<PathBuf> {
    let path = dir.config_file();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let word = if on { "true" } else { "false" };
    let Some(after) = edit::set(&text, "place", "enabled", word) else {
        bail!(
            "{} has a form that is not understood here; set it by hand, with the line \"enabled: {word}\" below \
             \"place:\"",
            path.display()
        );
    };
    if after != text {
        edit::write(&path, &after).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(path)
}
