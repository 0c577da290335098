//! `place start`, `stop` and `status`: what throwing the switch did, for people and programs.

use serde_json::{Value, json};

use super::super::super::Session;
use super::super::super::exit::Exit;
use super::show;
use crate::cli::token::LOCAL;
use crate::config::{Layer, Source};
use crate::operate::switch::{self, Followed, SETTING};

/// Runs `place start` or `place stop`.
pub(super) fn run(on: bool, session: &mut Session) -> anyhow::Result<Exit> {
    let source = session.loaded(&[])?.sources.get(SETTING).cloned();
    session.with_agent(|agent, mut out| async move {
        let switched = switch::throw(&agent, on, &LOCAL.parse()?).await?;
        let (file, server) = (switched.file, switched.server);
        if out.wants_json() {
            out.json(&json!({
                "setting": on, "file": file, "server": server.as_ref().map(|server| &server.address),
                "changed": server.as_ref().is_some_and(|server| server.changed),
                "via": if server.is_some() { "server" } else { "stored" },
            }))?;
        } else {
            out.line(format_args!("{SETTING} is {on} in {}", file.display()))?;
            match (server, on) {
                (Some(Followed { address, changed }), true) => {
                    let when = if changed { "now" } else { "already" };
                    out.line(format_args!(
                        "The server at {address} hosts the Meeting Place {when}."
                    ))?;
                }
                (Some(Followed { address, .. }), false) => {
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

/// Runs `place status`.
pub(super) fn status(session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let standing = switch::standing(&agent, &LOCAL.parse()?).await?;
        let setting = agent.settings.place.enabled;
        if out.wants_json() {
            let (address, told) = match standing.host {
                Some((address, told)) => (Some(address), told),
                None => (None, Value::Null),
            };
            out.json(&json!({
                "hosted": address.is_some(), "server": address, "place": told, "setting": setting,
                "servers": standing.servers,
            }))?;
            return Ok(Exit::Done);
        }
        match &standing.host {
            Some((address, told)) => {
                out.line(format_args!(
                    "A Meeting Place is hosted at http://{address}/place/v1/"
                ))?;
                show::members("  ", told, &mut out)?;
            }
            None => {
                out.line("No Meeting Place is hosted at the moment.")?;
                for address in &standing.servers {
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
