//! The proof with which an enrolment ends: a small backup goes up, and the coordinator reads it back and opens it.
//!
//! What goes up are the policy and the trust file, by the same pipeline as every backup, as a checkpoint of the policy's
//! first source set: it is never `latest`, and the first whole backup goes on from it. What the policy never gives is not
//! given here either.

use crate::backup::{self, Plan, Surroundings};
use crate::clock::SystemClock;
use crate::connection::uplink::GrpcUplink;
use crate::connection::{ANSWER_TIME, backup_client, explain, explain_transport};
use crate::daemon::Task;
use crate::error::AgentError;
use crate::host::{Host, Places};
use crate::job::proof_plan;
use crate::policy::ByteRate;
use lifeboat_proto::status::ErrorClass;
use lifeboat_proto::v1;
use tokio::runtime::Handle;
use tonic::Request;

/// What was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Entries that went up, were read back, and opened.
    pub entries: u64,
    /// Bytes in their files.
    pub content_bytes: u64,
}

/// Proves that backups of this host can be read back. None if its policy has no source set yet.
///
/// # Errors
/// The host is enrolled all the same, and the hint says so. Blocks; not to be called from a thread of the runtime.
pub fn prove(places: &Places, runtime: &Handle) -> Result<Option<Proof>, AgentError> {
    let host = Host::open(places)?;
    let _lock = host.state.lock()?;
    let policy = host.policy()?;
    let Some(name) = policy.sources.keys().next() else { return Ok(None) };
    let plan = proof_plan(&host, &policy, name)?;
    go_round(&host, &plan, policy.limits.upload, runtime).map(Some).map_err(|error| {
        let hint = match error.hint.is_empty() {
            true => "`lifeboat-agent backup` tries a whole one; nothing has to be enrolled anew".to_owned(),
            false => format!("{}; then try `lifeboat-agent backup`, nothing has to be enrolled anew", error.hint),
        };
        AgentError::because(error.class, "this server is enrolled, but its trial backup did not prove itself", error)
            .hint(hint)
    })
}

fn go_round(host: &Host, plan: &Plan, rate: Option<ByteRate>, runtime: &Handle) -> Result<Proof, AgentError> {
    let dialer = host.dialer().map_err(|error| error.explain())?;
    let channel = runtime.block_on(dialer.connect()).map_err(|error| explain_transport(&error))?;
    let (clock, task) = (SystemClock::new(), Task::default());
    let uplink = GrpcUplink::new(channel.clone(), runtime.clone(), host.heads.clone(), host.instance, rate);
    let around = Surroundings { uplink: &uplink, clock: &clock, progress: &task.progress, stop: &task.stop };
    let sent = backup::run(plan, &around)
        .map_err(|error| AgentError::because(ErrorClass::Internal, "it did not become a snapshot", error))?;
    let snapshot = bytes::Bytes::copy_from_slice(sent.snapshot.as_bytes());
    let mut request = Request::new(v1::ProveRequest { snapshot });
    request.set_timeout(ANSWER_TIME);
    let read = runtime.block_on(backup_client(channel).prove(request)).map_err(explain)?.into_inner();
    let proof = Proof { entries: read.entries, content_bytes: read.content_bytes };
    match proof == (Proof { entries: sent.counts.entries, content_bytes: sent.counts.content_bytes }) {
        true => Ok(proof),
        false => Err(AgentError::new(ErrorClass::Damaged, format!("{:?} went up, {proof:?} came back", sent.counts))),
    }
}
