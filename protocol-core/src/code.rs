//! Codes that may grow: plain numbers on the wire, names in the code.
//!
//! They are shown by a name of lower-case words and hyphens. A reader carries a number it does not know as `Other`, so that an older peer survives a newer one's codes.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $code:ident = $number:literal $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $code,)*
            /// A code that this version does not know.
            Other(u16),
        }

        impl From<u16> for $name {
            fn from(number: u16) -> Self {
                match number {
                    $($number => Self::$code,)*
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for u16 {
            fn from(code: $name) -> Self {
                match code {
                    $($name::$code => $number,)*
                    $name::Other(number) => number,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$code => formatter.write_str($word),)*
                    Self::Other(number) => write!(formatter, "code-{number}"),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::narrow::serialize(&u16::from(*self), serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::narrow::deserialize(deserializer).map(Self::from)
            }
        }
    };
}

codes! {
    /// What a connection is for (`docs/protocol.md`, Kinds of connection).
    ConnectionKind {
        /// A device's one connection for presence and messages: the newest replaces an older one.
        Control = 1 "control",
        /// A local program's, over a Unix socket.
        Local = 4 "local",
    }
}

codes! {
    /// Why a connection ends (`docs/protocol.md`, Reasons).
    CloseReason {
        /// The sender is done.
        Finished = 0 "finished",
        /// The server stops for now: come back after the time given.
        Draining = 1 "draining",
        /// A newer connection of the same device took this one's place.
        Replaced = 2 "replaced",
        /// Another live device holds the same identity.
        Clone = 3 "clone",
        /// The key is not registered: enrol first.
        UnknownKey = 4 "unknown-key",
        /// The key was registered and is revoked.
        Revoked = 5 "revoked",
        /// The versions of the two peers do not overlap.
        NoCommonVersion = 6 "no-common-version",
        /// The peer broke the protocol.
        ProtocolError = 7 "protocol-error",
        /// A message's number was archived before with other content.
        Conflict = 8 "conflict",
        /// The server has no room for this now: come back after the time given.
        Overloaded = 9 "overloaded",
        /// The token is not known.
        TokenUnknown = 10 "token-unknown",
        /// The token is past its time.
        TokenExpired = 11 "token-expired",
        /// The token was used as often as it may be.
        TokenUsedUp = 12 "token-used-up",
        /// The peer was silent for too long.
        Silent = 13 "silent",
        /// This kind of connection is not served here.
        NotServed = 14 "not-served",
        /// The name that the token gives is another device's.
        NameTaken = 15 "name-taken",
    }
}

impl CloseReason {
    /// Whether who is refused an enrolment for this reason was not registered, and will not be by the same line and key.
    /// Where the server was only slow they may be: then the same line may be given again.
    pub const fn ends_enrolment(self) -> bool {
        matches!(
            self,
            Self::TokenUnknown
                | Self::TokenExpired
                | Self::TokenUsedUp
                | Self::NameTaken
                | Self::Revoked
                | Self::NoCommonVersion
        )
    }
}

codes! {
    /// How a task stands, as a device reports it (`docs/protocol.md`, Tasks).
    TaskState {
        /// Its process is being started.
        Starting = 1 "starting",
        /// It does what it is for.
        Running = 2 "running",
        /// It was told to stop, and has not ended yet.
        Stopping = 3 "stopping",
        /// It has ended as it should.
        Done = 4 "done",
        /// It has ended otherwise.
        Failed = 5 "failed",
        /// The device does not take it: its configuration does not allow it.
        Refused = 6 "refused",
    }
}

codes! {
    /// What someone may do who asks for a task.
    Role {
        /// Look.
        Viewer = 1 "viewer",
        /// Work with devices.
        Operator = 2 "operator",
        /// Everything.
        Admin = 3 "admin",
    }
}
