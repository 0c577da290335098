//! What a log asks of a witness: to cosign a checkpoint, given a proof that it continues the one cosigned before.
//!
//! The text is the body of `add-checkpoint` in C2SP `tlog-witness`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::checkpoint::{CheckpointError, SignedCheckpoint};
use super::proof::{self, Head, verify_consistency};
use super::{hash_text, parse_decimal, parse_hash};
use crate::hash::ContentHash;

/// Most proof lines, by the specification.
pub const PROOF_LINES_MAX: usize = 63;

/// Why a text is not a request to a witness.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The first line is not `old` and a size.
    #[error("the first line is not `old` and a size")]
    Old,
    /// A line that is not a hash in base64.
    #[error("line {line} is not a hash in base64")]
    Hash {
        /// Counted from 1.
        line: usize,
    },
    /// More than [`PROOF_LINES_MAX`].
    #[error("more than {PROOF_LINES_MAX} lines of proof")]
    TooMany,
    /// What follows the proof is not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A checkpoint, and the proof that it continues an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignRequest {
    /// Size of the older tree; 0 if the witness is to see this log for the first time.
    pub old: u64,
    /// The consistency proof.
    pub proof: Vec<ContentHash>,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
}

impl CosignRequest {
    /// Checks that the checkpoint continues `seen`, the head that the witness knows.
    pub fn continues(&self, seen: Head) -> Result<(), proof::ProofError> {
        let now = self.checkpoint.head();
        match seen.size == self.old {
            true => verify_consistency(seen, now, &self.proof),
            // The same checkpoint again needs no proof.
            false => verify_consistency(seen, now, &[]),
        }
    }
}

impl FromStr for CosignRequest {
    type Err = RequestError;

    /// Reads a request, or a bare checkpoint, which is a request of a log that was not seen before.
    fn from_str(text: &str) -> Result<Self, RequestError> {
        let Some(rest) = text.strip_prefix("old ") else {
            let checkpoint = text.parse()?;
            return Ok(Self {
                old: 0,
                proof: Vec::new(),
                checkpoint,
            });
        };
        let (old, mut rest) = rest.split_once('\n').ok_or(RequestError::Old)?;
        let old = parse_decimal(old).ok_or(RequestError::Old)?;
        let mut proof = Vec::new();
        for line in 2.. {
            let (hash, behind) = rest.split_once('\n').ok_or(RequestError::Hash { line })?;
            rest = behind;
            if hash.is_empty() {
                break;
            }
            if proof.len() == PROOF_LINES_MAX {
                return Err(RequestError::TooMany);
            }
            proof.push(parse_hash(hash).ok_or(RequestError::Hash { line })?);
        }
        Ok(Self {
            old,
            proof,
            checkpoint: rest.parse()?,
        })
    }
}

impl fmt::Display for CosignRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{}", hash_text(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::note::{Purpose, SigningKey};
    use super::super::tree::{Frontier, tests::leaves};
    use super::*;

    fn request() -> CosignRequest {
        let key = SigningKey::generate("example.com/log", Purpose::Note).unwrap();
        let mut frontier = Frontier::default();
        leaves(2).into_iter().for_each(|leaf| frontier.push(leaf));
        let head = Head {
            size: 2,
            root: frontier.root(),
        };
        CosignRequest {
            old: 1,
            proof: leaves(2).split_off(1),
            checkpoint: SignedCheckpoint::sign(head, &key).unwrap(),
        }
    }

    #[test]
    fn is_read_as_it_is_written_and_checked_against_what_was_seen() {
        let request = request();
        assert_eq!(request.to_string().parse(), Ok(request.clone()));
        let seen = Head {
            size: 1,
            root: leaves(1)[0],
        };
        assert_eq!(request.continues(seen), Ok(()));
        assert_eq!(request.continues(request.checkpoint.head()), Ok(()));
        let other = Head {
            root: leaves(2)[1],
            ..seen
        };
        assert!(request.continues(other).is_err());
        let unknown = Head { size: 0, ..seen };
        assert!(request.continues(unknown).is_err());
        let bare: CosignRequest = request.checkpoint.to_string().parse().unwrap();
        assert_eq!((bare.old, bare.proof.len()), (0, 0));
        assert!(bare.continues(seen).is_err(), "nothing shows it");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = request().to_string();
        let line = hash_text(&leaves(1)[0]) + "\n";
        for bad in [
            good.replace("old 1", "old 01"),
            good.replace("old 1", "old"),
            good.replace("old 1\n", "old 1\nAAAA\n"),
            good.replace(
                "old 1\n",
                &format!("old 1\n{}", line.repeat(PROOF_LINES_MAX)),
            ),
            "old 1\n".to_owned(),
            "old 1\n\n".to_owned(),
        ] {
            assert!(bad.parse::<CosignRequest>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(old )?[0-9]{0,3}\n?\\PC{0,50}") {
            let _ = text.parse::<CosignRequest>();
        }
    }
}
