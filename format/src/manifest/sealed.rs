//! The part of a manifest that only restore and recovery keys open.

use crate::aead;
use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::Scope;
use crate::key::ContentHash;
use crate::layout::{self, BYTES_MAX, Field};
use crate::sign;
use crate::tree::{check_path, compare_paths};
use std::cmp::Ordering;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const WHAT: &str = "manifest's sealed part";
/// The most gaps that a manifest names; more are only counted.
pub const GAPS_MAX: usize = 100_000;
/// The most bytes that the named gaps take together; more are only counted.
pub const GAP_BYTES_MAX: usize = 4 << 20;
/// The most source paths that a manifest names.
pub const SOURCES_MAX: usize = 4096;
/// More than the lengths of one gap's path and reason take.
const GAP_OVERHEAD_BYTES: usize = 8;

/// Opens one manifest. Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ManifestKey([u8; 32]);

impl ManifestKey {
    pub(super) fn generate() -> Result<Self, FormatError> {
        sign::random().map(|bytes| Self(*bytes))
    }

    /// Takes the key out of an opened envelope.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// Its bytes, to be sealed into an envelope.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ManifestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ManifestKey(…)")
    }
}

/// Something that a backup could not read, or not read in peace.
#[derive(Clone, PartialEq, Eq)]
pub struct Gap {
    /// Which entry, as a path of the tree.
    pub path: Vec<u8>,
    /// Why, for people.
    pub reason: String,
}

impl Field for Gap {
    fn put(&self, to: &mut Encoder) {
        self.path.put(to);
        self.reason.put(to);
    }

    fn take(from: &mut Decoder<'_>, _: &'static str) -> Result<Self, FormatError> {
        Ok(Self { path: Field::take(from, "gap's path")?, reason: Field::take(from, "gap's reason")? })
    }
}

impl fmt::Debug for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gap(…)")
    }
}

/// How to open a tree, and the names of what is missing from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPart {
    root_content: ContentHash,
    scopes: Vec<Scope>,
    sources: Vec<Vec<u8>>,
    gaps: Vec<Gap>,
    gap_bytes: usize,
}

impl SealedPart {
    /// For a tree whose root has this content hash, that refers to bytes of these scopes, and that holds what is at
    /// these source paths.
    pub fn new(
        root_content: ContentHash,
        scopes: impl IntoIterator<Item = Scope>,
        sources: impl IntoIterator<Item = Vec<u8>>,
    ) -> Self {
        let mut scopes: Vec<_> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        let mut sources: Vec<_> = sources.into_iter().collect();
        sources.sort_by(|a, b| compare_paths(a, b));
        sources.dedup();
        Self { root_content, scopes, sources, gaps: Vec::new(), gap_bytes: 0 }
    }

    /// Names a gap while there is room; says whether there was. The reason is made to fit. Count gaps apart: the
    /// manifest's clear part states how many there are in all.
    pub fn name_gap(&mut self, path: &[u8], reason: &str) -> bool {
        let reason = layout::fit_text(reason);
        let bytes = self.gap_bytes + path.len() + reason.len() + GAP_OVERHEAD_BYTES;
        let room = self.gaps.len() < GAPS_MAX && bytes <= GAP_BYTES_MAX;
        if room {
            self.gaps.push(Gap { path: path.to_vec(), reason });
            self.gap_bytes = bytes;
        }
        room
    }

    /// The root's content hash: opens the root, and through it the tree.
    pub fn root_content(&self) -> ContentHash {
        self.root_content
    }

    /// The scopes that the tree refers to, rising.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// The source paths, in the order of the tree: what the source set was to hold at the time.
    pub fn sources(&self) -> &[Vec<u8>] {
        &self.sources
    }

    /// The gaps that have a name here, in the order in which they were met.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Sealed under `key`, bound to the clear part. The nonce is zero: a manifest key seals once.
    pub(super) fn seal(&self, key: &ManifestKey, clear: &[u8]) -> Result<Vec<u8>, FormatError> {
        let mut encoder = Encoder::new();
        encoder.raw(self.root_content.expose());
        self.scopes.put(&mut encoder);
        self.sources.put(&mut encoder);
        self.gaps.put(&mut encoder);
        encoder.bytes(&[]);
        let plaintext = Zeroizing::new(encoder.finish());
        Self::parse(&plaintext)?;
        aead::seal(&key.0, [0; 12], clear, &plaintext)
    }

    pub(super) fn open(key: &ManifestKey, clear: &[u8], sealed: &[u8]) -> Result<Self, FormatError> {
        Self::parse(&aead::open(WHAT, &key.0, [0; 12], clear, sealed)?)
    }

    fn parse(plaintext: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = Decoder::new(WHAT, plaintext);
        let root_content = ContentHash::from_bytes(decoder.array("root content hash")?);
        let scopes = Vec::<Scope>::take(&mut decoder, "scopes")?;
        layout::rising(WHAT, "scopes", &scopes)?;
        let sources = Vec::<Vec<u8>>::take(&mut decoder, "sources")?;
        check_sources(&sources)?;
        let gaps = Vec::<Gap>::take(&mut decoder, "gaps")?;
        decoder.bytes("extension", BYTES_MAX)?;
        decoder.end()?;
        let gap_bytes = gaps.iter().map(|gap| gap.path.len() + gap.reason.len() + GAP_OVERHEAD_BYTES).sum();
        if gaps.len() > GAPS_MAX || gap_bytes > GAP_BYTES_MAX {
            return Err(FormatError::field(WHAT, "gaps", gaps.len(), "at most 100,000, of 4 MiB together"));
        }
        Ok(Self { root_content, scopes, sources, gaps, gap_bytes })
    }
}

fn check_sources(sources: &[Vec<u8>]) -> Result<(), FormatError> {
    sources.iter().try_for_each(|source| check_path(source))?;
    if sources.len() > SOURCES_MAX || !sources.is_sorted_by(|a, b| compare_paths(a, b) == Ordering::Less) {
        return Err(FormatError::field(WHAT, "sources", sources.len(), "at most 4,096, in order, each once"));
    }
    Ok(())
}
