//! A simulated agent: a key of its own, its sessions, its mailbox, and what it left on the board.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kairos_node::clock::SystemClock;
use kairos_protocol::crypto::{PublicKey, random_bytes};
use kairos_protocol::id::AgentId;
use kairos_protocol::relay::keyring::Keyring;
use kairos_protocol::time::Clock as _;
use kairos_protocol::wire::place::{Members, Published, prekeys_to_publish};
use kairos_protocol::wire::possession::{Possession, Proof, Side};
use kairos_tests::TestPeer;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::client::{Ask, Client, Trouble};
use crate::journal::Slot;

/// Skills that one agent leaves on the board.
pub(crate) const SLOTS: usize = 4;
/// How far the clock of the node may be from ours.
const CLOCKS: Duration = Duration::from_secs(60);

/// Who the node is.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: AgentId,
    pub(crate) key: PublicKey,
}

/// The two doors at which an agent shows its key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Door {
    Meeting,
    Place,
}

impl Door {
    fn path(self) -> &'static str {
        match self {
            Self::Meeting => "/meeting/v1/introduce",
            Self::Place => "/place/v1/register",
        }
    }
}

/// An open session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) token: String,
    /// From when on it is of no use.
    until: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) number: usize,
    pub(crate) peer: TestPeer,
    /// Held for writing while a session takes the place of another one, so that no request carries the old one.
    meeting: RwLock<Option<Session>>,
    place: RwLock<Option<Session>>,
    /// An agent reads its mail once at a time.
    pub(crate) mailbox: tokio::sync::Mutex<()>,
    pub(crate) keyring: Mutex<Keyring>,
    pub(crate) slots: [Slot; SLOTS],
}

impl Agent {
    /// One with a fresh key.
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            peer: TestPeer::new(&format!("load agent {number}")),
            meeting: RwLock::default(),
            place: RwLock::default(),
            mailbox: tokio::sync::Mutex::default(),
            keyring: Mutex::default(),
            slots: Default::default(),
        }
    }

    pub(crate) fn id(&self) -> &AgentId {
        &self.peer.signed.instance_id
    }

    fn session(&self, door: Door) -> &RwLock<Option<Session>> {
        match door {
            Door::Meeting => &self.meeting,
            Door::Place => &self.place,
        }
    }

    /// Has `work` done with the token of a session that is good; one that nears its end is replaced before.
    pub(crate) async fn with<T>(
        self: &Arc<Self>,
        client: &Client,
        host: &Host,
        door: Door,
        work: impl AsyncFnOnce(&str) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        loop {
            {
                let session = self.session(door).read().await;
                if let Some(session) = session.as_ref().filter(|s| s.until > Instant::now()) {
                    return work(&session.token).await;
                }
            }
            self.renew(client, host, door).await?;
        }
    }

    /// Puts a new session in the place of the one that there is.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        client: &Client,
        host: &Host,
        door: Door,
    ) -> Result<(), Trouble> {
        let mut held = self.session(door).write().await;
        let old = held.take();
        let old = old.as_ref().map(|session| session.token.as_str());
        *held = Some(self.open(client, host, door, old).await?);
        Ok(())
    }

    /// Opens a session in two steps: each side signs what the other one asks. `old` is a session that it replaces.
    pub(crate) async fn open(
        self: &Arc<Self>,
        client: &Client,
        host: &Host,
        door: Door,
        old: Option<&str>,
    ) -> Result<Session, Trouble> {
        let nonce = hex::encode(random_bytes().map_err(Trouble::own)?);
        let asks = self.body(door, &json!({ "nonce": nonce }));
        let ask = Ask::post(door.path(), &asks);
        let ask = match old {
            Some(old) => ask.token(old),
            None => ask,
        };
        let asked = client.send(ask).await?;
        let possession = Possession::from_member(asked.get("possession"));
        self.check_host(host, &possession, &nonce)?;
        let (Some(audience), Some(nonce)) = (possession.audience, possession.nonce) else {
            return Err(Trouble::Wrong(format!("{} asks for no proof", door.path())));
        };
        if audience != host.id {
            return Err(Trouble::Wrong(format!(
                "{} asks as {audience}",
                door.path()
            )));
        }
        let agent = Arc::clone(self);
        let proof = blocking(move || {
            let (key, id) = (&agent.peer.keypair, agent.id());
            Proof::sign(Side::Guest, key, id, &audience, &nonce, SystemClock.now())
        });
        let proof = proof.await?.map_err(Trouble::own)?;
        let proves = self.body(door, &json!({ "proof": proof }));
        let (first, _) = token(&asked)?;
        let proven = client
            .send(Ask::post(door.path(), &proves).token(first))
            .await?;
        if proven.get("session_strength") != Some(&"proven".into()) {
            return Err(Trouble::Wrong(format!(
                "{} does not take a good proof",
                door.path()
            )));
        }
        let (token, lasts) = token(&proven)?;
        Ok(Session {
            token: token.to_owned(),
            until: Instant::now() + lasts.mul_f64(0.8),
        })
    }

    fn body(&self, door: Door, possession: &Value) -> Value {
        match door {
            Door::Meeting => self.peer.introduction_with(possession),
            Door::Place => self.peer.registration(possession),
        }
    }

    fn check_host(&self, host: &Host, shown: &Possession, nonce: &str) -> Result<(), Trouble> {
        let wrong = |why: &str| Trouble::Wrong(format!("the node does not prove its key: {why}"));
        let proof = shown.proof.as_ref().ok_or_else(|| wrong("no proof"))?;
        if proof.nonce != nonce {
            return Err(wrong("another nonce"));
        }
        let now = SystemClock.now();
        let verified = proof.verify(Side::Host, &host.key, &host.id, self.id(), now, CLOCKS);
        verified.map_err(|error| wrong(&error.to_string()))
    }

    /// Leaves a prekey at the Place, to which others seal what they write.
    pub(crate) async fn publish_prekeys(
        self: &Arc<Self>,
        client: &Client,
        host: &Host,
    ) -> Result<(), Trouble> {
        let agent = Arc::clone(self);
        let fresh = blocking(move || {
            let mut ring = agent.keyring.lock().unwrap_or_else(PoisonError::into_inner);
            let (own, key) = (agent.id(), &agent.peer.keypair);
            ring.replenish(&Published::default(), 0, own, key, SystemClock.now())
        });
        let fresh = fresh.await?.map_err(Trouble::own)?;
        let fresh = fresh.ok_or_else(|| Trouble::Own("no prekey was made".to_owned()))?;
        let body = prekeys_to_publish(&fresh.long_lived, &fresh.one_time);
        let publish = async |token: &str| {
            client
                .send(Ask::post("/place/v1/prekeys", &body).token(token))
                .await
        };
        self.with(client, host, Door::Place, publish)
            .await
            .map(drop)
    }
}

fn token(answer: &Members) -> Result<(&str, Duration), Trouble> {
    let token = answer.get("session_token").and_then(Value::as_str);
    let lasts = answer.get("session_expires_in").and_then(Value::as_u64);
    match (token, lasts) {
        (Some(token), Some(lasts)) => Ok((token, Duration::from_secs(lasts))),
        _ => Err(Trouble::Wrong(
            "an introduction is answered without a session".to_owned(),
        )),
    }
}

/// Has `work` done where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Trouble::own)
}
