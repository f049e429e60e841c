//! `lifeboat ls`: what is in a directory of a snapshot.

use super::entry::EntryRow;
use super::output::Output;
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
            show(&entry, name(&entry.path), args.long, &mut out)?;
            return Ok(Done::Whole);
        }
        if args.recursive {
            let shown = |entry: Entry, out: &mut Output| show(&entry, &entry.path, args.long, out);
            return opened.each(&opened.path, &mut out, shown);
        }
        for entry in opened.tree().list(&opened.path) {
            let entry = entry?;
            show(&entry, name(&entry.path), args.long, &mut out)?;
        }
        Ok(Done::Whole)
    })
    .await
}

fn show(entry: &Entry, name: &[u8], long: bool, out: &mut Output) -> Result<(), Failure> {
    let text = if name.is_empty() { "/".to_owned() } else { shown(name) };
    out.value(&EntryRow::new(entry), |row| if long { row.long(&text) } else { row.short(&text) })
}
