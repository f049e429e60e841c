//! Where the roots are, and the way to them.

use lifeboat_format::tree::is_within;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// The path of the tree for an absolute path of the host: no leading, trailing or double slash, no `.`.
/// None for what is relative or climbs by `..`.
pub fn tree_path(path: &Path) -> Option<Vec<u8>> {
    if !path.is_absolute() {
        return None;
    }
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => parts.push(name.as_bytes()),
            _ => return None,
        }
    }
    Some(parts.join(&b'/'))
}

/// The roots of a scan. A root within another is no second walk, but rules about file systems do not hide it.
#[derive(Debug)]
pub struct Plan {
    roots: Vec<Vec<u8>>,
}

impl Plan {
    pub fn new(roots: Vec<Vec<u8>>) -> Self {
        Self { roots }
    }

    pub fn is_root(&self, path: &[u8]) -> bool {
        self.roots.iter().any(|root| root == path)
    }

    /// Whether the path is a root or leads to one.
    pub fn leads_to_root(&self, path: &[u8]) -> bool {
        self.roots.iter().any(|root| is_within(root, path))
    }

    /// The roots at or below a path.
    pub fn roots_within(&self, path: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.roots.iter().map(Vec::as_slice).filter(move |root| is_within(root, path))
    }

    /// All roots.
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }

    /// The names within the directory `path` that lead to roots, sorted, each once.
    pub fn names_towards_roots(&self, path: &[u8]) -> Vec<&[u8]> {
        let mut names: Vec<&[u8]> = self.roots.iter().filter_map(|root| next_component(root, path)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn next_component<'a>(root: &'a [u8], path: &[u8]) -> Option<&'a [u8]> {
    if !is_within(root, path) || root == path {
        return None;
    }
    let rest = if path.is_empty() { root } else { &root[path.len() + 1..] };
    rest.split(|byte| *byte == b'/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_tree_is_plain() {
        assert_eq!(tree_path(Path::new("/")).unwrap(), b"");
        assert_eq!(tree_path(Path::new("//usr/./share/")).unwrap(), b"usr/share");
        assert_eq!(tree_path(Path::new("usr")), None);
        assert_eq!(tree_path(Path::new("/usr/../etc")), None);
    }

    #[test]
    fn the_way_to_every_root_is_known() {
        let plan = Plan::new([&b"usr/share"[..], b"usr/lib", b"usr", b"usrx"].map(<[u8]>::to_vec).to_vec());
        assert_eq!(plan.names_towards_roots(b""), [&b"usr"[..], b"usrx"]);
        assert_eq!(plan.names_towards_roots(b"usr"), [&b"lib"[..], b"share"]);
        assert!(plan.names_towards_roots(b"us").is_empty());
        assert!(plan.is_root(b"usr") && !plan.is_root(b""));
    }
}
