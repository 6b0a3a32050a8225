//! A serial line as a transport: a [`Link`] below the session makes a stream of what loses and damages bytes.

#[cfg(test)]
mod tests;

use core::cell::{RefCell, RefMut};

use embassy_futures::select::{Either, select};
use embedded_io_async::{Error as _, ErrorKind, ErrorType, Read, Write};
use heapless::Deque;
use protocol_core::{
    serial::{Event, Link, Retries, State, output_room},
    time::Instant,
};

use crate::board::Clock;

/// How many bytes are taken from the UART at once.
const CHUNK: usize = 32;

/// What stands around a payload on the line: the packet's own bytes, one of its stuffing, a zero before and behind.
const AROUND: usize = output_room(PAYLOAD).saturating_sub(PAYLOAD);
const PAYLOAD: usize = 200;

/// The bytes that a line works in: one at a time needs them.
///
/// `PACKET` is the largest packet each way, in bytes: 32 to 254, 128 if nothing speaks for another size.
#[derive(Debug)]
pub struct Room<const PACKET: usize = 128> {
    link: Link<[u8; PACKET]>,
    /// Bytes from the peer that were not read yet.
    came: Deque<u8, PACKET>,
    /// The packet that goes out, and how much of it has.
    output: [u8; PACKET],
    written: usize,
    length: usize,
}

impl<const PACKET: usize> Room<PACKET> {
    /// Room for a line that tries so often.
    pub const fn new(retries: Retries) -> Self {
        const { assert!(PACKET >= 32 && PACKET <= 254, "packets are of 32 to 254 bytes") };
        let link = Link::new(retries, [0; PACKET], [0; PACKET]);
        Self { link, came: Deque::new(), output: [0; PACKET], written: 0, length: 0 }
    }
}

/// A line that is up, until its peer begins anew or answers no longer. Then it fails, and another is opened.
///
/// It takes no more than it has room for while it writes. So one of the two ends must take all that comes at any time,
/// as a gateway does: else two that write may wait for each other, until the link counts as lost.
///
/// `read` may be dropped at any time, and loses nothing then.
#[derive(Debug)]
pub struct Line<'r, U, C, const PACKET: usize = 128> {
    uart: U,
    clock: C,
    // Lent: a line is moved on its way to the session, and each move of its bytes would take their room again.
    room: RefMut<'r, Room<PACKET>>,
}

impl<'r, U: Read + Write, C: Clock, const PACKET: usize> Line<'r, U, C, PACKET> {
    /// Opens a link over `uart`, and waits until its peer answers. `nonce` is a random number.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if nobody answers; [`ErrorKind::AddrInUse`] if another line has the room; whatever the
    /// UART says.
    pub async fn open(
        uart: U,
        clock: C,
        nonce: u32,
        room: &'r RefCell<Room<PACKET>>,
    ) -> Result<Self, ErrorKind> {
        let room = room.try_borrow_mut().map_err(|_| ErrorKind::AddrInUse)?;
        let mut line = Self { uart, clock, room };
        let now = line.clock.now();
        line.room.came.clear();
        (line.room.written, line.room.length) = (0, 0);
        line.room.link.open(now, nonce);
        line.until(|room| room.link.state() != State::Opening).await?;
        Ok(line)
    }

    /// Sends what is due, and takes what comes, until `is_done`. If it is dropped, it goes on where it was. The one place
    /// that waits: each other would be this code again.
    async fn until(&mut self, is_done: fn(&Room<PACKET>) -> bool) -> Result<(), ErrorKind> {
        loop {
            while self.output_due()? {
                let rest = self.room.output.get(self.room.written..self.room.length).unwrap_or_default();
                let count = self.uart.write(rest).await.map_err(|error| error.kind())?;
                self.room.written = self.room.written.saturating_add(count);
            }
            if is_done(&self.room) {
                return Ok(());
            }
            let due = self.room.link.timeout().unwrap_or(Instant::NEVER);
            let mut chunk = [0; CHUNK];
            if let Either::First(count) =
                select(self.uart.read(&mut chunk), self.clock.sleep_until(due)).await
            {
                let count = count.map_err(|error| error.kind())?;
                self.take(chunk.get(..count).unwrap_or_default())?;
            }
        }
    }

    /// Whether a packet is on its way out; if none is, the next that is due.
    fn output_due(&mut self) -> Result<bool, ErrorKind> {
        let Room { link, output, written, length, .. } = &mut *self.room;
        if *written >= *length {
            let due = link.output(self.clock.now(), output);
            (*written, *length) = (0, due.map_err(|_| ErrorKind::TimedOut)?);
        }
        Ok(*length > 0)
    }

    /// Takes bytes from the UART.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), ErrorKind> {
        let now = self.clock.now();
        while !bytes.is_empty() {
            let Room { link, came, .. } = &mut *self.room;
            let room = PACKET.saturating_sub(came.len());
            let (used, event) = link.input(now, bytes, room);
            match event {
                // There is room: the link was told how much.
                Some(Event::Data(data)) => data.iter().for_each(|byte| _ = came.push_back(*byte)),
                Some(Event::Reset) => return Err(ErrorKind::ConnectionReset),
                Some(Event::Up) | None => {}
            }
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }
}

impl<U, C, const PACKET: usize> ErrorType for Line<'_, U, C, PACKET> {
    type Error = ErrorKind;
}

impl<U: Read + Write, C: Clock, const PACKET: usize> Read for Line<'_, U, C, PACKET> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        self.until(|room| !room.came.is_empty()).await?;
        let mut count = 0_usize;
        for slot in buffer {
            let Some(byte) = self.room.came.pop_front() else { break };
            *slot = byte;
            count = count.saturating_add(1);
        }
        Ok(count)
    }
}

impl<U: Read + Write, C: Clock, const PACKET: usize> Write for Line<'_, U, C, PACKET> {
    /// Waits until the packet before was acknowledged; [`Line::flush`], or a read, sends this one.
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.until(|room| room.link.room() > 0).await?;
        let fits = bytes.get(..PACKET.saturating_sub(AROUND)).unwrap_or(bytes);
        Ok(self.room.link.send(self.clock.now(), fits))
    }

    /// What was written is on the line; when it is acknowledged is for the session's echoes to say.
    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.until(|_| true).await
    }
}
