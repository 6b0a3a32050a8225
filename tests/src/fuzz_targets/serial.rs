//! Two links over a line that the script damages, and that any bytes are put on.

use protocol_core::{
    serial::{Event, Link, Retries, State, output_room},
    time::{Duration, Instant},
};

use super::Script;

const RETRIES: Retries = Retries { resend: Duration::from_millis(10), attempts: 4 };
const RECEIVE: usize = 64;
const SEND: usize = 48;

/// One end, and what its host knows.
struct End<'b> {
    link: Link<&'b mut [u8]>,
    /// Since the link was last up: what is said counts up, so what is heard must count up too.
    said: u8,
    heard: u8,
    /// On its way to the other end.
    line: Vec<u8>,
}

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let mut now = Instant::from_micros(0);
    let mut nonce = 0_u32;
    let mut buffers = [[0; RECEIVE], [0; RECEIVE], [0; RECEIVE], [0; RECEIVE]];
    let [receive, send, other_receive, other_send] = &mut buffers;
    let mut ends = [End::new(receive, &mut send[..SEND]), End::new(other_receive, &mut other_send[..SEND])];
    while !script.is_done() {
        let operation = script.byte();
        let side = usize::from(operation >> 7);
        match operation % 8 {
            0 => {
                nonce += 1;
                ends[side].link.open(now, nonce);
                (ends[side].said, ends[side].heard) = (0, 0);
            }
            1 => ends[side].say(now, usize::from(script.byte() % 64)),
            2 => now = now.after(Duration::from_millis(u32::from(script.byte() % 16))),
            // The line passes on what it has: whole, with a byte lost, damaged or put in between, or nothing.
            3 => pass(&mut ends, side, now, |_| {}),
            4 => {
                let (at, bit) = (usize::from(script.byte()), script.byte() % 8);
                pass(&mut ends, side, now, |line| {
                    line.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit)
                });
            }
            5 => {
                let at = usize::from(script.byte());
                pass(&mut ends, side, now, |line| {
                    drop(line.drain(at.min(line.len())..line.len().min(at + 1)))
                });
            }
            6 => {
                let (at, byte) = (usize::from(script.byte()), script.byte());
                pass(&mut ends, side, now, |line| line.insert(at.min(line.len()), byte));
            }
            _ => ends[side].line.clear(),
        }
        ends.iter_mut().for_each(|end| end.speak(now));
    }
}

/// Any bytes for a link that is opening: it survives them, and stays so.
pub(super) fn noise(input: &[u8]) {
    let now = Instant::from_micros(0);
    let (mut receive, mut send) = ([0; RECEIVE], [0; SEND]);
    let mut end = End::new(&mut receive, &mut send);
    end.link.open(now, 1);
    end.hear(now, input);
    end.speak(now);
}

fn pass(ends: &mut [End<'_>; 2], side: usize, now: Instant, damage: impl Fn(&mut Vec<u8>)) {
    let mut line = std::mem::take(&mut ends[side].line);
    damage(&mut line);
    ends[1 - side].hear(now, &line);
}

impl<'b> End<'b> {
    fn new(receive: &'b mut [u8], send: &'b mut [u8]) -> Self {
        Self { link: Link::new(RETRIES, receive, send), said: 0, heard: 0, line: Vec::new() }
    }

    fn say(&mut self, now: Instant, count: usize) {
        let room = self.link.room();
        let bytes: Vec<u8> = (0..count).map(|at| self.said.wrapping_add(at as u8)).collect();
        let taken = self.link.send(now, &bytes);
        assert_eq!(taken, count.min(room));
        self.said = self.said.wrapping_add(taken as u8);
    }

    fn hear(&mut self, now: Instant, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (used, event) = self.link.input(now, bytes, usize::MAX);
            assert!((1..=bytes.len()).contains(&used));
            match event {
                Some(Event::Up | Event::Reset) => (self.said, self.heard) = (0, 0),
                Some(Event::Data(data)) => {
                    for byte in data {
                        assert_eq!(*byte, self.heard, "lost, twice, out of order or damaged");
                        self.heard = self.heard.wrapping_add(1);
                    }
                }
                None => assert_eq!(used, bytes.len()),
            }
            bytes = &bytes[used..];
        }
    }

    fn speak(&mut self, now: Instant) {
        let mut buffer = [0; output_room(SEND)];
        for _ in 0..8 {
            match self.link.output(now, &mut buffer) {
                Ok(0) => {
                    assert!(self.link.timeout().is_none_or(|due| due > now), "a timer in the past");
                    return;
                }
                Ok(length) => self.line.extend_from_slice(&buffer[..length]),
                Err(_) => {
                    assert_eq!((self.link.state(), self.link.timeout()), (State::Down, None));
                    return;
                }
            }
        }
        panic!("a link that never stops talking");
    }
}
