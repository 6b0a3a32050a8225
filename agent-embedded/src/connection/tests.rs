//! The device against a server's session, over a wire in memory.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, string::String, vec::Vec};

use embedded_io::{ErrorType, Read, ReadReady, Write};
use protocol_core::{
    frame,
    message::{self, BootId, Facts, Kind, Pin, StoreId, StreamId},
    session::{Lost, Server},
    tag::Tag,
};

use super::*;
use crate::outbox::Refused;

type TestAgent = Agent<4, 300, 2>;

const ROOM: usize = 1_024;

type Bytes = Rc<RefCell<VecDeque<u8>>>;

/// One end of a wire, which gives a few bytes at a time.
struct Plug {
    coming: Bytes,
    going: Bytes,
}

impl ErrorType for Plug {
    type Error = core::convert::Infallible;
}

impl ReadReady for Plug {
    fn read_ready(&mut self) -> Result<bool, Self::Error> {
        Ok(!self.coming.borrow().is_empty())
    }
}

impl Read for Plug {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let mut coming = self.coming.borrow_mut();
        let count = buffer.len().min(coming.len()).min(7);
        buffer.iter_mut().zip(coming.drain(..count)).for_each(|(to, from)| *to = from);
        Ok(count)
    }
}

impl Write for Plug {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        self.going.borrow_mut().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn wire() -> (Plug, Plug) {
    let (up, down) = (Bytes::default(), Bytes::default());
    (Plug { coming: down.clone(), going: up.clone() }, Plug { coming: up, going: down })
}

fn at(seconds: u32) -> Instant {
    Instant::from_micros(1).after(Duration::from_secs(seconds))
}

/// A server that archives in memory, over the same pump.
struct TestServer<'b> {
    /// Both directions of the wire, to write and to see what no session would.
    up: Bytes,
    down: Bytes,
    pump: Pump<'b, Server, Plug>,
    archive: Vec<(u64, Vec<u8>)>,
    notices: Vec<Tag>,
    /// Echoes what it archives.
    echoes: bool,
    max_frame: u16,
    archived: u64,
}

impl<'b> TestServer<'b> {
    fn new(transport: Plug, input: &'b mut [u8], output: &'b mut [u8]) -> Self {
        let session = Session::server(at(0), Duration::from_secs(10));
        let (up, down) = (transport.coming.clone(), transport.going.clone());
        Self {
            up,
            down,
            pump: Pump::new(session, transport, input, output),
            archive: Vec::new(),
            notices: Vec::new(),
            echoes: true,
            max_frame: 512,
            archived: 0,
        }
    }

    fn poll(&mut self, now: Instant) -> Result<(), PumpError> {
        loop {
            let mut said_hello = false;
            let mut echo = None;
            match self.pump.poll(now)? {
                Progress::Event(session::Event::Hello(_)) => said_hello = true,
                Progress::Event(session::Event::Message(message)) => {
                    self.archive.push((message.number, message.body.to_vec()));
                    echo = self.echoes.then_some((message.stream, message.number));
                }
                Progress::Event(session::Event::Notice(frame)) => self.notices.push(frame.tag),
                Progress::Idle => return Ok(()),
                _ => {}
            }
            if let Some((stream, number)) = echo {
                assert!(self.pump.session().echo(stream, number));
            }
            if said_hello {
                let welcome = Welcome { max_frame: self.max_frame, archived: self.archived, ..welcome() };
                self.pump.send(|session, buffer| session.welcome(now, &welcome, buffer))?;
            }
        }
    }

    /// Sends a message, whose body is its number.
    fn send(&mut self, stream: u64, number: u64) {
        let body = [number as u8];
        let message = Message { stream: StreamId(stream), number, time: 0, kind: Kind::TEXT, body: &body };
        self.pump.send(|session, buffer| session.message(at(1), &message, buffer)).unwrap();
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
        time: 0,
        name: Text::new("sensor-1").unwrap(),
    }
}

fn agent(messages: &[&[u8]]) -> TestAgent {
    let mut agent = Agent::new(BootId(1), StreamId(3));
    for body in messages {
        agent.outbox.push(0, Kind::TEXT, body).unwrap();
    }
    agent
}

/// What a device was told until there was nothing more to do; it takes messages if it `takes` any.
fn told(device: &mut Connection<'_, Plug>, agent: &mut TestAgent, takes: bool) -> Result<Vec<String>, End> {
    let mut told = Vec::new();
    // A test that goes on for ever is one that fails.
    for _ in 0..500 {
        match device.poll(at(1), agent)? {
            Step::Event(Event::Welcome(_)) | Step::Again => {}
            Step::Event(Event::Message(message)) => {
                told.push(std::format!("{}/{}", message.stream.0, message.number));
                if takes {
                    device.taken(agent);
                }
            }
            Step::Event(Event::Notice(frame)) => told.push(std::format!("{}", frame.tag)),
            Step::Event(Event::TooLarge(message)) => told.push(std::format!("too large: {}", message.number)),
            Step::Idle => return Ok(told),
        }
    }
    panic!("a device that is never idle");
}

/// Runs `test` with a device and its server, which both have opened the session.
fn opened(
    agent: &mut TestAgent,
    prepare: impl FnOnce(&mut TestServer<'_>),
    test: impl FnOnce(&mut TestServer<'_>, &mut Connection<'_, Plug>, &mut TestAgent),
) {
    let (device_end, server_end) = wire();
    let (mut a, mut b, mut c, mut d) = ([0; ROOM], [0; ROOM], [0; ROOM], [0; ROOM]);
    let mut server = TestServer::new(server_end, &mut a, &mut b);
    prepare(&mut server);
    let mut device = Connection::open(at(0), agent, device_end, &mut c, &mut d).unwrap();
    server.poll(at(1)).unwrap();
    test(&mut server, &mut device, agent);
}

#[test]
fn what_waits_is_archived_in_order() {
    let mut agent = agent(&[b"one", b"two", b"three", b"four"]);
    assert_eq!(agent.outbox.push(0, Kind::TEXT, b"five"), Err(Refused::Full));
    opened(
        &mut agent,
        |_| (),
        |server, device, agent| {
            assert!(!device.is_open());
            for _ in 0..4 {
                assert!(told(device, agent, true).unwrap().is_empty());
                server.poll(at(1)).unwrap();
            }
            told(device, agent, true).unwrap();
            let bodies: Vec<_> =
                server.archive.iter().map(|(number, body)| (*number, body.as_slice())).collect();
            assert_eq!(bodies, [(1, &b"one"[..]), (2, b"two"), (3, b"three"), (4, b"four")]);
            assert!(agent.outbox.is_empty() && device.is_open());
        },
    );
}

#[test]
fn what_was_not_echoed_is_sent_again() {
    let mut agent = agent(&[b"one", b"two"]);
    let mut numbers = Vec::new();
    for echoes in [false, true] {
        opened(
            &mut agent,
            |server| server.echoes = echoes,
            |server, device, agent| {
                for _ in 0..3 {
                    told(device, agent, true).unwrap();
                    server.poll(at(1)).unwrap();
                }
                numbers.extend(server.archive.iter().map(|(number, _)| *number));
                told(device, agent, true).unwrap();
            },
        );
    }
    assert_eq!(numbers, [1, 2, 1, 2], "under the same numbers");
    assert!(agent.outbox.is_empty());
}

#[test]
fn a_message_is_delivered_once_and_echoed_when_it_was_taken() {
    let mut agent = agent(&[]);
    let connection = |agent: &mut TestAgent, takes: bool, expected: &[&str], in_flight: u8| {
        opened(
            agent,
            |_| (),
            |server, device, agent| {
                told(device, agent, true).unwrap();
                server.send(9, 1);
                assert_eq!(told(device, agent, takes).unwrap(), expected);
                server.poll(at(1)).unwrap();
                assert_eq!(server.pump.session().in_flight(), in_flight);
            },
        );
    };
    connection(&mut agent, false, &["9/1"], 1);
    connection(&mut agent, true, &["9/1"], 0);
    connection(&mut agent, true, &[], 0);
}

#[test]
fn a_message_may_be_taken_later() {
    let mut agent = agent(&[]);
    opened(
        &mut agent,
        |_| (),
        |server, device, agent| {
            told(device, agent, true).unwrap();
            server.send(9, 1);
            assert_eq!(told(device, agent, false).unwrap(), ["9/1"]);
            device.taken(agent);
            device.taken(agent);
            told(device, agent, true).unwrap();
            server.poll(at(1)).unwrap();
            server.send(9, 2);
            assert_eq!(told(device, agent, true).unwrap(), ["9/2"]);
        },
    );
}

#[test]
fn a_message_that_the_server_can_not_take_is_set_aside() {
    let large = [b'x'; 300];
    let mut agent = agent(&[b"one", &large, b"three"]);
    opened(
        &mut agent,
        |server| server.max_frame = 256,
        |server, device, agent| {
            assert!(told(device, agent, true).unwrap().is_empty(), "what is in flight comes first");
            server.poll(at(1)).unwrap();
            assert_eq!(told(device, agent, true).unwrap(), ["too large: 2"]);
            server.poll(at(1)).unwrap();
            told(device, agent, true).unwrap();
            assert!(agent.outbox.is_empty(), "those behind it go on");
            let numbers: Vec<_> = server.archive.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, [1, 3], "its number is left out");
            let refused = agent.outbox.push(0, Kind::TEXT, &large).unwrap_err();
            assert!(matches!(refused, Refused::TooLarge { limit: 256, .. }), "from now on that is known");
        },
    );
}

#[test]
fn what_was_archived_before_the_server_took_less_counts_as_echoed() {
    let mut agent = agent(&[&[b'x'; 300], b"two"]);
    let prepare = |server: &mut TestServer<'_>| (server.max_frame, server.archived) = (256, 1);
    opened(&mut agent, prepare, |server, device, agent| {
        assert!(told(device, agent, true).unwrap().is_empty());
        server.poll(at(1)).unwrap();
        assert_eq!(server.archive, [(2, b"two".to_vec())]);
    });
}

#[test]
fn a_conflict_is_answered_by_a_new_stream() {
    let mut agent = agent(&[b"one", b"two"]);
    opened(
        &mut agent,
        |server| server.echoes = false,
        |server, device, agent| {
            told(device, agent, true).unwrap();
            server.poll(at(1)).unwrap();
            let close = Close { reason: CloseReason::Conflict, retry_after: 1, detail: Text::default() };
            server.pump.close(&close).unwrap();
            let end = End::Closed { reason: CloseReason::Conflict, retry_after: 1 };
            assert_eq!(told(device, agent, true), Err(end));
        },
    );
    agent.outbox.begin_stream(StreamId(4));
    opened(
        &mut agent,
        |_| (),
        |server, device, agent| {
            told(device, agent, true).unwrap();
            server.poll(at(1)).unwrap();
            told(device, agent, true).unwrap();
            assert_eq!(server.archive, [(1, b"one".to_vec()), (2, b"two".to_vec())]);
            assert!(agent.outbox.is_empty());
        },
    );
}

#[test]
fn notices_pass_both_ways() {
    let mut agent = agent(&[]);
    opened(
        &mut agent,
        |_| (),
        |server, device, agent| {
            let early = device.status(at(1), 7, &[]);
            assert_eq!(early, Err(PumpError::Send(SendError::NotOpen)), "and the connection goes on");
            told(device, agent, true).unwrap();
            let mut endpoints =
                Endpoints { current: Pin([1; 32]), next: Pin([2; 32]), addresses: heapless::Vec::new() };
            endpoints.addresses.push(Text::new("holdfast.example:55223").unwrap()).unwrap();
            server.pump.send(|session, buffer| session.notice(at(1), &endpoints, buffer)).unwrap();
            let mut kept = None;
            for _ in 0..20 {
                if let Step::Event(Event::Notice(frame)) = device.poll(at(1), agent).unwrap() {
                    assert_eq!(message::decode::<Endpoints<'_>>(frame.body), Ok(endpoints.clone()));
                    kept = Some(frame.tag);
                }
            }
            assert_eq!(kept, Some(Tag::ENDPOINTS));

            let reading = Reading { name: Kind::new("temperature-celsius").unwrap(), value: 21.5 };
            device.status(at(1), 7, &[reading]).unwrap();
            device.notice(at(1), &Facts::default()).unwrap();
            server.poll(at(1)).unwrap();
            assert_eq!(server.notices, [Tag::STATUS, Tag::FACTS]);
        },
    );
}

#[test]
fn who_goes_on_talking_is_answered_meanwhile() {
    let mut agent = agent(&[b"one"]);
    opened(
        &mut agent,
        |_| (),
        |server, device, agent| {
            told(device, agent, true).unwrap();
            server.poll(at(1)).unwrap();
            for _ in 0..100 {
                // More than a device reads at a time: it never comes to an end.
                server.down.borrow_mut().extend(b"PINGPINGPING");
                assert_eq!(device.poll(at(2), agent), Ok(Step::Again), "each poll returns");
            }
            assert!(
                server
                    .up
                    .borrow()
                    .iter()
                    .copied()
                    .collect::<Vec<_>>()
                    .windows(4)
                    .any(|bytes| bytes == b"PONG")
            );
        },
    );
}

#[test]
fn a_server_that_breaks_the_protocol_is_told() {
    let mut agent = agent(&[]);
    opened(
        &mut agent,
        |_| (),
        |server, device, agent| {
            told(device, agent, true).unwrap();
            server.down.borrow_mut().extend(b"what is this?");
            let end = told(device, agent, true).unwrap_err();
            assert!(matches!(end, End::Failed(PumpError::Protocol(_))), "{end}");
            let sent: Vec<u8> = server.up.borrow_mut().drain(..).collect();
            let Ok(frame::Decoded::Frame { frame, .. }) = frame::decode(&sent, 256) else {
                panic!("{sent:?}")
            };
            let close: Close<'_> = message::decode(frame.body).unwrap();
            assert_eq!(close.reason, CloseReason::ProtocolError);
        },
    );
}

#[test]
fn a_refusal_and_a_silent_server_are_told_apart() {
    let (device_end, server_end) = wire();
    let (mut a, mut b, mut c, mut d) = ([0; ROOM], [0; ROOM], [0; ROOM], [0; ROOM]);
    let mut agent = agent(&[]);
    let mut server = Pump::new(Session::server(at(0), Duration::from_secs(10)), server_end, &mut a, &mut b);
    let mut device = Connection::open(at(0), &agent, device_end, &mut c, &mut d).unwrap();
    let close = Close { reason: CloseReason::Revoked, retry_after: 60, detail: Text::default() };
    server.close(&close).unwrap();
    let refused = End::Closed { reason: CloseReason::Revoked, retry_after: 60 };
    assert_eq!(told(&mut device, &mut agent, true), Err(refused));

    let (device_end, _server_end) = wire();
    let (mut c, mut d) = ([0; ROOM], [0; ROOM]);
    let mut device = Connection::open(at(0), &agent, device_end, &mut c, &mut d).unwrap();
    assert_eq!(device.timeout(), Some(at(10)));
    assert_eq!(device.poll(at(9), &mut agent), Ok(Step::Idle));
    let lost = End::Failed(PumpError::Lost(Lost::OpeningTimedOut));
    assert_eq!(device.poll(at(10), &mut agent), Err(lost));
}
