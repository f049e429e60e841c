//! Patterns to include that nothing matches: a typing error, or a letter with a meaning in patterns.

use super::fetch::{FetchError, GrantReader};
use super::selection::Selection;
use super::visit::{Visitor, visit};
use crate::patterns::{PatternError, Patterns};
use lifeboat_format::tree::{Entry, EntryKind};
use lifeboat_proto::status::{ErrorClass, Failure};

/// Refuses patterns to include of which one matches nothing that is selected. Reads the tree until each has matched.
/// Blocks.
pub fn refuse_unmatched(reader: &GrantReader, selection: &Selection, include: &[String]) -> Result<(), Failure> {
    let mut unmatched = Unmatched::new(include).map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
    if unmatched.left.is_empty() {
        return Ok(());
    }
    match visit(reader, selection, &mut unmatched) {
        Err(_) if unmatched.left.is_empty() => Ok(()),
        Err(failure) => Err(failure),
        // In a part that is lost it may be; the restore names that part.
        Ok(()) if unmatched.left.is_empty() || unmatched.is_damaged => Ok(()),
        Ok(()) => {
            let patterns: Vec<String> = unmatched.left.iter().map(|(pattern, _)| format!("{pattern:?}")).collect();
            let problem = format!("nothing in the snapshot matches --include {}", patterns.join(" nor --include "));
            Err(Failure::new(ErrorClass::NotFound, problem).hint(
                "patterns are gitignore syntax, from the root of the snapshot: put \\ before * ? [ ] ! or # in a name; \
                 `lifeboat find` searches for names",
            ))
        }
    }
}

struct Unmatched {
    /// The patterns that have not matched yet.
    left: Vec<(String, Patterns)>,
    is_damaged: bool,
}

impl Unmatched {
    fn new(include: &[String]) -> Result<Self, PatternError> {
        // A pattern that takes back what others include matches nothing itself.
        let includes = include.iter().filter(|pattern| !pattern.starts_with('!'));
        let compiled = includes.map(|pattern| Ok((pattern.clone(), Patterns::new([pattern])?)));
        Ok(Self { left: compiled.collect::<Result<_, _>>()?, is_damaged: false })
    }

    fn meet(&mut self, path: &[u8], is_directory: bool) {
        self.left.retain(|(_, pattern)| !pattern.matches_within(path, is_directory));
    }
}

impl Visitor for Unmatched {
    fn way(&mut self, _: Entry) -> Result<(), Failure> {
        Ok(())
    }

    fn entry(&mut self, entry: Entry, in_tree: Vec<u8>) -> Result<(), Failure> {
        self.meet(&in_tree, matches!(entry.kind, EntryKind::Directory(_)));
        match self.left.is_empty() {
            true => Err(Failure::new(ErrorClass::Internal, "each pattern has matched: no more needs to be read")),
            false => Ok(()),
        }
    }

    fn lost(&mut self, _: &[u8], _: &FetchError) -> Result<(), Failure> {
        self.is_damaged = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_is_left_until_something_matches_it() {
        let patterns = ["*.conf", "/srv/www/", "[abc].txt", "!x", "# no pattern"].map(str::to_owned);
        let mut unmatched = Unmatched::new(&patterns).unwrap();
        let left = |unmatched: &Unmatched| -> Vec<String> {
            unmatched.left.iter().map(|(pattern, _)| pattern.clone()).collect()
        };
        unmatched.meet(b"etc/[abc].txt", false);
        unmatched.meet(b"srv/www", false);
        assert_eq!(left(&unmatched), ["*.conf", "/srv/www/", "[abc].txt", "# no pattern"], "www is no directory");
        unmatched.meet(b"srv/www/index", false);
        unmatched.meet(b"etc/a.conf", false);
        assert_eq!(left(&unmatched), ["[abc].txt", "# no pattern"]);
        unmatched.meet(b"a.txt", false);
        assert_eq!(left(&unmatched), ["# no pattern"]);
    }
}
