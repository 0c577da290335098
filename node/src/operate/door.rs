//! The way to the Place: through the server that hosts it, or to what is stored.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use kairos_place::token::UserName;
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use super::Order;
use crate::agent::Agent;
use crate::beside;
use crate::hosted::Opened;
use crate::serving::ServerAt;

/// How long a token for one command is good, if the command is killed before it takes it back. A command that waits for
/// requests to end may take longer than that, and has been let in by then.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// How long a server may take for an answer, beyond what it waits for requests under way.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which of both it was.
#[derive(Debug, Clone)]
pub enum Door {
    /// The server that hosts the Place.
    Server(ServerAt),
    /// What is stored, since no server hosts it.
    Stored,
}

impl Door {
    /// As it is told to programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Server(_) => "server",
            Self::Stored => "stored",
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(address) => write!(f, "At the running server, {address}."),
            Self::Stored => f.write_str("On the stored Place; no server hosts it at the moment."),
        }
    }
}

/// A server of this data directory, and a token that opens it for this command.
pub(super) struct Key(beside::Key);

impl Key {
    /// Makes one; [`discard`](Self::discard) takes it back.
    pub(super) async fn make(agent: &Agent, by: &UserName) -> anyhow::Result<Self> {
        let key = beside::Key::make(&agent.handles.auth, by.clone(), TOKEN_LIFE);
        Ok(Self(key.await?))
    }

    pub(super) async fn discard(self, agent: &Agent) -> anyhow::Result<()> {
        self.0.discard(&agent.handles.auth).await
    }

    /// Asks a server, whose refusal is an error.
    pub(super) async fn ask(
        &self,
        agent: &Agent,
        at: &ServerAt,
        method: &'static str,
        path: String,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let patience = PATIENCE + agent.settings.http.shutdown_timeout.get();
        self.0.ask(at, patience, method, path, body).await
    }

    /// The server that hosts the Place, if one does.
    pub(super) async fn host(
        &self,
        agent: &Agent,
        servers: &[ServerAt],
    ) -> anyhow::Result<Option<(ServerAt, Value)>> {
        for address in servers {
            let path = "/api/v1/place".to_owned();
            let told = self.ask(agent, address, "GET", path, None).await?;
            if told.get("hosted") == Some(&Value::Bool(true)) {
                return Ok(Some((address.clone(), told)));
            }
        }
        Ok(None)
    }
}

/// Servers of this data directory that run.
pub(super) async fn servers(agent: &Agent) -> anyhow::Result<Vec<ServerAt>> {
    beside::servers(&agent.data_dir).await
}

/// Carries out `order` for `by` where the Place is.
pub async fn carry_out(
    agent: &Arc<Agent>,
    order: Order,
    by: &UserName,
) -> anyhow::Result<(Door, Value)> {
    let servers = servers(agent).await?;
    if !servers.is_empty() {
        let key = Key::make(agent, by).await?;
        let done = at_server(agent, &key, &servers, &order).await;
        key.discard(agent).await?;
        if let Some((address, told)) = done? {
            return Ok((Door::Server(address), told));
        }
    }
    Ok((Door::Stored, on_stored(agent, order, by).await?))
}

async fn at_server(
    agent: &Agent,
    key: &Key,
    servers: &[ServerAt],
    order: &Order,
) -> anyhow::Result<Option<(ServerAt, Value)>> {
    let Some((address, _)) = key.host(agent, servers).await? else {
        return Ok(None);
    };
    let (method, path, body) = request(order);
    let told = key.ask(agent, &address, method, path, body).await?;
    Ok(Some((address, told)))
}

async fn on_stored(agent: &Arc<Agent>, order: Order, by: &UserName) -> anyhow::Result<Value> {
    let stored = agent.data_dir.storage().join("place").join("place.db");
    let is_there = tokio::fs::try_exists(&stored).await?;
    // Somebody may be kept out before anybody was let in.
    if !is_there && !matches!(order, Order::Ban { .. }) {
        bail!("no Meeting Place was hosted here yet; host one with: kairos-chain place start");
    }
    let opening = Arc::clone(agent);
    let opened = tokio::task::spawn_blocking(move || Opened::open(&opening)).await??;
    let hosted = opened.start(agent);
    let now = agent.clock.now();
    let done = super::carry_out(order, &hosted, None, by.as_str(), now).await;
    hosted.shutdown().await;
    Ok(done?)
}

/// An order as the routes below `/api/v1/place` take it.
fn request(order: &Order) -> (&'static str, String, Option<Value>) {
    let get = |path: &str, query: &[(&str, Option<String>)]| {
        let told = query.iter().filter_map(|(name, value)| {
            let value: String = byte_serialize(value.as_ref()?.as_bytes()).collect();
            Some(format!("{name}={value}"))
        });
        let told: Vec<String> = told.collect();
        let mark = if told.is_empty() { "" } else { "?" };
        let path = format!("/api/v1/place{path}{mark}{}", told.join("&"));
        ("GET", path, None)
    };
    let post = |path: &str, body: Value| ("POST", format!("/api/v1/place{path}"), Some(body));
    let number = |number: usize| Some(number.to_string());
    match order {
        Order::Status => get("", &[]),
        Order::Agents { after, limit } => {
            let after = after.as_ref().map(ToString::to_string);
            get("/agents", &[("after", after), ("limit", number(*limit))])
        }
        Order::Kick { agent, reason } => post("/kick", json!({"agent": agent, "reason": reason})),
        Order::Ban {
            target,
            reason,
            time,
        } => {
            let seconds = time.map(|time| time.as_secs());
            post(
                "/bans",
                json!({"target": target, "reason": reason, "seconds": seconds}),
            )
        }
        Order::Unban { target } => post("/unban", json!({"target": target})),
        Order::Bans { after, limit } => {
            let after = after.as_ref().map(ToString::to_string);
            get("/bans", &[("after", after), ("limit", number(*limit))])
        }
        Order::Audit {
            before,
            limit,
            kind,
            since,
        } => {
            let query = [
                ("before", before.map(|before| before.to_string())),
                ("limit", number(*limit)),
                ("type", kind.clone()),
                ("since", since.map(|since| since.block())),
            ];
            get("/audit", &query)
        }
        Order::Stats => get("/stats", &[]),
        Order::Federation(order) => post("/federation", json!(order)),
    }
}
