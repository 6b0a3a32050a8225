//! Messages to a device: fetched from the store in order, a few at a time, as the window allows.

use std::{collections::VecDeque, sync::Arc};

use protocol_core::{
    message::{Echo, Kind, Message, StreamId},
    session::{SendError, Server, Session},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{End, wire::Wire};
use crate::{
    clock,
    handler::{self, Device},
    host::MESSAGE_OVERHEAD,
    store::{MessageId, Waiting},
};

/// How many messages are fetched at once.
const BATCH: usize = 16;

/// What is on its way to one device.
#[derive(Debug)]
pub(super) struct Delivery {
    fetched: VecDeque<Waiting>,
    /// The last message that was fetched: what waits behind it was not.
    after: MessageId,
    /// Something may wait in the store that was not fetched.
    look: bool,
    /// The oldest message of those in flight.
    first_in_flight: u64,
}

impl Delivery {
    /// Nothing was fetched yet, and something may wait.
    pub(super) fn new() -> Self {
        Self { fetched: VecDeque::new(), after: MessageId(0), look: true, first_in_flight: 0 }
    }

    /// Something new may wait in the store.
    pub(super) fn look_again(&mut self) {
        self.look = true;
    }

    /// Sends what waits, as far as the device takes it now.
    pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        device: &Arc<Device>,
        session: &mut Session<Server>,
        wire: &mut Wire<S>,
    ) -> Result<(), End> {
        loop {
            if self.fetched.is_empty() && self.look {
                Box::pin(self.fetch(device)).await?;
            }
            let Some(waiting) = self.fetched.front() else { return Ok(()) };
            let message = message_of(waiting);
            let room = message.body.len() + MESSAGE_OVERHEAD;
            match wire.write(room, |room| session.message(clock::now(), &message, room)) {
                Ok(_) if session.in_flight() == 1 => self.first_in_flight = message.number,
                Ok(_) => {}
                Err(SendError::WindowFull | SendError::OutOfOrder { .. }) => return Ok(()),
                Err(error) => {
                    // It stays in the store, until it expires or an agent that takes it connects.
                    Box::pin(handler::message::passed_over(device, waiting.id, waiting.body.len(), &error))
                        .await;
                }
            }
            self.fetched.pop_front();
        }
    }

    /// Has the store note what the device has by this echo; gives how many messages those are.
    pub(super) fn echoed(&mut self, device: &Arc<Device>, echo: Echo) -> u64 {
        let first = self.first_in_flight;
        self.first_in_flight = echo.number + 1;
        handler::message::delivered(device, echo.stream.0, first..=echo.number);
        self.first_in_flight - first
    }

    async fn fetch(&mut self, device: &Device) -> Result<(), End> {
        let batch = device.host.store.waiting(device.id, self.after, BATCH).await.map_err(End::store)?;
        self.look = !batch.is_empty();
        self.after = batch.last().map_or(self.after, |last| last.id);
        self.fetched = batch.into();
        Ok(())
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
