//! A ledger file that is moved or replaced as a whole, while nobody else writes to it.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kairos_protocol::block::Block;
use kairos_protocol::block::canonical::Header;
use kairos_protocol::ledger::text::{BUFFER, Elements, walk, walk_blocks};
use kairos_protocol::ledger::{Problem, Verifier, VerifyReport};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempPath;

use super::disk::Os;
use super::journal::sync_directory_of;
use super::known::is_absence;
use super::lock::Paths;
use super::{FileStore, StoreError};

/// What a new ledger may be used for, before the user's mask.
const MODE: u32 = 0o644;

/// See the module.
pub(crate) struct HeldFile {
    paths: Paths,
    _lock: File,
}

impl HeldFile {
    /// Waits for the lock and finishes what a crash interrupted.
    pub(crate) fn take(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(StoreError::io("make the ledger's folder"))?;
        }
        let (store, _) = FileStore::open(path, patience)?;
        let paths = store.paths()?;
        let lock = paths.lock_for_writing(&Os, patience)?;
        // The journal speaks of the file that is there, so it must have nothing to say about another one.
        store.settle_locked(&mut store.state(), &paths)?;
        Ok(Self { paths, _lock: lock })
    }

    /// Checks all blocks and tells `seen` of each good one.
    pub(crate) fn walk(&self, seen: &mut dyn FnMut(&Header)) -> VerifyReport {
        self.read(|text, verifier| walk(text, verifier, |header, _| seen(header)))
    }

    /// Checks all blocks and hands each good one to `seen`.
    pub(crate) fn blocks(&self, seen: &mut dyn FnMut(&Block)) -> VerifyReport {
        self.read(|text, verifier| walk_blocks(text, verifier, seen))
    }

    fn read(&self, walk: impl FnOnce(Elements<BufReader<File>>, &mut Verifier)) -> VerifyReport {
        let mut verifier = Verifier::default();
        match File::open(&self.paths.ledger) {
            Ok(file) => {
                let text = Elements::of_file(BufReader::with_capacity(BUFFER, file));
                walk(text, &mut verifier);
            }
            Err(error) if is_absence(&error) => return VerifyReport::absent(),
            Err(error) => verifier.fail(Problem::Io(error.to_string())),
        }
        verifier.finish()
    }

    /// Puts the file `new` in the ledger's place, as one step, and returns where the old one is now. `new` must be
    /// durable and in the same folder.
    pub(crate) fn exchange(&mut self, new: TempPath) -> io::Result<Option<PathBuf>> {
        let ledger = &self.paths.ledger;
        let permissions = match fs::metadata(ledger) {
            Ok(metadata) => metadata.permissions(),
            Err(_) => Permissions::from_mode(MODE),
        };
        fs::set_permissions(&new, permissions)?;
        let rename = |flags| renameat_with(CWD, &*new, CWD, ledger, flags);
        let replaced = match rename(RenameFlags::EXCHANGE) {
            Ok(()) => true,
            Err(rustix::io::Errno::NOENT) => {
                rename(RenameFlags::NOREPLACE)?;
                false
            }
            Err(error) => return Err(error.into()),
        };
        let old = new.keep().map_err(|error| error.error)?;
        sync_directory_of(ledger, &Os)?;
        Ok(replaced.then_some(old))
    }
}
