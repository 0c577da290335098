//! Texts by their hash: compressed, each kept once, none believed without hashing it again.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use fs_err::{self as fs, File};
use kairos_protocol::hash::ContentHash;

use super::error::StateError;
use crate::passing::STAGED;

/// Longest text kept, in bytes.
pub(super) const OBJECT_MAX: u64 = 16 * 1024 * 1024;
/// Longest list of files, in bytes: as long as one of the most files with long names.
pub(super) const TREE_MAX: u64 = 64 * 1024 * 1024;

/// The directory `objects` beside the snapshots.
#[derive(Debug, Clone)]
pub(super) struct Objects(PathBuf);

impl Objects {
    pub(super) fn new(snapshots: &Path) -> Self {
        Self(snapshots.join("objects"))
    }

    fn path(&self, hash: ContentHash) -> PathBuf {
        let hash = hash.to_hex();
        self.0.join(hash.get(..2).unwrap_or_default()).join(hash)
    }

    /// Keeps `bytes`, unless they are kept already and undamaged. Durable only after [`sync`](Self::sync).
    pub(super) fn put(&self, hash: ContentHash, bytes: &[u8]) -> io::Result<()> {
        let target = self.path(hash);
        // A crash may have left an empty or half-written file under the name.
        if fs::symlink_metadata(&target).is_ok() && self.get(hash, bytes.len() as u64).is_ok() {
            return Ok(());
        }
        let folder = target.parent().unwrap_or(&self.0);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(STAGED)
            .tempfile_in(folder)?;
        let mut encoder = GzEncoder::new(file.as_file_mut(), Compression::default());
        encoder.write_all(bytes)?;
        encoder.finish()?.flush()?;
        file.persist(&target)?;
        Ok(())
    }

    /// Makes everything put so far durable, with one flush instead of one for each.
    pub(super) fn sync(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        rustix::fs::syncfs(File::open(&self.0)?.file())?;
        Ok(())
    }

    /// The bytes with `hash`, at most `max` of them.
    pub(super) fn get(&self, hash: ContentHash, max: u64) -> Result<Vec<u8>, StateError> {
        let missing = |what| StateError::Object { hash, what };
        let file = match File::open(self.path(hash)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing("missing")),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        let read = GzDecoder::new(file)
            .take(max.saturating_add(1))
            .read_to_end(&mut bytes);
        if read.is_err() || ContentHash::of(&bytes) != hash {
            return Err(missing("damaged"));
        }
        Ok(bytes)
    }

    /// Removes what is not in `keep`, and returns how many were.
    pub(super) fn sweep(&self, keep: &HashSet<ContentHash>) -> io::Result<usize> {
        let mut removed = 0;
        let folders = match fs::read_dir(&self.0) {
            Ok(folders) => folders,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        for folder in folders {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for object in fs::read_dir(folder.path())? {
                let object = object?;
                let name = object.file_name();
                let name = name.to_string_lossy();
                let kept = name.parse().is_ok_and(|hash| keep.contains(&hash));
                let ours = name.parse::<ContentHash>().is_ok() || name.starts_with(STAGED);
                if ours && !kept {
                    fs::remove_file(object.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}
