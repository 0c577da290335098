//! Backups of a node at work, restores that are killed or lied to, and what doctor sees of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use kairos_protocol::backup::{BackupLimits, Entry, Kind, LEDGER, Manifest, Visitor, read, write};
use kairos_protocol::hash::ContentHash;
use kairos_tests::{Call, Home, TestNode, TestPeer, eventually};
use serde_json::Value;

/// Rounds of the crash test; the moment of death moves with the round.
const ROUNDS: u32 = 20;

fn import(home: &Home, name: &str, text: &str) -> Call {
    let folder = home.path().join("sources").join(name);
    fs::create_dir_all(&folder).unwrap();
    let text = format!("---\nname: {name}\ndescription: Of a test\n---\n\n{text}\n");
    fs::write(folder.join("SKILL.md"), text).unwrap();
    Call::new(["skill".as_ref(), "import".as_ref(), folder.as_os_str()]).home(home)
}

fn backup(home: &Home, name: &str) -> PathBuf {
    let file = home.path().join(name);
    home.run(["backup".as_ref(), file.as_os_str()]).done();
    file
}

fn restore(home: &Home, file: &Path) -> Call {
    Call::new(["restore".as_ref(), file.as_os_str()]).home(home)
}

/// What doctor says, which is an answer whatever it ends with.
fn examined(home: &Home) -> Value {
    let ended = home.run(["--json", "--set", "http.port=0", "doctor"]);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// The entries of a ledger that speak of the creation of knowledge, by its name.
fn recorded(home: &Home) -> BTreeMap<String, String> {
    let report = home.json(["chain", "verify"]);
    assert_eq!(report["valid"], true, "{report}");
    let blocks = home.json(["chain", "history", "--limit", "1000"]);
    let blocks = blocks.as_array().unwrap().clone();
    let entries = blocks
        .iter()
        .flat_map(|block| block["data"].as_array().unwrap().clone());
    let created = entries.filter_map(|entry| {
        let entry: Value = serde_json::from_str(entry.as_str()?).ok()?;
        (entry["type"] == "knowledge_update").then_some(())?;
        let text = |member: &str| entry[member].as_str().map(str::to_owned);
        Some((text("knowledge_id")?, text("next_hash")?))
    });
    created.collect()
}

#[test]
fn a_backup_of_a_node_at_work_is_one_moment_of_it() {
    let home = Home::initialized();
    import(&home, "first", "x").run().done();
    let node = TestNode::builder().home(&home).start();
    let done = AtomicBool::new(false);
    let imported = AtomicUsize::new(0);
    let files = thread::scope(|scope| {
        let writers = ["a", "b"].map(|writer| {
            let (home, done, imported) = (&home, &done, &imported);
            scope.spawn(move || {
                let mut count = 0;
                while !done.load(Ordering::Relaxed) {
                    import(home, &format!("{writer}{count}"), &"x".repeat(count * 100))
                        .run()
                        .done();
                    count += 1;
                    imported.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let knocks = scope.spawn(|| {
            let mut peers = 0;
            while !done.load(Ordering::Relaxed) && peers < 8 {
                TestPeer::new("Peer").session(&node);
                peers += 1;
            }
        });
        let files: Vec<_> = (0..4)
            .map(|n| {
                // Between two backups something is written, however slow the machine is.
                let before = imported.load(Ordering::Relaxed);
                eventually("another import", || {
                    (imported.load(Ordering::Relaxed) > before).then_some(())
                });
                backup(&home, &format!("{n}.tar.gz"))
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().unwrap();
        }
        knocks.join().unwrap();
        files
    });
    let mut lengths = BTreeSet::new();
    for file in &files {
        let copy = Home::new();
        restore(&copy, file).run().done();
        let recorded = recorded(&copy);
        lengths.insert(recorded.len());
        for (name, hash) in &recorded {
            let text = fs::read(copy.data_dir().join(format!("knowledge/{name}/{name}.md")));
            let text = text.unwrap_or_else(|error| panic!("{name} is recorded, but {error}"));
            assert_eq!(&ContentHash::of(text).to_hex(), hash, "{name}");
        }
        let there = fs::read_dir(copy.data_dir().join("knowledge")).unwrap();
        let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        for name in there.filter(|name| !name.contains('_') && !name.starts_with('.')) {
            assert!(
                recorded.contains_key(&name),
                "{name} is there, but not recorded"
            );
        }
        assert_eq!(copy.json(["identity"]), home.json(["identity"]));
        let examined = examined(&copy);
        assert_ne!(examined["level"], "fail", "{examined}");
    }
    assert!(lengths.len() > 1, "the node was at work: {lengths:?}");
}

/// Everything of a backup in memory, to be changed.
#[derive(Default)]
struct Unpacked(BTreeMap<String, Vec<u8>>);

impl Visitor for Unpacked {
    fn manifest(&mut self, _: &Manifest) -> std::io::Result<()> {
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, bytes: &mut dyn std::io::Read) -> std::io::Result<()> {
        bytes.read_to_end(self.0.entry(entry.path.clone()).or_default())?;
        Ok(())
    }
}

/// The backup with one file's bytes replaced, and a manifest that agrees with them.
fn forged(backup: &[u8], path: &str, change: impl Fn(String) -> String) -> Vec<u8> {
    let mut unpacked = Unpacked::default();
    let mut manifest = read(backup, &BackupLimits::default(), &mut unpacked).unwrap();
    let bytes = unpacked.0.get_mut(path).unwrap();
    *bytes = change(String::from_utf8(bytes.clone()).unwrap()).into_bytes();
    let entry = manifest
        .entries
        .iter_mut()
        .find(|entry| entry.path == path)
        .unwrap();
    entry.kind = Kind::File {
        size: bytes.len() as u64,
        sha256: ContentHash::of(&bytes),
    };
    write(
        Vec::new(),
        &manifest,
        |entry| Ok(unpacked.0[&entry.path].as_slice()),
        |_| (),
    )
    .unwrap()
}

/// The backup with bytes of its tar replaced by as many others.
fn patched(backup: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(backup).read_to_end(&mut tar).unwrap();
    let mut found = 0;
    for at in 0..tar.len() - from.len() {
        if tar[at..].starts_with(from.as_bytes()) {
            tar[at..at + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "{from}");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&tar).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn a_backup_that_is_not_sound_changes_nothing() {
    let home = Home::initialized();
    import(&home, "first", "x").run().done();
    let good = fs::read(backup(&home, "good.tar.gz")).unwrap();
    let before = home.state();
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![0; 64 << 20]).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let other_key = Home::initialized();
    other_key.json(["identity"]);
    let other_key = fs::read_to_string(other_key.data_dir().join("keys/mmp_keypair.pem")).unwrap();
    for (bytes, said) in [
        (b"no archive".to_vec(), "not gzip-compressed"),
        (good[..good.len() / 2].to_vec(), ""),
        (good[..good.len() - 1].to_vec(), "cut off"),
        (flipped, ""),
        (
            [good.as_slice(), b"more"].concat(),
            "goes on behind its end",
        ),
        (bomb.finish().unwrap(), "not a backup"),
        (
            patched(&good, "\"path\": \"config\"", "\"path\": \"../../\""),
            "not a path below the data directory",
        ),
        (
            patched(&good, "\"path\": \"config\"", "\"path\": \"/etc/x\""),
            "not a path below the data directory",
        ),
        (
            patched(&good, "data/skills/kairos.md\0", "data/skills/kairos.mD\0"),
            "the backup is damaged",
        ),
        (
            patched(&good, "\"version\": 1", "\"version\": 9"),
            "use a newer kairos-chain",
        ),
        (
            patched(&good, "Of a test", "Of a TEST"),
            "has not the hash that its manifest names",
        ),
        (
            forged(&good, LEDGER, |text| text.replacen("first", "other", 1)),
            "the ledger in the backup is corrupt",
        ),
        (
            forged(&good, LEDGER, |_| "[\n]".to_owned()),
            "the ledger in the backup",
        ),
        (
            forged(&good, "keys/mmp_keypair.pem", |_| "no key".to_owned()),
            "no usable RSA key",
        ),
        (
            forged(&good, "keys/instance_id", |_| "somebody".to_owned()),
            "its key is not that of the agent",
        ),
    ] {
        let file = home.path().join("bad.tar.gz");
        fs::write(&file, &bytes).unwrap();
        let ended = restore(&home, &file).run();
        assert_eq!(ended.code, 1, "{said}: {ended:?}");
        assert!(
            ended.stderr.starts_with("error: ") && ended.stderr.contains(said),
            "{said}: {ended:?}"
        );
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
        assert_eq!(home.state(), before, "{said}");
        let mut beside = fs::read_dir(home.path()).unwrap();
        assert!(beside.all(|entry| {
            !entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("restor")
        }));
    }
    // The key of another agent is found out by its id.
    let swapped = forged(&good, "keys/mmp_keypair.pem", |_| other_key.clone());
    fs::write(home.path().join("bad.tar.gz"), swapped).unwrap();
    let examined = restore(&home, &home.path().join("bad.tar.gz")).run();
    assert!(
        examined
            .failed(1)
            .contains("the public key is not that of the private key")
    );
    assert_eq!(home.state(), before);
    let checked = home.run(["restore", "--dry-run", "good.tar.gz"]).done();
    assert!(checked.starts_with("The backup is good: "), "{checked}");
    assert_eq!(home.state(), before);
}

/// What a directory holds, but for the journal, which is empty or absent at rest.
fn state(home: &Home) -> BTreeMap<PathBuf, String> {
    let mut state = home.state();
    state.remove(Path::new("storage/blockchain.json.journal"));
    state
}

#[test]
fn a_restore_killed_at_any_moment_leaves_the_old_or_the_new() {
    let home = Home::initialized();
    import(&home, "large", &"x ".repeat(40_000)).run().done();
    for n in 0..20 {
        home.skill(&format!("skill{n}"), &"y".repeat(n * 1000));
    }
    let file = backup(&home, "backup.tar.gz");
    let new = state(&home);
    home.skill("later", "# Later\n");
    let old = state(&home);
    let begun = Instant::now();
    restore(&home, &file).run().done();
    let whole = begun.elapsed();
    let (mut olds, mut news) = (0, 0);
    for round in 0..ROUNDS {
        // Back to the old one.
        home.skill("later", "# Later\n");
        let _ = fs::remove_file(home.data_dir().join(".restored.json"));
        let mut child = restore(&home, &file).spawn();
        thread::park_timeout(whole * round * 6 / (5 * ROUNDS));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut state = state(&home);
        let restored = state.remove(Path::new(".restored.json")).is_some();
        if restored {
            news += 1;
            assert_eq!(state, new, "round {round}");
        } else {
            olds += 1;
            assert_eq!(state, old, "round {round}");
        }
        let examined = examined(&home);
        assert_ne!(examined["level"], "fail", "{examined}");
    }
    assert!(olds > 0, "{olds} old, {news} new");
    restore(&home, &file).run().done();
    let names = fs::read_dir(home.path()).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(
        names.all(|name| !name.contains(".restoring-")),
        "it clears away what was left"
    );
}

#[test]
fn a_directory_in_use_is_not_replaced_and_its_user_is_named() {
    let home = Home::initialized();
    let node = TestNode::builder().home(&home).start();
    let file = backup(&home, "backup.tar.gz");
    let before = home.state();
    let refused = restore(&home, &file).run().failed(1);
    assert!(
        refused.contains(&format!("is in use by process {} (", node.pid())),
        "{refused}"
    );
    assert_eq!(home.state(), before);
    node.signal("STOP");
    let lock = fs::File::create(home.data_dir().join("knowledge/.lock")).unwrap();
    lock.lock().unwrap();
    let examined = examined(&home);
    node.signal("CONT");
    let findings = examined["findings"].to_string();
    let ours = format!("knowledge/.lock by process {} (", std::process::id());
    assert!(findings.contains(&ours), "{findings}");
    drop(lock);
    drop(node);
    restore(&home, &file).run().done();
}

#[test]
fn what_an_archive_cannot_hold_is_named_and_left_out_only_on_request() {
    let home = Home::initialized();
    std::os::unix::fs::symlink("/etc", home.data_dir().join("knowledge/link")).unwrap();
    let refused = home.run(["backup", "x.tar.gz"]).failed(1);
    assert!(
        refused.contains("knowledge/link (a symbolic link)"),
        "{refused}"
    );
    assert!(!home.path().join("x.tar.gz").exists());
    let told = home.run(["backup", "x.tar.gz", "--skip-unsupported"]);
    assert!(
        told.stderr
            .contains("left out knowledge/link: a symbolic link"),
        "{told:?}"
    );
    fs::write(home.data_dir().join("storage/kairos.db"), "").unwrap();
    let refused = home
        .run(["backup", "y.tar.gz", "--skip-unsupported"])
        .failed(1);
    assert!(refused.contains("storage.backend is file"), "{refused}");
    fs::remove_file(home.data_dir().join("storage/kairos.db")).unwrap();
    fs::write(home.data_dir().join("storage/blockchain.json"), "[{}]").unwrap();
    let refused = home
        .run(["backup", "y.tar.gz", "--skip-unsupported"])
        .failed(1);
    assert!(refused.contains("ledger is corrupt"), "{refused}");
    let exists = home.run(["backup", "x.tar.gz"]).failed(1);
    assert!(
        exists.contains("x.tar.gz exists") || exists.contains("ledger is corrupt"),
        "{exists}"
    );
}

#[test]
fn a_backup_waits_for_a_change_under_way() {
    let home = Home::initialized();
    import(&home, "first", "x").run().done();
    let lock = fs::File::open(home.data_dir().join("knowledge/.lock")).unwrap();
    lock.lock().unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| backup(&home, "x.tar.gz"));
        thread::park_timeout(Duration::from_millis(300));
        assert!(!home.path().join("x.tar.gz").exists());
        drop(lock);
        assert!(waits.join().unwrap().exists());
    });
}

#[test]
fn a_migration_that_was_cut_off_before_the_settings_changed_is_finished_by_another_one() {
    let home = Home::initialized();
    home.run(["chain", "record", "kept"]).done();
    let settings = home.data_dir().join("skills/config.yml");
    let before = fs::read(&settings).unwrap();
    home.run(["chain", "migrate", "--to", "sqlite"]).done();
    fs::write(&settings, before).unwrap();
    home.run(["chain", "record", "refused"]).failed(1);
    home.run(["chain", "migrate", "--to", "sqlite"]).done();
    home.run(["chain", "record", "more"]).done();
    let findings = examined(&home).to_string();
    assert!(findings.contains("readable: 3 blocks"), "{findings}");
}

#[test]
fn a_ledger_in_a_database_is_examined_and_backed_up() {
    let home = Home::initialized();
    home.run(["chain", "record", "kept"]).done();
    home.run(["chain", "migrate", "--to", "sqlite"]).done();
    let findings = examined(&home).to_string();
    assert!(findings.contains("readable: 2 blocks"), "{findings}");
    let file = backup(&home, "copy.tar.gz");
    let other = Home::new();
    restore(&other, &file).run().done();
    assert_eq!(
        other.json(["chain", "verify"]),
        home.json(["chain", "verify"])
    );
    assert!(!other.data_dir().join("storage/blockchain.json").exists());
    home.run(["chain", "record", "later"]).done();
    let told = home.run(["restore", "copy.tar.gz", "--dry-run"]);
    assert!(
        told.stderr.contains("has 1 block more than the backup"),
        "{told:?}"
    );
}
