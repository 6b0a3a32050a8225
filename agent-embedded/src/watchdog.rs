//! The watchdog's side of the loop: it is fed only while the agent gets on.

use core::{cell::Cell, pin::Pin};

use embassy_futures::select::{Either, select};
use protocol_core::time::{Duration, Instant};

use crate::board::Board;

/// How often the watchdog is fed, while all is well.
pub const FEED_INTERVAL: Duration = Duration::from_secs(2);

/// How long a device that is to reset waits for its server to hang up; at most [`FEED_INTERVAL`] more.
const RESET_DELAY: Duration = Duration::from_secs(1);

/// Watches that no step takes longer than it may, and that the server is heard of.
#[derive(Debug)]
pub(crate) struct Watchdog<'b, B> {
    pub(crate) board: &'b B,
    /// When the present step must have ended.
    limit: Cell<Instant>,
    /// When the server was heard last, or until when it wants to be left alone; at first, when the device started.
    heard: Cell<Instant>,
    /// When the device resets at the latest. It outlives the connection that brought the wish, acknowledged or not.
    resets_at: Cell<Instant>,
}

impl<'b, B: Board> Watchdog<'b, B> {
    #[inline(never)]
    pub(crate) fn new(board: &'b B) -> Self {
        let (never, now) = (Cell::new(Instant::NEVER), Cell::new(board.now()));
        Self { board, limit: never.clone(), heard: now, resets_at: never }
    }

    /// The step that begins now ends within `limit`.
    #[inline(never)]
    pub(crate) fn ends_within(&self, limit: Duration) {
        self.limit.set(self.board.now().after(limit));
    }

    /// Nothing is under way that must end.
    pub(crate) fn may_wait(&self) {
        self.limit.set(Instant::NEVER);
    }

    /// The server was heard, or is not to be heard until then.
    pub(crate) fn heard(&self, at: Instant) {
        self.heard.set(at);
    }

    /// The device is to reset once its echo and its farewell have reached the server.
    pub(crate) fn reset(&self) {
        self.resets_at.set(self.board.now().after(RESET_DELAY));
    }

    /// Whether the device is to reset.
    pub(crate) fn is_resetting(&self) -> bool {
        self.resets_at.get() < Instant::NEVER
    }

    /// Waits for `future`, and feeds the watchdog meanwhile. Gives nothing if a step of it does not end in time, give or
    /// take the interval of feeding. A device that is to reset does so then, however that ended.
    pub(crate) async fn guard<F: Future>(&self, mut future: Pin<&mut F>) -> Option<F::Output> {
        self.may_wait();
        loop {
            let now = self.board.now();
            if now >= self.resets_at.get() {
                self.board.reset();
            }
            if now >= self.limit.get() {
                return None;
            }
            if now.since(self.heard.get()) < B::OFFLINE_LIMIT {
                self.board.feed_watchdog();
            }
            let pause = self.board.sleep_until(now.after(FEED_INTERVAL));
            if let Either::First(output) = select(future.as_mut(), pause).await {
                if self.is_resetting() {
                    self.board.reset();
                }
                return Some(output);
            }
        }
    }
}
