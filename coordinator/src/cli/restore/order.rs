//! `lifeboat restore … --on HOST`: an agent fetches and writes, on an order that the operator's key signs.
//!
//! What the order may do there is for that host's own law; here it is only said clearly what is ordered.

use super::before::{DryRun, KeptRow, go_on_with_deletion, protected_line, shown_paths};
use super::{RestoreArgs, Restored, say_gaps, say_owners, summary};
use crate::cli::job::{Ending, follow};
use crate::cli::output::Output;
use crate::cli::reading::{Opened, RESTORE, Wanted, blocking};
use crate::cli::waiting::why_queued;
use crate::cli::{Done, Global, admin, elsewhere};
use crate::config::Config;
use jiff::Timestamp;
use lifeboat_agent::policy::STAGING;
use lifeboat_agent::restore::{conduct, content_bytes};
use lifeboat_format::grant::{RestoreTerms, SignedTerms};
use lifeboat_format::id::HostId;
use lifeboat_format::journal::event::GrantTarget;
use lifeboat_format::layout::fit_text;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::{self, JobState};
use serde::Serialize;

/// An order that is on its way.
#[derive(Serialize)]
struct Ordered {
    job: String,
    host: String,
    directory: String,
    sent: bool,
}

/// What it came to.
#[derive(Serialize)]
struct RestoredThere {
    job: String,
    host: String,
    directory: String,
    #[serde(flatten)]
    restored: Restored,
}

/// Where a restore goes, and for whom it is sealed.
struct Target {
    host: v1::Host,
    directory: String,
    /// Bytes of content that come there, if that is known.
    content_bytes: Option<u64>,
}

/// Runs the command.
pub async fn order(args: RestoreArgs, on: &str, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let config = global.config()?;
    let more = args.selection.more()?;
    let opened = args.address.open_all(None, &more, "restore", RESTORE, global).await?;
    opened.say_which("", out);
    opened.say_gaps(out);
    let terms = args.terms(&opened.path)?;
    let checked = terms.clone();
    let (opened, content_bytes) = blocking(move || {
        let selection = conduct::select(&opened.reader, &checked)?;
        say_owners(&opened, &selection, &checked)?;
        let content_bytes = content_bytes(&opened.reader, &selection);
        Ok((opened, content_bytes))
    })
    .await?;
    let (host, directory) = (find_host(on, &config).await?, directory(&args, &opened));
    let target = Target { host, directory, content_bytes };
    if args.delete && !args.yes && !args.dry_run {
        let asked = RestoreTerms { dry_run: true, ..terms.clone() };
        let mut quiet = Output::new(true);
        let ended = run(&args, &opened, &target, &asked, true, &config, &mut quiet).await?;
        let plan = ended.and_then(|ended| ended.restored).and_then(|restored| restored.plan).unwrap_or_default();
        let place = format!("{} on {}", target.directory, target.host.name);
        let kept = KeptRow::of(&plan.kept_back.unwrap_or_default());
        blocking(move || go_on_with_deletion(plan.deleted, &kept, &place)).await?;
    }
    let ended = run(&args, &opened, &target, &terms, args.wait || args.dry_run, &config, out).await?;
    match ended {
        Some(ended) => tell(ended, &args, &opened, &target, global, out).await,
        None => Ok(Done::Whole),
    }
}

async fn find_host(name: &str, config: &Config) -> Result<v1::Host, Failure> {
    let hosts = admin::list_hosts(&mut admin::connect(config).await?, name).await?.hosts;
    // Of several with one name, the one enrolled last.
    let unknown = || Failure::new(ErrorClass::NotFound, format!("there is no host {name:?}"));
    let last = hosts.into_iter().max_by_key(|host| host.number);
    last.ok_or_else(|| unknown().hint("`lifeboat host list` shows them all"))
}

/// Where to: what was typed, or a directory below the host's staging directory that tells what is in it.
fn directory(args: &RestoreArgs, opened: &Opened) -> String {
    match &args.into {
        Some(into) if into.starts_with('/') || into == STAGING || into.starts_with("staging/") => into.clone(),
        Some(into) => format!("{STAGING}/{into}"),
        None => {
            let name = opened.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let name = if name.is_empty() { &b"root"[..] } else { name };
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
            let name: String = name.iter().map(|byte| if plain(byte) { char::from(*byte) } else { '_' }).collect();
            format!("{STAGING}/{}-{}-{name}", opened.snapshot.host_name, opened.short_id())
        }
    }
}

/// Signs and sends an order; with `wait` to its end.
async fn run(
    args: &RestoreArgs,
    opened: &Opened,
    target: &Target,
    terms: &RestoreTerms,
    wait: bool,
    config: &Config,
    out: &mut Output,
) -> Result<Option<v1::JobEnded>, Failure> {
    let internal = |error| Failure::of(ErrorClass::Internal, &error);
    let Target { host, directory, content_bytes } = target;
    let recipient = host.box_recipient.parse().map_err(internal)?;
    let purpose = fit_text(&args.asked());
    let wanted = Wanted {
        snapshot: &opened.snapshot,
        target: GrantTarget::Host(HostId::new(host.number)),
        recipient,
        directory,
        purpose: &purpose,
        issued: Timestamp::now(),
        life: RESTORE,
    };
    let (order, operator) = wanted.sign(opened.repository, config)?;
    let terms =
        SignedTerms::sign(&order, terms, &[&operator]).map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
    let command = v1::RestoreCommand {
        host: host.number.to_string(),
        order: order.to_bytes().into(),
        terms: terms.to_bytes().into(),
        wait,
    };
    let events = admin::connect(config).await?.restore(command).await?.into_inner();
    let accepted = |job: &v1::Job, out: &mut Output| {
        let sent = job.state() != JobState::Queued;
        if !sent {
            out.say(why_queued(job));
        }
        if wait {
            return Ok(());
        }
        let (name, directory) = (host.name.clone(), directory.clone());
        let ordered = Ordered { job: job.job.clone(), host: name, directory, sent };
        out.outcome(&ordered, |ordered| format!("ordered as job {}", ordered.job))?;
        out.say(format_args!("follow it with: lifeboat job follow {}", job.job));
        Ok(())
    };
    match follow(events, *content_bytes, accepted, out).await? {
        Ending::Failed(message) => Err(Failure::new(ErrorClass::Refused, format!("{}: {message}", host.name))),
        Ending::Ended(ended) => Ok(Some(*ended)),
        Ending::NotFollowed => Ok(None),
    }
}

async fn tell(
    ended: v1::JobEnded,
    args: &RestoreArgs,
    opened: &Opened,
    target: &Target,
    global: &Global,
    out: &mut Output,
) -> Result<Done, Failure> {
    let v1::JobEnded { job, gaps: losses, gap_count, restored, .. } = ended;
    let ended = restored.unwrap_or_default();
    if let Some(plan) = ended.plan {
        out.value(&DryRun::from(plan), DryRun::text)?;
        return Ok(Done::Whole);
    }
    say_gaps(opened.snapshot.gap_count, &opened.gaps, out);
    losses.iter().for_each(|loss| out.say(format_args!("  {loss}")));
    let unnamed = gap_count.saturating_sub(losses.len() as u64);
    if unnamed > 0 {
        out.say(format_args!("  and {unnamed} more"));
    }
    let damaged: Vec<Vec<u8>> = ended.damaged.iter().map(|path| path.to_vec()).collect();
    let elsewhere = elsewhere::say_whole(&args.address, &opened.snapshot, &damaged, global, out).await;
    let protected = shown_paths(ended.protected.iter().map(|path| &path[..]));
    protected.iter().for_each(|path| out.say(protected_line(path)));
    let kept_back = KeptRow::of(&ended.kept_back.unwrap_or_default());
    kept_back.lines().iter().for_each(|line| out.say(line));
    let is_whole = gap_count == 0 && !kept_back.is_loss();
    let restored = Restored {
        snapshot: opened.short_id(),
        entries: ended.entries,
        unchanged: ended.unchanged,
        kept: ended.kept,
        deleted: ended.deleted,
        protected,
        kept_back,
        bytes: ended.bytes,
        fetched_bytes: ended.fetched_bytes,
        reused_bytes: ended.reused_bytes,
        lost_attributes: ended.lost_attributes,
        failed_entries: ended.failed_entries,
        gaps: opened.snapshot.gap_count,
        losses,
        elsewhere,
    };
    let there = RestoredThere { job, host: target.host.name.clone(), directory: ended.directory, restored };
    out.outcome(&there, |RestoredThere { host, directory, restored, .. }| {
        format!("on {host}, in {directory}: {}", summary(restored))
    })?;
    Ok(if is_whole { Done::Whole } else { Done::WithLosses })
}
