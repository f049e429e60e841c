//! One walk over the trees of all snapshots. It finds which of them need something that is lost or cannot be read, all
//! problems at once, and gives nodes a home whose homes are gone, as after a lost index.
//!
//! Each node is read once for each host that has it; what was found of it stands in the index, so memory is one path
//! down a tree, and a walk that was interrupted resumes. A home is set as a commit sets it: only for nodes that a
//! committed snapshot reaches, and only where all below the node is there (INV-37).

use super::Coordinator;
use crate::index::{Changes, ChunkRow, Harm, IndexError, NodeRow, WalkId, Walked};
use crate::run::upload::split;
use lifeboat_format::id::{ChunkId, Digest, HostId, NodeId, PackId, SnapshotNumber};
use lifeboat_format::link::Target;
use lifeboat_format::seal::parse_links;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Problems that have a bit of their own; further packs share the last one of these.
const PACKS_MAX: usize = 62;
/// A walk that meets another problem is repeated, so many times at most.
const WALKS_MAX: usize = 3;
/// Something in the tree is in no pack that is known.
const NOWHERE: u64 = 1 << 63;

/// What is wrong with packs, as far as it is known: each has a bit.
#[derive(Debug, Default)]
struct Problems {
    packs: BTreeMap<PackId, u64>,
    lost: HashMap<Target, u64>,
    lost_bits: u64,
    digest: Option<Digest>,
}

/// Which snapshots are touched by what.
#[derive(Debug, Default)]
pub(super) struct Survey {
    packs: BTreeMap<PackId, u64>,
    touched: BTreeMap<SnapshotNumber, u64>,
}

impl Survey {
    /// The snapshots that need something which this pack held.
    pub fn touched_by(&self, pack: &PackId) -> BTreeSet<SnapshotNumber> {
        self.with(self.packs.get(pack).copied().unwrap_or(0))
    }

    /// The snapshots that need something which is in no pack that is known.
    pub fn with_missing_rows(&self) -> BTreeSet<SnapshotNumber> {
        self.with(NOWHERE)
    }

    fn with(&self, bits: u64) -> BTreeSet<SnapshotNumber> {
        self.touched.iter().filter(|(_, found)| *found & bits != 0).map(|(number, _)| *number).collect()
    }
}

/// Which snapshots a walk goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All.
    All,
    /// Those after this one, whose nodes have no homes yet; below a node with a living home all have one.
    After(SnapshotNumber),
}

impl Coordinator {
    /// Walks all trees: which snapshots need what is lost or cannot be read? From then on only these give no homes.
    pub(super) fn survey(&self) -> Result<Survey, IndexError> {
        let _one_at_a_time = self.surveying();
        let mut survey = self.walk_trees(Extent::All)?;
        for _ in 1..WALKS_MAX {
            if self.shared.lock().distrusted.is_none() {
                break;
            }
            survey = self.walk_trees(Extent::All)?;
        }
        Ok(survey)
    }

    /// The same, if problems were found or went away since the last walk, and gives homes to nodes that lost theirs.
    pub(crate) fn survey_if_needed(&self) -> Result<(), IndexError> {
        let _one_at_a_time = self.surveying();
        let index = &self.shared.index;
        let problems = self.problems()?;
        let is_known = self.shared.lock().distrusted.is_none() && index.surveyed()? == problems.digest;
        let newest = self.catalog(|catalog| catalog.snapshots().next_back().map(|(number, _)| number));
        let anchored = index.anchored()?;
        match (is_known, newest) {
            (false, _) => self.walk_trees(Extent::All).map(drop),
            (true, Some(newest)) if newest > anchored && self.shared.lock().settling.is_empty() => {
                self.walk_trees(Extent::After(anchored)).map(drop)
            }
            (true, _) => Ok(()),
        }
    }

    fn walk_trees(&self, extent: Extent) -> Result<Survey, IndexError> {
        let index = &self.shared.index;
        let problems = self.problems()?;
        let (losses_before, snapshots) = {
            let state = self.shared.lock();
            let rows = state.catalog.snapshots().filter(|(number, _)| match extent {
                Extent::All => true,
                Extent::After(anchored) => *number > anchored,
            });
            // Newest first: its nodes are those that the next backup asks for.
            let rows = rows.map(|(number, snapshot)| (number, snapshot.host, snapshot.root.id)).rev();
            (state.losses_found, rows.collect::<Vec<_>>())
        };
        tracing::info!(snapshots = snapshots.len(), ?extent, "walking the trees of snapshots");
        let digest = problems.digest.unwrap_or(Digest::of(b""));
        index.begin_walk(WalkId(Digest::of(
            &[digest.as_bytes().as_slice(), format!("{extent:?}").as_bytes()].concat(),
        )))?;
        let mut survey = Survey { packs: problems.packs.clone(), touched: BTreeMap::new() };
        let newest = snapshots.first().map(|(number, ..)| *number);
        for (number, host, root) in snapshots {
            let walk =
                Walk { coordinator: self, problems: &problems, extent, host, snapshot: number, path: Vec::new() };
            let found = walk.of(root)?;
            if found.problems != 0 {
                survey.touched.insert(number, found.problems);
            }
        }
        let mut state = self.shared.lock();
        if state.losses_found == losses_before {
            let harm =
                |bits: &u64| if bits & (problems.lost_bits | NOWHERE) != 0 { Harm::Lost } else { Harm::Unreadable };
            let found = survey.touched.iter().map(|(number, bits)| (*number, harm(bits)));
            match extent {
                Extent::All => (state.damaged, state.distrusted) = (found.collect(), None),
                Extent::After(_) => state.damaged.extend(found),
            }
            index.set_damaged(&state.damaged, digest)?;
            if let Some(newest) = newest.filter(|_| state.settling.is_empty()) {
                index.set_anchored(newest.max(index.anchored()?))?;
            }
        }
        drop(state);
        index.end_walk()?;
        Ok(survey)
    }

    fn problems(&self) -> Result<Problems, IndexError> {
        let index = &self.shared.index;
        let unreadable = index.unreadable()?;
        let state = self.shared.lock();
        let losses: BTreeMap<_, _> = state.catalog.losses().collect();
        let mut problems = Problems::default();
        let mut digest = blake3::Hasher::new();
        for (at, pack) in unreadable.keys().chain(losses.keys()).collect::<BTreeSet<_>>().into_iter().enumerate() {
            let bit = 1 << at.min(PACKS_MAX - 1);
            problems.packs.insert(*pack, bit);
            digest.update(pack.as_bytes()).update(&[u8::from(unreadable.contains_key(pack))]);
            let lost = losses.get(pack).into_iter().flat_map(|lost| lost.iter());
            let mut ids: Vec<&[u8; 32]> = Vec::new();
            for target in lost {
                *problems.lost.entry(*target).or_default() |= bit;
                problems.lost_bits |= bit;
                ids.push(match target {
                    Target::Chunk(id) => id.as_bytes(),
                    Target::Node(id) => id.as_bytes(),
                });
            }
            ids.sort_unstable();
            ids.into_iter().for_each(|id| {
                digest.update(id);
            });
        }
        problems.digest = Some(Digest::from_bytes(*digest.finalize().as_bytes()));
        Ok(problems)
    }
}

/// A node on the path that is being walked.
struct Step {
    node: NodeId,
    children: std::vec::IntoIter<(NodeId, u8)>,
    found: Walked,
}

/// The walk over one tree.
struct Walk<'c> {
    coordinator: &'c Coordinator,
    problems: &'c Problems,
    extent: Extent,
    host: HostId,
    snapshot: SnapshotNumber,
    path: Vec<Step>,
}

impl Walk<'_> {
    fn of(mut self, root: NodeId) -> Result<Walked, IndexError> {
        if let Some(known) = self.enter(root)? {
            return Ok(known);
        }
        let mut last = Walked::default();
        while let Some(top) = self.path.last_mut() {
            let found = match top.children.next() {
                Some((child, _)) => self.enter(child)?,
                None => {
                    last = self.leave()?;
                    Some(last)
                }
            };
            if let (Some(found), Some(above)) = (found, self.path.last_mut()) {
                above.found.problems |= found.problems;
                above.found.witnessed &= found.witnessed;
            }
        }
        Ok(last)
    }

    /// What is known of a node; if nothing is, it is put on the path.
    fn enter(&mut self, node: NodeId) -> Result<Option<Walked>, IndexError> {
        let index = &self.coordinator.shared.index;
        self.coordinator.config.watch.check()?;
        if let Some(known) = index.walked(self.host, &node)? {
            return Ok(Some(known));
        }
        let row = index.node(&node)?;
        if let Some(kept) = row.as_ref().and_then(|row| self.kept(row)) {
            return Ok(Some(kept));
        }
        let links = match row.as_ref().filter(|row| index.is_usable(row)) {
            None => None,
            Some(_) => match self.coordinator.read_node(&node) {
                Ok(record) => parse_links(&record).ok(),
                Err(super::ReadError::Index(error)) => return Err(error),
                Err(error) => {
                    tracing::error!(?node, %error, "a node of a tree cannot be read");
                    None
                }
            },
        };
        let Some(links) = links else {
            let places = row.iter().flat_map(|row| row.places.iter().map(|place| place.pack)).collect();
            let found = Walked { problems: self.problem_of(Target::Node(node), places)?, witnessed: false };
            index.set_walked(self.host, &node, found)?;
            return Ok(Some(found));
        };
        let (chunks, children) = split(&links);
        let found = self.look_at(&chunks)?;
        self.path.push(Step { node, children: children.into_iter(), found });
        Ok(None)
    }

    /// A node whose home has homes for all below it need not be walked for homes alone.
    fn kept(&self, row: &NodeRow) -> Option<Walked> {
        let Extent::After(anchored) = self.extent else { return None };
        let home = row.home.filter(|home| *home <= anchored)?;
        let state = self.coordinator.shared.lock();
        let is_kept = state.home(home).is_some_and(|home| home.is_living());
        is_kept.then_some(Walked { problems: 0, witnessed: row.shared })
    }

    fn look_at(&self, chunks: &[ChunkId]) -> Result<Walked, IndexError> {
        let index = &self.coordinator.shared.index;
        let mut found = Walked { problems: 0, witnessed: true };
        for (id, row) in chunks.iter().zip(index.chunks(chunks)?) {
            let packs = row.iter().flat_map(|row: &ChunkRow| row.bodies.iter().map(|body| body.place.pack)).collect();
            match row.map(|row| index.usable(row)).filter(|row| row.is_offered_to(self.host)) {
                Some(row) => found.witnessed &= row.is_witnessed(),
                None => {
                    found.problems |= self.problem_of(Target::Chunk(*id), packs)?;
                    found.witnessed = false;
                }
            }
        }
        Ok(found)
    }

    /// Why something cannot be relied on: the packs that hold it and cannot be read, or that have lost it.
    fn problem_of(&self, target: Target, packs: Vec<crate::index::PackNumber>) -> Result<u64, IndexError> {
        let mut bits = self.problems.lost.get(&target).copied().unwrap_or(0);
        for pack in packs {
            let pack = self.coordinator.shared.index.pack_id(pack)?;
            bits |= self.problems.packs.get(&pack).copied().unwrap_or(0);
        }
        Ok(if bits == 0 { NOWHERE } else { bits })
    }

    /// All below the last node of the path was looked at.
    fn leave(&mut self) -> Result<Walked, IndexError> {
        let Some(Step { node, found, .. }) = self.path.pop() else { return Ok(Walked::default()) };
        self.anchor(&node, found)?;
        self.coordinator.shared.index.set_walked(self.host, &node, found)?;
        Ok(found)
    }

    /// Gives the node this snapshot as its home if it has none and all below it is there, or takes what no longer holds.
    fn anchor(&self, node: &NodeId, found: Walked) -> Result<(), IndexError> {
        let index = &self.coordinator.shared.index;
        let state = self.coordinator.shared.lock();
        let Some(mut row) = index.node(node)? else { return Ok(()) };
        let before = row.clone();
        let home = row.home.and_then(|home| state.home(home));
        match found.problems {
            // A home that is only distrusted may prove good, and stays.
            0 if home.is_none_or(|home| !home.is_kept || state.damaged.contains_key(&home.snapshot)) => {
                row.home = Some(self.snapshot);
            }
            0 => {}
            _ if home.is_some_and(|home| home.host == self.host) => row.home = None,
            _ => {}
        }
        row.shared = found.witnessed;
        if row == before {
            return Ok(());
        }
        let mut changes = Changes::default();
        index.set_node(&mut changes, node, &row)?;
        index.write(changes)
    }
}
