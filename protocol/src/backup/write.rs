//! Writing a backup.

use std::io::{self, Read, Write};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::manifest::{Entry, Kind, Manifest};
use super::{BackupError, BackupLimits, DATA, MANIFEST};
use crate::hash::Hasher;

/// Mode of the manifest in the archive.
const MANIFEST_MODE: u32 = 0o600;

/// Writes everything that `manifest` names to `out`, and returns `out`, flushed.
///
/// `open` is asked once for each file; `told` hears how many bytes of files were written in all. Entries carry no
/// times and no owners, so equal manifests and files give equal bytes.
///
/// # Errors
///
/// [`BackupError::Changed`] if a file has not the size and hash that the manifest names, what is wrong with the
/// manifest, and what either side says. What was written until then is to be thrown away.
pub fn write<W: Write, R: Read>(
    out: W,
    manifest: &Manifest,
    mut open: impl FnMut(&Entry) -> io::Result<R>,
    mut told: impl FnMut(u64),
) -> Result<W, BackupError> {
    // Whoever made the manifest decided what belongs in it; what a reader accepts is the reader's decision.
    let limits = BackupLimits {
        manifest: u64::MAX,
        entries: usize::MAX,
        total: u64::MAX,
    };
    let json = manifest.to_json(&limits)?;
    let gzip = GzBuilder::new().mtime(0).write(out, Compression::default());
    let mut tar = Builder::new(gzip);
    let mut header = header(EntryType::Regular, MANIFEST_MODE, json.len() as u64);
    tar.append_data(&mut header, MANIFEST, json.as_slice())
        .map_err(BackupError::Sink)?;
    let mut written = 0;
    for entry in &manifest.entries {
        let path = format!("{DATA}{}", entry.path);
        match entry.kind {
            Kind::Directory => {
                let mut header = self::header(EntryType::Directory, entry.mode, 0);
                tar.append_data(&mut header, path, io::empty())
                    .map_err(BackupError::Sink)?;
            }
            Kind::File { size, sha256 } => {
                let source = open(entry).map_err(BackupError::Source)?;
                let mut source = Exactly {
                    inner: source,
                    left: size,
                    hasher: Hasher::default(),
                    fault: None,
                    told: |bytes| {
                        written += bytes;
                        told(written);
                    },
                };
                let mut header = self::header(EntryType::Regular, entry.mode, size);
                let appended = tar.append_data(&mut header, path, &mut source);
                let changed = || BackupError::Changed(entry.path.clone());
                match source.fault.take() {
                    Some(Fault::Short) => return Err(changed()),
                    Some(Fault::Failed(error)) => return Err(BackupError::Source(error)),
                    None => appended.map_err(BackupError::Sink)?,
                }
                let ends = source.inner.read(&mut [0]).map_err(BackupError::Source)? == 0;
                if !ends || source.hasher.finish() != sha256 {
                    return Err(changed());
                }
            }
        }
    }
    let gzip = tar.into_inner().map_err(BackupError::Sink)?;
    let mut out = gzip.finish().map_err(BackupError::Sink)?;
    out.flush().map_err(BackupError::Sink)?;
    Ok(out)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// As many bytes as were announced: fewer are an error, which is kept, since the writer between cannot tell whose
/// it is.
struct Exactly<R, T> {
    inner: R,
    left: u64,
    hasher: Hasher,
    fault: Option<Fault>,
    told: T,
}

enum Fault {
    Short,
    Failed(io::Error),
}

impl<R: Read, T: FnMut(u64)> Read for Exactly<R, T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(out.len());
        let Some(out) = out.get_mut(..most).filter(|out| !out.is_empty()) else {
            return Ok(0);
        };
        let amount = match self.inner.read(out) {
            Ok(0) => {
                self.fault = Some(Fault::Short);
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(amount) => amount,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let kind = error.kind();
                self.fault = Some(Fault::Failed(error));
                return Err(kind.into());
            }
        };
        self.hasher.update(out.get(..amount).unwrap_or_default());
        self.left = self.left.saturating_sub(amount as u64);
        (self.told)(amount as u64);
        Ok(amount)
    }
}
