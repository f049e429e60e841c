//! How many bytes may be under way to the open packs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// So many bytes, shared by all who hand records over.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: Mutex<usize>,
    given_back: Condvar,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, used: Mutex::new(0), given_back: Condvar::new() }))
    }

    /// Waits until there is room. More than the whole budget is let through alone, when nothing else is under way.
    pub fn reserve(&self, bytes: usize) -> Permit {
        let Inner { limit, used, given_back } = self.0.as_ref();
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && used.saturating_add(bytes) > *limit {
            used = given_back.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Permit { budget: self.clone(), bytes }
    }
}

impl Permit {
    /// Takes a part out, to go its own way; never more than there is.
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), bytes }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.budget.0;
        *inner.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        inner.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn who_would_pass_the_limit_waits_until_there_is_room() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(90);
        let part = first.split(50);
        drop(first);
        let (told, tell) = (budget.clone(), mpsc::channel());
        std::thread::spawn(move || {
            let permit = told.reserve(60);
            tell.0.send(()).unwrap();
            drop(permit);
        });
        assert!(tell.1.recv_timeout(Duration::from_millis(50)).is_err(), "50 + 60 is too much");
        drop(part);
        tell.1.recv().unwrap();
        drop(budget.reserve(1000));
    }
}
