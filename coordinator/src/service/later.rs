//! Records that may wait: they go into the journal with the next batch that is written anyway, or within a minute. So a
//! thousand small records cost one object, not a thousand.
//!
//! Only what is a fact already without its record may wait: a kill within that minute loses it.

use super::{Context, failure};
use lifeboat_format::journal::Act;
use lifeboat_proto::status::Failure;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records that wait at most; one more is written at once, and they with it.
const WAITING_MAX: usize = 1000;

/// Records that wait.
#[derive(Debug, Default)]
pub struct Later(Mutex<Vec<Act>>);

impl Later {
    fn lock(&self) -> MutexGuard<'_, Vec<Act>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one; whether there are so many now that they must be written.
    fn add(&self, act: Act) -> bool {
        let mut waiting = self.lock();
        waiting.push(act);
        waiting.len() > WAITING_MAX
    }

    fn take(&self) -> Vec<Act> {
        std::mem::take(&mut *self.lock())
    }

    /// Puts back what could not be written, before what came meanwhile. If the disk stays full, the oldest are kept.
    fn put_back(&self, mut acts: Vec<Act>) {
        let mut waiting = self.lock();
        acts.append(&mut waiting);
        acts.truncate(2 * WAITING_MAX);
        *waiting = acts;
    }
}

impl Context {
    /// Records what somebody did, and what waits, in one batch. Blocks until it is durable.
    pub(super) fn record_all(&self, acts: Vec<Act>) -> Result<(), Failure> {
        let mut batch = self.later.take();
        batch.extend(self.refused_acts());
        let waited = batch.clone();
        batch.extend(acts);
        if batch.is_empty() {
            return Ok(());
        }
        self.coordinator.record(batch).map(drop).map_err(|error| {
            self.later.put_back(waited);
            failure::of_fact(&error)
        })
    }

    /// Records what somebody did with the next batch. Blocks only if too much waits already.
    pub(super) fn record_later(&self, act: Act) -> Result<(), Failure> {
        if self.later.add(act) { self.record_all(Vec::new()) } else { Ok(()) }
    }

    /// Writes what waits into the journal. Blocks.
    pub fn record_waiting(&self) {
        if let Err(error) = self.record_all(Vec::new()) {
            tracing::error!(%error, "what was read and refused could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::journal::{Decision, Event, Principal};

    fn act(time_ns: i64) -> Act {
        let (verb, object) = ("read".to_owned(), String::new());
        Act { time_ns, principal: Principal::LocalRoot, verb, object, decision: Decision::Done, event: Event::Nothing }
    }

    #[test]
    fn what_could_not_be_written_waits_again_in_its_order_and_within_bounds() {
        let later = Later::default();
        assert!((0..WAITING_MAX as i64).all(|number| !later.add(act(number))));
        let taken = later.take();
        later.add(act(5000));
        later.put_back(taken);
        let times: Vec<_> = later.lock().iter().map(|act| act.time_ns).collect();
        assert_eq!(times, (0..WAITING_MAX as i64).chain([5000]).collect::<Vec<_>>());
        assert!(later.add(act(5001)), "more than may wait");
        let taken = later.take();
        for number in 0..5000 {
            later.add(act(number));
        }
        later.put_back(taken);
        assert_eq!(later.lock().len(), 2 * WAITING_MAX);
    }
}
