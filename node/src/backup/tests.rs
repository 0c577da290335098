use std::fs;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use kairos_protocol::backup::Kind;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::{ManualClock, Timestamp};

use super::copy::Copies;
use super::*;
use crate::config::Settings;
use crate::data_dir::Surroundings;
use crate::data_dir::survey::survey;
use crate::{agent, data_dir::DataDir};

const WANTED: Wanted = Wanted {
    keys: true,
    skip_unsupported: false,
};

fn made() -> (tempfile::TempDir, DataDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::resolve(Some(&temp.path().join("d")), &Surroundings::default());
    dir.init(Timestamp::EPOCH).unwrap();
    (temp, dir)
}

fn prepared(dir: &DataDir) -> Result<Prepared, Failure> {
    let places = agent::ledger(dir, &Settings::default());
    prepare(dir, &places, WANTED, Timestamp::EPOCH)
}

/// The hash that the backup has of a file.
fn hash(prepared: &Prepared, path: &str) -> Option<ContentHash> {
    let entry = prepared.manifest.files().find(|entry| entry.path == path)?;
    match entry.kind {
        Kind::File { sha256, .. } => Some(sha256),
        Kind::Directory => None,
    }
}

#[test]
fn where_a_server_listens_is_no_part_of_a_backup() {
    let (_temp, dir) = made();
    let serving = crate::serving::Serving::announce(
        &dir,
        &crate::serving::ServerAt::Port("127.0.0.1:4001".parse().unwrap()),
    );
    let prepared = prepared(&dir).unwrap();
    let entries = prepared.manifest.entries.iter();
    let serves: Vec<_> = entries
        .filter(|entry| entry.path.contains("serving"))
        .collect();
    assert!(serves.is_empty(), "{serves:?}");
    drop(serving.unwrap());
}

#[test]
fn what_changes_before_the_locks_are_held_is_copied_again() {
    let (_temp, dir) = made();
    let (path, late) = ("skills/kairos_quickguide.md", "skills/late.md");
    let past = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let file = fs::File::open(dir.path().join(path)).unwrap();
    file.set_modified(past).unwrap();
    let lock = fs::File::create(dir.knowledge().join(".lock")).unwrap();
    lock.lock().unwrap();
    let copy = thread::scope(|scope| {
        let waits = scope.spawn(|| prepared(&dir));
        while survey(&dir).temporary().next().is_none() {
            thread::park_timeout(Duration::from_millis(1));
        }
        // Long enough to copy what is there; the backup then waits for us.
        thread::park_timeout(Duration::from_millis(300));
        // Somebody begins to lock what nobody locked when it was copied.
        fs::write(dir.skills().join(".lock"), "").unwrap();
        fs::write(dir.path().join(path), "changed").unwrap();
        fs::write(dir.path().join(late), "new").unwrap();
        fs::remove_file(dir.path().join("config/safety.yml")).unwrap();
        drop(lock);
        waits.join().unwrap().unwrap()
    });
    assert_eq!(hash(&copy, path), Some(ContentHash::of("changed")));
    assert_eq!(hash(&copy, late), Some(ContentHash::of("new")));
    assert_eq!(hash(&copy, "config/safety.yml"), None);
}

#[test]
fn what_an_interrupted_change_staged_goes_with_its_intent() {
    let (_temp, dir) = made();
    for folder in ["knowledge/.staged-a", "context/.staged-b"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("x.md"), "x").unwrap();
    }
    fs::write(dir.knowledge().join(".intent.json"), "{}").unwrap();
    let copy = prepared(&dir).unwrap();
    let is_there = |path| hash(&copy, path).is_some();
    assert!(is_there("knowledge/.intent.json") && is_there("knowledge/.staged-a/x.md"));
    assert!(!is_there("context/.staged-b/x.md"));
}

#[test]
fn a_file_at_rest_is_copied_once_and_any_other_again() {
    let (_temp, dir) = made();
    let path = dir.path().join("config/safety.yml");
    let past = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let rest = || fs::File::open(&path).unwrap().set_modified(past).unwrap();
    rest();
    let mut copies = Copies::new(&dir, 0).unwrap();
    let copied = |copies: &mut Copies| {
        let survey = survey(&dir);
        let entry = survey.entries.iter();
        let entry = entry.clone().find(|entry| entry.path == path).unwrap();
        copies.add(entry).unwrap();
        copies.path("config/safety.yml").unwrap()
    };
    let first = copied(&mut copies);
    assert_eq!(copied(&mut copies), first);
    // As long, and with the old time, but not the file that was copied.
    let text = fs::read(&path).unwrap();
    fs::write(&path, vec![b'x'; text.len()]).unwrap();
    rest();
    let second = copied(&mut copies);
    assert_ne!(second, first);
    assert_eq!(fs::read(&second).unwrap(), fs::read(&path).unwrap());
    // Written to a moment ago: another write may leave no trace in the time.
    fs::write(&path, "y").unwrap();
    let third = copied(&mut copies);
    assert_ne!(copied(&mut copies), third);
}

#[test]
fn a_disk_without_room_is_told_before_anything_is_copied() {
    let (_temp, dir) = made();
    let refused = Copies::new(&dir, u64::MAX / 2).unwrap_err();
    assert!(matches!(refused, Failure::NoRoom { .. }), "{refused}");
    assert_eq!(survey(&dir).temporary().count(), 0);
}

#[test]
fn private_keys_are_told_apart_wherever_they_lie() {
    for (path, private) in [
        ("keys/mmp_keypair.pem", true),
        ("keys/mmp_keypair.pem.pub", false),
        ("keys/instance_id", false),
        ("keys/rotations.json", false),
        ("storage/tls/server.key", true),
        ("storage/tls/server.crt", false),
        ("storage/tokens.json", false),
    ] {
        assert_eq!(is_private_key(path), private, "{path}");
    }
}

#[test]
fn a_ledger_in_a_database_is_copied_as_of_its_moment_and_comes_back() {
    let (temp, dir) = made();
    let mut settings = Settings::default();
    settings.storage.backend = crate::config::Backend::Sqlite;
    let places = agent::ledger(&dir, &settings);
    let store = places.open().unwrap();
    let append = |text: &str| {
        let clock = ManualClock::new(Timestamp::EPOCH);
        store.append(vec![vec![text.to_owned()]], &clock).unwrap()[0]
    };
    let tip = append("one");
    let copy = prepare(&dir, &places, WANTED, Timestamp::EPOCH).unwrap();
    append("two");
    let part = copy.manifest.ledger.unwrap();
    assert_eq!((part.length, part.tip), (2, tip));
    assert_eq!(copy.manifest.ledger_path(), "storage/kairos.db");
    let beside = |entry: &Entry| entry.path.ends_with("-wal") || entry.path.ends_with("-shm");
    assert!(!copy.manifest.files().any(beside));
    let archive = copy.write(Vec::new(), |_| ()).unwrap();
    assert_eq!(verify(archive.as_slice(), |_| ()).unwrap(), copy.manifest);
    drop(copy);

    // What would be lost is seen in a database, too, whatever the settings say.
    let manifest = verify(archive.as_slice(), |_| ()).unwrap();
    for places in [&places, &agent::ledger(&dir, &Settings::default())] {
        let plan = restore::examine(&dir, places, &manifest).unwrap();
        assert_eq!((plan.blocks_lost, plan.other_history), (1, false));
    }
    let other = DataDir::resolve(Some(&temp.path().join("other")), &Surroundings::default());
    let other_places = agent::ledger(&other, &settings);
    let now = Timestamp::EPOCH;
    restore::restore(
        &other,
        &other_places,
        archive.as_slice(),
        false,
        now,
        |_| (),
    )
    .unwrap();
    let there = other_places.inspect(None).unwrap();
    assert_eq!(there.report.tip, Some(tip));
    let clock = ManualClock::new(Timestamp::EPOCH);
    let fork = vec![vec!["another".to_owned()], vec!["history".to_owned()]];
    std::fs::remove_file(&other_places.sqlite).unwrap();
    other_places.open().unwrap().append(fork, &clock).unwrap();
    let plan = restore::examine(&other, &other_places, &manifest).unwrap();
    assert_eq!((plan.blocks_lost, plan.other_history), (3, true));
}

#[test]
fn a_database_outside_of_the_directory_is_not_left_out_unseen() {
    let (temp, dir) = made();
    let mut settings = Settings::default();
    settings.storage.backend = crate::config::Backend::Sqlite;
    settings.storage.sqlite_path = temp.path().join("kairos.db").display().to_string();
    let places = agent::ledger(&dir, &settings);
    let refused = prepare(&dir, &places, WANTED, Timestamp::EPOCH).unwrap_err();
    assert!(matches!(refused, Failure::Outside(_)), "{refused}");
}
