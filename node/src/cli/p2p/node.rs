//! The way from a command to the libp2p node of the server beside it.
//!
//! Only the server has a node: two with one key would be in each other's way. What a command wants of it goes through the
//! server, with a token that is made at the first use and taken back at the end.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use kairos_actors::auth::AuthHandle;
use kairos_actors::discovery::{Address, PeerName, Way};
use kairos_actors::meeting::client::{Carried, Carrier, PeerUrl};
use kairos_protocol::id::AgentId;
use kairos_protocol::record::Record;
use kairos_protocol::time::Clock;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::agent::Agent;
use crate::beside::{self, Key};
use crate::cli::token::LOCAL;
use crate::data_dir::DataDir;
use crate::p2p::Order;
use crate::serving::ServerAt;

/// How long the token of a command is good, if the command is killed before it takes it back.
const TOKEN_LIFE: Duration = Duration::from_secs(10 * 60);
/// How long the server may take: it waits for a peer.
const PATIENCE: Duration = Duration::from_secs(150);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(in crate::cli) struct BesideNode(Arc<Inner>);

struct Inner {
    dir: DataDir,
    auth: AuthHandle,
    clock: Arc<dyn Clock>,
    /// Made at the first use. Held while a question is asked: a command asks one at a time.
    opened: Mutex<Option<(Key, ServerAt)>>,
}

impl BesideNode {
    pub(in crate::cli) fn new(agent: &Agent) -> Self {
        Self(Arc::new(Inner {
            dir: agent.data_dir.clone(),
            auth: agent.handles.auth.clone(),
            clock: Arc::clone(&agent.clock),
            opened: Mutex::new(None),
        }))
    }

    /// Has the server carry out an order.
    pub(in crate::cli) async fn order(&self, order: &Order) -> anyhow::Result<Value> {
        let body = json!(order);
        let mut opened = self.0.opened.lock().await;
        let (key, at) = match &mut *opened {
            Some(opened) => opened,
            none => {
                let servers = beside::servers(&self.0.dir).await?;
                let Some(at) = servers.into_iter().next() else {
                    bail!(
                        "no server of this agent runs; start one with a libp2p node: kairos-chain serve --p2p"
                    );
                };
                let key = Key::make(&self.0.auth, LOCAL.parse()?, TOKEN_LIFE).await?;
                none.insert((key, at))
            }
        };
        let path = "/api/v1/p2p".to_owned();
        key.ask(at, PATIENCE, "POST", path, Some(body)).await
    }

    /// Takes the token back.
    pub(in crate::cli) async fn close(&self) -> anyhow::Result<()> {
        match self.0.opened.lock().await.take() {
            Some((key, _)) => key.discard(&self.0.auth).await,
            None => Ok(()),
        }
    }

    /// Where to meet `whom`. An agent whose id is known is looked for in the network; where there is no node, or nobody
    /// finds it, it is met where it was met before.
    pub(in crate::cli) async fn resolve(
        &self,
        agent: &Agent,
        whom: &Whom,
    ) -> anyhow::Result<PeerUrl> {
        let id = match whom {
            Whom::Url(url) => return Ok(url.clone()),
            Whom::Address(address) => {
                let address = address.to_string();
                let told = self.order(&Order::Dial { address }).await?;
                return Ok(PeerUrl::of_node(peer(&told)?));
            }
            Whom::Agent(id) => id,
        };
        let found = self.order(&Order::Find { agent: id.clone() }).await;
        if let Ok(told) = &found
            && let Some(found) = told.get("found").filter(|found| !found.is_null())
        {
            return Ok(PeerUrl::of_node(peer(found)?));
        }
        let known = agent.handles.peers.find(id.as_str()).await?;
        if let Some(url) = known.and_then(|known| known.url?.parse().ok()) {
            return Ok(url);
        }
        found?;
        bail!("{id} is not found: nobody here or in the network knows of it, and it was never met")
    }
}

fn peer(told: &Value) -> anyhow::Result<PeerName> {
    let peer = told.get("peer").and_then(Value::as_str);
    Ok(peer.context("the server names no node")?.parse()?)
}

fn way(told: &Value) -> Way {
    match told.get("way").and_then(Value::as_str) {
        Some("relayed") => Way::Relayed,
        _ => Way::Direct,
    }
}

fn bytes(told: &Value, name: &str) -> anyhow::Result<Vec<u8>> {
    let text = told.get(name).and_then(Value::as_str);
    let text = text.ok_or_else(|| anyhow!("the server's answer has no {name}"))?;
    Ok(STANDARD.decode(text)?)
}

impl Carrier for BesideNode {
    fn carry(
        &self,
        peer: PeerName,
        message: Vec<u8>,
    ) -> BoxFuture<'static, Result<Carried, String>> {
        let node = self.clone();
        let order = Order::Carry {
            peer: peer.to_string(),
            message: STANDARD.encode(message),
        };
        Box::pin(async move {
            let told = node.order(&order).await;
            let carried = told.and_then(|told| {
                let (message, way) = (bytes(&told, "message")?, way(&told));
                Ok(Carried { message, way })
            });
            carried.map_err(|error| format!("{error:#}"))
        })
    }

    fn record(&self, peer: PeerName) -> BoxFuture<'static, Result<(Record, Way), String>> {
        let node = self.clone();
        let order = Order::Record {
            peer: peer.to_string(),
        };
        Box::pin(async move {
            let told = node.order(&order).await;
            let record = told.and_then(|told| {
                let record = Record::read(&bytes(&told, "record")?, node.0.clock.now())?;
                Ok((record, way(&told)))
            });
            record.map_err(|error| format!("{error:#}"))
        })
    }
}

/// Whom to meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Whom {
    /// The agent at a URL.
    Url(PeerUrl),
    /// The agent whose node is at an address.
    Address(Address),
    /// An agent, wherever it is.
    Agent(AgentId),
}

impl FromStr for Whom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            let address = text.parse().map(Self::Address);
            return address.map_err(|error: <Address as FromStr>::Err| error.to_string());
        }
        if text.contains([':', '/']) {
            let url = text.parse().map(Self::Url);
            return url.map_err(|error: <PeerUrl as FromStr>::Err| error.to_string());
        }
        let id = text.parse().map(Self::Agent);
        id.map_err(|error: <AgentId as FromStr>::Err| error.to_string())
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Agent(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_meet_is_a_url_an_address_or_an_id() {
        let kind = |text: &str| match text.parse::<Whom>() {
            Ok(Whom::Url(_)) => "url",
            Ok(Whom::Address(_)) => "address",
            Ok(Whom::Agent(_)) => "agent",
            Err(_) => "nothing",
        };
        let node = PeerUrl::of_node(PeerName::of_ed25519(&[0; 32]).unwrap());
        for (text, expected) in [
            ("http://localhost:8080", "url"),
            (node.to_string().as_str(), "url"),
            ("/ip4/127.0.0.1/tcp/4001", "address"),
            ("0123456789abcdef", "agent"),
            ("localhost:8080", "nothing"),
            ("/tmp/x", "nothing"),
            ("", "nothing"),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }
}
