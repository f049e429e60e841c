//! `lifeboat diff A B`: what changed between two snapshots, at a cost of what changed.

use super::entry::{differences, shown_path};
use super::output::Output;
use super::reading::{AddressArgs, LOOK, Opened, Snapshots, blocking};
use super::{Done, Global, elsewhere};
use crate::address::{Address, When, shown};
use clap::Args;
use lifeboat_agent::restore::Reason;
use lifeboat_agent::restore::fetch::{FetchError, NodeReader};
use lifeboat_format::tree::{Change, Diff, Entry, EntryKind, Node, NodeRef, NodeSource, diff as diff_trees, is_within};
use lifeboat_proto::status::{ErrorClass, Failure};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;

/// Show what changed between two snapshots
#[derive(Debug, Args)]
#[command(after_help = "Example: lifeboat diff web1:/etc@-7d yesterday")]
pub struct DiffArgs {
    /// The earlier files
    #[command(flatten)]
    address: AddressArgs,
    /// The later snapshot of the same files, or the same path of another server
    #[arg(value_name = "WHEN|HOST:PATH[@WHEN]", default_value = "latest", allow_hyphen_values = true)]
    other: OsString,
}

#[derive(Serialize)]
struct ChangeRow {
    change: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    what: Vec<&'static str>,
    /// Why the path may have been there in the snapshot that does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
}

/// Nodes of two trees. A node that both hold is the same; whichever reader knows the way to it reads it.
pub struct Either(NodeReader, NodeReader);

impl NodeSource for Either {
    type Error = FetchError;

    fn node(&mut self, reference: &NodeRef) -> Result<Node, FetchError> {
        match self.0.node(reference) {
            Err(FetchError::NotLinked { .. }) => self.1.node(reference),
            read => read,
        }
    }
}

/// What leads from one snapshot to another.
pub fn changes(before: &Opened, after: &Opened) -> Diff<Either> {
    diff_trees(Either(before.reader.nodes(), after.reader.nodes()), before.reader.root(), after.reader.root())
}

/// Runs the command.
pub async fn diff(args: DiffArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let first = args.address.address()?;
    let mut snapshots = args.address.snapshots(global).await?;
    let before = snapshots.open_holding(&first, &[], "diff", LOOK).await?;
    let second = second(&first, &args.other)?;
    let after = match second.host == first.host {
        true => {
            // The list was cut to --set, or had only one.
            snapshots.list.retain(|snapshot| snapshot.source_set == before.snapshot.source_set);
            snapshots.open_at(&second, "diff", LOOK).await?
        }
        false => {
            let mut others = Snapshots::of(&second.host, &before.snapshot.source_set, global).await?;
            others.open_at(&second, "diff", LOOK).await?
        }
    };
    before.say_which("from ", out);
    after.say_which("to   ", out);
    let mut out = std::mem::replace(out, Output::new(out.is_json()));
    blocking(move || {
        if !before.has(&before.path)? && !after.has(&after.path)? {
            return Err(elsewhere::nearest(&after, &after.path)?);
        }
        let mut comparison = Comparison::new(&before, &after);
        for change in changes(&before, &after) {
            if let Some(row) = comparison.row(change?)? {
                out.value(&row, ChangeRow::text)?;
            }
        }
        comparison.links(|row| out.value(&row, ChangeRow::text))
    })
    .await?;
    Ok(Done::Whole)
}

/// The later address: it may be a moment alone.
fn second(first: &Address, typed: &OsString) -> Result<Address, Failure> {
    if let Some(when) = typed.to_str().and_then(|text| text.trim_start_matches('@').parse::<When>().ok()) {
        return Ok(Address { when, ..first.clone() });
    }
    let address = Address::parse(typed, None).map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
    if address.path != first.path {
        let problem = format!("/{} and /{} are two paths", shown(&first.path), shown(&address.path));
        return Err(Failure::new(ErrorClass::Usage, problem).hint("name the same path of two snapshots"));
    }
    Ok(address)
}

impl ChangeRow {
    fn new(
        change: &'static str,
        path: &[u8],
        what: Vec<&'static str>,
        unknown: Option<(&'static str, Reason)>,
    ) -> Self {
        let (path, path_hex) = shown_path(path);
        let change = if unknown.is_some() { "unknown" } else { change };
        let unknown = unknown.map(|(which, reason)| format!("the {which} snapshot does not tell: {reason}"));
        Self { change, path, path_hex, what, unknown }
    }

    fn text(&self) -> String {
        let sign = match self.change {
            "added" => '+',
            "removed" => '-',
            "unknown" => '?',
            _ => 'M',
        };
        let what = match &self.unknown {
            Some(why) => format!("  ({why})"),
            None if self.what.is_empty() => String::new(),
            None => format!("  ({})", self.what.join(", ")),
        };
        format!("{sign} {}{what}", self.path)
    }
}

/// Two snapshots, compared.
struct Comparison<'a> {
    before: &'a Opened,
    after: &'a Opened,
    /// Files that changed, by a hash of their paths, and what of them did: so did their hard links.
    changed: HashMap<[u8; 32], Vec<&'static str>>,
    /// The last path that the earlier snapshot does not have, and the last one of the later one, with why it may have been
    /// there: what is below it is answered alike.
    absent: [Option<(Vec<u8>, Option<Reason>)>; 2],
    /// Hard links that have a row already, by a hash of their paths.
    shown_links: HashSet<[u8; 32]>,
}

impl<'a> Comparison<'a> {
    fn new(before: &'a Opened, after: &'a Opened) -> Self {
        Self { before, after, changed: HashMap::new(), absent: [None, None], shown_links: HashSet::new() }
    }

    /// The change in a line, if it lies below the path that was asked for, and is one to whom restores: that a small file
    /// was put into another bundle is none.
    fn row(&mut self, change: Change) -> Result<Option<ChangeRow>, Failure> {
        let (change, path, what) = match change {
            Change::Added(entry) => ("added", entry.path, Vec::new()),
            Change::Removed(entry) => ("removed", entry.path, Vec::new()),
            Change::Changed { before, after } => {
                let what = differences_of_files((self.before, &before), (self.after, &after));
                let hash = *blake3::hash(&after.path).as_bytes();
                if what.is_empty() {
                    return Ok(None);
                }
                match after.kind {
                    EntryKind::HardLink { .. } => drop(self.shown_links.insert(hash)),
                    EntryKind::Directory(_) => {}
                    _ => drop(self.changed.insert(hash, what.clone())),
                }
                ("changed", after.path, what)
            }
        };
        if !is_within(&path, &self.before.path) {
            return Ok(None);
        }
        let unknown = match change {
            "added" => self.unknown_absence(0, &path)?.map(|reason| ("earlier", reason)),
            "removed" => self.unknown_absence(1, &path)?.map(|reason| ("later", reason)),
            _ => None,
        };
        Ok(Some(ChangeRow::new(change, &path, what, unknown)))
    }

    /// Why a path that one of the two does not have may have been there.
    fn unknown_absence(&mut self, which: usize, path: &[u8]) -> Result<Option<Reason>, Failure> {
        if let Some((above, reason)) = &self.absent[which]
            && is_within(path, above)
        {
            return Ok(*reason);
        }
        let reason = [self.before, self.after][which].unknown_absence(path)?;
        self.absent[which] = Some((path.to_vec(), reason));
        Ok(reason)
    }

    /// The hard links of files that changed.
    fn links(&self, mut show: impl FnMut(ChangeRow) -> Result<(), Failure>) -> Result<(), Failure> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let (mut before, mut after) = (self.before.tree(), self.after.tree());
        for entry in after.subtree(&self.after.path) {
            let entry = entry?;
            let EntryKind::HardLink { to } = &entry.kind else { continue };
            let Some(what) = self.changed.get(blake3::hash(to).as_bytes()) else { continue };
            let is_shown = self.shown_links.contains(blake3::hash(&entry.path).as_bytes());
            // One that is new has a row already.
            if !is_shown && before.lookup(&entry.path)?.is_some() {
                show(ChangeRow::new("changed", &entry.path, what.clone(), None))?;
            }
        }
        Ok(())
    }
}

/// What differs between two entries of one path; a hard link is compared as the file that it is.
pub fn differences_of_files(before: (&Opened, &Entry), after: (&Opened, &Entry)) -> Vec<&'static str> {
    let is_link = |entry: &Entry| matches!(entry.kind, EntryKind::HardLink { .. });
    if !is_link(before.1) && !is_link(after.1) {
        return differences(before.1, after.1);
    }
    let files = (before.0.file_of(before.1.clone()), after.0.file_of(after.1.clone()));
    match files {
        (Ok(old), Ok(new)) => {
            let mut what = differences(&old, &new);
            if is_link(before.1) != is_link(after.1) {
                what.push("hard link");
            }
            what
        }
        _ => differences(before.1, after.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_one_is_a_moment_or_the_same_path_elsewhere() {
        let first = Address::parse("web1:/etc@-3d".as_ref(), None).unwrap();
        let of = |text: &str| second(&first, &text.into());
        assert_eq!(of("latest").unwrap(), Address { when: When::Latest, ..first.clone() });
        assert_eq!(of("@-1d").unwrap().when, "-1d".parse().unwrap());
        assert_eq!(of("web2:/etc").unwrap().host, "web2");
        assert_eq!(of("web1:/var").unwrap_err().to_string(), "/etc and /var are two paths");
    }
}
