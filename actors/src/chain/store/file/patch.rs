//! What an append writes over the end of the ledger file, and what it takes to undo that.

use std::fs::File;
use std::io;
use std::path::Path;

use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::text::Span;
use kairos_protocol::ledger::{Ledger, LoadState};
use kairos_protocol::time::Timestamp;

use super::StoreError;
use super::disk::Disk;
use super::journal::{PATCH_BYTES_MAX, Record, sync_directory_of};
use super::known::Chain;

/// The array with which a new ledger file begins, and how it goes on and ends.
const OPEN: &str = "[\n  ";
const NEXT: &str = ",\n  ";
const CLOSE: &str = "\n]";

/// New blocks as text, in the making.
pub(super) struct Patch {
    at: u64,
    text: String,
    ledger: Ledger,
    blocks: Vec<(u64, Span)>,
}

impl Patch {
    /// Begins behind the last block of `chain`, or with genesis where there is none.
    pub(super) fn behind(chain: Option<&Chain>) -> Self {
        let mut patch = Self {
            at: chain.map_or(0, Chain::end),
            text: String::new(),
            ledger: chain.map(|chain| chain.ledger).unwrap_or_default(),
            blocks: Vec::new(),
        };
        if chain.is_none() {
            patch.write(OPEN, Block::genesis());
        }
        patch
    }

    /// Adds the block that carries `entries`.
    pub(super) fn add(
        &mut self,
        entries: Vec<String>,
        now: Timestamp,
    ) -> Result<BlockRef, StoreError> {
        let block = self.ledger.propose(entries, now);
        // Only a chain of u64::MAX blocks has no place for another one.
        self.ledger
            .adopt(&block)
            .map_err(|_| StoreError::Refused(LoadState::Corrupt))?;
        self.write(NEXT, &block);
        let bytes = self.text.len() + CLOSE.len();
        if bytes > PATCH_BYTES_MAX {
            return Err(StoreError::TooLong(bytes));
        }
        Ok(block.to_ref())
    }

    fn write(&mut self, separator: &str, block: &Block) {
        self.text.push_str(separator);
        let start = self.at + self.text.len() as u64;
        self.text.push_str(&block.file_form());
        let end = self.at + self.text.len() as u64;
        self.blocks.push((block.index(), Span { start, end }));
    }

    /// The change to a file that was `before` bytes long, the ledger behind it, and where its blocks are then.
    pub(super) fn finish(self, before: Option<u64>) -> (Record, Ledger, Vec<(u64, Span)>) {
        let record = Record {
            at: self.at,
            before,
            tip: self.ledger.tip(),
            patch: (self.text + CLOSE).into_bytes(),
        };
        (record, self.ledger, self.blocks)
    }
}

/// How to make an append not have happened.
pub(super) enum Undo {
    /// There was no file.
    Remove,
    /// This is what stood behind the last block: a bracket and white space, whose length the reader bounds.
    Restore { at: u64, tail: Vec<u8> },
}

impl Undo {
    /// For an append behind the chain that there is, in its file.
    pub(super) fn of(disk: &dyn Disk, before: Option<(&File, &Chain)>) -> io::Result<Self> {
        let Some((file, chain)) = before else {
            return Ok(Undo::Remove);
        };
        let at = chain.end();
        let length = file.metadata()?.len().saturating_sub(at);
        // The reader of the ledger has bounded it.
        let mut tail = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = disk.read(file, at, &mut tail)?;
        tail.truncate(read);
        Ok(Undo::Restore { at, tail })
    }

    /// How long the file was.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Undo::Remove => None,
            Undo::Restore { at, tail } => Some(at + tail.len() as u64),
        }
    }

    pub(super) fn run(&self, disk: &dyn Disk, ledger: &Path, file: &File) -> io::Result<()> {
        match self {
            Undo::Remove => {
                disk.remove(ledger)?;
                sync_directory_of(ledger, disk)
            }
            Undo::Restore { at, tail } => {
                disk.write(file, *at, tail)?;
                disk.set_len(file, at + tail.len() as u64)?;
                disk.sync(file)
            }
        }
    }
}
