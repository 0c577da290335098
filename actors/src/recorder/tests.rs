use std::path::Path;

use kairos_protocol::anchor::stage::Stage;
use kairos_protocol::time::ManualClock;

use super::*;
use crate::anchor::{AnchorActor, AnchorPolicy, List};

const PATIENCE: Duration = Duration::from_secs(20);
const ALL: RecordPolicy = RecordPolicy {
    registrations: true,
    exchanges: true,
    fadeouts: true,
    relays: true,
    queue: 100,
};

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(secs))
}

fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

fn anchors(dir: &Path, max_anchors: usize) -> AnchorHandle {
    let policy = AnchorPolicy {
        enabled: true,
        stage: Stage::InMemory,
        file: dir.join("hestia_anchors.json"),
        unfiled: dir.join("anchors.jsonl"),
        max_anchors,
        batching: None,
    };
    AnchorActor::start(policy, Arc::new(ManualClock::new(at(0))), 16, PATIENCE)
}

fn recorder(policy: RecordPolicy, anchors: &AnchorHandle) -> RecorderHandle {
    let clock = Arc::new(ManualClock::new(at(5)));
    RecorderActor::start(policy, id("place"), anchors.clone(), clock, 16, PATIENCE)
}

fn deposit(name: &str) -> Record {
    Record::Exchanged {
        event: "deposit",
        name: name.to_owned(),
        hash: ContentHash::of(name),
        agents: vec![id("author"), id("other")],
        hashes: vec![("reason_hash", ContentHash::of("why"))],
    }
}

fn faded() -> Record {
    Record::Faded {
        agent: id("agent"),
        last_seen: at(1),
        ttl: Duration::from_secs(3),
    }
}

fn relayed() -> Record {
    Record::Relayed {
        id: "relay_1".to_owned(),
        from: id("a"),
        to: id("b"),
        blob_hash: format!("sha256:{}", ContentHash::of("sealed")),
        message_type: "greeting".to_owned(),
        bytes: 7,
    }
}

async fn listed(anchors: &AnchorHandle) -> Vec<Anchor> {
    let all = List {
        limit: 1_000,
        anchor_type: None,
        since: None,
    };
    anchors.list(all).await.unwrap()
}

#[test]
fn what_happened_has_the_form_of_the_reference() {
    let me = id("place");
    let anchor = faded().anchor(&me, at(5)).unwrap();
    let last = at(1).wire();
    assert_eq!(anchor.anchor_type().as_str(), "observation_log");
    let told = format!("fadeout:agent:{last}:{}", at(5).wire());
    assert_eq!(anchor.data_hash(), ContentHash::of(told));
    let reading =
        format!("{{\"reason\":\"ttl_expired\",\"last_heartbeat\":\"{last}\",\"ttl_seconds\":3}}");
    let metadata = anchor.metadata();
    assert_eq!(metadata["observation_type"], "faded");
    assert_eq!(
        metadata["interpretation_hash"],
        ContentHash::of(reading).to_hex()
    );
    assert_eq!(anchor.participants(), ["place", "agent"]);

    let anchor = deposit("sk").anchor(&me, at(5)).unwrap();
    assert_eq!(anchor.source_id(), format!("skill_sk_{}", at(5).as_secs()));
    assert_eq!(anchor.metadata()["direction"], "deposit");
    assert_eq!(anchor.participants(), ["author", "other"]);

    // Defect 18: the mark in front of the hash made every such anchor fail.
    let anchor = relayed().anchor(&me, at(5)).unwrap();
    assert_eq!(anchor.data_hash(), ContentHash::of("sealed"));
    assert_eq!(anchor.metadata()["size_bytes"], 7);

    let key = ContentHash::of("key");
    let registered = Record::Registered {
        agent: id("agent"),
        key,
    };
    let anchor = registered.anchor(&me, at(5)).unwrap();
    assert_eq!(anchor.metadata()["observation_type"], "initiated");
}

#[test]
fn the_longest_names_make_an_anchor_too() {
    let record = deposit(&"n".repeat(256));
    assert!(record.anchor(&id(&"p".repeat(128)), at(5)).is_ok());
}

#[actix::test]
async fn records_become_anchors_and_only_those_that_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let anchors = anchors(dir.path(), 1_000);
    let recorder = recorder(
        RecordPolicy {
            relays: false,
            ..ALL
        },
        &anchors,
    );
    for record in [deposit("a"), deposit("b"), deposit("a"), faded(), relayed()] {
        recorder.record(record);
    }
    recorder.shutdown().await.unwrap();
    assert_eq!(listed(&anchors).await.len(), 3);
    assert_eq!(anchors.meetings().await.unwrap().skill_exchanges, 2);
}

#[actix::test]
async fn what_finds_no_room_is_counted_and_the_owner_keeps_some() {
    let dir = tempfile::tempdir().unwrap();
    let anchors = anchors(dir.path(), 8);
    let recorder = recorder(RecordPolicy { queue: 9, ..ALL }, &anchors);
    for n in 0..12 {
        recorder.record(deposit(&format!("s{n}")));
    }
    let queued = recorder.figures();
    assert_eq!((queued.queued, queued.dropped), (9, 3));
    let done = async {
        while recorder.figures().kept == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.unwrap();
    let figures = recorder.figures();
    assert_eq!((figures.queued, figures.kept, figures.dropped), (0, 6, 6));
    let own = deposit("own").anchor(&id("me"), at(9)).unwrap();
    let done = anchors.submit(own, false).await.unwrap();
    assert_eq!(done.status, "submitted");
}
