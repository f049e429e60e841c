//! `lifeboat find PATTERN`: searches one, many or all snapshots, of one, many or all servers.
//!
//! The newest snapshot of a source set is read whole; of each earlier one only what differs from the one after it
//! (`diff`), so every version is shown once, and a year of nights costs what changed in it.

use super::diff::changes;
use super::entry::{EntryRow, differences, modified};
use super::output::{Output, from_ns, hex, moment, zone, zone_name};
use super::reading::{LOOK, Opened, Snapshots, blocking};
use super::{Done, Global};
use crate::address::{Address, When};
use clap::{Args, ValueEnum};
use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;
use lifeboat_agent::policy::ByteSize;
use lifeboat_format::tree::{Change, Entry, EntryKind, is_within, name};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::{Outcome, SnapshotInfo};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Search snapshots for files
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lifeboat find '*.conf' web1 --all\n  lifeboat find 'invoice*' --larger 1MB --since -30d"
)]
pub struct FindArgs {
    /// Glob for the name (*.conf), or with a slash for the whole path (/etc/**/*.conf)
    pattern: String,
    /// Where to search [default: the newest snapshots of all servers]
    #[arg(value_name = "HOST[:PATH][@WHEN]")]
    addresses: Vec<OsString>,
    /// Only this source set
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    set: String,
    /// Search all snapshots, not only the newest, and show every version
    #[arg(long, short)]
    all: bool,
    /// Search the snapshots since then, and show every version
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, conflicts_with = "all")]
    since: Option<When>,
    /// Ignore upper and lower case
    #[arg(long, short)]
    ignore_case: bool,
    /// Only entries of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// Only files of at least this size, such as 10MiB
    #[arg(long, value_name = "SIZE")]
    larger: Option<ByteSize>,
    /// Only files smaller than this
    #[arg(long, value_name = "SIZE")]
    smaller: Option<ByteSize>,
    /// Only entries modified after this
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    modified_after: Option<When>,
    /// Only entries modified before this
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    modified_before: Option<When>,
}

/// What kinds can be searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Regular files, under all their names
    File,
    /// Directories
    Directory,
    /// Symbolic links
    Symlink,
}

/// What is searched for.
#[derive(Debug, Clone)]
struct Search {
    glob: GlobMatcher,
    whole_path: bool,
    kind: Option<Kind>,
    larger: Option<u64>,
    smaller: Option<u64>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

#[derive(Serialize)]
struct FoundRow {
    host: String,
    source_set: String,
    snapshot: String,
    committed: Option<Timestamp>,
    #[serde(flatten)]
    entry: EntryRow,
    #[serde(skip)]
    modified: Option<Timestamp>,
}

impl FoundRow {
    /// Its end is an address to give to the other commands.
    fn text(&self) -> String {
        let snapshot: String = self.snapshot.chars().take(12).collect();
        let (size, time) = (self.entry.size(), moment(self.modified));
        format!("{size:>12}  {time:<16}  {}:{}@{snapshot}", self.host, self.entry.path())
    }
}

/// Runs the command.
pub async fn find(args: FindArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let search = Search::new(&args)?;
    let since = match &args.since {
        Some(when) => Some(instant(when, "--since")?),
        None => args.all.then_some(Timestamp::MIN),
    };
    let mut tally = Tally::default();
    if args.addresses.is_empty() {
        let mut snapshots = Snapshots::of("", &args.set, global).await?;
        let everywhere = Address { host: String::new(), path: Vec::new(), literal: None, when: When::Latest };
        find_in(&mut snapshots, &everywhere, since, &search, &mut tally, out).await?;
    }
    for address in &args.addresses {
        let address = Address::parse(address, None).map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
        let mut snapshots = Snapshots::of(&address.host, &args.set, global).await?;
        let searched = tally.snapshots;
        find_in(&mut snapshots, &address, since, &search, &mut tally, out).await?;
        if tally.snapshots == searched {
            snapshots.choose(&address.host, &address.when)?; // It says what is wrong.
        }
    }
    let Tally { found, snapshots, hosts, done } = tally;
    let hosts = hosts.len();
    out.say(format_args!("{found} found in {snapshots} snapshots of {hosts} servers; times are in {}", zone_name()));
    Ok(done)
}

/// What was searched and found.
struct Tally {
    found: u64,
    snapshots: u64,
    hosts: BTreeSet<u32>,
    done: Done,
}

impl Default for Tally {
    fn default() -> Self {
        Self { found: 0, snapshots: 0, hosts: BTreeSet::new(), done: Done::Whole }
    }
}

/// Searches each source set on a list: the snapshot that the address means, and those before it back to `since`.
async fn find_in(
    snapshots: &mut Snapshots,
    address: &Address,
    since: Option<Timestamp>,
    search: &Search,
    tally: &mut Tally,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut sets = BTreeMap::<(String, u32, String), Vec<SnapshotInfo>>::new();
    for snapshot in &snapshots.list {
        let set = (snapshot.host_name.clone(), snapshot.host, snapshot.source_set.clone());
        sets.entry(set).or_default().push(snapshot.clone());
    }
    for ((host_name, host, _), list) in sets {
        let Ok(newest) = super::reading::choose(&host_name, &address.when, &list) else { continue };
        let (newest, number) = (newest.clone(), newest.number);
        let earlier = list.into_iter().filter(|snapshot| {
            let is_regular = !snapshot.suspect && snapshot.outcome() != Outcome::Checkpoint;
            let committed = from_ns(snapshot.committed_ns);
            is_regular && snapshot.number < number && since.is_some_and(|since| committed >= Some(since))
        });
        tally.hosts.insert(host);
        let mut later = None;
        for snapshot in [newest].into_iter().chain(earlier) {
            let opened = snapshots.open_in(&snapshot, address, "find", LOOK).await?;
            let mut theirs = std::mem::replace(out, Output::new(out.is_json()));
            let (search, after) = (search.clone(), later.take());
            let (opened, found, done) = blocking(move || {
                let mut found = 0;
                let done = look(&opened, after.as_ref(), &search, &mut found, &mut theirs)?;
                Ok((opened, found, done))
            })
            .await?;
            tally.found += found;
            tally.snapshots += 1;
            if done == Done::WithLosses {
                tally.done = done;
            }
            later = Some(opened);
        }
    }
    Ok(())
}

/// Shows what fits in a snapshot; if there is a `later` one, only what that does not have alike.
fn look(
    opened: &Opened,
    later: Option<&Opened>,
    search: &Search,
    found: &mut u64,
    out: &mut Output,
) -> Result<Done, Failure> {
    let mut show = |entry: Entry, out: &mut Output| {
        if let Some(entry) = search.found(entry, opened)? {
            *found += 1;
            out.value(&found_row(&entry, opened), FoundRow::text)?;
        }
        Ok(())
    };
    let Some(later) = later else { return opened.each(&opened.path, out, show) };
    for change in changes(later, opened) {
        let entry = match change {
            Ok(Change::Added(entry)) => entry,
            Ok(Change::Changed { before, after }) if !differences(&before, &after).is_empty() => *after,
            Ok(_) => continue,
            Err(error) => {
                let (one, other) = (opened.short_id(), later.short_id());
                out.say(format_args!("snapshot {one} cannot be compared with {other} to its end: {error}"));
                return Ok(Done::WithLosses);
            }
        };
        if is_within(&entry.path, &opened.path) {
            show(entry, out)?;
        }
    }
    Ok(Done::Whole)
}

fn found_row(entry: &Entry, opened: &Opened) -> FoundRow {
    let SnapshotInfo { host_name, source_set, snapshot, committed_ns, .. } = &opened.snapshot;
    FoundRow {
        host: host_name.clone(),
        source_set: source_set.clone(),
        snapshot: hex(snapshot),
        committed: from_ns(*committed_ns),
        modified: modified(entry),
        entry: EntryRow::new(entry),
    }
}

/// The moment that is meant; not all that a WHEN can be is one.
fn instant(when: &When, argument: &str) -> Result<Timestamp, Failure> {
    let end = when.end(&zone(), Timestamp::now()).map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
    let problem = || Failure::new(ErrorClass::Usage, format!("{argument} {when} is not a moment"));
    end.ok_or_else(|| problem().hint("write 2026-11-01, \"2026-11-01 09:00\" or -3d"))
}

impl Search {
    fn new(args: &FindArgs) -> Result<Self, Failure> {
        let whole_path = args.pattern.contains('/');
        let pattern = args.pattern.strip_prefix('/').unwrap_or(&args.pattern);
        let mut glob = GlobBuilder::new(pattern);
        glob.literal_separator(true).case_insensitive(args.ignore_case);
        let glob = glob.build().map_err(|error| Failure::of(ErrorClass::Usage, &error))?.compile_matcher();
        let moment = |when: &Option<When>, argument| when.as_ref().map(|when| instant(when, argument)).transpose();
        Ok(Self {
            glob,
            whole_path,
            kind: args.kind,
            larger: args.larger.map(|size| size.0),
            smaller: args.smaller.map(|size| size.0),
            after: moment(&args.modified_after, "--modified-after")?,
            before: moment(&args.modified_before, "--modified-before")?,
        })
    }

    /// The entry, if it is searched for; a further name of a file with what is known of that file.
    fn found(&self, entry: Entry, opened: &Opened) -> Result<Option<Entry>, Failure> {
        let matched = if self.whole_path { &entry.path } else { name(&entry.path) };
        if !self.glob.is_match(OsStr::from_bytes(matched)) {
            return Ok(None);
        }
        let entry = opened.file_of(entry)?;
        Ok(self.fits(&entry).then_some(entry))
    }

    fn fits(&self, entry: &Entry) -> bool {
        let bytes = match &entry.kind {
            EntryKind::File(content) => Some(content.bytes),
            _ => None,
        };
        let kind = match &entry.kind {
            EntryKind::File(_) => Some(Kind::File),
            EntryKind::Directory(_) => Some(Kind::Directory),
            EntryKind::Symlink { .. } => Some(Kind::Symlink),
            _ => None,
        };
        let time = modified(entry);
        (self.kind.is_none() || self.kind == kind)
            && self.larger.is_none_or(|least| bytes >= Some(least))
            && self.smaller.is_none_or(|end| bytes.is_some_and(|bytes| bytes < end))
            && self.after.is_none_or(|after| time > Some(after))
            && self.before.is_none_or(|before| time.is_some_and(|time| time < before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use lifeboat_format::tree::{Attributes, Body, Completeness, FileContent, Time};

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        find: FindArgs,
    }

    fn search(typed: &[&str]) -> Search {
        Search::new(&Typed::parse_from(["find"].iter().chain(typed)).find).unwrap()
    }

    fn file(path: &str, bytes: u64, seconds: i64) -> Entry {
        let attributes = Attributes { mtime: Time { seconds, nanos: 0 }, ..Attributes::default() };
        let kind = EntryKind::File(FileContent { bytes, body: Body::Empty });
        Entry { path: path.into(), kind, attributes }
    }

    #[test]
    fn what_is_searched_for_is_decided_by_name_or_path_and_by_size_kind_and_time() {
        let is_match = |search: &Search, path: &str| {
            let matched = if search.whole_path { path } else { path.rsplit('/').next().unwrap() };
            search.glob.is_match(matched)
        };
        assert!(is_match(&search(&["*.conf"]), "etc/a.conf") && !is_match(&search(&["*.CONF"]), "etc/a.conf"));
        assert!(is_match(&search(&["*.CONF", "-i"]), "etc/a.conf"));
        let deep = search(&["/etc/**/*.conf"]);
        assert!(
            is_match(&deep, "etc/a.conf") && is_match(&deep, "etc/b/c/a.conf") && !is_match(&deep, "srv/etc/a.conf")
        );
        assert!(!is_match(&search(&["/etc/*.conf"]), "etc/b/a.conf"));
        let sized = search(&["*", "--larger", "10", "--smaller", "20"]);
        assert!(!sized.fits(&file("a", 9, 0)) && sized.fits(&file("a", 10, 0)) && !sized.fits(&file("a", 20, 0)));
        let timed =
            search(&["*", "--modified-after", "1970-01-01T00:00:05Z", "--modified-before", "1970-01-01T00:00:09Z"]);
        assert!(!timed.fits(&file("a", 0, 5)) && timed.fits(&file("a", 0, 6)) && !timed.fits(&file("a", 0, 9)));
        let directories = search(&["*", "--kind", "directory"]);
        let directory = Entry { kind: EntryKind::Directory(Completeness::COMPLETE), ..file("a", 0, 0) };
        assert!(directories.fits(&directory) && !directories.fits(&file("a", 0, 0)));
        assert!(!sized.fits(&directory), "a directory has no size");
    }
}
