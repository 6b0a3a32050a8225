//! A microcontroller against the model of the server: the library as it is, on the virtual clock and over the bad wires.
//!
//! It has no disk: a reset loses what waits. Between two resets each message is archived once and delivered once.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
};

use agent_embedded::{
    agent::Agent,
    application::{Application, Failure, State},
    board::{Board, Clock, ResetReason},
    connection::End,
    outbox::Outbox,
    security::Plain,
};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use protocol_core::{
    code::CloseReason,
    message::{BootId, Facts, Kind, Message, StreamId},
    time::{Duration, Instant},
};

use super::{
    Broken, Content,
    server::Server,
    wire::{Wire, seconds},
};
use crate::random::Random;

/// How long there are faults, in seconds.
const ROUGH: u32 = 900;

/// How long the network is good after them, in seconds: a device that came back too early for the server's taste
/// returns within.
const CALM: u32 = 600;

/// More steps than a device ever takes without a pause.
const BUSY: u32 = 5_000;

/// The queue: small, so that it is full at times; the largest body of the simulation fits.
type Device = Agent<6, 900, 4, 1_024, 1_024>;

/// The most bytes that one read gives: drivers have small buffers.
const READ: usize = 50;

/// The period of the watchdog, of a device that runs.
const WATCHDOG: Duration = Duration::from_secs(8);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Faults, of all kinds.
    pub faults: u32,
    /// Resets among them.
    pub resets: u32,
    /// Connections that ended by a conflict.
    pub conflicts: u32,
    /// Messages that the queue had no room for.
    pub refused: u32,
    /// Messages that were archived.
    pub archived: u32,
    /// Messages that the device took.
    pub delivered: u32,
}

/// Runs one seed to its end.
///
/// # Errors
/// [`Broken`]: which promise did not hold.
pub fn run(seed: u64) -> Result<Report, Broken> {
    let world = RefCell::new(World::new(seed));
    while !world.borrow().is_over() {
        live(&world)?;
    }
    let mut world = world.into_inner();
    world.report.archived = world.server.disk.archive.len() as u32;
    Ok(world.report)
}

/// From one reset to the next, or to the end.
fn live(world: &RefCell<World>) -> Result<(), Broken> {
    let mut device = world.borrow_mut().start();
    {
        let (board, mut application) = (Simulated(world), Simulated(world));
        let mut agent = pin!(device.run(&board, &Plain, &mut application));
        let mut context = Context::from_waker(Waker::noop());
        while !world.borrow().life_is_over() {
            let due = world.borrow().runs_at;
            if world.borrow_mut().may_run() {
                if let Poll::Ready(never) = agent.as_mut().poll(&mut context) {
                    match never {}
                }
                world.borrow_mut().step_when_due()?;
            } else {
                world.borrow_mut().step(due)?;
            }
        }
    }
    let mut world = world.borrow_mut();
    if world.is_reset { Ok(()) } else { world.check_end(&device) }
}

/// The board, and the application on it, of this world.
struct Simulated<'w>(&'w RefCell<World>);

impl Clock for Simulated<'_> {
    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    async fn sleep_until(&self, at: Instant) {
        poll_fn(|_| self.0.borrow_mut().sleep_until(at)).await;
    }
}

impl Board for Simulated<'_> {
    type Transport<'a>
        = Plug<'a>
    where
        Self: 'a;

    async fn connect<'a>(&'a self, _: &str) -> Result<Plug<'a>, ErrorKind> {
        let wire = self.0.borrow_mut().connect();
        Ok(Plug { world: self.0, wire, came: VecDeque::new() })
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.0.borrow_mut().random.number() as u8);
    }

    fn feed_watchdog(&self) {
        let mut world = self.0.borrow_mut();
        world.fed_at = world.now;
    }

    fn reset_reason(&self) -> ResetReason {
        ResetReason::Unknown
    }

    fn reset(&self) {
        self.0.borrow_mut().is_reset = true;
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
        let State::Offline(Failure::End(end), _) = state else { return };
        let mut world = self.0.borrow_mut();
        match end {
            End::Closed { reason: CloseReason::Conflict, .. } => world.report.conflicts += 1,
            End::Protocol(error) => world.broken = Some(Broken::new(error.to_string())),
            _ => {}
        }
    }
}

/// The device's end of a wire. It is closed when it is dropped.
struct Plug<'w> {
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

struct World {
    now: Instant,
    random: Random,
    end: Instant,
    server: Server,
    wires: BTreeMap<usize, Wire>,
    /// The wire that the device holds, and how many there were.
    wire: Option<usize>,
    wires_made: usize,
    makes_at: Instant,
    fault_at: Instant,
    faults_stop: Instant,
    contents: u64,
    /// The device stands still until then.
    runs_at: Instant,
    is_reset: bool,
    /// Steps since the clock was last turned.
    stood_still: u32,
    /// The stream of the life before: what is meant to be random is not always.
    stream: StreamId,
    /// What the device has to say, and what it said since its reset.
    to_push: Vec<Content>,
    pushed: Vec<Content>,
    /// What it took since its reset.
    taken: Vec<Content>,
    /// When the device wants to be woken, and when it fed its watchdog last.
    wakes_at: Instant,
    /// It is busy with a message, and does not read.
    busy_until: Instant,
    fed_at: Instant,
    broken: Option<Broken>,
    report: Report,
}

impl World {
    fn new(seed: u64) -> Self {
        let (now, mut random) = (Instant::from_micros(0), Random::new(seed));
        Self {
            now,
            end: now.after(seconds(ROUGH + CALM)),
            server: Server::new(None, &mut random),
            wires: BTreeMap::new(),
            wire: None,
            wires_made: 0,
            makes_at: now,
            fault_at: now,
            faults_stop: now.after(seconds(ROUGH)),
            contents: 0,
            runs_at: now,
            is_reset: false,
            stood_still: 0,
            stream: StreamId(random.number()),
            to_push: Vec::new(),
            pushed: Vec::new(),
            taken: Vec::new(),
            wakes_at: now,
            busy_until: now,
            fed_at: now,
            broken: None,
            report: Report::default(),
            random,
        }
    }

    /// A device that has just started.
    fn start(&mut self) -> Device {
        self.is_reset = false;
        (self.fed_at, self.busy_until) = (self.now, self.now);
        (self.pushed, self.taken) = (Vec::new(), Vec::new());
        if !self.random.once_in(3) {
            self.stream = StreamId(self.random.number());
        }
        Device::new(self.now, BootId(self.random.number()), self.stream)
    }

    /// The wire that the device holds.
    fn held(&mut self) -> Option<&mut Wire> {
        self.wires.get_mut(&self.wire?)
    }

    fn is_over(&self) -> bool {
        self.now >= self.end
    }

    fn life_is_over(&self) -> bool {
        self.is_reset || self.is_over()
    }

    /// Whether the device runs now; what it waits for is asked anew.
    fn may_run(&mut self) -> bool {
        self.wakes_at = Instant::NEVER;
        self.runs_at <= self.now
    }

    fn sleep_until(&mut self, at: Instant) -> Poll<()> {
        if at <= self.now {
            return Poll::Ready(());
        }
        self.wakes_at = self.wakes_at.min(at);
        Poll::Pending
    }

    fn connect(&mut self) -> usize {
        self.wires_made += 1;
        let id = self.wires_made;
        let mut wire = Wire::default();
        if self.server.runs_at > self.now {
            wire.fall_silent(&mut self.random);
        }
        self.wires.insert(id, wire);
        self.wire = Some(id);
        self.server.accept(self.now, id);
        id
    }

    fn close(&mut self, id: usize) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.up.close(self.now, &mut self.random);
        }
        self.wire = None;
    }

    /// A message comes to the device: gives until when it is busy with it.
    fn deliver(&mut self, message: &Message<'_>) -> Instant {
        match Content::of(message) {
            Ok(content) if self.taken.contains(&content) => {
                self.broken = Some(Broken::new(format!("{content:?} came to the device twice")));
            }
            Ok(content) => {
                self.taken.push(content);
                self.report.delivered += 1;
            }
            Err(broken) => self.broken = Some(broken),
        }
        let wait = if self.random.once_in(3) { self.random.up_to(3_000) } else { Duration::ZERO };
        self.busy_until = self.now.after(wait);
        self.busy_until
    }

    /// After the device ran: looks what it did, and turns the clock to when something happens.
    fn step_when_due(&mut self) -> Result<(), Broken> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        if self.now.since(self.fed_at) > WATCHDOG {
            return Err(Broken::new("the watchdog of a device that runs was not fed"));
        }
        self.step(self.wakes_at)
    }

    /// Turns the clock to the next moment at which something happens: `due` is the device's own.
    fn step(&mut self, due: Instant) -> Result<(), Broken> {
        let mut next = due.min(self.makes_at).min(self.fault_at).min(self.server.next()).min(self.end);
        for wire in self.server.wires().filter_map(|wire| self.wires.get(&wire)) {
            next = next.min(wire.up.next().unwrap_or(Instant::NEVER).max(self.server.runs_at));
        }
        let runs_at = self.runs_at.max(self.busy_until);
        if let Some(came) = self.held().and_then(|wire| wire.down.next()) {
            next = next.min(came.max(runs_at));
        }
        self.stood_still = if next > self.now { 0 } else { self.stood_still + 1 };
        if self.stood_still > BUSY {
            return Err(Broken::new("the clock stands still"));
        }
        self.now = next.max(self.now);
        if self.makes_at <= self.now {
            self.make();
        }
        if self.fault_at <= self.now {
            self.fault();
        }
        if self.server.runs_at <= self.now {
            self.server.turn(self.now, &mut self.wires, &mut self.random)?;
        }
        let by_server: Vec<_> = self.server.wires().collect();
        self.wires.retain(|wire, _| Some(*wire) == self.wire || by_server.contains(wire));
        Ok(())
    }

    /// Somebody has something to say.
    fn make(&mut self) {
        for _ in 0..if self.random.once_in(10) { 10 } else { 1 } {
            self.contents += 1;
            let content = Content(self.contents);
            if self.random.once_in(2) {
                self.to_push.push(content);
            } else if self.server.runs_at <= self.now {
                self.server.make(content);
            }
        }
        let next = self.now.after(self.random.up_to(8_000));
        self.makes_at = if next < self.faults_stop { next } else { Instant::NEVER };
    }

    fn fault(&mut self) {
        self.report.faults += 1;
        let until = self.now.after(self.random.up_to(60_000));
        let wire = self.wire.and_then(|wire| self.wires.get_mut(&wire));
        match (self.random.below(7), wire) {
            (0, Some(wire)) => wire.cut(self.now, &mut self.random),
            (1, Some(wire)) => wire.fall_silent(&mut self.random),
            (2, Some(wire)) => wire.stall(until),
            (3, wire) => {
                // Nobody says goodbye.
                if let Some(wire) = wire {
                    wire.fall_silent(&mut self.random);
                }
                self.is_reset = true;
                self.report.resets += 1;
            }
            (4, _) => {
                for wire in self.server.crash(until, &mut self.random) {
                    if let Some(wire) = self.wires.get_mut(&wire) {
                        wire.cut(self.now, &mut self.random);
                    }
                }
            }
            (5, _) => {
                self.runs_at = until;
                self.fed_at = until;
            }
            _ => self.server.runs_at = until,
        }
        let next = self.now.after(self.random.up_to(40_000));
        self.fault_at = if next < self.faults_stop { next } else { Instant::NEVER };
    }

    /// All that was said since the last reset is archived, and all that was sent to the device was taken.
    fn check_end(&mut self, device: &Device) -> Result<(), Broken> {
        if !self.server.shows_online() {
            return Err(Broken::new("the device is not online at the end"));
        }
        if !device.outbox.is_empty() {
            return Err(Broken::new(format!("{} messages wait at the end", device.outbox.len())));
        }
        let archive = &self.server.disk.archive;
        for content in &self.pushed {
            if !archive.iter().any(|row| row.content == *content) {
                return Err(Broken::new(format!("{content:?} was echoed and is not archived")));
            }
        }
        match self.server.disk.outgoing.iter().find(|outgoing| !outgoing.is_done) {
            Some(outgoing) => Err(Broken::new(format!("{:?} was never taken", outgoing.content))),
            None => Ok(()),
        }
    }
}
