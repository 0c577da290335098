//! An append that is cut off at any point: what was acknowledged stays, what was not leaves the chain whole.

use std::os::fd::AsRawFd;

use super::*;

/// A disk whose operations up to `fails_at` work; that one is half done and fails, and so do all later ones if
/// the disk `dies`.
struct Failing {
    calls: Arc<AtomicUsize>,
    fails_at: usize,
    dies: bool,
}

impl Failing {
    fn step(&self, half: impl FnOnce(), whole: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call == self.fails_at {
            half();
        } else if call < self.fails_at || !self.dies {
            return whole();
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

impl Disk for Failing {
    fn write(&self, file: &fs::File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let half = || Os.write(file, at, &bytes[..bytes.len() / 2]).unwrap();
        self.step(half, || Os.write(file, at, bytes))
    }
    fn set_len(&self, file: &fs::File, len: u64) -> io::Result<()> {
        self.step(|| (), || Os.set_len(file, len))
    }
    fn sync(&self, file: &fs::File) -> io::Result<()> {
        self.step(|| (), || Quick::default().sync(file))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| (), || Os.remove(path))
    }
}

/// Appends one block to a ledger that holds `before` (or to none), failing at each operation in turn, and hands
/// each outcome to `check`. Returns how many operations there are.
fn fail_everywhere(
    before: Option<&str>,
    dies: bool,
    check: impl Fn(&Place, FileStore, Result<Vec<BlockRef>, StoreError>),
) -> usize {
    let mut fails_at = 0;
    loop {
        let place = Place::new();
        if let Some(text) = before {
            fs::write(place.ledger(), text).unwrap();
        }
        let calls = Arc::new(AtomicUsize::new(0));
        let disk = Failing {
            calls: Arc::clone(&calls),
            fails_at,
            dies,
        };
        let (store, _) = FileStore::open_on(Box::new(disk), &place.ledger(), PATIENCE).unwrap();
        let outcome = store.append(one("more 0"), &clock());
        if calls.load(Ordering::Relaxed) <= fails_at {
            assert!(outcome.is_ok());
            return fails_at;
        }
        check(&place, store, outcome);
        fails_at += 1;
    }
}

#[test]
fn a_disk_that_refuses_once_leaves_the_ledger_as_before() {
    for before in [None, Some(SAMPLE)] {
        let operations = fail_everywhere(before, false, |place, store, outcome| {
            match outcome {
                Ok(tip) => assert_eq!(store.tip().unwrap(), tip.last().copied()),
                Err(error) => {
                    assert!(matches!(error, StoreError::Io { .. }), "{error}");
                    assert_eq!(fs::read_to_string(place.ledger()).ok().as_deref(), before);
                    assert!(!Journal::is_pending(&place.journal()).unwrap());
                    store.append(one("more 0"), &clock()).unwrap();
                }
            }
            assert!(store.verify().unwrap().is_valid());
            assert_eq!(place.recover().1, Recovery::Clean);
            assert_eq!(store.history(1).unwrap()[0].data(), ["more 0"]);
        });
        assert!(operations >= 7, "{operations}");
    }
}

#[test]
fn a_power_cut_never_loses_what_was_acknowledged() {
    for before in [None, Some(SAMPLE)] {
        let length = before.map_or(0, |_| 3);
        let operations = fail_everywhere(before, true, |place, store, outcome| {
            drop(store);
            let (store, recovery) = place.recover();
            let report = store.verify().unwrap();
            assert!(report.is_valid(), "{recovery:?} {report:?}");
            let grown = length.max(1) + 1;
            match outcome {
                Ok(tip) => assert_eq!(report.tip, tip.last().copied()),
                Err(_) => assert!([length, grown].contains(&report.length)),
            }
            if report.length == length {
                store.append(one("more 0"), &clock()).unwrap();
            }
            assert_eq!(store.verify().unwrap().length, grown);
            assert_eq!(place.recover().1, Recovery::Clean);
        });
        assert!(operations >= 7, "{operations}");
    }
}

/// What an append of one block to `place` would write.
fn record(place: &Place) -> Record {
    let (_, chain) = scan_file(&place.ledger());
    let undo = Undo::of(&place.ledger(), chain.as_ref()).unwrap();
    let mut patch = Patch::behind(chain.as_ref());
    patch.add(vec!["more 0".to_owned()], clock().now()).unwrap();
    patch.finish(undo.length()).0
}

fn promise(place: &Place, record: &Record) -> Vec<u8> {
    let disk = Quick::default();
    let journal = Journal::open(&place.journal(), &disk).unwrap();
    journal.write(record).unwrap();
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
        assert_eq!(place.recover().1, Recovery::Completed(record.tip));
        assert_eq!(place.bytes(), after);
        let next = place.open().append(one("next"), &clock()).unwrap();
        assert_eq!(next[0].index, record.tip.index + 1);
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
        for cut in 0..whole.len() {
            fs::write(place.journal(), &whole[..cut]).unwrap();
            let (store, recovery) = place.recover();
            let expected = match cut as u64 {
                0 => Recovery::Clean,
                bytes => Recovery::Discarded { bytes },
            };
            assert_eq!(recovery, expected);
            assert_eq!(fs::read_to_string(place.ledger()).ok().as_deref(), before);
            assert!(store.verify().unwrap().is_valid());
            assert!(!Journal::is_pending(&place.journal()).unwrap());
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

/// Writes down what is done, and to which of the two files.
struct Recording(Arc<Mutex<Vec<String>>>);

impl Recording {
    fn note(&self, what: &str, file: &fs::File) {
        let target = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let name = target.extension().unwrap_or_default().to_string_lossy();
        self.0.lock().unwrap().push(format!("{what} {name}"));
    }
}

impl Disk for Recording {
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
    fn remove(&self, path: &Path) -> io::Result<()> {
        Os.remove(path)
    }
}

#[test]
fn the_journal_is_durable_before_the_ledger_changes_and_the_ledger_before_it_is_cleared() {
    let place = Place::with(SAMPLE);
    let done = Arc::new(Mutex::new(Vec::new()));
    let disk = Box::new(Recording(Arc::clone(&done)));
    let (store, _) = FileStore::open_on(disk, &place.ledger(), PATIENCE).unwrap();
    store.append(one("makes the journal"), &clock()).unwrap();
    done.lock().unwrap().clear();
    let batch = vec![vec!["a".to_owned()], vec!["b".to_owned()]];
    store.append(batch, &clock()).unwrap();
    assert_eq!(
        *done.lock().unwrap(),
        [
            "write journal",
            "cut journal",
            "sync journal",
            "write json",
            "cut json",
            "sync json",
            "cut journal",
        ]
    );
}
