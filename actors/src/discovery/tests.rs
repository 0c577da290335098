use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::json;
use kairos_protocol::record::ask::Query;
use kairos_protocol::record::{Announcement, Offer, OfferKind, SKEW};
use kairos_protocol::time::ManualClock;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::*;

static KEYS: LazyLock<[Arc<Keypair>; 3]> =
    LazyLock::new(|| [(); 3].map(|()| Arc::new(Keypair::generate().unwrap())));
static PORT: AtomicU64 = AtomicU64::new(1_000_000);
const PATIENCE: Duration = Duration::from_secs(10);

struct Agent {
    handle: DiscoveryHandle,
    id: AgentId,
    at: Address,
    visits: Rc<Cell<usize>>,
}

fn parts(n: usize, scope: Scope, clock: Arc<dyn Clock>) -> (DiscoveryParts, Rc<Cell<usize>>) {
    let visits = Rc::new(Cell::new(0));
    let counted = Rc::clone(&visits);
    let door: MeetingDoor = Rc::new(move |visit: Visit| {
        counted.set(counted.get() + 1);
        Box::pin(async move { [b"got ".as_slice(), &visit.message].concat() })
    });
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    let parts = DiscoveryParts {
        keypair: Arc::clone(&KEYS[n]),
        peer_key: PeerKey::generate().unwrap(),
        name: format!("agent {n}"),
        clock,
        scope,
        listen: vec![format!("/memory/{port}").parse().unwrap()],
        external: Vec::new(),
        bootstrap: Vec::new(),
        redial: REDIAL,
        mdns: false,
        relay: false,
        register: false,
        in_memory: true,
        limits: Limits::default(),
        door,
        say: Rc::new(|| Box::pin(async { Said::default() })),
        noted: Rc::new(|_| ()),
        round: ROUND,
    };
    (parts, visits)
}

fn begin((parts, visits): (DiscoveryParts, Rc<Cell<usize>>)) -> Agent {
    let id = parts.keypair.public().agent_id();
    let node = NodeKey::from_seed(parts.peer_key.seed()).unwrap().name();
    let at = parts.listen[0].clone().with_peer(node);
    let handle = DiscoveryActor::start(parts, 8, PATIENCE).unwrap();
    Agent {
        handle,
        id,
        at,
        visits,
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)))
}

fn agent(n: usize, scope: Scope) -> Agent {
    begin(parts(n, scope, clock()))
}

/// Waits until `look` finds something.
async fn until<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, found).await.expect("in time")
}

async fn is_published(agent: &Agent, published: Published) {
    until(|| async {
        let shown = agent.handle.show().await.unwrap();
        (shown.published == published).then_some(())
    })
    .await;
}

#[actix::test]
async fn a_node_says_whose_it_is_from_its_first_moment() {
    let [ada, ben] = [0, 1].map(|n| agent(n, Scope::Private));
    ben.handle.dial(ada.at.clone()).await.unwrap();
    let node = ada.at.peer().unwrap();
    let (record, _) = ben.handle.record_of(node).await.unwrap();
    assert_eq!(record.id(), &ada.id);
}

#[actix::test]
async fn agents_are_found_by_id_through_others() {
    let [hub, ada, ben] = [0, 1, 2].map(|n| agent(n, Scope::World));
    for guest in [&ada, &ben] {
        guest.handle.dial(hub.at.clone()).await.unwrap();
    }
    is_published(&ada, Published::Table).await;
    let found = ben.handle.find(ada.id.clone()).await.unwrap().unwrap();
    assert_eq!(
        (found.record.id(), found.record.name()),
        (&ada.id, "agent 1")
    );
    assert_eq!(Some(found.peer), ada.at.peer());
    // The record leads there, though nobody dialled it.
    let carried = ben.handle.carry(found.peer, b"hi".to_vec()).await.unwrap();
    assert_eq!(
        (carried.message.as_slice(), carried.way),
        (&b"got hi"[..], Way::Direct)
    );
    assert_eq!(ada.visits.get(), 1);
    let nobody = "0123456789abcdef".parse().unwrap();
    assert!(ben.handle.find(nobody).await.unwrap().is_none());
}

#[actix::test]
async fn an_agent_that_is_private_is_found_by_nobody() {
    let [hub, ben] = [0, 2].map(|n| agent(n, Scope::World));
    let ada = agent(1, Scope::Private);
    for guest in [&ada, &ben] {
        guest.handle.dial(hub.at.clone()).await.unwrap();
    }
    is_published(&ben, Published::Table).await;
    is_published(&ada, Published::Nearby).await;
    for seeker in [&hub, &ben] {
        assert!(seeker.handle.find(ada.id.clone()).await.unwrap().is_none());
    }
    // Whoever has its address can ask whose node it is, and be sure of the answer.
    let (record, _) = hub.handle.record_of(ada.at.peer().unwrap()).await.unwrap();
    assert_eq!(record.id(), &ada.id);
    let peers = hub.handle.peers().await.unwrap();
    assert!(
        peers
            .iter()
            .any(|peer| peer.agent.as_ref().is_some_and(|(id, _)| *id == ada.id))
    );
}

#[actix::test]
async fn an_agent_that_is_alone_tries_again_where_it_begins() {
    let later = parts(0, Scope::World, clock());
    let (mut early, visits) = parts(1, Scope::World, clock());
    early.bootstrap = later.0.listen.clone();
    early.redial = Duration::from_millis(50);
    let early = begin((early, visits));
    // Its first try came to nothing.
    is_published(&early, Published::Nowhere).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(early.handle.show().await.unwrap().status.peers, 0);
    let _later = begin(later);
    is_published(&early, Published::Table).await;
}

#[actix::test]
async fn a_record_of_another_time_is_not_taken() {
    let hub = agent(0, Scope::World);
    let late = clock();
    late.advance(SKEW + Duration::from_secs(60));
    let ada = begin(parts(1, Scope::World, late));
    ada.handle.dial(hub.at.clone()).await.unwrap();
    // It believes that it left its record, which the hub refused.
    is_published(&ada, Published::Table).await;
    assert!(hub.handle.find(ada.id.clone()).await.unwrap().is_none());
    let told = hub.handle.record_of(ada.at.peer().unwrap()).await;
    assert!(
        matches!(told, Err(DiscoveryError::Stranger { .. })),
        "{told:?}"
    );
    let shown = hub.handle.show().await.unwrap();
    assert!(shown.status.figures.records_refused.total() > 0);
}

#[actix::test]
async fn a_record_is_signed_anew_when_half_of_its_time_is_over() {
    let time = clock();
    let ada = begin(parts(1, Scope::Lan, time.clone()));
    is_published(&ada, Published::Nearby).await;
    let first = ada.handle.show().await.unwrap().sequence.unwrap();
    time.advance(LIFETIME / 2);
    let guest = agent(2, Scope::Private);
    guest.handle.dial(ada.at.clone()).await.unwrap();
    let second = until(|| async {
        let sequence = ada.handle.show().await.unwrap().sequence.unwrap();
        (sequence != first).then_some(sequence)
    })
    .await;
    assert!(second > first);
}

#[actix::test]
async fn that_the_ledger_grew_is_not_said_at_once() {
    let (time, blocks) = (clock(), Rc::new(Cell::new(1)));
    let (mut ada, visits) = parts(1, Scope::Lan, time.clone());
    let counted = Rc::clone(&blocks);
    ada.say = Rc::new(move || {
        let ledger = Some(json!({"size": counted.get()}));
        Box::pin(async move {
            Said {
                ledger,
                ..Said::default()
            }
        })
    });
    let ada = begin((ada, visits));
    is_published(&ada, Published::Nearby).await;
    let node = ada.at.peer().unwrap();
    let told = async || {
        // Whoever joins has the record looked at.
        let guest = begin(parts(2, Scope::Private, time.clone()));
        guest.handle.dial(ada.at.clone()).await.unwrap();
        sleep(SETTLE * 2).await;
        let (record, _) = guest.handle.record_of(node).await.unwrap();
        (record.sequence(), record.ledger().cloned())
    };
    let first = told().await;
    blocks.set(2);
    assert_eq!(told().await, first);
    time.advance(ours::LEDGER_EVERY);
    let (sequence, ledger) =
        until(|| async { Some(told().await).filter(|told| *told != first) }).await;
    assert!(sequence > first.0);
    assert_eq!(ledger, Some(json!({"size": 2})));
}

/// What an agent that serves tea at its Place says.
fn tea_house() -> Said {
    Said {
        place: Some("Tea house".to_owned()),
        url: Some("http://192.0.2.7:8080".to_owned()),
        offers: vec![Offer {
            kind: OfferKind::Skill,
            name: "tea".to_owned(),
            content_hash: ContentHash::of("tea"),
            tags: vec!["Drinks".to_owned()],
        }],
        ledger: Some(json!({"checkpoint": "as shown"})),
    }
}

async fn lists(agent: &Agent, count: usize) {
    until(|| async {
        let shown = agent.handle.show().await.unwrap();
        (shown.listed == count).then_some(())
    })
    .await;
}

#[actix::test]
async fn who_comes_late_sees_the_same_and_finds_by_what_is_handed_out() {
    let hub = agent(0, Scope::World);
    let (mut ada, visits) = parts(1, Scope::World, clock());
    ada.say = Rc::new(|| Box::pin(async { tea_house() }));
    let ada = begin((ada, visits));
    ada.handle.dial(hub.at.clone()).await.unwrap();
    lists(&hub, 1).await;
    // It asks the hub for what it has; nobody tells it by itself.
    let ben = agent(2, Scope::World);
    ben.handle.dial(hub.at.clone()).await.unwrap();
    lists(&ben, 2).await;
    for query in [
        Query::Place("tea HOUSE".to_owned()),
        Query::Offer("Tea".to_owned()),
        Query::Tag("drinks".to_owned()),
        Query::Content(ContentHash::of("tea")),
    ] {
        let found = ben.handle.search(query.clone()).await.unwrap();
        let [found] = &found[..] else {
            panic!("{query:?}: {found:?}");
        };
        assert_eq!((found.record.id(), found.has_answered), (&ada.id, true));
        assert_eq!(found.record.url(), Some("http://192.0.2.7:8080"));
        assert_eq!(found.record.offers(), tea_house().offers);
    }
    let nothing = ben.handle.search(Query::Tag("coffee".to_owned())).await;
    assert!(nothing.unwrap().is_empty());
}

#[actix::test]
async fn who_is_in_a_register_is_found_though_nobody_else_tells() {
    let (mut hub, visits) = parts(0, Scope::Private, clock());
    hub.register = true;
    let hub = begin((hub, visits));
    let (mut ada, visits) = parts(1, Scope::World, clock());
    ada.say = Rc::new(|| Box::pin(async { tea_house() }));
    ada.external = ada.listen.clone();
    // She asks nobody what they know, and Ben neither.
    ada.round = Duration::from_secs(3600);
    let ada = begin((ada, visits));
    ada.handle.dial(hub.at.clone()).await.unwrap();
    is_published(&ada, Published::Table).await;
    let (mut ben, visits) = parts(2, Scope::Private, clock());
    ben.round = Duration::from_secs(3600);
    let ben = begin((ben, visits));
    ben.handle.dial(hub.at.clone()).await.unwrap();
    for query in [
        Query::Place("house".to_owned()),
        Query::Tag("DRINKS".to_owned()),
        Query::Content(ContentHash::of("tea")),
    ] {
        let found = until(|| async {
            let found = ben.handle.search(query.clone()).await.unwrap();
            found.into_iter().next()
        })
        .await;
        assert_eq!((found.record.id(), found.has_answered), (&ada.id, true));
    }
}

#[test]
fn an_agent_is_in_registers_under_what_it_is_and_hands_out() {
    let ours = Announcement {
        name: "Ada".to_owned(),
        sequence: 1,
        issued_at: clock().now(),
        expires_at: clock().now().plus(LIFETIME),
        scope: Scope::World,
        addresses: Vec::new(),
        url: None,
        offers: tea_house().offers,
        place: tea_house().place,
        ledger: None,
    };
    let record = Record::sign(ours, &KEYS[0], &PeerKey::generate().unwrap()).unwrap();
    let hash = ContentHash::of("tea");
    assert_eq!(
        records::topics(&record),
        [
            "kairos/place",
            &format!("kairos/content/{hash}"),
            "kairos/tag/drinks"
        ]
    );
}

#[actix::test]
async fn one_that_is_gone_is_told_of_as_such() {
    let hub = agent(0, Scope::World);
    let (mut ada, visits) = parts(1, Scope::World, clock());
    ada.say = Rc::new(|| Box::pin(async { tea_house() }));
    let ada = begin((ada, visits));
    ada.handle.dial(hub.at.clone()).await.unwrap();
    lists(&hub, 1).await;
    ada.handle.shutdown().await.unwrap();
    let found = hub
        .handle
        .search(Query::Place(String::new()))
        .await
        .unwrap();
    let answered: Vec<bool> = found.iter().map(|found| found.has_answered).collect();
    assert_eq!(answered, [false], "{found:?}");
}

#[actix::test]
async fn what_is_not_for_everybody_is_not_passed_on() {
    let [hub, ben] = [0, 2].map(|n| agent(n, Scope::World));
    let ada = agent(1, Scope::Lan);
    for guest in [&ada, &ben] {
        guest.handle.dial(hub.at.clone()).await.unwrap();
    }
    lists(&ben, 1).await;
    lists(&hub, 1).await;
    let found = ben.handle.search(Query::Place(String::new())).await;
    assert!(found.unwrap().is_empty());
    assert!(ben.handle.find(ada.id.clone()).await.unwrap().is_none());
}

#[actix::test]
async fn a_change_is_said_and_heard_of_once() {
    let said = Rc::new(Cell::new(false));
    let heard = Rc::new(Cell::new(0));
    let (mut ada, visits) = parts(1, Scope::World, clock());
    let has_said = Rc::clone(&said);
    ada.say = Rc::new(move || {
        has_said.set(true);
        Box::pin(async { tea_house() })
    });
    let (mut hub, hub_visits) = parts(0, Scope::World, clock());
    let counted = Rc::clone(&heard);
    hub.noted = Rc::new(move |record| {
        assert_eq!(record.ledger(), tea_house().ledger.as_ref());
        counted.set(counted.get() + 1);
    });
    hub.round = Duration::from_millis(50);
    let (ada, hub) = (begin((ada, visits)), begin((hub, hub_visits)));
    is_published(&ada, Published::Nowhere).await;
    until(|| async { said.get().then_some(()) }).await;
    // Its first record may have been signed before it knew what to say.
    sleep(SETTLE * 2).await;
    ada.handle.dial(hub.at.clone()).await.unwrap();
    lists(&hub, 1).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(heard.get(), 1);
}

#[actix::test]
async fn a_peer_that_tells_what_does_not_hold_is_believed_nothing() {
    let (mut hub, visits) = parts(0, Scope::World, clock());
    hub.round = Duration::from_millis(50);
    let hub = begin((hub, visits));
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    let node = PeerKey::generate().unwrap();
    let settings = Settings {
        key: NodeKey::from_seed(node.seed()).unwrap(),
        listen: vec![format!("/memory/{port}").parse().unwrap()],
        external: Vec::new(),
        mdns: false,
        relay: false,
        register: false,
        relayed: false,
        autonat: false,
        in_memory: true,
        software: "liar/1".to_owned(),
        limits: Limits::default(),
        judge: judge(clock()),
    };
    let (network, mut events) = kairos_p2p::start(settings).unwrap();
    network.dial(hub.at.clone()).await.unwrap();
    let now = clock().now();
    let record = |scope, sequence, lifetime| {
        let announcement = Announcement {
            name: "Mallory".to_owned(),
            sequence,
            issued_at: now,
            expires_at: now.plus(lifetime),
            scope,
            addresses: Vec::new(),
            url: None,
            offers: Vec::new(),
            place: None,
            ledger: None,
        };
        Record::sign(announcement, &KEYS[2], &node)
            .unwrap()
            .to_value()
    };
    let mut forged = record(Scope::World, 9, LIFETIME);
    forged["name"] = json!("Ada");
    let hours = Duration::from_secs(3600);
    let lies = [
        forged,
        record(Scope::Lan, 8, LIFETIME),
        json!("nonsense"),
        json!({}),
    ];
    let asked = Rc::new(Cell::new((0, 0)));
    let counted = Rc::clone(&asked);
    let good = record(Scope::World, 7, hours);
    actix::spawn(async move {
        while let Some(event) = events.recv().await {
            let Event::Request(request) = event else {
                continue;
            };
            let (sets, agents) = counted.get();
            let told = match RecordsAsked::read(&request.bytes) {
                Some(RecordsAsked::Sets(_)) => {
                    counted.set((sets + 1, agents));
                    // Ever deeper, and newer than can be.
                    let all = (0..16).map(|n| format!("{:032x}", n + sets));
                    let parts = json!({"parts": all.collect::<Vec<_>>()});
                    let list = json!({"list": [["a1b2c3d4e5f60718", u64::MAX]]});
                    json!({"sets": [if sets % 2 == 0 { parts } else { list }]})
                }
                Some(RecordsAsked::Agents(_)) => {
                    counted.set((sets, agents + 1));
                    let mut told = lies.to_vec();
                    told.push(good.clone());
                    json!({ "records": told })
                }
                // It is itself, whoever is asked for, but when that is true.
                Some(RecordsAsked::Agent(id)) if id != KEYS[2].public().agent_id() => {
                    json!({"record": good})
                }
                _ => json!({"record": null}),
            };
            drop(request.answer.send(json::canonical(&told).into_bytes()));
        }
    });
    until(|| async { (asked.get().1 >= 1).then_some(()) }).await;
    // Of all that it told, one record holds.
    lists(&hub, 1).await;
    let (sets, agents) = asked.get();
    assert!(sets <= kairos_protocol::record::pull::QUESTIONS_MAX && agents >= 1);
    let ben = &KEYS[2].public().agent_id();
    let found = hub.handle.find(ben.clone()).await.unwrap();
    assert!(found.is_none(), "it does not say so itself: {found:?}");
    let ada = &KEYS[1].public().agent_id();
    let found = hub.handle.find(ada.clone()).await.unwrap();
    assert!(found.is_none(), "it is another agent: {found:?}");
}
