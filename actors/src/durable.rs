//! Files that are replaced whole or not at all. All calls block the thread.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::passing::FRESH;

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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

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
