use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::block::entry::{CommitActor, CommitType};
use crate::hash::ContentHash;
use crate::time::Timestamp;

const VECTORS: &str = include_str!("../../tests/fixtures/vectors/state-manifest.json");

type Files = BTreeMap<String, Vec<u8>>;

/// What a look at these files finds: the scan of the store, without its disk.
fn observe(files: &Files) -> Observed {
    let mut seen = Observed::default();
    let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
    for (path, bytes) in files {
        let hash = ContentHash::of(bytes);
        let file = TreeFile {
            hash,
            size: bytes.len() as u64,
            executable: false,
        };
        seen.tree.add(path, file).unwrap();
        let parts: Vec<_> = path.split('/').collect();
        match parts.as_slice() {
            ["skills", "kairos.rb"] => seen.dsl = Some(bytes.clone()),
            ["skills", "kairos.md"] => seen.md = Some(hash),
            ["knowledge", ".archived", dir, _] if path.ends_with(".md") => {
                let meta = files.get(&format!("knowledge/.archived/{dir}/.archive_meta.yml"));
                let entry = Archived::read(dir, Some(bytes), meta.map(Vec::as_slice));
                seen.archived.push(((*dir).to_owned(), entry));
            }
            ["knowledge", dir, file] if *file == format!("{dir}.md") => {
                seen.knowledge.push(Entry::read(dir, bytes));
            }
            ["context", session, dir, file] if *file == format!("{dir}.md") => {
                let session = sessions.entry((*session).to_owned()).or_default();
                session.contexts.push(Context::read(dir, bytes));
            }
            _ => {}
        }
    }
    seen.sessions = sessions
        .into_iter()
        .map(|(id, session)| Session { id, ..session })
        .collect();
    seen
}

fn vectors() -> (Value, Files) {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let files = vectors["files"].as_object().unwrap();
    let files = files
        .iter()
        .map(|(path, text)| (path.clone(), text.as_str().unwrap().into()));
    let files = files.collect();
    (vectors, files)
}

fn manifest(files: &Files) -> Manifest {
    Manifest::build(observe(files))
}

fn with(files: &Files, changes: &[(&str, &str)]) -> Manifest {
    let mut files = files.clone();
    for (path, text) in changes {
        files.insert((*path).to_owned(), (*text).into());
    }
    manifest(&files)
}

fn side(manifest: &Manifest) -> Side<'_> {
    Side {
        layers: &manifest.layers,
        tree: Some(&manifest.tree),
    }
}

fn diff(before: &Manifest, after: &Manifest) -> Diff {
    Diff::between(Some(side(before)), side(after), &BTreeSet::new())
}

fn snapshot(manifest: &Manifest) -> Snapshot {
    let by = (CommitType::Explicit, CommitActor::Human);
    Snapshot::take(manifest, by, "because", Vec::new(), Timestamp::EPOCH)
}

#[test]
fn hashes_every_layer_as_the_reference_does() {
    let (vectors, files) = vectors();
    let manifest = manifest(&files);
    let mut layers = Value::Object(manifest.layers.members().clone());
    let sessions = layers["L2"]["sessions"].as_array_mut().unwrap();
    for session in sessions {
        session
            .as_object_mut()
            .unwrap()
            .shift_remove("content_hash")
            .unwrap();
    }
    assert_eq!(layers, vectors["manifest"]["layers"]);
    assert_eq!(
        json!(manifest.combined),
        vectors["manifest"]["combined_hash"]
    );
    assert_eq!(manifest.unread, []);
}

#[test]
fn a_snapshot_comes_back_as_it_was_and_the_members_of_the_reference_lead() {
    let (vectors, files) = vectors();
    let taken = snapshot(&manifest(&files));
    let text = taken.to_text();
    assert_eq!(Snapshot::parse(text.as_bytes()).unwrap(), taken);
    let value: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<_> = value.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "snapshot_hash",
            "created_at",
            "created_by",
            "commit_type",
            "reason",
            "layers",
            "changes_since_last",
            "content",
            "unread"
        ]
    );
    assert_eq!(value["snapshot_hash"], vectors["manifest"]["combined_hash"]);
    let at = Timestamp::parse("2026-01-20T10:30:00Z").unwrap();
    assert_eq!(
        taken.file_name(at, 0),
        "snapshot_20260120_103000_96b7ce4a.json"
    );
    assert_eq!(
        taken.file_name(at, 1),
        "snapshot_20260120_103000_96b7ce4a_2.json"
    );
}

#[test]
fn a_snapshot_whose_layers_were_changed_is_refused() {
    let (_, files) = vectors();
    let text = snapshot(&manifest(&files)).to_text();
    for (from, to, why) in [
        (
            "\"version\": 1.1",
            "\"version\": 1.2",
            "layer L1 does not have the hash it claims",
        ),
        (
            "\"knowledge_count\": 2",
            "\"knowledge_cnt\": 2",
            "`L1` of the layers is absent or has another form",
        ),
        (
            "\"snapshot_hash\": \"96b7",
            "\"snapshot_hash\": \"96b8",
            "the layers do not have the hash that names the snapshot",
        ),
        (
            "\"snapshot_hash\": \"96b7",
            "\"snapshot_hash\": \"Z6b7",
            "`snapshot_hash` is absent or has another form",
        ),
        (
            "\"files\": 7",
            "\"files\": -7",
            "`content` is absent or has another form",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Snapshot::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), why);
    }
    for hostile in [
        "",
        "[]",
        "{}",
        "null",
        "{\"layers\": 1}",
        &"[".repeat(100_000),
        "\u{0}",
    ] {
        assert!(Snapshot::parse(hostile.as_bytes()).is_err());
    }
    assert!(Snapshot::parse(b"{\"snapshot_hash\": \"\xff\"}").is_err());
}

#[test]
fn tells_what_the_manifest_leaves_out() {
    let (_, files) = vectors();
    let plain = manifest(&files);
    let other = with(
        &files,
        &[
            ("knowledge/named/named.md", "---\nname: other\n---\n"),
            ("knowledge/bad/bad.md", "---\nname: [\n---\n"),
            ("knowledge/list/list.md", "---\n- a\n---\n"),
            ("knowledge/number/number.md", "---\nname: 7\n---\n"),
            ("context/session_x/bad/bad.md", "---\n: {\n---\n"),
        ],
    );
    let told: Vec<_> = other
        .unread
        .iter()
        .map(|u| format!("{}: {}", u.path, u.reason))
        .collect();
    assert_eq!(
        told,
        [
            "context/session_x/bad: the frontmatter is not valid YAML",
            "knowledge/bad: the frontmatter is not valid YAML",
            "knowledge/list: the frontmatter is an array, a mapping is expected",
            "knowledge/named: its frontmatter names it `other`, which is not the name of its directory",
            "knowledge/number: `name` in the frontmatter is a number, a string is expected",
        ]
    );
    assert_eq!(other.combined, plain.combined);
    let diff = diff(&plain, &other);
    assert!(diff.changed);
    assert_eq!(diff.l1.added, ["bad", "list", "named", "number"]);
    assert_eq!(diff.l2.modified, ["session_x"]);
}

#[test]
fn an_entry_that_names_another_takes_its_hash_as_in_the_reference() {
    let (_, files) = vectors();
    let other = with(
        &files,
        &[(
            "knowledge/zed/zed.md",
            "---\nname: beta\nversion: '9'\n---\nz\n",
        )],
    );
    let l1 = &other.layers.members()["L1"];
    assert_eq!(l1["knowledge_count"], 3);
    let (beta, zed) = (&l1["knowledge"][1], &l1["knowledge"][2]);
    assert_eq!(
        (&beta["hash"], &beta["version"]),
        (&zed["hash"], &Value::Null)
    );
    assert_eq!(zed["version"], "9");
}

#[test]
fn a_law_that_cannot_be_read_has_no_hash_and_the_state_still_has_a_name() {
    let (_, files) = vectors();
    let odd = with(
        &files,
        &[(
            "skills/kairos.rb",
            "skill :a do\n  title T\nend\nskill :b do\nend\n",
        )],
    );
    let l0 = &odd.layers.members()["L0"];
    assert_eq!(
        (&l0["manifest_hash"], &l0["skills"][0]["hash"]),
        (&Value::Null, &Value::Null)
    );
    assert!(l0["skills"][1]["hash"].is_string());
    assert_eq!(odd.combined, None);
    assert_eq!(
        odd.unread[0].reason,
        "line 2, column 9: a constant is not a literal"
    );
    let taken = snapshot(&odd);
    assert_eq!(taken.hash, odd.tree.hash());
    assert_eq!(Snapshot::parse(taken.to_text().as_bytes()).unwrap(), taken);
    let again = with(
        &files,
        &[(
            "skills/kairos.rb",
            "skill :a do\n  title U\nend\nskill :b do\nend\n",
        )],
    );
    assert!(diff(&odd, &again).l0_changed);
}

#[test]
fn texts_that_the_reference_does_not_hash_count_as_changes() {
    let (_, files) = vectors();
    let before = manifest(&files);
    let after = with(
        &files,
        &[
            (
                "context/session_x/idea/idea.md",
                "---\nname: idea\ndescription: my idea\n---\nanother body\n",
            ),
            ("knowledge/alpha/scripts/run.sh", "echo\n"),
        ],
    );
    assert_eq!(before.combined, after.combined);
    let found = diff(&before, &after);
    assert!(found.changed);
    let summary = found.summary();
    assert_eq!(
        (
            summary.l1_modified,
            summary.l2_sessions_modified,
            summary.total_changes
        ),
        (1, 1, 2)
    );
    // Without the files of one side there is nothing to see.
    let of_reference = Side {
        tree: None,
        ..side(&before)
    };
    let blind = Diff::between(Some(of_reference), side(&after), &BTreeSet::new());
    assert_eq!(blind, Diff::default());
    // Without any hash nobody can know.
    let nothing = Layers::default();
    let unknown = Side {
        layers: &nothing,
        tree: None,
    };
    assert!(Diff::between(Some(unknown), unknown, &BTreeSet::new()).changed);
}

#[test]
fn tells_promotions_and_demotions() {
    let (_, mut files) = vectors();
    let before = manifest(&files);
    let alpha = files.remove("knowledge/alpha/alpha.md").unwrap();
    files.insert("knowledge/.archived/alpha/alpha.md".to_owned(), alpha);
    for name in ["idea", "told", "plain"] {
        files.insert(format!("knowledge/{name}/{name}.md"), b"x".to_vec());
    }
    let after = manifest(&files);
    let told = BTreeSet::from(["told".to_owned()]);
    let found = Diff::between(Some(side(&before)), side(&after), &told);
    assert_eq!(found.promotions, ["idea", "told"]);
    assert_eq!(found.demotions, ["alpha"]);
    assert_eq!(found.l1.added, ["idea", "plain", "told"]);
    let first = Diff::between(None, side(&after), &told);
    assert!(first.l0_changed && first.promotions.is_empty());
    assert_eq!(first.l1.added.len(), 4);
}

#[test]
fn a_tree_takes_only_files_of_layers() {
    let file = TreeFile {
        hash: ContentHash::of("x"),
        size: 1,
        executable: false,
    };
    let long = format!("knowledge/{}", "x".repeat(1100));
    for bad in [
        "",
        "knowledge",
        "knowledge/",
        "context/",
        "skills/config.yml",
        "skills/kairos.rb/x",
        "storage/tokens.json",
        "/knowledge/x",
        "knowledge//x",
        "knowledge/../keys/k",
        "knowledge/./x",
        "knowledge/a\nb",
        &long,
        "keys/k",
    ] {
        assert!(Tree::default().add(bad, file).is_err(), "{bad}");
    }
    let mut tree = Tree::default();
    tree.add("knowledge/a b/é.md", file).unwrap();
    assert!(tree.add("knowledge/a b/é.md/x", file).is_err());
    let text = tree.to_text();
    assert_eq!(Tree::parse(&text), Ok(tree));
    let line = text.lines().last().unwrap();
    for bad in [
        "",
        "kairos-tree 2\n",
        "kairos-tree 1",
        &format!("{text}{line}\n"),
        &text.replace(" 1 ", " 01 "),
        &text.replace(" - ", " y "),
        &text.replace("\n2d", "\n2D"),
        &text.replace("a b", "../b"),
        &text.replace(" 1 ", " -1 "),
        text.trim_end(),
    ] {
        assert!(Tree::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn reads_settings_as_the_reference_does_and_tells_what_it_cannot_follow() {
    assert_eq!(StateSettings::read(""), StateSettings::default());
    assert_eq!(
        StateSettings::read("http:\n  port: 1\n"),
        StateSettings::default()
    );
    let shipped = StateSettings::read(concat!(
        "state_commit:\n  enabled: true\n  snapshot_dir: storage/snapshots\n  max_snapshots: 7\n  auto_commit:\n",
        "    enabled: true\n    on_events: { l0_change: true, promotion: true, demotion: false, session_end: true }\n",
        "    change_threshold: { enabled: true, l1_changes: 3 }\n"
    ));
    assert_eq!((shipped.max_snapshots, shipped.problems.len()), (7, 0));
    let auto = shipped.auto.unwrap();
    assert_eq!(
        (auto.l1_changes, auto.total_changes, auto.demotion),
        (Some(3), Some(10), false)
    );
    let odd = StateSettings::read(
        "state_commit:\n  enabled: false\n  snapshot_dir: ../x\n  max_snapshots: 0\n",
    );
    assert_eq!((odd.enabled, odd.problems.len()), (false, 2));
    assert_eq!(odd.snapshot_dir, "storage/snapshots");
    assert_eq!(StateSettings::read("a: [").problems.len(), 1);
}

#[test]
fn commits_by_itself_for_the_reasons_of_the_reference_in_its_order() {
    let auto = AutoCommit {
        skip_if_no_changes: true,
        l0_change: true,
        promotion: true,
        demotion: true,
        session_end: true,
        l1_changes: Some(5),
        total_changes: Some(10),
    };
    let mut pending = Pending::default();
    assert_eq!(auto.trigger(&pending), None);
    pending.total = 10;
    assert_eq!(auto.trigger(&pending), Some(Trigger::TotalThreshold));
    pending.l1 = 5;
    assert_eq!(auto.trigger(&pending), Some(Trigger::L1Threshold));
    pending.demotions = 1;
    assert_eq!(auto.trigger(&pending), Some(Trigger::Demotion));
    pending.promotions = 2;
    assert_eq!(auto.trigger(&pending), Some(Trigger::Promotion));
    pending.l0 = 1;
    assert_eq!(auto.trigger(&pending), Some(Trigger::L0Change));
    assert_eq!(
        pending.reason(Trigger::L0Change),
        "Auto-commit (l0_change): L0 changed, L1: 5 changes, promotions: 2"
    );
    assert_eq!(
        Pending::default().reason(Trigger::SessionEnd),
        "Auto-commit (session_end)"
    );
}

prop_compose! {
    fn any_files()(entries in proptest::collection::btree_map(
        "(knowledge/[a-d]/[a-d][.]md|context/s[12]/[a-c]/[a-c][.]md|knowledge/[a-d]/refs/[xy]|skills/kairos[.]md)",
        "(---\nname: [a-d]\nversion: [0-9.]{1,4}\n---\n)?[a-z]{0,3}", 0..12,
    )) -> Files {
        entries.into_iter().map(|(path, text)| (path, text.into_bytes())).collect()
    }
}

proptest! {
    #[test]
    fn equal_states_differ_in_nothing_and_order_does_not_matter(files in any_files()) {
        let mut seen = observe(&files);
        let one = Manifest::build(seen.clone());
        seen.knowledge.reverse();
        seen.sessions.reverse();
        seen.sessions.iter_mut().for_each(|session| session.contexts.reverse());
        let other = Manifest::build(seen);
        prop_assert_eq!(&one.layers, &other.layers);
        prop_assert_eq!(diff(&one, &other), Diff::default());
        let text = snapshot(&one).to_text();
        prop_assert_eq!(Snapshot::parse(text.as_bytes()).unwrap().layers, one.layers.clone());
        prop_assert_eq!(Tree::parse(&one.tree.to_text()), Ok(one.tree));
    }

    #[test]
    fn any_changed_byte_is_noticed(before in any_files(), after in any_files()) {
        let found = diff(&manifest(&before), &manifest(&after));
        prop_assert_eq!(found.changed, before != after);
        prop_assert_eq!(found.summary().total_changes > 0, before != after);
    }
}
