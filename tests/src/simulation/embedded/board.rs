//! The device's board in this world, and the application on it.

use std::{
    cell::{RefCell, RefMut},
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    task::Poll,
};

use agent_embedded::{
    application::{Application, Failure, State},
    board::{Board, Clock, Connect, ResetReason},
    connection::End,
    line::{Line, Room},
    outbox::Outbox,
};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use protocol_core::{
    code::CloseReason,
    message::{Facts, Kind, Message},
    serial::Retries,
    time::Instant,
};

use super::{Broken, READ, World, gateway::Uart};

/// The clock of this world, and the application on its device.
#[derive(Clone, Copy)]
pub(super) struct Simulated<'w>(pub(super) &'w RefCell<World>);

/// The board, and room for a link if it is wired.
pub(super) struct Hardware<'w> {
    simulated: Simulated<'w>,
    room: RefCell<Room>,
}

impl<'w> Hardware<'w> {
    pub(super) fn new(world: &'w RefCell<World>) -> Self {
        Self { simulated: Simulated(world), room: RefCell::new(Room::new(Retries::DEFAULT)) }
    }

    fn world(&self) -> RefMut<'_, World> {
        self.simulated.0.borrow_mut()
    }
}

impl Clock for Hardware<'_> {
    fn now(&self) -> Instant {
        self.simulated.now()
    }

    async fn sleep_until(&self, at: Instant) {
        self.simulated.sleep_until(at).await;
    }
}

impl Clock for Simulated<'_> {
    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    async fn sleep_until(&self, at: Instant) {
        poll_fn(|_| self.0.borrow_mut().sleep_until(at)).await;
    }
}

impl<'w> Connect for Hardware<'w> {
    type Transport<'a>
        = Way<'a, 'w>
    where
        Self: 'a;

    async fn connect<'a>(&'a self, _: &str) -> Result<Way<'a, 'w>, ErrorKind> {
        let world = self.simulated.0;
        if self.world().gateway.is_some() {
            let nonce = self.world().random.number() as u32;
            let line = Line::open(Uart(world), self.simulated, nonce, &self.room).await?;
            return Ok(Way::Line(line));
        }
        let wire = self.world().connect();
        Ok(Way::Plug(Plug { world, wire, came: VecDeque::new() }))
    }
}

impl Board for Hardware<'_> {
    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.world().random.number() as u8);
    }

    fn feed_watchdog(&self) {
        let mut world = self.world();
        world.fed_at = world.now;
    }

    fn reset_reason(&self) -> ResetReason {
        ResetReason::Unknown
    }

    fn reset(&self) {
        let mut world = self.world();
        if world.told_at.is_none() {
            world.broken = Some(Broken::new("the device resets, and nobody has told it to"));
        }
        world.reset();
    }
}

/// What joins the device to the server.
pub(super) enum Way<'a, 'w> {
    /// A connection of its own.
    Plug(Plug<'w>),
    /// A line to a gateway.
    Line(Line<'a, Uart<'w>, Simulated<'w>>),
}

impl ErrorType for Way<'_, '_> {
    type Error = ErrorKind;
}

impl Read for Way<'_, '_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        match self {
            Self::Plug(plug) => plug.read(buffer).await.map_err(|never| match never {}),
            Self::Line(line) => line.read(buffer).await,
        }
    }
}

impl Write for Way<'_, '_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        match self {
            Self::Plug(plug) => plug.write(bytes).await.map_err(|never| match never {}),
            Self::Line(line) => line.write(bytes).await,
        }
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        match self {
            Self::Plug(plug) => plug.flush().await.map_err(|never| match never {}),
            Self::Line(line) => line.flush().await,
        }
    }
}

impl Application for Simulated<'_> {
    async fn message(&mut self, message: &Message<'_>) {
        let until = self.0.borrow_mut().deliver(message);
        self.sleep_until(until).await;
    }

    async fn next(&mut self) {
        poll_fn(|_| if self.0.borrow().to_push.is_empty() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    fn say<const MESSAGES: usize, const BODY: usize>(&mut self, _: u64, outbox: &mut Outbox<MESSAGES, BODY>) {
        let mut world = self.0.borrow_mut();
        if !outbox.has_room() {
            world.broken = Some(Broken::new("there is no room for what the application is asked for"));
        }
        for content in std::mem::take(&mut world.to_push) {
            match outbox.push(content.0, Kind::TEXT, &content.body()) {
                Ok(()) => world.pushed.push(content),
                Err(_) => world.report.refused += 1,
            }
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts::default()
    }

    fn state(&mut self, state: State<'_>) {
        let mut world = self.0.borrow_mut();
        if state == State::Resetting {
            let now = world.now;
            world.told_at.get_or_insert(now);
            world.report.told_resets += 1;
        }
        let State::Offline(Failure::End(end), _) = state else { return };
        match end {
            End::Closed { reason: CloseReason::Conflict, .. } => world.report.conflicts += 1,
            End::Protocol(error) => world.broken = Some(Broken::new(error.to_string())),
            _ => {}
        }
    }
}

/// The device's end of a wire. It is closed when it is dropped.
pub(super) struct Plug<'w> {
    world: &'w RefCell<World>,
    wire: usize,
    came: VecDeque<u8>,
}

impl Drop for Plug<'_> {
    fn drop(&mut self) {
        self.world.borrow_mut().close(self.wire);
    }
}

impl ErrorType for Plug<'_> {
    type Error = Infallible;
}

impl Read for Plug<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|_| {
            let mut world = self.world.borrow_mut();
            let now = world.now;
            let Some(wire) = world.wires.get_mut(&self.wire) else { return Poll::Ready(Ok(0)) };
            self.came.extend(wire.down.read(now));
            let count = buffer.len().min(self.came.len()).min(READ);
            buffer.iter_mut().zip(self.came.drain(..count)).for_each(|(to, from)| *to = from);
            if count > 0 || wire.down.has_ended(now) { Poll::Ready(Ok(count)) } else { Poll::Pending }
        })
        .await
    }
}

impl Write for Plug<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let mut world = self.world.borrow_mut();
        let World { now, wires, random, .. } = &mut *world;
        if let Some(wire) = wires.get_mut(&self.wire) {
            wire.up.write(*now, bytes, random);
        }
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
