//! TLS to a server, from an operator's machine: by the pin of its key, and with the operator's own.

use std::{fmt, io, sync::Arc};

use protocol_core::message::Pin;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::ParsedCertificate,
    version::TLS13,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Protocol, p256_provider};

/// Why a key can't be had, or used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(String);

/// An operator's secret key: P-256, as PKCS #8 in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientKey(String);

impl fmt::Debug for ClientKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientKey(…)")
    }
}

impl ClientKey {
    /// A new one.
    ///
    /// # Errors
    /// [`ClientError`] if the system has no random numbers.
    pub fn make() -> Result<Self, ClientError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        Ok(Self(pair.map_err(|error| ClientError(format!("no key could be made: {error}")))?.serialize_pem()))
    }

    fn pair(&self) -> Result<KeyPair, ClientError> {
        KeyPair::from_pkcs8_pem_and_sign_algo(&self.0, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| ClientError(format!("the key is damaged: {error}")))
    }
}

/// Makes TLS connections out of TCP connections.
#[derive(Clone)]
pub struct Connector {
    inner: TlsConnector,
}

impl Connector {
    /// A connector with this key, that trusts the servers with one of these pins.
    ///
    /// # Errors
    /// [`ClientError`] if the key can't be used.
    pub fn new(key: &ClientKey, trusted: &[Pin], protocol: Protocol) -> Result<Self, ClientError> {
        let unusable = |error: &dyn fmt::Display| ClientError(format!("TLS can't be set up: {error}"));
        let pair = key.pair()?;
        let certificate = CertificateParams::new(Vec::new())
            .and_then(|parameters| parameters.self_signed(&pair))
            .map_err(|error| unusable(&error))?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
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
        config.alpn_protocols = vec![protocol.name().as_bytes().to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { inner: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands. The caller sets the deadline.
    ///
    /// # Errors
    /// Whatever ended the handshake, in words; [`io::ErrorKind::PermissionDenied`] if the server is not trusted.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("holdfast").map_err(io::Error::other)?;
        self.inner.connect(name, stream).await.map_err(as_said)
    }
}

/// What [`Pinned`] says, without the words that rustls puts before it, and of a kind of its own.
fn as_said(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(TlsError::General(words)) => io::Error::new(io::ErrorKind::PermissionDenied, words.clone()),
        _ => error,
    }
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
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let shown = Pin(Sha256::digest(certificate.subject_public_key_info()).into());
        if self.trusted.contains(&shown) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(TlsError::General(format!("the server shows the key {shown}, which is not trusted here")))
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
