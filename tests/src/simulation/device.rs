//! A device: a client's session, with an outbox and an inbox that survive it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol_core::{
    code::{CloseReason, ConnectionKind},
    message::{BootId, Close, Echo, Hello, Message, OLDEST_VERSION, StreamId, VERSION, Welcome, Window},
    session::{Client, Event, SendError, Session, State},
    time::Instant,
};

use super::{
    Broken, Content, INTERVAL, TIMEOUT,
    wire::{Wire, seconds},
};
use crate::random::Random;

/// The largest frame that the device takes, in bytes.
const MAX_FRAME: u16 = 1024;

/// What the device grants the server.
const WINDOW: Window = Window { messages: 4, bytes: 2_048 };

/// What is on the device's disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// The stream that new messages go to, and the number of the next.
    stream: StreamId,
    next: u64,
    /// All messages ever made: the outbox of this device forgets nothing.
    pub(super) outbox: Vec<Entry>,
    /// The highest number taken of each of the server's streams.
    highest: BTreeMap<StreamId, u64>,
    pub(super) inbox: Vec<Content>,
}

/// A message in the outbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    stream: StreamId,
    number: u64,
    pub(super) content: Content,
    is_echoed: bool,
}

/// A device, running or not.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) disk: Disk,
    boot: BootId,
    /// When it runs again: it is off, or stopped, until then.
    pub(super) runs_at: Instant,
    pub(super) connects_at: Instant,
    pub(super) line: Option<Line>,
    /// How often a session of it was opened.
    pub(super) sessions: u32,
}

/// A connection, as the device has it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) wire: usize,
    session: Session<Client>,
    input: Vec<u8>,
    /// What is to be sent on this connection, and what waits for its echo: places in the outbox.
    waiting: VecDeque<usize>,
    in_flight: VecDeque<usize>,
    heard_at: Instant,
}

impl Device {
    pub(super) fn new(now: Instant, random: &mut Random) -> Self {
        let stream = StreamId(random.number());
        let disk = Disk { stream, next: 1, outbox: Vec::new(), highest: BTreeMap::new(), inbox: Vec::new() };
        Self::start(disk, now, random)
    }

    /// A start of a device with this disk.
    pub(super) fn start(disk: Disk, now: Instant, random: &mut Random) -> Self {
        let boot = BootId(random.number());
        Self { disk, boot, runs_at: now, connects_at: now, line: None, sessions: 0 }
    }

    /// Ends at once and starts again at `at`, with what is on disk. Gives the wire that it held.
    pub(super) fn crash(&mut self, at: Instant, random: &mut Random) -> Option<usize> {
        self.boot = BootId(random.number());
        (self.runs_at, self.connects_at) = (at, at);
        self.line.take().map(|line| line.wire)
    }

    /// A program on the device makes a message: it is on disk.
    pub(super) fn make(&mut self, content: Content) {
        if self.is_online()
            && let Some(line) = &mut self.line
        {
            line.waiting.push_back(self.disk.outbox.len());
        }
        let (stream, number) = (self.disk.stream, self.disk.next);
        self.disk.outbox.push(Entry { stream, number, content, is_echoed: false });
        self.disk.next += 1;
    }

    /// Begins a connection over `wire`.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        id: usize,
        wire: &mut Wire,
        random: &mut Random,
    ) -> Result<(), Broken> {
        let mut session = Session::client(MAX_FRAME);
        let hello = Hello {
            oldest_version: OLDEST_VERSION,
            newest_version: VERSION,
            kind: ConnectionKind::Control,
            boot: self.boot,
            stream: self.disk.stream,
            max_frame: MAX_FRAME,
            window: WINDOW,
        };
        let mut buffer = [0; 256];
        let length = session.open(now, seconds(TIMEOUT), &hello, &mut buffer)?;
        wire.up.write(now, &buffer[..length], random);
        let (waiting, in_flight) = (VecDeque::new(), VecDeque::new());
        self.line = Some(Line { wire: id, session, input: Vec::new(), waiting, in_flight, heard_at: now });
        Ok(())
    }

    /// Whether a session is open.
    pub(super) fn is_online(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.session.state() == State::Open)
    }

    /// When the device must do something, its wire left out.
    pub(super) fn next(&self) -> Instant {
        let due = match &self.line {
            Some(line) => line.session.timeout().unwrap_or(Instant::NEVER),
            None => self.connects_at,
        };
        due.max(self.runs_at)
    }

    /// Does all that can be done now. Gives whether the connection has ended.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        random: &mut Random,
    ) -> Result<bool, Broken> {
        let Some(mut line) = self.line.take() else { return Ok(false) };
        let came = wire.down.read(now);
        if !came.is_empty() {
            line.heard_at = now;
        }
        line.input.extend(came);
        let mut wait = random.up_to(5_000);
        let mut has_ended = wire.down.has_ended(now);
        loop {
            let (used, event) = line.session.input(now, &line.input)?;
            let mut echo = None;
            match event {
                Some(Event::Welcome(welcome)) => {
                    line.waiting = self.disk.to_send(&welcome);
                    self.sessions += 1;
                }
                Some(Event::Message(message)) => echo = Some(self.disk.take(&message)?),
                Some(Event::Echo(echo)) => self.disk.echoed(&mut line.in_flight, echo),
                Some(Event::Closed(close)) => {
                    has_ended = true;
                    wait = wait.plus(seconds(close.retry_after));
                    self.disk.closed(&close, random);
                }
                Some(event) => {
                    if let Event::Hello(_) | Event::Notice(_) = event {
                        return Err(Broken::new(format!("a device was told {event:?}")));
                    }
                }
                None => {}
            }
            if let Some(Echo { stream, number }) = echo
                && !line.session.echo(stream, number)
            {
                return Err(Broken::new("a message was not waiting for its echo"));
            }
            if used == 0 {
                break;
            }
            line.input.drain(..used);
        }
        if line.input.len() > usize::from(MAX_FRAME) {
            return Err(Broken::new(format!("the device buffers {} bytes", line.input.len())));
        }
        has_ended |= !self.speak(now, &mut line, wire, random)?;
        if has_ended {
            wire.up.close(now, random);
            self.connects_at = now.after(wait);
        } else {
            line.check(now, self.runs_at)?;
            self.line = Some(line);
        }
        Ok(has_ended)
    }

    /// Sends what is due and what fits. Gives whether the peer is still there.
    fn speak(
        &self,
        now: Instant,
        line: &mut Line,
        wire: &mut Wire,
        random: &mut Random,
    ) -> Result<bool, Broken> {
        let mut buffer = [0; 2_048];
        while let Some(at) = line.waiting.front().copied() {
            let entry = self.disk.outbox[at];
            let body = entry.content.body();
            let message = entry.content.message(entry.stream, entry.number, &body);
            match line.session.message(now, &message, &mut buffer) {
                Ok(length) => {
                    wire.up.write(now, &buffer[..length], random);
                    line.in_flight.extend(line.waiting.pop_front());
                }
                Err(SendError::WindowFull | SendError::OutOfOrder { .. } | SendError::NotOpen) => break,
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            match line.session.output(now, &mut buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => wire.up.write(now, &buffer[..length], random),
                Err(_) => return Ok(false),
            }
        }
    }
}

impl Line {
    /// After a turn: the next timer lies ahead, and the server was heard within the bound.
    fn check(&self, now: Instant, woke_at: Instant) -> Result<(), Broken> {
        if self.session.timeout().is_some_and(|due| due <= now) {
            return Err(Broken::new("a timer of the device lies in the past after its output"));
        }
        let bound = seconds(INTERVAL + TIMEOUT);
        if now.since(self.heard_at.max(woke_at)) > bound {
            return Err(Broken::new("the device believes in a server that is silent"));
        }
        Ok(())
    }
}

impl Disk {
    /// What a new connection sends: all that is not echoed, and what the server has lost since it echoed it.
    fn to_send(&self, welcome: &Welcome<'_>) -> VecDeque<usize> {
        let is_due = |entry: &Entry| {
            entry.stream == self.stream && (!entry.is_echoed || entry.number > welcome.archived)
        };
        (0..self.outbox.len()).filter(|at| is_due(&self.outbox[*at])).collect()
    }

    /// Takes a message from the server, once.
    fn take(&mut self, message: &Message<'_>) -> Result<Echo, Broken> {
        let highest = self.highest.entry(message.stream).or_default();
        if message.number > *highest {
            *highest = message.number;
            let content = Content::of(message)?;
            if self.inbox.contains(&content) {
                return Err(Broken::new(format!("{content:?} came to the device twice")));
            }
            self.inbox.push(content);
        }
        Ok(Echo { stream: message.stream, number: message.number })
    }

    fn echoed(&mut self, in_flight: &mut VecDeque<usize>, echo: Echo) {
        let Self { outbox, .. } = self;
        while let Some(at) = in_flight.pop_front_if(|at| outbox[*at].number <= echo.number) {
            outbox[at].is_echoed = true;
        }
    }

    /// After a conflict all that is not echoed goes to a new stream.
    fn closed(&mut self, close: &Close<'_>, random: &mut Random) {
        if close.reason != CloseReason::Conflict {
            return;
        }
        (self.stream, self.next) = (StreamId(random.number()), 1);
        for entry in self.outbox.iter_mut().filter(|entry| !entry.is_echoed) {
            (entry.stream, entry.number) = (self.stream, self.next);
            self.next += 1;
        }
    }

    /// What was made, by content.
    pub(super) fn contents(&self) -> BTreeSet<Content> {
        self.outbox.iter().map(|entry| entry.content).collect()
    }
}
