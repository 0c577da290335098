use kairos_protocol::anchor::AnchorMembers;
use tempfile::TempDir;

use super::*;

/// SHA-256 of `test data`.
const D: &str = "916f0027a575074ce72a331777c3478d6513f786a591bd892da1a577bf2335f9";
/// What the reference writes, with A1 of its vectors in it.
const REFERENCE: &str = r#"{
  "metadata": {
    "version": "1.0",
    "created_at": "2026-02-23T10:00:00Z",
    "updated_at": "2026-02-23T10:00:01Z",
    "anchor_count": 1
  },
  "anchors": {
    "cddd494c10da47d1a7903b2db3e7a9eb97ba1d5c387f637d9c258a87f2e6bb15": {
      "anchor_hash": "cddd494c10da47d1a7903b2db3e7a9eb97ba1d5c387f637d9c258a87f2e6bb15",
      "anchor_type": "meeting",
      "source_id": "test_001",
      "data_hash": "916f0027a575074ce72a331777c3478d6513f786a591bd892da1a577bf2335f9",
      "participants": [
        "agent_b",
        "agent_a"
      ],
      "metadata": {
        "zeta": 1,
        "alpha": "x"
      },
      "timestamp": "2026-02-23T10:00:00Z",
      "previous_anchor_ref": null,
      "stored_at": "2026-02-23T10:00:01Z"
    }
  }
}"#;
const A1: &str = "cddd494c10da47d1a7903b2db3e7a9eb97ba1d5c387f637d9c258a87f2e6bb15";

fn now() -> Timestamp {
    Timestamp::parse("2026-11-22T12:00:00Z").unwrap()
}

fn anchor(source: &str) -> Anchor {
    let members = AnchorMembers {
        anchor_type: "audit".to_owned(),
        source_id: source.to_owned(),
        data_hash: D.to_owned(),
        ..AnchorMembers::default()
    };
    members.check(now()).unwrap()
}

struct Home {
    _folder: TempDir,
    file: PathBuf,
    journal: PathBuf,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storage/hestia_anchors.json");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        Self {
            journal: with_suffix(&file, ".journal"),
            file,
            _folder: folder,
        }
    }

    fn open(&self) -> AnchorStore {
        AnchorStore::new(Files::Json(self.file.clone()))
    }

    fn read(&self) -> AnchorStore {
        let mut store = self.open();
        drop(store.enter().unwrap());
        store
    }

    fn submit(&self, source: &str) {
        let mut store = self.open();
        let _locks = store.enter().unwrap();
        store.submit(&[anchor(source)], now()).unwrap();
    }
}

fn sources(store: &AnchorStore) -> Vec<String> {
    store.anchors().map(|a| a.source_id().to_owned()).collect()
}

#[test]
fn reads_what_the_reference_wrote_and_writes_it_the_same() {
    let home = Home::new();
    fs::write(&home.file, REFERENCE).unwrap();
    let mut store = home.open();
    let locks = store.enter().unwrap();
    let found = store.get(&A1.parse().unwrap()).unwrap();
    assert_eq!(found.participants(), ["agent_b", "agent_a"]);
    store.fold(now()).unwrap();
    assert_eq!(
        fs::read_to_string(&home.file).unwrap(),
        REFERENCE,
        "nothing new"
    );
    store.submit(&[anchor("b")], now()).unwrap();
    assert_eq!(
        fs::read_to_string(&home.file).unwrap(),
        REFERENCE,
        "a line elsewhere"
    );
    store.fold(now()).unwrap();
    drop(locks);
    let written: Value = serde_json::from_slice(&fs::read(&home.file).unwrap()).unwrap();
    assert_eq!(
        written["metadata"],
        json!({
            "version": "1.0", "created_at": "2026-02-23T10:00:00Z",
            "updated_at": "2026-11-22T12:00:00Z", "anchor_count": 2,
        })
    );
    let before: Value = serde_json::from_str(REFERENCE).unwrap();
    assert_eq!(written["anchors"][A1], before["anchors"][A1]);
    let b = anchor("b").hash().to_hex();
    assert_eq!(written["anchors"][&b]["stored_at"], "2026-11-22T12:00:00Z");
    let text = fs::read_to_string(&home.file).unwrap();
    let (head, _) = text.split_once(&b).unwrap();
    let (same, _) = REFERENCE.rsplit_once("\n  }\n}").unwrap();
    let anchors = same.split_once("\"anchors\"").unwrap().1;
    assert!(head.contains(anchors), "every byte of what was there");
    assert_eq!(fs::metadata(&home.journal).unwrap().len(), 0);
    assert_eq!(sources(&home.read()), ["test_001", "b"]);
}

#[test]
fn an_acknowledged_anchor_is_in_the_journal_and_a_torn_one_is_cut() {
    let home = Home::new();
    home.submit("a");
    assert!(!home.file.exists());
    let mut torn = fs::read(&home.journal).unwrap();
    let whole = torn.len();
    torn.extend_from_slice(b"{\"op\":\"anchor\",\"v\":1,\"rec");
    fs::write(&home.journal, &torn).unwrap();
    let looked = AnchorStore::look(Files::Json(home.file.clone())).unwrap();
    assert_eq!(sources(&looked), ["a"]);
    assert_eq!(
        fs::read(&home.journal).unwrap(),
        torn,
        "a look changes nothing"
    );
    home.submit("b");
    assert_eq!(sources(&home.read()), ["a", "b"]);
    assert!(fs::read(&home.journal).unwrap().len() > whole);
}

#[test]
fn a_crash_between_file_and_journal_costs_nothing() {
    let home = Home::new();
    home.submit("a");
    let journal = fs::read(&home.journal).unwrap();
    let mut store = home.open();
    let locks = store.enter().unwrap();
    store.fold(now()).unwrap();
    drop(locks);
    fs::write(&home.journal, journal).unwrap();
    assert_eq!(sources(&home.read()), ["a"]);
    home.submit("b");
    assert_eq!(sources(&home.read()), ["a", "b"]);
}

#[test]
fn what_cannot_be_read_is_never_replaced() {
    let journal_line = r#"{"op":"anchor","v":2,"record":{}}"#;
    for (file, journal) in [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        (r#"{"metadata":{}}"#, ""),
        (r#"{"metadata":{},"anchors":[]}"#, ""),
        (REFERENCE, "x\n"),
        (REFERENCE, journal_line),
    ] {
        let home = Home::new();
        fs::write(&home.file, file).unwrap();
        let journal = match journal {
            "" => String::new(),
            line => format!("{line}\n"),
        };
        fs::write(&home.journal, &journal).unwrap();
        let mut store = home.open();
        for _ in 0..2 {
            let refused = store.enter();
            assert!(
                matches!(refused, Err(StoreError::Damaged { .. })),
                "{file} {journal}"
            );
        }
        assert_eq!(fs::read_to_string(&home.file).unwrap(), file);
        assert_eq!(fs::read_to_string(&home.journal).unwrap(), journal);
    }
}

#[test]
fn an_anchor_that_was_changed_is_told_of_kept_and_counts_as_none() {
    let home = Home::new();
    let changed = REFERENCE.replace("test_001", "test_002");
    fs::write(&home.file, &changed).unwrap();
    let mut store = home.open();
    let _locks = store.enter().unwrap();
    let damaged: Vec<_> = store.damaged().collect();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].anchor_hash, A1);
    assert!(store.get(&A1.parse().unwrap()).is_none() && store.is_empty());
    store.submit(&[anchor("b")], now()).unwrap();
    store.fold(now()).unwrap();
    let text = fs::read_to_string(&home.file).unwrap();
    assert!(text.contains("test_002") && sources(&store) == ["b"]);
    // The true one, should somebody have it, takes its place.
    let members: Value = serde_json::from_str(REFERENCE).unwrap();
    let members = AnchorMembers::deserialize(&members["anchors"][A1]).unwrap();
    store
        .submit(&[members.check(now()).unwrap()], now())
        .unwrap();
    assert_eq!(store.damaged().count(), 0);
    assert_eq!(sources(&store), ["test_001", "b"]);
}

#[test]
fn processes_see_what_others_wrote() {
    let home = Home::new();
    let (mut ours, mut theirs) = (home.open(), home.open());
    for (n, store) in [&mut ours, &mut theirs].into_iter().enumerate() {
        let _locks = store.enter().unwrap();
        store.submit(&[anchor(&n.to_string())], now()).unwrap();
    }
    drop(ours.enter().unwrap());
    assert_eq!(sources(&ours), ["0", "1"]);
    {
        let _locks = theirs.enter().unwrap();
        theirs.fold(now()).unwrap();
        theirs.submit(&[anchor("2")], now()).unwrap();
    }
    drop(ours.enter().unwrap());
    assert_eq!(sources(&ours), ["0", "1", "2"]);
}

#[test]
fn what_waits_for_a_batch_survives_and_comes_together() {
    let home = Home::new();
    let mut store = home.open();
    let locks = store.enter().unwrap();
    for source in ["a", "b"] {
        store.enqueue(&anchor(source), now()).unwrap();
    }
    store.submit(&[anchor("c")], now()).unwrap();
    store.fold(now()).unwrap();
    drop(locks);
    let mut store = home.read();
    assert_eq!((store.len(), store.queued()), (1, 2));
    assert_eq!(store.queued_since(), Some(now()));
    assert!(store.is_queued(&anchor("a").hash()));
    let later = now().plus(std::time::Duration::from_secs(9));
    let locks = store.enter().unwrap();
    assert_eq!(store.flush(later).unwrap().len(), 2);
    assert!(store.flush(later).unwrap().is_empty());
    drop(locks);
    let store = home.read();
    assert_eq!(sources(&store), ["c", "a", "b"]);
    assert_eq!(store.queued(), 0);
}

#[test]
fn the_journal_is_folded_when_it_has_grown() {
    let home = Home::new();
    let mut store = home.open();
    let _locks = store.enter().unwrap();
    let heavy = |n: usize| {
        let metadata = [("text".to_owned(), json!("x".repeat(60_000)))];
        let members = AnchorMembers {
            anchor_type: "audit".to_owned(),
            source_id: n.to_string(),
            data_hash: D.to_owned(),
            metadata: metadata.into_iter().collect(),
            ..AnchorMembers::default()
        };
        members.check(now()).unwrap()
    };
    let mut folds = 0;
    for n in 0..60 {
        store.submit(&[heavy(n)], now()).unwrap();
        let before = store.journal.length();
        store.fold_if_due(now()).unwrap();
        folds += usize::from(store.journal.length() < before);
    }
    assert_eq!(folds, 3, "a line each, and few whole files");
    assert_eq!(store.len(), 60);
}
