//! The device against a server's session, over a wire in memory.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, vec::Vec};

use embedded_io::{ErrorType, Read, ReadReady, Write};
use protocol_core::{
    message::{Close, Kind, StoreId, StreamId, Text, Welcome},
    session::{Lost, Server},
};

use super::*;
use crate::outbox::Refused;

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
    pump: Pump<'b, Server, Plug>,
    archive: Vec<(u64, Vec<u8>)>,
    /// Echoes what it archives.
    echoes: bool,
}

impl<'b> TestServer<'b> {
    fn new(transport: Plug, input: &'b mut [u8], output: &'b mut [u8]) -> Self {
        let session = Session::server(at(0), Duration::from_secs(10));
        Self { pump: Pump::new(session, transport, input, output), archive: Vec::new(), echoes: true }
    }

    fn poll(&mut self, now: Instant) -> Result<(), PumpError> {
        loop {
            let mut said_hello = false;
            let mut echo = None;
            match self.pump.poll(now)? {
                Progress::Event(Event::Hello(_)) => said_hello = true,
                Progress::Event(Event::Message(message)) => {
                    self.archive.push((message.number, message.body.to_vec()));
                    echo = self.echoes.then_some((message.stream, message.number));
                }
                Progress::Idle => return Ok(()),
                _ => {}
            }
            if let Some((stream, number)) = echo {
                assert!(self.pump.session().echo(stream, number));
            }
            if said_hello {
                self.pump.send(|session, buffer| session.welcome(now, &welcome(), buffer))?;
            }
        }
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

fn outbox(messages: &[&[u8]]) -> Outbox<4, 64> {
    let mut outbox = Outbox::new(StreamId(3));
    for body in messages {
        outbox.push(0, Kind::TEXT, body).unwrap();
    }
    outbox
}

#[test]
fn what_waits_is_archived_in_order() {
    let (device_end, server_end) = wire();
    let (mut a, mut b, mut c, mut d) = ([0; 512], [0; 512], [0; 512], [0; 512]);
    let mut outbox = outbox(&[b"one", b"two", b"three", b"four"]);
    assert_eq!(outbox.push(0, Kind::TEXT, b"five"), Err(Refused::Full));
    let mut server = TestServer::new(server_end, &mut a, &mut b);
    let mut device = Connection::open(at(0), BootId(1), &outbox, device_end, &mut c, &mut d).unwrap();
    for _ in 0..8 {
        server.poll(at(1)).unwrap();
        device.poll(at(1), &mut outbox, |_| panic!("nothing was sent")).unwrap();
    }
    let bodies: Vec<_> = server.archive.iter().map(|(number, body)| (*number, body.as_slice())).collect();
    assert_eq!(bodies, [(1, &b"one"[..]), (2, b"two"), (3, b"three"), (4, b"four")]);
    assert!(outbox.is_empty());
}

#[test]
fn what_was_not_echoed_is_sent_again() {
    let mut outbox = outbox(&[b"one", b"two"]);
    let mut archive = Vec::new();
    for echoes in [false, true] {
        let (device_end, server_end) = wire();
        let (mut a, mut b, mut c, mut d) = ([0; 512], [0; 512], [0; 512], [0; 512]);
        let mut server = TestServer::new(server_end, &mut a, &mut b);
        server.echoes = echoes;
        let mut device = Connection::open(at(0), BootId(1), &outbox, device_end, &mut c, &mut d).unwrap();
        for _ in 0..4 {
            server.poll(at(1)).unwrap();
            device.poll(at(1), &mut outbox, |_| ()).unwrap();
        }
        archive.extend(server.archive);
    }
    let numbers: Vec<_> = archive.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 1, 2], "under the same numbers");
    assert!(outbox.is_empty());
}

#[test]
fn a_message_is_delivered_and_echoed() {
    let (device_end, server_end) = wire();
    let (mut a, mut b, mut c, mut d) = ([0; 512], [0; 512], [0; 512], [0; 512]);
    let mut outbox = outbox(&[]);
    let mut server = TestServer::new(server_end, &mut a, &mut b);
    let mut device = Connection::open(at(0), BootId(1), &outbox, device_end, &mut c, &mut d).unwrap();
    server.poll(at(0)).unwrap();
    device.poll(at(0), &mut outbox, |_| ()).unwrap();
    let message = Message { stream: StreamId(9), number: 1, time: 0, kind: Kind::TEXT, body: b"blink" };
    server.pump.send(|session, buffer| session.message(at(1), &message, buffer)).unwrap();
    let mut bodies = Vec::new();
    device.poll(at(1), &mut outbox, |message| bodies.push(message.body.to_vec())).unwrap();
    server.poll(at(1)).unwrap();
    assert_eq!(bodies, [b"blink"]);
    assert_eq!(server.pump.session().in_flight(), 0, "the echo came");
}

#[test]
fn a_refusal_and_a_silent_server_are_told_apart() {
    let (device_end, server_end) = wire();
    let (mut a, mut b, mut c, mut d) = ([0; 512], [0; 512], [0; 512], [0; 512]);
    let mut outbox = outbox(&[]);
    let mut server = Pump::new(Session::server(at(0), Duration::from_secs(10)), server_end, &mut a, &mut b);
    let mut device = Connection::open(at(0), BootId(1), &outbox, device_end, &mut c, &mut d).unwrap();
    let close = Close { reason: CloseReason::Revoked, retry_after: 60, detail: Text::default() };
    server.send(|session, buffer| Ok(session.close(&close, buffer))).unwrap();
    let refused = End::Closed { reason: CloseReason::Revoked, retry_after: 60 };
    assert_eq!(device.poll(at(1), &mut outbox, |_| ()), Err(refused));

    let (device_end, _server_end) = wire();
    let (mut c, mut d) = ([0; 512], [0; 512]);
    let mut device = Connection::open(at(0), BootId(1), &outbox, device_end, &mut c, &mut d).unwrap();
    assert_eq!(device.timeout(), Some(at(10)));
    assert_eq!(device.poll(at(9), &mut outbox, |_| ()), Ok(()));
    let lost = End::Failed(PumpError::Lost(Lost::OpeningTimedOut));
    assert_eq!(device.poll(at(10), &mut outbox, |_| ()), Err(lost));
}
