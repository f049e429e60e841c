//! What was read lately: nodes and chunks, within bounds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Values by key; those that were not used for longest go when it is full.
#[derive(Debug)]
pub struct Lately<K, V> {
    values: HashMap<K, (V, u64, u64)>,
    /// By when they were used.
    order: BTreeMap<u64, K>,
    now: u64,
    weight: u64,
    weight_max: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Lately<K, V> {
    /// Room for values that weigh so much together.
    pub fn new(weight_max: u64) -> Self {
        Self { values: HashMap::new(), order: BTreeMap::new(), now: 0, weight: 0, weight_max }
    }

    /// A value, which counts as used now.
    pub fn get(&mut self, key: &K) -> Option<V> {
        let (value, _, used) = self.values.get_mut(key)?;
        self.now += 1;
        self.order.remove(used);
        *used = self.now;
        self.order.insert(self.now, *key);
        Some(value.clone())
    }

    /// Keeps a value, and forgets others.
    pub fn keep(&mut self, key: K, value: V, weight: u64) {
        self.now += 1;
        if let Some((_, weight, used)) = self.values.insert(key, (value, weight, self.now)) {
            self.weight -= weight;
            self.order.remove(&used);
        }
        self.weight += weight;
        self.order.insert(self.now, key);
        while self.weight > self.weight_max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some((_, weight, _)) = self.values.remove(&oldest) {
                self.weight -= weight;
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.values.clear();
        self.order.clear();
        self.weight = 0;
    }
}

/// Values that several threads want, each fetched by one of them.
#[derive(Debug)]
pub struct Shared<K, V> {
    state: Mutex<State<K, Arc<V>>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<K, V> {
    lately: Lately<K, V>,
    under_way: HashSet<K>,
}

impl<K: Copy + Eq + Hash, V> Shared<K, V> {
    /// Room for values that weigh so much together.
    pub fn new(weight_max: u64) -> Self {
        let state = State { lately: Lately::new(weight_max), under_way: HashSet::new() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, Arc<V>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of `wanted`. What nobody has or fetches is fetched here by `fetch`, together with those of `ahead` that
    /// are missing too, and kept with its weight; the values come back in the order of the question.
    ///
    /// # Errors
    /// That of a value that could not be had. None of the others is lost by it.
    pub fn get<E: Clone>(
        &self,
        wanted: &[K],
        ahead: &[K],
        mut fetch: impl FnMut(&[K]) -> Result<Vec<(Result<Arc<V>, E>, u64)>, E>,
    ) -> Result<Vec<Arc<V>>, E> {
        let mut found = HashMap::new();
        loop {
            let mut state = self.lock();
            let missing: Vec<K> = {
                let open = wanted.iter().filter(|key| !found.contains_key(*key)).copied().collect::<Vec<_>>();
                for key in open {
                    if let Some(value) = state.lately.get(&key) {
                        found.insert(key, value);
                    }
                }
                wanted.iter().filter(|key| !found.contains_key(*key)).copied().collect()
            };
            if missing.is_empty() {
                let values = wanted.iter().filter_map(|key| found.get(key).cloned());
                return Ok(values.collect());
            }
            let mut own: Vec<K> = Vec::new();
            for key in missing.iter().filter(|key| !state.under_way.contains(*key)) {
                if !own.contains(key) {
                    own.push(*key);
                }
            }
            if own.is_empty() {
                // Another thread fetches what is missing.
                drop(self.changed.wait(state).unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            for key in ahead {
                if !state.under_way.contains(key) && !own.contains(key) && state.lately.get(key).is_none() {
                    own.push(*key);
                }
            }
            state.under_way.extend(&own);
            drop(state);
            let fetched = fetch(&own);
            let mut state = self.lock();
            own.iter().for_each(|key| {
                state.under_way.remove(key);
            });
            self.changed.notify_all();
            for (key, (value, weight)) in own.iter().zip(fetched?) {
                match value {
                    Ok(value) => {
                        found.insert(*key, value.clone());
                        state.lately.keep(*key, value, weight);
                    }
                    Err(error) if wanted.contains(key) => return Err(error),
                    Err(_) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut lately = Lately::new(10);
        lately.keep(1, 'a', 4);
        lately.keep(2, 'b', 4);
        assert_eq!(lately.get(&1), Some('a'));
        lately.keep(3, 'c', 4);
        assert_eq!((lately.get(&1), lately.get(&2), lately.get(&3)), (Some('a'), None, Some('c')));
        lately.keep(3, 'd', 9);
        assert_eq!((lately.get(&1), lately.get(&3)), (None, Some('d')));
        lately.keep(4, 'e', 11);
        assert_eq!((lately.get(&3), lately.get(&4)), (None, None), "too heavy for all the room");
    }

    #[test]
    fn several_threads_that_want_one_value_fetch_it_once() {
        let (shared, fetched) = (Shared::<u32, u32>::new(100), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let values = shared.get::<()>(&[7, 8, 7], &[9], |keys| {
                        fetched.fetch_add(keys.len(), Ordering::Relaxed);
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        Ok(keys.iter().map(|key| (Ok(Arc::new(key * 2)), 1)).collect())
                    });
                    assert_eq!(values.unwrap().iter().map(|value| **value).collect::<Vec<_>>(), [14, 16, 14]);
                });
            }
        });
        assert_eq!(fetched.into_inner(), 3);
    }

    #[test]
    fn a_value_that_cannot_be_had_fails_those_who_want_it_and_is_tried_again() {
        let shared = Shared::<u32, u32>::new(100);
        let fetch = |works: bool| {
            move |keys: &[u32]| {
                Ok(keys
                    .iter()
                    .map(|key| (if works || *key == 1 { Ok(Arc::new(*key)) } else { Err("lost") }, 1))
                    .collect())
            }
        };
        assert_eq!(shared.get(&[1], &[2], fetch(false)).unwrap().len(), 1, "what was only read ahead fails nobody");
        assert_eq!(shared.get(&[1, 2], &[], fetch(false)), Err("lost"));
        assert_eq!(shared.get(&[1, 2], &[], fetch(true)).unwrap().len(), 2);
        assert_eq!(shared.get(&[3], &[], |_| Err("no coordinator")), Err("no coordinator"));
        assert_eq!(shared.get(&[3], &[], fetch(true)).unwrap().len(), 1);
    }
}
