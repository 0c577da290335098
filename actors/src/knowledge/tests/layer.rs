//! Layer L1 as its owner changes it.

use kairos_protocol::block::entry::KnowledgeAction;

use super::*;
use crate::knowledge::State;

/// How old an answer may be that need not be young.
const OLD: Duration = Duration::from_secs(3600);
const TEA: &str = "---\nname: tea\ndescription: How to serve tea\nversion: 1.10\ntags: [a, b]\n---\n\nWarm the pot.\n";

fn name(text: &str) -> SkillName {
    text.parse().unwrap()
}

fn create(text: &str) -> Create {
    Create {
        name: name("tea"),
        text: text.to_owned(),
        reason: None,
        subdirectories: false,
    }
}

fn update(text: &str) -> Update {
    Update {
        name: name("tea"),
        text: text.to_owned(),
        reason: Some("better".to_owned()),
        expect: None,
    }
}

fn archive() -> Archive {
    Archive {
        name: name("tea"),
        reason: Some("old".to_owned()),
        superseded_by: Some(name("coffee")),
    }
}

fn unarchive() -> Unarchive {
    Unarchive {
        name: name("tea"),
        reason: None,
    }
}

fn delete() -> Delete {
    Delete {
        name: name("tea"),
        reason: None,
        expect: None,
    }
}

impl Node {
    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.temp.path().join("knowledge").join(path)).unwrap()
    }
}

#[actix::test]
async fn an_entry_lives_its_life_and_the_ledger_tells_it() {
    let node = node();
    let knowledge = &node.knowledge;
    let made = knowledge
        .create(Create {
            subdirectories: true,
            ..create(TEA)
        })
        .await
        .unwrap();
    assert_eq!(made.path.as_deref(), Some("knowledge/tea/tea.md"));
    for folder in ["scripts", "assets", "references"] {
        assert!(node.temp.path().join("knowledge/tea").join(folder).is_dir());
    }
    node.write("knowledge/tea/references/deep/er.md", "see");
    let (entry, text) = knowledge.entry(name("tea")).await.unwrap();
    assert_eq!((text.as_str(), entry.references), (TEA, 1));
    assert_eq!(entry.version, Some(json!(1.1)));
    assert_eq!(
        (entry.description.as_str(), entry.fault),
        ("How to serve tea", None)
    );

    knowledge.update(update("second")).await.unwrap();
    assert_eq!(node.text("tea/tea.md"), "second");
    knowledge.archive(archive()).await.unwrap();
    // What this process changes shows at once, however old an answer may be.
    assert_eq!(*knowledge.entries(OLD).await.unwrap(), []);
    let archived = knowledge.archived().await.unwrap();
    assert_eq!(archived[0].superseded_by.as_deref(), Some("coffee"));
    let hash = ContentHash::of("second");
    let path = fs::canonicalize(node.temp.path()).unwrap();
    let meta = node.text(".archived/tea/.archive_meta.yml");
    assert_eq!(
        meta.replace(&path.display().to_string(), "DATA")
            .replace(&node.temp.path().display().to_string(), "DATA"),
        format!(
            "---\narchived_at: '2026-02-13T16:26:40+00:00'\narchived_reason: 'old'\nsuperseded_by: 'coffee'\noriginal_path: 'DATA/knowledge/tea'\ncontent_hash: '{hash}'\n"
        )
    );
    let (_, text) = knowledge.archived_entry(name("tea")).await.unwrap();
    assert_eq!(text, "second");
    knowledge.unarchive(unarchive()).await.unwrap();
    assert_eq!(node.text("tea/references/deep/er.md"), "see");
    assert!(
        !node
            .temp
            .path()
            .join("knowledge/tea/.archive_meta.yml")
            .exists()
    );
    knowledge.delete(delete()).await.unwrap();
    assert_eq!(*knowledge.entries(OLD).await.unwrap(), []);

    let (first, at) = (ContentHash::of(TEA), "2026-02-13T16:26:40+00:00");
    let record =
        |action: &str, prev: Option<ContentHash>, next: Option<ContentHash>, reason: &str| {
            [json!({
                "type": "knowledge_update", "layer": "L1", "knowledge_id": "tea", "action": action,
                "prev_hash": prev, "next_hash": next, "reason": reason, "timestamp": at,
            })]
        };
    assert_eq!(
        node.ledger().await,
        [
            record("create", None, Some(first), "Create knowledge: tea"),
            record("update", Some(first), Some(hash), "better"),
            record("archive", Some(hash), None, "old"),
            record(
                "unarchive",
                Some(hash),
                Some(hash),
                "Unarchive knowledge: tea"
            ),
            record("delete", Some(hash), None, "Delete knowledge: tea"),
        ]
    );
    let told = knowledge.history("tea", 2).await.unwrap();
    let actions: Vec<_> = told
        .iter()
        .map(|record| (record.block, record.action))
        .collect();
    assert_eq!(
        actions,
        [
            (5, KnowledgeAction::Delete),
            (4, KnowledgeAction::Unarchive)
        ]
    );
}

#[actix::test]
async fn what_is_refused_changes_nothing() {
    let node = node();
    let knowledge = &node.knowledge;
    knowledge.create(create(TEA)).await.unwrap();
    node.write("knowledge/other/other.md", "o");
    let told = |error: KnowledgeError| error.to_string();
    let before = node.ledger().await;
    assert_eq!(
        told(knowledge.create(create("x")).await.unwrap_err()),
        "Knowledge 'tea' already exists"
    );
    assert_eq!(
        told(knowledge.update(update(TEA)).await.unwrap_err()),
        "No changes detected"
    );
    let stale = Update {
        expect: Some(ContentHash::of("x")),
        ..update("y")
    };
    assert!(
        told(knowledge.update(stale).await.unwrap_err())
            .starts_with("'tea' was changed by somebody else")
    );
    for bad in [
        "---\na: [\n---\n",
        "---\n- list\n---\n",
        &"x".repeat(100_001),
    ] {
        let refused = knowledge.update(update(bad)).await.unwrap_err();
        assert!(
            matches!(
                refused,
                KnowledgeError::Frontmatter | KnowledgeError::Unfit(_)
            ),
            "{refused}"
        );
    }
    assert_eq!(
        told(knowledge.unarchive(unarchive()).await.unwrap_err()),
        "Archived knowledge 'tea' not found"
    );
    node.write("knowledge/.archived/tea/tea.md", "older");
    assert_eq!(
        told(knowledge.archive(archive()).await.unwrap_err()),
        "Knowledge 'tea' is already archived"
    );
    assert_eq!(
        told(knowledge.unarchive(unarchive()).await.unwrap_err()),
        "Active knowledge 'tea' already exists. Rename or delete it first."
    );
    let long = Update {
        reason: Some("r".repeat(5 << 20)),
        ..update("z")
    };
    knowledge.update(long).await.unwrap_err();
    fs::remove_dir_all(node.temp.path().join("knowledge/tea")).unwrap();
    for gone in [
        knowledge.update(update("x")).await,
        knowledge.delete(delete()).await,
        knowledge.archive(archive()).await,
    ] {
        assert_eq!(told(gone.unwrap_err()), "Knowledge 'tea' not found");
    }
    assert_eq!(node.ledger().await, before);
    let left = fs::read_dir(node.temp.path().join("knowledge")).unwrap();
    let mut left: Vec<_> = left
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".archived", ".lock", "other"]);
}

#[actix::test]
async fn one_bad_entry_is_listed_with_its_fault_beside_the_good_ones() {
    let node = node();
    node.write("knowledge/good/good.md", TEA);
    node.write("knowledge/yaml/yaml.md", "---\na: [\n---\nbody\n");
    node.write("knowledge/list/list.md", "---\n- a\n---\n");
    node.write("knowledge/bytes/bytes.md", "");
    fs::write(node.temp.path().join("knowledge/bytes/bytes.md"), b"\xff").unwrap();
    node.write("knowledge/skill/SKILL.md", "---\nname: nicer\n---\nbody\n");
    node.write("knowledge/skill/A.md", "first in order");
    node.write("knowledge/empty/notes.txt", "");
    node.write("knowledge/old.bak.2026/old.md", "");
    node.write("secret.md", "secret");
    fs::create_dir_all(node.temp.path().join("knowledge/linked")).unwrap();
    let link = node.temp.path().join("knowledge/linked/linked.md");
    std::os::unix::fs::symlink("../../secret.md", link).unwrap();
    std::os::unix::fs::symlink(node.temp.path(), node.temp.path().join("knowledge/out")).unwrap();
    let entries = node.knowledge.entries(Duration::ZERO).await.unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|e| {
            (
                e.name.as_str(),
                e.path.as_deref(),
                e.fault.as_deref().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "bytes",
                Some("knowledge/bytes/bytes.md"),
                "the skill is not UTF-8 at byte 0"
            ),
            ("empty", None, "there is no Markdown file"),
            ("good", Some("knowledge/good/good.md"), ""),
            (
                "linked",
                Some("knowledge/linked/linked.md"),
                "the main text is a link; links are not followed"
            ),
            (
                "list",
                Some("knowledge/list/list.md"),
                "the frontmatter is an array, a mapping is expected"
            ),
            (
                "old.bak.2026",
                None,
                "skill name `old.bak.2026` is reserved"
            ),
            ("skill", Some("knowledge/skill/SKILL.md"), ""),
            (
                "yaml",
                Some("knowledge/yaml/yaml.md"),
                "the frontmatter is not YAML that can be read"
            ),
        ]
    );
    assert_eq!(entries[6].title.as_deref(), Some("nicer"));
    let linked = Update {
        name: name("linked"),
        ..update("x")
    };
    let refused = node.knowledge.update(linked).await.unwrap_err();
    assert!(
        matches!(refused, KnowledgeError::NotPlain { .. }),
        "{refused}"
    );
    assert!(node.knowledge.entry(name("out")).await.is_err());
    assert_eq!(
        fs::read_to_string(node.temp.path().join("secret.md")).unwrap(),
        "secret"
    );
}

#[actix::test]
async fn an_archive_that_leads_elsewhere_is_refused() {
    let node = node();
    node.knowledge.create(create(TEA)).await.unwrap();
    fs::create_dir(node.temp.path().join("out")).unwrap();
    let archived = node.temp.path().join("knowledge/.archived");
    std::os::unix::fs::symlink(node.temp.path().join("out"), archived).unwrap();
    let refused = node.knowledge.archive(archive()).await.unwrap_err();
    assert!(
        matches!(refused, KnowledgeError::NotPlain { .. }),
        "{refused}"
    );
    assert_eq!(
        fs::read_dir(node.temp.path().join("out")).unwrap().count(),
        0
    );
    assert_eq!(node.ledger().await.len(), 1);
}

#[actix::test]
async fn what_was_changed_by_hand_is_noticed_and_recorded_once() {
    let node = node();
    let knowledge = &node.knowledge;
    knowledge.create(create(TEA)).await.unwrap();
    node.write("knowledge/new/new.md", "new");
    node.write("knowledge/tea/tea.md", "by hand");
    let states = |standings: Vec<crate::knowledge::Standing>| {
        let states = standings.into_iter().map(|s| (s.name, s.state));
        states.collect::<Vec<_>>()
    };
    let found = states(knowledge.status().await.unwrap());
    assert_eq!(
        found,
        [
            ("new".to_owned(), State::Unrecorded),
            ("tea".to_owned(), State::Changed)
        ]
    );
    let one = CatchUp {
        names: Some(vec![name("tea")]),
        reason: Some("edited".to_owned()),
    };
    assert_eq!(knowledge.catch_up(one.clone()).await.unwrap().len(), 1);
    assert_eq!(knowledge.catch_up(one).await.unwrap(), []);
    let all = CatchUp {
        names: None,
        reason: None,
    };
    assert_eq!(knowledge.catch_up(all.clone()).await.unwrap().len(), 1);
    assert_eq!(knowledge.catch_up(all).await.unwrap(), []);
    let unknown = CatchUp {
        names: Some(vec![name("absent")]),
        reason: None,
    };
    assert!(matches!(
        knowledge.catch_up(unknown).await,
        Err(KnowledgeError::NotFound { .. })
    ));
    let ledger = node.ledger().await;
    assert_eq!(
        (ledger.len(), &ledger[1][0]["reason"]),
        (3, &json!("edited"))
    );
    assert_eq!(ledger[1][0]["prev_hash"], json!(ContentHash::of(TEA)));
    assert!(
        knowledge
            .status()
            .await
            .unwrap()
            .iter()
            .all(|s| s.state == State::Recorded)
    );
}
