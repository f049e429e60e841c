//! Rows of the index as bytes, and back: pure.
//!
//! The index is not at rest: these layouts may change with any release, since a rebuild makes them anew. Still nothing
//! is believed: a row that does not decode is an error, and the index is then rebuilt.

use lifeboat_format::FormatError;
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::id::{Digest, HostId, Scope, SnapshotNumber};

/// Stands for a pack in rows, so that they stay short. Derived from the pack's name: a table of an older state, as a
/// damaged database may show one, still names the right packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackNumber(pub(super) u64);

#[cfg(test)]
impl PackNumber {
    /// A number that no index has given.
    pub fn for_tests(number: u64) -> Self {
        Self(number)
    }
}

/// The cycle of clean-up that condemned an id, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u64);

impl Mark {
    /// Not condemned.
    pub const NONE: Self = Self(0);
}

/// Where sealed bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// In which pack.
    pub pack: PackNumber,
    /// Which record of the pack, from 0.
    pub record: u32,
    /// The first byte in the pack.
    pub offset: u32,
    /// How many bytes.
    pub sealed_bytes: u32,
}

/// One sealed form of a chunk, as one host brought it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Who brought it; [`HostId::WITNESSED`] once two did, or the verifier opened it.
    pub host: HostId,
    /// Where it lies.
    pub place: Place,
    /// The BLAKE3 of the sealed bytes.
    pub digest: Digest,
    /// Whose keys sealed it.
    pub scope: Scope,
    /// The encoder that made it.
    pub encoder: u16,
}

impl Body {
    fn is_same_bytes(&self, other: &Self) -> bool {
        self.digest == other.digest && self.scope == other.scope
    }
}

/// What is known of a chunk: a body for each host that brought other bytes, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRow {
    /// Whether clean-up has condemned it.
    pub mark: Mark,
    /// Its sealed forms, in the order in which they came.
    pub bodies: Vec<Body>,
}

impl ChunkRow {
    /// Whether this host may rely on it: a body that it brought itself, or a witnessed one.
    pub fn is_offered_to(&self, host: HostId) -> bool {
        self.bodies.iter().any(|body| body.host == host || body.host == HostId::WITNESSED)
    }

    /// Whether all hosts may rely on it.
    pub fn is_witnessed(&self) -> bool {
        self.bodies.iter().any(|body| body.host == HostId::WITNESSED)
    }

    /// Adds a body beside the others; returns whether that changed anything. Nothing is replaced (INV-44). Equal bytes
    /// are kept once per pack: in a second pack they lie only if the first one could not be read when they came again.
    pub fn add(&mut self, mut body: Body) -> bool {
        let is_witnessed = |known: &Body| known.is_same_bytes(&body) && known.host == HostId::WITNESSED;
        if self.bodies.iter().any(is_witnessed) {
            body.host = HostId::WITNESSED;
        }
        let changed = body.host == HostId::WITNESSED && self.witness(&body);
        let is_known =
            |known: &Body| known.is_same_bytes(&body) && known.place.pack == body.place.pack && known.host == body.host;
        if self.bodies.iter().any(is_known) {
            return changed;
        }
        self.bodies.push(body);
        true
    }

    /// All bodies with these bytes are witnessed from now on; returns whether that changed anything.
    pub fn witness(&mut self, bytes: &Body) -> bool {
        let mut changed = false;
        for body in self.bodies.iter_mut().filter(|body| body.is_same_bytes(bytes)) {
            changed |= body.host != HostId::WITNESSED;
            body.host = HostId::WITNESSED;
        }
        changed
    }

    /// The bodies in the order in which a reader on behalf of `host` tries them: its own, witnessed ones, others.
    pub fn preferred(&self, host: HostId) -> Vec<&Body> {
        let mut bodies: Vec<&Body> = self.bodies.iter().collect();
        bodies.sort_by_key(|body| match body.host {
            own if own == host => 0,
            HostId::WITNESSED => 1,
            _ => 2,
        });
        bodies
    }
}

/// What is known of a tree node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Whether clean-up has condemned it.
    pub mark: Mark,
    /// Where its record lies, at least one place, each in another pack. Root and inner nodes have two (INV-79); there are
    /// more where a node came again while it could not be read.
    pub places: Vec<Place>,
    /// 1 + the greatest height among its links.
    pub height: u8,
    /// A committed snapshot whose tree holds it: true for ever, useful while that is live or in the trash (INV-37).
    pub home: Option<SnapshotNumber>,
    /// Whether all below it is witnessed, so that any host may rely on it.
    pub shared: bool,
}

/// What is known of a node that a run has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentRow {
    /// The last attempt to commit in which it was found good; 0: none yet.
    pub validated: u32,
    /// Whether that attempt found all below it witnessed.
    pub witnessed_below: bool,
}

const CHUNK: &str = "chunk row of the index";
const NODE: &str = "node row of the index";
const SENT: &str = "sent row of the index";
const BODIES_MAX: u64 = 1 << 20;

fn put_place(to: &mut Encoder, place: &Place) {
    to.u64(place.pack.0).u32(place.record).u32(place.offset).u32(place.sealed_bytes);
}

fn take_place(from: &mut Decoder<'_>) -> Result<Place, FormatError> {
    Ok(Place {
        pack: PackNumber(from.u64("pack")?),
        record: from.u32("record")?,
        offset: from.u32("offset")?,
        sealed_bytes: from.u32("length")?,
    })
}

impl ChunkRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::new();
        to.varint(self.mark.0).varint(self.bodies.len() as u64);
        for body in &self.bodies {
            put_place(&mut to, &body.place);
            to.u32(body.host.get()).u32(body.scope.get()).u16(body.encoder).raw(body.digest.as_bytes());
        }
        to.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = Decoder::new(CHUNK, bytes);
        let mark = Mark(from.varint("mark")?);
        let count = from.bounded("bodies", BODIES_MAX)?;
        let bodies = (0..count).map(|_| take_body(&mut from)).collect::<Result<Vec<_>, _>>()?;
        if bodies.is_empty() {
            return Err(FormatError::field(CHUNK, "bodies", 0, "at least one"));
        }
        from.end().map(|()| Self { mark, bodies })
    }
}

fn take_body(from: &mut Decoder<'_>) -> Result<Body, FormatError> {
    Ok(Body {
        place: take_place(from)?,
        host: HostId::new(from.u32("host")?),
        scope: Scope::new(from.u32("scope")?),
        encoder: from.u16("encoder")?,
        digest: Digest::from_bytes(from.array("digest")?),
    })
}

impl NodeRow {
    /// Adds a place beside the others, unless the node is known to lie in that pack; returns whether it was added.
    pub fn add(&mut self, place: Place) -> bool {
        let is_new = self.places.iter().all(|known| known.pack != place.pack);
        if is_new {
            self.places.push(place);
        }
        is_new
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::new();
        to.varint(self.places.len() as u64);
        self.places.iter().for_each(|place| put_place(&mut to, place));
        // Snapshot numbers are record numbers of the journal, which begin with 1: 0 is no home.
        let home = self.home.map_or(0, SnapshotNumber::get);
        to.varint(self.mark.0).u8(self.height).u8(u8::from(self.shared)).varint(home);
        to.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = Decoder::new(NODE, bytes);
        let count = from.bounded("places", BODIES_MAX)?;
        let places = (0..count).map(|_| take_place(&mut from)).collect::<Result<Vec<_>, _>>()?;
        if places.is_empty() {
            return Err(FormatError::field(NODE, "places", 0, "at least one"));
        }
        let mark = Mark(from.varint("mark")?);
        let height = from.u8("height")?;
        let shared = take_flag(&mut from, "shared")?;
        let home = Some(from.varint("home")?).filter(|home| *home != 0).map(SnapshotNumber::new);
        from.end().map(|()| Self { mark, places, height, home, shared })
    }
}

impl SentRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::new();
        to.u32(self.validated).u8(u8::from(self.witnessed_below));
        to.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = Decoder::new(SENT, bytes);
        let row = Self { validated: from.u32("validated")?, witnessed_below: take_flag(&mut from, "witnessed")? };
        from.end().map(|()| row)
    }
}

fn take_flag(from: &mut Decoder<'_>, field: &'static str) -> Result<bool, FormatError> {
    match from.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(FormatError::field(from.what(), field, other, "0 or 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_place() -> impl Strategy<Value = Place> {
        any::<(u64, u32, u32, u32)>().prop_map(|(pack, record, offset, sealed_bytes)| Place {
            pack: PackNumber(pack),
            record,
            offset,
            sealed_bytes,
        })
    }

    fn any_body() -> impl Strategy<Value = Body> {
        (0..4u32, any_place(), 0..3u8, 0..2u32, any::<u16>()).prop_map(|(host, place, digest, scope, encoder)| Body {
            host: HostId::new(host),
            place,
            digest: Digest::from_bytes([digest; 32]),
            scope: Scope::new(scope),
            encoder,
        })
    }

    proptest! {
        #[test]
        fn rows_read_back(
            mark: u64, bodies in vec(any_body(), 1..5), places in vec(any_place(), 1..3), height: u8,
            home in proptest::option::of(1..u64::MAX), shared: bool, validated: u32,
        ) {
            let chunk = ChunkRow { mark: Mark(mark), bodies };
            prop_assert_eq!(ChunkRow::decode(&chunk.encode()), Ok(chunk));
            let home = home.map(SnapshotNumber::new);
            let node = NodeRow { mark: Mark(mark), places, height, home, shared };
            prop_assert_eq!(NodeRow::decode(&node.encode()), Ok(node));
            let sent = SentRow { validated, witnessed_below: shared };
            prop_assert_eq!(SentRow::decode(&sent.encode()), Ok(sent));
        }

        #[test]
        fn inv_09_no_bytes_make_a_row_decoder_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = (ChunkRow::decode(&bytes), NodeRow::decode(&bytes), SentRow::decode(&bytes));
        }

        #[test]
        fn inv_44_adding_bodies_never_takes_one_away_and_is_the_same_twice(bodies in vec(any_body(), 1..8)) {
            let mut row = ChunkRow { mark: Mark::NONE, bodies: Vec::new() };
            for body in &bodies {
                let before = row.clone();
                row.add(body.clone());
                for host in 0..4 {
                    let host = HostId::new(host);
                    prop_assert!(row.is_offered_to(host) || !before.is_offered_to(host));
                }
                prop_assert!(row.is_offered_to(body.host));
                let places = |row: &ChunkRow| row.bodies.iter().map(|body| body.place).collect::<Vec<_>>();
                prop_assert!(places(&row).starts_with(&places(&before)));
                prop_assert!(!row.add(body.clone()), "the second time changes nothing");
            }
        }
    }

    #[test]
    fn a_reader_tries_its_own_body_first_then_witnessed_ones_then_others() {
        let body = |host| Body {
            host: HostId::new(host),
            place: Place { pack: PackNumber(0), record: 0, offset: 0, sealed_bytes: 0 },
            digest: Digest::from_bytes([host as u8; 32]),
            scope: Scope::new(1),
            encoder: 1,
        };
        let row = ChunkRow { mark: Mark::NONE, bodies: vec![body(7), body(0), body(3)] };
        let order: Vec<u32> = row.preferred(HostId::new(3)).iter().map(|body| body.host.get()).collect();
        assert_eq!(order, [3, 0, 7]);
    }
}
