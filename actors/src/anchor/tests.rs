use kairos_protocol::anchor::AnchorMembers;
use kairos_protocol::time::ManualClock;
use serde_json::json;
use tempfile::TempDir;

use super::*;

const D: &str = "916f0027a575074ce72a331777c3478d6513f786a591bd892da1a577bf2335f9";

struct Home {
    folder: TempDir,
    clock: Arc<ManualClock>,
    policy: AnchorPolicy,
}

impl Home {
    fn new(stage: Stage) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = folder.path().join("storage");
        std::fs::create_dir_all(&storage).unwrap();
        let begin = Timestamp::parse("2026-11-22T12:00:00Z").unwrap();
        Self {
            clock: Arc::new(ManualClock::new(begin)),
            policy: AnchorPolicy {
                enabled: true,
                stage,
                file: storage.join("hestia_anchors.json"),
                unfiled: storage.join("anchors.jsonl"),
                max_anchors: 5,
                batching: None,
            },
            folder,
        }
    }

    fn start(&self) -> AnchorHandle {
        let policy = self.policy.clone();
        AnchorActor::start(policy, self.clock.clone(), 8, Duration::from_secs(20))
    }

    fn files(&self) -> Vec<String> {
        let storage = std::fs::read_dir(self.folder.path().join("storage")).unwrap();
        let names = storage.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

fn anchor(source: &str, at: &str) -> Anchor {
    let members = AnchorMembers {
        anchor_type: if source == "m" { "meeting" } else { "audit" }.to_owned(),
        source_id: source.to_owned(),
        data_hash: D.to_owned(),
        timestamp: Some(at.to_owned()),
        ..AnchorMembers::default()
    };
    members.check(Timestamp::EPOCH).unwrap()
}

fn ask(limit: usize) -> List {
    List {
        limit,
        anchor_type: None,
        since: None,
    }
}

fn sources(anchors: &[Anchor]) -> Vec<&str> {
    anchors.iter().map(Anchor::source_id).collect()
}

#[actix::test]
async fn keeps_each_anchor_once_and_over_a_restart_at_every_stage() {
    for stage in [Stage::InMemory, Stage::Private] {
        let home = Home::new(stage);
        let anchors = home.start();
        let a = anchor("a", "1");
        let done = anchors.submit(a.clone(), true).await.unwrap();
        assert_eq!(done.status, "submitted", "no batches are made");
        assert_eq!(done.backend, Some(stage.name()));
        assert_eq!(done.storage_path.is_some(), stage == Stage::Private);
        let again = anchors.submit(a.clone(), false).await.unwrap();
        let text = serde_json::to_value(&again).unwrap();
        let expected = json!({
            "status": "exists", "anchor_hash": a.hash(), "message": "Anchor already exists",
        });
        assert_eq!(text, expected);
        anchors.shutdown().await.unwrap();
        assert_eq!(home.policy.file.exists(), stage == Stage::Private);
        let found = home.start().get(a.hash()).await.unwrap();
        assert_eq!(found.unwrap().source_id(), "a");
    }
}

#[actix::test]
async fn takes_no_more_than_its_bound_and_none_when_disabled() {
    let mut home = Home::new(Stage::InMemory);
    let anchors = home.start();
    for n in 0..5 {
        let n = n.to_string();
        assert!(
            anchors
                .submit(anchor(&n, "1"), false)
                .await
                .unwrap()
                .is_kept()
        );
    }
    let full = anchors.submit(anchor("x", "1"), false).await.unwrap();
    assert_eq!(full.status, "error");
    let text = "Maximum anchor limit reached (5)";
    assert_eq!(full.message.as_deref(), Some(text));
    home.policy.enabled = false;
    let none = home.start().submit(anchor("x", "1"), false).await.unwrap();
    assert_eq!(none.message.as_deref(), Some("HestiaChain is disabled"));
    assert!(!none.is_kept() && !full.is_kept());
}

#[actix::test]
async fn lists_the_newest_first() {
    let home = Home::new(Stage::InMemory);
    let anchors = home.start();
    for (source, at) in [("a", "2"), ("m", "3"), ("b", "1")] {
        anchors.submit(anchor(source, at), false).await.unwrap();
    }
    let all = anchors.list(ask(9)).await.unwrap();
    assert_eq!(sources(&all), ["m", "a", "b"]);
    assert_eq!(sources(&anchors.list(ask(1)).await.unwrap()), ["m"]);
    let audits = List {
        anchor_type: Some("audit".to_owned()),
        since: Some("2".to_owned()),
        ..ask(9)
    };
    assert_eq!(sources(&anchors.list(audits).await.unwrap()), ["a"]);
    assert_eq!(anchors.meetings().await.unwrap().total_anchors, 1);
    let overview = anchors.overview().await.unwrap();
    assert_eq!(overview.backend_stats.anchors_by_type["audit"], 2);
    assert_eq!(overview.available_migrations[0].to, 1);
}

#[actix::test]
async fn a_batch_is_flushed_by_size_by_time_and_when_asked() {
    let mut home = Home::new(Stage::Private);
    home.policy.batching = Some(Batching {
        interval: Duration::from_secs(60),
        max: 3,
    });
    let anchors = home.start();
    let first = anchors.submit(anchor("a", "1"), true).await.unwrap();
    assert_eq!((first.status, first.queue_size), ("enqueued", Some(1)));
    let again = anchors.submit(anchor("a", "1"), true).await.unwrap();
    assert_eq!(again.status, "exists");
    assert_eq!(anchors.list(ask(9)).await.unwrap().len(), 0);
    let direct = anchors.submit(anchor("now", "1"), false).await.unwrap();
    assert_eq!(direct.status, "submitted");
    anchors.shutdown().await.unwrap();

    let anchors = home.start();
    let overview = anchors.overview().await.unwrap();
    assert_eq!(overview.client_status.batch_queue_size, 1, "over a restart");
    home.clock.advance(Duration::from_secs(60));
    assert_eq!(anchors.list(ask(9)).await.unwrap().len(), 2, "by time");
    anchors.submit(anchor("b", "1"), true).await.unwrap();
    let flushed = anchors.flush().await.unwrap();
    assert_eq!((flushed.status, flushed.count), ("submitted", 1));
    let none = serde_json::to_value(anchors.flush().await.unwrap()).unwrap();
    assert_eq!(none, json!({"status": "empty", "count": 0}));
    home.policy.max_anchors = 9;
    let anchors = home.start();
    for source in ["c", "d", "e"] {
        anchors.submit(anchor(source, "1"), true).await.unwrap();
    }
    assert_eq!(anchors.list(ask(9)).await.unwrap().len(), 6, "by size");
}

#[actix::test]
async fn migrates_with_every_content_compared_and_leaves_the_source() {
    let home = Home::new(Stage::InMemory);
    let anchors = home.start();
    for n in 0..4 {
        anchors
            .submit(anchor(&n.to_string(), "1"), false)
            .await
            .unwrap();
    }
    let before = home.files();
    let plan = anchors.rehearse(1).await.unwrap();
    assert_eq!((plan.total_in_source, plan.would_migrate), (4, 4));
    assert_eq!(home.files(), before, "a dry run writes nothing");
    let done = anchors.migrate(1).await.unwrap();
    assert_eq!(
        (done.status, done.migrated, done.failed),
        ("completed", 4, 0)
    );
    assert_eq!(done.verification.verified, 4);
    let again = anchors.migrate(1).await.unwrap();
    assert_eq!((again.migrated, again.skipped), (0, 4));
    assert_eq!(anchors.list(ask(9)).await.unwrap().len(), 4, "the source");
    let mut there = home.policy.clone();
    there.stage = Stage::Private;
    let there = AnchorActor::start(there, home.clock.clone(), 8, Duration::from_secs(20));
    assert_eq!(there.list(ask(9)).await.unwrap().len(), 4);
    let error = there.migrate(2).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Stage 2 (public_testnet) requires external dependencies not yet available"
    );
    let error = there.rehearse(0).await.unwrap_err();
    assert!(matches!(
        error,
        AnchorError::Stage(StageError::Backwards { .. })
    ));
}

#[actix::test]
async fn a_migration_into_a_damaged_file_fails_and_leaves_it() {
    let home = Home::new(Stage::InMemory);
    let anchors = home.start();
    anchors.submit(anchor("a", "1"), false).await.unwrap();
    std::fs::write(&home.policy.file, "{").unwrap();
    for error in [
        anchors.migrate(1).await.unwrap_err(),
        anchors.rehearse(1).await.unwrap_err(),
    ] {
        assert!(matches!(
            error,
            AnchorError::Store(StoreError::Damaged { .. })
        ));
    }
    assert_eq!(std::fs::read(&home.policy.file).unwrap(), b"{");
}

#[test]
fn what_did_not_arrive_is_told() {
    struct Sieve(Vec<Anchor>);
    impl backend::AnchorBackend for Sieve {
        fn find(&mut self, hash: &ContentHash) -> Result<Option<Anchor>, StoreError> {
            Ok(self.0.iter().find(|anchor| anchor.hash() == *hash).cloned())
        }
        fn submit(&mut self, anchors: &[Anchor], _now: Timestamp) -> Result<(), StoreError> {
            if anchors.len() < 50 {
                return Err(std::io::Error::other("full").into());
            }
            self.0.extend(anchors.iter().skip(1).cloned());
            Ok(())
        }
    }
    let anchors: Vec<_> = (0..60).map(|n| anchor(&n.to_string(), "1")).collect();
    let clock = || Timestamp::EPOCH;
    let stages = (Stage::InMemory, Stage::Private);
    let told = migrate::copy(stages, &anchors, &mut Sieve(Vec::new()), &clock).unwrap();
    assert_eq!(told.status, "completed_with_errors");
    assert_eq!((told.migrated, told.failed), (50, 10));
    assert_eq!(told.verification.missing, 11);
    assert_eq!(told.verification.missing_hashes.len(), 10);
    assert_eq!(
        told.errors[0].error,
        "the anchors cannot be read or written: full"
    );
}
