//! What is mounted: one snapshot, or the directory of all snapshots of a host.

use super::number::Inode;
use super::snapshot::{PATIENCE, Snapshot, Source};
use crate::cli::output::{from_ns, zone};
use crate::cli::reading::short_id;
use lifeboat_proto::v1::{Outcome, SnapshotInfo};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How old the list of snapshots may be.
const LIST_AGE_MAX: Duration = Duration::from_secs(10);

/// The place where it is mounted.
pub struct Top {
    host: String,
    source_set: String,
    source: Arc<Source>,
    /// Whether the mount is a snapshot itself.
    is_one: bool,
    list: Mutex<List>,
}

/// The snapshots. One keeps its place as long as it is mounted.
struct List {
    snapshots: Vec<Arc<Snapshot>>,
    by_name: BTreeMap<String, u32>,
    read_at: Instant,
}

impl Top {
    /// One snapshot.
    pub fn one(info: SnapshotInfo, source: Arc<Source>) -> Self {
        Self::with(true, String::new(), String::new(), vec![info], source)
    }

    /// All those of a host and source set on a list.
    pub fn all(host: String, source_set: String, list: Vec<SnapshotInfo>, source: Arc<Source>) -> Self {
        Self::with(false, host, source_set, list, source)
    }

    fn with(is_one: bool, host: String, source_set: String, infos: Vec<SnapshotInfo>, source: Arc<Source>) -> Self {
        let list = List { snapshots: Vec::new(), by_name: BTreeMap::new(), read_at: Instant::now() };
        let top = Self { host, source_set, source, is_one, list: Mutex::new(list) };
        top.add(infos);
        top
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what is not there yet.
    fn add(&self, mut infos: Vec<SnapshotInfo>) {
        infos.retain(|info| self.is_one || info.outcome() != Outcome::Checkpoint);
        infos.sort_by_key(|info| info.number);
        let several_sets = infos.windows(2).any(|pair| pair[0].source_set != pair[1].source_set);
        let mut list = self.lock();
        for info in infos {
            if list.snapshots.iter().any(|known| known.info.number == info.number) {
                continue;
            }
            let Ok(which) = u32::try_from(list.snapshots.len()) else { break };
            let mut name = name_of(&info, several_sets);
            if list.by_name.contains_key(&name) {
                name = format!("{name}-{}", short_id(&info));
            }
            list.by_name.insert(name, which);
            list.snapshots.push(Arc::new(Snapshot::new(info, self.source.clone())));
        }
    }

    /// Looks for new snapshots, if the last look was a while ago. Those that are known stay, whatever happens.
    pub fn refresh(&self) {
        if self.is_one || self.lock().read_at.elapsed() < LIST_AGE_MAX {
            return;
        }
        self.lock().read_at = Instant::now();
        let listed = self.source.runtime.block_on(async {
            let listed = async { self.source.snapshots.lock().await.read_again(&self.host, &self.source_set).await };
            timeout(PATIENCE, listed).await
        });
        if let Ok(Ok(infos)) = listed {
            self.add(infos);
        }
    }

    /// What an inode number means here.
    pub fn inode(&self, number: u64) -> Option<Inode> {
        match Inode::of(number)? {
            Inode::Top if self.is_one => Some(Inode::Root(0)),
            inode => Some(inode),
        }
    }

    /// The number of an inode here.
    pub fn number(&self, inode: Inode) -> Option<u64> {
        match inode {
            Inode::Root(0) if self.is_one => Inode::Top.number(),
            inode => inode.number(),
        }
    }

    /// A snapshot by its place.
    pub fn snapshot(&self, which: u32) -> Option<Arc<Snapshot>> {
        self.lock().snapshots.get(which as usize).cloned()
    }

    /// The place of a snapshot by its name.
    pub fn called(&self, name: &OsStr) -> Option<u32> {
        let find = || self.lock().by_name.get(name.to_str()?).copied();
        find().or_else(|| {
            self.refresh();
            find()
        })
    }

    /// All places and names, in the order of the places.
    pub fn names(&self) -> Vec<(u32, String)> {
        let mut names: Vec<_> = self.lock().by_name.iter().map(|(name, which)| (*which, name.clone())).collect();
        names.sort();
        names
    }

    /// The newest snapshot that is not suspect, and its name.
    pub fn newest(&self) -> Option<(String, Arc<Snapshot>)> {
        let list = self.lock();
        let regular = list.by_name.iter().filter(|(_, which)| !list.snapshots[**which as usize].info.suspect);
        let newest = regular.max_by_key(|(_, which)| list.snapshots[**which as usize].info.number);
        newest.map(|(name, which)| (name.clone(), list.snapshots[*which as usize].clone()))
    }
}

/// A name by time, in the reader's zone; with that of the source set where there are several.
fn name_of(info: &SnapshotInfo, several_sets: bool) -> String {
    let time =
        from_ns(info.committed_ns).unwrap_or_default().to_zoned(zone()).strftime("%Y-%m-%d_%H-%M-%S").to_string();
    if several_sets { format!("{time}-{}", info.source_set) } else { time }
}
