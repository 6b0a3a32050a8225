//! Numbers of eight bytes, little-endian, for all that may be larger than 32 bits. Where they are random or large a number
//! of varying length would only be longer; where they are not, its code would be: 900 bytes of a microcontroller's flash.
//!
//! A `u64` is of varying length in postcard, and an array of eight bytes is eight steps. But an `f64` is eight
//! bytes as they are, in one step: so the number travels as the bits of one. Bits they stay: nothing computes with
//! them. The bytes are those of `postcard::fixint::le`, which takes a hundred instructions more to read a message, and
//! 324 bytes more of a microcontroller's flash.

use core::fmt;

use serde::{
    Deserializer, Serializer,
    de::{Error, Visitor},
};

#[inline]
pub(crate) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(f64::from_bits(*number))
}

#[inline]
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_f64(Bits)
}

struct Bits;

impl Visitor<'_> for Bits {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("eight bytes")
    }

    #[inline]
    fn visit_f64<E: Error>(self, bits: f64) -> Result<u64, E> {
        Ok(bits.to_bits())
    }
}
