//! What every store must do. Each implementation runs these checks in its own tests.

use std::time::Duration;

use kairos_protocol::block::{Block, StoredBlock};
use kairos_protocol::ledger::LoadState;
use kairos_protocol::time::{ManualClock, Timestamp};

use super::{BlockStore, HISTORY_MAX, StoreError};

pub(crate) type Store = Box<dyn BlockStore>;

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(Timestamp::parse("2026-01-20T10:30:00.123456Z").unwrap())
}

pub(crate) fn one(entry: impl Into<String>) -> Vec<Vec<String>> {
    vec![vec![entry.into()]]
}

/// The first entries of the chain, oldest first.
pub(crate) fn entries(store: &dyn BlockStore) -> Vec<String> {
    let history = store.history(HISTORY_MAX).unwrap();
    history.iter().rev().map(|b| b.data()[0].clone()).collect()
}

/// From nothing to a few blocks. `open` reopens the same ledger each time.
pub(crate) fn check_lifecycle(open: impl Fn() -> Store) {
    let clock = clock();

    let store = open();
    assert_eq!(store.tip().unwrap(), None);
    assert_eq!(store.history(10).unwrap(), []);
    assert_eq!(store.blocks(0, 10).unwrap(), []);
    let report = store.verify().unwrap();
    assert_eq!(
        (report.state, report.length, report.is_valid()),
        (LoadState::Absent, 0, true)
    );
    assert_eq!(open().append(vec![], &clock).unwrap(), []);
    assert_eq!(
        open().tip().unwrap(),
        None,
        "an empty batch begins no ledger"
    );

    let first = store.append(one("first"), &clock).unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].index, 1);
    assert_eq!(store.tip().unwrap(), Some(first[0]));
    assert_eq!(open().tip().unwrap(), Some(first[0]));

    clock.advance(Duration::from_secs(1));
    let odd = "quote \" backslash \\ newline \n bell \u{7} 日本語 😀 \u{2028}";
    let batch = vec![
        vec!["second".to_owned(), odd.to_owned()],
        vec!["third".to_owned()],
    ];
    let store = open();
    let more = store.append(batch, &clock).unwrap();
    assert_eq!(more.iter().map(|b| b.index).collect::<Vec<_>>(), [2, 3]);

    let store = open();
    let history = store.history(2).unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].to_ref(), more[1]);
    assert_eq!(history[1].data(), ["second", odd]);
    assert_eq!(history[1].previous_hash(), first[0].hash);
    assert_eq!(history[1].timestamp(), "2026-01-20T10:30:01.123456Z");
    assert_eq!(store.history(0).unwrap(), []);
    assert_eq!(
        entries(&*store),
        ["Genesis Block", "first", "second", "third"]
    );

    let report = store.verify().unwrap();
    assert!(report.is_valid() && report.warning_count == 0, "{report:?}");
    assert_eq!((report.length, report.tip), (4, Some(more[1])));

    // Two open at once see each other's blocks.
    let (a, b) = (open(), open());
    for n in 0..200_u32 {
        let store = if n % 3 == 0 { &a } else { &b };
        store.append(one(n.to_string()), &clock).unwrap();
    }
    assert_eq!(a.tip().unwrap(), b.tip().unwrap());
    assert_eq!(open().verify().unwrap().length, 204);
    let newest: Vec<_> = a.history(150).unwrap();
    assert_eq!(newest.len(), 150);
    assert!(newest.windows(2).all(|w| w[0].index() == w[1].index() + 1));
    assert_eq!(newest[149].data(), ["50"]);
    let indices = |blocks: Vec<Block>| blocks.iter().map(Block::index).collect::<Vec<_>>();
    assert_eq!(indices(a.blocks(0, 3).unwrap()), [0, 1, 2]);
    assert_eq!(indices(b.blocks(130, 1).unwrap()), [130]);
    assert_eq!(indices(a.blocks(202, 10).unwrap()), [202, 203]);
    assert_eq!(a.blocks(204, 10).unwrap(), []);
    assert_eq!(a.blocks(u64::MAX, 10).unwrap(), []);
    assert_eq!(a.blocks(0, 0).unwrap(), []);
}

/// Ledgers that do not load are refused and stay as they are. `holding` makes a ledger of given blocks.
pub(crate) fn check_refusals(holding: impl Fn(Vec<StoredBlock>) -> Store) {
    let clock = clock();
    let genesis = StoredBlock::from(Block::genesis().clone());
    let mut forged = genesis.clone();
    forged.index = 5;
    for (blocks, state) in [
        (vec![], LoadState::Empty),
        (vec![genesis.clone(), forged], LoadState::Corrupt),
    ] {
        let store = holding(blocks);
        let before = store.verify().unwrap();
        assert_eq!(before.state, state);
        let error = store.append(one("x"), &clock).unwrap_err();
        assert!(matches!(error, StoreError::Refused(s) if s == state));
        assert_eq!(
            error.to_string(),
            format!("cannot append: ledger is {state}")
        );
        assert!(matches!(store.tip(), Err(StoreError::NotReadable(s)) if s == state));
        assert!(matches!(store.history(1), Err(StoreError::NotReadable(s)) if s == state));
        assert!(matches!(store.blocks(0, 1), Err(StoreError::NotReadable(s)) if s == state));
        assert_eq!(store.verify().unwrap(), before);
    }
    let mut bare = genesis;
    bare.hash = None;
    let store = holding(vec![bare]);
    store.append(one("behind a bare genesis"), &clock).unwrap();
    assert_eq!(store.verify().unwrap().warning_count, 1);
}

/// Threads that append at once, each through its own store, lose nothing.
pub(crate) fn check_concurrency(open: impl Fn() -> Store + Sync) {
    const THREADS: usize = 4;
    const EACH: usize = 25;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let open = &open;
            scope.spawn(move || {
                let (store, clock) = (open(), clock());
                for n in 0..EACH {
                    let tip = store.append(one(format!("{thread}/{n}")), &clock).unwrap()[0];
                    assert!(store.tip().unwrap().unwrap().index >= tip.index);
                }
            });
        }
    });
    let store = open();
    assert!(store.verify().unwrap().is_valid());
    let mut found = entries(&*store);
    assert_eq!(found.remove(0), "Genesis Block");
    found.sort();
    let mut expected: Vec<_> = (0..THREADS * EACH)
        .map(|n| format!("{}/{}", n / EACH, n % EACH))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
}
