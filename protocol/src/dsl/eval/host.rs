//! What code can ask: always values, told by whoever evaluates it. Nothing here looks anything up.

use std::collections::BTreeSet;

use super::super::Literal;

/// Answers what code asks. What is not told ends the evaluation with [`Unanswered`](super::EvalError::Unanswered).
///
/// An implementation answers from what it holds. It must not look at files, the network or the clock, or the same code
/// would give different answers.
pub trait Host {
    /// The settings of evolution, `skills/config.yml`: a hash with texts as keys.
    fn settings(&self) -> Option<Literal> {
        None
    }

    /// Whether the law may change.
    fn evolution_enabled(&self) -> Option<bool> {
        None
    }

    /// How often the law changed in this session.
    fn evolution_count(&self) -> Option<u64> {
        None
    }

    /// The path of the law, as a text.
    fn law_path(&self) -> Option<&str> {
        None
    }

    /// Whether there is a directory at this path.
    fn has_directory(&self, path: &str) -> Option<bool> {
        let _ = path;
        None
    }

    /// What the layers are: a list of hashes.
    fn layers(&self) -> Option<Literal> {
        None
    }

    /// What the ledger is like.
    fn ledger(&self) -> Option<&LedgerFacts> {
        None
    }
}

/// Tells nothing.
impl Host for () {}

/// What the ledger is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerFacts {
    /// How its state is called: `readable`, `absent`, or what else.
    pub state: String,
    /// Whether it is whole.
    pub valid: bool,
    /// How many blocks it has.
    pub length: u64,
    /// The first block.
    pub first: Option<BlockFacts>,
    /// The last block.
    pub last: Option<BlockFacts>,
}

/// What a block of the ledger is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockFacts {
    /// Its height.
    pub index: u64,
    /// Its hash in hexadecimal digits.
    pub hash: String,
    /// The hash of the one before.
    pub previous_hash: String,
    /// When it was made, as it says.
    pub timestamp: String,
}

/// A host that holds its answers.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// See [`Host::settings`].
    pub settings: Option<Literal>,
    /// See [`Host::evolution_enabled`].
    pub evolution_enabled: Option<bool>,
    /// See [`Host::evolution_count`].
    pub evolution_count: Option<u64>,
    /// See [`Host::law_path`].
    pub law_path: Option<String>,
    /// The directories that there are; if nothing, it is not told whether any is.
    pub directories: Option<BTreeSet<String>>,
    /// See [`Host::layers`].
    pub layers: Option<Literal>,
    /// See [`Host::ledger`].
    pub ledger: Option<LedgerFacts>,
}

impl Host for Facts {
    fn settings(&self) -> Option<Literal> {
        self.settings.clone()
    }

    fn evolution_enabled(&self) -> Option<bool> {
        self.evolution_enabled
    }

    fn evolution_count(&self) -> Option<u64> {
        self.evolution_count
    }

    fn law_path(&self) -> Option<&str> {
        self.law_path.as_deref()
    }

    fn has_directory(&self, path: &str) -> Option<bool> {
        let known = self.directories.as_ref()?;
        Some(known.contains(path))
    }

    fn layers(&self) -> Option<Literal> {
        self.layers.clone()
    }

    fn ledger(&self) -> Option<&LedgerFacts> {
        self.ledger.as_ref()
    }
}
