//! A microcontroller against the model of the server: the library as it is, on the virtual clock and over the bad wires;
//! in half of the runs with a serial line and a gateway between.
//!
//! It has no disk: a reset loses what waits. Between two resets each message is archived once and delivered once.

mod board;
mod gateway;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    pin::pin,
    task::{Context, Poll, Waker},
};

use agent_embedded::{agent::Agent, application::RESET, security::Plain};
use protocol_core::{
    message::{BootId, Kind, Message, StreamId},
    time::{Duration, Instant},
};

use board::{Hardware, Simulated};
use gateway::Gateway;

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

/// How long a device that was told to reset may take.
const RESET_LIMIT: Duration = Duration::from_secs(4);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Faults, of all kinds.
    pub faults: u32,
    /// Resets among them.
    pub resets: u32,
    /// Resets that a message has asked for.
    pub told_resets: u32,
    /// Bytes of a serial line that were damaged, lost or inserted.
    pub hit: u32,
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
        let (board, mut application) = (Hardware::new(world), Simulated(world));
        let mut agent = pin!(device.run(&board, &board, &Plain, &mut application));
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

struct World {
    now: Instant,
    random: Random,
    end: Instant,
    server: Server,
    wires: BTreeMap<usize, Wire>,
    /// The wire that the device holds, or its gateway does for it, and how many there were.
    wire: Option<usize>,
    wires_made: usize,
    makes_at: Instant,
    fault_at: Instant,
    faults_stop: Instant,
    contents: u64,
    /// If the device is wired to one.
    gateway: Option<Gateway>,
    /// The device stands still until then.
    runs_at: Instant,
    is_reset: bool,
    /// When a message first told the device to reset, since its start.
    told_at: Option<Instant>,
    /// Steps since the clock was last turned.
    stood_still: u32,
    /// Those of the life before: what is meant to be random is not always.
    boot: BootId,
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
            gateway: random.once_in(2).then(|| Gateway::new(now, &mut random)),
            wires: BTreeMap::new(),
            wire: None,
            wires_made: 0,
            makes_at: now,
            fault_at: now,
            faults_stop: now.after(seconds(ROUGH)),
            contents: 0,
            runs_at: now,
            is_reset: false,
            told_at: None,
            stood_still: 0,
            boot: BootId(random.number()),
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
        (self.is_reset, self.told_at) = (false, None);
        (self.fed_at, self.busy_until) = (self.now, self.now);
        (self.pushed, self.taken) = (Vec::new(), Vec::new());
        if !self.random.once_in(3) {
            self.stream = StreamId(self.random.number());
        }
        if !self.random.once_in(10) {
            self.boot = BootId(self.random.number());
        }
        Device::new(self.now, self.boot, self.stream)
    }

    /// The wire that the device holds.
    fn held(&mut self) -> Option<&mut Wire> {
        self.wires.get_mut(&self.wire?)
    }

    /// The device forgets all that it had in RAM; nobody says goodbye.
    fn reset(&mut self) {
        self.is_reset = true;
        match &mut self.gateway {
            Some(gateway) => gateway.tear(&mut self.random),
            None => {
                if let Some(wire) = self.wire.and_then(|wire| self.wires.get_mut(&wire)) {
                    wire.fall_silent(&mut self.random);
                }
            }
        }
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
        if self.told_at.is_some_and(|at| self.now.since(at) > RESET_LIMIT) {
            return Err(Broken::new("a device that was told to reset goes on"));
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
        let from_server = self.held().and_then(|wire| wire.down.next()).unwrap_or(Instant::NEVER);
        next = next.min(match &self.gateway {
            Some(gateway) => gateway.next(from_server),
            None => from_server.max(runs_at),
        });
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
        if let Some(mut gateway) = self.gateway.take() {
            gateway.turn(self);
            self.gateway = Some(gateway);
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
                let kind = if self.random.once_in(20) { RESET } else { Kind::TEXT };
                self.server.make(kind, content);
            }
        }
        let next = self.now.after(self.random.up_to(8_000));
        self.makes_at = if next < self.faults_stop { next } else { Instant::NEVER };
    }

    fn fault(&mut self) {
        self.report.faults += 1;
        let until = self.now.after(self.random.up_to(60_000));
        let wire = self.wire.and_then(|wire| self.wires.get_mut(&wire));
        match (self.random.below(if self.gateway.is_some() { 11 } else { 7 }), wire) {
            (0, Some(wire)) => wire.cut(self.now, &mut self.random),
            (1, Some(wire)) => wire.fall_silent(&mut self.random),
            (2, Some(wire)) => wire.stall(until),
            (3, _) => {
                self.reset();
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
                self.told_at = self.told_at.map(|_| until);
            }
            (6, _) => self.server.runs_at = until,
            _ => self.fault_of_line(until),
        }
        let next = self.now.after(self.random.up_to(40_000));
        self.fault_at = if next < self.faults_stop { next } else { Instant::NEVER };
        if self.fault_at == Instant::NEVER {
            self.mend_line();
        }
    }

    fn fault_of_line(&mut self, until: Instant) {
        self.mend_line();
        if let Some(mut gateway) = self.gateway.take() {
            gateway.fault(self, until);
            self.gateway = Some(gateway);
        }
    }

    fn mend_line(&mut self) {
        if let Some(gateway) = &mut self.gateway {
            self.report.hit += gateway.hit();
            gateway.mend();
        }
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
        let outgoing = &self.server.disk.outgoing;
        let resets = outgoing.iter().filter(|outgoing| outgoing.kind == RESET).count();
        if (self.report.told_resets as usize) < resets {
            return Err(Broken::new(format!("{resets} messages to reset were echoed, and not all heard")));
        }
        match outgoing.iter().find(|outgoing| !outgoing.is_done) {
            Some(outgoing) => Err(Broken::new(format!("{:?} was never taken", outgoing.content))),
            None => Ok(()),
        }
    }
}
