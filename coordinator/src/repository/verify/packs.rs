//! Checks packs, record by record, and draws the conclusions: what is lost, what is there again, what cannot be read.

use super::nodes::Mended;
use super::{Damage, VerifyError, VerifyProgress};
use crate::index::Unreadable;
use crate::index::rebuild::{FooterError, read_footer};
use crate::repository::Coordinator;
use crate::repository::losses::Fate;
use crate::repository::read::shown;
use crate::repository::survey::Survey;
use crate::store::{ByteRange, ObjectKind, ObjectName, StoreError};
use lifeboat_format::id::{PackId, SnapshotNumber};
use lifeboat_format::link::Target;
use lifeboat_format::pack::{Footer, FooterRecord, LENGTH_BYTES, verify_framed, verify_record};
use lifeboat_proto::status::with_causes;
use std::collections::{BTreeSet, HashSet};

/// Records are read together in pieces of about this size.
const PIECE_BYTES: u64 = 4 << 20;

/// What one look at a pack has found. Whatever is wrong was read twice.
enum Look {
    /// The footer is valid.
    Opened { footer: Footer, bytes: u64, records: Records },
    /// There is no such file.
    Missing,
    /// Nothing can be said of what is in it.
    Unreadable(String),
}

/// What a look at the records of a pack has found.
#[derive(Default)]
pub(in crate::repository) struct Records {
    /// Those that do not match their digest.
    lost: Vec<Target>,
    /// Why others cannot be read, if some cannot.
    unreadable: Option<String>,
    /// What is wrong between the records, which are intact all the same.
    framing: Option<String>,
    /// Those that can be read although they are recorded as lost.
    returned: Vec<Target>,
}

impl Records {
    /// Whether all of them can be read.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.unreadable.is_none()
    }
}

/// What all packs together have shown.
#[derive(Default)]
struct Findings {
    what: Vec<(PackId, String)>,
    missing: Vec<PackId>,
    returned: u64,
}

impl Coordinator {
    /// Checks these packs, or one of them alone.
    pub(super) fn verify_packs(
        &self,
        packs: Vec<PackId>,
        is_alone: bool,
        progress: &mut VerifyProgress,
        report: &mut dyn FnMut(VerifyProgress),
    ) -> Result<Vec<Damage>, VerifyError> {
        let mut findings = Findings::default();
        for pack in packs {
            let look = self.look_at_pack(pack, &mut |bytes| {
                progress.checked_bytes += bytes;
                report(*progress);
            });
            self.conclude(pack, look, &mut findings)?;
            progress.checked_objects += 1;
            report(*progress);
        }
        let missing = self.conclude_missing(&mut findings)?;
        let mended = self.mend(&findings, &missing, is_alone)?;
        if findings.returned > 0 {
            tracing::info!(records = findings.returned, "lost records are there again");
        }
        let is_quiet = findings.what.is_empty() && missing.is_empty() && findings.returned == 0;
        if is_alone && is_quiet && self.shared.lock().distrusted.is_none() {
            return Ok(Vec::new());
        }
        let survey = self.survey()?;
        let mut damages = self.damages(&findings.what, &missing, &survey, is_alone);
        damages.iter_mut().for_each(|damage| name_mended(damage, &mended));
        Ok(damages)
    }

    /// Nothing is written while the right disk may not be mounted, or for a pack alone in which all is good.
    fn mend(&self, findings: &Findings, missing: &[PackId], is_alone: bool) -> Result<Mended, VerifyError> {
        let is_needed = !is_alone || !findings.what.is_empty();
        match is_needed && missing.is_empty() && self.config().walks_trees {
            true => self.mend_nodes(&findings.what.iter().map(|(pack, _)| *pack).collect::<Vec<_>>()),
            false => Ok(Mended::default()),
        }
    }

    fn look_at_pack(&self, pack: PackId, read: &mut dyn FnMut(u64)) -> Look {
        let log_keys = self.journal().log_keys().to_vec();
        let open = || read_footer(self.shared.store.as_ref(), pack, &log_keys);
        match open().or_else(|_| open()) {
            Ok((footer, bytes)) => {
                let records = self.look_at_records(pack, &footer, read);
                Look::Opened { footer, bytes, records }
            }
            Err(FooterError::Store(StoreError::NotFound { .. })) => Look::Missing,
            Err(FooterError::Store(error)) if !error.is_about_the_object() => Look::Unreadable(with_causes(&error)),
            Err(error) => Look::Unreadable(format!("its footer is invalid, cut or corrupt: {}", with_causes(&error))),
        }
    }

    /// Reads all records that the footer names.
    pub(in crate::repository) fn look_at_records(
        &self,
        pack: PackId,
        footer: &Footer,
        read: &mut dyn FnMut(u64),
    ) -> Records {
        let recorded = self.catalog(|catalog| catalog.losses_of(&pack).cloned().unwrap_or_default());
        let (mut found, mut good) = (Records::default(), HashSet::new());
        for piece in pieces(&footer.records) {
            let (Some(first), Some(last)) = (piece.first(), piece.last()) else { continue };
            let (offset, _) = first.place.framed();
            let bytes = last.place.offset + u64::from(last.place.length) - offset;
            let together = self.get(pack, offset, bytes).unwrap_or_default();
            for record in piece {
                let (start, length) = record.place.framed();
                let start = (start - offset) as usize;
                let framed = together.get(start..start + length).unwrap_or_default();
                let target = record.record.target;
                if verify_record(record, framed.get(LENGTH_BYTES..).unwrap_or_default()).is_ok() {
                    if verify_framed(record, framed).is_err() {
                        let what = format!("the length before {} is corrupt; the record is intact", shown(&target));
                        found.framing.get_or_insert(what);
                    }
                    good.extend(recorded.contains(&target).then_some(target));
                    continue;
                }
                match self.get(pack, record.place.offset, record.place.length.into()) {
                    Ok(sealed) if verify_record(record, &sealed).is_ok() => {
                        good.extend(recorded.contains(&target).then_some(target));
                    }
                    Ok(_) => found.lost.push(target),
                    Err(error) => {
                        let why = format!("{} cannot be read: {}", shown(&target), with_causes(&error));
                        found.unreadable.get_or_insert(why);
                    }
                }
            }
            read(bytes);
        }
        found.returned = good.into_iter().filter(|target| !found.lost.contains(target)).collect();
        found
    }

    fn get(&self, pack: PackId, offset: u64, bytes: u64) -> Result<bytes::Bytes, StoreError> {
        self.shared.store.get(&ObjectName::pack(pack), ByteRange::At { offset, bytes })
    }

    fn conclude(&self, pack: PackId, look: Look, findings: &mut Findings) -> Result<(), VerifyError> {
        let (footer, bytes, records) = match look {
            Look::Opened { footer, bytes, records } => (footer, bytes, records),
            Look::Missing => {
                findings.missing.push(pack);
                return Ok(());
            }
            Look::Unreadable(why) => {
                self.set_unreadable(pack, Unreadable::Object(why.clone()))?;
                findings.what.push((pack, why));
                return Ok(());
            }
        };
        let Records { lost, unreadable, framing, returned } = records;
        if !returned.is_empty() {
            findings.returned += returned.len() as u64;
            self.record_fate(pack, &returned, Fate::Returned)?;
        }
        let news =
            self.catalog(|catalog| lost.iter().filter(|it| !catalog.is_lost(&pack, it)).copied().collect::<Vec<_>>());
        if !news.is_empty() {
            self.record_fate(pack, &news, Fate::Lost)?;
        }
        match &unreadable {
            None => self.set_readable(pack, &footer, bytes)?,
            Some(why) => self.set_unreadable(pack, Unreadable::Records(why.clone()))?,
        }
        self.mend_rows(pack, &footer)?;
        let mismatch = lost.first().map(|target| format!("{} does not match its digest", shown(target)));
        let what: Vec<String> = mismatch.into_iter().chain(unreadable).chain(framing).collect();
        if let Some(first) = what.first() {
            let text = match lost.len() {
                0 | 1 => first.clone(),
                all => format!("{first}; and {} more", all - 1),
            };
            findings.what.push((pack, text));
        }
        Ok(())
    }

    /// One missing pack is lost. When several are missing, the disk that holds them may not be mounted: nothing is recorded
    /// as lost then. Returns these.
    fn conclude_missing(&self, findings: &mut Findings) -> Result<Vec<PackId>, VerifyError> {
        let missing = std::mem::take(&mut findings.missing);
        let is_recorded = |pack: &PackId| self.catalog(|catalog| catalog.losses_of(pack).is_some());
        let (recorded, news): (Vec<PackId>, Vec<PackId>) = missing.into_iter().partition(is_recorded);
        findings.what.extend(recorded.into_iter().map(|pack| (pack, "it is missing".to_owned())));
        if news.is_empty() {
            return Ok(news);
        }
        if let ([pack], true) = (news.as_slice(), self.are_others_there(&news)) {
            if let Some((number, _)) = self.shared.index.pack(pack) {
                let lost = self.rows_in(number)?;
                self.record_fate(*pack, &lost, Fate::Lost)?;
            }
            self.set_unreadable(*pack, Unreadable::Object("it is missing".into()))?;
            findings.what.push((*pack, "it is missing".to_owned()));
            return Ok(Vec::new());
        }
        for pack in &news {
            self.set_unreadable(*pack, Unreadable::Object("it is missing".into()))?;
        }
        Ok(news)
    }

    /// Whether all packs but this one are there. If they cannot be listed, that is not known.
    fn are_others_there(&self, missing: &[PackId]) -> bool {
        let Ok(listed) = self.shared.store.list(ObjectKind::Pack) else { return false };
        let listed: HashSet<PackId> = listed.iter().filter_map(ObjectName::as_pack).collect();
        let packs = self.catalog(|catalog| catalog.packs());
        let mut others = packs.iter().filter(|(pack, _)| !missing.contains(pack)).peekable();
        let is_recorded = |pack: &PackId| self.catalog(|catalog| catalog.losses_of(pack).is_some());
        others.peek().is_some() && others.all(|(pack, _)| listed.contains(pack) || is_recorded(pack))
    }

    fn damages(&self, what: &[(PackId, String)], missing: &[PackId], survey: &Survey, is_alone: bool) -> Vec<Damage> {
        let nowhere = survey.with_missing_rows();
        let is_indexed = |pack: &PackId| self.shared.index.pack(pack).is_some_and(|(_, entry)| entry.indexed);
        let touched = |pack: &PackId| {
            let mut touched = survey.touched_by(pack);
            if !is_indexed(pack) {
                touched.extend(&nowhere);
            }
            touched
        };
        let mut damages: Vec<Damage> =
            what.iter().map(|(pack, what)| Damage::new(ObjectName::pack(*pack), what.clone(), touched(pack))).collect();
        if let Some(first) = missing.first() {
            let (count, place) = (missing.len(), self.shared.store.location(ObjectKind::Pack));
            let what = format!(
                "it is missing, one of {count} packs missing in {place}: is the right disk mounted there? Nothing was recorded as \
                 lost"
            );
            let snapshots = missing.iter().flat_map(touched).collect();
            damages.push(Damage { is_harmless: false, ..Damage::new(ObjectName::pack(*first), what, snapshots) });
        }
        let named: BTreeSet<SnapshotNumber> = damages.iter().flat_map(|damage| damage.snapshots.clone()).collect();
        for number in nowhere.difference(&named).filter(|_| !is_alone) {
            let Some(id) = self.catalog(|catalog| catalog.snapshot(*number).map(|snapshot| snapshot.id)) else {
                continue;
            };
            let what = "something in its tree is in no pack of this repository".to_owned();
            damages.push(Damage::new(ObjectName::manifest(id), what, BTreeSet::from([*number])));
        }
        damages
    }
}

/// Names what became of the root and inner nodes that a pack has lost and another one has.
fn name_mended(damage: &mut Damage, mended: &Mended) {
    let nodes = damage.object.as_pack().and_then(|pack| mended.by_pack.get(&pack));
    match (nodes, mended.is_durable) {
        (None, _) => {}
        (Some(nodes), true) => {
            damage.what =
                format!("{}; root and inner nodes written again from their other copies: {nodes}", damage.what);
            damage.is_healed = damage.is_harmless;
        }
        (Some(nodes), false) => {
            let what = "root and inner nodes of which one copy is left, and which cannot be written again";
            damage.what = format!("{}; {what}: {nodes}", damage.what);
        }
    }
}

/// Neighbours, about [`PIECE_BYTES`] together; at least one record.
fn pieces(records: &[FooterRecord]) -> impl Iterator<Item = &[FooterRecord]> {
    records.chunk_by(|a, b| a.place.offset / PIECE_BYTES == b.place.offset / PIECE_BYTES)
}
