//! Reads every object back and checks it without a key (INV-11); what is beyond repair is recorded as lost, and withdrawn
//! when it can be read again (INV-72).
//!
//! Packs are checked by their footers, record by record; manifests, envelopes and the journal by their own hashes and
//! signatures; key objects and trust files in [`keys`]. What exists twice is looked at twice, and a bad copy is healed
//! (INV-73); root and inner nodes of which one place is left get a second one ([`nodes`]). Then the trees of all snapshots
//! are walked: which of them can be restored? All batches of the journal are read, and checkpoints and memory are compared
//! with what they give (INV-75). Memory: one footer and one piece of a pack, and what the journal says a second time.
//! Errors of the disk are reported and prove nothing.

mod keys;
mod nodes;
mod packs;

use super::Coordinator;
use super::checkpoints::Audit;
use super::facts::FactError;
use crate::index::IndexError;
use crate::journal::parse_batch;
use crate::objects::{parse_envelope, parse_manifest};
use crate::store::ObjectName;
use crate::store::twice::{Copies, MISSING, check_both};
use crate::trust::read_named;
use lifeboat_format::FormatError;
use lifeboat_format::id::{HostId, PackId, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::{Batch, Standing};
use lifeboat_format::sign::VerifyingKey;
use std::cell::RefCell;
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
    /// Whether it was a bad or missing copy, and is whole again.
    pub is_healed: bool,
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
        Self { object, what, is_harmless: snapshots.is_empty(), is_healed: false, snapshots }
    }

    /// Damage that no snapshot needs repaired.
    pub(super) fn of(object: ObjectName, what: String) -> Self {
        Self::new(object, what, BTreeSet::new())
    }

    /// A copy that was bad or missing, and was written again.
    pub fn healed(object: ObjectName, problem: String) -> Self {
        let what = format!("{problem}; written again");
        Self { object, what, snapshots: BTreeSet::new(), is_harmless: true, is_healed: true }
    }

    /// What was found when both copies of an object were looked at; `snapshots` need it.
    fn of_copies(object: ObjectName, copies: Copies, snapshots: BTreeSet<SnapshotNumber>) -> Option<Self> {
        match copies {
            Copies::Whole => None,
            Copies::Healed(copy, problem) => Some(Self::healed(copy, problem.to_string())),
            Copies::OneLeft(copy, problem, error) => {
                let what =
                    format!("{problem}; the other copy is intact, but this one cannot be written again: {error}");
                Some(Self { is_harmless: true, ..Self::new(copy, what, BTreeSet::new()) })
            }
            Copies::Lost(problem) => {
                Some(Self { object, what: problem.to_string(), is_harmless: false, is_healed: false, snapshots })
            }
        }
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
        let mut audit = only.is_none().then(|| self.begin_audit());
        let of_journal = audit.as_ref().map_or(0, |audit| audit.batches() + audit.checkpoints());
        let total_objects = packs.len() as u64 + 2 * snapshots.len() as u64 + of_journal;
        let mut progress = VerifyProgress { total_objects, ..VerifyProgress::default() };
        let mut damages = self.verify_packs(packs, only.is_some(), &mut progress, report)?;
        for (number, id, host) in snapshots {
            damages.extend(self.verify_snapshot(number, id, host));
            progress.checked_objects += 2;
            report(progress);
        }
        if let Some(audit) = &mut audit {
            damages.extend(self.verify_journal(audit, &mut progress, report));
        }
        Ok(damages)
    }

    /// Reads all batches, also those that a start from a checkpoint has not read, and compares the checkpoints with them.
    fn verify_journal(
        &self,
        audit: &mut Audit,
        progress: &mut VerifyProgress,
        report: &mut dyn FnMut(VerifyProgress),
    ) -> Vec<Damage> {
        let (mut damages, mut keys) = (Vec::new(), BatchKeys::default());
        for number in 1..=audit.batches() {
            let (damage, batch) = self.verify_batch(number, &mut keys);
            damages.extend(damage);
            audit.take(number, batch.as_ref());
            progress.checked_objects += 1;
            report(*progress);
        }
        damages.extend(self.end_audit(audit));
        progress.checked_objects += audit.checkpoints();
        report(*progress);
        damages
    }

    fn snapshots_to_verify(&self, all: bool) -> Vec<(SnapshotNumber, SnapshotId, HostId)> {
        self.catalog(|catalog| {
            let rows = catalog.snapshots().filter(|_| all);
            rows.map(|(number, snapshot)| (number, snapshot.id, snapshot.host)).collect()
        })
    }

    fn verify_snapshot(&self, number: SnapshotNumber, id: SnapshotId, host: HostId) -> Vec<Damage> {
        let needed = BTreeSet::from([number]);
        let key = self.catalog(|catalog| catalog.host(host).map(|host| host.signing_key_at(number)));
        let manifest = self.verify_twice(ObjectName::manifest(id), needed.clone(), |bytes| {
            let manifest = parse_manifest(bytes, id)?;
            key.map_or(Ok(()), |key| manifest.verify(&key))
        });
        let envelope = self.verify_twice(ObjectName::envelope(id), needed, |bytes| parse_envelope(bytes, id).map(drop));
        manifest.into_iter().chain(envelope).collect()
    }

    /// What is wrong with a batch, and the batch if it has a good copy.
    fn verify_batch(&self, number: u64, keys: &mut BatchKeys) -> (Option<Damage>, Option<Batch>) {
        // Where the key in force is not known, any log key will do.
        let log_keys = keys.in_force.map_or_else(|| self.journal().log_keys().to_vec(), |key| vec![key]);
        let good = RefCell::new(None);
        let found = self.verify_twice(ObjectName::journal(number), BTreeSet::new(), |bytes| {
            let batch = parse_batch(bytes, number)?;
            batch.signed_head().verify(&log_keys)?;
            // A batch of a history that parted is signed by the same key, and must not take the place of ours.
            if self.journal().standing(batch.signed_head())? != Standing::Known {
                return Err(FormatError::Broken { what: "batch", check: "that it is one of this journal" });
            }
            good.replace(Some(batch));
            Ok(())
        });
        let batch = good.into_inner();
        let named = batch.as_ref().and_then(Batch::trust_file);
        let named = named.map(|(number, digest)| read_named(self.shared.store.as_ref(), number, digest));
        match (&batch, named) {
            (None, _) => keys.in_force = None,
            (_, Some(file)) => keys.in_force = file.ok().map(|file| file.trust().log_key()),
            (_, None) => {}
        }
        (found, batch)
    }

    /// Looks at both copies of an object.
    fn verify_twice(
        &self,
        object: ObjectName,
        needed: BTreeSet<SnapshotNumber>,
        check: impl Fn(&[u8]) -> Result<(), FormatError>,
    ) -> Option<Damage> {
        let check = |bytes: &[u8]| check(bytes).map_err(|error| error.to_string());
        let copies = check_both(self.shared.store.as_ref(), &object, check);
        Damage::of_copies(object, copies, needed)
    }
}

/// The log key that signs the next batch, as far as the batches before it show.
#[derive(Default)]
struct BatchKeys {
    in_force: Option<VerifyingKey>,
}

/// Names second copies that were missing, and are there again, once: whoever copies a repository may leave all of them
/// out.
pub fn gathered(damages: Vec<Damage>) -> Vec<Damage> {
    let is_missing_copy =
        |damage: &Damage| damage.is_healed && damage.object.is_copy() && damage.what.starts_with(MISSING);
    let (copies, mut rest): (Vec<Damage>, Vec<Damage>) = damages.into_iter().partition(is_missing_copy);
    let count = copies.len();
    if let Some(mut first) = copies.into_iter().next() {
        if count > 1 {
            first.what = format!("{}; so were {} other second copies", first.what, count - 1);
        }
        rest.push(first);
    }
    rest
}
