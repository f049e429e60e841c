//! The files of a checkout, as values: the real ones, or some made up to see a law fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders that a build or git makes; nobody writes in them by hand.
const MADE: [&str; 3] = [".git", "target", "bin"];

/// Paths relative to the top of the checkout, and the text of each file; empty for what is not text.
pub struct Checkout {
    files: BTreeMap<String, String>,
}

impl Checkout {
    /// The checkout in which this test was compiled.
    pub fn here() -> Self {
        let top = top();
        let entries = walkdir::WalkDir::new(&top)
            .into_iter()
            .filter_entry(|entry| entry.depth() != 1 || !MADE.iter().any(|made| entry.file_name() == *made));
        let files = entries
            .map(|entry| entry.expect("the checkout can be listed"))
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| (relative(&top, entry.path()), std::fs::read_to_string(entry.path()).unwrap_or_default()))
            .collect();
        Self { files }
    }

    /// A checkout of these files.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect() }
    }

    /// All files whose path ends so: path and text, sorted by path.
    pub fn ending(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter(move |(path, _)| path.ends_with(ending)).map(|(path, text)| (&**path, &**text))
    }

    /// The text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or a folder of this path is there.
    pub fn has(&self, path: &str) -> bool {
        path.is_empty() || self.files.contains_key(path) || {
            let folder = format!("{path}/");
            self.files.range(folder.clone()..).next().is_some_and(|(path, _)| path.starts_with(&folder))
        }
    }

    /// A file of TOML, parsed; an empty table if it is not there.
    pub fn toml(&self, path: &str) -> toml::Table {
        self.text(path).unwrap_or_default().parse().unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// The folder that holds the workspace.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_path_buf()
}

/// Fails with all faults, a line each.
#[track_caller]
pub fn assert_kept(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n  {}\n", faults.len(), faults.join("\n  "));
}

/// The lines of a Rust file that are not comments: number from 1, and text.
pub fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn relative(top: &Path, path: &Path) -> String {
    path.strip_prefix(top).expect("walked from the top").to_string_lossy().into_owned()
}
