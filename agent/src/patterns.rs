//! Patterns in the syntax of `.gitignore`, matched exactly as git matches them. Pure.
//!
//! One implementation for `exclude` and `never` of the policy and for `--include` and `--exclude` of a restore. A list of
//! patterns stands for a `.gitignore` at the root of the tree. Names are bytes: `?` and a class match one byte.
//!
//! What git accepts although it can never match (`[`, `[[:nothing:]]`, a backslash at the end) is an error here: a
//! pattern that leaves nothing out, or takes nothing in, is a mistake of its author.

mod glob;

use glob::Glob;
pub use glob::GlobError;

/// A pattern that can never match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {pattern:?} can match nothing: {source}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub source: GlobError,
}

/// A list of patterns, of which the last one that matches decides.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Pattern>);

/// One line.
#[derive(Debug, Clone)]
struct Pattern {
    /// `!`: takes back in what an earlier pattern matched.
    is_negated: bool,
    /// A slash at the end.
    only_directories: bool,
    /// A slash elsewhere: it is compared with the path from the root, else with the last component.
    is_path: bool,
    glob: Glob,
}

impl Patterns {
    /// Compiles a list, a pattern a line. Empty lines and comments are left out.
    pub fn new<Line: AsRef<str>>(lines: impl IntoIterator<Item = Line>) -> Result<Self, PatternError> {
        let patterns = lines.into_iter().filter_map(|line| {
            let line = line.as_ref();
            let wrong = |source| PatternError { pattern: line.to_owned(), source };
            Pattern::parse(line.as_bytes()).map_err(wrong).transpose()
        });
        Ok(Self(patterns.collect::<Result<_, _>>()?))
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list matches this path itself: the last pattern that matches is not negated. `path` has no slash in
    /// front; no pattern matches the root.
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let decides = |pattern: &&Pattern| {
            (is_directory || !pattern.only_directories)
                && pattern.glob.matches(if pattern.is_path { path } else { name })
        };
        self.0.iter().rev().find(decides).is_some_and(|pattern| !pattern.is_negated)
    }

    /// Whether the list matches this path or a directory above it. Below a directory that it matches, nothing is taken
    /// back in.
    pub fn matches_within(&self, path: &[u8], is_directory: bool) -> bool {
        let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        slashes.any(|slash| self.matches(&path[..slash], true)) || self.matches(path, is_directory)
    }
}

impl Pattern {
    /// None for a line that is no pattern.
    fn parse(line: &[u8]) -> Result<Option<Self>, GlobError> {
        let line = without_trailing_spaces(line);
        if line.is_empty() || line[0] == b'#' {
            return Ok(None);
        }
        let is_negated = line[0] == b'!';
        let text = if is_negated { &line[1..] } else { line };
        let (text, only_directories) = match text.strip_suffix(b"/") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let is_path = text.contains(&b'/');
        let glob = match text.strip_prefix(b"/") {
            _ if !is_path => Glob::of_name(text)?,
            Some(anchored) => Glob::of_path(anchored)?,
            None => Glob::of_path(text)?,
        };
        Ok(Some(Self { is_negated, only_directories, is_path, glob }))
    }
}

/// A line without the spaces at its end, of which a backslash protects one.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            b' ' => at += 1,
            b'\\' => {
                at = line.len().min(at + 2);
                end = at;
            }
            _ => {
                at += 1;
                end = at;
            }
        }
    }
    &line[..end]
}

#[cfg(test)]
mod tests;
