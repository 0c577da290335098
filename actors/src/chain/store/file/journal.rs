//! The journal: changes to the ledger file, each written down and synced before it is made.
//!
//! A record that is whole is a promise: its blocks will be in the ledger. A record that is torn was never
//! acknowledged. Records of one *run* follow each other, each naming the hash of the one before, so that what an
//! earlier run has left behind is never taken for one of them. A run ends when the ledger file itself was synced;
//! the next one begins at the start of the file again, whose space is therefore allocated only once, and a sync of
//! it costs no more than the data.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use kairos_protocol::block::BlockRef;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::ledger::text::BLOCK_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::disk::{Disk, How};
use super::kept::{Kept, length};

/// Most bytes of one patch: what it writes must be readable again.
pub(super) const PATCH_BYTES_MAX: usize = BLOCK_BYTES_MAX;
/// How long a run gets before the ledger is synced and the next one begins, unless a single record is longer.
pub(super) const RUN_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Records begin at multiples of this many bytes, so that writing one never touches the page of another.
const PAGE: u64 = 4096;
/// The file grows by so many bytes at a time.
const GROWTH: u64 = 1024 * 1024;
/// What every journal begins with, whatever the version of its format.
const MAGIC: &str = "kairos-journal ";
/// The version of its format.
const VERSION: &str = "2 ";
/// Most bytes of the two lines above a patch.
const LINES_MAX: usize = 1024;

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
    follows: Option<ContentHash>,
    at: u64,
    before: Option<u64>,
    tip: BlockRef,
    bytes: u64,
}

impl Record {
    /// How long the ledger file is afterwards.
    pub(super) fn after(&self) -> u64 {
        self.at.saturating_add(self.patch.len() as u64)
    }

    /// Makes the change to the ledger file; the caller syncs it. Doing it twice is as good as once.
    pub(super) fn apply(&self, disk: &dyn Disk, ledger: &File, length: u64) -> io::Result<()> {
        disk.write(ledger, self.at, &self.patch)?;
        if length > self.after() {
            disk.set_len(ledger, self.after())?;
        }
        Ok(())
    }

    /// A line with a hash over everything below it, a line that says where the patch goes, and the patch.
    fn encode(&self, follows: Option<ContentHash>) -> io::Result<(Vec<u8>, ContentHash)> {
        let header = Header {
            follows,
            at: self.at,
            before: self.before,
            tip: self.tip,
            bytes: self.patch.len() as u64,
        };
        let mut body = serde_json::to_vec(&header)?;
        body.push(b'\n');
        body.extend_from_slice(&self.patch);
        let hash = ContentHash::of(&body);
        let mut record = format!("{MAGIC}{VERSION}{hash}\n").into_bytes();
        record.append(&mut body);
        // Up to the next page, so that nothing of what was there before is left between two records.
        record.resize(padded(record.len() as u64) as usize, 0);
        Ok((record, hash))
    }
}

fn padded(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE).saturating_mul(PAGE)
}

/// What stands at a place of the journal.
#[derive(Debug, PartialEq, Eq)]
enum Slot {
    /// Nothing that belongs to this run.
    Free,
    /// The beginning of a record that was never finished, and how much of it there may be.
    Torn(u64),
    Whole {
        record: Record,
        hash: ContentHash,
        end: u64,
    },
    /// Another version of this program wrote it.
    Foreign,
}

/// A run, as far as it is known to be in the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Run {
    first: Option<ContentHash>,
    last: Option<ContentHash>,
    /// Where the next record goes.
    end: u64,
}

impl Run {
    /// Whether there is anything in it.
    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Whether a record for `patch` bytes makes it too long.
    pub(super) fn is_full_for(&self, patch: usize) -> bool {
        self.end > 0 && self.end + padded((patch + LINES_MAX) as u64) > RUN_BYTES_MAX
    }
}

/// What a run holds beyond what was known of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Records that follow, in order.
    pub(super) records: Vec<Record>,
    /// How much there may be of one that was never finished.
    pub(super) torn: u64,
    /// The run with these records.
    pub(super) run: Run,
}

/// The journal of one ledger.
pub(super) struct Journal<'a> {
    file: Arc<File>,
    disk: &'a dyn Disk,
}

impl<'a> Journal<'a> {
    /// Opens the journal at `path` for writing, creating it if need be.
    pub(super) fn open(kept: &mut Kept, path: &Path, disk: &'a dyn Disk) -> io::Result<Self> {
        let file = match kept.open(disk, path, How::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = kept.open(disk, path, How::Create)?;
                sync_directory_of(path, disk)?;
                file
            }
            opened => opened?,
        };
        Ok(Self { file, disk })
    }

    /// Opens the journal at `path` for reading; nothing if there is none.
    pub(super) fn look(
        kept: &mut Kept,
        path: &Path,
        disk: &'a dyn Disk,
    ) -> io::Result<Option<Self>> {
        match kept.open(disk, path, How::Read) {
            Ok(file) => Ok(Some(Self { file, disk })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What there is beyond `known`. Costs two short reads where that is nothing.
    pub(super) fn news(&self, known: Run) -> io::Result<News> {
        let same = known.end > 0 && self.hash_at(0)? == known.first;
        let mut news = News {
            run: if same { known } else { Run::default() },
            ..News::default()
        };
        let mut patches = 0_u64;
        loop {
            match self.slot(news.run.end, news.run.last)? {
                Slot::Free => return Ok(news),
                Slot::Torn(bytes) => {
                    news.torn = bytes;
                    return Ok(news);
                }
                Slot::Foreign => {
                    return Err(io::Error::other(
                        "another version of this program wrote the journal",
                    ));
                }
                Slot::Whole { record, hash, end } => {
                    patches = patches.saturating_add(record.patch.len() as u64);
                    news.run.first.get_or_insert(hash);
                    news.run.last = Some(hash);
                    news.run.end = end;
                    news.records.push(record);
                    // No run is longer, so this is no run.
                    if patches > RUN_BYTES_MAX + PATCH_BYTES_MAX as u64 {
                        return Err(io::Error::other("the journal is longer than it can be"));
                    }
                }
            }
        }
    }

    /// The hash in the first line of the record at `at`.
    fn hash_at(&self, at: u64) -> io::Result<Option<ContentHash>> {
        let mut line = [0; MAGIC.len() + VERSION.len() + 64];
        let read = self.disk.read(&self.file, at, &mut line)?;
        let hash = line.get(..read).and_then(|line| {
            line.strip_prefix(MAGIC.as_bytes())?
                .strip_prefix(VERSION.as_bytes())
        });
        Ok(hash.and_then(|hash| std::str::from_utf8(hash).ok()?.parse().ok()))
    }

    fn slot(&self, at: u64, follows: Option<ContentHash>) -> io::Result<Slot> {
        let mut lines = [0; LINES_MAX];
        let read = self.disk.read(&self.file, at, &mut lines)?;
        let lines = lines.get(..read).unwrap_or_default();
        let Some(rest) = lines.strip_prefix(MAGIC.as_bytes()) else {
            // A write that ended within the first word.
            let begun = lines.split(|byte| *byte == 0).next().unwrap_or_default();
            let torn = !begun.is_empty() && MAGIC.as_bytes().starts_with(begun);
            return Ok(if torn {
                Slot::Torn(begun.len() as u64)
            } else {
                Slot::Free
            });
        };
        if !rest.starts_with(VERSION.as_bytes()) {
            let version = rest.get(..VERSION.len()).unwrap_or(rest);
            let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
            let version_is_cut = VERSION.as_bytes().starts_with(version);
            return Ok(if version_is_cut {
                Slot::Torn(MAGIC.len() as u64)
            } else {
                Slot::Foreign
            });
        }
        let torn = Slot::Torn(length(&self.file)?.saturating_sub(at));
        let parsed = rest.get(VERSION.len()..).and_then(|rest| {
            let (hash, rest) = split_line(rest)?;
            let (header, _) = split_line(rest)?;
            let hash: ContentHash = std::str::from_utf8(hash).ok()?.parse().ok()?;
            Some((
                hash,
                header.len(),
                serde_json::from_slice::<Header>(header).ok()?,
            ))
        });
        let Some((hash, header_bytes, header)) = parsed else {
            return Ok(torn);
        };
        if header.follows != follows {
            return Ok(Slot::Free);
        }
        let Some(bytes) = usize::try_from(header.bytes)
            .ok()
            .filter(|bytes| *bytes <= PATCH_BYTES_MAX)
        else {
            return Ok(torn);
        };
        let body_at = (MAGIC.len() + VERSION.len() + 64 + 1) as u64;
        let mut body = vec![0; header_bytes + 1 + bytes];
        let read = self.disk.read(&self.file, at + body_at, &mut body)?;
        if read < body.len() || ContentHash::of(&body) != hash {
            return Ok(torn);
        }
        let end = at + padded(body_at + body.len() as u64);
        Ok(Slot::Whole {
            record: Record {
                at: header.at,
                before: header.before,
                tip: header.tip,
                patch: body.split_off(header_bytes + 1),
            },
            hash,
            end,
        })
    }

    /// Makes a promise: returns the run with `record` behind it once that is durable.
    pub(super) fn write(&self, run: Run, record: &Record) -> io::Result<Run> {
        let (bytes, hash) = record.encode(run.last)?;
        let end = run.end + bytes.len() as u64;
        let length = length(&self.file)?;
        if end > length {
            let space = end.div_ceil(GROWTH) * GROWTH - length;
            self.disk
                .write(&self.file, length, &vec![0; space as usize])?;
        }
        self.disk.write(&self.file, run.end, &bytes)?;
        self.disk.sync(&self.file)?;
        Ok(Run {
            first: run.first.or(Some(hash)),
            last: Some(hash),
            end,
        })
    }

    /// Takes back what stands behind `run`, of which nobody was told.
    pub(super) fn revoke(&self, run: Run) -> io::Result<()> {
        self.disk.write(&self.file, run.end, &[0; PAGE as usize])?;
        self.disk.sync(&self.file)
    }

    /// Ends a run whose blocks are all durable in the ledger. Not synced: kept promises are recognised when they come
    /// back. Gives back the space of a record that was longer than a run.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.disk.write(&self.file, 0, &[0; PAGE as usize])?;
        if length(&self.file)? > RUN_BYTES_MAX {
            self.disk.set_len(&self.file, RUN_BYTES_MAX)?;
        }
        Ok(())
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// Joins records of which each takes over where the one before ends into one change, and keeps apart those that do
/// not, since somebody else has written in between.
pub(super) fn joined(records: Vec<Record>) -> Vec<Record> {
    let mut changes: Vec<Record> = Vec::new();
    for record in records {
        if let Some(last) = changes.last_mut()
            && record.at > last.at
            && record.at <= last.after()
            && let Ok(kept) = usize::try_from(record.at - last.at)
        {
            last.patch.truncate(kept);
            last.patch.extend_from_slice(&record.patch);
            last.tip = record.tip;
        } else {
            changes.push(record);
        }
    }
    changes
}

/// Whether `ledger` holds what `record` writes. The closing bracket may have been replaced by a later append.
pub(super) fn is_applied(disk: &dyn Disk, ledger: &File, record: &Record) -> io::Result<bool> {
    const CLOSING: &[u8] = b"\n]";
    let mut found = vec![0; record.patch.len()];
    let read = disk.read(ledger, record.at, &mut found)?;
    let at = record.patch.len().saturating_sub(CLOSING.len());
    let found = found.get(..read).unwrap_or_default();
    let (Some((content, closing)), Some(expected)) =
        (found.split_at_checked(at), record.patch.get(..at))
    else {
        return Ok(false);
    };
    Ok(content == expected && (closing == CLOSING || closing.starts_with(b",")))
}

/// Makes the name of a new file durable.
pub(super) fn sync_directory_of(path: &Path, disk: &dyn Disk) -> io::Result<()> {
    match path.parent() {
        Some(parent) => disk.sync_folder(parent),
        None => Ok(()),
    }
}

/// Reads from `at` on until `bytes` is full or the file ends.
pub(super) fn read_at(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..)
        && !rest.is_empty()
    {
        match file.read_at(rest, at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::super::disk::Os;
    use super::*;

    fn record(n: u64) -> Record {
        Record {
            at: 12 * n,
            before: Some(14),
            tip: BlockRef {
                index: n,
                hash: ContentHash::of("tip"),
            },
            patch: b",\n  {}\n]".to_vec(),
        }
    }

    fn run_of(path: &Path, records: &[Record]) -> Run {
        let journal = Journal::open(&mut Kept::default(), path, &Os).unwrap();
        let known = journal.news(Run::default()).unwrap().run;
        records
            .iter()
            .fold(known, |run, record| journal.write(run, record).unwrap())
    }

    fn news(path: &Path, known: Run) -> News {
        Journal::look(&mut Kept::default(), path, &Os)
            .unwrap()
            .unwrap()
            .news(known)
            .unwrap()
    }

    #[test]
    fn records_read_back_as_written_all_or_those_that_are_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        assert!(
            Journal::look(&mut Kept::default(), &path, &Os)
                .unwrap()
                .is_none()
        );
        let mut long = record(1);
        long.patch = vec![b'x'; 9000];
        let known = run_of(&path, &[record(0), long.clone()]);
        assert_eq!(news(&path, Run::default()).records, [record(0), long]);
        assert_eq!(
            news(&path, known),
            News {
                run: known,
                ..News::default()
            }
        );
        let run = run_of(&path, &[record(2)]);
        let found = news(&path, known);
        assert_eq!((found.records, found.run), (vec![record(2)], run));
    }

    #[test]
    fn what_an_earlier_run_left_is_never_taken_for_a_part_of_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let known = run_of(&path, &[record(0), record(1), record(2)]);
        let journal = Journal::open(&mut Kept::default(), &path, &Os).unwrap();
        journal.clear().unwrap();
        assert_eq!(news(&path, known), News::default());
        // The very same record again, at the very same place.
        let run = run_of(&path, &[record(7)]);
        let found = news(&path, known);
        assert_eq!(
            (found.records, found.run, found.torn),
            (vec![record(7)], run, 0)
        );
    }

    #[test]
    fn a_record_with_any_byte_changed_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        run_of(&path, &[record(0)]);
        let bytes = std::fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        for at in 0..=used {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                std::fs::write(&path, &changed).unwrap();
                let journal = Journal::look(&mut Kept::default(), &path, &Os)
                    .unwrap()
                    .unwrap();
                if let Ok(news) = journal.news(Run::default()) {
                    assert_eq!(news.records, [], "bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_journal_of_another_version_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        std::fs::write(&path, "kairos-journal 3 x").unwrap();
        let journal = Journal::open(&mut Kept::default(), &path, &Os).unwrap();
        assert!(journal.news(Run::default()).is_err());
    }

    #[test]
    fn the_space_of_a_long_record_is_given_back_and_a_run_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let mut long = record(0);
        long.patch = vec![b' '; RUN_BYTES_MAX as usize];
        let run = run_of(&path, &[long]);
        assert!(run.is_full_for(0) && !Run::default().is_full_for(PATCH_BYTES_MAX));
        Journal::open(&mut Kept::default(), &path, &Os)
            .unwrap()
            .clear()
            .unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), RUN_BYTES_MAX);
    }

    #[test]
    fn records_join_where_each_takes_over_from_the_one_before() {
        let patched = |at, text: &str| Record {
            at,
            patch: text.as_bytes().to_vec(),
            ..record(at)
        };
        let joined = joined(vec![
            patched(5, "abc\n]"),
            patched(8, ",d\n]"),
            patched(40, "x\n]"),
        ]);
        let texts: Vec<_> = joined
            .iter()
            .map(|r| (r.at, r.tip.index, r.patch.as_slice()))
            .collect();
        assert_eq!(texts, [(5, 8, &b"abc,d\n]"[..]), (40, 40, b"x\n]")]);
    }
}
