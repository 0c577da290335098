//! The store on a real directory: what it does, what it refuses, and what a crash in between leaves.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use kairos_protocol::block::entry::{Entry, SkillSetAction};
use tempfile::TempDir;

use super::*;

mod exchange;

fn now() -> Timestamp {
    Timestamp::parse("2026-02-20T12:00:00Z").unwrap()
}

/// A data directory and a place for sources.
struct Fixture {
    data: TempDir,
    store: SkillSetStore,
}

impl Fixture {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = SkillSetStore::open(&data.path().join("data"), PackageLimits::default());
        Self {
            store: store.unwrap(),
            data,
        }
    }

    fn reopen(&self) -> SkillSetStore {
        SkillSetStore::open(&self.data.path().join("data"), PackageLimits::default()).unwrap()
    }

    /// Writes a source directory for `metadata` (JSON members without name and version) with these files.
    fn source(&self, name: &str, members: &str, files: &[(&str, &str)]) -> PathBuf {
        let source = tempfile::tempdir_in(self.data.path()).unwrap().keep();
        let metadata = format!(r#"{{"name":"{name}","version":"1.0.0"{members}}}"#);
        for (path, text) in [(METADATA_FILE, metadata.as_str())].iter().chain(files) {
            let path = source.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        source
    }

    fn install(&self, name: &str, members: &str, files: &[(&str, &str)]) -> Outcome {
        let source = self.source(name, members, files);
        let change = self.store.install(&source, Options::default(), now());
        change.unwrap().commit().unwrap()
    }

    fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.store.root).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }
}

fn texts(change: &Change) -> Vec<String> {
    change.entries().iter().map(Entry::to_text).collect()
}

#[track_caller]
fn check_error<T: std::fmt::Debug>(result: Result<T, SkillSetError>, text: &str) {
    assert_eq!(result.unwrap_err().to_string(), text);
}

#[test]
fn installs_a_directory_without_its_dot_files() {
    let fixture = Fixture::new();
    let files = [
        ("knowledge/a.md", "# A\n"),
        (".git/config", "x"),
        ("tools/.x", "x"),
        ("run.sh", "#!"),
    ];
    let source = fixture.source("kp", r#","layer":"L2""#, &files);
    fs::set_permissions(source.join("run.sh"), fs::Permissions::from_mode(0o4775)).unwrap();
    fs::create_dir(source.join("empty")).unwrap();
    let change = fixture
        .store
        .install(&source, Options::default(), now())
        .unwrap();
    assert_eq!(
        fixture.store.inventory().unwrap(),
        Inventory::default(),
        "not there before the commit"
    );
    assert_eq!(texts(&change), [""; 0], "nothing is recorded for L2");
    let outcome = change.commit().unwrap();
    assert_eq!(
        (outcome.action, outcome.set.enabled),
        (Some(SkillSetAction::Install), true)
    );
    let path = fixture.store.root.join("kp");
    assert_eq!(outcome.set.path, path);
    assert!(path.join("knowledge/a.md").is_file() && !path.join(".git").exists());
    assert!(!path.join("tools/.x").exists() && path.join("empty").is_dir());
    let mode = fs::metadata(path.join("run.sh"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(
        mode & 0o7111,
        0o111,
        "runs as before, but not as another user"
    );
    assert_eq!(fixture.store.find("kp").unwrap(), outcome.set);
    assert_eq!(
        outcome.content_hash.unwrap(),
        fixture.store.content_hash("kp").unwrap()
    );
    assert_eq!(fixture.leftovers(), ["config.yml", "kp"]);
    let registry = fs::read_to_string(fixture.store.root.join(REGISTRY_FILE)).unwrap();
    assert_eq!(registry, "---\nskillsets:\n  kp:\n    enabled: true\n");
}

#[test]
fn a_change_that_is_dropped_leaves_nothing() {
    let fixture = Fixture::new();
    let source = fixture.source("kp", "", &[]);
    drop(
        fixture
            .store
            .install(&source, Options::default(), now())
            .unwrap(),
    );
    assert_eq!(fixture.leftovers(), [""; 0]);
}

#[test]
fn records_what_the_reference_records_for_each_layer() {
    let fixture = Fixture::new();
    let install = |name, layer: &str| {
        let source = fixture.source(name, &format!(r#","layer":"{layer}""#), &[]);
        let change = fixture
            .store
            .install(&source, Options::default(), now())
            .unwrap();
        let (texts, outcome) = (texts(&change), change.commit().unwrap());
        (texts, outcome.content_hash.unwrap())
    };
    let (l1, hash) = install("one", "L1");
    assert_eq!(
        l1,
        [format!(
            r#"{{"type":"skillset_event","layer":"L1","skillset_name":"one","skillset_version":"1.0.0","action":"install","content_hash":"{hash}","reason":null,"timestamp":"2026-02-20T12:00:00+00:00"}}"#
        )]
    );
    let (l0, _) = install("zero", "L0");
    assert!(
        l0[0].contains(r#""file_hashes":{"skillset.json":""#),
        "{l0:?}"
    );
    assert!(install("two", "L2").0.is_empty());
    for (name, count) in [("one", 1), ("two", 0)] {
        let disable = fixture.store.disable(name, now()).unwrap();
        assert_eq!(disable.entries().len(), count);
        assert!(!disable.commit().unwrap().set.enabled);
        let again = fixture.store.disable(name, now()).unwrap();
        assert_eq!(
            (again.entries().len(), again.commit().unwrap().action),
            (0, None)
        );
        assert_eq!(
            fixture.store.enable(name, now()).unwrap().entries().len(),
            count
        );
        assert_eq!(
            fixture.store.remove(name, now()).unwrap().entries().len(),
            count
        );
    }
}

#[test]
fn refuses_in_the_words_of_the_reference() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let install = |source: &Path| store.install(source, Options::default(), now());
    check_error(store.remove("kp", now()), "SkillSet 'kp' not found");
    fixture.install("kp", "", &[]);
    let source = fixture.source("kp", "", &[]);
    let taken = format!(
        "SkillSet 'kp' already installed at {}",
        store.root.join("kp").display()
    );
    check_error(install(&source), &taken);
    check_error(
        install(Path::new("/nowhere/at/all")),
        "Source path not found: /nowhere/at/all",
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    let told = install(file.path()).unwrap_err().to_string();
    assert!(told.ends_with("skillset install-archive FILE"), "{told}");
    let empty = tempfile::tempdir().unwrap();
    let missing = format!("skillset.json not found in {}", empty.path().display());
    check_error(install(empty.path()), &missing);
    let bad = fixture.source("bad name!", "", &[]);
    check_error(
        install(&bad),
        "Invalid SkillSet name 'bad name!': must match \\A[a-zA-Z0-9][a-zA-Z0-9_-]*\\z",
    );
    check_error(
        install(&fixture.source("x", r#","layer":"L9""#, &[])),
        "Invalid layer 'L9': must be L0, L1 or L2",
    );
    fixture.install("zero", r#","layer":"L0""#, &[]);
    check_error(
        store.disable("zero", now()),
        "L0 SkillSet 'zero' requires human approval to disable",
    );
    check_error(
        store.remove("zero", now()),
        "L0 SkillSet 'zero' requires human approval to remove",
    );
    let force = Options {
        force: true,
        layer: Some(Layer::L2),
        ..Options::default()
    };
    let zero = fixture.source("zero", "", &[]);
    check_error(
        store.install(&zero, force, now()),
        "L0 SkillSet 'zero' requires human approval to replace",
    );
    check_error(
        store.package("nope", None, now()),
        "SkillSet 'nope' not found",
    );
    check_error(store.enable("nope", now()), "SkillSet 'nope' not found");
}

#[test]
fn dependencies_are_checked_when_switching() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let needy =
        |version: &str| format!(r#","depends_on":[{{"name":"base","version":"{version}"}}]"#);
    let outcome = fixture.install("early", &needy(">= 1"), &[]);
    assert_eq!(
        (outcome.set.enabled, outcome.unmet.as_deref()),
        (false, Some("Missing dependency: base"))
    );
    check_error(store.enable("early", now()), "Missing dependency: base");
    fixture.install("base", "", &[]);
    store.enable("early", now()).unwrap().commit().unwrap();
    fixture.install("picky", &needy(">= 2.0.0"), &[]);
    check_error(
        store.enable("picky", now()),
        "Dependency version mismatch: base 1.0.0 does not satisfy \">= 2.0.0\"",
    );
    fixture.install("wrong", &needy("^1.0"), &[]);
    check_error(
        store.enable("wrong", now()),
        "Illformed requirement [\"^1.0\"]",
    );
    assert!(fixture.install("second", &needy("~> 1.0"), &[]).set.enabled);
    check_error(
        store.disable("base", now()),
        "Cannot disable/remove 'base': required by early, second",
    );
    check_error(
        store.remove("base", now()),
        "Cannot disable/remove 'base': required by early, second",
    );
    for name in ["early", "second"] {
        store.disable(name, now()).unwrap().commit().unwrap();
    }
    store.disable("base", now()).unwrap().commit().unwrap();
    check_error(store.enable("early", now()), "Dependency not enabled: base");
    store.remove("base", now()).unwrap().commit().unwrap();
    assert!(!store.root.join("base").exists());
    let registry = fs::read_to_string(store.root.join(REGISTRY_FILE)).unwrap();
    assert!(!registry.contains("base"), "{registry}");
}

#[test]
fn force_replaces_the_whole_but_keeps_the_configuration() {
    let fixture = Fixture::new();
    fixture.install("kp", "", &[("config/a.yml", "shipped"), ("old.md", "x")]);
    let path = fixture.store.root.join("kp");
    fs::write(path.join("config/a.yml"), "mine").unwrap();
    let source = fixture.source(
        "kp",
        r#","layer":"L2""#,
        &[("config/a.yml", "new"), ("config/b.yml", "new")],
    );
    let options = Options {
        force: true,
        layer: None,
        ..Options::default()
    };
    let outcome = fixture
        .store
        .install(&source, options, now())
        .unwrap()
        .commit()
        .unwrap();
    assert_eq!(
        (outcome.action, outcome.set.layer),
        (Some(SkillSetAction::Reinstall), Layer::L2)
    );
    assert!(!path.join("old.md").exists());
    let read = |file| fs::read_to_string(path.join(file)).unwrap();
    assert_eq!(
        (read("config/a.yml"), read("config/b.yml")),
        ("mine".into(), "new".into())
    );
    assert_eq!(
        outcome.content_hash.unwrap(),
        fixture.store.content_hash("kp").unwrap()
    );
    assert_eq!(fixture.leftovers(), ["config.yml", "kp"]);
}

#[test]
fn the_layer_of_the_registry_wins() {
    let fixture = Fixture::new();
    let source = fixture.source("kp", r#","layer":"L2""#, &[]);
    let options = Options {
        layer: Some(Layer::L1),
        ..Options::default()
    };
    let change = fixture.store.install(&source, options, now()).unwrap();
    assert_eq!(change.entries().len(), 1);
    assert_eq!(change.commit().unwrap().set.layer, Layer::L1);
    assert_eq!(fixture.reopen().find("kp").unwrap().layer, Layer::L1);
    let package = fixture.store.package("kp", None, now()).unwrap();
    assert_eq!(package.layer, Some(Layer::L1));
}

#[test]
fn links_and_devices_are_never_copied() {
    let fixture = Fixture::new();
    let source = fixture.source("kp", "", &[("knowledge/a.md", "x")]);
    symlink("/etc/passwd", source.join("knowledge/passwd.md")).unwrap();
    symlink("/etc", source.join("etc")).unwrap();
    symlink("/etc", source.join(".ignored")).unwrap();
    check_error(
        fixture.store.install(&source, Options::default(), now()),
        "the source holds what cannot be copied\n- etc: is a symbolic link\n- knowledge/passwd.md: is a symbolic link",
    );
    assert_eq!(fixture.leftovers(), [""; 0]);
}

#[test]
fn one_broken_set_never_hides_the_others() {
    let fixture = Fixture::new();
    fixture.install("good", "", &[]);
    for (directory, text) in [
        ("bad", "{nope"),
        ("other", r#"{"name":"x","version":"1"}"#),
        (".hidden", "{"),
    ] {
        fs::create_dir(fixture.store.root.join(directory)).unwrap();
        fs::write(fixture.store.root.join(directory).join(METADATA_FILE), text).unwrap();
    }
    fs::create_dir(fixture.store.root.join("no_set")).unwrap();
    let inventory = fixture.store.inventory().unwrap();
    assert_eq!(inventory.sets.len(), 1);
    let broken: Vec<&str> = inventory
        .broken
        .iter()
        .map(|b| b.directory.as_str())
        .collect();
    assert_eq!(broken, ["bad", "other"]);
    assert_eq!(inventory.broken[1].reason, "its skillset.json names 'x'");
    check_error(fixture.store.info("bad"), "SkillSet 'bad' not found");
    assert_eq!(
        fixture
            .store
            .catalogue(&Catalogue::default())
            .unwrap()
            .sets
            .len(),
        1
    );
}

#[test]
fn a_registry_that_does_not_load_switches_everything_off_and_is_never_replaced() {
    let fixture = Fixture::new();
    fixture.install("kp", "", &[]);
    let registry = fixture.store.root.join(REGISTRY_FILE);
    fs::write(&registry, "skillsets: [").unwrap();
    let inventory = fixture.store.inventory().unwrap();
    assert!(!inventory.sets[0].enabled);
    assert_eq!(inventory.broken[0].directory, REGISTRY_FILE);
    let other = fixture.source("other", "", &[]);
    let result = fixture.store.install(&other, Options::default(), now());
    assert!(matches!(result, Err(SkillSetError::Registry(_))));
    assert!(matches!(
        fixture.store.enable("kp", now()),
        Err(SkillSetError::Registry(_))
    ));
    assert_eq!(fs::read_to_string(&registry).unwrap(), "skillsets: [");
}

#[test]
fn what_a_crash_leaves_is_cleaned_up_or_taken_back() {
    let fixture = Fixture::new();
    fixture.install("kept", "", &[]);
    let root = &fixture.store.root;
    fs::create_dir_all(root.join(".tmp-abc/knowledge")).unwrap();
    fs::write(root.join(".tmp-file"), "x").unwrap();
    // Replaced and not yet deleted; moved aside and not yet replaced.
    fs::create_dir(root.join(".old-kept-0a1b")).unwrap();
    fixture.install("a-b", "", &[]);
    fs::rename(root.join("a-b"), root.join(".old-a-b-0a1b")).unwrap();
    // While somebody works, nothing is touched.
    let lock = Lock::take(root, Duration::ZERO).unwrap();
    fixture.reopen();
    assert!(root.join(".tmp-abc").exists());
    drop(lock);
    let store = fixture.reopen();
    assert_eq!(fixture.leftovers(), ["a-b", "config.yml", "kept"]);
    assert_eq!(store.inventory().unwrap().sets.len(), 2);
}

#[test]
fn a_failed_replacement_leaves_the_old_one() {
    let fixture = Fixture::new();
    fixture.install("kp", "", &[("old.md", "x")]);
    let source = fixture.source("kp", "", &[("new.md", "x")]);
    let options = Options {
        force: true,
        layer: Some(Layer::L2),
        ..Options::default()
    };
    let change = fixture.store.install(&source, options, now()).unwrap();
    for entry in fs::read_dir(&fixture.store.root).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(TEMP_PREFIX)
        {
            fs::remove_dir_all(path).unwrap();
        }
    }
    check_error(
        change.commit(),
        "cannot put the SkillSet in its place: entity not found",
    );
    assert!(fixture.store.root.join("kp/old.md").exists());
    assert_eq!(fixture.store.find("kp").unwrap().layer, Layer::L1);
    assert_eq!(fixture.leftovers(), ["config.yml", "kp"]);
}

#[test]
fn only_one_process_changes_at_a_time() {
    let fixture = Fixture::new();
    fixture.install("kp", "", &[]);
    let change = fixture.store.disable("kp", now()).unwrap();
    let second = Lock::take(&fixture.store.root, Duration::from_millis(1));
    assert!(matches!(second, Err(SkillSetError::Locked)));
    change.commit().unwrap();
    Lock::take(&fixture.store.root, Duration::ZERO).unwrap();
}
