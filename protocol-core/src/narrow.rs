//! Numbers of 16 bits, read and written as those of 32 are: the bytes are the same, and a microcontroller carries the code
//! for one kind of number only.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(number: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(u32::from(*number))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let number = u32::deserialize(deserializer)?;
    u16::try_from(number).map_err(|_| D::Error::custom("more than 16 bits"))
}
