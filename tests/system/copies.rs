//! Manifests, envelopes, key objects, trust files and batches of the journal exist twice: either copy will do, and a bad
//! one is named and healed. A matrix: each kind of object × damage × copy × start, restore, backup, verify, brought back.

use crate::harm::{Damage, bring_back, inflict};
use crate::world::{World, said};
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;
use std::path::{Path, PathBuf};

/// An object by its path in the repository, and another one of its kind.
struct Object {
    path: String,
    other: String,
}

/// A repository with two snapshots, and its small objects.
struct Place {
    world: World,
    snapshots: [String; 2],
}

impl Place {
    fn new() -> Self {
        let world = World::new();
        world.write("file", b"content");
        let first = world.backed_up();
        world.write("second", b"more");
        let snapshots = [first, world.backed_up()];
        Self { world, snapshots }
    }

    fn repository(&self) -> PathBuf {
        self.world.lab.repository()
    }

    /// One object of each kind, the newest of those that have an order; of the journal an old batch and the last one.
    fn objects(&self) -> Vec<Object> {
        let of = |kind: &str, id: &str| format!("{kind}/{}/{id}", &id[..2]);
        let [first, second] = &self.snapshots;
        let last = fs::read_dir(self.repository().join("journal")).unwrap().count();
        let numbered = |kind: &str, number: usize| format!("{kind}/{number:020}");
        let object = |path: String, other: String| Object { path, other };
        vec![
            object(of("manifests", second), of("manifests", first)),
            object(of("envelopes", second), of("envelopes", first)),
            object("keys/scope-1".into(), "keys/authority-1".into()),
            object("keys/authority-1".into(), "keys/scope-1".into()),
            object(numbered("trust", 1), "keys/scope-1".into()),
            object(numbered("journal", 2), numbered("journal", 3)),
            object(numbered("journal", last), numbered("journal", 2)),
        ]
    }

    fn restart(&self) {
        self.world.lab.stop(Side::Coordinator).unwrap();
        self.world.lab.serve().unwrap();
    }

    fn verify(&self) -> std::process::Output {
        self.world.lab.try_lifeboat(&["repository", "verify"]).unwrap()
    }
}

/// All objects at once lose one copy. With `verified`, that is found by `verify`, else by a start and by who reads.
fn lose_one_copy(damage: Damage, copies: &str, verified: bool) {
    let place = Place::new();
    let what = format!(
        "{damage:?} of {:?} copies, verified first: {verified}",
        if copies.is_empty() { "first" } else { "second" }
    );
    let repository = place.repository();
    place.world.lab.stop(Side::Coordinator).unwrap();
    let objects = place.objects();
    let good: Vec<_> = objects.iter().map(|object| fs::read(repository.join(&object.path)).unwrap()).collect();
    let paths: Vec<_> = objects.iter().map(|object| repository.join(format!("{copies}{}", object.path))).collect();
    let others: Vec<_> = objects.iter().map(|object| fs::read(repository.join(&object.other)).unwrap()).collect();
    for (path, other) in paths.iter().zip(&others) {
        let kept = place.world.path("other");
        fs::write(&kept, other).unwrap();
        inflict(damage, path, &kept);
    }
    place.world.lab.serve().unwrap_or_else(|error| panic!("{what}: {error}"));
    if verified {
        let said_first = place.verify();
        let text = said(&said_first);
        let code = if damage == Damage::Unreadable { 0 } else { 3 };
        assert_eq!(said_first.status.code(), Some(code), "{what}: {text}");
        let is_one_line = damage == Damage::Deleted && !copies.is_empty();
        for object in objects.iter().filter(|_| !is_one_line) {
            assert!(text.contains(&format!("{copies}{}: ", object.path)), "{what}: {text}");
        }
        assert!(text.contains("second copies") || !is_one_line, "{what}: {text}");
    }
    place.world.assert_restores(&place.snapshots[1], &place.world.source(), "restored");
    place.world.write("third", b"a backup goes on");
    let third = place.world.backed_up();
    place.restart();
    place.world.assert_restores(&third, &place.world.source(), "restored");
    if damage == Damage::Unreadable {
        let text = said(&place.verify());
        assert!(
            text.contains("the other copy is intact") && text.contains("every snapshot can be restored"),
            "{what}: {text}"
        );
        paths.iter().zip(&good).for_each(|(path, bytes)| bring_back(path, bytes));
    } else {
        assert!(place.verify().status.success(), "{what}: all was read by now, and healed");
        for (path, bytes) in paths.iter().zip(&good) {
            assert_eq!(fs::read(path).unwrap(), *bytes, "{what}: {} is healed", path.display());
        }
    }
    let all_good = said(&place.verify());
    assert!(all_good.contains("all good"), "{what}: {all_good}");
}

fn lose_either(damage: Damage) {
    lose_one_copy(damage, "", true);
    lose_one_copy(damage, "", false);
    lose_one_copy(damage, "copies/", true);
}

#[test]
fn inv_73_a_copy_with_a_wrong_bit_is_named_and_healed() {
    lose_either(Damage::Bit);
}

#[test]
fn inv_73_a_copy_that_was_cut_is_named_and_healed() {
    lose_either(Damage::Cut);
}

#[test]
fn inv_73_a_missing_copy_is_named_and_written_again() {
    lose_either(Damage::Deleted);
}

#[test]
fn inv_73_a_copy_of_another_object_is_named_and_healed() {
    lose_either(Damage::Exchanged);
}

#[test]
fn inv_73_a_copy_that_can_be_neither_read_nor_replaced_is_named_and_ends_nothing() {
    lose_either(Damage::Unreadable);
}

/// What still works with both copies of one object gone.
struct Expected {
    /// The start brings the object back from where the coordinator keeps it, too.
    is_healed: bool,
    restores: bool,
    /// If not, the coordinator writes nothing, and each command says why.
    backs_up: bool,
}

/// In the order of [`Place::objects`]. `verify` names the object, and fails until it is back. Without the last batch at all
/// the repository is an older copy, and `older_copy.rs` says what becomes of that.
const BOTH_GONE: [Expected; 7] = [
    Expected { is_healed: false, restores: false, backs_up: true },
    Expected { is_healed: false, restores: false, backs_up: true },
    Expected { is_healed: false, restores: false, backs_up: true },
    Expected { is_healed: false, restores: true, backs_up: true },
    Expected { is_healed: true, restores: true, backs_up: true },
    Expected { is_healed: false, restores: true, backs_up: false },
    Expected { is_healed: false, restores: true, backs_up: false },
];

/// What is in the way of a trust file cannot be replaced: the one that was kept is read, and nothing is written.
const TRUST_FILE_UNREADABLE: Expected = Expected { is_healed: false, restores: true, backs_up: false };

fn lose_both_copies(damage: Damage) {
    for (number, expected) in BOTH_GONE.iter().enumerate() {
        let is_stuck = expected.is_healed && damage == Damage::Unreadable;
        let expected = if is_stuck { &TRUST_FILE_UNREADABLE } else { expected };
        if number + 1 == BOTH_GONE.len() && damage == Damage::Deleted {
            continue;
        }
        let place = Place::new();
        place.world.lab.stop(Side::Coordinator).unwrap();
        let object = place.objects().swap_remove(number);
        let what = format!("{damage:?} of {}", object.path);
        let both = ["", "copies/"].map(|copies| place.repository().join(format!("{copies}{}", object.path)));
        let good = fs::read(&both[0]).unwrap();
        let other = place.world.path("other");
        fs::copy(place.repository().join(&object.other), &other).unwrap();
        both.iter().for_each(|path| inflict(damage, path, &other));
        place.world.lab.serve().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_works(&place, expected, &object.path, &what);
        place.world.lab.stop(Side::Coordinator).unwrap();
        both.iter().for_each(|path| bring_back(path, &good));
        place.world.lab.serve().unwrap();
        let all_good = said(&place.verify());
        assert!(all_good.contains("all good") && !all_good.contains("warning:"), "{what}: {all_good}");
        place.world.assert_restores(&place.snapshots[1], &place.world.source(), "again");
    }
}

fn assert_works(place: &Place, expected: &Expected, object: &str, what: &str) {
    let lifeboat = |arguments: &[&str]| place.world.lab.try_lifeboat(arguments).unwrap();
    let found = place.verify();
    assert_eq!(found.status.code(), Some(if expected.is_healed { 3 } else { 1 }), "{what}: {}", said(&found));
    assert!(said(&found).contains(object), "{what}: {}", said(&found));
    let again = place.verify();
    assert_eq!(again.status.success(), expected.is_healed, "{what}: {}", said(&again));
    assert_eq!(said(&again).contains(object), !expected.is_healed, "{what}: {}", said(&again));
    let address = format!("server:{}@{}", place.world.source().display(), place.snapshots[1]);
    let target = place.world.path("restored");
    let restored = lifeboat(&["restore", &address, "--to", target.to_str().unwrap()]);
    assert_eq!(restored.status.success(), expected.restores, "restore: {what}: {}", said(&restored));
    let list = lifeboat(&["snapshots", "server"]);
    assert_eq!(list.status.code(), Some(if expected.backs_up { 0 } else { 3 }), "{what}: a list may lack something");
    let listed = said(&list);
    place.snapshots.iter().for_each(|id| assert!(listed.contains(&id[..8]), "{what}: {listed}"));
    assert_eq!(listed.contains("warning: the journal is damaged"), !expected.backs_up, "{what}: {listed}");
    assert_eq!(listed.contains("from a copy of the repository"), !expected.backs_up, "{what}: {listed}");
    let backup = place.world.backup();
    assert_eq!(backup.status.success(), expected.backs_up, "backup: {what}: {}", said(&backup));
    assert_eq!(said(&backup).contains(object), !expected.backs_up, "{what}: {}", said(&backup));
}

#[test]
fn inv_73_an_object_with_a_wrong_bit_in_both_copies_is_named_and_all_is_good_when_it_is_back() {
    lose_both_copies(Damage::Bit);
}

#[test]
fn inv_73_an_object_of_which_both_copies_were_cut_is_named_and_all_is_good_when_it_is_back() {
    lose_both_copies(Damage::Cut);
}

#[test]
fn inv_73_an_object_without_any_copy_is_named_and_all_is_good_when_it_is_back() {
    lose_both_copies(Damage::Deleted);
}

#[test]
fn inv_73_an_object_of_which_no_copy_can_be_read_is_named_and_all_is_good_when_it_is_back() {
    lose_both_copies(Damage::Unreadable);
}

#[test]
fn inv_73_an_object_with_another_one_in_both_places_is_named_and_all_is_good_when_it_is_back() {
    lose_both_copies(Damage::Exchanged);
}

/// A copy of the repository that leaves the second copies out works, and gets them again.
#[test]
fn a_repository_without_second_copies_works_and_gets_them_again() {
    let place = Place::new();
    place.world.lab.stop(Side::Coordinator).unwrap();
    let copies = place.repository().join("copies");
    let count = |path: &Path| {
        walkdir::WalkDir::new(path).into_iter().filter(|e| e.as_ref().unwrap().file_type().is_file()).count()
    };
    let before = count(&copies);
    fs::remove_dir_all(&copies).unwrap();
    place.world.lab.serve().unwrap();
    place.world.assert_restores(&place.snapshots[1], &place.world.source(), "restored");
    let text = said(&place.verify());
    assert!(
        text.contains("other second copies") && text.contains("healed, and every snapshot can be restored"),
        "{text}"
    );
    assert!(count(&copies) > before);
    assert!(said(&place.verify()).contains("all good"));
}

/// Objects of another repository lie under the names of ours, as after a copy into the wrong directory.
#[test]
fn inv_73_objects_of_another_repository_are_named_and_healed() {
    let (place, other) = (Place::new(), Place::new());
    place.world.lab.stop(Side::Coordinator).unwrap();
    let numbered = |kind: &str, number: u64| format!("{kind}/{number:020}");
    let objects = [numbered("trust", 1), numbered("journal", 1), numbered("journal", 2), "keys/scope-1".to_owned()];
    let good: Vec<_> = objects.iter().map(|path| fs::read(place.repository().join(path)).unwrap()).collect();
    for path in &objects {
        fs::copy(other.repository().join(path), place.repository().join(path)).unwrap();
    }
    place.world.lab.serve().unwrap();
    place.world.assert_restores(&place.snapshots[1], &place.world.source(), "restored");
    assert_eq!(place.verify().status.code(), Some(3), "a start has healed, and it is said");
    for (path, good) in objects.iter().zip(good) {
        assert_eq!(fs::read(place.repository().join(path)).unwrap(), good, "{path}");
    }
    assert!(said(&place.verify()).contains("all good"));
}
