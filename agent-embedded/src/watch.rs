//! The watchdog's side of the loop: it is fed only while the agent gets on.

use core::{cell::Cell, pin::Pin};

use embassy_futures::select::{Either, select};
use protocol_core::time::{Duration, Instant};

use crate::board::Board;

/// How often the watchdog is fed, while all is well.
pub const FEED_INTERVAL: Duration = Duration::from_secs(2);

/// Watches that no step takes longer than it may, and that the server is heard of.
#[derive(Debug)]
pub(crate) struct Watch<'b, B> {
    pub(crate) board: &'b B,
    /// When the present step must have ended.
    limit: Cell<Instant>,
    /// When the server was heard last; at first, when the device started.
    heard: Cell<Instant>,
}

impl<'b, B: Board> Watch<'b, B> {
    pub(crate) fn new(board: &'b B) -> Self {
        Self { board, limit: Cell::new(Instant::NEVER), heard: Cell::new(board.now()) }
    }

    /// The step that begins now ends within `limit`.
    pub(crate) fn ends_within(&self, limit: Duration) {
        self.limit.set(self.board.now().after(limit));
    }

    /// Nothing is under way that must end.
    pub(crate) fn may_wait(&self) {
        self.limit.set(Instant::NEVER);
    }

    /// The server was heard.
    pub(crate) fn heard(&self) {
        self.heard.set(self.board.now());
    }

    /// Waits for `future`, and feeds the watchdog meanwhile. Gives nothing if a step of it does not end in time, give or
    /// take the interval of feeding.
    pub(crate) async fn over<F: Future>(&self, mut future: Pin<&mut F>) -> Option<F::Output> {
        self.may_wait();
        loop {
            let now = self.board.now();
            if now >= self.limit.get() {
                return None;
            }
            if now.since(self.heard.get()) < B::OFFLINE_LIMIT {
                self.board.feed_watchdog();
            }
            let pause = self.board.sleep_until(now.after(FEED_INTERVAL));
            if let Either::First(output) = select(future.as_mut(), pause).await {
                return Some(output);
            }
        }
    }
}
