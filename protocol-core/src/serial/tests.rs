//! Two links over a line that loses, damages and inserts bytes.

use std::{string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

const RETRIES: Retries = Retries { resend: Duration::from_millis(10), attempts: 8 };
const PAYLOAD: usize = 300;

fn at(millis: u32) -> Instant {
    Instant::from_micros(0).after(Duration::from_millis(millis))
}

/// The same numbers again for the same seed: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A link with buffers of its own, and what became of it.
struct End {
    link: Link<&'static mut [u8]>,
    /// Since the link was last up.
    said: Vec<u8>,
    heard: Vec<u8>,
    events: Vec<String>,
}

impl End {
    fn new(receive: usize) -> Self {
        // A few hundred bytes for each test: leaking them spares the tests a borrow.
        let (receive, send) = (vec![0; receive].leak(), vec![0; PAYLOAD].leak());
        Self { link: Link::new(RETRIES, receive, send), said: vec![], heard: vec![], events: vec![] }
    }

    fn hear(&mut self, now: Instant, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (used, event) = self.link.input(now, bytes, usize::MAX);
            assert!((1..=bytes.len()).contains(&used));
            match event {
                Some(Event::Data(data)) => self.heard.extend_from_slice(data),
                Some(event) => {
                    self.events.push(std::format!("{event:?}"));
                    self.said.clear();
                    self.heard.clear();
                }
                None => {}
            }
            bytes = &bytes[used..];
        }
    }

    /// Whether both are up, and mean each other.
    fn is_joined_to(&self, other: &Self) -> bool {
        let (mine, others) = (&self.link.ends, &other.link.ends);
        self.link.state() == State::Up
            && other.link.state() == State::Up
            && (mine.peers, others.peers) == (Some(others.mine), Some(mine.mine))
    }

    fn speak(&mut self, now: Instant) -> Result<Vec<u8>, LinkError> {
        let mut bytes = vec![];
        let mut buffer = [0; output_room(PAYLOAD)];
        while let length @ 1.. = self.link.output(now, &mut buffer)? {
            bytes.extend_from_slice(&buffer[..length]);
        }
        assert!(self.link.timeout().is_none_or(|due| due > now), "a timer in the past after all output");
        Ok(bytes)
    }
}

/// Passes bytes to and fro until both are quiet.
fn settle(now: Instant, a: &mut End, b: &mut End) {
    for _ in 0..10 {
        let (from_a, from_b) = (a.speak(now).unwrap(), b.speak(now).unwrap());
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        b.hear(now, &from_a);
        a.hear(now, &from_b);
    }
    panic!("they never stop talking");
}

fn joined() -> (End, End) {
    let (mut a, mut b) = (End::new(PAYLOAD + OVERHEAD), End::new(64));
    a.link.open(at(0), 1);
    b.link.open(at(0), 2);
    settle(at(0), &mut a, &mut b);
    assert_eq!((a.link.state(), b.link.state()), (State::Up, State::Up));
    (a, b)
}

#[test]
fn bytes_pass_both_ways_in_pieces_that_the_peer_takes() {
    let (mut a, mut b) = joined();
    assert_eq!(a.link.room(), 64 - OVERHEAD);
    assert_eq!(b.link.room(), PAYLOAD);
    assert_eq!(a.link.send(at(1), &[0; 100]), 58);
    assert_eq!(a.link.send(at(1), b"more"), 0, "one packet at a time");
    assert_eq!(b.link.send(at(1), &[7; 300]), 300);
    settle(at(1), &mut a, &mut b);
    assert_eq!((a.heard, b.heard), (vec![7; 300], vec![0; 58]));
}

#[test]
fn what_is_lost_is_sent_again_and_delivered_once() {
    let (mut a, mut b) = joined();
    a.link.send(at(1), b"one");
    a.speak(at(1)).unwrap();
    assert_eq!(a.link.timeout(), Some(at(11)));
    assert!(a.speak(at(10)).unwrap().is_empty());
    let again = a.speak(at(11)).unwrap();
    b.hear(at(11), &again);
    b.speak(at(11)).unwrap();
    let again = a.speak(at(21)).unwrap();
    b.hear(at(21), &again);
    let acknowledgement = b.speak(at(21)).unwrap();
    a.hear(at(21), &acknowledgement);
    assert_eq!(b.heard, b"one");
    assert_eq!((a.link.timeout(), a.link.room()), (None, 58));
}

#[test]
fn a_link_without_answers_goes_down_and_can_be_opened_again() {
    let (mut a, mut b) = joined();
    a.link.send(at(0), b"lost");
    for attempt in 0..8 {
        assert!(!a.speak(at(attempt * 10)).unwrap().is_empty());
    }
    assert_eq!(a.speak(at(80)), Err(LinkError::Lost { attempts: 8 }));
    assert_eq!((a.link.state(), a.link.timeout(), a.link.room()), (State::Down, None, 0));
    a.link.open(at(90), 3);
    settle(at(90), &mut a, &mut b);
    assert_eq!(b.events, ["Up", "Reset", "Up"]);
    assert_eq!(a.events, ["Up", "Up"]);
}

#[test]
fn a_restarted_peer_is_noticed_and_nothing_old_passes() {
    let (_, mut b) = joined();
    b.link.send(at(1), b"old");
    let old = b.speak(at(1)).unwrap();
    let mut a = End::new(64);
    a.link.open(at(2), 9);
    a.hear(at(2), &old);
    settle(at(2), &mut a, &mut b);
    a.hear(at(3), &old);
    assert_eq!(b.events, ["Up", "Reset", "Up"]);
    assert_eq!(a.events, ["Up"]);
    assert!(a.heard.is_empty());
    b.link.send(at(4), b"new");
    settle(at(4), &mut a, &mut b);
    assert_eq!(a.heard, b"new");
}

#[test]
fn a_wire_that_leads_back_is_no_peer() {
    let mut end = End::new(64);
    end.link.open(at(0), 5);
    for attempt in 0..8 {
        let own = end.speak(at(attempt * 10)).unwrap();
        end.hear(at(attempt * 10), &own);
    }
    assert_eq!(end.speak(at(80)), Err(LinkError::Lost { attempts: 8 }));
    assert!(end.events.is_empty());
}

#[test]
fn the_room_stated_is_enough_and_less_is_an_error() {
    let (mut a, mut b) = (End::new(PAYLOAD + OVERHEAD), End::new(PAYLOAD + OVERHEAD));
    a.link.open(at(0), 1);
    b.link.open(at(0), 2);
    settle(at(0), &mut a, &mut b);
    for byte in [0, 1, 255] {
        a.link.send(at(1), &[byte; PAYLOAD]);
        assert_eq!(a.link.output(at(1), &mut [0; PAYLOAD]), Err(LinkError::NoRoom { room: PAYLOAD }));
        settle(at(1), &mut a, &mut b);
    }
    assert_eq!(b.heard.len(), 3 * PAYLOAD);
}

#[test]
fn the_line_is_as_the_document_says() {
    let mut end = End::new(64);
    end.link.open(at(0), 0x0102_0304);
    let open = end.speak(at(0)).unwrap();
    assert_eq!(open, [0, 6, b'O', 1, 2, 3, 4, 6, 58, 0x4d, 0x03, 0x84, 0xab, 0]);
}

proptest! {
    // Each case is long: a quarter as many as is usual.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..Default::default() })]

    #[test]
    fn cobs_gives_back_what_it_was_given(bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 1..900)) {
        let mut encoded = vec![0; cobs::encoded_length(bytes.len()) + 2];
        let mut encoder = Encoder::new(&mut encoded);
        bytes.iter().for_each(|byte| encoder.push(*byte));
        let length = encoder.finish().expect("the length stated is enough");
        let inside = &encoded[1..length - 1];
        prop_assert!(inside.iter().all(|byte| *byte != 0));
        let mut buffer = vec![0; bytes.len()];
        let mut decoder = Decoder::new(&mut buffer);
        let ends: Vec<usize> = encoded[..length].iter().filter_map(|byte| decoder.push(*byte)).collect();
        prop_assert_eq!(ends, vec![bytes.len()]);
        prop_assert_eq!(decoder.packet(bytes.len()), &bytes[..]);
    }

    /// Damage, loss, insertion and restarts, both ways: what is heard is always a start of what was said
    /// since both ends last joined; once the line is good again, all of it arrives.
    #[test]
    fn nothing_damaged_nothing_twice_and_all_in_order(seed in 1_u64.., faults in 10_u64..3_000) {
        let mut random = Random(seed);
        let mut ends = [End::new(PAYLOAD + OVERHEAD), End::new(70)];
        let mut lines: [Vec<u8>; 2] = Default::default();
        let mut nonce = 0;
        for step in 0..500 {
            let now = at(step);
            let is_rough = step < 300;
            for side in 0..2 {
                let end = &mut ends[side];
                if end.link.state() == State::Down || is_rough && random.below(200) == 0 {
                    nonce += 1;
                    end.link.open(now, nonce);
                }
                let come = std::mem::take(&mut lines[1 - side]);
                end.hear(now, &come);
                if step < 450 {
                    let new: Vec<u8> = (0..random.below(90)).map(|_| random.below(3) as u8).collect();
                    let taken = end.link.send(now, &new);
                    end.said.extend_from_slice(&new[..taken]);
                }
                // A link that is lost is opened again at the next step.
                for byte in end.speak(now).unwrap_or_default() {
                    match if is_rough { random.below(faults) } else { faults } {
                        0 => {}
                        1 => lines[side].push(byte ^ 1 << random.below(8)),
                        2 => lines[side].extend([byte, random.below(256) as u8]),
                        _ => lines[side].push(byte),
                    }
                }
            }
            let [a, b] = &ends;
            if a.is_joined_to(b) {
                prop_assert!(a.said.starts_with(&b.heard) && b.said.starts_with(&a.heard));
            }
        }
        let [a, b] = &ends;
        prop_assert!(a.is_joined_to(b), "the line is good, and the link is not up");
        prop_assert!(!a.said.is_empty() && !b.said.is_empty(), "nothing was said");
        prop_assert!(a.said == b.heard && b.said == a.heard);
    }

    #[test]
    fn noise_is_nothing(noise in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let (mut a, mut b) = joined();
        a.hear(at(1), &noise);
        prop_assert!(a.heard.is_empty());
        b.link.send(at(1), b"through");
        // The noise may have begun a packet: the first zero of the next one ends it.
        settle(at(1), &mut a, &mut b);
        prop_assert_eq!(&a.heard[..], b"through");
    }
}
