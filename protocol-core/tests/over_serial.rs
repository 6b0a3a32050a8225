//! A session over a serial line that loses and damages bytes: link, session and messages together.

mod common;

use common::{hello, welcome};
use protocol_core::{
    message::{Echo, Kind, Message, Welcome, Window},
    serial::{Event as LinkEvent, Link, Retries, State as LinkState, output_room},
    session::{Client, Event, Role, Server, Session, State},
    time::{Duration, Instant},
};

const MESSAGES: u64 = 40;
const PAYLOAD: usize = 58;

/// One end of the wire: its link, its session, and what the session has to say and has not heard yet.
struct End<R> {
    link: Link<&'static mut [u8]>,
    session: Option<Session<R>>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl<R: Role> End<R> {
    fn new() -> Self {
        let (receive, send) = (vec![0; 64].leak(), vec![0; PAYLOAD].leak());
        Self {
            link: Link::new(Retries::default(), receive, send),
            session: None,
            input: vec![],
            output: vec![],
        }
    }

    /// Takes what came over the wire. Gives whether the link has come up: then a new session is due.
    fn hear(&mut self, now: Instant, mut bytes: &[u8]) -> bool {
        let mut is_up = false;
        while !bytes.is_empty() {
            let (used, event) = self.link.input(now, bytes, usize::MAX);
            match event {
                Some(LinkEvent::Data(data)) => self.input.extend_from_slice(data),
                Some(event) => {
                    self.session = None;
                    self.input.clear();
                    self.output.clear();
                    is_up = event == LinkEvent::Up;
                }
                None => {}
            }
            bytes = &bytes[used..];
        }
        is_up
    }

    /// What goes out on the wire now.
    fn speak(&mut self, now: Instant) -> Vec<u8> {
        let mut buffer = [0; 256];
        if let Some(session) = &mut self.session {
            while let length @ 1.. = session.output(now, &mut buffer).expect("the peer lives") {
                self.output.extend_from_slice(&buffer[..length]);
            }
        }
        let taken = self.link.send(now, &self.output);
        self.output.drain(..taken);
        let mut wire = Vec::new();
        let mut packet = [0; output_room(PAYLOAD)];
        while let length @ 1.. = self.link.output(now, &mut packet).expect("the wire is not that bad") {
            wire.extend_from_slice(&packet[..length]);
        }
        wire
    }
}

/// Each 150th byte is lost, each 170th damaged. `count` counts the bytes of both ways.
fn worn(wire: Vec<u8>, count: &mut usize) -> Vec<u8> {
    let mut worn = Vec::new();
    for byte in wire {
        *count += 1;
        match *count {
            lost if lost.is_multiple_of(150) => {}
            damaged if damaged.is_multiple_of(170) => worn.push(byte ^ 0x10),
            _ => worn.push(byte),
        }
    }
    worn
}

#[test]
fn a_session_runs_over_a_bad_line_and_begins_anew_after_a_restart() {
    let (mut device, mut server) = (End::<Client>::new(), End::<Server>::new());
    device.link.open(Instant::from_micros(0), 1);
    server.link.open(Instant::from_micros(0), 2);
    let (mut bytes, mut archive, mut echoed, mut sessions) = (0, Vec::new(), 0, 0);
    for step in 0..20_000_u64 {
        let now = Instant::from_micros(step * 10_000);
        if step == 1_000 {
            device = End::new();
            device.link.open(now, 3);
        }
        let (up, down) = (worn(device.speak(now), &mut bytes), worn(server.speak(now), &mut bytes));
        if server.hear(now, &up) {
            server.session = Some(Session::server(now, Duration::from_secs(60)));
        }
        if device.hear(now, &down) {
            let mut session = Session::client(1024);
            let mut buffer = [0; 256];
            let length = session.open(now, Duration::from_secs(60), &hello(), &mut buffer).unwrap();
            device.output.extend_from_slice(&buffer[..length]);
            device.session = Some(session);
            sessions += 1;
        }
        serve(now, &mut server, &mut archive);
        echoed = work(now, &mut device, echoed);
        if echoed == MESSAGES {
            break;
        }
    }
    assert_eq!(archive, (1..=MESSAGES).collect::<Vec<_>>(), "all, in order, each once");
    assert_eq!(echoed, MESSAGES);
    assert_eq!(sessions, 2, "one before the restart, one after it");
    assert_eq!((device.link.state(), server.link.state()), (LinkState::Up, LinkState::Up));
}

/// The server welcomes, archives what it has not, and echoes.
fn serve(now: Instant, server: &mut End<Server>, archive: &mut Vec<u64>) {
    let Some(session) = &mut server.session else { return };
    loop {
        let (used, event) = session.input(now, &server.input).expect("the link lets nothing damaged through");
        let mut taken = None;
        match event {
            Some(Event::Hello(_)) => {
                let window = Window { messages: 3, bytes: 1024 };
                let mut buffer = [0; 256];
                let length = session.welcome(now, &Welcome { window, ..welcome() }, &mut buffer).unwrap();
                server.output.extend_from_slice(&buffer[..length]);
            }
            Some(Event::Message(message)) => taken = Some((message.stream, message.number)),
            _ => {}
        }
        if let Some((stream, number)) = taken {
            if archive.last().is_none_or(|last| *last < number) {
                archive.push(number);
            }
            session.echo(stream, number);
        }
        if used == 0 {
            return;
        }
        server.input.drain(..used);
    }
}

/// The device sends what is not echoed. Gives the highest number that is.
fn work(now: Instant, device: &mut End<Client>, mut echoed: u64) -> u64 {
    let Some(session) = &mut device.session else { return echoed };
    loop {
        let (used, event) = session.input(now, &device.input).expect("the link lets nothing damaged through");
        if let Some(Event::Echo(Echo { number, .. })) = event {
            echoed = number;
        }
        if used == 0 {
            break;
        }
        device.input.drain(..used);
    }
    let mut buffer = [0; 256];
    let body = [7; 100];
    let next = echoed + 1 + u64::from(session.in_flight());
    if session.state() == State::Open && next <= MESSAGES {
        let message =
            Message { stream: hello().stream, number: next, time: 0, kind: Kind::TEXT, body: &body };
        if let Ok(length) = session.message(now, &message, &mut buffer) {
            device.output.extend_from_slice(&buffer[..length]);
        }
    }
    echoed
}
