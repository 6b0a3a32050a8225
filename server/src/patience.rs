//! A stream whose peer must not make it wait for ever.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

/// A stream that fails when its peer takes nothing, or says nothing, for too long; with its place among those that
/// may be open.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    read: Limit,
    write: Limit,
    _place: OwnedSemaphorePermit,
}

impl<S> Patient<S> {
    /// The peer may take nothing for so long.
    pub fn new(stream: S, write: Duration, place: OwnedSemaphorePermit) -> Self {
        Self { stream, read: Limit::none(), write: Limit::of(write), _place: place }
    }

    /// The peer may say nothing for so long, either.
    #[must_use]
    pub fn with_read_limit(mut self, read: Duration) -> Self {
        self.read = Limit::of(read);
        self
    }
}

/// How long something may wait, and when that is over: there is no timer where nothing waits.
#[derive(Debug)]
struct Limit {
    patience: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Limit {
    const fn none() -> Self {
        Self { patience: None, timer: None }
    }

    const fn of(patience: Duration) -> Self {
        Self { patience: Some(patience), timer: None }
    }

    /// The answer, or an error if it has not come for too long.
    fn guard<T>(&mut self, context: &mut Context<'_>, answer: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let (Poll::Pending, Some(patience)) = (&answer, self.patience) else {
            self.timer = None;
            return answer;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let answer = pin!(&mut self.stream).poll_read(context, buffer);
        self.read.guard(context, answer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let answer = pin!(&mut self.stream).poll_write(context, bytes);
        self.write.guard(context, answer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let answer = pin!(&mut self.stream).poll_write_vectored(context, slices);
        self.write.guard(context, answer)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        sync::Semaphore,
    };

    use super::Patient;

    fn place() -> tokio::sync::OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = Patient::new(ours, Duration::from_secs(30), place());
        ours.write_all(b"1234").await.unwrap();
        let reader = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(29)).await;
            theirs.read_exact(&mut [0; 4]).await.unwrap();
            theirs
        });
        ours.write_all(b"5678").await.unwrap();
        let _theirs = reader.await.unwrap();
        let error = ours.write_all(b"9").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_may_be_silent_where_there_is_no_limit() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = Patient::new(ours, Duration::from_secs(30), place());
        let writer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            theirs.write_all(b"x").await.unwrap();
            theirs
        });
        ours.read_exact(&mut [0; 1]).await.unwrap();
        let _theirs = writer.await.unwrap();
        let mut ours = ours.with_read_limit(Duration::from_secs(10));
        let error = ours.read_exact(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
