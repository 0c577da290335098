//! Files that stay open from one use of the ledger to the next: opening them anew costs more than a short append.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use rustix::io::Errno;

use super::disk::{Disk, How};

/// Device and number of a file. No other file gets them while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// Which file it is and how long, and nothing else of it.
///
/// Linux (from 6.13 on) gives a file whose times somebody has looked at a new time with its next change. The time then
/// has to be written as well when the file is synced, which costs an append a third of its time. So nobody asks for times
/// of a file that is synced often.
fn look(folder: impl AsFd, path: &Path, flags: AtFlags) -> Result<(Identity, u64), Errno> {
    let seen = statx(folder, path, flags, StatxFlags::INO | StatxFlags::SIZE)?;
    let device = makedev(seen.stx_dev_major, seen.stx_dev_minor);
    Ok((Identity(device, seen.stx_ino), seen.stx_size))
}

/// Which file has the name `path`.
fn identity_of(path: &Path) -> io::Result<Identity> {
    match look(CWD, path, AtFlags::empty()) {
        Ok((identity, _)) => Ok(identity),
        // A system that has no such call.
        Err(Errno::NOSYS | Errno::PERM) => Ok(Identity::from(&fs::metadata(path)?)),
        Err(error) => Err(error.into()),
    }
}

/// How long the file is.
pub(super) fn length(file: &File) -> io::Result<u64> {
    match look(file, Path::new(""), AtFlags::EMPTY_PATH) {
        Ok((_, length)) => Ok(length),
        Err(Errno::NOSYS | Errno::PERM) => Ok(file.metadata()?.len()),
        Err(error) => Err(error.into()),
    }
}

/// A file that is kept open as long as its name leads to it.
#[derive(Default)]
pub(super) struct Kept(Option<Open>);

struct Open {
    file: Arc<File>,
    identity: Identity,
    is_writable: bool,
}

impl Kept {
    /// The file at `path`, opened as `how` says unless it is open already.
    pub(super) fn open(&mut self, disk: &dyn Disk, path: &Path, how: How) -> io::Result<Arc<File>> {
        let there = match identity_of(path) {
            Ok(identity) => Some(identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(open) = &self.0
            && Some(open.identity) == there
            && (open.is_writable || how == How::Read)
            && how != How::CreateNew
        {
            return Ok(Arc::clone(&open.file));
        }
        self.0 = None;
        let file = Arc::new(disk.open(path, how)?);
        self.0 = Some(Open {
            file: Arc::clone(&file),
            identity: Identity::from(&file.metadata()?),
            is_writable: how != How::Read,
        });
        Ok(file)
    }

    /// Whether no file is open.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it is the file that `metadata` is about.
    pub(super) fn is(&self, metadata: &Metadata) -> bool {
        self.0
            .as_ref()
            .is_some_and(|open| open.identity == metadata.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Os;
    use super::*;

    #[test]
    fn a_file_is_kept_as_long_as_its_name_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut kept = Kept::default();
        let absent = kept.open(&Os, &path, How::Read).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        let made = kept.open(&Os, &path, How::Create).unwrap();
        for how in [How::Read, How::Write, How::Create] {
            assert!(Arc::ptr_eq(&made, &kept.open(&Os, &path, how).unwrap()));
        }
        assert!(kept.open(&Os, &path, How::CreateNew).is_err());

        let read = kept.open(&Os, &path, How::Read).unwrap();
        let written = kept.open(&Os, &path, How::Write).unwrap();
        assert!(!Arc::ptr_eq(&read, &written), "one could not be written to");

        fs::rename(&path, folder.path().join("moved")).unwrap();
        assert!(kept.open(&Os, &path, How::Write).is_err());
        fs::write(&path, "another").unwrap();
        let another = kept.open(&Os, &path, How::Write).unwrap();
        assert_eq!(length(&another).unwrap(), 7);
        assert!(kept.is(&fs::metadata(&path).unwrap()));
        assert!(!kept.is(&fs::metadata(folder.path().join("moved")).unwrap()));
    }
}
