//! `lifeboat host list` and `lifeboat host show`: which servers are safe, since when, and what is next.

use super::output::{Output, Row, ago, from_ns, moment, outcome_name, size, span};
use super::{Done, Global, admin};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
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
        let request = v1::ListHostsRequest { name };
        let hosts = admin::connect(&config).await?.list_hosts(request).await?.into_inner().hosts;
        match self {
            Self::List => list(&hosts, out),
            Self::Show(args) => {
                let unknown = || Failure::new(ErrorClass::NotFound, format!("there is no host {:?}", args.host));
                let host = hosts.first().ok_or_else(|| unknown().hint("`lifeboat host list` shows them all"))?;
                show(host, out)
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
    last: Option<Timestamp>,
    last_outcome: Option<&'static str>,
    last_message: Option<String>,
    next: Option<Timestamp>,
    running: bool,
    connected: bool,
    clock_ahead_seconds: i64,
}

impl Row for HostRow {
    const HEADERS: &'static [&'static str] = &["HOST", "SET", "LAST BACKUP", "", "LAST ATTEMPT", "NEXT", "AGENT"];

    fn cells(&self) -> Vec<String> {
        let next = if self.running { "running".to_owned() } else { moment(self.next) };
        vec![
            self.host.clone(),
            self.source_set.clone().unwrap_or_else(|| "–".into()),
            moment(self.last),
            self.last.map(|last| ago(last, Timestamp::now())).unwrap_or_default(),
            self.last_outcome.unwrap_or("none yet").to_owned(),
            next,
            match clock(self.clock_ahead_seconds) {
                Some(clock) => format!("connected, clock {clock}"),
                None => if self.connected { "connected" } else { "away" }.to_owned(),
            },
        ]
    }
}

/// How a clock stands to this machine's, to the minute; none if it is not off.
fn clock(ahead_seconds: i64) -> Option<String> {
    let which = if ahead_seconds < 0 { "behind" } else { "ahead" };
    let minutes = (ahead_seconds.unsigned_abs() + 30) / 60;
    (minutes != 0).then(|| format!("{} {which}", span(minutes * 60)))
}

fn row(host: &v1::Host, set: Option<&v1::HostSourceSet>) -> HostRow {
    HostRow {
        host: host.name.clone(),
        number: host.number,
        site: host.site.clone(),
        source_set: set.map(|set| set.name.clone()),
        last: set.and_then(|set| set.last.as_ref()).and_then(|last| from_ns(last.committed_ns)),
        last_outcome: set.and_then(|set| outcome_name(set.last_outcome())),
        last_message: set.map(|set| set.last_message.clone()).filter(|message| !message.is_empty()),
        next: set.and_then(|set| from_ns(set.next_due_ns)),
        running: set.is_some_and(|set| !set.running_job.is_empty()),
        connected: host.connected,
        clock_ahead_seconds: host.clock_ahead_seconds,
    }
}

fn list(hosts: &[v1::Host], out: &mut Output) -> Result<Done, Failure> {
    let rows: Vec<_> = hosts
        .iter()
        .flat_map(|host| {
            let none = host.source_sets.is_empty().then(|| row(host, None));
            host.source_sets.iter().map(|set| row(host, Some(set))).chain(none)
        })
        .collect();
    out.table(&rows)?;
    if rows.is_empty() {
        out.say("No server is enrolled yet; `lifeboat token create` lets one in.");
    }
    Ok(Done::Whole)
}

fn show(host: &v1::Host, out: &mut Output) -> Result<Done, Failure> {
    if out.is_json() {
        out.table(&host.source_sets.iter().map(|set| row(host, Some(set))).collect::<Vec<_>>())?;
        return Ok(Done::Whole);
    }
    let seen = if host.connected { "connected".to_owned() } else { moment(from_ns(host.last_seen_ns)) };
    let lines = [
        ("host", format!("{} (number {})", host.name, host.number)),
        ("site", host.site.clone()),
        ("enrolled", moment(from_ns(host.enrolled_ns))),
        ("agent", format!("{} {}", host.agent_version, seen).trim().to_owned()),
        ("fingerprint", host.fingerprint.clone()),
        ("clock", clock(host.clock_ahead_seconds).map(|clock| format!("{clock}; set it right")).unwrap_or_default()),
        ("certificate until", moment(from_ns(host.certificate_ends_ns))),
    ];
    for (what, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        out.line(format_args!("{what:<18} {value}"))?;
    }
    host.source_sets.iter().try_for_each(|set| show_set(host, set, out))?;
    Ok(Done::Whole)
}

fn show_set(host: &v1::Host, set: &v1::HostSourceSet, out: &mut Output) -> Result<(), Failure> {
    let row = row(host, Some(set));
    out.line(format_args!("\nsource set {}: {} snapshots", set.name, set.snapshot_count))?;
    if let Some(last) = &set.last {
        let (bytes, when) = (size(last.content_bytes), moment(row.last));
        out.line(format_args!("  last backup     {when}, {} files, {bytes}, {} gaps", last.files, last.gap_count))?;
        if last.suspect {
            out.line(format_args!("  suspect         {}", last.suspect_reason))?;
        }
    }
    let attempt = moment(from_ns(set.last_attempt_ns));
    out.line(format_args!("  last attempt    {attempt}, {}", row.last_outcome.unwrap_or("none yet")))?;
    if let Some(message) = &row.last_message {
        out.line(format_args!("                  {message}"))?;
    }
    out.line(format_args!("  next            {}", moment(row.next)))
}
