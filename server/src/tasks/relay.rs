//! Joins an operator to a task's bytes, until either side ends or the task is to stop.
//!
//! What is slow is slowed down by TCP's own back-pressure, and by nothing else; a session that is idle holds no buffer.

use std::{
    cell::RefCell,
    future::{pending, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use super::{DataConnection, Standing, Task};
use crate::{byte_stream::ByteStream, shutdown::Shutdown, span, store::TaskState};

/// The most bytes read at once.
const READ_SIZE: usize = 64 * 1024;

thread_local! {
    /// Lent to whichever session of this thread reads.
    static LENT: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Why a relay has ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("finished")]
    Finished,
    #[error("the connection to the {0} broke: {1}")]
    Broken(&'static str, io::Error),
    #[error("nothing moved for {}", span::shortened(*.0))]
    Idle(Duration),
    #[error("{}", .0.as_deref().unwrap_or("the task has ended"))]
    Stopped(Option<String>),
}

impl End {
    fn state(&self) -> TaskState {
        match self {
            Self::Broken(..) => TaskState::Failed,
            Self::Finished | Self::Idle(_) | Self::Stopped(_) => TaskState::Done,
        }
    }
}

/// What a relay has carried, and how it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Bytes that came from the device.
    pub from_device: u64,
    /// Bytes that went to the device.
    pub to_device: u64,
    /// How it has ended: both connections are closed by then.
    pub end: Standing,
}

/// An operator who waits for the bytes of a task.
pub struct Relay<S> {
    operator: S,
    idle_limit: Option<Duration>,
    moved_at: Instant,
    /// From the device.
    inward: Half,
    /// To the device.
    outward: Half,
    /// How much has gone each way, for whoever looks meanwhile.
    counts: Arc<Counts>,
}

/// How many bytes came from the device, and went to it.
#[derive(Default)]
struct Counts([AtomicU64; 2]);

impl Counts {
    fn set(&self, from_device: u64, to_device: u64) {
        let Self([inward, outward]) = self;
        inward.store(from_device, Relaxed);
        outward.store(to_device, Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        let Self([inward, outward]) = self;
        (inward.load(Relaxed), outward.load(Relaxed))
    }
}

impl<S: ByteStream> Relay<S> {
    /// An operator who has said `first` already. Where nothing moves for `idle_limit` the relay ends; 0 is for ever.
    pub fn new(operator: S, first: &[u8], idle_limit: Duration) -> Self {
        let idle_limit = (!idle_limit.is_zero()).then_some(idle_limit);
        let outward =
            Half { rest: first.to_vec(), count: first.len() as u64, may_just_go: true, ..Half::default() };
        let (moved_at, inward, counts) = (Instant::now(), Half::default(), Arc::default());
        Self { operator, idle_limit, moved_at, inward, outward, counts }
    }

    /// Carries bytes between the operator and the task's device to the end, and writes down how many there were and how
    /// it ended.
    pub async fn run(self, mut task: Task, data: DataConnection, shutdown: &Shutdown) {
        let (counts, mut kept) = (Arc::clone(&self.counts), task.byte_count());
        let stopped = async {
            tokio::select! {
                standing = task.stopped() => standing.reason,
                cause = shutdown.requested() => Some(format!("the server stopped: {cause}")),
            }
        };
        // Both ends learn of the end before the record is written.
        let Carried { from_device, to_device, end } = {
            let mut carrying = pin!(self.carry(data.stream, stopped));
            loop {
                tokio::select! {
                    carried = &mut carrying => break carried,
                    () = kept.due() => kept.note(counts.get()),
                }
            }
        };
        // In a box, for which nothing is kept while bytes are carried.
        let written = async move {
            kept.finish((from_device, to_device)).await;
            task.finish(end).await;
        };
        Box::pin(written).await;
    }

    /// Carries bytes between the operator and a device until either side ends, or it is to stop, perhaps for a reason.
    pub async fn carry(
        mut self,
        mut device: impl ByteStream,
        stopped: impl Future<Output = Option<String>>,
    ) -> Carried {
        let end = tokio::select! {
            end = self.carry_on(&mut device) => end,
            reason = stopped => End::Stopped(reason),
        };
        Carried {
            from_device: self.inward.count,
            to_device: self.outward.count,
            end: Standing::new(end.state(), end.to_string()),
        }
    }

    async fn carry_on(&mut self, device: &mut impl ByteStream) -> End {
        loop {
            let idle_at = self.idle_limit.map(|limit| (self.moved_at + limit, limit));
            let moved = poll_fn(|context| self.poll_carry(context, device));
            tokio::select! {
                end = moved => return end,
                limit = idle(idle_at) => if self.moved_at.elapsed() >= limit {
                    return End::Idle(limit);
                },
            }
        }
    }

    fn poll_carry(&mut self, context: &mut Context<'_>, device: &mut impl ByteStream) -> Poll<End> {
        let before = self.inward.count + self.outward.count;
        let inward = self.inward.poll_carry(context, Pin::new(&mut *device), Pin::new(&mut self.operator));
        let outward = self.outward.poll_carry(context, Pin::new(&mut self.operator), Pin::new(device));
        if self.inward.count + self.outward.count > before {
            self.moved_at = Instant::now();
            self.counts.set(self.inward.count, self.outward.count);
        }
        match (inward, outward) {
            (Poll::Ready(Err(Broken::From(error))), _) | (_, Poll::Ready(Err(Broken::To(error)))) => {
                Poll::Ready(End::Broken("device", error))
            }
            (Poll::Ready(Err(Broken::To(error))), _) | (_, Poll::Ready(Err(Broken::From(error)))) => {
                Poll::Ready(End::Broken("operator", error))
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Finished),
            _ => Poll::Pending,
        }
    }
}

/// Waits until nothing may have moved for too long; gives how long that is.
async fn idle(at: Option<(Instant, Duration)>) -> Duration {
    match at {
        Some((at, limit)) => {
            sleep_until(at).await;
            limit
        }
        None => pending().await,
    }
}

/// Where bytes went wrong.
enum Broken {
    From(io::Error),
    To(io::Error),
}

/// One half of a relay, the one way: what was read and is not written yet, and how much has been read in all.
#[derive(Default)]
struct Half {
    /// `written <= rest.len()`.
    rest: Vec<u8>,
    written: usize,
    count: u64,
    /// Something was written that was not flushed.
    unflushed: bool,
    /// Whoever says it may go without a word of TLS: all that they said has come.
    may_just_go: bool,
    /// No more will be read.
    ended: bool,
    /// And the other end was told.
    done: bool,
}

impl Half {
    /// Carries what there is, to the end of the stream that it comes from.
    fn poll_carry(
        &mut self,
        context: &mut Context<'_>,
        mut from: Pin<&mut (impl AsyncRead + ?Sized)>,
        mut to: Pin<&mut (impl AsyncWrite + ?Sized)>,
    ) -> Poll<Result<(), Broken>> {
        while !self.done {
            while let Some(rest @ [_, ..]) = self.rest.get(self.written..) {
                match to.as_mut().poll_write(context, rest) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(Broken::To(io::ErrorKind::WriteZero.into())));
                    }
                    Poll::Ready(Ok(count)) => self.written += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::To(error))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            (self.rest, self.written) = (Vec::new(), 0);
            if self.ended {
                match to.as_mut().poll_shutdown(context) {
                    Poll::Ready(Ok(())) => self.done = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::To(error))),
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            }
            let read = LENT.with_borrow_mut(|lent| self.poll_pass(context, from.as_mut(), to.as_mut(), lent));
            match read {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Pending => {
                    if self.unflushed && to.as_mut().poll_flush(context).map_err(Broken::To)?.is_ready() {
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and writes as much of that as is taken at once; keeps what is not.
    fn poll_pass(
        &mut self,
        context: &mut Context<'_>,
        from: Pin<&mut (impl AsyncRead + ?Sized)>,
        mut to: Pin<&mut (impl AsyncWrite + ?Sized)>,
        lent: &mut [u8],
    ) -> Poll<Result<(), Broken>> {
        let mut buffer = ReadBuf::new(lent);
        match from.poll_read(context, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) if self.may_just_go && error.kind() == io::ErrorKind::UnexpectedEof => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::From(error))),
            Poll::Ready(Ok(())) => {}
        }
        let mut bytes = buffer.filled();
        self.ended = bytes.is_empty();
        self.count += bytes.len() as u64;
        while !bytes.is_empty() {
            match to.as_mut().poll_write(context, bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Broken::To(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(count)) => {
                    self.unflushed = true;
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::To(error))),
                Poll::Pending => {
                    self.rest = bytes.to_vec();
                    self.unflushed = true;
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
