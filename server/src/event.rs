//! Events: what happened, when, to whom and from where; kept in the store and streamed live.

use std::{fmt, net::IpAddr};

use serde_json::{Map, Value};

use crate::id::{DeviceId, EventId, SessionId, UnixMillis};

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What kind of thing happened. The names are stable: programs may match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* $kind,)*
        }

        impl EventKind {
            /// Every kind there is.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The kind's name, in the store, in JSON and in the logs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

event_kinds! {
    /// The server is up: its store is open and it listens.
    ServerStarted = "server-started",
    /// The server has ended as it was asked to.
    ServerStopped = "server-stopped",
    /// A device was registered by a token.
    DeviceEnrolled = "device-enrolled",
    /// A device's session began.
    DeviceConnected = "device-connected",
    /// A device's session ended without a good-bye: no answer, or a broken connection.
    DeviceLost = "device-lost",
    /// A device's session ended with a good-bye of either side.
    DeviceDisconnected = "device-disconnected",
    /// An operator took a device's rights away.
    DeviceRevoked = "device-revoked",
    /// A peer was turned away; `reason` in the detail says why.
    ConnectionRefused = "connection-refused",
    /// Someone who is known asked for what they may not have; `action` in the detail is what.
    RequestDenied = "request-denied",
    /// Someone asked to be enrolled and was not; `reason` in the detail says why.
    EnrolmentRefused = "enrolment-refused",
    /// A second holder of a device's identity was turned away; `original` in the detail is the address of the first.
    CloneRefused = "clone-refused",
    /// A device sent another message under the number of an archived one: its storage was turned back.
    MessageConflict = "message-conflict",
    /// An operator sent a message to a device: it waits for the device now.
    MessageSent = "message-sent",
    /// A message for a device could not be sent in this session: it is larger than the device's agent takes. It waits on.
    MessagePassedOver = "message-passed-over",
    /// A message for a device was not fetched in time.
    MessageExpired = "message-expired",
    /// An operator elsewhere was registered by a line; `role` in the detail is what they may do.
    OperatorEnrolled = "operator-enrolled",
    /// An operator's rights were taken away; `operator` in the detail is their name.
    OperatorRevoked = "operator-revoked",
    /// An admin has made an operator who has no key yet; `operator` and `role` in the detail.
    OperatorAdded = "operator-added",
    /// An admin has given an operator another role.
    RoleChanged = "role-changed",
    /// An admin has made a one-time login for an operator.
    LoginOffered = "login-offered",
    /// A browser has logged in to the console.
    LoggedIn = "logged-in",
    /// Somebody could not show who they are; `operator` in the detail is whose name they gave, if it is one, `reason` is why.
    LoginRefused = "login-refused",
    /// A login of a browser was ended.
    LoggedOut = "logged-out",
    /// An operator has set the password.
    PasswordChanged = "password-changed",
    /// An operator has turned the second factor of the login on or off.
    SecondFactorChanged = "second-factor-changed",
    /// An operator has made an access token; `operator` in the detail is whose it is, `token` what it is called.
    AccessTokenCreated = "access-token-created",
    /// An access token was revoked.
    AccessTokenRevoked = "access-token-revoked",
    /// Browsers are shown another certificate: its files have changed.
    CertificateChanged = "certificate-changed",
    /// The certificate's files have changed and can't be used: the one before is still shown.
    CertificateRefused = "certificate-refused",
    /// An operator made an enrolment token.
    TokenCreated = "token-created",
    /// An operator asked for a task of a device; `task` in the detail is its number.
    TaskRequested = "task-requested",
    /// A device starts a task.
    TaskStarting = "task-starting",
    /// A task runs.
    TaskRunning = "task-running",
    /// Somebody had a task or a recording stopped; `task` or `recording`, a number, in the detail.
    StopRequested = "stop-requested",
    /// A task was told to stop; `reason` in the detail says why.
    TaskStopping = "task-stopping",
    /// A task has ended as it should.
    TaskDone = "task-done",
    /// A task has ended otherwise, or never began; `reason` in the detail says why.
    TaskFailed = "task-failed",
    /// Nobody knows how a task has ended.
    TaskLost = "task-lost",
    /// A device refused a task: its own configuration does not allow it.
    TaskRefused = "task-refused",
    /// A task is in the name of another who wants it, as the rights of whoever asked for it have ended; `task` in the detail is
    /// its number, `from` in whose name it was.
    TaskHandedOver = "task-handed-over",
    /// Somebody looks at a camera; `camera` and `viewer`, a number, in the detail.
    ViewingStarted = "viewing-started",
    /// Somebody looks at a camera no longer; for how many `seconds`, how many `frames`, and the `reason` in the detail.
    ViewingEnded = "viewing-ended",
    /// Somebody was thrown out who looked at a camera; `camera`, `viewer`, a number, and `operator`, their name, in the detail.
    ViewerThrownOut = "viewer-thrown-out",
    /// Somebody has what a camera shows written to a file; `camera` and `recording`, a number, in the detail.
    RecordingStarted = "recording-started",
    /// A recording has ended; its `seconds`, `bytes`, and the `reason` in the detail.
    RecordingEnded = "recording-ended",
    /// Somebody reads a recording; `camera` and `recording`, a number, in the detail. Told once an hour.
    RecordingRead = "recording-read",
    /// A recording was deleted, by somebody or as it was too old or there were too many; `reason` in the detail says so.
    RecordingDeleted = "recording-deleted",
    /// A device's SSH server has shown an operator another host key than the registered one, and was refused.
    HostKeyChanged = "host-key-changed",
    /// A device's SSH server has shown an operator a host key, and was refused: none is registered.
    HostKeyUnknown = "host-key-unknown",
    /// A device that was enrolled without host keys has told its first ones.
    HostKeyRegistered = "host-key-registered",
    /// An operator has said which host key a device's SSH server has; `fingerprint` in the detail is its.
    HostKeyAccepted = "host-key-accepted",
    /// A device listens on this machine, by a login of a session that is over; `port` in the detail is where.
    PortKept = "port-kept",
    /// A part of the server has failed, and has begun again; `part` in the detail is which, `reason` is why.
    PartFailed = "part-failed",
    /// There were keys, but no database: it began anew, without any device.
    StoreMissing = "store-missing",
    /// The key in use was missing: the next one, which devices trust as well, was taken into use.
    KeyMissing = "key-missing",
    /// An operator took the next key into use, from the server's next start on.
    KeyRotated = "key-rotated",
    /// Writing to the store failed; it was opened anew.
    StoreFailed = "store-failed",
    /// No space was left for the store.
    DiskFull = "disk-full",
    /// There is space for the store again.
    DiskRecovered = "disk-recovered",
    /// The password of classic `TERM` was set.
    TermPasswordSet = "term-password-set",
    /// A classic `TERM` was turned away.
    TermRefused = "term-refused",
    /// A classic `TERM` was accepted: the server ends.
    TermAccepted = "term-accepted",
}

impl EventKind {
    /// Whether events of this name are about how an operator comes in: from where, by what, and whether it was tried.
    pub fn is_about_coming_in(name: &str) -> bool {
        [
            Self::OperatorEnrolled,
            Self::LoginOffered,
            Self::LoggedIn,
            Self::LoginRefused,
            Self::LoggedOut,
            Self::PasswordChanged,
            Self::SecondFactorChanged,
            Self::AccessTokenCreated,
            Self::AccessTokenRevoked,
        ]
        .iter()
        .any(|kind| kind.name() == name)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A person who does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Their name: of a user of this machine, or of an operator.
    pub name: String,
    /// Where they are, if not on this machine.
    pub address: Option<IpAddr>,
}

impl From<&str> for Who {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), address: None }
    }
}

impl From<&Self> for Who {
    fn from(who: &Self) -> Self {
        who.clone()
    }
}

impl fmt::Display for Who {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(formatter, "{} from {}", self.name, address.to_canonical()),
            None => formatter.write_str(&self.name),
        }
    }
}

/// An event to be recorded: `NewEvent::new(kind)` and then what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// What happened.
    pub kind: EventKind,
    /// The device it happened to.
    pub device: Option<DeviceId>,
    /// The session it happened in.
    pub session: Option<SessionId>,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// Who did it, where a person did: a user of this machine, or with an address an operator elsewhere.
    pub who: Option<String>,
    /// Whatever else is known, by name.
    pub detail: Map<String, Value>,
}

impl NewEvent {
    /// An event of this kind, of which nothing else is known yet.
    pub fn new(kind: EventKind) -> Self {
        Self { kind, device: None, session: None, address: None, who: None, detail: Map::new() }
    }

    /// It happened to this device.
    #[must_use]
    pub fn device(mut self, device: DeviceId) -> Self {
        self.device = Some(device);
        self
    }

    /// It happened in this session.
    #[must_use]
    pub fn session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// It came from this address.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address.to_canonical());
        self
    }

    /// This person did it, from there.
    #[must_use]
    pub fn who(mut self, who: impl Into<Who>) -> Self {
        let Who { name, address } = who.into();
        self.who = Some(name);
        match address {
            Some(address) => self.address(address),
            None => self,
        }
    }

    /// One more thing that is known. What a peer said is kept as it is: it is escaped when shown.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(name.to_owned(), value.into());
        self
    }
}

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Its number: later events have greater ones.
    pub id: EventId,
    /// When it was recorded.
    pub at: UnixMillis,
    /// The name of its [`EventKind`]; perhaps one of a newer version.
    pub kind: String,
    /// The name of the device it happened to.
    pub device: Option<String>,
    /// The session it happened in.
    pub session: Option<SessionId>,
    /// Where it came from.
    pub address: Option<String>,
    /// Who did it.
    pub who: Option<String>,
    /// Whatever else is known, by name. Parts of it may come from a peer: escape them where they are shown.
    pub detail: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::EventKind;

    #[test]
    fn names_are_kebab_case_and_unique() {
        let names: HashSet<_> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), EventKind::ALL.len());
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        }
    }
}
