//! What comes over a line whose link does not come up: whether it is noise, or no device's packets at this speed.

use std::time::Duration;

use protocol_core::time::Instant;

/// How long bytes are one moment: a link whose peer asks comes up in less.
const MOMENT: Duration = Duration::from_millis(500);

/// After so many moments with bytes it is not the rest of an older session, nor a device that has only just begun.
const MANY: u32 = 3;

/// When bytes came since the link was up.
#[derive(Debug)]
pub(super) struct Unread {
    /// So long they are remembered: a device that is not heard is silent for that long between its attempts.
    memory: Duration,
    /// How many moments there were, and when the last began.
    moments: u32,
    last: Instant,
}

impl Unread {
    pub(super) fn new(memory: Duration) -> Self {
        Self { memory, moments: 0, last: Instant::from_micros(0) }
    }

    /// Bytes came, and the link is not up.
    pub(super) fn came(&mut self, now: Instant) {
        self.forget_old(now);
        if self.moments == 0 || since(self.last, now) >= MOMENT {
            self.moments = self.moments.saturating_add(1);
            self.last = now;
        }
    }

    /// The link is up.
    pub(super) fn forget(&mut self) {
        self.moments = 0;
    }

    /// Whether something came of late, be it what it may.
    pub(super) fn is_any(&mut self, now: Instant) -> bool {
        self.forget_old(now);
        self.moments > 0
    }

    /// Whether it is not to be read: it came again and again, and the link did not come up by it.
    pub(super) fn is_noise(&mut self, now: Instant) -> bool {
        self.forget_old(now);
        self.moments >= MANY
    }

    fn forget_old(&mut self, now: Instant) {
        if since(self.last, now) >= self.memory {
            self.moments = 0;
        }
    }
}

fn since(moment: Instant, now: Instant) -> Duration {
    now.since(moment).into()
}
