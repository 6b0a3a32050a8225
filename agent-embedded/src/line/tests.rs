//! Two lines over a wire that loses, damages and inserts bytes, in virtual time.

use core::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
};
use std::{collections::VecDeque, vec, vec::Vec};

use protocol_core::time::Duration;

use super::*;

/// A wire in memory, and the time. Each so many bytes one is lost, damaged, or another one comes before it.
struct Wire {
    now: Cell<Instant>,
    wakes_at: Cell<Instant>,
    ways: [RefCell<VecDeque<u8>>; 2],
    worn: u32,
    count: Cell<u32>,
    /// For each side's line, and for a second one.
    rooms: [RefCell<Room<64>>; 3],
}

impl Wire {
    fn new(worn: u32) -> Self {
        Self {
            now: Cell::new(Instant::from_micros(0)),
            wakes_at: Cell::new(Instant::NEVER),
            ways: Default::default(),
            worn,
            count: Cell::new(0),
            rooms: [(); 3].map(|()| RefCell::new(Room::new(Retries::default()))),
        }
    }

    fn carry(&self, way: usize, byte: u8) {
        let count = self.count.get() + 1;
        self.count.set(count);
        let mut way = self.ways[way].borrow_mut();
        match count.is_multiple_of(self.worn).then_some((count / self.worn) % 3) {
            Some(0) => {}
            Some(1) => way.push_back(byte ^ 0x10),
            Some(_) => way.extend([b'?', byte]),
            None => way.push_back(byte),
        }
    }

    /// Runs `future` until it ends, or until the time is up.
    fn run<F: Future>(&self, seconds: u32, future: F) -> Option<F::Output> {
        let end = self.now.get().after(Duration::from_secs(seconds));
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        while self.now.get() < end {
            self.wakes_at.set(end);
            let moved = self.count.get();
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            if moved == self.count.get() {
                self.now.set(self.wakes_at.get());
            }
        }
        None
    }
}

impl Clock for &Wire {
    fn now(&self) -> Instant {
        self.now.get()
    }

    async fn sleep_until(&self, at: Instant) {
        poll_fn(|_| {
            if at <= self.now.get() {
                return Poll::Ready(());
            }
            self.wakes_at.set(self.wakes_at.get().min(at));
            Poll::Pending
        })
        .await;
    }
}

/// One end of the wire, as a UART.
struct Uart<'w> {
    wire: &'w Wire,
    side: usize,
}

impl ErrorType for Uart<'_> {
    type Error = ErrorKind;
}

impl Read for Uart<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|_| {
            let mut way = self.wire.ways[1 - self.side].borrow_mut();
            let count = way.len().min(buffer.len()).min(5);
            buffer.iter_mut().zip(way.drain(..count)).for_each(|(to, from)| *to = from);
            if count > 0 { Poll::Ready(Ok(count)) } else { Poll::Pending }
        })
        .await
    }
}

impl Write for Uart<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let part = &bytes[..bytes.len().min(3)];
        part.iter().for_each(|byte| self.wire.carry(self.side, *byte));
        Ok(part.len())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

type TestLine<'w> = Line<'w, Uart<'w>, &'w Wire, 64>;

async fn open(wire: &Wire, side: usize) -> Result<TestLine<'_>, ErrorKind> {
    Line::open(Uart { wire, side }, wire, side as u32 + 7, &wire.rooms[side]).await
}

/// Takes `count` bytes.
async fn take(line: &mut TestLine<'_>, count: usize) -> Vec<u8> {
    let mut came = Vec::new();
    let mut buffer = [0; 50];
    while came.len() < count {
        // Now and then a read is given up: nothing may be lost by it.
        if let Either::First(length) = select(line.read(&mut buffer), async {}).await {
            came.extend_from_slice(&buffer[..length.unwrap()]);
        } else {
            let length = line.read(&mut buffer).await.unwrap();
            came.extend_from_slice(&buffer[..length]);
        }
    }
    came
}

async fn give(line: &mut TestLine<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = line.write(bytes).await.unwrap();
        bytes = &bytes[count..];
    }
    line.flush().await.unwrap();
}

#[test]
fn bytes_come_in_order_over_a_worn_wire() {
    let bytes: Vec<u8> = (0..2_000).map(|at: usize| at as u8).collect();
    for worn in [u32::MAX, 150, 97] {
        let wire = Wire::new(worn);
        let one = async {
            let mut line = open(&wire, 0).await.unwrap();
            give(&mut line, &bytes).await;
            assert!(take(&mut line, 2_000).await == bytes, "worn {worn}");
            give(&mut line, b"bye").await;
            // The last packet may be lost: the line stays.
            take(&mut line, 1).await
        };
        let other = async {
            let mut line = open(&wire, 1).await.unwrap();
            assert!(take(&mut line, 2_000).await == bytes, "worn {worn}");
            give(&mut line, &bytes).await;
            take(&mut line, 3).await
        };
        let ended = wire.run(300, select(one, other));
        assert!(matches!(ended, Some(Either::Second(bye)) if bye == b"bye"), "worn {worn}");
    }
}

async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    match select(&mut a, &mut b).await {
        Either::First(one) => (one, b.await),
        Either::Second(other) => (a.await, other),
    }
}

#[test]
fn a_line_without_a_peer_is_not_connected() {
    let wire = Wire::new(u32::MAX);
    let opened = wire.run(60, open(&wire, 0)).expect("it ends");
    assert!(matches!(opened, Err(ErrorKind::TimedOut)));
}

#[test]
fn a_peer_that_begins_anew_ends_the_line() {
    let wire = Wire::new(u32::MAX);
    let (one, other) = wire.run(60, join(open(&wire, 0), open(&wire, 1))).expect("both are up");
    let (mut line, _gone) = (one.unwrap(), other.unwrap());
    let again = Line::open(Uart { wire: &wire, side: 1 }, &wire, 99, &wire.rooms[2]);
    let mut buffer = [0; 8];
    let ended = wire.run(60, select(line.read(&mut buffer), again));
    assert!(matches!(ended, Some(Either::First(Err(ErrorKind::ConnectionReset)))));
}

#[test]
fn a_peer_that_answers_no_longer_is_found_out() {
    let wire = Wire::new(u32::MAX);
    let (one, other) = wire.run(60, join(open(&wire, 0), open(&wire, 1))).expect("both are up");
    let (mut line, _gone) = (one.unwrap(), other.unwrap());
    let written = wire.run(60, async {
        let first = line.write(b"hello").await;
        (first, line.write(b"again").await)
    });
    assert_eq!(written, Some((Ok(5), Err(ErrorKind::TimedOut))));
}

#[test]
fn what_the_reader_has_no_room_for_comes_again() {
    let wire = Wire::new(u32::MAX);
    let (one, other) = wire.run(60, join(open(&wire, 0), open(&wire, 1))).expect("both are up");
    let (mut line, mut peer) = (one.unwrap(), other.unwrap());
    let sent = vec![5; 500];
    let came = wire.run(60, async {
        let write = async {
            give(&mut line, &sent).await;
            // One byte more than comes.
            take(&mut line, 7).await
        };
        let read = async {
            // It writes, and so takes what comes, long before it reads.
            peer.write(b"one").await.unwrap();
            peer.write(b"two").await.unwrap();
            take(&mut peer, 500).await
        };
        match select(write, read).await {
            Either::First(came) | Either::Second(came) => came,
        }
    });
    assert!(came.is_some_and(|came| came == sent));
}
