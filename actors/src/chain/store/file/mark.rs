//! A note beside a long ledger on how far it was checked, so that opening it need not read it all again.
//!
//! Derived from the ledger and never trusted over it: the note counts only if the ledger is the very file that was
//! checked, or a longer one, and the last block checked is where it was. A full check does not look at it.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use kairos_protocol::block::BlockRef;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::ledger::Ledger;
use kairos_protocol::ledger::text::{Span, parse};
use serde::{Deserialize, Serialize};

use super::known::{Chain, Places, element_at};
use crate::passing::FRESH;

/// Shorter ledgers are read faster than it is worth to note anything.
pub(super) const BLOCKS_MIN: u64 = 1024;
/// Most bytes of a note: the places of more blocks than a file system takes.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What a note begins with; the number is the version of its format.
const MAGIC: &str = "kairos-verified 1 ";

#[derive(Serialize, Deserialize)]
struct Mark {
    file: FileId,
    tip: BlockRef,
    last: (u64, u64),
    anchors: Vec<u64>,
}

/// What changes when anybody writes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FileId {
    len: u64,
    device: u64,
    number: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<Metadata> for FileId {
    fn from(metadata: Metadata) -> Self {
        Self {
            len: metadata.len(),
            device: metadata.dev(),
            number: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Notes that all of `chain`, which is the ledger at `ledger`, was checked.
pub(super) fn write(mark: &Path, ledger: &Path, chain: &Chain) -> io::Result<()> {
    let places = chain.places();
    let note = Mark {
        file: fs::metadata(ledger)?.into(),
        tip: chain.ledger.tip(),
        last: (places.last.start, places.last.end),
        anchors: places.anchors.clone(),
    };
    let body = serde_json::to_vec(&note)?;
    let folder = mark.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(FRESH).tempfile_in(folder)?;
    file.write_all(format!("{MAGIC}{}\n", ContentHash::of(&body)).as_bytes())?;
    file.write_all(&body)?;
    // Not synced: a note that is not whole is none.
    file.persist(mark)?;
    Ok(())
}

/// The chain that was checked at `ledger`, on which the file may go on; nothing where the note does not fit.
pub(super) fn read(mark: &Path, ledger: &Path) -> Option<Chain> {
    let mut bytes = Vec::new();
    File::open(mark)
        .ok()?
        .take(BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    let line_end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, body) = bytes.split_at_checked(line_end)?;
    let body = body.get(1..)?;
    let hash = std::str::from_utf8(line.strip_prefix(MAGIC.as_bytes())?).ok()?;
    if hash.parse() != Ok(ContentHash::of(body)) {
        return None;
    }
    let note: Mark = serde_json::from_slice(body).ok()?;
    let now = FileId::from(fs::metadata(ledger).ok()?);
    if now.len < note.file.len || now.len == note.file.len && now != note.file {
        return None;
    }
    let (start, end) = note.last;
    let (bytes, span) = element_at(ledger, start)?;
    let tip = parse(&bytes, note.tip.index, span).ok()?.seal().ok()?;
    let stands = span == Span { start, end } && tip.to_ref() == note.tip;
    stands.then(|| {
        let places = Places {
            last: span,
            anchors: note.anchors,
        };
        Chain::checked(Ledger::ending(&tip), places)
    })
}
