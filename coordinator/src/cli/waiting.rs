//! Waiting for jobs: until they end, until the operator presses Ctrl-C, or until the time is over. They continue in any
//! case, and the command says so.

use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use lifeboat_proto::v1::job_event::Event;
use std::collections::BTreeMap;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;
use tonic::Streaming;

type End = Pin<Box<dyn Future<Output = String> + Send>>;

/// What a command waits for.
pub struct Waiting {
    interrupted: End,
    late: End,
    /// What each job does that has not ended, by name.
    open: BTreeMap<String, String>,
}

impl Waiting {
    /// Waits no longer than `timeout`, if there is one.
    pub fn new(timeout: Option<Duration>) -> Self {
        let interrupted = async {
            match tokio::signal::ctrl_c().await {
                Ok(()) => "interrupted".to_owned(),
                Err(_) => pending().await,
            }
        };
        let late = async move {
            let Some(timeout) = timeout else { return pending().await };
            tokio::time::sleep(timeout).await;
            format!("not ended after {} s", timeout.as_secs())
        };
        Self { interrupted: Box::pin(interrupted), late: Box::pin(late), open: BTreeMap::new() }
    }

    /// The next event; none after the last one.
    pub async fn next(&mut self, events: &mut Streaming<v1::JobEvent>) -> Result<Option<v1::JobEvent>, Failure> {
        let event = tokio::select! {
            event = events.message() => event.map_err(|status| self.ended(&format!("lost the connection to the coordinator: {}", status.message())))?,
            why = &mut self.interrupted => return Err(self.ended(&why)),
            why = &mut self.late => return Err(self.ended(&why)),
        };
        match event.as_ref().and_then(|event| event.event.as_ref()) {
            Some(Event::Accepted(job)) => drop(self.open.insert(job.job.clone(), what(job))),
            Some(Event::Ended(ended)) => drop(self.open.remove(&ended.job)),
            Some(Event::Progress(_)) | None => {}
        }
        Ok(event)
    }

    /// The end of waiting, not of the jobs.
    fn ended(&self, why: &str) -> Failure {
        let jobs: Vec<_> = self.open.iter().map(|(job, what)| format!("{what} continues as job {job}")).collect();
        let message = match jobs.is_empty() {
            true => why.to_owned(),
            false => format!("{why}; {}", jobs.join(", ")),
        };
        let failure = Failure::new(ErrorClass::Busy, message);
        match self.open.keys().next() {
            Some(job) => {
                failure.hint(format!("`lifeboat job follow {job}` waits for it, `lifeboat job cancel {job}` ends it"))
            }
            None => failure,
        }
    }
}

/// What a job does.
pub fn what(job: &v1::Job) -> String {
    match job.source_set.as_str() {
        "" => format!("restore to {} on {}", job.directory, job.host_name),
        set => format!("backup of {}:{set}", job.host_name),
    }
}

/// Why a job has not begun.
pub fn why_queued(job: &v1::Job) -> String {
    match job.host_connected {
        true => format!("queued: {} is busy with another job, and does this one after it", job.host_name),
        false => format!("queued: {} is not connected; the job starts when its agent connects", job.host_name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stops_waiting_is_told_that_the_job_continues_and_how_to_end_it() {
        let job =
            v1::Job { job: "6a-1".into(), host_name: "web1".into(), source_set: "data".into(), ..v1::Job::default() };
        let open = BTreeMap::from([(job.job.clone(), what(&job))]);
        let waiting = Waiting { open, ..Waiting::new(None) };
        let failure = waiting.ended("interrupted");
        assert_eq!(failure.message, "interrupted; backup of web1:data continues as job 6a-1");
        assert!(failure.hint.contains("lifeboat job follow 6a-1") && failure.hint.contains("lifeboat job cancel 6a-1"));
    }

    #[test]
    fn a_queued_job_says_whether_its_host_is_away_or_busy() {
        let job = |host_connected| v1::Job { host_name: "web1".into(), host_connected, ..v1::Job::default() };
        assert!(why_queued(&job(false)).contains("web1 is not connected"));
        assert!(why_queued(&job(true)).contains("web1 is busy"));
    }
}
