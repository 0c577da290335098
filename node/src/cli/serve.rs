//! `serve`: let other agents meet this one.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Context as _;

use super::Session;
use super::exit::Exit;
use crate::agent::Agent;
use crate::clock::{self, SystemClock};
use crate::node::{Node, ShutdownReason};
use crate::telemetry;

/// Where to listen.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on [default: the setting http.host, 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,

    /// Port to listen on; 0 takes a free one [default: the setting http.port, 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Host a Meeting Place too [default: the setting place.enabled, false]
    #[arg(long)]
    place: bool,
}

/// Serves until a signal arrives. A missing data directory is made with safe defaults.
pub fn run(args: &ServeArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let mut overrides = Vec::new();
    overrides.extend(args.host.clone().map(|host| ("http.host".to_owned(), host)));
    overrides.extend(
        args.port
            .map(|port| ("http.port".to_owned(), port.to_string())),
    );
    if args.place {
        overrides.push(("place.enabled".to_owned(), "true".to_owned()));
    }
    let data_dir = session.data_dir();
    // Before anything is written there.
    if session.settings(&overrides)?.storage.must_persist {
        data_dir.must_persist()?;
    }
    let data_dir = session.initialize()?;
    let settings = session.settings(&overrides)?;
    telemetry::start(&settings.log.level, settings.log.format);
    if !SystemClock::shift().is_zero() {
        tracing::warn!(
            shift = %SystemClock::shift(),
            "{} is set: this node believes in a wrong time, and its records will tell it", clock::SHIFT
        );
    }
    let http = &settings.http;
    let listener = TcpListener::bind((http.host.as_str(), http.port)).with_context(|| {
        format!(
            "cannot listen on {}:{}; choose another with --host and --port",
            http.host, http.port
        )
    })?;
    let address = listener.local_addr()?;
    let folder: PathBuf = data_dir.path().to_owned();
    let out = &mut session.out;
    let reason = actix::System::new().block_on(async {
        let agent = Agent::open(data_dir, settings).await?;
        let id = agent.signed.instance_id.clone();
        let place = agent.settings.place.clone();
        let lives = agent.settings.membership.background;
        let node = Node::start(agent, listener)?;
        if lives {
            node.agent().handles.membership.live().await?;
        }
        out.note(format_args!("Agent {id} in {}", folder.display()))?;
        out.note(format_args!("Listening on http://{address}"))?;
        if place.enabled {
            out.note(format_args!(
                "Meeting Place '{}' at http://{address}/place/v1/",
                place.name
            ))?;
        }
        if !address.ip().is_loopback() {
            out.note("Others can reach this address over plain HTTP; put TLS in front of it.")?;
        }
        anyhow::Ok(node.join().await)
    })?;
    out.note(format_args!("Stopped: {reason}"))?;
    Ok(match reason {
        ShutdownReason::Signal(_) => Exit::Done,
        ShutdownReason::Silent(_) | ShutdownReason::Server(_) => Exit::Failed,
    })
}
