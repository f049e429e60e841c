//! Facts that the index could not take when they were written, and more packs than one event names.

use super::lab::*;
use crate::index::Changes;
use lifeboat_format::id::PackId;
use lifeboat_format::journal::Event;
use lifeboat_format::journal::event::{AddedPack, Holds};
use lifeboat_format::link::Target;

#[test]
fn inv_03_a_fact_that_the_index_could_not_take_is_taken_with_the_next_one() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &[chunk(0)]);
    let index = &coordinator.shared.index;
    let (seen, id) = (index.journal_seen().unwrap().unwrap(), chunk(0).id);
    let row = index.chunk(&id).unwrap().unwrap();
    let pack = index.pack_id(row.bodies[0].place.pack).unwrap();
    coordinator.record(vec![act(Event::Loss { pack, records: vec![Target::Chunk(id)] })]).unwrap();
    // As if this batch had not come through.
    let mut changes = Changes::default();
    index.set_chunk(&mut changes, &id, &row).unwrap();
    index.write(changes).unwrap();
    index.set_journal_seen(seen).unwrap();
    coordinator.record(vec![act(Event::Nothing)]).unwrap();
    assert_eq!(index.chunk(&id).unwrap(), None);
    assert_eq!(index.journal_seen().unwrap().unwrap().number, coordinator.journal().len());
}

#[test]
fn more_packs_than_one_event_or_batch_can_name_are_adopted() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let count = 300_000_u32;
    let pack = |number: u32| PackId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let added = (0..count).map(|number| AddedPack { pack: pack(number), holds: Holds::Chunks });
    coordinator.shared.lock().not_journalled.extend(added);
    coordinator.record(vec![act(Event::Nothing)]).unwrap();
    assert_eq!(coordinator.catalog(|catalog| catalog.packs().len()), count as usize);
    assert_eq!(coordinator.shared.lock().not_journalled.len(), 0);
}
