//! A UART as a stream of bytes: what comes is put into a ring by the interrupt, and waits there.

use core::convert::Infallible;
use core::future::poll_fn;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use core::task::Poll;

use embedded_io_async::{ErrorType, Read, Write};

use crate::executor;

/// A UART's registers.
pub trait Port {
    /// Puts a byte into the transmitter, or gives `false` if it has no room.
    ///
    /// In that case its interrupt comes when there is room again, and calls [`executor::wake`].
    fn transmit(&self, byte: u8) -> bool;
}

/// What came and was not read yet, less than `SIZE` bytes. More than a packet of the link is enough: what is sent again until
/// it is acknowledged comes one packet at a time.
///
/// The interrupt writes, the task reads, and neither waits for the other.
#[derive(Debug)]
pub struct Received<const SIZE: usize> {
    bytes: [AtomicU8; SIZE],
    /// Where the task reads next: below `SIZE`, and changed by the task alone.
    read: AtomicUsize,
    /// Where the interrupt writes next: below `SIZE`, and changed by the interrupt alone. Nothing is there if it is `read`.
    written: AtomicUsize,
}

impl<const SIZE: usize> Received<SIZE> {
    /// Nothing came yet.
    pub const fn new() -> Self {
        Self {
            bytes: [const { AtomicU8::new(0) }; SIZE],
            read: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
        }
    }

    /// For the interrupt: takes what came. What there is no room for is lost; the link has it sent again.
    pub fn push(&self, bytes: impl Iterator<Item = u8>) {
        for byte in bytes {
            let at = self.written.load(Ordering::Relaxed);
            let next = Self::behind(at);
            if let Some(place) = self.bytes.get(at)
                && next != self.read.load(Ordering::Acquire)
            {
                place.store(byte, Ordering::Relaxed);
                self.written.store(next, Ordering::Release);
            }
        }
        executor::wake();
    }

    /// For the one task that reads: gives how many bytes came.
    fn pop(&self, into: &mut [u8]) -> usize {
        let mut at = self.read.load(Ordering::Relaxed);
        let mut count = 0;
        for place in into {
            let Some(byte) = self.bytes.get(at) else { break };
            if at == self.written.load(Ordering::Acquire) {
                break;
            }
            *place = byte.load(Ordering::Relaxed);
            at = Self::behind(at);
            count += 1;
        }
        self.read.store(at, Ordering::Release);
        count
    }

    const fn behind(at: usize) -> usize {
        if at + 1 < SIZE { at + 1 } else { 0 }
    }
}

impl<const SIZE: usize> Default for Received<SIZE> {
    fn default() -> Self {
        Self::new()
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

    /// Nothing to do: what was written leaves the transmitter by itself.
    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_also_across_the_ring_s_end() {
        let received = Received::<5>::new();
        let mut buffer = [0; 3];
        for round in 0..6 {
            received.push([round, round + 1, round + 2].into_iter());
            assert_eq!(received.pop(&mut buffer[..2]), 2);
            assert_eq!(buffer[..2], [round, round + 1]);
            assert_eq!(received.pop(&mut buffer), 1);
            assert_eq!(buffer[0], round + 2);
        }
        assert_eq!(received.pop(&mut buffer), 0);
    }

    #[test]
    fn what_there_is_no_room_for_is_lost_and_the_older_bytes_stay() {
        let received = Received::<5>::new();
        received.push(1..=7);
        let mut buffer = [0; 8];
        assert_eq!(received.pop(&mut buffer), 4);
        assert_eq!(buffer[..4], [1, 2, 3, 4]);
    }
}
