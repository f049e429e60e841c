//! Levels of nodes above a row of parts: what inner nodes and extent lists have in common.
//!
//! A node ends after a part whose hash is below 2^64 / mean^(level + 1), so the higher a level, the rarer its
//! boundaries, and each falls together with one of the level below; further when it is full. A node that is not the
//! last of its level has at least two parts, so every level is at most half as long as the one below.
//!
//! Memory is one unfinished node a level.

use super::node::{Node, NodeRef};

/// A part of a node, and a node seen from the level above.
pub(super) trait Part: Clone {
    /// The mean number of parts a node is 2 to this power.
    const MEAN_BITS: u32;
    /// The least and the greatest number of parts of a node; at least 2. The last of a level may have fewer.
    const LEAST: usize;
    /// See there.
    const MOST: usize;
    /// How much all parts of a node that are more than [`LEAST`](Part::LEAST) may weigh.
    const WEIGHT_MAX: usize;

    /// The node of these parts.
    fn node(parts: Vec<Self>) -> Node;
    /// The part that stands for that node, one level up. `parts` are not empty.
    fn above(node: NodeRef, parts: &[Self]) -> Self;
    /// What counts against [`WEIGHT_MAX`](Part::WEIGHT_MAX).
    fn weight(&self) -> usize;
}

/// Takes parts in order and makes nodes of them.
#[derive(Clone, Debug)]
pub(super) struct Pyramid<P> {
    levels: Vec<Level<P>>,
}

#[derive(Clone, Debug)]
struct Level<P> {
    parts: Vec<P>,
    /// The hash of the last of them.
    hash: u64,
}

impl<P: Part> Pyramid<P> {
    /// Without parts.
    pub fn new() -> Self {
        Self { levels: vec![] }
    }

    /// Takes the next part. Nodes that are whole go to `sink`, which gives their names.
    pub fn push<E>(&mut self, part: P, hash: u64, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<(), E> {
        self.push_at(0, part, hash, sink)
    }

    fn push_at<E>(
        &mut self,
        mut at: usize,
        mut part: P,
        mut hash: u64,
        sink: &mut impl FnMut(Node) -> Result<NodeRef, E>,
    ) -> Result<(), E> {
        loop {
            if at == self.levels.len() {
                self.levels.push(Level { parts: vec![], hash: 0 });
            }
            let level = &mut self.levels[at];
            let crowded_out = level.has_no_room_for(&part).then(|| level.take());
            level.parts.push(part);
            level.hash = hash;
            let whole = match crowded_out {
                Some(whole) => Some(whole),
                None => level.is_whole(at).then(|| level.take()),
            };
            let Some(whole) = whole else { return Ok(()) };
            (part, hash) = whole.seal(sink)?;
            at += 1;
        }
    }

    /// Ends all nodes and gives the one part that is left: of all others it is the root. None if there never was one.
    pub fn finish<E>(mut self, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<Option<P>, E> {
        let mut at = 0;
        while at < self.levels.len() {
            let is_top = at + 1 == self.levels.len();
            let level = &mut self.levels[at];
            match level.parts.len() {
                1 if is_top => return Ok(level.parts.pop()),
                0 => {}
                _ => {
                    let (part, hash) = level.take().seal(sink)?;
                    self.push_at(at + 1, part, hash, sink)?;
                }
            }
            at += 1;
        }
        Ok(None)
    }
}

impl<P: Part> Level<P> {
    fn has_no_room_for(&self, part: &P) -> bool {
        let weight = self.parts.iter().map(P::weight).sum::<usize>() + part.weight();
        self.parts.len() >= P::LEAST && weight > P::WEIGHT_MAX
    }

    fn is_whole(&self, at: usize) -> bool {
        let bits = (at as u32 + 1).saturating_mul(P::MEAN_BITS).saturating_add(P::MEAN_BITS);
        let marked = self.hash <= u64::MAX.checked_shr(bits).unwrap_or(0);
        self.parts.len() >= P::MOST || marked && self.parts.len() >= P::LEAST
    }

    fn take(&mut self) -> Self {
        Self { parts: std::mem::take(&mut self.parts), hash: self.hash }
    }

    fn seal<E>(self, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<(P, u64), E> {
        let node = sink(P::node(self.parts.clone()))?;
        Ok((P::above(node, &self.parts), self.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::super::extents::SubList;
    use super::super::testing::node_ref;
    use super::super::{Child, EXTENT_LIST_MAX, EXTENT_LIST_MIN, ExtentList, Totals};
    use super::*;
    use std::convert::Infallible;

    /// The sizes of the nodes that parts with these hashes make, level by level.
    fn sizes<P: Part>(part: &P, hashes: impl Iterator<Item = u64>) -> Vec<Vec<usize>> {
        let mut sizes: Vec<Vec<usize>> = vec![vec![]; 17];
        let mut made = 0;
        let mut sink = |node: Node| {
            made += 1;
            let count = match &node {
                Node::Inner(inner) => inner.children.len(),
                Node::Extents(ExtentList::Lists(lists)) => lists.len(),
                _ => 0,
            };
            sizes[node.height() as usize].push(count);
            Ok::<_, Infallible>(node_ref(made, node.height()))
        };
        let mut pyramid = Pyramid::new();
        for hash in hashes {
            pyramid.push(part.clone(), hash, &mut sink).unwrap();
        }
        assert!(pyramid.finish(&mut sink).unwrap().is_some());
        sizes.into_iter().filter(|level| !level.is_empty()).collect()
    }

    #[test]
    fn no_choice_of_hashes_makes_a_node_too_small_or_too_large() {
        let list = SubList { node: node_ref(0, 1), bytes: 1 };
        for hash in [0, u64::MAX] {
            let levels = sizes(&list, std::iter::repeat_n(hash, 20_000));
            for level in &levels {
                let (last, whole) = level.split_last().unwrap();
                assert!(whole.iter().all(|count| (EXTENT_LIST_MIN..=EXTENT_LIST_MAX).contains(count)), "{level:?}");
                assert!((1..=EXTENT_LIST_MAX).contains(last));
            }
            assert!(levels.len() <= 3);
        }
    }

    #[test]
    fn each_level_has_its_own_rarer_boundaries() {
        let child = Child { node: node_ref(0, 1), last_path: vec![], totals: Totals::default() };
        let once_in_64 = |number: u64| if number % 64 == 63 { u64::MAX >> 12 } else { u64::MAX };
        let levels = sizes(&child, (0..64 * 100).map(once_in_64));
        assert_eq!(levels, [vec![64; 100], vec![100]]);
    }
}
