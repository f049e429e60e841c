//! `RestoreService`: sealed bytes come back, by grant, to the grant's target and nobody else.

use super::session::{Known, ReadDenied, Session, link};
use super::sessions::{SessionId, Sessions};
use super::{Context, blocking, failure, unchecked};
use crate::authorize::{Object, Principal, Verb};
use crate::repository::{Found, ReadError};
use crate::server::peer::Caller;
use bytes::Bytes;
use lifeboat_format::grant::Grant;
use lifeboat_format::id::NodeId;
use lifeboat_format::journal::event::GrantTarget;
use lifeboat_format::journal::{self, Event};
use lifeboat_format::link::{Link, Target};
use lifeboat_format::seal::parse_links;
use lifeboat_proto::convert::ConvertError;
use lifeboat_proto::convert::restore::{Answer, Ask, answer_message, open};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Records on their way to a reader.
const ANSWERS_WAITING: usize = 8;

type Answers = mpsc::Sender<Result<v1::ReadResponse, Status>>;

/// The handlers, and the open sessions.
#[derive(Debug, Clone)]
pub struct Restore {
    context: Arc<Context>,
    sessions: Arc<Sessions>,
}

impl Restore {
    /// Without a session yet.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, sessions: Arc::default() }
    }
}

#[tonic::async_trait]
impl v1::restore_service_server::RestoreService for Restore {
    type ReadStream = ReceiverStream<Result<v1::ReadResponse, Status>>;

    async fn open(&self, request: Request<v1::OpenRequest>) -> Result<Response<v1::OpenResponse>, Status> {
        let principal = self.context.principal(&request);
        let bytes = open(request.get_ref().clone())?;
        let grant = Grant::parse(&bytes).map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
        self.context.allow(&request, Verb::Read, Object::GrantFor(grant.order().order().target))?;
        let (this, connection) = (self.clone(), connection(&request));
        let (session, head) = blocking(move || {
            let session = this.open_session(principal, &grant, &connection)?;
            Ok((session, this.context.coordinator.head()))
        })
        .await?;
        let head = head.map(|head| unchecked(&head).into());
        Ok(Response::new(v1::OpenResponse { session: Bytes::copy_from_slice(&session), head }))
    }

    async fn read(&self, request: Request<Streaming<v1::ReadRequest>>) -> Result<Response<Self::ReadStream>, Status> {
        let own = match self.context.principal(&request) {
            Principal::Host { host, .. } => GrantTarget::Host(host),
            _ => GrantTarget::LocalClient,
        };
        self.context.allow(&request, Verb::Read, Object::GrantFor(own))?;
        let (answers, stream) = mpsc::channel(ANSWERS_WAITING);
        let (this, connection, asks) = (self.clone(), connection(&request), request.into_inner());
        tokio::spawn(async move {
            if let Err(status) = this.answer_all((own, connection), asks, &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Restore {
    /// Checks the outside of a grant against the trust file and the journal, and remembers what it opens.
    fn open_session(&self, principal: Principal, grant: &Grant, connection: &Arc<()>) -> Result<SessionId, Failure> {
        let context = &self.context;
        let refused = |why: &str| Failure::new(ErrorClass::Refused, format!("this grant is not good: {why}"));
        let now_ns = context.clock.now_ns();
        grant.verify(&context.trust, 1, now_ns).map_err(|error| refused(&error.to_string()))?;
        let (clear, order) = (grant.clear(), grant.order().order());
        let owner = context.catalog(|catalog| {
            let made = catalog.grant(clear.number)?;
            let snapshot = catalog.snapshot(clear.snapshot).filter(|snapshot| snapshot.is_kept())?;
            let same = made.snapshot == clear.snapshot && made.target == order.target && snapshot.root == clear.root;
            same.then_some(snapshot.host)
        });
        let owner = owner.ok_or_else(|| refused("this repository did not make it, or its snapshot is gone"))?;
        let by = match principal {
            Principal::Host { host, .. } => journal::Principal::Host(host),
            _ => journal::Principal::LocalRoot,
        };
        let object = format!("snapshot {}", order.snapshot);
        let act = context.act(by, "read", &object, Event::GrantOpened { grant: clear.number });
        match order.target {
            // The record of the grant says already that root on this machine reads; commands open many snapshots.
            GrantTarget::LocalClient => context.record_later(act)?,
            GrantTarget::Host(_) => context.record_all(vec![act])?,
        }
        let mut id = SessionId::default();
        context.coordinator.shared.random.fill(&mut id);
        let session = Session::new(order.target, owner, clear.root, order.expires_ns);
        let now = (context.clock.monotonic(), now_ns);
        let gone = self
            .sessions
            .add(id, session, connection, now)
            .map_err(|error| Failure::of(ErrorClass::Busy, &error).hint("end one of them, or try again in a minute"))?;
        for id in gone {
            // Rows of a session only take space, and a start forgets them.
            let _ = context.coordinator.forget_session(&id);
        }
        Ok(id)
    }

    async fn answer_all(
        &self,
        (own, connection): (GrantTarget, Arc<()>),
        mut asks: Streaming<v1::ReadRequest>,
        answers: &Answers,
    ) -> Result<(), Status> {
        let mut reader: Option<Arc<Reader>> = None;
        while let Some(message) = asks.message().await? {
            let ask = Ask::try_from(message)?;
            let reader = match (&reader, ask.session) {
                (None, Some(id)) => reader.insert(Arc::new(self.reader(own, &connection, id)?)),
                (Some(reader), None) => reader,
                (None, None) => Err(ConvertError::new("session", "is missing in the first message"))?,
                (Some(_), Some(_)) => Err(ConvertError::new("session", "belongs into the first message only"))?,
            };
            let (reader, answers) = (reader.clone(), answers.clone());
            if !blocking(move || reader.answer(&ask, &answers)).await? {
                break; // Nobody reads the answers any more.
            }
        }
        Ok(())
    }

    /// A reader of this session, if it is the caller's.
    fn reader(&self, own: GrantTarget, connection: &Arc<()>, id: SessionId) -> Result<Reader, Failure> {
        let found = self.sessions.get(&id, connection, self.context.clock.monotonic());
        let session = found.filter(|session| lock(session).target == own);
        let unknown = || Failure::new(ErrorClass::NotFound, "session is not known here; open the grant again");
        Ok(Reader { context: self.context.clone(), id, session: session.ok_or_else(unknown)? })
    }
}

/// The connection of a call; one of its own where there is none, as in a test within one process.
fn connection<T>(request: &Request<T>) -> Arc<()> {
    request.extensions().get::<Caller>().map(|caller| caller.connection.clone()).unwrap_or_default()
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads for one session.
struct Reader {
    context: Arc<Context>,
    id: SessionId,
    session: Arc<Mutex<Session>>,
}

/// One record that was asked for.
struct Wanted {
    item: u32,
    link: u32,
    target: Target,
    places: Vec<Found>,
}

impl Reader {
    /// Answers one ask, its records in the order of the packs; whether anybody still listens. Blocks while the other
    /// side is slow, so no more than a few records are ever in memory.
    fn answer(&self, ask: &Ask, answers: &Answers) -> Result<bool, Failure> {
        lock(&self.session).check_time(self.context.clock.now_ns()).map_err(denied)?;
        for wanted in self.wanted(ask)? {
            let (item, link) = (wanted.item, wanted.link);
            let answer = match self.read(&wanted) {
                Ok(record) => Answer::Record { item, link, record },
                Err(error) => Answer::Lost { item, link, why: error.to_string() },
            };
            if answers.blocking_send(Ok(answer_message(ask.sequence, answer))).is_err() {
                return Ok(false);
            }
        }
        Ok(answers.blocking_send(Ok(answer_message(ask.sequence, Answer::Done))).is_ok())
    }

    fn wanted(&self, ask: &Ask) -> Result<Vec<Wanted>, Failure> {
        let (root, owner) = {
            let session = lock(&self.session);
            (session.root, session.owner)
        };
        let mut targets = Vec::new();
        if ask.root {
            if !ask.links_of.is_empty() {
                return Err(ConvertError::new("root", "is asked for alone, without links_of").into());
            }
            targets.push((0, 0, Target::Node(root.id)));
        }
        for (item, asked) in (0..).zip(&ask.links_of) {
            let links = self.links_of(&asked.node)?;
            for number in &asked.links {
                targets.push((item, *number, link(asked.node, &links, *number).map_err(denied)?));
            }
        }
        let mut wanted = Vec::with_capacity(targets.len());
        for (item, link, target) in targets {
            let places = self.context.coordinator.locate(target, owner).map_err(|error| failure::of_index(&error))?;
            wanted.push(Wanted { item, link, target, places });
        }
        wanted.sort_by_key(|wanted| wanted.places.first().map(|found| (found.place.pack, found.place.offset)));
        Ok(wanted)
    }

    /// The links of a node that was served in this session (INV-42).
    fn links_of(&self, node: &NodeId) -> Result<Arc<Vec<Link>>, Failure> {
        if let Known::Links(links) = lock(&self.session).links_of(node) {
            return Ok(links);
        }
        let coordinator = &self.context.coordinator;
        if !coordinator.was_served(&self.id, node).map_err(|error| failure::of_index(&error))? {
            return Err(denied(ReadDenied::NotServed { node: *node }));
        }
        let record = coordinator.read_node(node).map_err(|error| failure::of_read(&error))?;
        let links = parse_links(&record).map_err(|error| Failure::of(ErrorClass::Damaged, &error))?;
        let links = Arc::new(links);
        lock(&self.session).keep(*node, links.clone());
        Ok(links)
    }

    /// The record; the next form of it where one is damaged. A node is remembered as served before it leaves.
    fn read(&self, wanted: &Wanted) -> Result<Bytes, ReadError> {
        let coordinator = &self.context.coordinator;
        let mut first_error = None;
        for found in &wanted.places {
            match coordinator.read_at(found) {
                Ok(record) => {
                    if let Target::Node(node) = wanted.target {
                        self.serve(node, &record)?;
                    }
                    return Ok(record);
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(ReadError::Unknown { target: wanted.target }))
    }

    fn serve(&self, node: NodeId, record: &[u8]) -> Result<(), ReadError> {
        self.context.coordinator.set_served(&self.id, &[node])?;
        if let Ok(links) = parse_links(record) {
            lock(&self.session).keep(node, Arc::new(links));
        }
        Ok(())
    }
}

fn denied(error: ReadDenied) -> Failure {
    let class = match error {
        ReadDenied::NoSuchLink { .. } => ErrorClass::Usage,
        ReadDenied::Expired | ReadDenied::NotServed { .. } => ErrorClass::Refused,
    };
    Failure::of(class, &error)
}
