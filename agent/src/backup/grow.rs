//! Grows the tree: leaves come in order, inner nodes and at last the root go out, and the local tree is written beside.
//!
//! What the last tree had too is not sent: the coordinator knows it by the snapshot that holds it, its *home*. If it
//! does not (its index was lost, or something below was), it refuses, and the whole pass is made again with everything
//! named anew (see `backup`). So a refusal costs time, never data.

use super::bench::{Progress, Sealery};
use super::error::BackupError;
use crate::local_tree::{LeafRecord, LocalTreeWriter, OldLeaf};
use crate::uplink::{Batch, Receipt, Refused, Run};
use lifeboat_format::id::NodeId;
use lifeboat_format::tree::{Child, Node, NodeRef, Totals, TreeBuilder};
use std::collections::{HashSet, VecDeque};

/// What a worker made of one leaf job.
#[derive(Debug)]
pub enum Grown {
    /// The leaf of the last tree, untouched.
    Kept(OldLeaf),
    /// Leaves that were built and sent: one, rarely more (very large attributes), or none (all its files were gone).
    Built(Vec<BuiltLeaf>),
}

/// One leaf that was built and sent.
#[derive(Debug)]
pub struct BuiltLeaf {
    /// For the local tree.
    pub record: LeafRecord,
    /// The path of its last entry.
    pub last_path: Vec<u8>,
    /// Whether the coordinator took it, and the nodes below it.
    pub receipts: Vec<Receipt>,
}

/// How a pass over the tree ended.
#[derive(Debug)]
pub enum Growth<T> {
    /// Well.
    Whole(T),
    /// The coordinator misses something that was taken for known.
    Refused(Vec<Refused>),
}

/// The tree of one pass, growing.
pub struct Grower<'a> {
    sealery: &'a Sealery,
    progress: &'a Progress,
    builder: TreeBuilder<'a>,
    known: HashSet<NodeId>,
    local: LocalTreeWriter,
    receipts: VecDeque<Receipt>,
    refused: Vec<Refused>,
    jobs: u64,
}

/// Answers to uploads that are waited for at once; more than are ever under way on one connection.
const RECEIPTS_MAX: usize = 1024;

impl<'a> Grower<'a> {
    /// Starts a tree. `known` are the inner nodes of the last tree, which need not be sent.
    pub fn new(sealery: &'a Sealery, progress: &'a Progress, known: HashSet<NodeId>, local: LocalTreeWriter) -> Self {
        let builder = TreeBuilder::new(sealery.keys());
        Self { sealery, progress, builder, known, local, receipts: VecDeque::new(), refused: Vec::new(), jobs: 0 }
    }

    /// How many leaf jobs it has taken: the number of the one that it takes next.
    pub fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Takes the next leaves, in walk order.
    pub fn push(&mut self, run: &dyn Run, grown: Grown) -> Result<(), BackupError> {
        self.jobs += 1;
        match grown {
            Grown::Kept(leaf) => {
                let child = Child { node: leaf.node, last_path: leaf.last_path.clone(), totals: leaf.totals };
                self.local.old_leaf(leaf).map_err(local_tree)?;
                self.child(run, child)
            }
            Grown::Built(leaves) => leaves.into_iter().try_for_each(|leaf| {
                self.local.leaf(&leaf.record).map_err(local_tree)?;
                leaf.receipts.into_iter().try_for_each(|receipt| self.expect(receipt))?;
                let LeafRecord { node, totals, .. } = leaf.record;
                self.child(run, Child { node, last_path: leaf.last_path, totals })
            }),
        }
    }

    /// The root of what there is so far, sent; the tree may go on growing.
    pub fn root(&mut self, run: &dyn Run) -> Result<Growth<(NodeRef, Totals)>, BackupError> {
        let Self { sealery, progress, known, builder, .. } = self;
        let mut sink = NodeSink { sealery, progress, run, known, sent: Vec::new() };
        let root = builder.checkpoint(&mut |node| sink.take(node))?;
        let sent = sink.sent;
        self.record(sent)?;
        for receipt in self.receipts.drain(..) {
            self.refused.extend(receipt.wait()?);
        }
        match self.refused.is_empty() {
            true => Ok(Growth::Whole(root)),
            false => Ok(Growth::Refused(std::mem::take(&mut self.refused))),
        }
    }

    /// The snapshot of what was grown so far stands.
    pub fn mark(&mut self) -> Result<(), BackupError> {
        self.local.mark().map_err(local_tree)
    }

    /// The snapshot of the whole tree stands.
    pub fn keep(self) -> Result<(), BackupError> {
        self.local.finish().map_err(local_tree)
    }

    fn child(&mut self, run: &dyn Run, child: Child) -> Result<(), BackupError> {
        let Self { sealery, progress, known, builder, .. } = self;
        let mut sink = NodeSink { sealery, progress, run, known, sent: Vec::new() };
        builder.push(child, &mut |node| sink.take(node))?;
        let sent = sink.sent;
        self.record(sent)
    }

    fn record(&mut self, sent: Vec<(NodeId, Option<Receipt>)>) -> Result<(), BackupError> {
        for (id, receipt) in sent {
            self.local.node(id).map_err(local_tree)?;
            receipt.map_or(Ok(()), |receipt| self.expect(receipt))?;
        }
        Ok(())
    }

    fn expect(&mut self, receipt: Receipt) -> Result<(), BackupError> {
        self.receipts.push_back(receipt);
        if self.receipts.len() > RECEIPTS_MAX
            && let Some(oldest) = self.receipts.pop_front()
        {
            self.refused.extend(oldest.wait()?);
        }
        Ok(())
    }
}

/// Seals inner nodes and sends those that the last tree did not have.
struct NodeSink<'a> {
    sealery: &'a Sealery,
    progress: &'a Progress,
    run: &'a dyn Run,
    known: &'a HashSet<NodeId>,
    sent: Vec<(NodeId, Option<Receipt>)>,
}

impl NodeSink<'_> {
    fn take(&mut self, node: Node) -> Result<NodeRef, BackupError> {
        let (reference, outgoing) = self.sealery.seal_node(&node)?;
        let receipt = match self.known.contains(&reference.id) {
            true => None,
            false => {
                let batch = Batch { chunks: Vec::new(), nodes: vec![outgoing] };
                Progress::add(&self.progress.sent_bytes, batch.sealed_bytes());
                Some(self.run.upload(batch)?)
            }
        };
        self.sent.push((reference.id, receipt));
        Ok(reference)
    }
}

fn local_tree(error: std::io::Error) -> BackupError {
    BackupError::local("cannot write the local tree in the agent's state directory", error)
}
