//! Texts, and names.
//!
//! They are kept as bytes, which were checked: to make a `str` of them takes 800 bytes of code, and is not paid for where
//! nobody looks.

#[cfg(test)]
mod tests;

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// A text of at most `MAX` bytes of UTF-8 without control characters (Unicode category Cc).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text<'a, const MAX: usize>(#[serde(with = "serde_bytes")] &'a [u8]);

impl<'a, const MAX: usize> Text<'a, MAX> {
    /// Checks a text, or gives back nothing if it is longer than `MAX` bytes or holds a control character.
    pub const fn new(text: &'a str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    const fn from_bytes(text: &'a [u8]) -> Option<Self> {
        if text.len() <= MAX && is_text(text) { Some(Self(text)) } else { None }
    }

    /// The longest start of `text` that fits, up to its first control character.
    pub fn shortened(text: &'a str) -> Self {
        let mut end = 0_usize;
        for (at, character) in text.char_indices() {
            let next = at.saturating_add(character.len_utf8());
            if character.is_control() || next > MAX {
                break;
            }
            end = next;
        }
        Self(text.as_bytes().get(..end).unwrap_or_default())
    }

    /// The text.
    pub fn as_str(&self) -> &'a str {
        // It was checked: this can't fail.
        core::str::from_utf8(self.0).unwrap_or_default()
    }
}

impl<const MAX: usize> fmt::Display for Text<'_, MAX> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl<const MAX: usize> fmt::Debug for Text<'_, MAX> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Text<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: &'a [u8] = serde_bytes::deserialize(deserializer)?;
        Self::from_bytes(bytes).ok_or_else(|| D::Error::custom("not a text, or too long"))
    }
}

/// Whether bytes are UTF-8 (RFC 3629, section 3) without control characters: U+0000 to U+001F, U+007F to U+009F.
const fn is_text(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let ones = first.leading_ones();
        // How many bytes follow, and the first character that takes so many, or is none of control.
        let (mut left, least) = match ones {
            0 => (0_u8, 0x20),
            2 => (1, 0xa0),
            3 => (2, 0x800),
            4 => (3, 0x1_0000),
            _ => return false,
        };
        let mut character = *first as u32 & (0x7f >> ones);
        while let Some(fewer) = left.checked_sub(1) {
            let [next, tail @ ..] = rest else { return false };
            if *next & 0xc0 != 0x80 {
                return false;
            }
            character = character << 6 | (*next & 0x3f) as u32;
            (rest, left) = (tail, fewer);
        }
        if character < least || character == 0x7f || char::from_u32(character).is_none() {
            return false;
        }
    }
    true
}

/// The kind of a message, or the name of a reading: 1 to 32 bytes of `a-z`, `0-9`, `.`, `_` and `-`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Kind<'a>(#[serde(with = "serde_bytes")] &'a [u8]);

impl<'a> Kind<'a> {
    /// Text for people: the kind of a message that says nothing else.
    pub const TEXT: Kind<'static> = Kind(b"text");

    /// The longest kind, in bytes.
    pub const MAX: usize = 32;

    /// Checks a kind, or gives back nothing if it is none.
    pub const fn new(kind: &'a str) -> Option<Self> {
        Self::from_bytes(kind.as_bytes())
    }

    #[inline]
    const fn from_bytes(kind: &'a [u8]) -> Option<Self> {
        if kind.is_empty() || kind.len() > Self::MAX {
            return None;
        }
        let mut rest = kind;
        while let [byte, tail @ ..] = rest {
            if !may_stand_in_kind(*byte) {
                return None;
            }
            rest = tail;
        }
        Some(Self(kind))
    }

    /// The kind, as it travels.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The kind as text.
    pub fn as_str(&self) -> &'a str {
        // All bytes of a kind are ASCII: this can't fail, and is not paid for where nobody looks.
        core::str::from_utf8(self.0).unwrap_or_default()
    }
}

#[inline]
const fn may_stand_in_kind(byte: u8) -> bool {
    match KIND_BYTES.split_at_checked(byte as usize / 8) {
        Some((_, [allowed, ..])) => *allowed & (1 << (byte % 8)) != 0,
        _ => false,
    }
}

/// Which bytes a kind may hold: a bit for each, eight to a byte.
static KIND_BYTES: [u8; 32] = {
    let mut allowed = [0; 32];
    let mut rest: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789._-";
    while let [byte, tail @ ..] = rest {
        if let Some((_, [slot, ..])) = allowed.split_at_mut_checked(*byte as usize / 8) {
            *slot |= 1 << (*byte % 8);
        }
        rest = tail;
    }
    allowed
};

impl fmt::Display for Kind<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Kind<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Kind<'a> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: &'a [u8] = serde_bytes::deserialize(deserializer)?;
        Self::from_bytes(bytes).ok_or_else(|| D::Error::custom("not a kind"))
    }
}
