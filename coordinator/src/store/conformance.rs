//! What every store must do, as one suite: run by the tests of each implementation, and before a new kind of
//! repository is trusted (INV-8).
//!
//! It panics at the first promise that is not kept, and leaves objects behind: give it an empty repository that
//! nobody needs.

use super::{Body, ByteRange, ObjectKind, ObjectName, Put, Store};
use crate::journal::Dead;
use crate::store::twice::{self, Intact};
use std::io::Write;
use std::sync::Barrier;

/// Runs the whole suite.
pub fn check(store: &dyn Store) {
    an_object_reads_back_whole_and_in_part(store);
    inv_07_a_name_that_is_taken_keeps_its_object(store);
    a_spooled_file_becomes_an_object_and_only_by_put(store);
    what_is_not_there_is_not_found(store);
    a_list_names_each_object_of_its_kind_once(store);
    inv_38_of_racing_puts_exactly_one_is_done(store);
    a_dead_object_is_gone_and_may_die_twice(store);
    inv_73_a_second_copy_is_an_object_of_its_own_and_heals(store);
}

fn put(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Put {
    store.put(name, Body::Bytes(bytes.to_vec())).expect("a put")
}

fn get(store: &dyn Store, name: &ObjectName) -> Vec<u8> {
    store.get(name, ByteRange::Whole).expect("an object").to_vec()
}

fn pack(digit: char) -> ObjectName {
    ObjectName::new(ObjectKind::Pack, &digit.to_string().repeat(64)).expect("a name")
}

fn an_object_reads_back_whole_and_in_part(store: &dyn Store) {
    let name = pack('a');
    assert_eq!(put(store, &name, b"0123456789"), Put::Done);
    assert_eq!(get(store, &name), b"0123456789");
    assert_eq!(store.size(&name).expect("a size"), 10);
    let part = |range| store.get(&name, range).map(|bytes| bytes.to_vec()).ok();
    assert_eq!(part(ByteRange::At { offset: 3, bytes: 4 }).as_deref(), Some(&b"3456"[..]));
    assert_eq!(part(ByteRange::Last(2)).as_deref(), Some(&b"89"[..]));
    for outside in
        [ByteRange::At { offset: 7, bytes: 4 }, ByteRange::Last(11), ByteRange::At { offset: u64::MAX, bytes: 2 }]
    {
        assert!(part(outside).is_none(), "{outside:?} is not all there");
    }
    let empty = pack('0');
    assert_eq!(put(store, &empty, b""), Put::Done);
    assert_eq!(get(store, &empty), b"");
}

fn inv_07_a_name_that_is_taken_keeps_its_object(store: &dyn Store) {
    let name = ObjectName::manifest("bb".repeat(32).parse().expect("an id"));
    assert_eq!(put(store, &name, b"first"), Put::Done);
    assert_eq!(put(store, &name, b"second"), Put::Taken);
    assert_eq!(get(store, &name), b"first");
}

fn a_spooled_file_becomes_an_object_and_only_by_put(store: &dyn Store) {
    let name = pack('c');
    let mut dropped = store.spool().expect("a temporary file");
    dropped.write_all(b"never").expect("a write");
    drop(dropped);
    let mut spooled = store.spool().expect("a temporary file");
    spooled.write_all(b"whole").expect("a write");
    assert!(store.get(&name, ByteRange::Whole).is_err());
    assert_eq!(store.put(&name, Body::Spooled(spooled)).expect("a put"), Put::Done);
    assert_eq!(get(store, &name), b"whole");
    let mut late = store.spool().expect("a temporary file");
    late.write_all(b"other").expect("a write");
    assert_eq!(store.put(&name, Body::Spooled(late)).expect("a put"), Put::Taken);
    assert_eq!(get(store, &name), b"whole");
}

fn what_is_not_there_is_not_found(store: &dyn Store) {
    let name = ObjectName::journal(404);
    assert!(store.get(&name, ByteRange::Whole).expect_err("nothing").is_not_found());
    assert!(store.size(&name).expect_err("nothing").is_not_found());
}

fn a_list_names_each_object_of_its_kind_once(store: &dyn Store) {
    for number in [3, 1, 2] {
        put(store, &ObjectName::journal(number), b"batch");
    }
    let listed = store.list(ObjectKind::Journal).expect("a list");
    assert_eq!(listed, [1, 2, 3].map(ObjectName::journal), "sorted, whole, and nothing else");
    assert_eq!(store.list(ObjectKind::Trust).expect("a list"), []);
    let greatest = |kind| store.greatest_number(kind).expect("a number");
    assert_eq!((greatest(ObjectKind::Journal), greatest(ObjectKind::Trust)), (Some(3), None));
    put(store, &ObjectName::journal(900).copy(), b"batch");
    assert_eq!(greatest(ObjectKind::Journal), Some(900), "of whichever copy");
}

fn inv_38_of_racing_puts_exactly_one_is_done(store: &dyn Store) {
    for round in 1000..1020 {
        let name = ObjectName::journal(round);
        let start = Barrier::new(4);
        let outcomes: Vec<Put> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4u8)
                .map(|racer| {
                    let (start, name) = (&start, &name);
                    scope.spawn(move || {
                        start.wait();
                        put(store, name, &[racer; 100])
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().expect("a racer")).collect()
        });
        let winners: Vec<usize> = (0..4).filter(|racer| outcomes[*racer] == Put::Done).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(get(store, &name), [winners[0] as u8; 100]);
    }
}

fn a_dead_object_is_gone_and_may_die_twice(store: &dyn Store) {
    let name = pack('d');
    put(store, &name, b"bytes");
    for _ in 0..2 {
        store.delete(Dead::named_for_conformance(&name)).expect("a delete");
        assert!(store.get(&name, ByteRange::Whole).expect_err("nothing").is_not_found());
    }
}

fn inv_73_a_second_copy_is_an_object_of_its_own_and_heals(store: &dyn Store) {
    let name = ObjectName::trust(7);
    assert_eq!(put(store, &name.copy(), b"good"), Put::Done);
    assert!(store.size(&name).is_err_and(|error| error.is_not_found()));
    assert_eq!(store.list(ObjectKind::Trust).expect("a list"), []);
    assert_eq!(store.list_copies(ObjectKind::Trust).expect("a list"), [name.copy()]);
    assert_eq!(twice::list_either(store, ObjectKind::Trust).expect("a list"), std::slice::from_ref(&name));
    assert_eq!(put(store, &name, b"bad"), Put::Done);
    let heal = |name: &ObjectName| store.heal(&Intact::found_for_conformance(name, b"good".as_slice().into()));
    heal(&name).expect("in place of another");
    assert_eq!(get(store, &name), b"good");
    let absent = ObjectName::trust(8);
    match put(store, &absent.copy(), b"good") {
        Put::Done => assert_eq!(get(store, &absent.copy()), b"good"),
        Put::Taken => panic!("it is new"),
    }
}
