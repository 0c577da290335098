//! A ledger file that is moved or replaced as a whole, while nobody else writes to it.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kairos_protocol::block::Block;
use kairos_protocol::block::canonical::Header;
use kairos_protocol::ledger::text::{BUFFER, Elements, walk, walk_blocks};
use kairos_protocol::ledger::{Problem, Verifier, VerifyReport};
use tempfile::TempPath;

use super::disk::{Disk, How, Os};
use super::kept::Kept;
use super::known::is_absence;
use super::lock::{Locked, Paths};
use super::{FileStore, StoreError};

/// What a new ledger may be used for, before the user's mask.
const MODE: u32 = 0o644;

/// See the module.
pub(crate) struct HeldFile {
    paths: Arc<Paths>,
    _lock: Locked,
}

impl HeldFile {
    /// Waits for the lock and finishes what a crash interrupted.
    pub(crate) fn take(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        Self::take_on(Box::new(Os), path, patience)
    }

    pub(super) fn take_on(
        disk: Box<dyn Disk>,
        path: &Path,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(StoreError::io("make the ledger's folder"))?;
        }
        let (store, _) = FileStore::open_on(disk, path, patience)?;
        let mut state = store.state();
        let paths = store.paths(&mut state)?;
        let lock = paths.lock_for_writing(&mut Kept::default(), &*store.disk, patience)?;
        // The journal speaks of the file that is there, so it must have nothing to say about another one.
        store.settle_locked(&mut state, &paths)?;
        // Nor may a power cut bring back what it said.
        match store.disk.open(&paths.journal, How::Write) {
            Ok(journal) => store.disk.sync(&journal),
            Err(error) if is_absence(&error) => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(StoreError::io("sync the ledger's journal"))?;
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

    /// The ledger file itself, whatever links lead to it.
    pub(crate) fn file(&self) -> &Path {
        &self.paths.ledger
    }

    /// Puts the file `new`, which must be durable and in the same folder, in the ledger's place. Where it fails, the
    /// ledger is as before; the caller syncs the folder.
    pub(crate) fn put(&mut self, new: TempPath) -> io::Result<()> {
        let ledger = &self.paths.ledger;
        let permissions = match fs::metadata(ledger) {
            Ok(metadata) => metadata.permissions(),
            Err(error) if is_absence(&error) => Permissions::from_mode(MODE),
            Err(error) => return Err(error),
        };
        fs::set_permissions(&new, permissions)?;
        new.persist(ledger).map_err(|error| error.error)
    }
}
