use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

static PORT: AtomicU64 = AtomicU64::new(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes `KEY:SEQUENCE` under `KEY`.
fn judge(key: &[u8], value: &[u8]) -> Result<Kept, String> {
    let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
    let (named, sequence) = value.split_once(':').ok_or("malformed")?;
    match (named == key, sequence.parse()) {
        (true, Ok(sequence)) => Ok(Kept {
            sequence,
            lifetime: Duration::from_secs(60),
        }),
        _ => Err("of another key".to_owned()),
    }
}

struct Node {
    network: Network,
    events: mpsc::Receiver<Event>,
    address: Address,
}

fn settings(limits: Limits) -> Settings {
    let n = PORT.fetch_add(1, Ordering::Relaxed);
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_be_bytes());
    Settings {
        key: NodeKey::from_seed(&seed).unwrap(),
        listen: vec![format!("/memory/{n}").parse().unwrap()],
        external: Vec::new(),
        mdns: false,
        relay: false,
        register: false,
        relayed: false,
        autonat: false,
        in_memory: true,
        software: "test/1".to_owned(),
        limits,
        judge: Arc::new(judge),
    }
}

fn node_with(settings: Settings) -> Node {
    let address = settings.listen[0].clone().with_peer(settings.key.name());
    let (network, events) = start(settings).unwrap();
    Node {
        network,
        events,
        address,
    }
}

fn node() -> Node {
    node_with(settings(Limits::default()))
}

impl Node {
    /// Waits until a peer of ours is known.
    async fn joined(&mut self) -> PeerName {
        loop {
            let event = timeout(PATIENCE, self.events.recv())
                .await
                .unwrap()
                .unwrap();
            if let Event::PeerJoined(peer) = event {
                return peer;
            }
        }
    }

    /// Waits until the node is as wanted.
    async fn once(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let looked = async {
            loop {
                let status = self.network.status().await.unwrap();
                if wanted(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, looked).await.unwrap()
    }

    async fn request(&mut self) -> Request {
        loop {
            let event = timeout(PATIENCE, self.events.recv())
                .await
                .unwrap()
                .unwrap();
            if let Event::Request(request) = event {
                return request;
            }
        }
    }
}

/// A node that listens on loopback.
fn on_loopback() -> Node {
    node_with(Settings {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        in_memory: false,
        ..settings(Limits::default())
    })
}

/// Several nodes, each of which knows the first.
async fn swarm<const N: usize>() -> [Node; N] {
    let mut nodes = [(); N].map(|()| node());
    let hub = nodes[0].address.clone();
    for node in nodes.iter_mut().skip(1) {
        node.network.dial(hub.clone()).await.unwrap();
        node.joined().await;
    }
    nodes
}

#[tokio::test]
async fn nodes_find_a_record_that_only_others_have() {
    let [_hub, author, seeker] = swarm().await;
    author
        .network
        .put(b"tea".to_vec(), b"tea:1".to_vec())
        .await
        .unwrap();
    let found = seeker.network.get(b"tea".to_vec()).await.unwrap();
    assert_eq!(found.as_deref(), Some(b"tea:1".as_slice()));
    assert_eq!(seeker.network.get(b"cha".to_vec()).await.unwrap(), None);
}

#[tokio::test]
async fn the_newest_record_is_kept_and_found() {
    let [hub, author, seeker] = swarm().await;
    for sequence in [2, 1, 3] {
        let value = format!("tea:{sequence}").into_bytes();
        author.network.put(b"tea".to_vec(), value).await.unwrap();
    }
    let found = seeker.network.get(b"tea".to_vec()).await.unwrap();
    assert_eq!(found.as_deref(), Some(b"tea:3".as_slice()));
    // An older one that is put later is not taken in place of it, wherever it is put from.
    seeker
        .network
        .put(b"tea".to_vec(), b"tea:2".to_vec())
        .await
        .unwrap();
    drop(seeker);
    drop(author);
    let found = hub.network.get(b"tea".to_vec()).await.unwrap();
    assert_eq!(found.as_deref(), Some(b"tea:3".as_slice()));
}

#[tokio::test]
async fn a_lookup_does_not_wait_for_a_node_that_is_gone() {
    // It takes connections and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let patient = |external: Vec<Address>| {
        let limits = Limits {
            connect: 3 * PATIENCE,
            lookup: 3 * PATIENCE,
            ..Limits::default()
        };
        node_with(Settings {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            external,
            in_memory: false,
            ..settings(limits)
        })
    };
    let (keeper, mut seeker) = (patient(Vec::new()), patient(Vec::new()));
    let gone = patient(vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()]);
    for other in [&keeper, &gone] {
        let status = other.once(|status| !status.listen.is_empty()).await;
        let at = status.listen[0].clone().with_peer(other.network.name());
        seeker.network.dial(at).await.unwrap();
        seeker.joined().await;
    }
    keeper.once(|status| status.table == 1).await;
    let put = keeper.network.put(b"tea".to_vec(), b"tea:1".to_vec());
    timeout(PATIENCE, put).await.unwrap().unwrap();
    gone.network.leave().await.unwrap();
    seeker.once(|status| status.peers == 1).await;
    assert_eq!(seeker.network.status().await.unwrap().table, 2);
    let found = timeout(PATIENCE, seeker.network.get(b"tea".to_vec()));
    let found = found.await.unwrap().unwrap();
    assert_eq!(found.as_deref(), Some(b"tea:1".as_slice()));
}

#[tokio::test]
async fn what_the_judge_refuses_is_not_stored() {
    // A node of somebody who wrote another program.
    let [hub] = swarm().await;
    let mut liar = settings(Limits::default());
    liar.judge = Arc::new(|_, _| {
        Ok(Kept {
            sequence: u64::MAX,
            lifetime: Duration::from_secs(60),
        })
    });
    let mut liar = node_with(liar);
    liar.network.dial(hub.address.clone()).await.unwrap();
    liar.joined().await;
    for value in [&b"cha:1"[..], b"nothing", &[b'x'; 13 * 1024]] {
        // The peer's own store may refuse what is too large.
        drop(liar.network.put(b"tea".to_vec(), value.to_vec()).await);
    }
    let status = hub.network.status().await.unwrap();
    let refused = status.figures.records_refused;
    assert_eq!((status.records, refused.unfit, refused.total()), (0, 2, 2));
    assert_eq!(hub.network.get(b"tea".to_vec()).await.unwrap(), None);
}

#[tokio::test]
async fn a_flood_of_records_ends_at_the_share_of_a_peer() {
    let limits = Limits {
        records_per_minute: 5,
        ..Limits::default()
    };
    let hub = node_with(settings(limits));
    let mut flooder = node();
    flooder.network.dial(hub.address.clone()).await.unwrap();
    flooder.joined().await;
    for n in 0..20 {
        let (key, value) = (format!("k{n}"), format!("k{n}:1"));
        flooder
            .network
            .put(key.into_bytes(), value.into_bytes())
            .await
            .unwrap();
    }
    let status = hub.network.status().await.unwrap();
    let (stored, refused) = (
        status.figures.records_stored,
        status.figures.records_refused,
    );
    assert_eq!((status.records, stored, refused.share), (5, 5, 15));
}

#[tokio::test]
async fn peers_ask_and_answer() {
    let [mut host, guest] = swarm().await;
    let (to, from) = (host.network.name(), guest.network.name());
    let asked = guest
        .network
        .ask(Protocol::Meeting, to, Vec::new(), b"who?".to_vec());
    let answering = async {
        let request = host.request().await;
        assert_eq!((request.peer, request.protocol), (from, Protocol::Meeting));
        assert_eq!(request.bytes, b"who?");
        request.answer.send(b"me".to_vec()).unwrap();
    };
    let (asked, ()) = tokio::join!(asked, answering);
    let reply = asked.unwrap();
    assert_eq!(
        (reply.bytes.as_slice(), reply.way),
        (&b"me"[..], Way::Direct)
    );
}

#[tokio::test]
async fn a_request_that_nobody_answers_ends_for_the_peer() {
    let [mut host, guest] = swarm().await;
    let to = host.network.name();
    let asked = guest
        .network
        .ask(Protocol::Records, to, Vec::new(), b"who?".to_vec());
    let (asked, ()) = tokio::join!(asked, async { drop(host.request().await) });
    assert!(matches!(asked, Err(NetworkError::NoAnswer { peer, .. }) if peer == to));
    let too_long = vec![0; Limits::default().request + 1];
    let asked = guest
        .network
        .ask(Protocol::Meeting, to, Vec::new(), too_long)
        .await;
    assert!(
        matches!(asked, Err(NetworkError::NoAnswer { .. })),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_peer_that_is_somebody_else_is_not_taken() {
    let [host, guest] = [node(), node()];
    let other = node();
    let wrong: Address = host
        .address
        .to_string()
        .split("/p2p/")
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let dialled = guest
        .network
        .dial(wrong.with_peer(other.network.name()))
        .await;
    assert!(
        matches!(dialled, Err(NetworkError::Unreachable { .. })),
        "{dialled:?}"
    );
}

#[tokio::test]
async fn connections_beyond_the_bound_are_refused() {
    let limits = Limits {
        incoming: 3,
        ..Limits::default()
    };
    let hub = node_with(settings(limits));
    let guests = flood(&hub, 6).await;
    let status = hub
        .once(|status| status.figures.connections_refused.bound == 3)
        .await;
    assert_eq!((status.peers, status.inbound, status.outbound), (3, 3, 0));
    // A place that becomes free is taken.
    drop(guests);
    hub.once(|status| status.peers == 0).await;
    let _next = flood(&hub, 1).await;
    hub.once(|status| status.peers == 1).await;
}

/// Nodes that dial `hub`, whether it takes them or not.
async fn flood(hub: &Node, count: usize) -> Vec<Node> {
    let mut guests = Vec::new();
    for _ in 0..count {
        let guest = node();
        // Where it is refused after the handshake, the dial has gone well and the connection ends at once.
        drop(guest.network.dial(hub.address.clone()).await);
        guests.push(guest);
    }
    guests
}

#[tokio::test]
async fn a_peer_has_its_share_of_connections() {
    let limits = Limits {
        per_peer: 2,
        ..Limits::default()
    };
    let hub = node_with(settings(limits));
    let crowd = settings(Limits::default());
    // Several nodes with one key are one peer.
    let crowd: Vec<_> = (0..5)
        .map(|_| {
            let mut settings = settings(Limits::default());
            settings.key = crowd.key.clone();
            node_with(settings)
        })
        .collect();
    for node in &crowd {
        drop(node.network.dial(hub.address.clone()).await);
    }
    let status = hub
        .once(|status| status.figures.connections_refused.bound == 3)
        .await;
    assert_eq!((status.peers, status.inbound), (1, 2));
}

#[tokio::test]
async fn a_node_without_memory_to_spare_takes_and_opens_no_connection() {
    let limits = Limits {
        memory: Some(1),
        ..Limits::default()
    };
    let full = node_with(settings(limits));
    let _guests = flood(&full, 3).await;
    let status = full
        .once(|status| status.figures.connections_refused.memory == 3)
        .await;
    assert_eq!(status.peers, 0);
    let other = node();
    let dialled = full.network.dial(other.address.clone()).await;
    assert!(
        matches!(dialled, Err(NetworkError::Unreachable { .. })),
        "{dialled:?}"
    );
    assert_eq!(full.network.status().await.unwrap().figures.dials_failed, 1);
}

#[tokio::test]
async fn two_nodes_exchange_through_a_third() {
    let mut relay = settings(Limits::default());
    relay.relay = true;
    relay.external = relay.listen.clone();
    let relay = node_with(relay);
    let [mut host, mut guest] = [node(), node()];
    host.network.dial(relay.address.clone()).await.unwrap();
    host.joined().await;
    let circuit: Address = format!("{}/p2p-circuit", relay.address).parse().unwrap();
    let listening = timeout(PATIENCE, host.network.listen(circuit))
        .await
        .unwrap();
    let listening = listening.unwrap();
    assert!(listening.is_relayed(), "{listening}");
    let at = listening.with_peer(host.network.name());
    guest.network.dial(at).await.unwrap();
    guest.joined().await;
    let asked = guest.network.ask(
        Protocol::Meeting,
        host.network.name(),
        Vec::new(),
        b"?".to_vec(),
    );
    let answering = async {
        let request = host.request().await;
        request.answer.send(b"!".to_vec()).unwrap();
    };
    let (asked, ()) = tokio::join!(asked, answering);
    assert_eq!(asked.unwrap().bytes, b"!");
}

#[tokio::test]
async fn nodes_are_found_under_topics_in_the_register_of_another() {
    let mut keeper = settings(Limits::default());
    keeper.register = true;
    let keeper = node_with(keeper);
    let topics = |all: &[&str]| {
        all.iter()
            .map(|&topic| topic.to_owned())
            .collect::<Vec<_>>()
    };
    let mut host = settings(Limits::default());
    host.external = host.listen.clone();
    let (mut host, mut guest) = (node_with(host), node());
    // Before anybody keeps a register nobody is found, and what is wanted is remembered.
    host.network
        .register(topics(&["tea", "cups"]))
        .await
        .unwrap();
    let found = guest.network.look_up("tea".to_owned()).await.unwrap();
    assert_eq!(found, []);
    for node in [&mut host, &mut guest] {
        node.network.dial(keeper.address.clone()).await.unwrap();
        node.joined().await;
    }
    let looked = |topic: &'static str| {
        let network = guest.network.clone();
        async move { network.look_up(topic.to_owned()).await.unwrap() }
    };
    let once = |topic, count| async move {
        while looked(topic).await.len() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, once("tea", 1)).await.unwrap();
    let found = looked("tea").await;
    let at: Vec<String> = found[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(found[0].peer, host.network.name());
    assert!(host.address.to_string().starts_with(&at[0]), "{at:?}");
    // Several looks at once, each with its own answer.
    let (tea, cups, none) = tokio::join!(looked("tea"), looked("cups"), looked("coffee"));
    assert_eq!((tea.len(), cups.len(), none.len()), (1, 1, 0));
    host.network.register(topics(&["cups"])).await.unwrap();
    timeout(PATIENCE, once("tea", 0)).await.unwrap();
    assert_eq!(looked("cups").await.len(), 1);
    let too_long = host.network.register(vec!["x".repeat(300)]).await;
    assert!(matches!(too_long, Err(NetworkError::NotStored(_))));
    // One that goes away does not keep others waiting.
    drop(keeper);
    timeout(PATIENCE, once("cups", 0)).await.unwrap();
}

#[tokio::test]
async fn a_node_that_cannot_listen_says_where() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let mut settings = settings(Limits::default());
    (settings.in_memory, settings.listen) = (false, vec![at.parse().unwrap()]);
    let refused = start(settings).map(|_| ()).unwrap_err().to_string();
    assert!(
        refused.contains(&at) && refused.contains("in use"),
        "{refused}"
    );
}

#[tokio::test]
async fn two_who_dial_the_same_at_once_are_both_told() {
    let [host, guest] = [node(), node()];
    let dial = || guest.network.dial(host.address.clone());
    let (one, other) = tokio::join!(dial(), dial());
    assert_eq!(
        (one, other),
        (Ok(host.network.name()), Ok(host.network.name()))
    );
}

#[tokio::test]
async fn a_node_ends_with_its_last_handle() {
    let Node {
        network,
        mut events,
        ..
    } = node();
    drop(network);
    let ended = async { while events.recv().await.is_some() {} };
    timeout(PATIENCE, ended).await.unwrap();
}

#[test]
fn names_and_addresses_are_read_as_they_are_shown() {
    let name = settings(Limits::default()).key.name();
    assert_eq!(name.to_string().parse(), Ok(name));
    let address: Address = format!("/ip4/192.0.2.7/tcp/1/p2p/{name}").parse().unwrap();
    assert_eq!(address.peer(), Some(name));
    assert_eq!(address.to_string().parse(), Ok(address));
    for bad in [
        "",
        "192.0.2.7:1",
        "/ip4/x",
        &format!("/dns4/{}/tcp/1", "x".repeat(600)),
    ] {
        assert!(bad.parse::<Address>().is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_request_that_waits_goes_by_the_first_connection_there_is() {
    let (mut asker, mut there) = (on_loopback(), on_loopback());
    let name = there.network.name();
    // It takes connections and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let nowhere: Address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let asked = asker
        .network
        .ask(Protocol::Records, name, vec![nowhere], b"?".to_vec());
    let at = asker.once(|status| !status.listen.is_empty()).await;
    let at = at.listen[0].clone().with_peer(asker.network.name());
    there.network.dial(at).await.unwrap();
    asker.joined().await;
    let request = there.request().await;
    request.answer.send(b"!".to_vec()).unwrap();
    assert_eq!(asked.await.unwrap().bytes, b"!");
}

#[tokio::test]
async fn requests_for_a_peer_that_is_dialled_share_the_connection() {
    let (asker, mut there) = (on_loopback(), on_loopback());
    let name = there.network.name();
    let status = there.once(|status| !status.listen.is_empty()).await;
    // More than connections of one peer may be.
    let asked = (0..2 * Limits::default().per_peer).map(|n| {
        let (at, bytes) = (status.listen.clone(), n.to_string().into_bytes());
        asker.network.ask(Protocol::Records, name, at, bytes)
    });
    let asked: Vec<_> = asked.collect();
    for _ in &asked {
        let request = there.request().await;
        let said = request.bytes.clone();
        request.answer.send(said).unwrap();
    }
    for (n, answer) in asked.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap().bytes, n.to_string().as_bytes());
    }
    assert_eq!(asker.network.status().await.unwrap().outbound, 1);
}

#[tokio::test]
async fn a_request_does_not_wait_for_a_dial_that_leads_nowhere() {
    let (asker, mut there) = (on_loopback(), on_loopback());
    let name = there.network.name();
    // It takes connections and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let nowhere: Address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let stuck = asker.network.dial(nowhere.with_peer(name));
    let status = there.once(|status| !status.listen.is_empty()).await;
    let asked = asker
        .network
        .ask(Protocol::Meeting, name, status.listen, b"?".to_vec());
    let request = there.request().await;
    request.answer.send(b"!".to_vec()).unwrap();
    assert_eq!(asked.await.unwrap().bytes, b"!");
    drop(stuck);
}

#[test]
fn only_what_is_near_counts_as_the_same_network() {
    for (ip, near) in [
        ("127.0.0.1", true),
        ("192.168.1.2", true),
        ("10.1.2.3", true),
        ("169.254.0.1", true),
        ("::1", true),
        ("fe80::1", true),
        ("fd00::1", true),
        ("::ffff:192.168.1.2", true),
        ("192.0.2.1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(is_near(ip.parse().unwrap()), near, "{ip}");
    }
}
