//! `lifeboat dump ADDRESS --format tar|zip`: a part of a snapshot as one stream, for whatever unpacks it elsewhere.
//!
//! What the format cannot carry, or is lost, is named at the end, and the exit code is 3. A stream that ended early is
//! no whole archive, and whoever unpacks it says so.

mod acl;
mod content;
mod tar;
mod walk;
mod zip;

use super::output::{Output, counted, size};
use super::reading::{AddressArgs, RESTORE, blocking};
use super::restore::{SelectionArgs, say_losses};
use super::{Done, Global, elsewhere};
use clap::{Args, ValueEnum};
use content::Stop;
use lifeboat_agent::restore::{Report, content_bytes};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::io::{self, BufWriter, IsTerminal};
use tar::Tar;
use walk::walk;
use zip::Zip;

/// What is written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Write files as an archive to standard output
#[derive(Debug, Args)]
#[command(after_help = "Example: lifeboat dump web1:/srv --format tar > srv.tar")]
pub struct DumpArgs {
    #[command(flatten)]
    address: AddressArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Archive format: tar keeps everything, zip opens everywhere
    #[arg(long, value_name = "FORMAT")]
    format: Format,
}

/// A kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// pax: with extended attributes, ACLs, links and holes
    Tar,
    /// With owners by number and times to the second; without extended attributes, ACLs, hard links and devices
    Zip,
}

/// Runs the command.
pub async fn dump(args: DumpArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    if io::stdout().is_terminal() {
        let failure = Failure::new(ErrorClass::Usage, "an archive is not for a terminal");
        return Err(failure.hint("send it to a file or a program: lifeboat dump … > FILE"));
    }
    let more = args.selection.more()?;
    let opened = args.address.open_all(None, &more, "dump", RESTORE, global).await?;
    opened.say_which("", out);
    opened.say_gaps(out);
    let DumpArgs { address, selection, format } = args;
    let (selection, total, opened) = blocking(move || {
        let selection = selection.of(&opened)?;
        let total = content_bytes(&opened.reader, &selection);
        Ok((selection, total, opened))
    })
    .await?;
    let bar = out.progress("dump", total);
    let (gaps, named_gaps) = (opened.snapshot.gap_count, opened.gaps.clone());
    let (snapshot, shown) = (opened.snapshot.clone(), bar.clone());
    let dumped = blocking(move || {
        let stdout = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
        let show = |report: &Report| {
            shown.set_position(report.bytes);
            shown.set_message(format!("; {} entries", report.entries));
        };
        let ended = |ended: io::Result<()>| ended.map_err(|error| Failure::from(Stop::Write(error)));
        let report = match format {
            Format::Tar => {
                let mut archive = Tar::new(stdout);
                let report = walk(&opened.reader, &selection, &mut archive, show)?;
                ended(archive.finish())?;
                report
            }
            Format::Zip => {
                let mut archive = Zip::new(stdout).map_err(|error| Failure::from(Stop::Write(error)))?;
                let report = walk(&opened.reader, &selection, &mut archive, show)?;
                ended(archive.finish())?;
                report
            }
        };
        let damaged = selection.origins(&report.damaged);
        Ok((report, damaged))
    })
    .await;
    bar.finish_and_clear();
    let (report, damaged) = dumped?;
    say_losses(&report, gaps, &named_gaps, out);
    elsewhere::say_whole(&address, &snapshot, &damaged, global, out).await;
    out.say(format_args!("wrote {}, {}", counted(report.entries, "entry", "entries"), size(report.bytes)));
    Ok(if report.is_complete() { Done::Whole } else { Done::WithLosses })
}
