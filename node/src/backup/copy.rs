//! Copies of files, made apart from the originals so that these may change again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kairos_actors::passing::BACKING_UP;
use kairos_protocol::backup::Kind;
use kairos_protocol::hash::Hasher;
use tempfile::TempDir;

use super::Failure;
use crate::data_dir::DataDir;

/// How often a file is read again that changed while it was read.
const ATTEMPTS: usize = 5;

/// Copied files by their paths.
#[derive(Debug)]
pub(super) struct Copies {
    folder: TempDir,
    numbers: BTreeMap<String, usize>,
}

impl Copies {
    /// Makes the place for them: on the disk of the data directory, or where temporary files go if that is read-only.
    pub(super) fn new(dir: &DataDir) -> Result<Self, Failure> {
        // Only its owner may enter; keys will be in it.
        let folder = tempfile::Builder::new()
            .prefix(BACKING_UP)
            .tempdir_in(dir.storage())
            .or_else(|_| tempfile::Builder::new().prefix(BACKING_UP).tempdir())
            .map_err(Failure::io("make a directory in", dir.storage()))?;
        Ok(Self {
            folder,
            numbers: BTreeMap::new(),
        })
    }

    /// Where the copy of `path` is.
    pub(super) fn path(&self, path: &str) -> io::Result<PathBuf> {
        let number = self.numbers.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.folder.path().join(number.to_string()))
    }

    /// Copies the file at `source` and says what it is; nothing if it is gone. A file that nobody locks is read again
    /// if it changed meanwhile; of a log, the whole lines that it had are taken.
    pub(super) fn add(&mut self, path: &str, source: &Path) -> Result<Option<Kind>, Failure> {
        let number = self.numbers.len();
        let target = self.folder.path().join(number.to_string());
        for _ in 0..ATTEMPTS {
            let file = match File::open(source) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Failure::io("read", source)(error)),
            };
            let is_log = path.ends_with(".jsonl");
            let copied =
                copy(&file, source, &target, is_log).map_err(Failure::io("copy", source))?;
            if let Some(kind) = copied {
                self.numbers.insert(path.to_owned(), number);
                return Ok(Some(kind));
            }
        }
        Err(Failure::Restless(path.to_owned()))
    }
}

/// Copies what `file` is now; nothing if it became something else meanwhile.
fn copy(file: &File, source: &Path, target: &Path, is_log: bool) -> io::Result<Option<Kind>> {
    let before = file.metadata()?;
    let mut out = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(target)?;
    let mut hasher = Hasher::default();
    let mut size = 0;
    let mut buffer = vec![0; 64 * 1024];
    let mut reader = file.take(before.len());
    loop {
        let amount = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(amount) => amount,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..amount).unwrap_or_default();
        hasher.update(bytes);
        out.write_all(bytes)?;
        size += amount as u64;
    }
    let same = |now: &std::fs::Metadata| (now.dev(), now.ino()) == (before.dev(), before.ino());
    let there = match source.metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let stamp = |of: &std::fs::Metadata| (of.len(), of.mtime(), of.mtime_nsec());
    if size != before.len() || !same(&there) {
        return Ok(None);
    }
    if stamp(&there) == stamp(&before) {
        let sha256 = hasher.finish();
        return Ok(Some(Kind::File { size, sha256 }));
    }
    if !is_log || there.len() < size {
        return Ok(None);
    }
    whole_lines(&mut out).map(Some)
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
