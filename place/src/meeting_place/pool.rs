//! A set from which any number of members can be drawn at random, each with the same chance.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module. Insertion, removal and drawing one are O(1).
#[derive(Debug)]
pub(super) struct Pool<K> {
    members: Vec<K>,
    at: HashMap<K, usize>,
}

impl<K: Clone + Eq + Hash> Pool<K> {
    pub(super) fn new() -> Self {
        Self {
            members: Vec::new(),
            at: HashMap::new(),
        }
    }

    pub(super) fn insert(&mut self, member: K) {
        if !self.at.contains_key(&member) {
            self.at.insert(member.clone(), self.members.len());
            self.members.push(member);
        }
    }

    pub(super) fn remove(&mut self, member: &K) {
        let Some(hole) = self.at.remove(member) else {
            return;
        };
        self.members.swap_remove(hole);
        if let Some(moved) = self.members.get(hole) {
            self.at.insert(moved.clone(), hole);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&K> {
        self.members.get(at)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &K> {
        self.members.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pool_is_a_set(steps in prop::collection::vec((any::<bool>(), 0_u8..20), 0..200)) {
            let (mut pool, mut set) = (Pool::new(), BTreeSet::new());
            for (insert, member) in steps {
                if insert {
                    pool.insert(member);
                    set.insert(member);
                } else {
                    pool.remove(&member);
                    set.remove(&member);
                }
                prop_assert_eq!(pool.len(), set.len());
                prop_assert_eq!(&pool.iter().copied().collect::<BTreeSet<_>>(), &set);
            }
        }
    }
}
