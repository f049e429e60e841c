//! The one upload stream of a run: numbered messages up, answers down, a bounded number of bytes between.

use super::split::{messages, sealed_bytes};
use super::{IN_FLIGHT_BYTES, ended, refused, unclear};
use crate::connection::explain;
use crate::connection::throttle::Throttle;
use crate::policy::ByteRate;
use crate::uplink::{Batch, Receipt, Refused, UplinkError};
use lifeboat_proto::convert::backup::{RunHandle, missing};
use lifeboat_proto::v1;
use lifeboat_proto::v1::backup_service_client::BackupServiceClient;
use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Bytes are counted in these, since a semaphore counts in 32 bits.
const PERMIT_BYTES: usize = 1024;
const PERMITS: u32 = (IN_FLIGHT_BYTES / PERMIT_BYTES) as u32;
/// Messages that wait for HTTP/2 to take them; their bytes are counted already.
const QUEUED_MESSAGES: usize = 16;

/// The upload stream of one run.
pub struct Lane {
    runtime: Handle,
    sending: Mutex<Sending>,
    shared: Arc<Shared>,
    started: Instant,
}

/// Only one thread at a time numbers and sends.
struct Sending {
    /// Goes with the first message.
    handle: Option<RunHandle>,
    last_sequence: u64,
    queue: mpsc::Sender<v1::UploadRequest>,
    throttle: Throttle,
}

struct Shared {
    in_flight: Arc<Semaphore>,
    expected: Mutex<Expected>,
}

/// What was sent and not answered, and how the stream ended if it did.
#[derive(Default)]
struct Expected {
    messages: VecDeque<Message>,
    /// Refusals of the batch whose messages are being answered.
    refused: Vec<Refused>,
    trouble: Option<UplinkError>,
}

struct Message {
    sequence: u64,
    /// In the last message of a batch.
    answer: Option<SyncSender<Result<Vec<Refused>, UplinkError>>>,
    _bytes: OwnedSemaphorePermit,
}

impl Lane {
    /// Opens the stream.
    pub fn open(
        runtime: &Handle,
        client: BackupServiceClient<Channel>,
        handle: RunHandle,
        rate: Option<ByteRate>,
    ) -> Self {
        let (queue, queued) = mpsc::channel(QUEUED_MESSAGES);
        let in_flight = Arc::new(Semaphore::new(PERMITS as usize));
        let shared = Arc::new(Shared { in_flight, expected: Mutex::default() });
        runtime.spawn(converse(client, ReceiverStream::new(queued), shared.clone()));
        let throttle = Throttle::new(rate);
        let sending = Sending { handle: Some(handle), last_sequence: 0, queue, throttle };
        Self { runtime: runtime.clone(), sending: Mutex::new(sending), shared, started: Instant::now() }
    }

    /// Fails if the stream has ended.
    pub fn check(&self) -> Result<(), UplinkError> {
        match &self.shared.expected().trouble {
            Some(trouble) => Err(trouble.clone()),
            None => Ok(()),
        }
    }

    /// Sends a batch; waits while too much is under way.
    pub fn send(&self, batch: Batch) -> Result<Receipt, UplinkError> {
        let (answer, receipt) = Receipt::pending();
        let mut messages = messages(batch).into_iter().peekable();
        if messages.peek().is_none() {
            self.check()?;
            // The receipt has room for one answer, and this is the only one.
            let _ = answer.send(Ok(Vec::new()));
            return Ok(receipt);
        }
        let mut answer = Some(answer);
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut message) = messages.next() {
            let bytes = sealed_bytes(&message);
            std::thread::sleep(sending.throttle.wait_for(bytes, self.started.elapsed()));
            let permit = self.reserve(bytes)?;
            sending.last_sequence += 1;
            message.sequence = sending.last_sequence;
            message.handle = sending.handle.take();
            let answer = if messages.peek().is_none() { answer.take() } else { None };
            self.shared.expect(Message { sequence: message.sequence, answer, _bytes: permit })?;
            if sending.queue.blocking_send(message.into()).is_err() {
                self.check()?;
            }
        }
        Ok(receipt)
    }

    /// Waits until every message sent before was answered.
    pub fn wait_until_answered(&self) -> Result<(), UplinkError> {
        let _nobody_sends = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        self.reserve(IN_FLIGHT_BYTES).map(drop)
    }

    fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, UplinkError> {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(PERMITS).clamp(1, PERMITS);
        let permit = self.runtime.block_on(self.shared.in_flight.clone().acquire_many_owned(permits));
        self.check()?;
        permit.map_err(|_| UplinkError::lost("the upload has ended"))
    }
}

impl Shared {
    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, message: Message) -> Result<(), UplinkError> {
        let mut expected = self.expected();
        match &expected.trouble {
            Some(trouble) => Err(trouble.clone()),
            None => {
                expected.messages.push_back(message);
                Ok(())
            }
        }
    }

    fn answered(&self, response: v1::UploadResponse) -> Result<(), UplinkError> {
        let mut expected = self.expected();
        let message = expected.messages.pop_front().filter(|message| message.sequence == response.sequence);
        let Some(message) = message else {
            return Err(UplinkError::refused(format!(
                "the coordinator answered message {} out of turn",
                response.sequence
            )));
        };
        let refusals = missing(response.refused).map_err(unclear)?;
        expected.refused.extend(refusals.into_iter().map(refused));
        if let Some(answer) = message.answer {
            // Nobody has to wait for a receipt.
            let _ = answer.send(Ok(std::mem::take(&mut expected.refused)));
        }
        Ok(())
    }

    /// The stream is over: everybody who waits, or comes later, hears why.
    fn end(&self, trouble: UplinkError) {
        let mut expected = self.expected();
        for answer in expected.messages.drain(..).filter_map(|message| message.answer) {
            // Nobody has to wait for a receipt.
            let _ = answer.send(Err(trouble.clone()));
        }
        expected.trouble = Some(trouble);
        self.in_flight.close();
    }
}

async fn converse(
    mut client: BackupServiceClient<Channel>,
    queued: ReceiverStream<v1::UploadRequest>,
    shared: Arc<Shared>,
) {
    let trouble = match client.upload(queued).await {
        Ok(answers) => listen(answers.into_inner(), &shared).await,
        Err(status) => ended(explain(status)),
    };
    shared.end(trouble);
}

/// Takes answers until there are no more.
async fn listen(mut answers: Streaming<v1::UploadResponse>, shared: &Shared) -> UplinkError {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if let Err(trouble) = shared.answered(answer) {
                    return trouble;
                }
            }
            Ok(None) => return UplinkError::lost("the coordinator ended the upload"),
            Err(status) => return ended(explain(status)),
        }
    }
}
