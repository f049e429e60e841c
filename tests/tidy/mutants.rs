//! Each invariant that is tested has at least one mutant: a way to break the code that a named test must notice.
//!
//! Here the list is held against the code, in no time: what a mutant changes stands there, and its test exists. Whether
//! the test notices is for `make mutants`, which compiles each of them.

use crate::checkout::Checkout;
use crate::invariants::tested;

fn told_apart(checkout: &Checkout) -> Vec<String> {
    let mut faults = Vec::new();
    let mut covered = Vec::new();
    for (path, text) in checkout.ending(".toml").filter(|(path, _)| path.starts_with("tests/mutants/")) {
        let lists = text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{path}: {error}"));
        for (name, mutants) in lists {
            covered.extend(name.strip_prefix("INV-").and_then(|id| id.parse::<u32>().ok()));
            let mutants = mutants.as_array().cloned().unwrap_or_default();
            faults.extend(
                mutants
                    .iter()
                    .filter_map(|mutant| fault(checkout, mutant))
                    .map(|fault| format!("{path}: {name}: {fault}")),
            );
        }
    }
    let bare = tested(checkout).into_keys().filter(|id| !covered.contains(id));
    faults.extend(bare.map(|id| format!("tests/mutants: INV-{id} has no mutant; see CONTRIBUTING.md")));
    faults
}

fn fault(checkout: &Checkout, mutant: &toml::Value) -> Option<String> {
    let text = |key: &str| mutant.get(key).and_then(toml::Value::as_str).unwrap_or_default();
    let (what, file, find, test) = (text("what"), text("file"), text("find"), text("test"));
    let places = checkout.text(file).map_or(0, |code| code.matches(find).count());
    if find.is_empty() || places != 1 {
        return Some(format!("{what}: what it changes stands {places} times in {file}, not once"));
    }
    let tests = checkout.ending(".rs").filter(|(_, code)| code.contains(&format!("fn {test}("))).count();
    (tests != 1).then(|| format!("{what}: {tests} files have a test {test}, not one"))
}

mod tests {
    use super::*;
    use crate::checkout::assert_kept;

    #[test]
    fn the_mutants_fit_the_code_and_each_invariant_has_one() {
        assert_kept(told_apart(&Checkout::here()));
    }

    #[test]
    fn a_mutant_that_no_longer_fits_and_an_invariant_without_one_are_found() {
        let code = concat!("fn in", "v_01_holds() {}\nfn in", "v_02_holds() {}\nlet a = 1;");
        let list = "[[INV-1]]\nwhat = \"w\"\nfile = \"a.rs\"\nfind = \"FIND\"\nreplace = \"\"\ntest = \"TEST\"\n";
        let with = |find: &str, test: &str| list.replace("FIND", find).replace("TEST", test);
        let faults = |list: &str| told_apart(&Checkout::of(&[("a.rs", code), ("tests/mutants/a.toml", list)]));
        let bare = "tests/mutants: INV-2 has no mutant; see CONTRIBUTING.md";
        let test = concat!("in", "v_01_holds");
        assert_eq!(faults(&with("a = 1", test)), [bare]);
        assert_eq!(
            faults(&with("a = 2", test)),
            ["tests/mutants/a.toml: INV-1: w: what it changes stands 0 times in a.rs, not once", bare]
        );
        assert_eq!(
            faults(&with("a = 1", "nowhere")),
            ["tests/mutants/a.toml: INV-1: w: 0 files have a test nowhere, not one", bare]
        );
    }
}
