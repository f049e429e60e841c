//! `lifeboat diff A B`: what changed between two snapshots, at a cost of what changed.

use super::entry::{differences, shown_path};
use super::output::Output;
use super::reading::{AddressArgs, LOOK, Opened, Snapshots, blocking};
use super::{Done, Global};
use crate::address::{Address, When, shown};
use clap::Args;
use lifeboat_agent::restore::fetch::{FetchError, NodeReader};
use lifeboat_format::tree::{Change, Diff, Node, NodeRef, NodeSource, diff as diff_trees, is_within};
use lifeboat_proto::status::{ErrorClass, Failure};
use serde::Serialize;
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
    let before = snapshots.open_at(&first, "diff", LOOK).await?;
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
        for change in changes(&before, &after) {
            if let Some(row) = row(change?, &before.path) {
                out.value(&row, ChangeRow::text)?;
            }
        }
        Ok(())
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
    fn text(&self) -> String {
        let sign = match self.change {
            "added" => '+',
            "removed" => '-',
            _ => 'M',
        };
        let what = if self.what.is_empty() { String::new() } else { format!("  ({})", self.what.join(", ")) };
        format!("{sign} {}{what}", self.path)
    }
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
    (is_seen && is_within(&entry.path, path)).then(|| {
        let (path, path_hex) = shown_path(&entry.path);
        ChangeRow { change, path, path_hex, what }
    })
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
