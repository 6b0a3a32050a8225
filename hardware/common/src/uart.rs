//! A UART as a stream of bytes: what comes is put into a ring by the interrupt, and waits there.

use core::cell::RefCell;
use core::convert::Infallible;
use core::future::poll_fn;
use core::task::Poll;

use critical_section::Mutex;
use embedded_io_async::{ErrorType, Read, Write};

use crate::executor;

/// A UART's registers.
pub trait Port {
    /// Puts a byte into the transmitter, or gives `false` if it has no room.
    ///
    /// In that case its interrupt comes when there is room again, and calls [`executor::wake`].
    fn transmit(&self, byte: u8) -> bool;
}

/// What came and was not read yet, at most `SIZE` bytes. Longer than a packet of the link is enough: what is sent again
/// until it is acknowledged comes one packet at a time.
#[derive(Debug)]
pub struct Received<const SIZE: usize>(Mutex<RefCell<Ring<SIZE>>>);

#[derive(Debug)]
struct Ring<const SIZE: usize> {
    bytes: [u8; SIZE],
    /// The oldest byte stands at `first`, if `count > 0`: `first < SIZE`, `count <= SIZE`.
    first: usize,
    count: usize,
    overruns: u32,
}

impl<const SIZE: usize> Received<SIZE> {
    /// Nothing came yet.
    pub const fn new() -> Self {
        Self(Mutex::new(RefCell::new(Ring { bytes: [0; SIZE], first: 0, count: 0, overruns: 0 })))
    }

    /// For the interrupt: takes what came. What there is no room for is lost, and counted; the link has it sent again.
    pub fn push(&self, bytes: impl Iterator<Item = u8>) {
        critical_section::with(|section| {
            let mut ring = self.0.borrow_ref_mut(section);
            bytes.for_each(|byte| ring.push(byte));
        });
        executor::wake();
    }

    /// How many bytes were lost because nobody read in time.
    pub fn overruns(&self) -> u32 {
        critical_section::with(|section| self.0.borrow_ref(section).overruns)
    }

    fn pop(&self, into: &mut [u8]) -> usize {
        critical_section::with(|section| self.0.borrow_ref_mut(section).pop(into))
    }
}

impl<const SIZE: usize> Default for Received<SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SIZE: usize> Ring<SIZE> {
    fn push(&mut self, byte: u8) {
        let end = (self.first + self.count) % SIZE;
        match self.bytes.get_mut(end) {
            Some(place) if self.count < SIZE => {
                *place = byte;
                self.count += 1;
            }
            _ => self.overruns = self.overruns.wrapping_add(1),
        }
    }

    fn pop(&mut self, into: &mut [u8]) -> usize {
        let count = self.count.min(into.len());
        for place in into.iter_mut().take(count) {
            *place = self.bytes.get(self.first).copied().unwrap_or_default();
            self.first = (self.first + 1) % SIZE;
        }
        self.count -= count;
        count
    }
}

/// A port, and what came from it: a transport of bytes that may be lost.
#[derive(Debug)]
pub struct Uart<P, const SIZE: usize> {
    /// Where bytes are sent.
    pub port: P,
    /// Where the interrupt puts what comes.
    pub received: &'static Received<SIZE>,
}

impl<P, const SIZE: usize> ErrorType for &Uart<P, SIZE> {
    type Error = Infallible;
}

/// A read that is dropped has taken nothing.
impl<P, const SIZE: usize> Read for &Uart<P, SIZE> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|_| match self.received.pop(buffer) {
            0 if !buffer.is_empty() => Poll::Pending,
            count => Poll::Ready(Ok(count)),
        })
        .await
    }
}

/// A write that is dropped has sent nothing.
impl<P: Port, const SIZE: usize> Write for &Uart<P, SIZE> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        poll_fn(|_| match bytes.iter().take_while(|byte| self.port.transmit(**byte)).count() {
            0 if !bytes.is_empty() => Poll::Pending,
            count => Poll::Ready(Ok(count)),
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_also_across_the_ring_s_end() {
        let received = Received::<4>::new();
        let mut buffer = [0; 3];
        for round in 0..6 {
            received.push([round, round + 1, round + 2].into_iter());
            assert_eq!(received.pop(&mut buffer[..2]), 2);
            assert_eq!(buffer[..2], [round, round + 1]);
            assert_eq!(received.pop(&mut buffer), 1);
            assert_eq!(buffer[0], round + 2);
        }
        assert_eq!((received.pop(&mut buffer), received.overruns()), (0, 0));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_the_older_bytes_stay() {
        let received = Received::<4>::new();
        received.push(1..=7);
        let mut buffer = [0; 8];
        assert_eq!(received.pop(&mut buffer), 4);
        assert_eq!((&buffer[..4], received.overruns()), (&[1, 2, 3, 4][..], 3));
    }
}
