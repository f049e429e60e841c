//! The content of one file, piece by piece, in order, with a few chunks ahead of need.

use super::fetch::{FetchError, GrantReader, NodeReader, PendingChunks};
use lifeboat_format::FormatError;
use lifeboat_format::seal::Opener;
use lifeboat_format::tree::{Body, ChunkRef, Extent, ExtentReader, FileContent};
use std::collections::VecDeque;

/// Bytes of content that one request asks for, about; two requests are under way at once.
const REQUEST_BYTES: u64 = 4 << 20;
/// Extents that one request looks at, at most: where their chunks hang is known only of what was read lately.
const EXTENTS_MAX: usize = 1_000;

/// What stands next in a file.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// So many zeros that take place on disk.
    Zeros(u64),
    /// So many zeros that do not.
    Hole(u64),
}

/// Gives the pieces of a file to `take`, in order, with their offsets; chunks that are not `wanted` are passed over,
/// unfetched. A request waits while the one before it is taken, so memory is bounded however long the file is.
///
/// # Errors
/// Those of `take` as they are; a chunk that cannot be had ends the file.
pub fn read<E: From<FetchError>>(
    reader: &GrantReader,
    content: &FileContent,
    mut wanted: impl FnMut(u64, &ChunkRef) -> Result<bool, E>,
    mut take: impl FnMut(u64, Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut opener = Opener::new();
    if let Body::Bundled { chunk, offset, .. } = &content.body {
        let bytes = one(reader, chunk, &mut opener)?;
        return take(0, Piece::Data(bundled(&bytes, *offset, content.bytes)?));
    }
    let mut extents = ExtentReader::new(reader.nodes(), content)?;
    let mut under_way = VecDeque::new();
    loop {
        let part = next_part(&mut extents, &mut wanted)?;
        let ended = part.is_none();
        if let Some(part) = part {
            under_way.push_back(ask(reader, part));
        }
        while under_way.len() > usize::from(!ended) {
            let Some((pending, part)) = under_way.pop_front() else { break };
            write(pending, part, &mut opener, &mut take)?;
        }
        if ended {
            return Ok(());
        }
    }
}

/// The range of a bundle that is one file's content.
pub fn bundled(bundle: &[u8], offset: u32, bytes: u64) -> Result<&[u8], FetchError> {
    let start = offset as usize;
    let range = usize::try_from(bytes).ok().and_then(|bytes| bundle.get(start..start.checked_add(bytes)?));
    let wrong =
        || FormatError::field("bundled file", "range", format!("{bytes} bytes at {offset}"), "within its bundle");
    range.ok_or_else(|| wrong().into())
}

fn one(reader: &GrantReader, chunk: &ChunkRef, opener: &mut Opener) -> Result<Vec<u8>, FetchError> {
    let mut found = reader.request(vec![*chunk]).wait(opener)?;
    found.pop().unwrap_or_else(|| Err(FormatError::Broken { what: "chunk", check: "that one answer comes" }.into()))
}

type Part = Vec<(u64, Extent)>;

/// None at the end of the file.
fn next_part<E: From<FetchError>>(
    extents: &mut ExtentReader<NodeReader>,
    wanted: &mut impl FnMut(u64, &ChunkRef) -> Result<bool, E>,
) -> Result<Option<Part>, E> {
    let (mut part, mut bytes, mut seen) = (Vec::new(), 0, 0);
    for extent in extents.by_ref() {
        let (offset, extent) = extent?;
        seen += 1;
        let fetched = match &extent {
            Extent::Data(chunk) if wanted(offset, chunk)? => Some(u64::from(chunk.bytes)),
            Extent::Data(_) => None,
            Extent::Zeros { .. } | Extent::Hole { .. } => Some(0),
        };
        if let Some(fetched) = fetched {
            bytes += fetched;
            part.push((offset, extent));
        }
        if bytes >= REQUEST_BYTES || seen >= EXTENTS_MAX {
            break;
        }
    }
    Ok((seen > 0).then_some(part))
}

fn ask(reader: &GrantReader, part: Part) -> (PendingChunks, Part) {
    let chunks = part.iter().filter_map(|(_, extent)| match extent {
        Extent::Data(chunk) => Some(*chunk),
        Extent::Zeros { .. } | Extent::Hole { .. } => None,
    });
    (reader.request(chunks.collect()), part)
}

fn write<E: From<FetchError>>(
    pending: PendingChunks,
    part: Part,
    opener: &mut Opener,
    take: &mut impl FnMut(u64, Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut chunks = pending.wait(opener)?.into_iter();
    for (offset, extent) in part {
        match extent {
            Extent::Zeros { bytes } => take(offset, Piece::Zeros(bytes))?,
            Extent::Hole { bytes } => take(offset, Piece::Hole(bytes))?,
            Extent::Data(_) => match chunks.next() {
                Some(chunk) => take(offset, Piece::Data(&chunk?))?,
                None => Err(FetchError::from(FormatError::Broken { what: "chunk", check: "that all answers come" }))?,
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::bundled;

    #[test]
    fn inv_09_a_range_outside_its_bundle_is_refused() {
        assert_eq!(bundled(b"abcdef", 2, 3).unwrap(), b"cde");
        assert!(bundled(b"abcdef", 4, 3).is_err());
        assert!(bundled(b"abcdef", u32::MAX, u64::MAX).is_err());
    }
}
