//! Reads every object back and checks it without a key (INV-11); what is beyond repair is recorded as lost.
//!
//! Packs are checked by their footers, record by record; manifests, envelopes and the journal by their own hashes and
//! signatures. Memory: one footer and one piece of a pack. Errors of the disk are reported and prove nothing.

use super::Coordinator;
use super::facts::FactError;
use super::losses::Losses;
use super::read::shown;
use crate::index::rebuild::{FooterError, read_footer};
use crate::index::{IndexError, PackNumber};
use crate::journal::{JournalError, read_batch};
use crate::store::{ByteRange, ObjectName};
use lifeboat_format::envelope::Envelope;
use lifeboat_format::id::{Digest, HostId, PackId, SnapshotId, SnapshotNumber};
use lifeboat_format::link::Target;
use lifeboat_format::manifest::Manifest;
use lifeboat_format::pack::{Footer, FooterRecord, LENGTH_BYTES, verify_framed, verify_record};
use std::collections::BTreeSet;

/// Records are read together in pieces of about this size.
const PIECE_BYTES: u64 = 4 << 20;

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which object.
    pub object: ObjectName,
    /// What is wrong with it.
    pub what: String,
    /// Which snapshots need what is damaged.
    pub snapshots: BTreeSet<SnapshotNumber>,
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

/// What a check of one pack has found.
#[derive(Default)]
struct PackFindings {
    what: Vec<String>,
    lost: Vec<Target>,
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
        let mut damages = Vec::new();
        for pack in packs {
            damages.extend(self.verify_pack(pack, &mut progress, report)?);
        }
        for (number, id, host) in snapshots {
            damages.extend(self.verify_snapshot(number, id, host));
            progress.checked_objects += 2;
            report(progress);
        }
        for number in 1..=batches {
            damages.extend(self.verify_batch(number));
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

    fn verify_pack(
        &self,
        pack: PackId,
        progress: &mut VerifyProgress,
        report: &mut dyn FnMut(VerifyProgress),
    ) -> Result<Option<Damage>, VerifyError> {
        let log_keys = self.journal().log_keys().to_vec();
        let findings = match read_footer(self.shared.store.as_ref(), pack, &log_keys) {
            Ok((footer, _)) => self.verify_records(pack, &footer, progress, report),
            Err(error) => self.verify_by_rows(pack, &error)?,
        };
        progress.checked_objects += 1;
        report(*progress);
        let PackFindings { what, lost } = findings;
        if what.is_empty() {
            return Ok(None);
        }
        let lost: Vec<Target> =
            self.catalog(|catalog| lost.into_iter().filter(|record| !catalog.is_lost(&pack, record)).collect());
        let snapshots = match lost.is_empty() {
            true => BTreeSet::new(),
            false => self.record_losses(Losses::from([(pack, lost)]))?,
        };
        Ok(Some(Damage { object: ObjectName::pack(pack), what: summary(&what), snapshots }))
    }

    fn verify_records(
        &self,
        pack: PackId,
        footer: &Footer,
        progress: &mut VerifyProgress,
        report: &mut dyn FnMut(VerifyProgress),
    ) -> PackFindings {
        let mut findings = PackFindings::default();
        for piece in pieces(&footer.records) {
            self.verify_piece(pack, piece, &mut findings);
            progress.checked_bytes += piece.iter().map(|record| u64::from(record.place.length)).sum::<u64>();
            report(*progress);
        }
        findings
    }

    fn verify_piece(&self, pack: PackId, piece: &[FooterRecord], findings: &mut PackFindings) {
        let Some(first) = piece.first() else { return };
        let (offset, _) = first.place.framed();
        let bytes = piece.iter().map(|record| record.place.framed().1 as u64).sum();
        let read = match self.shared.store.get(&ObjectName::pack(pack), ByteRange::At { offset, bytes }) {
            Ok(read) => read,
            Err(error) => return findings.what.push(format!("cannot be read at {offset}: {error}")),
        };
        for record in piece {
            let (start, bytes) = record.place.framed();
            let start = (start - offset) as usize;
            let framed = read.get(start..start + bytes).unwrap_or_default();
            let target = record.record.target;
            if verify_record(record, framed.get(LENGTH_BYTES..).unwrap_or_default()).is_err() {
                findings.what.push(format!("{} does not match its digest", shown(&target)));
                findings.lost.push(target);
            } else if verify_framed(record, framed).is_err() {
                findings.what.push(format!("the length before {} is corrupt; the record is intact", shown(&target)));
            }
        }
    }

    /// Without a footer, the rows say what should be there.
    fn verify_by_rows(&self, pack: PackId, error: &FooterError) -> Result<PackFindings, IndexError> {
        let mut findings = PackFindings { what: vec![format!("its footer does not hold: {error}")], lost: Vec::new() };
        let unreadable = matches!(error, FooterError::Store(error) if !error.is_about_the_object());
        let Some((number, _)) = self.shared.index.pack(&pack).filter(|_| !unreadable) else { return Ok(findings) };
        for (target, found) in self.rows_in(number)? {
            if let Err(super::ReadError::Damaged { .. }) = self.read_at(&found) {
                findings.lost.push(target);
            }
        }
        Ok(findings)
    }

    fn rows_in(&self, pack: PackNumber) -> Result<Vec<(Target, super::Found)>, IndexError> {
        let mut targets = Vec::new();
        self.shared.index.each_chunk(|id, row| {
            let here = row.bodies.iter().any(|body| body.place.pack == pack);
            targets.extend(here.then_some(Target::Chunk(id)));
            true
        })?;
        self.shared.index.each_node(|id, row| {
            targets.extend((row.place.pack == pack).then_some(Target::Node(id)));
            true
        })?;
        let mut rows = Vec::new();
        for target in targets {
            let found = self.locate(target, HostId::WITNESSED)?;
            rows.extend(found.into_iter().filter(|found| found.place.pack == pack).map(|found| (target, found)));
        }
        Ok(rows)
    }

    fn verify_snapshot(&self, number: SnapshotNumber, id: SnapshotId, host: HostId) -> Vec<Damage> {
        let mut damages = Vec::new();
        let mut check = |object: ObjectName, hold: &dyn Fn(&[u8]) -> Result<(), String>| {
            let read = self.shared.store.get(&object, ByteRange::Whole).map_err(|error| error.to_string());
            if let Err(what) = read.and_then(|bytes| hold(&bytes)) {
                damages.push(Damage { object, what, snapshots: BTreeSet::from([number]) });
            }
        };
        let key = self.catalog(|catalog| catalog.host(host).map(|host| host.enrolled.signing_key));
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

    fn verify_batch(&self, number: u64) -> Option<Damage> {
        let log_keys = self.journal().log_keys().to_vec();
        let what = match read_batch(self.shared.store.as_ref(), number) {
            Ok(Some(batch)) => batch.signed_head().verify(&log_keys).err().map(|error| error.to_string()),
            Ok(None) => Some("it is missing".into()),
            Err(JournalError::Broken { source, .. }) => Some(source.to_string()),
            Err(error) => Some(error.to_string()),
        }?;
        Some(Damage { object: ObjectName::journal(number), what, snapshots: BTreeSet::new() })
    }
}

fn summary(what: &[String]) -> String {
    match what {
        [one] => one.clone(),
        [first, ..] => format!("{first}; and {} more", what.len() - 1),
        [] => String::new(),
    }
}

/// Neighbours, about [`PIECE_BYTES`] together; at least one record.
fn pieces(records: &[FooterRecord]) -> impl Iterator<Item = &[FooterRecord]> {
    records.chunk_by(|a, b| a.place.offset / PIECE_BYTES == b.place.offset / PIECE_BYTES)
}
