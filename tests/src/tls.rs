//! TLS of a peer that trusts everyone: what is tested, or measured, is at the other end.

use std::sync::Arc;

use protocol_core::message::Pin;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    version::TLS13,
};
use sha2::{Digest, Sha256};

/// A new key.
///
/// # Panics
/// The system has no randomness.
pub fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key can be made")
}

/// A certificate for this host, and its key, in PEM.
///
/// # Panics
/// The system has no randomness, or this is no host.
pub fn certificate(host: &str) -> (String, String) {
    let (key, parameters) = (new_key(), CertificateParams::new(vec![host.to_owned()]));
    let certificate = parameters.and_then(|parameters| parameters.self_signed(&key));
    (certificate.expect("a certificate can be made").pem(), key.serialize_pem())
}

/// What a peer with this key is known by.
pub fn pin(key: &KeyPair) -> Pin {
    Pin(Sha256::digest(key.subject_public_key_info()).into())
}

/// A client that shows this key, and speaks `protocol` (ALPN).
///
/// # Panics
/// The key is no P-256 key.
pub fn client(key: &KeyPair, protocol: &str) -> Arc<ClientConfig> {
    let (certificate, secret) = identity(key);
    let provider = Arc::new(ring::default_provider());
    let anyone = AnyPeer(provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anyone))
        .with_client_auth_cert(vec![certificate], secret)
        .expect("the certificate is of this key");
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A server that shows this key, speaks `protocols` (ALPN), and asks clients for theirs.
///
/// # Panics
/// The key is no P-256 key.
pub fn server(key: &KeyPair, protocols: &[&str]) -> Arc<ServerConfig> {
    let (certificate, secret) = identity(key);
    let provider = Arc::new(ring::default_provider());
    let anyone = AnyPeer(provider.signature_verification_algorithms);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("ring speaks TLS 1.3")
        .with_client_cert_verifier(Arc::new(anyone))
        .with_single_cert(vec![certificate], secret)
        .expect("the certificate is of this key");
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

fn identity(key: &KeyPair) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let certificate = CertificateParams::default().self_signed(key).expect("a key can sign for itself");
    (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// Accepts every certificate whose key signs the handshake.
#[derive(Debug)]
struct AnyPeer(WebPkiSupportedAlgorithms);

/// What verifiers of both sides have in common.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signature, &self.0)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    };
}

impl ServerCertVerifier for AnyPeer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for AnyPeer {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}
