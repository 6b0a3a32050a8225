//! The device against a server's session, over a wire in memory.

use std::{string::String, vec, vec::Vec};

use protocol_core::{
    frame,
    message::{self, Body, BootId, Endpoints, Facts, Kind, Pin, StoreId, StreamId},
    session::{Lost, Server},
    tag::Tag,
};

use super::*;
use crate::{agent::Agent, outbox::Refused};

type TestAgent = Agent<4, 300, 2, 1_024, 512>;
type TestConnection<'a> = Connection<'a, 4, 300, 2, 1_024, 512>;

/// The server's time, in milliseconds since 1970.
const NOON: u64 = 1_800_000_000_000;

/// As many bytes as a device reads at a time.
const READ: usize = 7;

fn at(seconds: u32) -> Instant {
    Instant::from_micros(1).after(Duration::from_secs(seconds))
}

/// A server that archives in memory, with both directions of the wire.
pub(crate) struct TestServer {
    pub(crate) session: Session<Server>,
    pub(crate) up: Vec<u8>,
    pub(crate) down: Vec<u8>,
    pub(crate) archive: Vec<(u64, Vec<u8>)>,
    pub(crate) notices: Vec<Tag>,
    /// Why the device said that it ends the connection.
    pub(crate) closed: Option<CloseReason>,
    /// Echoes what it archives.
    echoes: bool,
    max_frame: u16,
    archived: u64,
}

impl TestServer {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            session: Session::server(now, Duration::from_secs(10)),
            up: Vec::new(),
            down: Vec::new(),
            archive: Vec::new(),
            notices: Vec::new(),
            closed: None,
            echoes: true,
            max_frame: 512,
            archived: 0,
        }
    }

    pub(crate) fn poll(&mut self, now: Instant) {
        loop {
            let mut said_hello = false;
            let mut echo = None;
            let (used, event) = self.session.input(now, &self.up).unwrap();
            match event {
                Some(session::Event::Hello(_)) => said_hello = true,
                Some(session::Event::Message(message)) => {
                    self.archive.push((message.number, message.body.to_vec()));
                    echo = self.echoes.then_some((message.stream, message.number));
                }
                Some(session::Event::Notice(frame)) => self.notices.push(frame.tag),
                Some(session::Event::Closed(close)) => self.closed = Some(close.reason),
                _ => {}
            }
            if let Some((stream, number)) = echo {
                assert!(self.session.echo(stream, number));
            }
            if said_hello {
                let welcome = Welcome { max_frame: self.max_frame, archived: self.archived, ..welcome() };
                self.say(|session, buffer| session.welcome(now, &welcome, buffer).unwrap());
            }
            self.up.drain(..used);
            if used == 0 {
                break;
            }
        }
        // One that has lost its client says nothing more.
        while self.say(|session, buffer| session.output(now, buffer).unwrap_or(0)) > 0 {}
    }

    pub(crate) fn say(&mut self, write: impl FnOnce(&mut Session<Server>, &mut [u8]) -> usize) -> usize {
        let mut buffer = [0; 1_024];
        let length = write(&mut self.session, &mut buffer);
        self.down.extend_from_slice(&buffer[..length]);
        length
    }

    /// Sends a message, whose body is its number.
    fn send(&mut self, stream: u64, number: u64) {
        let body = [number as u8];
        let message = Message { stream: StreamId(stream), number, time: 0, kind: Kind::TEXT, body: &body };
        self.say(|session, buffer| session.message(at(1), &message, buffer).unwrap());
    }

    /// What the device says goes up.
    fn hear(&mut self, bytes: &[u8]) {
        self.up.extend_from_slice(bytes);
    }

    /// Hands the device what came down, as much as it reads at a time. Gives whether there was anything.
    fn reach(&mut self, device: &mut TestConnection<'_>) -> bool {
        let room = device.room();
        let count = self.down.len().min(room.len()).min(READ);
        room[..count].copy_from_slice(&self.down[..count]);
        self.down.drain(..count);
        if count > 0 {
            device.received(count);
        }
        count > 0
    }
}

fn welcome() -> Welcome<'static> {
    Welcome {
        version: VERSION,
        interval: 30_000,
        timeout: 10_000,
        max_frame: 512,
        window: Window { messages: 2, bytes: 1024 },
        store: StoreId(1),
        archived: 0,
        time: NOON,
        name: Text::new("sensor-1").unwrap(),
    }
}

fn agent(messages: &[&[u8]]) -> TestAgent {
    let mut agent = Agent::new(at(0), BootId(1), StreamId(3));
    for body in messages {
        agent.outbox.push(0, Kind::TEXT, body).unwrap();
    }
    agent
}

/// What a device was told until there was nothing more to do; it takes messages if it `takes` any.
fn told(server: &mut TestServer, device: &mut TestConnection<'_>, takes: bool) -> Result<Vec<String>, End> {
    let mut told = Vec::new();
    // A test that goes on for ever is one that fails.
    for _ in 0..500 {
        match device.poll(at(1))? {
            Step::Write(bytes) => server.hear(bytes),
            Step::Event(Event::Welcome(_)) | Step::Again => {}
            Step::Event(Event::Message(message)) => {
                told.push(std::format!("{}/{}", message.stream.0, message.number));
                if takes {
                    device.acknowledge();
                }
            }
            Step::Event(Event::Notice(frame)) => told.push(std::format!("{}", frame.tag)),
            Step::Event(Event::TooLarge(message)) => told.push(std::format!("too large: {}", message.number)),
            Step::Idle => {
                if !server.reach(device) {
                    return Ok(told);
                }
            }
        }
    }
    panic!("a device that is never idle");
}

/// A server, and a device that has said its hello to it: its welcome is on the way.
fn opened<'a>(
    agent: &'a mut TestAgent,
    prepare: impl FnOnce(&mut TestServer),
) -> (TestServer, TestConnection<'a>) {
    let mut server = TestServer::new(at(0));
    prepare(&mut server);
    let mut device = Connection::open(agent);
    assert_eq!(told(&mut server, &mut device, true), Ok(vec![]));
    server.poll(at(1));
    (server, device)
}

#[test]
fn what_waits_is_archived_in_order() {
    let mut agent = agent(&[b"one", b"two", b"three", b"four"]);
    assert_eq!(agent.outbox.push(0, Kind::TEXT, b"five"), Err(Refused::Full));
    let (mut server, mut device) = opened(&mut agent, |_| ());
    assert!(!device.is_open());
    for _ in 0..4 {
        assert!(told(&mut server, &mut device, true).unwrap().is_empty());
        server.poll(at(1));
    }
    told(&mut server, &mut device, true).unwrap();
    let bodies: Vec<_> = server.archive.iter().map(|(number, body)| (*number, body.as_slice())).collect();
    assert_eq!(bodies, [(1, &b"one"[..]), (2, b"two"), (3, b"three"), (4, b"four")]);
    assert!(device.is_open());
    assert!(agent.outbox.is_empty());
}

#[test]
fn what_was_not_echoed_is_sent_again() {
    let mut agent = agent(&[b"one", b"two"]);
    let mut numbers = Vec::new();
    for echoes in [false, true] {
        let (mut server, mut device) = opened(&mut agent, |server| server.echoes = echoes);
        for _ in 0..3 {
            told(&mut server, &mut device, true).unwrap();
            server.poll(at(1));
        }
        numbers.extend(server.archive.iter().map(|(number, _)| *number));
        told(&mut server, &mut device, true).unwrap();
    }
    assert_eq!(numbers, [1, 2, 1, 2], "under the same numbers");
    assert!(agent.outbox.is_empty());
}

#[test]
fn a_message_is_delivered_once_and_echoed_when_it_was_taken() {
    let mut agent = agent(&[]);
    let mut connection = |takes: bool, expected: &[&str], in_flight: u8| {
        let (mut server, mut device) = opened(&mut agent, |_| ());
        told(&mut server, &mut device, true).unwrap();
        server.send(9, 1);
        assert_eq!(told(&mut server, &mut device, takes).unwrap(), expected);
        server.poll(at(1));
        assert_eq!(server.session.in_flight(), in_flight);
    };
    connection(false, &["9/1"], 1);
    connection(true, &["9/1"], 0);
    connection(true, &[], 0);
}

#[test]
fn a_message_may_be_taken_later() {
    let mut agent = agent(&[]);
    let (mut server, mut device) = opened(&mut agent, |_| ());
    told(&mut server, &mut device, true).unwrap();
    server.send(9, 1);
    assert_eq!(told(&mut server, &mut device, false).unwrap(), ["9/1"]);
    device.acknowledge();
    device.acknowledge();
    told(&mut server, &mut device, true).unwrap();
    server.poll(at(1));
    server.send(9, 2);
    assert_eq!(told(&mut server, &mut device, true).unwrap(), ["9/2"]);
}

#[test]
fn a_message_that_the_server_can_not_take_is_set_aside() {
    let large = [b'x'; 300];
    let mut agent = agent(&[b"one", &large, b"three"]);
    let (mut server, mut device) = opened(&mut agent, |server| server.max_frame = 256);
    assert!(told(&mut server, &mut device, true).unwrap().is_empty(), "what is in flight comes first");
    server.poll(at(1));
    assert_eq!(told(&mut server, &mut device, true).unwrap(), ["too large: 2"]);
    server.poll(at(1));
    told(&mut server, &mut device, true).unwrap();
    assert!(device.agent().outbox.is_empty(), "those behind it go on");
    let numbers: Vec<_> = server.archive.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 3], "its number is left out");
    let refused = device.agent().outbox.push(0, Kind::TEXT, &large).unwrap_err();
    assert!(matches!(refused, Refused::TooLarge { limit: 256, .. }), "from now on that is known");
}

#[test]
fn what_was_archived_before_the_server_took_less_counts_as_echoed() {
    let mut agent = agent(&[&[b'x'; 300], b"two"]);
    let prepare = |server: &mut TestServer| (server.max_frame, server.archived) = (256, 1);
    let (mut server, mut device) = opened(&mut agent, prepare);
    assert!(told(&mut server, &mut device, true).unwrap().is_empty());
    server.poll(at(1));
    assert_eq!(server.archive, [(2, b"two".to_vec())]);
}

#[test]
fn a_conflict_is_answered_by_a_new_stream() {
    let mut agent = agent(&[b"one", b"two"]);
    let (mut server, mut device) = opened(&mut agent, |server| server.echoes = false);
    told(&mut server, &mut device, true).unwrap();
    server.poll(at(1));
    let close = Close { reason: CloseReason::Conflict, retry_after: 1, detail: Text::default() };
    server.say(|session, buffer| session.close(&close, buffer));
    let end = End::Closed { reason: CloseReason::Conflict, retry_after: 1 };
    assert_eq!(told(&mut server, &mut device, true), Err(end));
    agent.outbox.begin_stream(StreamId(4));
    let (mut server, mut device) = opened(&mut agent, |_| ());
    told(&mut server, &mut device, true).unwrap();
    server.poll(at(1));
    told(&mut server, &mut device, true).unwrap();
    assert_eq!(server.archive, [(1, b"one".to_vec()), (2, b"two".to_vec())]);
    assert!(agent.outbox.is_empty());
}

#[test]
fn notices_pass_both_ways() {
    let mut agent = agent(&[]);
    let (mut server, mut device) = opened(&mut agent, |_| ());
    assert_eq!(
        device.notice(at(1), &Facts::default()),
        Err(SendError::NotOpen),
        "and the connection goes on"
    );
    told(&mut server, &mut device, true).unwrap();
    let mut endpoints =
        Endpoints { current: Pin([1; 32]), next: Pin([2; 32]), addresses: heapless::Vec::new() };
    endpoints.addresses.push(Text::new("holdfast.example:55223").unwrap()).unwrap();
    server.say(|session, buffer| session.notice(at(1), &endpoints, buffer).unwrap());
    let mut kept = None;
    while server.reach(&mut device) {
        while let step @ (Step::Again | Step::Event(_)) = device.poll(at(1)).unwrap() {
            if let Step::Event(Event::Notice(frame)) = step {
                assert_eq!(message::decode::<Endpoints<'_>>(frame.body), Ok(endpoints.clone()));
                kept = Some(frame.tag);
            }
        }
    }
    assert_eq!(kept, Some(Endpoints::TAG));
    server.hear(device.notice(at(1), &Facts::default()).unwrap());
    server.poll(at(1));
    assert_eq!(server.notices, [Tag::FACTS]);
}

#[test]
fn the_server_tells_the_time() {
    let mut agent = agent(&[]);
    assert_eq!(agent.time(at(1)), 0);
    let (mut server, mut device) = opened(&mut agent, |_| ());
    told(&mut server, &mut device, true).unwrap();
    assert_eq!((agent.time(at(1)), agent.time(at(8)), agent.uptime(at(8))), (NOON, NOON + 7_000, 8));
}

#[test]
fn who_goes_on_talking_is_answered_meanwhile() {
    let mut agent = agent(&[]);
    let (mut server, mut device) = opened(&mut agent, |_| ());
    told(&mut server, &mut device, true).unwrap();
    for _ in 0..100 {
        server.up.clear();
        server.down.extend(b"PINGPINGPING");
        assert!(server.reach(&mut device));
        while let step @ (Step::Again | Step::Write(_)) = device.poll(at(2)).unwrap() {
            if let Step::Write(bytes) = step {
                server.up.extend(bytes);
            }
        }
        assert_eq!(server.up, b"PONG", "before more is read");
    }
}

#[test]
fn a_server_that_breaks_the_protocol_is_told() {
    let mut agent = agent(&[]);
    let (mut server, mut device) = opened(&mut agent, |_| ());
    told(&mut server, &mut device, true).unwrap();
    server.up.clear();
    server.down.extend(b"what is this?");
    let end = told(&mut server, &mut device, true).unwrap_err();
    assert!(matches!(end, End::Protocol(_)), "{end}");
    let Ok(frame::Decoded::Frame { frame, .. }) = frame::decode(&server.up, 256_u32) else {
        panic!("{:?}", server.up)
    };
    let close: Close<'_> = message::decode(frame.body).unwrap();
    assert_eq!(close.reason, CloseReason::ProtocolError);
}

#[test]
fn a_refusal_a_silent_server_and_one_that_went_are_told_apart() {
    let mut agent = agent(&[]);
    let mut server = TestServer::new(at(0));
    let close = Close { reason: CloseReason::Revoked, retry_after: 60, detail: Text::default() };
    server.say(|session, buffer| session.close(&close, buffer));
    let refused = End::Closed { reason: CloseReason::Revoked, retry_after: 60 };
    assert_eq!(told(&mut server, &mut Connection::open(&mut agent), true), Err(refused));

    let mut device = TestConnection::open(&mut agent);
    assert!(matches!(device.poll(at(0)), Ok(Step::Write(_))));
    assert_eq!(device.timeout(), Some(at(10)));
    assert_eq!(device.poll(at(9)), Ok(Step::Idle));
    assert_eq!(device.poll(at(10)), Err(End::Lost(Lost::OpeningTimedOut)));

    let (mut server, mut device) = opened(&mut agent, |_| ());
    told(&mut server, &mut device, true).unwrap();
    device.room();
    device.received(0);
    assert_eq!(told(&mut server, &mut device, true), Err(End::Ended));
}
