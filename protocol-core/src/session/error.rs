//! What can go wrong in a session.

use crate::{
    code::CloseReason,
    frame::FrameError,
    message::{DecodeError, Echo, EncodeError, OLDEST_VERSION, VERSION},
    tag::Tag,
    window::Refused,
};

/// How a peer broke the protocol. The connection can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame's body is not what its tag says.
    #[error(transparent)]
    Body(#[from] DecodeError),
    /// A connection began with something else than `PING`.
    #[error("expected PING first, found {tag}; is this a client of the framed protocol?")]
    ExpectedPing {
        /// What came instead.
        tag: Tag,
    },
    /// A gateway's connection began with something else than `GATE`.
    #[error("expected GATE first, found {tag}; a gateway says first for which device it speaks")]
    ExpectedGateway {
        /// What came instead.
        tag: Tag,
    },
    /// A frame came where it has no meaning.
    #[error("did not expect {tag} now; the hello comes once, after PING, and all else after the welcome")]
    Unexpected {
        /// The frame's tag.
        tag: Tag,
    },
    /// The peers' versions do not overlap.
    #[error(
        "expected version {OLDEST_VERSION} to {VERSION}, found {oldest} to {newest}; update the older side"
    )]
    NoCommonVersion {
        /// The oldest version that the peer speaks.
        oldest: u8,
        /// The newest version that the peer speaks.
        newest: u8,
    },
    /// A welcome with an interval, and without a timeout: a server that is gone would never be found out.
    #[error("expected a timeout beside the interval in the welcome, found 0; correct the server")]
    NoTimeout,
    /// The peer sent more than it was granted.
    #[error("the peer sent more messages or bytes than its window allows before they were echoed")]
    WindowExceeded,
    /// A message's number does not follow on the one before it, which is not echoed yet.
    #[error(
        "expected the message number {expected}, found {found} or another stream; wait for the echo first"
    )]
    OutOfOrder {
        /// The number that follows.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// An echo of a message that is not in flight.
    #[error("an echo came of message {number} of stream {stream}, which is not in flight", number = .0.number, stream = .0.stream)]
    EchoOfNothing(Echo),
}

impl ProtocolError {
    /// The reason to close the connection with.
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::NoCommonVersion { .. } => CloseReason::NoCommonVersion,
            _ => CloseReason::ProtocolError,
        }
    }
}

/// How a peer was found to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The session was not open in time.
    #[error("the peer did not open the session in time")]
    OpeningTimedOut,
    /// A `PING` was not answered in time.
    #[error("the peer did not answer a PING in time")]
    NoAnswer,
    /// Nothing came for the interval and the timeout together.
    #[error("the peer sent nothing for longer than the interval and the timeout")]
    Silent,
}

/// Why something can't be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session is not in the state that this needs.
    #[error("the session is not open for this; wait for the welcome, or connect again")]
    NotOpen,
    /// As much is in flight as the peer granted.
    #[error("the window is full; wait for an echo")]
    WindowFull,
    /// The message does not follow on the one before it.
    #[error(
        "expected the message number {expected} of the same stream; wait for the echoes before a gap or another stream"
    )]
    OutOfOrder {
        /// The number that follows.
        expected: u64,
    },
    /// The frame does not fit.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl From<Refused> for SendError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::WindowFull,
            Refused::Order { expected } => Self::OutOfOrder { expected },
        }
    }
}
