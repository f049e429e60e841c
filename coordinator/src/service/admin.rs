//! `AdminService`: what root asks at the local socket.

use super::grant::SIGNATURES_NEEDED;
use super::lists::{job_state, nanoseconds};
use super::past::Catalogued;
use super::{Context, ReadOnly, blocking, failure};
use crate::authorize::{Object, Verb};
use crate::dispatch::board::{JobView, Work};
use crate::init::GROUP;
use crate::job::{JobResult, JobState};
use crate::repository::{Damage, VerifyProgress, gathered};
use crate::store::ObjectKind;
use bytes::Bytes;
use lifeboat_format::FormatError;
use lifeboat_format::grant::{SignedOrder, SignedTerms};
use lifeboat_format::id::{Digest, HostId, PackId, SnapshotId};
use lifeboat_format::journal::event::{Custody, GrantTarget, HostState};
use lifeboat_format::journal::{Event, Principal};
use lifeboat_format::token::TokenTerms;
use lifeboat_proto::convert::control::JobReport;
use lifeboat_proto::convert::{ConvertError, JobName, SourceSetName, array, some_bytes};
use lifeboat_proto::limits::{GRANT_BYTES_MAX, ORDERS_MAX, POLICY_READ_EVERY, TERMS_BYTES_MAX, TOKEN_SECONDS_MAX};
use lifeboat_proto::pages::pages;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use lifeboat_proto::v1::job_event::Event as Said;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Events that wait for a slow reader.
const EVENTS_WAITING: usize = 64;
/// Messages of a list that wait for a slow reader.
const PAGES_WAITING: usize = 4;
/// Damages that one message names, and snapshots that each of them names.
const DAMAGES_IN_EVENT: usize = 16;
const SNAPSHOTS_NAMED: usize = 1000;
const TOKEN_SECONDS_DEFAULT: u64 = 3_600;
const TOKEN_USES_MAX: u32 = 1_000;

/// The handlers.
#[derive(Debug, Clone)]
pub struct Administration(pub Arc<Context>);

type Events<T> = ReceiverStream<Result<T, Status>>;

impl Administration {
    fn past(&self) -> Catalogued {
        Catalogued(self.0.clone())
    }

    /// Names jobs, and follows them one after the other to their ends if that is wanted.
    fn events(&self, jobs: Vec<watch::Receiver<JobView>>, wait: bool) -> Events<v1::JobEvent> {
        let (events, stream) = mpsc::channel(EVENTS_WAITING);
        let context = self.0.clone();
        tokio::spawn(async move {
            for job in &jobs {
                // What is borrowed is given back first: the dispatch changes jobs under the lock that `job` takes.
                let view = job.borrow().clone();
                let accepted = Said::Accepted(context.job(view));
                let _ = events.send(Ok(v1::JobEvent { event: Some(accepted) })).await;
            }
            for job in jobs.into_iter().filter(|_| wait) {
                if follow(job, &events).await.is_err() {
                    break; // Nobody listens any more; the work goes on.
                }
            }
        });
        ReceiverStream::new(stream)
    }
}

/// Sends what `work` gives to its sender, until nobody reads any more; then its failure, if it has one.
fn streamed<M: Send + 'static>(
    work: impl FnOnce(&mut dyn FnMut(M) -> bool) -> Result<(), Failure> + Send + 'static,
) -> Response<Events<M>> {
    let (messages, stream) = mpsc::channel(PAGES_WAITING);
    tokio::spawn(async move {
        let told = messages.clone();
        if let Err(status) = blocking(move || work(&mut |page| told.blocking_send(Ok(page)).is_ok())).await {
            let _ = messages.send(Err(status)).await;
        }
    });
    Response::new(ReceiverStream::new(stream))
}

fn no_job(name: &JobName) -> Failure {
    let failure = Failure::new(ErrorClass::NotFound, format!("there is no job {name}, or it is over"));
    failure.hint("`lifeboat job list` shows those of the last hour")
}

#[tonic::async_trait]
impl v1::admin_service_server::AdminService for Administration {
    type ListHostsStream = Events<v1::ListHostsResponse>;
    type ListJobsStream = Events<v1::ListJobsResponse>;
    type ListSnapshotsStream = Events<v1::ListSnapshotsResponse>;
    type ListDivergencesStream = Events<v1::ListDivergencesResponse>;
    type GrantStream = Events<v1::GrantReply>;
    type BackupStream = Events<v1::JobEvent>;
    type RestoreStream = Events<v1::JobEvent>;
    type FollowJobStream = Events<v1::JobEvent>;
    type VerifyStream = Events<v1::VerifyEvent>;

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        self.0.allow(&request, Verb::CreateToken, Object::Repository)?;
        let asked = request.into_inner();
        let replaced = if asked.replace.is_empty() { None } else { Some(self.0.find_host(&asked.replace)?) };
        let terms = token_terms(asked, self.0.clock.now_ns())?;
        let (context, expires_ns) = (self.0.clone(), terms.expires_ns);
        let token = blocking(move || match replaced {
            Some(host) => context.create_token(context.terms_to_replace(host, terms)?, Some(host)),
            None => context.create_token(terms, None),
        });
        let token = token.await?;
        Ok(Response::new(v1::CreateTokenResponse { token, expires_ns }))
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<Self::ListHostsStream>, Status> {
        self.0.allow(&request, Verb::List, Object::Repository)?;
        let (this, name) = (self.clone(), request.into_inner().name);
        let mut refused = self.0.refused_enrolments();
        Ok(streamed(move |send| {
            pages(this.0.list_hosts(&name, &this.past()), |hosts| {
                send(v1::ListHostsResponse { hosts, refused_enrolments: std::mem::take(&mut refused) })
            });
            Ok(())
        }))
    }

    async fn backup(&self, request: Request<v1::BackupCommand>) -> Result<Response<Self::BackupStream>, Status> {
        self.0.allow(&request, Verb::OrderBackup, Object::Repository)?;
        let (context, command) = (self.0.clone(), request.into_inner());
        let wait = command.wait;
        context.wait_for_offer(&command).await;
        let jobs = blocking(move || context.order_backups(&command)).await?;
        Ok(Response::new(self.events(jobs, wait)))
    }

    async fn restore(&self, request: Request<v1::RestoreCommand>) -> Result<Response<Self::RestoreStream>, Status> {
        self.0.allow(&request, Verb::OrderRestore, Object::Repository)?;
        let (context, command) = (self.0.clone(), request.into_inner());
        let wait = command.wait;
        let job = blocking(move || context.order_restore(command)).await?;
        Ok(Response::new(self.events(vec![job], wait)))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<Self::ListJobsStream>, Status> {
        self.0.allow(&request, Verb::List, Object::Repository)?;
        let (context, host) = (self.0.clone(), request.into_inner().host);
        Ok(streamed(move |send| {
            let only = if host.is_empty() { None } else { Some(context.find_host(&host)?) };
            let jobs = context.dispatch.jobs().into_iter().filter(|view| only.is_none_or(|host| view.host == host));
            pages(jobs.map(|view| context.job(view)), |jobs| send(v1::ListJobsResponse { jobs }));
            Ok(())
        }))
    }

    async fn follow_job(
        &self,
        request: Request<v1::FollowJobRequest>,
    ) -> Result<Response<Self::FollowJobStream>, Status> {
        self.0.allow(&request, Verb::List, Object::Repository)?;
        let name: JobName = request.into_inner().job.parse().map_err(Status::from)?;
        let job = self.0.dispatch.follow(&name).ok_or_else(|| no_job(&name))?;
        Ok(Response::new(self.events(vec![job], true)))
    }

    async fn list_divergences(
        &self,
        request: Request<v1::ListDivergencesRequest>,
    ) -> Result<Response<Self::ListDivergencesStream>, Status> {
        self.0.allow(&request, Verb::List, Object::Repository)?;
        let context = self.0.clone();
        Ok(streamed(move |send| {
            let mut last_batch = context.coordinator.head().map_or(0, |head| head.head().number);
            let diverged: Vec<_> = context.catalog(|catalog| catalog.diverged().collect());
            let shown = diverged.into_iter().map(|(host, batch, hash)| v1::Divergence {
                host: context.host_name(host),
                batch,
                hash: hash.as_bytes().to_vec().into(),
            });
            pages(shown, |divergences| {
                send(v1::ListDivergencesResponse { divergences, last_batch: std::mem::take(&mut last_batch) })
            });
            Ok(())
        }))
    }

    async fn accept_history(
        &self,
        request: Request<v1::AcceptHistoryRequest>,
    ) -> Result<Response<v1::AcceptHistoryResponse>, Status> {
        self.0.allow(&request, Verb::AcceptHistory, Object::Repository)?;
        let mut given_up = Vec::new();
        for divergence in request.into_inner().divergences {
            given_up.push((divergence.batch, Digest::from_bytes(array("hash", &divergence.hash)?)));
        }
        let context = self.0.clone();
        blocking(move || {
            let act = |(number, hash)| {
                let (event, object) = (Event::HistoryAccepted { number, hash }, format!("instead of batch {number}"));
                context.act(Principal::LocalRoot, Verb::AcceptHistory.name(), &object, event)
            };
            context.record_all(given_up.into_iter().map(act).collect())
        })
        .await?;
        Ok(Response::new(v1::AcceptHistoryResponse {}))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        self.0.allow(&request, Verb::CancelJob, Object::Repository)?;
        let name: JobName = request.into_inner().job.parse().map_err(Status::from)?;
        let context = self.0.clone();
        blocking(move || {
            if !context.dispatch.cancel(&name) {
                return Err(no_job(&name));
            }
            context.record(Principal::LocalRoot, Verb::CancelJob.name(), &format!("job {name}"), Event::Nothing)
        })
        .await?;
        Ok(Response::new(v1::CancelJobResponse {}))
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListSnapshotsStream>, Status> {
        self.0.allow(&request, Verb::List, Object::Repository)?;
        let (context, asked) = (self.0.clone(), request.into_inner());
        let mut repository = Bytes::copy_from_slice(self.0.vault.repository.as_bytes());
        Ok(streamed(move |send| {
            pages(context.list_snapshots(&asked.host, &asked.source_set)?, |snapshots| {
                send(v1::ListSnapshotsResponse { snapshots, repository: std::mem::take(&mut repository) })
            });
            Ok(())
        }))
    }

    async fn grant(&self, request: Request<v1::GrantCommand>) -> Result<Response<Self::GrantStream>, Status> {
        self.0.allow(&request, Verb::Grant, Object::Repository)?;
        let orders = request.into_inner().orders;
        if !(1..=ORDERS_MAX).contains(&orders.len()) {
            let problem = format!("has {} orders, 1 to {ORDERS_MAX} are allowed", orders.len());
            return Err(ConvertError::new("orders", problem).into());
        }
        let read = |order| some_bytes("orders", order, GRANT_BYTES_MAX);
        let orders = orders.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let context = self.0.clone();
        Ok(streamed(move |send| context.grant_all(&orders, send)))
    }

    async fn get_condition(
        &self,
        request: Request<v1::GetConditionRequest>,
    ) -> Result<Response<v1::GetConditionResponse>, Status> {
        self.0.allow(&request, Verb::List, Object::Repository)?;
        let warning = self.0.read_only.as_ref().and_then(ReadOnly::warning).unwrap_or_default();
        Ok(Response::new(v1::GetConditionResponse { warning }))
    }

    async fn repository_stats(
        &self,
        request: Request<v1::RepositoryStatsRequest>,
    ) -> Result<Response<v1::RepositoryStatsResponse>, Status> {
        self.0.allow(&request, Verb::List, Object::Repository)?;
        let context = self.0.clone();
        Ok(Response::new(blocking(move || context.stats()).await?))
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        self.0.allow(&request, Verb::Verify, Object::Repository)?;
        let pack = read_pack(&request.into_inner().pack)?;
        let (events, stream) = mpsc::channel(EVENTS_WAITING);
        let context = self.0.clone();
        tokio::spawn(async move {
            let told = events.clone();
            if let Err(status) = blocking(move || context.verify(pack, &told)).await {
                let _ = events.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn token_terms(asked: v1::CreateTokenRequest, now_ns: i64) -> Result<TokenTerms, ConvertError> {
    let seconds = if asked.expires_seconds == 0 { TOKEN_SECONDS_DEFAULT } else { asked.expires_seconds };
    let uses = asked.uses.max(1);
    if seconds > TOKEN_SECONDS_MAX {
        return Err(ConvertError::new(
            "expires_seconds",
            format!("is {seconds}, at most {TOKEN_SECONDS_MAX} (a week) is allowed"),
        ));
    }
    if uses > TOKEN_USES_MAX {
        return Err(ConvertError::new("uses", format!("is {uses}, at most {TOKEN_USES_MAX} is allowed")));
    }
    for (field, text) in [("site", &asked.site), ("name_pattern", &asked.name_pattern)] {
        if text.len() > 253 || text.chars().any(char::is_control) {
            return Err(ConvertError::new(field, "is longer than 253 letters, or holds control characters"));
        }
    }
    let expires_ns = now_ns.saturating_add(seconds as i64 * 1_000_000_000);
    Ok(TokenTerms { site: asked.site, name_pattern: asked.name_pattern, group: GROUP.to_owned(), expires_ns, uses })
}

fn read_pack(text: &str) -> Result<Option<PackId>, ConvertError> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| ConvertError::new("pack", "is not 64 hexadecimal digits")),
    }
}

impl Context {
    /// The terms of a token for the server that takes the place of a host: under its name, and once.
    fn terms_to_replace(&self, host: HostId, terms: TokenTerms) -> Result<TokenTerms, Failure> {
        if !terms.site.is_empty() || !terms.name_pattern.is_empty() || terms.uses != 1 {
            let problem = "a token that replaces a host has the host's name and site, and is for one server";
            return Err(Failure::new(ErrorClass::Usage, problem));
        }
        let row = self.catalog(|catalog| catalog.host(host).map(|row| row.enrolled.clone()));
        let row = row.ok_or_else(|| Failure::new(ErrorClass::NotFound, format!("there is no host {host}")))?;
        Ok(TokenTerms { site: row.site, name_pattern: row.name, group: row.group, ..terms })
    }

    fn order_backups(&self, command: &v1::BackupCommand) -> Result<Vec<watch::Receiver<JobView>>, Failure> {
        let host = self.find_host(&command.host)?;
        let mut jobs = Vec::new();
        for source_set in self.sets_to_back_up(host, command)? {
            let job = self.dispatch.order(host, Work::Backup(source_set.clone()));
            let event =
                Event::BackupOrdered { job: job.borrow().name.to_string(), host, source_set: source_set.to_string() };
            self.record(Principal::LocalRoot, "backup", &format!("{}:{source_set}", command.host), event)?;
            jobs.push(job);
        }
        Ok(jobs)
    }

    /// Grants what operators have signed, and orders it onto the host. Whether it obeys is for the host.
    fn order_restore(&self, command: v1::RestoreCommand) -> Result<watch::Receiver<JobView>, Failure> {
        let host = self.find_host(&command.host)?;
        let refused = |why: &str| Failure::new(ErrorClass::Refused, format!("this order is not good: {why}"));
        let wrong = |error: FormatError| refused(&error.to_string());
        let order = some_bytes("order", command.order, GRANT_BYTES_MAX)?;
        let terms = some_bytes("terms", command.terms, TERMS_BYTES_MAX)?;
        let signed = SignedOrder::parse(&order).map_err(wrong)?;
        let read = SignedTerms::parse(&terms).map_err(wrong)?;
        read.verify(&signed, self.trust.trust(), SIGNATURES_NEEDED).map_err(wrong)?;
        let row =
            self.catalog(|catalog| catalog.host(host).cloned()).ok_or_else(|| refused("nobody knows its host"))?;
        if row.state != HostState::Active {
            return Err(refused("its host was retired or revoked"));
        }
        let asked = signed.order();
        if asked.target != GrantTarget::Host(host) || asked.recipient != row.enrolled.box_recipient {
            return Err(refused("it is for another host, or for another key than this host was enrolled with"));
        }
        let grant = self.grant_one(&order)?;
        let (snapshot, wanted, directory) = (asked.snapshot, read.terms().digest(), asked.directory.clone());
        let object = format!("host {host}, {directory}: {}", asked.purpose);
        self.record(Principal::LocalRoot, Verb::OrderRestore.name(), &object, Event::Nothing)?;
        Ok(self.dispatch.order(host, Work::Restore { snapshot, wanted, directory, grant, terms }))
    }

    /// A job, as operators see it.
    fn job(&self, view: JobView) -> v1::Job {
        let JobView { name, host, work, state, progress, ordered, .. } = view;
        let (source_set, directory) = match work {
            Work::Backup(source_set) => (source_set.to_string(), String::new()),
            Work::Restore { directory, .. } => (String::new(), directory),
        };
        let host_name = self.catalog(|catalog| catalog.host(host).map(|row| row.enrolled.name.clone()));
        let word = job_state(&state);
        let (began, ended_at) = match &state {
            JobState::Queued(attempt) | JobState::Running(attempt) => (attempt.began, None),
            JobState::Done(ending) => (Some(ending.began), Some(ending.ended)),
        };
        let ended = match state {
            JobState::Done(ending) => Some(ended(&name, ending.result)),
            _ => None,
        };
        let snapshot =
            ended.as_ref().and_then(|ended| ended.snapshot.as_ref().try_into().ok()).map(SnapshotId::from_bytes);
        let whole = snapshot.and_then(|id| self.counts_of(&name, &id));
        v1::Job {
            job: name.to_string(),
            host: host.get(),
            host_name: host_name.unwrap_or_default(),
            source_set,
            directory,
            state: word.into(),
            progress: whole.or_else(|| progress.map(Into::into)),
            ended,
            ordered_ns: nanoseconds(ordered),
            began_ns: began.map_or(0, nanoseconds),
            ended_ns: ended_at.map_or(0, nanoseconds),
            host_connected: self.dispatch.connection(host).is_some(),
        }
    }

    /// The set that was named, or all that the host's policy has. Of a host that was not connected since the coordinator was
    /// started, the policy is not known: then all sets count of which something was committed.
    fn sets_to_back_up(&self, host: HostId, command: &v1::BackupCommand) -> Result<Vec<SourceSetName>, Failure> {
        let connection = self.dispatch.connection(host);
        let offer = connection.as_ref().map(|(hello, _)| hello.offer.clone());
        let offer = offer.or_else(|| self.dispatch.seen(host).map(|seen| seen.offer));
        if let Some(problem) = offer.iter().map(|offer| &offer.policy_problem).find(|problem| !problem.is_empty()) {
            let failure =
                Failure::new(ErrorClass::Refused, format!("{}: the policy is invalid: {problem}", command.host));
            return Err(failure.hint("on that server, `lifeboat-agent policy check` shows what to correct"));
        }
        let known = offer.map(|offer| offer.source_sets).unwrap_or_else(|| {
            self.catalog(|catalog| catalog.source_sets(host).filter_map(|(name, _)| name.parse().ok()).collect())
        });
        choose_sets(command, known, connection.is_some())
    }

    /// A set that was just added to a policy is known as soon as the agent has read it again.
    async fn wait_for_offer(&self, command: &v1::BackupCommand) {
        let (Ok(host), Ok(name)) = (self.find_host(&command.host), command.source_set.parse::<SourceSetName>()) else {
            return;
        };
        let is_awaited =
            || self.dispatch.connection(host).is_some_and(|(hello, _)| !hello.offer.source_sets.contains(&name));
        let deadline = tokio::time::Instant::now() + POLICY_READ_EVERY + Duration::from_secs(2);
        while is_awaited() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What a job did in all, as its snapshot says.
    fn counts_of(&self, job: &JobName, id: &SnapshotId) -> Option<v1::JobProgress> {
        let number = self.catalog(|catalog| catalog.snapshot_by_id(id).map(|(number, _)| number))?;
        let counts = self.coordinator.counts(&[(number, *id)]).pop()??.counts;
        let (entries, read_bytes, sent_bytes) = (counts.entries, counts.content_bytes, counts.sent_bytes);
        Some(v1::JobProgress { job: job.to_string(), entries, read_bytes, sent_bytes, reused_bytes: 0 })
    }

    fn stats(&self) -> Result<v1::RepositoryStatsResponse, Failure> {
        let stats = self.coordinator.stats().map_err(|error| failure::of_index(&error))?;
        let custody = match self.catalog(|catalog| catalog.custody()) {
            Some(Custody::Strict) => "strict",
            _ => "managed",
        };
        let content_bytes = content_bytes(self.list_snapshots("", "")?);
        let store = &self.coordinator.shared.store;
        let mut other_bytes = 0;
        for kind in ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::Pack) {
            for name in store.list(kind).map_err(|error| failure::of_store(&error))? {
                let bytes = store.size(&name).map_err(|error| failure::of_store(&error))?;
                other_bytes = u64::saturating_add(other_bytes, bytes);
            }
        }
        Ok(v1::RepositoryStatsResponse {
            repository: self.coordinator.repository().to_string(),
            hosts: stats.hosts,
            snapshots: stats.snapshots,
            packs: stats.packs,
            pack_bytes: stats.pack_bytes,
            chunks: stats.chunks,
            nodes: stats.nodes,
            content_bytes,
            journal_batches: stats.journal_batches,
            custody: custody.to_owned(),
            other_bytes,
        })
    }

    fn verify(
        &self,
        pack: Option<PackId>,
        events: &mpsc::Sender<Result<v1::VerifyEvent, Status>>,
    ) -> Result<(), Failure> {
        let event = |progress: &VerifyProgress| v1::VerifyEvent {
            checked_objects: progress.checked_objects,
            total_objects: progress.total_objects,
            checked_bytes: progress.checked_bytes,
            ..Default::default()
        };
        let store = &self.coordinator.shared.store;
        // What a start or a reader healed was found by nobody yet.
        let healed = store.take_healed();
        let mut last = VerifyProgress::default();
        let verified = self.coordinator.verify(pack, &mut |progress| {
            last = progress;
            // Who does not keep up misses some of the progress, and nothing else.
            let _ = events.try_send(Ok(event(&progress)));
        });
        let mut damages = verified.map_err(|error| failure::of_verify(&error))?;
        if pack.is_none() {
            let (of_keys, count) = self.coordinator.verify_keys();
            last.checked_objects += count;
            last.total_objects += count;
            damages.splice(..0, of_keys);
        }
        damages.splice(..0, healed.into_iter().map(|(object, problem)| Damage::healed(object, problem)));
        // These are among the damages already.
        store.take_healed();
        let damages = gathered(damages);
        for damages in damages.chunks(DAMAGES_IN_EVENT) {
            let damages = damages.iter().map(|damage| self.damage(damage)).collect();
            let _ = events.blocking_send(Ok(v1::VerifyEvent { damages, ..event(&last) }));
        }
        let _ = events.blocking_send(Ok(v1::VerifyEvent { done: true, ..event(&last) }));
        Ok(())
    }
}

impl Context {
    fn damage(&self, damage: &Damage) -> v1::Damage {
        let named = damage.snapshots.iter().take(SNAPSHOTS_NAMED);
        let ids =
            named.filter_map(|number| self.catalog(|catalog| catalog.snapshot(*number).map(|snapshot| snapshot.id)));
        v1::Damage {
            object: damage.object.to_string(),
            what: damage.what.clone(),
            snapshots: ids.map(|id| bytes::Bytes::copy_from_slice(id.as_bytes())).collect(),
            snapshot_count: damage.snapshots.len() as u64,
            harmless: damage.is_harmless,
            healed: damage.is_healed,
        }
    }
}

/// The content of all snapshots together. Hosts report these sizes, and a few sparse files add up to more than 64 bits
/// hold (INV-9).
fn content_bytes(snapshots: impl Iterator<Item = v1::SnapshotInfo>) -> u64 {
    snapshots.map(|snapshot| snapshot.content_bytes).fold(0, u64::saturating_add)
}

/// Of the sets that a host is known to have, those that a command means.
fn choose_sets(
    command: &v1::BackupCommand,
    known: Vec<SourceSetName>,
    connected: bool,
) -> Result<Vec<SourceSetName>, Failure> {
    let host = &command.host;
    if command.source_set.is_empty() {
        if !known.is_empty() {
            return Ok(known);
        }
        let (class, problem) = match connected {
            true => (ErrorClass::NotFound, format!("the policy of {host} has no source set")),
            false => (ErrorClass::Unreachable, format!("{host} is not connected, and was never backed up")),
        };
        let hint = "look at the agent on that server: `systemctl status lifeboat-agent`, `lifeboat-agent sources`";
        return Err(Failure::new(class, problem).hint(hint));
    }
    let name: SourceSetName = command.source_set.parse()?;
    if known.contains(&name) {
        return Ok(vec![name]);
    }
    let names = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let problem = match (names.is_empty(), connected) {
        (true, true) => format!("{host} has no source set {name}; its policy has none"),
        (true, false) => format!("{host} is not connected, and no source set {name} of it is known"),
        (false, true) => format!("{host} has no source set {name}; its policy has: {names}"),
        (false, false) => format!("{host} is not connected, and no source set {name} of it is known, only: {names}"),
    };
    Err(Failure::new(ErrorClass::NotFound, problem)
        .hint("`lifeboat-agent sources` on that server lists its source sets"))
}

/// Tells how a job goes, to its end.
async fn follow(
    mut job: watch::Receiver<JobView>,
    events: &mpsc::Sender<Result<v1::JobEvent, Status>>,
) -> Result<(), mpsc::error::SendError<Result<v1::JobEvent, Status>>> {
    loop {
        let view = job.borrow_and_update().clone();
        let done = matches!(view.state, JobState::Done(_));
        if let Some(event) = told(view) {
            events.send(Ok(v1::JobEvent { event: Some(event) })).await?;
        }
        if done || job.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn told(view: JobView) -> Option<Said> {
    let JobView { name, state, progress, .. } = view;
    match state {
        JobState::Done(ending) => Some(Said::Ended(ended(&name, ending.result))),
        _ => progress.map(|progress| Said::Progress(progress.into())),
    }
}

fn ended(job: &JobName, result: JobResult) -> v1::JobEnded {
    let JobResult { ended, snapshot, message, gaps, gap_count, restored } = result;
    JobReport { job: job.clone(), ended, snapshot, message, gaps, gap_count, restored }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_09_snapshots_of_more_than_64_bits_of_content_have_a_total() {
        let sparse = v1::SnapshotInfo { content_bytes: i64::MAX as u64, ..Default::default() };
        let total = |snapshots| content_bytes(std::iter::repeat_n(sparse.clone(), snapshots));
        assert_eq!((total(2), total(3)), (u64::MAX - 1, u64::MAX));
    }

    #[test]
    fn a_set_that_nobody_knows_is_never_ordered() {
        let known = || ["data", "mail"].map(|name| name.parse().unwrap()).to_vec();
        let command = |set: &str| v1::BackupCommand { host: "web1".into(), source_set: set.into(), wait: false };
        assert_eq!(choose_sets(&command(""), known(), false).unwrap(), known());
        assert_eq!(choose_sets(&command("mail"), known(), false).unwrap(), known()[1..]);
        for connected in [true, false] {
            let failure = choose_sets(&command("mial"), known(), connected).unwrap_err();
            assert_eq!(failure.class, ErrorClass::NotFound);
            assert!(failure.message.contains("data, mail"), "{failure}");
            assert!(choose_sets(&command("mail"), Vec::new(), connected).is_err());
            assert!(choose_sets(&command(""), Vec::new(), connected).is_err());
        }
    }
}
