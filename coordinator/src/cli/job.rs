//! `lifeboat job`: what servers were ordered to do, and how far they are.

use super::output::{Output, Row, from_ns, moment, outcome_name, size, span};
use super::waiting::{Waiting, why_queued};
use super::{Done, Global, admin};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::job_event::Event;
use lifeboat_proto::v1::{self, JobState, Outcome};
use serde::Serialize;
use std::time::{Duration, Instant};
use tonic::Streaming;

/// How often programs are told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// List backups and restores that are queued, running, or ended within the last hour
    List(ListArgs),
    /// Show a job's progress until it ends
    Follow(NameArgs),
    /// Cancel a job. Data already sent or restored is kept
    Cancel(NameArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only jobs of this host, by name or number
    #[arg(default_value = "", hide_default_value = true)]
    host: String,
}

#[derive(Debug, Args)]
pub struct NameArgs {
    /// Name of the job, as `backup`, `restore` and `job list` print it
    job: String,
}

#[derive(Serialize)]
struct JobRow {
    job: String,
    host: String,
    source_set: String,
    directory: String,
    state: &'static str,
    outcome: Option<&'static str>,
    message: String,
    ordered: Option<Timestamp>,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
    entries: u64,
    bytes: u64,
}

impl JobRow {
    /// How long it ran, or has been running.
    fn duration(&self) -> String {
        let until = self.ended.unwrap_or_else(Timestamp::now);
        let seconds = self.began.map(|began| until.duration_since(began).as_secs().unsigned_abs());
        seconds.map_or_else(|| "–".to_owned(), span)
    }
}

impl Row for JobRow {
    const HEADERS: &'static [&'static str] = &["JOB", "HOST", "WHAT", "STATE", "STARTED", "TIME", "BYTES", ""];

    fn cells(&self) -> Vec<String> {
        let what = match self.source_set.as_str() {
            "" => format!("restore to {}", self.directory),
            set => format!("backup of {set}"),
        };
        let state = self.outcome.unwrap_or(self.state).to_owned();
        let (started, bytes) = (moment(self.began), size(self.bytes));
        vec![self.job.clone(), self.host.clone(), what, state, started, self.duration(), bytes, self.message.clone()]
    }
}

impl JobCommand {
    /// Runs the command.
    pub async fn run(self, global: &Global, out: &mut Output) -> Result<Done, Failure> {
        let mut admin = admin::connect(&global.config()?).await?;
        match self {
            Self::List(ListArgs { host }) => {
                let pages = admin::all(admin.list_jobs(v1::ListJobsRequest { host }).await?.into_inner()).await?;
                out.table(&pages.into_iter().flat_map(|page| page.jobs).map(row).collect::<Vec<_>>())?;
                Ok(Done::Whole)
            }
            Self::Cancel(NameArgs { job }) => {
                admin.cancel_job(v1::CancelJobRequest { job }).await?;
                Ok(Done::Whole)
            }
            Self::Follow(NameArgs { job }) => {
                let events = admin.follow_job(v1::FollowJobRequest { job }).await?.into_inner();
                let mut about = None;
                let accepted = |job: &v1::Job, _: &mut Output| {
                    about = Some(job.clone());
                    Ok(())
                };
                let ending = follow(events, None, accepted, out).await?;
                let job = about.unwrap_or_default();
                match ending {
                    Ending::Failed(message) => {
                        Err(Failure::new(ErrorClass::Refused, format!("{}: {message}", job.host_name)))
                    }
                    Ending::NotFollowed => {
                        Err(Failure::new(ErrorClass::Unreachable, "the coordinator said no end of it"))
                    }
                    Ending::Ended(ended) => {
                        let whole = ended.outcome() != Outcome::Gaps;
                        ended.gaps.iter().for_each(|gap| out.say(format_args!("  {gap}")));
                        let row = row(v1::Job { ended: Some(*ended), state: JobState::Done.into(), ..job });
                        out.outcome(&row, |row| row.cells().join("  ").trim_end().to_owned())?;
                        Ok(if whole { Done::Whole } else { Done::WithLosses })
                    }
                }
            }
        }
    }
}

fn row(job: v1::Job) -> JobRow {
    let state = match job.state() {
        JobState::Unspecified => "unknown",
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Done => "done",
    };
    let queued = (job.state() == JobState::Queued).then(|| why_queued(&job));
    let restored = job.ended.as_ref().and_then(|ended| ended.restored.clone());
    let progress = job.progress.clone().unwrap_or_default();
    let (entries, bytes) = match &restored {
        Some(restored) => (restored.entries, restored.bytes),
        None => (progress.entries, progress.read_bytes),
    };
    JobRow {
        state,
        outcome: job.ended.as_ref().and_then(|ended| outcome_name(ended.outcome())),
        message: job.ended.map(|ended| ended.message).or(queued).unwrap_or_default(),
        ordered: from_ns(job.ordered_ns),
        began: from_ns(job.began_ns),
        ended: from_ns(job.ended_ns),
        job: job.job,
        host: job.host_name,
        source_set: job.source_set,
        directory: restored.map_or(job.directory, |restored| restored.directory),
        entries,
        bytes,
    }
}

/// How a job ended that was followed.
pub enum Ending {
    /// It failed, and why.
    Failed(String),
    /// It was done, perhaps with losses.
    Ended(Box<v1::JobEnded>),
    /// Nobody waited for its end.
    NotFollowed,
}

/// A line for programs, while it goes on.
#[derive(Serialize)]
struct Told {
    progress: Moment,
}

/// How far it is.
#[derive(Serialize)]
struct Moment {
    files: u64,
    bytes: u64,
    fetched_bytes: u64,
    reused_bytes: u64,
}

/// Shows how a job goes, to its end. `accepted` is called with the job itself, which comes first.
pub async fn follow(
    mut events: Streaming<v1::JobEvent>,
    total: Option<u64>,
    mut accepted: impl FnMut(&v1::Job, &mut Output) -> Result<(), Failure>,
    out: &mut Output,
) -> Result<Ending, Failure> {
    let bar = out.progress("", total);
    let mut told_at = Instant::now();
    let mut ending = Ending::NotFollowed;
    let mut waiting = Waiting::new(None);
    while let Some(event) = waiting.next(&mut events).await? {
        match event.event {
            Some(Event::Accepted(job)) => {
                bar.set_prefix(job.host_name.clone());
                bar.suspend(|| accepted(&job, out))?;
            }
            Some(Event::Progress(progress)) => {
                bar.set_position(progress.read_bytes);
                let reused = size(progress.reused_bytes);
                bar.set_message(format!("; {} entries, {reused} there already", progress.entries));
                if out.is_json() && told_at.elapsed() >= TELL_EVERY {
                    told_at = Instant::now();
                    let v1::JobProgress { entries, read_bytes, sent_bytes, reused_bytes, .. } = progress;
                    let (files, bytes, fetched_bytes) = (entries, read_bytes, sent_bytes);
                    out.tell(&Told { progress: Moment { files, bytes, fetched_bytes, reused_bytes } });
                }
            }
            Some(Event::Ended(ended)) => {
                ending = match ended.outcome() {
                    Outcome::Failed | Outcome::Cancelled | Outcome::Suspect => Ending::Failed(ended.message),
                    _ => Ending::Ended(Box::new(ended)),
                };
            }
            None => {}
        }
    }
    bar.finish_and_clear();
    Ok(ending)
}
