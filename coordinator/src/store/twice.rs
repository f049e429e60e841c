//! Small, precious objects exist twice (INV-73): both copies are written, either one is read, and a bad one is healed from the
//! other.
//!
//! Whether bytes are the object's own is for the caller's check, which needs no key: a hash in the name, a digest at the
//! end, a signature. Only bytes that passed it can take the place of others.

use super::{ByteRange, ObjectName, Settled, Store, StoreError, Unsettled, put_settled};
use bytes::Bytes;
use std::fmt::Display;

/// Bytes that were found to be those of an object: what a store may put in place of a bad or missing copy.
#[derive(Debug)]
pub struct Intact {
    name: ObjectName,
    bytes: Bytes,
    problem: String,
}

impl Intact {
    /// The copy to be written.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// What it holds.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What was wrong with the copy.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// For the suite that every store must pass, which has objects of its own.
    pub(super) fn found_for_conformance(name: &ObjectName, bytes: Bytes) -> Self {
        Self { name: name.clone(), bytes, problem: String::new() }
    }
}

/// Puts both copies of each object; answers the first that did not end well. Another object under the name of a first
/// copy is that: under the name of a second one it is bad, and is replaced.
pub fn put_twice(store: &dyn Store, objects: &[(ObjectName, Bytes)]) -> Result<(), NotPut> {
    let both = objects.iter().flat_map(|(name, bytes)| [(name.clone(), bytes.clone()), (name.copy(), bytes.clone())]);
    let both: Vec<(ObjectName, Bytes)> = both.collect();
    let ended = put_all(store, &both);
    for ((name, bytes), ended) in both.into_iter().zip(ended) {
        match ended {
            Ok(Settled::There) => {}
            Ok(Settled::Other) if name.is_copy() => {
                heal(store, name, bytes, &OTHER).map_err(|(object, source)| {
                    let source = Unsettled { absent: false, source };
                    NotPut::Failed { object, source }
                })?;
            }
            Ok(Settled::Other) => return Err(NotPut::Taken { object: name }),
            Err(source) => return Err(NotPut::Failed { object: name, source }),
        }
    }
    Ok(())
}

/// At once where each waits for a disk: together they take about as long as one.
fn put_all(store: &dyn Store, objects: &[(ObjectName, Bytes)]) -> Vec<Result<Settled, Unsettled>> {
    let put = |(name, bytes): &(ObjectName, Bytes)| put_settled(store, name, bytes);
    if !store.puts_wait() {
        return objects.iter().map(put).collect();
    }
    std::thread::scope(|scope| {
        let start = |object| std::thread::Builder::new().spawn_scoped(scope, move || put(object));
        let started: Vec<_> = objects.iter().map(start).collect();
        let ended = started.into_iter().zip(objects).map(|(thread, object)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // There are too many threads.
            Err(_) => put(object),
        });
        ended.collect()
    })
}

/// Why not both copies of an object are there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotPut {
    /// A copy could not be written.
    #[error("cannot put {object}")]
    Failed {
        /// The copy.
        object: ObjectName,
        /// Why.
        source: Unsettled,
    },
    /// Another object has the name.
    #[error("{object} is there already with other content")]
    Taken {
        /// The object.
        object: ObjectName,
    },
}

/// Writes the second copy of an object whose first one is durable. A failure is no error of whoever put the object: a
/// later start or `verify` writes it.
pub fn add_copy(store: &dyn Store, name: &ObjectName, bytes: Bytes) {
    let copy = name.copy();
    let failed = match put_settled(store, &copy, &bytes) {
        Ok(Settled::There) => return,
        Ok(Settled::Other) => heal(store, copy.clone(), bytes, &OTHER).map_err(|(_, error)| error.to_string()),
        Err(error) => Err(error.source.to_string()),
    };
    if let Err(error) = failed {
        tracing::warn!(object = %copy, %error, "a second copy was not written; `lifeboat repository verify` writes it");
    }
}

/// Reads an object: whichever copy passes the check. A bad or missing copy that was met is healed from the other.
///
/// # Errors
/// The outer one: no copy could be read, and nothing is known. The inner one is the check's: a copy was read, and none
/// passed.
pub fn read_either<T, E: Display>(
    store: &dyn Store,
    name: &ObjectName,
    mut check: impl FnMut(&Bytes) -> Result<T, E>,
) -> Result<Result<T, E>, StoreError> {
    let first = match read(store, name, &mut check) {
        Ok((value, _)) => return Ok(Ok(value)),
        Err(problem) => problem,
    };
    match read(store, &name.copy(), &mut check) {
        Ok((value, bytes)) => {
            mend(store, name.clone(), bytes, &first);
            Ok(Ok(value))
        }
        Err(second) => worst_of(first, second),
    }
}

/// Writes both copies of an object of which none is intact, from bytes that were kept elsewhere, if they pass the check.
/// Answers whether they were written.
pub fn bring_back(
    store: &dyn Store,
    name: &ObjectName,
    kept: &Bytes,
    check: impl Fn(&Bytes) -> Result<(), String>,
) -> Result<bool, StoreError> {
    let is_there = read_either(store, name, &check).is_ok_and(|read| read.is_ok());
    if is_there || check(kept).is_err() {
        return Ok(false);
    }
    for name in [name.clone(), name.copy()] {
        heal(store, name, kept.clone(), &"no copy in the repository was intact").map_err(|(_, error)| error)?;
    }
    Ok(true)
}

/// What became of the copies of an object that were both looked at.
#[derive(Debug)]
pub enum Copies {
    /// Both are intact.
    Whole,
    /// One was bad or missing, for this reason, and was written again.
    Healed(ObjectName, Problem<String>),
    /// One is bad or missing, and could not be written again: the last says why.
    OneLeft(ObjectName, Problem<String>, StoreError),
    /// None is intact: what is wrong with the first.
    Lost(Problem<String>),
}

/// What is said of a second copy with other bytes.
const OTHER: &str = "it differs from the first copy";
/// What is said of a copy that is not there.
pub const MISSING: &str = "it is missing";

/// Why a copy is of no use.
#[derive(Debug)]
pub enum Problem<E> {
    /// It cannot be read, or is not there.
    Store(StoreError),
    /// It did not pass the check.
    Check(E),
}

impl<E: Display> Display for Problem<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) if error.is_not_found() => f.write_str(MISSING),
            Self::Store(error) => error.fmt(f),
            Self::Check(error) => error.fmt(f),
        }
    }
}

impl<E> Problem<E> {
    /// Whether the copy is certainly not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_not_found())
    }
}

/// Looks at both copies, and heals one from the other. Where both pass the check, the first one decides.
pub fn check_both(store: &dyn Store, name: &ObjectName, check: impl Fn(&[u8]) -> Result<(), String>) -> Copies {
    let mut check = |bytes: &Bytes| check(bytes);
    let (first, second) = (read(store, name, &mut check), read(store, &name.copy(), &mut check));
    let (bad, problem, bytes) = match (first, second) {
        (Ok((_, first)), Ok((_, second))) if first == second => return Copies::Whole,
        (Ok((_, bytes)), Ok(_)) => (name.copy(), Problem::Check(OTHER.to_owned()), bytes),
        (Ok((_, bytes)), Err(problem)) => (name.copy(), problem, bytes),
        (Err(problem), Ok((_, bytes))) => (name.clone(), problem, bytes),
        (Err(problem), Err(_)) => return Copies::Lost(problem),
    };
    match heal(store, bad, bytes, &problem) {
        Ok(bad) => Copies::Healed(bad, problem),
        Err((bad, error)) => Copies::OneLeft(bad, problem, error),
    }
}

/// The names of a kind under which a copy lies, the first or the second: as those of the first.
pub fn list_either(store: &dyn Store, kind: super::ObjectKind) -> Result<Vec<ObjectName>, StoreError> {
    let mut names = store.list(kind)?;
    names.extend(store.list_copies(kind)?.into_iter().map(ObjectName::into_first));
    names.sort();
    names.dedup();
    Ok(names)
}

type Read<T, E> = Result<(T, Bytes), Problem<E>>;

fn read<T, E>(store: &dyn Store, name: &ObjectName, check: &mut impl FnMut(&Bytes) -> Result<T, E>) -> Read<T, E> {
    let bytes = store.get(name, ByteRange::Whole).map_err(Problem::Store)?;
    let value = check(&bytes).map_err(Problem::Check)?;
    Ok((value, bytes))
}

fn heal(
    store: &dyn Store,
    name: ObjectName,
    bytes: Bytes,
    problem: &dyn Display,
) -> Result<ObjectName, (ObjectName, StoreError)> {
    let intact = Intact { name, bytes, problem: problem.to_string() };
    match store.heal(&intact) {
        Ok(()) => Ok(intact.name),
        Err(error) => Err((intact.name, error)),
    }
}

fn mend<E: Display>(store: &dyn Store, name: ObjectName, bytes: Bytes, problem: &Problem<E>) {
    match heal(store, name, bytes, problem) {
        Ok(name) => tracing::warn!(object = %name, %problem, "an object was bad, and was healed from its second copy"),
        Err((name, error)) => {
            tracing::error!(object = %name, %problem, %error, "an object is bad, and only its second copy is left");
        }
    }
}

/// What to say when neither copy is of use: absence only if both are absent, and what was found wrong before what is
/// not known.
fn worst_of<T, E>(first: Problem<E>, second: Problem<E>) -> Result<Result<T, E>, StoreError> {
    match (first, second) {
        (Problem::Check(error), _) | (_, Problem::Check(error)) => Ok(Err(error)),
        (Problem::Store(first), Problem::Store(second)) if first.is_not_found() && !second.is_not_found() => {
            Err(second)
        }
        (Problem::Store(first), Problem::Store(_)) => Err(first),
    }
}

#[cfg(test)]
mod tests {
    use super::super::faulty::{Call, Fault, Faulty};
    use super::super::memory::MemoryStore;
    use super::*;

    const GOOD: &[u8] = b"good";

    fn name() -> ObjectName {
        ObjectName::trust(1)
    }

    fn is_good(bytes: &[u8]) -> Result<(), String> {
        if bytes == GOOD { Ok(()) } else { Err("bad".to_owned()) }
    }

    /// A store with both copies, or other bytes in their place, or nothing.
    fn store(first: Option<&'static [u8]>, second: Option<&'static [u8]>) -> (MemoryStore, Faulty<MemoryStore>) {
        let objects = MemoryStore::new();
        objects.damage(&name(), first.map(Bytes::from_static));
        objects.damage(&name().copy(), second.map(Bytes::from_static));
        (objects.clone(), Faulty::new(objects))
    }

    fn both(objects: &MemoryStore) -> [Option<Bytes>; 2] {
        [name(), name().copy()].map(|name| objects.get(&name, ByteRange::Whole).ok())
    }

    #[test]
    fn inv_73_either_copy_is_read_and_the_other_is_healed() {
        let whole = [Some(Bytes::from_static(GOOD)), Some(Bytes::from_static(GOOD))];
        for bad in [None, Some(b"bad".as_slice()), Some(b"".as_slice())] {
            let (objects, faulty) = store(bad, Some(GOOD));
            assert!(read_either(&faulty, &name(), |bytes| is_good(bytes)).unwrap().is_ok());
            assert_eq!(both(&objects), whole, "{bad:?}");
            for (first, second) in [(bad, Some(GOOD)), (Some(GOOD), bad)] {
                let (objects, faulty) = store(first, second);
                let healed = check_both(&faulty, &name(), is_good);
                assert!(matches!(healed, Copies::Healed(..)), "{healed:?}");
                assert_eq!(both(&objects), whole, "{bad:?}");
                assert!(matches!(check_both(&faulty, &name(), is_good), Copies::Whole));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_absence_and_what_was_found_wrong_is_said_first() {
        let (_, faulty) = store(None, None);
        let read = |faulty: &Faulty<MemoryStore>| read_either(faulty, &name(), |bytes| is_good(bytes));
        assert!(read(&faulty).is_err_and(|error| error.is_not_found()));
        for unreadable in [name(), name().copy()] {
            faulty.fail_reads_of(&unreadable, true);
            assert!(read(&faulty).is_err_and(|error| !error.is_not_found()), "{unreadable}");
            faulty.fail_reads_of(&unreadable, false);
        }
        for (first, second) in [(Some(b"x".as_slice()), None), (None, Some(b"x".as_slice()))] {
            assert_eq!(read(&store(first, second).1).unwrap(), Err("bad".to_owned()));
            assert!(matches!(check_both(&store(first, second).1, &name(), is_good), Copies::Lost(_)));
        }
    }

    #[test]
    fn inv_73_an_object_counts_as_put_only_when_both_copies_are_there() {
        let object = || [(name(), Bytes::from_static(GOOD))];
        for at in 0..2 {
            let (_, faulty) = store(None, None);
            faulty.fault(at, Fault::Fails);
            assert!(matches!(put_twice(&faulty, &object()), Err(NotPut::Failed { .. })), "{at}");
            put_twice(&faulty, &object()).unwrap();
        }
        let (objects, faulty) = store(None, Some(b"half a copy"));
        put_twice(&faulty, &object()).unwrap();
        assert_eq!(both(&objects), [Some(Bytes::from_static(GOOD)), Some(Bytes::from_static(GOOD))]);
        let (objects, faulty) = store(Some(b"another object"), None);
        assert!(matches!(put_twice(&faulty, &object()), Err(NotPut::Taken { .. })));
        assert_eq!(both(&objects)[0].as_deref(), Some(b"another object".as_slice()), "a first copy is never replaced");
        assert!(!faulty.calls().iter().any(|call| matches!(call, Call::Heal(_))));
    }

    #[test]
    fn inv_73_kept_bytes_take_the_place_of_an_object_only_if_they_are_its_own_and_no_copy_is_intact() {
        let back = |objects: &Faulty<MemoryStore>, kept: &'static [u8]| {
            bring_back(objects, &name(), &Bytes::from_static(kept), |bytes| is_good(bytes)).unwrap()
        };
        for (first, second) in
            [(None, None), (Some(b"bad".as_slice()), None), (Some(b"x".as_slice()), Some(b"y".as_slice()))]
        {
            let (objects, faulty) = store(first, second);
            assert!(!back(&faulty, b"bad"));
            assert_eq!(both(&objects), [first, second].map(|bytes| bytes.map(Bytes::from_static)));
            assert!(back(&faulty, GOOD));
            assert_eq!(both(&objects), [Some(Bytes::from_static(GOOD)), Some(Bytes::from_static(GOOD))]);
        }
        let (_, faulty) = store(None, Some(GOOD));
        assert!(!back(&faulty, GOOD), "one copy is enough");
    }

    #[test]
    fn a_copy_that_cannot_be_written_again_is_said_to_be_the_only_one() {
        let (objects, faulty) = store(Some(b"bad"), Some(GOOD));
        faulty.fault(0, Fault::Full);
        assert!(read_either(&faulty, &name(), |bytes| is_good(bytes)).unwrap().is_ok());
        faulty.fault(0, Fault::Full);
        assert!(matches!(check_both(&faulty, &name(), is_good), Copies::OneLeft(..)));
        assert_eq!(both(&objects)[0].as_deref(), Some(b"bad".as_slice()));
    }
}
