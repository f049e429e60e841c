//! The torture tree, there and back.

use crate::copy::copy;
use lifeboat_agent::restore::Report;
use lifeboat_coordinator::cli::demo::compare::{Difference, compare};
pub use lifeboat_tests::torture::is_root;
use lifeboat_tests::torture::{Size, build, remove};
use std::path::Path;

/// Builds the tree in `place`, copies it there, and returns what differs.
pub fn torture(place: &Path, size: Size) -> (Vec<Difference>, Report) {
    torture_to(&place.join("target"), place, size)
}

/// The same, but copies it to a new directory elsewhere.
pub fn torture_to(target: &Path, place: &Path, size: Size) -> (Vec<Difference>, Report) {
    let source = place.join("source");
    std::fs::create_dir(&source).unwrap();
    let tree = build(&source, size);
    for left_out in &tree.left_out {
        println!("left out: {left_out}");
    }
    let (gaps, report) = copy(&source, target);
    assert!(gaps.is_empty(), "{}", gaps[0]);
    let differences = compare(&source, target).unwrap().differences;
    remove(&source);
    remove(target);
    (differences, report)
}

/// As root nothing is lost; as an ordinary user every difference is a named loss.
#[test]
fn inv_16_a_tree_of_everything_comes_back_with_every_loss_named() {
    let place = tempfile::tempdir().unwrap();
    let (differences, report) = torture(place.path(), Size::default());
    if is_root() {
        assert!(differences.is_empty(), "{} differences, first {}", differences.len(), differences[0]);
        assert!(report.is_complete(), "{:?} {:?}", report.losses.first(), report.failures.first());
        return;
    }
    println!("left out: nothing lost, which only root can say");
    for difference in differences {
        let path = difference.path.strip_prefix(b"/").unwrap_or_default();
        let is_named = report.losses.iter().any(|loss| loss.path == path)
            || report.failures.iter().any(|failure| failure.path == path);
        assert!(is_named, "{difference}");
    }
}
