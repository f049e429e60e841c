//! `lifeboat versions HOST:PATH`: every distinct version of a file that the snapshots hold, also of a deleted one.

use super::entry::{EntryRow, differences, modified};
use super::output::{Output, Row, from_ns, hex, moment, zone_name};
use super::reading::{AddressArgs, LOOK, blocking, costs_one_snapshot, short_id};
use super::{Done, Global, elsewhere};
use crate::address::When;
use clap::Args;
use jiff::Timestamp;
use lifeboat_format::tree::Entry;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::{Outcome, SnapshotInfo};
use serde::Serialize;

/// Show every stored version of a file, newest first
#[derive(Debug, Args)]
#[command(after_help = "Example: lifeboat versions web1:/etc/nginx/nginx.conf")]
pub struct VersionsArgs {
    #[command(flatten)]
    address: AddressArgs,
}

/// What a row of snapshots holds alike at the path.
struct Version {
    source_set: String,
    /// None where they do not have it.
    entry: Option<Entry>,
    /// Whether it may have been there although they do not have it.
    is_unknown: bool,
    first: SnapshotInfo,
    last: SnapshotInfo,
}

#[derive(Serialize)]
struct VersionRow {
    /// The newest snapshot that has it.
    snapshot: String,
    source_set: String,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    deleted: bool,
    /// Whether the file may have been there although the snapshots do not have it.
    unknown: bool,
    #[serde(flatten)]
    entry: Option<EntryRow>,
    #[serde(skip)]
    modified: Option<Timestamp>,
    #[serde(skip)]
    size: String,
}

impl Row for VersionRow {
    const HEADERS: &'static [&'static str] = &["SNAPSHOT", "SEEN FROM", "SEEN UNTIL", "SIZE", "MODIFIED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.snapshot.chars().take(12).collect(),
            moment(self.from),
            moment(self.until),
            self.size.clone(),
            moment(self.modified),
        ]
    }
}

/// Runs the command. With a moment, what later snapshots hold is left out.
pub async fn versions(args: VersionsArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let address = args.address.address()?;
    let mut snapshots = args.address.snapshots(global).await?;
    let last = match address.when {
        When::Latest => u64::MAX,
        _ => snapshots.choose(&address.host, &address.when)?.number,
    };
    let mut list = snapshots.list.clone();
    list.retain(|snapshot| snapshot.outcome() != Outcome::Checkpoint && snapshot.number <= last);
    list.sort_by(|one, other| (&one.source_set, one.number).cmp(&(&other.source_set, other.number)));
    let (mut versions, mut done, mut missing) = (Vec::<Version>::new(), Done::Whole, None);
    snapshots.expect_all(list.clone());
    for snapshot in list {
        let opened = match snapshots.open_in(&snapshot, &address, "versions", LOOK).await {
            Err(failure) if costs_one_snapshot(&failure) => {
                done = Done::WithLosses;
                out.say(format_args!("snapshot {}: {failure}", short_id(&snapshot)));
                continue;
            }
            opened => opened?,
        };
        let looked = blocking(move || {
            let found = opened.tree().lookup(&opened.path)?.map(|entry| opened.file_of(entry)).transpose();
            let is_unknown = matches!(found, Ok(None)) && opened.unknown_absence(&opened.path)?.is_some();
            Ok((found, is_unknown, opened))
        });
        match looked.await {
            Ok((Ok(entry), is_unknown, opened)) => {
                missing = entry.is_none().then_some(opened);
                add(&mut versions, snapshot, entry, is_unknown);
            }
            Ok((Err(failure), ..)) | Err(failure) if costs_one_snapshot(&failure) => {
                done = Done::WithLosses;
                out.say(format_args!("snapshot {}: {failure}", short_id(&snapshot)));
            }
            Ok((Err(failure), ..)) | Err(failure) => return Err(failure),
        }
    }
    if versions.iter().all(|version| version.entry.is_none()) {
        let Some(opened) = missing else {
            let (class, what) = match done {
                Done::Whole => (ErrorClass::NotFound, format!("{} has no snapshot", address.host)),
                Done::WithLosses => (ErrorClass::Damaged, format!("no snapshot of {} can be read", address.host)),
            };
            return Err(Failure::new(class, what));
        };
        return Err(blocking(move || elsewhere::nearest(&opened, &opened.path)).await?);
    }
    out.say(format_args!("times are in {}", zone_name()));
    let rows: Vec<VersionRow> = versions.into_iter().rev().map(row).collect();
    let sets: Vec<&[VersionRow]> = rows.chunk_by(|one, other| one.source_set == other.source_set).collect();
    for set in &sets {
        if sets.len() > 1 && !out.is_json() {
            out.line(format_args!("set {}:", set[0].source_set))?;
        }
        out.table(set)?;
    }
    Ok(done)
}

/// Adds what the next snapshot has: one more that is alike, or a version of its own. That a file was not there yet is
/// none.
fn add(versions: &mut Vec<Version>, snapshot: SnapshotInfo, entry: Option<Entry>, is_unknown: bool) {
    let before = versions.last_mut().filter(|version| version.source_set == snapshot.source_set);
    match (before, entry) {
        (None, None) => {}
        (Some(before), entry) if before.is_unknown == is_unknown && is_alike(before.entry.as_ref(), entry.as_ref()) => {
            before.last = snapshot;
        }
        (_, entry) => versions.push(Version {
            source_set: snapshot.source_set.clone(),
            entry,
            is_unknown,
            first: snapshot.clone(),
            last: snapshot,
        }),
    }
}

fn is_alike(before: Option<&Entry>, after: Option<&Entry>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => differences(before, after).is_empty(),
        (before, after) => before.is_none() && after.is_none(),
    }
}

fn row(version: Version) -> VersionRow {
    let Version { source_set, entry, is_unknown, first, last } = version;
    let row = entry.as_ref().map(EntryRow::new);
    VersionRow {
        snapshot: hex(&last.snapshot),
        source_set,
        from: from_ns(first.committed_ns),
        until: from_ns(last.committed_ns),
        deleted: entry.is_none() && !is_unknown,
        unknown: is_unknown,
        modified: entry.as_ref().and_then(modified),
        size: row.as_ref().map_or_else(|| if is_unknown { "not held" } else { "deleted" }.to_owned(), EntryRow::size),
        entry: row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::tree::{Attributes, EntryKind};

    fn entry(mode: u16) -> Option<Entry> {
        let attributes = Attributes { mode, ..Attributes::default() };
        Some(Entry { path: b"a".to_vec(), kind: EntryKind::Fifo, attributes })
    }

    #[test]
    fn alike_ones_in_a_row_are_one_version_and_its_absence_after_it_is_one_too() {
        let mut versions = Vec::new();
        let held = [None, entry(1), entry(1), None, None, entry(2), entry(1)];
        for (number, entry) in (1..).zip(held) {
            add(&mut versions, SnapshotInfo { number, ..SnapshotInfo::default() }, entry, false);
        }
        let other = SnapshotInfo { source_set: "mail".into(), number: 1, ..SnapshotInfo::default() };
        add(&mut versions, other.clone(), None, false);
        add(&mut versions, other, entry(1), false);
        let mode = |version: &Version| version.entry.as_ref().map(|entry| entry.attributes.mode);
        let told: Vec<_> =
            versions.iter().map(|version| (mode(version), version.first.number, version.last.number)).collect();
        let wanted = [(Some(1), 2, 3), (None, 4, 5), (Some(2), 6, 6), (Some(1), 7, 7), (Some(1), 1, 1)];
        assert_eq!(told, wanted);
    }
}
