//! What is a chip's own, whatever carries its connection.

use agent_embedded::board::{Clock, ResetReason};
use embedded_io_async::ErrorKind;

/// A chip: clock, entropy, watchdog and reset. With a transport it is a [`Board`](agent_embedded::board::Board), whose
/// methods these are.
///
/// It is only a handle: what it stands for is in registers and statics.
pub trait Chip: Clock + Copy {
    /// Fills `bytes` at random, well enough for keys.
    fn fill_random(&self, bytes: &mut [u8]);

    /// Starts the watchdog's time anew.
    fn feed_watchdog(&self);

    /// Why the device started.
    fn reset_reason(&self) -> ResetReason;

    /// Starts the device anew.
    fn reset(&self) -> !;

    /// Reads the provisioning block; leaves `block` as it is if the board keeps none.
    fn load(&self, block: &mut [u8]) {
        _ = block;
    }

    /// Keeps a changed provisioning block over resets.
    ///
    /// # Errors
    /// It could not be kept.
    fn store(&self, block: &[u8]) -> Result<(), ErrorKind> {
        _ = block;
        Err(ErrorKind::Unsupported)
    }

    /// Eight bytes at random.
    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The methods that a board has from its chip.
macro_rules! from_chip {
    () => {
        fn fill_random(&self, bytes: &mut [u8]) {
            self.chip.fill_random(bytes);
        }

        fn feed_watchdog(&self) {
            self.chip.feed_watchdog();
        }

        fn reset_reason(&self) -> ResetReason {
            self.chip.reset_reason()
        }

        fn reset(&self) {
            self.chip.reset();
        }

        fn load(&self, block: &mut [u8]) {
            self.chip.load(block);
        }

        fn store(&self, block: &[u8]) -> Result<(), ErrorKind> {
            self.chip.store(block)
        }
    };
}

pub(crate) use from_chip;
