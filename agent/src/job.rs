//! One backup of one source set, as this host's policy says: hooks before, commands, the pipeline, hooks after. And one
//! restore by order (`restore`).
//!
//! The service runs it for an order, `lifeboat-agent backup` for whoever sits there; both go the same way.

mod plan;
mod report;
mod restore;
mod supervise;

pub(crate) use plan::proof as proof_plan;
pub use report::{gap_lines, left_out_lines};

use crate::backup::{self, BackupError, Report, Surroundings};
use crate::clock::SystemClock;
use crate::commands::CommandOutput;
use crate::connection::explain_transport;
use crate::connection::uplink::GrpcUplink;
use crate::daemon::orders::{Job, Work};
use crate::daemon::{Task, Worker};
use crate::error::AgentError;
use crate::hooks::{self, AfterHooks};
use crate::host::Host;
use crate::policy::{Policy, SourceSet};
use lifeboat_proto::convert::SourceSetName;
use lifeboat_proto::convert::control::JobReport;
use lifeboat_proto::status::ErrorClass;
use std::error::Error;
use std::io;
use std::sync::atomic::Ordering;
use supervise::Patience;
use tokio::runtime::Handle;

/// The whole way from the policy to a snapshot, over the network.
#[derive(Debug, Clone)]
pub struct Pipeline {
    runtime: Handle,
}

/// A backup that became a snapshot.
#[derive(Debug)]
pub struct Made {
    /// What the pipeline says of it.
    pub report: Report,
    /// What went wrong beside it, without spoiling it: hooks after it.
    pub notes: Vec<String>,
}

impl Pipeline {
    /// `runtime` serves the network; the pipeline has threads of its own.
    pub fn new(runtime: Handle) -> Self {
        Self { runtime }
    }

    /// What serves the network.
    fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Backs one set up. Blocks; not to be called from a thread of the runtime. `job` names the order, or is empty.
    pub fn back_up(&self, host: &Host, name: &SourceSetName, job: &str, task: &Task) -> Result<Made, AgentError> {
        let policy = host.policy()?;
        let set = policy.source_set(name)?;
        let scratch = host.state.scratch();
        task.owe(AfterHooks::new(&set.after, &policy, scratch.clone()));
        let _also_after_a_panic = Owed(task);
        let made = hooks::run_before(&set.before, &policy, &scratch, &task.stop)
            .map_err(|error| {
                AgentError::because(ErrorClass::Refused, format!("nothing of {name} was backed up"), error)
                    .hint("the hook's own words stand in the agent's log")
            })
            .and_then(|()| self.run(host, &policy, name, set, job, task));
        let after = task.run_after_hooks();
        match made {
            Ok(mut made) => {
                made.notes.extend(after);
                Ok(made)
            }
            Err(mut error) => {
                error.message = std::iter::once(error.message).chain(after).collect::<Vec<_>>().join("; ");
                Err(error)
            }
        }
    }

    fn run(
        &self,
        host: &Host,
        policy: &Policy,
        name: &SourceSetName,
        set: &SourceSet,
        job: &str,
        task: &Task,
    ) -> Result<Made, AgentError> {
        let output = CommandOutput::collect(&host.state, name.as_str(), set, policy.limits.command_time, &task.stop)?;
        if task.stop.load(Ordering::Relaxed) {
            return Err(failed(name, BackupError::Stopped));
        }
        let plan = plan::plan(host, policy, name, set, job, &output)?;
        let dialer = host.dialer().map_err(|error| error.explain())?;
        let channel = self.runtime.block_on(dialer.connect()).map_err(|error| explain_transport(&error))?;
        let heads = host.heads.clone();
        let uplink = GrpcUplink::new(channel, self.runtime.clone(), heads, host.instance, policy.limits.upload);
        let (progress, stop) = (task.progress.clone(), task.stop.clone());
        let work = move || {
            let clock = SystemClock::new();
            let around = Surroundings { uplink: &uplink, clock: &clock, progress: &progress, stop: &stop };
            backup::run(&plan, &around)
        };
        let report = supervise::run(work, &task.progress, &task.stop, Patience::default());
        let report = report.map_err(|error| failed(name, error))?;
        Ok(Made { report, notes: Vec::new() })
    }
}

/// Runs the hooks after a backup when the thread that does it ends, however it ends.
struct Owed<'a>(&'a Task);

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.0.run_after_hooks();
    }
}

fn failed(name: &SourceSetName, error: BackupError) -> AgentError {
    let class = match &error {
        BackupError::Uplink(_) if error.may_retry() => ErrorClass::Unreachable,
        BackupError::Uplink(_) => ErrorClass::Refused,
        _ if is_full(&error) => ErrorClass::Full,
        BackupError::Stopped => ErrorClass::Busy,
        _ => ErrorClass::Internal,
    };
    let hint = match class {
        _ if matches!(error, BackupError::Hangs { .. }) => {
            "unmount what hangs, start its server again, or leave it out with `exclude`"
        }
        _ if error.may_retry() => "run it again: it sends only what had not arrived",
        ErrorClass::Full => "make room on that disk of this host, then back up again",
        _ => "",
    };
    AgentError::because(class, format!("the backup of {name} did not become a snapshot"), error).hint(hint)
}

/// Whether a disk of this machine has no room.
fn is_full(error: &BackupError) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Worker for Pipeline {
    fn work(&self, host: &Host, job: &Job, task: &Task) -> JobReport {
        match &job.work {
            Work::Backup(source_set) => {
                let made = self.back_up(host, source_set, job.name.as_str(), task);
                report::keep(host, source_set, &made);
                report::for_coordinator(&job.name, &made)
            }
            Work::Restore { grant, terms } => restore::restore(self, host, &job.name, (grant, terms), task),
        }
    }
}

/// Backs a set up for somebody at the keyboard, and remembers how it went.
pub fn back_up_by_hand(
    pipeline: &Pipeline,
    host: &Host,
    name: &SourceSetName,
    task: &Task,
) -> Result<Made, AgentError> {
    let made = pipeline.back_up(host, name, "", task);
    report::keep(host, name, &made);
    made
}
