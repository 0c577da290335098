use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use kairos_protocol::block::entry::Entry;
use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::{ManualClock, Timestamp};
use proptest::prelude::*;
use tempfile::TempDir;

use super::ledger::{LOOK_BACK_MAX, Records};
use super::*;
use crate::chain::ChainError;
use crate::chain::store::memory::MemoryStore;
use crate::chain::store::{BlockStore as _, StoreError};

/// When an append goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Never,
    Before,
    After,
}

/// A ledger in memory that can fail like one whose process dies.
struct Fake {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    fails: Cell<Fails>,
    /// How many pages were read besides the newest.
    reads: Cell<usize>,
    /// Seen by each append before it happens.
    appended: RefCell<Vec<Vec<String>>>,
}

impl Ledger for Fake {
    fn tip(&self) -> Result<Option<BlockRef>, ChainError> {
        Ok(self.store.tip()?)
    }

    fn recent(&self) -> Result<Vec<Block>, ChainError> {
        Ok(self.store.history(1_000)?)
    }

    fn blocks(&self, first: u64) -> Result<Vec<Block>, ChainError> {
        self.reads.set(self.reads.get() + 1);
        Ok(self.store.blocks(first, 1_000)?)
    }

    fn has(&self, first: u64, is_it: &dyn Fn(&Block) -> bool) -> Result<bool, ChainError> {
        let mut blocks = self.blocks(first)?.into_iter();
        Ok(blocks.any(|block| is_it(&block)))
    }

    fn append(&self, entries: Vec<String>) -> Result<BlockRef, ChainError> {
        if self.fails.get() == Fails::Before {
            return Err(ChainError::Crashed);
        }
        self.appended.borrow_mut().push(entries.clone());
        let blocks = self.store.append(vec![entries], &*self.clock)?;
        match (self.fails.get(), blocks.last()) {
            (Fails::Never, Some(block)) => Ok(*block),
            _ => Err(ChainError::Crashed),
        }
    }
}

struct Place {
    dir: TempDir,
    store: StateStore,
    ledger: Fake,
}

const CONFIG: &str = "state_commit:\n  max_snapshots: 3\n  auto_commit:\n    enabled: true\n    on_events: { l0_change: true, promotion: true, demotion: true, session_end: true }\n    change_threshold: { enabled: true }\n";

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(
        Timestamp::parse("2026-01-20T10:30:00Z").unwrap(),
    ));
    let place = Place {
        store: StateStore {
            data: dir.path().to_owned(),
            clock: clock.clone(),
        },
        dir,
        ledger: Fake {
            store: MemoryStore::default(),
            clock,
            fails: Cell::new(Fails::Never),
            reads: Cell::new(0),
            appended: RefCell::default(),
        },
    };
    place.write("skills/config.yml", CONFIG);
    place.write("skills/kairos.rb", "skill :a do\n  title \"A\"\nend\n");
    place.write("knowledge/alpha/alpha.md", "---\nname: alpha\n---\none\n");
    place.write("knowledge/alpha/scripts/run.sh", "echo\n");
    place.write("context/s1/note/note.md", "---\nname: note\n---\nbody\n");
    place
}

impl Place {
    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    fn commit(&self, reason: &str) -> Result<Committed, StateError> {
        let (reason, force) = (reason.to_owned(), false);
        self.store
            .commit_now(&self.ledger, &Commit { reason, force })
    }

    fn status(&self) -> Status {
        self.store.status(&self.ledger).unwrap()
    }

    fn restore(&self, wanted: &str) -> Result<Restored, StateError> {
        self.store.restore(&self.ledger, wanted, false, &|_| Ok(()))
    }

    fn review(&self) -> Option<Trigger> {
        self.store
            .review(&self.ledger, false)
            .unwrap()
            .map(|(trigger, _)| trigger)
    }

    /// Everything below a directory, by path.
    fn files(&self, below: &str) -> BTreeMap<String, Vec<u8>> {
        let files = walkdir::WalkDir::new(self.path(below))
            .into_iter()
            .map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        let read = |path: &Path| {
            (
                path.strip_prefix(self.dir.path())
                    .unwrap()
                    .display()
                    .to_string(),
                fs::read(path).unwrap(),
            )
        };
        files
            .map(|entry| read(entry.path()))
            .filter(|(path, _)| !path.ends_with(".lock"))
            .collect()
    }

    fn snapshots(&self) -> Vec<String> {
        self.files("storage/snapshots")
            .into_keys()
            .filter(|path| !path.contains("objects/"))
            .collect()
    }

    fn record(&self, text: &str) {
        self.ledger.append(vec![text.to_owned()]).unwrap();
    }

    fn tip(&self) -> u64 {
        self.ledger.tip().unwrap().map_or(0, |tip| tip.index)
    }
}

fn knowledge(name: &str, action: &str, reason: &str) -> String {
    format!(
        r#"{{"type":"knowledge_update","layer":"L1","knowledge_id":"{name}","action":"{action}","prev_hash":null,"next_hash":null,"reason":"{reason}","timestamp":"2026-01-20T10:30:00+00:00"}}"#
    )
}

#[test]
fn a_commit_is_a_file_and_a_block_and_the_next_needs_a_change() {
    let place = place();
    assert!(matches!(place.commit("  "), Err(StateError::NoReason)));
    let first = place.commit("first").unwrap();
    assert_eq!(
        place.snapshots(),
        [format!("storage/{}", first.snapshot_ref)]
    );
    let entry = place.ledger.appended.borrow()[0][0].clone();
    let start = format!(
        r#"{{"type":"state_commit","commit_type":"explicit","actor":"human","prev_snapshot_hash":null,"next_snapshot_hash":"{}","snapshot_ref":"{}","summary":{{"L0_changed":true,"L1_added":1,"L1_modified":0,"L1_deleted":0,"L2_sessions_added":1,"L2_sessions_deleted":0,"promotions":0,"demotions":0,"total_changes":3}},"reason":"first","timestamp":"2026-01-20T10:30:00+00:00""#,
        first.snapshot_hash, first.snapshot_ref
    );
    assert!(entry.starts_with(&start), "{entry}\n{start}");
    let error = place.commit("again").unwrap_err();
    assert_eq!(
        error.to_string(),
        "No changes since last commit. Use --force to commit anyway."
    );
    // The reference does not see the text of a context.
    place.write("context/s1/note/note.md", "---\nname: note\n---\nanother\n");
    let second = place.commit("second").unwrap();
    assert_eq!(second.snapshot_hash, first.snapshot_hash);
    assert_ne!(second.content_hash, first.content_hash);
    assert_eq!(second.summary.l2_sessions_modified, 1);
    assert!(place.ledger.appended.borrow()[1][0].contains(&format!(
        "\"prev_snapshot_hash\":\"{}\"",
        first.snapshot_hash
    )));
    // Both in one second, of one hash.
    assert!(second.snapshot_ref.ends_with("_2.json"));
}

#[test]
fn after_a_crash_the_file_is_there_if_and_only_if_the_block_is() {
    for fails in [Fails::Before, Fails::After] {
        let place = place();
        place.commit("first").unwrap();
        place.write("knowledge/alpha/alpha.md", "two\n");
        place.ledger.fails.set(fails);
        place.commit("second").unwrap_err();
        place.ledger.fails.set(Fails::Never);
        let hidden = place
            .snapshots()
            .iter()
            .filter(|path| path.contains("/.snapshot_"))
            .count();
        assert_eq!(hidden, 1, "the crash left it");
        let status = place.status();
        assert_eq!(status.problems, [""; 0]);
        let expected = if fails == Fails::After { 2 } else { 1 };
        assert_eq!(
            (place.snapshots().len(), status.snapshot_count),
            (expected, expected)
        );
        assert_eq!(status.has_changes, fails == Fails::Before);
        let reasons: Vec<_> = place
            .store
            .history(&place.ledger, 9)
            .unwrap()
            .commits
            .into_iter()
            .map(|c| c.reason)
            .collect();
        assert_eq!(
            reasons.first().map(String::as_str),
            Some(if fails == Fails::After {
                "second"
            } else {
                "first"
            })
        );
    }
}

#[test]
fn the_last_snapshot_is_the_one_the_ledger_names_and_a_corrupt_one_is_not_none() {
    let place = place();
    let first = place.commit("first").unwrap();
    place.write("knowledge/beta/beta.md", "b\n");
    place.ledger.clock.advance(Duration::from_secs(60));
    let second = place.commit("second").unwrap();
    // A file that claims to be newer and that no block tells of.
    let text = place
        .text(&format!("storage/{}", first.snapshot_ref))
        .unwrap();
    let forged = text.replace("2026-01-20T10:30:00", "2030-01-20T10:30:00");
    place.write(
        "storage/snapshots/snapshot_20300120_103000_ffffffff.json",
        &forged,
    );
    let status = place.status();
    assert_eq!(status.last_commit.unwrap().reason, "second");
    assert!(!status.has_changes);
    place.write(&format!("storage/{}", second.snapshot_ref), "{ half");
    let status = place.status();
    assert_eq!(status.last_commit.unwrap().reason, "first");
    assert!(
        status.problems[0].contains("is not a snapshot that can be used"),
        "{:?}",
        status.problems
    );
    let third = place.commit("third").unwrap();
    assert!(place.ledger.appended.borrow()[2][0].contains(&format!(
        "\"prev_snapshot_hash\":\"{}\"",
        second.snapshot_hash
    )));
    assert_eq!(third.summary.l1_added, 1);
    fs::remove_file(place.path(&format!("storage/{}", third.snapshot_ref))).unwrap();
    assert!(place.status().problems[0].contains("is gone"));
}

#[test]
fn hostile_snapshots_are_named_and_nothing_is_read_through_them() {
    let place = place();
    place.commit("first").unwrap();
    let folder = place.path("storage/snapshots");
    place.write("storage/snapshots/snapshot_a.json", "[]");
    place.write("storage/snapshots/snapshot_b.json", &"[".repeat(200_000));
    place.write(
        "storage/snapshots/snapshot_c.json",
        "{\"snapshot_hash\":\"x\"}",
    );
    fs::write(folder.join("snapshot_d.json"), [0xff, 0xfe]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("snapshot_e.json")).unwrap();
    fs::create_dir(folder.join("snapshot_f.json")).unwrap();
    fs::File::create(folder.join("snapshot_g.json"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let history = place.store.history(&place.ledger, 100).unwrap();
    assert_eq!(history.commits.len(), 1);
    assert_eq!(history.problems.len(), 5, "{:?}", history.problems);
    for wanted in [
        "../snapshots/snapshot_a.json",
        "snapshot_e.json",
        "snapshot_f.json",
        "snapshot_a.json",
        "x",
        "",
        "zzzzzz",
    ] {
        assert!(place.restore(wanted).is_err(), "{wanted}");
    }
    // A block that names a file elsewhere.
    place.record(r#"{"type":"state_commit","next_snapshot_hash":"00","snapshot_ref":"snapshots/../../skills/kairos.rb"}"#);
    let status = place.status();
    assert_eq!(status.last_commit.unwrap().reason, "first");
    assert_eq!(status.problems.len(), 1);
}

#[test]
fn a_restore_brings_every_byte_back_and_keeps_what_was_there() {
    let place = place();
    let first = place.commit("first").unwrap();
    let before = place.files("knowledge");
    place.write("knowledge/alpha/alpha.md", "changed\n");
    fs::remove_file(place.path("knowledge/alpha/scripts/run.sh")).unwrap();
    place.write("knowledge/new/new.md", "new\n");
    place.write("knowledge/new/deep/er/file", "x");
    place.write("skills/kairos.rb", "skill :b do\nend\n");
    fs::remove_dir_all(place.path("context/s1")).unwrap();
    let plan = place
        .store
        .restore(&place.ledger, "last", true, &|_| Ok(()))
        .unwrap();
    assert_eq!(plan.steps.len(), 6);
    assert_eq!(place.tip(), 1, "a dry run writes nothing");
    let done = place.restore("last").unwrap();
    assert_eq!(
        (done.file.as_str(), done.confirmed),
        (first.snapshot_ref.strip_prefix("snapshots/").unwrap(), true)
    );
    assert_eq!(place.files("knowledge"), before);
    assert!(
        !place.path("knowledge/new").exists(),
        "no empty directory is left"
    );
    assert_eq!(
        place.text("context/s1/note/note.md").unwrap(),
        "---\nname: note\n---\nbody\n"
    );
    assert_eq!(
        place.text("skills/kairos.rb").unwrap(),
        "skill :a do\n  title \"A\"\nend\n"
    );
    assert!(!place.status().has_changes);
    let appended = place.ledger.appended.borrow().clone();
    let told: Vec<_> = appended[2]
        .iter()
        .map(|text| text.split("\"prev_hash\"").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        told[..2],
        [
            r#"{"type":"knowledge_update","layer":"L1","knowledge_id":"alpha","action":"update","#,
            r#"{"type":"knowledge_update","layer":"L1","knowledge_id":"new","action":"delete","#,
        ]
    );
    // The law changes too, so it is told; what it was is in the safety commit.
    let safety = done.safety.unwrap();
    let Ok(Entry::SkillTransition(law)) = Entry::read(&appended[2][2]) else {
        panic!("{:?}", appended[2]);
    };
    assert_eq!(
        law.reason_ref.as_deref(),
        Some(safety.snapshot_ref.as_str())
    );
    let was = Some(ContentHash::of("skill :b do\nend\n"));
    let is = Some(ContentHash::of(place.text("skills/kairos.rb").unwrap()));
    assert_eq!((law.prev_ast_hash, law.next_ast_hash), (was, is));
    assert!(appended[2][3].contains("\"type\":\"state_commit\""));
    // And back again, from the safety commit.
    place.restore(&safety.snapshot_ref).unwrap();
    assert_eq!(place.text("knowledge/new/deep/er/file").unwrap(), "x");
    assert_eq!(place.text("knowledge/alpha/alpha.md").unwrap(), "changed\n");
}

#[test]
fn archived_knowledge_comes_back_as_such() {
    let place = place();
    let first = place.commit("first").unwrap();
    fs::create_dir_all(place.path("knowledge/.archived")).unwrap();
    fs::rename(
        place.path("knowledge/alpha"),
        place.path("knowledge/.archived/alpha"),
    )
    .unwrap();
    let second = place.commit("second").unwrap();
    assert_eq!(second.summary.demotions, 1);
    place.restore(&first.snapshot_ref).unwrap();
    assert!(place.path("knowledge/alpha/alpha.md").exists());
    assert!(place.ledger.appended.borrow()[2][0].contains("\"action\":\"unarchive\""));
    place.restore(&second.snapshot_ref).unwrap();
    assert!(place.ledger.appended.borrow()[3][0].contains("\"action\":\"archive\""));
}

#[test]
fn a_restore_is_refused_before_it_changes_anything() {
    let place = place();
    let first = place.commit("first").unwrap();
    place.write("knowledge/alpha/alpha.md", "changed\n");
    let file = first
        .snapshot_ref
        .strip_prefix("snapshots/")
        .unwrap()
        .to_owned();
    let path = format!("storage/{}", first.snapshot_ref);
    let text = place.text(&path).unwrap();
    let state = place.files("knowledge");
    let refused = |place: &Place| {
        let error = place.restore(&file).unwrap_err().to_string();
        assert_eq!(place.files("knowledge"), state);
        assert_eq!(place.tip(), 1, "{error}");
        error
    };
    // As the reference writes it.
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value.as_object_mut().unwrap().shift_remove("content");
    place.write(&path, &value.to_string());
    assert!(refused(&place).contains("holds only hashes: it was made by the Ruby system"));
    // A list of files that somebody exchanged.
    let tree = kairos_protocol::state::Tree::default().to_text();
    let hash = ContentHash::of(&tree);
    objects::Objects::new(&place.path("storage/snapshots"))
        .put(hash, tree.as_bytes())
        .unwrap();
    place.write(
        &path,
        &text.replace(&first.content_hash.to_hex(), &hash.to_hex()),
    );
    assert!(refused(&place).contains("block 1 names another content"));
    place.write(&path, &text);
    // A damaged text, and one that is gone.
    let hash = ContentHash::of("---\nname: alpha\n---\none\n").to_hex();
    let object = format!("storage/snapshots/objects/{}/{hash}", &hash[..2]);
    place.write(&object, "damaged");
    assert!(refused(&place).contains("is damaged, so nothing was changed"));
    fs::remove_file(place.path(&object)).unwrap();
    assert!(refused(&place).contains("is missing, so nothing was changed"));
}

#[test]
fn nothing_is_written_through_a_link() {
    let place = place();
    place.commit("first").unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::remove_dir_all(place.path("knowledge/alpha")).unwrap();
    std::os::unix::fs::symlink(outside.path(), place.path("knowledge/alpha")).unwrap();
    let error = place.restore("last").unwrap_err();
    assert!(error.to_string().contains("is a link or a file"), "{error}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn an_interrupted_restore_is_completed() {
    for fails in [Fails::Before, Fails::After] {
        let place = place();
        let first = place.commit("first").unwrap();
        place.write("knowledge/alpha/alpha.md", "changed\n");
        place.write("knowledge/new/new.md", "new\n");
        let second = place.commit("second").unwrap();
        place.ledger.fails.set(fails);
        place.restore(&first.snapshot_ref).unwrap_err();
        place.ledger.fails.set(Fails::Never);
        assert!(place.path("storage/snapshots/.restore.json").exists());
        // As if the crash had come before the second file.
        place.write("knowledge/new/new.md", "new\n");
        let status = place.status();
        assert!(!status.has_changes, "{:?}", status.changes);
        assert_eq!(
            place.text("knowledge/alpha/alpha.md").unwrap(),
            "---\nname: alpha\n---\none\n"
        );
        assert!(!place.path("knowledge/new/new.md").exists());
        assert!(!place.path("storage/snapshots/.restore.json").exists());
        let blocks = place.ledger.recent().unwrap();
        let restores = blocks
            .iter()
            .flat_map(Block::data)
            .filter(|text| text.contains("\"reason\":\"Restore "));
        assert_eq!(
            restores.count(),
            3,
            "two entries of L1 and the commit, once"
        );
        assert_ne!(
            status.last_commit.unwrap().snapshot_hash,
            second.snapshot_hash
        );
    }
}

#[test]
fn the_ledger_is_not_told_of_files_that_stayed_as_somebody_else_left_them() {
    let place = place();
    let first = place.commit("first").unwrap();
    place.write("knowledge/alpha/alpha.md", "changed\n");
    place.write("knowledge/new/new.md", "new\n");
    place.commit("second").unwrap();
    place.ledger.fails.set(Fails::Before);
    place.restore(&first.snapshot_ref).unwrap_err();
    place.ledger.fails.set(Fails::Never);
    // As if the crash had come before the first file, which is then edited.
    place.write("knowledge/alpha/alpha.md", "edited\n");
    place.status();
    assert_eq!(place.text("knowledge/alpha/alpha.md").unwrap(), "edited\n");
    assert!(!place.path("knowledge/new/new.md").exists());
    let blocks = place.ledger.recent().unwrap();
    let told = |name: &str| {
        let entry = format!("\"knowledge_id\":\"{name}\"");
        let mut texts = blocks.iter().flat_map(Block::data);
        texts.any(|text| text.contains(&entry) && text.contains("\"reason\":\"Restore "))
    };
    assert_eq!((told("alpha"), told("new")), (false, true));
}

#[test]
fn an_interrupted_restore_whose_texts_are_gone_is_taken_back_and_edits_of_others_stay() {
    let place = place();
    let first = place.commit("first").unwrap();
    place.write("knowledge/alpha/alpha.md", "changed\n");
    place.write("knowledge/beta/beta.md", "b\n");
    place.commit("second").unwrap();
    place.ledger.fails.set(Fails::Before);
    place.restore(&first.snapshot_ref).unwrap_err();
    place.ledger.fails.set(Fails::Never);
    // Nothing of it is done yet, and then a text goes and somebody edits.
    place.write("knowledge/alpha/alpha.md", "changed\n");
    place.write("knowledge/beta/beta.md", "edited\n");
    let hash = ContentHash::of("---\nname: alpha\n---\none\n").to_hex();
    fs::remove_file(place.path(&format!("storage/snapshots/objects/{}/{hash}", &hash[..2])))
        .unwrap();
    let status = place.status();
    assert_eq!(place.text("knowledge/alpha/alpha.md").unwrap(), "changed\n");
    assert_eq!(place.text("knowledge/beta/beta.md").unwrap(), "edited\n");
    assert!(!place.path("storage/snapshots/.restore.json").exists());
    assert_eq!(status.last_commit.unwrap().reason, "second");
}

#[test]
fn after_a_commit_of_the_reference_no_text_is_missed() {
    let place = place();
    let of_reference = |file: &str, from: &str| {
        let text = place.text(&format!("storage/{from}")).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let hash = value["snapshot_hash"].as_str().unwrap().to_owned();
        value.as_object_mut().unwrap().shift_remove("content");
        place.write(&format!("storage/snapshots/{file}"), &value.to_string());
        place.record(&format!(r#"{{"type":"state_commit","next_snapshot_hash":"{hash}","snapshot_ref":"snapshots/{file}"}}"#));
    };
    let first = place.commit("first").unwrap();
    of_reference("snapshot_20270101_000000_a.json", &first.snapshot_ref);
    assert!(!place.status().has_changes);
    place.write("context/s1/note/note.md", "---\nname: note\n---\nanother\n");
    assert_eq!(place.status().changes.l2.modified, ["s1"]);
    // Of a state that we never kept, everything is.
    let second = place.commit("second").unwrap();
    of_reference("snapshot_20270101_000001_b.json", &second.snapshot_ref);
    fs::remove_file(place.path(&format!("storage/{}", first.snapshot_ref))).unwrap();
    fs::remove_file(place.path(&format!("storage/{}", second.snapshot_ref))).unwrap();
    assert!(!place.status().has_changes);
    assert_eq!(
        place.commit("third").unwrap().snapshot_hash,
        second.snapshot_hash
    );
}

#[test]
fn old_snapshots_and_the_texts_only_they_need_are_pruned() {
    let place = place();
    for round in 0..5 {
        place.write("knowledge/alpha/alpha.md", &format!("round {round}\n"));
        place.commit(&round.to_string()).unwrap();
    }
    let history = place.store.history(&place.ledger, 9).unwrap();
    let reasons: Vec<_> = history
        .commits
        .iter()
        .map(|commit| commit.reason.as_str())
        .collect();
    assert_eq!(reasons, ["4", "3", "2"]);
    let kept = |round: u32| {
        let hash = ContentHash::of(format!("round {round}\n")).to_hex();
        place
            .path(&format!("storage/snapshots/objects/{}/{hash}", &hash[..2]))
            .exists()
    };
    assert_eq!([0, 1, 2, 3, 4].map(kept), [false, false, true, true, true]);
    // The commit before the restore must not take away what is restored.
    place.write("knowledge/alpha/alpha.md", "not committed yet\n");
    let oldest = history.commits[2].file.clone();
    let restored = place.restore(&oldest).unwrap();
    assert!(restored.safety.is_some());
    assert_eq!(place.text("knowledge/alpha/alpha.md").unwrap(), "round 2\n");
}

#[test]
fn snapshots_are_pruned_several_at_once() {
    let place = place();
    let config = CONFIG.replace("max_snapshots: 3", "max_snapshots: 20");
    place.write("skills/config.yml", &config);
    let counts: Vec<_> = (0..24)
        .map(|round| {
            place.write("knowledge/alpha/alpha.md", &format!("round {round}\n"));
            place.commit(&round.to_string()).unwrap();
            place.snapshots().len()
        })
        .collect();
    assert_eq!(counts[19..], [20, 21, 22, 20, 21]);
}

#[test]
fn a_ledger_without_snapshots_is_not_read_to_its_beginning() {
    let place = place();
    let fill = |count: u64| {
        let blocks = (0..count).map(|n| vec![n.to_string()]).collect();
        let clock = &*place.ledger.clock;
        place.ledger.store.append(blocks, clock).unwrap();
    };
    fill(2_100);
    place.ledger.reads.set(0);
    place.status();
    assert_eq!(place.ledger.reads.get(), 0);
    place.commit("first").unwrap();
    fill(1_100);
    place.ledger.reads.set(0);
    let last = place.status().last_commit.unwrap();
    assert!(last.block.is_some(), "it is looked for where there is one");
    assert_eq!(place.ledger.reads.get(), 1);
}

#[test]
fn entries_are_known_by_either_name_of_their_type() {
    let place = place();
    place.commit("first").unwrap();
    for entry in [
        r#"{"_type":"knowledge_update","knowledge_id":"a","action":"create"}"#,
        r#"{"_type":"skill_provenance","type":"knowledge_update","knowledge_id":"b"}"#,
        r#"{"_type":"skill_provenance","skill_id":"c","next_ast_hash":"x"}"#,
        r#"{"skill_id":"d","next_ast_hash":"x"}"#,
    ] {
        place.ledger.append(vec![entry.to_owned()]).unwrap();
    }
    let records = Records::read(&place.ledger, LOOK_BACK_MAX).unwrap();
    let names: Vec<_> = records.since.iter().map(|c| c.skill_id.as_str()).collect();
    assert_eq!(names, ["a", "d"]);
}

#[test]
fn a_clock_that_goes_back_does_not_take_away_the_newest_snapshot() {
    let place = place();
    for round in 0..4 {
        place.write("knowledge/alpha/alpha.md", &format!("round {round}\n"));
        place.commit(&round.to_string()).unwrap();
    }
    place
        .ledger
        .clock
        .set(Timestamp::parse("2020-01-20T10:30:00Z").unwrap());
    for text in ["early", "earlier"] {
        place.write("knowledge/alpha/alpha.md", text);
        place.commit(text).unwrap();
        place.write("knowledge/alpha/alpha.md", "spoiled");
        place.restore("last").unwrap();
        assert_eq!(place.text("knowledge/alpha/alpha.md").unwrap(), text);
    }
}

#[test]
fn a_fresh_directory_is_not_full_of_changes_and_the_ledger_tells_why() {
    let place = place();
    assert_eq!(place.review(), None);
    for n in 0..4 {
        place.record(&knowledge(&format!("k{n}"), "create", "why not"));
    }
    assert_eq!(place.review(), None);
    place.record(&knowledge("k4", "update", "better"));
    assert_eq!(place.review(), Some(Trigger::L1Threshold));
    let entry = place.ledger.appended.borrow().last().unwrap()[0].clone();
    assert!(entry.contains(r#""commit_type":"auto","actor":"system""#));
    assert!(
        entry.contains("Auto-commit (l1_threshold): L1: 5 changes"),
        "{entry}"
    );
    let history = place.store.history(&place.ledger, 1).unwrap();
    assert_eq!(history.commits[0].change_count, 5);
    assert_eq!(place.review(), None);
    // By hand, without a word to anybody.
    place.write("skills/kairos.rb", "skill :c do\nend\n");
    assert_eq!(place.review(), Some(Trigger::L0Change));
    place.write("knowledge/note/note.md", "was a context\n");
    assert_eq!(place.review(), Some(Trigger::Promotion));
    fs::create_dir_all(place.path("knowledge/.archived")).unwrap();
    fs::rename(
        place.path("knowledge/note"),
        place.path("knowledge/.archived/note"),
    )
    .unwrap();
    assert_eq!(place.review(), Some(Trigger::Demotion));
    place.write("context/s2/x/x.md", "x");
    assert_eq!(place.review(), None);
    let end = place.store.review(&place.ledger, true).unwrap();
    assert_eq!(end.unwrap().0, Trigger::SessionEnd);
    assert!(place.store.review(&place.ledger, true).unwrap().is_none());
    place.record(&knowledge("alpha", "update", "nothing differs"));
    assert_eq!(place.review(), None);
}

#[test]
fn a_commit_far_back_in_the_ledger_is_still_the_last() {
    let place = place();
    place.commit("first").unwrap();
    let notes = (0..2_500).map(|n| vec![format!("note {n}")]).collect();
    place
        .ledger
        .store
        .append(notes, &*place.ledger.clock)
        .unwrap();
    place.write(
        "storage/snapshots/snapshot_20300120_103000_ffffffff.json",
        "not this",
    );
    let status = place.status();
    assert_eq!(
        (status.last_commit.unwrap().block, status.problems.len()),
        (Some(1), 0)
    );
}

#[test]
fn half_a_change_of_knowledge_is_not_committed() {
    let place = place();
    place.commit("first").unwrap();
    place.write("knowledge/alpha/alpha.md", "half\n");
    place.write("knowledge/.intent.json", "{}");
    place.write("knowledge/.staged-x/alpha.md", "needed by the intent\n");
    assert!(matches!(place.commit("second"), Err(StateError::Unsettled)));
    assert!(matches!(place.restore("last"), Err(StateError::Unsettled)));
    assert!(place.path("knowledge/.staged-x/alpha.md").exists());
    assert_eq!((place.tip(), place.status().unread), (1, vec![]));
    fs::remove_file(place.path("knowledge/.intent.json")).unwrap();
    place.commit("second").unwrap();
}

#[test]
fn settings_switch_it_off() {
    let place = place();
    place.write(
        "skills/config.yml",
        "state_commit:\n  enabled: false\n  auto_commit:\n    enabled: true\n",
    );
    assert!(matches!(place.commit("x"), Err(StateError::Disabled)));
    assert!(matches!(place.restore("last"), Err(StateError::Disabled)));
    assert!(place.store.review(&place.ledger, true).unwrap().is_none());
    place.write("skills/config.yml", "state_commit: [");
    assert_eq!(place.status().problems.len(), 1);
    assert!(place.store.review(&place.ledger, true).unwrap().is_none());
}

#[test]
fn a_ledger_that_does_not_load_stops_it_and_changes_nothing() {
    let place = place();
    let broken = Fake {
        store: MemoryStore::holding(vec![]),
        clock: place.ledger.clock.clone(),
        fails: Cell::new(Fails::Never),
        reads: Cell::new(0),
        appended: RefCell::default(),
    };
    let (reason, force) = ("x".to_owned(), true);
    let error = place
        .store
        .commit_now(&broken, &Commit { reason, force })
        .unwrap_err();
    assert!(
        matches!(
            error,
            StateError::Chain(ChainError::Store(StoreError::NotReadable(_)))
        ),
        "{error}"
    );
    assert_eq!(place.snapshots(), [""; 0]);
}

#[test]
fn a_thousand_entries_are_kept_and_come_back() {
    let place = place();
    for n in 0..1_000 {
        place.write(
            &format!("knowledge/k{n:04}/k{n:04}.md"),
            &format!("---\nname: k{n:04}\n---\n{n}\n"),
        );
    }
    let first = place.commit("first").unwrap();
    assert_eq!(first.summary.l1_added, 1_001);
    let before = place.files("knowledge");
    fs::remove_dir_all(place.path("knowledge")).unwrap();
    let done = place.restore(&first.snapshot_ref).unwrap();
    assert_eq!(done.steps.len(), 1_002);
    assert_eq!(place.files("knowledge"), before);
    // More entries than a block takes.
    let blocks: Vec<_> = place
        .ledger
        .appended
        .borrow()
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(blocks, [1, 1, 999, 3]);
}

#[actix::test]
async fn the_actor_commits_by_itself_once_the_ledger_has_grown() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("skills/config.yml", CONFIG);
    write("knowledge/a/a.md", "a\n");
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::EPOCH));
    let patience = Duration::from_secs(60);
    let ledger = Arc::new(MemoryStore::default());
    let chain = crate::chain::ChainActor::start(ledger, clock.clone(), 8, patience);
    let state = started(dir.path(), chain.clone(), clock, patience).await;
    assert!(state.review().await.unwrap().is_none());
    for n in 0..5 {
        chain
            .append(vec![knowledge(&n.to_string(), "create", "x")])
            .await
            .unwrap();
    }
    let (trigger, commit) = state.review().await.unwrap().unwrap();
    assert_eq!((trigger, commit.block.index), (Trigger::L1Threshold, 6));
    assert!(state.review().await.unwrap().is_none());
    let status = state.status().await.unwrap();
    assert_eq!((status.has_changes, status.snapshot_count), (false, 1));
    let both = futures::join!(
        state.commit(Commit {
            reason: "one".to_owned(),
            force: true
        }),
        state.commit(Commit {
            reason: "two".to_owned(),
            force: true
        }),
    );
    assert_ne!(both.0.unwrap().snapshot_ref, both.1.unwrap().snapshot_ref);
    assert_eq!(state.history(9).await.unwrap().commits.len(), 3);
    state.health().await.unwrap();
    state.shutdown().await.unwrap();
    assert!(state.status().await.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_two_states_can_be_gone_back_and_forth_between(
        one in proptest::collection::btree_map("knowledge/[ab]/([ab][.]md|[xy]/[xy])|context/[st]/[c]/c[.]md", "[a-z]{0,4}", 0..6),
        other in proptest::collection::btree_map("knowledge/[ab]/([ab][.]md|[xy]/[xy]|[xy])|context/[st]/[c]/c[.]md", "[a-z]{0,4}", 0..6),
    ) {
        let place = place();
        let set = |files: &BTreeMap<String, String>| {
            for layer in ["knowledge", "context"] {
                fs::remove_dir_all(place.path(layer)).unwrap();
                fs::create_dir(place.path(layer)).unwrap();
            }
            for (path, text) in files {
                if !place.path(path).is_dir() && place.path(path).parent().unwrap().metadata().map_or(true, |m| m.is_dir()) {
                    place.write(path, text);
                }
            }
            (place.files("knowledge"), place.files("context"))
        };
        let first = set(&one);
        let (reason, force) = ("one".to_owned(), true);
        let commit = place.store.commit_now(&place.ledger, &Commit { reason, force }).unwrap();
        let second = set(&other);
        let done = place.restore(&commit.snapshot_ref).unwrap();
        prop_assert_eq!((place.files("knowledge"), place.files("context")), first.clone());
        if first != second {
            let safety = done.safety.unwrap();
            place.restore(&safety.snapshot_ref).unwrap();
            prop_assert_eq!((place.files("knowledge"), place.files("context")), second);
        }
    }
}

#[actix::test]
async fn a_commit_whose_block_comes_late_has_its_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("knowledge/a")).unwrap();
    fs::write(dir.path().join("knowledge/a/a.md"), "a\n").unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::EPOCH));
    let (store, begun, go) = crate::chain::tests::gated();
    let patience = Duration::from_millis(500);
    let chain = crate::chain::ChainActor::start(Arc::new(store), clock.clone(), 8, patience);
    let state = started(dir.path(), chain.clone(), clock, patience).await;
    let late = async {
        let _begun = spawn_blocking(move || begun.recv().map(|()| begun)).await;
        // Asked after the append, so that one was not answered in time either.
        chain.rest().await.unwrap_err();
        go.send(()).unwrap();
    };
    let commit = state.commit(Commit {
        reason: "late".to_owned(),
        force: true,
    });
    let (committed, ()) = futures::join!(commit, late);
    assert_eq!(committed.unwrap().block.index, 1);
    assert_eq!(state.status().await.unwrap().snapshot_count, 1);
}

async fn started(
    data: &Path,
    chain: crate::chain::ChainHandle,
    clock: Arc<dyn Clock>,
    patience: Duration,
) -> StateCommitHandle {
    let log = crate::action_log::ActionLog::new(data);
    let skills =
        crate::skills::SkillsActor::start(data, chain.clone(), log, clock.clone(), 8, patience);
    StateCommitActor::start(data, chain, skills, clock, 8, patience).await
}

#[test]
fn a_law_that_may_not_change_is_not_restored_and_neither_is_the_rest() {
    let place = place();
    let law = "skill :a do\n  content \"one\"\nend\n";
    place.write("skills/kairos.rb", law);
    place.write("knowledge/a/a.md", "one\n");
    let first = place.commit("one").unwrap();
    place.write("skills/kairos.rb", &law.replace("one", "two"));
    place.write("knowledge/a/a.md", "two\n");
    let before = place.tip();
    let asked = std::cell::RefCell::new(Vec::new());
    let refused = place
        .store
        .restore(&place.ledger, &first.snapshot_ref, false, &|law| {
            asked.borrow_mut().push(law);
            Err(crate::skills::SkillsError::NothingThere("permission"))
        });
    assert!(matches!(refused, Err(StateError::Law(_))), "{refused:?}");
    assert_eq!(asked.into_inner(), [law.as_bytes()]);
    assert_eq!(place.text("knowledge/a/a.md").unwrap(), "two\n");
    assert_eq!(place.tip(), before, "nothing was begun");
}

/// The changes of the law that the ledger tells of.
fn laws(place: &Place) -> Vec<(Option<ContentHash>, Option<ContentHash>)> {
    let appended = place.ledger.appended.borrow();
    let told = appended
        .iter()
        .flatten()
        .filter_map(|text| match Entry::read(text) {
            Ok(Entry::SkillTransition(told)) => Some((told.prev_ast_hash, told.next_ast_hash)),
            _ => None,
        });
    told.collect()
}

#[test]
fn a_law_that_a_restore_brings_is_told_once_also_after_a_crash_and_one_that_stays_is_not() {
    let place = place();
    let roomy = CONFIG.replace("max_snapshots: 3", "max_snapshots: 30");
    place.write("skills/config.yml", &roomy);
    let law = place.text("skills/kairos.rb").unwrap();
    let hash = |text: &str| Some(ContentHash::of(text));
    let first = place.commit("first").unwrap();
    fs::remove_file(place.path("skills/kairos.rb")).unwrap();
    place.restore(&first.snapshot_ref).unwrap();
    assert_eq!(laws(&place), [(None, hash(&law))]);
    let other = law.replace('A', "B");
    place.write("skills/kairos.rb", &other);
    place.commit("second").unwrap();
    // The block is there and nobody heard of it, then there is none.
    for (fails, count) in [(Fails::After, 2), (Fails::Before, 3)] {
        place.ledger.fails.set(fails);
        place.restore(&first.snapshot_ref).unwrap_err();
        place.ledger.fails.set(Fails::Never);
        place.status();
        assert_eq!(place.text("skills/kairos.rb").unwrap(), law);
        let told = laws(&place);
        assert_eq!(told.len(), count, "{told:?}");
        assert_eq!(told[count - 1], (hash(&other), hash(&law)));
        place.write("skills/kairos.rb", &other);
        place.commit("again").unwrap();
    }
    place.ledger.fails.set(Fails::Before);
    place.restore(&first.snapshot_ref).unwrap_err();
    place.ledger.fails.set(Fails::Never);
    let mine = law.replace('A', "C");
    place.write("skills/kairos.rb", &mine);
    place.status();
    assert_eq!(place.text("skills/kairos.rb").unwrap(), mine);
    assert_eq!(
        laws(&place).len(),
        3,
        "what somebody else wrote is not told as ours"
    );
}
