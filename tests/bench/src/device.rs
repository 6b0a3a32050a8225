//! Devices that are not there: their keys, and how they connect.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    version::TLS13,
};
use sha2::{Digest, Sha256};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::error::{Error, Result};

/// Over how many addresses of the loopback connections are spread: the ports of one would run out.
const SOURCES: usize = 8;

/// Reads at least `count` keys, and makes and adds those that are missing.
///
/// # Errors
/// The file can't be read or written, or is damaged.
pub(crate) fn keys(path: &Path, count: usize) -> Result<Vec<KeyPair>> {
    const END: &str = "-----END PRIVATE KEY-----";
    let mut text = fs::read_to_string(path).unwrap_or_default();
    let mut keys = text
        .split_inclusive(END)
        .filter(|pem| pem.contains(END))
        .take(count)
        .map(KeyPair::from_pem)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    if keys.len() < count {
        while keys.len() < count {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
            text.push_str(&key.serialize_pem());
            keys.push(key);
        }
        fs::write(path, text).map_err(Error::file(path))?;
    }
    Ok(keys)
}

/// What the server knows a device by.
pub(crate) fn pin(key: &KeyPair) -> [u8; 32] {
    Sha256::digest(key.subject_public_key_info()).into()
}

/// A connection to `server`, from one of several addresses of the loopback.
///
/// # Errors
/// What the system said.
pub(crate) async fn connect(server: SocketAddr, index: usize) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(2 + index % SOURCES).unwrap_or(2);
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Shakes hands by TLS with `key`.
///
/// # Errors
/// The handshake fails.
pub(crate) async fn secure(stream: TcpStream, key: &KeyPair, alpn: &str) -> Result<TlsStream<TcpStream>> {
    let certificate = CertificateParams::new(vec!["device".to_owned()])?.self_signed(key)?;
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        .with_client_auth_cert(vec![certificate.der().clone()], private)?;
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config.resumption = Resumption::disabled();
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// Any server will do: it was started by the same run.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
