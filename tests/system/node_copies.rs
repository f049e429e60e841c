//! Root and inner nodes are in two packs: a pack of nodes that is damaged costs the leaves in it, and nothing else.

use crate::world::{World, said};
use lifeboat_tests::footers::{FooterLine, footer, packs};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Two nights, of which the second brought a directory of many files: the pack of its leaves and the nodes above them, and
/// that of the copies of these.
struct Nights {
    world: World,
    newest: String,
    nodes: PathBuf,
    copies: PathBuf,
}

impl Nights {
    fn new() -> Self {
        let world = World::new();
        (0..600).for_each(|file| world.write(&format!("first/{file:03}"), format!("content {file}").as_bytes()));
        world.backed_up();
        let before: BTreeSet<PathBuf> = packs(&world.lab.repository()).into_iter().collect();
        (0..600).for_each(|file| world.write(&format!("second/{file:03}"), format!("more {file}").as_bytes()));
        let newest = world.backed_up();
        let brought = packs(&world.lab.repository()).into_iter().filter(|pack| !before.contains(pack));
        let (copies, others): (Vec<PathBuf>, Vec<PathBuf>) = brought
            .filter(|pack| footer(pack).iter().all(|line| line.height > 0))
            .partition(|pack| footer(pack).iter().all(|line| line.host == 0));
        let [copies, nodes] = [copies, others].map(|packs| <[PathBuf; 1]>::try_from(packs).unwrap()).map(|[pack]| pack);
        Self { world, newest, nodes, copies }
    }

    fn verify(&self) -> Output {
        self.world.lab.try_lifeboat(&["repository", "verify"]).unwrap()
    }

    fn name(&self, pack: &Path) -> String {
        pack.strip_prefix(self.world.lab.repository()).unwrap().display().to_string()
    }

    /// It is named and healed, and the next look finds every snapshot whole.
    fn assert_heals(&self, pack: &Path) {
        let verified = self.verify();
        let text = said(&verified);
        assert_eq!(verified.status.code(), Some(3), "{text}");
        assert!(text.contains(&self.name(pack)) && text.contains("written again from their other copies"), "{text}");
        let verified = self.verify();
        assert!(verified.status.success() && said(&verified).contains("every snapshot can be restored"));
    }

    fn assert_whole(&self) {
        self.world.assert_restores(&self.newest, &self.world.source(), "restored");
    }
}

/// Changes a bit of one record.
fn flip(pack: &Path, line: &FooterLine) {
    let mut bytes = fs::read(pack).unwrap();
    bytes[line.offset as usize + 100] ^= 1;
    fs::write(pack, bytes).unwrap();
}

#[test]
fn inv_79_a_corrupt_root_or_inner_node_harms_no_restore_in_whichever_pack_it_is() {
    for is_copy in [false, true] {
        let nights = Nights::new();
        let pack = if is_copy { &nights.copies } else { &nights.nodes };
        let whole = fs::read(pack).unwrap();
        flip(pack, footer(pack).iter().find(|line| line.height > 1).unwrap());
        nights.assert_whole();
        nights.assert_heals(pack);
        nights.assert_whole();
        fs::write(pack, whole).unwrap();
        assert!(said(&nights.verify()).contains("all good"));
    }
}

#[test]
fn inv_79_without_the_pack_of_copies_all_is_restored_and_they_are_written_again() {
    let nights = Nights::new();
    fs::remove_file(&nights.copies).unwrap();
    nights.assert_whole();
    nights.assert_heals(&nights.copies);
    nights.assert_whole();
}

#[test]
fn inv_79_without_the_pack_of_nodes_its_leaves_are_lost_and_named_and_the_next_backup_heals() {
    let nights = Nights::new();
    assert!(footer(&nights.nodes).iter().any(|line| line.height == 1));
    let whole = fs::read(&nights.nodes).unwrap();
    fs::remove_file(&nights.nodes).unwrap();
    for _ in 0..2 {
        let verified = nights.verify();
        let text = said(&verified);
        assert_eq!(verified.status.code(), Some(1), "{text}");
        assert!(text.contains(&nights.name(&nights.nodes)) && text.contains(&nights.newest[..12]), "{text}");
    }
    let healed = nights.world.backup();
    assert!(healed.status.success(), "{}", said(&healed));
    nights.assert_whole();
    fs::write(&nights.nodes, whole).unwrap();
    assert!(said(&nights.verify()).contains("all good"));
}
