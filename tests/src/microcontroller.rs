//! A microcontroller at the end of a serial line: the core's link and session, and a queue that a reset empties.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use protocol_core::{
    code::{CloseReason, ConnectionKind},
    message::{self, BootId, Close, Hello, Kind, Message, StreamId, Window},
    serial::{self, Link, Retries, State as LinkState, output_room},
    session::{Client, Event, OPENING_MAX_FRAME, Session, State},
    time::{self, Instant},
};

use crate::{random::Random, serial_line::SerialLine, wait};

/// The largest payload of a packet, either way.
const PAYLOAD: usize = 58;
/// The largest packet.
const PACKET: usize = PAYLOAD + 6;
/// The largest frame that it takes.
const MAX_FRAME: u16 = 512;
/// How long it waits before it tries again: real ones wait for longer.
const PAUSE: time::Duration = time::Duration::from_millis(150);
/// How long it waits once it was revoked, as real ones do.
const REVOKED_PAUSE: time::Duration = time::Duration::from_secs(300);
/// How long the welcome may take.
const OPENING_LIMIT: time::Duration = time::Duration::from_secs(5);

/// What a microcontroller has seen since its power was switched on; its resets change nothing in it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How often it was welcomed.
    pub welcomes: usize,
    /// The texts of its messages that the server has echoed, in their order.
    pub echoed: Vec<String>,
    /// The texts of the server's messages, each once.
    pub received: Vec<String>,
    /// Why the server has closed its sessions.
    pub farewells: Vec<(CloseReason, String)>,
}

/// What it is told to do.
#[derive(Debug)]
enum Order {
    Send(String),
    Reset,
    Say(Vec<u8>),
    Stop,
}

#[derive(Debug, Default)]
struct Shared {
    orders: Mutex<VecDeque<Order>>,
    seen: Mutex<Seen>,
}

/// A microcontroller that runs until it is dropped.
#[derive(Debug)]
pub struct Microcontroller {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Microcontroller {
    /// Switches one on, at the end of this line. `seed` makes its random numbers.
    pub fn start(line: &Arc<SerialLine>, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let (line, theirs) = (Arc::clone(line), Arc::clone(&shared));
        let thread = thread::spawn(move || Firmware::new(&line, &theirs, seed).run());
        Self { shared, thread: Some(thread) }
    }

    /// Puts a text into its queue.
    pub fn send(&self, text: &str) {
        self.order(Order::Send(text.to_owned()));
    }

    /// Presses its reset button: it forgets its queue and all that was, in the middle of whatever it sends.
    pub fn reset(&self) {
        self.order(Order::Reset);
    }

    /// Puts these bytes on the line, as they are.
    pub fn say(&self, bytes: &[u8]) {
        self.order(Order::Say(bytes.to_vec()));
    }

    /// What it has seen.
    pub fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }

    /// Waits until what it has seen is good by `is_good`, and gives that.
    ///
    /// # Panics
    /// It is not in time.
    #[track_caller]
    pub fn wait(&self, what: &str, is_good: impl Fn(&Seen) -> bool) -> Seen {
        wait::until(what, || self.seen(), is_good)
    }

    /// Waits until this many of its messages are echoed.
    ///
    /// # Panics
    /// They are not in time.
    #[track_caller]
    pub fn wait_echoed(&self, count: usize) -> Seen {
        self.wait(&format!("{count} messages are echoed"), |seen| seen.echoed.len() >= count)
    }

    fn order(&self, order: Order) {
        lock(&self.shared.orders).push_back(order);
    }
}

impl Drop for Microcontroller {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the microcontroller has failed");
        }
    }
}

/// What runs on it.
struct Firmware<'a> {
    line: &'a SerialLine,
    shared: &'a Shared,
    started: std::time::Instant,
    random: Random,
    memory: Memory,
    link: Link<[u8; PACKET]>,
    session: Option<Session<Client>>,
    /// Bytes that came over the link, and that are to go over it.
    input: Vec<u8>,
    output: Vec<u8>,
    /// When the link is opened; nothing while it is.
    open_at: Option<Instant>,
    stop: bool,
}

/// What it keeps in RAM.
struct Memory {
    boot: BootId,
    stream: StreamId,
    queue: VecDeque<String>,
    /// The number of the first in the queue, and of the next to be sent.
    first: u64,
    next: u64,
    /// The newest message that was taken, by its stream and number.
    taken: Option<(StreamId, u64)>,
}

impl Memory {
    fn new(random: &mut Random) -> Self {
        let (boot, stream) = (BootId(random.number()), StreamId(random.number()));
        Self { boot, stream, queue: VecDeque::new(), first: 1, next: 1, taken: None }
    }
}

impl<'a> Firmware<'a> {
    fn new(line: &'a SerialLine, shared: &'a Shared, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let memory = Memory::new(&mut random);
        let retries = Retries { resend: time::Duration::from_millis(100), attempts: 20 };
        Self {
            line,
            shared,
            started: std::time::Instant::now(),
            random,
            memory,
            link: Link::new(retries, [0; PACKET], [0; PACKET]),
            session: None,
            input: Vec::new(),
            output: Vec::new(),
            open_at: Some(Instant::from_micros(0)),
            stop: false,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn run(&mut self) {
        while !self.stop {
            self.take_orders();
            if self.open_at.is_some_and(|due| due <= self.now()) {
                self.open_at = None;
                self.link.open(self.now(), self.random.number() as u32);
            }
            if self.turn().is_none() {
                self.part();
            }
            let bytes = self.line.read(Duration::from_millis(5));
            self.hear(&bytes);
        }
    }

    fn take_orders(&mut self) {
        let orders = std::mem::take(&mut *lock(&self.shared.orders));
        for order in orders {
            match order {
                Order::Send(text) => self.memory.queue.push_back(text),
                Order::Say(bytes) => self.line.write(&bytes),
                Order::Stop => self.stop = true,
                Order::Reset => {
                    // The beginning of a packet that never ends.
                    self.line.write(&[0, 40, 0x44, 1, 2, 3]);
                    self.memory = Memory::new(&mut self.random);
                    self.part();
                    self.open_at = Some(self.now());
                }
            }
        }
    }

    /// The session over the link is over; another is tried after a pause.
    fn part(&mut self) {
        self.session = None;
        self.input.clear();
        self.output.clear();
        let is_revoked = lock(&self.shared.seen)
            .farewells
            .last()
            .is_some_and(|(reason, _)| *reason == CloseReason::Revoked);
        self.open_at = Some(self.now().after(if is_revoked { REVOKED_PAUSE } else { PAUSE }));
    }

    /// Takes what came over the line.
    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (used, event) = self.link.input(self.now(), bytes, usize::from(MAX_FRAME));
            match event {
                Some(serial::Event::Data(data)) => self.input.extend_from_slice(data),
                Some(serial::Event::Up) => self.greet(),
                Some(serial::Event::Reset) => self.part(),
                None => {}
            }
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// Opens a session over the link.
    fn greet(&mut self) {
        self.input.clear();
        self.open_at = None;
        let mut session = Session::client(MAX_FRAME);
        let hello = Hello {
            oldest_version: message::OLDEST_VERSION,
            newest_version: message::VERSION,
            kind: ConnectionKind::Control,
            boot: self.memory.boot,
            stream: self.memory.stream,
            max_frame: MAX_FRAME,
            window: Window { messages: 2, bytes: 512 },
        };
        let mut buffer = [0; OPENING_MAX_FRAME as usize];
        let length = session.open(self.now(), OPENING_LIMIT, &hello, &mut buffer).expect("a hello fits");
        self.output = buffer[..length].to_vec();
        self.session = Some(session);
    }

    /// Input, then output; nothing if the session or the link is over.
    fn turn(&mut self) -> Option<()> {
        while self.step()? {}
        self.speak()?;
        let now = self.now();
        let count = self.link.send(now, &self.output);
        self.output.drain(..count);
        let mut packet = [0; output_room(PACKET)];
        while let length @ 1.. = self.link.output(now, &mut packet).ok()? {
            self.line.write(&packet[..length]);
        }
        Some(())
    }

    /// One frame of the server's. Gives whether there was one.
    fn step(&mut self) -> Option<bool> {
        let now = self.now();
        let Some(session) = &mut self.session else { return Some(false) };
        let (used, event) = session.input(now, &self.input).ok()?;
        let mut seen = lock(&self.shared.seen);
        let mut echo = None;
        match event {
            Some(Event::Welcome(_)) => {
                seen.welcomes += 1;
                self.memory.next = self.memory.first;
            }
            Some(Event::Echo(echo)) => {
                while self.memory.first <= echo.number {
                    seen.echoed.extend(self.memory.queue.pop_front());
                    self.memory.first += 1;
                }
            }
            Some(Event::Message(message)) => {
                let id = (message.stream, message.number);
                if self.memory.taken != Some(id) {
                    seen.received.push(String::from_utf8_lossy(message.body).into_owned());
                }
                self.memory.taken = Some(id);
                echo = Some(id);
            }
            Some(Event::Closed(Close { reason, detail, .. })) => {
                seen.farewells.push((reason, detail.as_str().to_owned()));
            }
            _ => {}
        }
        drop(seen);
        if let Some((stream, number)) = echo {
            session.echo(stream, number);
        }
        self.input.drain(..used);
        match session.state() {
            // It still acknowledges what it was told, before it comes back.
            State::Ended => None,
            _ => Some(used > 0),
        }
    }

    /// All that the session has to say.
    fn speak(&mut self) -> Option<()> {
        let now = self.now();
        let Some(session) = &mut self.session else { return Some(()) };
        let mut buffer = [0; MAX_FRAME as usize];
        while let length @ 1.. = session.output(now, &mut buffer).ok()? {
            self.output.extend_from_slice(&buffer[..length]);
        }
        let is_open = session.state() == State::Open && self.link.state() == LinkState::Up;
        while is_open && self.output.len() < usize::from(MAX_FRAME) {
            let at = usize::try_from(self.memory.next - self.memory.first).unwrap_or(usize::MAX);
            let Some(text) = self.memory.queue.get(at) else { break };
            let (stream, number) = (self.memory.stream, self.memory.next);
            let message = Message { stream, number, time: 0, kind: Kind::TEXT, body: text.as_bytes() };
            // Where the window is full the next echo makes room.
            let Ok(length) = session.message(now, &message, &mut buffer) else { break };
            self.output.extend_from_slice(&buffer[..length]);
            self.memory.next += 1;
        }
        Some(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
