//! A repository in memory, a coordinator that can be killed and started again, and hosts with files. One clock for all,
//! which moves when told.

use crate::host::{Host, How};
use crate::model::Model;
use crate::picture::Picture;
use crate::restore::{open_all, restore};
use crate::uplink::{DirectUplink, Traffic};
use lifeboat_agent::backup::{self, BackupError, Progress, Report, Surroundings};
use lifeboat_coordinator::catalog::Snapshot;
use lifeboat_coordinator::clock::{Clock, ManualClock, SeededRandom};
use lifeboat_coordinator::index::{Index, IndexMemory};
use lifeboat_coordinator::repository::{Config, Coordinator, OpenError, Parts, create};
use lifeboat_coordinator::store::faulty::Faulty;
use lifeboat_coordinator::store::memory::MemoryStore;
use lifeboat_coordinator::store::{Body, ByteRange, ObjectName, Store};
use lifeboat_coordinator::trust;
use lifeboat_format::envelope::Identity;
use lifeboat_format::id::{Digest, HostId, RepositoryId, Scope};
use lifeboat_format::journal::event::{Custody, HostEnrolled};
use lifeboat_format::journal::{Act, Decision, Event, Principal};
use lifeboat_format::key::{GroupSecret, ScopeKeys};
use lifeboat_format::sign::SigningKey;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;
use tempfile::TempDir;

/// The only scope.
pub const SCOPE: Scope = Scope::new(1);
/// How many hosts may take part: 1, 2 and 3.
const HOSTS: u32 = 3;
/// The clock begins in 2030: what the file system stamps itself has settled long ago.
const START_NS: i64 = 1_893_456_000_000_000_000;

/// The system. Clones share it.
#[derive(Clone)]
pub struct Lab(Arc<Inner>);

struct Inner {
    // Before the directory: what is open is closed before its place goes.
    coordinator: RwLock<Option<Coordinator>>,
    directory: TempDir,
    objects: MemoryStore,
    store: Mutex<Arc<Faulty<MemoryStore>>>,
    clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
    pack_bytes: u64,
    life: AtomicU64,
    model: Mutex<Model>,
}

/// What a start finds of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftIndex {
    /// As it was.
    Kept,
    /// Nothing.
    Lost,
    /// As it was before the start before.
    Old,
}

impl Lab {
    /// A new repository, served. Packs are objects from so many bytes on. Paths decide where leaves and bundles end, so
    /// labs of one name are alike; two of them at the same time are not.
    pub fn new(name: &str, pack_bytes: u64) -> Self {
        let objects = MemoryStore::new();
        let lab = Self(Arc::new(Inner {
            directory: directory(name),
            store: Mutex::new(Arc::new(Faulty::new(objects.clone()))),
            objects,
            clock: Arc::new(ManualClock::at(START_NS)),
            random: Arc::new(SeededRandom::new(1)),
            pack_bytes,
            coordinator: RwLock::new(None),
            life: AtomicU64::new(0),
            model: Mutex::default(),
        }));
        let trust = trust::sample(repository(), &[log_key().verifying_key()], None).unwrap();
        lab.0.objects.put(&ObjectName::trust(1), Body::Bytes(trust.to_bytes())).unwrap();
        create(lab.store(), repository(), log_key(), first_acts(trust.digest())).unwrap();
        lab.start(LeftIndex::Kept).unwrap();
        lab
    }

    /// Host 1, 2 or 3, with a source of its own.
    pub fn host(&self, id: u32) -> Host {
        self.host_with(id, &self.path(&format!("source-{id}")))
    }

    /// Host 1, 2 or 3, with this source.
    pub fn host_with(&self, id: u32, source: &Path) -> Host {
        assert!((1..=HOSTS).contains(&id));
        Host::new(id, source, &self.path(&format!("state-{id}")))
    }

    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.0.clock
    }

    /// The store of the coordinator's present life.
    pub fn store(&self) -> Arc<Faulty<MemoryStore>> {
        self.0.store.lock().unwrap().clone()
    }

    /// What is in the repository, behind all faults.
    pub fn objects(&self) -> &MemoryStore {
        &self.0.objects
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.0.model.lock().unwrap()
    }

    /// How often the coordinator was started.
    pub fn life(&self) -> u64 {
        self.0.life.load(Ordering::SeqCst)
    }

    /// Asks the coordinator, which must run.
    pub fn coordinator<T>(&self, ask: impl FnOnce(&Coordinator) -> T) -> T {
        ask(self.0.coordinator.read().unwrap().as_ref().expect("it runs"))
    }

    /// The coordinator ends as if killed. What was wrong with the store ends with it.
    pub fn stop(&self) {
        drop(self.0.coordinator.write().unwrap().take());
        *self.0.store.lock().unwrap() = Arc::new(Faulty::new(self.0.objects.clone()));
    }

    /// Starts it again.
    pub fn start(&self, index: LeftIndex) -> Result<(), OpenError> {
        self.leave(index);
        let mut config = Config::new(repository(), self.path("index"));
        (config.pack_bytes, config.share_wait) = (self.0.pack_bytes, Duration::ZERO);
        config.index_memory = IndexMemory { block_cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20 };
        let parts = Parts {
            store: self.store(),
            clock: self.0.clock.clone(),
            random: self.0.random.clone(),
            log_key: log_key(),
        };
        let mut running = self.0.coordinator.write().unwrap();
        *running = Some(Coordinator::open(config, parts, &mut |_| {})?);
        self.0.life.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Killed, and started with its index.
    pub fn restart(&self) {
        self.stop();
        self.start(LeftIndex::Kept).unwrap();
    }

    /// Makes the index what this start shall find, and keeps a copy for an old one.
    fn leave(&self, index: LeftIndex) {
        let (now, before) = (self.path("index"), self.path("index-before"));
        if index != LeftIndex::Kept {
            Index::delete(&now).unwrap();
        }
        match index {
            LeftIndex::Old => copy(&before, &now),
            LeftIndex::Kept => {
                Index::delete(&before).unwrap();
                copy(&now, &before);
            }
            LeftIndex::Lost => {}
        }
    }

    /// A backup that must succeed, on one thread.
    pub fn backup(&self, host: &Host) -> (Report, Traffic) {
        let (report, traffic) = self.try_backup(host, &How::default());
        (report.unwrap_or_else(|error| panic!("host {}: {error}: {error:?}", host.id)), traffic)
    }

    /// A backup, and what went up.
    pub fn try_backup(&self, host: &Host, how: &How) -> (Result<Report, BackupError>, Traffic) {
        let picture = Arc::new(Picture::of(&host.source));
        let uplink = DirectUplink::new(self, host, picture, how.trouble.clone());
        let around = Surroundings {
            uplink: &uplink,
            clock: &AgentClock(self.0.clock.clone()),
            progress: &Progress::default(),
            stop: &AtomicBool::new(false),
        };
        let report = backup::run(&host.plan(how), &around);
        (report, uplink.traffic())
    }

    /// Restores all that there is and compares, and verifies all objects.
    pub fn check(&self) {
        self.coordinator(|coordinator| self.model().check(self, coordinator));
    }

    /// Changes a byte of an object behind the store's back. Verify must find it, and say which snapshots need it.
    pub fn damage(&self, object: &ObjectName, at: usize) {
        let mut bytes = self.0.objects.get(object, ByteRange::Whole).unwrap().to_vec();
        bytes[at] ^= 1;
        self.0.objects.damage(object, Some(bytes.into()));
        let found = self.coordinator(|coordinator| coordinator.verify(None, &mut |_| {}).unwrap());
        let damage = found.into_iter().find(|damage| damage.object == *object).expect("it is damaged");
        self.model().damaged(damage);
    }

    /// What lay below `source` in a snapshot, restored.
    pub fn restore(&self, coordinator: &Coordinator, snapshot: &Snapshot, source: &Path) -> Result<Picture, String> {
        let target = self.path("restored");
        let report = restore(coordinator, &self.0.objects, snapshot, source, &target).map_err(|why| why.to_string())?;
        if !report.is_complete() {
            return Err(format!("{report:?}"));
        }
        let picture = Picture::of(&target);
        fs::remove_dir_all(target).unwrap();
        Ok(picture)
    }

    /// Opens everything in a snapshot.
    pub fn open_all(&self, coordinator: &Coordinator, snapshot: &Snapshot) -> Result<(), String> {
        open_all(coordinator, &self.0.objects, snapshot).map_err(|why| why.to_string())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.directory.path().join(name)
    }
}

/// The lab's clock, as an agent reads it.
struct AgentClock(Arc<ManualClock>);

impl lifeboat_agent::clock::Clock for AgentClock {
    fn now_ns(&self) -> i64 {
        self.0.now_ns()
    }

    fn elapsed(&self) -> Duration {
        self.0.monotonic()
    }
}

pub fn repository() -> RepositoryId {
    RepositoryId::from_bytes([7; 16])
}

pub fn keys() -> ScopeKeys {
    let secret = GroupSecret::from_bytes([9; 32]);
    ScopeKeys::derive(&secret, &secret)
}

pub fn host_key(host: HostId) -> SigningKey {
    SigningKey::from_seed(&[host.get() as u8; 32])
}

/// Opens all snapshots.
pub fn identity() -> Identity {
    Identity::from_bytes(&[5; 32]).unwrap()
}

fn log_key() -> SigningKey {
    SigningKey::from_seed(&[8; 32])
}

fn first_acts(trust_file: Digest) -> Vec<Act> {
    let created = Event::RepositoryCreated { custody: Custody::Managed, trust_file };
    let scope = Event::ScopeMade { scope: SCOPE, group: "all".into(), first: true };
    let hosts = (1..=HOSTS).map(|id| {
        Event::HostEnrolled(HostEnrolled {
            host: HostId::new(id),
            name: format!("host-{id}"),
            site: String::new(),
            group: "all".into(),
            signing_key: host_key(HostId::new(id)).verifying_key(),
            box_recipient: identity().recipient(),
            tls_key: Digest::of(&id.to_le_bytes()),
            token: 1,
        })
    });
    [created, scope].into_iter().chain(hosts).map(act).collect()
}

fn act(event: Event) -> Act {
    let (verb, object) = ("simulate".into(), "repository".into());
    Act { time_ns: START_NS, principal: Principal::LocalRoot, verb, object, decision: Decision::Done, event }
}

/// A directory on disk, for nothing proves that a file in memory is unchanged; of this name, unless somebody has it. It
/// lies apart from sources whose trees are compared, since the times of the directories above are in these.
fn directory(name: &str) -> TempDir {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("labs");
    fs::create_dir_all(&place).unwrap();
    let named = tempfile::Builder::new().prefix(&format!("lifeboat-{name}")).rand_bytes(0).tempdir_in(&place);
    named.or_else(|_| tempfile::tempdir_in(&place)).unwrap()
}

fn copy(from: &Path, to: &Path) {
    let Ok(files) = fs::read_dir(from) else { return };
    fs::create_dir_all(to).unwrap();
    for file in files.map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
