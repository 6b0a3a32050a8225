//! Tags: the four upper-case ASCII bytes that start every frame.

use core::fmt;

/// The name of a frame: four upper-case ASCII letters (`docs/protocol.md`, Frames).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(
    // As one number, big-endian: compared at once, where four bytes are compared one by one.
    u32,
);

impl Tag {
    /// Asks the peer to show that it lives. A whole frame, without length and body.
    pub const PING: Self = Self::of(b"PING");
    /// The answer to [`Tag::PING`]. A whole frame, without length and body.
    pub const PONG: Self = Self::of(b"PONG");
    /// [`Hello`](crate::message::Hello): a client opens its session.
    pub const HELLO: Self = Self::of(b"HELO");
    /// [`Welcome`](crate::message::Welcome): a server accepts the session.
    pub const WELCOME: Self = Self::of(b"WELC");
    /// [`Message`](crate::message::Message): a message, either way.
    pub const MESSAGE: Self = Self::of(b"MESG");
    /// [`Echo`](crate::message::Echo): messages are on the peer's disk.
    pub const ECHO: Self = Self::of(b"ECHO");
    /// [`Close`](crate::message::Close): the sender ends the connection, and says why.
    pub const CLOSE: Self = Self::of(b"CLOS");
    /// [`Facts`](crate::message::Facts): what a device says of itself.
    pub const FACTS: Self = Self::of(b"FACT");
    /// [`Status`](crate::message::Status): how a device is doing.
    pub const STATUS: Self = Self::of(b"STAT");
    /// [`Endpoints`](crate::message::Endpoints): where and by which keys the server is found.
    pub const ENDPOINTS: Self = Self::of(b"ENDP");
    /// [`Enrol`](crate::message::Enrol): a device asks to be registered.
    pub const ENROL: Self = Self::of(b"ENRL");
    /// [`Enrolled`](crate::message::Enrolled): the device is registered.
    pub const ENROLLED: Self = Self::of(b"ENOK");
    /// [`Gateway`](crate::message::Gateway): for which wired device a gateway's connection is.
    pub const GATEWAY: Self = Self::of(b"GATE");
    /// [`SshHostKeys`](crate::message::SshHostKeys): which host keys a device's SSH server has.
    pub const SSH_HOST_KEYS: Self = Self::of(b"HKEY");
    /// [`Offer`](crate::message::Offer): which tasks a device takes, and which run on it.
    pub const OFFER: Self = Self::of(b"OFFR");
    /// [`Order`](crate::message::Order): a device is to run a task.
    pub const ORDER: Self = Self::of(b"TASK");
    /// [`Stop`](crate::message::Stop): a device is to stop a task.
    pub const STOP: Self = Self::of(b"STOP");
    /// [`Report`](crate::message::Report): how a task stands.
    pub const REPORT: Self = Self::of(b"REPT");
    /// [`Join`](crate::message::Join): for which task a data connection is.
    pub const JOIN: Self = Self::of(b"JOIN");
    /// [`Joined`](crate::message::Joined): what follows are the task's own bytes.
    pub const JOINED: Self = Self::of(b"JOOK");
    /// [`Cameras`](crate::message::Cameras): which cameras a device has.
    pub const CAMERAS: Self = Self::of(b"CAMS");
    /// [`Unit`](crate::message::Unit): a picture of a camera, on its data connection.
    pub const UNIT: Self = Self::of(b"UNIT");
    /// [`VideoStatus`](crate::message::VideoStatus): how a camera's pictures come, on its data connection.
    pub const VIDEO_STATUS: Self = Self::of(b"VSTA");
    /// [`Information`](crate::message::Information): how the agent is, between a local program and its agent.
    pub const INFORMATION: Self = Self::of(b"INFO");

    const fn of(bytes: &[u8; 4]) -> Self {
        Self(u32::from_be_bytes(*bytes))
    }

    /// Reads a tag, or gives back nothing if a byte is not an upper-case ASCII letter.
    pub const fn new(bytes: [u8; 4]) -> Option<Self> {
        let mut rest: &[u8] = &bytes;
        while let [byte, tail @ ..] = rest {
            if !byte.is_ascii_uppercase() {
                return None;
            }
            rest = tail;
        }
        Some(Self::of(&bytes))
    }

    /// The tag's four bytes, as they stand on the wire.
    pub const fn bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// Whether the tag alone is a whole frame. `PING` and `PONG` are; no others ever will be.
    pub const fn is_whole_frame(self) -> bool {
        matches!(self, Self::PING | Self::PONG)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| fmt::Write::write_char(formatter, char::from(*byte)))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
