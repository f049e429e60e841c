//! `lifeboat ls`: what is in a directory of a snapshot.

use super::entry::EntryRow;
use super::output::{Output, counted};
use super::reading::{AddressArgs, LOOK, blocking};
use super::{Done, Global};
use crate::address::shown;
use clap::Args;
use lifeboat_format::tree::{Entry, EntryKind, name};
use lifeboat_proto::status::Failure;

/// List a directory of a snapshot, or show one file
#[derive(Debug, Args)]
#[command(after_help = "Example: lifeboat ls -l web1:/etc@yesterday")]
pub struct LsArgs {
    #[command(flatten)]
    address: AddressArgs,
    /// List subdirectories recursively
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Show mode, owner, group, size and time of each entry
    #[arg(long, short)]
    long: bool,
}

/// Runs the command.
pub async fn ls(args: LsArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let opened = args.address.open("ls", LOOK, global).await?;
    opened.say_which("", out);
    let mut out = std::mem::replace(out, Output::new(out.is_json()));
    blocking(move || {
        let entry = opened.entry()?;
        if !matches!(entry.kind, EntryKind::Directory(_)) {
            show(&opened.row(&entry), name(&entry.path), args.long, &mut out)?;
            return Ok(Done::Whole);
        }
        if args.recursive {
            let mut incomplete = 0;
            let shown = |entry: Entry, out: &mut Output| {
                incomplete += u64::from(opened.incomplete_list(&entry).is_some());
                show(&opened.row(&entry), &entry.path, args.long, out)
            };
            let done = opened.each(&opened.path, &mut out, shown)?;
            if incomplete > 0 {
                let directories = counted(incomplete, "directory is", "directories are");
                out.say(format_args!("{directories} not complete in this snapshot; `lifeboat ls` of one says why"));
            }
            return Ok(done);
        }
        for entry in opened.tree().list(&opened.path) {
            let entry = entry?;
            show(&opened.row(&entry), name(&entry.path), args.long, &mut out)?;
        }
        if let Some(reason) = opened.incomplete_list(&entry) {
            out.say(format_args!("the snapshot does not hold all of /{}: {reason}", shown(&entry.path)));
        }
        Ok(Done::Whole)
    })
    .await
}

fn show(row: &EntryRow, name: &[u8], long: bool, out: &mut Output) -> Result<(), Failure> {
    let text = if name.is_empty() { "/".to_owned() } else { shown(name) };
    out.value(row, |row| if long { row.long(&text) } else { row.short(&text) })
}
