//! A bad copy is healed from the one that belongs to this journal, and from no other.

use super::lab::*;
use crate::store::{ByteRange, ObjectName, Store};
use lifeboat_format::journal::{Act, Event};

/// A batch of a history that parted is signed by the same key under the same number.
#[test]
fn inv_73_a_batch_of_another_history_is_replaced_and_replaces_nothing() {
    let labs = [Lab::new(), Lab::new()];
    let coordinators = labs.each_ref().map(Lab::open);
    for (coordinator, verb) in coordinators.iter().zip(["here", "elsewhere"]) {
        coordinator.record(vec![Act { verb: verb.into(), ..act(Event::Nothing) }]).unwrap();
    }
    let name = ObjectName::journal(coordinators[0].journal().len());
    let [ours, other] = labs.each_ref().map(|lab| lab.objects.get(&name, ByteRange::Whole).unwrap());
    assert_ne!(ours, other);
    for bad in [name.clone(), name.copy()] {
        labs[0].objects.damage(&bad, Some(other.clone()));
        let damages = coordinators[0].verify(None, &mut |_| {}).unwrap();
        assert!(matches!(&damages[..], [damage] if damage.is_healed && damage.object == bad), "{damages:?}");
        assert_eq!(labs[0].objects.get(&bad, ByteRange::Whole).unwrap(), ours, "{bad}");
    }
    drop(coordinators);
    labs[0].open();
}
