use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::data_dir::Surroundings;

/// A clock that is not suspicious, and later than any file a test writes.
const NOW: i64 = 4_000_000_000;

fn made() -> (tempfile::TempDir, DataDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::resolve(Some(&temp.path().join("d")), &Surroundings::default());
    dir.init(Timestamp::from_secs(NOW)).unwrap();
    (temp, dir)
}

fn examined(dir: &DataDir, now: i64) -> Vec<Finding> {
    let mut settings = Settings::default();
    settings.http.port = 0;
    examine(&Patient {
        data_dir: dir,
        settings: Ok(settings),
        now: Timestamp::from_secs(now),
    })
}

/// What `check` found, all of it.
fn told(findings: &[Finding], check: &str) -> (Level, String) {
    let found: Vec<_> = findings.iter().filter(|f| f.check == check).collect();
    let texts: Vec<_> = found.iter().map(|f| f.message.as_str()).collect();
    (
        found.iter().map(|f| f.level).max().unwrap(),
        texts.join("\n"),
    )
}

fn names(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(names(&path));
        }
        found.push(path.display().to_string());
    }
    found.sort();
    found
}

#[test]
fn a_fresh_directory_is_well_and_stays_as_it_is() {
    let (_temp, dir) = made();
    let before = names(dir.path());
    let findings = examined(&dir, NOW);
    // The disk of the machine that runs the tests is its own business.
    let ours: Vec<_> = findings
        .iter()
        .filter(|f| f.level > Level::Ok && !f.check.starts_with("disk."))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
    assert_eq!(names(dir.path()), before);
    assert!(
        findings
            .iter()
            .all(|f| (f.level == Level::Ok) == f.fix.is_none())
    );
}

#[test]
fn what_is_wrong_is_named_with_a_way_out() {
    let (_temp, dir) = made();
    crate::identity::load_or_create(&dir.keys()).unwrap();
    let at = |below: &str| dir.path().join(below);
    fs::set_permissions(
        at("keys/mmp_keypair.pem"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    fs::write(at("keys/instance_id"), "another").unwrap();
    fs::write(dir.ledger(), "[").unwrap();
    fs::write(at("storage/blockchain.json.journal"), "kairos").unwrap();
    fs::create_dir_all(at("knowledge/bad")).unwrap();
    fs::write(at("knowledge/bad/bad.md"), b"\xff").unwrap();
    fs::create_dir_all(at("skillsets/bad")).unwrap();
    fs::write(at("skillsets/bad/skillset.json"), "{").unwrap();
    fs::write(at("knowledge/.kairos-x.tmp"), "").unwrap();
    fs::create_dir(at("skillsets/.old-x-1")).unwrap();
    fs::create_dir(at("knowledge/guide.bak.20260102030405")).unwrap();
    fs::write(dir.meta_file(), "kairos_mcp_version: 3.75.0\n").unwrap();
    fs::create_dir(dir.path().with_file_name("d.before-restore-1")).unwrap();
    fs::create_dir(dir.path().with_file_name("d.restoring-1")).unwrap();
    let findings = examined(&dir, 0);
    for (check, level, part) in [
        ("permissions", Level::Fail, "keys/mmp_keypair.pem (0644)"),
        ("keys", Level::Warn, "agent another"),
        (
            "ledger",
            Level::Fail,
            "unreadable: not a list of blocks at byte 1",
        ),
        ("ledger.journal", Level::Warn, "6 bytes"),
        ("knowledge", Level::Warn, "knowledge/bad/bad.md"),
        ("skillsets", Level::Warn, "bad: "),
        ("leftovers", Level::Warn, "knowledge/.kairos-x.tmp"),
        ("leftovers", Level::Warn, "skillsets/.old-x-1"),
        (
            "leftovers.upgrade",
            Level::Warn,
            "knowledge/guide.bak.20260102030405",
        ),
        ("leftovers.restore", Level::Warn, "d.before-restore-1"),
        ("leftovers.restore", Level::Warn, "d.restoring-1"),
        ("version", Level::Warn, "made by KairosChain 3.75.0"),
        ("clock", Level::Fail, "1970-01-01T00:00:00Z"),
    ] {
        let (found, text) = told(&findings, check);
        assert!(
            found == level && text.contains(part),
            "{check}: {found:?} {text}"
        );
    }
    assert_eq!(worst(&findings), Level::Fail);
    assert!(
        findings
            .iter()
            .all(|f| (f.level == Level::Ok) == f.fix.is_none())
    );
}

#[test]
fn only_what_is_safe_is_fixed() {
    let (_temp, dir) = made();
    crate::identity::load_or_create(&dir.keys()).unwrap();
    let at = |below: &str| dir.path().join(below);
    let key = at("keys/mmp_keypair.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o664)).unwrap();
    let (old, new) = (at("knowledge/.staged-old"), at("knowledge/.staged-new"));
    let (mine, busy) = (at("knowledge/.old-notes"), at("skillsets/.tmp-busy"));
    for folder in [&old, &mine, &busy, &new] {
        fs::create_dir_all(folder).unwrap();
    }
    let past = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for folder in [&old, &mine, &busy] {
        fs::File::open(folder).unwrap().set_modified(past).unwrap();
    }
    let lock = fs::File::create(at("skillsets/.lock")).unwrap();
    lock.lock().unwrap();
    let now = fs::metadata(&new).unwrap().modified().unwrap();
    let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let deeds = fix::apply(&dir, Timestamp::from_secs(now.try_into().unwrap()));
    let done: Vec<_> = deeds
        .iter()
        .map(|deed| (deed.path.as_str(), deed.done))
        .collect();
    assert_eq!(
        done,
        [
            ("keys/mmp_keypair.pem", "closed to other users"),
            ("knowledge/.staged-old", "removed")
        ]
    );
    assert!(deeds.iter().all(|deed| deed.error.is_none()));
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        [&old, &mine, &busy, &new].map(|path| path.exists()),
        [false, true, true, true]
    );
    assert_eq!(told(&examined(&dir, NOW), "permissions").0, Level::Ok);
}

#[test]
fn what_an_interrupted_change_needs_is_neither_told_of_nor_removed() {
    let (_temp, dir) = made();
    let at = |below: &str| dir.path().join(below);
    let (needed, other) = (at("knowledge/.staged-a"), at("context/.staged-b"));
    let past = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for folder in [&needed, &other] {
        fs::create_dir_all(folder.join("tea")).unwrap();
        fs::write(folder.join("tea/.new-x"), "").unwrap();
        fs::File::open(folder).unwrap().set_modified(past).unwrap();
    }
    fs::write(at("knowledge/.intent.json"), "{}").unwrap();
    let (_, text) = told(&examined(&dir, NOW), "leftovers");
    assert_eq!(text, "temporary files: context/.staged-b");
    let removed = |dir: &DataDir| -> Vec<_> {
        let deeds = fix::apply(dir, Timestamp::from_secs(NOW));
        deeds.into_iter().map(|deed| deed.path).collect()
    };
    // Somebody at work there may be about to write an intent.
    let lock = fs::File::create(at("context/.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(removed(&dir), [""; 0]);
    lock.unlock().unwrap();
    assert_eq!(removed(&dir), ["context/.staged-b"]);
    assert!(needed.join("tea").exists());
    fs::remove_file(at("knowledge/.intent.json")).unwrap();
    assert_eq!(removed(&dir), ["knowledge/.staged-a"]);
}

#[test]
fn a_law_that_cannot_be_read_is_told_with_its_place() {
    let (_temp, dir) = made();
    let look = |law: &str| {
        fs::write(dir.law(), law).unwrap();
        let mut found = Findings::default();
        content::law(&dir, &mut found);
        told(&found.0, "law")
    };
    assert_eq!(
        look("skill :a do\n  version '1'\nend\n"),
        (Level::Ok, "1 skill".to_owned())
    );
    let (level, text) = look("skill :a do\n  version compute\nend\n");
    assert!(
        level == Level::Warn && text.contains("1 skill, and 1 place") && text.contains("line 2"),
        "{text}"
    );
    let (level, text) = look("skill :a do\n");
    assert!(level == Level::Fail && text.contains("line "), "{text}");
    fs::remove_file(dir.law()).unwrap();
    let mut found = Findings::default();
    content::law(&dir, &mut found);
    let (level, text) = told(&found.0, "law");
    assert!(
        level == Level::Fail && text.contains("is not there"),
        "{text}"
    );
}

#[test]
fn a_ledger_in_a_database_is_looked_at_and_nothing_is_made_beside_it() {
    let (_temp, dir) = made();
    let mut settings = Settings::default();
    settings.http.port = 0;
    settings.storage.backend = crate::config::Backend::Sqlite;
    let places = crate::agent::ledger(&dir, &settings);
    let clock = kairos_protocol::time::ManualClock::new(Timestamp::from_secs(NOW));
    let store = places.open().unwrap();
    store.append(vec![vec!["one".to_owned()]], &clock).unwrap();
    drop(store);
    let look = |settings: &Settings| {
        let mut found = Findings::default();
        content::ledger(&crate::agent::ledger(&dir, settings), &mut found);
        found.0
    };
    let before = names(dir.path());
    let (level, text) = told(&look(&settings), "ledger");
    assert!(
        level == Level::Ok && text.starts_with("readable: 2 blocks"),
        "{text}"
    );
    // In the other form than the settings say.
    let (level, text) = told(&look(&Settings::default()), "ledger");
    assert!(
        level == Level::Fail && text.contains("chain migrate --to file"),
        "{text}"
    );
    fs::write(&places.sqlite, "no database").unwrap();
    let found = look(&settings);
    assert_eq!(told(&found, "ledger").0, Level::Fail);
    assert!(found[0].fix.as_ref().unwrap().contains("-wal"));
    assert_eq!(names(dir.path()), before);
}

#[test]
fn a_ledger_from_the_future_means_that_the_clock_went_back() {
    let mut found = Findings::default();
    let at = |secs: i64| Timestamp::from_secs(1_800_000_000 + secs);
    clock::check(at(0), Some(at(61)), &mut found);
    clock::check(at(0), Some(at(60)), &mut found);
    let levels: Vec<_> = found.0.iter().map(|f| f.level).collect();
    assert_eq!(levels, [Level::Fail, Level::Ok]);
}

#[test]
fn a_port_that_another_program_has_is_told() {
    let (_temp, dir) = made();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Settings::default();
    settings.http.port = taken.local_addr().unwrap().port();
    let mut found = Findings::default();
    let answer = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = taken.accept().unwrap();
        assert!(stream.read(&mut [0; 512]).unwrap() > 0);
        stream
            .write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"server\":\"x\"}")
            .unwrap();
        taken
    });
    service::port(&settings, &dir, &mut found);
    drop(answer.join().unwrap());
    assert_eq!(found.0[0].level, Level::Warn);
    assert!(
        found.0[0]
            .message
            .starts_with("another program answers at 127.0.0.1:"),
        "{found:?}"
    );
    service::port(&settings, &dir, &mut found);
    assert_eq!(found.0[1].level, Level::Ok, "{found:?}");
}
