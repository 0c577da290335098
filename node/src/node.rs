//! The running node: an agent, its HTTP server and its watchdog. Three verbs: start, join, shut down.

use std::cell::OnceCell;
use std::fmt;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use anyhow::Context as _;
use kairos_actors::HealthCheck;
use kairos_actors::discovery::DiscoveryHandle;
use kairos_actors::trace::{Exporter, Teller, TracePolicy};
use kairos_place::allowance::AddressAllowance;
use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::config::{self, Settings};
use crate::hosted::Hosted;
use crate::hosting::Hosting;
use crate::http::{
    self, BodyLimits, Doors, Keys, LISTENERS_PER_AGENT_MAX, Listings, Mcp, McpLimits, Provenances,
    Proxies, Quotas, ServerLimits, TRANSFERS_MAX, TRANSFERS_PER_AGENT_MAX, Transfers,
};
use crate::mcp::AgentDoor;
use crate::mcp::server::Door;
use crate::metrics::Metrics;
use crate::p2p;
use crate::reload::{Load, Reload};
use crate::rlimits;
use crate::room::Room;
use crate::serving::{Listener, Serving};
use crate::status::Status;
use crate::telemetry::Logs;
use crate::watchdog::{self, Guard, GuardLimits, Readiness};
use kairos_place::session::Strength;

/// What a request may hold beside a sealed message.
const RELAY_ENVELOPE_MAX: usize = 16 * 1024;
/// Bytes of a body with an archive beside it.
const ARCHIVE_MEMBERS_MAX: usize = 512 * 1024;

/// The part of the node that may or may not be there.
pub(crate) const PLACE: &str = "place";
/// The libp2p node, where there is one.
const DISCOVERY: &str = "discovery";

/// How long the parts of a node may take to stop, all together, after its requests have ended.
const STOP_MAX: Duration = Duration::from_secs(30);

/// What a node has that somebody operates.
#[derive(Default)]
pub struct Operation {
    /// Where figures are shown, if that is wanted.
    pub figures: Option<TcpListener>,
    /// Its logs.
    pub logs: Logs,
    /// How settings are read anew.
    pub load: Option<Load>,
}

/// A node that answers requests.
pub struct Node {
    agent: Arc<Agent>,
    hosting: Hosting,
    /// Reaches the libp2p node, if there is one.
    discovery: Option<DiscoveryHandle>,
    /// Tells commands where this server is.
    serving: Serving,
    handle: ServerHandle,
    /// Ends what language models have open.
    models: CancellationToken,
    /// Shows figures, where that is wanted.
    figures: Option<ServerHandle>,
    server: JoinHandle<std::io::Result<()>>,
    readiness: Readiness,
    watchdog: JoinHandle<&'static str>,
    /// Looks at the disk.
    room: JoinHandle<()>,
    reload: Reload,
    /// Tells traces, where that is wanted.
    traces: Option<Exporter>,
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
    pub fn start(
        agent: Agent,
        listener: impl Into<Listener>,
        operation: Operation,
    ) -> anyhow::Result<Self> {
        Self::start_with(agent, listener, operation, AgentDoor::new)
    }

    /// As [`start`](Self::start), with `door` for language models, behind all that guards ours.
    pub fn start_with<D: Door>(
        agent: Agent,
        listener: impl Into<Listener>,
        operation: Operation,
        door: impl FnOnce(Arc<Agent>, Room) -> anyhow::Result<Arc<D>>,
    ) -> anyhow::Result<Self> {
        let Operation {
            figures,
            logs,
            load,
        } = operation;
        let (agent, listener) = (Arc::new(agent), listener.into());
        let at = listener.at()?;
        let traces = follow(&agent)?;
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
        let discovery: Rc<OnceCell<DiscoveryHandle>> = Rc::default();
        if agent.settings.p2p.enabled {
            let node = Rc::clone(&discovery);
            let well: HealthCheck = Box::new(move || {
                let node = node.get().cloned();
                Box::pin(async move {
                    match node {
                        Some(node) => node.health().await.is_ok(),
                        // It is about to start.
                        None => true,
                    }
                })
            });
            asks.push((DISCOVERY, well));
        }
        let readiness = Readiness::new(asks.iter().map(|(name, _)| *name));
        let reserve = agent.settings.limits.disk_reserve.get();
        let room = Room::new(agent.data_dir.path(), reserve);
        let metrics = Metrics::new(
            Arc::clone(&agent),
            hosting.clone(),
            readiness.clone(),
            room.clone(),
        );
        let status = Status::new(
            Arc::clone(&agent),
            hosting.clone(),
            readiness.clone(),
            room.clone(),
            logs.clone(),
            at.clone(),
        );
        let figures = figures.map(|listener| {
            let names = agent.settings.http.names.clone();
            let server = http::metrics::serve(listener, metrics.clone(), names)?;
            let handle = server.handle();
            actix::spawn(server);
            std::io::Result::Ok(handle)
        });
        let figures = figures.transpose()?;
        let serving = Serving::announce(&agent.data_dir, &at)?;
        let settings = &agent.settings;
        let limits = ServerLimits {
            workers: settings.http.workers,
            max_connections: connections(settings.http.max_connections),
            head_timeout: settings.http.head_timeout.get(),
            keep_alive: settings.http.keep_alive.get(),
            shutdown_timeout: settings.http.shutdown_timeout.get(),
        };
        let parts = Parts {
            hosting: hosting.clone(),
            readiness: readiness.clone(),
            metrics,
            room: room.clone(),
            status,
        };
        let doors = Arc::new(doors(&agent, parts));
        if agent.settings.p2p.enabled {
            let say = p2p::say(Arc::clone(&doors), hosting.clone(), Arc::clone(&agent));
            let node = p2p::start(&agent, http::carried_door(Arc::clone(&doors)), say)?;
            agent.handles.carriage.begin(Arc::new(node.clone()));
            doors.metrics.show_node(node.clone());
            let told = (doors.discovery.set(node.clone()), discovery.set(node));
            // Both were empty, as they were made above.
            debug_assert!(matches!(told, (Ok(()), Ok(()))));
        }
        let reload = Reload {
            load,
            running: settings.clone(),
            folder: agent.data_dir.path().to_owned(),
            logs,
            doors: Arc::clone(&doors),
        };
        let models = CancellationToken::new();
        let mcp = match settings.mcp.http && matches!(listener, Listener::Port(_)) {
            true => {
                let door = door(Arc::clone(&agent), room.clone())?;
                Some(Mcp::new(door, mcp_limits(settings), models.clone()))
            }
            false => None,
        };
        let server = http::serve(listener, doors, mcp, limits)?;
        let handle = server.handle();
        Ok(Self {
            agent,
            hosting,
            discovery: discovery.get().cloned(),
            serving,
            handle,
            models,
            figures,
            server: actix::spawn(server),
            watchdog: actix::spawn(watchdog::watch(asks, readiness.clone())),
            readiness,
            room: actix::spawn(room.watch()),
            reload,
            traces,
        })
    }

    /// Has a thread of its own call `stuck` where this node does not run any more, see [`Guard`].
    ///
    /// # Errors
    ///
    /// There can be no such thread.
    pub fn guard(
        &self,
        stuck: impl FnOnce(&'static str) + Send + 'static,
    ) -> std::io::Result<Guard> {
        let settings = &self.agent.settings;
        let limits = GuardLimits {
            round: settings.limits.ask_patience.get(),
            stop: settings.http.shutdown_timeout.get() + STOP_MAX,
        };
        Guard::watch(self.readiness.clone(), limits, stuck)
    }

    /// The agent it serves.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The libp2p node, if it has one.
    pub fn discovery(&self) -> Option<&DiscoveryHandle> {
        self.discovery.as_ref()
    }

    /// The Meeting Place, if it hosts one.
    pub fn hosted(&self) -> Option<Arc<Hosted>> {
        self.hosting.current()
    }

    /// Runs until a signal arrives or a part fails, then shuts down in order.
    pub async fn join(mut self) -> ShutdownReason {
        let mut stop = std::pin::pin!(stop_signal());
        let mut hang_ups = hang_ups();
        let reason = loop {
            tokio::select! {
                name = &mut stop => break ShutdownReason::Signal(name),
                () = next(&mut hang_ups) => self.reload.run().await,
                part = &mut self.watchdog => break match part {
                    Ok(part) => ShutdownReason::Silent(part),
                    Err(_) => ShutdownReason::Silent("watchdog"),
                },
                ended = &mut self.server => break ShutdownReason::Server(match ended {
                    Ok(Ok(())) => "it was stopped".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Err(panic) => panic.to_string(),
                }),
            }
        };
        tracing::info!(%reason, "shutting down");
        // Requests have a deadline of their own; with what follows it is a bound for all of it.
        let deadline = self.agent.settings.http.shutdown_timeout.get() + STOP_MAX;
        if tokio::time::timeout(deadline, self.shutdown())
            .await
            .is_err()
        {
            // Whatever was acknowledged is on disk.
            tracing::error!(
                "the node did not stop in order within {deadline:?}, and ends as it is"
            );
        }
        reason
    }

    /// Takes no more requests, lets those under way end, then stops the actors, the ledger last.
    pub async fn shutdown(self) {
        self.readiness.stop();
        self.watchdog.abort();
        self.room.abort();
        drop(self.serving);
        self.hosting.hang_up();
        self.models.cancel();
        self.handle.stop(true).await;
        if let Some(node) = &self.discovery
            && let Err(error) = node.shutdown().await
        {
            tracing::warn!(%error, "the libp2p node did not stop in order");
        }
        if let Err(error) = self.agent.handles.state.end_session().await {
            tracing::error!(%error, "the state was not committed at the end of the session");
        }
        self.hosting.stop().await;
        self.agent.close().await;
        if let Some(figures) = self.figures {
            figures.stop(false).await;
        }
        if let Some(traces) = self.traces {
            traces.stop().await;
        }
    }
}

/// Begins to follow requests, where that is wanted.
fn follow(agent: &Agent) -> anyhow::Result<Option<Exporter>> {
    let traces = &agent.settings.traces;
    if !traces.enabled {
        return Ok(None);
    }
    let policy = TracePolicy {
        endpoint: traces.endpoint.clone(),
        percent: traces.percent,
        queue: traces.queue,
        interval: traces.interval.get(),
        timeout: traces.timeout.get(),
    };
    let teller = Teller {
        agent: agent.signed.instance_id.to_string(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let begun = agent.tracer.begin(policy, teller, agent.clock.clone());
    begun.context("there can be no thread for traces")
}

fn mcp_limits(settings: &Settings) -> McpLimits {
    McpLimits {
        body: BodyLimits {
            bytes: settings.limits.body.as_usize(),
            time: settings.limits.body_timeout.get(),
        },
        sessions: settings.mcp.sessions,
        idle: settings.mcp.session_idle.get(),
    }
}

/// What doors are made of beside the agent.
struct Parts {
    hosting: Hosting,
    readiness: Readiness,
    metrics: Metrics,
    room: Room,
    status: Status,
}

/// As many connections as `wanted`, or as there are descriptors for.
fn connections(wanted: usize) -> usize {
    let descriptors = rlimits::raise_descriptors();
    let given = rlimits::connections(wanted, descriptors);
    if given < wanted {
        tracing::warn!(
            connections = given,
            wanted,
            "there are too few descriptors for http.max_connections; raise the limit on open files (ulimit -n)"
        );
    }
    given
}

fn doors(agent: &Agent, parts: Parts) -> Doors {
    let Parts {
        hosting,
        readiness,
        metrics,
        room,
        status,
    } = parts;
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
            handles,
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
        tracer: agent.tracer.clone(),
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
        metrics,
        room,
        status,
        discovery: OnceLock::new(),
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

/// Listens for SIGHUP, which asks for the settings to be read again.
fn hang_ups() -> Option<Signal> {
    let listening = signal(SignalKind::hangup());
    listening
        .inspect_err(
            |error| tracing::error!(%error, signal = "SIGHUP", "cannot listen for a signal"),
        )
        .ok()
}

/// Waits for the next one.
async fn next(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => {
            signals.recv().await;
        }
        None => std::future::pending().await,
    }
}
