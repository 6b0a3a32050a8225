//! What a microcontroller is given beside its firmware: a key, a certificate, and the block that holds them.
//!
//! All of it is made in the operator's command, not in the server: no private key of a device ever reaches that.

use protocol_core::{
    message::{Endpoints, Pin, Text},
    provisioning::{LENGTH, PrivateKey, Provisioning},
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use sha2::{Digest, Sha256};

use crate::id::DeviceName;

/// What stands before the private half in a P-256 key's `ECPrivateKey`: version 1, and 32 bytes.
const BEFORE_SCALAR: [u8; 5] = [0x02, 0x01, 0x01, 0x04, 0x20];

/// A new device.
#[derive(Clone)]
pub struct NewDevice {
    /// What the server knows its key by.
    pub pin: Pin,
    /// What stands in its flash. It holds the private key.
    pub block: [u8; LENGTH],
}

impl std::fmt::Debug for NewDevice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NewDevice").field("pin", &self.pin).finish_non_exhaustive()
    }
}

/// Why no block can be made.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// No key or no certificate could be made.
    #[error("no key could be made: {0}; has the system a source of random numbers (/dev/urandom)?")]
    Key(#[from] rcgen::Error),
    /// The key is not laid out as we know it, or something does not fit the block.
    #[error("no block could be made for {0:?}: it does not fit; use shorter addresses")]
    Block(String),
}

/// Makes a key, its certificate and the block of a device that finds the server by `endpoints`.
///
/// # Errors
/// [`FirmwareError`].
pub fn new_device(name: &DeviceName, endpoints: &Endpoints<'_>) -> Result<NewDevice, FirmwareError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = CertificateParams::default();
    // Nobody looks at what a certificate says: it is as small as it can be.
    parameters.distinguished_name = DistinguishedName::new();
    let certificate = parameters.self_signed(&pair)?;
    let misfit = || FirmwareError::Block(name.to_string());
    let provisioning = Provisioning {
        name: Text::new(name.as_str()).ok_or_else(misfit)?,
        key: scalar(&pair).ok_or_else(misfit)?,
        certificate: certificate.der(),
        endpoints: endpoints.clone(),
    };
    let mut block = [0; LENGTH];
    provisioning.encode(&mut block).ok_or_else(misfit)?;
    Ok(NewDevice { pin: Pin(Sha256::digest(pair.subject_public_key_info()).into()), block })
}

/// The private half of a key, out of its PKCS #8.
fn scalar(pair: &KeyPair) -> Option<PrivateKey> {
    let der = pair.serialize_der();
    let at = der.windows(BEFORE_SCALAR.len()).position(|bytes| bytes == BEFORE_SCALAR)?;
    der.get(at + BEFORE_SCALAR.len()..)?.first_chunk().copied().map(PrivateKey)
}

/// Reads a pin as it is shown: 64 hexadecimal digits.
pub fn pin(text: &str) -> Option<Pin> {
    let mut pin = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in pin.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Pin(pin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_the_server_knows_the_device_by() {
        let addresses: Vec<_> = (0..4).map(|number| format!("{number:0>124}:123")).collect();
        let addresses = addresses.iter().map(|address| Text::new(address).unwrap()).collect();
        let endpoints = Endpoints { current: Pin([1; 32]), next: Pin([2; 32]), addresses };
        let name: DeviceName = "a".repeat(63).parse().unwrap();
        for _ in 0..50 {
            let device = new_device(&name, &endpoints).unwrap();
            let read = Provisioning::decode(&device.block).unwrap();
            assert_eq!((read.name.as_str(), &read.endpoints), (name.as_str(), &endpoints));
            // The certificate is of that very key: its public half follows from the private one.
            let mut rest = read.certificate.windows(91).map(|info| Pin(Sha256::digest(info).into()));
            assert!(rest.any(|pin| pin == device.pin));
            assert!(!format!("{device:?}").contains("block"));
        }
    }

    #[test]
    fn pins_are_read_as_they_are_shown() {
        let shown = Pin([0xa7; 32]);
        assert_eq!(pin(&shown.to_string()), Some(shown));
        for wrong in ["", "a7", &"g".repeat(64), &"+1".repeat(32), &"ü".repeat(32)] {
            assert_eq!(pin(wrong), None);
        }
    }
}
