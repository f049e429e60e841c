//! `lifeboat host list` and `lifeboat host show`: the last and next backup of each server, and what needs attention.

use super::output::{Output, Row, ago, counted, from_ns, moment, outcome_name, size, span};
use super::{Done, Global, admin};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use lifeboat_proto::convert::Ended;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::{self, JobState, SetState};
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// List servers with their last and next backup
    List,
    /// Show all that is known of one server
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its name or number
    host: String,
}

impl HostCommand {
    pub async fn run(self, global: &Global, out: &mut Output) -> Result<Done, Failure> {
        let config = global.config()?;
        let name = match &self {
            Self::List => String::new(),
            Self::Show(args) => args.host.clone(),
        };
        let listed = admin::list_hosts(&mut admin::connect(&config).await?, &name).await?;
        match self {
            Self::List => list(&listed, out),
            Self::Show(args) => {
                let unknown = || Failure::new(ErrorClass::NotFound, format!("there is no host {:?}", args.host));
                let host = listed.hosts.first().ok_or_else(|| unknown().hint("`lifeboat host list` shows them all"))?;
                show(host, &listed, out)
            }
        }
    }
}

/// A source set of a host, in a line.
#[derive(Serialize)]
struct HostRow {
    host: String,
    number: u32,
    site: String,
    source_set: Option<String>,
    state: &'static str,
    last: Option<Timestamp>,
    last_outcome: Option<&'static str>,
    last_message: Option<String>,
    last_attempt: Option<Timestamp>,
    next: Option<Timestamp>,
    overdue: bool,
    running: bool,
    queued: bool,
    connected: bool,
    last_seen: Option<Timestamp>,
    policy_problem: Option<String>,
    refused_agents: u64,
    diverged_batch: Option<u64>,
    clock_ahead_seconds: i64,
}

impl Row for HostRow {
    const HEADERS: &'static [&'static str] = &["HOST", "SET", "LAST BACKUP", "STATE", "NEXT", "AGENT"];

    fn cells(&self) -> Vec<String> {
        let now = Timestamp::now();
        vec![
            self.host.clone(),
            self.source_set.clone().unwrap_or_else(|| "–".into()),
            self.last.map_or_else(|| "never".to_owned(), |last| ago(last, now)),
            self.state.to_owned(),
            self.next(),
            self.agent(now),
        ]
    }
}

impl HostRow {
    fn next(&self) -> String {
        match self {
            Self { running: true, .. } => "running".to_owned(),
            Self { overdue: true, .. } => "overdue".to_owned(),
            Self { queued: true, .. } => "queued".to_owned(),
            Self { next, .. } => moment(*next),
        }
    }

    fn agent(&self, now: Timestamp) -> String {
        match (self.connected, self.last_seen) {
            (true, _) if self.refused_agents > 0 => "connected, clone refused".to_owned(),
            (true, _) => match clock(self.clock_ahead_seconds) {
                Some(clock) => format!("connected, clock {clock}"),
                None => "connected".to_owned(),
            },
            (false, Some(seen)) => format!("away {}", span(now.duration_since(seen).as_secs().unsigned_abs())),
            (false, None) => "never connected".to_owned(),
        }
    }
}

/// How a clock stands to this machine's, to the minute; none if it is not off.
fn clock(ahead_seconds: i64) -> Option<String> {
    let which = if ahead_seconds < 0 { "behind" } else { "ahead" };
    let minutes = (ahead_seconds.unsigned_abs() + 30) / 60;
    (minutes != 0).then(|| format!("{} {which}", span(minutes * 60)))
}

/// The name of the state of a source set.
fn state_name(state: SetState) -> &'static str {
    match state {
        SetState::Unspecified => "unknown",
        SetState::Complete => Ended::Complete.name(),
        SetState::Gaps => Ended::Gaps.name(),
        SetState::Suspect => Ended::Suspect.name(),
        SetState::Failed => Ended::Failed.name(),
        SetState::Cancelled => Ended::Cancelled.name(),
        SetState::Never => "never backed up",
        SetState::Overdue => "overdue",
        SetState::Stuck => "no progress",
        SetState::PolicyInvalid => "policy invalid",
        SetState::NotInPolicy => "not in policy",
    }
}

fn row(host: &v1::Host, set: Option<&v1::HostSourceSet>) -> HostRow {
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let job = set.map(v1::HostSourceSet::job_state);
    HostRow {
        host: host.name.clone(),
        number: host.number,
        site: host.site.clone(),
        source_set: set.map(|set| set.name.clone()),
        state: match set {
            Some(set) => state_name(set.state()),
            None if !host.policy_problem.is_empty() => state_name(SetState::PolicyInvalid),
            None => state_name(SetState::Never),
        },
        last: set.and_then(|set| set.last.as_ref()).and_then(|last| from_ns(last.committed_ns)),
        last_outcome: set.and_then(|set| outcome_name(set.last_outcome())),
        last_message: set.and_then(|set| some(&set.last_message)),
        last_attempt: set.and_then(|set| from_ns(set.last_attempt_ns)),
        next: set.and_then(|set| from_ns(set.next_due_ns)),
        overdue: set.is_some_and(|set| set.overdue),
        running: job == Some(JobState::Running),
        queued: job == Some(JobState::Queued),
        connected: host.connected,
        last_seen: from_ns(host.last_seen_ns),
        policy_problem: some(&host.policy_problem),
        refused_agents: host.refused_agents,
        diverged_batch: Some(host.diverged_batch).filter(|batch| *batch > 0),
        clock_ahead_seconds: host.clock_ahead_seconds,
    }
}

fn list(listed: &v1::ListHostsResponse, out: &mut Output) -> Result<Done, Failure> {
    let rows: Vec<_> = listed
        .hosts
        .iter()
        .flat_map(|host| {
            let none = host.source_sets.is_empty().then(|| row(host, None));
            host.source_sets.iter().map(|set| row(host, Some(set))).chain(none)
        })
        .collect();
    out.table(&rows)?;
    if rows.is_empty() {
        out.say("No server is enrolled yet; `lifeboat token create` creates a token for one.");
    }
    listed.hosts.iter().filter_map(diverged).for_each(|line| out.say(line));
    listed.hosts.iter().filter_map(refused_agents).for_each(|line| out.say(line));
    listed.refused_enrolments.iter().map(refused_enrolment).for_each(|line| out.say(line));
    Ok(Done::Whole)
}

/// That a host knows a later state of the repository; none if it does not.
fn diverged(host: &v1::Host) -> Option<String> {
    let (name, batch) = (&host.name, host.diverged_batch);
    (batch > 0).then(|| {
        format!(
            "{name}: holds the head of journal batch {batch}, which is not an ancestor of this journal: was the \
             repository restored from an older copy? see `lifeboat journal accept`"
        )
    })
}

/// That agents of a clone were refused; none if there were none.
fn refused_agents(host: &v1::Host) -> Option<String> {
    let last = from_ns(host.agent_refused_ns).filter(|_| host.refused_agents > 0)?;
    let (count, when) = (counted(host.refused_agents, "time", "times"), ago(last, Timestamp::now()));
    let name = &host.name;
    Some(format!("{name}: another agent with its identity was refused {count}, last {when}: was the server cloned?"))
}

fn refused_enrolment(refused: &v1::RefusedEnrolment) -> String {
    let v1::RefusedEnrolment { host_name, token_number, reason, last_ns, count } = refused;
    let when = from_ns(*last_ns).map(|last| ago(last, Timestamp::now())).unwrap_or_default();
    let count = counted(*count, "time", "times");
    format!("enrolment of {host_name} refused {count} with token {token_number}, last {when}: {reason}")
}

fn show(host: &v1::Host, listed: &v1::ListHostsResponse, out: &mut Output) -> Result<Done, Failure> {
    if out.is_json() {
        out.table(&host.source_sets.iter().map(|set| row(host, Some(set))).collect::<Vec<_>>())?;
        return Ok(Done::Whole);
    }
    let clock = clock(host.clock_ahead_seconds).map(|clock| format!("{clock}; set it right"));
    let enrolments = listed.refused_enrolments.iter().filter(|refused| refused.host_name == host.name);
    let mut lines = vec![
        ("host", format!("{} (number {})", host.name, host.number)),
        ("site", host.site.clone()),
        ("enrolled", moment(from_ns(host.enrolled_ns))),
        ("agent", format!("{} {}", host.agent_version, row(host, None).agent(Timestamp::now())).trim().to_owned()),
        ("last seen", moment(from_ns(host.last_seen_ns))),
        ("policy", host.policy_problem.clone()),
        ("clone", refused_agents(host).unwrap_or_default()),
        ("history", diverged(host).unwrap_or_default()),
        ("fingerprint", host.fingerprint.clone()),
        ("clock", clock.unwrap_or_default()),
        ("certificate until", moment(from_ns(host.certificate_ends_ns))),
    ];
    lines.extend(enrolments.map(|refused| ("refused", refused_enrolment(refused))));
    for (what, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        out.line(format_args!("{what:<18} {value}"))?;
    }
    host.source_sets.iter().try_for_each(|set| show_set(host, set, out))?;
    Ok(Done::Whole)
}

fn show_set(host: &v1::Host, set: &v1::HostSourceSet, out: &mut Output) -> Result<(), Failure> {
    let row = row(host, Some(set));
    out.line(format_args!("\nsource set {}: {}, {} snapshots", set.name, row.state, set.snapshot_count))?;
    match &set.last {
        None => out.line("  last backup     never")?,
        Some(last) => {
            let (bytes, when) = (size(last.content_bytes), moment(row.last));
            let gaps = counted(last.gap_count, "gap", "gaps");
            out.line(format_args!("  last backup     {when}, {} files, {bytes}, {gaps}", last.files))?;
        }
    }
    let attempt = moment(from_ns(set.last_attempt_ns));
    out.line(format_args!("  last attempt    {attempt}, {}", row.last_outcome.unwrap_or("none yet")))?;
    if let Some(message) = &row.last_message {
        out.line(format_args!("                  {message}"))?;
    }
    if !set.running_job.is_empty() {
        let state = if row.running { "running" } else { "queued" };
        out.line(format_args!("  job             {}, {state}", set.running_job))?;
    }
    let overdue = if row.overdue { ", overdue" } else { "" };
    out.line(format_args!("  next            {}{overdue}", moment(row.next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_78_a_dead_host_with_a_waiting_order_is_not_running_and_a_missed_slot_is_marked() {
        let mut host = v1::Host { last_seen_ns: 1, ..v1::Host::default() };
        let mut set = v1::HostSourceSet { next_due_ns: 1, running_job: "6a-1".into(), ..Default::default() };
        set.set_job_state(JobState::Queued);
        assert_eq!(row(&host, Some(&set)).next(), "queued");
        set.overdue = true;
        assert_eq!(row(&host, Some(&set)).next(), "overdue");
        assert!(row(&host, Some(&set)).agent(Timestamp::UNIX_EPOCH).starts_with("away "));
        set.set_job_state(JobState::Running);
        assert_eq!(row(&host, Some(&set)).next(), "running");
        host.connected = true;
        assert_eq!(row(&host, Some(&set)).agent(Timestamp::UNIX_EPOCH), "connected");
        assert_eq!(row(&host, None).state, "never backed up");
        host.policy_problem = "line 3".into();
        assert_eq!(row(&host, None).state, "policy invalid");
    }
}
