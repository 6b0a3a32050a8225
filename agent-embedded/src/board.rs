//! What a board gives its agent.

use embedded_io_async::{ErrorKind, Read, Write};
use protocol_core::{
    provisioning::LENGTH,
    time::{Duration, Instant},
};

/// The time.
pub trait Clock {
    /// The time since the start; it never runs backwards.
    fn now(&self) -> Instant;

    /// Waits until then. May be dropped at any time.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()>;
}

impl<C: Clock> Clock for &C {
    fn now(&self) -> Instant {
        C::now(self)
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> {
        C::sleep_until(self, at)
    }
}

/// A board: clock, entropy, watchdog and reset, and where it keeps who it is. With what [connects](Connect) it to its
/// server that is all that boards differ in.
///
/// Methods take `&self`: a board keeps what it changes in cells, or in its registers.
pub trait Board: Clock {
    /// For how long the device may go without a word from its server, beside the time that the server itself asked
    /// for: then the watchdog is fed no longer, in case that it is the device that hangs. Longer than servers are ever
    /// down: messages that wait in RAM are lost.
    const OFFLINE_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

    /// Fills `bytes` at random, well enough for keys.
    fn fill_random(&self, bytes: &mut [u8]);

    /// Eight bytes at random.
    #[inline(never)]
    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Starts the watchdog's time anew. It resets the board if this is not called for its period: twice
    /// [`FEED_INTERVAL`](crate::run::FEED_INTERVAL) or more.
    fn feed_watchdog(&self);

    /// Why the device started.
    fn reset_reason(&self) -> ResetReason;

    /// Starts the device anew. On a board it does not return; a simulated one may, and is then not polled again.
    fn reset(&self);

    /// Reads the provisioning block from where the board keeps it: all of `block`. Leaves it as it is if there is
    /// none.
    fn load(&self, block: &mut [u8; LENGTH]) {
        _ = block;
    }

    /// Keeps a changed provisioning block over resets: its pins or addresses are others now. A power cut in between
    /// leaves the old one or the new one.
    ///
    /// # Errors
    /// It could not be kept: the device goes on, and knows after a reset what it knew before.
    fn store(&self, block: &[u8; LENGTH]) -> Result<(), ErrorKind> {
        _ = block;
        Err(ErrorKind::Unsupported)
    }
}

/// What connects a device to its server: a network, or a line.
pub trait Connect {
    /// What carries a connection. Its `read` may be dropped at any time, and loses nothing then.
    type Transport<'a>: Read + Write
    where
        Self: 'a;

    /// Connects to `address`, a `host:port`; a line that is wired takes no notice of it. Dropped if it takes longer
    /// than [`CONNECT_LIMIT`](crate::run::CONNECT_LIMIT).
    ///
    /// # Errors
    /// What kept it from that.
    fn connect<'a>(&'a self, address: &str) -> impl Future<Output = Result<Self::Transport<'a>, ErrorKind>>;
}

/// Why a device started: the reading `reset-reason` of its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ResetReason {
    /// The board does not tell.
    Unknown = 0,
    /// The power came on.
    PowerOn = 1,
    /// The reset pin.
    Pin = 2,
    /// The voltage was too low for a while.
    BrownOut = 3,
    /// The watchdog was not fed: the firmware hung, or [had no server](Board::OFFLINE_LIMIT).
    Watchdog = 4,
    /// The firmware itself, told to by a message.
    Software = 5,
    /// The firmware has panicked: a fault in it, or in a library of it.
    Panic = 6,
}
