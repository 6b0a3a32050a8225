//! Who holds which key: what the device shows and signs, and what it takes for a proof of the server.

use embedded_tls::{
    Aes128GcmSha256, Certificate, CertificateEntryRef, CertificateRef, CertificateVerifyRef, CryptoProvider,
    CryptoRngCore, Sha256, SignatureScheme, TlsVerifier,
};
use p256::{
    ecdsa::{
        DerSignature, Signature, SigningKey, VerifyingKey,
        signature::{SignerMut, Verifier as _, digest::Digest as _},
    },
    elliptic_curve::rand_core::{CryptoRng, Error as RandomError, RngCore},
};
use protocol_core::message::Pin;

/// What a `SubjectPublicKeyInfo` of P-256 begins with, in DER; the point follows, `04`, x and y.
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// An uncompressed point, in bytes.
const POINT: usize = 65;

/// What a server's signature is made of, before the hash of the handshake.
const CONTEXT: &[u8; 34] = b"TLS 1.3, server CertificateVerify\0";

/// The device's side of a handshake.
pub(super) struct Device<'a, F> {
    pub(super) key: SigningKey,
    pub(super) certificate: &'a [u8],
    pub(super) random: Random<F>,
    pub(super) server: Server,
}

/// The server's side of a handshake, as far as it is known.
pub(super) struct Server {
    trusted: [Pin; 2],
    pub(super) proof: Proof,
}

/// What is known of the server's key.
pub(super) enum Proof {
    /// It has shown no key.
    Nothing,
    /// It has shown a key that is not trusted, or that is no key of P-256.
    Untrusted(Option<Pin>),
    /// It has shown a key that is trusted; whether it holds it is to be seen.
    Shown { pin: Pin, point: [u8; POINT], handshake: [u8; 32] },
    /// It holds this key.
    Held(Pin),
}

impl Server {
    pub(super) const fn new(trusted: [Pin; 2]) -> Self {
        Self { trusted, proof: Proof::Nothing }
    }

    fn shows(&self, certificate: &[u8], handshake: [u8; 32]) -> Proof {
        let Some((pin, point)) = key_in(certificate) else { return Proof::Untrusted(None) };
        if self.trusted.contains(&pin) {
            Proof::Shown { pin, point, handshake }
        } else {
            Proof::Untrusted(Some(pin))
        }
    }
}

/// The key in a certificate. Where in it the key stands is not looked at: what counts is that the peer holds it.
fn key_in(certificate: &[u8]) -> Option<(Pin, [u8; POINT])> {
    let info = certificate.windows(SPKI.len().saturating_add(POINT)).find(|info| info.starts_with(&SPKI))?;
    Some((Pin(Sha256::digest(info).into()), *info.last_chunk()?))
}

impl TlsVerifier<Aes128GcmSha256> for Server {
    fn set_hostname_verification(&mut self, _: &str) -> Result<(), embedded_tls::TlsError> {
        Ok(())
    }

    fn verify_certificate(
        &mut self,
        handshake: &Sha256,
        certificate: CertificateRef<'_>,
    ) -> Result<(), embedded_tls::TlsError> {
        let handshake = handshake.clone().finalize().into();
        self.proof = match certificate.entries.first() {
            Some(CertificateEntryRef::X509(der)) => self.shows(der, handshake),
            _ => Proof::Untrusted(None),
        };
        match self.proof {
            Proof::Shown { .. } => Ok(()),
            _ => Err(embedded_tls::TlsError::InvalidCertificate),
        }
    }

    fn verify_signature(&mut self, verify: CertificateVerifyRef<'_>) -> Result<(), embedded_tls::TlsError> {
        let invalid = embedded_tls::TlsError::InvalidSignature;
        let Proof::Shown { pin, point, handshake } = &self.proof else { return Err(invalid) };
        if !matches!(verify.signature_scheme, SignatureScheme::EcdsaSecp256r1Sha256) {
            return Err(invalid);
        }
        let mut message = [0x20; 64 + CONTEXT.len() + 32];
        if let Some(rest) = message.get_mut(64..)
            && let Some((context, hash)) = rest.split_first_chunk_mut()
        {
            *context = *CONTEXT;
            hash.copy_from_slice(handshake);
        }
        let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| invalid)?;
        let signature = Signature::from_der(verify.signature).map_err(|_| invalid)?;
        key.verify(&message, &signature).map_err(|_| invalid)?;
        self.proof = Proof::Held(*pin);
        Ok(())
    }
}

impl<F: FnMut(&mut [u8])> CryptoProvider for Device<'_, F> {
    type CipherSuite = Aes128GcmSha256;
    type Signature = DerSignature;

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.random
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, embedded_tls::TlsError> {
        Ok(&mut self.server)
    }

    fn signer(&mut self) -> Result<(impl SignerMut<DerSignature>, SignatureScheme), embedded_tls::TlsError> {
        Ok((self.key.clone(), SignatureScheme::EcdsaSecp256r1Sha256))
    }

    fn client_cert(&mut self) -> Option<Certificate<impl AsRef<[u8]>>> {
        Some(Certificate::X509(self.certificate))
    }
}

/// The board's random bytes, as the cryptography asks for them.
pub(super) struct Random<F>(pub(super) F);

impl<F: FnMut(&mut [u8])> RngCore for Random<F> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.0(bytes);
        Ok(())
    }
}

impl<F: FnMut(&mut [u8])> CryptoRng for Random<F> {}
