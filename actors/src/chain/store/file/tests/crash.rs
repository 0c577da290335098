//! An append that is cut off at any point: what was acknowledged stays, what was not leaves the chain whole.

use std::fs::TryLockError;
use std::os::fd::AsRawFd;

use super::*;

mod power;

/// How the call fails that fails.
#[derive(Debug, Clone, Copy)]
struct Failure {
    /// Which call it is.
    at: usize,
    /// Of what is to be written, so many parts in four are.
    quarters: usize,
    error: i32,
    /// Whether all later calls fail too.
    dies: bool,
}

/// A disk on which one call fails.
struct Failing {
    calls: Arc<AtomicUsize>,
    failure: Failure,
}

impl Failing {
    fn step<T>(&self, half: impl FnOnce(), whole: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call == self.failure.at {
            half();
        } else if call < self.failure.at || !self.failure.dies {
            return whole();
        }
        Err(io::Error::from_raw_os_error(self.failure.error))
    }
}

impl Disk for Failing {
    fn open(&self, path: &Path, how: How) -> io::Result<fs::File> {
        self.step(|| (), || Os.open(path, how))
    }
    fn lock(&self, file: &fs::File, shared: bool) -> Result<(), TryLockError> {
        let locked = self.step(|| (), || Ok(Os.lock(file, shared)));
        locked.unwrap_or_else(|error| Err(TryLockError::Error(error)))
    }
    fn read(&self, file: &fs::File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.step(|| (), || Os.read(file, at, bytes))
    }
    fn write(&self, file: &fs::File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let part = bytes.len() * self.failure.quarters / 4;
        let half = || Os.write(file, at, &bytes[..part]).unwrap();
        self.step(half, || Os.write(file, at, bytes))
    }
    fn set_len(&self, file: &fs::File, len: u64) -> io::Result<()> {
        self.step(|| (), || Os.set_len(file, len))
    }
    fn sync(&self, file: &fs::File) -> io::Result<()> {
        self.step(|| (), || Quick::default().sync(file))
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|| (), || Quick::default().sync_folder(path))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| (), || Os.remove(path))
    }
}

/// Full, broken, read-only: the numbers of Linux.
const ERRORS: [i32; 3] = [28, 5, 30];

/// Appends one block to a ledger that holds `before` (or to none), failing at each call in turn and in each way, and
/// hands each outcome to `check`. Returns how many calls there are.
fn fail_everywhere(
    before: Option<&str>,
    dies: bool,
    check: impl Fn(&Place, FileStore, Result<Vec<BlockRef>, StoreError>),
) -> usize {
    let mut at = 0;
    loop {
        for (quarters, error) in (0..=4).zip(ERRORS.into_iter().cycle()) {
            let place = Place::new();
            if let Some(text) = before {
                fs::write(place.ledger(), text).unwrap();
            }
            let (mut store, _) = place.recover();
            let calls = Arc::new(AtomicUsize::new(0));
            let failure = Failure {
                at,
                quarters,
                error,
                dies,
            };
            store.disk = Box::new(Failing {
                calls: Arc::clone(&calls),
                failure,
            });
            let outcome = store.append(one("more 0"), &clock());
            if calls.load(Ordering::Relaxed) <= at {
                assert!(outcome.is_ok());
                return at;
            }
            check(&place, store, outcome);
        }
        at += 1;
    }
}

#[test]
fn a_disk_that_refuses_once_leaves_the_ledger_as_before() {
    for before in [None, Some(SAMPLE)] {
        let calls = fail_everywhere(before, false, |place, store, outcome| {
            match outcome {
                Ok(tip) => assert_eq!(store.tip().unwrap(), tip.last().copied()),
                Err(error) => {
                    assert!(matches!(error, StoreError::Io { .. }), "{error}");
                    assert_eq!(fs::read_to_string(place.ledger()).ok().as_deref(), before);
                    assert_eq!(place.recover().1, Recovery::Clean);
                    store.append(one("more 0"), &clock()).unwrap();
                }
            }
            assert!(store.verify().unwrap().is_valid());
            assert_eq!(place.recover().1, Recovery::Clean);
            assert_eq!(store.history(1).unwrap()[0].data(), ["more 0"]);
            assert_eq!(
                store.verify().unwrap().length,
                before.map_or(1, |_| 3) + 1,
                "once"
            );
        });
        assert!(calls >= 10, "{calls}");
    }
}

#[test]
fn a_disk_that_dies_never_loses_what_was_acknowledged() {
    for before in [None, Some(SAMPLE)] {
        let length = before.map_or(0, |_| 3);
        let calls = fail_everywhere(before, true, |place, store, outcome| {
            drop(store);
            let (store, recovery) = place.recover();
            let report = store.verify().unwrap();
            assert!(report.is_valid(), "{recovery:?} {report:?}");
            let grown = length.max(1) + 1;
            match outcome {
                Ok(tip) => assert_eq!(report.tip, tip.last().copied()),
                Err(StoreError::Unsettled { after, .. }) => {
                    assert_eq!(after, length.max(1) - 1);
                    assert!([length, grown].contains(&report.length));
                }
                Err(_) => assert_eq!(report.length, length),
            }
            if report.length == length {
                store.append(one("more 0"), &clock()).unwrap();
            }
            assert_eq!(store.verify().unwrap().length, grown);
            assert_eq!(place.recover().1, Recovery::Clean);
        });
        assert!(calls >= 10, "{calls}");
    }
}

#[test]
fn a_disk_that_refuses_while_a_run_ends_leaves_the_ledger_as_before() {
    let mut at = 0;
    loop {
        let place = Place::with(SAMPLE);
        let mut store = place.open();
        store.append(one("more 0"), &clock()).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        store.disk = Box::new(Failing {
            calls: Arc::clone(&calls),
            failure: Failure {
                at,
                quarters: 1,
                error: 5,
                dies: false,
            },
        });
        let settled = store.settle();
        if calls.load(Ordering::Relaxed) <= at {
            settled.unwrap();
            break;
        }
        drop(settled);
        store.append(one("more 1"), &clock()).unwrap();
        store.settle().unwrap();
        assert_eq!(place.recover().1, Recovery::Clean);
        assert_eq!(entries(&place.open())[3..], ["more 0", "more 1"]);
        at += 1;
    }
    assert!(at >= 5, "{at}");
}

/// What an append of one block to `place` would write.
fn record(place: &Place) -> Record {
    let (_, chain) = scan_file(&place.ledger());
    let file = fs::File::open(place.ledger()).ok();
    let undo = Undo::of(&Os, file.as_ref().zip(chain.as_ref())).unwrap();
    let mut patch = Patch::behind(chain.as_ref());
    patch.add(vec!["more 0".to_owned()], clock().now()).unwrap();
    patch.finish(undo.length()).0
}

/// Writes the record behind those that the journal holds, and returns the journal.
fn promise(place: &Place, record: &Record) -> Vec<u8> {
    let disk = Quick::default();
    let journal = Journal::open(&mut Kept::default(), &place.journal(), &disk).unwrap();
    let run = journal.news(Run::default()).unwrap().run;
    journal.write(run, record).unwrap();
    fs::read(place.journal()).unwrap()
}

#[test]
fn a_ledger_torn_at_any_byte_of_the_last_append_is_completed_from_the_journal() {
    let spaced = format!("{SAMPLE}{}", " ".repeat(2000));
    for before in [None, Some(SAMPLE), Some(spaced.as_str())] {
        let place = Place::new();
        if let Some(text) = before {
            fs::write(place.ledger(), text).unwrap();
        }
        let record = record(&place);
        let old = before.unwrap_or_default().as_bytes();
        let at = record.at as usize;
        let after = [&old[..at], &record.patch].concat();
        for cut in 0..record.patch.len() {
            let torn = [&old[..at], &record.patch[..cut]].concat();
            let mut over = torn.clone();
            over.extend_from_slice(old.get(torn.len()..).unwrap_or_default());
            let mut zeros = torn.clone();
            zeros.resize(after.len(), 0);
            for ledger in [torn, over, zeros] {
                fs::write(place.ledger(), &ledger).unwrap();
                promise(&place, &record);
                let (store, recovery) = place.recover();
                assert_eq!(recovery, Recovery::Replayed(record.tip));
                assert_eq!(store.tip().unwrap(), Some(record.tip));
                assert_eq!(place.bytes(), after);
            }
        }
        promise(&place, &record);
        assert_eq!(place.recover().1, Recovery::Clean, "all of it is there");
        assert_eq!(place.bytes(), after);
        let next = place.open().append(one("next"), &clock()).unwrap();
        assert_eq!(next[0].index, record.tip.index + 1);
    }
}

#[test]
fn a_ledger_that_lacks_any_number_of_appends_gets_them_all_from_the_journal() {
    const APPENDS: usize = 5;
    for before in [None, Some(SAMPLE)] {
        for there in 0..APPENDS {
            let place = Place::new();
            if let Some(text) = before {
                fs::write(place.ledger(), text).unwrap();
            }
            let mut states = vec![before.map(|text| text.as_bytes().to_vec())];
            let store = place.open();
            for n in 0..APPENDS {
                store.append(one(n.to_string()), &clock()).unwrap();
                states.push(Some(place.bytes()));
            }
            drop(store);
            match &states[there] {
                Some(bytes) => fs::write(place.ledger(), bytes).unwrap(),
                None => fs::remove_file(place.ledger()).unwrap(),
            }
            let (store, recovery) = place.recover();
            assert!(
                matches!(recovery, Recovery::Replayed(_)),
                "{there} {recovery:?}"
            );
            assert_eq!(Some(place.bytes()), states[APPENDS]);
            store.append(one("next"), &clock()).unwrap();
            assert_eq!(place.recover().1, Recovery::Clean);
        }
    }
}

#[test]
fn a_journal_torn_at_any_byte_is_discarded() {
    for before in [None, Some(SAMPLE)] {
        let place = Place::new();
        if let Some(text) = before {
            fs::write(place.ledger(), text).unwrap();
        }
        let whole = promise(&place, &record(&place));
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
        for cut in 0..used {
            for zeros in [0, 9000] {
                let mut torn = whole[..cut].to_vec();
                torn.resize(cut + zeros, 0);
                fs::write(place.journal(), &torn).unwrap();
                let (store, recovery) = place.recover();
                match recovery {
                    Recovery::Clean => assert_eq!(cut, 0),
                    Recovery::Discarded { bytes } => assert!(bytes > 0),
                    other => panic!("{other:?}"),
                }
                assert_eq!(fs::read_to_string(place.ledger()).ok().as_deref(), before);
                assert!(store.verify().unwrap().is_valid());
                assert_eq!(place.recover().1, Recovery::Clean, "told once");
            }
        }
        let tip = place.open().append(one("next"), &clock()).unwrap()[0];
        assert_eq!(place.open().tip().unwrap(), Some(tip));
    }
}

#[test]
fn a_store_that_is_open_finishes_what_another_process_left() {
    let place = Place::with(SAMPLE);
    let store = place.open();
    let first = record(&place);
    promise(&place, &first);
    fs::write(place.ledger(), &SAMPLE[..SAMPLE.len() - 1]).unwrap();
    assert_eq!(store.verify().unwrap().tip, Some(first.tip));

    let second = record(&place);
    promise(&place, &second);
    let tip = store.append(one("next"), &clock()).unwrap()[0];
    assert_eq!(tip.index, second.tip.index + 1);
    assert_eq!(entries(&store)[3..], ["more 0", "more 0", "next"]);
}

#[test]
fn a_record_that_no_longer_follows_is_kept_beside_the_ledger() {
    let place = Place::with(SAMPLE);
    let record = record(&place);
    let fork = {
        let mut blocks = sample_and(0);
        let tip = blocks[2].to_ref();
        blocks.push(Block::seal(3, clock().now(), vec!["fork".into()], tip.hash));
        file_text(&blocks)
    };
    let shorter = file_text(&sample_and(0)[..2]);
    for ledger in [Some(fork), Some(shorter), None] {
        match &ledger {
            Some(text) => fs::write(place.ledger(), text).unwrap(),
            None => fs::remove_file(place.ledger()).unwrap(),
        }
        let promised = promise(&place, &record);
        let name = format!("blockchain.json.journal.{:.12}", record.tip.hash.to_hex());
        let (store, recovery) = place.recover();
        assert_eq!(recovery, Recovery::SetAside(name.clone()));
        assert_eq!(fs::read(place.0.path().join(name)).unwrap(), promised);
        assert_eq!(fs::read_to_string(place.ledger()).ok(), ledger);
        assert_eq!(place.recover().1, Recovery::Clean);
        assert!(store.append(one("next"), &clock()).is_ok());
        store.settle().unwrap();
    }
}

#[test]
fn a_ledger_that_the_journal_cannot_mend_is_never_touched() {
    let place = Place::with(SAMPLE);
    let record = record(&place);
    let promised = promise(&place, &record);
    let longer = format!("{SAMPLE}{}", "x".repeat(record.patch.len()));
    for ledger in [
        "",
        "[",
        &SAMPLE[..700],
        &SAMPLE.replace("plain", "PLAIN"),
        &longer,
    ] {
        fs::write(place.ledger(), ledger).unwrap();
        let (store, recovery) = place.recover();
        assert_eq!(recovery, Recovery::Blocked, "{ledger}");
        assert!(matches!(
            store.append(one("x"), &clock()),
            Err(StoreError::Refused(_))
        ));
        assert_eq!(place.bytes(), ledger.as_bytes());
        assert_eq!(fs::read(place.journal()).unwrap(), promised);
    }
}

#[test]
fn bits_that_flip_anywhere_in_the_ledger_are_noticed() {
    let place = Place::with(SAMPLE);
    let good = place.open().verify().unwrap();
    let bytes = place.bytes();
    for at in 0..bytes.len() {
        // Another bit in each byte.
        let bit = at % 8;
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        fs::write(place.ledger(), &flipped).unwrap();
        let report = place.open().verify().unwrap();
        // Harmless is white space for white space, and the large letters in an escape; a stored hash that has
        // lost its name is missed.
        let harmless = report == good || report.warning_count > 0;
        assert!(harmless || !report.is_valid(), "bit {bit} of byte {at}");
    }
}

/// Writes down what is done, and to which of the files.
struct Recording(Arc<Mutex<Vec<String>>>);

impl Recording {
    fn note(&self, what: &str, file: &fs::File) {
        let target = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let name = target.extension().unwrap_or_default().to_string_lossy();
        self.0.lock().unwrap().push(format!("{what} {name}"));
    }
}

impl Disk for Recording {
    fn open(&self, path: &Path, how: How) -> io::Result<fs::File> {
        Os.open(path, how)
    }
    fn lock(&self, file: &fs::File, shared: bool) -> Result<(), TryLockError> {
        Os.lock(file, shared)
    }
    fn read(&self, file: &fs::File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        Os.read(file, at, bytes)
    }
    fn write(&self, file: &fs::File, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.note("write", file);
        Os.write(file, at, bytes)
    }
    fn set_len(&self, file: &fs::File, len: u64) -> io::Result<()> {
        self.note("cut", file);
        Os.set_len(file, len)
    }
    fn sync(&self, file: &fs::File) -> io::Result<()> {
        self.note("sync", file);
        Os.sync(file)
    }
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.0.lock().unwrap().push("sync folder".to_owned());
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Os.remove(path)
    }
}

#[test]
fn the_journal_is_durable_before_the_ledger_changes_and_the_ledger_before_it_begins_anew() {
    let place = Place::with(SAMPLE);
    let done = Arc::new(Mutex::new(Vec::new()));
    let disk = Box::new(Recording(Arc::clone(&done)));
    let (store, _) = FileStore::open_on(disk, &place.ledger(), PATIENCE).unwrap();
    store.append(one("makes the journal"), &clock()).unwrap();
    let taken = || std::mem::take(&mut *done.lock().unwrap());
    assert_eq!(
        taken(),
        [
            "sync json",
            "sync folder",
            "sync folder",
            "write journal",
            "write journal",
            "sync journal",
            "write json"
        ]
    );
    let batch = vec![vec!["a".to_owned()], vec!["b".to_owned()]];
    store.append(batch, &clock()).unwrap();
    assert_eq!(taken(), ["write journal", "sync journal", "write json"]);
    store.settle().unwrap();
    assert_eq!(taken(), ["sync json", "sync folder", "write journal"]);
    store.settle().unwrap();
    assert_eq!(taken(), [""; 0]);

    store.append(one("c"), &clock()).unwrap();
    drop(store);
    taken();
    let disk = Box::new(Recording(Arc::clone(&done)));
    HeldFile::take_on(disk, &place.ledger(), PATIENCE).unwrap();
    assert_eq!(
        taken(),
        ["sync json", "sync folder", "write journal", "sync journal"],
        "no power cut brings back what is said of a ledger that is replaced"
    );

    let store = FileStore::open_on(
        Box::new(Recording(Arc::clone(&done))),
        &place.ledger(),
        PATIENCE,
    )
    .unwrap()
    .0;
    let long = "x".repeat(journal::RUN_BYTES_MAX as usize / 2);
    store.append(one(&long), &clock()).unwrap();
    taken();
    store.append(one(&long), &clock()).unwrap();
    assert_eq!(
        taken()[..3],
        ["sync json", "sync folder", "write journal"],
        "a run that is full ends"
    );
}

#[test]
fn an_append_opens_no_file_that_is_open_already() {
    let place = Place::with(SAMPLE);
    let mut store = place.open();
    store.append(one("first"), &clock()).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    store.disk = Box::new(Failing {
        calls: Arc::clone(&calls),
        failure: Failure {
            at: usize::MAX,
            quarters: 0,
            error: 5,
            dies: false,
        },
    });
    store.append(one("second"), &clock()).unwrap();
    // Lock; two looks into the journal, one at the end of the ledger; write and sync the one, write the other.
    assert_eq!(calls.load(Ordering::Relaxed), 7);
}
