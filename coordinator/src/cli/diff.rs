//! `lifeboat diff`: what changed between two moments, at a cost of what changed.

use super::output::{Output, Row};
use super::reading::{self, AddressArgs, LOOK, blocking};
use super::{Done, Global, admin};
use crate::address::{Address, When};
use clap::Args;
use lifeboat_agent::restore::fetch::{FetchError, NodeReader};
use lifeboat_agent::walk::Shown;
use lifeboat_format::tree::{Change, Entry, EntryKind, Node, NodeRef, NodeSource, diff as diff_trees, is_within};
use lifeboat_proto::status::Failure;
use serde::Serialize;

/// Show what changed between two moments
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The earlier one
    #[command(flatten)]
    address: AddressArgs,
    /// The later one
    #[arg(long, value_name = "WHEN", default_value = "latest")]
    to: When,
    /// The source set of the later one, where the server has several
    #[arg(long, value_name = "NAME", default_value = "", hide = true)]
    to_set: String,
}

#[derive(Serialize)]
struct ChangeRow {
    change: &'static str,
    path: String,
    what: Vec<&'static str>,
}

impl Row for ChangeRow {
    const HEADERS: &'static [&'static str] = &["", "PATH", "WHAT"];

    fn cells(&self) -> Vec<String> {
        let sign = match self.change {
            "added" => "+",
            "removed" => "-",
            _ => "M",
        };
        vec![sign.to_owned(), self.path.clone(), self.what.join(", ")]
    }
}

/// Nodes of two trees. A node that both hold is the same; whichever reader knows the way to it reads it.
struct Either(NodeReader, NodeReader);

impl NodeSource for Either {
    type Error = FetchError;

    fn node(&mut self, reference: &NodeRef) -> Result<Node, FetchError> {
        match self.0.node(reference) {
            Err(FetchError::NotLinked { .. }) => self.1.node(reference),
            read => read,
        }
    }
}

/// Runs the command.
pub async fn diff(args: DiffArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let before = args.address.open("diff", LOOK, global).await?;
    let config = global.config()?;
    let mut admin = admin::connect(&config).await?;
    let later = Address { when: args.to, ..before.address.clone() };
    let set = if args.to_set.is_empty() { &before.snapshot.source_set } else { &args.to_set };
    let after = reading::open(later, set, "diff", LOOK, &config, &mut admin).await?;
    out.say(format_args!("from {} to {}", before.short_id(), after.short_id()));
    let mut out = std::mem::replace(out, Output::new(out.is_json()));
    blocking(move || {
        let source = Either(before.reader.nodes(), after.reader.nodes());
        let changes = diff_trees(source, before.reader.root(), after.reader.root());
        for change in changes {
            let row = row(change?, &before.address.path);
            row.map_or(Ok(()), |row| show(row, &mut out))?;
        }
        Ok(())
    })
    .await?;
    Ok(Done::Whole)
}

fn show(row: ChangeRow, out: &mut Output) -> Result<(), Failure> {
    out.value(&row, |row| row.cells().join("  ").trim_end().to_owned())
}

/// The change in a line, if it lies below `path`, and is one to whom restores: that a small file was put into another
/// bundle is none.
fn row(change: Change, path: &[u8]) -> Option<ChangeRow> {
    let (change, entry, what) = match &change {
        Change::Added(entry) => ("added", entry, Vec::new()),
        Change::Removed(entry) => ("removed", entry, Vec::new()),
        Change::Changed { before, after } => ("changed", &**after, differences(before, after)),
    };
    let is_seen = change != "changed" || !what.is_empty();
    (is_seen && is_within(&entry.path, path)).then(|| ChangeRow {
        change,
        path: format!("/{}", Shown(&entry.path)),
        what,
    })
}

fn differences(before: &Entry, after: &Entry) -> Vec<&'static str> {
    let (old, new) = (&before.attributes, &after.attributes);
    let content = match (&before.kind, &after.kind) {
        // Where a small file lies in its bundle may change without its content.
        (EntryKind::File(old), EntryKind::File(new)) => old.bytes != new.bytes || !same_content(old, new),
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

fn same_content(old: &lifeboat_format::tree::FileContent, new: &lifeboat_format::tree::FileContent) -> bool {
    use lifeboat_format::tree::Body;
    match (&old.body, &new.body) {
        (Body::Bundled { hash: old, .. }, Body::Bundled { hash: new, .. }) => old == new,
        (old, new) => old == new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::id::{ChunkId, Scope};
    use lifeboat_format::key::ContentHash;
    use lifeboat_format::tree::{Attributes, Body, ChunkRef, FileContent};

    fn bundled(offset: u32, hash: u8) -> Box<Entry> {
        let (id, content) = (ChunkId::from_bytes([1; 32]), ContentHash::from_bytes([1; 32]));
        let chunk = ChunkRef { id, scope: Scope::new(1), content, bytes: 100 };
        let body = Body::Bundled { chunk, offset, hash: [hash; 16] };
        let kind = EntryKind::File(FileContent { bytes: 7, body });
        Box::new(Entry { path: b"file".to_vec(), kind, attributes: Attributes::default() })
    }

    #[test]
    fn another_place_in_a_bundle_is_no_change_and_other_content_is() {
        let changed = |before, after| row(Change::Changed { before, after }, b"").map(|row| row.what);
        assert_eq!(changed(bundled(0, 1), bundled(50, 1)), None);
        assert_eq!(changed(bundled(0, 1), bundled(0, 2)), Some(vec!["content"]));
    }
}
