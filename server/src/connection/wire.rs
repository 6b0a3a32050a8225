//! The bytes of a connection: what came and is not used up, what is to be sent, and the waiting for either.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use protocol_core::time::Instant;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{
    clock,
    mailbox::{Mailbox, Requests},
};

/// The most bytes read at once: one record of TLS.
const READ_SIZE: usize = 16 * 1024;

/// How much may wait to be sent. A peer that lets more pile up does not read, and is given up.
const MAX_PENDING: usize = 256 * 1024;

/// While so much waits to be sent, no more messages are put behind it: the window may allow more than `MAX_PENDING`.
const CROWDED: usize = 32 * 1024;

/// A timer that fires so much later than it was due was held up by the machine, not by the peer.
const LATE: Duration = Duration::from_secs(1);

thread_local! {
    /// Lent to whichever connection of this thread reads: an idle one holds no buffer.
    static LENT: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Why a connection goes on: for one of these, for bytes and requests at once, or as it is crowded no longer.
#[derive(Debug, Default)]
pub(super) struct Wake {
    /// More bytes are there.
    pub(super) input: bool,
    /// The mailbox had something.
    pub(super) requests: Option<Requests>,
    /// The deadline has come, and nothing that the peer said is unread.
    pub(super) due: bool,
}

/// How a connection's bytes ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The peer closed the connection without a farewell.
    #[error("the connection was closed without a farewell")]
    Ended,
    /// The peer does not read what it is sent.
    #[error("the peer does not read what it is sent")]
    NotReading,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

/// A byte stream with what is under way in both directions.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    /// What came: `used <= input.len()`.
    input: Vec<u8>,
    used: usize,
    /// What is to be sent: `written <= output.len()`.
    output: Vec<u8>,
    written: usize,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, at the latest: it may fire earlier than asked for, and is then armed again.
    armed: Instant,
    /// A late timer was given its second chance.
    was_late: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            written: 0,
            timer: Box::pin(sleep(Duration::MAX)),
            armed: Instant::NEVER,
            was_late: false,
        }
    }

    /// What came and is not used up.
    pub(super) fn input(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    /// Drops the first `count` bytes of the input. Where nothing is left, no buffer is held either.
    pub(super) fn consume(&mut self, count: usize) {
        self.used += count;
        if self.used >= self.input.len() {
            self.input = Vec::new();
            self.used = 0;
        }
    }

    /// Has `write` put a frame of at most `room` bytes behind what is to be sent.
    pub(super) fn write<E>(
        &mut self,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        // Else what was sent would be kept for as long as something waits behind it.
        self.output.drain(..self.written);
        self.written = 0;
        let start = self.output.len();
        self.output.resize(start + room, 0);
        let result = self.output.get_mut(start..).map_or(Ok(0), write);
        let length = result.as_ref().map_or(0, |length| (*length).min(room));
        self.output.truncate(start + length);
        result
    }

    /// Whether so much waits to be sent that messages had better wait; [`Wire::next`] returns when it no longer does.
    pub(super) fn is_crowded(&self) -> bool {
        self.pending() >= CROWDED
    }

    /// How many bytes wait to be sent.
    fn pending(&self) -> usize {
        self.output.len() - self.written
    }

    /// Sends what waits and reads what comes, until there is something to do.
    pub(super) async fn next(
        &mut self,
        mailbox: &Mailbox,
        deadline: Option<Instant>,
    ) -> Result<Wake, WireError> {
        if self.pending() > MAX_PENDING {
            return Err(WireError::NotReading);
        }
        let deadline = deadline.unwrap_or(Instant::NEVER);
        if deadline < self.armed {
            self.arm(deadline);
        }
        poll_fn(|context| self.poll_next(context, mailbox, deadline)).await
    }

    /// Sends all that waits, for at most `time_limit`, and ends the stream.
    pub(super) async fn finish(&mut self, time_limit: Duration) {
        let flush = async {
            poll_fn(|context| self.poll_send(context)).await?;
            poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await
        };
        // Whoever does not take the farewell does without it.
        let _ = tokio::time::timeout(time_limit, flush).await;
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        mailbox: &Mailbox,
        deadline: Instant,
    ) -> Poll<Result<Wake, WireError>> {
        let was_crowded = self.is_crowded();
        if let Poll::Ready(Err(error)) = self.poll_send(context) {
            return Poll::Ready(Err(error.into()));
        }
        // Both at each turn. A peer that talks without end is still told to go; and what it said counts before its
        // silence is judged, whatever else there is to do.
        let requests = match mailbox.poll_take(context) {
            Poll::Ready(requests) => Some(requests),
            Poll::Pending => None,
        };
        let input = match self.poll_receive(context) {
            // The requests first: the end of the bytes is found again.
            Poll::Ready(Err(error)) if requests.is_none() => return Poll::Ready(Err(error)),
            Poll::Ready(result) => result.is_ok(),
            Poll::Pending => false,
        };
        let has_room_again = was_crowded && !self.is_crowded();
        if input || requests.is_some() || has_room_again {
            return Poll::Ready(Ok(Wake { input, requests, due: false }));
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let now = clock::now();
            if now < deadline {
                self.arm(deadline);
            } else if Duration::from(now.since(deadline)) > LATE && !self.was_late {
                // The whole machine slept. What came meanwhile may not have reached this socket's queue yet.
                self.was_late = true;
                self.timer.as_mut().reset(tokio::time::Instant::now() + LATE);
            } else {
                self.armed = Instant::NEVER;
                return Poll::Ready(Ok(Wake { due: true, ..Wake::default() }));
            }
        }
        Poll::Pending
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        LENT.with_borrow_mut(|lent| {
            let mut buffer = ReadBuf::new(lent);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Err(WireError::Ended))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Err(WireError::Ended)),
                Poll::Ready(Ok(())) => {
                    self.input.drain(..self.used);
                    self.used = 0;
                    self.input.extend_from_slice(buffer.filled());
                    self.was_late = false;
                    Poll::Ready(Ok(()))
                }
            }
        })
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut stream = Pin::new(&mut self.stream);
        while let Some(rest @ [_, ..]) = self.output.get(self.written..) {
            match stream.as_mut().poll_write(context, rest)? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => self.written += count,
            }
        }
        // The output is kept until it is flushed: only then is there nothing more to be polled for.
        if stream.poll_flush(context)?.is_pending() {
            return Poll::Pending;
        }
        self.output = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn arm(&mut self, at: Instant) {
        self.armed = at;
        let wait = Duration::from(at.since(clock::now()));
        self.timer.as_mut().reset(tokio::time::Instant::now() + wait);
    }
}
