//! What a durable record costs, against writing the same bytes to a file and syncing them; and how a long ledger fares.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::rt::System;
use kairos_actors::chain::store::BlockStore as _;
use kairos_actors::chain::store::file::{FileStore, LOCK_PATIENCE};
use kairos_actors::chain::store::transfer::{Form, Writer};
use kairos_actors::chain::{ChainActor, ChainHandle};
use kairos_protocol::block::Block;
use kairos_protocol::block::entry::{
    ApprovalDecision, Decided, Entry, FILES_NAMED_MAX, FileChange,
};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::{Clock, ManualClock, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::process::cpu_time;
use crate::proofs;
use crate::table::{Aim, Row, median};

const ROUNDS: usize = 7;
/// Full checks of a ledger, each of which takes seconds.
const CHECKS: usize = 3;
/// Appends of one writer in a round.
const APPENDS: usize = 200;
const WRITERS: usize = 64;
/// Appends of each of many writers in a round.
const EACH: usize = 40;
/// How long the ledgers are to which is appended.
const LENGTHS: [u64; 3] = [1_000, PROVEN_SHORT, PROVEN_LONG];
/// How long the ledgers are of which blocks are proven.
const PROVEN_SHORT: u64 = 100_000;
const PROVEN_LONG: u64 = 1_000_000;
/// Blocks of the ledger with the largest entries.
const LARGE: u64 = 20_000;
/// Ours above the bare minimum below which nothing is gained any more.
const OPEN_SECONDS: f64 = 1.0;

pub(crate) fn run() -> Vec<Row> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut rows = writers(dir.path());
    rows.extend(lengths(dir.path()));
    rows.extend(proofs::rows(
        [PROVEN_SHORT, PROVEN_LONG].map(|length| (length, of_length(dir.path(), length))),
    ));
    rows
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(Timestamp::from_secs(1_771_588_800)))
}

/// What a change of knowledge records.
fn entry(n: u64) -> Vec<String> {
    vec![format!(
        r#"{{"type":"knowledge_update","layer":"L1","knowledge_id":"note_{n}","action":"update","prev_hash":"c8d77909b4e454390c0956cd0921e32f5980d30dc81998e475c6e816cff77305","next_hash":"19bcc95a7b5946ca2c1029728cb623975c2807690f8fd354ca6799878c4b7efd","reason":"Update knowledge: note_{n}","timestamp":"2026-01-20T10:30:00+00:00"}}"#
    )]
}

/// Appends a second, of one writer, of the bare loop, and of many writers.
fn writers(dir: &Path) -> Vec<Row> {
    let rounds: Vec<[f64; 3]> = System::new().block_on(async {
        let (store, _) =
            FileStore::open(&dir.join("writers.json"), LOCK_PATIENCE).expect("a store");
        let chain = ChainActor::start(
            Arc::new(store),
            clock(),
            2 * WRITERS,
            Duration::from_secs(60),
        );
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let bare = bare(&dir.join(format!("bare-{round}")));
            rounds.push([one(&chain).await, bare, many(&chain).await]);
        }
        chain.shutdown().await.expect("it stops");
        rounds
    });
    let of = |number: fn(&[f64; 3]) -> f64| median(rounds.iter().map(number));
    let rate = |number: f64| format!("{number:.0}/s");
    let (ones, bares, manys) = (of(|r| r[0]).0, of(|r| r[1]).0, of(|r| r[2]).0);
    let (to_bare, least, most) = of(|r| r[0] / r[1]);
    let (to_one, few, lots) = of(|r| r[2] / r[0]);
    vec![
        Row {
            what: "acknowledged appends, one writer, to write+fdatasync".to_owned(),
            ours: rate(ones),
            baseline: rate(bares),
            ratio: to_bare,
            aim: Aim::AtLeast(0.8),
            note: format!("{least:.2}..{most:.2}"),
        },
        Row {
            what: format!("acknowledged appends, {WRITERS} writers, to one writer"),
            ours: rate(manys),
            baseline: rate(ones),
            ratio: to_one,
            aim: Aim::AtLeast(10.0),
            note: format!(
                "{few:.1}..{lots:.1}; {:.1} of write+fdatasync",
                manys / bares
            ),
        },
    ]
}

async fn one(chain: &ChainHandle) -> f64 {
    let began = Instant::now();
    for n in 0..APPENDS {
        chain.append(entry(n as u64)).await.expect("an append");
    }
    APPENDS as f64 / began.elapsed().as_secs_f64()
}

async fn many(chain: &ChainHandle) -> f64 {
    let began = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let chain = chain.clone();
            actix_web::rt::spawn(async move {
                for n in 0..EACH {
                    chain.append(entry(n as u64)).await.expect("an append");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    (WRITERS * EACH) as f64 / began.elapsed().as_secs_f64()
}

/// The least that makes the same bytes durable one after the other.
fn bare(path: &Path) -> f64 {
    let tip = Block::genesis().to_ref();
    let block = Block::seal(1, clock().now(), entry(1), tip.hash);
    let bytes = format!(",\n  {}", block.file_form());
    let mut file = File::create(path).expect("a file");
    let began = Instant::now();
    for _ in 0..APPENDS {
        file.write_all(bytes.as_bytes()).expect("a write");
        file.sync_data().expect("a sync");
    }
    APPENDS as f64 / began.elapsed().as_secs_f64()
}

/// What becomes of appends, checks and opening as a ledger grows.
fn lengths(dir: &Path) -> Vec<Row> {
    let stores: Vec<_> = LENGTHS
        .iter()
        .map(|length| {
            let path = of_length(dir, *length);
            generate(&path, *length, entry);
            let (store, _) = FileStore::open(&path, LOCK_PATIENCE).expect("a store");
            (path, store)
        })
        .collect();
    let clock = clock();
    let rounds: Vec<[f64; LENGTHS.len()]> = (0..ROUNDS)
        .map(|_| {
            let cost = |(_, store): &(_, FileStore)| {
                let costs = (0..APPENDS).map(|n| {
                    let began = Instant::now();
                    store
                        .append(vec![entry(n as u64)], &*clock)
                        .expect("an append");
                    began.elapsed().as_secs_f64()
                });
                median(costs).0
            };
            let costs: Vec<f64> = stores.iter().map(cost).collect();
            costs.try_into().expect("one for each length")
        })
        .collect();
    let column = |cost: fn(&[f64; LENGTHS.len()]) -> f64| median(rounds.iter().map(cost)).0;
    let micros = |seconds: f64| format!("{:.0} us", seconds * 1e6);
    let (ratio, least, most) = median(rounds.iter().map(|round| round[2] / round[0]));
    let mut rows = vec![Row {
        what: "an append at 1,000,000 blocks, to one at 1,000".to_owned(),
        ours: micros(column(|round| round[2])),
        baseline: micros(column(|round| round[0])),
        ratio,
        aim: Aim::AtMost(1.2),
        note: format!(
            "{least:.2}..{most:.2}; {} at 100,000",
            micros(column(|round| round[1]))
        ),
    }];
    let (path, store) = stores.last().expect("a length");
    store.settle().expect("a sync");
    rows.push(full_verify("an entry a block", path, store));
    rows.push(large_entries(dir));
    let opens = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        let (store, _) = FileStore::open(path, LOCK_PATIENCE).expect("a store");
        assert!(store.tip().expect("a tip").is_some());
        began.elapsed().as_secs_f64()
    });
    let (open, least, most) = median(opens);
    rows.push(Row {
        what: "opening 1,000,000 blocks that were checked before".to_owned(),
        ours: format!("{:.1} ms", open * 1e3),
        baseline: format!("{OPEN_SECONDS:.0} s"),
        ratio: open / OPEN_SECONDS,
        aim: Aim::AtMost(1.0),
        note: format!("{:.1}..{:.1} ms", least * 1e3, most * 1e3),
    });
    rows
}

fn of_length(dir: &Path, length: u64) -> PathBuf {
    dir.join(format!("{length}.json"))
}

/// All of a ledger checked, and its bytes hashed.
fn full_verify(what: &str, path: &Path, store: &FileStore) -> Row {
    let size = std::fs::metadata(path).expect("a file").len() as f64 / 1e6;
    let rounds: Vec<[f64; 4]> = (0..CHECKS)
        .map(|_| {
            let ours = timed(|| assert!(store.verify().expect("a check").is_valid()));
            let raw = timed(|| hash(path));
            [ours[0], ours[1], raw[0], raw[1]]
        })
        .collect();
    let of = |number: fn(&[f64; 4]) -> f64| median(rounds.iter().map(number));
    let (ratio, least, most) = of(|[ours, _, raw, _]| raw / ours);
    let speed = |seconds: f64| format!("{:.0} MB/s", size / seconds);
    Row {
        what: format!("full verify of {size:.0} MB, {what}, to SHA-256 of the same bytes"),
        ours: speed(of(|round| round[0]).0),
        baseline: speed(of(|round| round[2]).0),
        ratio,
        aim: Aim::AtLeast(0.5),
        note: format!(
            "{least:.2}..{most:.2}; {:.2} by CPU time",
            of(|[_, ours, _, raw]| raw / ours).0
        ),
    }
}

/// Seconds that `work` takes, and seconds of CPU time.
fn timed(work: impl FnOnce()) -> [f64; 2] {
    let (began, cpu) = (Instant::now(), cpu_time(std::process::id()));
    work();
    let used = cpu_time(std::process::id()).saturating_sub(cpu);
    [began.elapsed().as_secs_f64(), used.as_secs_f64()]
}

/// As [`full_verify`], of decisions about as many files as an entry names, each beside the change it is about.
fn large_entries(dir: &Path) -> Row {
    let hash = ContentHash::of("a file");
    let files = (0..FILES_NAMED_MAX).map(|n| FileChange {
        path: format!("skillsets/a_set_of_skills/knowledge/topic_{n}/topic_{n}.md"),
        before: Some(hash),
        after: Some(hash),
    });
    let decision = Entry::ApprovalDecision(ApprovalDecision {
        approval_id: "20260120_103000_4f2a".to_owned(),
        decision: Decided::Approved,
        change: "skillset_event".to_owned(),
        subject: "a_set_of_skills".to_owned(),
        proposed_by: "the model".to_owned(),
        decided_by: "the owner".to_owned(),
        seal: hash,
        files: files.collect(),
        reason: Some("The newer version says where its facts come from.".to_owned()),
        timestamp: clock().now(),
    });
    let path = dir.join("large.json");
    generate(&path, LARGE, |index| {
        entry(index)
            .into_iter()
            .chain([decision.to_text()])
            .collect()
    });
    let (store, _) = FileStore::open(&path, LOCK_PATIENCE).expect("a store");
    full_verify("the largest entries", &path, &store)
}

fn generate(path: &Path, length: u64, entries: impl Fn(u64) -> Vec<String>) {
    let mut writer = Writer::new(File::create(path).expect("a file"), Form::Json, path);
    let clock = clock();
    let mut tip = Block::genesis().clone();
    writer.add(&tip).expect("a write");
    for index in 1..length {
        tip = Block::seal(index, clock.now(), entries(index), tip.hash());
        writer.add(&tip).expect("a write");
    }
    let (file, _) = writer.end().expect("a write");
    file.sync_all().expect("a sync");
}

fn hash(path: &Path) {
    let mut file = BufReader::with_capacity(256 * 1024, File::open(path).expect("a file"));
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut chunk).expect("a read");
        if read == 0 {
            break;
        }
        hasher.update(chunk.get(..read).expect("what was read"));
    }
    black_box(hasher.finalize());
}
