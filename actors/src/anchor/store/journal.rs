//! The journal of anchors: one JSON line for each change, appended and synced before it is acknowledged.
//!
//! A torn last line was never acknowledged and is cut. Any other line that cannot be read makes the journal damaged,
//! and a damaged one is not written to.

use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{self as fs, File, OpenOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FILE_MAX, StoreError, sync_folder};

/// Version of the lines.
const VERSION: u32 = 1;

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Change {
    /// An anchor, as the reference stores it.
    Anchor {
        /// Version of the line.
        v: u32,
        /// The record.
        record: Map<String, Value>,
    },
    /// An anchor that waits for a batch.
    Enqueue {
        /// Version of the line.
        v: u32,
        /// The record.
        record: Map<String, Value>,
    },
    /// Everything that waits becomes an anchor.
    Flush {
        /// Version of the line.
        v: u32,
        /// When, in the form of the wire.
        at: String,
    },
}

impl Change {
    pub(super) fn anchor(record: Map<String, Value>) -> Self {
        Self::Anchor { v: VERSION, record }
    }

    pub(super) fn enqueue(record: Map<String, Value>) -> Self {
        Self::Enqueue { v: VERSION, record }
    }

    pub(super) fn flush(at: String) -> Self {
        Self::Flush { v: VERSION, at }
    }

    fn is_known(&self) -> bool {
        let (Self::Anchor { v, .. } | Self::Enqueue { v, .. } | Self::Flush { v, .. }) = self;
        *v == VERSION
    }
}

/// The open journal. Whoever calls it holds the store's lock.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// How much of it was read, which is all that was acknowledged when it was.
    length: u64,
}

impl Journal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, length: 0 }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is shorter than it was, so that what is known of it no longer holds.
    pub(super) fn was_begun_anew(&self) -> io::Result<bool> {
        Ok(self.size()? < self.length)
    }

    fn size(&self) -> io::Result<u64> {
        match fs::metadata(&self.path) {
            Ok(there) => Ok(there.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Reads what others appended since the last call. With `repair` a torn end is cut, else it is passed over.
    pub(super) fn read_on(&mut self, repair: bool) -> Result<Vec<Change>, StoreError> {
        let size = self.size()?;
        if size <= self.length {
            return Ok(Vec::new());
        }
        if size > FILE_MAX {
            return Err(self.damaged(format!("it has more than {FILE_MAX} bytes")));
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.length))?;
        let mut bytes = Vec::new();
        file.take(FILE_MAX).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let lines = bytes.get(..whole).unwrap_or_default();
        let mut changes = Vec::new();
        for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let change: Change =
                serde_json::from_slice(line).map_err(|error| self.damaged(error.to_string()))?;
            if !change.is_known() {
                return Err(self.damaged("a line has a version that is not known".to_owned()));
            }
            changes.push(change);
        }
        let read = self.length + whole as u64;
        if repair && whole < bytes.len() {
            tracing::warn!(
                bytes = bytes.len() - whole,
                "cut off a torn last line of the anchors' journal"
            );
            let file = OpenOptions::new().write(true).open(&self.path)?;
            file.set_len(read)?;
            file.sync_all()?;
        }
        self.length = read;
        Ok(changes)
    }

    /// Appends `changes` durably, all of them or none. Everything before was read.
    pub(super) fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let lines = lines(changes)?;
        let is_new = !self.path.try_exists()?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)?;
        if let Err(error) = file.write_all(&lines).and_then(|()| file.sync_data()) {
            file.set_len(self.length)?;
            return Err(error.into());
        }
        if is_new {
            sync_folder(&self.path)?;
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Begins anew with `changes`, which are all that still matters.
    pub(super) fn replace(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let lines = lines(changes)?;
        super::replace(&self.path, &lines)?;
        self.length = lines.len() as u64;
        Ok(())
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            reason,
        }
    }
}

fn lines(changes: &[Change]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for change in changes {
        serde_json::to_writer(&mut lines, change)?;
        lines.push(b'\n');
    }
    Ok(lines)
}
