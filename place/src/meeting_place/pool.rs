//! A map from which any number of entries can be drawn at random, each with the same chance.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module. Insertion, removal, looking up and drawing one are O(1). Entries lie side by side, so that going over
/// all of them is quick.
#[derive(Debug)]
pub(super) struct Pool<K, V> {
    entries: Vec<(K, V)>,
    at: HashMap<K, usize>,
    /// Removals so far, each of which may have moved an entry to the front.
    removals: u64,
}

/// How far somebody who lets go of the pool in between has gone over it, from its end to its beginning. A removal moves
/// the last entry forward, so what stays is seen at least once; see [`has_twice`](Self::has_twice).
#[derive(Debug, Clone, Default)]
pub(super) struct Walked {
    /// Entries in front that were not seen.
    left: Option<usize>,
    removals: Option<u64>,
    moved: bool,
}

impl Walked {
    /// Whether something may have been seen twice.
    pub(super) fn has_twice(&self) -> bool {
        self.moved
    }
}

impl<K: Clone + Eq + Hash, V> Pool<K, V> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            at: HashMap::new(),
            removals: 0,
        }
    }

    /// Puts `value` in the place of the one before, if there was one.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let known = self.at.get(&key).and_then(|at| self.entries.get_mut(*at));
        if let Some((_, before)) = known {
            *before = value;
            return;
        }
        self.at.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let hole = self.at.remove(key)?;
        self.removals += 1;
        let (_, removed) = self.entries.swap_remove(hole);
        if let Some((moved, _)) = self.entries.get(hole)
            && let Some(at) = self.at.get_mut(moved)
        {
            *at = hole;
        }
        Some(removed)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let (_, value) = self.entries.get(*self.at.get(key)?)?;
        Some(value)
    }

    /// The entry at any number below [`len`](Self::len).
    pub(super) fn draw(&self, number: usize) -> Option<(&K, &V)> {
        self.entries.get(number).map(|(key, value)| (key, value))
    }

    /// The next up to `most` entries of a walk, and whether there are more.
    pub(super) fn go_on<'p>(
        &'p self,
        walked: &mut Walked,
        most: usize,
    ) -> (impl Iterator<Item = (&'p K, &'p V)> + use<'p, K, V>, bool) {
        let before = walked.removals.replace(self.removals);
        walked.moved |= before.is_some_and(|before| before != self.removals);
        let end = walked.left.unwrap_or(usize::MAX).min(self.entries.len());
        let begin = end.saturating_sub(most);
        walked.left = Some(begin);
        let entries = self.entries.get(begin..end).unwrap_or_default().iter();
        let entries = entries.rev().map(|(key, value)| (key, value));
        (entries, begin > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pool_is_a_map(steps in prop::collection::vec((prop::option::of(0_u8..4), 0_u8..20), 0..200)) {
            let (mut pool, mut map) = (Pool::new(), BTreeMap::new());
            for (value, key) in steps {
                match value {
                    Some(value) => {
                        pool.insert(key, value);
                        map.insert(key, value);
                    }
                    None => prop_assert_eq!(pool.remove(&key), map.remove(&key)),
                }
                prop_assert_eq!(pool.len(), map.len());
                let mut walked = Walked::default();
                let (all, more) = pool.go_on(&mut walked, usize::MAX);
                prop_assert!(!more);
                let all = all.map(|(key, value)| (*key, *value));
                prop_assert_eq!(&all.collect::<BTreeMap<_, _>>(), &map);
                for key in 0..20 {
                    prop_assert_eq!(pool.get(&key), map.get(&key));
                }
                let drawn = (0..pool.len()).map(|number| pool.draw(number).unwrap());
                let drawn = drawn.map(|(key, value)| (*key, *value));
                prop_assert_eq!(&drawn.collect::<BTreeMap<_, _>>(), &map);
                prop_assert_eq!(pool.draw(pool.len()), None);
            }
        }

        #[test]
        fn a_walk_misses_nothing_that_stays_whatever_comes_and_goes(
            count in 0_u16..60,
            most in 1_usize..9,
            steps in prop::collection::vec(prop::collection::vec((any::<bool>(), 0_u16..80), 0..6), 0..40),
        ) {
            let mut pool = Pool::new();
            for key in 0..count {
                pool.insert(key, ());
            }
            let mut stay: std::collections::BTreeSet<u16> = (0..count).collect();
            let (mut walked, mut seen) = (Walked::default(), Vec::new());
            let mut steps = steps.into_iter();
            loop {
                let (entries, more) = pool.go_on(&mut walked, most);
                seen.extend(entries.map(|(key, ())| *key));
                if !more {
                    break;
                }
                for (insert, key) in steps.next().unwrap_or_default() {
                    match insert {
                        true => pool.insert(key, ()),
                        false => {
                            pool.remove(&key);
                            stay.remove(&key);
                        }
                    }
                }
            }
            let all: std::collections::BTreeSet<u16> = seen.iter().copied().collect();
            prop_assert!(all.is_superset(&stay));
            prop_assert!(all.len() == seen.len() || walked.has_twice());
        }
    }
}
