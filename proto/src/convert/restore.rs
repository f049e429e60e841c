//! Sealed bytes come back by grant: `RestoreService`.

use super::*;
use lifeboat_format::id::NodeId;

/// Links of one node that was served before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinksOf {
    /// The node.
    pub node: NodeId,
    /// Which of its links, from 0.
    pub links: Vec<u32>,
}

/// One ask of a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// In the first message of a stream only.
    pub session: Option<[u8; 16]>,
    /// Comes back with each record.
    pub sequence: u64,
    /// The granted root itself.
    pub root: bool,
    /// At most [`limits::READ_LINKS_MAX`] links in all.
    pub links_of: Vec<LinksOf>,
}

impl TryFrom<v1::ReadRequest> for Ask {
    type Error = ConvertError;

    fn try_from(message: v1::ReadRequest) -> Result<Self, ConvertError> {
        let links = message.links_of.iter().map(|one| one.links.len()).sum();
        at_most("links_of", message.links_of.len(), limits::READ_LINKS_MAX, "nodes")?;
        at_most("links_of.links", links, limits::READ_LINKS_MAX, "links in all")?;
        let links_of = |one: v1::LinksOf| {
            Ok(LinksOf { node: NodeId::from_bytes(array("links_of.node", &one.node)?), links: one.links })
        };
        Ok(Self {
            session: optional_array("session", &message.session)?,
            sequence: message.sequence,
            root: message.root,
            links_of: message.links_of.into_iter().map(links_of).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Ask> for v1::ReadRequest {
    fn from(ask: Ask) -> Self {
        let links_of =
            |one: LinksOf| v1::LinksOf { node: Bytes::copy_from_slice(one.node.as_bytes()), links: one.links };
        Self {
            session: ask.session.map(|id| Bytes::copy_from_slice(&id)).unwrap_or_default(),
            sequence: ask.sequence,
            root: ask.root,
            links_of: ask.links_of.into_iter().map(links_of).collect(),
        }
    }
}

/// One answer to an ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A record: sealed chunk or node.
    Record {
        /// Which of `links_of`.
        item: u32,
        /// Which link of that node.
        link: u32,
        /// The sealed bytes.
        record: Bytes,
    },
    /// There is no record, and why.
    Lost {
        /// Which of `links_of`.
        item: u32,
        /// Which link of that node.
        link: u32,
        /// Which pack, and what is wrong with it.
        why: String,
    },
    /// Nothing more comes for this ask.
    Done,
}

/// The ask's sequence, and one answer to it.
pub fn answer(message: v1::ReadResponse) -> Result<(u64, Answer), ConvertError> {
    at_most("record", message.record.len(), limits::RECORD_BYTES_MAX, "bytes")?;
    let (item, link) = (message.item, message.link);
    let answer = match (message.last, message.record.is_empty()) {
        (true, true) => Answer::Done,
        (true, false) => return Err(ConvertError::new("last", "is set together with a record")),
        (false, false) => Answer::Record { item, link, record: message.record },
        (false, true) => Answer::Lost { item, link, why: shown_text("lost", &message.lost)? },
    };
    Ok((message.sequence, answer))
}

/// The answer as a message.
pub fn answer_message(sequence: u64, answer: Answer) -> v1::ReadResponse {
    let message = v1::ReadResponse { sequence, ..Default::default() };
    match answer {
        Answer::Record { item, link, record } => v1::ReadResponse { item, link, record, ..message },
        Answer::Lost { item, link, why } => v1::ReadResponse { item, link, lost: why, ..message },
        Answer::Done => v1::ReadResponse { last: true, ..message },
    }
}

/// The grant that is shown.
pub fn open(message: v1::OpenRequest) -> Result<Bytes, ConvertError> {
    some_bytes("grant", message.grant, limits::GRANT_BYTES_MAX)
}

/// The session for further reads, and the journal's newest head.
pub fn opened(message: v1::OpenResponse) -> Result<([u8; 16], Option<UncheckedHead>), ConvertError> {
    Ok((array("session", &message.session)?, optional_head(message.head)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back() {
        for answer in [
            Answer::Record { item: 1, link: 2, record: Bytes::from_static(b"r") },
            Answer::Lost { item: 1, link: 2, why: "pack 07: gone".to_owned() },
            Answer::Done,
        ] {
            assert_eq!(super::answer(answer_message(5, answer.clone())), Ok((5, answer)));
        }
    }

    #[test]
    fn links_are_counted_over_all_nodes_of_an_ask() {
        let links_of = |count| v1::LinksOf { node: Bytes::from_static(&[1; 32]), links: (0..count).collect() };
        let ask = |counts: [u32; 2]| v1::ReadRequest { links_of: counts.map(links_of).to_vec(), ..Default::default() };
        assert!(Ask::try_from(ask([512, 512])).is_ok());
        assert_eq!(Ask::try_from(ask([512, 513])).unwrap_err().field, "links_of.links");
    }
}
