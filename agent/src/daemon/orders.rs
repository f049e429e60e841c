//! Which order runs, waits, or is answered at once. Pure: orders and endings in, what to do out.
//!
//! One backup runs at a time: a second one would double memory and halve the speed of both. Beside it one restore may run,
//! for nobody waits for a night's backup with a server in pieces. An order that comes twice is the same order, also when it
//! has ended already; its report is then given again.

use lifeboat_proto::convert::control::{JobOrder, JobReport, What};
use lifeboat_proto::convert::{Ended, JobName, SourceSetName};
use std::collections::VecDeque;

/// Orders that may wait; a coordinator that sends more is not well.
const WAITING_MAX: usize = 256;
/// Reports that are kept, in case the order is repeated.
const ENDED_MAX: usize = 64;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Back this set up.
    Backup(SourceSetName),
    /// Restore what operators signed.
    Restore {
        /// The grant, with the operators' order for it.
        grant: bytes::Bytes,
        /// The terms.
        terms: bytes::Bytes,
    },
}

/// Something to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The order's name.
    pub name: JobName,
    /// What to do.
    pub work: Work,
}

impl Job {
    /// Whether they must not run at the same time.
    fn excludes(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.work) == std::mem::discriminant(&other.work)
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run this.
    Start(Job),
    /// Ask this, which runs, to stop.
    Stop(JobName),
    /// Tell the coordinator.
    Report(JobReport),
}

/// All orders that this agent knows of.
#[derive(Debug, Default)]
pub struct Orders {
    /// One of each kind at most.
    running: Vec<Job>,
    waiting: VecDeque<Job>,
    ended: VecDeque<JobReport>,
}

impl Orders {
    /// What runs now.
    pub fn running(&self) -> &[Job] {
        &self.running
    }

    /// An order came. `offered` are the source sets of the local policy: an order for anything else is refused, so no
    /// order can widen what this host gives (INV-46). What a restore may do is looked at when it runs.
    pub fn take(&mut self, order: JobOrder, offered: &[SourceSetName]) -> Vec<Action> {
        if let Some(report) = self.ended.iter().find(|report| report.job == order.job) {
            return vec![Action::Report(report.clone())];
        }
        let work = match order.what {
            What::Cancel => return self.cancel(&order.job),
            What::Backup(set) => Work::Backup(set),
            What::Restore { grant, terms } => Work::Restore { grant, terms },
        };
        match &work {
            _ if self.knows(&order.job) => Vec::new(),
            Work::Backup(set) if !offered.contains(set) => {
                let message = format!("there is no source set {set} in this host's policy");
                self.end(JobReport::failed(order.job, message))
            }
            _ if self.waiting.len() == WAITING_MAX => {
                self.end(JobReport::failed(order.job, format!("{WAITING_MAX} orders wait already")))
            }
            _ => {
                self.waiting.push_back(Job { name: order.job, work });
                self.start_next()
            }
        }
    }

    /// An order came that cannot be obeyed, whatever it asks.
    pub fn refuse(&mut self, job: JobName, message: String) -> Vec<Action> {
        self.end(JobReport::failed(job, message))
    }

    /// What ran has ended.
    pub fn ended(&mut self, report: JobReport) -> Vec<Action> {
        self.running.retain(|job| job.name != report.job);
        let mut actions = self.end(report);
        actions.extend(self.start_next());
        actions
    }

    /// The agent stops: what waits is given back, what runs is asked to stop.
    pub fn stop(&mut self) -> Vec<Action> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut actions: Vec<_> = waiting
            .into_iter()
            .flat_map(|job| self.end(JobReport::failed(job.name, "the agent was stopped before it began")))
            .collect();
        actions.extend(self.running.iter().map(|job| Action::Stop(job.name.clone())));
        actions
    }

    fn knows(&self, name: &JobName) -> bool {
        self.running.iter().chain(&self.waiting).any(|job| job.name == *name)
    }

    fn cancel(&mut self, name: &JobName) -> Vec<Action> {
        if self.running.iter().any(|job| job.name == *name) {
            return vec![Action::Stop(name.clone())];
        }
        let before = self.waiting.len();
        self.waiting.retain(|job| job.name != *name);
        match self.waiting.len() < before {
            true => {
                let report = JobReport::failed(name.clone(), "cancelled before it began");
                self.end(JobReport { ended: Ended::Cancelled, ..report })
            }
            false => Vec::new(),
        }
    }

    fn start_next(&mut self) -> Vec<Action> {
        let may_start = |job: &Job| !self.running.iter().any(|running| running.excludes(job));
        let next = self.waiting.iter().position(may_start).and_then(|at| self.waiting.remove(at));
        self.running.extend(next.clone());
        next.into_iter().map(Action::Start).collect()
    }

    fn end(&mut self, report: JobReport) -> Vec<Action> {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(report.clone());
        vec![Action::Report(report)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> SourceSetName {
        name.parse().unwrap()
    }

    fn order(job: &str, what: What) -> JobOrder {
        JobOrder { job: job.parse().unwrap(), what }
    }

    fn backup(job: &str, name: &str) -> JobOrder {
        order(job, What::Backup(set(name)))
    }

    fn job(name: &str, source_set: &str) -> Job {
        Job { name: name.parse().unwrap(), work: Work::Backup(set(source_set)) }
    }

    fn done(name: &str) -> JobReport {
        JobReport { ended: Ended::Complete, ..JobReport::failed(name.parse().unwrap(), "") }
    }

    #[test]
    fn inv_46_an_order_for_what_the_policy_does_not_name_starts_nothing() {
        let mut orders = Orders::default();
        let actions = orders.take(backup("j1", "shadow"), &[set("system")]);
        let [Action::Report(report)] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!((report.ended, report.message.contains("shadow")), (Ended::Failed, true));
        assert_eq!(orders.running(), []);
    }

    #[test]
    fn one_backup_runs_at_a_time_and_the_next_starts_when_it_has_ended() {
        let (mut orders, offered) = (Orders::default(), [set("system"), set("mail")]);
        assert_eq!(orders.take(backup("j1", "system"), &offered), [Action::Start(job("j1", "system"))]);
        assert_eq!(orders.take(backup("j2", "mail"), &offered), []);
        assert_eq!(orders.ended(done("j1")), [Action::Report(done("j1")), Action::Start(job("j2", "mail"))]);
    }

    #[test]
    fn a_restore_runs_beside_a_backup_and_not_beside_another() {
        let (mut orders, offered) = (Orders::default(), [set("system")]);
        let (grant, terms) = (bytes::Bytes::from_static(b"g"), bytes::Bytes::from_static(b"t"));
        let restore = |name| order(name, What::Restore { grant: grant.clone(), terms: terms.clone() });
        let started = |name: &str| {
            let work = Work::Restore { grant: grant.clone(), terms: terms.clone() };
            Action::Start(Job { name: name.parse().unwrap(), work })
        };
        orders.take(backup("j1", "system"), &offered);
        assert_eq!(orders.take(restore("r1"), &offered), [started("r1")]);
        assert_eq!(orders.take(restore("r2"), &offered), []);
        assert_eq!(orders.take(backup("j2", "system"), &offered), []);
        assert_eq!(orders.ended(done("r1")), [Action::Report(done("r1")), started("r2")]);
        assert_eq!(orders.ended(done("j1")), [Action::Report(done("j1")), Action::Start(job("j2", "system"))]);
        assert_eq!(orders.running().len(), 2);
    }

    #[test]
    fn an_order_that_comes_twice_is_obeyed_once_and_its_report_is_given_again() {
        let (mut orders, offered) = (Orders::default(), [set("system")]);
        orders.take(backup("j1", "system"), &offered);
        assert_eq!(orders.take(backup("j1", "system"), &offered), []);
        orders.ended(done("j1"));
        assert_eq!(orders.take(backup("j1", "system"), &offered), [Action::Report(done("j1"))]);
        assert_eq!(orders.running(), []);
    }

    #[test]
    fn a_cancelled_order_stops_or_never_begins() {
        let (mut orders, offered) = (Orders::default(), [set("system"), set("mail")]);
        orders.take(backup("j1", "system"), &offered);
        orders.take(backup("j2", "mail"), &offered);
        assert_eq!(orders.take(order("j1", What::Cancel), &offered), [Action::Stop("j1".parse().unwrap())]);
        let actions = orders.take(order("j2", What::Cancel), &offered);
        assert!(matches!(&actions[..], [Action::Report(report)] if report.ended == Ended::Cancelled), "{actions:?}");
        assert_eq!(orders.ended(done("j1")), [Action::Report(done("j1"))]);
        assert_eq!(orders.take(order("j9", What::Cancel), &offered), []);
    }

    #[test]
    fn an_agent_that_stops_gives_every_order_back() {
        let (mut orders, offered) = (Orders::default(), [set("system"), set("mail")]);
        orders.take(backup("j1", "system"), &offered);
        orders.take(backup("j2", "mail"), &offered);
        let actions = orders.stop();
        assert!(matches!(&actions[..], [Action::Report(report), Action::Stop(_)] if report.job.as_str() == "j2"));
    }
}
