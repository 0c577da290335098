use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kairos_protocol::block::{StoredBlock, file_text};
use kairos_protocol::ledger::LoadState;
use tempfile::TempDir;

use super::*;
use crate::chain::store::conformance::{self, Store, clock, entries, one};

mod crash;

/// A ledger that the reference wrote: genesis and two blocks.
const SAMPLE: &str =
    include_str!("../../../../../protocol/tests/fixtures/vectors/blockchain-3.json");
/// Nobody waits this long unless the test is about waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// A disk that only claims to be durable, which no test can tell, and counts the bytes that are written.
#[derive(Default)]
struct Quick(Arc<AtomicUsize>);

impl Disk for Quick {
    fn open(&self, path: &Path, how: How) -> io::Result<fs::File> {
        Os.open(path, how)
    }
    fn lock(&self, file: &fs::File, shared: bool) -> Result<(), fs::TryLockError> {
        Os.lock(file, shared)
    }
    fn read(&self, file: &fs::File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        Os.read(file, at, bytes)
    }
    fn write(&self, file: &fs::File, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Os.write(file, at, bytes)
    }
    fn set_len(&self, file: &fs::File, len: u64) -> io::Result<()> {
        Os.set_len(file, len)
    }
    fn sync(&self, _: &fs::File) -> io::Result<()> {
        Ok(())
    }
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Os.remove(path)
    }
}

/// A folder with a place for a ledger.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(ledger: impl AsRef<[u8]>) -> Self {
        let place = Self::new();
        fs::write(place.ledger(), ledger).unwrap();
        place
    }

    fn ledger(&self) -> PathBuf {
        self.0.path().join("blockchain.json")
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("blockchain.json.journal")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.ledger()).unwrap()
    }

    fn open(&self) -> FileStore {
        self.recover().0
    }

    fn recover(&self) -> (FileStore, Recovery) {
        FileStore::open_on(Box::new(Quick::default()), &self.ledger(), PATIENCE).unwrap()
    }

    fn boxed(&self) -> Store {
        Box::new(self.open())
    }
}

/// The reference's ledger with `more` blocks behind it.
fn sample_and(more: usize) -> Vec<Block> {
    let stored: Vec<StoredBlock> = serde_json::from_str(SAMPLE).unwrap();
    let mut blocks: Vec<_> = stored.into_iter().map(|b| b.seal().unwrap()).collect();
    for n in 0..more {
        let tip = blocks.last().unwrap().to_ref();
        let entry = vec![format!("more {n}")];
        blocks.push(Block::seal(tip.index + 1, clock().now(), entry, tip.hash));
    }
    blocks
}

#[test]
fn conforms() {
    let place = Place::new();
    conformance::check_lifecycle(|| place.boxed());
    let places = std::cell::RefCell::new(Vec::new());
    conformance::check_refusals(|blocks| {
        let json: Vec<_> = blocks
            .iter()
            .map(|b| {
                let mut block = serde_json::json!({
                    "index": b.index, "timestamp": b.timestamp, "data": b.data,
                    "previous_hash": b.previous_hash, "merkle_root": b.merkle_root,
                });
                if let Some(hash) = b.hash {
                    block["hash"] = hash.to_hex().into();
                }
                block
            })
            .collect();
        let place = Place::with(serde_json::to_vec(&json).unwrap());
        let store = place.boxed();
        places.borrow_mut().push(place);
        store
    });
    let place = Place::new();
    conformance::check_concurrency(|| place.boxed());
}

#[test]
fn writes_what_the_reference_would_write() {
    let place = Place::with(SAMPLE);
    let store = place.open();
    store.append(one("more 0"), &clock()).unwrap();
    let batch = vec![vec!["more 1".to_owned()], vec!["more 2".to_owned()]];
    store.append(batch, &clock()).unwrap();
    assert_eq!(
        String::from_utf8(place.bytes()).unwrap(),
        file_text(&sample_and(3))
    );

    let place = Place::new();
    let tip = place.open().append(one("first"), &clock()).unwrap()[0];
    let history = place.open().history(1).unwrap();
    assert_eq!(history[0].to_ref(), tip);
    assert_eq!(
        String::from_utf8(place.bytes()).unwrap(),
        file_text(&[Block::genesis().clone(), history[0].clone()])
    );
}

#[test]
fn continues_ledgers_however_they_are_spaced() {
    let compact = serde_json::to_string(&sample_and(0)).unwrap();
    let spaced = format!("\n {SAMPLE}{}", " \r\n\t".repeat(1000)).replace("\n]", "\n\n\n ]");
    for (text, kept) in [
        (SAMPLE.to_owned(), SAMPLE.len() - 2),
        (format!("{SAMPLE}\n"), SAMPLE.len() - 2),
        (compact.clone(), compact.len() - 1),
        (format!("{compact}\n"), compact.len() - 1),
        (spaced.clone(), spaced.rfind('}').unwrap() + 1),
    ] {
        let place = Place::with(&text);
        let (store, other) = (place.open(), place.open());
        let tip = store.append(one("more 0"), &clock()).unwrap()[0];
        assert_eq!(tip.index, 3);
        let after = String::from_utf8(place.bytes()).unwrap();
        let expected = format!("{},\n  {}\n]", &text[..kept], sample_and(1)[3].file_form());
        assert_eq!(after, expected);
        assert_eq!(other.tip().unwrap(), Some(tip));
        assert!(place.open().verify().unwrap().is_valid());
    }
}

#[test]
fn a_ledger_that_does_not_load_is_never_touched() {
    use LoadState::{Corrupt, Empty, Unreadable};
    let sample = String::from(SAMPLE);
    for (text, state) in [
        (String::new(), Unreadable),
        ("\n".into(), Unreadable),
        ("{}".into(), Unreadable),
        ("[1]".into(), Unreadable),
        ("[{".into(), Unreadable),
        ("[{\"index\":}]".into(), Unreadable),
        (sample[..sample.len() - 1].into(), Unreadable),
        (format!("{sample}]"), Unreadable),
        ("[]".into(), Empty),
        (" [ ]\n".into(), Empty),
        ("[{}]".into(), Corrupt),
        (sample.replace("plain", "PLAIN"), Corrupt),
        (sample.replace("\"index\": 1", "\"index\": 2"), Corrupt),
        (sample.replace("10:31:05.0", "10:31:06.0"), Corrupt),
    ] {
        let place = Place::with(&text);
        let (store, recovery) = place.recover();
        assert_eq!(recovery, Recovery::Clean);
        for _ in 0..2 {
            let error = store.append(one("x"), &clock()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("cannot append: ledger is {state}"),
                "{text}"
            );
        }
        let report = store.verify().unwrap();
        assert_eq!(report.state, state);
        assert_eq!(report.problem.is_some(), state != Empty);
        assert!(matches!(store.tip(), Err(StoreError::NotReadable(s)) if s == state));
        assert_eq!(place.bytes(), text.as_bytes());
        // Once a person has put it right, it goes on.
        fs::write(place.ledger(), SAMPLE).unwrap();
        store.append(one("more 0"), &clock()).unwrap();
        assert_eq!(place.bytes(), file_text(&sample_and(1)).as_bytes());
    }
}

#[test]
fn a_folder_in_the_place_of_the_ledger_is_unreadable() {
    let place = Place::new();
    fs::create_dir(place.ledger()).unwrap();
    let store = place.open();
    assert_eq!(store.verify().unwrap().state, LoadState::Unreadable);
    assert!(matches!(
        store.append(one("x"), &clock()),
        Err(StoreError::Refused(LoadState::Unreadable))
    ));
}

#[test]
fn notices_whatever_others_do_to_the_file() {
    let place = Place::with(SAMPLE);
    let store = place.open();
    let compact = |more| serde_json::to_vec(&sample_and(more)).unwrap();
    let pretty = |more| file_text(&sample_and(more)).into_bytes();
    let forged = |more| {
        let text = file_text(&sample_and(more));
        text.replace("plain", "PLAIN").into_bytes()
    };
    let changes = [
        (pretty(2), Some(5)),
        (compact(4), Some(7)),
        (pretty(5), Some(8)),
        (pretty(1), Some(4)),
        (forged(1), None),
        (pretty(0), Some(3)),
        (b"[]".to_vec(), None),
        (pretty(70), Some(73)),
        (forged(70)[..4000].to_vec(), None),
        (pretty(3), Some(6)),
    ];
    for (secs, (bytes, length)) in (1..).zip(changes) {
        fs::write(place.ledger(), bytes).unwrap();
        // Two writes within one tick of the file system's clock are told apart by their length alone.
        let file = fs::File::options()
            .append(true)
            .open(place.ledger())
            .unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(secs))
            .unwrap();
        let tip = store.tip().ok().flatten();
        assert_eq!(tip.map(|tip| tip.index + 1), length);
        let history = store.history(HISTORY_MAX).ok();
        assert_eq!(history.map(|blocks| blocks.len() as u64), length);
    }
    fs::remove_file(place.ledger()).unwrap();
    assert_eq!(store.tip().unwrap(), None);
    let gone = store.append(one("x"), &clock());
    assert!(matches!(gone, Err(StoreError::Gone)));
    assert_eq!(place.open().append(one("x"), &clock()).unwrap()[0].index, 1);
}

#[test]
fn a_bad_block_behind_a_good_chain_is_found_by_those_who_have_it_open() {
    let place = Place::with(SAMPLE);
    let store = place.open();
    let mut stored = serde_json::to_value(sample_and(1)).unwrap();
    stored[3]["data"][0] = "forged".into();
    let text = serde_json::to_string_pretty(&stored).unwrap();
    fs::write(place.ledger(), &text).unwrap();
    assert!(matches!(
        store.append(one("x"), &clock()),
        Err(StoreError::Refused(LoadState::Corrupt))
    ));
    assert_eq!(place.bytes(), text.as_bytes());
}

#[test]
fn waits_for_other_writers_only_so_long() {
    let place = Place::with(SAMPLE);
    let store = FileStore::open(&place.ledger(), Duration::from_millis(30)).unwrap();
    let lock = fs::File::create(place.0.path().join("blockchain.json.lock")).unwrap();
    lock.lock().unwrap();
    let error = store.0.append(one("x"), &clock()).unwrap_err();
    assert!(matches!(error, StoreError::Locked));
    assert!(
        store.0.verify().unwrap().is_valid(),
        "a good ledger is checked without the lock"
    );
    lock.unlock().unwrap();
    assert!(store.0.append(one("x"), &clock()).is_ok());
}

#[test]
fn one_ledger_reached_by_two_names_is_one_chain() {
    let place = Place::new();
    let link = place.0.path().join("link.json");
    std::os::unix::fs::symlink("storage/chain.json", &link).unwrap();
    let (by_link, _) = FileStore::open(&link, PATIENCE).unwrap();
    let (by_name, _) =
        FileStore::open(&place.0.path().join("storage/chain.json"), PATIENCE).unwrap();
    by_name.append(one("a"), &clock()).unwrap();
    by_link.append(one("b"), &clock()).unwrap();
    by_name.append(one("c"), &clock()).unwrap();
    assert_eq!(entries(&by_link), ["Genesis Block", "a", "b", "c"]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn an_append_costs_what_it_adds_however_long_the_chain_is() {
    let cost = |more: usize| {
        let place = Place::with(file_text(&sample_and(more)));
        let written = Arc::new(AtomicUsize::new(0));
        let disk = Box::new(Quick(Arc::clone(&written)));
        let (store, _) = FileStore::open_on(disk, &place.ledger(), PATIENCE).unwrap();
        store.append(one("makes the journal"), &clock()).unwrap();
        written.store(0, Ordering::Relaxed);
        store.append(one("x"), &clock()).unwrap();
        written.load(Ordering::Relaxed)
    };
    let (short, long) = (cost(0), cost(3000));
    assert!(long < short + 32, "{short} bytes, then {long}");
}

#[test]
fn blocks_too_long_to_be_read_again_are_refused() {
    let place = Place::with(SAMPLE);
    let store = place.open();
    let entry = "\u{1}".repeat(journal::PATCH_BYTES_MAX / 6);
    let error = store.append(one(entry), &clock()).unwrap_err();
    assert!(matches!(error, StoreError::TooLong(_)), "{error}");
    assert_eq!(place.bytes(), SAMPLE.as_bytes());
    assert!(store.append(one("more 0"), &clock()).is_ok());
}

/// A ledger of so many blocks that it is noted how far it was checked.
fn long() -> (Place, Vec<Block>) {
    let blocks = sample_and(mark::BLOCKS_MIN as usize);
    let place = Place::with(file_text(&blocks));
    place.open();
    (place, blocks)
}

#[test]
fn a_long_ledger_that_was_checked_is_not_read_again() {
    let (place, blocks) = long();
    let mark = place.0.path().join("blockchain.json.verified");
    let tip = blocks.last().unwrap().to_ref();
    let chain = mark::read(&mark, &place.ledger()).unwrap();
    assert_eq!(chain.ledger.tip(), tip);
    let store = place.open();
    assert_eq!(store.tip().unwrap(), Some(tip));
    let history = store.history(HISTORY_MAX).unwrap();
    assert!(history.iter().eq(blocks.iter().rev().take(HISTORY_MAX)));
    store.append(one("more"), &clock()).unwrap();
    store.settle().unwrap();
    assert_eq!(place.open().tip().unwrap().unwrap().index, tip.index + 1);
    for n in 0..mark::BLOCKS_MIN {
        store.append(one(n.to_string()), &clock()).unwrap();
    }
    store.settle().unwrap();
    let chain = mark::read(&mark, &place.ledger()).unwrap();
    assert_eq!(Some(chain.ledger.tip()), store.tip().unwrap());
}

#[test]
fn a_note_on_a_ledger_is_never_trusted_over_the_ledger() {
    use LoadState::{Corrupt, Readable};
    let forge = |text: &str| text.replacen("more 7", "more X", 1);
    let (place, blocks) = long();
    let text = file_text(&blocks);
    let cut = file_text(&blocks[..1000]);
    let reworked = text.replacen("more 1023", "more 9999", 1);
    for (ledger, opens, verifies) in [
        (forge(&text), Corrupt, Corrupt),
        (cut, Readable, Readable),
        (reworked, Corrupt, Corrupt),
        // What was checked before is believed until somebody checks again.
        (
            forge(&file_text(&sample_and(blocks.len() + 1))),
            Readable,
            Corrupt,
        ),
    ] {
        let (place, _) = long();
        fs::write(place.ledger(), ledger).unwrap();
        let store = place.open();
        let opened = match store.tip() {
            Ok(_) => Readable,
            Err(StoreError::NotReadable(state)) => state,
            Err(other) => panic!("{other}"),
        };
        assert_eq!((opened, store.verify().unwrap().state), (opens, verifies));
    }
    let path = place.0.path().join("blockchain.json.verified");
    let note = fs::read(&path).unwrap();
    for at in [0, 20, 100, 300, note.len() - 2] {
        let mut flipped = note.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert!(mark::read(&path, &place.ledger()).is_none());
        assert!(place.open().tip().unwrap().is_some());
    }
}
