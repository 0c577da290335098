//! Writing a package: the same bytes for the same files.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::inspect::Inspector;
use super::{Contents, PackageError, PackageLimits};
use crate::gate::Kind;
use crate::id::SkillSetName;
use crate::skill_set::is_content;

/// The permission bits of every packed file, whatever they are on disk.
pub const MODE_PACKED: u32 = 0o644;
const MODE_DIRECTORY: u32 = 0o755;
/// The owner that the reference writes; it means nothing.
const OWNER: &str = "wheel";

/// Writes the SkillSet `name` to `out` as a gzip-compressed ustar archive and returns what it packed and `out`.
///
/// `files` are paths below the SkillSet with their sizes, in any order; dot-files among them are left out, empty
/// directories do not travel. `open` is asked once for each file. Entries are sorted by path, times are zero, modes
/// fixed, so equal files give equal bytes.
///
/// What a reader would refuse is not written: the same gate and `limits` apply, and `out` is then to be thrown
/// away. Fails with [`PackageError::Changed`] if a file has not the size that was announced.
pub fn pack<W: Write, R: Read>(
    out: W,
    name: &SkillSetName,
    files: impl IntoIterator<Item = (String, u64)>,
    limits: &PackageLimits,
    mut open: impl FnMut(&str) -> io::Result<R>,
) -> Result<(Contents, W), PackageError> {
    let mut inspector = Inspector::new(name, *limits);
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(Counted::new(out), Compression::default());
    let mut tar = Builder::new(Counted::new(gzip));
    for (path, size) in sorted(files) {
        let full = format!("{name}/{path}");
        let Some(size) = size else {
            let (kind, mode) = (Kind::Directory, MODE_DIRECTORY);
            inspector.entry(&full, kind, mode, io::empty(), |_, _, _| Ok(()))?;
            // A path that the gate refused need not fit a header.
            if !inspector.is_refused() {
                let header = header(&full, EntryType::Directory, mode, 0)?;
                tar.append(&header, io::empty())
                    .map_err(PackageError::Sink)?;
            }
            continue;
        };
        // One byte more than announced is enough to know that the file has grown.
        let contents = open(&path)
            .map_err(PackageError::Io)?
            .take(size.saturating_add(1));
        let header = header(&full, EntryType::Regular, MODE_PACKED, size);
        let mut packed = 0;
        let took = inspector.entry(&full, Kind::File, MODE_PACKED, contents, |_, _, bytes| {
            let Ok(header) = &header else { return Ok(()) };
            let mut counted = Counted::new(bytes);
            tar.append(header, &mut counted)?;
            packed = counted.count;
            Ok(())
        })?;
        if took {
            header?;
            if packed != size {
                return Err(PackageError::Changed(path));
            }
        }
    }
    let contents = inspector.finish()?;
    let expanded = tar.into_inner().map_err(PackageError::Sink)?;
    let compressed = expanded.inner.finish().map_err(PackageError::Sink)?;
    limits
        .check(compressed.count, expanded.count)
        .map_err(PackageError::Limit)?;
    Ok((contents, compressed.inner))
}

/// The files with their sizes and the directories above them without, in byte order of the path.
fn sorted(files: impl IntoIterator<Item = (String, u64)>) -> BTreeMap<String, Option<u64>> {
    let mut entries = BTreeMap::new();
    for (path, size) in files.into_iter().filter(|(path, _)| is_content(path)) {
        for (end, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..end) {
                entries.entry(parent.to_owned()).or_insert(None);
            }
        }
        entries.insert(path, Some(size));
    }
    entries
}

fn header(path: &str, kind: EntryType, mode: u32, size: u64) -> Result<Header, PackageError> {
    let too_long = |_| PackageError::NameTooLong(path.to_owned());
    let mut header = Header::new_ustar();
    header.set_path(path).map_err(too_long)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_username(OWNER).map_err(PackageError::Sink)?;
    header.set_groupname(OWNER).map_err(PackageError::Sink)?;
    header.set_device_major(0).map_err(PackageError::Sink)?;
    header.set_device_minor(0).map_err(PackageError::Sink)?;
    header.set_cksum();
    Ok(header)
}

/// Counts the bytes that pass, in either direction.
struct Counted<T> {
    inner: T,
    count: u64,
}

impl<T> Counted<T> {
    fn new(inner: T) -> Self {
        Self { inner, count: 0 }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let amount = self.inner.write(bytes)?;
        self.count += amount as u64;
        Ok(amount)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let amount = self.inner.read(out)?;
        self.count += amount as u64;
        Ok(amount)
    }
}
