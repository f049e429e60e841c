//! Writes the tree of a running backup, beside the last one, and puts it in its place when its snapshot stands.

use super::record::{MAGIC, Record};
use super::{LeafRecord, LocalTreeFiles, OldLeaf};
use lifeboat_format::id::NodeId;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};

/// The file that a run writes. Dropped without [`LocalTreeWriter::finish`] it stays as the partial tree.
#[derive(Debug)]
pub struct LocalTreeWriter {
    files: LocalTreeFiles,
    out: BufWriter<File>,
}

impl LocalTreeWriter {
    /// Starts a new partial tree. The one of an earlier run is unlinked and not overwritten: whoever reads it keeps it.
    pub fn create(files: &LocalTreeFiles) -> io::Result<Self> {
        match fs::remove_file(&files.partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(&files.partial)?);
        out.write_all(MAGIC)?;
        Ok(Self { files: files.clone(), out })
    }

    /// A leaf that was built now.
    pub fn leaf(&mut self, leaf: &LeafRecord) -> io::Result<()> {
        Record::Leaf(leaf.pack()?).write(&mut self.out)
    }

    /// A leaf that stayed as it was.
    pub fn old_leaf(&mut self, leaf: OldLeaf) -> io::Result<()> {
        Record::Leaf(leaf.into_packed()).write(&mut self.out)
    }

    /// An inner node that the coordinator took, or had.
    pub fn node(&mut self, id: NodeId) -> io::Result<()> {
        Record::Node(id).write(&mut self.out)
    }

    /// What was written so far is part of a committed snapshot.
    pub fn mark(&mut self) -> io::Result<()> {
        Record::Mark.write(&mut self.out)?;
        self.out.flush()
    }

    /// The snapshot of the whole tree stands: this is the last tree now. Not synced: it is a hint.
    pub fn finish(mut self) -> io::Result<()> {
        self.mark()?;
        fs::rename(&self.files.partial, &self.files.whole)
    }
}
