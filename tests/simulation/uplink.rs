//! The agent's way to the coordinator, without a network: each call of a run is a call of the coordinator's core. At one
//! of them something may happen.

use crate::host::Host;
use crate::lab::Lab;
use crate::picture::Picture;
use lifeboat_agent::uplink::{
    Answer, Batch, Begun, OutgoingChunk, OutgoingNode, Receipt, Refused, Run, Uplink, UplinkError,
};
use lifeboat_coordinator::repository::Coordinator;
use lifeboat_coordinator::run::RunRef;
use lifeboat_coordinator::run::commit::CommitAnswer;
use lifeboat_coordinator::run::upload::{self, IncomingChunk, IncomingNode};
use lifeboat_format::ENCODER_VERSION;
use lifeboat_format::id::ChunkId;
use lifeboat_format::link::Target;
use std::fmt::Display;
use std::sync::{Arc, Mutex};

/// What happens at a call.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The agent is killed before it asks.
    AgentDies,
    /// What was asked is done, and the agent is killed before it hears the answer.
    AnswerIsLost,
    /// The coordinator is restarted. The agent does not know, and asks.
    Restart,
    /// This host backs up, from begin to end. It may be the same one: an agent that runs twice.
    BacksUp(Host),
}

/// What went over an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Calls of any kind.
    pub calls: usize,
    /// Runs that were begun: one a pass over the source, if there are no checkpoints.
    pub begun: usize,
    /// Commits that were asked for.
    pub commits: usize,
    /// Chunks that were sent.
    pub chunks: usize,
    /// Chunks that were sent although this host's own bytes are in the repository.
    pub chunks_sent_again: usize,
    /// Nodes that were sent.
    pub nodes: usize,
}

/// One agent's uplink, for one backup.
#[derive(Clone)]
pub struct DirectUplink(Arc<Inner>);

struct Inner {
    lab: Lab,
    host: Host,
    picture: Arc<Picture>,
    trouble: Option<(usize, Trouble)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dead: bool,
    traffic: Traffic,
}

impl DirectUplink {
    /// For a backup of `host`, whose source looks like `picture` now. At the call with this number, from 0, there is
    /// trouble.
    pub fn new(lab: &Lab, host: &Host, picture: Arc<Picture>, trouble: Option<(usize, Trouble)>) -> Self {
        Self(Arc::new(Inner { lab: lab.clone(), host: host.clone(), picture, trouble, state: Mutex::default() }))
    }

    /// What went over it so far.
    pub fn traffic(&self) -> Traffic {
        self.0.state.lock().unwrap().traffic
    }

    fn count(&self, count: impl FnOnce(&mut Traffic)) {
        count(&mut self.0.state.lock().unwrap().traffic);
    }

    /// Asks the coordinator, unless the agent is dead, or dies of it.
    fn ask<T, E: Display>(&self, ask: impl FnOnce(&Coordinator) -> Result<T, E>) -> Result<T, UplinkError> {
        let Inner { lab, trouble, state, .. } = &*self.0;
        let (call, dead) = {
            let mut state = state.lock().unwrap();
            state.traffic.calls += 1;
            (state.traffic.calls - 1, state.dead)
        };
        let trouble = trouble.as_ref().filter(|(at, _)| *at == call).map(|(_, trouble)| trouble);
        if dead || matches!(trouble, Some(Trouble::AgentDies)) {
            return self.die();
        }
        match trouble {
            Some(Trouble::Restart) => lab.restart(),
            Some(Trouble::BacksUp(host)) => drop(lab.try_backup(host, &Default::default())),
            _ => {}
        }
        let answer = lab.coordinator(|coordinator| ask(coordinator));
        if matches!(trouble, Some(Trouble::AnswerIsLost)) {
            return self.die();
        }
        answer.map_err(|error| UplinkError::lost(error.to_string()))
    }

    fn die<T>(&self) -> Result<T, UplinkError> {
        self.0.state.lock().unwrap().dead = true;
        Err(UplinkError::lost("the agent is dead"))
    }
}

impl Uplink for DirectUplink {
    fn begin(&self, source_set: &str, _job: &str) -> Result<Box<dyn Run>, UplinkError> {
        let Inner { lab, host, picture, .. } = &*self.0;
        let begun = self.ask(|coordinator| {
            let begun = coordinator.begin(host.id, source_set)?;
            lab.model().begun(host, begun.next_sequence, picture, begun.head);
            Ok::<_, lifeboat_coordinator::repository::BeginError>(begun)
        })?;
        self.count(|traffic| traffic.begun += 1);
        let caller = RunRef { run: begun.run, fence: begun.fence, host: host.id };
        let begun = Begun { run: begun.run, next_sequence: begun.next_sequence, previous: begun.previous };
        Ok(Box::new(DirectRun { uplink: self.clone(), life: lab.life(), caller, begun }))
    }
}

struct DirectRun {
    uplink: DirectUplink,
    /// The coordinator's life in which it began.
    life: u64,
    caller: RunRef,
    begun: Begun,
}

impl DirectRun {
    /// Asks on behalf of the run. Whatever is asked: a run that began before a restart gets no answer (INV-26).
    fn ask<T, E: Display>(&self, ask: impl FnOnce(&Coordinator) -> Result<T, E>) -> Result<T, UplinkError> {
        let answer = self.uplink.ask(ask)?;
        assert_eq!(self.uplink.0.lab.life(), self.life, "a run has outlived a restart");
        Ok(answer)
    }
}

impl Run for DirectRun {
    fn begun(&self) -> &Begun {
        &self.begun
    }

    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>, UplinkError> {
        self.ask(|coordinator| coordinator.has(self.caller, ids))
    }

    fn upload(&self, batch: Batch) -> Result<Receipt, UplinkError> {
        let (chunks, nodes): (Vec<_>, Vec<_>) =
            (batch.chunks.into_iter().map(chunk).collect(), batch.nodes.into_iter().map(node).collect());
        let refused = self.ask(|coordinator| {
            let there = |chunk: &&IncomingChunk| {
                !coordinator.locate(Target::Chunk(chunk.id), self.caller.host).unwrap().is_empty()
            };
            let again = chunks.iter().filter(there).count();
            self.uplink.count(|traffic| {
                traffic.chunks += chunks.len();
                traffic.chunks_sent_again += again;
                traffic.nodes += nodes.len();
            });
            coordinator.upload(self.caller, chunks, nodes)
        })?;
        let (answer, receipt) = Receipt::pending();
        answer.send(Ok(refused.into_iter().map(missing).collect())).unwrap();
        Ok(receipt)
    }

    fn commit(&self, manifest: Vec<u8>, envelope: Vec<u8>) -> Result<Answer, UplinkError> {
        self.uplink.count(|traffic| traffic.commits += 1);
        let answer = self.ask(|coordinator| coordinator.commit(self.caller, &manifest, &envelope))?;
        Ok(match answer {
            CommitAnswer::Refused(refused) => Answer::Refused(refused.into_iter().map(missing).collect()),
            CommitAnswer::Committed(committed) => {
                self.uplink.0.lab.model().acknowledged(committed.snapshot, committed.head);
                Answer::Committed { snapshot: committed.snapshot, number: committed.number, suspect: committed.suspect }
            }
        })
    }

    fn abort(&self) -> Result<(), UplinkError> {
        self.ask(|coordinator| coordinator.abort(self.caller))
    }
}

fn chunk(up: OutgoingChunk) -> IncomingChunk {
    let OutgoingChunk { id, scope, digest, sealed } = up;
    IncomingChunk { id, scope, encoder: ENCODER_VERSION, digest, sealed }
}

fn node(up: OutgoingNode) -> IncomingNode {
    let OutgoingNode { id, scope, record } = up;
    IncomingNode { id, scope, encoder: ENCODER_VERSION, record }
}

fn missing(refused: upload::Refused) -> Refused {
    let upload::Refused { node, chunks, nodes } = refused;
    Refused { node, chunks, nodes }
}
