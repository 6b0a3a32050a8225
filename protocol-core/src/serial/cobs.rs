//! COBS: any bytes as bytes without a zero, so that a zero can end a packet.
//!
//! Written here because it must be provable that no input can panic it.

/// The most bytes without a zero in one block: a block's first byte is its length and one.
const BLOCK: usize = 254;

/// How many bytes `length` bytes take at most when encoded, delimiters not counted.
pub(super) const fn encoded_length(length: usize) -> usize {
    length.saturating_add(length / BLOCK).saturating_add(1)
}

/// Encodes bytes, one by one, into a buffer of the caller.
pub(super) struct Encoder<'a> {
    buffer: &'a mut [u8],
    /// Where the length of the block that is open goes.
    block: usize,
    /// Where the next byte goes.
    at: usize,
    has_overflown: bool,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        let mut encoder = Self { buffer, block: 0, at: 0, has_overflown: false };
        encoder.put(0);
        encoder.open_block();
        encoder
    }

    pub(super) fn push(&mut self, byte: u8) {
        if byte != 0 {
            self.put(byte);
        }
        if byte == 0 || self.block_length() > BLOCK {
            self.close_block();
            self.open_block();
        }
    }

    /// Ends the packet: gives the length of all of it, delimiters included, or nothing if it did not fit.
    pub(super) fn finish(mut self) -> Option<usize> {
        self.close_block();
        self.put(0);
        (!self.has_overflown).then_some(self.at)
    }

    /// The open block's length, its own byte included.
    fn block_length(&self) -> usize {
        self.at.saturating_sub(self.block)
    }

    fn open_block(&mut self) {
        self.block = self.at;
        self.put(0);
    }

    fn close_block(&mut self) {
        let length = self.block_length() as u8; // At most 255: a longer block is closed.
        if let Some(slot) = self.buffer.get_mut(self.block) {
            *slot = length;
        }
    }

    #[inline(never)]
    fn put(&mut self, byte: u8) {
        match self.buffer.get_mut(self.at) {
            Some(slot) => *slot = byte,
            None => self.has_overflown = true,
        }
        self.at = self.at.saturating_add(1);
    }
}

/// Decodes packets, byte by byte, into a buffer of the caller.
#[derive(Debug)]
pub(super) struct Decoder<B> {
    buffer: B,
    /// The packet's bytes so far: `filled <= buffer.len()`.
    filled: usize,
    /// How many bytes the block has left.
    left: u8,
    /// The block before the next one stands for a zero at its end.
    zero_due: bool,
    /// The packet is too long for the buffer: drop it.
    is_spoilt: bool,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Decoder<B> {
    pub(super) const fn new(buffer: B) -> Self {
        Self { buffer, filled: 0, left: 0, zero_due: false, is_spoilt: false }
    }

    /// The largest packet that fits, decoded, in bytes.
    pub(super) fn room(&self) -> usize {
        self.buffer.as_ref().len()
    }

    /// Takes a byte. Gives the length of a packet when it ends and may be whole: see [`Decoder::packet`].
    pub(super) fn push(&mut self, byte: u8) -> Option<usize> {
        if byte == 0 {
            let length = self.filled;
            let is_whole = !self.is_spoilt && self.left == 0 && length > 0;
            self.restart();
            return is_whole.then_some(length);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                self.put(byte);
            }
            None => {
                if self.zero_due {
                    self.put(0);
                }
                self.left = byte.saturating_sub(1);
                self.zero_due = byte != u8::MAX;
            }
        }
        None
    }

    /// The packet of the length that [`Decoder::push`] gave, until the next push.
    pub(super) fn packet(&self, length: usize) -> &[u8] {
        self.buffer.as_ref().get(..length).unwrap_or_default()
    }

    /// Drops what has come of a packet.
    pub(super) fn restart(&mut self) {
        self.filled = 0;
        self.left = 0;
        self.zero_due = false;
        self.is_spoilt = false;
    }

    #[inline(never)]
    fn put(&mut self, byte: u8) {
        match self.buffer.as_mut().get_mut(self.filled) {
            Some(slot) => {
                *slot = byte;
                self.filled = self.filled.saturating_add(1);
            }
            None => self.is_spoilt = true,
        }
    }
}
