//! The loop in virtual time, on a board whose parts hang when they are told to.

use core::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
};
use std::{string::String, vec::Vec};

use embedded_io_async::ErrorType;
use protocol_core::{
    frame::Frame,
    message::{BootId, Close, Facts, Kind, Message, Text},
    tag::Tag,
};

use super::*;
use crate::{
    board::{Clock, ResetReason},
    connection::tests::TestServer,
    outbox::Outbox,
    security::{Security, SecurityError},
};

/// The board, the network and the server behind it, and what the application saw.
#[derive(Default)]
struct World {
    now: Cell<u64>,
    wakes_at: Cell<u64>,
    fed_at: Cell<u64>,
    is_reset: Cell<bool>,
    /// What hangs.
    hangs: Cell<Option<Hang>>,
    hangs_at_reset: Cell<Option<Hang>>,
    server: RefCell<Option<TestServer>>,
    connections: Cell<u32>,
    states: RefCell<Vec<String>>,
    messages: RefCell<Vec<Vec<u8>>>,
    to_say: Cell<u32>,
    /// How often what was learnt would have been kept.
    kept: Cell<u32>,
}

#[derive(Clone, Copy, PartialEq)]
enum Hang {
    Connect,
    Write,
    Read,
    Message,
    /// Not a part that hangs: the stream ends.
    Cut,
}

const SECOND: u64 = 1_000_000;

impl World {
    fn instant(&self) -> Instant {
        Instant::from_micros(self.now.get())
    }

    /// Runs an agent until `is_done`, or for `seconds`. Gives whether it is done.
    fn run(&self, seconds: u64, is_done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.get() + seconds * SECOND;
        let mut agent = Agent::<4, 64, 2, 256, 256>::new(self.instant(), BootId(1), StreamId(1));
        let mut application = self;
        let mut running = pin!(agent.run(self, self, self, &mut application));
        let mut context = Context::from_waker(Waker::noop());
        while self.now.get() < end && !self.is_reset.get() {
            self.wakes_at.set(end);
            assert!(running.as_mut().poll(&mut context).is_pending());
            if is_done(self) {
                return true;
            }
            if !self.has_served() && !self.is_reset.get() {
                self.now.set(self.wakes_at.get());
            }
        }
        is_done(self)
    }

    /// Whether the server took or said something.
    fn has_served(&self) -> bool {
        let mut server = self.server.borrow_mut();
        let Some(server) = server.as_mut() else { return false };
        let before = (server.up.len(), server.down.len());
        server.poll(self.instant());
        before != (server.up.len(), server.down.len())
    }

    fn was(&self, words: &str) -> bool {
        self.states.borrow().iter().any(|state| state.contains(words))
    }

    fn hangs(&self, hang: Hang) -> bool {
        self.hangs.get() == Some(hang)
    }
}

impl Clock for World {
    fn now(&self) -> Instant {
        self.instant()
    }

    async fn sleep_until(&self, at: Instant) {
        poll_fn(|_| {
            if at <= self.instant() {
                return Poll::Ready(());
            }
            self.wakes_at.set(self.wakes_at.get().min(at.as_micros()));
            Poll::Pending
        })
        .await;
    }
}

impl Connect for World {
    type Transport<'a>
        = Wire<'a>
    where
        Self: 'a;

    async fn connect<'a>(&'a self, _: &str) -> Result<Wire<'a>, ErrorKind> {
        if self.hangs(Hang::Connect) {
            pending::<()>().await;
        }
        self.connections.set(self.connections.get() + 1);
        *self.server.borrow_mut() = Some(TestServer::new(self.instant()));
        Ok(Wire(self))
    }
}

impl Board for World {
    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.fill(0x80);
    }

    fn feed_watchdog(&self) {
        self.fed_at.set(self.now.get());
    }

    fn reset_reason(&self) -> ResetReason {
        ResetReason::PowerOn
    }

    fn reset(&self) {
        self.is_reset.set(true);
    }
}

impl Security for World {
    type Address = &'static str;
    type Room = ();
    type Stream<'s, T: Read + Write + 's> = T;

    fn address(&self, _: &impl Board) -> Result<&'static str, SecurityError> {
        Ok("")
    }

    async fn open<'s, T: Read + Write + 's>(
        &'s self,
        _: &'s impl Board,
        transport: T,
        (): &'s mut (),
    ) -> Result<T, SecurityError> {
        Ok(transport)
    }

    fn welcomed(&self, _: &impl Board) {}

    fn notice(&self, _: &impl Board, _: Frame<'_>) {}

    fn keep(&self, _: &impl Board) {
        self.kept.set(self.kept.get() + 1);
    }
}

impl Application for &World {
    async fn message(&mut self, message: &Message<'_>) {
        if self.hangs(Hang::Message) {
            pending::<()>().await;
        }
        self.messages.borrow_mut().push(message.body.to_vec());
    }

    async fn next(&mut self) {
        if self.to_say.get() == 0 {
            pending::<()>().await;
        }
    }

    fn say<const MESSAGES: usize, const BODY: usize>(&mut self, _: u64, outbox: &mut Outbox<MESSAGES, BODY>) {
        outbox.push(0, Kind::TEXT, b"said").expect("it is asked only if there is room");
        self.to_say.set(self.to_say.get() - 1);
    }

    fn facts(&self) -> Facts<'_> {
        Facts::default()
    }

    fn state(&mut self, state: State<'_>) {
        if state == State::Resetting {
            self.hangs.set(self.hangs_at_reset.get());
        }
        self.states.borrow_mut().push(std::format!("{state:?}"));
    }
}

struct Wire<'w>(&'w World);

impl ErrorType for Wire<'_> {
    type Error = ErrorKind;
}

impl Read for Wire<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|_| {
            if self.0.hangs(Hang::Cut) {
                return Poll::Ready(Ok(0));
            }
            let mut server = self.0.server.borrow_mut();
            let Some(server) = server.as_mut().filter(|server| !server.down.is_empty()) else {
                return Poll::Pending;
            };
            if self.0.hangs(Hang::Read) {
                return Poll::Pending;
            }
            let count = buffer.len().min(server.down.len());
            buffer.iter_mut().zip(server.down.drain(..count)).for_each(|(to, from)| *to = from);
            Poll::Ready(Ok(count))
        })
        .await
    }
}

impl Write for Wire<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        if self.0.hangs(Hang::Write) {
            pending::<()>().await;
        }
        if let Some(server) = self.0.server.borrow_mut().as_mut() {
            server.up.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// Has the server send a message of this kind, once the device is online. Gives whether it has now.
fn send(world: &World, number: u64, kind: Kind<'_>) -> bool {
    let mut server = world.server.borrow_mut();
    let Some(server) = server.as_mut().filter(|_| world.was("Online")) else { return false };
    let message = Message { stream: StreamId(9), number, time: 0, kind, body: b"hello" };
    let now = world.instant();
    server.session.in_flight() == 0
        && server.say(|session, buffer| session.message(now, &message, buffer).unwrap_or(0)) > 0
}

#[test]
fn a_device_comes_online_and_says_how_it_is() {
    let world = World::default();
    world.to_say.set(3);
    let is_told = |world: &World| {
        let server = world.server.borrow();
        server.as_ref().is_some_and(|server| {
            server.notices == [Tag::FACTS, Tag::STATUS, Tag::STATUS] && server.archive.len() == 3
        })
    };
    assert!(world.run(100, is_told));
    assert_eq!(world.connections.get(), 1);
}

#[test]
fn what_was_learnt_is_kept_while_a_connection_stands() {
    let world = World::default();
    world.run(STATUS_INTERVAL.as_micros() / SECOND * 10 + 30, |_| false);
    assert_eq!((world.connections.get(), world.kept.get()), (1, 11));
}

#[test]
fn what_hangs_is_given_up_and_tried_again() {
    for (hang, words) in
        [(Hang::Connect, "TimedOut"), (Hang::Write, "TimedOut"), (Hang::Read, "OpeningTimedOut")]
    {
        let world = World::default();
        world.hangs.set(Some(hang));
        assert!(world.run(60, |world| world.was(words)), "{words}: {:?}", world.states);
        world.hangs.set(None);
        assert!(world.run(100, |world| world.was("Online")), "{words}: {:?}", world.states);
    }
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let world = World::default();
    let falls_silent = |world: &World| {
        if world.was("Online") {
            world.hangs.set(Some(Hang::Read));
        }
        world.was("NoAnswer")
    };
    assert!(world.run(60, falls_silent), "{:?}", world.states);
}

#[test]
fn a_message_that_the_application_hangs_on_comes_again() {
    let world = World::default();
    world.hangs.set(Some(Hang::Message));
    let sent = Cell::new(false);
    let comes_again = |world: &World| {
        if !sent.get() || world.connections.get() == 2 {
            sent.set(send(world, 1, Kind::TEXT));
        }
        if world.was("TimedOut") {
            world.hangs.set(None);
        }
        !world.messages.borrow().is_empty()
    };
    assert!(world.run(100, comes_again), "{:?}", world.states);
    assert_eq!(world.connections.get(), 2);
}

#[test]
fn the_watchdog_is_fed_while_the_server_may_be_down_and_no_longer() {
    let world = World::default();
    world.hangs.set(Some(Hang::Connect));
    let limit = <World as Board>::OFFLINE_LIMIT.as_micros();
    world.run(limit / SECOND - 10, |_| false);
    assert!(world.now.get() - world.fed_at.get() <= FEED_INTERVAL.as_micros());
    let started_at = world.now.get();
    world.run(limit / SECOND + 60, |_| false);
    assert!(world.fed_at.get() - started_at <= limit, "a device that hears nobody is reset");
    assert!(world.now.get() - world.fed_at.get() >= 50 * SECOND);
}

/// Sends a message that resets the device, and gives how long it took to, in microseconds. From then on, this hangs.
fn reset(world: &World, hang: Option<Hang>) -> u64 {
    world.hangs_at_reset.set(hang);
    let told_at = Cell::new(None);
    world.run(20, |world| {
        if world.was("Resetting") {
            told_at.set(told_at.get().or(Some(world.now.get())));
        } else {
            send(world, 1, RESET);
        }
        false
    });
    assert!(world.is_reset.get(), "{:?}", world.states);
    assert!(world.messages.borrow().is_empty(), "the application has no part in it");
    assert_eq!(world.connections.get(), 1, "it opens no other for it");
    world.now.get() - told_at.get().unwrap_or_default()
}

#[test]
fn a_message_resets_the_device_behind_its_echo_and_its_farewell() {
    let world = World::default();
    world.to_say.set(3);
    let waited = reset(&world, None);
    assert!((SECOND..=3 * SECOND).contains(&waited), "for a server that does not hang up: {waited} us");
    let server = world.server.take().expect("a server");
    assert_eq!((server.closed, server.archive.len()), (Some(CloseReason::Finished), 3));
    assert_eq!(server.session.in_flight(), 0, "it was echoed before");
}

#[test]
fn a_reset_happens_whatever_becomes_of_the_connection() {
    let world = World::default();
    assert_eq!(reset(&world, Some(Hang::Cut)), 0, "there is nobody to wait for");
    let closed = world.server.take().and_then(|server| server.closed);
    assert_eq!(closed, Some(CloseReason::Finished));

    let world = World::default();
    let waited = reset(&world, Some(Hang::Write));
    assert!((SECOND..=3 * SECOND).contains(&waited), "for a transport that hangs: {waited} us");
}

#[test]
fn a_refusal_is_told_and_waited_for() {
    let world = World::default();
    world.hangs.set(None);
    let refuse = |world: &World| {
        let mut server = world.server.borrow_mut();
        if let Some(server) = server.as_mut().filter(|_| world.connections.get() == 1) {
            server.up.clear();
            let close = Close { reason: CloseReason::Revoked, retry_after: 0, detail: Text::default() };
            server.say(|session, buffer| session.close(&close, buffer));
        }
        world.connections.get() == 2
    };
    assert!(world.run(1_000, refuse));
    assert!(world.was("Revoked"));
    assert!(world.now.get() >= 300 * SECOND);
}
