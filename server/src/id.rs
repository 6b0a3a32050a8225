//! Ids, names, kinds and times: the small types that everything else is told by.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use protocol_core::message;
use thiserror::Error;

macro_rules! row_id {
    ($($(#[$doc:meta])* $name:ident,)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    )* };
}

row_id! {
    /// A device, framed or classic. Never used again for another one.
    DeviceId,
    /// A session: one connection of one device.
    SessionId,
    /// A message of either direction; later ones have greater ids.
    MessageId,
    /// An event; later ones have greater ids.
    EventId,
    /// An enrolment token.
    TokenId,
    /// An operator elsewhere: never used again for another name.
    OperatorId,
    /// A task; later ones have greater ids.
    TaskId,
    /// A recording of a camera; later ones have greater ids.
    RecordingId,
    /// A time of the machine's clock, in milliseconds since 1970 (UTC).
    UnixMillis,
}

impl UnixMillis {
    /// The time by the machine's clock; 0 if that stands before 1970.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// The time this many milliseconds later.
    #[must_use]
    pub const fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// The time as RFC 3339 has it, in UTC with milliseconds: `2026-11-22T01:02:03.456Z`.
    pub fn rfc_3339(self) -> String {
        let Ok(timestamp) = jiff::Timestamp::from_millisecond(self.0) else {
            // Beyond the year 9999: a device's clock can say that.
            return format!("@{}", self.0);
        };
        format!("{timestamp:.3}")
    }
}

/// A random number that names a stream of messages, a boot, a store, or a task on the wire. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RandomId(pub u64);

impl RandomId {
    /// A new one, drawn from the system.
    ///
    /// # Errors
    ///
    /// The system gave no random bytes.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)?;
        Ok(Self(u64::from_ne_bytes(bytes)))
    }
}

impl fmt::Display for RandomId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl fmt::Debug for RandomId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A name that is not one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no name here: 1 to 63 lower-case letters, digits and hyphens are, starting with a letter or digit"
)]
pub struct InvalidName(pub String);

/// The name of a device: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// The longest name, in bytes.
    pub const MAX: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name made from what a device calls itself: what can't stand in a name becomes a hyphen.
    pub fn from_host_name(host_name: &str) -> Self {
        let first_label = host_name.split('.').next().unwrap_or_default();
        let replaced: String = first_label
            .chars()
            .map(|letter| letter.to_ascii_lowercase())
            .map(|letter| if letter.is_ascii_lowercase() || letter.is_ascii_digit() { letter } else { '-' })
            .take(Self::MAX)
            .collect();
        let trimmed = replaced.trim_matches('-');
        Self(if trimmed.is_empty() { "device".to_owned() } else { trimmed.to_owned() })
    }

    /// This name with `-number` behind it, shortened where it would be too long.
    #[must_use]
    pub fn numbered(&self, number: u64) -> Self {
        let suffix = format!("-{number}");
        let room = Self::MAX.saturating_sub(suffix.len());
        let prefix = self.0.get(..room).unwrap_or(&self.0);
        Self(format!("{prefix}{suffix}"))
    }
}

impl FromStr for DeviceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fits = text.len() <= Self::MAX
            && !text.is_empty()
            && !text.starts_with('-')
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidName(text.to_owned())) }
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Which way a message goes, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a device.
    In,
    /// To a device.
    Out,
}

impl Direction {
    /// Its name, in JSON, in logs and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// A message kind that is not one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no message kind: 1 to 32 lower-case letters, digits, dots, hyphens and underscores are")]
pub struct InvalidKind(pub String);

/// The kind of a message: `[a-z0-9._-]{1,32}`. Kept inline, so that a message costs no allocation for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Bytes beyond `length` are 0.
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Kind {
    /// The longest kind, in bytes.
    pub const MAX: usize = message::Kind::MAX;

    /// Plain text, of people and of classic clients.
    pub const TEXT: Self = {
        let mut bytes = [0; Self::MAX];
        let (text, _) = bytes.split_at_mut(4);
        text.copy_from_slice(b"text");
        Self { bytes, length: 4 }
    };

    /// The kind as text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

impl FromStr for Kind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        let mut bytes = [0; Self::MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(length)) if message::Kind::new(text).is_some() => {
                room.copy_from_slice(text.as_bytes());
                Ok(Self { bytes, length })
            }
            _ => Err(InvalidKind(text.chars().take(Self::MAX).collect())),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceName, Kind, RandomId};

    #[test]
    fn device_names() {
        for good in ["a", "0", "pi-7", "a--b-", &"x".repeat(63)] {
            assert_eq!(good.parse::<DeviceName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a.b", "a_b", "ä", "a\n", "::1", "10.0.0.1", &"x".repeat(64)] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_from_host_names() {
        for (host, name) in [
            ("raspberrypi", "raspberrypi"),
            ("Greenhouse_2.example.net", "greenhouse-2"),
            ("--", "device"),
            ("", "device"),
            ("größe", "gr--e"),
        ] {
            assert_eq!(DeviceName::from_host_name(host).as_str(), name);
        }
        let long = DeviceName::from_host_name(&"h".repeat(200));
        assert_eq!(long.as_str().len(), DeviceName::MAX);
        assert_eq!(long.numbered(123).as_str().len(), DeviceName::MAX);
        assert!(long.numbered(123).as_str().ends_with("h-123"));
    }

    #[test]
    fn kinds() {
        assert_eq!("text".parse::<Kind>().unwrap(), Kind::TEXT);
        assert_eq!("a.b_c-9".parse::<Kind>().unwrap().as_str(), "a.b_c-9");
        for bad in ["", "Text", "a b", &"k".repeat(33)] {
            assert!(bad.parse::<Kind>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn random_ids_are_hexadecimal() {
        assert_eq!(RandomId(255).to_string(), "00000000000000ff");
    }
}
