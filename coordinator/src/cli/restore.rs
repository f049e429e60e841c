//! `lifeboat restore HOST:PATH[@WHEN] --to DIR`: gives files back, with everything that was kept of them.
//!
//! If PATH is a directory, DIR takes its place, its attributes included; a file goes into DIR under its name. What
//! could not be restored, or not wholly, is named at the end, and the exit code is 3 (INV-16). Interrupted, the same
//! command goes on where it was, with the same snapshot.

mod before;
mod order;
mod own;

use super::elsewhere::Whole;
use super::output::{Output, counted, hex, size};
use super::reading::{AddressArgs, Opened, RESTORE, blocking, short_id};
use super::{Done, Global, INTERRUPTED, elsewhere};
use crate::address::{AddressError, When, read_path};
use before::{DryRun, KeptRow, protected_line, shown_paths};
use clap::{Args, ValueEnum};
use lifeboat_agent::host::Places;
use lifeboat_agent::restore::conduct::{self, Request};
use lifeboat_agent::restore::{
    self as agent, Begin, Expected, Ledger, Own, Progress, Report, Selection, Target, content_bytes,
    refuse_without_room,
};
use lifeboat_agent::walk::Shown;
use lifeboat_format::grant::{Existing, RestoreTerms};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// And told to programs.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Restore files
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lifeboat restore web1:/etc --to /tmp/etc\n  lifeboat restore web1:/srv/www@yesterday --to /srv/www --overwrite always --dry-run\n  lifeboat restore web1:/srv --on web2 --wait"
)]
pub struct RestoreArgs {
    #[command(flatten)]
    address: AddressArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Directory to restore into; created if it does not exist. Must be empty unless --overwrite is given or one file is
    /// restored, which goes into the directory under its own name
    #[arg(long, value_name = "DIR", required_unless_present_any = ["on", "into"], conflicts_with = "on")]
    to: Option<PathBuf>,
    /// Server to restore on: its agent restores, as far as its policy.toml allows
    #[arg(long, value_name = "HOST")]
    on: Option<String>,
    /// Directory on that server: below its staging directory, or an absolute path [default: a new directory in staging]
    #[arg(long, value_name = "DIR")]
    into: Option<String>,
    /// Wait for the server's restore to finish, showing progress
    #[arg(long, requires = "on")]
    wait: bool,
    /// What to do with files that already exist
    #[arg(long, value_name = "WHICH")]
    overwrite: Option<Which>,
    /// Delete files that are not in the snapshot
    #[arg(long, requires = "overwrite", conflicts_with_all = ["include", "exclude"])]
    delete: bool,
    /// Delete without asking
    #[arg(long, requires = "delete")]
    yes: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not check the free space before the restore
    #[arg(long)]
    no_space_check: bool,
    /// Give the files of one user to another, each a name or a number (may be given several times)
    #[arg(long, value_name = "OLD=NEW")]
    owner_map: Vec<String>,
    /// The same for groups
    #[arg(long, value_name = "OLD=NEW")]
    group_map: Vec<String>,
    /// Restore owners by number, not by name
    #[arg(long)]
    numeric_ids: bool,
}

/// Which files of a snapshot, and under which names.
#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// More paths of the same snapshot. Several come with all their directories: /etc becomes DIR/etc
    #[arg(value_name = "PATH")]
    more: Vec<OsString>,
    /// Only what matches, such as *.conf or /srv/www/ (gitignore syntax; may be given several times)
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Leave out what matches
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Strip the first N directories from each path
    #[arg(long, value_name = "N")]
    strip: Option<usize>,
}

/// What is written over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Replace whatever differs; only what differs is fetched and written
    Always,
    /// The same, but files of equal size and time are assumed unchanged and not read
    IfChanged,
    /// Replace only what is older than in the snapshot
    IfNewer,
    /// Keep existing files; restore only what is missing
    Never,
}

impl From<Which> for Existing {
    fn from(which: Which) -> Self {
        match which {
            Which::Always => Self::Overwrite,
            Which::IfChanged => Self::OverwriteIfChanged,
            Which::IfNewer => Self::OverwriteIfNewer,
            Which::Never => Self::Keep,
        }
    }
}

#[derive(Serialize)]
struct Restored {
    snapshot: String,
    entries: u64,
    unchanged: u64,
    kept: u64,
    deleted: u64,
    /// What belongs to Lifeboat, and was left as it is.
    protected: Vec<String>,
    /// What was not deleted, because the snapshot does not tell whether it had it.
    kept_back: KeptRow,
    bytes: u64,
    fetched_bytes: u64,
    reused_bytes: u64,
    lost_attributes: u64,
    failed_entries: u64,
    gaps: u64,
    losses: Vec<String>,
    /// Damaged files, and other snapshots that hold them whole.
    elsewhere: Vec<Whole>,
}

/// A line for programs, while the restore goes on.
#[derive(Serialize)]
struct Told {
    progress: Moment,
}

impl RestoreArgs {
    /// All that was typed of what is restored, and how.
    fn terms(&self, first: &[u8]) -> Result<RestoreTerms, Failure> {
        Ok(RestoreTerms {
            existing: self.overwrite.map(Existing::from).unwrap_or_default(),
            delete: self.delete,
            numeric_ids: self.numeric_ids,
            users: self.owner_map.clone(),
            groups: self.group_map.clone(),
            dry_run: self.dry_run,
            check_room: !self.no_space_check,
            ..self.selection.terms(first)?
        })
    }
}

/// How far it has come.
#[derive(Clone, Copy, Serialize)]
struct Moment {
    files: u64,
    bytes: u64,
    fetched_bytes: u64,
    reused_bytes: u64,
}

impl Moment {
    fn of(progress: &Progress) -> Self {
        Self {
            files: progress.files(),
            bytes: progress.bytes(),
            fetched_bytes: progress.fetched_bytes(),
            reused_bytes: progress.reused_bytes(),
        }
    }
}

/// Runs the command.
pub async fn restore(args: RestoreArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    if let Some(on) = args.on.clone() {
        return order::order(args, &on, global, out).await;
    }
    args.refuse_wrong_target()?;
    let config = global.config()?;
    let agent_places = Places::usual();
    let own = [&config.repository, &global.state, &agent_places.state, &agent_places.config];
    own::refuse_own_places(args.to(), own)?;
    let own = Own::of(own.map(PathBuf::as_path));
    let ledger = Ledger::at(global.state.join("restores"));
    let found = ledger.find(args.to()).map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
    let begin = agent::begin(args.to(), &args.asked(), found, args.overwrite.is_some())?;
    let snapshot = match &begin {
        Begin::Anew(_) | Begin::Over(_) | Begin::Done(_) => None,
        Begin::GoOn(record) => Some(When::Snapshot(record.snapshot.clone())),
    };
    let more = args.selection.more()?;
    let opened = args.address.open_all(snapshot, &more, "restore", RESTORE, global).await?;
    let begin = match begin {
        // The same words mean another snapshot by now.
        Begin::Done(record) if record.snapshot != hex(&opened.snapshot.snapshot) => Begin::Anew(Expected::Empty),
        begin => begin,
    };
    let goes_on = if matches!(begin, Begin::GoOn(_)) { "going on with " } else { "" };
    opened.say_which(goes_on, out);
    opened.say_gaps(out);
    let terms = args.terms(&opened.path)?;
    let (opened, args, terms, selection, begin) = blocking(move || {
        let selection = conduct::select(&opened.reader, &terms)?;
        let begin = conduct::beside(begin, &selection, args.to());
        say_owners(&opened, &selection, &terms)?;
        Ok((opened, args, terms, selection, begin))
    })
    .await?;
    if let Some(name) = selection.file_name() {
        let path = args.to().join(OsStr::from_bytes(&name));
        out.say(format_args!("the path of the file in the target is {}", Shown(path.as_os_str().as_bytes())));
    }
    if matches!(begin, Begin::Done(_)) {
        out.say(format_args!("{} holds this restore; looking whether it is all there", args.to().display()));
    }
    let needs_room = begin.is_new() && !args.no_space_check;
    let rules = conduct::rules(&terms, &begin);
    if args.dry_run {
        let told = blocking(move || before::dry_run(&opened, &selection, &args, &begin, (rules, &own))).await?;
        out.value(&told, DryRun::text)?;
        return Ok(Done::Whole);
    }
    let (opened, args, terms, selection, own, total) = blocking(move || {
        conduct::substitutes(&terms)?;
        if args.delete && !args.yes {
            before::ask_to_delete(&opened, &selection, &args, (rules, &own))?;
        }
        if needs_room {
            refuse_without_room(&opened.reader, &selection, args.to())?;
        }
        let total = content_bytes(&opened.reader, &selection);
        Ok((opened, args, terms, selection, own, total))
    })
    .await?;
    let bar = out.progress("restore", total);
    let (asked, named_gaps, selected) = (args.address.clone(), opened.gaps.clone(), selection.clone());
    let snapshot = opened.snapshot.clone();
    let progress = Arc::new(Progress::default());
    let told = progress.clone();
    let work = blocking(move || {
        let (asked, snapshot) = (args.asked(), hex(&opened.snapshot.snapshot));
        let target = args.to();
        let request = Request { terms: &terms, asked: &asked, snapshot: &snapshot, target, own };
        let open = |expected| Target::open_as(target, expected);
        let written = conduct::conduct(&opened.reader, &selection, request, begin, open, &ledger, &told);
        written.map_err(|failure| what_now(failure, target))
    });
    let mut shown_at = Instant::now();
    let report = shown_while(work, &progress, || {
        let now = Moment::of(&progress);
        if out.is_json() && shown_at.elapsed() >= TELL_EVERY {
            shown_at = Instant::now();
            out.tell(&Told { progress: now });
        }
        bar.set_position(now.bytes);
        bar.set_message(format!("; {} files, {} there already", now.files, size(now.reused_bytes)));
    })
    .await?;
    bar.finish_and_clear();
    let report = report?;
    let mut restored = restored(&snapshot, &report, &progress);
    restored.kept_back.lines().iter().for_each(|line| out.say(line));
    restored.protected.iter().for_each(|path| out.say(protected_line(path)));
    say_losses(&report, restored.gaps, &named_gaps, out);
    let damaged = selected.origins(&report.damaged);
    restored.elsewhere = elsewhere::say_whole(&asked, &snapshot, &damaged, global, out).await;
    if !report.is_complete() && rustix::process::geteuid().as_raw() != 0 {
        out.say("hint: owners, devices and some attributes can only be restored by root");
    }
    let complete = report.is_complete();
    out.outcome(&restored, summary)?;
    Ok(if complete { Done::Whole } else { Done::WithLosses })
}

/// What was done, in a line.
fn summary(restored: &Restored) -> String {
    let Restored { snapshot, entries, unchanged, kept, deleted, bytes, reused_bytes, .. } = restored;
    let mut text =
        format!("restored {}, {} from snapshot {snapshot}", counted(*entries, "entry", "entries"), size(*bytes));
    let parts = [
        (*unchanged, format!("{unchanged} were there already ({})", size(*reused_bytes))),
        (*kept, format!("{kept} stayed as they were")),
        (*deleted, format!("{deleted} were deleted")),
    ];
    for (count, part) in parts {
        if count > 0 {
            text.push_str("; ");
            text.push_str(&part);
        }
    }
    text
}

impl RestoreArgs {
    /// What clap cannot see of the target on this machine.
    fn refuse_wrong_target(&self) -> Result<(), Failure> {
        if self.into.is_some() {
            let failure =
                Failure::new(ErrorClass::Usage, "--into names a directory on a server, and no server is given");
            return Err(failure.hint("add --on HOST, or use --to DIR to restore on this machine"));
        }
        let to = self.to();
        match to.is_file() {
            true => Err(Failure::new(ErrorClass::Usage, format!("{} is a file; --to takes a directory", to.display()))),
            false => Ok(()),
        }
    }

    /// The directory here; clap makes sure that there is one.
    fn to(&self) -> &Path {
        self.to.as_deref().unwrap_or(Path::new(""))
    }

    /// What was typed, as far as it changes what will be in the target.
    fn asked(&self) -> String {
        let mut asked = self.address.asked();
        let which = self.overwrite.as_ref().and_then(ValueEnum::to_possible_value);
        if let Some(which) = which {
            asked.push_str(&format!(" --overwrite {}", which.get_name()));
        }
        let SelectionArgs { more, include, exclude, strip } = &self.selection;
        let more = more.iter().map(|path| format!(" {}", Shown(path.as_bytes())));
        let include = include.iter().map(|pattern| format!(" --include {pattern}"));
        let exclude = exclude.iter().map(|pattern| format!(" --exclude {pattern}"));
        let strip = strip.iter().map(|parts| format!(" --strip {parts}"));
        let users = self.owner_map.iter().map(|user| format!(" --owner-map {user}"));
        let groups = self.group_map.iter().map(|group| format!(" --group-map {group}"));
        asked.extend(more.chain(include).chain(exclude).chain(strip).chain(users).chain(groups));
        for (is_set, flag) in [(self.delete, " --delete"), (self.numeric_ids, " --numeric-ids")] {
            if is_set {
                asked.push_str(flag);
            }
        }
        asked
    }
}

/// Waits for a restore, and calls `show` now and then until it is done. Ctrl-C asks it to stop; a second one does not wait.
async fn shown_while<R>(
    work: impl Future<Output = R>,
    progress: &Progress,
    mut show: impl FnMut(),
) -> Result<R, Failure> {
    let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
    let mut ticks = tokio::time::interval(SHOW_EVERY);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            _ = ticks.tick() => show(),
            Some(()) = interrupts.recv() => match progress.is_stopped() {
                false => progress.stop(),
                true => std::process::exit(INTERRUPTED),
            },
        }
    }
}

impl SelectionArgs {
    /// The terms that say which files.
    pub fn terms(&self, first: &[u8]) -> Result<RestoreTerms, Failure> {
        Ok(RestoreTerms {
            paths: [vec![first.to_vec()], self.more()?].concat(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            strip: self.strip.map(|parts| u32::try_from(parts).unwrap_or(u32::MAX)),
            ..RestoreTerms::default()
        })
    }

    /// The paths beside the first one, as a tree has them.
    pub fn more(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let read = |path: &OsString| {
            let parent = || AddressError::Parent { text: path.to_string_lossy().into_owned() };
            read_path(path.as_bytes()).ok_or_else(|| Failure::of(ErrorClass::Usage, &parent()))
        };
        self.more.iter().map(read).collect()
    }

    /// What is chosen of a snapshot. Every path must be there. Blocks.
    pub fn of(&self, opened: &Opened) -> Result<Selection, Failure> {
        conduct::select(&opened.reader, &self.terms(&opened.path)?)
    }
}

/// What was written stays, and the same command goes on from there.
fn what_now(failure: Failure, target: &Path) -> Failure {
    match failure.class {
        ErrorClass::Full => failure
            .hint(format!("make room on the disk of {}; then the same command goes on where it was", target.display())),
        ErrorClass::Unreachable => {
            failure.hint("what was restored stays; once the coordinator runs, the same command goes on where it was")
        }
        _ => failure,
    }
}

fn restored(snapshot: &v1::SnapshotInfo, report: &Report, progress: &Progress) -> Restored {
    let failures = report.failures.iter().map(ToString::to_string);
    Restored {
        snapshot: short_id(snapshot),
        entries: report.entries,
        unchanged: report.unchanged,
        kept: report.kept,
        deleted: report.deleted,
        kept_back: KeptRow::of(&report.kept_back.message()),
        protected: shown_paths(report.protected.iter().map(Vec::as_slice)),
        bytes: report.bytes,
        fetched_bytes: progress.fetched_bytes(),
        reused_bytes: progress.reused_bytes(),
        lost_attributes: report.lost_attributes.values().sum(),
        failed_entries: report.failed_entries,
        gaps: snapshot.gap_count,
        elsewhere: Vec::new(),
        losses: failures.chain(report.losses.iter().map(ToString::to_string)).collect(),
    }
}

/// Says that owners go by number, where that is not what was asked for. Blocks.
fn say_owners(opened: &Opened, selection: &Selection, terms: &RestoreTerms) -> Result<(), Failure> {
    let reason = if terms.numeric_ids { None } else { conduct::own_users(&opened.reader, selection)? };
    if let Some(reason) = reason {
        Output::new(false).say(format_args!("owners go by number, as with --numeric-ids: {reason}"));
    }
    Ok(())
}

/// Says what a backup did not have.
fn say_gaps(gaps: u64, named: &[String], out: &Output) {
    if gaps > 0 {
        out.say(format_args!("the backup itself had {}, missing here too:", counted(gaps, "gap", "gaps")));
        named.iter().for_each(|gap| out.say(format_args!("  {gap}")));
    }
}

/// Says what a backup did not have, and what did not come back of it.
pub fn say_losses(report: &Report, gaps: u64, named_gaps: &[String], out: &Output) {
    say_gaps(gaps, named_gaps, out);
    if report.failed_entries > 0 {
        out.say(format_args!("{} not restored", counted(report.failed_entries, "entry was", "entries were")));
    }
    for (kind, count) in &report.lost_attributes {
        out.say(format_args!("{} {kind}", counted(*count, "entry lost its", "entries lost their")));
    }
    report.failures.iter().for_each(|failure| out.say(format_args!("  {failure}")));
    report.losses.iter().for_each(|loss| out.say(format_args!("  {loss}")));
    let named = (report.failures.len() + report.losses.len()) as u64;
    let unnamed = (report.lost_attributes.values().sum::<u64>() + report.failed_entries).saturating_sub(named);
    if unnamed > 0 {
        out.say(format_args!("  and {unnamed} more"));
    }
}
