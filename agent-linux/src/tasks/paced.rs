//! Reading what a task writes, no faster than it is worth: whoever writes more is held up by its own pipe.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::{Instant, sleep_until},
};

/// The time between two reads. A task that floods costs the agent 200 reads a second, and no more.
const PAUSE: Duration = Duration::from_millis(5);

/// One of a task's pipes.
pub(super) struct Paced<R> {
    reader: R,
    next_read: Instant,
}

impl<R: AsyncRead + Unpin> Paced<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, next_read: Instant::now() }
    }

    /// Reads some bytes into `room`; 0 at the end. Dropping the future loses nothing.
    pub(super) async fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        sleep_until(self.next_read).await;
        let count = self.reader.read(room).await?;
        self.next_read = Instant::now() + PAUSE;
        Ok(count)
    }
}
