//! The agent as a service: keeps a conversation with its coordinator, takes orders, runs them, stops in good order.
//!
//! What an order may ask stands in the local policy, read anew for each (INV-46). Backups and restores run on threads of
//! their own and outlive a broken conversation; their reports are said again in the next one, for nobody knows which ones of
//! the last minute arrived. How they are done is for the [`Worker`].

mod conversation;
pub mod orders;
pub mod renewal;
mod systemd;

use crate::backup::Progress;
use crate::connection::{back_off, explain_transport};
use crate::error::AgentError;
use crate::hooks::AfterHooks;
use crate::host::Host;
use crate::restore;
use conversation::Conversation;
use lifeboat_proto::convert::control::{Hello, JobOrder, JobReport, Offer, What};
use lifeboat_proto::convert::{Ended, JobName, SourceSetName};
use lifeboat_proto::status::{Failure, with_causes};
use orders::{Action, Job, Orders, Work};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, watch};
use tonic::transport::Channel;

/// How long what runs has to end after it was asked to stop.
const STOP_TIME: Duration = Duration::from_secs(30);
/// A conversation that lasted so long was a good one: the next failure counts as the first.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// Reports of so long ago have arrived if the conversation still stands.
const SURE_AFTER: Duration = Duration::from_secs(60);
/// A certificate is not renewed again so soon: one that seems due at once is the mark of a clock that is off.
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Runs one job, on a thread of its own.
pub trait Worker: Send + Sync + 'static {
    /// Does it and says how it ended. Ends soon after [`Task::stop`].
    fn work(&self, host: &Host, job: &Job, task: &Task) -> JobReport;
}

/// A job that runs, as seen from outside.
#[derive(Debug, Default)]
pub struct Task {
    /// Set to make a backup end: what was sent stays, and the next backup goes on from there.
    pub stop: Arc<AtomicBool>,
    /// How far a backup is.
    pub progress: Arc<Progress>,
    /// How far a restore is.
    pub restored: restore::Progress,
    /// The hooks that are to run when the backup ends, until somebody runs them.
    after_hooks: Mutex<Option<AfterHooks>>,
}

impl Task {
    /// Asks it to end soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.restored.stop();
    }

    /// From now on, however the backup ends, these hooks are to be run.
    pub fn owe(&self, hooks: AfterHooks) {
        *self.after_hooks.lock().unwrap_or_else(PoisonError::into_inner) = Some(hooks);
    }

    /// Runs the hooks after the backup, unless that was done; returns which of them failed, and how.
    pub fn run_after_hooks(&self) -> Vec<String> {
        let hooks = self.after_hooks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let failed = hooks.map(AfterHooks::run).unwrap_or_default();
        let failed: Vec<_> = failed.iter().map(|error| with_causes(error)).collect();
        failed.iter().for_each(|problem| tracing::error!(problem, "a hook after the backup failed"));
        failed
    }
}

/// Why a conversation ended.
enum Ending {
    /// The agent is to stop.
    Stopped,
    /// There is a new certificate; talk again with it.
    Renewed,
    /// Talk again later.
    Failed(Failure),
}

/// Runs until `stop` turns true. Trouble with the coordinator is waited out; an error means that this host itself
/// cannot go on.
///
/// `reload` makes it read the policy at once; otherwise it notices a change within seconds.
pub async fn run(
    host: Host,
    worker: Arc<dyn Worker>,
    reload: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let mut daemon = Daemon::new(host, worker, reload);
    systemd::ready();
    let mut failures = 0;
    while !*stop.borrow() {
        let started = Instant::now();
        let ending = daemon.talk(&mut stop).await;
        if started.elapsed() >= GOOD_AFTER {
            failures = 0;
        }
        match ending {
            Ending::Stopped => break,
            Ending::Renewed => tracing::info!("reconnecting with the new certificate"),
            Ending::Failed(failure) => {
                failures += 1;
                let wait = back_off::wait_after(failures, back_off::chance());
                let hint = &failure.hint;
                tracing::warn!(%failure, hint, seconds = wait.as_secs(), "cannot connect to the coordinator; trying again");
                systemd::status(&format!("waiting for the coordinator: {failure}"));
                daemon.pause(wait, &mut stop).await;
            }
        }
    }
    systemd::stopping();
    daemon.wait_for_end().await;
    Ok(())
}

struct Daemon {
    host: Host,
    worker: Arc<dyn Worker>,
    orders: Orders,
    tasks: BTreeMap<JobName, Arc<Task>>,
    unsure: VecDeque<(Instant, JobReport)>,
    renewed: Option<Instant>,
    reload: Arc<Notify>,
    /// What the coordinator was last told of the policy.
    offer: Offer,
    end: mpsc::UnboundedSender<JobReport>,
    ended: mpsc::UnboundedReceiver<JobReport>,
}

impl Daemon {
    fn new(host: Host, worker: Arc<dyn Worker>, reload: Arc<Notify>) -> Self {
        let (end, ended) = mpsc::unbounded_channel();
        let (orders, tasks, unsure) = (Orders::default(), BTreeMap::new(), VecDeque::new());
        let offer = Offer::default();
        Self { host, worker, orders, tasks, unsure, renewed: None, reload, offer, end, ended }
    }

    /// One conversation, from connecting to its end.
    async fn talk(&mut self, stop: &mut watch::Receiver<bool>) -> Ending {
        let dialer = match self.host.dialer() {
            Ok(dialer) => dialer,
            Err(error) => return Ending::Failed(error.explain()),
        };
        let channel = tokio::select! {
            channel = dialer.connect() => channel,
            _ = stop.changed() => return Ending::Stopped,
        };
        let ending = match channel {
            Ok(channel) => self.converse(channel, stop).await,
            Err(error) => Err(explain_transport(&error)),
        };
        ending.unwrap_or_else(Ending::Failed)
    }

    async fn converse(&mut self, channel: Channel, stop: &mut watch::Receiver<bool>) -> Result<Ending, Failure> {
        if self.is_renewal_due() {
            self.renew(channel.clone()).await?;
            return Ok(Ending::Renewed);
        }
        renewal::refresh_trust(&mut self.host, channel.clone()).await;
        let mut talk = Conversation::open(channel.clone(), self.hello()).await?;
        systemd::status("connected to the coordinator");
        tracing::info!(address = %self.host.identity.address, "connected to the coordinator");
        for (_, report) in &self.unsure {
            talk.report(report.clone())?;
        }
        let mut alive = tokio::time::interval(lifeboat_proto::limits::ALIVE_EVERY);
        let mut progress = tokio::time::interval(Duration::from_secs(2));
        let mut policy = tokio::time::interval(lifeboat_proto::limits::POLICY_READ_EVERY);
        let reload = self.reload.clone();
        loop {
            tokio::select! {
                order = talk.next_order() => {
                    let actions = self.take(order?);
                    self.act(actions, &mut talk)?;
                }
                Some(report) = self.ended.recv() => {
                    let actions = self.has_ended(report);
                    self.act(actions, &mut talk)?;
                }
                _ = alive.tick() => {
                    self.unsure.retain(|(said, _)| said.elapsed() < SURE_AFTER);
                    talk.alive(wall_time_ns())?;
                    if self.is_renewal_due() && self.orders.running().is_empty() {
                        self.renew(channel.clone()).await?;
                        return Ok(Ending::Renewed);
                    }
                }
                _ = policy.tick() => self.offer_again(&mut talk)?,
                () = reload.notified() => self.offer_again(&mut talk)?,
                _ = progress.tick() => for job in self.orders.running() {
                    if let Some(task) = self.tasks.get(&job.name) {
                        talk.progress(job, task)?;
                    }
                },
                _ = stop.changed() => return self.say_good_bye(talk).await,
            }
        }
    }

    fn hello(&mut self) -> Hello {
        self.read_offer();
        Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.host.instance,
            offer: self.offer.clone(),
            last_head: self.host.heads.newest(),
            wall_time_ns: wall_time_ns(),
        }
    }

    /// Reads the policy, and says so if it offers something else than before.
    fn offer_again(&mut self, talk: &mut Conversation) -> Result<(), Failure> {
        match self.read_offer() {
            true => talk.offer(self.offer.clone()),
            false => Ok(()),
        }
    }

    /// What the policy offers now; whether that is something else than before.
    fn read_offer(&mut self) -> bool {
        let offer = match self.host.follow_policy() {
            Ok(policy) => Offer { source_sets: policy.sources.into_keys().collect(), policy_problem: String::new() },
            Err(error) => Offer { source_sets: Vec::new(), policy_problem: with_causes(&error) },
        };
        if offer == self.offer {
            return false;
        }
        if offer.policy_problem.is_empty() {
            let offered = offer.source_sets.iter().map(SourceSetName::as_str).collect::<Vec<_>>().join(", ");
            tracing::info!(source_sets = offered, "policy read");
        } else {
            tracing::error!(problem = offer.policy_problem, "policy invalid: nothing is backed up");
        }
        self.offer = offer;
        true
    }

    fn is_renewal_due(&self) -> bool {
        let waited = self.renewed.is_none_or(|last| last.elapsed() >= RENEW_AGAIN_AFTER);
        waited && renewal::is_due(&self.host.tls, SystemTime::now())
    }

    async fn renew(&mut self, channel: Channel) -> Result<(), Failure> {
        self.host.tls = renewal::renew(&self.host, channel).await?;
        self.renewed = Some(Instant::now());
        Ok(())
    }

    /// An order, held against the policy as it stands now.
    fn take(&mut self, order: JobOrder) -> Vec<Action> {
        let what = match &order.what {
            What::Backup(source_set) => format!("back up {source_set}"),
            What::Restore { .. } => "restore".to_owned(),
            What::Cancel => "cancel".to_owned(),
        };
        tracing::info!(job = %order.job, what, "an order");
        match (self.host.policy(), &order.what) {
            (Err(error), What::Backup(_) | What::Restore { .. }) => {
                let message = format!("{}; {}", error, error.hint);
                self.orders.refuse(order.job, message)
            }
            (policy, _) => {
                let offered: Vec<SourceSetName> =
                    policy.map(|policy| policy.sources.into_keys().collect()).unwrap_or_default();
                self.orders.take(order, &offered)
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>, talk: &mut Conversation) -> Result<(), Failure> {
        for action in actions {
            match action {
                Action::Start(job) => self.start(job),
                Action::Stop(job) => self.tasks.get(&job).into_iter().for_each(|task| task.stop()),
                Action::Report(report) => {
                    self.unsure.push_back((Instant::now(), report.clone()));
                    talk.report(report)?;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, job: Job) {
        let task = Arc::<Task>::default();
        self.tasks.insert(job.name.clone(), task.clone());
        let (host, worker, end) = (self.host.clone(), self.worker.clone(), self.end.clone());
        tokio::task::spawn_blocking(move || {
            let guard = ReportAnyway { job: job.clone(), end };
            let report = worker.work(&host, &job, &task);
            log_end(&job, &report);
            guard.send(report);
        });
    }

    /// Waits, unless it is to stop.
    async fn pause(&mut self, wait: Duration, stop: &mut watch::Receiver<bool>) {
        tokio::select! {
            () = tokio::time::sleep(wait) => (),
            _ = stop.changed() => (),
        }
    }

    /// Ends what runs, tells the coordinator, and closes the conversation.
    async fn say_good_bye(&mut self, mut talk: Conversation) -> Result<Ending, Failure> {
        systemd::stopping();
        let actions = self.orders.stop();
        self.act(actions, &mut talk)?;
        for report in self.wait_for_end().await {
            talk.report(report)?;
        }
        talk.close().await;
        Ok(Ending::Stopped)
    }

    /// Asks what runs to stop, and waits for it; the reports of what ended in time.
    async fn wait_for_end(&mut self) -> Vec<JobReport> {
        let mut reports = Vec::new();
        self.orders.stop();
        self.tasks.values().for_each(|task| task.stop());
        let end = tokio::time::Instant::now() + STOP_TIME;
        while !self.orders.running().is_empty() {
            let Ok(Some(report)) = tokio::time::timeout_at(end, self.ended.recv()).await else {
                tracing::warn!("what runs does not stop; what it sent or wrote stays");
                self.give_up().await;
                break;
            };
            self.has_ended(report.clone());
            reports.push(report);
        }
        reports
    }

    /// Does for the backups that do not stop what must be done after them: hooks, and removal of what commands wrote.
    async fn give_up(&self) {
        let (tasks, commands) = (self.tasks.values().cloned().collect::<Vec<_>>(), self.host.state.commands());
        let end = move || {
            tasks.iter().for_each(|task| drop(task.run_after_hooks()));
            crate::state::remove_content(&commands)
        };
        match tokio::task::spawn_blocking(end).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "cannot remove the output of commands; the next start does"),
            Err(error) => tracing::error!(%error, "the hooks after a backup could not be run"),
        }
    }

    fn has_ended(&mut self, report: JobReport) -> Vec<Action> {
        self.tasks.remove(&report.job);
        self.orders.ended(report)
    }
}

/// Logs the end of a job with the priority that it has for whoever runs this server.
fn log_end(job: &Job, report: &JobReport) {
    let what = match &job.work {
        Work::Backup(source_set) => format!("backup of {source_set}"),
        Work::Restore { .. } => "restore".to_owned(),
    };
    let (job, outcome, message) = (&job.name, report.ended.name(), &report.message);
    match report.ended {
        Ended::Failed => tracing::error!(%job, what, outcome, message, "job failed"),
        Ended::Complete | Ended::Checkpoint => tracing::info!(%job, what, outcome, message, "job ended"),
        Ended::Gaps | Ended::Suspect | Ended::Cancelled => {
            tracing::warn!(%job, what, outcome, message, "job ended");
        }
    }
}

/// Reports a failure if the worker never got to its own report, so that no order waits for ever.
struct ReportAnyway {
    job: Job,
    end: mpsc::UnboundedSender<JobReport>,
}

impl ReportAnyway {
    fn send(mut self, report: JobReport) {
        let (end, _) = mpsc::unbounded_channel();
        // Nobody listens any more when the agent has stopped.
        let _ = std::mem::replace(&mut self.end, end).send(report);
    }
}

impl Drop for ReportAnyway {
    fn drop(&mut self) {
        let message = "it broke off because of a mistake in the agent; its log says more";
        // Nobody listens after a report was sent.
        let _ = self.end.send(JobReport::failed(self.job.name.clone(), message));
    }
}

fn wall_time_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
