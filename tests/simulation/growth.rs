//! What equal files cost a second host, and a third (D6 of the design: what two hosts brought alike serves all).

use crate::host::Host;
use crate::lab::Lab;
use crate::source::Source;
use lifeboat_coordinator::store::{ObjectKind, Store};

fn pack_bytes(lab: &Lab) -> u64 {
    let packs = lab.objects().list(ObjectKind::Pack).unwrap();
    packs.iter().map(|pack| lab.objects().size(pack).unwrap()).sum()
}

#[test]
fn equal_files_of_another_host_are_stored_once_and_those_of_a_third_are_not_even_sent() {
    let lab = Lab::new("growth", 250_000);
    let first = lab.host(1);
    Source::new(&first.source, 3, lab.clock().clone()).fill(150);
    let [second, third]: [Host; 2] = [2, 3].map(|id| lab.host_with(id, &first.source));
    let (_, sent_first) = lab.backup(&first);
    let stored = pack_bytes(&lab);
    assert!(sent_first.chunks > 12, "{sent_first:?}");

    let (_, sent_second) = lab.backup(&second);
    assert_eq!(sent_second.chunks, sent_first.chunks, "nobody else's word counts for what it has not sent itself");
    // Nodes of the way to the source may differ: others change it meanwhile.
    assert!(pack_bytes(&lab) < stored + stored / 50, "{} after {stored}", pack_bytes(&lab));

    let (_, sent_third) = lab.backup(&third);
    assert_eq!(sent_third.chunks, 0);
    lab.check();
}
