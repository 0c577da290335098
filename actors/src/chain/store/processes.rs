//! Many processes at once, processes that are killed at any moment, and disks that take only so much: the same for
//! every store on disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::conformance::{Store, clock, one};
use super::file::{FileStore, Recovery};
use super::sqlite::{SqliteOptions, SqliteStore};
use super::{HISTORY_MAX, StoreError};

/// Nobody waits this long unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where a process that a test started finds the ledger, and which round it is.
const LEDGER: &str = "KAIROS_TEST_LEDGER";
const ROUND: &str = "KAIROS_TEST_ROUND";
/// Blocks that are appended at once.
const BATCH: usize = 3;

/// A store on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    File,
    Sqlite,
}

impl Form {
    /// Opens the ledger, and says whether a crash had left something to do.
    fn open(self, path: &Path) -> (Store, bool) {
        match self {
            Self::File => {
                let (store, recovery) = FileStore::open(path, PATIENCE).unwrap();
                let usual = !matches!(recovery, Recovery::SetAside(_) | Recovery::Blocked);
                assert!(usual, "{recovery:?}");
                (Box::new(store), recovery != Recovery::Clean)
            }
            Self::Sqlite => {
                let log = path.with_extension("db-wal");
                let left = log.metadata().is_ok_and(|log| log.len() > 0);
                let options = SqliteOptions {
                    wal: true,
                    patience: PATIENCE,
                };
                (Box::new(SqliteStore::open(path, options)), left)
            }
        }
    }

    fn place(self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(match self {
            Self::File => "blockchain.json",
            Self::Sqlite => "kairos.db",
        });
        (folder, path)
    }
}

/// Starts this test again in a process of its own, by way of `wrapper`.
fn again(wrapper: &[&OsStr], ledger: &Path, round: usize) -> Child {
    let test = thread::current().name().unwrap().to_owned();
    let program = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().copied().chain([program.as_os_str()]);
    Command::new(words.next().unwrap())
        .args(words)
        .args([&test, "--exact", "--nocapture", "--test-threads=1"])
        .env(LEDGER, ledger)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What [`again`] was told, in the process that it started.
fn told() -> Option<(PathBuf, usize)> {
    let ledger = std::env::var_os(LEDGER)?;
    let round = std::env::var(ROUND).unwrap().parse().unwrap();
    Some((ledger.into(), round))
}

/// The entries of all blocks behind genesis, oldest first.
fn all_entries(store: &Store) -> Vec<String> {
    let mut entries = Vec::new();
    let mut next = 1;
    loop {
        let blocks = store.blocks(next, HISTORY_MAX).unwrap();
        if blocks.is_empty() {
            return entries;
        }
        next += blocks.len() as u64;
        entries.extend(blocks.iter().flat_map(|block| block.data().to_vec()));
    }
}

/// Appends batches, now and then with entries of `longest` bytes, until it is killed, or the disk refuses; says how many blocks were acknowledged.
fn append_on(store: &Store, round: usize, longest: usize) {
    let mut out = std::io::stdout();
    for n in 0.. {
        // Some records take more than a page, and now and then a run ends.
        let filler = "x".repeat(if n % 5 == 0 { longest } else { 10 });
        let entry = |part| vec![format!("{round} {} {filler}", n * BATCH + part)];
        match store.append((0..BATCH).map(entry).collect(), &clock()) {
            Ok(_) => writeln!(out, "acknowledged {}", (n + 1) * BATCH).unwrap(),
            Err(StoreError::Unsettled { .. }) => return,
            Err(error) => {
                assert!(matches!(error, StoreError::Io { .. }), "{error}");
                writeln!(out, "refused").unwrap();
                return;
            }
        }
        if n % 7 == 6 {
            // What it puts off is done by whoever opens the ledger next.
            let _may_not_work = store.settle();
        }
    }
}

/// What a process said until it ended.
#[derive(Debug, Default)]
struct Said {
    /// How many blocks it acknowledged.
    acknowledged: usize,
    /// Whether it said for certain that the next ones are not there.
    refused: bool,
}

impl Said {
    /// Reads on another thread; `begun` hears of every append.
    fn by(child: &mut Child, begun: mpsc::Sender<()>) -> thread::JoinHandle<Self> {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            let mut said = Self::default();
            for line in lines.map_while(Result::ok) {
                if let Some(n) = line.split("acknowledged ").nth(1) {
                    said.acknowledged = n.parse().unwrap();
                    let _waits_no_more = begun.send(());
                }
                said.refused |= line.ends_with("refused");
            }
            said
        })
    }

    /// Fails if of `ours` blocks one that was acknowledged is missing, or one was invented.
    fn agrees_with(&self, ours: usize) {
        let more = if self.refused { 0 } else { BATCH };
        let range = self.acknowledged..=self.acknowledged + more;
        let is_right = range.contains(&ours) && ours.is_multiple_of(BATCH);
        assert!(is_right, "{self:?}, {ours} there");
    }
}

/// How many blocks of each round there are, if all are in order, none missing and none twice.
fn rounds(store: &Store) -> BTreeMap<usize, usize> {
    assert!(store.verify().unwrap().is_valid());
    let mut found: BTreeMap<usize, usize> = BTreeMap::new();
    for entry in all_entries(store) {
        let mut words = entry.split(' ').map(|word| word.parse::<usize>());
        let (round, n) = (
            words.next().unwrap().unwrap(),
            words.next().unwrap().unwrap(),
        );
        let expected = found.entry(round).or_default();
        assert_eq!(n, *expected, "in order, none missing, none twice");
        *expected += 1;
    }
    found
}

fn at_once(form: Form) {
    const PROCESSES: usize = 4;
    const EACH: usize = 1000;
    if let Some((path, round)) = told() {
        let (store, _) = form.open(&path);
        for n in 0..EACH {
            store.append(one(format!("{round} {n}")), &clock()).unwrap();
        }
        return;
    }
    let (_folder, path) = form.place();
    let children: Vec<_> = (0..PROCESSES).map(|n| again(&[], &path, n)).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let found = rounds(&form.open(&path).0);
    assert_eq!(found.into_values().collect::<Vec<_>>(), [EACH; PROCESSES]);
}

#[test]
fn processes_that_append_to_a_file_at_once_lose_nothing() {
    at_once(Form::File);
}

#[test]
fn processes_that_append_to_a_database_at_once_lose_nothing() {
    at_once(Form::Sqlite);
}

/// How many writers are killed; `KAIROS_TEST_KILLS=500 cargo test -p kairos-actors --lib killed` kills more.
fn kills() -> usize {
    std::env::var("KAIROS_TEST_KILLS").map_or(60, |text| text.parse().unwrap())
}

fn killed(form: Form) {
    /// Rounds on one ledger.
    const ROUNDS: usize = 12;
    if let Some((path, round)) = told() {
        append_on(&form.open(&path).0, round, 3000);
        return;
    }
    let (mut folder, mut path) = form.place();
    let mut there: BTreeMap<usize, usize> = BTreeMap::new();
    let (mut recovered, mut written) = (0, 0);
    for round in 0..kills() {
        if round % ROUNDS == 0 {
            (folder, path) = form.place();
            there.clear();
        }
        let mut child = again(&[], &path, round);
        let (begun, has_begun) = mpsc::channel();
        let said = Said::by(&mut child, begun);
        // It lives until it has begun, and then for up to eight milliseconds in steps that never repeat.
        has_begun.recv_timeout(PATIENCE).unwrap();
        thread::park_timeout(Duration::from_micros(round as u64 * 7_919 % 8_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = said.join().unwrap();
        written += said.acknowledged;

        let (store, left) = form.open(&path);
        recovered += usize::from(left);
        let mut found = rounds(&store);
        let ours = found.remove(&round).unwrap_or(0);
        said.agrees_with(ours);
        assert_eq!(found, there, "nothing of earlier rounds is lost");
        there.insert(round, ours);
    }
    drop(folder);
    // `--nocapture` shows it.
    #[expect(clippy::print_stderr, reason = "figures for whoever runs many rounds")]
    {
        let kills = kills();
        eprintln!("{form:?}: {kills} kills, {written} blocks acknowledged, {recovered} recoveries");
    }
}

#[test]
fn a_writer_to_a_file_killed_at_any_moment_loses_nothing_and_invents_nothing() {
    killed(Form::File);
}

#[test]
fn a_writer_to_a_database_killed_at_any_moment_loses_nothing_and_invents_nothing() {
    killed(Form::Sqlite);
}

/// Files may grow to so many units of 512 bytes and no further, so that in turn every write fails, or ends early.
fn refused(form: Form) {
    if let Some((path, round)) = told() {
        append_on(&form.open(&path).0, round, 20_000);
        return;
    }
    // A journal is made of this many units, and a few more, before the first append.
    let journal = 2048;
    let units: Vec<_> = match form {
        Form::File => [1, journal / 2]
            .into_iter()
            .chain((0..8).map(|step| journal + 16 + step * 7))
            .collect(),
        Form::Sqlite => (0..40).map(|step| step * step + 1).collect(),
    };
    let mut written = 0;
    for (step, units) in units.into_iter().enumerate() {
        let (_folder, path) = form.place();
        let script = format!("trap '' XFSZ; ulimit -f {units}; exec \"$@\"");
        let wrapper = ["sh", "-c", &script, "sh"].map(OsStr::new);
        let mut child = again(&wrapper, &path, step);
        let (begun, _has_begun) = mpsc::channel();
        let said = Said::by(&mut child, begun);
        assert!(child.wait().unwrap().success(), "step {step}");
        let said = said.join().unwrap();
        written += said.acknowledged;
        let (store, _) = form.open(&path);
        let mut found = rounds(&store);
        let ours = found.remove(&step).unwrap_or(0);
        said.agrees_with(ours);
        // With room on the disk it goes on.
        store
            .append(one(format!("{step} {ours}")), &clock())
            .unwrap();
        assert_eq!(rounds(&store), BTreeMap::from([(step, ours + 1)]));
    }
    assert!(written > 0, "some of them got to append");
}

#[test]
fn a_disk_that_takes_no_more_at_any_write_loses_nothing_of_a_file() {
    refused(Form::File);
}

#[test]
fn a_disk_that_takes_no_more_at_any_write_loses_nothing_of_a_database() {
    refused(Form::Sqlite);
}
