//! Makes a golden repository in a new directory: `cargo run -p lifeboat-tests --example make_golden -- DIR`.
//!
//! Once a version is released, its golden repository is never made again: readers must go on reading those very bytes.

fn main() {
    match std::env::args_os().nth(1) {
        Some(directory) => lifeboat_tests::golden::make(directory.as_ref()),
        None => eprintln!("usage: make_golden DIR"),
    }
}
