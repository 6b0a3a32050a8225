//! Connections over an in-memory stream, with a real store.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use protocol_core::{
    code::{CloseReason, ConnectionKind},
    message::{self, BootId, Hello, Kind, Message, Pin, StreamId, Text, Window},
    session::{Client, Event, Session, State},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    clock,
    config::{Config, Overrides},
    event::EventRow,
    host::Host,
    mailbox::{Farewell, Mailbox},
    store::{
        DeviceId, EndReason, EventFilter, MessageFilter, NewMessage, SessionFilter, Store, StoreError,
        tests::enrolled,
    },
    strangers::Strangers,
    tls::Keys,
};

use super::{Caller, wire::Wire, write_due};

const LONGEST_WAIT: Duration = Duration::from_secs(20);
const KEY: Pin = Pin([7; 32]);
const STREAM: StreamId = StreamId(9);

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 40_000).into()
}

async fn host(directory: &TempDir) -> Arc<Host> {
    let mut config = Config::load(directory.path(), &Overrides::default()).unwrap();
    // The holder of a place has half of the timeout to show that it lives.
    config.keep_alive.timeout = Duration::from_secs(2);
    let keys = Keys::load_or_create(&directory.path().join("keys")).unwrap();
    let store = open_store(directory.path()).await;
    Arc::new(Host::new(&config, store, &keys, vec!["127.0.0.1:55223".to_owned()]))
}

async fn open_store(directory: &Path) -> Store {
    let directory = directory.to_owned();
    tokio::task::spawn_blocking(move || Store::open(&directory)).await.unwrap().unwrap()
}

async fn enrol(host: &Host, key: Pin) -> DeviceId {
    let name = if key == KEY { "pi".to_owned() } else { format!("pi-{}", key.0[0]) };
    enrolled(&host.store, &name, key.0).await
}

/// The events of this kind, once there is one: the peer does not wait until it is recorded.
async fn recorded(host: &Host, kind: &str) -> Vec<EventRow> {
    let looking = timeout(LONGEST_WAIT, async {
        loop {
            let mut events = host.store.events(EventFilter::default()).await.unwrap();
            events.retain(|event| event.kind == kind);
            if !events.is_empty() {
                return events;
            }
        }
    });
    looking.await.unwrap_or_else(|_| panic!("there is no {kind}"))
}

fn hello(boot: u64) -> Hello {
    Hello {
        oldest_version: message::OLDEST_VERSION,
        newest_version: message::VERSION,
        kind: ConnectionKind::Control,
        boot: BootId(boot),
        stream: STREAM,
        max_frame: 4096,
        window: Window { messages: 2, bytes: 4096 },
    }
}

/// A device at the other end of a connection.
struct Peer {
    session: Session<Client>,
    stream: DuplexStream,
    input: Vec<u8>,
    server: JoinHandle<()>,
}

impl Peer {
    async fn connect(host: &Arc<Host>, key: Pin, hello: &Hello) -> Self {
        let (stream, server_stream) = duplex(64 * 1024);
        let host = Arc::clone(host);
        let server = tokio::spawn(async move {
            super::serve(&host, server_stream, Caller::Device(key), address(), Strangers::new(8).enter())
                .await
        });
        let mut peer = Self { session: Session::client(hello.max_frame), stream, input: Vec::new(), server };
        let mut buffer = [0; 256];
        let time_limit = protocol_core::time::Duration::from_secs(20);
        let length = peer.session.open(clock::now(), time_limit, hello, &mut buffer).unwrap();
        peer.stream.write_all(&buffer[..length]).await.unwrap();
        peer
    }

    async fn welcomed(host: &Arc<Host>, key: Pin, hello: &Hello) -> Self {
        let mut peer = Self::connect(host, key, hello).await;
        let event = peer.next().await;
        assert!(event.starts_with("Welcome("), "{event}");
        let event = peer.next().await;
        assert!(event.starts_with("Notice(Frame { tag: ENDP"), "{event}");
        peer
    }

    /// The next event, in words.
    async fn next(&mut self) -> String {
        timeout(LONGEST_WAIT, async {
            loop {
                let (used, event) = self.session.input(clock::now(), &self.input).unwrap();
                let event = event.map(|event| format!("{event:?}"));
                self.input.drain(..used);
                self.flush().await;
                if let Some(event) = event {
                    return event;
                }
                if used == 0 && self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                    return "the end".to_owned();
                }
            }
        })
        .await
        .expect("an event in time")
    }

    async fn flush(&mut self) {
        let mut buffer = [0; 64];
        while let length @ 1.. = self.session.output(clock::now(), &mut buffer).unwrap() {
            self.stream.write_all(&buffer[..length]).await.unwrap();
        }
    }

    async fn send(&mut self, number: u64, body: &[u8]) {
        let message = Message { stream: STREAM, number, time: 5, kind: Kind::TEXT, body };
        let mut buffer = [0; 4096];
        let length = self.session.message(clock::now(), &message, &mut buffer).unwrap();
        self.stream.write_all(&buffer[..length]).await.unwrap();
    }

    async fn notice(&mut self, body: &impl message::Body) {
        let mut buffer = [0; 4096];
        let length = message::encode(body, 4096, &mut buffer).unwrap();
        self.stream.write_all(&buffer[..length]).await.unwrap();
    }

    /// Echoes what comes until so many bytes of messages have come, and gives these.
    async fn take_bodies(&mut self, length: usize) -> Vec<u8> {
        let mut bodies = Vec::new();
        while bodies.len() < length {
            let (used, event) = self.session.input(clock::now(), &self.input).unwrap();
            let taken = match event {
                Some(Event::Message(message)) => {
                    bodies.extend_from_slice(message.body);
                    Some((message.stream, message.number))
                }
                _ => None,
            };
            self.input.drain(..used);
            if let Some((stream, number)) = taken {
                assert!(self.session.echo(stream, number));
                self.flush().await;
            } else if used == 0 {
                let read =
                    timeout(LONGEST_WAIT, self.stream.read_buf(&mut self.input)).await.unwrap().unwrap();
                assert!(read > 0, "the server has closed the connection");
            }
        }
        bodies
    }

    async fn closed(&mut self, reason: CloseReason) {
        let event = self.next().await;
        assert!(event.starts_with(&format!("Closed(Close {{ reason: {reason:?}")), "{event}");
        assert_eq!(self.session.state(), State::Ended);
        timeout(LONGEST_WAIT, &mut self.server).await.expect("the connection ends").unwrap();
    }
}

#[tokio::test]
async fn a_message_is_echoed_once_it_is_archived() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    let device = enrol(&host, KEY).await;
    let mut peer = Peer::welcomed(&host, KEY, &hello(1)).await;
    assert!(host.registry.online(device).is_some());
    peer.send(1, b"hello").await;
    assert_eq!(peer.next().await, format!("Echo({:?})", message::Echo { stream: STREAM, number: 1 }));
    let archived = host.store.messages(MessageFilter::default()).await.unwrap();
    assert_eq!(archived.len(), 1);
    assert_eq!(archived[0].body, b"hello");
}

/// Who is not told the next key is locked out by a rotation: it is told whatever has to be left out.
#[tokio::test]
async fn a_device_of_small_frames_is_told_the_keys_and_the_best_address() {
    let directory = TempDir::new().unwrap();
    let mut host = host(&directory).await;
    enrol(&host, KEY).await;
    let long = |first: char| format!("{first}{}:55223", "x".repeat(100));
    Arc::get_mut(&mut host).unwrap().address_book.addresses = vec![long('a'), long('b'), long('c')];
    for (max_frame, told) in [(256, "a"), (300, "ab"), (4096, "abc")] {
        let mut peer = Peer::connect(&host, KEY, &Hello { max_frame, ..hello(1) }).await;
        assert!(peer.next().await.starts_with("Welcome("));
        let endpoints = timeout(LONGEST_WAIT, async {
            loop {
                if let (_, Some(Event::Notice(frame))) =
                    peer.session.input(clock::now(), &peer.input).unwrap()
                {
                    let endpoints: message::Endpoints<'_> = message::decode(frame.body).unwrap();
                    return endpoints
                        .addresses
                        .iter()
                        .map(|address| address.as_str()[..1].to_owned())
                        .collect();
                }
                peer.stream.read_buf(&mut peer.input).await.unwrap();
            }
        });
        let endpoints: String = endpoints.await.expect("it is told");
        assert_eq!(endpoints, told);
        drop(peer);
        let gone = async {
            while host.registry.count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONGEST_WAIT, gone).await.expect("it is gone");
        while Arc::get_mut(&mut host).is_none() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_repeat_is_echoed_and_another_content_is_a_conflict() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    enrol(&host, KEY).await;
    for _ in 0..2 {
        let mut peer = Peer::welcomed(&host, KEY, &hello(1)).await;
        peer.send(1, b"hello").await;
        assert!(peer.next().await.starts_with("Echo("));
    }
    let mut peer = Peer::welcomed(&host, KEY, &hello(1)).await;
    peer.send(1, b"other").await;
    peer.closed(CloseReason::Conflict).await;
    assert_eq!(host.store.messages(MessageFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn messages_to_a_device_come_in_order_and_count_as_delivered_when_echoed() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    let device = enrol(&host, KEY).await;
    for body in ["a", "b", "c", "d", "e"] {
        let message =
            NewMessage { kind: "text".parse().unwrap(), body: body.into(), expires_at: None, who: None };
        host.store.enqueue(device, message, 10).await.unwrap();
    }
    let mut peer = Peer::welcomed(&host, KEY, &hello(1)).await;
    let bodies = peer.take_bodies(5).await;
    assert_eq!(bodies, b"abcde");
    let delivered = async {
        while host.store.devices().await.unwrap()[0].waiting > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONGEST_WAIT, delivered).await.expect("the deliveries are noted");
}

/// Its window may be larger than what may wait to be sent: that is no sign that it does not read.
#[tokio::test]
async fn a_device_with_a_large_window_is_not_taken_for_one_that_does_not_read() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    let device = enrol(&host, KEY).await;
    for _ in 0..16 {
        let (kind, body) = ("text".parse().unwrap(), vec![b'x'; 60_000]);
        host.store.enqueue(device, NewMessage { kind, body, expires_at: None, who: None }, 16).await.unwrap();
    }
    let window = Window { messages: 24, bytes: 4 * 1024 * 1024 };
    let hello = Hello { max_frame: u16::MAX, window, ..hello(1) };
    let mut peer = Peer::welcomed(&host, KEY, &hello).await;
    assert_eq!(peer.take_bodies(16 * 60_000).await.len(), 16 * 60_000);
}

/// Messages that this agent's frames have no room for are told of once in each session, and hold up no other; once
/// it is known what the agent takes, no more of them are taken.
#[tokio::test]
async fn a_message_that_is_too_large_for_the_device_leaves_an_event() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    let device = enrol(&host, KEY).await;
    let message = |length| NewMessage {
        kind: "text".parse().unwrap(),
        body: vec![b'x'; length],
        expires_at: None,
        who: None,
    };
    for length in [5_000, 6_000, 5] {
        host.store.enqueue(device, message(length), 10).await.unwrap();
    }
    for sessions in 1..=2 {
        let mut peer = Peer::welcomed(&host, KEY, &hello(1)).await;
        let event = peer.next().await;
        assert!(event.starts_with("Message(") && event.contains("number: 3"), "{event}");
        host.registry.notify(device);
        peer.send(sessions, b"and back").await;
        assert!(peer.next().await.starts_with("Echo("));
        let told = timeout(LONGEST_WAIT, async {
            loop {
                let mut told = host.store.events(EventFilter::default()).await.unwrap();
                told.retain(|event| event.kind == "message-passed-over");
                if told.len() as u64 >= sessions {
                    return told;
                }
            }
        });
        let told = told.await.expect("it is told");
        assert_eq!(told.len() as u64, sessions, "{told:?}");
        assert!(told.iter().all(|event| event.detail["length"] == 5_000 && event.session.is_some()));
    }
    host.store.enqueue(device, message(4_028), 10).await.unwrap();
    let refused = host.store.enqueue(device, message(4_029), 10).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { length: 4_029, most: 4_028 })), "{refused:?}");
}

/// Whatever a device sends, and whatever waits for it: it is answered while the store stands still.
#[tokio::test]
async fn a_device_is_answered_while_the_store_stands_still() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    let device = enrol(&host, KEY).await;
    let mut peer = Peer::welcomed(&host, KEY, &hello(1)).await;
    let stopped = rusqlite::Connection::open(directory.path().join("holdfast.db")).unwrap();
    stopped.execute_batch("BEGIN IMMEDIATE").unwrap();
    peer.notice(&message::Facts { host_name: Text::shortened("pi-2"), ..message::Facts::default() }).await;
    peer.notice(&message::Status { uptime: 5, readings: Default::default() }).await;
    peer.send(1, b"to be archived").await;
    host.registry.notify(device);
    for _ in 0..3 {
        peer.session.ping();
        peer.flush().await;
        assert!(peer.next().await.starts_with("Pong"));
    }
    stopped.execute_batch("COMMIT").unwrap();
    assert!(peer.next().await.starts_with("Echo("));
}

/// Whoever is online is heard, or a device that has left would be online for as long as the store stands still.
#[tokio::test]
async fn a_device_that_is_online_does_not_wait_for_the_store() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    enrol(&host, KEY).await;
    let mut newest = host.store.newest();
    newest.borrow_and_update();
    let mut peer = Peer::connect(&host, KEY, &hello(1)).await;
    newest.changed().await.expect("the session has its row");
    let (go_on, stopped) = std::sync::mpsc::channel::<()>();
    let mut standing_still = Box::pin(host.store.write(move |_| Ok(stopped.recv().is_ok())));
    tokio::select! {
        biased;
        _ = &mut standing_still => panic!("the store goes on"),
        () = std::future::ready(()) => {}
    }
    assert!(peer.next().await.starts_with("Welcome("));
    go_on.send(()).unwrap();
    assert!(standing_still.await.unwrap());
}

/// A server that was held up wakes with requests for connections whose peers have spoken: it has to read first.
#[tokio::test]
async fn what_was_said_is_read_before_silence_is_judged() {
    let (mut peer, stream) = duplex(1024);
    let mut wire = Wire::new(stream);
    let long_ago = clock::now().before(protocol_core::time::Duration::from_secs(60));
    let mut session = Session::server(long_ago, protocol_core::time::Duration::from_secs(10));
    peer.write_all(b"PING").await.unwrap();
    let mailbox = Mailbox::default();
    mailbox.deliver();
    let wake = wire.next(&mailbox, session.timeout()).await.unwrap();
    assert!(wake.input && wake.requests.is_some() && !wake.due, "{wake:?}");
    assert!(write_due(&mut session, &mut wire, wake.due).is_ok());
    assert!(write_due(&mut session, &mut wire, true).is_err());
}

#[tokio::test]
async fn the_newest_connection_of_one_start_replaces_the_older() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    enrol(&host, KEY).await;
    let mut older = Peer::welcomed(&host, KEY, &hello(1)).await;
    let mut newer = Peer::welcomed(&host, KEY, &hello(1)).await;
    older.closed(CloseReason::Replaced).await;
    newer.send(1, b"still here").await;
    assert!(newer.next().await.starts_with("Echo("));
    assert_eq!(host.registry.count(), 1);
}

#[tokio::test]
async fn whoever_opens_while_the_server_stops_is_told_so_too() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    enrol(&host, KEY).await;
    let farewell = Farewell::new(CloseReason::Draining, "the server stops");
    assert_eq!(host.drain(farewell, LONGEST_WAIT).await, 0);
    let mut late = Peer::welcomed(&host, KEY, &hello(1)).await;
    late.closed(CloseReason::Draining).await;
    assert_eq!(host.registry.count(), 0);
}

#[tokio::test]
async fn a_stranger_does_not_hold_up_the_end() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    let (mut stranger, stream) = duplex(1024);
    let serving = {
        let host = Arc::clone(&host);
        let place = host.strangers.enter();
        tokio::spawn(async move { super::serve(&host, stream, Caller::Device(KEY), address(), place).await })
    };
    assert_eq!(host.drain(Farewell::new(CloseReason::Draining, "the server stops"), LONGEST_WAIT).await, 0);
    assert!(host.limits.opening_timeout > LONGEST_WAIT / 4);
    timeout(LONGEST_WAIT / 4, serving).await.expect("it is sent away at once").unwrap();
    let mut told = Vec::new();
    stranger.read_to_end(&mut told).await.unwrap();
    assert!(told.starts_with(b"CLOS"), "{told:?}");
}

#[tokio::test]
async fn a_clone_is_refused_while_the_original_answers() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    enrol(&host, KEY).await;
    let mut original = Peer::welcomed(&host, KEY, &hello(1)).await;
    let mut clone = Peer::connect(&host, KEY, &hello(2)).await;
    let answering = tokio::spawn(async move {
        let event = original.next().await;
        (original, event)
    });
    clone.closed(CloseReason::Clone).await;
    recorded(&host, "clone-refused").await;
    assert_eq!(host.registry.count(), 1, "the original is undisturbed");
    answering.abort();
}

/// A fleet comes back at the same moment, clones and originals alike: who is in is not the last one, but the first.
#[tokio::test]
async fn of_two_starts_at_the_same_moment_one_is_refused_as_the_clone() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    enrol(&host, KEY).await;
    let start = |boot| {
        let host = Arc::clone(&host);
        tokio::spawn(async move {
            let mut peer = Peer::connect(&host, KEY, &hello(boot)).await;
            let first = peer.next().await;
            // Whoever is in answers to the other's question, and goes on.
            let ended = tokio::spawn(async move {
                loop {
                    let event = peer.next().await;
                    if event.starts_with("Closed(") {
                        return event;
                    }
                }
            });
            (first, ended)
        })
    };
    let (one, two) = (start(1), start(2));
    let ((one, one_ended), (two, two_ended)) = (one.await.unwrap(), two.await.unwrap());
    let refused = [&one, &two].map(|event| event.starts_with("Closed(Close { reason: Clone"));
    let welcomed = [&one, &two].map(|event| event.starts_with("Welcome("));
    assert!(refused[0] != refused[1] && welcomed == [refused[1], refused[0]], "{one}; {two}");
    let holder = host.registry.all();
    assert_eq!(holder.len(), 1);
    assert_eq!(holder[0].boot, BootId(if welcomed[0] { 1 } else { 2 }));
    let staying = if welcomed[0] { one_ended } else { two_ended };
    assert!(!staying.is_finished(), "nothing replaces it");
    staying.abort();
    let clone = recorded(&host, "clone-refused").await;
    assert_eq!(clone.len(), 1, "{clone:?}");
    assert!(clone[0].detail["original"] == "127.0.0.1" && clone[0].device.is_some(), "{clone:?}");
    assert_eq!(host.store.sessions(SessionFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_start_that_no_longer_answers_makes_way() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    enrol(&host, KEY).await;
    let _silent = Peer::welcomed(&host, KEY, &hello(1)).await;
    let mut newer = Peer::welcomed(&host, KEY, &hello(2)).await;
    newer.send(1, b"back").await;
    assert!(newer.next().await.starts_with("Echo("));
    assert_eq!(host.registry.count(), 1);
}

#[tokio::test]
async fn strangers_and_the_revoked_are_told_why() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    let device = enrol(&host, KEY).await;
    Peer::connect(&host, Pin([8; 32]), &hello(1)).await.closed(CloseReason::UnknownKey).await;
    let mut peer = Peer::welcomed(&host, KEY, &hello(1)).await;
    host.store.revoke("pi", "test").await.unwrap();
    assert!(host.registry.close(device, Farewell::new(CloseReason::Revoked, "revoked")));
    peer.closed(CloseReason::Revoked).await;
    Peer::connect(&host, KEY, &hello(1)).await.closed(CloseReason::Revoked).await;
    let data = Hello { kind: ConnectionKind::Other(2), ..hello(1) };
    Peer::connect(&host, KEY, &data).await.closed(CloseReason::NotServed).await;
    let sessions = host.store.sessions(SessionFilter::default()).await.unwrap();
    assert_eq!(sessions.len(), 1, "those who are refused have no session");
    assert_eq!(sessions[0].reason, Some(EndReason::Revoked));
}

#[tokio::test]
async fn a_broken_frame_ends_only_its_own_connection() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    enrol(&host, KEY).await;
    enrol(&host, Pin([8; 32])).await;
    let mut other = Peer::welcomed(&host, Pin([8; 32]), &hello(1)).await;
    let mut peer = Peer::welcomed(&host, KEY, &hello(1)).await;
    peer.stream.write_all(b"MESG\xff\xff\xff\xff").await.unwrap();
    peer.closed(CloseReason::ProtocolError).await;
    other.send(1, b"fine").await;
    assert!(other.next().await.starts_with("Echo("));
}

#[tokio::test]
async fn a_message_behind_the_hello_comes_too_early() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    enrol(&host, KEY).await;
    let mut early = Peer::connect(&host, KEY, &hello(1)).await;
    let message = Message { stream: STREAM, number: 1, time: 0, kind: Kind::TEXT, body: b"early" };
    let mut buffer = [0; 256];
    let length = message::encode(&message, 256, &mut buffer).unwrap();
    early.stream.write_all(&buffer[..length]).await.unwrap();
    early.closed(CloseReason::ProtocolError).await;
    assert!(host.store.messages(MessageFilter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_ping_on_demand_measures_the_way() {
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    let device = enrol(&host, KEY).await;
    let mut peer = Peer::welcomed(&host, KEY, &hello(1)).await;
    let answering = tokio::spawn(async move { peer.next().await });
    let round_trip = host.registry.ping(device, LONGEST_WAIT).await.unwrap();
    assert!(round_trip < LONGEST_WAIT);
    answering.abort();
}

#[tokio::test]
async fn an_idle_connection_costs_little() {
    // The future of a connection lives as long as the connection: it is most of what we hold for an idle one.
    let directory = TempDir::new().unwrap();
    let host = host(&directory).await;
    let (_, stream) = duplex(64);
    let serving = super::serve(&host, stream, Caller::Device(KEY), address(), Strangers::new(8).enter());
    let size = std::mem::size_of_val(&serving);
    assert!(size <= 1_600, "the future of a connection takes {size} bytes");
}
