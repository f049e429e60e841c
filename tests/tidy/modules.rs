//! No file is left out of the build: every source file is declared as a module by the file above it.

use crate::checkout::Checkout;

fn undeclared(checkout: &Checkout) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, _) in checkout.ending(".rs") {
        let Some((folder, name)) = path.strip_suffix(".rs").and_then(|path| path.rsplit_once('/')) else { continue };
        let above = [format!("{folder}.rs"), format!("{folder}/lib.rs"), format!("{folder}/main.rs")];
        let mut above = above.iter().filter_map(|path| checkout.text(path)).peekable();
        let is_root = ["lib", "main"].contains(&name) || above.peek().is_none();
        if !is_root && !above.any(|text| declares(text, name)) {
            faults.push(format!("{path}: no `mod {name};` in the file above it, so it is not compiled"));
        }
    }
    faults
}

fn declares(text: &str, name: &str) -> bool {
    let declaration = format!("mod {name};");
    text.lines().map(str::trim_start).any(|line| {
        line.strip_suffix(&declaration).is_some_and(|before| before.is_empty() || before.starts_with("pub"))
    })
}

mod tests {
    use super::*;
    use crate::checkout::assert_kept;

    #[test]
    fn every_source_file_is_a_declared_module() {
        assert_kept(undeclared(&Checkout::here()));
    }

    #[test]
    fn a_file_that_nobody_declares_is_found() {
        let files = [
            ("a/build.rs", ""),
            ("a/src/lib.rs", "pub mod pack;\n// mod lost;\n"),
            ("a/src/pack.rs", "mod reader;\npub(crate) mod writer;\n"),
            ("a/src/pack/reader.rs", ""),
            ("a/src/pack/writer.rs", ""),
            ("a/src/pack/other.rs", ""),
            ("a/src/lost.rs", ""),
        ];
        let faults = undeclared(&Checkout::of(&files));
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
