//! Proofs that a block is in a ledger: made by the node's own actor, checked as by anyone.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::rt::System;
use kairos_actors::chain::store::file::{FileStore, LOCK_PATIENCE};
use kairos_actors::chain::tlog::{LogKeys, TlogActor};
use kairos_protocol::crypto::Keypair;
use kairos_protocol::time::{ManualClock, Timestamp};
use kairos_protocol::tlog::inclusion::InclusionProof;
use kairos_protocol::tlog::note::{Purpose, SigningKey};
use kairos_protocol::tlog::statement::{LogStatement, log_name, witness_name};

use crate::table::{Aim, Row, median};

/// Proofs of one ledger.
const PROOFS: u64 = 200;
/// Longest that checking one may take, its signatures aside.
const CHECK_MICROS: f64 = 50.0;
/// Spreads the blocks that are proven over the ledger.
const STRIDE: u64 = 7_919;

/// Medians of one ledger, in microseconds.
struct Times {
    /// From the question to the proof.
    made: f64,
    /// From its text to what it proves, signatures included.
    checked: f64,
    /// Of that, the signatures: one of RSA under whose ledger it is, one of Ed25519 under the checkpoint.
    signatures: f64,
    bytes: usize,
}

pub(crate) fn rows(ledgers: [(u64, PathBuf); 2]) -> Vec<Row> {
    let [short, long] = ledgers.map(|(length, path)| (length, times(&path, length)));
    let made = Row {
        what: format!("a proof made at {} blocks, to one at {}", long.0, short.0),
        ours: format!("{:.0} us", long.1.made),
        baseline: format!("{:.0} us", short.1.made),
        ratio: long.1.made / short.1.made,
        aim: Aim::Open,
        note: "through its actor, and checked before it is given out".to_owned(),
    };
    let checked = [short, long].map(|(length, times)| {
        let own = times.checked - times.signatures;
        Row {
            what: format!("a proof of one of {length} blocks checked, signatures aside"),
            ours: format!("{own:.0} us"),
            baseline: format!("{CHECK_MICROS:.0} us"),
            ratio: own / CHECK_MICROS,
            aim: Aim::AtMost(1.0),
            note: format!(
                "{:.0} us with signatures of {:.0}; {} bytes",
                times.checked, times.signatures, times.bytes
            ),
        }
    });
    [made].into_iter().chain(checked).collect()
}

fn times(path: &Path, length: u64) -> Times {
    let (texts, made) = System::new().block_on(make(path, length));
    let checks: Vec<(f64, f64)> = texts.iter().map(|text| check(text)).collect();
    Times {
        made,
        checked: median(checks.iter().map(|(whole, _)| *whole)).0,
        signatures: median(checks.iter().map(|(_, signatures)| *signatures)).0,
        bytes: texts.first().map_or(0, String::len),
    }
}

async fn make(path: &Path, length: u64) -> (Vec<String>, f64) {
    let (store, _) = FileStore::open(path, LOCK_PATIENCE).expect("a store");
    let log = TlogActor::start(
        &path.with_extension("tlog"),
        Arc::new(store),
        keys(),
        Arc::new(ManualClock::new(Timestamp::EPOCH)),
        1,
        Duration::from_secs(600),
    );
    // The tiles are built once.
    log.checkpoint().await.expect("a checkpoint");
    let mut texts = Vec::new();
    let mut micros = Vec::new();
    for n in 0..PROOFS {
        let began = Instant::now();
        let proof = log.prove(n * STRIDE % length, false, false).await;
        texts.push(proof.expect("a proof").to_string());
        micros.push(began.elapsed().as_secs_f64() * 1e6);
    }
    log.shutdown().await.expect("it stops");
    (texts, median(micros).0)
}

/// Checks a proof, and its signatures alone; microseconds of each.
fn check(text: &str) -> (f64, f64) {
    let began = Instant::now();
    let proof: InclusionProof = black_box(text).parse().expect("a proof");
    let proven = black_box(proof.verify(None)).expect("it holds");
    let whole = began.elapsed();
    let statement = proven.statement.expect("it says whose ledger it is");
    let began = Instant::now();
    black_box(statement.verify()).expect("a signature");
    black_box(proof.checkpoint().verify(&statement.log_key)).expect("a signature");
    (
        whole.as_secs_f64() * 1e6,
        began.elapsed().as_secs_f64() * 1e6,
    )
}

fn keys() -> Arc<LogKeys> {
    let id = "bench".parse().expect("an id");
    let identity = Keypair::generate().expect("a key");
    let log = SigningKey::generate(&log_name(&id), Purpose::Note).expect("a key");
    let witness = SigningKey::generate(&witness_name(&id), Purpose::Cosignature).expect("a key");
    let (now, keys) = (Timestamp::EPOCH, (log.verifier(), witness.verifier()));
    let statement = LogStatement::sign(&identity, &id, keys.0, keys.1, now);
    Arc::new(LogKeys {
        statement: statement.expect("a signature"),
        log,
        witness,
    })
}
