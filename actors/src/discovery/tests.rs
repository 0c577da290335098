use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use kairos_protocol::id::AgentId;
use kairos_protocol::record::SKEW;
use kairos_protocol::time::ManualClock;
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
        in_memory: true,
        limits: Limits::default(),
        door,
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
    assert!(shown.status.records_refused > 0);
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

#[test]
fn what_is_asked_for_records_is_read_as_it_was_written() {
    for asked in [
        RecordsAsked::Own,
        RecordsAsked::Agent("a1b2".parse().unwrap()),
    ] {
        assert_eq!(RecordsAsked::read(&asked.to_bytes()), Some(asked));
    }
    for wrong in [&b""[..], b"{}", b"[]", b"{\"own\":false}", b"{\"agent\":1}"] {
        assert_eq!(RecordsAsked::read(wrong), None);
    }
    let nothing = RecordsTold::of(None).to_bytes();
    assert!(RecordsTold::read(&nothing, Timestamp::EPOCH).is_err());
}
