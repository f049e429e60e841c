//! The second reader of the format, `tests/reader/lifeboat_reader.py`, as a command.

use std::path::Path;
use std::process::{Command, Output};

/// Runs it on a repository, with the identity (or recovery kit) in this file. `LIFEBOAT_PYTHON` may name a Python that has
/// the packages it needs.
pub fn run(repository: &Path, identity: &Path, arguments: &[&str]) -> Output {
    let python = std::env::var_os("LIFEBOAT_PYTHON").unwrap_or("python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader/lifeboat_reader.py");
    let mut command = Command::new(python);
    command.arg(script).arg(repository).arg("--identity").arg(identity).args(arguments);
    command.output().expect("Python is there: `make test` sees to it")
}
