//! The invitation: what the line `holdfast-agent enroll hf1.…` carries to a device (`docs/protocol.md`, Enrolment).

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::message::{MAX_ADDRESSES, Pin, Secret, Text};

/// What stands before the base64url text of an invitation; the number is its version.
pub const PREFIX: &str = "hf1.";

/// The longest invitation, encoded, in bytes before base64.
pub const MAX_LENGTH: usize = 640;

/// Pin, token, number of addresses, addresses, check sum.
const LONGEST: usize = 32 + 16 + 1 + MAX_ADDRESSES * (2 + 128) + 4;
const _: () = assert!(LONGEST <= MAX_LENGTH, "every invitation fits");

static CHECK_SUM: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// Leave to become known to a server, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation<'a> {
    /// The key by which the server shows that it is the right one.
    pub pin: Pin,
    /// The secret that allows the enrolment.
    pub token: Secret,
    /// Addresses to try, `host:port`, best first.
    #[serde(borrow)]
    pub addresses: Vec<Text<'a, 128>, MAX_ADDRESSES>,
}

/// Bytes that are no invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a whole invitation, found {length} bytes that are damaged or cut; copy the whole line again"
)]
pub struct InvitationError {
    /// How many bytes came.
    pub length: usize,
}

impl<'a> Invitation<'a> {
    /// Writes the invitation and its check sum to `buffer`: gives the bytes written, or nothing if
    /// `buffer` has no room ([`MAX_LENGTH`] always has).
    pub fn encode<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let length = postcard::to_slice(self, buffer).ok()?.len();
        let end = length.checked_add(4)?;
        let (body, rest) = buffer.split_at_mut_checked(length)?;
        *rest.first_chunk_mut()? = CHECK_SUM.checksum(body).to_be_bytes();
        buffer.get(..end)
    }

    /// Reads an invitation from the bytes of its base64url text.
    ///
    /// # Errors
    /// [`InvitationError`] if they are damaged or not whole.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, InvitationError> {
        let error = InvitationError { length: bytes.len() };
        let (body, check_sum) = bytes.split_last_chunk::<4>().ok_or(error)?;
        if CHECK_SUM.checksum(body).to_be_bytes() != *check_sum {
            return Err(error);
        }
        match postcard::take_from_bytes(body) {
            Ok((invitation, [])) => Ok(invitation),
            _ => Err(error),
        }
    }
}
