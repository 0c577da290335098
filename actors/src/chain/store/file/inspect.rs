//! Looks at a ledger that is in use, without changing anything, and the part of it that no longer changes.

use std::fs::{self, File};
use std::io::{self, BufReader, Chain as Joined, Read, Take};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::text::BUFFER;
use kairos_protocol::ledger::{LoadState, VerifyReport};
use kairos_protocol::time::Timestamp;

use super::disk::{Disk as _, How, Os};
use super::journal::{Journal, Run, is_applied, joined};
use super::kept::Kept;
use super::known::{Known, scan, scan_file};
use super::lock::Paths;
use super::{FileStore, StoreError};
use crate::file_lock;

/// What stands between the last block and the end of the file, as the reference writes it.
const CLOSING: &[u8] = b"\n]";
/// How long an append under way may hold up a look.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// What a ledger file and its journal look like from outside.
#[derive(Debug)]
pub struct Inspection {
    /// The outcome of reading all of it.
    pub report: VerifyReport,
    /// Bytes of the file.
    pub bytes: u64,
    /// When the last block was written.
    pub newest: Option<Timestamp>,
    /// The block at the position asked for, if there is one.
    pub at: Option<BlockRef>,
    /// What the journal holds.
    pub journal: Leftover,
}

/// What an interrupted append left in the journal. The next use of the ledger deals with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// Nothing.
    Nothing,
    /// So many bytes of blocks that nobody was told of.
    Torn(u64),
    /// Acknowledged blocks, up to this one.
    Acknowledged(BlockRef),
}

/// Looks at the ledger at `path`, which need not exist, and at its block at position `at`. Creates nothing and repairs
/// nothing.
///
/// # Errors
///
/// The file system cannot tell what is there. A bad ledger is a report, not an error.
pub fn inspect(path: &Path, at: Option<u64>) -> io::Result<Inspection> {
    let paths = Paths::resolve(path)?;
    let first = look(&paths, at)?;
    if first.report.is_valid() && first.journal == Leftover::Nothing {
        return Ok(first);
    }
    // What looks wrong may be an append under way. Where there is a lock file, no append is while it is locked.
    let Some(lock) = paths.existing_lock_file()? else {
        return Ok(first);
    };
    match file_lock::wait(LOOK_PATIENCE, || lock.try_lock_shared()) {
        Ok(()) => look(&paths, at),
        Err(_) => Ok(first),
    }
}

fn look(paths: &Paths, at: Option<u64>) -> io::Result<Inspection> {
    let (report, chain) = scan_file(&paths.ledger);
    let read = |index| match &chain {
        Some(chain) => Ok(chain.read(&paths.ledger, index, 1)?.pop()),
        None => io::Result::Ok(None),
    };
    let tip = chain.as_ref().map(|chain| chain.ledger.tip().index);
    let newest = tip.map(read).transpose()?.flatten();
    let at = at.map(read).transpose()?.flatten();
    let bytes = match fs::metadata(&paths.ledger) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let journal = leftover(paths)?;
    Ok(Inspection {
        report,
        bytes,
        newest: newest.as_ref().map(Block::instant),
        at: at.as_ref().map(Block::to_ref),
        journal,
    })
}

/// What the journal holds that the ledger lacks.
fn leftover(paths: &Paths) -> io::Result<Leftover> {
    let Some(journal) = Journal::look(&mut Kept::default(), &paths.journal, &Os)? else {
        return Ok(Leftover::Nothing);
    };
    let news = journal.news(Run::default())?;
    for change in joined(news.records) {
        let applied = match Os.open(&paths.ledger, How::Read) {
            Ok(ledger) => is_applied(&Os, &ledger, &change)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !applied {
            return Ok(Leftover::Acknowledged(change.tip));
        }
    }
    Ok(match news.torn {
        0 => Leftover::Nothing,
        bytes => Leftover::Torn(bytes),
    })
}

/// Checks a ledger that is given as text, from its first to its last byte.
pub fn verify(text: impl Read) -> VerifyReport {
    scan(BufReader::with_capacity(BUFFER, text)).0
}

/// The ledger from genesis up to a block. Appends never change these bytes, so they can be read without a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    path: PathBuf,
    end: u64,
    /// The last block of it.
    pub tip: BlockRef,
}

impl FileStore {
    /// The ledger as it is now; nothing if there is none. Reads only what was added since the last look.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotReadable`] on a ledger that does not load, and those of [`FileStore::open`].
    pub fn prefix(&self) -> Result<Option<Prefix>, StoreError> {
        self.reading(|known, paths, _| match known {
            Known::Absent => Ok(None),
            Known::Chain(chain) => Ok(Some(Prefix {
                path: paths.ledger.clone(),
                end: chain.end(),
                tip: chain.ledger.tip(),
            })),
            other => Err(StoreError::NotReadable(other.state())),
        })
    }
}

impl Prefix {
    /// Bytes of the text.
    pub fn size(&self) -> u64 {
        self.end.saturating_add(CLOSING.len() as u64)
    }

    /// Whether `report` is about exactly these blocks.
    pub fn is_confirmed_by(&self, report: &VerifyReport) -> bool {
        report.state == LoadState::Readable && report.tip == Some(self.tip)
    }

    /// Its text: a whole ledger file.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(&self) -> io::Result<Joined<Take<File>, &'static [u8]>> {
        Ok(File::open(&self.path)?.take(self.end).chain(CLOSING))
    }
}

#[cfg(test)]
mod tests {
    use kairos_protocol::time::ManualClock;

    use super::super::super::BlockStore as _;
    use super::super::LOCK_PATIENCE;
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn append(path: &Path, text: &str) -> BlockRef {
        let (store, _) = FileStore::open(path, LOCK_PATIENCE).unwrap();
        let clock = ManualClock::new(Timestamp::from_secs(1_771_588_800));
        store.append(vec![vec![text.to_owned()]], &clock).unwrap()[0]
    }

    #[test]
    fn a_look_creates_nothing_and_repairs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.json");
        let nothing = inspect(&path, None).unwrap();
        assert_eq!(nothing.report.state, LoadState::Absent);
        assert_eq!((nothing.bytes, nothing.newest), (0, None));
        assert_eq!(names(folder.path()), [""; 0]);

        let tip = append(&path, "one");
        let journal = folder.path().join("chain.json.journal");
        fs::write(&journal, "kairos").unwrap();
        let found = inspect(&path, Some(1)).unwrap();
        assert_eq!((found.report.length, found.journal), (2, Leftover::Torn(6)));
        assert_eq!(found.newest, Some(Timestamp::from_secs(1_771_588_800)));
        assert_eq!(found.at, Some(tip));
        assert_eq!(inspect(&path, Some(2)).unwrap().at, None);
        assert_eq!(fs::read(&journal).unwrap(), b"kairos");
    }

    fn prefix(path: &Path) -> Result<Option<Prefix>, StoreError> {
        FileStore::open(path, LOCK_PATIENCE).unwrap().0.prefix()
    }

    #[test]
    fn a_prefix_stays_what_it_was_while_others_append() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.json");
        assert_eq!(prefix(&path).unwrap(), None);
        let tip = append(&path, "one");
        let kept = prefix(&path).unwrap().unwrap();
        let before = fs::read(&path).unwrap();
        append(&path, "two");
        let mut text = Vec::new();
        kept.open().unwrap().read_to_end(&mut text).unwrap();
        assert_eq!(text, before);
        assert_eq!(kept.size(), text.len() as u64);
        assert_eq!(kept.tip, tip);
        let report = verify(kept.open().unwrap());
        assert!(kept.is_confirmed_by(&report));
        let now = prefix(&path).unwrap().unwrap();
        assert!(!now.is_confirmed_by(&report));
    }

    #[test]
    fn a_ledger_that_does_not_load_has_no_prefix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.json");
        fs::write(&path, "[{}]").unwrap();
        assert!(matches!(
            prefix(&path),
            Err(StoreError::NotReadable(LoadState::Corrupt))
        ));
    }
}
