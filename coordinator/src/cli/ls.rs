//! `lifeboat ls`: what is in a directory of a snapshot.

use super::output::{Output, Row};
use super::reading::{AddressArgs, LOOK, blocking};
use super::{Done, Global};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use lifeboat_agent::walk::Shown;
use lifeboat_format::tree::{Entry, EntryKind, name};
use lifeboat_proto::status::Failure;
use serde::Serialize;

/// Rows that are collected before they are shown.
const ROWS_AT_ONCE: usize = 1_000;

/// List a directory as it was, or show one file
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    address: AddressArgs,
    /// Also all that is below
    #[arg(long, short)]
    recursive: bool,
}

/// An entry, in a line.
#[derive(Serialize)]
pub struct EntryRow {
    path: String,
    kind: &'static str,
    mode: String,
    owner: String,
    group: String,
    bytes: u64,
    modified: Option<Timestamp>,
    target: Option<String>,
    #[serde(skip)]
    shown: String,
    #[serde(skip)]
    zone: TimeZone,
}

impl Row for EntryRow {
    const HEADERS: &'static [&'static str] = &["MODE", "OWNER", "GROUP", "SIZE", "MODIFIED", "NAME"];

    fn cells(&self) -> Vec<String> {
        let arrow = self.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
        vec![
            self.mode.clone(),
            self.owner.clone(),
            self.group.clone(),
            self.bytes.to_string(),
            super::output::moment(self.modified, &self.zone),
            format!("{}{arrow}", self.shown),
        ]
    }
}

/// Runs the command.
pub async fn ls(args: LsArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let opened = args.address.open("ls", LOOK, global).await?;
    let zone = global.config()?.time_zone;
    let mut out = std::mem::replace(out, Output::new(out.is_json()));
    blocking(move || {
        let entry = opened.entry()?;
        if !matches!(entry.kind, EntryKind::Directory) {
            return out.table(&[row(&entry, name(&entry.path), &zone)]);
        }
        let (path, mut tree) = (opened.address.path.clone(), opened.tree());
        let entries: Box<dyn Iterator<Item = _>> = match args.recursive {
            true => Box::new(tree.subtree(&path)),
            false => Box::new(tree.list(&path)),
        };
        let mut rows = Vec::new();
        for entry in entries {
            let entry = entry?;
            let shown = if args.recursive { &entry.path } else { name(&entry.path) };
            rows.push(row(&entry, shown, &zone));
            if rows.len() == ROWS_AT_ONCE {
                out.table(&std::mem::take(&mut rows))?;
            }
        }
        if rows.is_empty() { Ok(()) } else { out.table(&rows) }
    })
    .await?;
    Ok(Done::Whole)
}

fn row(entry: &Entry, shown: &[u8], zone: &TimeZone) -> EntryRow {
    let attributes = &entry.attributes;
    let (kind, letter, bytes) = match &entry.kind {
        EntryKind::Directory => ("directory", 'd', 0),
        EntryKind::File(content) => ("file", '-', content.bytes),
        EntryKind::Symlink { target } => ("symlink", 'l', target.len() as u64),
        EntryKind::Fifo => ("fifo", 'p', 0),
        EntryKind::Socket => ("socket", 's', 0),
        EntryKind::CharDevice(_) => ("character device", 'c', 0),
        EntryKind::BlockDevice(_) => ("block device", 'b', 0),
        EntryKind::HardLink { .. } => ("hard link", 'h', 0),
    };
    let target = match &entry.kind {
        EntryKind::Symlink { target } => Some(Shown(target).to_string()),
        EntryKind::HardLink { to } => Some(format!("/{}", Shown(to))),
        _ => None,
    };
    let called = |name: &[u8], number: u32| if name.is_empty() { number.to_string() } else { Shown(name).to_string() };
    EntryRow {
        path: format!("/{}", Shown(&entry.path)),
        kind,
        mode: format!("{letter}{}", permissions(attributes.mode)),
        owner: called(&attributes.owner, attributes.uid),
        group: called(&attributes.group, attributes.gid),
        bytes,
        modified: Timestamp::new(attributes.mtime.seconds, attributes.mtime.nanos.min(999_999_999) as i32).ok(),
        target,
        shown: if shown.is_empty() { "/".to_owned() } else { Shown(shown).to_string() },
        zone: zone.clone(),
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
    use super::permissions;

    #[test]
    fn permissions_are_written_as_ls_does() {
        assert_eq!(permissions(0o755), "rwxr-xr-x");
        assert_eq!(permissions(0o4755), "rwsr-xr-x");
        assert_eq!(permissions(0o2640), "rw-r-S---");
        assert_eq!(permissions(0o1777), "rwxrwxrwt");
    }
}
