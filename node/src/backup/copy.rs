//! Copies of files, made apart from the originals so that these may change again.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kairos_actors::file_lock;
use kairos_actors::passing::{BACKING_UP, LOCK};
use kairos_protocol::backup::Kind;
use kairos_protocol::hash::Hasher;
use tempfile::TempDir;

use super::{Failure, room};
use crate::data_dir::DataDir;
use crate::data_dir::survey::Entry;

/// How often a file is read again that changed while it was read.
const ATTEMPTS: usize = 5;
/// Seconds after a write within which another one may leave the same time; some file systems count no finer.
const TICK: i64 = 2;

/// Copied files by their paths.
#[derive(Debug)]
pub(super) struct Copies {
    files: BTreeMap<String, Copied>,
    folder: TempDir,
    /// How many were begun, each under its own number.
    begun: usize,
    /// Tells others who clean up that somebody is at work here.
    _lock: File,
}

#[derive(Debug)]
struct Copied {
    number: usize,
    kind: Kind,
    stamp: Stamp,
    /// Whether the file was at rest for so long that any later write shows in its stamp.
    rested: bool,
}

/// What changes when a file is written to or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(of: &Metadata) -> Self {
        Self {
            file: (of.dev(), of.ino()),
            size: of.len(),
            written: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }
}

impl Copies {
    /// Makes the place for them, for so many `bytes`: on the disk of the data directory, or where temporary files go if
    /// that is read-only.
    pub(super) fn new(dir: &DataDir, bytes: u64) -> Result<Self, Failure> {
        // Only its owner may enter; keys will be in it.
        let folder = tempfile::Builder::new()
            .prefix(BACKING_UP)
            .tempdir_in(dir.storage())
            .or_else(|_| tempfile::Builder::new().prefix(BACKING_UP).tempdir())
            .map_err(Failure::io("make a directory in", dir.storage()))?;
        room(folder.path(), bytes)?;
        let lock = folder.path().join(LOCK);
        let lock = file_lock::hold(&lock).map_err(Failure::io("lock", lock))?;
        Ok(Self {
            folder,
            files: BTreeMap::new(),
            begun: 0,
            _lock: lock,
        })
    }

    /// Where the copy of `path` is.
    pub(super) fn path(&self, path: &str) -> io::Result<PathBuf> {
        let copied = self.files.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.folder.path().join(copied.number.to_string()))
    }

    /// What the copy of `path` is; nothing if there is none.
    pub(super) fn kind(&self, path: &str) -> Option<Kind> {
        self.files.get(path).map(|copied| copied.kind)
    }

    /// Copies `file` unless its copy is still what it is. Nothing is kept of a file that is gone. A file that nobody
    /// locks is read again if it changed meanwhile; of a log, the whole lines that it had are taken.
    pub(super) fn add(&mut self, file: &Entry) -> Result<(), Failure> {
        let known = self.files.get(&file.shown);
        if known.is_some_and(|copied| copied.rested && copied.stamp == Stamp::from(&file.metadata))
        {
            return Ok(());
        }
        self.files.remove(&file.shown);
        let number = self.begun;
        self.begun += 1;
        for _ in 0..ATTEMPTS {
            match self.copy(file, number) {
                Ok(None) => {}
                Ok(Some(copied)) => {
                    self.files.insert(file.shown.clone(), copied);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(Failure::io("copy", &file.path)(error)),
            }
        }
        Err(Failure::Restless(file.shown.clone()))
    }

    /// Has `write` make the copy of `path` in the file it is given, and says what it is.
    pub(super) fn make(
        &mut self,
        path: &str,
        write: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<Kind, Failure> {
        let number = self.begun;
        self.begun += 1;
        let target = self.folder.path().join(number.to_string());
        write(&target)?;
        let mut hashed = Hashed::default();
        let read = File::open(&target).and_then(|mut made| {
            io::copy(&mut made, &mut hashed.through(&mut io::sink()))?;
            made.metadata()
        });
        let made = read.map_err(Failure::io("read", &target))?;
        let (kind, stamp) = (hashed.kind(), Stamp::from(&made));
        let copied = Copied {
            number,
            kind,
            stamp,
            rested: true,
        };
        self.files.insert(path.to_owned(), copied);
        Ok(kind)
    }

    /// Copies what `entry` is now; nothing if it became something else meanwhile.
    fn copy(&self, entry: &Entry, number: usize) -> io::Result<Option<Copied>> {
        let file = File::open(&entry.path)?;
        let before = file.metadata()?;
        let mut out = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(self.folder.path().join(number.to_string()))?;
        // The clock of the system, as files see it.
        let now = out.metadata()?.mtime();
        let mut hashed = Hashed::default();
        io::copy(&mut file.take(before.len()), &mut hashed.through(&mut out))?;
        let there = entry.path.metadata()?;
        let (stamp, after) = (Stamp::from(&before), Stamp::from(&there));
        if hashed.size != before.len() || after.file != stamp.file {
            return Ok(None);
        }
        let kind = match (after.size, after.written) == (stamp.size, stamp.written) {
            true => hashed.kind(),
            false if entry.shown.ends_with(".jsonl") && after.size >= stamp.size => {
                whole_lines(&mut out)?
            }
            false => return Ok(None),
        };
        Ok(Some(Copied {
            number,
            kind,
            stamp,
            rested: stamp.written.0.saturating_add(TICK) < now,
        }))
    }
}

/// Counts and hashes what passes.
#[derive(Default)]
struct Hashed {
    hasher: Hasher,
    size: u64,
}

impl Hashed {
    /// Passes everything on to `out`.
    fn through<'a, W: io::Write>(&'a mut self, out: &'a mut W) -> Passing<'a, W> {
        Passing { hashed: self, out }
    }

    fn kind(self) -> Kind {
        Kind::File {
            size: self.size,
            sha256: self.hasher.finish(),
        }
    }
}

struct Passing<'a, W> {
    hashed: &'a mut Hashed,
    out: &'a mut W,
}

impl<W: io::Write> io::Write for Passing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hashed.hasher.update(bytes);
        self.hashed.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Cuts off a last line that is not whole, and says what is left.
fn whole_lines(file: &mut File) -> io::Result<Kind> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    bytes.truncate(whole);
    file.set_len(whole as u64)?;
    let sha256 = kairos_protocol::hash::ContentHash::of(&bytes);
    Ok(Kind::File {
        size: whole as u64,
        sha256,
    })
}
