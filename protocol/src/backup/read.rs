//! Reading a backup: one pass, nothing believed that the manifest does not name and the bytes do not prove.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use tar::{Archive, EntryType, Header};

use super::manifest::{Entry, Kind, Manifest, shown};
use super::{BackupError, BackupLimits, DATA, MANIFEST, PADDING_MAX};
use crate::hash::Hasher;

/// Longest path in the archive, with what stands before and behind it.
const NAME_MAX: u64 = 4096;

/// Whoever takes what a backup holds. Nothing of it is proven until [`read`] returns: keep it apart until then.
pub trait Visitor {
    /// Comes first. An error ends the reading.
    ///
    /// # Errors
    ///
    /// Whatever keeps the visitor from taking this backup.
    fn manifest(&mut self, manifest: &Manifest) -> io::Result<()>;

    /// Comes for each entry, parents before what is in them. `bytes` gives no more than the entry's size, and may be
    /// left unread.
    ///
    /// # Errors
    ///
    /// Whatever keeps the visitor from taking this entry. It ends the reading.
    fn entry(&mut self, entry: &Entry, bytes: &mut dyn Read) -> io::Result<()>;
}

/// Reads the backup in `archive` to its end, and returns its manifest if everything is as that says.
///
/// # Errors
///
/// All of [`BackupError`] but `Changed`. What the visitor says is [`BackupError::Sink`].
pub fn read(
    archive: impl Read,
    limits: &BackupLimits,
    visitor: &mut dyn Visitor,
) -> Result<Manifest, BackupError> {
    let mut source = BufReader::new(archive);
    match source.fill_buf().map_err(BackupError::Source)? {
        [0x1f, 0x8b, ..] => {}
        [0x1f] | [] => return Err(BackupError::Truncated),
        _ => return Err(BackupError::NotGzip),
    }
    let mut archive = Archive::new(GzDecoder::new(source));
    let manifest = entries(&mut archive, limits, visitor)?;
    finish(archive.into_inner())?;
    Ok(manifest)
}

fn entries<R: BufRead>(
    archive: &mut Archive<GzDecoder<R>>,
    limits: &BackupLimits,
    visitor: &mut dyn Visitor,
) -> Result<Manifest, BackupError> {
    // Raw, so that nothing is read into memory that was not asked for.
    let mut items = archive.entries().map_err(damage)?.raw(true);
    let mut first = match items.next() {
        Some(first) => first.map_err(damage)?,
        None => return Err(BackupError::NoManifest),
    };
    if first.header().entry_type() != EntryType::Regular
        || first.path_bytes().as_ref() != MANIFEST.as_bytes()
    {
        return Err(BackupError::NoManifest);
    }
    let size = size(first.header())?;
    if size > limits.manifest {
        return Err(BackupError::TooLarge {
            what: "bytes of manifest",
            max: limits.manifest,
        });
    }
    let mut json = Vec::new();
    first.read_to_end(&mut json).map_err(damage)?;
    if json.len() as u64 != size {
        return Err(BackupError::Truncated);
    }
    let manifest = Manifest::parse(&json, limits)?;
    visitor.manifest(&manifest).map_err(BackupError::Sink)?;

    let mut expected = manifest.entries.iter();
    let mut long_name: Option<Vec<u8>> = None;
    for item in items {
        let mut item = item.map_err(damage)?;
        if item.header().entry_type() == EntryType::GNULongName && long_name.is_none() {
            if self::size(item.header())? > NAME_MAX {
                return Err(BackupError::Damaged("a name is too long".to_owned()));
            }
            let mut name = Vec::new();
            item.read_to_end(&mut name).map_err(damage)?;
            while name.last() == Some(&0) {
                name.pop();
            }
            long_name = Some(name);
            continue;
        }
        let name = long_name
            .take()
            .unwrap_or_else(|| item.path_bytes().into_owned());
        let unexpected = |expected: &str| BackupError::Unexpected {
            found: shown(&String::from_utf8_lossy(&name)),
            expected: expected.to_owned(),
        };
        let entry = expected.next().ok_or_else(|| unexpected("no more"))?;
        let path = name.strip_prefix(DATA.as_bytes()).unwrap_or(&[]);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        if path != entry.path.as_bytes() {
            return Err(unexpected(&format!("`{}`", shown(&entry.path))));
        }
        take(&mut item, entry, visitor)?;
    }
    match expected.next() {
        // A tar without its end is what is left of one that was cut off.
        Some(_) => Err(BackupError::Truncated),
        None => Ok(manifest),
    }
}

/// Hands one entry to the visitor and checks it against the manifest.
fn take<R: Read>(
    item: &mut tar::Entry<'_, R>,
    entry: &Entry,
    visitor: &mut dyn Visitor,
) -> Result<(), BackupError> {
    let differs = |what| BackupError::Differs {
        path: shown(&entry.path),
        what,
    };
    let header = item.header();
    let kind = match entry.kind {
        Kind::Directory => EntryType::Directory,
        Kind::File { .. } => EntryType::Regular,
    };
    if header.entry_type() != kind {
        return Err(differs("kind"));
    }
    if size(header)? != entry.size() {
        return Err(differs("size"));
    }
    if header.mode().map_err(damage)? != entry.mode {
        return Err(differs("mode"));
    }
    let mut bytes = Hashed {
        inner: item,
        hasher: Hasher::default(),
        left: entry.size(),
        failed: None,
    };
    let taken = visitor.entry(entry, &mut bytes);
    if let Some(error) = bytes.failed.take() {
        return Err(error);
    }
    taken.map_err(BackupError::Sink)?;
    if let Err(error) = io::copy(&mut bytes, &mut io::sink()) {
        return Err(bytes.failed.take().unwrap_or_else(|| damage(error)));
    }
    match entry.kind {
        Kind::File { sha256, .. } if bytes.hasher.finish() != sha256 => Err(differs("hash")),
        _ => Ok(()),
    }
}

/// What an entry holds, hashed as it passes. A failure of the archive is kept, to be told from one of the visitor.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
    left: u64,
    failed: Option<BackupError>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        match self.inner.read(out) {
            Ok(0) if self.left > 0 => {
                self.failed = Some(BackupError::Truncated);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(amount) => {
                self.left = self.left.saturating_sub(amount as u64);
                self.hasher.update(out.get(..amount).unwrap_or_default());
                Ok(amount)
            }
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(damage(error));
                Err(kind.into())
            }
        }
    }
}

fn size(header: &Header) -> Result<u64, BackupError> {
    header.entry_size().map_err(damage)
}

/// Reads to the end of the stream: nothing but zeros, one gzip member, and its sum is right.
fn finish<R: BufRead>(mut decoder: GzDecoder<R>) -> Result<(), BackupError> {
    let mut zeros = 0;
    let mut buffer = [0; 4096];
    loop {
        let amount = decoder.read(&mut buffer).map_err(damage)?;
        if amount == 0 {
            break;
        }
        zeros += amount as u64;
        let read = buffer.get(..amount).unwrap_or_default();
        if zeros > PADDING_MAX || read.iter().any(|byte| *byte != 0) {
            return Err(BackupError::Trailing);
        }
    }
    // Of the two blocks of zeros that end a tar, the reader before us took one.
    if zeros < 512 {
        return Err(BackupError::Truncated);
    }
    let mut source = decoder.into_inner();
    match source.fill_buf().map_err(BackupError::Source)? {
        [] => Ok(()),
        _ => Err(BackupError::Trailing),
    }
}

/// What an error of the stream means: it ended, it is not what it should be, or the system failed.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn damage(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Truncated,
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            BackupError::Damaged(shown(&error.to_string()))
        }
        kind => BackupError::Source(io::Error::new(kind, error.to_string())),
    }
}
