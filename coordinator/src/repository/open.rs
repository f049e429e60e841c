//! How a repository is made and opened.
//!
//! Opening reads and checks the journal from the newest checkpoint on, brings the index up to it (from nothing if there is none, or it does
//! not fit), moves the epoch on, and takes the repository over by writing the next batch. Runs of an earlier
//! process are void, its open packs gone (INV-26).

use super::Coordinator;
use super::checkpoints::Checkpoints;
use super::facts::{FactError, own_act};
use super::group::Queue;
use super::salvage;
use crate::catalog::CatalogError;
use crate::clock::{Clock, Random};
use crate::index::rebuild::{CaughtUp, Progress, RebuildError, Repository};
use crate::index::{Index, IndexError, IndexMemory};
use crate::journal::replay::{self, Opened};
use crate::journal::{JournalError, ReplayError};
use crate::run::Runs;
use crate::shared::{Shared, State, Written};
use crate::spool::{OpenPacks, Spool, Stopped};
use crate::store::Store;
use crate::watch::{Interrupted, Watch};
use lifeboat_format::id::RepositoryId;
use lifeboat_format::journal::{Act, Event};
use lifeboat_format::sign::SigningKey;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The repository that this must be.
    pub repository: RepositoryId,
    /// Where the index lies. Not in the repository; it may be deleted at any time while nothing is open.
    pub index: PathBuf,
    /// How much memory the index takes.
    pub index_memory: IndexMemory,
    /// A pack is an object once it has so many bytes; 64 MiB on a disk.
    pub pack_bytes: u64,
    /// So many bytes may be on their way to the open packs.
    pub under_way_bytes: usize,
    /// So many runs may be at work at once: each takes up to 5 MiB of memory. Others wait.
    pub runs_max: usize,
    /// Whether a start walks the trees of snapshots where that is needed, and `verify` writes missing copies of nodes: for
    /// backups, not to list and restore.
    pub walks_trees: bool,
    /// Whether a damaged journal is read as far as it is intact: to list and restore, on a store that forgets what is
    /// written.
    pub despite_damage: bool,
    /// So long a commit waits to share its pack, while other runs send.
    pub share_wait: Duration,
    /// The number of batches after which a checkpoint of the journal is due; none if no checkpoint is ever written.
    pub checkpoint_every: Option<u64>,
    /// Follows a start, and may end it.
    pub watch: Watch,
}

/// Batches between two checkpoints. Reading 1,000 batches takes seconds, also from a hard disk.
const CHECKPOINT_EVERY: u64 = 1_000;

impl Config {
    /// The usual settings.
    pub fn new(repository: RepositoryId, index: PathBuf) -> Self {
        Self {
            repository,
            index,
            index_memory: IndexMemory::SMALL,
            pack_bytes: 64 << 20,
            under_way_bytes: 32 << 20,
            runs_max: 48,
            walks_trees: true,
            despite_damage: false,
            share_wait: Duration::from_secs(2),
            checkpoint_every: Some(CHECKPOINT_EVERY),
            watch: Watch::default(),
        }
    }
}

/// What a coordinator works with.
pub struct Parts {
    /// The repository.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Signs heads and packs.
    pub log_key: SigningKey,
}

/// Why a repository could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal is not one that this release understands.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The start was ended.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index could not be brought up to the repository.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// The first batch of this process.
    #[error("cannot open the repository for writing")]
    TakeOver(#[from] FactError),
    /// The coordinator is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[from] std::io::Error),
    /// There is no journal.
    #[error("the repository has no journal; is the right disk mounted? `lifeboat init` makes a new repository")]
    NoJournal,
}

impl From<ReplayError> for OpenError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Journal(JournalError::Interrupted(error)) => Self::Interrupted(error),
            ReplayError::Journal(error) => Self::Journal(error),
            ReplayError::Catalog(error) => Self::Catalog(error),
        }
    }
}

impl OpenError {
    /// Whether the journal, or a trust file that it names, is damaged or cannot be read.
    pub fn is_damage(&self) -> bool {
        use JournalError::{Broken, Cut, Store, Trust};
        let (Self::Journal(error) | Self::Rebuild(RebuildError::Journal(error))) = self else { return false };
        matches!(error, Broken { .. } | Cut { .. } | Store(_) | Trust(_))
    }

    /// Whether the start was only told to end.
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted(_) | Self::Index(IndexError::Interrupted(_)) => true,
            Self::Rebuild(error) => error.is_interrupted(),
            _ => false,
        }
    }
}

/// Begins the journal of a new repository with these acts: its creation, its first scope. Its trust file is an object
/// already.
pub fn create(
    store: Arc<dyn Store>,
    repository: RepositoryId,
    log_key: SigningKey,
    acts: Vec<Act>,
) -> Result<(), JournalError> {
    let mut journal = match replay::open(&store, repository, &log_key, &Watch::default()) {
        Ok(opened) => opened.journal,
        Err(ReplayError::Journal(error)) => return Err(error),
        Err(ReplayError::Catalog(_)) => return Err(JournalError::LostOwnership { number: 1 }),
    };
    match journal.len() {
        0 => journal.append(acts).map(|_| ()),
        _ => Err(JournalError::LostOwnership { number: 1 }),
    }
}

impl Coordinator {
    /// Opens a repository and takes it over. `report` hears how far the index is when much is to be filled in.
    pub fn open(config: Config, parts: Parts, report: &mut dyn FnMut(Progress)) -> Result<Self, OpenError> {
        let Parts { store, clock, random, log_key } = parts;
        let Opened { journal, catalog, checkpoint } = match config.despite_damage {
            true => salvage::open(&config, store.clone(), log_key.clone())?,
            false => replay::open(&store, config.repository, &log_key, &config.watch)?,
        };
        if journal.is_empty() {
            return Err(OpenError::NoJournal);
        }
        let repository = Repository {
            id: config.repository,
            store: store.as_ref(),
            journal: &journal,
            catalog: &catalog,
            despite_damage: config.despite_damage,
            watch: &config.watch,
        };
        let (index, caught_up) = follow(&config, &repository, report)?;
        index.forget_all_runs_and_sessions()?;
        index.next_epoch()?;
        let state = State {
            runs: Runs::default(),
            open: OpenPacks::new(config.pack_bytes),
            catalog,
            written: Written::of(&journal),
            damaged: index.damaged()?,
            not_journalled: caught_up.adopted.clone(),
            distrusted: None,
            settling: BTreeSet::new(),
            packs_thrown_away: 0,
            losses_found: 0,
        };
        let shared = Arc::new(Shared::new(store, index, clock, random, state));
        let (spool, threads) = Spool::start(&shared, &log_key, config.under_way_bytes)?;
        let (spool, threads) = (Some(spool), Some(threads));
        let journal = Mutex::new(journal);
        let (surveying, rechecked, queue) = (Mutex::new(()), Mutex::new(None), Queue::default());
        let checkpoints = Mutex::new(Checkpoints::since(checkpoint));
        let coordinator =
            Self { shared, config, journal, queue, spool, threads, caught_up, surveying, rechecked, checkpoints };
        if coordinator.config.walks_trees {
            coordinator.recheck_unreadable()?;
            coordinator.survey_if_needed()?;
        }
        coordinator.take_over()?;
        Ok(coordinator)
    }

    /// Writes the next batch under a new incarnation: from now on an older coordinator can write nothing (INV-38).
    fn take_over(&self) -> Result<(), FactError> {
        let number = self.journal().incarnation();
        let time_ns = self.shared.clock.now_ns();
        self.record(vec![own_act(time_ns, "start", Event::Incarnation { number })]).map(|_| ())
    }
}

/// Opens the index and brings it up to the repository. If it is damaged or does not fit, begins again from nothing.
fn follow(
    config: &Config,
    repository: &Repository<'_>,
    report: &mut dyn FnMut(Progress),
) -> Result<(Index, CaughtUp), OpenError> {
    let mut attempt = || -> Result<_, RebuildError> {
        let index = Index::open(&config.index, config.index_memory)?;
        let caught_up = index.catch_up(repository, report)?;
        Ok((index, caught_up))
    };
    match attempt() {
        Err(error) if error.proves_damage() => {
            tracing::warn!(%error, "the index is rebuilt from the repository; the old one is moved aside");
            Index::set_aside(&config.index)?;
            Ok(attempt()?)
        }
        other => Ok(other?),
    }
}
