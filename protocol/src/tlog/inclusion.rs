//! A proof that a block is in a ledger, as one text that can be checked anywhere.
//!
//! The frame is C2SP `tlog-proof`. Its `extra` line, which the frame leaves to the application, holds a JSON object
//! with the block's hash and, if the prover wants to show them, the block and whose log it is. Nothing in it is
//! believed: the block is hashed again, the hash must be the leaf that is proven, and the statement is signed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::checkpoint::{CheckpointError, SignedCheckpoint};
use super::note::VerifierKey;
use super::proof::{PROOF_MAX, ProofError, verify_inclusion};
use super::statement::{LogStatement, StatementError};
use super::{block_leaf, hash_text, parse_decimal, parse_hash};
use crate::block::{Block, BlockError, StoredBlock};
use crate::hash::ContentHash;

/// Most bytes of the `extra` line, decoded. A block of the largest size that is written fits.
pub const EXTRA_MAX: usize = 26 * 1024 * 1024;
/// Longest proof in bytes.
pub const PROOF_TEXT_MAX: usize = EXTRA_MAX / 3 * 4 + 256 * 1024;
/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Why a text is not a proof, or proves nothing.
#[derive(Debug, Error)]
pub enum InclusionError {
    /// Longer than [`PROOF_TEXT_MAX`], or with more in its `extra` line than [`EXTRA_MAX`].
    #[error("the proof is longer than {PROOF_TEXT_MAX} bytes")]
    TooLong,
    /// The first line is another.
    #[error("the text is not a `{HEADER}`")]
    Header,
    /// A line that is not what belongs there.
    #[error("line {line} of the proof is not {expected}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// The `extra` line does not say which block it is about.
    #[error("the proof does not say which block it is about: {0}")]
    Evidence(String),
    /// The block in the proof is wrong in itself.
    #[error("the block in the proof: {0}")]
    Block(#[from] BlockError),
    /// The block in the proof is another one than it is about.
    #[error("the block in the proof is not the block {index} that it is about")]
    OtherBlock {
        /// The proven position.
        index: u64,
    },
    /// The checkpoint does not hold.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The statement does not hold.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// There is neither a key nor a statement to check the checkpoint with.
    #[error("the proof does not say whose log it is of; give the log's key")]
    NoKey,
    /// The hashes prove nothing.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// What the proof is about, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Evidence {
    block_hash: ContentHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<LogStatement>,
}

/// A proof as it was read: nothing in it is believed before [`verify`](Self::verify).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    extra: Option<Vec<u8>>,
    index: u64,
    hashes: Vec<ContentHash>,
    checkpoint: SignedCheckpoint,
}

/// What a proof that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The position of the block in the ledger.
    pub index: u64,
    /// Its hash.
    pub block_hash: ContentHash,
    /// The block, if the proof shows it.
    pub block: Option<Block>,
    /// Whose ledger it is, if the proof says; the identity key is for the reader to compare.
    pub statement: Option<LogStatement>,
}

impl InclusionProof {
    /// The proof that `block` is where its index says, by `hashes` that lead to the root in `checkpoint`. With
    /// `hash_only` the block itself is not shown.
    pub fn new(
        block: &Block,
        hash_only: bool,
        hashes: Vec<ContentHash>,
        checkpoint: SignedCheckpoint,
        statement: Option<LogStatement>,
    ) -> Result<Self, InclusionError> {
        let shown = (!hash_only).then(|| serde_json::to_value(block));
        let unwritable = |error: serde_json::Error| InclusionError::Evidence(error.to_string());
        let evidence = Evidence {
            block_hash: block.hash(),
            block: shown.transpose().map_err(unwritable)?,
            log: statement,
        };
        let extra = serde_json::to_vec(&evidence).map_err(unwritable)?;
        if extra.len() > EXTRA_MAX {
            return Err(InclusionError::TooLong);
        }
        Ok(Self {
            extra: Some(extra),
            index: block.index(),
            hashes,
            checkpoint,
        })
    }

    /// The checkpoint whose tree the block is in.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// Checks everything: the block against its hash and position, the hashes against the root, the checkpoint
    /// against `key`, or else against the key that the proof's statement names.
    pub fn verify(&self, key: Option<&VerifierKey>) -> Result<Proven, InclusionError> {
        let missing = || InclusionError::Evidence("there is no `extra` line".to_owned());
        let evidence: Evidence = serde_json::from_slice(self.extra.as_deref().ok_or_else(missing)?)
            .map_err(|error| InclusionError::Evidence(error.to_string()))?;
        let block = match evidence.block {
            None => None,
            Some(value) => {
                let stored = StoredBlock::deserialize(value);
                let stored = stored.map_err(|e| InclusionError::Evidence(e.to_string()))?;
                Some(stored.seal()?)
            }
        };
        let index = self.index;
        if let Some(block) = &block
            && (block.index() != index || block.hash() != evidence.block_hash)
        {
            return Err(InclusionError::OtherBlock { index });
        }
        if let Some(statement) = &evidence.log {
            statement.verify()?;
        }
        let stated = evidence.log.as_ref().map(|statement| &statement.log_key);
        let key = key.or(stated).ok_or(InclusionError::NoKey)?;
        self.checkpoint.verify(key)?;
        if let Some(stated) = stated.filter(|stated| *stated != key) {
            // The statement must not lend its name to a log that is not its own.
            self.checkpoint.verify(stated)?;
        }
        let head = self.checkpoint.head();
        let leaf = block_leaf(&evidence.block_hash);
        verify_inclusion(&leaf, index, head.size, &head.root, &self.hashes)?;
        Ok(Proven {
            index,
            block_hash: evidence.block_hash,
            block,
            statement: evidence.log,
        })
    }
}

/// Reads a text line by line, and knows where it is.
struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        self.rest = rest;
        self.line += 1;
        Some(line)
    }

    fn not(&self, expected: &'static str) -> InclusionError {
        InclusionError::Line {
            line: self.line,
            expected,
        }
    }
}

impl FromStr for InclusionProof {
    type Err = InclusionError;

    fn from_str(text: &str) -> Result<Self, InclusionError> {
        if text.len() > PROOF_TEXT_MAX {
            return Err(InclusionError::TooLong);
        }
        let mut lines = Lines {
            rest: text,
            line: 0,
        };
        if lines.next() != Some(HEADER) {
            return Err(InclusionError::Header);
        }
        let mut line = lines.next().unwrap_or_default();
        let mut extra = None;
        if let Some(body) = line.strip_prefix("extra ") {
            let bytes = STANDARD.decode(body);
            extra = Some(bytes.map_err(|_| lines.not("base64 behind `extra`"))?);
            line = lines.next().unwrap_or_default();
        }
        let index = line.strip_prefix("index ").and_then(parse_decimal);
        let index = index.ok_or_else(|| lines.not("`index` and a number"))?;
        let mut hashes = Vec::new();
        loop {
            let line = lines.next();
            let line = line.ok_or_else(|| lines.not("followed by a checkpoint"))?;
            if line.is_empty() {
                break;
            }
            let hash = parse_hash(line).filter(|_| hashes.len() < PROOF_MAX);
            hashes.push(hash.ok_or_else(|| lines.not("a hash in base64, or there are too many"))?);
        }
        Ok(Self {
            extra,
            index,
            hashes,
            checkpoint: lines.rest.parse()?,
        })
    }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", hash_text(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::proof::Head;
    use super::super::statement::tests::{attributed, log_key};
    use super::super::tree::node_hash;
    use super::*;
    use crate::time::Timestamp;

    /// The second block of a ledger of two.
    fn sample(hash_only: bool) -> (InclusionProof, Block) {
        let genesis = Block::genesis();
        let block = Block::seal(1, Timestamp::EPOCH, vec!["entry".into()], genesis.hash());
        let sibling = block_leaf(&genesis.hash());
        let head = Head {
            size: 2,
            root: node_hash(&sibling, &block_leaf(&block.hash())),
        };
        let shown = attributed(head, &log_key());
        let (checkpoint, statement) = (shown.checkpoint, Some(shown.statement));
        let proof = InclusionProof::new(&block, hash_only, vec![sibling], checkpoint, statement);
        (proof.unwrap(), block)
    }

    #[test]
    fn is_read_as_it_is_written_and_holds() {
        for hash_only in [false, true] {
            let (proof, block) = sample(hash_only);
            let read: InclusionProof = proof.to_string().parse().unwrap();
            assert_eq!(read, proof);
            let proven = read.verify(None).unwrap();
            assert_eq!((proven.index, proven.block_hash), (1, block.hash()));
            assert_eq!(proven.block, (!hash_only).then_some(block));
            let key = proven.statement.unwrap().log_key;
            assert!(read.verify(Some(&key)).is_ok());
            let foreign = log_key();
            assert!(matches!(
                read.verify(Some(foreign.verifier())),
                Err(InclusionError::Checkpoint(_))
            ));
        }
    }

    /// The proof with another thing in its `extra` line.
    fn with_extra(change: impl Fn(&mut Value)) -> InclusionProof {
        let (mut proof, _) = sample(false);
        let mut value = serde_json::from_slice(proof.extra.as_ref().unwrap()).unwrap();
        change(&mut value);
        proof.extra = Some(value.to_string().into_bytes());
        proof
    }

    #[test]
    fn what_it_shows_must_be_what_it_proves() {
        let changed = with_extra(|v| v["block"]["data"][0] = "another".into());
        assert!(matches!(
            changed.verify(None),
            Err(InclusionError::Block(_))
        ));
        let genesis = serde_json::to_value(Block::genesis()).unwrap();
        let other = with_extra(|v| v["block"] = genesis.clone());
        assert!(matches!(
            other.verify(None),
            Err(InclusionError::OtherBlock { .. })
        ));
        let hash = Block::genesis().hash().to_hex();
        let both = with_extra(|v| {
            v["block"] = genesis.clone();
            v["block_hash"] = hash.clone().into();
        });
        assert!(matches!(
            both.verify(None),
            Err(InclusionError::OtherBlock { .. })
        ));
        let hash_alone =
            with_extra(|v| *v = serde_json::json!({"block_hash": hash, "log": v["log"]}));
        assert!(matches!(
            hash_alone.verify(None),
            Err(InclusionError::Proof(_))
        ));
        let nobody = with_extra(|v| v["log"] = Value::Null);
        assert!(matches!(nobody.verify(None), Err(InclusionError::NoKey)));
        let empty = with_extra(|v| *v = Value::Null);
        assert!(matches!(
            empty.verify(None),
            Err(InclusionError::Evidence(_))
        ));
        let (mut elsewhere, _) = sample(true);
        elsewhere.index = 0;
        assert!(matches!(
            elsewhere.verify(None),
            Err(InclusionError::Proof(_))
        ));
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let good = sample(true).0.to_string();
        for bad in [
            String::new(),
            good.replace("@v1", "@v2"),
            good.replace("extra ", "extra !"),
            good.replace("index 1", "index 01"),
            good.replace("index 1", "index"),
            good.replace("index 1\n", "index 1\nAAAA\n"),
            good.replace("\n\n", "\n"),
            good.trim_end().to_owned(),
        ] {
            assert!(bad.parse::<InclusionProof>().is_err(), "{bad}");
        }
        let line = hash_text(&Block::genesis().hash()) + "\n";
        let many = good.replace("index 1\n", &format!("index 1\n{}", line.repeat(PROOF_MAX)));
        assert!(many.parse::<InclusionProof>().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_byte_never_proves_another_block(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (proof, block) = sample(true);
            let mut bytes = proof.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let read = String::from_utf8(bytes).ok().and_then(|text| text.parse::<InclusionProof>().ok());
            // What still holds is about the same block: a change may hit a member's name, which is then unknown.
            if let Some(proven) = read.and_then(|read| read.verify(None).ok()) {
                prop_assert_eq!((proven.index, proven.block_hash), (1, block.hash()));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = format!("{HEADER}\n{text}").parse::<InclusionProof>();
        }
    }
}
