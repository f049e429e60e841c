//! The table of invariants in `docs/architecture.md` and the tests called `inv_NN_…` tell the same story.
//!
//! A row names the packages that test it (and the folder within `tests`), or says "not yet". So whoever wonders whether an
//! invariant is guarded reads one table, and whoever adds or removes a test is told which cell to change.

use crate::checkout::{Checkout, code_lines};
use std::collections::{BTreeMap, BTreeSet};

const TABLE: &str = "docs/architecture.md";

/// A cell of the table for an invariant that no test guards.
const NOT_YET: &str = "not yet";

fn told_apart(checkout: &Checkout) -> Vec<String> {
    let tested = tested(checkout);
    let rows = rows(checkout.text(TABLE).unwrap_or_default());
    let ids: BTreeSet<u32> = tested.keys().chain(rows.keys()).copied().collect();
    ids.into_iter()
        .filter_map(|id| {
            let right = cell(tested.get(&id));
            match rows.get(&id) {
                None => Some(format!("{TABLE}: INV-{id} is tested, and has no row; its last cell is: {right}")),
                Some(cell) if *cell != right => Some(format!("{TABLE}: the last cell of INV-{id} is: {right}")),
                Some(_) => None,
            }
        })
        .collect()
}

/// Which packages, or folders of `tests`, hold tests of which invariant.
pub fn tested(checkout: &Checkout) -> BTreeMap<u32, BTreeSet<&str>> {
    let mut tested = BTreeMap::<u32, BTreeSet<&str>>::new();
    for (path, text) in checkout.ending(".rs") {
        let names = code_lines(text).filter_map(|(_, line)| line.split_once("fn inv_"));
        for id in names.filter_map(|(_, name)| name.split('_').next()?.parse().ok()) {
            tested.entry(id).or_default().insert(place(path));
        }
    }
    tested
}

/// `tests/system` of a file in there, `format` of any file of that package.
fn place(path: &str) -> &str {
    let depth = if path.starts_with("tests/") { 1 } else { 0 };
    path.match_indices('/').nth(depth).map_or(path, |(end, _)| &path[..end])
}

/// The last cell of each row, by the number in its first.
fn rows(text: &str) -> BTreeMap<u32, String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| INV-"));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.trim_end_matches([' ', '|']).split('|').map(str::trim).collect();
        Some((cells.first()?.parse().ok()?, cells.last()?.to_string()))
    })
    .collect()
}

fn cell(places: Option<&BTreeSet<&str>>) -> String {
    places.map_or(NOT_YET.into(), |places| places.iter().copied().collect::<Vec<_>>().join(", "))
}

mod tests {
    use super::*;
    use crate::checkout::assert_kept;

    #[test]
    fn the_table_of_invariants_names_the_tests_that_exist() {
        assert_kept(told_apart(&Checkout::here()));
    }

    #[test]
    fn a_row_too_few_and_a_cell_that_is_wrong_are_found() {
        let text = concat!("fn in", "v_01_holds() {}\n  fn in", "v_22_holds() {}\n");
        let tests = [("agent/src/x.rs", text), ("agent/src/y.rs", text), ("tests/system/z.rs", text)];
        let table = "| INV-1 | stays | agent, tests/system |\n| INV-2 | order | agent |\n| INV-3 | truth | not yet |\n";
        let faults = told_apart(&Checkout::of(&[&tests[..], &[(TABLE, table)]].concat()));
        assert_eq!(
            faults,
            [
                "docs/architecture.md: the last cell of INV-2 is: not yet",
                "docs/architecture.md: INV-22 is tested, and has no row; its last cell is: agent, tests/system",
            ]
        );
    }
}
