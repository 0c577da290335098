//! The running node: an agent, its HTTP server and its watchdog. Three verbs: start, join, shut down.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use kairos_actors::HealthCheck;
use kairos_place::allowance::AddressAllowance;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::config;
use crate::hosted::Hosted;
use crate::hosting::Hosting;
use crate::http::{
    self, BodyLimits, Doors, Keys, LISTENERS_PER_AGENT_MAX, Listings, Mcp, McpLimits, Provenances,
    Proxies, Quotas, ServerLimits, TRANSFERS_MAX, TRANSFERS_PER_AGENT_MAX, Transfers,
};
use crate::mcp::AgentDoor;
use crate::serving::Serving;
use crate::watchdog::{self, Readiness};
use kairos_place::session::Strength;

/// What a request may hold beside a sealed message.
const RELAY_ENVELOPE_MAX: usize = 16 * 1024;
/// Bytes of a body with an archive beside it.
const ARCHIVE_MEMBERS_MAX: usize = 512 * 1024;

/// The part of the node that may or may not be there.
pub(crate) const PLACE: &str = "place";

/// A node that answers requests.
pub struct Node {
    agent: Arc<Agent>,
    hosting: Hosting,
    /// Tells commands where this server is.
    serving: Serving,
    handle: ServerHandle,
    /// Ends what language models have open.
    models: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    watchdog: JoinHandle<&'static str>,
}

/// Why a node stopped.
#[derive(Debug)]
pub enum ShutdownReason {
    /// It was told to, by the named signal.
    Signal(&'static str),
    /// A part of it did not answer any more.
    Silent(&'static str),
    /// The server ended by itself.
    Server(String),
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => write!(f, "received {name}"),
            Self::Silent(part) => write!(
                f,
                "the part `{part}` stopped answering; start the node again"
            ),
            Self::Server(cause) => write!(f, "the HTTP server ended: {cause}"),
        }
    }
}

impl Node {
    /// Starts to answer on `listener`. Must run inside an actix system.
    pub fn start(agent: Agent, listener: TcpListener) -> anyhow::Result<Self> {
        let agent = Arc::new(agent);
        let hosting = Hosting::new(Arc::clone(&agent));
        if agent.settings.place.enabled {
            hosting.begin()?;
        }
        let mut asks = agent.handles.health();
        let place = hosting.clone();
        let place: HealthCheck = Box::new(move || {
            let place = place.clone();
            Box::pin(async move { place.is_well().await })
        });
        asks.push((PLACE, place));
        let readiness = Readiness::new(asks.iter().map(|(name, _)| *name));
        let serving = Serving::announce(&agent.data_dir, listener.local_addr()?)?;
        let settings = &agent.settings;
        let limits = ServerLimits {
            workers: settings.http.workers,
            max_connections: settings.http.max_connections,
            head_timeout: settings.http.head_timeout.get(),
            keep_alive: settings.http.keep_alive.get(),
            shutdown_timeout: settings.http.shutdown_timeout.get(),
        };
        let models = CancellationToken::new();
        let mcp = match settings.mcp.http {
            true => Some(mcp(&agent, models.clone())?),
            false => None,
        };
        let server = http::serve(
            listener,
            doors(&agent, hosting.clone(), readiness.clone()),
            mcp,
            limits,
        )?;
        let handle = server.handle();
        Ok(Self {
            agent,
            hosting,
            serving,
            handle,
            models,
            server: actix::spawn(server),
            watchdog: actix::spawn(watchdog::watch(asks, readiness)),
        })
    }

    /// The agent it serves.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The Meeting Place, if it hosts one.
    pub fn hosted(&self) -> Option<Arc<Hosted>> {
        self.hosting.current()
    }

    /// Runs until a signal arrives or a part fails, then shuts down in order.
    pub async fn join(mut self) -> ShutdownReason {
        let reason = tokio::select! {
            name = stop_signal() => ShutdownReason::Signal(name),
            part = &mut self.watchdog => match part {
                Ok(part) => ShutdownReason::Silent(part),
                Err(_) => ShutdownReason::Silent("watchdog"),
            },
            ended = &mut self.server => ShutdownReason::Server(match ended {
                Ok(Ok(())) => "it was stopped".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic.to_string(),
            }),
        };
        tracing::info!(%reason, "shutting down");
        self.shutdown().await;
        reason
    }

    /// Takes no more requests, lets those under way end, then stops the actors, the ledger last.
    pub async fn shutdown(self) {
        self.watchdog.abort();
        drop(self.serving);
        self.hosting.hang_up();
        self.models.cancel();
        self.handle.stop(true).await;
        if let Err(error) = self.agent.handles.state.end_session().await {
            tracing::error!(%error, "the state was not committed at the end of the session");
        }
        self.hosting.stop().await;
        self.agent.close().await;
    }
}

/// Serves language models over HTTP, too.
fn mcp(agent: &Arc<Agent>, stop: CancellationToken) -> anyhow::Result<Mcp> {
    let settings = &agent.settings;
    let limits = McpLimits {
        body: BodyLimits {
            bytes: settings.limits.body.as_usize(),
            time: settings.limits.body_timeout.get(),
        },
        sessions: settings.mcp.sessions,
        idle: settings.mcp.session_idle.get(),
    };
    Ok(Mcp::new(AgentDoor::new(Arc::clone(agent))?, limits, stop))
}

fn doors(agent: &Agent, hosting: Hosting, readiness: Readiness) -> Doors {
    let settings = &agent.settings;
    let handles = &agent.handles;
    Doors {
        peers: handles.peers.clone(),
        knowledge: handles.knowledge.clone(),
        skill_sets: handles.skill_sets.clone(),
        meeting: handles.meeting.clone(),
        tlog: handles.tlog.clone(),
        witness: handles.witness.clone(),
        auth: handles.auth.clone(),
        approvals: handles.approvals.clone(),
        keys: Keys::default(),
        listings: Listings::new(
            agent.signed.clone(),
            agent.policy(),
            handles.knowledge.clone(),
            handles.skill_sets.clone(),
            handles.tlog.clone(),
            settings.meeting.rescan.get(),
            settings.meeting.skillset_exchange,
        ),
        provenances: Provenances::new(
            agent.signed.instance_id.clone(),
            agent.keypair.clone(),
            agent.clock.clone(),
            handles.knowledge.clone(),
        ),
        allowance: Mutex::new(AddressAllowance::new(settings.limits.requests_per_address)),
        failed_tokens: Mutex::new(AddressAllowance::new(settings.limits.bad_tokens)),
        quotas: Quotas::new(&settings.place),
        proxies: Proxies::new(
            settings.http.trusted_proxies.clone(),
            settings.http.proxy_header,
        ),
        names: settings.http.names.clone(),
        api_to_others: settings.http.api_to_others,
        signed: agent.signed.clone(),
        keypair: agent.keypair.clone(),
        clock: agent.clock.clone(),
        meeting_enabled: settings.meeting.enabled,
        hosting,
        place_write_strength: strength(settings.place.write),
        requests_per_minute: settings.limits.requests_per_session,
        skill_set_exchange: settings.meeting.skillset_exchange,
        read_strength: strength(settings.sessions.read),
        message_strength: strength(settings.sessions.message),
        proof_window: settings.sessions.proof_window.get(),
        body_limits: BodyLimits {
            bytes: settings.limits.body.as_usize(),
            time: settings.limits.body_timeout.get(),
        },
        relay_body_limits: BodyLimits {
            bytes: settings.place.message.as_usize() + RELAY_ENVELOPE_MAX,
            time: settings.limits.body_timeout.get(),
        },
        archive_body_limits: BodyLimits {
            bytes: archive_body(settings.limits.archive_compressed.as_usize()),
            time: settings.limits.body_timeout.get(),
        },
        transfers: Arc::new(Transfers::new(TRANSFERS_MAX, TRANSFERS_PER_AGENT_MAX)),
        // Connections must be left for those who come with a request.
        listeners: Arc::new(Transfers::new(
            settings
                .place
                .listeners
                .min(settings.http.max_connections / 4),
            LISTENERS_PER_AGENT_MAX,
        )),
        readiness,
    }
}

/// A body with an archive of `bytes` in base64, as the reference bounds it, and a long list of files beside it.
fn archive_body(bytes: usize) -> usize {
    bytes.saturating_mul(7) / 5 + ARCHIVE_MEMBERS_MAX
}

fn strength(setting: config::Strength) -> Strength {
    match setting {
        config::Strength::Introduced => Strength::Introduced,
        config::Strength::Proven => Strength::Proven,
    }
}

/// Waits for SIGTERM or SIGINT. A process that cannot listen for them can still be killed.
pub(crate) async fn stop_signal() -> &'static str {
    let wait = |kind, name| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
                name
            }
            Err(error) => {
                tracing::error!(%error, signal = name, "cannot listen for a signal");
                std::future::pending().await
            }
        }
    };
    tokio::select! {
        name = wait(SignalKind::terminate(), "SIGTERM") => name,
        name = wait(SignalKind::interrupt(), "SIGINT") => name,
    }
}
