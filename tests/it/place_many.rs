//! Many agents at one Place that is killed again and again: what was acknowledged stays, and nothing arrives twice.
//!
//! Each agent is a thread that speaks HTTP as a client would: it repeats what it has no answer to under the same id,
//! registers anew when its session is gone, and hands a message to its application once, by the message's own id.
//! `KAIROS_TEST_ROUNDS` makes it longer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_node::clock::SystemClock;
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::relay::prekey::{PrekeyBundle, PrekeyKind, PrekeySecret, Recipient};
use kairos_protocol::relay::replay::{ReplayError, ReplayWindow};
use kairos_protocol::relay::version_2::{Draft, seal};
use kairos_protocol::relay::{Blob, Envelope};
use kairos_protocol::time::Clock as _;
use kairos_tests::{Home, Reply, Request, TestNode, TestPeer};
use serde_json::{Value, json};

const AGENTS: usize = 20;
/// Rounds of each agent if nothing else is said.
const ROUNDS: usize = 5;
/// Between two ends of the Place, so many rounds of any agents are done.
const ROUNDS_BETWEEN_KILLS: usize = 22;
/// One-time prekeys of each agent.
const ONE_TIME: usize = 8;
/// For whatever an agent repeats, and for all that is under way to arrive.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before asking a Place again that was not there, or was busy.
const PAUSE: Duration = Duration::from_millis(20);

/// What all agents share.
struct World {
    /// Where the Place is now.
    address: Mutex<SocketAddr>,
    /// Id, key, and what was sealed to: nothing is asked of anybody but the Place.
    agents: Vec<(String, PublicKey)>,
    /// Rounds done by all.
    rounds: AtomicUsize,
    /// Agents that have done all their rounds.
    done: AtomicUsize,
    /// Messages that were acknowledged, by recipient.
    sent: Mutex<BTreeMap<usize, BTreeSet<String>>>,
    /// One-time prekeys that were handed out.
    taken: Mutex<BTreeSet<String>>,
}

struct Agent {
    at: usize,
    peer: TestPeer,
    world: Arc<World>,
    token: String,
    secrets: Vec<PrekeySecret>,
    window: ReplayWindow,
    /// What the application got, in this order.
    inbox: Vec<String>,
    /// The text of each deposit as it was last acknowledged.
    deposits: BTreeMap<String, String>,
}

impl World {
    fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }
}

impl Agent {
    fn new(at: usize, peer: TestPeer, world: Arc<World>) -> Self {
        let now = SystemClock.now();
        let hours = Duration::from_secs(3 * 3600);
        let kinds = (0..=ONE_TIME).map(|n| match n {
            0 => PrekeyKind::LongLived,
            _ => PrekeyKind::OneTime,
        });
        let secrets = kinds.map(|kind| PrekeySecret::generate(kind, now, hours).unwrap());
        Self {
            at,
            peer,
            world,
            token: String::new(),
            secrets: secrets.collect(),
            window: ReplayWindow::default(),
            inbox: Vec::new(),
            deposits: BTreeMap::new(),
        }
    }

    /// Sends until there is an answer that is one, registering where the session is gone.
    fn ask(&mut self, request: impl Fn() -> Request) -> Reply {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let address = self.world.address();
            match request().token(&self.token).send_to(address) {
                None
                | Some(Reply {
                    status: 0 | 503 | 504,
                    ..
                }) => thread::park_timeout(PAUSE),
                Some(Reply { status: 401, .. }) => self.register(),
                Some(reply) => return reply,
            }
        }
        panic!("agent {} gets no answer", self.at);
    }

    fn register(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.peer.try_register(self.world.address()) {
                Some(token) => {
                    self.token = token;
                    return;
                }
                None => thread::park_timeout(PAUSE),
            }
        }
        panic!("agent {} is not taken in", self.at);
    }

    fn publish(&mut self) {
        let id = self.peer.signed.instance_id.clone();
        let shown = |secret: &PrekeySecret| {
            let prekey = secret.publish(&id, &self.peer.keypair).unwrap();
            let record = STANDARD.encode(serde_json::to_vec(&prekey).unwrap());
            json!({"id": secret.id().unwrap().to_string(), "record": record})
        };
        let (signed, one_time) = self.secrets.split_first().unwrap();
        let one_time: Vec<Value> = one_time.iter().map(shown).collect();
        let body = json!({"signed": shown(signed), "one_time": one_time});
        let reply = self.ask(|| Request::post("/place/v1/prekeys").json(&body));
        // Repeated after an answer that was lost, those that were handed out meanwhile stay handed out.
        reply.ok();
    }

    fn deposit(&mut self, round: usize) {
        let skill_id = format!("skill-{}", round % 2);
        let text = format!("# Skill\n\nRound {round} of agent {}.\n", self.at);
        let body = json!({
            "skill_id": skill_id, "name": skill_id, "format": "markdown", "content": text,
            "content_hash": ContentHash::of(&text).to_hex(),
            "signature": self.peer.sign(text.as_bytes()),
        });
        self.ask(|| Request::post("/place/v1/deposit").json(&body))
            .ok();
        self.deposits.insert(skill_id, text);
    }

    /// A checked prekey of another agent, as the Place hands it out.
    fn recipient(&mut self, to: usize) -> Recipient {
        let (id, key) = self.world.agents.get(to).cloned().unwrap();
        let path = format!("/place/v1/prekeys/{id}");
        let begun = Instant::now();
        let bundle = loop {
            let reply = self.ask(|| Request::get(&path));
            if reply.status == 200 {
                break reply.json();
            }
            assert_eq!(reply.status, 404, "{}", reply.text());
            assert!(begun.elapsed() < PATIENCE, "{id} publishes nothing");
            thread::park_timeout(PAUSE);
        };
        let prekey = |shown: &Value| {
            let record = STANDARD.decode(shown["record"].as_str().unwrap()).unwrap();
            serde_json::from_slice(&record).unwrap()
        };
        let one_time = Some(&bundle["one_time"]).filter(|shown| !shown.is_null());
        if let Some(shown) = one_time {
            let key_id = shown["id"].as_str().unwrap().to_owned();
            let first = self.world.taken.lock().unwrap().insert(key_id);
            assert!(first, "a one-time prekey is handed out once");
        }
        let bundle = PrekeyBundle {
            long_lived: prekey(&bundle["signed"]),
            one_time: one_time.map(prekey),
        };
        let owner = id.parse().unwrap();
        bundle.choose(&owner, &key, SystemClock.now()).unwrap()
    }

    fn send(&mut self, to: usize, round: usize) {
        let recipient = self.recipient(to);
        let from = self.peer.signed.instance_id.clone();
        let kind = "greeting".parse().unwrap();
        let body = format!("round {round} from {}", self.at);
        let draft = Draft::new(from, kind, body, SystemClock.now()).unwrap();
        let blob = seal(&draft, &recipient, &self.peer.keypair).unwrap();
        let id = draft.message_id.to_string();
        let body = json!({
            "id": id, "to": recipient.agent_id(), "message_type": "greeting",
            "encrypted_blob": blob.as_str(), "blob_hash": blob.hash(),
        });
        let reply = self.ask(|| Request::post("/place/v1/relay/send").json(&body));
        assert_eq!(reply.status, 201, "{}", reply.text());
        let mut sent = self.world.sent.lock().unwrap();
        sent.entry(to).or_default().insert(id);
    }

    /// Fetches what waits, hands it to the application and acknowledges it; whether there was something.
    fn fetch(&mut self) -> bool {
        let reply = self.ask(|| Request::get("/place/v1/relay/receive?ack=explicit&limit=5"));
        let page = reply.ok();
        let messages = page["messages"].as_array().unwrap();
        for message in messages {
            self.open(message);
        }
        let ids: Vec<&Value> = messages.iter().map(|message| &message["id"]).collect();
        let body = json!({ "ids": ids });
        self.ask(|| Request::post("/place/v1/relay/ack").json(&body))
            .ok();
        !messages.is_empty()
    }

    fn open(&mut self, message: &Value) {
        let blob: Blob = message["encrypted_blob"].as_str().unwrap().parse().unwrap();
        let Envelope::V2(envelope) = blob.envelope().unwrap() else {
            panic!("another version")
        };
        let own = &self.peer.signed.instance_id;
        assert_eq!(
            envelope.to(),
            own,
            "a message is in the box of its recipient"
        );
        assert_eq!(message["from"], json!(envelope.from()));
        let by_id = |secret: &&PrekeySecret| secret.id().unwrap() == *envelope.key_id();
        let secret = self.secrets.iter().find(by_id).unwrap();
        let sender = self
            .world
            .agents
            .iter()
            .find(|(id, _)| id == envelope.from().as_str());
        let draft = envelope.open(own, secret, &sender.unwrap().1).unwrap();
        match self.window.admit(&draft.seen(), SystemClock.now()) {
            Ok(()) => self.inbox.push(draft.message_id.to_string()),
            // Its acknowledgement did not arrive.
            Err(ReplayError::Seen(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn live(mut self, rounds: usize) -> Self {
        self.register();
        self.publish();
        for round in 0..rounds {
            self.deposit(round);
            self.send((self.at + 1 + round) % AGENTS, round);
            self.send((self.at + 7 + 3 * round) % AGENTS, round);
            // Every third round an agent is away, and comes back with another session.
            if (round + self.at).is_multiple_of(3) {
                self.register();
            } else {
                self.fetch();
            }
            self.world.rounds.fetch_add(1, Ordering::SeqCst);
        }
        self.world.done.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        // What the others still send comes, too.
        while self.fetch() || self.world.done.load(Ordering::SeqCst) < AGENTS {
            assert!(
                begun.elapsed() < PATIENCE,
                "the others do not come to an end"
            );
        }
        while self.fetch() {}
        self
    }

    fn check(&mut self) {
        let sent = self
            .world
            .sent
            .lock()
            .unwrap()
            .remove(&self.at)
            .unwrap_or_default();
        let got: BTreeSet<String> = self.inbox.iter().cloned().collect();
        assert_eq!(got.len(), self.inbox.len(), "nothing arrives twice");
        let lost: Vec<_> = sent.difference(&got).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        for (skill_id, text) in self.deposits.clone() {
            let path = format!(
                "/place/v1/skill_content/{skill_id}?owner={}",
                self.peer.id()
            );
            let content = self.ask(|| Request::get(&path)).ok();
            assert_eq!(
                content["content"],
                json!(text),
                "agent {} {skill_id}",
                self.at
            );
        }
    }
}

#[test]
fn twenty_agents_lose_nothing_while_the_place_is_killed() {
    let rounds = std::env::var("KAIROS_TEST_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |rounds| {
        rounds.parse().expect("KAIROS_TEST_ROUNDS is a number")
    });
    let home = Home::initialized();
    let start = || {
        TestNode::builder()
            .home(&home)
            .arg("--place")
            .set("limits.requests_per_address", "1000000")
            .set("limits.requests_per_session", "1000000")
            .set("limits.new_peers_per_address", "1000000")
            .set("place.deposits_per_hour", "100000")
            .set("place.registrations_per_key", "1000000")
            .set("place.registrations_per_address", "1000000")
            .set("place.deposit_attempts_per_key", "1000000")
            .set("place.deposit_attempts_per_address", "1000000")
            .set("place.sends_per_key", "1000000")
            .set("place.sends_per_address", "1000000")
            .start()
    };
    let mut node = start();
    let peers: Vec<TestPeer> = (0..AGENTS)
        .map(|n| TestPeer::new(&format!("Agent {n}")))
        .collect();
    let agents = peers
        .iter()
        .map(|peer| (peer.id().to_owned(), peer.keypair.public().clone()));
    let world = Arc::new(World {
        address: Mutex::new(node.address()),
        agents: agents.collect(),
        rounds: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        sent: Mutex::default(),
        taken: Mutex::default(),
    });
    let threads: Vec<_> = peers
        .into_iter()
        .enumerate()
        .map(|(at, peer)| {
            let agent = Agent::new(at, peer, Arc::clone(&world));
            thread::spawn(move || agent.live(rounds))
        })
        .collect();
    let mut kills = 0;
    while world.done.load(Ordering::SeqCst) < AGENTS
        && !threads.iter().any(thread::JoinHandle::is_finished)
    {
        if world.rounds.load(Ordering::SeqCst) < (kills + 1) * ROUNDS_BETWEEN_KILLS {
            thread::park_timeout(PAUSE);
            continue;
        }
        node.kill();
        node = start();
        *world.address.lock().unwrap() = node.address();
        kills += 1;
    }
    let ended: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
    let mut agents: Vec<Agent> = ended
        .into_iter()
        .map(|agent| agent.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect();
    assert!(kills >= 3, "the Place was killed {kills} times");
    node.kill();
    let node = start();
    *world.address.lock().unwrap() = node.address();
    for agent in &mut agents {
        agent.check();
    }
    let delivered: usize = agents.iter().map(|agent| agent.inbox.len()).sum();
    assert_eq!(delivered, 2 * AGENTS * rounds);
}
