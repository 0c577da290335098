//! Checking that a leaf is in a tree, and that one tree continues another.
//!
//! The algorithms are those of RFC 9162, sections 2.1.3.2 and 2.1.4.2, for the tree of RFC 6962. Both cost as many
//! hashes as the proof has, which is at most [`PROOF_MAX`].

use thiserror::Error;

use super::tree::{empty_root, node_hash};
use crate::hash::ContentHash;

/// Most hashes of a proof: a tree of 2^64 leaves has that many levels.
pub const PROOF_MAX: usize = 64;

/// Why a proof shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProofError {
    /// There is no such leaf.
    #[error("there is no entry {index} in a tree of {size}")]
    OutOfRange {
        /// The position asked for.
        index: u64,
        /// Number of leaves.
        size: u64,
    },
    /// A tree does not get smaller.
    #[error("a tree of {old} cannot be continued by one of {new}")]
    Backwards {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// Too few or too many hashes for trees of these sizes.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The hashes do not lead to the root of the tree.
    #[error("the proof does not lead to the root of the tree")]
    Root,
    /// The hashes lead to the root of the newer tree, but from another older one.
    #[error("the newer tree continues another one than the older tree")]
    OldRoot,
}

/// Two positions on the way up: that of a node, and that of the last node on its level.
struct Climb {
    node: u64,
    last: u64,
}

impl Climb {
    fn up(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }

    /// Whether the next hash of the proof stands to the left. Goes up past the levels without a sibling.
    fn sibling_is_left(&mut self) -> Result<bool, ProofError> {
        if self.last == 0 {
            return Err(ProofError::Length);
        }
        let left = self.node & 1 == 1 || self.node == self.last;
        if left {
            while self.node & 1 == 0 && self.node != 0 {
                self.up();
            }
        }
        self.up();
        Ok(left)
    }

    fn arrived(&self) -> Result<(), ProofError> {
        match self.last {
            0 => Ok(()),
            _ => Err(ProofError::Length),
        }
    }
}

/// Checks that `leaf` stands at `index` of the tree of `size` leaves with `root`.
pub fn verify_inclusion(
    leaf: &ContentHash,
    index: u64,
    size: u64,
    root: &ContentHash,
    proof: &[ContentHash],
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange { index, size });
    }
    let mut climb = Climb {
        node: index,
        last: size - 1,
    };
    let mut hash = *leaf;
    for sibling in proof {
        hash = match climb.sibling_is_left()? {
            true => node_hash(sibling, &hash),
            false => node_hash(&hash, sibling),
        };
    }
    climb.arrived()?;
    match hash == *root {
        true => Ok(()),
        false => Err(ProofError::Root),
    }
}

/// A tree as a proof speaks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of leaves.
    pub size: u64,
    /// The root over them.
    pub root: ContentHash,
}

/// Checks that the first leaves of the tree `new` are those of the tree `old`.
///
/// The empty tree is continued by every tree, with an empty proof. [`ProofError::OldRoot`] means more than a proof
/// that failed: the tree `new` is then known to begin otherwise than `old`.
pub fn verify_consistency(old: Head, new: Head, proof: &[ContentHash]) -> Result<(), ProofError> {
    match beginning(old, new, proof)? == old.root {
        true => Ok(()),
        false => Err(ProofError::OldRoot),
    }
}

/// The root over as many of the first leaves of the tree `new` as `old` has, as the proof shows it: that of `old`, or
/// another one if `new` is known to begin otherwise.
///
/// Fails if the proof does not lead to `new`. Where `old` is a complete subtree by its size, a proof does not hold the
/// other root, so only that of `old` can be shown.
pub fn beginning(old: Head, new: Head, proof: &[ContentHash]) -> Result<ContentHash, ProofError> {
    if old.size > new.size {
        return Err(ProofError::Backwards {
            old: old.size,
            new: new.size,
        });
    }
    if old.size == new.size || old.size == 0 {
        return match (proof.is_empty(), old.size) {
            (false, _) => Err(ProofError::Length),
            (true, 0) => Ok(empty_root()),
            (true, _) => Ok(new.root),
        };
    }
    let mut climb = Climb {
        node: old.size - 1,
        last: new.size - 1,
    };
    while climb.node & 1 == 1 {
        climb.up();
    }
    // Where the old tree is a complete subtree of the new one, its root stands for the first hash.
    let mut rest = proof.iter();
    let first = match old.size.is_power_of_two() {
        true => &old.root,
        false => rest.next().ok_or(ProofError::Length)?,
    };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if climb.sibling_is_left()? {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
    }
    climb.arrived()?;
    match new_hash == new.root {
        true => Ok(old_hash),
        false => Err(ProofError::Root),
    }
}
