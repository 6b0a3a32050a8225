//! The provisioning block: who a microcontroller is, and which server it trusts, beside its firmware in flash
//! (`docs/protocol.md`, Provisioning).

use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};
use serde::{Deserialize, Serialize};

use crate::message::{Endpoints, MAX_ADDRESSES, Text};

/// How long a block is, in bytes: one page of the smallest flash that we know. What it does not need is `FF`.
pub const LENGTH: usize = 1024;

/// The newest version of the block that this crate reads, and the one that it writes.
pub const VERSION: u8 = 1;

/// The longest certificate, in bytes: with it, and four of the longest addresses, a block is still one page.
pub const MAX_CERTIFICATE: usize = 320;

/// What a block begins with.
const MAGIC: [u8; 4] = *b"HFPB";

/// Magic, version, the body's length.
const HEADER: usize = 4 + 1 + 2;

/// Name, key, certificate, two pins, number of addresses, addresses.
const LONGEST_BODY: usize = (1 + 63) + 32 + (2 + MAX_CERTIFICATE) + 64 + 1 + MAX_ADDRESSES * (2 + 128);
const _: () = assert!(HEADER + LONGEST_BODY + 4 <= LENGTH, "every block fits");

static CHECK_SUM: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// What a microcontroller knows from its provisioning on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioning<'a> {
    /// The name that the server knows the device by.
    #[serde(borrow)]
    pub name: Text<'a, 63>,
    /// The device's key.
    pub key: PrivateKey,
    /// The device's certificate, in DER: [`MAX_CERTIFICATE`] bytes at most.
    #[serde(with = "serde_bytes")]
    pub certificate: &'a [u8],
    /// By which keys, and where, the server is found.
    pub endpoints: Endpoints<'a>,
}

/// The private half of a P-256 key: the scalar, 32 bytes, big-endian. Nothing shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateKey(#[serde(with = "crate::raw")] pub [u8; 32]);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(…)")
    }
}

/// Why flash holds no block that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvisioningError {
    /// The flash is erased, or was never written.
    #[error("no provisioning block: this flash is empty; write a block of holdfast enroll --firmware to it")]
    Missing,
    /// It is no block, or one that was changed or cut.
    #[error(
        "the provisioning block is damaged, or is none; write it again, as holdfast enroll --firmware made it"
    )]
    Damaged,
    /// The block is whole, and newer than this firmware.
    #[error(
        "the provisioning block is of version {version}, and this firmware reads up to {VERSION}; update the firmware"
    )]
    Newer {
        /// The block's version.
        version: u8,
    },
}

impl<'a> Provisioning<'a> {
    /// Writes the block; gives nothing if the certificate is longer than [`MAX_CERTIFICATE`].
    pub fn encode(&self, block: &mut [u8; LENGTH]) -> Option<()> {
        if self.certificate.len() > MAX_CERTIFICATE {
            return None;
        }
        block.fill(0xff);
        let (header, rest) = block.split_first_chunk_mut::<HEADER>()?;
        let length = postcard::to_slice(self, rest).ok()?.len();
        let [high, low] = u16::try_from(length).ok()?.to_be_bytes();
        let [m, a, g, i] = MAGIC;
        *header = [m, a, g, i, VERSION, high, low];
        let end = HEADER.checked_add(length)?;
        let (counted, rest) = block.split_at_mut_checked(end)?;
        *rest.first_chunk_mut()? = CHECK_SUM.checksum(counted).to_be_bytes();
        Some(())
    }

    /// Reads a block from the flash that holds it; what stands behind the block is not looked at.
    ///
    /// # Errors
    /// [`ProvisioningError`]: a state of the device that a person has to change.
    pub fn decode(flash: &'a [u8]) -> Result<Self, ProvisioningError> {
        if let Some(first @ (0x00 | 0xff)) = flash.first().or(Some(&0xff))
            && flash.iter().take(LENGTH).all(|byte| byte == first)
        {
            return Err(ProvisioningError::Missing);
        }
        let (version, body) = checked(flash).ok_or(ProvisioningError::Damaged)?;
        if version > VERSION {
            return Err(ProvisioningError::Newer { version });
        }
        match postcard::take_from_bytes::<Self>(body) {
            Ok((block, [])) if version == VERSION && block.certificate.len() <= MAX_CERTIFICATE => Ok(block),
            _ => Err(ProvisioningError::Damaged),
        }
    }
}

/// The version and the body of a block whose check sum is right. This much holds for every version to come.
fn checked(flash: &[u8]) -> Option<(u8, &[u8])> {
    let (&[m, a, g, i, version, high, low], rest) = flash.split_first_chunk::<HEADER>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (body, rest) = rest.split_at_checked(length)?;
    let counted = flash.get(..HEADER.checked_add(length)?)?;
    let is_whole = *rest.first_chunk()? == CHECK_SUM.checksum(counted).to_be_bytes();
    (is_whole && [m, a, g, i] == MAGIC).then_some((version, body))
}
