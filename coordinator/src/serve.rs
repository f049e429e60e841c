//! The coordinator at work: opens vault, repository and index, opens both doors, and closes them in good order.
//!
//! Everything is opened before the doors are, so whoever reaches the coordinator reaches all of it. It ends when it is
//! told to, or when another coordinator has taken the repository over (INV-38).

mod mounts;

use crate::clock::{Clock, SystemClock, SystemRandom};
use crate::config::{self, Config};
use crate::dispatch::{self, Dispatch};
use crate::index::Index;
use crate::index::rebuild::Progress;
use crate::pki::{self, KeyedCertificate};
use crate::repository::{self, Coordinator, OpenError, Parts};
use crate::server::tls::OwnCertificate;
use crate::server::{self, ServerError};
use crate::service::{self, BRING_BACK, Catalogued, Context, Later, ReadOnly, Refusals, RefusedHosts};
use crate::store::local::LocalStore;
use crate::store::overlay::Overlay;
use crate::store::{ObjectKind, ObjectName, Store, StoreError, twice};
use crate::trust::{self, TrustError};
use crate::vault::{self, Vault, VaultError};
use crate::watch::Watch;
use jiff::Timestamp;
use lifeboat_format::id::{Digest, RepositoryId};
use lifeboat_format::trust::TrustFile;
use lifeboat_proto::limits::COORDINATOR_TLS_NAME;
use lifeboat_proto::status::{ErrorClass, Failure, with_causes};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// How long calls that are under way may take to end when the coordinator stops.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How long the opening of a repository may take to end when the coordinator stops.
const STOP_OPENING_MAX: Duration = Duration::from_secs(5);
/// How often it is told how far the opening of a repository is.
pub const OPENING_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked at whether a checkpoint of the journal is due.
const CHECKPOINT_LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked at whether somebody took the repository over.
const OWNERSHIP_EVERY: Duration = Duration::from_secs(5);

/// How often records that wait are written into the journal.
const WAITING_EVERY: Duration = Duration::from_secs(60);

/// How often we look whether our certificate still fits the clock: so long agents wait after that was set right.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(5);

/// An open repository with the keys to it.
pub struct Opened {
    coordinator: Coordinator,
    vault: Vault,
    trust: TrustFile,
    clock: Arc<dyn Clock>,
    read_only: Option<ReadOnly>,
}

impl Opened {
    /// The repository and its index.
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }
}

/// Opens everything that needs no network. With `from_scratch`, the index is deleted first. If the journal is damaged, what
/// is intact is opened, to be read only.
pub fn open(config: &Config, from_scratch: bool, report: &mut dyn FnMut(Progress)) -> Result<Opened, Failure> {
    open_watched(config, from_scratch, report, &Watch::default())
}

fn open_watched(
    config: &Config,
    from_scratch: bool,
    report: &mut dyn FnMut(Progress),
    watch: &Watch,
) -> Result<Opened, Failure> {
    let vault = open_vault(config)?;
    let (mut store, is_read_only) = open_store(&config.repository)?;
    trust::bring_back(store.as_ref(), &config.trust_files(), vault.repository);
    let mut read_only = is_read_only.then_some(ReadOnly::Disk);
    let mut opened = open_repository(config, &vault, store.clone(), read_only.as_ref(), from_scratch, report, watch);
    if let Err(error) = &opened
        && error.is_damage()
    {
        let problem = with_causes(error);
        tracing::error!(
            problem,
            "the journal is damaged: what is intact is listed and restored, and nothing is written"
        );
        // Only one process may hold the lock on the repository, also of those that read.
        drop(store);
        store = read_only_store(&config.repository)?;
        read_only = Some(ReadOnly::Damaged { problem });
        opened = open_repository(config, &vault, store.clone(), read_only.as_ref(), true, report, watch);
    }
    let (coordinator, clock) = opened.map_err(|error| of_open(&error))?;
    let trust = trust_file(config, store.as_ref(), &coordinator, read_only.as_ref())?;
    Ok(Opened { coordinator, vault, trust, clock, read_only })
}

fn open_vault(config: &Config) -> Result<Vault, Failure> {
    vault::refuse_inside(&config.credential, &config.repository).map_err(|error| of_vault(&error))?;
    let credential = vault::read_identity(&config.credential).map_err(|error| of_vault(&error))?;
    Vault::open(&config.vault(), &credential).map_err(|error| of_vault(&error))
}

fn open_repository(
    config: &Config,
    vault: &Vault,
    store: Arc<dyn Store>,
    read_only: Option<&ReadOnly>,
    from_scratch: bool,
    report: &mut dyn FnMut(Progress),
    watch: &Watch,
) -> Result<(Coordinator, Arc<dyn Clock>), OpenError> {
    // What is noted of a repository that cannot be written must not be in the index of one that is.
    let index = if read_only.is_some() { config.state.join("index-read-only") } else { config.index() };
    if from_scratch || read_only.is_some() {
        Index::delete(&index)?;
    }
    let (clock, log_key): (Arc<dyn Clock>, _) = (Arc::new(SystemClock::new()), vault.log_key.clone());
    let parts = Parts { store, clock: clock.clone(), random: Arc::new(SystemRandom), log_key };
    let mut settings = repository::Config::new(vault.repository, index);
    settings.index_memory.block_cache_bytes = (config.index_cache_mib as usize) << 20;
    settings.runs_max = config.backups_at_once as usize;
    settings.walks_trees = read_only.is_none();
    settings.despite_damage = matches!(read_only, Some(ReadOnly::Damaged { .. }));
    settings.watch = watch.clone();
    if read_only.is_some() {
        settings.checkpoint_every = None;
    }
    Ok((Coordinator::open(settings, parts, report)?, clock))
}

/// The trust file in force; on a repository that can be written, all of them are kept beside the vault.
fn trust_file(
    config: &Config,
    store: &dyn Store,
    coordinator: &Coordinator,
    read_only: Option<&ReadOnly>,
) -> Result<TrustFile, Failure> {
    let named = coordinator.catalog(|catalog| catalog.trust_file());
    if let Some(ReadOnly::Damaged { .. }) = read_only {
        return intact_trust_file(config, store, coordinator.repository(), named);
    }
    let trust = trust_file_in_force(store, named)?;
    if read_only.is_none()
        && let Err(error) = trust::keep(store, &config.trust_files(), trust.trust().number)
    {
        tracing::warn!(%error, "the trust files could not be kept beside the vault");
    }
    Ok(trust)
}

/// The repository, and whether it can only be read.
fn open_store(path: &Path) -> Result<(Arc<dyn Store>, bool), Failure> {
    match LocalStore::open(path) {
        Ok(store) => Ok((Arc::new(store), false)),
        Err(error @ StoreError::ReadOnly { .. }) if is_sandboxed(path) => Err(of_store(&error)),
        Err(StoreError::ReadOnly { .. }) => Ok((read_only_store(path)?, true)),
        Err(error) => Err(of_store(&error)),
    }
}

fn read_only_store(path: &Path) -> Result<Arc<dyn Store>, Failure> {
    let store = LocalStore::open_read_only(path).map_err(|error| of_store(&error))?;
    Ok(Arc::new(Overlay::over(store)))
}

/// Whether systemd made the path read-only for this service alone: then the unit lacks a line, and nothing is wrong with
/// the disk.
fn is_sandboxed(path: &Path) -> bool {
    std::env::var_os("INVOCATION_ID").is_some() && !mounts::is_read_only_everywhere(path)
}

/// Makes the index again from the repository. Nobody may serve it meanwhile.
pub fn rebuild_index(config: &Config, report: &mut dyn FnMut(Progress)) -> Result<Progress, Failure> {
    let opened = open(config, true, report)?;
    match opened.read_only {
        Some(ReadOnly::Damaged { problem }) => Err(Failure::new(ErrorClass::Damaged, problem).hint(BRING_BACK)),
        _ => Ok(opened.coordinator.caught_up().progress),
    }
}

/// How far a service is that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It opens the repository, which may take long; shown about every [`OPENING_EVERY`].
    Opening {
        /// What it does just now, for people.
        status: String,
    },
    /// Agents can call here.
    Ready(SocketAddr),
}

/// Serves until `stop`, or until another coordinator has taken over. `tell` hears how far the start is.
pub async fn serve(config: Config, tell: impl Fn(Stage), stop: impl Future<Output = ()>) -> Result<(), Failure> {
    tokio::pin!(stop);
    // The socket first: who starts the same coordinator twice should hear that, and not of a port.
    let local = server::listen_locally(&config.socket).await.map_err(|error| of_server(&error))?;
    let network = server::listen(config.listen).await.map_err(|error| of_server(&error))?;
    let address = network.local_addr().map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
    let Some(opened) = open_until(&config, &tell, stop.as_mut()).await? else {
        let _ = std::fs::remove_file(&config.socket);
        return Ok(());
    };
    // Agents could send nothing, and must not see a journal that is forgotten.
    let network = opened.read_only.is_none().then_some(network);
    let context = Arc::new(context(config.clone(), opened));
    let made = dispatch::now(context.clock.as_ref());
    let certificate = own_certificate(&context, made)?;
    let own =
        OwnCertificate::new(&certificate, &context.vault.issuing.certificate).map_err(|error| internal(&error))?;
    let own = Arc::new(own);
    let tls = server::tls::server_config(own.clone(), &context.vault.issuing.certificate);
    let tls = Arc::new(tls.map_err(|error| internal(&error))?);
    let network_routes = service::network_routes(context.clone()).await.map_err(|error| internal(&error))?;
    let local_routes = service::local_routes(context.clone()).await.map_err(|error| internal(&error))?;

    let (stop_all, stopped) = watch::channel(false);
    let until_stopped = |mut stopped: watch::Receiver<bool>| async move {
        // An error means that the sender is gone: that is the end too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let past = Arc::new(Catalogued(context.clone()));
    let dispatcher = tokio::spawn(context.dispatch.clone().run(past, stopped.clone()));
    let renewal = tokio::spawn(renew(context.clone(), own, made));
    let recording = tokio::spawn(record_waiting(context.clone()));
    let checkpoints = tokio::spawn(write_checkpoints(context.clone(), stopped.clone()));
    let mut doors = tokio::task::JoinSet::new();
    match network {
        Some(network) => {
            doors.spawn(server::serve_network(network, tls, network_routes, until_stopped(stopped.clone())));
            tracing::info!(%address, "serving");
        }
        None => tracing::warn!(
            "nothing is written: `lifeboat` lists and restores on this machine; servers cannot connect, and \
             restores are recorded in this log only"
        ),
    }
    doors.spawn(server::serve_locally(local, local_routes, until_stopped(stopped)));
    tell(Stage::Ready(address));

    let ended = tokio::select! {
        () = &mut stop => Ok(()),
        () = taken_over(&context) => Err(Failure::new(
            ErrorClass::Refused,
            "another coordinator has taken over this repository; nothing more was written by this one",
        )),
        () = condemned(&context) => Err(Failure::new(
            ErrorClass::Internal,
            "the index is damaged (the repository is not touched by that); the next start rebuilds it",
        )),
        door = doors.join_next() => Err(match door {
            Some(Ok(Err(error))) => of_server(&error),
            _ => Failure::new(ErrorClass::Internal, "a door closed by itself"),
        }),
    };
    tracing::info!("stopping");
    let _ = stop_all.send(true);
    renewal.abort();
    recording.abort();
    let closed = async {
        let _ = dispatcher.await;
        let _ = checkpoints.await;
        while doors.join_next().await.is_some() {}
    };
    if tokio::time::timeout(STOP_MAX, closed).await.is_err() {
        tracing::warn!("some calls did not end in time and were cut off; their backups are repeated");
    }
    record_waiting_now(&context).await;
    // Who is not root learns from a missing socket that nobody listens; a start removes it otherwise.
    let _ = std::fs::remove_file(&config.socket);
    ended
}

/// Opens everything, and tells how far that is; none if it was stopped meanwhile.
async fn open_until(
    config: &Config,
    tell: &impl Fn(Stage),
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<Opened>, Failure> {
    let watch = Watch::default();
    let (config, watched) = (config.clone(), watch.clone());
    let mut opening = tokio::task::spawn_blocking(move || open_watched(&config, false, &mut log_progress, &watched));
    let mut due = tokio::time::interval(OPENING_EVERY);
    loop {
        tokio::select! {
            opened = &mut opening => return opened.map_err(|error| internal(&error))?.map(Some),
            _ = due.tick() => tell(Stage::Opening { status: watch.status() }),
            () = stop.as_mut() => {
                tracing::info!("stopping before the repository is open");
                watch.stop();
                // What waits for a disk that does not answer ends with the process.
                let _ = tokio::time::timeout(STOP_OPENING_MAX, opening).await;
                return Ok(None);
            }
        }
    }
}

fn context(config: Config, opened: Opened) -> Context {
    let Opened { coordinator, vault, trust, clock, read_only } = opened;
    let adopted = coordinator.caught_up().adopted.len();
    if adopted > 0 {
        tracing::info!(adopted, "packs that the journal did not know were adopted");
    }
    Context {
        coordinator: Arc::new(coordinator),
        vault,
        trust,
        dispatch: Arc::new(Dispatch::new(clock.clone())),
        config,
        clock,
        facts: Mutex::new(()),
        refusals: Refusals::default(),
        refused_hosts: RefusedHosts::default(),
        later: Later::default(),
        read_only,
    }
}

/// The coordinator's own certificate is made at each start, and lives no longer than its process needs it.
fn own_certificate(context: &Context, now: Timestamp) -> Result<KeyedCertificate, Failure> {
    let mut names = vec![COORDINATOR_TLS_NAME.to_owned()];
    names.extend(config::server_name(&context.config.address).map(str::to_owned));
    pki::issue_server(&context.vault.issuing, &names, now).map_err(|error| internal(&error))
}

/// Makes the own certificate anew in time, by the clock as it stands: also soon after a wrong one was set right.
async fn renew(context: Arc<Context>, own: Arc<OwnCertificate>, mut made: Timestamp) {
    loop {
        tokio::time::sleep(CERTIFICATE_EVERY).await;
        let now = dispatch::now(context.clock.as_ref());
        if !pki::is_renewal_due(made, now) {
            continue;
        }
        let renewed = own_certificate(&context, now).and_then(|certificate| {
            own.replace(&certificate, &context.vault.issuing.certificate).map_err(|error| internal(&error))
        });
        match renewed {
            Ok(()) => {
                made = now;
                tracing::info!("the coordinator's certificate was renewed");
            }
            Err(error) => tracing::error!(%error, "the coordinator's certificate could not be renewed"),
        }
    }
}

async fn record_waiting(context: Arc<Context>) {
    loop {
        tokio::time::sleep(WAITING_EVERY).await;
        record_waiting_now(&context).await;
    }
}

/// Writes journal checkpoints when they are due. One that is begun is completed, unless the stop takes too long: without
/// the batch that names it, it would not count.
async fn write_checkpoints(context: Arc<Context>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let coordinator = context.coordinator.clone();
        let written = tokio::task::spawn_blocking(move || match coordinator.is_checkpoint_due() {
            true => coordinator.write_checkpoint(),
            false => Ok(()),
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(error = %with_causes(&error), "no journal checkpoint was written; the next start takes longer");
        }
        // The sender is gone only if the coordinator is.
        if let Ok(Err(_)) = tokio::time::timeout(CHECKPOINT_LOOK_EVERY, stopped.wait_for(|stopped| *stopped)).await {
            break;
        }
    }
}

async fn record_waiting_now(context: &Arc<Context>) {
    let context = context.clone();
    // A failure is in the log.
    let _ = tokio::task::spawn_blocking(move || context.record_waiting()).await;
}

async fn taken_over(context: &Context) {
    while !context.coordinator.is_lost() {
        tokio::time::sleep(OWNERSHIP_EVERY).await;
    }
}

async fn condemned(context: &Context) {
    while !context.coordinator.is_index_condemned() {
        tokio::time::sleep(OWNERSHIP_EVERY).await;
    }
}

fn log_progress(progress: Progress) {
    let Progress { packs_done, packs_total, rows } = progress;
    if packs_done.is_multiple_of(100) {
        tracing::info!(packs_done, packs_total, rows, "filling the index");
    }
}

/// The trust file that a damaged journal names, from the repository or as it was kept beside the vault; if neither is
/// intact, the newest one that is.
fn intact_trust_file(
    config: &Config,
    store: &dyn Store,
    of: RepositoryId,
    named: Option<(u64, Digest)>,
) -> Result<TrustFile, Failure> {
    let names = twice::list_either(store, ObjectKind::Trust).map_err(|error| of_store(&error))?;
    let stored = names.iter().filter_map(ObjectName::as_number).filter_map(|number| trust::read(store, number).ok());
    let mut intact: Vec<TrustFile> = stored.chain(trust::kept(&config.trust_files())).collect();
    intact.retain(|file| file.trust().repository == of);
    intact.sort_by_key(|file| (named.is_some_and(|(_, digest)| file.digest() == digest), file.trust().number));
    intact.pop().ok_or_else(|| {
        Failure::new(ErrorClass::Damaged, "no trust file of this repository is intact").hint(
            "bring the directory `trust` back from a copy of the repository, or that of a copy of the coordinator's state \
             directory",
        )
    })
}

/// The newest trust file, which must be the one that the journal names: whichever copy has that digest.
fn trust_file_in_force(store: &dyn Store, named: Option<(u64, Digest)>) -> Result<TrustFile, Failure> {
    let names = twice::list_either(store, ObjectKind::Trust).map_err(|error| of_store(&error))?;
    let newest = names.iter().filter_map(ObjectName::as_number).max().unwrap_or(1);
    let Some((number, digest)) = named.filter(|(number, _)| *number == newest) else {
        let problem = "the newest trust file is not the one that the journal names; restore both from one copy";
        return Err(Failure::new(ErrorClass::Damaged, problem));
    };
    trust::read_named(store, number, digest).map_err(|error| match &error {
        TrustError::Store(error) => of_store(error),
        TrustError::Format { .. } | TrustError::Other { .. } => Failure::of(ErrorClass::Damaged, &error),
    })
}

fn internal(error: &dyn std::error::Error) -> Failure {
    Failure::of(ErrorClass::Internal, error)
}

fn of_vault(error: &VaultError) -> Failure {
    Failure::of(ErrorClass::Refused, error)
}

fn of_store(error: &StoreError) -> Failure {
    let failure = service::of_store(error);
    match error {
        StoreError::InUse { .. } => failure.hint("`systemctl stop lifeboat` stops the service"),
        StoreError::ReadOnly { path } => failure.hint(format!(
            "if only this service may not write there: `systemctl edit lifeboat`, then [Service] ReadWritePaths={}",
            path.display()
        )),
        _ => failure,
    }
}

fn of_open(error: &OpenError) -> Failure {
    let class = match error {
        OpenError::NoJournal => ErrorClass::NotFound,
        OpenError::Journal(_) | OpenError::Catalog(_) => ErrorClass::Damaged,
        _ => ErrorClass::Internal,
    };
    let failure = Failure::of(class, error);
    if error.is_damage() { failure.hint(BRING_BACK) } else { failure }
}

fn of_server(error: &ServerError) -> Failure {
    let class = match error {
        ServerError::Listen { .. } | ServerError::AlreadyServed { .. } => ErrorClass::Busy,
        ServerError::Socket { .. } | ServerError::Serve(_) => ErrorClass::Internal,
    };
    let failure = Failure::of(class, error);
    match error {
        ServerError::Listen { source, .. } => match source.kind() {
            io::ErrorKind::AddrNotAvailable => failure
                .hint("no network interface of this machine has this address; `--listen [::]:7420` takes all of them"),
            io::ErrorKind::PermissionDenied => {
                failure.hint("ports below 1024 are for root; `--listen` takes another one")
            }
            _ => failure.hint("is another program using this port? `--listen` takes another one"),
        },
        _ => failure,
    }
}
