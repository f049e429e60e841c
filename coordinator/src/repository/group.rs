//! Group commit: what several threads want to record at the same time goes into one batch of the journal.
//!
//! A batch costs several syncs of the disk, and only one can be written at a time. Whoever finds nobody writing writes
//! for all who wait; who comes meanwhile is in the next batch. (DeWitt et al., Implementation Techniques for Main Memory
//! Database Systems, 1984, section 5.2.)

use super::{Coordinator, FactError};
use crate::journal::{Journal, JournalError};
use crate::shared::State;
use lifeboat_format::journal::{Act, Event};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// So many entries go into one batch at most.
const TOGETHER_MAX: usize = 256;

/// What somebody wants to have recorded.
pub(crate) trait Entry: Send {
    /// The acts, at a moment after which no other batch comes before them; none if they must not be recorded any more.
    fn decide(&mut self, state: &mut State) -> Option<Vec<Act>>;
    /// Whether what is decided depends on facts of which hosts may commit and of what is lost.
    fn depends_on_facts(&self) -> bool;
    /// The acts are facts, and have these sequences.
    fn recorded(&mut self, state: &mut State, sequences: Range<u64>);
}

/// Acts that are recorded whatever came before.
impl Entry for Vec<Act> {
    fn decide(&mut self, _: &mut State) -> Option<Vec<Act>> {
        Some(std::mem::take(self))
    }

    fn depends_on_facts(&self) -> bool {
        false
    }

    fn recorded(&mut self, _: &mut State, _: Range<u64>) {}
}

/// The sequences of an entry's acts; none if it was not to be recorded any more.
pub(crate) type Answer = Result<Option<Range<u64>>, FactError>;

type Numbered = (u64, Box<dyn Entry>);
type Decided = (u64, Box<dyn Entry>, Vec<Act>);

/// Who waits to be recorded, in order.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    is_writing: bool,
    entries: VecDeque<Numbered>,
    answers: HashMap<u64, Answer>,
}

enum Turn {
    Answered(Answer),
    Write(Vec<Numbered>),
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} entries to record", self.lock().entries.len())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entry: Box<dyn Entry>) -> u64 {
        let mut waiting = self.lock();
        waiting.last += 1;
        let number = waiting.last;
        waiting.entries.push_back((number, entry));
        number
    }

    /// Waits for the answer to this entry, or for the right to write.
    fn turn(&self, number: u64) -> Turn {
        let mut waiting = self.lock();
        loop {
            if let Some(answer) = waiting.answers.remove(&number) {
                return Turn::Answered(answer);
            }
            if !waiting.is_writing {
                if waiting.entries.iter().all(|(other, _)| *other != number) {
                    // Whoever took it has panicked.
                    return Turn::Answered(Err(FactError::NotAnswered));
                }
                waiting.is_writing = true;
                let together = waiting.entries.len().min(TOGETHER_MAX);
                return Turn::Write(waiting.entries.drain(..together).collect());
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The right to write; given back when dropped, also by a panic.
struct Writing<'q> {
    queue: &'q Queue,
    answers: Vec<(u64, Answer)>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        waiting.is_writing = false;
        waiting.answers.extend(self.answers.drain(..));
        drop(waiting);
        self.queue.changed.notify_all();
    }
}

impl Coordinator {
    /// Records an entry, together with what others want to record just now.
    pub(crate) fn record_entry(&self, entry: Box<dyn Entry>) -> Answer {
        let number = self.queue.push(entry);
        loop {
            match self.queue.turn(number) {
                Turn::Answered(answer) => return answer,
                Turn::Write(entries) => {
                    let mut writing = Writing { queue: &self.queue, answers: Vec::new() };
                    self.write_together(entries, &mut writing.answers);
                }
            }
        }
    }

    fn write_together(&self, entries: Vec<Numbered>, answers: &mut Vec<(u64, Answer)>) {
        let mut journal = self.journal();
        if let Err(error) = self.settle_with(&mut journal) {
            answers.extend(entries.into_iter().map(|(number, _)| (number, Err(error.clone()))));
            return;
        }
        let mut entries = VecDeque::from(entries);
        while !entries.is_empty() {
            let decided = self.decide_together(&mut entries, answers);
            self.append_together(&mut journal, decided, answers);
        }
    }

    /// Takes as many entries as can be decided by what is known now.
    fn decide_together(&self, entries: &mut VecDeque<Numbered>, answers: &mut Vec<(u64, Answer)>) -> Vec<Decided> {
        let mut state = self.shared.lock();
        let mut decided: Vec<Decided> = Vec::new();
        let mut is_in_doubt = false;
        while let Some((number, mut entry)) = entries.pop_front() {
            if is_in_doubt && entry.depends_on_facts() {
                entries.push_front((number, entry));
                break;
            }
            match entry.decide(&mut state) {
                Some(acts) => {
                    is_in_doubt |= acts.iter().any(|act| decides_others(&act.event));
                    decided.push((number, entry, acts));
                }
                None => answers.push((number, Ok(None))),
            }
        }
        decided
    }

    fn append_together(&self, journal: &mut Journal, decided: Vec<Decided>, answers: &mut Vec<(u64, Answer)>) {
        if decided.is_empty() {
            return;
        }
        let acts = decided.iter().flat_map(|(_, _, acts)| acts.clone()).collect();
        match self.append_with_facts(journal, acts) {
            // Nothing was written: one of them is to blame, and the others are not.
            Err(FactError::Journal(JournalError::Record(_))) if decided.len() > 1 => {
                for (number, entry, acts) in decided {
                    let recorded = self.append_with_facts(journal, acts.clone());
                    self.answer(vec![(number, entry, acts)], recorded, answers);
                }
            }
            recorded => self.answer(decided, recorded, answers),
        }
    }

    fn answer(&self, decided: Vec<Decided>, recorded: Result<Range<u64>, FactError>, answers: &mut Vec<(u64, Answer)>) {
        let mut state = self.shared.lock();
        let mut first = recorded.as_ref().map_or(0, |sequences| sequences.start);
        for (number, mut entry, acts) in decided {
            let answer = recorded.clone().map(|_| {
                let sequences = first..first + acts.len() as u64;
                entry.recorded(&mut state, sequences.clone());
                first = sequences.end;
                Some(sequences)
            });
            answers.push((number, answer));
        }
    }
}

/// Whether the entries that depend on facts have to wait until this is one.
fn decides_others(event: &Event) -> bool {
    matches!(event, Event::HostEnrolled(_) | Event::HostState { .. } | Event::Loss { .. } | Event::LossWithdrawn { .. })
}

#[cfg(test)]
impl Queue {
    /// How many wait to be recorded.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().entries.len()
    }
}
