//! A microcontroller against the model of the server: the library as it is, on the virtual clock and over the bad wires.
//!
//! It has no disk: a reset loses what waits. Between two resets each message is archived once and delivered once.

use std::{cell::RefCell, collections::BTreeMap};

use agent_embedded::{
    agent::Agent,
    connection::{Connection, End, Event, Step},
};
use protocol_core::{
    code::CloseReason,
    message::{BootId, Kind, StreamId},
    time::Instant,
};

use super::{
    Broken, Content, plug,
    plug::Plug,
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
type Device = Agent<6, 900, 4>;

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
    let mut world = World::new(seed);
    while world.now < world.end {
        world.live()?;
    }
    world.report.archived = world.server.disk.archive.len() as u32;
    Ok(world.report)
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
    /// What it took since its reset, and what it has been given and not taken yet.
    taken: Vec<Content>,
    given: Option<Content>,
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
            given: None,
            report: Report::default(),
            random,
        }
    }

    /// From one reset to the next, or to the end.
    fn live(&mut self) -> Result<(), Broken> {
        self.is_reset = false;
        (self.pushed, self.taken) = (Vec::new(), Vec::new());
        if !self.random.once_in(3) {
            self.stream = StreamId(self.random.number());
        }
        let mut device = Device::new(BootId(self.random.number()), self.stream);
        let mut connects_at = self.now;
        while !self.is_over() {
            if self.now < connects_at {
                self.step(connects_at)?;
                continue;
            }
            let end = self.connect(&mut device)?;
            self.wire = None;
            if let Some(end) = end {
                connects_at = self.now.after(self.random.up_to(5_000));
                if let End::Closed { reason, retry_after } = end {
                    connects_at = connects_at.after(seconds(retry_after));
                    if reason == CloseReason::Conflict {
                        self.report.conflicts += 1;
                        device.outbox.begin_stream(StreamId(self.random.number()));
                    }
                }
            }
        }
        if self.is_reset { Ok(()) } else { self.check_end(&device) }
    }

    /// The wire that the device holds.
    fn held(&mut self) -> Option<&mut Wire> {
        self.wires.get_mut(&self.wire?)
    }

    fn is_over(&self) -> bool {
        self.is_reset || self.now >= self.end
    }

    /// A connection, from its first byte to its last. Gives how it ended, if not by a reset.
    fn connect(&mut self, device: &mut Device) -> Result<Option<End>, Broken> {
        self.wires_made += 1;
        let id = self.wires_made;
        let mut wire = Wire::default();
        if self.server.runs_at > self.now {
            wire.fall_silent(&mut self.random);
        }
        self.wires.insert(id, wire);
        self.wire = Some(id);
        self.server.accept(self.now, id);
        self.given = None;

        let plug = RefCell::new(plug::Bytes::default());
        let (mut input, mut output) = ([0; 1_024], [0; Device::OUTPUT_ROOM]);
        let mut connection = Connection::open(self.now, device, Plug(&plug), &mut input, &mut output)?;
        while !self.is_over() {
            let mut due = self.runs_at;
            if self.runs_at <= self.now {
                if let Err(end) = self.turn(device, &mut connection, &plug)? {
                    return Ok(Some(end));
                }
                due = connection.timeout().unwrap_or(Instant::NEVER);
                if due <= self.now {
                    return Err(Broken::new("a timer of the device lies in the past after it was idle"));
                }
                if self.given.is_some() {
                    due = due.min(self.now.after(self.random.up_to(3_000)));
                }
            }
            self.step(due)?;
        }
        Ok(None)
    }

    /// What the device does when it wakes: all that there is to do.
    fn turn(
        &mut self,
        device: &mut Device,
        connection: &mut Connection<'_, Plug<'_>>,
        plug: &RefCell<plug::Bytes>,
    ) -> Result<Result<(), End>, Broken> {
        let now = self.now;
        let Some(wire) = self.held() else { return Err(Broken::new("a wire is gone")) };
        let (came, has_ended) = (wire.down.read(now), wire.down.has_ended(now));
        plug.borrow_mut().arrive(came, has_ended);
        if let Some(content) = self.given.take() {
            connection.taken(device);
            self.taken.push(content);
        }
        self.push(device);
        let result = self.poll(device, connection)?;
        let sent = plug.borrow_mut().sent();
        if let Some(wire) = self.wire.and_then(|wire| self.wires.get_mut(&wire)) {
            wire.up.write(now, &sent, &mut self.random);
            if result.is_err() {
                wire.up.close(now, &mut self.random);
            }
        }
        Ok(result)
    }

    /// Puts into the queue what the device has to say, as far as there is room.
    fn push(&mut self, device: &mut Device) {
        for content in self.to_push.drain(..) {
            match device.outbox.push(content.0, Kind::TEXT, &content.body()) {
                Ok(()) => self.pushed.push(content),
                Err(_) => self.report.refused += 1,
            }
        }
    }

    fn poll(
        &mut self,
        device: &mut Device,
        connection: &mut Connection<'_, Plug<'_>>,
    ) -> Result<Result<(), End>, Broken> {
        for _ in 0..BUSY {
            let content = match connection.poll(self.now, device) {
                Ok(Step::Event(Event::Message(message))) => Content::of(&message)?,
                Ok(Step::Event(Event::Welcome(_)) | Step::Again) => continue,
                Ok(Step::Event(event)) => {
                    return Err(Broken::new(format!("the device was told {event:?}")));
                }
                Ok(Step::Idle) => return Ok(Ok(())),
                Err(end @ End::Failed(protocol_core::pump::PumpError::Protocol(_))) => return Err(end.into()),
                Err(end) => return Ok(Err(end)),
            };
            if self.taken.contains(&content) {
                return Err(Broken::new(format!("{content:?} came to the device twice")));
            }
            self.report.delivered += 1;
            if self.random.once_in(3) {
                self.given = Some(content);
            } else {
                connection.taken(device);
                self.taken.push(content);
            }
        }
        Err(Broken::new("the device is never idle"))
    }

    /// Turns the clock to the next moment at which something happens: `due` is the device's own.
    fn step(&mut self, due: Instant) -> Result<(), Broken> {
        let mut next = due.min(self.makes_at).min(self.fault_at).min(self.server.next()).min(self.end);
        for wire in self.server.wires().filter_map(|wire| self.wires.get(&wire)) {
            next = next.min(wire.up.next().unwrap_or(Instant::NEVER).max(self.server.runs_at));
        }
        let runs_at = self.runs_at;
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
            (5, _) => self.runs_at = until,
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
