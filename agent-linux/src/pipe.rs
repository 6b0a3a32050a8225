//! The bytes of one connection, both ways, each bounded. Reading waits for writing only while too much is unsent.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::queue::MAX_FRAME;

/// While this much waits to be sent, in bytes, nothing is read: a peer that does not read is not listened to.
const MOST_UNSENT: usize = 64 * 1024;

/// A stream of bytes with what came and was not used, and what was written and not sent.
pub(crate) struct Pipe<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    /// Room for the largest frame. `used <= filled <= input.len()`.
    input: Box<[u8]>,
    used: usize,
    filled: usize,
    /// `sent <= output.len()`.
    output: Vec<u8>,
    sent: usize,
    /// The writer may hold bytes back.
    needs_flush: bool,
}

impl<S: AsyncRead + AsyncWrite> Pipe<S> {
    pub(crate) fn new(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let input = vec![0; usize::from(MAX_FRAME)].into_boxed_slice();
        Self { reader, writer, input, used: 0, filled: 0, output: Vec::new(), sent: 0, needs_flush: false }
    }

    /// What came and was not used.
    pub(crate) fn received(&self) -> &[u8] {
        self.input.get(self.used..self.filled).unwrap_or_default()
    }

    /// Notes that so many bytes of what came were used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.filled);
    }

    /// How much waits to be sent, in bytes.
    pub(crate) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Appends what `encode` writes into a buffer of `room` bytes. Gives the length.
    pub(crate) fn write<E>(
        &mut self,
        room: usize,
        encode: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let start = self.output.len();
        self.output.resize(start + room, 0);
        let result = encode(self.output.get_mut(start..).unwrap_or_default());
        let length = result.as_ref().map_or(0, |length| *length).min(room);
        self.output.truncate(start + length);
        result
    }

    /// Waits until some bytes came, or some were sent. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The stream broke, or ended: then as `UnexpectedEof`.
    pub(crate) async fn moved(&mut self) -> io::Result<()> {
        if self.used > 0 {
            self.input.copy_within(self.used..self.filled, 0);
            (self.filled, self.used) = (self.filled - self.used, 0);
        }
        let may_read = self.unsent() < MOST_UNSENT && self.filled < self.input.len();
        let room = self.input.get_mut(self.filled..).unwrap_or_default();
        let unsent = self.output.get(self.sent..).unwrap_or_default();
        tokio::select! {
            biased;
            count = self.reader.read(room), if may_read => self.filled += came(count)?,
            sent = push(&mut self.writer, unsent, self.needs_flush) => {
                let sent = sent?;
                self.needs_flush = sent > 0;
                self.sent += sent;
                self.tidy();
            }
        }
        Ok(())
    }

    /// Sends all that was written, and closes the sending side.
    ///
    /// # Errors
    /// The stream broke.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        let unsent = self.output.get(self.sent..).unwrap_or_default();
        self.writer.write_all(unsent).await?;
        self.writer.flush().await?;
        self.writer.shutdown().await
    }

    /// Drops what was sent; and the memory, if much was: an idle connection holds little.
    fn tidy(&mut self) {
        if self.sent == self.output.len() {
            self.output.clear();
            self.output.shrink_to(1024);
            self.sent = 0;
        } else if self.sent >= MOST_UNSENT {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// How much came, if the stream has not ended.
fn came(count: io::Result<usize>) -> io::Result<usize> {
    let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without a farewell");
    match count {
        Ok(0) => Err(ended()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ended()),
        count => count,
    }
}

/// Sends some of `unsent`, or else flushes what needs it. Gives how much was sent.
async fn push<W: AsyncWrite + Unpin>(writer: &mut W, unsent: &[u8], needs_flush: bool) -> io::Result<usize> {
    if !unsent.is_empty() {
        return writer.write(unsent).await;
    }
    if needs_flush {
        return writer.flush().await.map(|()| 0);
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn bytes_move_both_ways_at_once_and_unused_ones_stay() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut pipe = Pipe::new(ours);
        pipe.write(100, |room| {
            room[..26].copy_from_slice(b"abcdefghijklmnopqrstuvwxyz");
            Ok::<_, ()>(26)
        })
        .unwrap();
        let peer = tokio::spawn(async move {
            let mut heard = vec![0; 26];
            theirs.write_all(b"12345").await.unwrap();
            theirs.read_exact(&mut heard).await.unwrap();
            theirs.write_all(b"678").await.unwrap();
            (theirs, heard)
        });
        while pipe.received() != b"345678" {
            pipe.moved().await.unwrap();
            if pipe.received().starts_with(b"12") {
                pipe.consume(2);
            }
        }
        assert_eq!(pipe.unsent(), 0);
        let (theirs, heard) = peer.await.unwrap();
        assert_eq!(heard, b"abcdefghijklmnopqrstuvwxyz");
        drop(theirs);
        let error = loop {
            if let Err(error) = pipe.moved().await {
                break error;
            }
        };
        assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_peer_that_does_not_read_is_not_listened_to() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut pipe = Pipe::new(ours);
        pipe.write(MOST_UNSENT + 100, |room| Ok::<_, ()>(room.len())).unwrap();
        theirs.write_all(b"listen!").await.unwrap();
        // The first step fills the pipe, the next would wait.
        pipe.moved().await.unwrap();
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(50), pipe.moved());
        assert!(waiting.await.is_err());
        assert_eq!(pipe.received(), b"");
    }
}
