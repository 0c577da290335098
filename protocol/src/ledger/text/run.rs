//! Blocks in a row that are written as usual, scanned by two threads where there are many.

use std::thread;

use super::{BUFFER, Span};
use crate::block::canonical::{Header, Scanner};

/// What stands between two blocks of the usual form.
pub(super) const BETWEEN: &[u8] = b",\n  ";
/// How a block of the usual form ends, and the next one begins. No string has these bytes in it.
const SEAM: &[u8] = b"\n  },\n  {";
/// Less text is scanned faster by one thread. Tests have less, and are to see two.
const SPLIT_MIN: usize = if cfg!(test) { 1024 } else { 128 * 1024 };
/// Most bytes of one run.
const RUN_BYTES_MAX: usize = BUFFER;
/// After so many second halves that were scanned in vain, the first thread does all.
const MISSES_MAX: u32 = 16;

/// Finds runs. Keeps what can be used again.
#[derive(Debug, Default)]
pub(super) struct Runs {
    first: Scanner,
    second: Scanner,
    misses: u32,
}

impl Runs {
    /// The blocks with which `text` begins, which is at byte `start` of all: up to the first that is not written as
    /// usual, not right in itself, or not there up to its end.
    pub(super) fn next(&mut self, text: &[u8], start: u64) -> Vec<(Header, Span)> {
        let text = text.get(..RUN_BYTES_MAX).unwrap_or(text);
        let mut found = Vec::new();
        // The first block tells whether it is worth to look for more.
        let mut at = scan(&mut self.first, text, 0, 1, &mut found);
        if !found.is_empty() {
            if let Some(seam) = self.seam(text, at) {
                at = self.split(text, at, seam, &mut found);
            }
            scan(&mut self.first, text, at, text.len(), &mut found);
        }
        for (_, span) in &mut found {
            span.start += start;
            span.end += start;
        }
        found
    }

    /// A block in the middle of `text`, if there is enough behind `at` for two.
    fn seam(&self, text: &[u8], at: usize) -> Option<usize> {
        let rest = text.get(at..)?;
        if rest.len() < SPLIT_MIN || self.misses >= MISSES_MAX {
            return None;
        }
        let half = rest.get(rest.len() / 2..)?;
        let seam = half.windows(SEAM.len()).position(|bytes| bytes == SEAM)?;
        Some(at + rest.len() / 2 + seam + SEAM.len() - 1)
    }

    /// Scans from `at` and from `seam` on at once, and says how far that led.
    fn split(
        &mut self,
        text: &[u8],
        at: usize,
        seam: usize,
        found: &mut Vec<(Header, Span)>,
    ) -> usize {
        let Self { first, second, .. } = self;
        thread::scope(|scope| {
            let other = thread::Builder::new()
                .name("ledger-scan".to_owned())
                .spawn_scoped(scope, || {
                    let mut behind = Vec::new();
                    let end = scan(second, text, seam, text.len(), &mut behind);
                    (behind, end)
                });
            let reached = scan(first, text, at, seam, found);
            match other.map(thread::ScopedJoinHandle::join) {
                Ok(Ok((behind, end))) if reached == seam => {
                    found.extend(behind);
                    end
                }
                // There was no thread, or it began in the midst of something.
                _ => {
                    self.misses += 1;
                    reached
                }
            }
        })
    }
}

/// Scans the blocks that begin from `at` on and before `until`, and returns where it stopped.
fn scan(
    scanner: &mut Scanner,
    text: &[u8],
    mut at: usize,
    until: usize,
    found: &mut Vec<(Header, Span)>,
) -> usize {
    while at < until
        && let Some((header, len)) = text.get(at..).and_then(|text| scanner.scan(text))
    {
        let span = Span {
            start: at as u64,
            end: (at + len) as u64,
        };
        found.push((header, span));
        at += len;
        match text.get(at..) {
            Some(rest) if rest.starts_with(BETWEEN) => at += BETWEEN.len(),
            _ => break,
        }
    }
    at
}
