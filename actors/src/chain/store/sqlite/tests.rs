use std::fs;

use kairos_protocol::block::StoredBlock;
use tempfile::TempDir;

use super::*;
use crate::chain::store::conformance::{self, clock, entries, one};

mod damage;

const OPTIONS: SqliteOptions = SqliteOptions {
    wal: true,
    patience: Duration::from_secs(60),
};

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("storage/kairos.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path(), OPTIONS)
    }

    /// Runs SQL as another program would.
    fn sql(&self, sql: &str) {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(OPTIONS.patience).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    fn holding(&self, blocks: &[StoredBlock]) {
        fs::create_dir_all(self.path().parent().unwrap()).unwrap();
        let connection = Connection::open(self.path()).unwrap();
        database::create_tables(&connection).unwrap();
        // What the reference does on every append.
        for block in blocks {
            connection
                .execute(
                    "INSERT OR REPLACE INTO blocks (block_index, timestamp, data, previous_hash, merkle_root, hash)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    rusqlite::params![
                        block.index as i64,
                        block.timestamp,
                        serde_json::to_string(&block.data).unwrap(),
                        block.previous_hash.to_hex(),
                        block.merkle_root.to_string(),
                        block.hash.map(|hash| hash.to_hex()).unwrap_or_default(),
                    ],
                )
                .unwrap();
        }
    }
}

fn genesis() -> StoredBlock {
    Block::genesis().clone().into()
}

#[test]
fn conforms() {
    let place = Place::new();
    conformance::check_lifecycle(|| Box::new(place.open()));
    let places = std::cell::RefCell::new(Vec::new());
    conformance::check_refusals(|blocks| {
        let place = Place::new();
        if blocks.is_empty() {
            place.holding(&[genesis()]);
            place.sql("DELETE FROM blocks");
        } else {
            place.holding(&blocks);
        }
        let store = Box::new(place.open());
        places.borrow_mut().push(place);
        store
    });
    let place = Place::new();
    conformance::check_concurrency(|| Box::new(place.open()));
}

#[test]
fn nothing_is_made_before_the_first_append_and_then_the_tables_of_the_reference() {
    let place = Place::new();
    let store = place.open();
    assert!(store.verify().unwrap().is_valid());
    assert_eq!(store.append(vec![], &clock()).unwrap(), []);
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 0);
    store.append(one("first"), &clock()).unwrap();
    let connection = Connection::open(place.path()).unwrap();
    let names = |kind: &str| {
        let sql = "SELECT name FROM sqlite_master WHERE type = ?1 AND name NOT LIKE 'sqlite_%' ORDER BY name";
        let mut select = connection.prepare(sql).unwrap();
        let names = select
            .query_map([kind], |row| row.get::<_, String>(0))
            .unwrap();
        names.map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(names("table"), ["action_logs", "blocks", "knowledge_meta"]);
    assert_eq!(
        names("index"),
        [
            "idx_action_logs_skill",
            "idx_action_logs_timestamp",
            "idx_blocks_hash",
            "idx_blocks_index",
            "idx_knowledge_meta_archived",
            "idx_knowledge_meta_hash",
        ]
    );
    let row: (i64, String, String) = connection
        .query_row(
            "SELECT id, data, created_at FROM blocks WHERE block_index = 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!((row.0, row.1.as_str(), row.2.len()), (2, "[\"first\"]", 19));
    let leftovers: Vec<_> = fs::read_dir(place.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(leftovers, [""; 0]);
}

#[test]
fn an_empty_file_or_something_else_is_never_taken_for_a_new_ledger() {
    for content in [
        &b""[..],
        b"not a database, but long enough to be looked at as one",
    ] {
        let place = Place::new();
        fs::create_dir_all(place.path().parent().unwrap()).unwrap();
        fs::write(place.path(), content).unwrap();
        let store = place.open();
        assert_eq!(store.verify().unwrap().state, LoadState::Unreadable);
        let error = store.append(one("x"), &clock()).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::Refused(LoadState::Unreadable) | StoreError::Io { .. }
            ),
            "{error}"
        );
        assert_eq!(fs::read(place.path()).unwrap(), content);
    }
    let place = Place::new();
    fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    place.sql("CREATE TABLE songs (title TEXT)");
    let store = place.open();
    assert_eq!(store.verify().unwrap().state, LoadState::Unreadable);
    let error = store.append(one("x"), &clock()).unwrap_err();
    assert!(matches!(error, StoreError::Refused(LoadState::Unreadable)));
}

#[test]
fn notices_whatever_others_do_to_the_database() {
    let place = Place::new();
    let store = place.open();
    for n in 0..5 {
        store.append(one(n.to_string()), &clock()).unwrap();
    }
    let state = |store: &SqliteStore| store.verify().unwrap().state;
    // The reference writes every row again.
    place.sql("INSERT OR REPLACE INTO blocks (block_index, timestamp, data, previous_hash, merkle_root, hash)
               SELECT block_index, timestamp, data, previous_hash, merkle_root, hash FROM blocks");
    assert_eq!(store.tip().unwrap().unwrap().index, 5);
    place.sql("DELETE FROM blocks WHERE block_index = 5");
    assert_eq!(store.tip().unwrap().unwrap().index, 4);
    store.append(one("again"), &clock()).unwrap();
    assert_eq!(entries(&store)[5], "again");
    place.sql("UPDATE blocks SET data = '[\"forged\"]' WHERE block_index = 5");
    assert!(matches!(
        store.tip(),
        Err(StoreError::NotReadable(LoadState::Corrupt))
    ));
    assert_eq!(state(&store), LoadState::Corrupt);
    place.sql("DELETE FROM blocks WHERE block_index = 5; DELETE FROM blocks WHERE block_index = 2");
    assert!(matches!(
        store.append(one("x"), &clock()),
        Err(StoreError::Refused(LoadState::Corrupt))
    ));
    // Another file in its place.
    for end in ["", "-wal", "-shm"] {
        let path = place.path().with_file_name(format!("kairos.db{end}"));
        let _absent = fs::remove_file(path);
    }
    assert_eq!(store.tip().unwrap(), None);
    let gone = store.append(one("x"), &clock());
    assert!(matches!(gone, Err(StoreError::Gone)));
    place.open().append(one("anew"), &clock()).unwrap();
    assert_eq!(entries(&place.open()), ["Genesis Block", "anew"]);
}

#[test]
fn waits_for_other_writers_only_so_long() {
    let place = Place::new();
    place.open().append(one("a"), &clock()).unwrap();
    let options = SqliteOptions {
        patience: Duration::from_millis(20),
        ..OPTIONS
    };
    let store = SqliteStore::open(&place.path(), options);
    let other = Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(
        store.append(one("b"), &clock()),
        Err(StoreError::Locked)
    ));
    assert_eq!(
        store.tip().unwrap().unwrap().index,
        1,
        "readers do not wait"
    );
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.append(one("b"), &clock()).unwrap()[0].index, 2);
}

#[test]
fn a_full_disk_leaves_the_ledger_as_before() {
    let place = Place::new();
    let store = place.open();
    store.append(one("a"), &clock()).unwrap();
    {
        let slot = store.lock();
        let connection = &slot.as_ref().unwrap().connection;
        let pages: i64 = connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .unwrap();
        connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .unwrap();
    }
    let error = store
        .append(one("x".repeat(100_000)), &clock())
        .unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert_eq!(entries(&store), ["Genesis Block", "a"]);
    assert!(place.open().append(one("b"), &clock()).is_ok());
}

/// What lies beside the database, with the bytes of each file.
fn beside(place: &Place) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = fs::read_dir(place.path().parent().unwrap()).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_look_changes_nothing_whatever_lies_beside_the_database() {
    let place = Place::new();
    assert_eq!(
        inspect(&place.path(), None).unwrap().report.state,
        LoadState::Absent
    );
    let store = place.open();
    let tip = store.append(one("a"), &clock()).unwrap()[0];
    // While somebody has it open, with a log of its own.
    let open = beside(&place);
    assert!(
        open.iter()
            .any(|(name, bytes)| name == "kairos.db-wal" && !bytes.is_empty())
    );
    let found = inspect(&place.path(), Some(1)).unwrap();
    assert_eq!(
        (found.report.tip, found.at, found.report.length),
        (Some(tip), Some(tip), 2)
    );
    let names = |files: &[(std::ffi::OsString, Vec<u8>)]| -> Vec<_> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&beside(&place)), names(&open));
    // As a crash leaves it, without the index of the log.
    let crashed = Place::new();
    fs::create_dir_all(crashed.path().parent().unwrap()).unwrap();
    for (name, bytes) in open.iter().filter(|(name, _)| name != "kairos.db-shm") {
        fs::write(crashed.path().with_file_name(name), bytes).unwrap();
    }
    let before = beside(&crashed);
    let found = inspect(&crashed.path(), None).unwrap();
    assert_eq!(
        (found.report.tip, found.newest.is_some()),
        (Some(tip), true)
    );
    assert_eq!(beside(&crashed), before);
    // At rest.
    drop(store);
    let before = beside(&place);
    assert_eq!(before.len(), 1, "{:?}", names(&before));
    assert_eq!(inspect(&place.path(), None).unwrap().report.tip, Some(tip));
    assert_eq!(beside(&place), before);
    // Somebody else's database gets no tables of ours.
    place.sql("DROP TABLE blocks");
    let before = beside(&place);
    let found = inspect(&place.path(), None).unwrap();
    assert_eq!(found.report.state, LoadState::Unreadable);
    assert_eq!(beside(&place), before);
}

#[test]
fn a_snapshot_is_of_its_moment_while_others_append() {
    let place = Place::new();
    let (target, options) = (place.0.path().join("copy.db"), OPTIONS);
    assert!(Snapshot::begin(&place.path(), options).unwrap().is_none());
    let store = place.open();
    let tip = store.append(one("a"), &clock()).unwrap()[0];
    let snapshot = Snapshot::begin(&place.path(), options).unwrap().unwrap();
    store.append(one("b"), &clock()).unwrap();
    snapshot.copy(&target).unwrap();
    drop(snapshot);
    assert_eq!(inspect(&target, None).unwrap().report.tip, Some(tip));
    assert_eq!(inspect(&place.path(), None).unwrap().report.length, 3);
}
