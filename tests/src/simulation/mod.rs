//! Two peers, one virtual clock, and a network that splits, delays, stalls, cuts and half-opens.
//!
//! The sessions are the real ones; around them stand models of what the agent and the server do with them: an
//! outbox and an inbox, an archive and a registry. Both crash and start again with what is on their disks. After every step
//! the promises are checked; once the faults stop, all must arrive. The same seed gives the same run.

mod device;
pub mod embedded;
mod server;
mod wire;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use protocol_core::{
    message::{Kind, Message, StreamId},
    time::Instant,
};

use device::Device;
use server::Server;
use wire::{Wire, seconds};

use crate::random::Random;

/// The device asks when it has heard or sent nothing for so long, in seconds.
const INTERVAL: u32 = 30;

/// An answer comes within so long, in seconds.
const TIMEOUT: u32 = 10;

/// How long there are faults, in seconds.
const ROUGH: u32 = 1_200;

/// How long the network is good after them: long enough for a clone that was sent away to come back.
const CALM: u32 = 900;

/// How many of the last things that happened are told with a failure.
const TOLD: usize = 40;

/// What happens once in a run, beside the faults of every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Nothing else.
    Nothing,
    /// The server comes back with an older disk.
    RestoredServer,
    /// The device comes back with an older disk.
    RestoredDevice,
    /// A second device runs with a copy of the first one's disk.
    ClonedDevice,
}

/// A way in which the server does not keep its promises: the simulation must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// It echoes what is not on disk.
    EchoBeforeCommit,
    /// It archives what it has.
    ForgetNumbers,
    /// It keeps the connections of those that are silent.
    KeepGhosts,
}

/// A promise that did not hold.
#[derive(Debug)]
pub struct Broken(String);

impl Broken {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(format!("unexpected between honest peers: {error}"))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Faults, of all kinds.
    pub faults: u32,
    /// Messages that were archived.
    pub archived: u32,
    /// Messages that devices have.
    pub delivered: u32,
}

/// What a message says: each one is another. The body follows from it, so that damage shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Content(u64);

impl Content {
    fn body(self) -> Vec<u8> {
        let length = if self.0.is_multiple_of(9) { 900 } else { self.0 * 7 % 90 };
        (0..length).map(|at| (self.0.wrapping_mul(31).wrapping_add(at)) as u8).collect()
    }

    fn message<'a>(self, stream: StreamId, number: u64, body: &'a [u8]) -> Message<'a> {
        Message { stream, number, time: self.0, kind: Kind::TEXT, body }
    }
}

/// Runs one seed to its end.
///
/// # Errors
/// [`Broken`]: which promise did not hold, when, and what happened before.
pub fn run(seed: u64, special: Special, sabotage: Option<Sabotage>) -> Result<Report, Broken> {
    let mut world = World::new(seed, special, sabotage);
    let end = Instant::from_micros(0).after(seconds(ROUGH + CALM));
    while world.now < end {
        if let Err(Broken(what)) = world.step() {
            return Err(world.broken(&what));
        }
    }
    match world.check_end() {
        Ok(()) => Ok(world.report()),
        Err(Broken(what)) => Err(world.broken(&what)),
    }
}

struct World {
    now: Instant,
    random: Random,
    special: Special,
    special_at: Instant,
    /// The server's or the device's disk as it was some time before.
    older: Option<(server::Disk, device::Disk)>,
    older_at: Instant,
    faults_stop: Instant,
    fault_at: Instant,
    makes_at: Instant,
    contents: u64,
    server: Server,
    devices: Vec<Device>,
    wires: BTreeMap<usize, Wire>,
    next_wire: usize,
    faults: u32,
    /// Sessions opened, when the calm was long enough for all to have settled.
    settled: Option<u32>,
    told: VecDeque<String>,
}

impl World {
    fn new(seed: u64, special: Special, sabotage: Option<Sabotage>) -> Self {
        let mut random = Random::new(seed);
        let now = Instant::from_micros(0);
        let special_at = now.after(seconds(ROUGH / 4)).after(random.up_to(u64::from(ROUGH) * 500));
        Self {
            now,
            special,
            special_at,
            older: None,
            older_at: now.after(random.up_to(u64::from(ROUGH) * 250)),
            faults_stop: now.after(seconds(ROUGH)),
            fault_at: now,
            makes_at: now,
            contents: 0,
            server: Server::new(sabotage, &mut random),
            devices: vec![Device::new(now, &mut random)],
            wires: BTreeMap::new(),
            next_wire: 0,
            faults: 0,
            settled: None,
            told: VecDeque::new(),
            random,
        }
    }

    /// Turns the clock to the next moment at which something happens, and lets it happen.
    fn step(&mut self) -> Result<(), Broken> {
        self.now = self.next().max(self.now);
        if self.makes_at <= self.now {
            self.make();
        }
        if self.fault_at <= self.now {
            self.fault();
        }
        if self.older_at <= self.now {
            self.older_at = Instant::NEVER;
            self.older = Some((self.server.disk.clone(), self.devices[0].disk.clone()));
        }
        if self.special_at <= self.now {
            self.special_at = Instant::NEVER;
            self.something_special();
        }
        if self.server.runs_at <= self.now {
            self.server.turn(self.now, &mut self.wires, &mut self.random)?;
        }
        for index in 0..self.devices.len() {
            if self.devices[index].runs_at <= self.now {
                self.device(index)?;
            }
        }
        self.drop_wires();
        self.check_calm()
    }

    /// When the next thing happens.
    fn next(&self) -> Instant {
        let mut next =
            self.makes_at.min(self.fault_at).min(self.older_at).min(self.special_at).min(self.server.next());
        for wire in self.server.wires().filter_map(|wire| self.wires.get(&wire)) {
            next = next.min(wire.up.next().unwrap_or(Instant::NEVER).max(self.server.runs_at));
        }
        for device in &self.devices {
            let pipe =
                device.line.as_ref().and_then(|line| self.wires.get(&line.wire)).map(|wire| &wire.down);
            let came = pipe.and_then(wire::Pipe::next).unwrap_or(Instant::NEVER).max(device.runs_at);
            next = next.min(came).min(device.next());
        }
        next
    }

    fn device(&mut self, index: usize) -> Result<(), Broken> {
        let (now, device) = (self.now, &mut self.devices[index]);
        if let Some(wire) = device.line.as_ref().map(|line| line.wire) {
            let Some(pipes) = self.wires.get_mut(&wire) else { return Err(Broken::new("a wire is gone")) };
            if device.turn(now, pipes, &mut self.random)? {
                self.tell(format!("device {index} has lost wire {wire}"));
            }
        } else if device.connects_at <= now {
            self.connect(index)?;
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> Result<(), Broken> {
        let device = &mut self.devices[index];
        if self.server.runs_at > self.now && self.random.once_in(2) {
            // Nobody listens.
            device.connects_at = self.now.after(self.random.up_to(5_000));
            return Ok(());
        }
        let id = self.next_wire;
        self.next_wire += 1;
        let mut wire = Wire::default();
        if self.server.runs_at > self.now {
            // Accepted by a system whose server stands still, or is gone.
            wire.fall_silent(&mut self.random);
        }
        device.connect(self.now, id, &mut wire, &mut self.random)?;
        self.wires.insert(id, wire);
        self.server.accept(self.now, id);
        self.tell(format!("device {index} connects by wire {id}"));
        Ok(())
    }

    /// Somebody has something to say.
    fn make(&mut self) {
        let is_burst = self.random.once_in(10);
        for _ in 0..if is_burst { 15 } else { 1 } {
            self.contents += 1;
            let content = Content(self.contents);
            let side = self.random.below(1 + self.devices.len() as u64) as usize;
            match self.devices.get_mut(side) {
                Some(device) if device.runs_at <= self.now => device.make(content),
                None if self.server.runs_at <= self.now => self.server.make(Kind::TEXT, content),
                _ => {}
            }
        }
        let last = self.faults_stop.after(seconds(CALM / 2));
        let next = self.now.after(self.random.up_to(8_000));
        self.makes_at = if next < last { next } else { Instant::NEVER };
    }

    fn fault(&mut self) {
        let wire = self.wires.keys().nth(self.random.below(self.wires.len() as u64) as usize).copied();
        let pipes = wire.and_then(|wire| self.wires.get_mut(&wire));
        let until = self.now.after(self.random.up_to(60_000));
        let index = self.random.below(self.devices.len() as u64) as usize;
        let what = match (self.random.below(7), pipes) {
            (0, Some(pipes)) => {
                pipes.cut(self.now, &mut self.random);
                format!("wire {wire:?} is cut")
            }
            (1, Some(pipes)) => {
                pipes.fall_silent(&mut self.random);
                format!("wire {wire:?} falls silent")
            }
            (2, Some(pipes)) => {
                pipes.stall(until);
                format!("wire {wire:?} stalls")
            }
            (3, _) => {
                let held = self.devices[index].crash(until, &mut self.random);
                self.abandon(held.into_iter().collect());
                format!("device {index} crashes")
            }
            (4, _) => {
                let held = self.server.crash(until, &mut self.random);
                self.abandon(held);
                String::from("the server crashes")
            }
            (5, _) => {
                self.devices[index].runs_at = until;
                format!("device {index} stands still")
            }
            _ => {
                self.server.runs_at = until;
                String::from("the server stands still")
            }
        };
        self.faults += 1;
        self.tell(what);
        let next = self.now.after(self.random.up_to(40_000));
        self.fault_at = if next < self.faults_stop { next } else { Instant::NEVER };
    }

    fn something_special(&mut self) {
        let Some((server, device)) = self.older.take() else { return };
        match self.special {
            Special::Nothing => return,
            Special::RestoredServer => {
                let held = self.server.crash(self.now, &mut self.random);
                self.abandon(held);
                self.server.disk = server;
            }
            Special::RestoredDevice => {
                let held = self.devices[0].crash(self.now, &mut self.random);
                self.abandon(held.into_iter().collect());
                self.devices[0].disk = device;
            }
            Special::ClonedDevice => {
                let clone = self.devices[0].disk.clone();
                self.devices.push(Device::start(clone, self.now, &mut self.random));
            }
        }
        self.tell(format!("{:?}", self.special));
    }

    /// The end that held these wires is gone: the system closes them, or there is no system any more.
    fn abandon(&mut self, wires: Vec<usize>) {
        for wire in wires {
            let Some(pipes) = self.wires.get_mut(&wire) else { continue };
            match self.random.once_in(2) {
                true => pipes.cut(self.now, &mut self.random),
                false => pipes.fall_silent(&mut self.random),
            }
        }
    }

    /// Wires that nobody holds are gone.
    fn drop_wires(&mut self) {
        let by_server: Vec<_> = self.server.wires().collect();
        let by_devices: Vec<_> =
            self.devices.iter().filter_map(|device| device.line.as_ref()).map(|line| line.wire).collect();
        self.wires.retain(|wire, _| by_server.contains(wire) || by_devices.contains(wire));
    }

    /// Once all has settled no connection is given up any more, and the device is online.
    fn check_calm(&mut self) -> Result<(), Broken> {
        if self.now < self.faults_stop.after(seconds(CALM / 2)) {
            return Ok(());
        }
        let sessions = self.devices.iter().map(|device| device.sessions).sum();
        let settled = *self.settled.get_or_insert(sessions);
        if sessions != settled || !self.server.shows_online() {
            return Err(Broken::new("a device that lives on a good network was taken for lost"));
        }
        Ok(())
    }

    /// All that was made has arrived, but for what a device forgot with its newer disk.
    fn check_end(&self) -> Result<(), Broken> {
        // One of two clones is sent away again and again: its messages wait on its disk.
        for device in self.devices.iter().filter(|device| device.is_online()) {
            for content in device.disk.contents() {
                if !self.server.disk.archive.iter().any(|row| row.content == content) {
                    return Err(Broken::new(format!("{content:?} was never archived")));
                }
            }
        }
        if !self.devices.iter().any(Device::is_online) {
            return Err(Broken::new("no device is online at the end"));
        }
        let had = |content| self.devices.iter().any(|device| device.disk.inbox.contains(&content));
        for outgoing in &self.server.disk.outgoing {
            let is_forgotten = self.special == Special::RestoredDevice;
            if !outgoing.is_done || !is_forgotten && !had(outgoing.content) {
                return Err(Broken::new(format!("{:?} never came to a device", outgoing.content)));
            }
        }
        Ok(())
    }

    fn report(&self) -> Report {
        Report {
            faults: self.faults,
            archived: self.server.disk.archive.len() as u32,
            delivered: self.devices.iter().map(|device| device.disk.inbox.len() as u32).sum(),
        }
    }

    fn tell(&mut self, what: String) {
        if self.told.len() >= TOLD {
            self.told.pop_front();
        }
        self.told.push_back(format!("{:10.3} s  {what}", self.now.as_micros() as f64 / 1e6));
    }

    fn broken(&mut self, what: &str) -> Broken {
        self.tell(format!("BROKEN: {what}"));
        Broken(Vec::from(std::mem::take(&mut self.told)).join("\n"))
    }
}
