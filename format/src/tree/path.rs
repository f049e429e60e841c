//! Paths: what one is, and the order in which a tree holds them.
//!
//! A path is its components joined by `/`, without one at its start or end; the root of the tree is the empty path.
//! Names are bytes, whatever they mean to people (INV-54).

use super::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use crate::error::FormatError;
use std::cmp::Ordering;

/// Walk order: component by component, each in byte order, a directory before what is in it. It is plain byte order
/// if `/` counts as 0, which no name holds.
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let shared = shared_prefix(a, b);
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a[shared..].first().map(rank).cmp(&b[shared..].first().map(rank))
}

/// How many bytes both begin with.
pub(super) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Whether these bytes may stand in a tree as a path. The root may.
pub fn check_path(path: &[u8]) -> Result<(), FormatError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(wrong(format!("{} bytes long", path.len()), format!("at most {PATH_BYTES_MAX}")));
    }
    if path.is_empty() {
        return Ok(());
    }
    path.split(|byte| *byte == b'/').try_for_each(check_name)
}

fn check_name(name: &[u8]) -> Result<(), FormatError> {
    if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
        let allowed = "names joined by '/', none of them empty, '.', '..' or with a NUL";
        return Err(wrong(format!("{:?}", String::from_utf8_lossy(name)), allowed.to_string()));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(wrong(format!("a name of {} bytes", name.len()), format!("at most {NAME_BYTES_MAX}")));
    }
    Ok(())
}

fn wrong(found: String, allowed: String) -> FormatError {
    FormatError::field("tree entry", "path", found, allowed)
}

/// Whether `path` is `ancestor` or lies below it. Everything lies within the root.
pub fn is_within(path: &[u8], ancestor: &[u8]) -> bool {
    match path.strip_prefix(ancestor) {
        Some(rest) => ancestor.is_empty() || matches!(rest.first(), None | Some(b'/')),
        None => false,
    }
}

/// The directory that holds `path`; the root has none.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    let slash = path.iter().rposition(|byte| *byte == b'/');
    Some(&path[..slash.unwrap_or(0)])
}

/// The last component; empty for the root.
pub fn name(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    &path[slash.map_or(0, |at| at + 1)..]
}

#[cfg(test)]
mod tests {
    use super::super::testing::any_path;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn inv_56_paths_sort_component_by_component(a in any_path(), b in any_path()) {
            let components = |path: &[u8]| -> Vec<Vec<u8>> {
                path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
            };
            prop_assert_eq!(compare_paths(&a, &b), components(&a).cmp(&components(&b)));
            prop_assert_eq!(is_within(&a, &b), components(&a).starts_with(&components(&b)));
        }

        #[test]
        fn a_path_is_its_parent_and_its_name(path in any_path()) {
            prop_assert_eq!(check_path(&path), Ok(()));
            let Some(parent) = parent(&path) else {
                prop_assert!(path.is_empty());
                return Ok(());
            };
            let joined = if parent.is_empty() { name(&path).to_vec() } else { [parent, b"/", name(&path)].concat() };
            prop_assert_eq!(joined, path);
        }
    }

    #[test]
    fn a_directory_stands_right_before_what_is_in_it() {
        let mut paths: Vec<&[u8]> = vec![b"a.b", b"a-b", b"a/b", b"a", b"", b"a\x01", b"a/b/c", b"a/b-c", b"a/b!"];
        paths.sort_by(|a, b| compare_paths(a, b));
        let sorted: Vec<&[u8]> = vec![b"", b"a", b"a/b", b"a/b/c", b"a/b!", b"a/b-c", b"a\x01", b"a-b", b"a.b"];
        assert_eq!(paths, sorted);
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_path() {
        for path in ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0b"] {
            assert!(check_path(path.as_bytes()).is_err(), "{path:?}");
        }
        assert!(check_path(&[b'a'; NAME_BYTES_MAX]).is_ok());
        assert!(check_path(&[b'a'; NAME_BYTES_MAX + 1]).is_err());
        assert!(check_path(&b"a/".repeat(PATH_BYTES_MAX)).is_err());
    }
}
