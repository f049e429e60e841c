//! The index follows the repository: at a start what is missing in the rows is filled in from pack footers and the
//! journal, from nothing if need be (INV-3).
//!
//! It goes on where it was stopped: each pack and each batch is noted once its facts are in the rows. Its memory is
//! one footer. A pack that cannot be read is left out with a word in the log: its chunks are then asked for again, and
//! `verify` names what is lost. Marks and homes are not in the repository; they start empty.
//!
//! An index that does not fit the repository, or is not whole, is refused here and rebuilt by the caller.

use super::packs::Packs;
use super::whole::{BATCH_ROWS, Seen};
use super::{Changes, Index, IndexError, PackNumber, Unreadable, tables};
use crate::catalog::Catalog;
use crate::journal::{Journal, JournalError};
use crate::store::{ByteRange, ObjectKind, ObjectName, Store, StoreError};
use crate::watch::{Interrupted, Watch};
use lifeboat_format::FormatError;
use lifeboat_format::id::{HostId, PackId, RepositoryId};
use lifeboat_format::journal::event::{AddedPack, Holds};
use lifeboat_format::journal::{BEFORE_THE_FIRST, Batch, Event};
use lifeboat_format::link::Target;
use lifeboat_format::pack::Footer;
use lifeboat_format::seal::Kind;
use lifeboat_format::sign::VerifyingKey;
use lifeboat_proto::status::with_causes;
use std::collections::HashSet;

/// Why the index could not follow.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// It is of another repository, or ahead of this one, or holds what cannot be: delete it and begin from nothing.
    #[error("the index does not fit the repository: {why}")]
    Odd {
        /// What does not fit.
        why: String,
    },
    /// RocksDB failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A listing failed.
    #[error("cannot list the packs")]
    Store(#[from] StoreError),
    /// A batch could not be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The start was ended.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl RebuildError {
    /// Whether the start was only told to end.
    pub fn is_interrupted(&self) -> bool {
        matches!(
            self,
            Self::Interrupted(_)
                | Self::Journal(JournalError::Interrupted(_))
                | Self::Index(IndexError::Interrupted(_))
        )
    }

    /// Whether the index is proven wrong, so that it has to be rebuilt. An error of the disk proves nothing.
    pub fn proves_damage(&self) -> bool {
        match self {
            Self::Odd { .. } => true,
            Self::Index(error) => error.proves_damage(),
            Self::Store(_) | Self::Journal(_) | Self::Interrupted(_) => false,
        }
    }
}

/// Why a footer could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FooterError {
    /// The store failed, or has no such pack.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not a footer that we signed.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// What there is to follow.
pub struct Repository<'r> {
    /// Its id.
    pub id: RepositoryId,
    /// Its objects.
    pub store: &'r dyn Store,
    /// Its journal.
    pub journal: &'r Journal,
    /// What its whole journal says.
    pub catalog: &'r Catalog,
    /// Whether batches that cannot be read are passed over.
    pub despite_damage: bool,
    /// Follows what is done, and may end it.
    pub watch: &'r Watch,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Packs looked at.
    pub packs_done: u64,
    /// Packs in all.
    pub packs_total: u64,
    /// Rows filled in.
    pub rows: u64,
}

/// What was found on the way.
#[derive(Debug, Default)]
pub struct CaughtUp {
    /// Packs signed by us that the journal does not know: to be named in the next batch.
    pub adopted: Vec<AddedPack>,
    /// Packs that the journal knows and that could not be read.
    pub unreadable: Vec<PackId>,
    /// How much was done.
    pub progress: Progress,
}

impl Repository<'_> {
    /// The footer of a pack, checked against its name and our signature.
    pub fn footer(&self, pack: PackId) -> Result<(Footer, u64), FooterError> {
        read_footer(self.store, pack, self.journal.log_keys())
    }

    /// A batch of the journal, which a start from a checkpoint has not read; none if it is missing or not intact. Rows need
    /// no batch for more than which chunks were witnessed: without that they are sent again.
    fn batch(&self, number: u64) -> Result<Option<Batch>, RebuildError> {
        self.watch.batch(number)?;
        match self.journal.batch(number) {
            Ok(batch) => Ok(Some(batch)),
            Err(JournalError::Store(error)) if !self.despite_damage => Err(JournalError::Store(error).into()),
            Err(_) => {
                tracing::error!(number, "a journal batch is damaged; `lifeboat repository verify` says more");
                Ok(None)
            }
        }
    }
}

/// The footer of a pack, checked against its name and the log keys, and the pack's length.
pub fn read_footer(store: &dyn Store, pack: PackId, log_keys: &[VerifyingKey]) -> Result<(Footer, u64), FooterError> {
    let name = ObjectName::pack(pack);
    let pack_bytes = store.size(&name)?;
    let read = |offset, bytes: usize| -> Result<_, FooterError> {
        Ok(store.get(&name, ByteRange::At { offset, bytes: bytes as u64 })?)
    };
    let footer = Footer::read(pack_bytes, log_keys, read)?;
    if footer.id != pack {
        return Err(FormatError::Broken { what: "pack", check: "that its name is its hash" }.into());
    }
    Ok((footer, pack_bytes))
}

/// What a pack holds, by its footer. No host is named for second copies of nodes. Nothing depends on the answer: a reader
/// takes a node from any pack that has it.
fn held(footer: &Footer) -> Holds {
    match footer.records.first().map(|first| (first.record.kind(), first.record.host)) {
        Some((Kind::Node, HostId::WITNESSED)) => Holds::NodeCopies,
        Some((Kind::Node, _)) => Holds::Nodes,
        Some((Kind::Chunk, _)) | None => Holds::Chunks,
    }
}

/// Packs that the journal does not name, and packs that cannot be found.
type Compared = (Vec<PackId>, Vec<(PackId, Unreadable)>);

impl Index {
    /// Fills in what is missing. Nothing else may use the index meanwhile.
    pub fn catch_up(
        &self,
        repository: &Repository<'_>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<CaughtUp, RebuildError> {
        self.refuse_what_is_odd(repository)?;
        let watch = |progress: Progress, report: &mut dyn FnMut(Progress)| {
            report(progress);
            repository.watch.packs(progress.packs_done, progress.packs_total)
        };
        let mut found = CaughtUp::default();
        let not_seen = self.journal_seen()?.map_or(0, |seen| seen.number) + 1..=repository.journal.len();
        // All of them, also those seen before: a damaged database may have brought rows back.
        for (pack, records) in repository.catalog.losses() {
            self.lose(pack, records)?;
        }
        for number in not_seen.clone() {
            for record in repository.batch(number)?.iter().flat_map(Batch::records) {
                if let Event::LossWithdrawn { pack, .. } = &record.act.event {
                    self.set_pack_not_indexed(pack)?;
                }
            }
        }
        let known = repository.catalog.packs();
        let (strangers, gone) = self.compare_with_listing(repository)?;
        found.progress.packs_total = (known.len() + strangers.len()) as u64;
        for (pack, why) in gone {
            self.set_unreadable(pack, why)?;
        }
        for (pack, _) in known {
            if self.fill_pack(repository, pack, &mut found.progress)?.is_none() {
                found.unreadable.push(pack);
            }
            watch(found.progress, report)?;
        }
        for pack in strangers {
            if let Some(holds) = self.fill_pack(repository, pack, &mut found.progress)? {
                found.adopted.push(AddedPack { pack, holds });
            }
            watch(found.progress, report)?;
        }
        for number in not_seen {
            self.replay_witnesses(repository, number)?;
        }
        Ok(found)
    }

    /// Forgets everything, to be filled in again. Nothing else may use the index meanwhile.
    pub fn clear(&self) -> Result<(), IndexError> {
        let mut packs = self.packs_mut();
        let mut changes = Changes::default();
        for table in tables::ALL {
            changes.0.delete_range_cf(self.table(table)?, [].as_slice(), [0xff; 65].as_slice());
        }
        self.write(changes)?;
        *packs = Packs::default();
        Ok(())
    }

    fn refuse_what_is_odd(&self, repository: &Repository<'_>) -> Result<(), RebuildError> {
        let odd = |why: String| Err(RebuildError::Odd { why });
        match self.repository()? {
            None if self.has_rows()? => return odd("it does not name its repository".into()),
            None => self.set_repository(repository.id)?,
            Some(id) if id == repository.id => {}
            Some(other) => return odd(format!("it is of repository {other}")),
        }
        self.read_all_if_small()?;
        if let Some(why) = self.find_gap()? {
            return odd(why);
        }
        if let Some(seen) = self.journal_seen()? {
            let batches = repository.journal.len();
            if seen.number > batches {
                return odd(format!("it has seen journal batch {}, of {batches}", seen.number));
            }
            if repository.journal.hash(seen.number) != Some(seen.hash) {
                return odd(format!("it has seen another journal batch {}", seen.number));
            }
        }
        if let Some(pack) = repository.catalog.dead_packs().find(|pack| self.pack(pack).is_some()) {
            return odd(format!("it points into pack {pack}, which is dead"));
        }
        match self.gone(repository)? {
            Some(pack) => odd(format!("it points into pack {pack}, which is in neither journal nor store")),
            None => Ok(()),
        }
    }

    /// A pack that this index has followed and the repository never came to, if there is one: then it is the index of a
    /// later time, and what it knows more was lost.
    fn gone(&self, repository: &Repository<'_>) -> Result<Option<PackId>, RebuildError> {
        for pack in self.packs_beyond(|pack| repository.catalog.knows_pack(pack)) {
            match repository.store.size(&ObjectName::pack(pack)) {
                Err(error) if error.is_not_found() => return Ok(Some(pack)),
                there => drop(there?),
            }
        }
        Ok(None)
    }

    /// Packs in the store that the journal does not name, put just before a crash; and those in the rows that cannot be
    /// found. A listing adds, and shows where to look: that a pack is gone, the pack itself must show (INV-28).
    fn compare_with_listing(&self, repository: &Repository<'_>) -> Result<Compared, RebuildError> {
        let listed: HashSet<PackId> = match repository.store.list(ObjectKind::Pack) {
            Ok(listed) => listed.iter().filter_map(ObjectName::as_pack).collect(),
            Err(error) => {
                tracing::error!(error = %with_causes(&error), "cannot list the packs; those of a crash are adopted later");
                return Ok(Compared::default());
            }
        };
        let known = |pack: &PackId| repository.catalog.knows_pack(pack);
        let mut strangers: Vec<PackId> = listed.iter().filter(|pack| !known(pack)).copied().collect();
        strangers.sort_unstable();
        let mut gone = Vec::new();
        for (pack, _) in repository.catalog.packs().iter().filter(|(pack, _)| !listed.contains(pack)) {
            if let Err(error) = repository.store.size(&ObjectName::pack(*pack)) {
                gone.push((*pack, Unreadable::Object(with_causes(&error))));
            }
        }
        Ok((strangers, gone))
    }

    fn has_rows(&self) -> Result<bool, IndexError> {
        let mut has_rows = false;
        let mut found = || {
            has_rows = true;
            false
        };
        self.each_chunk(|_, _| found())?;
        self.each_node(|_, _| found())?;
        Ok(has_rows)
    }

    /// Fills in the rows of one pack if they are not there; says what it holds, or none if it cannot be read.
    fn fill_pack(
        &self,
        repository: &Repository<'_>,
        pack: PackId,
        progress: &mut Progress,
    ) -> Result<Option<Holds>, RebuildError> {
        progress.packs_done += 1;
        let known = repository.catalog.knows_pack(&pack);
        if known && self.pack(&pack).is_some_and(|(_, entry)| entry.indexed) {
            return Ok(Some(Holds::Chunks));
        }
        let (footer, bytes) = match repository.footer(pack) {
            Ok(footer) => footer,
            Err(error) => {
                if known {
                    self.set_unreadable(pack, Unreadable::Object(with_causes(&error)))?;
                } else {
                    tracing::error!(%pack, %error, "cannot read this pack, which the journal does not name");
                }
                return Ok(None);
            }
        };
        let number = self.register_pack(pack)?;
        for (batch, records) in (0..).zip(footer.records.chunks(BATCH_ROWS)) {
            let mut filling = self.fill(number, batch);
            for (record, at) in records.iter().zip(batch * BATCH_ROWS as u32..) {
                if !repository.catalog.is_lost(&pack, &record.record.target) {
                    filling.add(record, at, record.record.host)?;
                    progress.rows += 1;
                }
            }
            filling.write()?;
        }
        self.set_pack_indexed(number, footer.records.len() as u32, bytes)?;
        Ok(Some(held(&footer)))
    }

    /// Takes what one batch says was witnessed into the rows, which are there by now. The batch is done then.
    fn replay_witnesses(&self, repository: &Repository<'_>, number: u64) -> Result<(), RebuildError> {
        let batch = repository.batch(number)?;
        for record in batch.iter().flat_map(Batch::records) {
            if let Event::Witnessed { pack, records } = &record.act.event {
                self.replay_witnessed(repository, *pack, records)?;
            }
        }
        let hash = batch.map_or(BEFORE_THE_FIRST, |batch| batch.signed_head().hash());
        Ok(self.set_journal_seen(Seen { number, hash })?)
    }

    fn replay_witnessed(&self, repository: &Repository<'_>, pack: PackId, records: &[u32]) -> Result<(), RebuildError> {
        let Some((number, _)) = self.pack(&pack) else { return Ok(()) };
        let Ok((footer, _)) = repository.footer(pack) else { return Ok(()) };
        for batch in records.chunks(BATCH_ROWS) {
            let mut changes = Changes::default();
            for at in batch {
                let record = footer.records.get(*at as usize).ok_or_else(|| RebuildError::Odd {
                    why: format!("the journal says that record {at} of pack {pack} was witnessed; it has fewer"),
                })?;
                self.make_witnessed(&mut changes, &record.record.target, number, *at)?;
            }
            self.write(changes)?;
        }
        Ok(())
    }

    fn make_witnessed(
        &self,
        changes: &mut Changes,
        target: &Target,
        pack: PackNumber,
        at: u32,
    ) -> Result<(), IndexError> {
        let Target::Chunk(id) = target else { return Ok(()) };
        let Some(mut row) = self.chunk(id)? else { return Ok(()) };
        let found = row.bodies.iter().find(|body| body.place.pack == pack && body.place.record == at).cloned();
        found.iter().for_each(|body| {
            row.witness(body);
        });
        self.set_chunk(changes, id, &row)
    }

    /// Removes what was lost from the rows. Bodies in other packs stay.
    pub fn lose<'t>(&self, pack: PackId, records: impl IntoIterator<Item = &'t Target>) -> Result<(), IndexError> {
        let Some((number, _)) = self.pack(&pack) else { return Ok(()) };
        let mut changes = Changes::default();
        for record in records {
            match record {
                Target::Chunk(id) => {
                    let Some(mut row) = self.chunk(id)? else { continue };
                    row.bodies.retain(|body| body.place.pack != number);
                    self.set_chunk(&mut changes, id, &row)?;
                }
                Target::Node(id) => {
                    let Some(mut row) = self.node(id)? else { continue };
                    row.places.retain(|place| place.pack != number);
                    self.set_node(&mut changes, id, &row)?;
                }
            }
        }
        self.write(changes)
    }
}
