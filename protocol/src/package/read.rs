//! Reading a package: one pass, a strict subset of ustar.

use std::io::{self, Read};

use tar::{Archive, EntryType, Header};

use super::inspect::Inspector;
use super::stream::{Expanded, classify};
use super::{Contents, PackageError, PackageLimits};
use crate::gate::{self, Kind};
use crate::id::SkillSetName;

/// Reads the gzip-compressed archive of the SkillSet `name` and hands each clean file to `sink` with its path below
/// the SkillSet, its permission bits and its bytes, of which `sink` may leave any unread.
///
/// The paths given to `sink` are relative, clean and unique, but the package as a whole is only good once this
/// returns: until then, keep what `sink` made apart. Parents of a file may come without an entry of their own.
///
/// Fails on everything that [`PackageError`] names. Refused entries do not stop the reading, so that the refusal
/// lists them all; damage and limits do.
pub fn unpack<R: Read>(
    archive: R,
    name: &SkillSetName,
    limits: &PackageLimits,
    mut sink: impl FnMut(&str, u32, &mut dyn Read) -> io::Result<()>,
) -> Result<Contents, PackageError> {
    let mut inspector = Inspector::new(name, *limits);
    let mut archive = Archive::new(Expanded::new(archive, *limits));
    if let Err(error) = entries(&mut archive, &mut inspector, &mut sink) {
        return Err(match error {
            PackageError::Io(error) => classify(error, archive.into_inner().is_gzip()),
            other => other,
        });
    }
    archive.into_inner().finish()?;
    inspector.finish()
}

fn entries<R: Read>(
    archive: &mut Archive<Expanded<R>>,
    inspector: &mut Inspector<'_>,
    sink: &mut impl FnMut(&str, u32, &mut dyn Read) -> io::Result<()>,
) -> Result<(), PackageError> {
    // Raw, so that extension headers appear as entries of their own and are refused.
    for entry in archive.entries().map_err(PackageError::Io)?.raw(true) {
        let mut entry = entry.map_err(PackageError::Io)?;
        let header = StrictHeader::parse(entry.header())?;
        let Ok(path) = std::str::from_utf8(&header.path) else {
            inspector.unreadable_name(&String::from_utf8_lossy(&header.path))?;
            continue;
        };
        let mut contents = Whole {
            left: header.size,
            inner: &mut entry,
        };
        inspector.entry(path, header.kind, header.mode, &mut contents, &mut *sink)?;
        io::copy(&mut contents, &mut io::sink()).map_err(PackageError::Io)?;
    }
    Ok(())
}

/// The fields of a header that are used, all strictly read.
struct StrictHeader {
    path: Vec<u8>,
    kind: Kind,
    mode: u32,
    size: u64,
}

impl StrictHeader {
    fn parse(header: &Header) -> Result<Self, PackageError> {
        let raw_name = || String::from_utf8_lossy(until_nul(&header.as_old().name)).into_owned();
        let bad = |problem| PackageError::Header {
            entry: gate::shown(&raw_name()),
            problem,
        };
        let ustar = header
            .as_ustar()
            .ok_or_else(|| bad("is not in ustar format"))?;
        let name = text(&ustar.name).ok_or_else(|| bad("has bytes after the end of its name"))?;
        let prefix =
            text(&ustar.prefix).ok_or_else(|| bad("has bytes after the end of its prefix"))?;
        let path = match prefix {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        };
        let size = octal(&ustar.size).ok_or_else(|| bad("has a size that is not octal"))?;
        let mode = octal(&ustar.mode).ok_or_else(|| bad("has a mode that is not octal"))?;
        let kind = match header.entry_type() {
            EntryType::Regular => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Char | EntryType::Block | EntryType::Fifo => Kind::Special,
            EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::GNUSparse => Kind::Extension,
            _ => Kind::Unknown,
        };
        if kind == Kind::Directory && size != 0 {
            return Err(bad("is a directory with content"));
        }
        Ok(Self {
            path,
            kind,
            mode: u32::try_from(mode).map_err(|_| bad("has an impossible mode"))?,
            size,
        })
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The text of a field that is filled up with NULs and nothing else.
fn text(field: &[u8]) -> Option<&[u8]> {
    let text = until_nul(field);
    let rest = field.get(text.len()..).unwrap_or_default();
    rest.iter().all(|byte| *byte == 0).then_some(text)
}

/// Octal digits, ended by NULs or spaces. An empty field, a sign or a base-256 number is refused.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_end_matches(['\0', ' ']).trim_start_matches(' ');
    if digits.is_empty() || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    u64::from_str_radix(digits, 8).ok()
}

/// The bytes of one entry; ending before all have come is an error, not an end.
struct Whole<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let amount = self.inner.read(out)?;
        if amount == 0 && self.left > 0 && !out.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(amount as u64);
        Ok(amount)
    }
}
