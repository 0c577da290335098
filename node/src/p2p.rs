//! The libp2p node of a server: how it is started from the settings, and what its owner may order.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_actors::discovery::{
    Address, DiscoveryActor, DiscoveryError, DiscoveryHandle, DiscoveryParts, Limits, MeetingDoor,
    PeerName, REDIAL,
};
use kairos_protocol::id::AgentId;
use kairos_protocol::package::SkillSetPackage;
use kairos_protocol::wire::carried::HEAD_MAX;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::identity::peer_key;

/// Starts the node of `agent`, whose meetings `door` answers. Blocks on the disk for a moment, so it belongs before
/// anything is served; must run inside an actix system.
pub fn start(agent: &Agent, door: MeetingDoor) -> anyhow::Result<DiscoveryHandle> {
    let settings = &agent.settings;
    let p2p = &settings.p2p;
    let package = SkillSetPackage::json_max(&agent.package_limits());
    let limits = Limits {
        incoming: p2p.connections,
        answer: usize::try_from(package)
            .unwrap_or(usize::MAX)
            .saturating_add(HEAD_MAX),
        ..Limits::default()
    };
    let parts = DiscoveryParts {
        keypair: Arc::clone(&agent.keypair),
        peer_key: peer_key::load_or_create(&agent.data_dir.keys())?,
        name: settings.identity.name.clone(),
        clock: Arc::clone(&agent.clock),
        scope: p2p.announce,
        listen: addresses(&p2p.listen)?,
        external: addresses(&p2p.external)?,
        bootstrap: addresses(&p2p.bootstrap)?,
        redial: REDIAL,
        mdns: p2p.mdns,
        relay: p2p.relay,
        in_memory: false,
        limits,
        door,
    };
    let (permits, patience) = (
        settings.limits.asks_in_flight,
        settings.limits.ask_patience.get(),
    );
    Ok(DiscoveryActor::start(parts, permits, patience)?)
}

fn addresses(texts: &[String]) -> anyhow::Result<Vec<Address>> {
    let read = texts.iter().map(|text| text.parse());
    Ok(read.collect::<Result<_, _>>()?)
}

/// What the owner orders, as commands send it to the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// How the node is.
    Status {},
    /// Who is connected.
    Peers {},
    /// Where an agent is.
    Find {
        /// Whom.
        agent: AgentId,
    },
    /// Opens a connection.
    Dial {
        /// Where.
        address: String,
    },
    /// Listens at one more address.
    Listen {
        /// Where.
        address: String,
    },
    /// Dials the peers to begin with, and looks around.
    Bootstrap {},
    /// Whose a node is.
    Record {
        /// Which.
        peer: String,
    },
    /// Takes a message of a meeting to a node, in base64, and brings its answer so.
    Carry {
        /// To whom.
        peer: String,
        /// What.
        message: String,
    },
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It went wrong.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
}

/// Carries out `order`.
pub async fn carry_out(order: Order, node: &DiscoveryHandle) -> Result<Value, OrderError> {
    Ok(match order {
        Order::Status {} => {
            let shown = node.show().await?;
            let status = shown.status;
            json!({
                "peer": status.peer.to_string(), "scope": shown.scope, "published": shown.published.as_str(),
                "sequence": shown.sequence, "expires_at": shown.expires_at.map(|at| at.wire()),
                "listen": texts(&status.listen), "external": texts(&status.external),
                "reach": status.reach, "peers": status.peers, "table": status.table,
                "records": status.records, "records_refused": status.records_refused,
                "requests_lost": status.requests_lost,
            })
        }
        Order::Peers {} => {
            let peers = node.peers().await?.into_iter().map(|neighbour| {
                let connection = neighbour.connection;
                let (agent, name) = neighbour.agent.unzip();
                json!({
                    "peer": connection.peer.to_string(), "agent": agent, "name": name,
                    "address": connection.address.to_string(), "inbound": connection.inbound,
                    "way": connection.way.as_str(), "software": connection.software,
                    "round_trip_ms": connection.round_trip.map(|took| took.as_secs_f64() * 1_000.0),
                })
            });
            json!({"peers": peers.collect::<Vec<_>>()})
        }
        Order::Find { agent } => match node.find(agent).await? {
            None => json!({"found": null}),
            Some(found) => {
                let record = found.record;
                json!({"found": {
                    "agent": record.id(), "name": record.name(), "peer": found.peer.to_string(),
                    "key_fingerprint": record.identity_key().fingerprint(), "scope": record.scope(),
                    "addresses": record.addresses(), "url": record.url(), "sequence": record.sequence(),
                    "expires_at": record.expires_at().wire(), "connected": found.is_connected,
                }})
            }
        },
        Order::Dial { address } => {
            json!({"peer": node.dial(parsed(&address)?).await?.to_string()})
        }
        Order::Listen { address } => {
            json!({"address": node.listen(parsed(&address)?).await?.to_string()})
        }
        Order::Bootstrap {} => json!({"reached": node.bootstrap().await?}),
        Order::Record { peer } => {
            let (record, way) = node.record_of(parsed::<PeerName>(&peer)?).await?;
            json!({"record": STANDARD.encode(record.to_bytes()), "way": way.as_str()})
        }
        Order::Carry { peer, message } => {
            let message = STANDARD.decode(message);
            let message = message.map_err(|error| OrderError::Invalid(error.to_string()))?;
            let carried = node.carry(parsed(&peer)?, message).await?;
            json!({"message": STANDARD.encode(carried.message), "way": carried.way.as_str()})
        }
    })
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, OrderError> {
    text.parse()
        .map_err(|error: T::Err| OrderError::Invalid(error.to_string()))
}

fn texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::BoxFuture;
    use kairos_actors::discovery::Way;
    use kairos_actors::meeting::MeetingError;
    use kairos_actors::meeting::client::{Carried, Carrier, PeerUrl};
    use kairos_protocol::crypto::Keypair;
    use kairos_protocol::record::{Announcement, PeerKey, Record, Scope};
    use kairos_protocol::time::Clock as _;
    use kairos_protocol::wire::carried::{ToldHead, message};
    use kairos_protocol::wire::introduction::introduction;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::Settings;
    use crate::data_dir::{DataDir, Surroundings};

    /// Says what Ada says, from a node of its own.
    struct Mallory {
        adas: Vec<u8>,
        own: Record,
    }

    impl Carrier for Mallory {
        fn carry(&self, _: PeerName, _: Vec<u8>) -> BoxFuture<'static, Result<Carried, String>> {
            let (message, way) = (self.adas.clone(), Way::Direct);
            Box::pin(async move { Ok(Carried { message, way }) })
        }

        fn record(&self, _: PeerName) -> BoxFuture<'static, Result<(Record, Way), String>> {
            let own = self.own.clone();
            Box::pin(async move { Ok((own, Way::Direct)) })
        }
    }

    async fn agent(home: &std::path::Path) -> Agent {
        let dir = DataDir::resolve(Some(home), &Surroundings::default());
        dir.init(SystemClock.now()).unwrap();
        Agent::open(dir, Settings::default()).await.unwrap()
    }

    #[actix::test]
    async fn a_node_that_passes_on_what_another_agent_says_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let ada = agent(&home.path().join("ada")).await;
        let ben = agent(&home.path().join("ben")).await;
        let said = introduction(&ada.signed, &ada.policy(), &[], &[], "", None);
        let head = ToldHead {
            status: 200,
            retry_after: None,
        };
        let (keys, node) = (Keypair::generate().unwrap(), PeerKey::generate().unwrap());
        let now = SystemClock.now();
        let announcement = Announcement {
            name: "Mallory".to_owned(),
            sequence: 1,
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(60)),
            scope: Scope::World,
            addresses: Vec::new(),
            url: None,
            offers: Vec::new(),
        };
        let mallory = Mallory {
            adas: message(&head, said.to_string().as_bytes()).unwrap(),
            own: Record::sign(announcement, &keys, &node).unwrap(),
        };
        ben.handles.carriage.begin(Arc::new(mallory));
        let at = PeerUrl::of_node(PeerName::of_ed25519(node.public().as_bytes()).unwrap());
        let met = ben.handles.meeting.meet(at).await;
        assert!(
            matches!(&met, Err(MeetingError::Refused { check, .. }) if check == "node key"),
            "{met:?}"
        );
        assert!(ben.handles.peers.list().await.unwrap().is_empty());
        ada.close().await;
        ben.close().await;
    }
}
