//! A map from which any number of entries can be drawn at random, each with the same chance.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module. Insertion, removal, looking up and drawing one are O(1). Entries lie side by side, so that going over
/// all of them is quick.
#[derive(Debug)]
pub(super) struct Pool<K, V> {
    entries: Vec<(K, V)>,
    at: HashMap<K, usize>,
}

impl<K: Clone + Eq + Hash, V> Pool<K, V> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            at: HashMap::new(),
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

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
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
                let all = pool.iter().map(|(key, value)| (*key, *value));
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
    }
}
