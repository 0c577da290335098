//! Which part of one list is which part of another.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Fate, Move, numbered};

/// From how much in common, in percent, a part is taken for a renamed one.
const RENAMED_FROM: usize = 60;
/// Most pairs that are compared to find what was renamed.
const COMPARED_MAX: usize = 100_000;

/// A part with its place on one or both sides.
pub(super) enum Pair<'a, T> {
    Before(&'a T),
    After(&'a T),
    Both {
        before: &'a T,
        after: &'a T,
        moved: Option<Move>,
    },
}

impl<'a, T> Pair<'a, T> {
    pub(super) fn before(&self) -> Option<&'a T> {
        match self {
            Self::Before(part) | Self::Both { before: part, .. } => Some(part),
            Self::After(_) => None,
        }
    }

    pub(super) fn after(&self) -> Option<&'a T> {
        match self {
            Self::After(part) | Self::Both { after: part, .. } => Some(part),
            Self::Before(_) => None,
        }
    }

    pub(super) fn moved(&self) -> Option<Move> {
        match self {
            Self::Both { moved, .. } => *moved,
            _ => None,
        }
    }

    pub(super) fn fate(&self) -> Fate {
        match self {
            Self::Before(_) => Fate::Removed,
            Self::After(_) => Fate::Added,
            Self::Both { .. } => Fate::Kept,
        }
    }
}

/// Pairs the parts of two lists: by key, then those that are left by how much they have in common. The pairs are in the
/// order of the later list, and what is gone comes last.
pub(super) fn align<'a, T, K: Clone + Eq + Hash>(
    before: &'a [T],
    after: &'a [T],
    key: impl Fn(&T) -> K,
    alike: impl Fn(&T, &T) -> usize,
) -> Vec<Pair<'a, T>> {
    let keys = numbered(before.iter().map(&key)).into_iter().zip(0..);
    let at: HashMap<_, usize> = keys.collect();
    let keys = numbered(after.iter().map(&key)).into_iter();
    let mut origin: Vec<Option<usize>> = keys.map(|key| at.get(&key).copied()).collect();
    let mut gone: Vec<usize> = (0..before.len()).collect();
    gone.retain(|at| !origin.contains(&Some(*at)));
    let mut compared = 0;
    for (origin, part) in origin.iter_mut().zip(after) {
        if origin.is_some() || compared + gone.len() > COMPARED_MAX {
            continue;
        }
        compared += gone.len();
        let likeness = gone.iter().enumerate().filter_map(|(slot, at)| {
            let likeness = alike(before.get(*at)?, part);
            (likeness >= RENAMED_FROM).then_some((likeness, slot))
        });
        // The first of the best, so that the result does not depend on chance.
        let best = likeness.max_by_key(|(likeness, slot)| (*likeness, usize::MAX - slot));
        *origin = best.map(|(_, slot)| gone.remove(slot));
    }
    let stays = rising(&origin);
    let mut pairs = Vec::with_capacity(after.len() + gone.len());
    for (to, ((origin, part), stays)) in origin.iter().zip(after).zip(stays).enumerate() {
        pairs.push(
            match origin.and_then(|from| Some((from, before.get(from)?))) {
                None => Pair::After(part),
                Some((from, before)) => Pair::Both {
                    before,
                    after: part,
                    moved: (!stays).then_some(Move { from, to }),
                },
            },
        );
    }
    pairs.extend(
        gone.into_iter()
            .filter_map(|at| before.get(at))
            .map(Pair::Before),
    );
    pairs
}

/// Which places belong to a longest rising row: what is not in it has moved.
fn rising(origin: &[Option<usize>]) -> Vec<bool> {
    // For each length of a row, where the row of this length with the lowest end ends.
    let mut ends: Vec<(usize, usize)> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(origin.len());
    for (at, from) in origin.iter().enumerate() {
        let Some(from) = *from else {
            previous.push(None);
            continue;
        };
        let length = ends.partition_point(|(end, _)| *end < from);
        let before = length.checked_sub(1).and_then(|shorter| ends.get(shorter));
        previous.push(before.map(|(_, at)| *at));
        match ends.get_mut(length) {
            Some(end) => *end = (from, at),
            None => ends.push((from, at)),
        }
    }
    let mut stays = vec![false; origin.len()];
    let mut at = ends.last().map(|(_, at)| *at);
    while let Some(place) = at {
        if let Some(stays) = stays.get_mut(place) {
            *stays = true;
        }
        at = previous.get(place).copied().flatten();
    }
    stays
}
