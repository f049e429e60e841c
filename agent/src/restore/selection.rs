//! Which entries of a tree are restored, and to which path below the target. Pure.

use crate::patterns::{PatternError, Patterns};
use lifeboat_format::tree::{compare_paths, is_within};
use std::cmp::Ordering;

/// Paths of the tree, with all below them, and what of that is left out.
#[derive(Debug, Clone)]
pub struct Selection {
    /// In the order of their places in the target; none lies within another.
    roots: Vec<Vec<u8>>,
    strip: usize,
    include: Option<Patterns>,
    exclude: Patterns,
    /// Whether it is one entry that is no directory.
    is_file: bool,
}

/// A selection that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// A pattern that can never match.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Two paths would get the same place.
    #[error("without its first {strip} parts {one:?} comes into the place of {other:?}: restore them apart")]
    Overlap {
        /// How many parts are left out.
        strip: usize,
        /// A path.
        one: String,
        /// And another one.
        other: String,
    },
    /// Nothing would be left of a path.
    #[error("{path:?} has fewer than {strip} parts: nothing of it is left with --strip {strip}")]
    Nothing {
        /// How many parts are left out.
        strip: usize,
        /// The path.
        path: String,
    },
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is restored.
    Restored,
    /// It is a directory that is only made if something in it is restored.
    Way,
    /// It is left out, with all below it.
    LeftOut,
}

impl Selection {
    /// Everything at and below `roots`, at its path without the first `strip` parts. With patterns to include, only what
    /// matches one of them; what matches one to exclude is left out. Both in the syntax of gitignore, from the root of
    /// the tree.
    pub fn new(
        mut roots: Vec<Vec<u8>>,
        strip: usize,
        include: &[String],
        exclude: &[String],
    ) -> Result<Self, SelectionError> {
        let shown = |path: &[u8]| format!("/{}", String::from_utf8_lossy(path));
        if let Some(path) = roots.iter().find(|root| parts(root) < strip) {
            return Err(SelectionError::Nothing { strip, path: shown(path) });
        }
        let place = |root: &Vec<u8>| without(root, strip).unwrap_or_default();
        roots.sort_by(|one, other| compare_paths(&place(one), &place(other)));
        // A path below another one of them comes with it.
        roots.dedup_by(|later, earlier| is_within(later, earlier));
        for pair in roots.windows(2) {
            if is_within(&place(&pair[1]), &place(&pair[0])) {
                return Err(SelectionError::Overlap { strip, one: shown(&pair[1]), other: shown(&pair[0]) });
            }
        }
        let include = if include.is_empty() { None } else { Some(Patterns::new(include)?) };
        Ok(Self { roots, strip, include, exclude: Patterns::new(exclude)?, is_file: false })
    }

    /// One entry of the tree: a directory, whose place the target takes, or something else, which keeps its name.
    pub fn one(path: Vec<u8>, is_directory: bool) -> Self {
        let strip = Self::depth(&path, is_directory);
        Self { roots: vec![path], strip, include: None, exclude: Patterns::default(), is_file: !is_directory }
    }

    /// The name in the target of one entry that is no directory; none if more may be restored.
    pub fn file_name(&self) -> Option<Vec<u8>> {
        self.roots.first().filter(|_| self.is_file).and_then(|root| self.place(root))
    }

    /// How many parts are left out where one entry of the tree is restored.
    pub fn depth(path: &[u8], is_directory: bool) -> usize {
        parts(path).saturating_sub(usize::from(!is_directory))
    }

    /// The paths, each with all below it.
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }

    /// Whether patterns may leave out some of them.
    pub fn has_patterns(&self) -> bool {
        self.include.is_some() || !self.exclude.is_empty()
    }

    /// The path below the target; none if nothing is left of it.
    pub fn place(&self, path: &[u8]) -> Option<Vec<u8>> {
        without(path, self.strip)
    }

    /// The path in the tree of what has this place.
    pub fn origin(&self, place: &[u8]) -> Option<Vec<u8>> {
        let root = self.roots.iter().rfind(|root| self.place(root).is_some_and(|above| is_within(place, &above)))?;
        let depth = self.place(root).map_or(0, |above| parts(&above));
        let below = without(place, depth).filter(|below| !below.is_empty());
        let parts = [Some(root.clone()).filter(|root| !root.is_empty()), below];
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join(&b'/'))
    }

    /// The same for several places; those that nothing of the tree has are left out.
    pub fn origins(&self, places: &[Vec<u8>]) -> Vec<Vec<u8>> {
        places.iter().filter_map(|place| self.origin(place)).collect()
    }

    /// What becomes of an entry at or below one of the paths, whose directories were not left out.
    pub fn fate(&self, path: &[u8], is_directory: bool) -> Fate {
        if path.is_empty() {
            return if self.include.is_none() { Fate::Restored } else { Fate::Way };
        }
        if self.exclude.matches(path, is_directory) {
            return Fate::LeftOut;
        }
        match &self.include {
            None => Fate::Restored,
            Some(include) if include.matches_within(path, is_directory) => Fate::Restored,
            Some(_) if is_directory => Fate::Way,
            Some(_) => Fate::LeftOut,
        }
    }

    /// Whether an entry that is no directory is restored, wherever it is.
    pub fn has(&self, path: &[u8]) -> bool {
        self.roots.iter().any(|root| is_within(path, root))
            && !self.exclude.matches_within(path, false)
            && self.fate(path, false) == Fate::Restored
    }
}

fn parts(path: &[u8]) -> usize {
    if path.is_empty() { 0 } else { 1 + path.iter().filter(|byte| **byte == b'/').count() }
}

/// A path without its first parts; none if it has fewer.
fn without(path: &[u8], strip: usize) -> Option<Vec<u8>> {
    match parts(path).cmp(&strip) {
        Ordering::Less => None,
        Ordering::Equal => Some(Vec::new()),
        Ordering::Greater => Some(path.split(|byte| *byte == b'/').skip(strip).collect::<Vec<_>>().join(&b'/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(
        roots: &[&str],
        strip: usize,
        include: &[&str],
        exclude: &[&str],
    ) -> Result<Selection, SelectionError> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let roots = roots.iter().map(|root| root.as_bytes().to_vec()).collect();
        Selection::new(roots, strip, &texts(include), &texts(exclude))
    }

    fn roots(selection: &Selection) -> Vec<&str> {
        selection.roots().iter().map(|root| std::str::from_utf8(root).unwrap()).collect()
    }

    #[test]
    fn paths_keep_what_is_not_stripped() {
        let whole = selection(&["var/www", "etc"], 0, &[], &[]).unwrap();
        assert_eq!(roots(&whole), ["etc", "var/www"]);
        assert_eq!(whole.place(b"var/www/a"), Some(b"var/www/a".to_vec()));
        let stripped = selection(&["var/www", "srv/git"], 1, &[], &[]).unwrap();
        assert_eq!(roots(&stripped), ["srv/git", "var/www"], "git before www");
        assert_eq!(stripped.place(b"var/www/a"), Some(b"www/a".to_vec()));
        for selection in
            [&whole, &stripped, &Selection::one(b"var/www".to_vec(), true), &Selection::one(Vec::new(), true)]
        {
            for path in [&b"var/www/a/b"[..], b"var/www"] {
                assert_eq!(selection.origin(&selection.place(path).unwrap()), Some(path.to_vec()));
            }
        }
        assert_eq!(stripped.origin(b"other"), None);
        assert_eq!(Selection::one(b"etc/ssl".to_vec(), true).place(b"etc/ssl/a"), Some(b"a".to_vec()));
        assert_eq!(Selection::one(b"etc/ssl".to_vec(), true).place(b"etc/ssl"), Some(Vec::new()));
        assert_eq!(Selection::one(b"etc/hosts".to_vec(), false).place(b"etc/hosts"), Some(b"hosts".to_vec()));
        assert_eq!(Selection::one(b"etc/hosts".to_vec(), false).file_name(), Some(b"hosts".to_vec()));
        assert_eq!(Selection::one(b"etc/ssl".to_vec(), true).file_name(), None);
        assert_eq!(Selection::one(Vec::new(), true).place(b"a/b"), Some(b"a/b".to_vec()));
    }

    #[test]
    fn what_lies_within_another_comes_with_it_and_no_place_is_taken_twice() {
        assert_eq!(roots(&selection(&["etc/ssl", "etc", "etc"], 0, &[], &[]).unwrap()), ["etc"]);
        assert!(matches!(selection(&["a/x", "b/x"], 1, &[], &[]), Err(SelectionError::Overlap { .. })));
        assert!(matches!(selection(&["a/x", "b/x/y"], 1, &[], &[]), Err(SelectionError::Overlap { .. })));
        assert!(matches!(selection(&["a"], 2, &[], &[]), Err(SelectionError::Nothing { .. })));
    }

    #[test]
    fn patterns_choose_and_leave_out() {
        let all = selection(&[""], 0, &["*.conf", "/srv/www/"], &["/etc/old/", "secret.conf"]).unwrap();
        assert_eq!(all.fate(b"etc", true), Fate::Way);
        assert_eq!(all.fate(b"etc/a.conf", false), Fate::Restored);
        assert_eq!(all.fate(b"etc/a.txt", false), Fate::LeftOut);
        assert_eq!(all.fate(b"etc/old", true), Fate::LeftOut);
        assert_eq!(all.fate(b"etc/secret.conf", false), Fate::LeftOut);
        assert_eq!(all.fate(b"srv/www", true), Fate::Restored);
        assert_eq!(all.fate(b"srv/www/deep/file", false), Fate::Restored);
        assert!(all.has(b"etc/a.conf") && !all.has(b"etc/old/a.conf") && !all.has(b"etc/a.txt"));
        assert!(!all.has(b"etc/old/deep/a.conf"), "a directory that is left out is left out with all in it");
        let braces = selection(&[""], 0, &["a{"], &[]).unwrap();
        assert_eq!(braces.fate(b"a{", false), Fate::Restored, "a brace is a brace");
        assert!(matches!(selection(&[""], 0, &["[z-a]"], &[]), Err(SelectionError::Pattern(_))));
    }
}
