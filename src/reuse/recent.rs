//! A map of bounded size, which forgets what was not used for long.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A map with at most so many entries. A new one takes the place of one that was not used since it was last considered.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    limit: usize,
    entries: HashMap<K, Entry<V>>,
    /// All keys, the next one to consider first.
    order: VecDeque<K>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    is_used: bool,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// Creates a map for `limit` entries, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), entries: HashMap::new(), order: VecDeque::new() }
    }

    /// Returns the value of a key, which is used by that.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.get_mut(key)?;
        entry.is_used = true;
        Some(&mut entry.value)
    }

    /// Returns the value of a key, which is made by `new` if there is none.
    pub(crate) fn get_or_insert(&mut self, key: &K, new: impl FnOnce() -> V) -> &mut V {
        let is_known = self.entries.contains_key(key);
        if !is_known {
            while self.entries.len() >= self.limit && self.evict() {}
            self.order.push_back(key.clone());
        }
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry { value: new(), is_used: false });
        entry.is_used |= is_known;
        &mut entry.value
    }

    /// Returns all values.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// Forgets an entry that was not used for long. Returns whether there was one.
    pub(crate) fn evict(&mut self) -> bool {
        while let Some(key) = self.order.pop_front() {
            match self.entries.get_mut(&key) {
                Some(entry) if entry.is_used => {
                    entry.is_used = false;
                    self.order.push_back(key);
                }
                _ => return self.entries.remove(&key).is_some(),
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_number_of_entries_is_bounded() {
        let (mut recent, mut made) = (Recent::new(100), 0);
        for n in 0..10_000 {
            recent.get_or_insert(&n, || ());
            // Every image has this one.
            recent.get_or_insert(&10_000, || made += 1);
        }
        assert_eq!(made, 1);
        assert_eq!((recent.entries.len(), recent.order.len()), (100, 100));
        assert!(recent.evict() && recent.entries.len() == 99);
        assert!(recent.get(&9_999).is_some() && recent.get(&9_000).is_none());
    }
}
