//! A stream whose peer must not make it wait for ever.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// A stream that fails when its peer takes nothing for too long.
#[derive(Debug)]
pub struct WriteTimeout<S> {
    stream: S,
    time_limit: Duration,
    /// When the time limit is over, while the peer takes nothing.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    /// The peer may take nothing for so long.
    pub fn new(stream: S, time_limit: Duration) -> Self {
        Self { stream, time_limit, timer: None }
    }

    /// The stream alone: its peer may take its time from now on.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// The answer, or an error if it has not come for too long.
    fn guard<T>(&mut self, context: &mut Context<'_>, answer: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if answer.is_ready() {
            self.timer = None;
            return answer;
        }
        let time_limit = self.time_limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + time_limit)));
        timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let answer = pin!(&mut self.stream).poll_write(context, bytes);
        self.guard(context, answer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let answer = pin!(&mut self.stream).poll_write_vectored(context, slices);
        self.guard(context, answer)
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
    use std::{io, time::Duration};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::WriteTimeout;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = WriteTimeout::new(ours, Duration::from_secs(30));
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
    async fn a_peer_may_be_silent() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = WriteTimeout::new(ours, Duration::from_secs(30));
        let writer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            theirs.write_all(b"x").await.unwrap();
            theirs
        });
        ours.read_exact(&mut [0; 1]).await.unwrap();
        let _theirs = writer.await.unwrap();
    }
}
