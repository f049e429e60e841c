//! Step 2 of a commit, the second net: what the root reaches through the nodes that this run sent is looked at again,
//! as it is in the index and the store now (INV-24).
//!
//! With the first net whole (every link acquired before its node was admitted) it finds nothing but losses. It walks
//! children first, so it also learns of each node whether all below it is witnessed. What it finds stands in the
//! `sent` rows, so its memory is one path down the tree.

use super::RunRef;
use super::commit::CommitError;
use super::upload::{MissingLinks, Refused, split};
use crate::index::{Mark, NodeRow, SentRow};
use crate::repository::{Coordinator, ReadError};
use crate::run::decide::{AcquireNode, acquire_node};
use lifeboat_format::id::{ChunkId, NodeId};
use lifeboat_format::seal::parse_links;

/// A refusal names at most so many ids; the next commit names more.
const MISSING_MAX: usize = 4096;

/// What the check found.
pub(super) enum Verdict {
    /// Everything is there, and may be relied on.
    Good,
    /// These are not.
    Refused(Vec<Refused>),
}

/// A sent node on the path that is being walked.
struct Step {
    node: NodeId,
    children: std::vec::IntoIter<(NodeId, u8)>,
    witnessed_below: bool,
}

/// One check of one attempt.
struct Walk<'c> {
    coordinator: &'c Coordinator,
    caller: RunRef,
    attempt: u32,
    path: Vec<Step>,
    refused: Vec<Refused>,
    missing: usize,
}

impl Coordinator {
    /// Checks everything that `root` reaches through nodes of this run. Everything the run waits for is an object.
    pub(super) fn validate(&self, caller: RunRef, attempt: u32, root: NodeId) -> Result<Verdict, CommitError> {
        let mut walk = Walk { coordinator: self, caller, attempt, path: Vec::new(), refused: Vec::new(), missing: 0 };
        if walk.enter(root)?.is_none() && walk.refused.is_empty() {
            let refused = Refused { node: None, chunks: Vec::new(), nodes: vec![root] };
            walk.refused.push(refused);
        }
        while walk.missing < MISSING_MAX && walk.step()? {}
        Ok(match walk.refused.is_empty() {
            true => Verdict::Good,
            false => Verdict::Refused(walk.refused),
        })
    }
}

impl Walk<'_> {
    /// Goes on by one link; `false` at the end.
    fn step(&mut self) -> Result<bool, CommitError> {
        let Some(top) = self.path.last_mut() else { return Ok(false) };
        let parent = top.node;
        match top.children.next() {
            Some((child, _)) => match self.enter(child)? {
                Some(witnessed) => self.note_child(parent, witnessed),
                None => self.miss(MissingLinks { chunks: Vec::new(), nodes: vec![child] }.of(parent)),
            },
            None => self.leave()?,
        }
        Ok(true)
    }

    fn note_child(&mut self, parent: NodeId, witnessed: bool) {
        if let Some(step) = self.path.iter_mut().rev().find(|step| step.node == parent) {
            step.witnessed_below &= witnessed;
        }
    }

    fn miss(&mut self, refused: Refused) {
        self.missing += refused.chunks.len() + refused.nodes.len();
        self.refused.push(refused);
    }

    /// Looks at a node. If this run sent it and it was not looked at yet, it is walked next. Answers whether all below
    /// it is witnessed, as far as is known yet; none if the node cannot be relied on.
    fn enter(&mut self, node: NodeId) -> Result<Option<bool>, CommitError> {
        let index = &self.coordinator.shared.index;
        let Some(row) = index.node(&node)?.filter(|row| index.is_usable(row)) else { return Ok(None) };
        match index.sent(&self.caller.run, &node)? {
            None => self.keep(&node, &row),
            Some(sent) if sent.validated == self.attempt => Ok(Some(sent.witnessed_below)),
            Some(_) => self.open(node),
        }
    }

    /// A node that this run did not send: it must still have a living home.
    fn keep(&self, node: &NodeId, row: &NodeRow) -> Result<Option<bool>, CommitError> {
        let mut state = self.coordinator.shared.lock();
        let home = row.home.and_then(|home| state.home(home));
        match acquire_node(self.caller.host, false, Some(row), home) {
            AcquireNode::Pin(snapshot) => {
                state.runs.get(self.caller)?.pins.insert(snapshot);
                Ok(Some(row.shared))
            }
            AcquireNode::Sent | AcquireNode::Missing => {
                tracing::debug!(?node, "kept node lost its home");
                Ok(None)
            }
        }
    }

    /// A node that this run sent: reads it back, looks at its chunks, and puts its children on the path.
    fn open(&mut self, node: NodeId) -> Result<Option<bool>, CommitError> {
        let record = match self.coordinator.read_node(&node) {
            Ok(record) => record,
            Err(ReadError::Index(error)) => return Err(error.into()),
            Err(error) => {
                tracing::error!(?node, %error, "a node that was sent cannot be read back");
                return Ok(None);
            }
        };
        self.clear_node_mark(&node)?;
        let links = parse_links(&record).map_err(CommitError::Manifest)?;
        let (chunks, children) = split(&links);
        let (missing, witnessed_below) = self.check_chunks(chunks)?;
        if !missing.is_empty() {
            self.miss(MissingLinks { chunks: missing, nodes: Vec::new() }.of(node));
        }
        self.path.push(Step { node, children: children.into_iter(), witnessed_below });
        Ok(Some(true))
    }

    /// Which of these chunks cannot be relied on, and whether all are witnessed. Marks are cleared.
    fn check_chunks(&self, chunks: Vec<ChunkId>) -> Result<(Vec<ChunkId>, bool), CommitError> {
        let index = &self.coordinator.shared.index;
        let rows = index.chunks(&chunks)?.into_iter().map(|row| row.map(|row| index.usable(row)));
        let mut missing = Vec::new();
        let mut witnessed = true;
        for (id, row) in chunks.into_iter().zip(rows) {
            witnessed &= row.as_ref().is_some_and(|row| row.is_witnessed());
            let good = match row.filter(|row| row.is_offered_to(self.caller.host)) {
                None => false,
                Some(row) if row.mark == Mark::NONE => true,
                Some(_) => self.coordinator.acquire_marked(self.caller.host, &id)?,
            };
            if !good {
                missing.push(id);
            }
        }
        Ok((missing, witnessed))
    }

    fn clear_node_mark(&self, node: &NodeId) -> Result<(), CommitError> {
        let index = &self.coordinator.shared.index;
        let _state = self.coordinator.shared.lock();
        if let Some(mut row) = index.node(node)?.filter(|row| row.mark != Mark::NONE) {
            row.mark = Mark::NONE;
            let mut changes = crate::index::Changes::default();
            index.set_node(&mut changes, node, &row)?;
            index.write(changes)?;
        }
        Ok(())
    }

    /// All below the last node of the path was looked at.
    fn leave(&mut self) -> Result<(), CommitError> {
        let Some(step) = self.path.pop() else { return Ok(()) };
        let found = SentRow { validated: self.attempt, witnessed_below: step.witnessed_below };
        self.coordinator.shared.index.set_sent(&self.caller.run, &[(step.node, found)])?;
        if let Some(parent) = self.path.last_mut() {
            parent.witnessed_below &= step.witnessed_below;
        }
        Ok(())
    }
}
