//! TLS to the server, by the pin of its key. The only module that knows rustls.
//!
//! Names and dates are not looked at: a device may have no clock, and the key decides. What the handshake
//! proves is that the peer holds one of the two keys that this device trusts.

use std::{io, sync::Arc};

use protocol_core::{alpn, message::Pin};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::ParsedCertificate,
    version::TLS13,
};
use sha2::{Digest as _, Sha256};
use tokio::{io::BufReader, net::TcpStream};
use tokio_rustls::TlsConnector;

/// The bytes inside a TLS connection. rustls itself reads 4 KiB at a time: a task's bytes are read ahead of it.
pub type Stream = tokio_rustls::client::TlsStream<BufReader<TcpStream>>;

/// What the agent speaks on a connection, as it is agreed on in the handshake (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The session of a registered device.
    Session,
    /// The exchange in which a device is registered.
    Enrolment,
    /// The session of a device that is wired to this one.
    Gateway,
    /// The bytes of a task.
    Data,
}

impl Protocol {
    /// How much is read from TCP at once, in bytes.
    const fn read_size(self) -> usize {
        match self {
            Self::Data => 64 * 1024,
            Self::Session | Self::Enrolment | Self::Gateway => 4 * 1024,
        }
    }

    const fn name(self) -> &'static [u8] {
        match self {
            Self::Session => alpn::SESSION.as_bytes(),
            Self::Enrolment => alpn::ENROLMENT.as_bytes(),
            Self::Gateway => alpn::GATEWAY.as_bytes(),
            Self::Data => alpn::DATA.as_bytes(),
        }
    }
}

/// Why no handshake can be tried.
#[derive(Debug, thiserror::Error)]
#[error("TLS can't be set up with the device's key: {0}; enrol this device again with --again")]
pub struct SetupError(String);

/// Makes TLS connections out of TCP connections.
#[derive(Clone)]
pub struct Connector {
    inner: TlsConnector,
    read_size: usize,
}

impl Connector {
    /// A connector for a device with this key, that trusts the servers with one of these pins.
    ///
    /// # Errors
    /// [`SetupError`] if the key can't be used.
    pub fn new(key: &KeyPair, trusted: &[Pin], protocol: Protocol) -> Result<Self, SetupError> {
        let unusable = |error: &dyn std::fmt::Display| SetupError(error.to_string());
        let certificate = CertificateParams::new(Vec::new())
            .and_then(|parameters| parameters.self_signed(key))
            .map_err(|error| unusable(&error))?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(p256_provider());
        let verifier =
            Pinned { trusted: trusted.to_vec(), algorithms: provider.signature_verification_algorithms };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(vec![certificate.der().clone()], secret)
            .map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![protocol.name().to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { inner: TlsConnector::from(Arc::new(config)), read_size: protocol.read_size() })
    }

    /// Shakes hands. The caller sets the deadline. Gives the stream, and the pin that the server has shown.
    ///
    /// # Errors
    /// Whatever ended the handshake, in words; [`io::ErrorKind::PermissionDenied`] if the server is not trusted.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<(Stream, Pin)> {
        let name = ServerName::try_from("holdfast").map_err(io::Error::other)?;
        let stream = BufReader::with_capacity(self.read_size, stream);
        let stream = self.inner.connect(name, stream).await.map_err(as_said)?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(pin_of);
        match shown {
            Some(Ok(pin)) => Ok((stream, pin)),
            _ => Err(io::Error::other("the server showed no certificate")),
        }
    }
}

/// What [`Pinned`] says, without the words that rustls puts before it, and of a kind of its own.
fn as_said(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(TlsError::General(words)) => io::Error::new(io::ErrorKind::PermissionDenied, words.clone()),
        _ => error,
    }
}

/// ring, with P-256 first: what a microcontroller's TLS can do too.
fn p256_provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![ring::kx_group::SECP256R1, ring::kx_group::X25519];
    provider
}

/// The pin of a certificate's key.
fn pin_of(certificate: &CertificateDer<'_>) -> Result<Pin, TlsError> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Pin(Sha256::digest(parsed.subject_public_key_info()).into()))
}

/// Accepts the certificates of the keys that are trusted, and no others.
#[derive(Debug)]
struct Pinned {
    trusted: Vec<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let shown = pin_of(end_entity)?;
        if self.trusted.contains(&shown) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(TlsError::General(format!(
            "the server shows the key {shown}, which this device does not trust: it is another server, or its key was replaced; enrol this device with a new line (holdfast enroll)"
        )))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
