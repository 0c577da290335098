use kairos_protocol::crypto::Keypair;
use kairos_protocol::tlog::fork::ForkProof;
use kairos_protocol::tlog::note::{Purpose, SigningKey};
use kairos_protocol::tlog::proof::Head;
use kairos_protocol::tlog::statement::{log_name, witness_name};
use kairos_protocol::tlog::tree::{Frontier, leaf_hash, node_hash};
use kairos_protocol::wire::introduction::VerifiedIdentity;
use tempfile::TempDir;

use super::*;
use crate::chain::store::conformance::clock;

fn keys(identity: &Keypair, id: &str) -> Arc<LogKeys> {
    let id = id.parse().unwrap();
    let log = SigningKey::generate(&log_name(&id), Purpose::Note).unwrap();
    let witness = SigningKey::generate(&witness_name(&id), Purpose::Cosignature).unwrap();
    let (now, names) = (Timestamp::EPOCH, (log.verifier(), witness.verifier()));
    let statement = LogStatement::sign(identity, &id, names.0, names.1, now).unwrap();
    Arc::new(LogKeys {
        log,
        witness,
        statement,
    })
}

/// Somebody else's log, of leaves that are letters.
struct Log(Arc<LogKeys>);

impl Log {
    fn new() -> Self {
        Self(keys(&Keypair::generate().unwrap(), "peer"))
    }

    fn shows(&self, leaves: &str) -> Attributed {
        Attributed {
            checkpoint: SignedCheckpoint::sign(head(leaves), &self.0.log).unwrap(),
            statement: self.0.statement.clone(),
        }
    }

    fn origin(&self) -> String {
        self.0.log.verifier().name().to_owned()
    }
}

fn leaf(c: char) -> kairos_protocol::hash::ContentHash {
    leaf_hash(c.to_string().as_bytes())
}

fn head(leaves: &str) -> Head {
    let mut frontier = Frontier::default();
    leaves.chars().for_each(|c| frontier.push(leaf(c)));
    Head {
        size: frontier.size(),
        root: frontier.root(),
    }
}

fn start(dir: &TempDir, limit: usize) -> WitnessHandle {
    let keys = keys(&Keypair::generate().unwrap(), "us");
    let patience = Duration::from_secs(60);
    WitnessActor::start(dir.path(), keys, Arc::new(clock()), limit, 8, patience)
}

fn observe(shown: Attributed, continued: Option<Continued>) -> Observe {
    Observe {
        shown,
        continued,
        rotations: Vec::new(),
    }
}

/// How `now` says that it continues the first two of its leaves; there are three.
fn continues(now: &Attributed, leaves: &str) -> Option<Continued> {
    Some(Continued {
        now: now.clone(),
        before: head(&leaves[..2]),
        proof: vec![leaf(leaves.chars().nth(2).unwrap())],
    })
}

#[actix::test]
async fn a_ledger_that_grows_is_followed() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
    let witness = start(&dir, 10);
    assert_eq!(witness.find(log.origin()).await.unwrap(), None);
    let two = log.shows("ab");
    let first = witness.observe(observe(two.clone(), None)).await;
    assert_eq!(first.unwrap(), Observed::First);
    let again = witness.observe(observe(two.clone(), None)).await;
    assert_eq!(again.unwrap(), Observed::Same);
    let three = log.shows("abc");
    let told = witness
        .observe(observe(three.clone(), None))
        .await
        .unwrap_err();
    assert!(matches!(told, WitnessError::Unproven { known: 2, .. }));
    let grown = witness
        .observe(observe(three.clone(), continues(&three, "abc")))
        .await;
    assert_eq!(grown.unwrap(), Observed::Grown { from: 2 });
    // Another process sees it as well.
    let seen = start(&dir, 10).find(log.origin()).await.unwrap().unwrap();
    assert_eq!((seen.checkpoint, seen.fork), (three.checkpoint, None));
    let told = witness.observe(observe(two, None)).await.unwrap_err();
    assert!(matches!(told, WitnessError::Shorter { known: 3, shown: 2 }));
    // A statement of somebody else.
    let forged = Attributed {
        statement: Log::new().0.statement.clone(),
        ..log.shows("abcd")
    };
    let told = witness.observe(observe(forged, None)).await.unwrap_err();
    assert!(matches!(told, WitnessError::Statement(_)));
}

#[actix::test]
async fn two_histories_are_kept_as_evidence_until_a_person_forgets() {
    let three = |log: &Log| {
        let now = log.shows("axc");
        let continued = continues(&now, "axc");
        observe(now, continued)
    };
    let two = |log: &Log| observe(log.shows("ax"), None);
    for again in [three, two] {
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
        let witness = start(&dir, 10);
        witness
            .observe(observe(log.shows("ab"), None))
            .await
            .unwrap();
        let told = witness.observe(again(&log)).await.unwrap_err();
        let WitnessError::Fork { agent, file } = told else {
            panic!("{told}");
        };
        let evidence = ForkProof::from_json(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(evidence.verify().unwrap().agent.as_str(), agent);
        // Going back to the first history does not help.
        for shown in [log.shows("ab"), log.shows("abc")] {
            let told = start(&dir, 10)
                .observe(observe(shown, None))
                .await
                .unwrap_err();
            assert!(matches!(told, WitnessError::Fork { .. }));
        }
        let seen = witness.find(log.origin()).await.unwrap().unwrap();
        assert_eq!(
            (seen.checkpoint, seen.fork),
            (log.shows("ab").checkpoint, Some(file.clone()))
        );
        witness.forget("peer".parse().unwrap()).await.unwrap();
        assert_eq!(witness.find(log.origin()).await.unwrap(), None);
        assert!(file.exists());
        witness.observe(again(&log)).await.unwrap();
    }
}

#[actix::test]
async fn a_broken_proof_is_no_evidence() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
    let witness = start(&dir, 10);
    witness
        .observe(observe(log.shows("ab"), None))
        .await
        .unwrap();
    let three = log.shows("abc");
    for (root, proof) in [
        (head("ab").root, vec![leaf('x')]),
        (head("ab").root, vec![]),
        (
            node_hash(&leaf('x'), &leaf('x')),
            vec![leaf('c'), leaf('c')],
        ),
        (head("ax").root, vec![leaf('c')]),
    ] {
        let before = Head { size: 2, root };
        let now = three.clone();
        let continued = Some(Continued { now, before, proof });
        let told = witness.observe(observe(three.clone(), continued)).await;
        match told {
            // What it said of its past was wrong, but what it proved holds.
            Ok(Observed::Grown { from: 2 }) => assert_eq!(root, head("ax").root),
            Err(WitnessError::Unproven { known: 2, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "a record and a lock"
    );
}

#[actix::test]
async fn cosigns_only_what_continues_what_it_saw() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
    let witness = start(&dir, 10);
    let request = |old, proof: &[char], leaves| CosignRequest {
        old,
        proof: proof.iter().map(|c| leaf(*c)).collect(),
        checkpoint: log.shows(leaves).checkpoint,
    };
    let key = Some(log.0.log.verifier().clone());
    let told = witness
        .cosign(request(0, &[], "ab"), None)
        .await
        .unwrap_err();
    assert!(matches!(told, WitnessError::UnknownLog(_)));
    let told = witness
        .cosign(request(1, &['b'], "ab"), key.clone())
        .await
        .unwrap_err();
    assert!(matches!(told, WitnessError::From { known: 0 }));
    let line = witness.cosign(request(0, &[], "ab"), key).await.unwrap();
    assert_eq!(line.name(), "kairos-chain/us/witness");
    // From now on the key is known.
    witness.cosign(request(0, &[], "ab"), None).await.unwrap();
    let told = witness
        .cosign(request(0, &[], "abc"), None)
        .await
        .unwrap_err();
    assert!(matches!(told, WitnessError::From { known: 2 }));
    let told = witness
        .cosign(request(2, &['c'], "axc"), None)
        .await
        .unwrap_err();
    assert!(matches!(told, WitnessError::Unproven { .. }));
    witness
        .cosign(request(2, &['c'], "abc"), None)
        .await
        .unwrap();
    let told = witness
        .cosign(request(0, &[], "ab"), None)
        .await
        .unwrap_err();
    assert!(matches!(told, WitnessError::Shorter { known: 3, shown: 2 }));
    let told = witness
        .cosign(request(0, &[], "abd"), None)
        .await
        .unwrap_err();
    assert!(matches!(told, WitnessError::Unproven { .. }));
    let other = Some(Log::new().0.log.verifier().clone());
    let foreign = CosignRequest {
        checkpoint: Log::new().shows("abcd").checkpoint,
        ..request(3, &['d'], "abcd")
    };
    assert!(
        witness.cosign(foreign, other).await.is_err(),
        "the known key counts"
    );
}

fn evidence(dir: &TempDir) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.path()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_evidence = |path: &PathBuf| path.to_string_lossy().contains(".fork-");
    paths.filter(is_evidence).collect()
}

/// Whether `told` is a conviction with evidence that holds.
fn convicted<T: std::fmt::Debug>(told: Result<T, WitnessError>) -> bool {
    match told {
        Err(WitnessError::Fork { file, .. }) => {
            let evidence = ForkProof::from_json(&std::fs::read(file).unwrap()).unwrap();
            evidence.verify().is_ok()
        }
        other => panic!("{other:?}"),
    }
}

#[actix::test]
async fn an_answer_that_contradicts_the_introduction_convicts() {
    let answers = |log: &Log, leaves: &str, before: &str, proof: &[char]| Continued {
        now: log.shows(leaves),
        before: head(before),
        proof: proof.iter().map(|c| leaf(*c)).collect(),
    };
    for (is, leaves, before, proof) in [
        ("as long", "axc", "axc", &[][..]),
        ("longer", "abyd", "aby", &['y', 'd']),
    ] {
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
        let witness = start(&dir, 10);
        let introduced = log.shows("abc");
        witness
            .observe(observe(log.shows(leaves), None))
            .await
            .unwrap();
        let mut continued = answers(&log, leaves, before, proof);
        if leaves.len() > 3 {
            continued.proof.push(node_hash(&leaf('a'), &leaf('b')));
        }
        let told = witness.compare(introduced, continued, vec![]).await;
        assert!(convicted(told), "{is}");
        assert!(witness.is_convicted(&"peer".parse().unwrap()));
    }
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
    let witness = start(&dir, 10);
    witness
        .observe(observe(log.shows("ab"), None))
        .await
        .unwrap();
    let same = answers(&log, "ab", "ab", &[]);
    witness
        .compare(log.shows("ab"), same.clone(), vec![])
        .await
        .unwrap();
    let told = witness.compare(log.shows("abc"), same, vec![]).await;
    assert!(matches!(told, Err(WitnessError::Shorter { .. })));
    let forged = Attributed {
        statement: Log::new().0.statement.clone(),
        ..log.shows("ax")
    };
    let same = answers(&log, "ab", "ab", &[]);
    let told = witness.compare(forged, same, vec![]).await;
    assert!(matches!(told, Err(WitnessError::Statement(_))));
    assert_eq!(evidence(&dir), Vec::<PathBuf>::new());
}

#[actix::test]
async fn a_request_to_cosign_another_history_leaves_evidence() {
    let longer = [leaf('y'), leaf('d'), node_hash(&leaf('a'), &leaf('b'))];
    for (leaves, old, proof) in [("axc", 0, &[][..]), ("abyd", 3, &longer[..])] {
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
        let witness = start(&dir, 10);
        let request = CosignRequest {
            old,
            proof: proof.to_vec(),
            checkpoint: log.shows(leaves).checkpoint,
        };
        witness
            .observe(observe(log.shows("abc"), None))
            .await
            .unwrap();
        for _ in 0..2 {
            let told = witness.cosign(request.clone(), None).await;
            assert!(convicted(told), "{leaves}");
        }
        assert_eq!(evidence(&dir).len(), 1);
    }
}

#[actix::test]
async fn visitors_are_remembered_and_convicted_while_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let witness = start(&dir, 4);
    let identity = |key: &Keypair, id: &str| VerifiedIdentity {
        agent_id: id.parse().unwrap(),
        key: key.public().clone(),
        name: id.to_owned(),
        rotations: Vec::new(),
    };
    let until = |is: &'static str, holds: Box<dyn Fn() -> bool>| async move {
        for _ in 0..1_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never happens: {is}");
    };
    let records = || {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".json")).count()
    };
    let key = Keypair::generate().unwrap();
    let log = Log(keys(&key, "peer"));
    let peer = identity(&key, "peer");
    let id = peer.agent_id.clone();
    // Nobody can show the ledger of somebody else, or nonsense.
    let stranger = identity(&Keypair::generate().unwrap(), "peer");
    witness.visited(&stranger, &log.shows("ax").to_value());
    witness.visited(&peer, &serde_json::json!("nonsense"));
    witness.visited(&peer, &log.shows("ab").to_value());
    let origin = log.origin();
    for _ in 0..1_000 {
        if witness.find(origin.clone()).await.unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seen = witness.find(origin.clone()).await.unwrap().unwrap();
    assert_eq!(seen.checkpoint, log.shows("ab").checkpoint);
    assert!(!witness.is_convicted(&id));

    witness.visited(&peer, &log.shows("ax").to_value());
    let ours = witness.clone();
    until(
        "convicted",
        Box::new(move || ours.is_convicted(&"peer".parse().unwrap())),
    )
    .await;
    // Whoever starts later knows, and another process that forgets it is heard of.
    let other = start(&dir, 4);
    assert!(other.is_convicted(&id) && !other.is_convicted(&"else".parse().unwrap()));
    assert!(other.forget(id.clone()).await.unwrap());
    assert!(!other.forget(id.clone()).await.unwrap());
    assert!(!other.is_convicted(&id));
    until("forgotten", Box::new(move || !witness.is_convicted(&id))).await;

    // Strangers take half of the room.
    for n in 0..4 {
        let (key, id) = (Keypair::generate().unwrap(), format!("peer-{n}"));
        let shown = Log(keys(&key, &id)).shows("a").to_value();
        let visit = visit::Visit {
            identity: identity(&key, &id),
            ledger: shown,
        };
        assert_eq!(other.addr.ask(visit).await.unwrap().unwrap(), n < 2);
    }
    // And the evidence.
    assert_eq!(records(), 2 + 1);
}

#[actix::test]
async fn only_records_count_towards_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let witness = start(&dir, 1);
    for name in [
        "fork-0123456789abcdef.json",
        ".new-a",
        ".new-b",
        "x.fork-1.json",
    ] {
        std::fs::write(dir.path().join(name), "{}").unwrap();
    }
    let first = witness.observe(observe(Log::new().shows("a"), None)).await;
    assert_eq!(first.unwrap(), Observed::First);
    let other = Log(keys(&Keypair::generate().unwrap(), "other"));
    let told = witness.observe(observe(other.shows("a"), None)).await;
    assert!(matches!(told, Err(WitnessError::Full { limit: 1 })));
}

#[actix::test]
async fn no_more_logs_than_allowed_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let witness = start(&dir, 2);
    for n in 0..3 {
        let peer = Log(keys(&Keypair::generate().unwrap(), &format!("peer-{n}")));
        let told = witness.observe(observe(peer.shows("a"), None)).await;
        assert_eq!(told.is_ok(), n < 2, "{n}: {told:?}");
    }
    let file = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let record = file
        .into_iter()
        .find(|path| path.extension().is_some())
        .unwrap();
    std::fs::write(&record, "damaged").unwrap();
    let mut damaged = 0;
    for n in 0..2 {
        let origin = log_name(&format!("peer-{n}").parse().unwrap());
        damaged += usize::from(matches!(
            witness.find(origin).await,
            Err(WitnessError::Damaged { .. })
        ));
    }
    assert_eq!(damaged, 1);
}
