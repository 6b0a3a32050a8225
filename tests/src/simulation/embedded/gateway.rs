//! A gateway, and the line between it and the device: it loses, damages and inserts bytes, is unplugged at times, and has
//! half a packet on it when the device is reset.

use std::{cell::RefCell, collections::VecDeque, convert::Infallible, future::poll_fn, task::Poll};

use embedded_io_async::{ErrorType, Read, Write};
use protocol_core::{
    serial::{Event, Link, Retries, State, output_room},
    time::{Duration, Instant},
};

use super::{READ, World};
use crate::{noise::Noise, random::Random, simulation::wire::seconds};

/// The largest packet that the gateway takes.
const PACKET: usize = 262;

/// How long a byte is under way: 115,200 baud.
const BYTE: Duration = Duration::from_micros(87);

/// How many bytes the device's UART holds: what nobody reads in time is lost.
const UART: usize = 256;

/// How long the device has to take what the server said last.
const LAST_WORDS: Duration = seconds(10);

/// Both, in virtual time. It carries bytes as the real one does.
#[derive(Debug)]
pub(super) struct Gateway {
    link: Link<[u8; PACKET]>,
    up: Serial,
    down: Serial,
    noise: Noise,
    is_unplugged: bool,
    /// What came to the device and was not read.
    uart: VecDeque<u8>,
    /// What the server has said, and the link has not taken.
    waiting: VecDeque<u8>,
    /// The connection to the server has ended: until when the device may take the rest.
    ends_at: Option<Instant>,
    /// It is down until then.
    runs_at: Instant,
}

/// One direction of the line.
#[derive(Debug, Default)]
struct Serial {
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Serial {
    fn write(&mut self, now: Instant, bytes: Vec<u8>) {
        let free = self.under_way.back().map_or(now, |(at, _)| (*at).max(now));
        let takes = Duration::from_micros(BYTE.as_micros() * bytes.len() as u64);
        self.under_way.push_back((free.after(takes), bytes));
    }

    fn read(&mut self, now: Instant) -> Vec<u8> {
        let mut came = Vec::new();
        while let Some((_, bytes)) = self.under_way.pop_front_if(|(at, _)| *at <= now) {
            came.extend(bytes);
        }
        came
    }

    fn next(&self) -> Instant {
        self.under_way.front().map_or(Instant::NEVER, |(at, _)| *at)
    }
}

impl Gateway {
    pub(super) fn new(now: Instant, random: &mut Random) -> Self {
        let mut link = Link::new(Retries::DEFAULT, [0; PACKET], [0; PACKET]);
        link.open(now, random.number() as u32);
        Self {
            link,
            up: Serial::default(),
            down: Serial::default(),
            noise: Noise::new(random.number(), 0),
            is_unplugged: false,
            uart: VecDeque::new(),
            waiting: VecDeque::new(),
            ends_at: None,
            runs_at: now,
        }
    }

    /// When something happens here; the connection to the server is looked at while it has not ended.
    pub(super) fn next(&self, from_server: Instant) -> Instant {
        let from_server = if self.ends_at.is_some() { Instant::NEVER } else { from_server };
        let own = self.link.timeout().unwrap_or(Instant::NEVER).min(from_server);
        let own = own.min(self.ends_at.unwrap_or(Instant::NEVER)).max(self.runs_at);
        own.min(self.up.next()).min(self.down.next())
    }

    /// Takes what came over the line and from the server, and passes it on.
    pub(super) fn turn(&mut self, world: &mut World) {
        let now = world.now;
        self.uart.extend(self.down.read(now));
        self.uart.truncate(UART);
        let came = self.up.read(now);
        if now < self.runs_at {
            return;
        }
        self.hear(world, &came);
        self.pass_on(world);
        let mut packet = [0; output_room(PACKET)];
        loop {
            match self.link.output(now, &mut packet) {
                Ok(0) => break,
                Ok(length) => self.send_down(now, &packet[..length]),
                Err(_) => self.begin(world),
            }
        }
    }

    fn hear(&mut self, world: &mut World, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (used, event) = self.link.input(world.now, bytes, usize::MAX);
            bytes = &bytes[used..];
            match event {
                Some(Event::Data(data)) => {
                    let wire = world.wire.unwrap_or_else(|| world.connect());
                    let World { now, wires, random, .. } = world;
                    if let Some(wire) = wires.get_mut(&wire) {
                        wire.up.write(*now, data, random);
                    }
                }
                Some(Event::Up | Event::Reset) => self.part(world),
                None => {}
            }
        }
    }

    fn pass_on(&mut self, world: &mut World) {
        let World { now, wires, wire, .. } = world;
        if let Some(wire) = wire.and_then(|wire| wires.get_mut(&wire)) {
            self.waiting.extend(wire.down.read(*now));
            if wire.down.has_ended(*now) && self.ends_at.is_none() {
                self.ends_at = Some(now.after(LAST_WORDS));
            }
        }
        let count = self.link.send(*now, self.waiting.make_contiguous());
        self.waiting.drain(..count);
        let is_told = self.link.state() != State::Up || (self.waiting.is_empty() && self.link.room() > 0);
        if self.ends_at.is_some_and(|at| is_told || at <= *now) {
            self.begin(world);
        }
    }

    /// Begins anew on the line: the device learns that its session is over.
    fn begin(&mut self, world: &mut World) {
        self.part(world);
        self.link.open(world.now, world.random.number() as u32);
    }

    /// Leaves the connection to the server.
    fn part(&mut self, world: &mut World) {
        self.waiting.clear();
        self.ends_at = None;
        if let Some(wire) = world.wire {
            world.close(wire);
        }
    }

    fn send_down(&mut self, now: Instant, bytes: &[u8]) {
        if !self.is_unplugged {
            self.down.write(now, self.noise.wear(bytes));
        }
    }

    fn send_up(&mut self, now: Instant, bytes: &[u8]) {
        if !self.is_unplugged {
            self.up.write(now, self.noise.wear(bytes));
        }
    }

    /// How many bytes the noise has hit since it was last changed.
    pub(super) fn hit(&self) -> u32 {
        self.noise.hit as u32
    }

    /// The device is reset in the middle of what it sends.
    pub(super) fn tear(&mut self, random: &mut Random) {
        if let Some((_, bytes)) = self.up.under_way.back_mut() {
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        }
    }

    /// A fault of the line or of the gateway; one that stays is over `until` at the latest, when this is called again.
    pub(super) fn fault(&mut self, world: &mut World, until: Instant) {
        let (now, random) = (world.now, &mut world.random);
        match random.below(4) {
            // A wrong speed is the worst of them: no byte is what it was.
            0 => self.set_noise(random.number(), [3_000, 300, 30, 1][random.below(4) as usize]),
            1 => self.is_unplugged = true,
            2 => {
                let garbage: Vec<_> = (0..random.below(600)).map(|_| random.number() as u8).collect();
                self.send_up(now, &garbage);
                self.send_down(now, &garbage);
            }
            _ => {
                self.runs_at = until;
                if let Some(wire) = world.wire.and_then(|wire| world.wires.get_mut(&wire)) {
                    wire.cut(now, &mut world.random);
                }
                self.begin(world);
            }
        }
    }

    /// The line is as good as new.
    pub(super) fn mend(&mut self) {
        self.is_unplugged = false;
        self.set_noise(0, 0);
    }

    fn set_noise(&mut self, seed: u64, once_in: u64) {
        self.noise = Noise::new(seed, once_in);
    }
}

/// The device's end of the line.
pub(super) struct Uart<'w>(pub(super) &'w RefCell<World>);

impl ErrorType for Uart<'_> {
    type Error = Infallible;
}

impl Read for Uart<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|_| {
            let mut world = self.0.borrow_mut();
            let Some(gateway) = &mut world.gateway else { return Poll::Pending };
            let count = buffer.len().min(gateway.uart.len()).min(READ);
            buffer.iter_mut().zip(gateway.uart.drain(..count)).for_each(|(to, from)| *to = from);
            if count > 0 { Poll::Ready(Ok(count)) } else { Poll::Pending }
        })
        .await
    }
}

impl Write for Uart<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        if let Some(gateway) = &mut world.gateway {
            gateway.send_up(now, bytes);
        }
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
