//! `health`: whether a server is ready, for containers and supervisors.

use std::net::ToSocketAddrs as _;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use url::Url;

use super::exit::Exit;
use super::out::{Out, Tone};
use super::{Session, Usage};
use crate::config::Period;
use crate::local::Ask;
use crate::serving::{self, ServerAt};

/// What to ask.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 if the server is ready and with 1 if it is not, or does not answer in time."
)]
pub struct HealthArgs {
    /// Where the server is, such as http://127.0.0.1:8080 [default: the one that runs on the data directory]
    url: Option<Url>,

    /// Ask only whether the process lives
    #[arg(long)]
    live: bool,

    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "3s")]
    timeout: Period,
}

/// Asks, and tells what is not ready.
///
/// # Errors
///
/// No server is known, or it does not answer.
pub fn run(args: &HealthArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let addresses = match &args.url {
        Some(url) => addresses(url)?,
        None => running(session)?,
    };
    let path = if args.live { "/health" } else { "/ready" };
    let ask = Ask::get(path, args.timeout.get());
    let (address, status, told) = first(&ask, &addresses)?;
    let ready = status == 200;
    let out = &mut session.out;
    if out.wants_json() {
        out.json(&json!({"address": address.to_string(), "ready": ready, "answer": told}))?;
    } else {
        tell(&address, ready, &told, out)?;
    }
    Ok(if ready { Exit::Done } else { Exit::Failed })
}

fn first(ask: &Ask, addresses: &[ServerAt]) -> anyhow::Result<(ServerAt, u16, Value)> {
    let mut failure = None;
    for address in addresses {
        match ask.send(address) {
            Ok((status, told)) => return Ok((address.clone(), status, told)),
            Err(error) => failure = Some((address, error)),
        }
    }
    match failure {
        Some((address, error)) => {
            Err(error).with_context(|| format!("the server at {address} does not answer"))
        }
        None => bail!("no server is known; name one, such as http://127.0.0.1:8080"),
    }
}

/// Where `url` leads; names may have several addresses.
fn addresses(url: &Url) -> anyhow::Result<Vec<ServerAt>> {
    if url.scheme() != "http" {
        let told =
            "the server is asked over plain http, on this machine; write http://ADDRESS:PORT";
        return Err(Usage(told.to_owned()).into());
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(80);
    let found = (host, port).to_socket_addrs();
    let found = found.with_context(|| format!("the name {host} has no address"))?;
    Ok(found.map(ServerAt::Port).collect())
}

/// The server of this data directory, else the one that the settings name.
fn running(session: &Session) -> anyhow::Result<Vec<ServerAt>> {
    let dir = session.data_dir();
    let servers = serving::servers(&dir).unwrap_or_default();
    if !servers.is_empty() {
        return Ok(servers);
    }
    let http = session.settings(&[])?.http;
    if !http.enabled {
        bail!("no server of this agent runs");
    }
    let host = match http.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let found = (host, http.port).to_socket_addrs();
    let found = found.with_context(|| format!("the name {host} has no address"))?;
    Ok(found.map(ServerAt::Port).collect())
}

fn tell(at: &ServerAt, ready: bool, told: &Value, out: &mut Out) -> std::io::Result<()> {
    let word = match ready {
        true => out.paint(Tone::Good, "ready"),
        false => out.paint(Tone::Bad, "not ready"),
    };
    out.line(format_args!("{at}: {word}"))?;
    let wrong = told.get("not_ready").and_then(Value::as_array);
    for part in wrong.into_iter().flatten() {
        let text = |member: &str| part.get(member).and_then(Value::as_str).unwrap_or_default();
        out.line(format_args!("  {}: {}", text("part"), text("reason")))?;
    }
    Ok(())
}
