//! An entry of a snapshot in a line, as `ls -l` writes it, or in a value of JSON.

use super::output::{moment, raw_name, size};
use crate::address::shown;
use jiff::Timestamp;
use lifeboat_agent::walk::Shown;
use lifeboat_format::tree::{Body, Entry, EntryKind, FileContent};
use serde::Serialize;

/// An entry, told.
#[derive(Debug, Serialize)]
pub struct EntryRow {
    /// As it is printed and typed.
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    kind: &'static str,
    mode: String,
    owner: String,
    group: String,
    bytes: u64,
    modified: Option<Timestamp>,
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_hex: Option<String>,
}

impl EntryRow {
    /// Shows an entry. Of a hard link, nothing but its target is in its entry; see [`EntryRow::of_link`].
    pub fn new(entry: &Entry) -> Self {
        let attributes = &entry.attributes;
        let (kind, letter, bytes) = match &entry.kind {
            EntryKind::Directory(_) => ("directory", 'd', 0),
            EntryKind::File(content) => ("file", '-', content.bytes),
            EntryKind::Symlink { target } => ("symlink", 'l', target.len() as u64),
            EntryKind::Fifo => ("fifo", 'p', 0),
            EntryKind::Socket => ("socket", 's', 0),
            EntryKind::CharDevice(_) => ("character device", 'c', 0),
            EntryKind::BlockDevice(_) => ("block device", 'b', 0),
            EntryKind::HardLink { .. } => ("hard link", 'h', 0),
        };
        let (path, path_hex) = shown_path(&entry.path);
        let (target, target_hex) = match &entry.kind {
            EntryKind::Symlink { target } => {
                let shown = Shown(target).to_string();
                let raw = raw_name(&shown, target);
                (Some(shown), raw)
            }
            EntryKind::HardLink { to } => {
                let (shown, raw) = shown_path(to);
                (Some(shown), raw)
            }
            _ => (None, None),
        };
        let called = |name: &[u8], number: u32| match name {
            b"" => number.to_string(),
            name => Shown(name).to_string(),
        };
        Self {
            path,
            path_hex,
            kind,
            mode: format!("{letter}{}", permissions(attributes.mode)),
            owner: called(&attributes.owner, attributes.uid),
            group: called(&attributes.group, attributes.gid),
            bytes,
            modified: modified(entry),
            target,
            target_hex,
        }
    }

    /// A hard link, with what is known of its file.
    pub fn of_link(link: &Entry, file: &Entry) -> Self {
        let Self { target, target_hex, .. } = Self::new(link);
        let row = Self::new(&Entry { path: link.path.clone(), ..file.clone() });
        let mode = format!("h{}", permissions(file.attributes.mode));
        Self { kind: "hard link", mode, target, target_hex, ..row }
    }

    /// Its path, with `/` behind a directory.
    pub fn short(&self, path: &str) -> String {
        let is_directory = self.kind == "directory" && !path.ends_with('/');
        format!("{path}{}", if is_directory { "/" } else { "" })
    }

    /// All of it, under this name.
    pub fn long(&self, name: &str) -> String {
        let Self { mode, owner, group, bytes, modified, target, .. } = self;
        let arrow = target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
        format!("{mode} {owner:<8} {group:<8} {bytes:>12} {} {name}{arrow}", moment(*modified))
    }

    /// How large it is; a dash for what has no size.
    pub fn size(&self) -> String {
        if matches!(self.kind, "file" | "hard link") { size(self.bytes) } else { "–".to_owned() }
    }

    /// From the root.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// A path of a tree as it is printed and typed, and for JSON its bytes where they are others.
pub fn shown_path(path: &[u8]) -> (String, Option<String>) {
    let text = format!("/{}", shown(path));
    let raw = raw_name(&text, &[b"/", path].concat());
    (text, raw)
}

/// When the content of an entry last changed.
pub fn modified(entry: &Entry) -> Option<Timestamp> {
    let time = entry.attributes.mtime;
    Timestamp::new(time.seconds, time.nanos.min(999_999_999) as i32).ok()
}

/// What differs between two entries of one path, to whom restores them.
pub fn differences(before: &Entry, after: &Entry) -> Vec<&'static str> {
    let (old, new) = (&before.attributes, &after.attributes);
    let content = match (&before.kind, &after.kind) {
        // Where a small file lies in its bundle may change without its content.
        (EntryKind::File(old), EntryKind::File(new)) => old.bytes != new.bytes || !same_content(old, new),
        // What is in a directory differs in rows of its own.
        (EntryKind::Directory(_), EntryKind::Directory(_)) => false,
        (old, new) => old != new,
    };
    [
        ("content", content),
        ("mode", old.mode != new.mode),
        ("owner", (old.uid, &old.owner) != (new.uid, &new.owner)),
        ("group", (old.gid, &old.group) != (new.gid, &new.group)),
        ("time", old.mtime != new.mtime),
        ("extended attributes", old.xattrs != new.xattrs),
        ("flags", old.flags != new.flags),
    ]
    .into_iter()
    .filter_map(|(what, differs)| differs.then_some(what))
    .collect()
}

fn same_content(old: &FileContent, new: &FileContent) -> bool {
    match (&old.body, &new.body) {
        (Body::Bundled { hash: old, .. }, Body::Bundled { hash: new, .. }) => old == new,
        (old, new) => old == new,
    }
}

/// The twelve bits, as `ls` writes them.
fn permissions(mode: u16) -> String {
    let special = |bit: u16, execute: char, letter: char| match (mode & bit != 0, execute) {
        (false, execute) => execute,
        (true, 'x') => letter,
        (true, _) => letter.to_ascii_uppercase(),
    };
    let bit = |shift: u16, letter: char| if mode >> shift & 1 == 1 { letter } else { '-' };
    let (user, group, other) = (bit(6, 'x'), bit(3, 'x'), bit(0, 'x'));
    [
        bit(8, 'r'),
        bit(7, 'w'),
        special(0o4000, user, 's'),
        bit(5, 'r'),
        bit(4, 'w'),
        special(0o2000, group, 's'),
        bit(2, 'r'),
        bit(1, 'w'),
        special(0o1000, other, 't'),
    ]
    .iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::id::{ChunkId, Scope};
    use lifeboat_format::key::ContentHash;
    use lifeboat_format::tree::{Attributes, ChunkRef};

    fn bundled(offset: u32, hash: u8) -> Entry {
        let (id, content) = (ChunkId::from_bytes([1; 32]), ContentHash::from_bytes([1; 32]));
        let chunk = ChunkRef { id, scope: Scope::new(1), content, bytes: 100 };
        let body = Body::Bundled { chunk, offset, hash: [hash; 16] };
        let kind = EntryKind::File(FileContent { bytes: 7, body });
        Entry { path: b"file".to_vec(), kind, attributes: Attributes::default() }
    }

    #[test]
    fn another_place_in_a_bundle_is_no_change_and_other_content_is() {
        assert!(differences(&bundled(0, 1), &bundled(50, 1)).is_empty());
        assert_eq!(differences(&bundled(0, 1), &bundled(0, 2)), ["content"]);
    }

    #[test]
    fn a_hard_link_is_shown_with_the_attributes_of_its_file() {
        let file = bundled(0, 1);
        let file = Entry { attributes: Attributes { mode: 0o640, uid: 7, ..file.attributes }, ..file };
        let kind = EntryKind::HardLink { to: b"file".to_vec() };
        let link = Entry { path: b"link".to_vec(), kind, attributes: Attributes::default() };
        let row = EntryRow::of_link(&link, &file);
        let told = (row.path(), row.kind, &*row.mode, &*row.owner, row.bytes, row.target.as_deref());
        assert_eq!(told, ("/link", "hard link", "hrw-r-----", "7", 7, Some("/file")));
    }

    #[test]
    fn permissions_are_written_as_ls_does() {
        assert_eq!(permissions(0o755), "rwxr-xr-x");
        assert_eq!(permissions(0o4755), "rwsr-xr-x");
        assert_eq!(permissions(0o2640), "rw-r-S---");
        assert_eq!(permissions(0o1777), "rwxrwxrwt");
    }
}
