//! `lifeboat find PATTERN`: searches one, many or all snapshots, of one, many or all servers.
//!
//! The newest snapshot of a source set is read whole; of each earlier one only what differs from the one after it
//! (`diff`), so every version is shown once, and a year of nights costs what changed in it.

use super::diff::{changes, differences_of_files};
use super::entry::{EntryRow, modified};
use super::output::{Output, counted, from_ns, hex, moment, zone, zone_name};
use super::reading::{LOOK, Opened, Snapshots, blocking, costs_one_snapshot, short_id};
use super::{Done, Global, elsewhere};
use crate::address::{Address, When};
use clap::{Args, ValueEnum};
use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;
use lifeboat_agent::policy::ByteSize;
use lifeboat_agent::restore::fetch::FetchError;
use lifeboat_format::tree::{Change, Completeness, Entry, EntryKind, compare_paths, is_within, name};
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
    let Tally { found, gaps, incomplete, snapshots, hosts, done } = tally;
    let hosts = hosts.len();
    out.say(format_args!("{found} found in {snapshots} snapshots of {hosts} servers; times are in {}", zone_name()));
    if gaps + incomplete > 0 {
        let (gaps, incomplete) = (counted(gaps, "gap", "gaps"), counted(incomplete, "directory", "directories"));
        out.say(format_args!(
            "these snapshots have {gaps}, and hold {incomplete} not completely: what is not found there may have existed"
        ));
    }
    Ok(done)
}

/// What was searched and found.
struct Tally {
    found: u64,
    gaps: u64,
    /// Directories that the newest snapshots do not hold completely.
    incomplete: u64,
    snapshots: u64,
    hosts: BTreeSet<u32>,
    done: Done,
}

impl Tally {
    /// A snapshot that cannot be searched is named, and the search goes on; unless the failure is not the snapshot's.
    fn pass_over(&mut self, snapshot: &SnapshotInfo, failure: Failure, out: &Output) -> Result<(), Failure> {
        if !costs_one_snapshot(&failure) {
            return Err(failure);
        }
        let SnapshotInfo { host_name, source_set, .. } = snapshot;
        let id = short_id(snapshot);
        out.say(format_args!("snapshot {id} of {host_name}, set {source_set}, cannot be searched: {failure}"));
        self.done = Done::WithLosses;
        Ok(())
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self { found: 0, gaps: 0, incomplete: 0, snapshots: 0, hosts: BTreeSet::new(), done: Done::Whole }
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
    let mut searches = Vec::new();
    for ((host_name, host, _), list) in sets {
        let Ok(newest) = super::reading::choose(&host_name, &address.when, &list) else { continue };
        let (newest, number) = (newest.clone(), newest.number);
        let earlier = list.into_iter().filter(|snapshot| {
            let is_regular = !snapshot.suspect && snapshot.outcome() != Outcome::Checkpoint;
            let committed = from_ns(snapshot.committed_ns);
            is_regular && snapshot.number < number && since.is_some_and(|since| committed >= Some(since))
        });
        tally.hosts.insert(host);
        searches.push([newest].into_iter().chain(earlier).collect::<Vec<_>>());
    }
    snapshots.expect_all(searches.concat());
    let (mut has_path, mut missing) = (false, None);
    for list in searches {
        let mut series = Series::default();
        for snapshot in list {
            let opened = match snapshots.open_in(&snapshot, address, "find", LOOK).await {
                Ok(opened) => opened,
                Err(failure) => {
                    tally.pass_over(&snapshot, failure, out)?;
                    continue;
                }
            };
            let mut theirs = std::mem::replace(out, Output::new(out.is_json()));
            let search = search.clone();
            let (searched, looked) = blocking(move || {
                let looked = series.look(opened, &search, &mut theirs);
                Ok((series, looked))
            })
            .await?;
            series = searched;
            match looked {
                Ok(Done::Whole) => {}
                Ok(Done::WithLosses) => tally.done = Done::WithLosses,
                Err(failure) => {
                    tally.pass_over(&snapshot, failure, out)?;
                    continue;
                }
            }
            tally.snapshots += 1;
            tally.gaps += snapshot.gap_count;
        }
        tally.found += series.found;
        tally.incomplete += series.incomplete;
        has_path |= series.has_path;
        missing = missing.or(series.later);
    }
    if let (false, Some(opened)) = (has_path, missing) {
        return Err(blocking(move || elsewhere::nearest(&opened, &opened.path)).await?);
    }
    Ok(())
}

/// The snapshots of a source set that are searched, from the newest back.
#[derive(Default)]
struct Series {
    /// The one that was searched last.
    later: Option<Opened>,
    /// Its hard links whose names fit, by the files that they are: they change with them.
    links: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Whether one of them has the path that is searched.
    has_path: bool,
    found: u64,
    /// Directories of the newest one that it does not hold completely.
    incomplete: u64,
}

impl Series {
    /// Shows what fits in a snapshot; after the first one, only what the later one does not have alike. If it fails, the
    /// next one is compared with the one before.
    fn look(&mut self, opened: Opened, search: &Search, out: &mut Output) -> Result<Done, Failure> {
        self.has_path |= opened.has(&opened.path)?;
        let done = match self.later.take() {
            None => self.look_whole(&opened, None, search, out)?,
            Some(later) => {
                let done = self.look_back(&later, &opened, search, out);
                if done.is_err() {
                    self.later = Some(later);
                }
                done?
            }
        };
        self.later = Some(opened);
        Ok(done)
    }

    /// Shows what fits in a snapshot, without comparing it; only what comes after a path, if one is given.
    fn look_whole(
        &mut self,
        opened: &Opened,
        after: Option<&[u8]>,
        search: &Search,
        out: &mut Output,
    ) -> Result<Done, Failure> {
        opened.each(&opened.path, out, |entry, out| {
            if after.is_some_and(|after| compare_paths(&entry.path, after).is_le()) {
                return Ok(());
            }
            let is_incomplete = matches!(&entry.kind,
                EntryKind::Directory(completeness) if !(*completeness | Completeness::ANCESTOR == Completeness::ANCESTOR));
            self.incomplete += u64::from(is_incomplete && after.is_none());
            self.link(&entry, search);
            self.show(entry, opened, search, out)
        })
    }

    fn look_back(
        &mut self,
        later: &Opened,
        opened: &Opened,
        search: &Search,
        out: &mut Output,
    ) -> Result<Done, Failure> {
        let (mut changed, mut shown, mut last) = (Vec::new(), BTreeSet::new(), Vec::new());
        for change in changes(later, opened) {
            let entry = match change {
                Ok(Change::Added(entry)) => entry,
                Ok(Change::Removed(entry)) => {
                    self.unlink(&entry);
                    continue;
                }
                Ok(Change::Changed { before, after }) => {
                    self.unlink(&before);
                    self.link(&after, search);
                    if differences_of_files((later, &before), (opened, &after)).is_empty() {
                        continue;
                    }
                    if self.links.contains_key(&after.path) {
                        changed.push(after.path.clone());
                    }
                    *after
                }
                Err(error @ (FetchError::Lost { .. } | FetchError::Format(_))) => {
                    let (one, other) = (opened.short_id(), later.short_id());
                    out.say(format_args!("snapshot {one} cannot be compared with {other} to its end: {error}"));
                    // The rest of it, also what the later one has alike.
                    self.look_whole(opened, Some(&last), search, out)?;
                    return Ok(Done::WithLosses);
                }
                Err(error) => return Err(error.into()),
            };
            last.clone_from(&entry.path);
            self.link(&entry, search);
            if matches!(entry.kind, EntryKind::HardLink { .. }) {
                shown.insert(entry.path.clone());
            }
            if is_within(&entry.path, &opened.path) {
                self.show(entry, opened, search, out)?;
            }
        }
        let links = changed.iter().flat_map(|file| self.links.get(file).into_iter().flatten());
        let links: Vec<Vec<u8>> = links.filter(|link| !shown.contains(*link)).cloned().collect();
        for link in links.into_iter().filter(|link| is_within(link, &opened.path)) {
            if let Some(entry) = opened.tree().lookup(&link)? {
                self.show(entry, opened, search, out)?;
            }
        }
        Ok(Done::Whole)
    }

    fn show(&mut self, entry: Entry, opened: &Opened, search: &Search, out: &mut Output) -> Result<(), Failure> {
        if let Some(entry) = search.found(entry, opened)? {
            self.found += 1;
            out.value(&found_row(&entry, opened), FoundRow::text)?;
        }
        Ok(())
    }

    fn link(&mut self, entry: &Entry, search: &Search) {
        if let EntryKind::HardLink { to } = &entry.kind
            && search.is_named(&entry.path)
        {
            self.links.entry(to.clone()).or_default().insert(entry.path.clone());
        }
    }

    fn unlink(&mut self, entry: &Entry) {
        if let EntryKind::HardLink { to } = &entry.kind
            && let Some(links) = self.links.get_mut(to)
        {
            links.remove(&entry.path);
        }
    }
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
        if !self.is_named(&entry.path) {
            return Ok(None);
        }
        let entry = opened.file_of(entry)?;
        Ok(self.fits(&entry).then_some(entry))
    }

    fn is_named(&self, path: &[u8]) -> bool {
        self.glob.is_match(OsStr::from_bytes(if self.whole_path { path } else { name(path) }))
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
