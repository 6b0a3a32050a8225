//! Tags: the four upper-case ASCII bytes that start every frame.

use core::fmt;

/// The name of a frame: four upper-case ASCII letters (`docs/protocol.md`, Frames).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; 4]);

impl Tag {
    /// Asks the peer to show that it lives. A whole frame, without length and body.
    pub const PING: Self = Self(*b"PING");
    /// The answer to [`Tag::PING`]. A whole frame, without length and body.
    pub const PONG: Self = Self(*b"PONG");
    /// [`Hello`](crate::message::Hello): a client opens its session.
    pub const HELLO: Self = Self(*b"HELO");
    /// [`Welcome`](crate::message::Welcome): a server accepts the session.
    pub const WELCOME: Self = Self(*b"WELC");
    /// [`Message`](crate::message::Message): a message, either way.
    pub const MESSAGE: Self = Self(*b"MESG");
    /// [`Echo`](crate::message::Echo): messages are on the peer's disk.
    pub const ECHO: Self = Self(*b"ECHO");
    /// [`Close`](crate::message::Close): the sender ends the connection, and says why.
    pub const CLOSE: Self = Self(*b"CLOS");
    /// [`Facts`](crate::message::Facts): what a device says of itself.
    pub const FACTS: Self = Self(*b"FACT");
    /// [`Status`](crate::message::Status): how a device is doing.
    pub const STATUS: Self = Self(*b"STAT");
    /// [`Endpoints`](crate::message::Endpoints): where and by which keys the server is found.
    pub const ENDPOINTS: Self = Self(*b"ENDP");
    /// [`Enrol`](crate::message::Enrol): a device asks to be registered.
    pub const ENROL: Self = Self(*b"ENRL");
    /// [`Enrolled`](crate::message::Enrolled): the device is registered.
    pub const ENROLLED: Self = Self(*b"ENOK");
    /// [`Gateway`](crate::message::Gateway): for which wired device a gateway's connection is.
    pub const GATEWAY: Self = Self(*b"GATE");

    /// [`Information`](crate::message::Information): how the agent is, between a local program and its agent.
    pub const INFORMATION: Self = Self(*b"INFO");

    /// Reads a tag, or gives back nothing if a byte is not an upper-case ASCII letter.
    pub const fn new(bytes: [u8; 4]) -> Option<Self> {
        let [a, b, c, d] = bytes;
        if a.is_ascii_uppercase()
            && b.is_ascii_uppercase()
            && c.is_ascii_uppercase()
            && d.is_ascii_uppercase()
        {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The tag's four bytes, as they stand on the wire.
    pub const fn bytes(self) -> [u8; 4] {
        self.0
    }

    /// Whether the tag alone is a whole frame. `PING` and `PONG` are; no others ever will be.
    pub const fn is_whole_frame(self) -> bool {
        matches!(self, Self::PING | Self::PONG)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| fmt::Write::write_char(formatter, char::from(*byte)))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
