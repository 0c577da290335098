//! Puts one directory in the place of another, in one step.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Failure;

/// Makes everything below `folder` durable.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    let file = File::open(folder)?;
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(&file)?;
    #[cfg(not(target_os = "linux"))]
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    file.sync_all()
}

/// Two directories that have changed places.
#[derive(Debug)]
pub(super) struct Swapped {
    /// Where the old one is now, if there was one.
    pub(super) old: Option<PathBuf>,
    /// Whether that is on disk.
    pub(super) durable: io::Result<()>,
}

impl Swapped {
    /// Where the old one is, if all is on disk.
    pub(super) fn check(self, place: &Path) -> Result<Option<PathBuf>, Failure> {
        match self.durable {
            Ok(()) => Ok(self.old),
            Err(source) => Err(Failure::Unfinished {
                place: place.to_owned(),
                old: self.old,
                action: "make durable",
                source,
            }),
        }
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_names(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Puts `fresh` where `place` is; what was there goes to `old`. Whoever is killed on the way leaves `place` as one of
/// the two, whole. Where it fails, `place` is the old one.
pub(super) fn swap(
    fresh: &Path,
    place: &Path,
    old: &Path,
    sync: impl Fn(&Path) -> io::Result<()>,
) -> Result<Swapped, Failure> {
    let parent = place.parent().unwrap_or(Path::new("/"));
    let swapped = |old: Option<&Path>| Swapped {
        old: old.map(Path::to_owned),
        durable: sync(parent),
    };
    match renameat_with(CWD, fresh, CWD, place, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(swapped(None)),
        Err(error) if io::Error::from(error).kind() == ErrorKind::AlreadyExists => {}
        // Where the system knows no such flag: renaming never replaces a directory that holds anything.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !place.exists() => {
            fs::rename(fresh, place).map_err(Failure::io("rename", fresh))?;
            return Ok(swapped(None));
        }
        Err(error) => return Err(refused(place, error)),
    }
    // Under its later name first: after the exchange nothing is left to be done for the old one to be found.
    fs::rename(fresh, old).map_err(Failure::io("rename", fresh))?;
    if let Err(error) = renameat_with(CWD, old, CWD, place, RenameFlags::EXCHANGE) {
        fs::rename(old, fresh).map_err(Failure::io("rename", old))?;
        return Err(refused(place, error));
    }
    Ok(swapped(Some(old)))
}

fn refused(place: &Path, error: rustix::io::Errno) -> Failure {
    let reason = match error {
        rustix::io::Errno::BUSY => "something is mounted there".to_owned(),
        rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS => {
            "its file system cannot exchange two directories".to_owned()
        }
        other => io::Error::from(other).to_string(),
    };
    Failure::NotReplaceable {
        path: place.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_after_the_exchange_does_not_deny_it() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        for name in ["new", "place"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join(name), "").unwrap();
        }
        let fails = |_: &Path| Err(io::Error::other("the disk is gone"));
        let swapped = swap(&at("new"), &at("place"), &at("old"), fails).unwrap();
        assert!(at("place/new").exists() && at("old/place").exists());
        let failed = swapped.check(&at("place")).unwrap_err();
        let told = failed.to_string();
        assert!(
            told.contains("is in place") && told.contains(at("old").to_str().unwrap()),
            "{told}"
        );
        fs::create_dir(at("other")).unwrap();
        let swapped = swap(&at("other"), &at("first"), &at("old2"), sync_names).unwrap();
        assert_eq!(swapped.check(&at("first")).unwrap(), None);
    }
}
