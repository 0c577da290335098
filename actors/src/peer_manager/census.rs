//! How many peers there are of each kind, without looking at all of them.

use super::table::{Peer, Trust};

/// How many peers there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Those that are [`Trust::Seen`].
    pub seen: usize,
    /// Those that are [`Trust::Met`].
    pub met: usize,
    /// Those that are [`Trust::Trusted`].
    pub trusted: usize,
    /// Those of any trust for whose id another key was shown.
    pub conflicts: usize,
}

impl Census {
    pub(super) fn of(peer: &Peer) -> Self {
        let one = |is: bool| usize::from(is);
        Self {
            seen: one(peer.trust == Trust::Seen),
            met: one(peer.trust == Trust::Met),
            trusted: one(peer.trust == Trust::Trusted),
            conflicts: one(peer.conflict.is_some()),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.with(other, usize::saturating_sub)
    }

    fn with(self, other: Self, each: impl Fn(usize, usize) -> usize) -> Self {
        Self {
            seen: each(self.seen, other.seen),
            met: each(self.met, other.met),
            trusted: each(self.trusted, other.trusted),
            conflicts: each(self.conflicts, other.conflicts),
        }
    }
}
