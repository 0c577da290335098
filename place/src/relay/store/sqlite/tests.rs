use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use kairos_protocol::time::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::relay::store::conformance::{self, On, at, letter, sealed, texts};
use crate::relay::store::{Scope, change};
use crate::relay::{MessageId, Relay, RelayPolicy};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(&folder.path().join("place/relay.db")).unwrap()
}

fn boxed(folder: &TempDir) -> Box<dyn RelayStore> {
    Box::new(open(folder))
}

#[test]
fn it_does_what_every_store_does() {
    let [one, two] = [folder(), folder()];
    conformance::check_lifecycle(|| boxed(&one));
    conformance::check_prekeys(|| boxed(&two));
    conformance::check_transactions(boxed(&folder()));
    conformance::check_counts(boxed(&folder()));
    conformance::check_reading(boxed(&folder()));
    conformance::check_used_prekeys(boxed(&folder()));
    conformance::check_oldest(boxed(&folder()));
}

#[test]
fn it_is_durable_private_and_marked() {
    let folder = folder();
    let store = open(&folder);
    let writer = store.writer.lock().unwrap();
    let number = |name: &str| -> i64 {
        let sql = format!("PRAGMA {name}");
        writer.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    let full = 2;
    assert_eq!(number("synchronous"), full);
    assert_eq!(
        (number("application_id"), number("user_version")),
        (APPLICATION, VERSION)
    );
    let mode: String = writer
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&store.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_database_of_a_newer_program_or_of_somebody_else_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("place/relay.db");
    drop(open(&folder));
    let raw = Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", VERSION + 1)
        .unwrap();
    let newer = SqliteStore::open(&path).err().unwrap();
    assert!(
        matches!(newer, StoreError::Newer { found: 2, known: 1 }),
        "{newer:?}"
    );
    raw.pragma_update(None, "application_id", 7).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Foreign)));
    drop(raw);

    let other = folder.path().join("other.db");
    let raw = Connection::open(&other).unwrap();
    raw.execute_batch("CREATE TABLE note (text TEXT)").unwrap();
    drop(raw);
    let before = std::fs::read(&other).unwrap();
    assert!(matches!(
        SqliteStore::open(&other),
        Err(StoreError::Foreign)
    ));
    assert_eq!(std::fs::read(&other).unwrap(), before);

    let text = folder.path().join("text.db");
    std::fs::write(&text, "no database ".repeat(100)).unwrap();
    assert!(matches!(SqliteStore::open(&text), Err(StoreError::Foreign)));
}

#[test]
fn a_row_that_was_not_written_by_us_is_an_error_and_no_panic() {
    let folder = folder();
    let store = open(&folder);
    let relay = Relay::default();
    On(&relay, &store)
        .send(&letter("a", "b", "1", "x"), 0)
        .unwrap();
    for wrong in [
        "id = ''",
        "hash = x'00'",
        "size = -1",
        "type = char(10)",
        "seq = -5",
    ] {
        let raw = Connection::open(&store.path).unwrap();
        raw.execute_batch(&format!("BEGIN; UPDATE message SET {wrong};"))
            .unwrap();
        raw.execute_batch("COMMIT").unwrap();
        let seen = super::super::look(&store, |read| {
            read.due(Timestamp::from_secs(i64::MAX / 2), 9)
        });
        let seen = seen.and_then(|_| super::super::look(&store, |read| read.due(at(9_999), 9)));
        assert!(
            matches!(seen, Err(StoreError::Database { .. })),
            "{wrong}: {seen:?}"
        );
        raw.execute_batch(
            "UPDATE message SET id = '1', hash = zeroblob(32), size = 1, type = 't', seq = 1",
        )
        .unwrap();
    }
}

/// Starts this test again in a process of its own, which finds the path in `RELAY_TEST_DATABASE`.
const DATABASE: &str = "RELAY_TEST_DATABASE";
/// Larger than what SQLite holds back in memory, so that a transaction is half on disk before it is committed.
const LARGE: usize = 900 * 1024;

/// Ten messages from `round` to one box, in one transaction.
fn send_round(store: &dyn RelayStore, round: u64) -> Result<(), StoreError> {
    let relay = roomy();
    store.write(&mut |tx| {
        for n in 0..10 {
            let mut letter = letter("a", "b", "-", "-");
            letter.id = MessageId::Given(format!("{round}-{n}").parse().unwrap());
            letter.sealed = sealed(&"x".repeat(if n == 5 { LARGE } else { 10 }));
            relay.send(tx, &letter, at(0)).unwrap();
        }
        Ok(())
    })
}

fn roomy() -> Relay {
    Relay::new(RelayPolicy {
        box_messages: u64::MAX,
        sender_in_box_messages: u64::MAX,
        sender_messages: u64::MAX,
        sender_bytes: u64::MAX,
        ..RelayPolicy::default()
    })
}

#[test]
fn a_writer_killed_at_any_moment_loses_nothing_acknowledged_and_leaves_nothing_half_there() {
    if let Some(path) = std::env::var_os(DATABASE) {
        let store = SqliteStore::open(Path::new(&path)).unwrap();
        for round in 0.. {
            send_round(&store, round).unwrap();
            // As one write, so that the other process never sees half a line.
            std::io::Write::write_all(&mut std::io::stdout(), format!("done {round}\n").as_bytes())
                .unwrap();
        }
    }
    let name = std::thread::current().name().unwrap().to_owned();
    for kill in 0..8_u64 {
        let folder = folder();
        let path = folder.path().join("relay.db");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&name, "--exact", "--nocapture", "--test-threads=1"])
            .env(DATABASE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        while acknowledged <= kill % 3 {
            let line = lines.next().unwrap().unwrap();
            acknowledged += u64::from(line.contains("done "));
        }
        // Somewhere in the next rounds.
        std::thread::park_timeout(Duration::from_micros(kill * 1_700));
        child.kill().unwrap();
        child.wait().unwrap();
        let rest = lines.map_while(Result::ok);
        acknowledged += rest.filter(|line| line.contains("done ")).count() as u64;

        let store = SqliteStore::open(&path).unwrap();
        let relay = roomy();
        let on = On(&relay, &store);
        let (messages, bytes) = on.tally(Scope::Place);
        let rounds = messages / 10;
        assert_eq!(messages % 10, 0, "no transaction is half there");
        assert!(
            rounds == acknowledged || rounds == acknowledged + 1,
            "{rounds}, {acknowledged}"
        );
        assert_eq!(bytes, rounds * (90 + LARGE as u64));
        assert_eq!(on.tally(Scope::Remembered), (messages, 0));
        let mut found = 0;
        let mut after = Some(0);
        while let Some(cursor) = after {
            let page = on.receive("b", cursor, 100, 1);
            found += texts(&page).len() as u64;
            after = page.next;
        }
        assert_eq!(found, messages);
        send_round(&store, rounds).unwrap();
    }
}

#[test]
fn a_transaction_that_was_begun_and_not_committed_is_not_in_what_is_on_disk() {
    let folder = folder();
    let copy = tempfile::tempdir().unwrap();
    let store = open(&folder);
    send_round(&store, 0).unwrap();
    let begun = store.write(&mut |tx| {
        for n in 0..10 {
            let mut letter = letter("a", "b", &format!("lost-{n}"), "-");
            letter.sealed = sealed(&"y".repeat(LARGE));
            roomy().send(tx, &letter, at(0)).unwrap();
        }
        // What a power cut would leave now.
        for name in ["relay.db", "relay.db-wal"] {
            let from = folder.path().join("place").join(name);
            std::fs::copy(from, copy.path().join(name)).unwrap();
        }
        Ok(())
    });
    begun.unwrap();
    let log = std::fs::metadata(copy.path().join("relay.db-wal"))
        .unwrap()
        .len();
    assert!(
        log > LARGE as u64 * 5,
        "half of it was on disk already: {log}"
    );
    let copied = SqliteStore::open(&copy.path().join("relay.db")).unwrap();
    let relay = roomy();
    assert_eq!(On(&relay, &copied).tally(Scope::Place).0, 10);
    assert_eq!(On(&relay, &copied).actions().len(), 10);
    assert_eq!(On(&relay, &store).tally(Scope::Place).0, 20);
}

#[test]
fn two_processes_take_turns() {
    let folder = folder();
    let [one, two] = [open(&folder), open(&folder)];
    let relay = Relay::default();
    On(&relay, &one)
        .send(&letter("a", "b", "1", "x"), 0)
        .unwrap();
    let again = change(&two, |tx| {
        relay.send(tx, &letter("a", "b", "1", "x"), at(1))
    });
    assert!(again.unwrap().repeated);
    assert_eq!(On(&relay, &two).ack("b", &["1"], 1), ["1"]);
    assert_eq!(On(&relay, &one).tally(Scope::Boxes), (0, 0));
}
