//! One side of a session, and a peer and a host that do anything.

use std::collections::VecDeque;

use protocol_core::{
    code::{CloseReason, ConnectionKind},
    frame::{self, Decoded, Frame, MAX_FRAME},
    message::{
        self, Body, BootId, Close, Echo, Facts, Hello, Kind, Message, StoreId, StreamId, Text, Welcome,
        Window,
    },
    session::{Client, Event, OUTPUT_ROOM, Role, SendError, Server, Session, State},
    tag::Tag,
    time::{Duration, Instant},
    window::MAX_IN_FLIGHT,
};

use super::Script;

/// The largest frame that this side takes.
const TAKES: u16 = 300;

/// What this side grants its peer.
const GRANTED: Window = Window { messages: 3, bytes: 400 };

/// A session beside what must be true of it.
struct Checked<R> {
    session: Session<R>,
    now: Instant,
    /// What came and is not used up.
    input: Vec<u8>,
    /// Messages of ours that wait for their echo, and of the peer's that wait for ours.
    sent: VecDeque<(StreamId, u64)>,
    received: VecDeque<(StreamId, u64, usize)>,
    granted_by_peer: u8,
    is_over: bool,
}

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let now = Instant::from_micros(0);
    if script.byte().is_multiple_of(2) {
        let mut checked = Checked::new(Session::client(TAKES), now);
        while !script.is_done() && !checked.is_over {
            let operation = script.byte();
            if operation == 255 {
                checked.open(&mut script);
            }
            checked.step(operation, &mut script);
        }
    } else {
        let mut checked = Checked::new(Session::server(now, Duration::from_secs(10)), now);
        while !script.is_done() && !checked.is_over {
            let operation = script.byte();
            if operation == 255 {
                checked.welcome(&mut script);
            }
            checked.step(operation, &mut script);
        }
    }
}

impl Checked<Client> {
    fn open(&mut self, script: &mut Script<'_>) {
        let was_new = self.session.state() == State::New;
        let timeout = Duration::from_secs(u32::from(script.byte()));
        let hello = Hello { window: GRANTED, ..hello(script) };
        let opened = self.session.open(self.now, timeout, &hello, &mut [0; 256]);
        assert_eq!(opened.is_ok(), was_new);
    }
}

impl Checked<Server> {
    fn welcome(&mut self, script: &mut Script<'_>) {
        let was_deciding = self.session.state() == State::Deciding;
        let welcome = Welcome { window: GRANTED, max_frame: TAKES, ..welcome(script) };
        assert_eq!(self.session.welcome(self.now, &welcome, &mut [0; 256]).is_ok(), was_deciding);
    }
}

impl<R: Role> Checked<R> {
    fn new(session: Session<R>, now: Instant) -> Self {
        Self {
            session,
            now,
            input: Vec::new(),
            sent: VecDeque::new(),
            received: VecDeque::new(),
            granted_by_peer: 0,
            is_over: false,
        }
    }

    /// Does one thing, then what a host does after each: input, output, and a look at the timer.
    fn step(&mut self, operation: u8, script: &mut Script<'_>) {
        match operation % 12 {
            0 => self.come(script.take(usize::from(operation / 12))),
            1 => self.come(b"PING"),
            2 => self.come(b"PONG"),
            3 => self.come_body(&hello(script)),
            4 => self.come_body(&Welcome { window: window(script), ..welcome(script) }),
            5 => self.come_message(script),
            6 => self.come_body(&Echo { stream: stream(script), number: script.number() }),
            7 => self.come_other(script),
            8 => self.now = self.now.after(Duration::from_millis(u32::from(script.byte()) * 200)),
            9 => self.send(script),
            10 => self.echo(script),
            _ => self.rarely(script),
        }
        self.hear();
        self.speak();
    }

    fn come(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    fn come_body<B: Body>(&mut self, body: &B) {
        let mut buffer = [0; 600];
        let length = message::encode(body, MAX_FRAME, &mut buffer).expect("the bodies here are short");
        self.come(&buffer[..length]);
    }

    fn come_message(&mut self, script: &mut Script<'_>) {
        let (stream, number, length) = (stream(script), script.number(), usize::from(script.byte()));
        let body = [0; 256];
        self.come_body(&Message { stream, number, time: 0, kind: Kind::TEXT, body: &body[..length] });
    }

    fn come_other(&mut self, script: &mut Script<'_>) {
        match script.byte() % 3 {
            0 => self.come_body(&Facts::default()),
            1 => self.come_body(&Close {
                reason: CloseReason::Draining,
                retry_after: 1,
                detail: Text::default(),
            }),
            _ => {
                let mut buffer = [0; 64];
                let frame = Frame { tag: Tag::new(*b"XYZW").expect("a tag"), body: script.take(20) };
                let length = frame.encode(&mut buffer).expect("a short frame");
                self.come(&buffer[..length]);
            }
        }
    }

    fn send(&mut self, script: &mut Script<'_>) {
        let (stream, number, length) = (stream(script), script.number(), usize::from(script.byte()));
        let body = [0; 256];
        let message = Message { stream, number, time: 0, kind: Kind::TEXT, body: &body[..length] };
        let is_open = self.session.state() == State::Open;
        match self.session.message(self.now, &message, &mut [0; 512]) {
            Ok(_) => {
                assert!(is_open && number > 0);
                if let Some((last_stream, last)) = self.sent.back() {
                    assert!(*last_stream == stream && last.checked_add(1) == Some(number), "out of order");
                }
                self.sent.push_back((stream, number));
            }
            Err(SendError::NotOpen) => assert!(!is_open),
            Err(_) => {}
        }
        let in_flight = usize::from(self.session.in_flight());
        assert_eq!(in_flight, self.sent.len());
        assert!(in_flight <= MAX_IN_FLIGHT.min(usize::from(self.granted_by_peer)));
    }

    fn echo(&mut self, script: &mut Script<'_>) {
        let (stream, number) = (stream(script), script.number());
        let at = self.received.iter().position(|(of, waits, _)| (*of, *waits) == (stream, number));
        assert_eq!(self.session.echo(stream, number), at.is_some());
        self.received.drain(..at.map_or(0, |at| at + 1));
    }

    fn rarely(&mut self, script: &mut Script<'_>) {
        match script.byte() % 8 {
            0 => {
                let close = Close { reason: CloseReason::Finished, retry_after: 0, detail: Text::default() };
                let had_ended = self.session.state() == State::Ended;
                let length = self.session.close(&close, &mut [0; 256]);
                assert_eq!(length == 0, had_ended);
                assert_eq!(self.session.state(), State::Ended);
            }
            1 => {
                let is_open = self.session.state() == State::Open;
                let sent = self.session.notice(self.now, &Facts::default(), &mut [0; 64]);
                assert_eq!(sent.is_ok(), is_open);
            }
            _ => self.session.ping(),
        }
    }

    /// Takes all that came.
    fn hear(&mut self) {
        for _ in 0..=self.input.len() {
            let before = self.session.state();
            let (used, event) = match self.session.input(self.now, &self.input) {
                Ok(told) => told,
                Err(error) => {
                    let _ = (error.reason(), error.to_string());
                    self.is_over = true;
                    return;
                }
            };
            assert!(used <= self.input.len() && (used > 0 || event.is_none()));
            match event {
                Some(Event::Hello(hello)) => {
                    assert!(R::IS_SERVER && before == State::Opening);
                    self.granted_by_peer = hello.window.messages;
                }
                Some(Event::Welcome(welcome)) => {
                    assert!(!R::IS_SERVER && before == State::Opening);
                    self.granted_by_peer = welcome.window.messages;
                }
                Some(Event::Message(message)) => {
                    assert!(before == State::Open && message.number > 0);
                    if let Some((stream, last, _)) = self.received.back() {
                        assert_eq!((*stream, last.checked_add(1)), (message.stream, Some(message.number)));
                    }
                    self.received.push_back((message.stream, message.number, used));
                }
                Some(Event::Echo(echo)) => {
                    let at = self.sent.iter().position(|sent| *sent == (echo.stream, echo.number));
                    self.sent.drain(..=at.expect("only what is in flight is echoed"));
                }
                Some(Event::Notice(_) | Event::Pong { .. }) => assert_eq!(before, State::Open),
                Some(Event::Closed(_)) => assert_ne!(before, State::Ended),
                None => {}
            }
            if used == 0 {
                assert!(self.input.len() < usize::from(TAKES) || self.session.state() == State::Ended);
                break;
            }
            self.input.drain(..used);
            self.check_memory();
        }
    }

    /// The window bounds what the host has to keep for its peer.
    fn check_memory(&self) {
        let bytes: usize = self.received.iter().map(|(_, _, size)| size).sum();
        assert!(self.received.len() <= usize::from(GRANTED.messages));
        assert!(bytes <= GRANTED.bytes as usize || self.received.len() == 1);
        assert_eq!(usize::from(self.session.in_flight()), self.sent.len());
    }

    /// Writes all that is due: whole frames of the session's own, then nothing before the next timer.
    fn speak(&mut self) {
        let mut buffer = [0; OUTPUT_ROOM];
        for _ in 0..4 {
            match self.session.output(self.now, &mut buffer) {
                Ok(0) => {
                    let due = self.session.timeout();
                    assert!(due.is_none_or(|due| due > self.now), "a timer in the past: a busy loop");
                    assert!(self.session.state() != State::Ended || due.is_none());
                    return;
                }
                Ok(length) => match frame::decode(&buffer[..length], MAX_FRAME) {
                    Ok(Decoded::Frame { frame, consumed }) => {
                        assert!(consumed == length && [Tag::PING, Tag::PONG, Tag::ECHO].contains(&frame.tag));
                    }
                    other => panic!("no frame of the session's own: {other:?}"),
                },
                Err(_) => {
                    assert_eq!((self.session.state(), self.session.timeout()), (State::Ended, None));
                    return;
                }
            }
        }
        panic!("a session that never stops talking");
    }
}

/// One of a few streams, so that they meet.
fn stream(script: &mut Script<'_>) -> StreamId {
    StreamId(u64::from(script.byte() % 3))
}

fn window(script: &mut Script<'_>) -> Window {
    Window { messages: script.byte(), bytes: u32::from(script.byte()) * 8 }
}

fn hello(script: &mut Script<'_>) -> Hello {
    let window = if script.byte().is_multiple_of(2) { GRANTED } else { window(script) };
    Hello {
        oldest_version: script.byte() % 3,
        newest_version: script.byte() % 3,
        kind: ConnectionKind::Control,
        boot: BootId(1),
        stream: stream(script),
        max_frame: u16::from(script.byte()) * 4,
        window,
    }
}

fn welcome(script: &mut Script<'_>) -> Welcome<'static> {
    Welcome {
        version: script.byte() % 3,
        interval: u32::from(script.byte()) * 100,
        timeout: u32::from(script.byte()) * 100,
        max_frame: u16::from(script.byte()) * 4,
        window: GRANTED,
        store: StoreId(1),
        archived: 0,
        time: 0,
        name: Text::default(),
    }
}
