//! Which order runs, waits, or is answered at once. Pure: orders and endings in, what to do out.
//!
//! One backup runs at a time: a second one would double memory and halve the speed of both. An order that comes twice
//! is the same order, also when it has ended already; its report is then given again.

use lifeboat_proto::convert::control::{JobOrder, JobReport, What};
use lifeboat_proto::convert::{Ended, JobName, SourceSetName};
use std::collections::VecDeque;

/// Orders that may wait; a coordinator that sends more is not well.
const WAITING_MAX: usize = 256;
/// Reports that are kept, in case the order is repeated.
const ENDED_MAX: usize = 64;

/// A backup to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The order's name.
    pub name: JobName,
    /// What to back up.
    pub source_set: SourceSetName,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run this; nothing else runs.
    Start(Job),
    /// Ask what runs to stop.
    Stop,
    /// Tell the coordinator.
    Report(JobReport),
}

/// All orders that this agent knows of.
#[derive(Debug, Default)]
pub struct Orders {
    running: Option<Job>,
    waiting: VecDeque<Job>,
    ended: VecDeque<JobReport>,
}

impl Orders {
    /// What runs now.
    pub fn running(&self) -> Option<&Job> {
        self.running.as_ref()
    }

    /// An order came. `offered` are the source sets of the local policy: an order for anything else is refused, so no
    /// order can widen what this host gives (INV-46).
    pub fn take(&mut self, order: JobOrder, offered: &[SourceSetName]) -> Vec<Action> {
        if let Some(report) = self.ended.iter().find(|report| report.job == order.job) {
            return vec![Action::Report(report.clone())];
        }
        match order.what {
            What::Cancel => self.cancel(&order.job),
            What::Backup(_) if self.knows(&order.job) => Vec::new(),
            What::Backup(set) if !offered.contains(&set) => {
                let message = format!("there is no source set {set} in this host's policy");
                self.end(failed(order.job, message))
            }
            What::Backup(_) if self.waiting.len() == WAITING_MAX => {
                self.end(failed(order.job, format!("{WAITING_MAX} orders wait already")))
            }
            What::Backup(source_set) => {
                self.waiting.push_back(Job { name: order.job, source_set });
                self.start_next()
            }
        }
    }

    /// An order came that cannot be obeyed, whatever it asks.
    pub fn refuse(&mut self, job: JobName, message: String) -> Vec<Action> {
        self.end(failed(job, message))
    }

    /// What ran has ended.
    pub fn ended(&mut self, report: JobReport) -> Vec<Action> {
        self.running = None;
        let mut actions = self.end(report);
        actions.extend(self.start_next());
        actions
    }

    /// The agent stops: what waits is given back, what runs is asked to stop.
    pub fn stop(&mut self) -> Vec<Action> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut actions: Vec<_> = waiting
            .into_iter()
            .flat_map(|job| self.end(failed(job.name, "the agent was stopped before it began".to_owned())))
            .collect();
        actions.extend(self.running.is_some().then_some(Action::Stop));
        actions
    }

    fn knows(&self, name: &JobName) -> bool {
        self.running.iter().chain(&self.waiting).any(|job| job.name == *name)
    }

    fn cancel(&mut self, name: &JobName) -> Vec<Action> {
        if self.running.as_ref().is_some_and(|job| job.name == *name) {
            return vec![Action::Stop];
        }
        let before = self.waiting.len();
        self.waiting.retain(|job| job.name != *name);
        match self.waiting.len() < before {
            true => self.end(failed(name.clone(), "cancelled before it began".to_owned())),
            false => Vec::new(),
        }
    }

    fn start_next(&mut self) -> Vec<Action> {
        if self.running.is_some() {
            return Vec::new();
        }
        self.running = self.waiting.pop_front();
        self.running.iter().cloned().map(Action::Start).collect()
    }

    fn end(&mut self, report: JobReport) -> Vec<Action> {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(report.clone());
        vec![Action::Report(report)]
    }
}

fn failed(job: JobName, message: String) -> JobReport {
    JobReport { job, ended: Ended::Failed, snapshot: None, message, gaps: Vec::new(), gap_count: 0 }
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
        Job { name: name.parse().unwrap(), source_set: set(source_set) }
    }

    fn done(name: &str) -> JobReport {
        JobReport { ended: Ended::Complete, message: String::new(), ..failed(name.parse().unwrap(), String::new()) }
    }

    #[test]
    fn inv_46_an_order_for_what_the_policy_does_not_name_starts_nothing() {
        let mut orders = Orders::default();
        let actions = orders.take(backup("j1", "shadow"), &[set("system")]);
        let [Action::Report(report)] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!((report.ended, report.message.contains("shadow")), (Ended::Failed, true));
        assert_eq!(orders.running(), None);
    }

    #[test]
    fn one_backup_runs_at_a_time_and_the_next_starts_when_it_has_ended() {
        let (mut orders, offered) = (Orders::default(), [set("system"), set("mail")]);
        assert_eq!(orders.take(backup("j1", "system"), &offered), [Action::Start(job("j1", "system"))]);
        assert_eq!(orders.take(backup("j2", "mail"), &offered), []);
        assert_eq!(orders.ended(done("j1")), [Action::Report(done("j1")), Action::Start(job("j2", "mail"))]);
    }

    #[test]
    fn an_order_that_comes_twice_is_obeyed_once_and_its_report_is_given_again() {
        let (mut orders, offered) = (Orders::default(), [set("system")]);
        orders.take(backup("j1", "system"), &offered);
        assert_eq!(orders.take(backup("j1", "system"), &offered), []);
        orders.ended(done("j1"));
        assert_eq!(orders.take(backup("j1", "system"), &offered), [Action::Report(done("j1"))]);
        assert_eq!(orders.running(), None);
    }

    #[test]
    fn a_cancelled_order_stops_or_never_begins() {
        let (mut orders, offered) = (Orders::default(), [set("system"), set("mail")]);
        orders.take(backup("j1", "system"), &offered);
        orders.take(backup("j2", "mail"), &offered);
        assert_eq!(orders.take(order("j1", What::Cancel), &offered), [Action::Stop]);
        let actions = orders.take(order("j2", What::Cancel), &offered);
        assert!(matches!(&actions[..], [Action::Report(report)] if report.ended == Ended::Failed), "{actions:?}");
        assert_eq!(orders.ended(done("j1")), [Action::Report(done("j1"))]);
        assert_eq!(orders.take(order("j9", What::Cancel), &offered), []);
    }

    #[test]
    fn an_agent_that_stops_gives_every_order_back() {
        let (mut orders, offered) = (Orders::default(), [set("system"), set("mail")]);
        orders.take(backup("j1", "system"), &offered);
        orders.take(backup("j2", "mail"), &offered);
        let actions = orders.stop();
        assert!(matches!(&actions[..], [Action::Report(report), Action::Stop] if report.job.as_str() == "j2"));
    }
}
