//! The journal: one change to the ledger file, written down before it is made.
//!
//! A record that is whole is a promise: its blocks will be in the ledger. A record that is torn was never
//! acknowledged. An empty journal says that the ledger file speaks for itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use kairos_protocol::block::BlockRef;
use kairos_protocol::hash::ContentHash;
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::scan::BLOCK_BYTES_MAX;

/// Most bytes of one patch: what it writes must be readable again.
pub(super) const PATCH_BYTES_MAX: usize = BLOCK_BYTES_MAX;
/// Most bytes of a journal: a patch and the lines above it.
const JOURNAL_BYTES_MAX: u64 = PATCH_BYTES_MAX as u64 + 4096;
/// What a journal begins with; the number is the version of its format.
const MAGIC: &str = "kairos-journal 1 ";

/// One change: from byte `at` on, the ledger file is to be `patch` and nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) at: u64,
    /// How long the ledger file was; nothing if it did not exist.
    pub(super) before: Option<u64>,
    /// The last block that the patch brings.
    pub(super) tip: BlockRef,
    pub(super) patch: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    at: u64,
    before: Option<u64>,
    tip: BlockRef,
}

impl Record {
    /// How long the ledger file is afterwards.
    pub(super) fn after(&self) -> u64 {
        self.at.saturating_add(self.patch.len() as u64)
    }

    /// Makes the change to the ledger file, durably. Doing it twice is as good as once.
    pub(super) fn apply(&self, disk: &dyn Disk, ledger: &File) -> io::Result<()> {
        disk.write(ledger, self.at, &self.patch)?;
        disk.set_len(ledger, self.after())?;
        disk.sync(ledger)
    }

    /// A line with a hash over everything below it, a line that says where the patch goes, and the patch.
    fn encode(&self) -> io::Result<Vec<u8>> {
        let header = Header {
            at: self.at,
            before: self.before,
            tip: self.tip,
        };
        let mut body = serde_json::to_vec(&header)?;
        body.push(b'\n');
        body.extend_from_slice(&self.patch);
        let mut record = format!("{MAGIC}{}\n", ContentHash::of(&body)).into_bytes();
        record.append(&mut body);
        Ok(record)
    }

    /// Nothing if `bytes` are not exactly one whole record.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (hash, body) = split_line(bytes.strip_prefix(MAGIC.as_bytes())?)?;
        let hash: ContentHash = std::str::from_utf8(hash).ok()?.parse().ok()?;
        if ContentHash::of(body) != hash {
            return None;
        }
        let (header, patch) = split_line(body)?;
        let Header { at, before, tip } = serde_json::from_slice(header).ok()?;
        Some(Self {
            at,
            before,
            tip,
            patch: patch.to_vec(),
        })
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Empty,
    /// So many bytes that are no record.
    Torn(u64),
    Whole(Record),
}

/// The journal of one ledger, open for writing.
pub(super) struct Journal<'a> {
    file: File,
    disk: &'a dyn Disk,
}

impl<'a> Journal<'a> {
    /// Opens the journal at `path`, creating it if need be.
    pub(super) fn open(path: &Path, disk: &'a dyn Disk) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = options.create(true).truncate(false).open(path)?;
                sync_directory_of(path, disk)?;
                file
            }
            opened => opened?,
        };
        Ok(Self { file, disk })
    }

    /// Whether there is something in the journal at `path`. Costs one look at the directory.
    pub(super) fn is_pending(path: &Path) -> io::Result<bool> {
        match path.metadata() {
            Ok(metadata) => Ok(metadata.len() > 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What it holds. More than any record could be is as good as torn.
    pub(super) fn read(&self) -> io::Result<Content> {
        content(&self.file)
    }

    /// What the journal at `path` holds, which need not exist. Creates nothing.
    pub(super) fn read_at(path: &Path) -> io::Result<Content> {
        match File::open(path) {
            Ok(file) => content(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::Empty),
            Err(error) => Err(error),
        }
    }

    /// Makes the promise: returns once `record` is durable.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let bytes = record.encode()?;
        self.disk.write(&self.file, 0, &bytes)?;
        self.disk.set_len(&self.file, bytes.len() as u64)?;
        self.disk.sync(&self.file)
    }

    /// Forgets a promise that was kept. Not synced: kept promises are recognised when they come back.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.disk.set_len(&self.file, 0)
    }

    /// Takes back a promise that nobody was told of.
    pub(super) fn revoke(&self) -> io::Result<()> {
        self.disk.set_len(&self.file, 0)?;
        self.disk.sync(&self.file)
    }
}

fn content(mut file: &File) -> io::Result<Content> {
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file)?;
    file.take(JOURNAL_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(match Record::decode(&bytes) {
        _ if bytes.is_empty() => Content::Empty,
        Some(record) => Content::Whole(record),
        None => Content::Torn(file.metadata()?.len()),
    })
}

/// Makes the name of a new file durable.
pub(super) fn sync_directory_of(path: &Path, disk: &dyn Disk) -> io::Result<()> {
    match path.parent() {
        Some(parent) => disk.sync(&File::open(parent)?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            at: 12,
            before: Some(14),
            tip: BlockRef {
                index: 3,
                hash: ContentHash::of("tip"),
            },
            patch: b",\n  {}\n]".to_vec(),
        }
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let bytes = record().encode().unwrap();
        assert_eq!(Record::decode(&bytes), Some(record()));
    }

    #[test]
    fn a_record_with_any_byte_changed_lost_or_added_is_torn() {
        let bytes = record().encode().unwrap();
        for at in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..at]), None);
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(Record::decode(&changed), None);
            }
        }
        assert_eq!(Record::decode(&[&bytes[..], b"\n"].concat()), None);
    }

    #[test]
    fn a_record_over_a_longer_one_leaves_nothing_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let journal = Journal::open(&path, &super::super::disk::Os).unwrap();
        assert_eq!(journal.read().unwrap(), Content::Empty);
        let mut long = record();
        long.patch = vec![b' '; 9000];
        journal.write(&long).unwrap();
        journal.write(&record()).unwrap();
        assert_eq!(journal.read().unwrap(), Content::Whole(record()));
        assert!(Journal::is_pending(&path).unwrap());
        journal.clear().unwrap();
        assert!(!Journal::is_pending(&path).unwrap());
    }
}
