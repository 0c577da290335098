//! The libp2p node of a server: how it is started from the settings, and what its owner may order.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_actors::discovery::{
    Address, DiscoveryActor, DiscoveryError, DiscoveryHandle, DiscoveryParts, Found, Limits,
    MeetingDoor, Noted, PeerName, REDIAL, ROUND, Said, Say,
};
use kairos_actors::witness::WitnessHandle;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::package::SkillSetPackage;
use kairos_protocol::record::ask::Query;
use kairos_protocol::record::{NAME_MAX, OFFERS_MAX, Offer, OfferKind, Record, TAGS_MAX};
use kairos_protocol::wire::carried::HEAD_MAX;
use kairos_protocol::wire::introduction::VerifiedIdentity;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::hosting::Hosting;
use crate::http::{Doors, Listing};
use crate::identity::peer_key;

/// Starts the node of `agent`, whose meetings `door` answers, and which says of itself what `say` tells. Blocks on the disk
/// for a moment, so it belongs before anything is served; must run inside an actix system.
pub fn start(agent: &Agent, door: MeetingDoor, say: Say) -> anyhow::Result<DiscoveryHandle> {
    let settings = &agent.settings;
    let p2p = &settings.p2p;
    let package = SkillSetPackage::json_max(&agent.package_limits());
    let limits = Limits {
        incoming: p2p.connections,
        outgoing: p2p.connections_out,
        pending: p2p.pending,
        circuits: p2p.relay_connections,
        circuit_bytes: p2p.relay_bytes.get(),
        per_peer: p2p.connections_per_peer,
        per_address: p2p.connections_per_address,
        memory: Some(p2p.memory.as_usize()).filter(|bytes| *bytes > 0),
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
        register: p2p.register,
        in_memory: false,
        limits,
        door,
        say,
        noted: noted(agent.handles.witness.clone()),
        round: ROUND,
    };
    let (permits, patience) = (
        settings.limits.asks_in_flight,
        settings.limits.ask_patience.get(),
    );
    Ok(DiscoveryActor::start(parts, permits, patience)?)
}

/// What there is to say of the agent behind `doors`: what it hands out, if `tell_offers`, its ledger, and the Place that it
/// hosts.
pub fn say(doors: Arc<Doors>, hosting: Hosting, agent: Arc<Agent>) -> Say {
    Rc::new(move || {
        let (doors, hosting, agent) = (Arc::clone(&doors), hosting.clone(), Arc::clone(&agent));
        Box::pin(async move {
            let settings = &agent.settings;
            let listing = doors.listings.current().await;
            let listing = listing.inspect_err(|error| {
                tracing::warn!(%error, "what is handed out is not announced");
            });
            let listing = listing.ok();
            let tells = settings.p2p.tell_offers;
            let offers = listing
                .as_ref()
                .filter(|_| tells)
                .map(|listing| offers(listing));
            let ledger = listing
                .as_ref()
                .and_then(|listing| listing.checkpoint.as_deref());
            let is_place = hosting.current().is_some();
            let url = Some(&settings.place.url).filter(|url| is_place && !url.is_empty());
            Said {
                place: is_place.then(|| cut(&settings.place.name)),
                url: url.cloned(),
                offers: offers.unwrap_or_default(),
                ledger: ledger.map(|ledger| ledger.to_value()),
            }
        })
    })
}

/// What peers may ask for, as it is announced. What has a name or tags that no record can hold is left out.
fn offers(listing: &Listing) -> Vec<Offer> {
    let sets = listing.offered.iter().map(|set| {
        (
            OfferKind::SkillSet,
            &set.name,
            &set.content_hash,
            Vec::new(),
        )
    });
    let skills = listing.catalogue.entries().iter().map(|skill| {
        let tags = skill
            .tags
            .iter()
            .filter_map(|tag| tag.as_str().map(str::to_owned));
        let tags = tags.filter(|tag| is_plain(tag)).take(TAGS_MAX);
        (
            OfferKind::Skill,
            &skill.name,
            &skill.content_hash,
            tags.collect(),
        )
    });
    let all = sets.chain(skills).filter_map(|(kind, name, hash, tags)| {
        let content_hash: ContentHash = hash.parse().ok()?;
        let name = name.clone();
        is_plain(&name).then_some(Offer {
            kind,
            name,
            content_hash,
            tags,
        })
    });
    all.take(OFFERS_MAX).collect()
}

fn is_plain(text: &str) -> bool {
    text.len() <= NAME_MAX && !text.chars().any(char::is_control)
}

/// As much of a name as a record holds.
fn cut(name: &str) -> String {
    let end = name.floor_char_boundary(NAME_MAX);
    name.get(..end).unwrap_or_default().to_owned()
}

/// Has the witness look at the ledger of whoever is announced: who shows one history to one and another to somebody else is
/// found out by anyone who hears of both.
fn noted(witness: WitnessHandle) -> Noted {
    Rc::new(move |record: &Record| {
        let Some(ledger) = record.ledger() else {
            return;
        };
        let identity = VerifiedIdentity {
            agent_id: record.id().clone(),
            key: record.identity_key().clone(),
            name: record.name().to_owned(),
            rotations: Vec::new(),
        };
        witness.visited(&identity, ledger);
    })
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
    /// Who is of this kind, or hands out something like this.
    Search {
        /// What for.
        query: Query,
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
                "reach": status.reach.as_str(), "peers": status.peers, "table": status.table,
                "records": status.records, "listed": shown.listed, "records_refused": status.figures.records_refused.total(),
                "requests_lost": status.figures.requests_lost,
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
        Order::Find { agent } => {
            let found = node.find(agent).await?;
            json!({"found": found.map(|found| shown(&found))})
        }
        Order::Search { query } if !query.is_bounded() => {
            let told = format!("nothing has a name or tag longer than {NAME_MAX} bytes");
            return Err(OrderError::Invalid(told));
        }
        Order::Search { query } => {
            let found = node.search(query).await?;
            json!({"matches": found.iter().map(shown).collect::<Vec<_>>()})
        }
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

fn shown(found: &Found) -> Value {
    let record = &found.record;
    json!({
        "agent": record.id(), "name": record.name(), "peer": found.peer.to_string(),
        "key_fingerprint": record.identity_key().fingerprint(), "scope": record.scope(),
        "addresses": record.addresses(), "place": record.place(), "url": record.url(),
        "offers": record.offers(), "sequence": record.sequence(),
        "expires_at": record.expires_at().wire(), "answered": found.has_answered,
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
            place: None,
            ledger: None,
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
