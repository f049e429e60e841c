//! The content of a file on its way into an archive: fetched before if it is small, else piece by piece.

use lifeboat_agent::restore::content::{self, Piece, bundled};
use lifeboat_agent::restore::fetch::{FetchError, GrantReader};
use lifeboat_format::FormatError;
use lifeboat_format::id::ChunkId;
use lifeboat_format::tree::{Body, ChunkRef, Extent, ExtentReader, FileContent};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::collections::HashMap;
use std::io;

/// Chunks that were fetched ahead, or why they cannot be had.
pub type Chunks = HashMap<ChunkId, Result<Vec<u8>, FetchError>>;

/// What is in a regular file.
pub struct Content<'a> {
    /// Where from.
    pub reader: &'a GrantReader,
    /// What.
    pub file: &'a FileContent,
    /// All its chunks, if it is small.
    pub chunks: Option<&'a Chunks>,
}

/// Why an archive ends early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The snapshot cannot be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The archive cannot be written.
    #[error("cannot write the archive: {0}")]
    Write(#[from] io::Error),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fetch(error) => error.into(),
            Stop::Write(_) => Self::of(ErrorClass::Full, &stop).hint("what was written of it is no whole archive"),
        }
    }
}

impl Content<'_> {
    /// How long the file is.
    pub fn bytes(&self) -> u64 {
        self.file.bytes
    }

    /// Its extents, in order; of a small file without asking anybody. A bundled one has none: it is data to its end.
    pub fn extents(&self) -> Result<impl Iterator<Item = Result<(u64, Extent), FetchError>>, FetchError> {
        let extents = match &self.file.body {
            Body::Empty | Body::Bundled { .. } => None,
            Body::Extents(_) | Body::List(_) => Some(ExtentReader::new(self.reader.nodes(), self.file)?),
        };
        Ok(extents.into_iter().flatten())
    }

    /// Whether what was fetched ahead is whole. Of a file that is read piece by piece nobody knows yet.
    pub fn check(&self) -> Result<(), FetchError> {
        if self.chunks.is_none() { Ok(()) } else { self.read_small(|_, _| Ok::<_, FetchError>(())) }
    }

    /// Gives all pieces of the file to `take`, in order. If a part of a large file is damaged, zeros take the place of
    /// the rest of it, and the damage is returned.
    pub fn read(&self, mut take: impl FnMut(u64, Piece<'_>) -> io::Result<()>) -> Result<Option<FetchError>, Stop> {
        if self.chunks.is_some() {
            self.read_small(|offset, piece| take(offset, piece).map_err(Stop::from))?;
            return Ok(None);
        }
        let mut end = 0;
        let read = content::read(
            self.reader,
            self.file,
            |_, _| Ok(true),
            |offset, piece| {
                end = offset + bytes_of(&piece);
                take(offset, piece).map_err(Stop::from)
            },
        );
        match read {
            Ok(()) => Ok(None),
            Err(Stop::Fetch(damage @ (FetchError::Lost { .. } | FetchError::Format(_)))) => {
                for extent in self.extents()? {
                    let (offset, extent) = extent?;
                    if offset >= end {
                        take(offset, without_content(&extent))?;
                    }
                }
                Ok(Some(damage))
            }
            Err(stop) => Err(stop),
        }
    }

    fn read_small<E: From<FetchError>>(&self, mut take: impl FnMut(u64, Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        match &self.file.body {
            Body::Empty => Ok(()),
            Body::Bundled { chunk, offset, .. } => {
                take(0, Piece::Data(bundled(self.chunk(chunk)?, *offset, self.file.bytes)?))
            }
            Body::Extents(_) | Body::List(_) => {
                for extent in self.extents()? {
                    let (offset, extent) = extent?;
                    match &extent {
                        Extent::Data(chunk) => take(offset, Piece::Data(self.chunk(chunk)?))?,
                        extent => take(offset, without_content(extent))?,
                    }
                }
                Ok(())
            }
        }
    }

    fn chunk(&self, chunk: &ChunkRef) -> Result<&[u8], FetchError> {
        match self.chunks.and_then(|chunks| chunks.get(&chunk.id)) {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(error)) => Err(error.clone()),
            None => Err(FormatError::Broken { what: "chunk", check: "that all answers come" }.into()),
        }
    }
}

/// How long a piece is.
pub fn bytes_of(piece: &Piece<'_>) -> u64 {
    match piece {
        Piece::Data(data) => data.len() as u64,
        Piece::Zeros(bytes) | Piece::Hole(bytes) => *bytes,
    }
}

fn without_content(extent: &Extent) -> Piece<'static> {
    match extent {
        Extent::Data(chunk) => Piece::Zeros(chunk.bytes.into()),
        Extent::Zeros { bytes } => Piece::Zeros(*bytes),
        Extent::Hole { bytes } => Piece::Hole(*bytes),
    }
}

/// Writes zeros.
pub fn write_zeros(out: &mut impl io::Write, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), bytes), out).map(|_| ())
}
