//! The rules of the chain: what comes next, and whether what is stored follows them.
//!
//! [`Ledger`] knows the end of a chain and no more than that; [`Verifier`] walks stored blocks one at a time, so
//! whoever keeps them can check them while reading. Verification is stricter than the reference, which ignores
//! stored hashes and lets the last block be rewritten, yet it accepts everything the reference writes.

pub mod text;

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use crate::block::canonical::Header;
use crate::block::{Block, BlockError, BlockRef, StoredBlock};
use crate::hash::ContentHash;
use crate::time::Timestamp;

/// Most warnings that a report spells out; further ones are only counted.
pub const WARNINGS_MAX: usize = 100;

/// What a ledger on disk turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadState {
    /// There is none yet.
    Absent,
    /// It is there but cannot be read as a list of blocks.
    Unreadable,
    /// It is a list without blocks, not even genesis.
    Empty,
    /// Its blocks are not a chain.
    Corrupt,
    /// It is a chain.
    Readable,
}

impl LoadState {
    /// Whether a block may be added. Anything that does not load is left for a person to look at.
    pub fn allows_append(self) -> bool {
        matches!(self, LoadState::Absent | LoadState::Readable)
    }
}

impl fmt::Display for LoadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadState::Absent => "absent",
            LoadState::Unreadable => "unreadable",
            LoadState::Empty => "empty",
            LoadState::Corrupt => "corrupt",
            LoadState::Readable => "readable",
        })
    }
}

/// Why a block does not stand where it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// It is not an object with the members of a block.
    #[error("not a block: {0}")]
    Malformed(String),
    /// Its index is not its position.
    #[error("index is {found}")]
    Index {
        /// The index it claims.
        found: u64,
    },
    /// The first block is not the genesis block.
    #[error("not the genesis block")]
    Genesis,
    /// It does not name the block before it.
    #[error("previous_hash is not the hash of the block before")]
    Link,
    /// It is wrong in itself.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// What keeps a ledger from being readable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// A block is wrong. Those before it are right.
    #[error("block {index}: {fault}")]
    Block {
        /// Its position.
        index: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The text is not a JSON array of objects.
    #[error("not a list of blocks at byte {at}: {reason}")]
    Text {
        /// Where, in bytes from the start.
        at: u64,
        /// What was found.
        reason: String,
    },
    /// The system refused to read.
    #[error("cannot be read: {0}")]
    Io(String),
}

impl Problem {
    /// The state of a ledger with this problem.
    pub fn state(&self) -> LoadState {
        match self {
            Problem::Block { .. } => LoadState::Corrupt,
            Problem::Text { .. } | Problem::Io(_) => LoadState::Unreadable,
        }
    }
}

/// Something odd that does not break the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// The block has no stored hash.
    HashAbsent {
        /// Its position.
        index: u64,
    },
    /// The block is older than the one before it.
    TimeBackwards {
        /// Its position.
        index: u64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::HashAbsent { index } => write!(f, "block {index} has no stored hash"),
            Warning::TimeBackwards { index } => {
                write!(f, "block {index} is older than the block before it")
            }
        }
    }
}

/// The outcome of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// What the ledger is.
    pub state: LoadState,
    /// How many blocks, from genesis on, are right.
    pub length: u64,
    /// The last of those.
    pub tip: Option<BlockRef>,
    /// The first thing that is wrong. Nothing behind it was looked at.
    pub problem: Option<Problem>,
    /// The first [`WARNINGS_MAX`] oddities.
    pub warnings: Vec<Warning>,
    /// How many oddities there are in all.
    pub warning_count: u64,
}

impl VerifyReport {
    /// The report on a ledger that does not exist.
    pub fn absent() -> Self {
        Self {
            state: LoadState::Absent,
            ..Verifier::default().finish()
        }
    }

    /// Whether nothing is wrong: a chain, or no ledger yet.
    pub fn is_valid(&self) -> bool {
        self.state.allows_append()
    }
}

/// The end of a chain: all that is needed to add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    tip: BlockRef,
    at: Timestamp,
}

impl Default for Ledger {
    /// The chain of genesis alone.
    fn default() -> Self {
        Self::ending(Block::genesis())
    }
}

impl Ledger {
    /// The chain that ends with `tip`, for whoever knows that the blocks before it are right.
    pub fn ending(tip: &Block) -> Self {
        Self::at(&tip.header())
    }

    fn at(tip: &Header) -> Self {
        Self {
            tip: tip.to_ref(),
            at: tip.instant(),
        }
    }

    /// The last block.
    pub fn tip(&self) -> BlockRef {
        self.tip
    }

    /// How many blocks there are, genesis included.
    pub fn length(&self) -> u64 {
        self.tip.index.saturating_add(1)
    }

    /// The block that carries `entries` next, written at `now`. The ledger is unchanged until it
    /// [`adopt`](Self::adopt)s the block.
    pub fn propose(&self, entries: Vec<String>, now: Timestamp) -> Block {
        Block::seal(self.length(), now, entries, self.tip.hash)
    }

    /// Makes `block` the tip. Fails with [`Fault::Index`] or [`Fault::Link`] if it does not follow.
    pub fn adopt(&mut self, block: &Block) -> Result<(), Fault> {
        self.follow(&block.header())
    }

    fn follow(&mut self, block: &Header) -> Result<(), Fault> {
        let found = block.index();
        // The second test holds where the length cannot grow any more.
        if found != self.length() || found == self.tip.index {
            return Err(Fault::Index { found });
        }
        if block.previous_hash() != self.tip.hash {
            return Err(Fault::Link);
        }
        *self = Self::at(block);
        Ok(())
    }
}

/// Checks blocks in the order in which they are stored.
///
/// Feed it with [`push`](Self::push) until that fails or there are no more, then ask for the report.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    ledger: Option<Ledger>,
    problem: Option<Problem>,
    warnings: Vec<Warning>,
    warning_count: u64,
}

impl Verifier {
    /// Goes on behind a chain that was verified before.
    pub fn resume(ledger: Ledger) -> Self {
        Self {
            ledger: Some(ledger),
            ..Self::default()
        }
    }

    /// The verified chain so far; nothing before genesis.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// The position of the next block.
    pub fn position(&self) -> u64 {
        self.ledger.map_or(0, |ledger| ledger.length())
    }

    /// Checks the next block. After the first failure every further block fails likewise.
    pub fn push(&mut self, stored: StoredBlock) -> Result<Block, Problem> {
        self.step(|this| this.check(stored))
    }

    /// As [`push`](Self::push), for a block that was found right in itself.
    pub fn push_header(&mut self, header: &Header) -> Result<(), Problem> {
        self.step(|this| {
            this.check_place(header.index(), header.previous_hash())?;
            this.extend(header, false)
        })
    }

    fn step<T>(&mut self, check: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Problem> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let index = self.position();
        check(self).map_err(|fault| {
            let problem = Problem::Block { index, fault };
            self.fail(problem.clone());
            problem
        })
    }

    /// Records a problem that whoever reads the blocks has found. The first one counts.
    pub fn fail(&mut self, problem: Problem) {
        self.problem.get_or_insert(problem);
    }

    /// The report on everything that was pushed.
    pub fn finish(self) -> VerifyReport {
        VerifyReport {
            state: match (&self.problem, self.ledger) {
                (Some(problem), _) => problem.state(),
                (None, None) => LoadState::Empty,
                (None, Some(_)) => LoadState::Readable,
            },
            length: self.position(),
            tip: self.ledger.map(|ledger| ledger.tip),
            problem: self.problem,
            warnings: self.warnings,
            warning_count: self.warning_count,
        }
    }

    fn check(&mut self, stored: StoredBlock) -> Result<Block, Fault> {
        self.check_place(stored.index, stored.previous_hash)?;
        let hash_absent = stored.hash.is_none();
        let block = stored.seal()?;
        self.extend(&block.header(), hash_absent)?;
        Ok(block)
    }

    /// Looked at before the content, so that a rewritten block is told from a forked one.
    fn check_place(&self, found: u64, previous_hash: ContentHash) -> Result<(), Fault> {
        if found != self.position() {
            return Err(Fault::Index { found });
        }
        match self.ledger {
            Some(ledger) if previous_hash != ledger.tip.hash => Err(Fault::Link),
            _ => Ok(()),
        }
    }

    fn extend(&mut self, block: &Header, hash_absent: bool) -> Result<(), Fault> {
        let mut backwards = false;
        match &mut self.ledger {
            None if block.hash() != Block::genesis().hash() => return Err(Fault::Genesis),
            None => self.ledger = Some(Ledger::at(block)),
            Some(ledger) => {
                backwards = block.instant() < ledger.at;
                ledger.follow(block)?;
            }
        }
        let index = block.index();
        if hash_absent {
            self.warn(Warning::HashAbsent { index });
        }
        if backwards {
            self.warn(Warning::TimeBackwards { index });
        }
        Ok(())
    }

    fn warn(&mut self, warning: Warning) {
        self.warning_count += 1;
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }
}

#[cfg(test)]
mod tests;
