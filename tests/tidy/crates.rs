//! What comes from outside: each crate has a reason on record, a use in the code, a licence that `deny.toml` allows, and
//! no second version that `deny.toml` does not know.

use crate::checkout::{Checkout, code_lines, top};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const REASONS: &str = "docs/dependencies.md";

/// What only the code that `proto/build.rs` makes from the messages names.
const GENERATED: [&str; 2] = ["prost", "tonic-prost"];

/// A crate of the whole graph, as cargo resolved it.
struct Resolved {
    name: String,
    version: String,
    licence: String,
}

fn reasons(checkout: &Checkout) -> Vec<String> {
    let used = shared(checkout);
    let rows = checkout.text(REASONS).unwrap_or_default().lines().filter_map(|line| line.strip_prefix("| `"));
    let explained: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let silent = used.iter().filter(|name| !explained.contains(name.as_str()));
    let gone = explained.iter().filter(|name| !used.contains(**name));
    silent
        .map(|name| format!("{REASONS}: has no line for {name}"))
        .chain(gone.map(|name| format!("{REASONS}: has a line for {name}, which nobody uses")))
        .collect()
}

/// The crates from outside that stand in the workspace's manifest.
fn shared(checkout: &Checkout) -> BTreeSet<String> {
    let manifest = checkout.toml("Cargo.toml");
    let table =
        manifest.get("workspace").and_then(|workspace| workspace.get("dependencies")).and_then(|d| d.as_table());
    table.into_iter().flat_map(|table| table.keys()).filter(|name| !name.starts_with("lifeboat-")).cloned().collect()
}

fn unused(checkout: &Checkout) -> Vec<String> {
    let mut idle = shared(checkout);
    let mut faults = Vec::new();
    for (manifest, _) in checkout.ending("/Cargo.toml") {
        let folder = manifest.trim_end_matches("Cargo.toml");
        let table = checkout.toml(manifest);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = table.get(section).and_then(|section| section.as_table()).into_iter().flat_map(|t| t.keys());
            for name in names {
                idle.remove(name);
                if !GENERATED.contains(&name.as_str()) && !names_crate(checkout, folder, name) {
                    faults.push(format!("{manifest}: asks for {name} and does not use it"));
                }
            }
        }
    }
    faults.extend(idle.iter().map(|name| format!("Cargo.toml: no package asks for {name}")));
    faults
}

/// Whether code below `folder` holds the name of this crate as a word.
fn names_crate(checkout: &Checkout, folder: &str, name: &str) -> bool {
    let name = name.replace('-', "_");
    let mut sources = checkout.ending(".rs").filter(|(path, _)| path.starts_with(folder));
    sources.any(|(_, text)| {
        let mut words = code_lines(text).flat_map(|(_, line)| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
        words.any(|word| word == name)
    })
}

fn licences(crates: &[Resolved], allowed: &BTreeSet<String>) -> Vec<String> {
    let refused = crates.iter().filter(|it| !is_allowed(&it.licence, allowed));
    refused.map(|it| format!("{} {}: licence {} is not in deny.toml", it.name, it.version, it.licence)).collect()
}

/// Whether an SPDX expression leaves a choice of which all parts are allowed. `/` is an old way to write OR. Inner
/// parentheses are resolved first, to `true` or `false`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    if let Some((before, (inner, after))) =
        expression.rsplit_once('(').and_then(|(before, rest)| Some((before, rest.split_once(')')?)))
    {
        let inner = is_allowed(inner, allowed);
        return is_allowed(&format!("{before}{inner}{after}"), allowed);
    }
    let holds = |licence: &str| licence == "true" || allowed.contains(licence);
    expression.split(" OR ").any(|choice| choice.split(" AND ").all(|licence| holds(licence.trim())))
}

fn duplicates(crates: &[Resolved], known: &BTreeSet<String>) -> Vec<String> {
    let mut versions = BTreeMap::<&str, BTreeSet<&str>>::new();
    for it in crates {
        versions.entry(&it.name).or_default().insert(&it.version);
    }
    let twice: BTreeSet<&str> = versions.iter().filter(|(_, v)| v.len() > 1).map(|(name, _)| *name).collect();
    let new = twice.iter().filter(|name| !known.contains(**name));
    let gone = known.iter().filter(|name| !twice.contains(name.as_str()));
    new.map(|name| format!("{name}: comes in several versions, {:?}, and deny.toml does not skip it", versions[name]))
        .chain(gone.map(|name| format!("deny.toml: skips {name}, which comes in one version")))
        .collect()
}

/// A list of strings in `deny.toml`.
fn denied(checkout: &Checkout, table: &str, list: &str) -> BTreeSet<String> {
    let file = checkout.toml("deny.toml");
    let list = file.get(table).and_then(|table| table.get(list)).and_then(|list| list.as_array());
    list.into_iter().flatten().filter_map(|item| item.as_str()).map(String::from).collect()
}

/// All crates that a build of the workspace on this kind of machine compiles.
fn resolved() -> Vec<Resolved> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &target])
        .current_dir(top())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |package: &serde_json::Value, field: &str| package[field].as_str().unwrap_or("none").to_string();
    let packages = metadata["packages"].as_array().expect("cargo names the packages");
    packages
        .iter()
        .map(|it| Resolved { name: text(it, "name"), version: text(it, "version"), licence: text(it, "license") })
        .collect()
}

mod tests {
    use super::*;
    use crate::checkout::assert_kept;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| word.to_string()).collect()
    }

    fn crate_of(name: &str, version: &str, licence: &str) -> Resolved {
        Resolved { name: name.into(), version: version.into(), licence: licence.into() }
    }

    #[test]
    fn each_crate_from_outside_has_a_reason_on_record() {
        assert_kept(reasons(&Checkout::here()));
    }

    #[test]
    fn a_crate_without_reason_and_a_reason_without_crate_are_found() {
        let manifest = ("Cargo.toml", "[workspace.dependencies]\nbytes = \"1\"\nlifeboat-agent = { path = \"agent\" }");
        let faults = reasons(&Checkout::of(&[manifest, (REASONS, "| crate | why |\n| `hex` | digits |\n")]));
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn each_crate_asked_for_is_used() {
        assert_kept(unused(&Checkout::here()));
    }

    #[test]
    fn a_crate_that_is_asked_for_in_vain_is_found() {
        let files = [
            ("Cargo.toml", "[workspace.dependencies]\nbytes = \"1\"\nsd-notify = \"0.4\"\nidle = \"1\""),
            ("a/Cargo.toml", "[dependencies]\nbytes.workspace = true\nsd-notify.workspace = true"),
            ("a/src/lib.rs", "// bytes\nuse sd_notify::notify;"),
        ];
        let faults = unused(&Checkout::of(&files));
        assert_eq!(
            faults,
            ["a/Cargo.toml: asks for bytes and does not use it", "Cargo.toml: no package asks for idle"]
        );
    }

    #[test]
    fn licences_and_versions_are_those_of_deny_toml() {
        let (checkout, crates) = (Checkout::here(), resolved());
        let mut faults = licences(&crates, &denied(&checkout, "licenses", "allow"));
        faults.extend(duplicates(&crates, &denied(&checkout, "bans", "skip")));
        assert_kept(faults);
    }

    #[test]
    fn a_licence_that_leaves_no_allowed_choice_is_found() {
        let allowed = set(&["MIT", "ISC"]);
        for good in ["MIT", "MIT OR GPL-2.0", "GPL-2.0/MIT", "ISC AND (Apache-2.0 OR MIT)", "(MIT AND ISC) OR X"] {
            assert_eq!(licences(&[crate_of("a", "1", good)], &allowed), [""; 0], "{good}");
        }
        for bad in ["GPL-2.0", "MIT AND GPL-2.0", "ISC AND (Apache-2.0 OR GPL-2.0)", "none", "(MIT"] {
            assert_eq!(licences(&[crate_of("a", "1", bad)], &allowed).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_new_second_version_and_a_skip_for_none_are_found() {
        let crates = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("c", "1")].map(|(n, v)| crate_of(n, v, "MIT"));
        assert_eq!(duplicates(&crates, &set(&["b", "c"])).len(), 2);
    }
}
