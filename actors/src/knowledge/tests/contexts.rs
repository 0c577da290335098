//! Layer L2, and the resources of all layers.

use std::os::unix::fs::symlink;

use kairos_protocol::resource::ResourceUri;

use super::*;
use crate::knowledge::store::RESOURCE_MAX;

fn name(text: &str) -> SkillName {
    text.parse().unwrap()
}

fn save(session: Option<&str>, text: &str) -> SaveContext {
    SaveContext {
        session: session.map(name),
        name: name("plan"),
        text: text.to_owned(),
        subdirectories: true,
    }
}

fn uri(text: &str) -> ResourceUri {
    text.parse().unwrap()
}

#[actix::test]
async fn contexts_are_saved_listed_read_and_deleted_and_never_recorded() {
    let node = node();
    let knowledge = &node.knowledge;
    let saved = knowledge.save_context(save(None, "one")).await.unwrap();
    let session = saved.session.to_string();
    assert!(session.starts_with("session_20260213_162640_"), "{session}");
    assert_eq!((session.len(), saved.created), (32, true));
    node.write(&format!("context/{session}/plan/assets/a.txt"), "a");
    let again = knowledge
        .save_context(save(Some(&session), "two"))
        .await
        .unwrap();
    assert!(!again.created);
    let (entry, text) = knowledge
        .context(name(&session), name("plan"))
        .await
        .unwrap();
    assert_eq!((text.as_str(), entry.assets), ("two", 1));
    let refused = knowledge
        .save_context(save(Some(&session), "---\na: [\n---\n"))
        .await;
    assert!(matches!(refused, Err(KnowledgeError::Frontmatter)));
    let refused = knowledge
        .save_context(save(Some("fresh"), &"x".repeat(100_001)))
        .await;
    assert!(matches!(refused, Err(KnowledgeError::Unfit(_))));
    node.write(
        &format!("context/{session}/broken/broken.md"),
        "---\na: [\n---\n",
    );
    let sessions = knowledge.sessions().await.unwrap();
    assert_eq!((sessions.len(), sessions[0].contexts), (1, 2));
    let listed = knowledge.contexts(name(&session)).await.unwrap();
    let faults: Vec<_> = listed
        .iter()
        .map(|e| (e.name.as_str(), e.fault.is_some()))
        .collect();
    assert_eq!(faults, [("broken", true), ("plan", false)]);
    let gone = knowledge
        .delete_context(name(&session), Some(name("plan")))
        .await
        .unwrap();
    assert_eq!(gone, 1);
    let absent = knowledge
        .context(name(&session), name("plan"))
        .await
        .unwrap_err();
    assert_eq!(
        absent.to_string(),
        format!("Context 'plan' not found in session '{session}'")
    );
    assert_eq!(
        knowledge
            .delete_context(name(&session), None)
            .await
            .unwrap(),
        1
    );
    let absent = knowledge.contexts(name(&session)).await.unwrap_err();
    assert_eq!(absent.to_string(), format!("Session '{session}' not found"));
    assert_eq!(node.ledger().await, [[Value::Null; 0]; 0]);
    let left = fs::read_dir(node.temp.path().join("context")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
}

#[actix::test]
async fn a_session_that_leads_elsewhere_is_refused() {
    let node = node();
    node.write("out/plan/plan.md", "theirs");
    fs::create_dir_all(node.temp.path().join("context/real")).unwrap();
    symlink(
        node.temp.path().join("out"),
        node.temp.path().join("context/s"),
    )
    .unwrap();
    symlink(
        node.temp.path().join("out/plan"),
        node.temp.path().join("context/real/plan"),
    )
    .unwrap();
    for session in ["s", "real"] {
        let refused = node.knowledge.save_context(save(Some(session), "x")).await;
        assert!(
            matches!(refused, Err(KnowledgeError::NotPlain { .. })),
            "{session}: {refused:?}"
        );
        assert!(
            node.knowledge
                .context(name(session), name("plan"))
                .await
                .is_err()
        );
        assert!(
            node.knowledge
                .delete_context(name(session), Some(name("plan")))
                .await
                .is_err()
        );
    }
    let theirs = node.temp.path().join("out/plan/plan.md");
    assert_eq!(fs::read_to_string(theirs).unwrap(), "theirs");
}

#[actix::test]
async fn resources_of_all_layers_are_listed_and_read_and_links_are_neither() {
    let node = node();
    node.write("skills/kairos.md", "# law");
    node.write("skills/config.yml", "secret: 1");
    node.write("secret", "secret");
    node.write("knowledge/tea/tea.md", "tea");
    node.write("knowledge/tea/scripts/deep/run.sh", "echo");
    node.write("knowledge/tea/.hidden/x", "");
    node.write("knowledge/skill/SKILL.md", "skill");
    node.write("context/s1/plan/plan.md", "old");
    node.write("context/s2/plan/plan.md", "new");
    let modified = std::time::UNIX_EPOCH + Duration::from_secs(1_000);
    std::fs::File::open(node.temp.path().join("context/s1"))
        .unwrap()
        .set_modified(modified)
        .unwrap();
    symlink(
        "../../../secret",
        node.temp.path().join("knowledge/tea/scripts/link"),
    )
    .unwrap();
    symlink("..", node.temp.path().join("knowledge/tea/assets")).unwrap();
    let listed = node.knowledge.resources().await.unwrap();
    let told: Vec<_> = listed
        .iter()
        .map(|r| (r.uri.as_str(), r.kind, r.size))
        .collect();
    assert_eq!(
        told,
        [
            ("l0://kairos.md", "md", 5),
            ("knowledge://skill", "md", 5),
            ("knowledge://tea", "md", 3),
            ("knowledge://tea/scripts/deep/run.sh", "script", 4),
            ("context://s1/plan", "md", 3),
            ("context://s2/plan", "md", 3),
        ]
    );
    for info in &listed {
        let read = node.knowledge.resource(uri(&info.uri)).await.unwrap();
        assert_eq!(&read.info, info);
    }
    let newest = node
        .knowledge
        .resource(uri("context://plan"))
        .await
        .unwrap();
    assert_eq!(
        (newest.bytes.as_slice(), newest.info.uri.as_str()),
        (&b"new"[..], "context://s2/plan")
    );
    let link = node
        .knowledge
        .resource(uri("knowledge://tea/scripts/link"))
        .await;
    assert!(
        matches!(link, Err(KnowledgeError::NotPlain { .. })),
        "{link:?}"
    );
    let way = node
        .knowledge
        .resource(uri("knowledge://tea/assets/tea/tea.md"))
        .await;
    assert!(
        matches!(way, Err(KnowledgeError::NotPlain { .. })),
        "{way:?}"
    );
    for absent in [
        "l0://kairos.rb",
        "knowledge://x",
        "knowledge://tea/references/x",
        "context://x",
        "context://s1/x",
    ] {
        let absent = node.knowledge.resource(uri(absent)).await.unwrap_err();
        assert!(
            matches!(
                absent,
                KnowledgeError::NoResource { .. } | KnowledgeError::NotFound { .. }
            ),
            "{absent}"
        );
    }
    let large = fs::File::create(node.temp.path().join("knowledge/tea/scripts/large")).unwrap();
    large.set_len(RESOURCE_MAX + 1).unwrap();
    let large = node
        .knowledge
        .resource(uri("knowledge://tea/scripts/large"))
        .await;
    assert!(matches!(large, Err(KnowledgeError::TooMuch { .. })));
}
