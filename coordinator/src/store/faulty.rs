//! A store that fails on order, and remembers what it was asked: for tests and simulation.
//!
//! Only calls that change something are counted and can fail by number; reads fail while [`Faulty::fail_reads`] says so.

use super::twice::Intact;
use super::{Body, ByteRange, ObjectKind, ObjectName, Put, Spooled, Store, StoreError};
use crate::journal::Dead;
use bytes::Bytes;
use std::collections::HashSet;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the call says so.
    Fails,
    /// It is done, and the call says that it failed.
    DoneButSaysFailed,
    /// Nothing is done: the disk is full.
    Full,
    /// Nothing is done, now and ever after: the process is as good as dead.
    Crash,
}

/// Something that the store was asked to do, for tests of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A put, and how it ended; `None` if it failed.
    Put(ObjectName, Option<Put>),
    /// A copy that was written again.
    Heal(ObjectName),
    /// A delete.
    Delete(ObjectName),
}

/// Wraps a store.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    faults: Vec<(usize, Fault)>,
    calls: Vec<Call>,
    crashed: bool,
    reads_fail: bool,
    reads_fail_from: Option<usize>,
    unreadable: HashSet<ObjectName>,
    unreadable_once: HashSet<ObjectName>,
    held: Option<ObjectKind>,
}

impl<S> Faulty<S> {
    /// No faults yet.
    pub fn new(inner: S) -> Self {
        Self { inner, plan: Mutex::default(), changed: Condvar::new() }
    }

    /// At the `at`-th changing call from now, counted from 0.
    pub fn fault(&self, at: usize, fault: Fault) {
        let mut plan = self.plan();
        let at = plan.calls.len() + at;
        plan.faults.push((at, fault));
    }

    /// From now on reads fail, or no longer.
    pub fn fail_reads(&self, fail: bool) {
        let mut plan = self.plan();
        (plan.reads_fail, plan.reads_fail_from) = (fail, None);
    }

    /// From now on puts of this kind wait, as on a disk that is slow; with none, they continue.
    pub fn hold_puts_of(&self, kind: Option<ObjectKind>) {
        self.plan().held = kind;
        self.changed.notify_all();
    }

    /// From now on this object cannot be read, or can again.
    pub fn fail_reads_of(&self, name: &ObjectName, fail: bool) {
        let mut plan = self.plan();
        match fail {
            true => plan.unreadable.insert(name.clone()),
            false => plan.unreadable.remove(name),
        };
    }

    /// The next read of this object fails.
    pub fn fail_next_read_of(&self, name: &ObjectName) {
        self.plan().unreadable_once.insert(name.clone());
    }

    /// From the `at`-th changing call on, counted from 0, reads fail.
    pub fn fail_reads_after_puts(&self, at: usize) {
        let mut plan = self.plan();
        plan.reads_fail_from = Some(plan.calls.len() + at);
    }

    /// The store is sound again; what it was asked stays known.
    pub fn forget_faults(&self) {
        let mut plan = self.plan();
        *plan = Plan { calls: std::mem::take(&mut plan.calls), ..Plan::default() };
    }

    /// All changing calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.plan().calls.clone()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one changing call and says what goes wrong with it.
    fn count(&self, call: Call) -> (usize, Option<Fault>) {
        let mut plan = self.plan();
        let at = plan.calls.len();
        plan.calls.push(call);
        let fault = plan.faults.iter().find(|(when, _)| *when == at).map(|(_, fault)| *fault);
        plan.crashed |= fault == Some(Fault::Crash);
        (at, if plan.crashed { Some(Fault::Crash) } else { fault })
    }

    fn check_read(&self, name: &str) -> Result<(), StoreError> {
        let plan = self.plan();
        let reads_fail = plan.reads_fail || plan.reads_fail_from.is_some_and(|from| plan.calls.len() >= from);
        if plan.crashed || reads_fail {
            return Err(failed("read", name));
        }
        Ok(())
    }
}

fn failed(action: &'static str, name: &str) -> StoreError {
    StoreError::io(action, name, io::Error::other("a fault, on order"))
}

impl<S: Store> Store for Faulty<S> {
    fn spool(&self) -> Result<Spooled, StoreError> {
        self.inner.spool()
    }

    fn put(&self, name: &ObjectName, body: Body) -> Result<Put, StoreError> {
        let (at, fault) = self.count(Call::Put(name.clone(), None));
        let is_held = |plan: &mut Plan| plan.held == Some(name.kind());
        drop(self.changed.wait_while(self.plan(), is_held).unwrap_or_else(PoisonError::into_inner));
        match fault {
            None => {
                let put = self.inner.put(name, body)?;
                self.plan().calls[at] = Call::Put(name.clone(), Some(put));
                Ok(put)
            }
            Some(Fault::Full) => Err(StoreError::Full { path: name.path().into() }),
            Some(Fault::DoneButSaysFailed) => {
                self.inner.put(name, body)?;
                Err(failed("put", &name.path()))
            }
            Some(Fault::Fails | Fault::Crash) => Err(failed("put", &name.path())),
        }
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Bytes, StoreError> {
        self.check_read(&name.path())?;
        let mut plan = self.plan();
        if plan.unreadable.contains(name) || plan.unreadable_once.remove(name) {
            return Err(failed("read", &name.path()));
        }
        drop(plan);
        self.inner.get(name, range)
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        self.check_read(&name.path())?;
        self.inner.size(name)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError> {
        self.check_read(kind.directory())?;
        self.inner.list(kind)
    }

    fn list_copies(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError> {
        self.check_read(kind.directory())?;
        self.inner.list_copies(kind)
    }

    fn heal(&self, intact: &Intact) -> Result<(), StoreError> {
        match self.count(Call::Heal(intact.name().clone())).1 {
            None => self.inner.heal(intact),
            Some(_) => Err(failed("heal", &intact.name().path())),
        }
    }

    fn location(&self, kind: ObjectKind) -> String {
        self.inner.location(kind)
    }

    fn delete(&self, dead: Dead) -> Result<(), StoreError> {
        match self.count(Call::Delete(dead.object().clone())).1 {
            None => self.inner.delete(dead),
            Some(_) => Err(failed("delete", &dead.object().path())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryStore;
    use super::super::{Settled, put_settled};
    use super::*;

    #[test]
    fn inv_08_a_faulty_store_without_faults_conforms() {
        super::super::conformance::check(&Faulty::new(MemoryStore::new()));
    }

    #[test]
    fn inv_06_a_put_that_said_failed_is_read_back_and_counts_only_if_it_is_there() {
        let name = ObjectName::journal(1);
        let store = Faulty::new(MemoryStore::new());
        store.fault(0, Fault::Fails);
        assert!(put_settled(&store, &name, b"one").unwrap_err().absent);
        store.fault(0, Fault::DoneButSaysFailed);
        assert_eq!(put_settled(&store, &name, b"one").unwrap(), Settled::There);
        assert_eq!(put_settled(&store, &name, b"two").unwrap(), Settled::Other);
        store.fault(0, Fault::Fails);
        store.fail_reads(true);
        assert!(!put_settled(&store, &name, b"one").unwrap_err().absent, "nobody knows");
    }
}
