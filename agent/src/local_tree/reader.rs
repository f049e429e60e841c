//! Reads the last tree in walk order, once, beside the walk.

use super::LocalTreeFiles;
use super::record::{LeafRecord, MAGIC, Record};
use crate::walk::Signature;
use lifeboat_format::id::NodeId;
use lifeboat_format::tree::{Entry, NodeRef, Totals, compare_paths};
use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// A leaf of the last tree, still packed, to be kept as it is.
#[derive(Debug)]
pub struct OldLeaf {
    /// The leaf in the repository.
    pub node: NodeRef,
    /// What lies in it.
    pub totals: Totals,
    /// The path of its last entry.
    pub last_path: Vec<u8>,
    /// How many entries it has.
    pub entries: usize,
    packed: Vec<u8>,
}

impl OldLeaf {
    pub(super) fn into_packed(self) -> Vec<u8> {
        self.packed
    }
}

/// The last tree: first what an interrupted run had committed, then the whole tree before it.
#[derive(Debug)]
pub struct LastTree {
    sources: VecDeque<Source>,
    nodes: HashSet<NodeId>,
    leaf: Option<OldLeaf>,
    entries: VecDeque<(Entry, Signature)>,
    /// How many entries of `leaf` were found.
    found: usize,
    passed: Vec<u8>,
    started: bool,
}

impl LastTree {
    /// Opens what there is. Nothing, or nothing readable, is an empty tree.
    pub fn open(files: &LocalTreeFiles) -> Self {
        let mut nodes = HashSet::new();
        let sources = [&files.partial, &files.whole].into_iter().filter_map(|path| Source::open(path, &mut nodes));
        Self {
            sources: sources.collect(),
            nodes,
            leaf: None,
            entries: VecDeque::new(),
            found: 0,
            passed: Vec::new(),
            started: false,
        }
    }

    /// A tree with nothing in it: everything will be read.
    pub fn empty() -> Self {
        Self {
            sources: VecDeque::new(),
            nodes: HashSet::new(),
            leaf: None,
            entries: VecDeque::new(),
            found: 0,
            passed: Vec::new(),
            started: false,
        }
    }

    /// The ids of its inner nodes, about one for 4,000 entries: taken out, for whoever builds the next tree.
    pub fn take_nodes(&mut self) -> HashSet<NodeId> {
        std::mem::take(&mut self.nodes)
    }

    /// What it says of `path`. Must be called with rising paths; what lies before `path` is passed over.
    pub fn find(&mut self, path: &[u8]) -> Option<(Entry, Signature)> {
        loop {
            let Some((entry, _)) = self.entries.front() else {
                self.next_leaf()?;
                continue;
            };
            match compare_paths(&entry.path, path) {
                Ordering::Less => self.entries.pop_front(),
                Ordering::Equal => {
                    self.found += 1;
                    return self.entries.pop_front();
                }
                Ordering::Greater => return None,
            };
        }
    }

    /// The leaf of the last tree that consists of just those `entries` that `find` returned last, ending with `path`.
    pub fn leaf_ending_at(&mut self, path: &[u8], entries: usize) -> Option<OldLeaf> {
        let whole = self.found == entries && self.entries.is_empty();
        self.leaf.take_if(|leaf| whole && leaf.entries == entries && leaf.last_path == path)
    }

    fn next_leaf(&mut self) -> Option<()> {
        loop {
            let Some(packed) = self.sources.front_mut()?.next_leaf() else {
                self.sources.pop_front();
                continue;
            };
            let Ok(record) = LeafRecord::unpack(&packed) else { continue };
            let Some((first, last)) = record.entries.first().zip(record.entries.last()) else { continue };
            if self.started && compare_paths(&first.0.path, &self.passed) != Ordering::Greater {
                continue;
            }
            self.passed = last.0.path.clone();
            self.started = true;
            self.leaf = Some(OldLeaf {
                node: record.node,
                totals: record.totals,
                last_path: self.passed.clone(),
                entries: record.entries.len(),
                packed,
            });
            self.entries = record.entries.into();
            self.found = 0;
            return Some(());
        }
    }
}

/// One file, up to its last mark.
#[derive(Debug)]
struct Source {
    input: BufReader<File>,
    records_left: u64,
}

impl Source {
    fn open(path: &Path, nodes: &mut HashSet<NodeId>) -> Option<Self> {
        let mut input = BufReader::with_capacity(1 << 20, File::open(path).ok()?);
        skip_magic(&mut input)?;
        let mut marked = 0;
        let mut found = Vec::new();
        for count in 1.. {
            match Record::read(&mut input) {
                None => break,
                Some(Record::Leaf(_)) => {}
                Some(Record::Node(id)) => found.push(id),
                Some(Record::Mark) => {
                    marked = count;
                    nodes.extend(found.drain(..));
                }
            }
        }
        input.seek(SeekFrom::Start(0)).ok()?;
        skip_magic(&mut input)?;
        Some(Self { input, records_left: marked })
    }

    fn next_leaf(&mut self) -> Option<Vec<u8>> {
        while self.records_left > 0 {
            self.records_left -= 1;
            if let Record::Leaf(packed) = Record::read(&mut self.input)? {
                return Some(packed);
            }
        }
        None
    }
}

fn skip_magic(input: &mut impl Read) -> Option<()> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).ok()?;
    (&magic == MAGIC).then_some(())
}
