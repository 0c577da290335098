//! Readers that count what passes and stop at a limit.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::{Limit, PackageError, PackageLimits, RATIO_FREE};
use crate::gate;
use crate::hash::{ContentHash, Hasher};

/// Counts compressed bytes as the decoder takes them.
pub(super) struct Compressed<R> {
    inner: io::BufReader<R>,
    taken: u64,
    limit: u64,
}

impl<R: Read> Compressed<R> {
    /// Whether the stream ends here.
    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.inner.fill_buf()?.is_empty())
    }
}

impl<R: Read> BufRead for Compressed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken > self.limit {
            return Err(io::Error::other(Limit::Compressed(self.limit)));
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken = self.taken.saturating_add(amount as u64);
        self.inner.consume(amount);
    }
}

impl<R: Read> Read for Compressed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let amount = self.fill_buf()?.read(out)?;
        self.consume(amount);
        Ok(amount)
    }
}

/// The tar stream inside one gzip member, within the limits on size and ratio.
pub(super) struct Expanded<R> {
    decoder: GzDecoder<Compressed<R>>,
    given: u64,
    limits: PackageLimits,
}

impl<R: Read> Expanded<R> {
    pub(super) fn new(archive: R, limits: PackageLimits) -> Self {
        let compressed = Compressed {
            inner: io::BufReader::new(archive),
            taken: 0,
            limit: limits.compressed,
        };
        Self {
            decoder: GzDecoder::new(compressed),
            given: 0,
            limits,
        }
    }

    /// Whether the stream began as gzip.
    pub(super) fn is_gzip(&self) -> bool {
        self.decoder.header().is_some()
    }

    /// Reads to the end of the member, checks its sum, and that nothing follows but the zeros that end a tar.
    pub(super) fn finish(mut self) -> Result<(), PackageError> {
        let mut buffer = [0; 4096];
        let mut zeros = 0_u64;
        loop {
            let amount = self.read(&mut buffer).map_err(|e| classify(e, true))?;
            let read = buffer.get(..amount).unwrap_or_default();
            if read.iter().any(|byte| *byte != 0) {
                return Err(PackageError::Trailing);
            }
            if amount == 0 {
                break;
            }
            zeros += amount as u64;
        }
        // Of the two blocks of zeros that end a tar, the reader before us took one.
        if zeros < 512 {
            return Err(PackageError::Truncated);
        }
        let at_end = self.decoder.into_inner().is_at_end();
        match at_end.map_err(|e| classify(e, true))? {
            true => Ok(()),
            false => Err(PackageError::Trailing),
        }
    }
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let amount = self.decoder.read(out)?;
        self.given = self.given.saturating_add(amount as u64);
        let taken = self.decoder.get_ref().taken;
        self.limits
            .check(taken, self.given)
            .map_err(io::Error::other)?;
        Ok(amount)
    }
}

impl PackageLimits {
    /// Checks the sizes and their ratio.
    pub(super) fn check(&self, compressed: u64, expanded: u64) -> Result<(), Limit> {
        if compressed > self.compressed {
            Err(Limit::Compressed(self.compressed))
        } else if expanded > self.expanded {
            Err(Limit::Expanded(self.expanded))
        } else if expanded > RATIO_FREE && expanded > compressed.saturating_mul(self.ratio) {
            Err(Limit::Ratio(self.ratio))
        } else {
            Ok(())
        }
    }
}

/// What a failed read means: a limit, a cut, damage; or, where `is_gzip` is false, that this is no gzip at all.
pub(super) fn classify(error: io::Error, is_gzip: bool) -> PackageError {
    let mut cause = error
        .get_ref()
        .map(|e| e as &(dyn std::error::Error + 'static));
    while let Some(inner) = cause {
        if let Some(limit) = inner.downcast_ref::<Limit>() {
            return PackageError::Limit(*limit);
        }
        cause = inner.source();
    }
    match error.kind() {
        _ if !is_gzip => PackageError::NotGzip,
        io::ErrorKind::UnexpectedEof => PackageError::Truncated,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            PackageError::Damaged(gate::shown(&error.to_string()))
        }
        _ => PackageError::Io(error),
    }
}

/// Hashes, counts and, up to `keep` bytes, remembers what passes.
pub(super) struct Tee<R> {
    inner: R,
    hasher: Hasher,
    pub(super) size: u64,
    /// Reading failed, so whoever reads has an excuse.
    pub(super) failed: bool,
    kept: Vec<u8>,
    keep: usize,
}

impl<R: Read> Tee<R> {
    pub(super) fn new(inner: R, keep: usize) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
            size: 0,
            failed: false,
            kept: Vec::new(),
            keep,
        }
    }

    pub(super) fn finish(self) -> (ContentHash, Vec<u8>) {
        (self.hasher.finish(), self.kept)
    }
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let amount = self.inner.read(out);
        self.failed |= amount.is_err();
        let amount = amount?;
        let read = out.get(..amount).unwrap_or_default();
        self.hasher.update(read);
        self.size += amount as u64;
        let room = self.keep.saturating_sub(self.kept.len());
        self.kept.extend(read.iter().take(room));
        Ok(amount)
    }
}
