//! A connection that carries the bytes of a task.

use tokio::sync::OwnedSemaphorePermit;

use crate::byte_stream::ByteStream;

/// A data connection behind its first frame.
pub struct DataConnection {
    /// Its bytes, from and to the device.
    pub stream: Box<dyn ByteStream>,
    /// Its place among the server's connections, if it is one of a device's.
    _permit: Option<OwnedSemaphorePermit>,
}

impl DataConnection {
    /// The bytes of this connection, which has this place among the server's.
    pub fn new(stream: impl ByteStream + 'static, permit: OwnedSemaphorePermit) -> Self {
        Self { stream: Box::new(stream), _permit: Some(permit) }
    }

    /// The bytes of a connection that another program of this machine has brought.
    pub(super) fn on_this_machine(stream: impl ByteStream + 'static) -> Self {
        Self { stream: Box::new(stream), _permit: None }
    }
}
