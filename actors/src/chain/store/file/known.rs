//! What a store knows about its file, and how it notices that somebody else changed it.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use kairos_protocol::block::Block;
use kairos_protocol::ledger::text::{self, Elements, Span, parse, unreadable, walk};
use kairos_protocol::ledger::{Ledger, LoadState, Verifier, VerifyReport};

use super::journal::{Record, read_at};
use super::kept::Identity;
use super::mark;

/// How much of the file is read at once where it is not read whole.
const BUFFER: usize = 256 * 1024;
/// The place of every so many blocks is remembered, so that recent ones are found without reading from the start.
const ANCHOR_EVERY: u64 = 64;

/// The outcome of the last look at the file.
#[derive(Debug, Default)]
pub(super) enum Known {
    /// No look yet.
    #[default]
    Unknown,
    Absent,
    Chain(Chain),
    /// It does not load.
    Broken {
        state: LoadState,
        stamp: Option<Stamp>,
    },
}

/// A verified chain, without its blocks.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) ledger: Ledger,
    places: Places,
    stamp: Option<Stamp>,
    /// How many blocks there were when it was last noted how far it was checked.
    noted: u64,
}

/// Where blocks are in the file.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) last: Span,
    /// Where block 0, block [`ANCHOR_EVERY`] and so on begin.
    pub(super) anchors: Vec<u64>,
}

impl Places {
    fn note(&mut self, index: u64, span: Span) {
        if index.is_multiple_of(ANCHOR_EVERY) {
            self.anchors.push(span.start);
        }
        self.last = span;
    }
}

/// A file of which all this stays the same is taken to be unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    identity: Identity,
    len: u64,
    modified: Option<SystemTime>,
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            identity: metadata.into(),
            len: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl Stamp {
    /// Nothing if there is no file.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some((&metadata).into())),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether the error says that there is no file. Any other says that nobody can tell.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

impl Known {
    /// Whether what there is of `record` in the ledger at `path` is as the record has it.
    pub(super) fn leads_to(&self, record: &Record, path: &Path) -> io::Result<bool> {
        let Known::Chain(chain) = self else {
            return Ok(true);
        };
        let there = usize::try_from(chain.end().saturating_sub(record.at)).unwrap_or(usize::MAX);
        let mut found = vec![0; there.min(record.patch.len())];
        let read = read_at(&File::open(path)?, record.at, &mut found)?;
        Ok(read == there && record.patch.get(..there) == Some(&found))
    }

    pub(super) fn state(&self) -> LoadState {
        match self {
            Known::Unknown => LoadState::Unreadable,
            Known::Absent => LoadState::Absent,
            Known::Chain(_) => LoadState::Readable,
            Known::Broken { state, .. } => *state,
        }
    }

    /// Takes in what happened to the file since the last look.
    pub(super) fn refresh(&mut self, path: &Path, mark: &Path) {
        let now = match Stamp::of(path) {
            Ok(Some(stamp)) => Some(stamp),
            Ok(None) => {
                *self = Known::Absent;
                return;
            }
            Err(_) => None,
        };
        let unchanged = match self {
            Known::Chain(chain) => now.is_some() && chain.catch_up(path, now),
            Known::Broken { stamp, .. } => now.is_some() && *stamp == now,
            Known::Unknown | Known::Absent => false,
        };
        if !unchanged {
            *self = Self::load(path, mark, now);
        }
    }

    fn load(path: &Path, mark: &Path, stamp: Option<Stamp>) -> Self {
        if let Some(mut chain) = mark::read(mark, path)
            && chain.read_on(path).is_some()
        {
            chain.stamp = stamp;
            return Known::Chain(chain);
        }
        match scan_file(path) {
            (_, Some(chain)) => {
                let mut chain = Chain { stamp, ..chain };
                chain.note(mark, path);
                Known::Chain(chain)
            }
            (report, None) if report.state == LoadState::Absent => Known::Absent,
            (report, None) => Known::Broken {
                state: report.state,
                stamp,
            },
        }
    }
}

impl Chain {
    /// What became of `before` when `blocks` were written, the last of which is the tip of `ledger`.
    pub(super) fn grown(before: Option<Self>, ledger: Ledger, blocks: &[(u64, Span)]) -> Self {
        let mut chain = before.unwrap_or_else(|| Self {
            ledger,
            places: Places::default(),
            stamp: None,
            noted: 0,
        });
        chain.grow(ledger, blocks);
        chain
    }

    fn grow(&mut self, ledger: Ledger, blocks: &[(u64, Span)]) {
        for (index, span) in blocks {
            self.places.note(*index, *span);
        }
        self.ledger = ledger;
    }

    /// A chain that was checked before.
    pub(super) fn checked(ledger: Ledger, places: Places) -> Self {
        Self {
            noted: ledger.length(),
            ledger,
            places,
            stamp: None,
        }
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Notes how far the ledger at `path` was checked, if it is worth it by now.
    pub(super) fn note(&mut self, mark: &Path, path: &Path) {
        if self.ledger.length() < self.noted.saturating_add(mark::BLOCKS_MIN) {
            return;
        }
        self.noted = self.ledger.length();
        if let Err(error) = mark::write(mark, path, self) {
            // The next one to open the ledger reads it all, which a read-only disk makes necessary.
            tracing::debug!(%error, "cannot note how far the ledger was checked");
        }
    }

    /// Where the next block goes: right behind the last one.
    pub(super) fn end(&self) -> u64 {
        self.places.last.end
    }

    /// This chain, being all of `file` as it is now.
    pub(super) fn stored_in(mut self, file: &File) -> Self {
        self.stamp = file.metadata().ok().map(|metadata| (&metadata).into());
        self
    }

    /// The file that this chain is all of.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Whether the file is this chain, possibly with more blocks behind it, which are taken in.
    fn catch_up(&mut self, path: &Path, now: Option<Stamp>) -> bool {
        if self.stamp == now {
            return true;
        }
        let len = |stamp: Option<Stamp>| stamp.map_or(0, |stamp| stamp.len);
        let caught_up = len(now) > len(self.stamp) && self.read_on(path).is_some();
        if caught_up {
            self.stamp = now;
        }
        caught_up
    }

    /// Reads on behind the last block, if that one is where it was.
    fn read_on(&mut self, path: &Path) -> Option<()> {
        let mut elements = elements_at(path, self.places.last.start).ok()?;
        let (bytes, span) = elements.next().ok()??;
        let tip = self.ledger.tip();
        let last = parse(bytes, tip.index, span).ok()?.seal().ok()?;
        if span != self.places.last || last.to_ref() != tip {
            return None;
        }
        let mut verifier = Verifier::resume(self.ledger);
        let mut blocks = Vec::new();
        walk(elements, &mut verifier, |block, span| {
            blocks.push((block.index(), span));
        });
        let ledger = *verifier.ledger()?;
        (verifier.finish().state == LoadState::Readable).then(|| self.grow(ledger, &blocks))
    }

    /// At most `limit` blocks from position `first` on.
    pub(super) fn read(&self, path: &Path, first: u64, limit: usize) -> io::Result<Vec<Block>> {
        let anchor = first / ANCHOR_EVERY;
        let Some(start) = usize::try_from(anchor)
            .ok()
            .and_then(|n| self.places.anchors.get(n))
        else {
            return Ok(Vec::new());
        };
        let mut elements = elements_at(path, *start)?;
        let mut blocks = Vec::new();
        let mut index = anchor * ANCHOR_EVERY;
        while blocks.len() < limit
            && let Some((bytes, span)) = elements.next().map_err(io::Error::other)?
        {
            if index >= first {
                let stored = parse(bytes, index, span).map_err(io::Error::other)?;
                blocks.push(stored.seal().map_err(io::Error::other)?);
            }
            index += 1;
        }
        Ok(blocks)
    }
}

/// The element of the file at `path` that begins at byte `at`.
pub(super) fn element_at(path: &Path, at: u64) -> Option<(Vec<u8>, Span)> {
    let mut elements = elements_at(path, at).ok()?;
    let (bytes, span) = elements.next().ok()??;
    Some((bytes.to_vec(), span))
}

fn elements_at(path: &Path, at: u64) -> io::Result<Elements<BufReader<File>>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    Ok(Elements::from_element(
        BufReader::with_capacity(BUFFER, file),
        at,
    ))
}

/// Checks the file at `path` from its first to its last byte.
pub(super) fn scan_file(path: &Path) -> (VerifyReport, Option<Chain>) {
    match File::open(path) {
        Ok(file) => scan(BufReader::with_capacity(text::BUFFER, file)),
        Err(error) if is_absence(&error) => (VerifyReport::absent(), None),
        Err(error) => {
            let mut verifier = Verifier::default();
            verifier.fail(unreadable(error));
            (verifier.finish(), None)
        }
    }
}

/// The chain that the file at `path` is once `record` is written to it; nothing if that is none.
pub(super) fn scan_patched(path: &Path, record: &Record) -> io::Result<Option<Chain>> {
    let patch = record.patch.as_slice();
    let (_, chain) = if record.at == 0 {
        scan(patch)
    } else {
        let kept = File::open(path)?.take(record.at);
        scan(BufReader::with_capacity(text::BUFFER, kept.chain(patch)))
    };
    Ok(chain.filter(|chain| chain.ledger.tip() == record.tip))
}

/// Checks a whole ledger as it comes.
pub(super) fn scan(reader: impl BufRead) -> (VerifyReport, Option<Chain>) {
    let mut verifier = Verifier::default();
    let mut places = Places::default();
    walk(Elements::of_file(reader), &mut verifier, |block, span| {
        places.note(block.index(), span);
    });
    let ledger = verifier.ledger().copied();
    let report = verifier.finish();
    let chain = ledger
        .filter(|_| report.state == LoadState::Readable)
        .map(|ledger| Chain {
            ledger,
            places,
            stamp: None,
            noted: 0,
        });
    (report, chain)
}
