//! A night with one host, under a clock that moves when told.

use super::*;
use crate::clock::ManualClock;
use jiff::tz::TimeZone;
use lifeboat_format::id::RepositoryId;
use lifeboat_proto::convert::JobName;
use lifeboat_proto::convert::control::{JobReport, Offer, What};

const HOST: HostId = HostId::new(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Remembers what ended last.
struct OneHost(Mutex<(bool, History)>);

impl Past for OneHost {
    fn takes_part(&self, _: HostId) -> bool {
        self.0.lock().unwrap().0
    }

    fn history(&self, _: HostId, _: &SourceSetName, failures: u32) -> Option<History> {
        let (takes_part, history) = *self.0.lock().unwrap();
        let counted = match history {
            History::Failed { ended, .. } => History::Failed { ended, failures },
            history => history,
        };
        takes_part.then_some(counted)
    }

    fn turns(&self, host: HostId) -> Turns {
        let window = "01:00-05:00".parse().unwrap();
        Turns::new(&RepositoryId::from_bytes([1; 16]), host, window, TimeZone::UTC)
    }

    fn record(&self, ended: &EndedJob) {
        let at = ended.ending.ended;
        self.0.lock().unwrap().1 = match ended.ending.result.ended {
            Ended::Failed => History::Failed { ended: at, failures: 1 },
            _ => History::Succeeded { ended: at },
        };
    }
}

struct Night {
    clock: Arc<ManualClock>,
    dispatch: Dispatch,
    past: OneHost,
    stream: StreamId,
    orders: mpsc::Receiver<Down>,
}

impl Night {
    /// A host that was just enrolled connects at noon.
    fn new() -> Self {
        let noon: Timestamp = "2026-11-01T12:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::at(noon.as_nanosecond() as i64));
        let dispatch = Dispatch::new(clock.clone());
        let hello = Hello {
            agent_version: "0".into(),
            instance: [1; 16],
            offer: Offer { source_sets: vec!["system".parse().unwrap()], ..Offer::default() },
            last_head: None,
            wall_time_ns: clock.now_ns(),
        };
        let (stream, orders) = dispatch.connect(HOST, hello).unwrap();
        let past = OneHost(Mutex::new((true, History::Never { enrolled: noon })));
        Self { clock, dispatch, past, stream, orders }
    }

    /// Looks once, and says which job the host was told.
    fn look(&mut self) -> Option<JobName> {
        self.dispatch.look(&self.past);
        match self.orders.try_recv() {
            Ok(Down::Order(order)) => {
                assert!(matches!(order.what, What::Backup(_)));
                Some(order.job)
            }
            _ => None,
        }
    }

    fn end(&mut self, job: JobName, ended: Ended) {
        let report = JobReport { ended, ..JobReport::failed(job, "") };
        self.dispatch.report(self.stream, Report::Ended(report));
    }

    /// The hours until the host is told something.
    fn hours_until_told(&mut self) -> (u64, JobName) {
        for hours in 1..100 {
            self.clock.advance(HOUR);
            self.dispatch.report(self.stream, Report::Alive(0));
            if let Some(job) = self.look() {
                return (hours, job);
            }
        }
        panic!("never told");
    }
}

#[test]
fn a_new_host_is_backed_up_at_once_and_then_once_a_night() {
    let mut night = Night::new();
    let first = night.look().expect("the first backup starts by itself");
    assert_eq!(night.look(), None, "it is under way");
    night.end(first, Ended::Complete);
    assert_eq!(night.look(), None, "it is done");
    let (hours, second) = night.hours_until_told();
    assert!((13..=17).contains(&hours), "between one and five in the night, not after {hours} hours");
    night.end(second, Ended::Complete);
    let (hours, _) = night.hours_until_told();
    assert!((23..=25).contains(&hours), "{hours}");
}

#[test]
fn a_backup_that_failed_is_tried_again_and_later_each_time() {
    let mut night = Night::new();
    let mut waited = Vec::new();
    let mut job = night.look().unwrap();
    for _ in 0..3 {
        night.end(job, Ended::Failed);
        let mut minutes = 0;
        job = loop {
            if let Some(job) = night.look() {
                break job;
            }
            night.clock.advance(Duration::from_secs(60));
            minutes += 1;
        };
        waited.push(minutes);
    }
    assert_eq!(waited, [10, 30, 60]);
}

#[test]
fn inv_51_a_revoked_host_is_told_nothing_and_cut_off() {
    let mut night = Night::new();
    night.past.0.lock().unwrap().0 = false;
    assert_eq!(night.look(), None);
    assert_eq!(night.dispatch.connection(HOST), None);
}
