//! Messages to a device: fetched from the store in order, a few at a time, as the window allows.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use protocol_core::{
    message::{Echo, Kind, Message, StreamId},
    session::{SendError, Server, Session},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

use super::{End, wire::Wire};
use crate::{
    clock,
    handler::{self, Device, message::Delivered},
    host::MESSAGE_OVERHEAD,
    store::{MessageId, StoreError, Waiting},
};

/// How many messages are fetched at once.
const BATCH: usize = 16;

/// What is on its way to one device.
pub(super) struct Delivery {
    ready: VecDeque<Waiting>,
    /// The next ones, being fetched.
    fetching: Option<Fetching>,
    /// The last message that was fetched: what waits behind it was not.
    after: MessageId,
    /// Something may wait in the store that was not fetched.
    look: bool,
    /// The oldest message of those in flight.
    first_in_flight: u64,
    /// What the device has, and the store was not told.
    unnoted: Option<Delivered>,
    noting: Option<JoinHandle<()>>,
    /// A message that this device can't take was found, and recorded.
    passed_over: bool,
}

type Fetching = Pin<Box<dyn Future<Output = Result<Vec<Waiting>, StoreError>> + Send>>;

impl Delivery {
    /// Nothing was fetched yet, and something may wait.
    pub(super) fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            fetching: None,
            after: MessageId(0),
            look: true,
            first_in_flight: 0,
            unnoted: None,
            noting: None,
            passed_over: false,
        }
    }

    /// Something new may wait in the store.
    pub(super) fn look_again(&mut self) {
        self.look = true;
    }

    /// Sends what is ready, as far as the device takes it now, and begins to fetch where nothing is.
    pub(super) fn send<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        device: &Arc<Device>,
        session: &mut Session<Server>,
        wire: &mut Wire<S>,
    ) {
        self.note(device);
        while !wire.is_crowded()
            && let Some(waiting) = self.ready.front()
        {
            let message = message_of(waiting);
            let room = message.body.len() + MESSAGE_OVERHEAD;
            match wire.write(room, |room| session.message(clock::now(), &message, room)) {
                Ok(_) if session.in_flight() == 1 => self.first_in_flight = message.number,
                Ok(_) => {}
                Err(SendError::WindowFull | SendError::OutOfOrder { .. }) => return,
                // It stays in the store, until it expires or an agent that takes it connects.
                Err(error) if !self.passed_over => {
                    self.passed_over = true;
                    handler::message::passed_over(device, waiting.id, waiting.body.len(), &error);
                }
                Err(_) => {}
            }
            self.ready.pop_front();
        }
        if self.look && self.fetching.is_none() {
            self.look = false;
            let (store, device, after) = (device.host.store.clone(), device.id, self.after);
            self.fetching = Some(Box::pin(async move { store.waiting(device, after, BATCH).await }));
        }
    }

    /// Waits until the store has done something of what it was asked; for ever, if it was asked nothing. May be
    /// dropped and called again.
    pub(super) async fn done(&mut self) -> Result<(), End> {
        tokio::select! {
            batch = finished(&mut self.fetching) => {
                self.fetching = None;
                let batch = batch.map_err(End::store)?;
                self.look |= !batch.is_empty();
                self.after = batch.last().map_or(self.after, |last| last.id);
                self.ready.extend(batch);
            }
            // It has told itself if it failed.
            _ = finished(&mut self.noting) => self.noting = None,
        }
        Ok(())
    }

    /// Has the store note what the device has by this echo.
    pub(super) fn echoed(&mut self, device: &Arc<Device>, echo: Echo) {
        let (first, last) = (self.first_in_flight, echo.number);
        self.first_in_flight = last + 1;
        match &mut self.unnoted {
            // Between them may be one that was passed over.
            Some(unnoted) if unnoted.stream == echo.stream.0 && unnoted.last + 1 == first => {
                unnoted.last = last;
            }
            unnoted => {
                if let Some(earlier) = unnoted.replace(Delivered { stream: echo.stream.0, first, last }) {
                    handler::message::delivered(device, earlier);
                }
            }
        }
        self.note(device);
    }

    /// One note at a time: while the store is slow those that come are put together.
    fn note(&mut self, device: &Arc<Device>) {
        if self.unnoted.is_some() && self.noting.is_none() {
            self.noting = self.unnoted.take().map(|delivered| handler::message::delivered(device, delivered));
        }
    }

    /// The connection ends: what is left is noted.
    pub(super) fn finish(&mut self, device: &Arc<Device>) {
        if let Some(delivered) = self.unnoted.take() {
            handler::message::delivered(device, delivered);
        }
    }
}

/// What this work gives; if there is none, for ever nothing.
async fn finished<W: Future + Unpin>(work: &mut Option<W>) -> W::Output {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

fn message_of(waiting: &Waiting) -> Message<'_> {
    Message {
        stream: StreamId(waiting.stream),
        number: waiting.number,
        time: u64::try_from(waiting.time.0).unwrap_or(0),
        // Both types allow the same kinds.
        kind: Kind::new(waiting.kind.as_str()).unwrap_or(Kind::TEXT),
        body: &waiting.body,
    }
}
