//! What a snapshot holds completely, as its manifest tells it. Who deletes what a tree does not have, or calls it absent,
//! asks here first.

use crate::error::FormatError;
use crate::manifest::SealedPart;
use crate::tree::{check_path, compare_paths, is_within};
use std::cmp::Ordering;
use std::fmt;

const WHAT: &str = "grant's sealed part";
/// The most bytes that the paths take together; a grant says nothing complete of a snapshot with more.
const PATH_BYTES_MAX: usize = 1 << 20;

layout! {
    /// Source paths and gaps of a snapshot. The default one says that nothing is complete.
    #[derive(Clone, PartialEq, Eq, Default)]
    pub struct Coverage {
        /// What the source set was to hold: paths of the tree, in its order.
        pub sources: Vec<Vec<u8>>,
        /// What could not be read: paths of the tree, in its order.
        pub gaps: Vec<Vec<u8>>,
        /// Whether these are all gaps.
        pub is_whole: bool,
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Coverage(…)")
    }
}

impl Coverage {
    /// That of a snapshot with so many gaps.
    pub fn of(part: &SealedPart, gap_count: u64) -> Self {
        let is_whole = part.gaps().len() as u64 >= gap_count;
        let gaps = part.gaps().iter().map(|gap| gap.path.clone()).collect();
        Self::new(part.sources().to_vec(), gaps, is_whole)
    }

    /// Puts the paths in order. If there are too many, nothing is said to be complete.
    pub fn new(mut sources: Vec<Vec<u8>>, mut gaps: Vec<Vec<u8>>, is_whole: bool) -> Self {
        for paths in [&mut sources, &mut gaps] {
            paths.sort_by(|one, other| compare_paths(one, other));
            paths.dedup();
        }
        let bytes: usize = sources.iter().chain(&gaps).map(|path| path.len() + 8).sum();
        if bytes > PATH_BYTES_MAX { Self::default() } else { Self { sources, gaps, is_whole } }
    }

    pub(super) fn check(&self) -> Result<(), FormatError> {
        for paths in [&self.sources, &self.gaps] {
            // A gap may be the root, the empty path.
            paths.iter().filter(|path| !path.is_empty()).try_for_each(|path| check_path(path))?;
            if !paths.is_sorted_by(|one, other| compare_paths(one, other) == Ordering::Less) {
                return Err(FormatError::field(WHAT, "paths", paths.len(), "in order, each once"));
            }
        }
        Ok(())
    }

    /// Whether a path is at or below a source path.
    pub fn is_in_source(&self, path: &[u8]) -> bool {
        self.sources.iter().any(|source| is_within(path, source))
    }

    /// Whether a gap is at a path, above it, or below it.
    pub fn touches_gap(&self, path: &[u8]) -> bool {
        let next = self.gaps.partition_point(|gap| compare_paths(gap, path) == Ordering::Less);
        let is_above = || {
            let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([0]);
            ends.map(|end| &path[..end]).any(|way| self.gaps.binary_search_by(|gap| compare_paths(gap, way)).is_ok())
        };
        self.gaps.get(next).is_some_and(|gap| is_within(gap, path)) || is_above()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(paths: &[&str]) -> Vec<Vec<u8>> {
        paths.iter().map(|path| path.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_gap_is_met_at_its_path_above_it_and_below_it() {
        let coverage = Coverage::new(Vec::new(), paths(&["srv/b/c", "srv/a", "srv/a", "srv/a.d/x"]), true);
        assert_eq!(coverage.gaps, paths(&["srv/a", "srv/a.d/x", "srv/b/c"]));
        for path in ["srv/a", "srv/a/deep/er", "srv", "srv/b", "srv/b/c", "srv/a.d", ""] {
            assert!(coverage.touches_gap(path.as_bytes()), "{path}");
        }
        for path in ["srv/ab", "srv/b/d", "srv/c", "etc", "srv/a.d/y"] {
            assert!(!coverage.touches_gap(path.as_bytes()), "{path}");
        }
        assert!(Coverage::new(Vec::new(), paths(&[""]), true).touches_gap(b"any/thing"), "the root is a gap");
        assert!(!Coverage::default().touches_gap(b"a"));
    }

    #[test]
    fn a_path_is_in_a_source_at_it_or_below_it() {
        let coverage = Coverage::new(paths(&["var/mail", "srv/mail"]), Vec::new(), true);
        assert!(coverage.is_in_source(b"srv/mail") && coverage.is_in_source(b"var/mail/anna"));
        assert!(!coverage.is_in_source(b"srv") && !coverage.is_in_source(b"") && !coverage.is_in_source(b"srv/mail2"));
        assert!(Coverage::new(paths(&[""]), Vec::new(), true).is_in_source(b"any/thing"), "the root is a source");
    }

    #[test]
    fn what_does_not_fit_says_that_nothing_is_complete() {
        let many: Vec<Vec<u8>> = (0..100_000).map(|number| format!("srv/{number:030}").into_bytes()).collect();
        assert_eq!(Coverage::new(paths(&["srv"]), many, true), Coverage::default());
        assert!(!Coverage::default().is_whole);
    }

    #[test]
    fn paths_out_of_order_or_that_climb_are_refused() {
        let of = |gaps: &[&str]| Coverage { gaps: paths(gaps), ..Coverage::default() }.check().is_ok();
        assert!(of(&["", "a", "a/b", "a.b"]));
        assert!(!of(&["b", "a"]) && !of(&["a", "a"]) && !of(&["a/../b"]));
    }
}
