//! What the system is for: a tree goes in through the real doors, and comes back equal.

use crate::world::{World, noise, said};
use lifeboat_tests::torture;
use std::fs;

#[test]
fn each_snapshot_restores_as_the_source_was_then() {
    let world = World::new();
    world.write("large", &noise(1, 20_000_000));
    for file in 0..500 {
        world.write(&format!("many/{}/{file}", file % 9), &noise(file, (file * 37 % 9000) as usize));
    }
    let first = world.backed_up();
    let original = world.path("original");
    let copied = std::process::Command::new("cp").arg("-a").arg(world.source()).arg(&original).status().unwrap();
    assert!(copied.success());
    world.write("many/3/new", b"new");
    fs::remove_file(world.source().join("many/4/13")).unwrap();
    let second = world.backed_up();
    world.assert_restores(&first, &original, "first");
    world.assert_restores(&second, &world.source(), "second");
}

#[test]
fn listing_showing_and_comparing_agree_with_the_source() {
    let world = World::new();
    world.write("a:b@c", b"a name with everything that an address has too\n");
    world.write("plain", b"one\n");
    let first = world.backed_up();
    world.write("plain", b"two\n");
    world.write("added", b"");
    world.backed_up();
    let source = world.source().display().to_string();

    let shown = |address: String, at: &[&str]| {
        let output = world.lab.try_lifeboat(&[&["cat", &address], at].concat()).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    assert_eq!(shown(format!("server:{source}/plain"), &[]), b"two\n");
    assert_eq!(shown(format!("server:{source}/plain@{first}"), &[]), b"one\n");
    assert_eq!(shown(format!("server:{source}/plain"), &["--at", &first]), b"one\n");
    assert_eq!(shown(format!("server:{source}/a:b@c"), &[]), fs::read(world.source().join("a:b@c")).unwrap());

    let listing = world.lab.lifeboat(&["ls", &format!("server:{source}")]).unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert!(["a:b@c", "plain", "added"].iter().all(|name| listing.contains(name)), "{listing}");

    let changes = world.lab.lifeboat(&["diff", &format!("server:{source}@{first}")]).unwrap();
    let changes = String::from_utf8(changes.stdout).unwrap();
    assert!(changes.contains("plain") && changes.contains("added") && !changes.contains("a:b@c"), "{changes}");
}

mod as_root {
    use super::*;
    use lifeboat_coordinator::cli::demo::compare::compare;

    /// Every kind of entry, attribute and odd name, through the whole system.
    #[test]
    fn a_tree_of_everything_comes_back_without_a_difference() {
        let world = World::new();
        let size = torture::Size { levels: 10_000, files: 300 };
        let built = torture::build(&world.source(), size);
        built.left_out.iter().for_each(|kind| println!("left out, this file system has none: {kind}"));
        let output = world.backup();
        assert!(output.status.success(), "{}", said(&output));
        let target = world.path("restored");
        let address = world.address();
        let output = world.lab.try_lifeboat(&["restore", &address, "--to", target.to_str().unwrap()]).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let differences = compare(&world.source(), &target).unwrap().differences;
        assert!(differences.is_empty(), "{differences:?}");
        torture::remove(&world.source());
        torture::remove(&target);
    }
}
