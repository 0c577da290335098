//! Many processes at once, and processes that are killed at any moment.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use super::*;

/// Starts this test again in a process of its own, which finds `value` in the variable `name`.
fn again(name: &str, value: &Path, more: &str) -> Child {
    let test = std::thread::current().name().unwrap().to_owned();
    Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture", "--test-threads=1"])
        .env(name, value)
        .env("KAIROS_TEST_ROUND", more)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn all_entries(place: &Place) -> Vec<String> {
    let blocks: Vec<StoredBlock> = serde_json::from_slice(&place.bytes()).unwrap();
    blocks
        .into_iter()
        .skip(1)
        .flat_map(|block| block.data)
        .collect()
}

#[test]
fn processes_that_append_at_once_lose_nothing() {
    const FOLDER: &str = "KAIROS_TEST_APPEND_TO";
    const PROCESSES: usize = 4;
    const EACH: usize = 1000;
    if let Some(path) = std::env::var_os(FOLDER) {
        let round = std::env::var("KAIROS_TEST_ROUND").unwrap();
        let (store, _) = FileStore::open(Path::new(&path), PATIENCE).unwrap();
        for n in 0..EACH {
            store.append(one(format!("{round} {n}")), &clock()).unwrap();
        }
        return;
    }
    let place = Place::new();
    let children: Vec<_> = (0..PROCESSES)
        .map(|n| again(FOLDER, &place.ledger(), &n.to_string()))
        .collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let store = place.open();
    assert!(store.verify().unwrap().is_valid());
    let mut next = BTreeMap::new();
    for entry in all_entries(&place) {
        let (process, n) = entry.split_once(' ').unwrap();
        let expected = next.entry(process.to_owned()).or_insert(0_usize);
        assert_eq!(n.parse(), Ok(*expected), "the order of each is kept");
        *expected += 1;
    }
    assert_eq!(next.into_values().collect::<Vec<_>>(), [EACH; PROCESSES]);
}

/// How many writers are killed; `KAIROS_TEST_KILLS=500 cargo test -p kairos-actors --lib killed` kills more.
fn kills() -> usize {
    std::env::var("KAIROS_TEST_KILLS").map_or(60, |text| text.parse().unwrap())
}

#[test]
fn a_writer_killed_at_any_moment_loses_nothing_that_it_acknowledged_and_invents_nothing() {
    const FOLDER: &str = "KAIROS_TEST_KILL_IN";
    /// Rounds on one ledger.
    const ROUNDS: usize = 12;
    const BATCH: usize = 3;
    if let Some(path) = std::env::var_os(FOLDER) {
        let round = std::env::var("KAIROS_TEST_ROUND").unwrap();
        let (store, _) = FileStore::open(Path::new(&path), PATIENCE).unwrap();
        let mut out = std::io::stdout();
        for n in 0.. {
            // Some records take more than a page, and now and then a run ends.
            let filler = "x".repeat(if n % 5 == 0 { 3000 } else { 10 });
            let entry = |part| vec![format!("{round} {} {filler}", n * BATCH + part)];
            store
                .append((0..BATCH).map(entry).collect(), &clock())
                .unwrap();
            writeln!(out, "acknowledged {}", (n + 1) * BATCH).unwrap();
            if n % 7 == 6 {
                store.settle().unwrap();
            }
        }
        return;
    }
    let mut place = Place::new();
    let mut there: BTreeMap<usize, usize> = BTreeMap::new();
    let (mut recovered, mut written) = (0, 0);
    for round in 0..kills() {
        if round % ROUNDS == 0 {
            place = Place::new();
            there.clear();
        }
        let mut child = again(FOLDER, &place.ledger(), &round.to_string());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, told) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut last = 0;
            for line in lines.map_while(Result::ok) {
                if let Some(n) = line.split("acknowledged ").nth(1) {
                    last = n.parse().unwrap();
                    let _waits_no_more = tell.send(());
                }
            }
            last
        });
        // It lives until it has begun, and then for up to eight milliseconds in steps that never repeat.
        let begun = told.recv_timeout(PATIENCE);
        begun.unwrap();
        std::thread::park_timeout(Duration::from_micros(round as u64 * 7_919 % 8_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged: usize = reader.join().unwrap();
        written += acknowledged;

        let (store, recovery) = place.recover();
        recovered += usize::from(recovery != Recovery::Clean);
        assert!(
            !matches!(recovery, Recovery::SetAside(_) | Recovery::Blocked),
            "{recovery:?}"
        );
        assert!(store.verify().unwrap().is_valid());
        let mut found: BTreeMap<usize, usize> = BTreeMap::new();
        for entry in all_entries(&place) {
            let mut words = entry.split(' ').map(|word| word.parse::<usize>());
            let (round, n) = (
                words.next().unwrap().unwrap(),
                words.next().unwrap().unwrap(),
            );
            let expected = found.entry(round).or_default();
            assert_eq!(n, *expected, "in order, none missing, none twice");
            *expected += 1;
        }
        let ours = found.remove(&round).unwrap_or(0);
        assert!(
            ours >= acknowledged,
            "round {round}: {acknowledged} acknowledged, {ours} there"
        );
        assert!(
            ours <= acknowledged + BATCH,
            "round {round}: more than was asked for"
        );
        assert_eq!(ours % BATCH, 0, "a batch is whole or absent");
        assert_eq!(found, there, "nothing of earlier rounds is lost");
        there.insert(round, ours);
    }
    // `--nocapture` shows it.
    #[expect(clippy::print_stderr, reason = "figures for whoever runs many rounds")]
    {
        eprintln!(
            "{} kills, {written} blocks acknowledged, {recovered} recoveries",
            kills()
        );
    }
}
