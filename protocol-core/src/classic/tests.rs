#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "a test may panic: that is how it fails"
)]

use std::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

/// What happened, with the bytes it borrowed, and what the server would answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Ping,
    Text(Vec<u8>),
    Password(Vec<u8>),
    Malformed,
    End,
    Error(ClassicError),
}

/// A connection with its buffer and a clock that only the test moves.
struct Line {
    classic: Classic,
    buffer: Vec<u8>,
    now: Instant,
    seen: Vec<Seen>,
}

const GAP: Duration = Duration::from_millis(2);

impl Line {
    fn new(gap: Duration) -> Self {
        let now = Instant::from_micros(1_000_000);
        Self { classic: Classic::new(now, gap), buffer: Vec::new(), now, seen: Vec::new() }
    }

    /// A connection that has shaken hands.
    fn open() -> Self {
        let mut line = Self::new(GAP);
        line.send(b"PING");
        assert_eq!(line.take(), [Seen::Ping]);
        line
    }

    fn send(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.drain();
    }

    /// Each byte in a read of its own.
    fn send_each(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.send(&[*byte]));
    }

    /// Time passes; timeouts on the way are kept.
    fn wait(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(at) = self.classic.timeout().filter(|at| *at < until && !self.is_over()) {
            self.now = self.now.max(at);
            self.drain();
        }
        self.now = until;
    }

    fn gap(&mut self) {
        self.wait(GAP.plus(Duration::from_micros(1)));
    }

    fn end(&mut self) {
        self.classic.end();
        self.drain();
    }

    fn is_over(&self) -> bool {
        matches!(self.seen.last(), Some(Seen::Error(_) | Seen::End))
    }

    fn drain(&mut self) {
        while !self.is_over() {
            let (consumed, seen) = match self.classic.input(self.now, &self.buffer) {
                Err(error) => (0, Seen::Error(error)),
                Ok((consumed, Event::Wait)) => {
                    self.buffer.drain(..consumed);
                    assert!(self.buffer.len() < MAX_MESSAGE, "a full buffer that waits would wait for ever");
                    return;
                }
                Ok((consumed, event)) => (consumed, seen(event)),
            };
            self.buffer.drain(..consumed);
            self.seen.push(seen);
        }
    }

    fn take(&mut self) -> Vec<Seen> {
        core::mem::take(&mut self.seen)
    }
}

fn seen(event: Event<'_>) -> Seen {
    match event {
        Event::Wait => unreachable!("the caller has handled it"),
        Event::Ping => Seen::Ping,
        Event::Text { message, text } => {
            assert_eq!(message.get(..4), Some(b"MESG".as_slice()));
            assert_eq!(message.get(5..).unwrap_or_default(), text);
            Seen::Text(text.to_vec())
        }
        Event::Password(password) => Seen::Password(password.to_vec()),
        Event::Malformed => Seen::Malformed,
        Event::End => Seen::End,
    }
}

fn text(text: &str) -> Seen {
    Seen::Text(text.as_bytes().to_vec())
}

fn password(password: &str) -> Seen {
    Seen::Password(password.as_bytes().to_vec())
}

#[test]
fn answers_are_four_bytes() {
    for answer in [Answer::Pong, Answer::Accepted, Answer::Refused, Answer::Malformed] {
        assert_eq!(Answer::read(&answer.bytes()), Some(answer));
    }
    assert_eq!(Answer::read(b"PWOK\n"), None);
    assert_eq!(Answer::read(b""), None);
}

#[test]
fn anything_but_ping_first_closes_at_the_first_wrong_byte() {
    for (bytes, found) in [
        (&b"MESG hello"[..], *b"MESG"),
        (b"\n", [b'\n', 0, 0, 0]),
        (b"PINK", *b"PINK"),
        (b"GET / HTTP/1.1", *b"GET "),
    ] {
        let mut line = Line::new(GAP);
        line.send(bytes);
        assert_eq!(line.take(), [Seen::Error(ClassicError::NotPing { found })]);
    }
}

#[test]
fn a_torn_ping_waits_ten_seconds_in_all() {
    let mut line = Line::new(GAP);
    line.send(b"P");
    line.wait(Duration::from_secs(6));
    line.send(b"IN");
    line.wait(Duration::from_millis(3_999));
    assert_eq!(line.take(), []);
    let mut late = Line { classic: line.classic.clone(), buffer: line.buffer.clone(), ..Line::new(GAP) };
    late.now = line.now;
    late.wait(Duration::from_millis(2));
    assert_eq!(late.take(), [Seen::Error(ClassicError::NoPing { came: 3 })]);
    line.send(b"G");
    assert_eq!(line.take(), [Seen::Ping]);
    assert_eq!(line.classic.timeout(), None);
}

#[test]
fn a_silent_connection_is_closed_only_before_the_handshake() {
    let mut silent = Line::new(GAP);
    silent.wait(Duration::from_secs(11));
    assert_eq!(silent.take(), [Seen::Error(ClassicError::NoPing { came: 0 })]);
    let mut open = Line::open();
    open.wait(Duration::from_secs(1_000_000));
    open.send(b"PING");
    assert_eq!(open.take(), [Seen::Ping]);
}

#[test]
fn a_text_ends_at_the_gap_and_never_at_a_line_feed() {
    let mut line = Line::open();
    line.send(b"MESG one\ntwo\r\n\n");
    assert_eq!(line.take(), []);
    line.gap();
    assert_eq!(line.take(), [text("one\ntwo\r\n\n")]);
    line.gap();
    assert_eq!(line.take(), []);
}

#[test]
fn bytes_before_the_gap_belong_to_the_text() {
    let mut line = Line::open();
    for piece in [&b"MESG"[..], b" ", b"a", b"MESG b", b"PING"] {
        line.send(piece);
        line.wait(Duration::from_micros(1_999));
    }
    line.gap();
    assert_eq!(line.take(), [text("aMESG bPING")]);
}

#[test]
fn a_server_that_wakes_late_does_not_tear_a_text() {
    let mut line = Line::open();
    line.send(b"MESG first half, ");
    line.now = line.now.after(Duration::from_secs(3));
    line.send(b"second half");
    line.gap();
    assert_eq!(line.take(), [text("first half, second half")]);
}

#[test]
fn an_empty_text_is_a_text() {
    let mut line = Line::open();
    for bytes in [&b"MESG"[..], b"MESG "] {
        line.send(bytes);
        line.gap();
        assert_eq!(line.take(), [text("")]);
    }
}

#[test]
fn a_text_ends_with_the_stream() {
    let mut line = Line::open();
    line.send(b"MESG last words");
    line.end();
    assert_eq!(line.take(), [text("last words"), Seen::End]);
}

#[test]
fn what_follows_a_ping_is_read_on() {
    let mut line = Line::new(GAP);
    line.send(b"PINGPINGMESG hello");
    assert_eq!(line.take(), [Seen::Ping, Seen::Ping]);
    line.gap();
    assert_eq!(line.take(), [text("hello")]);
}

#[test]
fn without_a_gap_one_read_is_one_message() {
    let mut line = Line::new(Duration::ZERO);
    for bytes in [&b"PING"[..], b"MESG a", b"MESG bMESG c", b"MESG", b"TERM", b"PASS x", b"TERM y", b"junk"] {
        line.send(bytes);
    }
    let expected = [Seen::Ping, text("a"), text("bMESG c"), text(""), password("x"), password("y")];
    assert_eq!(line.take(), expected);
    line.send(b"PI");
    line.wait(Duration::from_secs(9));
    line.send(b"NG");
    assert_eq!(line.take(), [Seen::Ping]);
}

#[test]
fn a_text_ends_at_its_cap_and_so_does_the_connection() {
    let mut line = Line::open();
    let longest = vec![b'x'; MAX_TEXT];
    line.send(b"MESG ");
    line.send(&longest[..MAX_TEXT - 1]);
    assert_eq!(line.take(), []);
    line.send(b"x and more");
    assert_eq!(line.take(), [Seen::Text(longest.clone()), Seen::Error(ClassicError::TooLong)]);

    let mut line = Line::open();
    line.send(b"MESG ");
    line.send(&longest[1..]);
    line.gap();
    assert_eq!(line.take(), [Seen::Text(longest[1..].to_vec())]);
}

#[test]
fn both_forms_of_the_password() {
    let mut line = Line::open();
    line.send(b"TERM open sesame\n");
    line.gap();
    assert_eq!(line.take(), [password("open sesame\n")]);
    line.send(b"TERM");
    line.wait(Duration::from_secs(3_600));
    line.send(b"PASS open sesame");
    line.gap();
    assert_eq!(line.take(), [password("open sesame")]);
    line.send(b"TERMPASS merged");
    line.gap();
    line.send(b"TERM ");
    line.gap();
    line.send(b"TERM");
    line.end();
    assert_eq!(line.take(), [password("merged"), password(""), Seen::End]);
}

#[test]
fn what_is_no_password_is_malformed_and_forgotten() {
    for bytes in [&b"wrong"[..], b"MESG hello", b"PASS", b"PASSxyz", b"PING", b"\n", b"PASs x"] {
        for separator in [Duration::ZERO, Duration::from_secs(5)] {
            let mut line = Line::open();
            line.send(b"TERM");
            line.wait(separator);
            line.send(bytes);
            line.gap();
            assert_eq!(
                line.take(),
                [Seen::Malformed],
                "{:?} after {separator:?}",
                String::from_utf8_lossy(bytes)
            );
            line.send(b"MESG on");
            line.gap();
            assert_eq!(line.take(), [text("on")]);
        }
    }
}

#[test]
fn a_torn_pass_waits_and_then_is_malformed() {
    let mut line = Line::open();
    for (piece, wait) in [(&b"TE"[..], 3), (b"RM", 60), (b"PA", 9)] {
        line.send(piece);
        line.wait(Duration::from_secs(wait));
    }
    line.send(b"SS pw");
    line.gap();
    assert_eq!(line.take(), [password("pw")]);
    line.send(b"TERM");
    line.gap();
    line.send(b"PAS");
    line.wait(Duration::from_secs(9));
    assert_eq!(line.take(), []);
    line.wait(Duration::from_secs(2));
    assert_eq!(line.take(), [Seen::Malformed]);
}

#[test]
fn an_overlong_password_is_malformed() {
    for tag in ["TERM ", "TERMPASS "] {
        for (length, expected) in
            [(MAX_PASSWORD, Seen::Password(vec![b'x'; MAX_PASSWORD])), (MAX_PASSWORD + 1, Seen::Malformed)]
        {
            let mut line = Line::open();
            line.send_each(format!("{tag}{}", "x".repeat(length)).as_bytes());
            line.gap();
            assert_eq!(line.take(), [expected]);
        }
    }
}

#[test]
fn unknown_tags_are_dropped_up_to_the_gap() {
    let mut line = Line::open();
    for bytes in [&b"HELP me"[..], b"MESGxyz", b"mesg hello", b"\n", b"PWOK"] {
        line.send(bytes);
        line.send(b"MESG too");
        line.gap();
        assert_eq!(line.take(), []);
        line.send(b"MESG on");
        line.gap();
        assert_eq!(line.take(), [text("on")]);
    }
}

#[test]
fn a_torn_tag_waits_ten_seconds_and_is_dropped() {
    let mut line = Line::open();
    line.send(b"MES");
    line.wait(Duration::from_secs(9));
    line.send(b"G late");
    line.gap();
    assert_eq!(line.take(), [text("late")]);
    line.send(b"MES");
    line.wait(Duration::from_secs(11));
    line.send(b"MESG fresh");
    line.gap();
    assert_eq!(line.take(), [text("fresh")]);
}

#[test]
fn endless_garbage_closes_the_connection() {
    let mut line = Line::open();
    for _ in 0..MAX_MESSAGE {
        line.send(b"x");
    }
    assert_eq!(line.take(), []);
    line.send(b"x");
    assert_eq!(line.take(), [Seen::Error(ClassicError::TooLong)]);
}

/// What a well-behaved peer may send, and what it must see.
#[derive(Clone, Debug)]
enum Message {
    Ping,
    Text(Vec<u8>),
    Documented(Vec<u8>),
    Deployed(Vec<u8>),
    Unknown(Vec<u8>),
}

impl Message {
    fn writes(&self) -> Vec<Vec<u8>> {
        let join = |start: &[u8], rest: &[u8]| [start, rest].concat();
        match self {
            Self::Ping => vec![b"PING".to_vec()],
            Self::Text(text) => vec![join(b"MESG ", text)],
            Self::Documented(password) => vec![join(b"TERM ", password)],
            Self::Deployed(password) => vec![b"TERM".to_vec(), join(b"PASS ", password)],
            Self::Unknown(rest) => vec![join(b"XYZ", rest)],
        }
    }

    fn seen(&self) -> Option<Seen> {
        Some(match self {
            Self::Ping => Seen::Ping,
            Self::Text(text) => Seen::Text(text.clone()),
            Self::Documented(password) | Self::Deployed(password) => Seen::Password(password.clone()),
            Self::Unknown(_) => return None,
        })
    }
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let bytes = || prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'P')], 0..40);
    prop::collection::vec(
        prop_oneof![
            Just(Message::Ping),
            bytes().prop_map(Message::Text),
            bytes().prop_map(Message::Documented),
            bytes().prop_map(Message::Deployed),
            bytes().prop_map(Message::Unknown),
        ],
        0..12,
    )
}

/// Any bytes, but mostly pieces that mean something.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6),
        prop::sample::select(vec![
            "PING", "MESG ", "TERM", "TERM ", "PASS ", "P", "ME", "TE", "PA", " ", "\n", "hello"
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
    ]
}

/// Pauses of every kind: none, within the gap, a gap, nearly and more than what a torn tag may take.
fn pause() -> impl Strategy<Value = Duration> {
    prop::sample::select(vec![0, 0, 500, 1_999, 2_001, 3_000_000, 9_999_000, 10_000_001])
        .prop_map(Duration::from_micros)
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..7_usize, 1..8)
}

proptest! {
    #[test]
    fn messages_with_gaps_between_are_seen_however_split(messages in messages(), sizes in sizes()) {
        let mut line = Line::open();
        let mut sizes = sizes.iter().cycle();
        for message in &messages {
            for write in message.writes() {
                let mut rest = &write[..];
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                    line.send(piece);
                    line.wait(Duration::from_micros(700));
                    rest = after;
                }
                line.gap();
            }
        }
        let expected: Vec<_> = messages.iter().filter_map(Message::seen).collect();
        prop_assert_eq!(line.take(), expected);
    }

    #[test]
    fn the_same_bytes_with_the_same_gaps_give_the_same_events(
        script in prop::collection::vec((piece(), pause()), 0..30),
        greeted: bool,
        ended: bool,
    ) {
        let [whole, each] = [Line::send, Line::send_each].map(|send| {
            let mut line = if greeted { Line::open() } else { Line::new(GAP) };
            for (bytes, pause) in &script {
                send(&mut line, bytes);
                line.wait(*pause);
            }
            if ended { line.end() }
            line.seen
        });
        // An error is told at the first wrong byte: it can't say what came behind it in another packet.
        let kinds = |seen: Vec<Seen>| -> Vec<Seen> {
            let told = |seen| match seen {
                Seen::Error(ClassicError::NotPing { .. }) => Seen::Error(ClassicError::NotPing { found: [0; 4] }),
                seen => seen,
            };
            seen.into_iter().map(told).collect()
        };
        prop_assert_eq!(kinds(whole), kinds(each));
    }

    #[test]
    fn no_caller_and_no_peer_makes_it_panic_or_spin(
        gap in prop::sample::select(vec![0, 2_000, u64::MAX]),
        script in prop::collection::vec((piece(), any::<u64>(), 0..20_usize, any::<bool>()), 0..40),
    ) {
        let mut classic = Classic::new(Instant::from_micros(7), Duration::from_micros(gap));
        let mut buffer = Vec::new();
        for (bytes, now, dropped, ended) in script {
            buffer.extend_from_slice(&bytes);
            for _ in 0..8 {
                let Ok((consumed, event)) = classic.input(Instant::from_micros(now), &buffer) else { break };
                prop_assert!(consumed <= buffer.len());
                if event == Event::Wait { break }
            }
            // Not what the contract asks for.
            buffer.drain(..dropped.min(buffer.len()));
            if ended && bytes.is_empty() { classic.end() }
            classic.timeout();
        }
    }
}
