//! Files that are replaced whole or not at all. All calls block the thread.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::iter;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::passing::FRESH;

/// How errors of full disks end: `ENOSPC` and `EDQUOT` as the standard library writes them, and `SQLITE_FULL`.
const TEXTS_OF_FULL: [&str; 3] = [
    "(os error 28)",
    "(os error 122)",
    "database or disk is full",
];

/// Puts `bytes` in place of the file at `path`, which need not be there, and returns once that is durable. Readers see
/// the old file or the new one; the new one has mode 0600. The folder must be there.
///
/// # Errors
///
/// What the system says. The old file is in place then, unless only the last step failed, to make the exchange durable.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// As [`replace`], with what `write` writes.
///
/// # Errors
///
/// Those of [`replace`] and of `write`.
pub fn replace_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut NamedTempFile>) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // Temporary files are made with mode 0600.
    let mut fresh = tempfile::Builder::new().prefix(FRESH).tempfile_in(folder)?;
    let mut buffered = BufWriter::new(&mut fresh);
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    fresh.as_file().sync_all()?;
    fresh.persist(path).map_err(|failed| failed.error)?;
    File::open(folder)?.sync_all()
}

/// Whether `error`, or what it came from, is that the disk is full.
///
/// What passes an error on without a word of its own hides it from the chain of sources, so the text that the system and
/// SQLite give it counts as well.
pub fn is_out_of_space(error: &(dyn Error + 'static)) -> bool {
    let is_full = |kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let mut next = Some(error);
    iter::from_fn(|| {
        let error = next?;
        next = error.source();
        Some(error)
    })
    .any(|error| {
        let io = error.downcast_ref::<io::Error>();
        io.is_some_and(|io| is_full(io.kind())) || {
            let text = error.to_string();
            TEXTS_OF_FULL.iter().any(|full| text.contains(full))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_full_disk_is_recognised_however_it_is_wrapped() {
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        struct Silent(io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write")]
        struct Wordy(#[source] io::Error);
        let of = io::Error::from_raw_os_error;
        let sqlite = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(13), None);
        for (error, full) in [
            (Box::new(of(28)) as Box<dyn Error>, true),
            (Box::new(of(122)), true),
            (Box::new(Silent(of(28))), true),
            (Box::new(Wordy(of(28))), true),
            (Box::new(io::Error::other(Wordy(of(28)))), true),
            (Box::new(sqlite), true),
            (Box::new(of(13)), false),
            (Box::new(Wordy(of(5))), false),
        ] {
            assert_eq!(is_out_of_space(&*error), full, "{error:?}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"old").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let failed = replace_with(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("on purpose"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "on purpose");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "nothing else is left");
        assert!(replace(&folder.path().join("no/file"), b"x").is_err());
    }
}
