//! One record of the local tree file: kind, length, checksum, payload.

use crate::walk::Signature;
use lifeboat_format::FormatError;
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::id::{NodeId, Scope};
use lifeboat_format::key::ContentHash;
use lifeboat_format::link::Link;
use lifeboat_format::tree::{Entry, Leaf, Node, NodeRef, Time, Totals};
use std::io::{self, Read, Write};

/// First bytes of the file. Another version is another hint: it is ignored.
pub(super) const MAGIC: &[u8; 8] = b"LBtree\x01\n";

const WHAT: &str = "local tree";
const HEADER_BYTES: usize = 1 + 4 + 16;
const PAYLOAD_BYTES_MAX: usize = 32 << 20;
const LEAF: u8 = 1;
const NODE: u8 = 2;
const MARK: u8 = 3;

/// A record as it lies in the file.
#[derive(Debug)]
pub(super) enum Record {
    /// A leaf; the bytes are a packed [`LeafRecord`].
    Leaf(Vec<u8>),
    /// The id of an inner node of the tree.
    Node(NodeId),
    /// Everything before belongs to a committed snapshot.
    Mark,
}

impl Record {
    /// Appends the record.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Leaf(packed) => (LEAF, packed),
            Self::Node(id) => (NODE, id.as_bytes()),
            Self::Mark => (MARK, &[]),
        };
        let length = u32::try_from(payload.len()).map_err(|_| io::Error::other("a leaf record beyond 4 GiB"))?;
        out.write_all(&[kind])?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&checksum(kind, payload))?;
        out.write_all(payload)
    }

    /// Reads the next record. None at the end, and where the bytes are not a record any more: a cut or damaged file ends
    /// there. A record whose payload does not match its checksum is passed over.
    pub(super) fn read(input: &mut impl Read) -> Option<Self> {
        loop {
            let mut header = [0; HEADER_BYTES];
            input.read_exact(&mut header).ok()?;
            let kind = header[0];
            let length = u32::from_le_bytes(std::array::from_fn(|at| header[1 + at])) as usize;
            if !(LEAF..=MARK).contains(&kind) || length > PAYLOAD_BYTES_MAX {
                return None;
            }
            let mut payload = vec![0; length];
            input.read_exact(&mut payload).ok()?;
            if checksum(kind, &payload) != header[5..] {
                continue;
            }
            return match kind {
                LEAF => Some(Self::Leaf(payload)),
                NODE => payload.try_into().ok().map(|id| Self::Node(NodeId::from_bytes(id))),
                _ => Some(Self::Mark),
            };
        }
    }
}

fn checksum(kind: u8, payload: &[u8]) -> [u8; 16] {
    let hash = *blake3::Hasher::new().update(&[kind]).update(payload).finalize().as_bytes();
    std::array::from_fn(|at| hash[at])
}

/// One leaf of the last tree, and how its entries looked.
#[derive(Debug)]
pub struct LeafRecord {
    /// The leaf in the repository.
    pub node: NodeRef,
    /// What lies in it.
    pub totals: Totals,
    /// Its entries, in walk order, each with its signature.
    pub entries: Vec<(Entry, Signature)>,
}

impl LeafRecord {
    /// Lays the record into bytes, compressed.
    pub fn pack(&self) -> io::Result<Vec<u8>> {
        let mut out = Encoder::new();
        write_reference(&mut out, &self.node);
        out.varint(self.totals.entries).varint(self.totals.files).varint(self.totals.bytes);
        let (entries, signatures): (Vec<_>, Vec<_>) = self.entries.iter().cloned().unzip();
        let (links, plaintext) = Node::Leaf(Leaf { entries }).encode();
        out.varint(links.len() as u64);
        links.iter().for_each(|link| link.encode(&mut out));
        out.bytes(&plaintext);
        signatures.iter().for_each(|signature| write_signature(&mut out, signature));
        zstd::bulk::compress(&out.finish(), 1)
    }

    /// Reads what `pack` made. Bytes that are anything else are an error, which costs the hint and no more.
    pub fn unpack(packed: &[u8]) -> Result<Self, FormatError> {
        let plain = zstd::bulk::decompress(packed, PAYLOAD_BYTES_MAX)
            .map_err(|_| FormatError::Broken { what: WHAT, check: "compression" })?;
        let mut input = Decoder::new(WHAT, &plain);
        let node = read_reference(&mut input)?;
        let totals =
            Totals { entries: input.varint("entries")?, files: input.varint("files")?, bytes: input.varint("bytes")? };
        let links =
            (0..input.bounded("links", 1 << 16)?).map(|_| Link::decode(&mut input)).collect::<Result<Vec<_>, _>>()?;
        let Node::Leaf(leaf) = Node::decode(&links, input.bytes("leaf", PAYLOAD_BYTES_MAX as u64)?)? else {
            return Err(FormatError::field(WHAT, "leaf", "another kind of node", "a leaf"));
        };
        let entries = leaf
            .entries
            .into_iter()
            .map(|entry| Ok((entry, read_signature(&mut input)?)))
            .collect::<Result<_, FormatError>>()?;
        input.end()?;
        Ok(Self { node, totals, entries })
    }
}

fn write_reference(out: &mut Encoder, node: &NodeRef) {
    out.raw(node.id.as_bytes()).u32(node.scope.get()).raw(node.content.expose()).u8(node.height);
}

fn read_reference(input: &mut Decoder<'_>) -> Result<NodeRef, FormatError> {
    Ok(NodeRef {
        id: NodeId::from_bytes(input.array("node id")?),
        scope: Scope::new(input.u32("scope")?),
        content: ContentHash::from_bytes(input.array("content hash")?),
        height: input.u8("height")?,
    })
}

fn write_signature(out: &mut Encoder, signature: &Signature) {
    let Signature { mode, bytes, inode, mtime, ctime, racy } = signature;
    out.u32(*mode).u64(*bytes).u64(*inode).u8(u8::from(*racy));
    for time in [mtime, ctime] {
        out.i64(time.seconds).u32(time.nanos);
    }
}

fn read_signature(input: &mut Decoder<'_>) -> Result<Signature, FormatError> {
    let (mode, bytes, inode) = (input.u32("mode")?, input.u64("bytes")?, input.u64("inode")?);
    let racy = input.u8("racy")? != 0;
    let mut time = || Ok::<_, FormatError>(Time { seconds: input.i64("seconds")?, nanos: input.u32("nanos")? });
    Ok(Signature { mode, bytes, inode, mtime: time()?, ctime: time()?, racy })
}
