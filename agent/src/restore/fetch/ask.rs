//! One question to the coordinator, and its answers put back into the order of the question.

use super::FetchError;
use super::homes::Home;
use crate::connection::{explain, restore_client};
use bytes::Bytes;
use lifeboat_format::id::NodeId;
use lifeboat_proto::convert::restore::{Answer, Ask, LinksOf, answer};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::Channel;

/// What came for one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The record.
    Record(Bytes),
    /// No record, and why.
    Lost(String),
    /// It could not be asked for: no node that was read lately leads to it.
    Unknown,
}

impl Asked {
    /// The record; `what` names it if there is none.
    pub fn record(self, what: impl Fn() -> String) -> Result<Bytes, FetchError> {
        match self {
            Self::Record(record) => Ok(record),
            Self::Lost(why) => Err(FetchError::Lost { what: what(), why }),
            Self::Unknown => Err(FetchError::NotLinked { what: what() }),
        }
    }
}

/// Asks for the granted root.
pub async fn root(channel: Channel, session: [u8; 16], patience: Duration) -> Result<Asked, Failure> {
    let ask = Ask { session: Some(session), sequence: 1, root: true, links_of: Vec::new() };
    let mut answered = Asked::Lost("the coordinator gave no answer for the root".to_owned());
    converse(channel, ask, patience, |_, _, asked| {
        answered = asked;
        true
    })
    .await?;
    Ok(answered)
}

/// Asks for these places, at most [`lifeboat_proto::limits::READ_LINKS_MAX`]; answers in their order.
pub async fn links(
    channel: Channel,
    session: [u8; 16],
    homes: &[Option<Home>],
    patience: Duration,
) -> Result<Vec<Asked>, Failure> {
    let question = Question::of(homes);
    let unanswered = |home: &Option<Home>| match home {
        Some(_) => Asked::Lost("the coordinator gave no answer for it".to_owned()),
        None => Asked::Unknown,
    };
    let mut answers: Vec<_> = homes.iter().map(unanswered).collect();
    if question.links_of.is_empty() {
        return Ok(answers);
    }
    let ask = Ask { session: Some(session), sequence: 1, root: false, links_of: question.links_of };
    converse(channel, ask, patience, |item, link, asked| match question.places.get(&(item, link)) {
        Some(places) => {
            places.iter().for_each(|place| answers[*place] = asked.clone());
            true
        }
        None => false,
    })
    .await?;
    Ok(answers)
}

/// Places grouped by node, each asked for once.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    links_of: Vec<LinksOf>,
    /// Which places wait for (item, link).
    places: HashMap<(u32, u32), Vec<usize>>,
}

impl Question {
    fn of(homes: &[Option<Home>]) -> Self {
        let mut items = HashMap::<NodeId, u32>::new();
        let mut question = Self { links_of: Vec::new(), places: HashMap::new() };
        for (place, home) in homes.iter().enumerate() {
            let Some(home) = home else { continue };
            let item = *items.entry(home.node).or_insert_with(|| {
                question.links_of.push(LinksOf { node: home.node, links: Vec::new() });
                question.links_of.len() as u32 - 1
            });
            let places = question.places.entry((item, home.link)).or_default();
            if places.is_empty() {
                question.links_of[item as usize].links.push(home.link);
            }
            places.push(place);
        }
        question
    }
}

/// Asks, and hands each answer with its item and link to `take`, which says whether it was asked for. It waits for no
/// answer longer than `patience`.
async fn converse(
    channel: Channel,
    ask: Ask,
    patience: Duration,
    mut take: impl FnMut(u32, u32, Asked) -> bool,
) -> Result<(), Failure> {
    let sequence = ask.sequence;
    let silent = |_| {
        let what = format!("the coordinator has not answered for {} s", patience.as_secs());
        Failure::new(ErrorClass::Unreachable, what)
    };
    let question = tokio_stream::once(v1::ReadRequest::from(ask));
    let mut client = restore_client(channel);
    let begun = timeout(patience, client.read(question)).await.map_err(silent)?;
    let mut answers = begun.map_err(explain)?.into_inner();
    while let Some(message) = timeout(patience, answers.message()).await.map_err(silent)?.map_err(explain)? {
        let (of, answer) = answer(message)?;
        let expected = match answer {
            _ if of != sequence => false,
            Answer::Done => return Ok(()),
            Answer::Record { item, link, record } => take(item, link, Asked::Record(record)),
            Answer::Lost { item, link, why } => take(item, link, Asked::Lost(why)),
        };
        if !expected {
            return Err(Failure::new(ErrorClass::Internal, "the coordinator answered what was not asked"));
        }
    }
    Err(Failure::new(ErrorClass::Unreachable, "the coordinator ended the reading before its end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_grouped_by_node_and_each_is_asked_for_once() {
        let home = |node: u8, link| Some(Home { node: NodeId::from_bytes([node; 32]), link });
        let question = Question::of(&[home(1, 5), home(2, 0), None, home(1, 6), home(1, 5)]);
        let asked: Vec<_> =
            question.links_of.iter().map(|item| (item.node.as_bytes()[0], item.links.clone())).collect();
        assert_eq!(asked, [(1, vec![5, 6]), (2, vec![0])]);
        assert_eq!(question.places[&(0, 5)], [0, 4]);
        assert_eq!(question.places[&(0, 6)], [3]);
        assert_eq!(question.places[&(1, 0)], [1]);
    }
}
