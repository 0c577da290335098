use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use kairos_protocol::block::BlockRef;
use kairos_protocol::block::entry::Entry;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;

use super::*;
use crate::data_dir::Surroundings;

const NOW: Timestamp = Timestamp::EPOCH;

fn recorded() -> Result<BlockRef, ChainError> {
    Ok(kairos_protocol::block::Block::genesis().to_ref())
}

fn made() -> (tempfile::TempDir, DataDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::resolve(Some(temp.path()), &Surroundings::default());
    dir.init(NOW).unwrap();
    (temp, dir)
}

fn steps(plan: &Plan) -> BTreeMap<&str, (Status, Step)> {
    let steps = plan.items.iter();
    steps
        .map(|item| (item.path.as_str(), (item.status, item.step)))
        .collect()
}

/// Writes `text` as the file at `path`, and notes that version 0.0.9 made it from `original`.
fn aged(dir: &DataDir, path: &str, original: &str, text: &str) {
    fs::write(dir.path().join(path), text).unwrap();
    let meta = fs::read_to_string(dir.meta_file()).unwrap();
    let name = match path.strip_prefix("knowledge/") {
        Some(below) => below.split('/').next().unwrap(),
        None => path,
    };
    let lines =
        meta.lines().map(
            |line| match line.trim_start().strip_prefix(&format!("{name}: ")) {
                Some(_) => format!("    {name}: {}\n", hash_of(original)),
                None => format!("{line}\n"),
            },
        );
    let meta: String = lines.collect();
    let ours = format!("  version: {}", env!("CARGO_PKG_VERSION"));
    fs::write(dir.meta_file(), meta.replace(&ours, "  version: 0.0.9")).unwrap();
}

#[test]
fn a_fresh_directory_needs_nothing() {
    let (_temp, dir) = made();
    let plan = plan(&dir, &[]).unwrap();
    assert!(!plan.needed);
    assert!(
        plan.items
            .iter()
            .all(|item| item.step == Step::Keep && item.diff.is_none())
    );
}

#[test]
fn every_text_is_compared_three_ways() {
    let (_temp, dir) = made();
    let guide = "knowledge/meeting_safely/meeting_safely.md";
    let started = "knowledge/kairos_getting_started";
    aged(&dir, "skills/kairos.rb", "old", "old");
    aged(&dir, "skills/kairos_quickguide.md", "old", "old");
    aged(&dir, "skills/config.yml", "old", "enabled: false # mine\n");
    aged(&dir, "config/safety.yml", "old", "{safe_root: /mine}\n");
    aged(&dir, guide, "old", "mine");
    fs::remove_dir_all(dir.path().join(started)).unwrap();
    fs::remove_file(dir.path().join("config/tool_metadata.yml")).unwrap();
    fs::write(dir.path().join("skills/kairos.md"), "mine").unwrap();
    let looked = plan(&dir, &[]).unwrap();
    use Status::*;
    assert_eq!(
        steps(&looked),
        BTreeMap::from([
            ("config/safety.yml", (Conflict, Step::Beside)),
            ("config/tool_metadata.yml", (AutoUpdatable, Step::Create)),
            ("skills/config.yml", (Conflict, Step::Merge)),
            ("skills/kairos.md", (UserModified, Step::Keep)),
            ("skills/kairos.rb", (AutoUpdatable, Step::Propose)),
            (
                "skills/kairos_quickguide.md",
                (AutoUpdatable, Step::Replace)
            ),
            (guide, (Conflict, Step::Beside)),
        ])
    );
    assert!(looked.needed && looked.from_version == "0.0.9");
    let takes = ["skills/kairos.rb".to_owned(), "skills/kairos.md".to_owned()];
    let taken = plan(&dir, &takes).unwrap();
    assert!(
        takes
            .iter()
            .all(|take| steps(&taken)[take.as_str()].1 == Step::Replace)
    );
    let unknown = plan(&dir, &["storage/x".to_owned()]).unwrap_err();
    assert!(matches!(unknown, UpgradeError::Unknown(_)));

    let (applied_plan, applied) = apply(&dir, &takes[..1], NOW).unwrap();
    let law = applied.law(None);
    assert_eq!(applied.end(recorded()).unwrap().1.len(), 6);
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
    let template = |path| TRACKED.iter().find(|t| t.path == path).unwrap().text;
    assert_eq!(read("skills/kairos.rb"), template("skills/kairos.rb"));
    assert_eq!(read("skills/kairos.rb.bak.19700101000000"), "old");
    assert!(read("skills/config.yml").starts_with("enabled: false # mine\n"));
    assert!(read("skills/config.yml").contains("instructions_mode: user"));
    assert_eq!(read("config/safety.yml"), "{safe_root: /mine}\n");
    assert_eq!(read("config/safety.yml.new"), template("config/safety.yml"));
    assert_eq!(
        (read("skills/kairos.md"), read(guide)),
        ("mine".to_owned(), "mine".to_owned())
    );
    assert!(dir.path().join(format!("{guide}.new")).exists());
    assert!(!dir.path().join(started).exists());
    let again = plan(&dir, &[]).unwrap();
    assert_eq!(
        steps(&again)["skills/config.yml"],
        (UserModified, Step::Keep)
    );
    assert!(!again.needed, "{again:?}");

    let texts = record(&applied_plan, law, NOW);
    let [Entry::SkillTransition(told), rest @ ..] = texts.as_slice() else {
        panic!("{texts:?}");
    };
    assert_eq!(told.prev_ast_hash, Some(ContentHash::of("old")));
    let now = Some(ContentHash::of(template("skills/kairos.rb")));
    assert_eq!(told.next_ast_hash, now);
    assert_eq!(
        told.reason_ref.as_deref(),
        Some("kairos.rb.bak.19700101000000")
    );
    let texts: Vec<_> = rest.iter().map(|entry| entry.to_text()).collect();
    assert_eq!(
        texts,
        [format!(
            "{{\"type\":\"system_upgrade\",\"from_version\":\"0.0.9\",\"to_version\":\"{}\",\"actions\":{{\
             \"auto_updated\":[\"skills/kairos.rb\",\"skills/kairos_quickguide.md\",\"config/tool_metadata.yml\"],\
             \"merged\":[\"skills/config.yml\"],\"l0_proposed\":[],\"skipped\":[\"skills/kairos.md\",\
             \"config/safety.yml\"],\"unchanged\":[],\"knowledge_installed\":[],\"knowledge_updated\":[],\
             \"knowledge_kept\":[],\"knowledge_conflict\":[\"meeting_safely\"]}},\
             \"timestamp\":\"1970-01-01T00:00:00Z\"}}",
            env!("CARGO_PKG_VERSION")
        )]
    );
}

#[test]
fn knowledge_that_an_upgrade_changes_is_recorded_as_any_other_change() {
    let (_temp, dir) = made();
    let guide = "knowledge/meeting_safely/meeting_safely.md";
    aged(&dir, guide, "old", "old");
    let (plan, applied) = apply(&dir, &[], NOW).unwrap();
    applied.end(recorded()).unwrap();
    let entries = record(&plan, Vec::new(), NOW);
    let [Entry::KnowledgeUpdate(update), Entry::SystemUpgrade(_)] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    let now = fs::read(dir.path().join(guide)).unwrap();
    let hashes = (update.prev_hash, update.next_hash);
    assert_eq!(
        hashes,
        (Some(ContentHash::of("old")), Some(ContentHash::of(now)))
    );
    assert_eq!(update.knowledge_id, "meeting_safely");
    assert_eq!(update.reason, "system_upgrade");
}

#[test]
fn copies_and_new_texts_have_the_mode_of_the_file_and_replace_nothing_of_the_owner() {
    let (_temp, dir) = made();
    let at = |path: &str| dir.path().join(path);
    aged(&dir, "skills/kairos_quickguide.md", "old", "old");
    aged(&dir, "config/safety.yml", "old", "{safe_root: /mine}\n");
    fs::write(at("config/safety.yml.new"), "notes of mine").unwrap();
    for path in ["skills/kairos_quickguide.md", "config/safety.yml.new"] {
        fs::set_permissions(at(path), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (_, applied) = apply(&dir, &[], NOW).unwrap();
    applied.end(recorded()).unwrap();
    let kept = at("config/safety.yml.new.bak.19700101000000");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "notes of mine");
    for path in [
        at("skills/kairos_quickguide.md"),
        at("skills/kairos_quickguide.md.bak.19700101000000"),
        at("config/safety.yml.new"),
        kept,
    ] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn only_what_is_not_recorded_for_certain_is_put_back() {
    let (_temp, dir) = made();
    let path = "skills/kairos_quickguide.md";
    aged(&dir, path, "old", "old");
    let read = || fs::read_to_string(dir.path().join(path)).unwrap();
    let apply = || apply(&dir, &[], NOW).unwrap().1;
    let refused = apply().end(Err(ChainError::KeyReused)).unwrap_err();
    assert!(
        refused.to_string().ends_with("nothing was changed"),
        "{refused}"
    );
    assert_eq!(read(), "old");
    let unknown = apply().end(Err(ChainError::Crashed)).unwrap_err();
    assert!(
        unknown.to_string().starts_with("the files are in place"),
        "{unknown}"
    );
    assert_ne!(read(), "old");
    assert!(
        plan(&dir, &[]).unwrap().needed,
        "the next one records and notes it"
    );
    assert_eq!(apply().end(recorded()).unwrap().1, []);
    assert!(!plan(&dir, &[]).unwrap().needed);
}

#[test]
fn an_upgrade_waits_for_those_who_change_the_law_and_leaves_what_is_unsettled() {
    let (_temp, dir) = made();
    let lock = fs::File::create(dir.skills().join(".lock")).unwrap();
    lock.lock().unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| apply(&dir, &[], NOW).map(drop));
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        assert!(!waits.is_finished());
        drop(lock);
        waits.join().unwrap().unwrap();
    });
    fs::write(dir.knowledge().join(".intent.json"), "{}").unwrap();
    let refused = apply(&dir, &[], NOW).unwrap_err();
    assert!(matches!(refused, UpgradeError::Unsettled), "{refused}");
}

#[test]
fn a_directory_of_the_reference_keeps_its_law_its_settings_and_its_tracking() {
    let (_temp, dir) = made();
    let reference = include_str!("../../tests/fixtures/kairos-meta-fresh-v2.2.0.yml");
    // Texts that the tracking says are as the reference made them.
    let mut meta = reference.to_owned();
    for (path, text) in [
        ("skills/kairos.rb", "skill :x do\nend\n"),
        ("skills/kairos_quickguide.md", "# Theirs\n"),
        (
            "skills/config.yml",
            "enabled: true\nhttp:\n  host: 0.0.0.0\n",
        ),
    ] {
        fs::write(dir.path().join(path), text).unwrap();
        let line = meta
            .lines()
            .find(|line| line.trim_start().starts_with(path))
            .unwrap()
            .to_owned();
        meta = meta.replace(&line, &format!("  {path}: {}", hash_of(text)));
    }
    fs::write(
        dir.path().join("skills/kairos.md"),
        "changed by its owner\n",
    )
    .unwrap();
    fs::write(dir.meta_file(), &meta).unwrap();
    let (plan, applied) = apply(&dir, &[], NOW).unwrap();
    applied.end(recorded()).unwrap();
    assert_eq!(plan.from_version, "2.2.0");
    let found = steps(&plan);
    use Status::*;
    assert_eq!(found["skills/kairos.rb"], (AutoUpdatable, Step::Propose));
    assert_eq!(found["skills/kairos.md"], (Conflict, Step::Propose));
    assert_eq!(
        found["skills/kairos_quickguide.md"],
        (AutoUpdatable, Step::Replace)
    );
    assert_eq!(found["skills/config.yml"], (AutoUpdatable, Step::Merge));
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
    assert_eq!(read("skills/kairos.rb"), "skill :x do\nend\n");
    assert!(read("skills/config.yml").contains("host: 0.0.0.0"));
    assert!(
        read(".kairos_meta.yml").starts_with(&meta),
        "the reference sees what it saw"
    );
    assert!(!super::plan(&dir, &[]).unwrap().needed);
}

#[test]
fn an_upgrade_that_fails_puts_everything_back() {
    let (temp, dir) = made();
    aged(&dir, "skills/kairos_quickguide.md", "old", "old");
    aged(&dir, "config/safety.yml", "old", "old: 1\n");
    let meta = fs::read_to_string(dir.meta_file()).unwrap();
    // In the way of the copy.
    let copy = temp.path().join("config/safety.yml.bak.19700101000000");
    fs::create_dir(&copy).unwrap();
    let failed = apply(&dir, &[], NOW).unwrap_err();
    assert!(
        failed.to_string().ends_with("nothing was changed"),
        "{failed}"
    );
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
    assert_eq!(read("skills/kairos_quickguide.md"), "old");
    assert_eq!(
        (read("config/safety.yml"), read(".kairos_meta.yml")),
        ("old: 1\n".to_owned(), meta)
    );
    assert!(
        !temp
            .path()
            .join("skills/kairos_quickguide.md.bak.19700101000000")
            .exists()
    );
}

#[test]
fn a_directory_of_a_later_version_is_left_alone() {
    let (_temp, dir) = made();
    let meta = fs::read_to_string(dir.meta_file()).unwrap();
    let ours = format!("  version: {}", env!("CARGO_PKG_VERSION"));
    fs::write(dir.meta_file(), meta.replace(&ours, "  version: 99.0.0")).unwrap();
    assert!(matches!(plan(&dir, &[]), Err(UpgradeError::Newer(_))));
    fs::write(dir.meta_file(), "- no map\n").unwrap();
    assert!(matches!(plan(&dir, &[]), Err(UpgradeError::Meta(_))));
    fs::remove_file(dir.meta_file()).unwrap();
    let plan = plan(&dir, &[]).unwrap();
    assert!(plan.needed && plan.from_version == "unknown");
    assert!(
        plan.items
            .iter()
            .all(|item| item.status == Status::Unchanged)
    );
}

#[test]
fn a_law_that_the_ledger_was_not_told_of_is_told_by_the_next_upgrade() {
    let (_temp, dir) = made();
    let law = dir.law();
    let shipped = ContentHash::of(fs::read(&law).unwrap());
    fs::remove_file(&law).unwrap();
    let looked = plan(&dir, &[]).unwrap();
    assert!(looked.needed && looked.changes_law());
    let (_, applied) = apply(&dir, &[], NOW).unwrap();
    let told = applied.law(None);
    // The process dies: the law is there, and nobody was told.
    drop(applied);
    let looked = plan(&dir, &[]).unwrap();
    assert!(looked.needed && !looked.changes_law());
    let (_, applied) = apply(&dir, &[], NOW).unwrap();
    assert!(applied.tells_of_law());
    assert_eq!(applied.law(None), told);
    assert_eq!(applied.law(Some(ContentHash::of("another"))), told);
    assert_eq!(applied.law(Some(shipped)), [], "it was told");
    applied.end(recorded()).unwrap();
    assert!(!plan(&dir, &[]).unwrap().needed);
    // One that was taken back is not told.
    fs::remove_file(&law).unwrap();
    let (_, applied) = apply(&dir, &[], NOW).unwrap();
    let refused = applied.end(Err(ChainError::Ask(
        kairos_actors::bounded_addr::AskError::Busy,
    )));
    assert!(
        matches!(refused, Err(UpgradeError::Refused(_))),
        "{refused:?}"
    );
    assert!(!law.exists());
    let (_, applied) = apply(&dir, &[], NOW).unwrap();
    assert_eq!(applied.law(None), told);
}
