//! A microcontroller's end of a wire.

use std::{cell::RefCell, collections::VecDeque, convert::Infallible};

use embedded_io::{ErrorType, Read, ReadReady, Write};

/// The most bytes that one read gives: drivers have small buffers.
const READ: usize = 50;

/// What has come and was not read, and what was written.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    coming: VecDeque<u8>,
    going: Vec<u8>,
    has_ended: bool,
}

impl Bytes {
    /// Bytes have come, and perhaps the end behind them.
    pub(super) fn arrive(&mut self, bytes: Vec<u8>, has_ended: bool) {
        self.coming.extend(bytes);
        self.has_ended |= has_ended;
    }

    /// What was written since this was last asked.
    pub(super) fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.going)
    }
}

/// The transport, as the library has it.
#[derive(Debug)]
pub(super) struct Plug<'a>(pub(super) &'a RefCell<Bytes>);

impl ErrorType for Plug<'_> {
    type Error = Infallible;
}

impl ReadReady for Plug<'_> {
    fn read_ready(&mut self) -> Result<bool, Self::Error> {
        let bytes = self.0.borrow();
        Ok(bytes.has_ended || !bytes.coming.is_empty())
    }
}

impl Read for Plug<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let coming = &mut self.0.borrow_mut().coming;
        let count = buffer.len().min(coming.len()).min(READ);
        buffer.iter_mut().zip(coming.drain(..count)).for_each(|(to, from)| *to = from);
        Ok(count)
    }
}

impl Write for Plug<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        self.0.borrow_mut().going.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
