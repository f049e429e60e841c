//! Whether content that is there already is that of the tree: by its hash, chunk by chunk, with nothing fetched but the
//! nodes that name the chunks.

use super::existing::{Existing, Source};
use super::fetch::{FetchError, GrantReader};
use lifeboat_format::tree::{Body, ChunkRef, Extent, ExtentReader, FileContent};
use rustix::io;

/// Content cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// What is there cannot be read.
    #[error("cannot read what is there: {0}")]
    Read(#[from] io::Errno),
    /// What should be there cannot be told.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// Whether a file that is there has the content that it should have, holes included. Reads up to the first difference.
pub fn is_equal(reader: &GrantReader, existing: &Existing, content: &FileContent) -> Result<bool, CompareError> {
    if existing.is_equal_unread() {
        return Ok(true);
    }
    if existing.bytes() != content.bytes {
        return Ok(false);
    }
    let source = existing.source();
    if let Body::Bundled { chunk, hash, .. } = &content.body {
        let bytes = source.read_at(0, content.bytes as usize)?;
        return Ok(bytes.len() as u64 == content.bytes && reader.is_bundled_file(chunk.scope, hash, &bytes));
    }
    for extent in ExtentReader::new(reader.nodes(), content)? {
        let (offset, extent) = extent?;
        let is_same = match &extent {
            Extent::Data(chunk) => take(reader, source, offset, chunk)?.is_some(),
            Extent::Zeros { bytes } => source.is_zeros(offset, *bytes)?,
            Extent::Hole { bytes } => source.is_hole(offset, *bytes),
        };
        if !is_same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The bytes at an offset, if they are this chunk.
pub fn take(
    reader: &GrantReader,
    source: Source<'_>,
    offset: u64,
    chunk: &ChunkRef,
) -> Result<Option<Vec<u8>>, io::Errno> {
    // A hole is no chunk: zeros are no chunks either.
    if source.is_hole(offset, chunk.bytes.into()) {
        return Ok(None);
    }
    let bytes = source.read_at(offset, chunk.bytes as usize)?;
    Ok(reader.is_chunk(chunk, &bytes).then_some(bytes))
}
