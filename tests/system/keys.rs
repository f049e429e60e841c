//! Key objects and trust files: what is wrong with them is found, and what is not needed ends nothing.

use crate::world::{World, refused, said};
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;
use std::path::{Path, PathBuf};

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn copy_of(repository: &Path, object: &Path) -> PathBuf {
    repository.join("copies").join(object.strip_prefix(repository).unwrap())
}

/// Every key object and the trust file, both copies with one bit changed, and gone.
#[test]
fn inv_11_verify_finds_each_key_object_and_trust_file_that_is_corrupt_or_missing() {
    let world = World::new();
    world.write("file", b"content");
    let snapshot = world.backed_up();
    let repository = world.lab.repository();
    let verify = || world.lab.try_lifeboat(&["repository", "verify"]).unwrap();
    assert!(verify().status.success());
    let mut objects: Vec<PathBuf> = fs::read_dir(repository.join("keys")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(objects.len(), 2);
    objects.push(repository.join("trust").join(format!("{:020}", 1)));
    for object in objects {
        let good = fs::read(&object).unwrap();
        let name = object.file_name().unwrap().to_str().unwrap().to_owned();
        let both = [object.clone(), copy_of(&repository, &object)];
        both.iter().for_each(|copy| flip(copy));
        refused(&verify(), &[&name, "damaged"]);
        both.iter().for_each(|copy| fs::remove_file(copy).unwrap());
        refused(&verify(), &[&name, "damaged"]);
        both.iter().for_each(|copy| fs::write(copy, &good).unwrap());
        let again = verify();
        assert!(again.status.success(), "the good bytes are back: {}", said(&again));
    }
    world.assert_restores(&snapshot, &world.source(), "restored");
}

/// A file that is no key object, and a second key object that is corrupt.
#[test]
fn a_key_object_that_is_not_needed_ends_no_restore_and_is_named() {
    let world = World::new();
    world.write("file", b"content");
    let snapshot = world.backed_up();
    let keys = world.lab.repository().join("keys");
    fs::write(keys.join("notes"), "disk bought in 2024").unwrap();
    fs::copy(keys.join("scope-1"), keys.join("scope-1.old")).unwrap();
    flip(&keys.join("scope-1.old"));
    for when in ["at once", "after a restart"] {
        world.assert_restores(&snapshot, &world.source(), when);
        let token = world.lab.try_lifeboat(&["token", "create"]).unwrap();
        assert!(token.status.success(), "{}", said(&token));
        let verified = world.lab.try_lifeboat(&["repository", "verify"]).unwrap();
        let text = said(&verified);
        assert!(verified.status.success(), "every snapshot can be restored: {text}");
        assert!(text.contains("keys/notes") && text.contains("keys/scope-1.old"), "{text}");
        world.lab.stop(Side::Coordinator).unwrap();
        world.lab.serve().unwrap();
        world.lab.wait_for_agent().unwrap();
    }
    fs::remove_file(keys.join("scope-1")).unwrap();
    fs::remove_file(copy_of(&world.lab.repository(), &keys.join("scope-1"))).unwrap();
    let target = world.path("without the secret");
    let output = world.lab.try_lifeboat(&["restore", &world.address(), "--to", target.to_str().unwrap()]).unwrap();
    refused(&output, &["scope 1", "keys/notes", "keys/scope-1.old", "copy of the repository"]);
}

/// The newest manifest is missing, as in a copy that was taken while a backup ran.
#[test]
fn a_lost_manifest_costs_its_snapshot_and_no_later_backup() {
    let world = World::new();
    for day in 0..20 {
        world.write(&format!("{day}"), b"content");
    }
    let first = world.backed_up();
    world.write("0", b"changed");
    let second = world.backed_up();
    let manifest = world.lab.repository().join("manifests").join(&second[..2]).join(&second);
    let good = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    fs::remove_file(copy_of(&world.lab.repository(), &manifest)).unwrap();
    world.write("1", b"changed");
    let third = world.backed_up();
    world.assert_restores(&third, &world.source(), "third");
    refused(&world.lab.try_lifeboat(&["repository", "verify"]).unwrap(), &[&second, "1 snapshot needs it"]);
    for day in 0..20 {
        fs::remove_file(world.source().join(format!("{day}"))).unwrap();
    }
    let emptied = world.backup();
    assert!(
        !emptied.status.success() && said(&emptied).contains("suspect"),
        "compared with the third: {}",
        said(&emptied)
    );
    fs::write(&manifest, &good).unwrap();
    fs::write(copy_of(&world.lab.repository(), &manifest), &good).unwrap();
    let verified = world.lab.try_lifeboat(&["repository", "verify"]).unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
    assert_ne!(first, second);
}
