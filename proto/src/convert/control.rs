//! The standing conversation: orders down, reports up.

use super::*;
use lifeboat_format::id::SnapshotId;
use prost::Message;

/// What a host's own policy offers for backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// The source sets.
    pub source_sets: Vec<SourceSetName>,
    /// Why the policy cannot be used; empty if it can.
    pub policy_problem: String,
}

impl TryFrom<v1::Offer> for Offer {
    type Error = ConvertError;

    fn try_from(message: v1::Offer) -> Result<Self, ConvertError> {
        at_most("source_sets", message.source_sets.len(), limits::SOURCE_SETS_MAX, "source sets")?;
        Ok(Self {
            source_sets: message.source_sets.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
            policy_problem: shown_text("policy_problem", &message.policy_problem)?,
        })
    }
}

impl From<Offer> for v1::Offer {
    fn from(offer: Offer) -> Self {
        let source_sets = offer.source_sets.iter().map(ToString::to_string).collect();
        Self { source_sets, policy_problem: offer.policy_problem }
    }
}

/// A backup that failed and that no order had asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFailure {
    /// The source set.
    pub source_set: SourceSetName,
    /// What went wrong and what to do.
    pub message: String,
}

impl TryFrom<v1::ReportFailureRequest> for BackupFailure {
    type Error = ConvertError;

    fn try_from(message: v1::ReportFailureRequest) -> Result<Self, ConvertError> {
        Ok(Self { source_set: message.source_set.parse()?, message: shown_text("message", &message.message)? })
    }
}

/// What an agent says of itself when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The agent's release.
    pub agent_version: String,
    /// Random, one a start of the agent: tells a reconnect from a second machine with the same identity.
    pub instance: [u8; 16],
    /// What the local policy offers.
    pub offer: Offer,
    /// The newest journal head that it saw.
    pub last_head: Option<UncheckedHead>,
    /// The agent's clock: Unix time in nanoseconds.
    pub wall_time_ns: i64,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobReport {
    /// Which.
    pub job: JobName,
    /// How.
    pub ended: Ended,
    /// The snapshot, unless it failed.
    pub snapshot: Option<SnapshotId>,
    /// What went wrong and what to do; empty if nothing.
    pub message: String,
    /// The first gaps, escaped.
    pub gaps: Vec<String>,
    /// How many there are in all.
    pub gap_count: u64,
    /// What a restore did; none for other jobs.
    pub restored: Option<Box<v1::RestoreEnded>>,
}

impl JobReport {
    /// An end without a snapshot, or without a restore.
    pub fn failed(job: JobName, message: impl Into<String>) -> Self {
        let (message, gaps) = (message.into(), Vec::new());
        Self { job, ended: Ended::Failed, snapshot: None, message, gaps, gap_count: 0, restored: None }
    }

    /// As it is sent, to be kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        v1::JobEnded::from(self.clone()).encode_to_vec()
    }

    /// Reads what was kept.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ConvertError> {
        let message = v1::JobEnded::decode(bytes).map_err(|error| ConvertError::new("report", error.to_string()))?;
        message.try_into()
    }
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub job: JobName,
    /// Entries seen so far.
    pub entries: u64,
    /// Bytes of content read so far.
    pub read_bytes: u64,
    /// Bytes sent so far, sealed; of a restore, bytes fetched.
    pub sent_bytes: u64,
    /// Of a restore: bytes that were there before.
    pub reused_bytes: u64,
}

/// What an agent reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// First of all.
    Hello(Hello),
    /// Still there, with its clock in nanoseconds.
    Alive(i64),
    /// How far a job is.
    Progress(Progress),
    /// A job is over.
    Ended(JobReport),
    /// The local policy offers something else than before.
    Offer(Offer),
}

impl TryFrom<v1::AgentReport> for Report {
    type Error = ConvertError;

    fn try_from(message: v1::AgentReport) -> Result<Self, ConvertError> {
        use v1::agent_report::Report as Wire;
        Ok(match required("report", message.report)? {
            Wire::Hello(hello) => Self::Hello(hello.try_into()?),
            Wire::Alive(alive) => Self::Alive(alive.wall_time_ns),
            Wire::Progress(progress) => Self::Progress(Progress {
                job: progress.job.parse()?,
                entries: progress.entries,
                read_bytes: progress.read_bytes,
                sent_bytes: progress.sent_bytes,
                reused_bytes: progress.reused_bytes,
            }),
            Wire::Ended(ended) => Self::Ended(ended.try_into()?),
            Wire::Offer(offer) => Self::Offer(offer.try_into()?),
        })
    }
}

impl From<Report> for v1::AgentReport {
    fn from(report: Report) -> Self {
        use v1::agent_report::Report as Wire;
        let report = match report {
            Report::Hello(hello) => Wire::Hello(hello.into()),
            Report::Alive(wall_time_ns) => Wire::Alive(v1::Alive { wall_time_ns }),
            Report::Progress(progress) => Wire::Progress(progress.into()),
            Report::Ended(ended) => Wire::Ended(ended.into()),
            Report::Offer(offer) => Wire::Offer(offer.into()),
        };
        Self { report: Some(report) }
    }
}

impl From<Progress> for v1::JobProgress {
    fn from(progress: Progress) -> Self {
        let Progress { job, entries, read_bytes, sent_bytes, reused_bytes } = progress;
        Self { job: job.to_string(), entries, read_bytes, sent_bytes, reused_bytes }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = ConvertError;

    fn try_from(message: v1::Hello) -> Result<Self, ConvertError> {
        let v1::Hello { source_sets, policy_problem, .. } = message;
        Ok(Self {
            agent_version: shown_text("agent_version", &message.agent_version)?,
            instance: array("instance", &message.instance)?,
            offer: v1::Offer { source_sets, policy_problem }.try_into()?,
            last_head: optional_head(message.last_head)?,
            wall_time_ns: message.wall_time_ns,
        })
    }
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        let v1::Offer { source_sets, policy_problem } = hello.offer.into();
        Self {
            agent_version: hello.agent_version,
            instance: Bytes::copy_from_slice(&hello.instance),
            source_sets,
            last_head: hello.last_head.map(Into::into),
            wall_time_ns: hello.wall_time_ns,
            policy_problem,
        }
    }
}

impl TryFrom<v1::JobEnded> for JobReport {
    type Error = ConvertError;

    fn try_from(message: v1::JobEnded) -> Result<Self, ConvertError> {
        at_most("gaps", message.gaps.len(), limits::GAPS_NAMED_MAX, "gaps")?;
        Ok(Self {
            job: message.job.parse()?,
            ended: message.outcome().try_into()?,
            snapshot: optional_array("snapshot", &message.snapshot)?.map(SnapshotId::from_bytes),
            message: shown_text("message", &message.message)?,
            gaps: message.gaps.iter().map(|gap| shown_text("gaps", gap)).collect::<Result<_, _>>()?,
            gap_count: message.gap_count,
            restored: message.restored.map(checked).transpose()?.map(Box::new),
        })
    }
}

fn checked(restored: v1::RestoreEnded) -> Result<v1::RestoreEnded, ConvertError> {
    at_most("damaged", restored.damaged.len(), limits::GAPS_NAMED_MAX, "paths")?;
    for path in &restored.damaged {
        at_most("damaged", path.len(), limits::TEXT_BYTES_MAX, "bytes")?;
    }
    let plan = restored.plan.as_ref();
    let protected = [&restored.protected[..], plan.map_or(&[], |plan| &plan.protected)];
    for paths in protected {
        at_most("protected", paths.len(), limits::GAPS_NAMED_MAX, "paths")?;
        paths.iter().try_for_each(|path| at_most("protected", path.len(), limits::TEXT_BYTES_MAX, "bytes"))?;
    }
    for kept in restored.kept_back.iter().chain(plan.and_then(|plan| plan.kept_back.as_ref())) {
        at_most("kept_back", kept.named.len(), limits::GAPS_NAMED_MAX, "directories")?;
        kept.named.iter().try_for_each(|named| shown_text("kept_back", named).map(drop))?;
    }
    Ok(v1::RestoreEnded { directory: shown_text("directory", &restored.directory)?, ..restored })
}

impl From<JobReport> for v1::JobEnded {
    fn from(report: JobReport) -> Self {
        Self {
            job: report.job.to_string(),
            outcome: v1::Outcome::from(report.ended).into(),
            snapshot: report.snapshot.map(|id| Bytes::copy_from_slice(id.as_bytes())).unwrap_or_default(),
            message: report.message,
            gaps: report.gaps,
            gap_count: report.gap_count,
            restored: report.restored.map(|restored| *restored),
        }
    }
}

/// What a coordinator may ask of an agent. It names what to do and never how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOrder {
    /// Names the job in reports.
    pub job: JobName,
    /// What to do.
    pub what: What,
}

/// What an order is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Back up this set of the host's own policy.
    Backup(SourceSetName),
    /// Restore what operators signed.
    Restore {
        /// The grant, with the operators' order for it.
        grant: Bytes,
        /// The terms of the restore.
        terms: Bytes,
    },
    /// Stop the job that the order names.
    Cancel,
}

impl TryFrom<v1::Order> for JobOrder {
    type Error = ConvertError;

    fn try_from(message: v1::Order) -> Result<Self, ConvertError> {
        let what = match required("order", message.order)? {
            v1::order::Order::Backup(backup) => What::Backup(backup.source_set.parse()?),
            v1::order::Order::Restore(restore) => What::Restore {
                grant: some_bytes("grant", restore.grant, limits::GRANT_BYTES_MAX)?,
                terms: some_bytes("terms", restore.terms, limits::TERMS_BYTES_MAX)?,
            },
            v1::order::Order::Cancel(v1::CancelOrder {}) => What::Cancel,
        };
        Ok(Self { job: message.job.parse()?, what })
    }
}

impl From<JobOrder> for v1::Order {
    fn from(order: JobOrder) -> Self {
        let what = match order.what {
            What::Backup(set) => v1::order::Order::Backup(v1::BackupOrder { source_set: set.to_string() }),
            What::Restore { grant, terms } => v1::order::Order::Restore(v1::RestoreOrder { grant, terms }),
            What::Cancel => v1::order::Order::Cancel(v1::CancelOrder {}),
        };
        Self { job: order.job.to_string(), order: Some(what) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back() {
        let ended = Report::Ended(JobReport {
            job: "j-1".parse().unwrap(),
            ended: Ended::Gaps,
            snapshot: Some(SnapshotId::from_bytes([4; 32])),
            message: String::new(),
            gaps: vec!["/etc/x: vanished".to_owned()],
            gap_count: 9,
            restored: Some(Box::new(v1::RestoreEnded { directory: "/srv".into(), entries: 3, ..Default::default() })),
        });
        assert_eq!(Report::try_from(v1::AgentReport::from(ended.clone())), Ok(ended));
        let offer = Offer { source_sets: vec!["mail".parse().unwrap()], policy_problem: "line 3: no such key".into() };
        let offer = Report::Offer(offer);
        assert_eq!(Report::try_from(v1::AgentReport::from(offer.clone())), Ok(offer));
    }

    #[test]
    fn every_outcome_survives_the_wire_and_has_a_name_of_its_own() {
        use Ended::{Cancelled, Checkpoint, Complete, Failed, Gaps, Suspect};
        let all = [Complete, Gaps, Failed, Checkpoint, Suspect, Cancelled];
        assert!(all.iter().all(|ended| Ended::try_from(v1::Outcome::from(*ended)) == Ok(*ended)));
        let names: std::collections::BTreeSet<_> = all.iter().map(|ended| ended.name()).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn inv_54_a_report_of_a_restore_shows_nothing_that_acts_on_a_terminal() {
        let restored = v1::RestoreEnded { directory: "/srv\u{1b}[2J".into(), ..Default::default() };
        let sent = JobReport { restored: Some(Box::new(restored)), ..JobReport::failed("j".parse().unwrap(), "") };
        let Report::Ended(read) = Report::try_from(v1::AgentReport::from(Report::Ended(sent))).unwrap() else {
            panic!()
        };
        assert_eq!(read.restored.unwrap().directory, "/srv\u{fffd}[2J");
    }

    #[test]
    fn an_order_without_a_set_that_can_be_named_is_refused() {
        let order = JobOrder { job: "j".parse().unwrap(), what: What::Backup("mail".parse().unwrap()) };
        let mut message = v1::Order::from(order);
        message.order = Some(v1::order::Order::Backup(v1::BackupOrder { source_set: "../etc".to_owned() }));
        assert_eq!(JobOrder::try_from(message).unwrap_err().field, "source_set");
    }
}
