//! One restore from its terms to its report: here by the command line, on a server by order; both go the same way.

use super::fetch::GrantReader;
use super::ledger::{Complete, Ledger, LedgerError, Record};
use super::progress::Progress;
use super::target::is_empty;
use super::unmatched::refuse_unmatched;
use super::visit::{has_below, tree};
use super::{
    Begin, Expected, Mirror, Options, Overwrite, Own, Questions, Report, Rules, Selection, Substitute, SubstituteError,
    Target, TargetError, Writer, of_disk, restore, survey,
};
use crate::walk::Shown;
use jiff::Timestamp;
use lifeboat_format::grant::{Existing, RestoreTerms};
use lifeboat_format::tree::{Attributes, Completeness, Entry, EntryKind};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const HOW_OVER: &str = "name a new or empty directory, or say with --overwrite always|if-changed|if-newer|never what happens to what is there";

/// What is restored, and where to below the target. Every path must be there. Blocks.
pub fn select(reader: &GrantReader, terms: &RestoreTerms) -> Result<Selection, Failure> {
    let directory = |path: &[u8]| Entry {
        path: path.to_vec(),
        kind: EntryKind::Directory(Completeness::UNREADABLE),
        attributes: Attributes::default(),
    };
    let mut entries = Vec::new();
    for path in &terms.paths {
        // Of the root it is known, even if the part of the tree that holds it is lost.
        let entry = match path.as_slice() {
            b"" => directory(b""),
            path => {
                let missing = || format!("there is no /{} in that snapshot", Shown(path));
                let mut tree = tree(reader);
                match tree.lookup(path)? {
                    Some(entry) => entry,
                    None if has_below(&mut tree, path)? => directory(path),
                    None => return Err(Failure::new(ErrorClass::NotFound, missing())),
                }
            }
        };
        entries.push(entry);
    }
    let is_directory = |entry: &Entry| matches!(entry.kind, EntryKind::Directory(_));
    let is_plain = terms.include.is_empty() && terms.exclude.is_empty() && terms.strip.is_none();
    if let ([one], true) = (&entries[..], is_plain) {
        return Ok(Selection::one(one.path.clone(), is_directory(one)));
    }
    let usual = match &entries[..] {
        [one] => Selection::depth(&one.path, is_directory(one)),
        _ => 0,
    };
    let strip = terms.strip.map_or(usual, |parts| parts as usize);
    let roots = entries.into_iter().map(|entry| entry.path).collect();
    let selection = Selection::new(roots, strip, &terms.include, &terms.exclude);
    let selection = selection.map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
    refuse_unmatched(reader, &selection, &terms.include)?;
    Ok(selection)
}

/// Why owners go by number though nobody asked for that: what is restored is a system with users of its own, whose names
/// say nothing here. None if it is not. Blocks.
pub fn own_users(reader: &GrantReader, selection: &Selection) -> Result<Option<&'static str>, Failure> {
    if selection.roots().iter().any(Vec::is_empty) {
        return Ok(Some("the whole system is restored"));
    }
    const USERS: &[u8] = b"etc/passwd";
    for path in [Some(USERS.to_vec()), selection.origin(USERS)].into_iter().flatten() {
        if selection.has(&path) && tree(reader).lookup(&path)?.is_some() {
            return Ok(Some("the snapshot brings its own /etc/passwd"));
        }
    }
    Ok(None)
}

/// One file goes into a directory that is not empty too, beside what is there, unless its name is taken.
pub fn beside(begin: Begin, selection: &Selection, target: &Path) -> Begin {
    let Some(name) = selection.file_name() else { return begin };
    let is_gone = || fs::symlink_metadata(target.join(OsStr::from_bytes(&name))).is_err();
    match begin {
        Begin::Anew(Expected::Empty) => Begin::Anew(Expected::Without(name)),
        Begin::Done(_) if is_gone() => Begin::Anew(Expected::Without(name)),
        begin => begin,
    }
}

/// How what is there is dealt with.
pub fn rules(terms: &RestoreTerms, begin: &Begin) -> Rules {
    let (goes_on_since, unfinished_since) = match begin {
        Begin::Anew(_) | Begin::Done(_) => (None, None),
        Begin::GoOn(record) => (Some(record.since()), Some(record.since())),
        Begin::Over(record) => (None, Some(record.since())),
    };
    let overwrite = match terms.existing {
        // What a complete restore left is on disk: its size and time can be believed.
        Existing::Refuse if matches!(begin, Begin::Done(_)) => Overwrite::IfChanged,
        // What takes the name meanwhile stays.
        Existing::Refuse if matches!(begin, Begin::Anew(Expected::Without(_))) => Overwrite::Never,
        Existing::Refuse => Overwrite::default(),
        Existing::Overwrite => Overwrite::Always,
        Existing::OverwriteIfChanged => Overwrite::IfChanged,
        Existing::OverwriteIfNewer => Overwrite::IfNewer,
        Existing::Keep => Overwrite::Never,
    };
    Rules { overwrite, goes_on_since, unfinished_since }
}

/// Users and groups that take the place of others; names are those of this host.
pub fn substitutes(terms: &RestoreTerms) -> Result<[Vec<Substitute>; 2], Failure> {
    let wrong = |error: SubstituteError| Failure::of(ErrorClass::Usage, &error);
    let users = terms.users.iter().map(|text| Substitute::user(text)).collect::<Result<_, _>>();
    let groups = terms.groups.iter().map(|text| Substitute::group(text)).collect::<Result<_, _>>();
    Ok([users.map_err(wrong)?, groups.map_err(wrong)?])
}

/// Refuses a directory that a restore would refuse: one that is `there`, and not empty though it should be. Blocks.
pub fn refuse_not_empty(target: &Path, there: Option<&OwnedFd>, begin: &Begin) -> Result<(), Failure> {
    let (Some(there), Begin::Anew(expected)) = (there, begin) else { return Ok(()) };
    let is_empty = is_empty(there).map_err(|error| of_disk(&error.into()))?;
    expected.check(there, is_empty, target).map_err(|error| of_target(&error))
}

/// What a restore is, beside its terms.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is restored, and how.
    pub terms: &'a RestoreTerms,
    /// The same, as it was asked for: the same words go on with it.
    pub asked: &'a str,
    /// The snapshot, in hexadecimal digits.
    pub snapshot: &'a str,
    /// The target's path.
    pub target: &'a Path,
    /// What is left as it is.
    pub own: Own,
}

/// Restores; what is complete already is only looked at. `open` opens the target in the state that is expected of it.
/// Blocks.
///
/// # Errors
/// The target cannot be used, the disk is full, the coordinator cannot be asked, or `progress` says stop. What is written
/// stays, and the same restore goes on there.
pub fn conduct(
    reader: &GrantReader,
    selection: &Selection,
    request: Request<'_>,
    begin: Begin,
    open: impl FnOnce(Expected) -> Result<Target, TargetError>,
    ledger: &Ledger,
    progress: &Progress,
) -> Result<Report, Failure> {
    let remember = |error: LedgerError| Failure::of(ErrorClass::Internal, &error);
    let [users, groups] = substitutes(request.terms)?;
    let mirror = request.terms.delete.then(|| Mirror::new(selection, reader.coverage().clone()));
    let numeric_ids = request.terms.numeric_ids || own_users(reader, selection)?.is_some();
    let rules = rules(request.terms, &begin);
    let keep_target_time = request.terms.existing == Existing::Keep;
    let options = Options { numeric_ids, users, groups, rules, mirror, own: request.own, keep_target_time };
    let expected = match &begin {
        Begin::Anew(expected) => expected.clone(),
        Begin::GoOn(record) | Begin::Over(record) => Expected::Unfinished(record.before.clone()),
        Begin::Done(_) => Expected::Unfinished(None),
    };
    let mut target = open(expected.clone()).map_err(|error| of_target(&error))?;
    let record = |began: i64| -> Result<Record, Failure> {
        Ok(Record {
            target: fs::canonicalize(request.target).map_err(|error| of_disk(&error))?,
            inode: target.inode().map_err(|error| of_disk(&error.into()))?,
            asked: request.asked.to_owned(),
            snapshot: request.snapshot.to_owned(),
            began,
            before: target.before().cloned(),
            complete: None,
        })
    };
    let record = match begin {
        Begin::Done(record) => return look_again(reader, selection, (rules, &options.own), &record, &target, progress),
        Begin::GoOn(record) => record,
        // What the other one left is as old as its beginning.
        Begin::Over(other) => record(other.began)?,
        Begin::Anew(_) => record(Timestamp::now().as_second())?,
    };
    ledger.keep(&record).map_err(remember)?;
    if let Err(error) = target.shut(request.target, &expected) {
        // Nothing of this restore is in it: none may take what is there for its own.
        ledger.forget(&record).map_err(remember)?;
        return Err(of_target(&error));
    }
    let writer = Writer::new(target, options).map_err(|error| of_disk(&error))?;
    let report = restore(reader, selection, writer, progress)?;
    // What could not be restored can be tried again by the same command.
    if report.failed_entries == 0 {
        let (at, lost_attributes) = (Timestamp::now().as_second(), report.lost_attributes.clone());
        ledger.keep(&Record { complete: Some(Complete { at, lost_attributes }), ..record }).map_err(remember)?;
        ledger.forget_old(at);
    }
    Ok(report)
}

/// Reports a complete restore again, if all that it restored is still there.
fn look_again(
    reader: &GrantReader,
    selection: &Selection,
    (rules, own): (Rules, &Own),
    record: &Record,
    target: &Target,
    progress: &Progress,
) -> Result<Report, Failure> {
    let there = target.as_fd().try_clone_to_owned().map_err(|error| of_disk(&error))?;
    let survey = survey(reader, selection, Some(there), Questions { rules, mirror: None, own, compare: true })?;
    if survey.lost_parts > 0 {
        let problem =
            format!("it cannot be compared with what is there: {} parts of the tree are lost", survey.lost_parts);
        return Err(Failure::new(ErrorClass::Damaged, problem));
    }
    let gone = survey.made + survey.changed + survey.blocked;
    let complete = record.complete.clone().unwrap_or_default();
    if gone > 0 {
        let at = Timestamp::from_second(complete.at).unwrap_or_default();
        let entries = if gone == 1 { "entry is" } else { "entries are" };
        let target = record.target.display();
        let problem =
            format!("{target} holds this restore, which was complete at {at}; but {gone} {entries} not as then");
        return Err(Failure::new(ErrorClass::Usage, problem).hint(HOW_OVER));
    }
    progress.reused(survey.reused_bytes);
    let (unchanged, lost_attributes) = (survey.unchanged, complete.lost_attributes);
    Ok(Report { entries: unchanged, unchanged, bytes: survey.reused_bytes, lost_attributes, ..Report::default() })
}

fn of_target(error: &TargetError) -> Failure {
    match error {
        TargetError::NotEmpty { .. } | TargetError::Taken { .. } => {
            Failure::of(ErrorClass::Usage, error).hint(HOW_OVER)
        }
        TargetError::NoDirectory { .. } => {
            Failure::of(ErrorClass::Usage, error).hint("name the directory that the files are to be restored into")
        }
        TargetError::InUse { .. } => {
            Failure::of(ErrorClass::Busy, error).hint("wait for its end, or name another directory")
        }
        TargetError::Ours { .. } => Failure::of(ErrorClass::Refused, error).hint("name another directory"),
        TargetError::System { .. } => Failure::of(ErrorClass::Internal, error),
    }
}
