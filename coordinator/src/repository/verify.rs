//! Reads every object back and checks it without a key (INV-11); what is beyond repair is recorded as lost, and withdrawn
//! when it can be read again (INV-72).
//!
//! Packs are checked by their footers, record by record; manifests, envelopes and the journal by their own hashes and
//! signatures; key objects and trust files in [`keys`]. Then the trees of all snapshots are walked: which of them can be restored? Memory: one footer and one piece
//! of a pack. Errors of the disk are reported and prove nothing.

mod keys;
mod packs;

use super::Coordinator;
use super::facts::FactError;
use crate::index::IndexError;
use crate::journal::{JournalError, read_batch};
use crate::store::{ByteRange, ObjectName};
use crate::trust::read_named;
use lifeboat_format::envelope::Envelope;
use lifeboat_format::id::{Digest, HostId, PackId, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::Batch;
use lifeboat_format::manifest::Manifest;
use lifeboat_format::sign::VerifyingKey;
use std::collections::BTreeSet;

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which object.
    pub object: ObjectName,
    /// What is wrong with it.
    pub what: String,
    /// Which snapshots cannot be restored as a whole because of it.
    pub snapshots: BTreeSet<SnapshotNumber>,
    /// Whether every snapshot can be restored without it: the content came again, or no snapshot has it.
    pub is_harmless: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Objects checked.
    pub checked_objects: u64,
    /// Objects in all.
    pub total_objects: u64,
    /// Bytes read.
    pub checked_bytes: u64,
}

/// Why it could not go on.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A loss could not be recorded.
    #[error("cannot record what is lost")]
    Fact(#[from] FactError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// There is no such pack.
    #[error("there is no pack {pack} in this repository")]
    NoSuchPack {
        /// The pack that was asked for.
        pack: PackId,
    },
}

impl Damage {
    /// Damage that these snapshots need repaired.
    pub(super) fn new(object: ObjectName, what: String, snapshots: BTreeSet<SnapshotNumber>) -> Self {
        Self { object, what, is_harmless: snapshots.is_empty(), snapshots }
    }
}

impl Coordinator {
    /// Checks everything, or one pack. Answers what does not hold, and which snapshots need it.
    pub fn verify(
        &self,
        only: Option<PackId>,
        report: &mut dyn FnMut(VerifyProgress),
    ) -> Result<Vec<Damage>, VerifyError> {
        let mut packs: Vec<PackId> = self.catalog(|catalog| catalog.packs().iter().map(|(pack, _)| *pack).collect());
        if let Some(pack) = only {
            packs.retain(|known| *known == pack);
            if packs.is_empty() {
                return Err(VerifyError::NoSuchPack { pack });
            }
        }
        let snapshots = self.snapshots_to_verify(only.is_none());
        let batches = if only.is_none() { self.journal().len() } else { 0 };
        let total_objects = packs.len() as u64 + 2 * snapshots.len() as u64 + batches;
        let mut progress = VerifyProgress { total_objects, ..VerifyProgress::default() };
        let mut damages = self.verify_packs(packs, only.is_some(), &mut progress, report)?;
        for (number, id, host) in snapshots {
            damages.extend(self.verify_snapshot(number, id, host));
            progress.checked_objects += 2;
            report(progress);
        }
        let mut keys = BatchKeys::default();
        for number in 1..=batches {
            damages.extend(self.verify_batch(number, &mut keys));
            progress.checked_objects += 1;
            report(progress);
        }
        Ok(damages)
    }

    fn snapshots_to_verify(&self, all: bool) -> Vec<(SnapshotNumber, SnapshotId, HostId)> {
        self.catalog(|catalog| {
            let rows = catalog.snapshots().filter(|_| all);
            rows.map(|(number, snapshot)| (number, snapshot.id, snapshot.host)).collect()
        })
    }

    fn verify_snapshot(&self, number: SnapshotNumber, id: SnapshotId, host: HostId) -> Vec<Damage> {
        let mut damages = Vec::new();
        let mut check = |object: ObjectName, hold: &dyn Fn(&[u8]) -> Result<(), String>| {
            let read = self.shared.store.get(&object, ByteRange::Whole).map_err(|error| error.to_string());
            if let Err(what) = read.and_then(|bytes| hold(&bytes)) {
                damages.push(Damage::new(object, what, BTreeSet::from([number])));
            }
        };
        let key = self.catalog(|catalog| catalog.host(host).map(|host| host.signing_key_at(number)));
        check(ObjectName::manifest(id), &|bytes| {
            if Digest::of(bytes).as_bytes() != id.as_bytes() {
                return Err("it does not match its name".into());
            }
            let manifest = Manifest::parse(bytes).map_err(|error| error.to_string())?;
            key.map_or(Ok(()), |key| manifest.verify(&key).map_err(|error| error.to_string()))
        });
        check(ObjectName::envelope(id), &|bytes| Envelope::parse(bytes).map(|_| ()).map_err(|error| error.to_string()));
        damages
    }

    fn verify_batch(&self, number: u64, keys: &mut BatchKeys) -> Option<Damage> {
        let read = match read_batch(self.shared.store.as_ref(), number) {
            Ok(Some(batch)) => Ok(batch),
            Ok(None) => Err("it is missing".to_owned()),
            Err(JournalError::Broken { source, .. }) => Err(source.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let what = match &read {
            Ok(batch) => self.verify_signed(batch, keys).err(),
            Err(what) => Some(what.clone()),
        };
        let named = read.ok().and_then(|batch| batch.trust_file());
        let in_force = named.map(|(number, digest)| read_named(self.shared.store.as_ref(), number, digest));
        match (&what, in_force) {
            // What it says of the keys is not known.
            (Some(_), _) | (None, Some(Err(_))) => keys.in_force = None,
            (None, Some(Ok(file))) => keys.in_force = Some(file.trust().log_key()),
            (None, None) => {}
        }
        let (object, snapshots) = (ObjectName::journal(number), BTreeSet::new());
        what.map(|what| Damage { object, what, snapshots, is_harmless: false })
    }

    /// Whether the key in force signed it; where that is not known, whether any log key did.
    fn verify_signed(&self, batch: &Batch, keys: &BatchKeys) -> Result<(), String> {
        let log_keys = keys.in_force.map_or_else(|| self.journal().log_keys().to_vec(), |key| vec![key]);
        batch.signed_head().verify(&log_keys).map_err(|error| error.to_string())
    }
}

/// The log key that signs the next batch, as far as the batches before it show.
#[derive(Default)]
struct BatchKeys {
    in_force: Option<VerifyingKey>,
}
