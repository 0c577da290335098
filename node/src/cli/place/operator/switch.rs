//! `place start`, `stop` and `status`: the setting, and the server that follows it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::super::super::Session;
use super::super::super::exit::Exit;
use super::door::{self, Key};
use super::show;
use crate::agent::Agent;
use crate::config::{Layer, Source, edit};
use crate::data_dir::DataDir;

/// The setting.
const SETTING: &str = "place.enabled";

/// Runs `place start` or `place stop`.
pub(super) fn run(on: bool, session: &mut Session) -> anyhow::Result<Exit> {
    let source = session.loaded(&[])?.sources.get(SETTING).cloned();
    session.with_agent(|agent, mut out| async move {
        let dir = agent.data_dir.clone();
        let file = tokio::task::spawn_blocking(move || write(&dir, on)).await??;
        let servers = door::servers(&agent).await?;
        let switched = match servers.is_empty() {
            true => None,
            false => {
                let key = Key::make(&agent).await?;
                let switched = switch(&agent, &key, &servers, on).await;
                key.discard(&agent).await?;
                switched.with_context(|| {
                    format!(
                        "{SETTING} is {on} in {}, but the server did not follow",
                        file.display()
                    )
                })?
            }
        };
        if out.wants_json() {
            let (address, changed) = match &switched {
                Some((address, changed)) => (Some(*address), *changed),
                None => (None, false),
            };
            out.json(&json!({
                "setting": on, "file": file, "server": address, "changed": changed,
                "via": if address.is_some() { "server" } else { "stored" },
            }))?;
        } else {
            out.line(format_args!("{SETTING} is {on} in {}", file.display()))?;
            match (switched, on) {
                (Some((address, true)), true) => {
                    out.line(format_args!(
                        "The server at {address} hosts the Meeting Place now."
                    ))?;
                }
                (Some((address, false)), true) => {
                    out.line(format_args!(
                        "The server at {address} hosts the Meeting Place already."
                    ))?;
                }
                (Some((address, _)), false) => {
                    out.line(format_args!(
                        "The server at {address} hosts no Meeting Place any more."
                    ))?;
                }
                (None, true) => {
                    out.note(
                        "No server runs; it is hosted from the next start on:  kairos-chain serve",
                    )?;
                }
                (None, false) => out.note("No server hosts a Meeting Place at the moment.")?,
            }
        }
        if let Some(Source {
            layer: Layer::Environment | Layer::Argument,
            origin,
        }) = source
        {
            let origin = origin.as_deref().unwrap_or("an argument");
            out.note(format_args!(
                "{origin} sets {SETTING} too, and counts more than the file."
            ))?;
        }
        Ok(Exit::Done)
    })
}

/// Has the server follow; nothing if none is concerned. Whether something changed comes with its address.
async fn switch(
    agent: &Agent,
    key: &Key,
    servers: &[SocketAddr],
    on: bool,
) -> anyhow::Result<Option<(SocketAddr, bool)>> {
    let host = key.host(agent, servers).await?;
    let (address, path) = match (host, on) {
        (Some((address, _)), true) => return Ok(Some((address, false))),
        (Some((address, _)), false) => (address, "/api/v1/place/stop"),
        (None, false) => return Ok(None),
        (None, true) => match servers.first() {
            Some(first) => (*first, "/api/v1/place/start"),
            None => return Ok(None),
        },
    };
    let told = key
        .ask(agent, address, "POST", path.to_owned(), None)
        .await?;
    Ok(Some((
        address,
        told.get("changed") == Some(&Value::Bool(true)),
    )))
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

/// Runs `place status`.
pub(super) fn status(session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let servers = door::servers(&agent).await?;
        let host = match servers.is_empty() {
            true => None,
            false => {
                let key = Key::make(&agent).await?;
                let host = key.host(&agent, &servers).await;
                key.discard(&agent).await?;
                host?
            }
        };
        let setting = agent.settings.place.enabled;
        if out.wants_json() {
            let (address, told) = match host {
                Some((address, told)) => (Some(address), told),
                None => (None, Value::Null),
            };
            out.json(&json!({
                "hosted": address.is_some(), "server": address, "place": told, "setting": setting,
                "servers": servers,
            }))?;
            return Ok(Exit::Done);
        }
        match &host {
            Some((address, told)) => {
                out.line(format_args!(
                    "A Meeting Place is hosted at http://{address}/place/v1/"
                ))?;
                show::members("  ", told, &mut out)?;
            }
            None => {
                out.line("No Meeting Place is hosted at the moment.")?;
                for address in &servers {
                    out.line(format_args!("  The server at {address} runs without one."))?;
                }
                out.note(format_args!(
                    "{SETTING} is {setting}. Host one with:  kairos-chain place start"
                ))?;
            }
        }
        Ok(Exit::Done)
    })
}
