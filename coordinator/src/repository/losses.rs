//! When sealed bytes are lost: journalled, out of the rows, and the snapshots that hold them found.
//!
//! Those snapshots give no homes any more. So the leaf above a lost chunk is asked for again although its file never
//! changed, then the chunk: the next backup heals it (INV-15).

use super::facts::{FactError, own_act};
use super::{Coordinator, ReadError};
use crate::index::{IndexError, NodeRow};
use lifeboat_format::id::{NodeId, PackId, SnapshotNumber};
use lifeboat_format::journal::Event;
use lifeboat_format::link::Target;
use lifeboat_format::seal::parse_links;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What was lost, by pack.
pub(super) type Losses = BTreeMap<PackId, Vec<Target>>;

/// Loss events hold at most so many records each.
const RECORDS_MAX: usize = 1 << 16;

impl Coordinator {
    /// Records losses; answers which snapshots they touch.
    pub(super) fn record_losses(&self, losses: Losses) -> Result<BTreeSet<SnapshotNumber>, FactError> {
        let time_ns = self.shared.clock.now_ns();
        let lost: HashSet<Target> = losses.values().flatten().copied().collect();
        let damaged_before = self.shared.lock().damaged.clone();
        for (pack, records) in losses {
            for records in records.chunks(RECORDS_MAX) {
                let event = Event::Loss { pack, records: records.to_vec() };
                self.record(vec![own_act(time_ns, "lose", event)])?;
            }
        }
        // From here on no snapshot gives homes, until those that hold nothing lost are known.
        let losses_found = self.shared.lock().losses_found;
        let touched = self.touched_by(&lost)?;
        let mut state = self.shared.lock();
        if state.losses_found == losses_found {
            state.damaged = damaged_before.union(&touched).copied().collect();
            self.shared.index.set_damaged(&state.damaged)?;
        }
        Ok(touched)
    }

    /// A node's record, in the place that its row names, cannot be read back.
    pub(crate) fn lose_node(&self, node: &NodeId, row: &NodeRow) -> Result<(), FactError> {
        let pack = self.shared.index.pack_id(row.place.pack)?;
        self.record_losses(BTreeMap::from([(pack, vec![Target::Node(*node)])])).map(|_| ())
    }

    /// The snapshots whose trees hold one of these ids, or something that has no row at all.
    pub(super) fn touched_by(&self, lost: &HashSet<Target>) -> Result<BTreeSet<SnapshotNumber>, IndexError> {
        let roots: Vec<(SnapshotNumber, NodeId)> =
            self.catalog(|catalog| catalog.snapshots().map(|(number, snapshot)| (number, snapshot.root.id)).collect());
        let mut known = HashMap::new();
        let mut touched = BTreeSet::new();
        for (number, root) in roots {
            if self.reaches(root, lost, &mut known)? {
                touched.insert(number);
            }
        }
        Ok(touched)
    }

    /// Whether a tree holds something lost; `known` remembers the answer for every node of it.
    fn reaches(
        &self,
        root: NodeId,
        lost: &HashSet<Target>,
        known: &mut HashMap<NodeId, bool>,
    ) -> Result<bool, IndexError> {
        let mut path = vec![root];
        while let Some(node) = path.last().copied() {
            let (direct, children) = match known.contains_key(&node) {
                true => (false, Vec::new()),
                false => self.look_at(node, lost)?,
            };
            let unknown: Vec<NodeId> = children.iter().filter(|child| !known.contains_key(child)).copied().collect();
            if !direct && !unknown.is_empty() {
                path.extend(unknown);
                continue;
            }
            let below = children.iter().any(|child| known.get(child) == Some(&true));
            known.entry(node).or_insert(direct || below);
            path.pop();
        }
        Ok(known.get(&root) == Some(&true))
    }

    /// Whether a node is lost itself or links to a lost chunk, and its child nodes.
    fn look_at(&self, node: NodeId, lost: &HashSet<Target>) -> Result<(bool, Vec<NodeId>), IndexError> {
        if lost.contains(&Target::Node(node)) {
            return Ok((true, Vec::new()));
        }
        let links = match self.read_node(&node) {
            Err(ReadError::Index(error)) => return Err(error),
            Err(_) => return Ok((true, Vec::new())),
            Ok(record) => match parse_links(&record) {
                Err(_) => return Ok((true, Vec::new())),
                Ok(links) => links,
            },
        };
        let (mut chunks, mut children) = (Vec::new(), Vec::new());
        for link in links {
            match link.target() {
                Target::Chunk(id) => chunks.push(id),
                Target::Node(id) => children.push(id),
            }
        }
        let gone = self.shared.index.chunks(&chunks)?.iter().any(Option::is_none);
        Ok((gone || chunks.iter().any(|id| lost.contains(&Target::Chunk(*id))), children))
    }
}
