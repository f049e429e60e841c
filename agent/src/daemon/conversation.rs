//! One `Follow` stream: typed reports up, typed orders down.

use super::Task;
use super::orders::{Job, Work};
use crate::connection::{control_client, explain};
use lifeboat_proto::convert::control::{Hello, JobOrder, JobReport, Offer, Progress, Report};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Reports that may wait for the network. More means that nobody takes them.
const QUEUED_REPORTS: usize = 512;
/// How long the last reports may take to arrive.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// A conversation that has begun.
pub struct Conversation {
    reports: mpsc::Sender<v1::AgentReport>,
    orders: Streaming<v1::Order>,
}

impl Conversation {
    /// Says hello.
    pub async fn open(channel: Channel, hello: Hello) -> Result<Self, Failure> {
        let (reports, queued) = mpsc::channel(QUEUED_REPORTS);
        // The queue is new, so there is room.
        let _ = reports.try_send(Report::Hello(hello).into());
        let answer = control_client(channel).follow(ReceiverStream::new(queued)).await.map_err(explain)?;
        Ok(Self { reports, orders: answer.into_inner() })
    }

    /// The next order. May be dropped and asked again without losing one.
    pub async fn next_order(&mut self) -> Result<JobOrder, Failure> {
        let lost = || Failure::new(ErrorClass::Unreachable, "the coordinator ended the conversation");
        let order = self.orders.message().await.map_err(explain)?.ok_or_else(lost)?;
        Ok(JobOrder::try_from(order)?)
    }

    /// Says how a job ended.
    pub fn report(&mut self, report: JobReport) -> Result<(), Failure> {
        self.say(Report::Ended(report))
    }

    /// Says what the policy offers now.
    pub fn offer(&mut self, offer: Offer) -> Result<(), Failure> {
        self.say(Report::Offer(offer))
    }

    /// Says that this agent is there.
    pub fn alive(&mut self, wall_time_ns: i64) -> Result<(), Failure> {
        self.say(Report::Alive(wall_time_ns))
    }

    /// Says how far a job is.
    pub fn progress(&mut self, job: &Job, task: &Task) -> Result<(), Failure> {
        let Task { progress, restored, .. } = task;
        let name = job.name.clone();
        self.say(Report::Progress(match job.work {
            Work::Backup(_) => Progress {
                job: name,
                entries: progress.entries.load(Ordering::Relaxed),
                read_bytes: progress.read_bytes.load(Ordering::Relaxed),
                sent_bytes: progress.sent_bytes.load(Ordering::Relaxed),
                reused_bytes: 0,
            },
            Work::Restore { .. } => Progress {
                job: name,
                entries: restored.files(),
                read_bytes: restored.bytes(),
                sent_bytes: restored.fetched_bytes(),
                reused_bytes: restored.reused_bytes(),
            },
        }))
    }

    /// Lets the last reports arrive.
    pub async fn close(self) {
        let Self { reports, mut orders } = self;
        drop(reports);
        let until_the_end = async { while let Ok(Some(_)) = orders.message().await {} };
        if tokio::time::timeout(CLOSE_TIME, until_the_end).await.is_err() {
            tracing::debug!("the coordinator did not close the conversation");
        }
    }

    fn say(&mut self, report: Report) -> Result<(), Failure> {
        let stuck = |_| Failure::new(ErrorClass::Unreachable, "the coordinator takes no reports any more");
        self.reports.try_send(report.into()).map_err(stuck)
    }
}
