use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use kairos_protocol::block::{Block, BlockRef, StoredBlock};
use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::ledger::{Ledger, VerifyReport};
use kairos_protocol::tlog::note::Purpose;
use kairos_protocol::tlog::statement::{log_name, witness_name};
use tempfile::TempDir;
use walkdir::WalkDir;

use kairos_protocol::tlog::proof::verify_consistency;

use super::*;
use crate::chain::store::StoreError;
use crate::chain::store::conformance::{clock, one};
use crate::chain::store::memory::MemoryStore;

fn keys() -> Arc<LogKeys> {
    let id = "agent".parse().unwrap();
    let identity = Keypair::generate().unwrap();
    let log = SigningKey::generate(&log_name(&id), Purpose::Note).unwrap();
    let witness = SigningKey::generate(&witness_name(&id), Purpose::Cosignature).unwrap();
    let (now, keys) = (Timestamp::EPOCH, (log.verifier(), witness.verifier()));
    let statement = LogStatement::sign(&identity, &id, keys.0, keys.1, now).unwrap();
    Arc::new(LogKeys {
        log,
        witness,
        statement,
    })
}

/// A log in a directory of its own, over ledgers that can be exchanged.
struct Bench {
    dir: TempDir,
    keys: Arc<LogKeys>,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            keys: keys(),
        }
    }

    fn log(&self, store: &MemoryStore) -> TlogHandle {
        self.log_over(Arc::new(store.clone()), 64)
    }

    fn log_over(&self, store: Arc<dyn BlockStore>, permits: usize) -> TlogHandle {
        let (keys, clock) = (Arc::clone(&self.keys), Arc::new(clock()));
        let patience = Duration::from_secs(60);
        TlogActor::start(self.dir.path(), store, keys, clock, permits, patience)
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = WalkDir::new(self.dir.path())
            .sort_by_file_name()
            .into_iter();
        let paths = entries.map(|entry| entry.unwrap().into_path());
        let files = paths.filter(|path| path.is_file() && !path.ends_with(store_lock()));
        files.collect()
    }

    fn names(&self) -> Vec<String> {
        let below = |path: PathBuf| {
            path.strip_prefix(self.dir.path())
                .unwrap()
                .display()
                .to_string()
        };
        self.files().into_iter().map(below).collect()
    }
}

fn store_lock() -> &'static str {
    ".lock"
}

/// A ledger of `length` blocks, whose block `other` differs.
fn ledger(length: u64, other: u64) -> MemoryStore {
    let mut ledger = Ledger::default();
    let mut blocks: Vec<StoredBlock> = vec![Block::genesis().clone().into()];
    for index in 1..length {
        let text = format!("{index}{}", if index == other { " other" } else { "" });
        let block = ledger.propose(vec![text], Timestamp::EPOCH);
        ledger.adopt(&block).unwrap();
        blocks.push(block.into());
    }
    MemoryStore::holding(blocks)
}

/// Counts how many blocks were read.
struct Counting {
    ledger: MemoryStore,
    read: AtomicUsize,
}

impl BlockStore for Counting {
    fn append(
        &self,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
    ) -> Result<Vec<BlockRef>, StoreError> {
        self.ledger.append(batch, clock)
    }

    fn tip(&self) -> Result<Option<BlockRef>, StoreError> {
        self.ledger.tip()
    }

    fn verify(&self) -> Result<VerifyReport, StoreError> {
        self.ledger.verify()
    }

    fn history(&self, limit: usize) -> Result<Vec<Block>, StoreError> {
        self.ledger.history(limit)
    }

    fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, StoreError> {
        let blocks = self.ledger.blocks(first, limit)?;
        self.read.fetch_add(blocks.len(), Ordering::Relaxed);
        Ok(blocks)
    }
}

#[actix::test]
async fn a_rewritten_ledger_is_read_once_however_many_ask() {
    let bench = Bench::new();
    bench.log(&ledger(300, 0)).checkpoint().await.unwrap();
    let store = Arc::new(Counting {
        ledger: ledger(300, 3),
        read: AtomicUsize::default(),
    });
    let log = bench.log_over(store.clone(), 64);
    let mut reads = Vec::new();
    for _ in 0..3 {
        for told in [
            log.continued(1).await.err(),
            log.prove(0, true, false).await.err(),
        ] {
            assert!(
                matches!(told, Some(TlogError::Rewritten { .. })),
                "{told:?}"
            );
        }
        reads.push(store.read.load(Ordering::Relaxed));
    }
    assert!(reads[0] >= 300 && reads[0] == reads[2], "{reads:?}");
    // Another ledger is looked at anew, and so is this one once it grew.
    store.append(one("more"), &clock()).unwrap();
    assert!(log.checkpoint().await.is_err());
    assert!(store.read.load(Ordering::Relaxed) > reads[2]);
}

#[actix::test]
async fn a_log_that_cannot_look_shows_what_it_signed() {
    let bench = Bench::new();
    let store = ledger(5, 0);
    let signed = bench.log(&store).checkpoint().await.unwrap();
    let shown = |log: TlogHandle| async move {
        let fresh = log.fresh(Duration::ZERO).await;
        fresh.map(|fresh| fresh.checkpoint.clone())
    };
    // Just started, with everybody busy.
    let busy = bench.log_over(Arc::new(store.clone()), 0);
    assert_eq!(shown(busy.clone()).await, signed);
    assert_eq!(busy.shared.current.load().checked, clock().now());
    // While another one looks.
    let log = bench.log(&store);
    let _looks = log.looking.lock().await;
    assert_eq!(shown(log.clone()).await, signed);
    // What another key signed is nothing to show.
    let other = Bench {
        dir: bench.dir,
        keys: keys(),
    };
    assert_eq!(shown(other.log_over(Arc::new(store), 0)).await, None);
}

#[actix::test]
async fn signs_what_the_ledger_is_and_proves_every_block() {
    let bench = Bench::new();
    let store = MemoryStore::default();
    let log = bench.log(&store);
    assert_eq!(log.checkpoint().await.unwrap(), None);
    assert!(matches!(
        log.prove(0, false, false).await,
        Err(TlogError::NoLedger)
    ));
    assert_eq!(log.compare().await.unwrap(), None);
    let mut seen = Vec::new();
    for step in [1, 2, 5, 300] {
        store
            .append(vec![vec!["entry".into()]; step], &clock())
            .unwrap();
        let checkpoint = log.checkpoint().await.unwrap().unwrap();
        checkpoint.verify(bench.keys.log.verifier()).unwrap();
        assert_eq!(
            checkpoint.head().size,
            store.tip().unwrap().unwrap().index + 1
        );
        seen.push(checkpoint);
        let again = bench.log(&store).checkpoint().await.unwrap();
        assert_eq!(
            again.as_ref(),
            seen.last(),
            "nothing grew, so nothing is signed"
        );
        for index in [0, seen.last().unwrap().head().size - 1] {
            let proof = log.prove(index, false, false).await.unwrap();
            let proven = proof.verify(Some(bench.keys.log.verifier())).unwrap();
            assert_eq!(proven.block, store.blocks(index, 1).unwrap().pop());
        }
        for before in &seen {
            let continued = log.continued(before.head().size).await.unwrap();
            assert_eq!(continued.before, before.head());
            let now = continued.now.checkpoint.head();
            verify_consistency(before.head(), now, &continued.proof).unwrap();
        }
        assert_eq!(
            log.compare().await.unwrap(),
            seen.last().map(SignedCheckpoint::head)
        );
    }
    assert!(matches!(
        log.prove(309, false, false).await,
        Err(TlogError::NoBlock { index: 309 })
    ));
    assert!(matches!(
        log.continued(310).await,
        Err(TlogError::NoBlock { .. })
    ));
    assert_eq!(
        bench.names(),
        [
            "built",
            "checkpoint",
            "tile/0/000",
            "tile/0/001.p/53",
            "tile/1/000.p/1"
        ]
    );
}

#[actix::test]
async fn a_ledger_that_was_cut_or_rewritten_is_told_and_nothing_is_signed() {
    for (now, is) in [
        (ledger(299, 0), "cut"),
        (ledger(300, 299), "another last block"),
        (ledger(500, 3), "rewritten and longer"),
        (MemoryStore::default(), "gone"),
    ] {
        for forget_tiles in [false, true] {
            let bench = Bench::new();
            let signed = bench
                .log(&ledger(300, 0))
                .checkpoint()
                .await
                .unwrap()
                .unwrap();
            if forget_tiles {
                fs::remove_file(bench.dir.path().join("built")).unwrap();
            }
            let before = bench.names();
            let log = bench.log(&now);
            for told in [
                log.checkpoint().await.err(),
                log.compare().await.err(),
                log.prove(0, true, false).await.err(),
                log.continued(1).await.err(),
            ] {
                let told = told.unwrap_or_else(|| panic!("{is}: accepted"));
                assert!(
                    matches!(told, TlogError::Rewritten { signed: of, .. } if of == signed.head()),
                    "{is}: {told}"
                );
            }
            assert_eq!(log.fresh(Duration::ZERO).await, None, "{is}");
            assert_eq!(
                log.status(Duration::ZERO).await.unwrap().signed,
                Some(signed),
                "{is}"
            );
            assert_eq!(bench.names(), before, "{is}: the tiles are evidence");
            // The right ledger is accepted again.
            bench.log(&ledger(301, 0)).checkpoint().await.unwrap();
        }
    }
}

#[actix::test]
async fn tiles_are_built_anew_when_they_are_damaged() {
    let bench = Bench::new();
    let store = ledger(300, 0);
    bench.log(&store).checkpoint().await.unwrap();
    // `built`, two tiles of leaves, and one above.
    for (nth, damage) in (0..4).flat_map(|nth| (0..4).map(move |damage| (nth, damage))) {
        let derived = |path: &PathBuf| !path.ends_with("checkpoint");
        let path = bench.files().into_iter().filter(derived).nth(nth).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        match damage {
            0 => bytes[10] ^= 1,
            1 => bytes.truncate(bytes.len() / 2),
            2 => bytes.clear(),
            _ => fs::remove_file(&path).unwrap(),
        }
        if damage < 3 {
            fs::write(&path, bytes).unwrap();
        }
        let log = bench.log(&store);
        // Also where the ledger grows right on the damage.
        store.append(one("more"), &clock()).unwrap();
        let checkpoint = log.checkpoint().await.unwrap().unwrap();
        store.append(one("more"), &clock()).unwrap();
        for index in [0, 10, 255, 256, 299, checkpoint.head().size] {
            let proof = log.prove(index, true, false).await.unwrap();
            proof.verify(Some(bench.keys.log.verifier())).unwrap();
        }
        assert!(log.compare().await.unwrap().is_some());
    }
    fs::write(bench.dir.path().join("checkpoint"), "damaged").unwrap();
    let told = bench.log(&store).checkpoint().await.unwrap_err();
    assert!(matches!(told, TlogError::Damaged { .. }), "{told}");
}

#[actix::test]
async fn a_new_key_signs_the_same_history() {
    let mut bench = Bench::new();
    let store = ledger(5, 0);
    let before = bench.log(&store).checkpoint().await.unwrap().unwrap();
    bench.keys = keys();
    let after = bench.log(&store).checkpoint().await.unwrap().unwrap();
    assert_eq!(after.head(), before.head());
    after.verify(bench.keys.log.verifier()).unwrap();
    assert!(
        bench.log(&ledger(5, 4)).checkpoint().await.is_err(),
        "the key does not matter"
    );
}

#[actix::test]
async fn cosignatures_of_known_witnesses_are_kept() {
    let bench = Bench::new();
    let store = ledger(5, 0);
    let log = bench.log(&store);
    let witness = keys();
    let known = vec![witness.witness.verifier().clone()];
    let at = Timestamp::from_secs(1_700_000_000);
    assert!(matches!(
        log.prove(1, true, true).await,
        Err(TlogError::NotCosigned)
    ));
    let request = log.cosign_request(0).await.unwrap();
    let line = request.checkpoint.cosign(&witness.witness, at).unwrap();
    store.append(one("meanwhile"), &clock()).unwrap();
    log.checkpoint().await.unwrap();

    // The ledger grew meanwhile, so the line alone fits nothing any more; the whole checkpoint does.
    let mut whole = request.checkpoint.clone();
    whole.add(line.clone()).unwrap();
    assert!(
        log.add_cosignatures(format!("{line}\n"), known.clone())
            .await
            .is_err()
    );
    let taken = log
        .add_cosignatures(whole.to_string(), known.clone())
        .await
        .unwrap();
    let name = witness.witness.verifier().name().to_owned();
    assert_eq!(
        taken,
        [Witnessed {
            witness: name,
            at,
            size: 5
        }]
    );
    assert!(
        log.add_cosignatures(format!("{line}\n"), known.clone())
            .await
            .is_ok(),
        "now it is known"
    );
    let proof = log.prove(1, true, true).await.unwrap();
    assert_eq!(proof.checkpoint().witnessed(&known[0]), Ok(Some(at)));

    let told = log
        .add_cosignatures(whole.to_string(), vec![])
        .await
        .unwrap_err();
    assert!(matches!(told, TlogError::UnknownWitness));
    let told = log
        .add_cosignatures(format!("{line}\n"), vec![keys().witness.verifier().clone()])
        .await;
    assert!(told.is_err(), "another key of the same name");
    // A checkpoint that we signed over another history, say with a stolen key, is not ours to keep.
    let other = SignedCheckpoint::sign(
        Head {
            size: 5,
            root: ContentHash::of("x"),
        },
        &bench.keys.log,
    )
    .unwrap();
    let told = log
        .add_cosignatures(other.to_string(), known)
        .await
        .unwrap_err();
    assert!(matches!(told, TlogError::Rewritten { .. }));
}

#[actix::test]
async fn what_is_told_of_cosignatures_is_on_disk_and_stays_there() {
    let bench = Bench::new();
    let store = ledger(5, 0);
    let log = bench.log(&store);
    let witnesses = [keys(), keys(), keys()];
    let known: Vec<_> = witnesses
        .iter()
        .map(|keys| keys.witness.verifier().clone())
        .collect();
    let at = Timestamp::from_secs(1_700_000_000);
    let line = |of: &SignedCheckpoint, n: usize| of.cosign(&witnesses[n].witness, at).unwrap();
    let five = log.checkpoint().await.unwrap().unwrap();
    store.append(one("more"), &clock()).unwrap();
    let six = log.checkpoint().await.unwrap().unwrap();

    // A larger one takes nothing from a smaller one, nor a smaller one from a larger one.
    for (of, n) in [(&five, 0), (&six, 1), (&five, 2)] {
        let mut whole = of.clone();
        whole.add(line(of, n)).unwrap();
        let taken = log.add_cosignatures(whole.to_string(), known.clone()).await;
        assert_eq!(taken.unwrap()[0].size, of.head().size);
    }
    // Lines of both at once, and a key that is named twice.
    let lines = format!("{}\n{}\n", line(&five, 1), line(&six, 0));
    let twice = [known.clone(), known.clone()].concat();
    let taken = log.add_cosignatures(lines, twice).await.unwrap();
    let sizes: Vec<u64> = taken.iter().map(|one| one.size).collect();
    assert_eq!(sizes, [5, 6]);
    let kept = |size: u64| {
        let path = bench.dir.path().join(format!("cosigned-{size}"));
        let text = fs::read_to_string(path).unwrap();
        let kept: SignedCheckpoint = text.parse().unwrap();
        let by = |key: &VerifierKey| kept.witnessed(key).unwrap().is_some();
        known.iter().map(by).collect::<Vec<_>>()
    };
    assert_eq!(kept(5), [true, true, true]);
    assert_eq!(kept(6), [true, true, false]);
    let proof = log.prove(1, true, true).await.unwrap();
    assert_eq!(proof.checkpoint().head().size, 6);
}

#[actix::test]
async fn no_more_cosigned_checkpoints_than_allowed_are_kept() {
    let bench = Bench::new();
    let store = ledger(1, 0);
    let log = bench.log(&store);
    let (witness, at) = (keys(), Timestamp::EPOCH);
    let known = vec![witness.witness.verifier().clone()];
    for _ in 0..65 {
        let mut checkpoint = log.checkpoint().await.unwrap().unwrap();
        let line = checkpoint.cosign(&witness.witness, at).unwrap();
        checkpoint.add(line).unwrap();
        log.add_cosignatures(checkpoint.to_string(), known.clone())
            .await
            .unwrap();
        store.append(one("more"), &clock()).unwrap();
    }
    let cosigned = bench.names();
    let cosigned: Vec<_> = cosigned
        .iter()
        .filter(|name| name.starts_with("cosigned"))
        .collect();
    assert_eq!(cosigned.len(), 64);
    assert!(!cosigned.contains(&&"cosigned-1".to_owned()));
}

#[actix::test]
async fn what_is_fresh_is_looked_at_once() {
    let bench = Bench::new();
    let store = ledger(5, 0);
    let log = bench.log(&store);
    let first = log.fresh(Duration::ZERO).await.unwrap();
    first.verify().unwrap();
    store.append(one("more"), &clock()).unwrap();
    // The clock stands still, so this is as fresh as can be.
    assert!(Arc::ptr_eq(
        &first,
        &log.fresh(Duration::from_secs(1)).await.unwrap()
    ));
    assert_eq!(log.checkpoint().await.unwrap().unwrap().head().size, 6);
    let now = log.fresh(Duration::from_secs(1)).await.unwrap();
    assert_eq!(now.checkpoint.head().size, 6);
    assert_eq!(log.health().await, Ok(()));
    log.shutdown().await.unwrap();
    assert_eq!(log.health().await, Err(AskError::Stopped));
}
