use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use kairos_place::meeting_place::store::Snapshot;
use kairos_place::meeting_place::store::memory::MemoryStore;
use kairos_place::meeting_place::{
    Claim, Deposit, DepositKey, Logged, Need, NeedEntry, SkillSetDeposit, SkillSetKey,
};
use kairos_protocol::time::ManualClock;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn wish(id: &str) -> Registration {
    Registration {
        id: id.parse().unwrap(),
        name: None,
        description: None,
        scope: None,
        capabilities: None,
        claim: Claim::Unsigned,
    }
}

/// Counts commits, and fails them while told to.
#[derive(Clone, Default)]
struct Faulty {
    inner: Arc<Mutex<MemoryStore>>,
    fails: Arc<AtomicBool>,
    commits: Arc<AtomicUsize>,
}

impl Store for Faulty {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.inner.lock().load()
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        if self.fails.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Newer { found: 2, known: 1 });
        }
        self.inner.lock().commit(changes)
    }

    fn deposit(&mut self, key: &DepositKey) -> Result<Option<(Deposit, String)>, StoreError> {
        self.inner.lock().deposit(key)
    }

    fn skill_set(
        &mut self,
        key: &SkillSetKey,
    ) -> Result<Option<(SkillSetDeposit, Vec<u8>)>, StoreError> {
        self.inner.lock().skill_set(key)
    }

    fn audit(&mut self, before: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        self.inner.lock().audit(before, limit)
    }
}

fn started(store: &Faulty) -> PlaceHandle {
    let (writer, reader) = (Box::new(store.clone()), Box::new(store.clone()));
    let (policy, clock) = (
        Policy::default(),
        Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000))),
    );
    let opened = OpenPlace::on(None, writer, reader, wish("me"), policy, clock);
    opened.unwrap().start(256, PATIENCE)
}

fn present(place: &PlaceHandle) -> usize {
    place.look(|place| place.census().agents)
}

#[actix::test]
async fn many_registrations_share_few_commits() {
    let store = Faulty::default();
    let place = started(&store);
    let before = store.commits.load(Ordering::SeqCst);
    let all = (0..100).map(|n| {
        let place = place.clone();
        async move { place.register(wish(&format!("a{n}"))).await }
    });
    for done in join_all(all).await {
        assert!(done.unwrap().new);
    }
    let commits = store.commits.load(Ordering::SeqCst) - before;
    assert!(commits < 50, "{commits} commits for 100 registrations");
    assert_eq!(store.clone().load().unwrap().agents.len(), 101);
}

#[actix::test]
async fn what_could_not_be_stored_did_not_happen() {
    let store = Faulty::default();
    let place = started(&store);
    place.register(wish("kept")).await.unwrap();
    let need = Need {
        name: "tea".to_owned(),
        description: None,
    };
    let entry = NeedEntry {
        agent_name: "Kept".to_owned(),
        agent_mode: "user".to_owned(),
        needs: vec![need],
    };
    let kept: AgentId = "kept".parse().unwrap();
    place.publish_needs(kept, entry).await.unwrap();
    store.fails.store(true, Ordering::SeqCst);
    let (first, second) = futures::join!(place.register(wish("a")), place.register(wish("b")));
    assert!(matches!(first, Err(PlaceError::Store(_))), "{first:?}");
    assert!(matches!(second, Err(PlaceError::Store(_))), "{second:?}");
    assert_eq!(present(&place), 2);
    // What is only ever in memory was acknowledged, and stays.
    assert_eq!(place.look(|place| place.census().needs), 1);
    assert!(place.register(wish("a")).await.unwrap().new);
    assert_eq!(store.clone().load().unwrap().agents.len(), 3);
}

#[actix::test]
async fn nothing_is_acknowledged_on_the_strength_of_what_is_not_stored() {
    let store = Faulty::default();
    let place = started(&store);
    store.fails.store(true, Ordering::SeqCst);
    // The second one changes nothing, if the first one holds.
    let (first, second) = futures::join!(place.register(wish("a")), place.register(wish("a")));
    assert!(matches!(first, Err(PlaceError::Store(_))), "{first:?}");
    assert!(matches!(second, Err(PlaceError::Store(_))), "{second:?}");
    assert_eq!(present(&place), 1);
}

#[actix::test]
async fn exchanges_are_counted_at_once_and_stored_with_the_next_sweep() {
    let store = Faulty::default();
    let place = started(&store);
    place.count_exchange();
    place.count_exchange();
    let commits = store.commits.load(Ordering::SeqCst);
    assert_eq!(place.look(|place| place.census().exchanges), 2);
    place.sweep(10).await.unwrap();
    place.sweep(10).await.unwrap();
    assert_eq!(store.commits.load(Ordering::SeqCst), commits + 1);
    assert_eq!(store.clone().load().unwrap().exchanges, 2);
}

#[actix::test]
async fn a_place_is_there_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        PlaceActor::start(
            dir.path(),
            wish("me"),
            Policy::default(),
            clock,
            16,
            PATIENCE,
        )
        .unwrap()
    };
    let place = start();
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    let other = PlaceActor::start(
        dir.path(),
        wish("me"),
        Policy::default(),
        clock,
        16,
        PATIENCE,
    );
    assert!(matches!(other, Err(PlaceError::Taken(_))));
    place.register(wish("a")).await.unwrap();
    assert!(place.touch(&"a".parse().unwrap()));
    assert!(!place.touch(&"stranger".parse().unwrap()));
    place.shutdown().await.unwrap();
    let place = start();
    assert_eq!(present(&place), 2);
    assert!(place.unregister("a".parse().unwrap()).await.unwrap());
    assert!(place.sweep(10).await.unwrap().is_empty());
}
