//! The classic session: the same bytes with the same gaps give the same events, however they are split.

use protocol_core::{
    classic::{Classic, ClassicError, Event, MAX_MESSAGE},
    time::{Duration, Instant},
};

use super::Script;

const GAP: Duration = Duration::from_millis(2);

/// Bytes that came at one moment.
struct Read<'a> {
    at: Instant,
    bytes: &'a [u8],
}

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let mut now = Instant::from_micros(0);
    let mut reads = Vec::new();
    while !script.is_done() {
        let operation = script.byte();
        let wait = [0, 1_999, 2_000, 10_000_000][usize::from(operation % 4)];
        now = now.after(Duration::from_micros(wait));
        reads.push(Read { at: now, bytes: script.take(usize::from(operation / 4)) });
    }
    let at_once = play(&reads, usize::MAX);
    assert_eq!(play(&reads, 1), at_once, "byte by byte it is otherwise");
    assert_eq!(play(&reads, 3), at_once, "in threes it is otherwise");
}

/// Plays the reads, each in pieces of so many bytes, and gives in words what the session told.
fn play(reads: &[Read<'_>], piece: usize) -> Vec<String> {
    let mut session = Classic::new(Instant::from_micros(0), GAP);
    let (mut buffer, mut told) = (Vec::new(), Vec::new());
    for read in reads {
        // Time passes, and nothing comes: what is due is told first.
        while let Some(due) = session.timeout().filter(|due| *due <= read.at) {
            if !turn(&mut session, due, &mut buffer, &mut told) {
                return told;
            }
            assert!(session.timeout().is_none_or(|next| next > due), "a timer in the past: a busy loop");
        }
        for bytes in read.bytes.chunks(piece.min(read.bytes.len().max(1))) {
            buffer.extend_from_slice(bytes);
            if !turn(&mut session, read.at, &mut buffer, &mut told) {
                return told;
            }
        }
    }
    session.end();
    let now = reads.last().map_or(Instant::from_micros(0), |read| read.at);
    assert!(!turn(&mut session, now, &mut buffer, &mut told), "the end of the stream is told");
    told
}

/// Tells all that there is to tell. Gives whether the session goes on.
fn turn(session: &mut Classic, now: Instant, buffer: &mut Vec<u8>, told: &mut Vec<String>) -> bool {
    assert!(buffer.len() <= MAX_MESSAGE);
    for _ in 0..=buffer.len() + 1 {
        let (used, event) = match session.input(now, buffer) {
            Ok(told) => told,
            Err(error) => {
                // What it says of the first bytes depends on how many had come.
                told.push(match error {
                    ClassicError::NotPing { .. } => String::from("not a PING"),
                    other => format!("{other:?}"),
                });
                return false;
            }
        };
        assert!(used <= buffer.len());
        match event {
            Event::Wait => {
                buffer.drain(..used);
                return true;
            }
            Event::End => {
                told.push(String::from("end"));
                return false;
            }
            event => told.push(format!("{event:?}")),
        }
        buffer.drain(..used);
    }
    panic!("the session tells without end");
}
