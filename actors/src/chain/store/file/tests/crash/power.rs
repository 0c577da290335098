//! Power cuts: of what was written since the last sync, any part may be there afterwards and any part not.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;

use super::*;

/// What a page of the system's cache holds.
const PAGE: usize = 4096;

#[derive(Default)]
struct Cached {
    path: PathBuf,
    /// Whether the name survives for certain.
    named: bool,
    /// The content that does.
    durable: Vec<u8>,
    /// What was done since.
    pending: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// A disk that remembers what it has not synced.
#[derive(Clone, Default)]
struct Volatile(Arc<Mutex<BTreeMap<u64, Cached>>>);

impl Volatile {
    fn change(&self, file: &fs::File, change: Change) {
        let number = file.metadata().unwrap().ino();
        self.0
            .lock()
            .unwrap()
            .entry(number)
            .or_default()
            .pending
            .push(change);
    }

    /// Leaves in each file what was synced, and those pages written since for which `survives` says so.
    fn cut(&self, mut survives: impl FnMut() -> bool) {
        for cached in self.0.lock().unwrap().values_mut() {
            if cached
                .path
                .extension()
                .is_none_or(|ending| ending == "lock")
            {
                continue;
            }
            if !cached.named && !survives() {
                fs::remove_file(&cached.path).unwrap();
                continue;
            }
            let mut bytes = std::mem::take(&mut cached.durable);
            for change in cached.pending.drain(..) {
                match change {
                    Change::Cut(length) if survives() => bytes.truncate(length),
                    Change::Cut(_) => {}
                    Change::Write(mut at, text) => {
                        let mut rest = &text[..];
                        while !rest.is_empty() {
                            let (piece, more) = rest.split_at(rest.len().min(PAGE - at % PAGE));
                            if survives() {
                                bytes.resize(bytes.len().max(at + piece.len()), 0);
                                bytes[at..at + piece.len()].copy_from_slice(piece);
                            }
                            (at, rest) = (at + piece.len(), more);
                        }
                    }
                }
            }
            fs::write(&cached.path, bytes).unwrap();
        }
    }
}

impl Disk for Volatile {
    fn open(&self, path: &Path, how: How) -> io::Result<fs::File> {
        let is_new = !path.exists();
        let file = Os.open(path, how)?;
        let mut files = self.0.lock().unwrap();
        let cached = files.entry(file.metadata()?.ino()).or_default();
        if cached.path != path {
            *cached = Cached {
                path: path.to_owned(),
                named: !is_new,
                durable: fs::read(path).unwrap(),
                pending: Vec::new(),
            };
        }
        Ok(file)
    }
    fn lock(&self, file: &fs::File, shared: bool) -> Result<(), TryLockError> {
        Os.lock(file, shared)
    }
    fn read(&self, file: &fs::File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        Os.read(file, at, bytes)
    }
    fn write(&self, file: &fs::File, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(file, Change::Write(at as usize, bytes.to_vec()));
        Os.write(file, at, bytes)
    }
    fn set_len(&self, file: &fs::File, len: u64) -> io::Result<()> {
        self.change(file, Change::Cut(len as usize));
        Os.set_len(file, len)
    }
    fn sync(&self, file: &fs::File) -> io::Result<()> {
        let number = file.metadata()?.ino();
        let mut files = self.0.lock().unwrap();
        let cached = files.entry(number).or_default();
        cached.pending.clear();
        cached.durable = fs::read(&cached.path)?;
        Ok(())
    }
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        for cached in self.0.lock().unwrap().values_mut() {
            cached.named = true;
        }
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Os.remove(path)
    }
}

/// A step of a writer.
#[derive(Debug, Clone)]
enum Step {
    /// Appends so many blocks at once, each of so many bytes.
    Append(usize, usize),
    /// The reference appends a block, which it does not sync, and then the writer appends one.
    Foreign,
    Settle,
    /// Opens the ledger anew, without anything lost.
    Reopen,
    /// Cuts the power. The bits say which pages survive.
    Cut(Vec<bool>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..4_usize, prop_oneof![1..300_usize, 3000..9000_usize]).prop_map(|(n, bytes)| Step::Append(n, bytes)),
        1 => Just(Step::Foreign),
        1 => Just(Step::Settle),
        1 => Just(Step::Reopen),
        2 => prop::collection::vec(any::<bool>(), 1..16).prop_map(Step::Cut),
    ]
}

/// Writes the whole ledger anew, with a block that holds `entry`, and syncs nothing.
fn append_as_the_reference(disk: &Volatile, place: &Place, entry: &str) {
    let text = fs::read_to_string(place.ledger()).unwrap_or_else(|_| "[]".to_owned());
    let stored: Vec<StoredBlock> = serde_json::from_str(&text).unwrap();
    let mut blocks: Vec<_> = stored.into_iter().map(|b| b.seal().unwrap()).collect();
    if blocks.is_empty() {
        blocks.push(Block::genesis().clone());
    }
    let tip = blocks.last().unwrap().to_ref();
    let block = Block::seal(
        tip.index + 1,
        clock().now(),
        vec![entry.to_owned()],
        tip.hash,
    );
    blocks.push(block);
    let file = disk.open(&place.ledger(), How::Create).unwrap();
    disk.set_len(&file, 0).unwrap();
    disk.write(&file, 0, file_text(&blocks).as_bytes()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// The store against a plain list.
    #[test]
    fn holds_what_a_plain_list_would_hold(steps in prop::collection::vec(step(), 1..24)) {
        let place = Place::new();
        let mut list = vec!["Genesis Block".to_owned()];
        let mut disk = Volatile::default();
        let open = |disk: &Volatile| FileStore::open_on(Box::new(disk.clone()), &place.ledger(), PATIENCE).unwrap().0;
        let mut store = open(&disk);
        for step in steps {
            match step {
                Step::Append(blocks, bytes) => {
                    let entry = |n: usize| format!("{} {}", list.len() + n, "x".repeat(bytes));
                    let batch: Vec<_> = (0..blocks).map(|n| vec![entry(n)]).collect();
                    let refs = store.append(batch.clone(), &clock()).unwrap();
                    prop_assert_eq!(refs.len(), blocks);
                    list.extend(batch.concat());
                    prop_assert_eq!(refs.last().unwrap().index as usize, list.len() - 1);
                }
                Step::Foreign => {
                    append_as_the_reference(&disk, &place, &format!("{} foreign", list.len()));
                    list.push(format!("{} foreign", list.len()));
                    store.append(one(list.len().to_string()), &clock()).unwrap();
                    list.push(list.len().to_string());
                }
                Step::Settle => store.settle().unwrap(),
                Step::Reopen => store = open(&disk),
                Step::Cut(bits) => {
                    let mut bits = bits.into_iter().cycle();
                    disk.cut(|| bits.next().unwrap());
                    disk = Volatile::default();
                    store = open(&disk);
                }
            }
            let expected = if list.len() == 1 { Vec::new() } else { list.clone() };
            prop_assert_eq!(entries(&store), expected);
            prop_assert!(store.verify().unwrap().is_valid());
        }
    }
}
