//! Two sessions, face to face, with bytes passed by hand.

use std::{vec, vec::Vec};

use super::*;
use crate::{
    code::{CloseReason, ConnectionKind},
    message::{BootId, Kind, StoreId, Text},
};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u32) -> Instant {
    Instant::from_micros(1).after(Duration::from_secs(seconds))
}

fn hello() -> Hello {
    Hello {
        oldest_version: message::OLDEST_VERSION,
        newest_version: message::VERSION,
        kind: ConnectionKind::Control,
        boot: BootId(7),
        stream: StreamId(9),
        max_frame: 1024,
        window: Window { messages: 2, bytes: 1024 },
    }
}

fn welcome() -> Welcome<'static> {
    Welcome {
        version: message::VERSION,
        interval: 30_000,
        timeout: 10_000,
        max_frame: 2048,
        window: Window { messages: 3, bytes: 4096 },
        store: StoreId(1),
        archived: 0,
        time: 0,
        name: Text::new("kiosk-1").unwrap(),
    }
}

fn text(number: u64) -> Message<'static> {
    Message { stream: StreamId(9), number, time: 0, kind: Kind::TEXT, body: b"hello" }
}

/// Everything that a session has to say now.
fn drain<R: Role>(session: &mut Session<R>, now: Instant) -> Result<Vec<u8>, Lost> {
    let mut bytes = Vec::new();
    let mut buffer = [0; OUTPUT_ROOM];
    while let length @ 1.. = session.output(now, &mut buffer)? {
        bytes.extend_from_slice(&buffer[..length]);
    }
    Ok(bytes)
}

/// Passes bytes in, and gives what became of them in words.
fn feed<R: Role>(session: &mut Session<R>, now: Instant, mut bytes: &[u8]) -> Vec<std::string::String> {
    let mut events = vec![];
    loop {
        let (consumed, event) = session.input(now, bytes).unwrap();
        events.extend(event.map(|event| std::format!("{event:?}")));
        if consumed == 0 {
            assert!(bytes.is_empty(), "bytes left over: {bytes:?}");
            return events;
        }
        bytes = &bytes[consumed..];
    }
}

fn opened() -> (Session<Client>, Session<Server>) {
    let mut client = Session::client(1024);
    let mut server = Session::server(at(0), SECOND);
    let mut buffer = [0; 256];
    let length = client.open(at(0), SECOND, &hello(), &mut buffer).unwrap();
    assert_eq!(feed(&mut server, at(0), &buffer[..length]).len(), 1, "the hello");
    let pong = drain(&mut server, at(0)).unwrap();
    assert_eq!(pong, b"PONG");
    assert!(feed(&mut client, at(0), &pong).is_empty());
    let length = server.welcome(at(0), &welcome(), &mut buffer).unwrap();
    assert_eq!(feed(&mut client, at(0), &buffer[..length]).len(), 1, "the welcome");
    (client, server)
}

#[test]
fn a_session_opens_and_a_message_is_echoed() {
    let (mut client, mut server) = opened();
    let mut buffer = [0; 256];
    let length = client.message(at(1), &text(1), &mut buffer).unwrap();
    let events = feed(&mut server, at(1), &buffer[..length]);
    assert!(events[0].starts_with("Message("), "{events:?}");
    assert!(server.echo(StreamId(9), 1));
    let echo = drain(&mut server, at(1)).unwrap();
    let events = feed(&mut client, at(1), &echo);
    assert!(events[0].starts_with("Echo("), "{events:?}");
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn one_echo_stands_for_all_before_it() {
    let (mut client, mut server) = opened();
    let mut buffer = [0; 256];
    for number in 1..=3 {
        let length = client.message(at(1), &text(number), &mut buffer).unwrap();
        feed(&mut server, at(1), &buffer[..length]);
    }
    assert_eq!(client.message(at(1), &text(4), &mut buffer), Err(SendError::WindowFull));
    assert!(server.echo(StreamId(9), 1));
    assert!(server.echo(StreamId(9), 3));
    assert!(!server.echo(StreamId(9), 3), "echoed twice");
    let echo = drain(&mut server, at(1)).unwrap();
    assert_eq!(feed(&mut client, at(1), &echo).len(), 1);
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn more_than_the_window_is_an_error() {
    let (_, mut server) = opened();
    let mut buffer = [0; 256];
    for number in 1..=3 {
        let length = message::encode(&text(number), 1024, &mut buffer).unwrap();
        feed(&mut server, at(1), &buffer[..length]);
    }
    let length = message::encode(&text(4), 1024, &mut buffer).unwrap();
    assert_eq!(server.input(at(1), &buffer[..length]), Err(ProtocolError::WindowExceeded));
}

#[test]
fn a_gap_and_another_stream_wait_for_the_echo() {
    let (mut client, mut server) = opened();
    let mut buffer = [0; 256];
    let length = client.message(at(1), &text(5), &mut buffer).unwrap();
    feed(&mut server, at(1), &buffer[..length]);
    assert_eq!(client.message(at(1), &text(7), &mut buffer), Err(SendError::OutOfOrder { expected: 6 }));
    let other = Message { stream: StreamId(8), ..text(6) };
    assert_eq!(client.message(at(1), &other, &mut buffer), Err(SendError::OutOfOrder { expected: 6 }));
    server.echo(StreamId(9), 5);
    let echo = drain(&mut server, at(1)).unwrap();
    feed(&mut client, at(1), &echo);
    assert!(client.message(at(1), &other, &mut buffer).is_ok());
}

#[test]
fn an_idle_client_pings_and_the_server_answers() {
    let (mut client, mut server) = opened();
    assert_eq!(client.timeout(), Some(at(30)));
    assert_eq!(drain(&mut client, at(29)).unwrap(), b"");
    let ping = drain(&mut client, at(30)).unwrap();
    assert_eq!(ping, b"PING");
    assert_eq!(client.timeout(), Some(at(40)), "the answer is due");
    assert!(feed(&mut server, at(30), &ping).is_empty());
    let pong = drain(&mut server, at(30)).unwrap();
    assert_eq!(feed(&mut client, at(31), &pong), ["Pong { round_trip: Duration(1000000) }"]);
    assert_eq!(client.timeout(), Some(at(60)));
}

#[test]
fn a_silent_peer_is_lost_within_the_bound() {
    let (mut client, mut server) = opened();
    assert_eq!(server.timeout(), Some(at(40)));
    assert_eq!(drain(&mut server, at(39)), Ok(vec![]));
    assert_eq!(drain(&mut server, at(40)), Err(Lost::Silent));
    assert_eq!(server.state(), State::Ended);
    assert_eq!(drain(&mut client, at(30)).unwrap(), b"PING");
    assert_eq!(drain(&mut client, at(40)), Err(Lost::NoAnswer));
}

#[test]
fn a_client_that_slept_asks_at_once_and_is_soon_sure() {
    // Its clock counts sleep, and jumps when the machine wakes.
    let (mut client, mut server) = opened();
    assert_eq!(drain(&mut server, at(40)), Err(Lost::Silent), "meanwhile the server gave it up");
    assert_eq!(client.timeout(), Some(at(30)), "what was due while it slept is due when it wakes");
    assert_eq!(drain(&mut client, at(36_000)).unwrap(), b"PING");
    assert_eq!(client.timeout(), Some(at(36_010)));
    assert_eq!(drain(&mut client, at(36_010)), Err(Lost::NoAnswer));
}

#[test]
fn a_client_that_slept_over_an_answer_knows_at_once_that_none_came() {
    let (mut client, mut server) = opened();
    assert_eq!(drain(&mut client, at(30)).unwrap(), b"PING");
    let mut awake = client.clone();
    assert_eq!(drain(&mut client, at(36_000)), Err(Lost::NoAnswer));
    // Unless it came, and waits in the socket: then the client asks anew.
    feed(&mut server, at(30), b"PING");
    let pong = drain(&mut server, at(30)).unwrap();
    feed(&mut awake, at(36_000), &pong);
    assert_eq!(drain(&mut awake, at(36_000)).unwrap(), b"PING");
}

#[test]
fn a_busy_client_still_asks_for_an_answer() {
    let (mut client, _) = opened();
    let mut buffer = [0; 256];
    client.message(at(20), &text(1), &mut buffer).unwrap();
    assert_eq!(drain(&mut client, at(30)).unwrap(), b"PING", "nothing was heard since the start");
    client.message(at(35), &text(2), &mut buffer).unwrap();
    assert_eq!(drain(&mut client, at(40)), Err(Lost::NoAnswer));
}

#[test]
fn what_came_counts_before_silence_is_judged() {
    let (_, mut server) = opened();
    feed(&mut server, at(100), b"PING");
    assert_eq!(drain(&mut server, at(100)).unwrap(), b"PONG");
}

#[test]
fn a_ping_on_demand_shortens_the_wait() {
    let (_, mut server) = opened();
    server.ping();
    assert_eq!(drain(&mut server, at(5)).unwrap(), b"PING");
    assert_eq!(server.timeout(), Some(at(15)));
    assert_eq!(drain(&mut server, at(15)), Err(Lost::NoAnswer));
}

#[test]
fn strangers_get_no_benefit_of_the_doubt() {
    let fresh = || Session::server(at(0), SECOND);
    assert_eq!(fresh().input(at(0), b"PONG"), Err(ProtocolError::ExpectedPing { tag: Tag::PONG }));
    assert!(matches!(fresh().input(at(0), b"GE"), Ok((0, None))));
    assert!(matches!(fresh().input(at(0), b"GET "), Err(ProtocolError::Frame(_))));
    let mut server = fresh();
    feed(&mut server, at(0), b"PING");
    let unknown = server.input(at(0), b"XXXX\0\0\0\0").unwrap_err();
    assert!(matches!(unknown, ProtocolError::Unexpected { .. }));
    let mut server = fresh();
    feed(&mut server, at(0), b"PING");
    assert!(matches!(server.input(at(0), b"HELO\0\x01\0\0"), Err(ProtocolError::Frame(_))), "too large");
}

#[test]
fn an_unknown_tag_is_passed_on_whole() {
    let (_, mut server) = opened();
    let events = feed(&mut server, at(1), b"XYZW\0\0\0\x03abcPING");
    assert_eq!(events, ["Notice(Frame { tag: XYZW, body: [97, 98, 99] })"]);
    assert_eq!(drain(&mut server, at(1)).unwrap(), b"PONG");
}

#[test]
fn a_newer_peer_agrees_on_the_older_version() {
    let offer = |oldest, newest| {
        let mut server = Session::server(at(0), SECOND);
        let mut buffer = [0; 256];
        let newer = Hello { oldest_version: oldest, newest_version: newest, ..hello() };
        feed(&mut server, at(0), b"PING");
        let length = message::encode(&newer, 256, &mut buffer).unwrap();
        server.input(at(0), &buffer[..length]).map(|_| ())?;
        Ok(server.version())
    };
    let newest = message::VERSION;
    assert_eq!(offer(1, 9), Ok(newest));
    assert_eq!(offer(1, 1), Ok(1));
    let too_new = newest + 1;
    assert_eq!(offer(too_new, 9), Err(ProtocolError::NoCommonVersion { oldest: too_new, newest: 9 }));
}

#[test]
fn an_unknown_code_is_carried() {
    let mut buffer = [0; 256];
    let close = Close { reason: CloseReason::Other(4711), retry_after: 3, detail: Text::default() };
    let length = message::encode(&close, 256, &mut buffer).unwrap();
    let read: Close<'_> = message::decode(&buffer[8..length]).unwrap();
    assert_eq!(read, close);
}

#[test]
fn a_close_ends_both_sides() {
    let (mut client, mut server) = opened();
    let mut buffer = [0; 256];
    let close =
        Close { reason: CloseReason::Draining, retry_after: 5, detail: Text::new("restart").unwrap() };
    let length = server.close(&close, &mut buffer);
    assert_eq!(client.input(at(1), &buffer[..length]), Ok((length, Some(Event::Closed(close)))));
    assert_eq!((client.state(), server.state()), (State::Ended, State::Ended));
    assert_eq!((client.timeout(), server.timeout()), (None, None));
}

#[test]
fn a_peer_that_takes_hardly_anything_still_gets_its_echo() {
    let mut server = Session::server(at(0), SECOND);
    let mut buffer = [0; 256];
    feed(&mut server, at(0), b"PING");
    let length = message::encode(&Hello { max_frame: 0, ..hello() }, 256, &mut buffer).unwrap();
    feed(&mut server, at(0), &buffer[..length]);
    server.welcome(at(0), &welcome(), &mut buffer).unwrap();
    let length = message::encode(&text(1), 1024, &mut buffer).unwrap();
    feed(&mut server, at(1), &buffer[..length]);
    server.echo(StreamId(9), 1);
    server.ping();
    let output = drain(&mut server, at(1)).unwrap();
    assert!(output.starts_with(b"PONGECHO") && output.ends_with(b"PING"), "{output:?}");
}

#[test]
fn an_echo_that_is_due_keeps_its_stream() {
    let (mut client, mut server) = opened();
    let mut buffer = [0; 256];
    let length = client.message(at(1), &text(1), &mut buffer).unwrap();
    feed(&mut server, at(1), &buffer[..length]);
    server.echo(StreamId(9), 1);
    let other = Message { stream: StreamId(8), ..text(6) };
    let length = message::encode(&other, 1024, &mut buffer).unwrap();
    let error = server.input(at(1), &buffer[..length]).unwrap_err();
    assert_eq!(error, ProtocolError::OutOfOrder { expected: 2, found: 6 });
}

#[test]
fn numbers_begin_at_one_and_end() {
    let (mut client, _) = opened();
    let mut buffer = [0; 256];
    let refused = Err(SendError::OutOfOrder { expected: 1 });
    assert_eq!(client.message(at(1), &text(0), &mut buffer), refused);
    assert!(client.message(at(1), &text(u64::MAX), &mut buffer).is_ok());
    let refused = Err(SendError::OutOfOrder { expected: u64::MAX });
    assert_eq!(client.message(at(1), &text(u64::MAX), &mut buffer), refused);
}

#[test]
fn an_interval_needs_a_timeout() {
    let open = |interval, timeout| {
        let mut client = Session::client(1024);
        let mut buffer = [0; 256];
        client.open(at(0), SECOND, &hello(), &mut buffer).unwrap();
        let welcome = Welcome { interval, timeout, ..welcome() };
        let length = message::encode(&welcome, 256, &mut buffer).unwrap();
        client.input(at(0), &buffer[..length]).map(|_| ())
    };
    assert_eq!(open(30_000, 0), Err(ProtocolError::NoTimeout));
    assert_eq!(ProtocolError::NoTimeout.reason(), CloseReason::ProtocolError);
    assert_eq!((open(0, 0), open(0, 1), open(1, 1)), (Ok(()), Ok(()), Ok(())));
}
