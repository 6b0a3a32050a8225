//! The bare TLS echo: what a server costs that keeps nothing, on tokio and rustls like ours.

use std::{io::Write, net::SocketAddr, sync::Arc};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::error::Result;

/// A bare TLS echo server: what comes is written back
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
}

/// Echoes until it is killed.
///
/// # Errors
/// It can't listen.
pub(crate) fn run(arguments: &Arguments) -> Result {
    tokio::runtime::Runtime::new()?.block_on(serve(arguments.listen))
}

async fn serve(address: SocketAddr) -> Result {
    let acceptor = acceptor()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(4_096)?;
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A connection that fails has ended: there is nobody to be told.
        tokio::spawn(echo(acceptor.clone(), stream));
    }
}

async fn echo(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = Box::pin(acceptor.accept(stream)).await?;
    let mut buffer = [0; 2_048];
    loop {
        let length = stream.read(&mut buffer).await?;
        let Some(read @ [_, ..]) = buffer.get(..length) else { return Ok(()) };
        stream.write_all(read).await?;
        stream.flush().await?;
    }
}

/// TLS as the server speaks it: 1.3, ring, P-256, the client's key asked for.
fn acceptor() -> Result<TlsAcceptor> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = CertificateParams::new(vec!["echo".to_owned()])?.self_signed(&key)?;
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(AnyClient(provider)))
        .with_single_cert(vec![certificate.der().clone()], private)?;
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"echo".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Every client that holds the key it shows.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
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
