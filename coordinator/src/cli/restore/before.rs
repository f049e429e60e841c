//! What is said and asked before anything is written: what a restore would do, whether there is room, what is deleted.

use super::{Opened, RestoreArgs};
use crate::cli::output::{counted, size, span};
use lifeboat_agent::restore::{
    Begin, Mirror, OURS, Own, Questions, Room, Rules, Selection, Survey, conduct, estimate, survey,
};
use lifeboat_agent::walk::Shown;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a dry run tells.
#[derive(Debug, Serialize)]
pub struct DryRun {
    made: u64,
    changed: u64,
    blocked: u64,
    lost_parts: u64,
    unchanged: u64,
    kept: u64,
    deleted: u64,
    /// What belongs to Lifeboat, and would be left as it is.
    protected: Vec<String>,
    /// What would not be deleted, because the snapshot does not tell whether it had it.
    kept_back: KeptRow,
    fetch_bytes: u64,
    reused_bytes: u64,
    space_needed: u64,
    space_free: u64,
    inodes_needed: u64,
    /// None where the file system does not count them.
    inodes_free: Option<u64>,
    /// How long it would take; none if no sample could be restored.
    seconds: Option<f64>,
    sampled_entries: u64,
    sampled_bytes: u64,
}

/// Finds out what a restore would do. Blocks.
pub fn dry_run(
    opened: &Opened,
    selection: &Selection,
    args: &RestoreArgs,
    begin: &Begin,
    rules: (Rules, &Own),
) -> Result<DryRun, Failure> {
    conduct::refuse_not_empty(args.to(), open(args.to()).as_ref(), begin)?;
    let begun = Instant::now();
    let survey = survey_of(opened, selection, args, rules, true)?;
    let surveyed = begun.elapsed();
    let room = Room::at(args.to()).map_err(|error| cannot_look(args.to(), &error))?;
    // Where nothing can be written beside the target there is no estimate; that is no reason to tell nothing.
    let estimate =
        beside(args.to()).and_then(|beside| estimate(&opened.reader, selection, &survey, surveyed, &beside).ok());
    Ok(survey.plan(&room, estimate).into())
}

/// A directory on the file system of the target that is not the target itself, which stays as it is.
fn beside(target: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(target).ok()?;
    let above = absolute.ancestors().skip(1).find(|path| path.is_dir())?;
    let device = |path: &Path| path.metadata().ok().map(|metadata| metadata.dev());
    let is_same = !absolute.exists() || device(&absolute) == device(above);
    is_same.then(|| above.to_owned())
}

impl DryRun {
    fn time(&self) -> String {
        let time = span(self.seconds.unwrap_or_default().ceil() as u64);
        let (entries, bytes) = (self.sampled_entries, size(self.sampled_bytes));
        format!("about {time}, as {entries} of its small entries and {bytes} of its large files took just now")
    }
}

impl From<v1::RestorePlan> for DryRun {
    fn from(plan: v1::RestorePlan) -> Self {
        Self {
            made: plan.made,
            changed: plan.changed,
            blocked: plan.blocked,
            lost_parts: plan.lost_parts,
            unchanged: plan.unchanged,
            kept: plan.kept,
            deleted: plan.deleted,
            kept_back: KeptRow::of(&plan.kept_back.unwrap_or_default()),
            protected: shown_paths(plan.protected.iter().map(|path| &path[..])),
            fetch_bytes: plan.fetch_bytes,
            reused_bytes: plan.reused_bytes,
            space_needed: plan.space_needed,
            space_free: plan.space_free,
            inodes_needed: plan.inodes_needed,
            inodes_free: plan.inodes_free,
            seconds: plan.milliseconds.map(|milliseconds| milliseconds as f64 / 1000.0),
            sampled_entries: plan.sampled_entries,
            sampled_bytes: plan.sampled_bytes,
        }
    }
}

impl DryRun {
    /// For people, in some lines.
    pub fn text(&self) -> String {
        let inodes = self.inodes_free.map(|free| format!(", {free} free")).unwrap_or_default();
        let always = |line| (true, line);
        let lines = [
            always(format!("would make     {}", counted(self.made, "entry", "entries"))),
            always(format!("would change   {}", self.changed)),
            always(format!("would delete   {}", self.deleted)),
            (
                self.blocked > 0,
                format!("cannot restore {} in whose place a directory is that is not empty", self.blocked),
            ),
            (self.lost_parts > 0, format!("lost           {} parts of the tree", self.lost_parts)),
            (self.kept_back.entries > 0, self.kept_back.lines().join("\n")),
            (
                !self.protected.is_empty(),
                self.protected.iter().map(|path| protected_line(path)).collect::<Vec<_>>().join("\n"),
            ),
            always(format!("stay           {} that are as they were, {} that are kept", self.unchanged, self.kept)),
            always(format!(
                "content        {} to fetch, {} there already",
                size(self.fetch_bytes),
                size(self.reused_bytes)
            )),
            always(format!("space          {} needed, {} free", size(self.space_needed), size(self.space_free))),
            always(format!("inodes         {} needed{inodes}", self.inodes_needed)),
            (self.seconds.is_some(), format!("time           {}", self.time())),
        ];
        lines.into_iter().filter_map(|(is_shown, line)| is_shown.then_some(line)).collect::<Vec<_>>().join("\n")
    }
}

/// Paths below a target, to be printed.
pub fn shown_paths<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    paths.map(|path| format!("/{}", Shown(path))).collect()
}

/// What is said of a path that a restore leaves as it is.
pub fn protected_line(path: &str) -> String {
    format!("{path}: {OURS}")
}

/// Existing entries that a mirror keeps.
#[derive(Debug, Default, Serialize)]
pub struct KeptRow {
    entries: u64,
    directories: u64,
    /// Whether the backup was meant to hold some of it.
    loss: bool,
    named: Vec<String>,
}

impl KeptRow {
    /// Out of a message.
    pub fn of(kept: &v1::KeptBack) -> Self {
        let v1::KeptBack { entries, directories, is_loss, .. } = *kept;
        Self { entries, directories, loss: is_loss, named: kept.named.clone() }
    }

    /// For people; nothing if nothing is kept.
    pub fn lines(&self) -> Vec<String> {
        if self.entries == 0 {
            return Vec::new();
        }
        let mut lines = vec![format!(
            "kept {} in {} that the backup does not hold completely:",
            counted(self.entries, "existing file", "existing files"),
            counted(self.directories, "directory", "directories"),
        )];
        lines.extend(self.named.iter().map(|named| format!("  {named}")));
        let unnamed = self.directories.saturating_sub(self.named.len() as u64);
        if unnamed > 0 {
            lines.push(format!("  and {unnamed} more"));
        }
        lines
    }

    /// Whether the backup was meant to hold some of it.
    pub fn is_loss(&self) -> bool {
        self.loss
    }
}

/// Before something is deleted a person is asked; a script has to say --yes. Blocks.
pub fn ask_to_delete(
    opened: &Opened,
    selection: &Selection,
    args: &RestoreArgs,
    rules: (Rules, &Own),
) -> Result<(), Failure> {
    let Survey { deleted, kept_back, .. } = survey_of(opened, selection, args, rules, false)?;
    go_on_with_deletion(deleted, &KeptRow::of(&kept_back.message()), &args.to().display().to_string())
}

/// Asks whether so many entries in a place shall be deleted. Blocks.
pub fn go_on_with_deletion(deleted: u64, kept: &KeptRow, place: &str) -> Result<(), Failure> {
    if deleted == 0 {
        return Ok(());
    }
    let what =
        format!("{} in {place} would be deleted, not being in the snapshot", counted(deleted, "entry", "entries"));
    kept.lines().iter().for_each(|line| eprintln!("{line}"));
    if !io::stdin().is_terminal() {
        let failure = Failure::new(ErrorClass::Usage, what);
        return Err(failure.hint("--dry-run tells more; --yes goes on without asking"));
    }
    eprintln!("{what}. Go on? [y/N]");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::new(ErrorClass::Refused, "nothing was restored, and nothing deleted")),
    }
}

fn survey_of(
    opened: &Opened,
    selection: &Selection,
    args: &RestoreArgs,
    (rules, own): (Rules, &Own),
    compare: bool,
) -> Result<Survey, Failure> {
    let mirror = args.delete.then(|| Mirror::new(selection, opened.reader.coverage().clone()));
    let questions = Questions { rules, mirror: mirror.as_ref(), own, compare };
    survey(&opened.reader, selection, open(args.to()), questions)
}

fn open(target: &Path) -> Option<OwnedFd> {
    File::open(target).ok().map(OwnedFd::from)
}

fn cannot_look(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ErrorClass::Internal, format!("cannot look for room in {}: {error}", path.display()))
}
