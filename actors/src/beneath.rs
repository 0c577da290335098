//! Files below a directory, reached without following a single link.
//!
//! Each step of a path is opened from the directory before it, so that nobody can swap a directory for a link
//! between a check and the use.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

/// Opens the regular file at `path` below `root`, for reading. `root` itself may be reached through links.
///
/// Fails with [`ErrorKind::InvalidInput`] for a path that is not made of plain names, with
/// [`ErrorKind::NotFound`] for what is not there or is neither a directory on the way nor a file at the end, and
/// with what [`is_link`] tells for a link.
pub(crate) fn file(root: &Path, path: &str) -> io::Result<File> {
    let mut names = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => names.push(name),
            _ => return Err(ErrorKind::InvalidInput.into()),
        }
    }
    let Some((last, folders)) = names.split_last() else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = open(root, folder, Mode::empty())?;
    for name in folders {
        at = step(&at, name, folder)?;
    }
    let file = File::from(step(
        &at,
        last,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
    )?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(ErrorKind::NotFound.into()),
    }
}

fn step(at: &OwnedFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|error| {
        let is_link = rustix::fs::readlinkat(at, name, Vec::new()).is_ok();
        match io::Error::from(error) {
            _ if is_link => Errno::LOOP.into(),
            error if error.kind() == ErrorKind::NotADirectory => ErrorKind::NotFound.into(),
            error => error,
        }
    })
}

/// Whether the error says that a link is in the way.
pub(crate) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Reads such a file: everything, or one byte more than `max`.
pub(crate) fn read(root: &Path, path: &str, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file(root, path)?
        .take(max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use fs_err as fs;

    use super::*;

    #[test]
    fn reads_below_the_root_and_follows_no_link() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c"), "text").unwrap();
        fs::write(temp.path().join("secret"), "secret").unwrap();
        symlink(temp.path(), root.join("out")).unwrap();
        symlink("c", root.join("a/b/inside")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        assert_eq!(read(&root, "a/b/c", 100).unwrap(), b"text");
        assert_eq!(read(&root, "a/b/c", 2).unwrap(), b"tex");
        for (path, kind) in [
            ("../secret", ErrorKind::InvalidInput),
            ("a/../../secret", ErrorKind::InvalidInput),
            ("/etc/passwd", ErrorKind::InvalidInput),
            ("", ErrorKind::InvalidInput),
            ("a/b", ErrorKind::NotFound),
            ("a/b/c/d", ErrorKind::NotFound),
            ("absent", ErrorKind::NotFound),
        ] {
            assert_eq!(read(&root, path, 100).unwrap_err().kind(), kind, "{path}");
        }
        for path in ["out/secret", "a/b/inside", "dangling"] {
            assert!(is_link(&read(&root, path, 100).unwrap_err()), "{path}");
        }
        let linked = temp.path().join("linked");
        symlink(&root, &linked).unwrap();
        assert_eq!(read(&linked, "a/b/c", 100).unwrap(), b"text");
    }
}
