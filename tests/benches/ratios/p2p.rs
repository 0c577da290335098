//! Finding others and meeting them over libp2p: how long it takes to be found, what an exchange costs over each way, and
//! what a node costs that has many peers and nothing to do.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use kairos_actors::discovery::{
    Address, DiscoveryActor, DiscoveryHandle, DiscoveryParts, Limits, REDIAL, ROUND, Said,
};
use kairos_actors::meeting::Wanted;
use kairos_actors::meeting::client::PeerUrl;
use kairos_actors::skill_set::Options;
use kairos_node::agent::Agent;
use kairos_node::clock::SystemClock;
use kairos_node::config::{P2p, Settings, Size};
use kairos_node::data_dir::{DataDir, Surroundings};
use kairos_node::node::{Node, Operation};
use kairos_node::serving::{Listener, OwnerSocket};
use kairos_protocol::crypto::Keypair;
use kairos_protocol::id::AgentId;
use kairos_protocol::record::{PeerKey, Scope};
use kairos_protocol::time::Clock as _;
use kairos_tests::{Home, Hosts, Process, TestNode, eventually};
use rand::RngCore as _;
use serde_json::Value;

use crate::table::{Aim, Row, median};

/// Bytes of the SkillSet that crosses, which no compression makes smaller.
const SET_BYTES: usize = 1_000_000;
/// Exchanges over each way.
const ROUNDS: usize = 9;
/// Agents that are looked for.
const AGENTS: usize = 20;
/// Peers of the node that has nothing to do.
const PEERS: u32 = 100;
/// How long it is looked at, after as long to come to rest.
const IDLE: Duration = Duration::from_secs(60);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run() -> Vec<Row> {
    let mut rows = on_a_lan();
    rows.extend(actix::System::new().block_on(finding()));
    rows.extend(actix::System::new().block_on(exchanging()));
    rows.extend(actix::System::new().block_on(idle()));
    rows
}

fn row(what: &str, unit: &str, aim: f64, numbers: Vec<f64>, note: &str) -> Row {
    let (middle, least, most) = median(numbers);
    Row {
        what: what.to_owned(),
        ours: format!("{middle:.0} {unit}"),
        baseline: format!("{aim:.0} {unit}"),
        ratio: middle / aim,
        aim: Aim::AtMost(1.0),
        note: format!("{least:.0}..{most:.0}{note}"),
    }
}

/// Two nodes on a network with multicast, of which the second just started.
fn on_a_lan() -> Vec<Row> {
    let Some(hosts) = Hosts::new(&["left", "right"]) else {
        return Vec::new();
    };
    hosts.join(["left", "right"], ["10.77.0.1/24", "10.77.0.2/24"]);
    hosts.ip("left", "route add default dev to-right");
    hosts.ip("right", "route add default dev to-left");
    let homes = [(); 2].map(|()| Home::initialized());
    let serve = |host: &str, home: &Home| {
        let node = TestNode::builder().without_port().home(home);
        node.program(hosts.program(host))
            .set("p2p.announce", "lan")
            .start()
    };
    let _left = serve("left", &homes[0]);
    let millis = (0..ROUNDS).map(|_| {
        let right = serve("right", &homes[1]);
        let begun = Instant::now();
        eventually("a neighbour", || {
            let peers = homes[1].json(["p2p", "peers"]);
            let is_known = |peer: &Value| peer.get("agent").is_some_and(Value::is_string);
            let peers = peers.get("peers")?.as_array()?;
            peers.iter().any(is_known).then_some(())
        });
        let took = begun.elapsed();
        right.stop();
        took.as_secs_f64() * 1e3
    });
    let note = ", the time of a command to see it included";
    vec![row(
        "found on a LAN after start",
        "ms",
        2_000.0,
        millis.collect(),
        note,
    )]
}

/// A node in this process, at some port of loopback.
fn begin(keypair: &Arc<Keypair>, scope: Scope, bootstrap: &[Address]) -> DiscoveryHandle {
    let listen = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    let parts = DiscoveryParts {
        keypair: Arc::clone(keypair),
        peer_key: PeerKey::generate().expect("a key"),
        name: "bench".to_owned(),
        clock: Arc::new(SystemClock),
        scope,
        listen: vec![listen],
        external: Vec::new(),
        bootstrap: bootstrap.to_vec(),
        redial: REDIAL,
        mdns: false,
        relay: false,
        register: false,
        in_memory: false,
        limits: Limits {
            incoming: 1_000,
            per_address: 1_000,
            ..Limits::default()
        },
        door: Rc::new(|_| Box::pin(async { Vec::new() })),
        say: Rc::new(|| Box::pin(async { Said::default() })),
        noted: Rc::new(|_| ()),
        round: ROUND,
    };
    DiscoveryActor::start(parts, 64, PATIENCE).expect("a node")
}

/// Where a node is, once it listens.
async fn at(node: &DiscoveryHandle) -> Address {
    loop {
        let status = node.show().await.expect("a node").status;
        if let Some(at) = status.listen.into_iter().next() {
            return at.with_peer(status.peer);
        }
        tokio::task::yield_now().await;
    }
}

async fn find(seeker: &DiscoveryHandle, id: &AgentId) -> bool {
    seeker.find(id.clone()).await.expect("a lookup").is_some()
}

/// Agents that know one node to begin with, looked for by another that knows the same one.
async fn finding() -> Vec<Row> {
    let key = || Arc::new(Keypair::generate().expect("a key"));
    let hub = begin(&key(), Scope::World, &[]);
    let hub = (at(&hub).await, hub);
    let seeker = begin(&key(), Scope::Private, std::slice::from_ref(&hub.0));
    seeker.dial(hub.0.clone()).await.expect("the hub");
    let (mut after, mut nodes) = (Vec::new(), Vec::new());
    for _ in 0..AGENTS {
        let keypair = key();
        let id = keypair.public().agent_id();
        let begun = Instant::now();
        nodes.push((
            begin(&keypair, Scope::World, std::slice::from_ref(&hub.0)),
            id.clone(),
        ));
        while !find(&seeker, &id).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        after.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let mut lookups = Vec::new();
    for _ in 0..ROUNDS {
        for (_, id) in &nodes {
            let begun = Instant::now();
            assert!(find(&seeker, id).await, "an agent is lost");
            lookups.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let note = format!(", {} nodes", nodes.len() + 2);
    vec![
        row("found by id after start", "ms", 2_000.0, after, &note),
        row("lookup by id", "ms", 1_000.0, lookups, &note),
    ]
}

/// An agent with a node, in this process, and with HTTP where there is a port for it.
async fn agent(home: &Path, http: Option<TcpListener>, edit: impl FnOnce(&mut P2p)) -> Node {
    let dir = DataDir::resolve(Some(home), &Surroundings::default());
    dir.init(SystemClock.now()).expect("a data directory");
    let mut settings = Settings::default();
    settings.limits.requests_per_address = 1_000_000;
    settings.limits.requests_per_session = 1_000_000;
    settings.http.workers = 2;
    settings.http.enabled = http.is_some();
    settings.p2p.enabled = true;
    settings.p2p.mdns = false;
    settings.p2p.listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    edit(&mut settings.p2p);
    let owner = || Listener::Owner(OwnerSocket::of(&dir).expect("a socket"));
    let listener = http.map_or_else(owner, Listener::Port);
    let agent = Agent::open(dir, settings).await.expect("an agent");
    Node::start(agent, listener, Operation::default()).expect("a node")
}

fn node(node: &Node) -> &DiscoveryHandle {
    node.discovery().expect("a libp2p node")
}

/// A port that nobody listens at.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// One SkillSet over HTTP, over libp2p, and over libp2p through a relay.
async fn exchanging() -> Vec<Row> {
    let home = tempfile::tempdir().expect("a temporary directory");
    let set = home.path().join("big");
    write_set(&set);
    let free = free_port();
    let relay = agent(&home.path().join("relay"), None, |p2p| {
        p2p.relay = true;
        p2p.listen = vec![format!("/ip4/127.0.0.1/tcp/{free}")];
        p2p.external = p2p.listen.clone();
        p2p.relay_bytes = Size::mib(1024);
    })
    .await;
    let place = format!("{}/p2p-circuit", at(node(&relay)).await);
    let http = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", http.local_addr().expect("an address"));
    let url: PeerUrl = url.parse().expect("a URL");
    let near = agent(&home.path().join("near"), Some(http), |_| ()).await;
    // It listens nowhere but at the relay, so nobody can reach it past that.
    let far = agent(&home.path().join("far"), None, |p2p| {
        p2p.listen = vec![place.clone()]
    })
    .await;
    let guest = agent(&home.path().join("guest"), None, |p2p| p2p.listen.clear()).await;
    for host in [&near, &far] {
        let sets = &host.agent().handles.skill_sets;
        sets.install(set.clone(), Options::default())
            .await
            .expect("a SkillSet");
    }
    let direct = at(node(&near)).await;
    let direct = node(&guest).dial(direct).await.expect("the host");
    let relayed = at(node(&far)).await;
    let relayed = node(&guest)
        .dial(relayed)
        .await
        .expect("the host at the relay");
    let ways = [
        (url, None),
        (PeerUrl::of_node(direct), Some("libp2p, direct")),
        (PeerUrl::of_node(relayed), Some("libp2p, relayed")),
    ];
    let mut seconds = [const { Vec::new() }; 3];
    for _ in 0..=ROUNDS {
        for ((url, way), seconds) in ways.iter().zip(&mut seconds) {
            seconds.push(acquire(&guest, url, *way).await);
        }
    }
    let [http, direct, relayed] = seconds.map(|seconds| {
        // The first one of each opened sessions.
        median(seconds.into_iter().skip(1)).0
    });
    for node in [relay, near, far, guest] {
        node.shutdown().await;
    }
    let against_http = |what: &str, ours: f64, aim| Row {
        what: format!("1 MB SkillSet over {what}, throughput to HTTP"),
        ours: format!("{:.1} ms", ours * 1e3),
        baseline: format!("{:.1} ms", http * 1e3),
        ratio: http / ours,
        aim,
        note: format!("{:.1} MB/s", SET_BYTES as f64 / 1e6 / ours),
    };
    vec![
        against_http("libp2p", direct, Aim::AtLeast(0.5)),
        against_http("a relay", relayed, Aim::Open),
    ]
}

/// Seconds that it took to meet the agent at `url` and to get its SkillSet, which came the `way` that it should.
async fn acquire(guest: &Node, url: &PeerUrl, way: Option<&str>) -> f64 {
    let handles = &guest.agent().handles;
    let begun = Instant::now();
    let wanted = Wanted::SkillSet("big".to_owned());
    let acquired = handles
        .meeting
        .acquire(url.clone(), wanted, Arc::new(|_, _| ()));
    let (met, fetched) = acquired.await.expect("a SkillSet");
    let took = begun.elapsed().as_secs_f64();
    let came = met.checks.0.iter().find(|check| check.name == "way");
    assert_eq!(came.map(|check| check.detail.as_str()), way);
    handles
        .quarantine
        .discard(fetched.held.id)
        .await
        .expect("nothing is kept");
    took
}

fn write_set(folder: &Path) {
    let topic = folder.join("knowledge/topic");
    std::fs::create_dir_all(&topic).expect("a directory");
    let metadata = serde_json::json!({
        "name": "big", "version": "1.0.0", "layer": "L1", "description": "Much", "author": "Ada",
    });
    std::fs::write(folder.join("skillset.json"), metadata.to_string()).expect("a file");
    let files = 20;
    for n in 0..files {
        let mut bytes = vec![0; SET_BYTES / files];
        rand::rng().fill_bytes(&mut bytes);
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        std::fs::write(topic.join(format!("{n}.md")), format!("# {n}\n\n{text}\n"))
            .expect("a file");
    }
}

/// A node with many peers and nothing to do, in a process of its own.
async fn idle() -> Vec<Row> {
    let home = Home::initialized();
    let many = PEERS.to_string();
    let node = TestNode::builder().without_port().home(&home);
    let node = node
        .set("p2p.mdns", "false")
        .set("p2p.listen", "/ip4/127.0.0.1/tcp/0")
        .set("p2p.connections", &many)
        .set("p2p.connections_per_address", &many)
        .start();
    let told = home.json(["p2p", "status"]);
    let text = |pointer: &str| {
        told.pointer(pointer)
            .and_then(Value::as_str)
            .expect("a text")
    };
    let listen = text("/listen/0").to_owned();
    let hub: Address = format!("{listen}/p2p/{}", text("/peer"))
        .parse()
        .expect("an address");
    let alone = Process::of(node.pid()).resident().expect("Linux");
    let keypair = Arc::new(Keypair::generate().expect("a key"));
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let peer = begin(&keypair, Scope::Private, &[]);
        peer.dial(hub.clone()).await.expect("the node");
        peers.push(peer);
    }
    tokio::time::sleep(IDLE).await;
    let connected = home.json(["p2p", "status"]);
    let before = traffic(&listen);
    tokio::time::sleep(IDLE).await;
    let after = traffic(&listen);
    let resident = Process::of(node.pid()).resident().expect("Linux") as f64 / 1e6;
    let count = connected.get("peers").and_then(Value::as_u64).unwrap_or(0);
    let note = format!(", {count} peers, alone {:.0} MB", alone as f64 / 1e6);
    let mut rows = vec![row(
        "memory of an idle node",
        "MB",
        40.0,
        vec![resident],
        &note,
    )];
    if let (Some(before), Some(after)) = (before, after) {
        let rate = (after - before) / IDLE.as_secs_f64();
        let note = format!(", {count} peers, payload of TCP in both directions");
        rows.push(row(
            "traffic of an idle node",
            "B/s",
            1_000.0,
            vec![rate],
            &note,
        ));
    }
    drop(peers);
    node.stop();
    rows
}

/// Bytes that the connections of the node that listens there carried so far, as the system counts them.
fn traffic(listen: &str) -> Option<f64> {
    let port = listen.rsplit('/').next()?;
    let told = Command::new("ss")
        .args(["-Htin", &format!("sport = :{port}")])
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let counts = told.split_whitespace().filter_map(|word| {
        let (name, count) = word.split_once(':')?;
        let is_count = ["bytes_sent", "bytes_received"].contains(&name);
        is_count.then_some(count)?.parse::<f64>().ok()
    });
    Some(counts.sum())
}
