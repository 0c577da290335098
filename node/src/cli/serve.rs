//! `serve`: let other agents meet this one.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::exit::Exit;
use super::{Session, Usage};
use crate::agent::Agent;
use crate::clock::{self, SystemClock};
use crate::config::Settings;
use crate::data_dir::{DataDir, DataDirError};
use crate::node::{Node, Operation, ShutdownReason};
use crate::reload::Load;
use crate::serving::{Listener, OwnerSocket, ServerAt, Sole};
use crate::telemetry::{self, Logs};
use crate::{config, crash, rlimits};

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

    /// Have a libp2p node too, to find others and be found without a server [default: the setting p2p.enabled, false]
    #[arg(long)]
    p2p: bool,

    /// Open no HTTP port: peers come through the libp2p node, and commands of the owner through a socket in the data
    /// directory [default: the setting http.enabled, true]
    #[arg(long, conflicts_with_all = ["host", "port", "place"])]
    no_http: bool,
}

impl ServeArgs {
    /// The settings that they are, in front of all others.
    fn overrides(&self) -> Vec<(String, String)> {
        let host = self.host.clone().map(|host| ("http.host".to_owned(), host));
        let port = self
            .port
            .map(|port| ("http.port".to_owned(), port.to_string()));
        let place = self
            .place
            .then(|| ("place.enabled".to_owned(), "true".to_owned()));
        let p2p = self
            .p2p
            .then(|| ("p2p.enabled".to_owned(), "true".to_owned()));
        let no_http = self
            .no_http
            .then(|| ("http.enabled".to_owned(), "false".to_owned()));
        let first = host.into_iter().chain(port);
        first.chain(place).chain(p2p).chain(no_http).collect()
    }
}

/// Serves until a signal arrives. A missing data directory is made with safe defaults.
pub fn run(args: &ServeArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let overrides = args.overrides();
    let data_dir = session.data_dir();
    if let Err(error @ DataDirError::NotADirectory(_)) = data_dir.clone().existing() {
        return Err(error.into());
    }
    // Before anything is written there.
    if session.settings(&overrides)?.storage.must_persist {
        data_dir.must_persist()?;
    }
    let data_dir = session.initialize()?;
    let settings = session.settings(&overrides)?;
    let logs = start_logs(&data_dir, &settings)?;
    // Whoever serves the directory already keeps its reports.
    let sole = Sole::of(&data_dir)?;
    crash::install(&data_dir);
    warn_of_little_memory();
    warn_of_wrong_time();
    let listener = open(&data_dir, &settings)?;
    let at = listener.at()?;
    let shown = &settings.metrics;
    let figures = shown.enabled.then(|| {
        let advice = "choose another for metrics.host and metrics.port";
        listen(&shown.host, shown.port, advice)
    });
    let figures = figures.transpose()?;
    let figures_at = figures.as_ref().map(TcpListener::local_addr).transpose()?;
    let operation = Operation {
        figures,
        logs,
        load: Some(load(session, overrides)),
    };
    let folder: PathBuf = data_dir.path().to_owned();
    let crashed = data_dir.clone();
    let out = &mut session.out;
    let reason = actix::System::new().block_on(async {
        let agent = Agent::open(data_dir.clone(), settings).await?;
        let id = agent.signed.instance_id.clone();
        let place = agent.settings.place.clone();
        let lives = agent.settings.membership.background;
        let handles = agent.handles.clone();
        let node = match Node::start(agent, listener, operation) {
            Ok(node) => node,
            Err(error) => {
                handles.shutdown().await;
                return Err(error);
            }
        };
        let _guard = node.guard(move |reason| end(&data_dir, reason))?;
        if lives {
            node.agent().handles.membership.live().await?;
        }
        out.note(format_args!("Agent {id} in {}", folder.display()))?;
        match &at {
            ServerAt::Port(address) => {
                out.note(format_args!("Listening on http://{address}"))?;
            }
            ServerAt::Socket(_) => {
                out.note(format_args!(
                    "Listening on {at}, for commands of the owner; there is no HTTP port"
                ))?;
            }
        }
        if let Some(address) = figures_at {
            out.note(format_args!("Figures at http://{address}/metrics"))?;
        }
        if place.enabled {
            out.note(format_args!(
                "Meeting Place '{}' at {}/place/v1/",
                place.name,
                at.url()
            ))?;
        }
        if let Some(discovery) = node.discovery() {
            let name = discovery.show().await?.status.peer;
            out.note(format_args!("libp2p node {name}"))?;
        }
        if let ServerAt::Port(address) = at
            && !address.ip().is_loopback()
        {
            out.note("Others can reach this address over plain HTTP; put TLS in front of it.")?;
        }
        anyhow::Ok(node.join().await)
    })?;
    if !matches!(reason, ShutdownReason::Signal(_)) {
        crash::report(&crashed, &reason.to_string())?;
    }
    drop(sole);
    out.note(format_args!("Stopped: {reason}"))?;
    Ok(match reason {
        ShutdownReason::Signal(_) => Exit::Done,
        ShutdownReason::Silent(_) | ShutdownReason::Server(_) => Exit::Failed,
    })
}

/// Begins to listen where the settings say, which must leave a way in.
fn open(data_dir: &DataDir, settings: &Settings) -> anyhow::Result<Listener> {
    let http = &settings.http;
    if http.enabled {
        let advice = "choose another with --host and --port";
        return Ok(Listener::Port(listen(&http.host, http.port, advice)?));
    }
    if !settings.p2p.enabled {
        let told = "without an HTTP port nobody comes but through a libp2p node; add --p2p";
        return Err(Usage(told.to_owned()).into());
    }
    if settings.place.enabled {
        let told =
            "agents come to a Meeting Place through an HTTP port; place.enabled needs http.enabled";
        return Err(Usage(told.to_owned()).into());
    }
    let socket = OwnerSocket::of(data_dir);
    let socket = socket.context("the socket for commands of the owner cannot be made")?;
    Ok(Listener::Owner(socket))
}

fn start_logs(data_dir: &DataDir, settings: &Settings) -> anyhow::Result<Logs> {
    let log = &settings.log;
    let file = telemetry::file(data_dir.path(), &log.file);
    let shown = file.clone().unwrap_or_default();
    telemetry::start_with(&log.level, log.format, file.as_deref())
        .with_context(|| format!("cannot open the file of logs {}", shown.display()))
}

/// Reads the settings as they were read for this process.
fn load(session: &Session, overrides: Vec<(String, String)>) -> Load {
    let path = session.data_dir().path().to_owned();
    let mut all = session.overrides.clone();
    all.extend(overrides);
    Arc::new(move || {
        let loaded = config::load(&path, Session::environment(), &all);
        loaded.map(|loaded| loaded.settings)
    })
}

/// Ends a process in which nothing can be waited for any more. Whatever was acknowledged is on disk.
fn end(data_dir: &DataDir, reason: &'static str) {
    tracing::error!(
        reason,
        "the node is stuck and ends as it is; start it again"
    );
    if let Err(error) = crash::report(data_dir, reason) {
        tracing::error!(%error, "a report of it could not be written");
    }
    std::process::exit(STUCK);
}

/// How a process ends that was stuck; the same as where a part of the node stopped answering.
const STUCK: i32 = 1;

fn warn_of_little_memory() {
    if let Some(memory) = rlimits::memory().filter(|memory| *memory < rlimits::MEMORY_LOW) {
        tracing::warn!(
            memory,
            enough = rlimits::MEMORY_LOW,
            "the control group gives this process little memory; the system may end it"
        );
    }
}

fn warn_of_wrong_time() {
    if !SystemClock::shift().is_zero() {
        tracing::warn!(
            shift = %SystemClock::shift(),
            "{} is set: this node believes in a wrong time, and its records will tell it", clock::SHIFT
        );
    }
}

fn listen(host: &str, port: u16, advice: &str) -> anyhow::Result<TcpListener> {
    let told = || format!("cannot listen on {host}:{port}; {advice}");
    TcpListener::bind((host, port)).with_context(told)
}
