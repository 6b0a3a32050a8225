//! TLS records, whole: between the transport and the TLS library.
//!
//! The library forgets where in a record it is when a read of it is dropped, and trusts what stands outside of the
//! encryption. So it is given no byte of a record before all of it is there, and no record that it must not see.

use embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};

/// Type, version, length.
const HEADER: usize = 5;

/// The types of records. Only those of the last are encrypted, and show their own type inside.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const ENCRYPTED: u8 = 23;

/// The check sum of the encryption, and one byte that says what is encrypted.
const LEAST_ENCRYPTED: usize = 16 + 1;

/// Collects records of at most so many bytes as its buffer holds.
pub(super) struct Records<'b, T> {
    transport: T,
    /// One record, or the beginning of it.
    buffer: &'b mut [u8],
    /// How much of the record has come. Invariant: `given <= filled <= buffer.len()`.
    filled: usize,
    /// How much of the record the library has; nothing before all of it has come.
    given: usize,
    expected: Expected,
}

/// What the next record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The server's hello, or its alert instead.
    Hello,
    /// One that changes nothing, for old boxes on the way (RFC 8446, D.4), or as all that follow.
    BehindHello,
    /// Encrypted.
    Encrypted,
}

impl Expected {
    fn takes(self, kind: u8, content: usize) -> bool {
        let is_encrypted = kind == ENCRYPTED && content >= LEAST_ENCRYPTED;
        match self {
            Self::Hello => kind == HANDSHAKE || kind == ALERT,
            Self::BehindHello => is_encrypted || kind == CHANGE_CIPHER_SPEC,
            Self::Encrypted => is_encrypted,
        }
    }

    const fn behind(self) -> Self {
        match self {
            Self::Hello => Self::BehindHello,
            Self::BehindHello | Self::Encrypted => Self::Encrypted,
        }
    }
}

/// Why no more records come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordError {
    /// The transport failed.
    Transport(ErrorKind),
    /// What came is no record that a server sends to us now.
    Unexpected,
}

impl core::fmt::Display for RecordError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("no record")
    }
}

impl core::error::Error for RecordError {}

impl Error for RecordError {
    /// The library keeps nothing else of an error: what is no record is told by a kind that no transport has.
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Transport(ErrorKind::InvalidData) => ErrorKind::Other,
            Self::Transport(kind) => *kind,
            Self::Unexpected => ErrorKind::InvalidData,
        }
    }
}

impl<'b, T> Records<'b, T> {
    pub(super) const fn new(transport: T, buffer: &'b mut [u8]) -> Self {
        Self { transport, buffer, filled: 0, given: 0, expected: Expected::Hello }
    }

    /// The record's whole length; nothing if that has not come yet.
    fn length(&self) -> Result<Option<usize>, RecordError> {
        let Some(&[kind, _, _, high, low]) = self.buffer.get(..self.filled).and_then(<[u8]>::first_chunk)
        else {
            return Ok(None);
        };
        let content = usize::from(u16::from_be_bytes([high, low]));
        let length = content.saturating_add(HEADER);
        if self.expected.takes(kind, content) && length <= self.buffer.len() {
            Ok(Some(length))
        } else {
            Err(RecordError::Unexpected)
        }
    }

    /// Hands out of the record that is there, as much as `target` takes.
    fn give(&mut self, target: &mut [u8]) -> usize {
        let rest = self.buffer.get(self.given..self.filled).unwrap_or_default();
        let count = rest.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.given = self.given.saturating_add(count);
        if self.given == self.filled {
            self.expected = self.expected.behind();
            (self.given, self.filled) = (0, 0);
        }
        count
    }
}

impl<T> ErrorType for Records<'_, T> {
    type Error = RecordError;
}

impl<T: Read> Read for Records<'_, T> {
    async fn read(&mut self, target: &mut [u8]) -> Result<usize, RecordError> {
        loop {
            let length = self.length()?;
            if length == Some(self.filled) {
                return Ok(self.give(target));
            }
            let room =
                self.buffer.get_mut(self.filled..length.unwrap_or(HEADER)).ok_or(RecordError::Unexpected)?;
            match self.transport.read(room).await {
                Ok(0) => return Ok(0),
                Ok(count) => self.filled = self.filled.saturating_add(count.min(room.len())),
                Err(error) => return Err(RecordError::Transport(error.kind())),
            }
        }
    }
}

impl<T: Write> Write for Records<'_, T> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, RecordError> {
        match self.transport.write(bytes).await {
            // The library would panic.
            Ok(0) if !bytes.is_empty() => Err(RecordError::Transport(ErrorKind::WriteZero)),
            written => written.map_err(|error| RecordError::Transport(error.kind())),
        }
    }

    async fn flush(&mut self) -> Result<(), RecordError> {
        self.transport.flush().await.map_err(|error| RecordError::Transport(error.kind()))
    }
}
