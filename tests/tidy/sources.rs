//! What every source file keeps to: it says what it is for, stays short, leaves nothing half done, and uses RocksDB
//! only where the index lives; and no file knows the machine on which it was written.

use crate::checkout::{Checkout, code_lines};

/// A file of sources should have a third of this; above it, it does two things.
const LINES_MAX: usize = 700;

/// What is left half done. Each is put together here, so that this file does not hold it.
const HALF_DONE: [&str; 4] =
    [concat!("todo", "!"), concat!("unimplemented", "!"), concat!("dbg", "!"), concat!("#[ig", "nore")];

/// Places on one machine, and hosts that a mirror may stand in for.
const FOREIGN: [&str; 6] = [
    concat!("/wo", "rk/"),
    concat!("/root", "/.cargo"),
    concat!(".cargo/", "registry"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("deb.debian", ".org"),
];

fn opening(checkout: &Checkout) -> Vec<String> {
    let silent = checkout.ending(".rs").filter(|(_, text)| !text.starts_with("//! "));
    silent.map(|(path, _)| format!("{path}: does not open with `//!` and what it is for")).collect()
}

fn length(checkout: &Checkout) -> Vec<String> {
    let lengths = checkout.ending(".rs").map(|(path, text)| (path, text.lines().count()));
    lengths
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| {
            format!("{path}: has {lines} lines, more than {LINES_MAX}; give one of its subjects a file")
        })
        .collect()
}

fn half_done(checkout: &Checkout) -> Vec<String> {
    lines_with(checkout, |_| true, &HALF_DONE, "do it, or leave it out")
}

fn index_only(checkout: &Checkout) -> Vec<String> {
    let outside = |path: &str| {
        path.contains("/src/") && path != "coordinator/src/index.rs" && !path.starts_with("coordinator/src/index/")
    };
    lines_with(checkout, outside, &["rocksdb"], "only coordinator/src/index may use it")
}

/// Lines of code, in files that `applies` takes, that hold one of `words`.
fn lines_with(checkout: &Checkout, applies: impl Fn(&str) -> bool, words: &[&str], advice: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in checkout.ending(".rs").filter(|(path, _)| applies(path)) {
        for (number, line) in code_lines(text) {
            let found = words.iter().filter(|word| line.contains(**word));
            faults.extend(found.map(|word| format!("{path}:{number}: `{word}`: {advice}")));
        }
    }
    faults
}

fn foreign(checkout: &Checkout) -> Vec<String> {
    let mut faults = Vec::new();
    // Cargo writes its lock file itself, and names the registry in it in the one way that it knows.
    for (path, text) in checkout.ending("").filter(|(path, _)| *path != "Cargo.lock") {
        for (number, line) in (1..).zip(text.lines()) {
            let found = FOREIGN.iter().filter(|word| stands_alone(line, word));
            faults.extend(found.map(|word| format!("{path}:{number}: `{word}` belongs to one machine or network")));
        }
    }
    faults
}

/// Whether `line` holds `word` and not as the end of a longer name: `srv/work/` is a path of its own.
fn stands_alone(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric()))
}

mod tests {
    use super::*;
    use crate::checkout::assert_kept;

    #[test]
    fn every_source_file_says_what_it_is_for() {
        assert_kept(opening(&Checkout::here()));
    }

    #[test]
    fn a_file_without_an_opening_is_found() {
        let files = [("a/src/lib.rs", "use std::fs;\n"), ("b/src/lib.rs", "//! Does b.\n")];
        assert_eq!(opening(&Checkout::of(&files)).len(), 1);
    }

    #[test]
    fn no_source_file_is_too_long() {
        assert_kept(length(&Checkout::here()));
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let (longest, longer) = ("\n".repeat(LINES_MAX), "\n".repeat(LINES_MAX + 1));
        assert_eq!(length(&Checkout::of(&[("a.rs", &longest), ("b.rs", &longer)])).len(), 1);
    }

    #[test]
    fn nothing_is_left_half_done() {
        assert_kept(half_done(&Checkout::here()));
    }

    #[test]
    fn each_kind_of_half_done_is_found_in_code_and_not_in_comments() {
        for word in HALF_DONE {
            let (code, comment) = (format!("    {word}(1)"), format!("/// Not {word}"));
            assert_eq!(half_done(&Checkout::of(&[("a.rs", &code), ("b.rs", &comment)])).len(), 1, "{word}");
        }
    }

    #[test]
    fn only_the_index_uses_rocksdb() {
        assert_kept(index_only(&Checkout::here()));
    }

    #[test]
    fn rocksdb_outside_the_index_is_found() {
        let paths = ["coordinator/src/run.rs", "coordinator/src/index.rs", "coordinator/src/index/rows.rs"];
        assert_eq!(index_only(&Checkout::of(&paths.map(|path| (path, "use rocksdb::DB;")))).len(), 1);
    }

    #[test]
    fn no_file_knows_the_machine_on_which_it_was_written() {
        assert_kept(foreign(&Checkout::here()));
    }

    #[test]
    fn each_place_of_one_machine_is_found_and_a_longer_path_is_not() {
        for word in FOREIGN {
            assert_eq!(foreign(&Checkout::of(&[("a.md", &format!("see `{word}x`"))])).len(), 1, "{word}");
        }
        assert_eq!(foreign(&Checkout::of(&[("a.md", concat!("srv/wo", "rk/x"))])), [""; 0]);
    }
}
