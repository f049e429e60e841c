//! Which package may use which other of ours, and who may open the one door from the coordinator to the agent.
//!
//! The drawing is in `docs/architecture.md`. What each uses from outside is for `crates`.

use crate::checkout::{Checkout, code_lines};

/// A package, and which of ours it may depend on.
const ARROWS: [(&str, &[&str]); 5] = [
    ("format", &[]),
    ("proto", &["format"]),
    ("agent", &["format", "proto"]),
    ("coordinator", &["format", "proto", "agent"]),
    ("tests", &["format", "proto", "agent", "coordinator"]),
];

fn arrows(checkout: &Checkout) -> Vec<String> {
    let mut faults = Vec::new();
    for (manifest, _) in checkout.ending("/Cargo.toml") {
        let package = manifest.trim_end_matches("/Cargo.toml");
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package) else {
            faults.push(format!("{manifest}: a package that the drawing does not know"));
            continue;
        };
        let table = checkout.toml(manifest);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = table.get(section).and_then(|section| section.as_table()).into_iter().flat_map(|t| t.keys());
            let ours = names.filter_map(|name| name.strip_prefix("lifeboat-"));
            faults.extend(
                ours.filter(|other| !allowed.contains(other))
                    .map(|other| format!("{manifest}: {package} may not depend on {other}")),
            );
        }
    }
    faults
}

fn door(checkout: &Checkout) -> Vec<String> {
    let closed = checkout.ending(".rs").filter(|(path, _)| {
        path.starts_with("coordinator/src/")
            && !path.starts_with("coordinator/src/cli/")
            && *path != "coordinator/src/cli.rs"
    });
    closed
        .flat_map(|(path, text)| {
            code_lines(text)
                .filter(|(_, line)| line.contains("lifeboat_agent"))
                .map(move |(number, _)| format!("{path}:{number}: only coordinator/src/cli/ may use the agent"))
        })
        .collect()
}

mod tests {
    use super::*;
    use crate::checkout::assert_kept;

    #[test]
    fn packages_depend_only_along_the_arrows() {
        assert_kept(arrows(&Checkout::here()));
    }

    #[test]
    fn an_arrow_against_the_drawing_is_found() {
        let against = ("format/Cargo.toml", "[dev-dependencies]\nlifeboat-proto.workspace = true");
        let unknown = ("core/Cargo.toml", "");
        let along = ("agent/Cargo.toml", "[dependencies]\nlifeboat-proto.workspace = true\nbytes.workspace = true");
        assert_eq!(arrows(&Checkout::of(&[against, unknown, along])).len(), 2);
    }

    #[test]
    fn only_the_command_line_of_the_coordinator_uses_the_agent() {
        assert_kept(door(&Checkout::here()));
    }

    #[test]
    fn a_service_that_uses_the_agent_is_found() {
        let text = "// lifeboat_agent is named in a comment\nuse lifeboat_agent::restore;\n";
        let files = ["coordinator/src/service.rs", "coordinator/src/cli/restore.rs"].map(|path| (path, text));
        assert_eq!(
            door(&Checkout::of(&files)),
            ["coordinator/src/service.rs:2: only coordinator/src/cli/ may use the agent"]
        );
    }
}
