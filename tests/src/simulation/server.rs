//! The server: sessions, a registry of one device, and an archive that survives them.

use std::collections::{BTreeMap, VecDeque};

use protocol_core::{
    code::CloseReason,
    frame::{self, Decoded, MAX_FRAME},
    message::{
        self, BootId, Close, Echo, Hello, Kind, Message, StoreId, StreamId, Text, VERSION, Welcome, Window,
    },
    session::{Event, SendError, Server as ServerRole, Session, State},
    tag::Tag,
    time::Instant,
};

use super::{
    Broken, Content, INTERVAL, Sabotage, TIMEOUT,
    wire::{Wire, seconds},
};
use crate::random::Random;

/// The largest frame that the server takes, in bytes.
const LARGEST: u16 = 2_048;

/// What the server grants a device.
const WINDOW: Window = Window { messages: 8, bytes: 4_096 };

/// How long an old connection has to show that it lives when another boot of its device comes.
const VERDICT: u32 = 5;

/// How long a clone is sent away for.
const CLONE_WAIT: u32 = 300;

/// What is on the server's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Messages from devices.
    pub(super) archive: Vec<Row>,
    highest: BTreeMap<StreamId, u64>,
    /// Messages to the device, oldest first.
    pub(super) outgoing: Vec<Outgoing>,
}

/// A message from a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    stream: StreamId,
    number: u64,
    pub(super) content: Content,
}

/// A message to the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    stream: StreamId,
    number: u64,
    pub(super) kind: Kind<'static>,
    pub(super) content: Content,
    pub(super) is_done: bool,
}

/// The server, running or not.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) disk: Disk,
    /// Drawn at each start: a restored disk never uses a number again.
    stream: StreamId,
    next: u64,
    pub(super) runs_at: Instant,
    lines: BTreeMap<usize, Line>,
    /// What came and is not committed, oldest first.
    pending: VecDeque<Pending>,
    commits_at: Instant,
    sabotage: Option<Sabotage>,
}

#[derive(Debug)]
struct Pending {
    wire: usize,
    row: Row,
}

/// A connection, as the server has it.
#[derive(Debug)]
struct Line {
    session: Session<ServerRole>,
    input: Vec<u8>,
    hello: Option<Hello>,
    /// Another boot of the device holds the older wire: until then it may show that it lives.
    verdict: Option<(Instant, usize)>,
    heard_at: Instant,
    /// Places in `outgoing`: the next to send on this connection, and those that wait for their echo.
    next: usize,
    in_flight: VecDeque<usize>,
    /// It ends at the end of its turn.
    has_ended: bool,
}

/// What a message is to the archive.
enum Archived {
    Echo,
    Conflict,
}

impl Server {
    pub(super) fn new(sabotage: Option<Sabotage>, random: &mut Random) -> Self {
        Self {
            disk: Disk::default(),
            stream: StreamId(random.number()),
            next: 1,
            runs_at: Instant::from_micros(0),
            lines: BTreeMap::new(),
            pending: VecDeque::new(),
            commits_at: Instant::NEVER,
            sabotage,
        }
    }

    /// Ends at once and starts again at `at`, with what is on disk. Gives the wires that it held.
    pub(super) fn crash(&mut self, at: Instant, random: &mut Random) -> Vec<usize> {
        let lines = std::mem::take(&mut self.lines);
        let disk = std::mem::take(&mut self.disk);
        *self = Self { disk, runs_at: at, ..Self::new(self.sabotage, random) };
        lines.into_keys().collect()
    }

    /// An operator sends the device a message.
    pub(super) fn make(&mut self, kind: Kind<'static>, content: Content) {
        let (stream, number) = (self.stream, self.next);
        self.disk.outgoing.push(Outgoing { stream, number, kind, content, is_done: false });
        self.next += 1;
    }

    pub(super) fn accept(&mut self, now: Instant, wire: usize) {
        let line = Line {
            session: Session::server(now, seconds(TIMEOUT)),
            input: Vec::new(),
            hello: None,
            verdict: None,
            heard_at: now,
            next: 0,
            in_flight: VecDeque::new(),
            has_ended: false,
        };
        self.lines.insert(wire, line);
    }

    /// Whether the device is shown as online.
    pub(super) fn shows_online(&self) -> bool {
        self.lines.values().any(|line| line.session.state() == State::Open)
    }

    pub(super) fn wires(&self) -> impl Iterator<Item = usize> {
        self.lines.keys().copied()
    }

    /// When the server must do something, its wires left out.
    pub(super) fn next(&self) -> Instant {
        let timers = self.lines.values().filter_map(|line| line.session.timeout());
        let verdicts = self.lines.values().filter_map(|line| line.verdict).map(|(until, _)| until);
        let due = timers.chain(verdicts).min().unwrap_or(Instant::NEVER);
        due.min(self.commits_at).max(self.runs_at)
    }

    /// Does all that can be done now.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        wires: &mut BTreeMap<usize, Wire>,
        random: &mut Random,
    ) -> Result<(), Broken> {
        for wire in self.lines.keys().copied().collect::<Vec<_>>() {
            self.hear(now, wire, wires, random)?;
        }
        if self.commits_at <= now {
            self.commit(now, wires, random)?;
        }
        self.decide(now, wires, random)?;
        for wire in self.lines.keys().copied().collect::<Vec<_>>() {
            self.speak(now, wire, wires, random)?;
        }
        self.lines.retain(|_, line| !line.has_ended);
        self.check(now)
    }

    /// Takes what came on one wire.
    fn hear(
        &mut self,
        now: Instant,
        wire: usize,
        wires: &mut BTreeMap<usize, Wire>,
        random: &mut Random,
    ) -> Result<(), Broken> {
        let (Some(line), Some(pipes)) = (self.lines.get_mut(&wire), wires.get_mut(&wire)) else {
            return Ok(());
        };
        let came = pipes.up.read(now);
        if !came.is_empty() {
            line.heard_at = now;
        }
        line.input.extend(came);
        line.has_ended |= pipes.up.has_ended(now);
        while !line.has_ended {
            let (used, event) = line.session.input(now, &line.input)?;
            match event {
                Some(Event::Hello(hello)) => line.hello = Some(hello),
                Some(Event::Message(message)) => {
                    let content = Content::of(&message)?;
                    let row = Row { stream: message.stream, number: message.number, content };
                    self.pending.push_back(Pending { wire, row });
                    self.commits_at = self.commits_at.min(now.after(random.up_to(50)));
                }
                Some(Event::Echo(echo)) => {
                    let outgoing = &mut self.disk.outgoing;
                    while let Some(at) = line.in_flight.pop_front_if(|at| outgoing[*at].number <= echo.number)
                    {
                        outgoing[at].is_done = true;
                    }
                }
                Some(Event::Closed(_)) => line.has_ended = true,
                Some(Event::Notice(notice)) if [Tag::FACTS, Tag::STATUS].contains(&notice.tag) => {}
                Some(event @ (Event::Welcome(_) | Event::Notice(_))) => {
                    return Err(Broken::new(format!("the server was told {event:?}")));
                }
                Some(Event::Pong { .. }) | None => {}
            }
            if used == 0 {
                break;
            }
            line.input.drain(..used);
        }
        if self.sabotage == Some(Sabotage::EchoBeforeCommit) {
            for Pending { row, .. } in self.pending.iter().filter(|pending| pending.wire == wire) {
                line.session.echo(row.stream, row.number);
            }
        }
        Ok(())
    }

    /// Writes what waits to disk, and echoes it.
    fn commit(
        &mut self,
        now: Instant,
        wires: &mut BTreeMap<usize, Wire>,
        random: &mut Random,
    ) -> Result<(), Broken> {
        self.commits_at = Instant::NEVER;
        let mut refused = Vec::new();
        for Pending { wire, row } in std::mem::take(&mut self.pending) {
            if refused.contains(&wire) {
                continue;
            }
            let archived = self.archive(row)?;
            if matches!(archived, Archived::Conflict) {
                // Also where the connection is gone by now: nothing more of it is archived.
                refused.push(wire);
            }
            let Some(line) = self.lines.get_mut(&wire) else { continue };
            match archived {
                Archived::Echo => _ = line.session.echo(row.stream, row.number),
                Archived::Conflict => {
                    // The echoes of what came before it go first: what they name is not sent again.
                    self.speak(now, wire, wires, random)?;
                    self.close(now, wire, CloseReason::Conflict, 1, wires, random);
                }
            }
        }
        Ok(())
    }

    fn archive(&mut self, row: Row) -> Result<Archived, Broken> {
        let Disk { archive, highest, .. } = &mut self.disk;
        let highest = highest.entry(row.stream).or_default();
        if row.number > *highest || self.sabotage == Some(Sabotage::ForgetNumbers) {
            *highest = row.number;
            if archive.iter().any(|other| other.content == row.content) {
                return Err(Broken::new(format!("{:?} was archived twice", row.content)));
            }
            archive.push(row);
            return Ok(Archived::Echo);
        }
        let same = |other: &&Row| (other.stream, other.number) == (row.stream, row.number);
        Ok(match archive.iter().find(same) {
            Some(other) if other.content == row.content => Archived::Echo,
            _ => Archived::Conflict,
        })
    }

    /// Answers hellos: the newest connection wins, unless another boot holds a connection that lives.
    fn decide(
        &mut self,
        now: Instant,
        wires: &mut BTreeMap<usize, Wire>,
        random: &mut Random,
    ) -> Result<(), Broken> {
        for wire in self.lines.keys().copied().collect::<Vec<_>>() {
            let Some(line) = self.lines.get(&wire) else { continue };
            let Some(hello) = line.hello.filter(|_| line.session.state() == State::Deciding) else {
                continue;
            };
            let open = |(wire, line): (&usize, &Line)| {
                (line.session.state() == State::Open && !line.has_ended).then_some((
                    *wire,
                    line.boot(),
                    line.heard_at,
                ))
            };
            match (self.lines.iter().find_map(open), line.verdict) {
                (None, _) => self.welcome(now, wire, hello, wires, random)?,
                (Some((old, boot, _)), _) if boot == Some(hello.boot) => {
                    self.close(now, old, CloseReason::Replaced, 0, wires, random);
                    self.welcome(now, wire, hello, wires, random)?;
                }
                (Some((old, _, heard_at)), Some((until, doubted))) if old == doubted => {
                    if heard_at.after(seconds(VERDICT)) > until {
                        self.close(now, wire, CloseReason::Clone, CLONE_WAIT, wires, random);
                    } else if until <= now {
                        self.close(now, old, CloseReason::Silent, 0, wires, random);
                        self.welcome(now, wire, hello, wires, random)?;
                    }
                }
                (Some((old, ..)), _) => {
                    let verdict = Some((now.after(seconds(VERDICT)), old));
                    self.lines.entry(wire).and_modify(|line| line.verdict = verdict);
                    self.lines.entry(old).and_modify(|line| line.session.ping());
                }
            }
        }
        Ok(())
    }

    fn welcome(
        &mut self,
        now: Instant,
        wire: usize,
        hello: Hello,
        wires: &mut BTreeMap<usize, Wire>,
        random: &mut Random,
    ) -> Result<(), Broken> {
        let welcome = Welcome {
            version: VERSION,
            interval: INTERVAL * 1_000,
            timeout: TIMEOUT * 1_000,
            max_frame: LARGEST,
            window: WINDOW,
            store: StoreId(1),
            archived: self.disk.highest.get(&hello.stream).copied().unwrap_or(0),
            time: 0,
            name: Text::default(),
        };
        let (Some(line), Some(pipes)) = (self.lines.get_mut(&wire), wires.get_mut(&wire)) else {
            return Ok(());
        };
        let mut buffer = [0; 256];
        // The answer to the PING that came before the hello goes first.
        while let length @ 1.. = line.session.output(now, &mut buffer)? {
            pipes.down.write(now, &buffer[..length], random);
        }
        let length = line.session.welcome(now, &welcome, &mut buffer)?;
        pipes.down.write(now, &buffer[..length], random);
        (line.verdict, line.heard_at) = (None, now);
        Ok(())
    }

    fn close(
        &mut self,
        now: Instant,
        wire: usize,
        reason: CloseReason,
        retry_after: u32,
        wires: &mut BTreeMap<usize, Wire>,
        random: &mut Random,
    ) {
        let (Some(line), Some(pipes)) = (self.lines.get_mut(&wire), wires.get_mut(&wire)) else { return };
        let mut buffer = [0; 256];
        let length = line.session.close(&Close { reason, retry_after, detail: Text::default() }, &mut buffer);
        pipes.down.write(now, &buffer[..length], random);
        pipes.down.close(now, random);
        line.has_ended = true;
    }

    /// Sends what is due and what fits.
    fn speak(
        &mut self,
        now: Instant,
        wire: usize,
        wires: &mut BTreeMap<usize, Wire>,
        random: &mut Random,
    ) -> Result<(), Broken> {
        let (Some(line), Some(pipes)) = (self.lines.get_mut(&wire), wires.get_mut(&wire)) else {
            return Ok(());
        };
        let mut buffer = [0; LARGEST as usize];
        while !line.has_ended
            && line.session.state() == State::Open
            && let Some(outgoing) = self.disk.outgoing.get(line.next)
        {
            if outgoing.is_done {
                line.next += 1;
                continue;
            }
            let body = outgoing.content.body();
            let message = Message {
                kind: outgoing.kind,
                ..outgoing.content.message(outgoing.stream, outgoing.number, &body)
            };
            match line.session.message(now, &message, &mut buffer) {
                Ok(length) => {
                    pipes.down.write(now, &buffer[..length], random);
                    line.in_flight.push_back(line.next);
                    line.next += 1;
                }
                Err(SendError::WindowFull | SendError::OutOfOrder { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        while !line.has_ended {
            match line.session.output(now, &mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    self.disk.check_echo(&buffer[..length])?;
                    pipes.down.write(now, &buffer[..length], random);
                }
                Err(_) if self.sabotage == Some(Sabotage::KeepGhosts) => break,
                Err(_) => line.has_ended = true,
            }
        }
        if line.has_ended {
            pipes.down.close(now, random);
        }
        Ok(())
    }

    /// What holds after each turn.
    fn check(&self, now: Instant) -> Result<(), Broken> {
        let mut online = 0;
        for (wire, line) in &self.lines {
            if line.session.timeout().is_some_and(|due| due <= now) {
                return Err(Broken::new("a timer of the server lies in the past after its output"));
            }
            let pending = self.pending.iter().filter(|pending| pending.wire == *wire).count();
            if line.input.len() > usize::from(LARGEST) || pending > usize::from(WINDOW.messages) {
                let length = line.input.len();
                return Err(Broken::new(format!(
                    "the server holds {length} bytes and {pending} messages of a peer"
                )));
            }
            if line.session.state() == State::Open {
                online += 1;
            }
            // Before the welcome the deadlines are the hello's, then the verdict's: shorter both.
            if now.since(line.heard_at) > seconds(INTERVAL + TIMEOUT) {
                return Err(Broken::new("the server shows a device that is silent"));
            }
        }
        if online > 1 {
            return Err(Broken::new("the device is online twice"));
        }
        Ok(())
    }
}

impl Line {
    fn boot(&self) -> Option<BootId> {
        self.hello.map(|hello| hello.boot)
    }
}

impl Disk {
    /// What goes out as an echo is on disk.
    fn check_echo(&self, output: &[u8]) -> Result<(), Broken> {
        let Ok(Decoded::Frame { frame, .. }) = frame::decode(output, MAX_FRAME) else {
            return Err(Broken::new("the server sends what is no frame"));
        };
        if frame.tag != Tag::ECHO {
            return Ok(());
        }
        let Echo { stream, number } = message::decode(frame.body)?;
        let is_there = self.archive.iter().any(|row| (row.stream, row.number) == (stream, number));
        if is_there {
            Ok(())
        } else {
            Err(Broken::new(format!("message {number} is echoed and not archived")))
        }
    }
}

impl Content {
    /// The content of a message, checked to be whole.
    pub(super) fn of(message: &Message<'_>) -> Result<Self, Broken> {
        let content = Self(message.time);
        if content.body() == message.body {
            Ok(content)
        } else {
            Err(Broken::new(format!("{content:?} came with another body")))
        }
    }
}
