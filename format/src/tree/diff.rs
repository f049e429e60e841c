//! What changed between two trees, at a cost of what changed.
//!
//! Both are read side by side. Where the same node stands next in both, all that is below it is equal, and passed
//! over unopened; as both were cut by the same keyed rule, that happens right after every difference. Trees cut
//! otherwise give the same answer, only later.

use super::cursor::{Cursor, Head, NodeSource};
use super::entry::Entry;
use super::node::NodeRef;
use super::path::compare_paths;
use std::cmp::Ordering;

/// One path that is not the same in both trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the later tree has it.
    Added(Entry),
    /// Only the earlier tree has it.
    Removed(Entry),
    /// Both have it, and anything about it differs.
    Changed {
        /// As it was.
        before: Box<Entry>,
        /// As it is.
        after: Box<Entry>,
    },
}

/// Gives the changes from one tree to another, sorted by path. After an error it has ended.
pub struct Diff<S> {
    source: S,
    state: State,
}

enum State {
    Start { before: NodeRef, after: NodeRef },
    Open { before: Cursor, after: Cursor },
    Ended,
}

/// What to do at a place in both trees.
enum Step {
    End,
    PassBoth,
    Open { before: bool, after: bool },
    Removed,
    Added,
    Compare,
}

/// What leads from the tree below `before` to the one below `after`. Opens nothing yet.
pub fn diff<S: NodeSource>(source: S, before: NodeRef, after: NodeRef) -> Diff<S> {
    Diff { source, state: State::Start { before, after } }
}

fn decide(before: Option<Head<'_>>, after: Option<Head<'_>>) -> Step {
    match (before, after) {
        (None, None) => Step::End,
        (Some(Head::Entry(_)), None) => Step::Removed,
        (None, Some(Head::Entry(_))) => Step::Added,
        (Some(Head::Entry(before)), Some(Head::Entry(after))) => match compare_paths(&before.path, &after.path) {
            Ordering::Less => Step::Removed,
            Ordering::Greater => Step::Added,
            Ordering::Equal => Step::Compare,
        },
        (Some(Head::Node(before)), Some(Head::Node(after))) => {
            if before.node.id == after.node.id {
                return Step::PassBoth;
            }
            // The one that reaches further may hold the other, so only that one is opened.
            let reach = compare_paths(&before.last_path, &after.last_path);
            let further = reach.then(before.node.height.cmp(&after.node.height));
            Step::Open { before: further.is_ge(), after: further.is_le() }
        }
        (before, after) => {
            let is_node = |head| matches!(head, Some(Head::Node(_)));
            Step::Open { before: is_node(before), after: is_node(after) }
        }
    }
}

impl<S: NodeSource> Diff<S> {
    fn step(&mut self) -> Result<Option<Change>, S::Error> {
        let (mut before, mut after) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Ok(None),
            State::Start { before, after } if before.id == after.id => return Ok(None),
            State::Start { before, after } => {
                (Cursor::open(&mut self.source, &before)?, Cursor::open(&mut self.source, &after)?)
            }
            State::Open { before, after } => (before, after),
        };
        let change = next_change(&mut self.source, &mut before, &mut after)?;
        if change.is_some() {
            self.state = State::Open { before, after };
        }
        Ok(change)
    }
}

fn next_change<S: NodeSource>(
    source: &mut S,
    before: &mut Cursor,
    after: &mut Cursor,
) -> Result<Option<Change>, S::Error> {
    loop {
        match decide(before.head(), after.head()) {
            Step::End => return Ok(None),
            Step::Removed => return Ok(before.pass().map(Change::Removed)),
            Step::Added => return Ok(after.pass().map(Change::Added)),
            Step::PassBoth => {
                before.pass();
                after.pass();
            }
            Step::Open { before: open_before, after: open_after } => {
                if open_before {
                    before.descend(source)?;
                }
                if open_after {
                    after.descend(source)?;
                }
            }
            Step::Compare => {
                let (Some(before), Some(after)) = (before.pass(), after.pass()) else { continue };
                if before != after {
                    return Ok(Some(Change::Changed { before: before.into(), after: after.into() }));
                }
            }
        }
    }
}

impl<S: NodeSource> Iterator for Diff<S> {
    type Item = Result<Change, S::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{any_entries, build, file, sorted};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn plain_diff(before: &[Entry], after: &[Entry]) -> Vec<Change> {
        let mut paths: BTreeMap<Vec<Vec<u8>>, [Option<Entry>; 2]> = BTreeMap::new();
        for (side, entries) in [before, after].into_iter().enumerate() {
            for entry in entries {
                let names = entry.path.split(|byte| *byte == b'/').map(<[u8]>::to_vec);
                let key = names.filter(|name| !name.is_empty()).collect();
                paths.entry(key).or_default()[side] = Some(entry.clone());
            }
        }
        let change = |sides: [Option<Entry>; 2]| match sides {
            [Some(before), Some(after)] if before != after => {
                Some(Change::Changed { before: Box::new(before), after: Box::new(after) })
            }
            [None, Some(after)] => Some(Change::Added(after)),
            [Some(before), None] => Some(Change::Removed(before)),
            _ => None,
        };
        paths.into_values().filter_map(change).collect()
    }

    fn tree_diff(before: &[Entry], after: &[Entry]) -> (Vec<Change>, usize) {
        let (mut memory, before) = build(before);
        let (other, after) = build(after);
        memory.merge(other);
        let changes = diff(&mut memory, before, after).collect::<Result<_, _>>().unwrap();
        (changes, memory.opened)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn inv_56_diff_equals_comparing_plain_lists(
            common in any_entries(500), before in any_entries(40), after in any_entries(40), cut: prop::sample::Index,
        ) {
            let mixed = |first: &[Entry], then: &[Entry]| sorted([first, then].concat());
            let before = mixed(&before, &common[cut.index(common.len() + 1)..]);
            let after = mixed(&after, &common);
            prop_assert_eq!(tree_diff(&before, &after).0, plain_diff(&before, &after));
        }
    }

    #[test]
    fn inv_56_diff_opens_what_changed_and_not_the_rest() {
        let before: Vec<_> = (0..40_000).map(|number| file(&format!("d/{number:06}"), 1)).collect();
        let mut after = before.clone();
        for at in [0, 5_000, 20_001, 39_000] {
            after[at] = file(std::str::from_utf8(&before[at].path).unwrap(), 2);
        }
        after.remove(30_000);
        after.push(file("e", 1));
        let (changes, opened) = tree_diff(&before, &after);
        assert_eq!(changes, plain_diff(&before, &after));
        assert_eq!(changes.len(), 6);
        assert!(opened <= 6 * 2 * 4, "{opened}");
        assert_eq!(tree_diff(&before, &before), (vec![], 0));
    }

    #[test]
    fn a_tree_and_a_taller_one_that_begins_with_it_differ_at_the_cost_of_what_they_do_not_share() {
        let all: Vec<_> = (0..20_000).map(|number| file(&format!("d/{number:06}"), 1)).collect();
        let (low, _) = build(&all[..2_000]);
        let (tall, _) = build(&all);
        let not_shared = low.new_since(&tall) + tall.new_since(&low);
        assert_eq!(tree_diff(&all[..2_000], &all), (plain_diff(&all[..2_000], &all), not_shared));
        assert_eq!(tree_diff(&all, &all[..2_000]), (plain_diff(&all, &all[..2_000]), not_shared));
    }
}
