//! Keys, pins and TLS, behind a plain byte stream; the only module that knows rustls.
//!
//! Devices know the server by the pin of its key, and the server knows devices by the pins of theirs. No
//! authority signs anything and no date is looked at: many devices have no clock at boot, and the
//! registered key decides, not the calendar. What TLS proves is that the peer holds the key.

mod certificate;
mod client;
mod stream;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol_core::{alpn, message::Pin};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

pub use certificate::{Certificate, CertificateError, hosts};
pub use client::{ClientError, ClientKey, Connector};
pub use stream::Stream;

use crate::files;

/// What a connection speaks, as agreed on in the TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `holdfast/1`: the framed protocol of a registered device.
    Framed,
    /// `holdfast-enroll/1`: a device that asks to be registered.
    Enrolment,
    /// `holdfast-gateway/1`: a registered device, for one that is wired to it.
    Gateway,
    /// `holdfast-data/1`: the bytes of a task of a registered device.
    Data,
    /// `holdfast-login/1`: an operator who asks to be registered.
    Login,
    /// `holdfast-api/1`: the API of a registered operator.
    Api,
}

/// What a browser names, if it names anything: HTTP's first bytes say which it is.
const WEB: [&str; 2] = ["h2", "http/1.1"];

impl Protocol {
    const ALL: [Self; 6] = [Self::Framed, Self::Enrolment, Self::Gateway, Self::Data, Self::Login, Self::Api];

    /// The protocol's name in the handshake (ALPN).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Framed => alpn::SESSION,
            Self::Enrolment => alpn::ENROLMENT,
            Self::Gateway => alpn::GATEWAY,
            Self::Data => alpn::DATA,
            Self::Login => alpn::LOGIN,
            Self::Api => alpn::API,
        }
    }
}

/// Why keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key's file can't be read or written.
    #[error("{path}: {source}; the server needs to own this file and be able to write it")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key's file does not hold a P-256 key in PEM.
    #[error(
        "{path}: expected a P-256 private key in PEM ({reason}); restore it from a backup: a new key locks all devices out"
    )]
    Malformed {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key is missing that must not be made anew.
    #[error("{0}: expected a key of the server, found none; restore it from a backup")]
    Missing(PathBuf),
    /// No key that the devices trust is left.
    #[error(
        "{directory}: current.pem is missing, and no other key that the {devices} registered devices trust is there; restore the directory from a backup: a new key locks all of them out. If it is lost for good, move the database away as well, start anew, and enrol every device again"
    )]
    Lost {
        /// Where the keys should be.
        directory: PathBuf,
        /// How many devices are registered.
        devices: u64,
    },
    /// A key can't be made.
    #[error("no key could be made: {0}")]
    Generate(String),
}

/// The server's keys: the one in use, and the one that will come after it.
#[derive(Debug)]
pub struct Keys {
    current: KeyPair,
    next: KeyPair,
}

const CURRENT_KEY: &str = "current.pem";
const NEXT_KEY: &str = "next.pem";

impl Keys {
    /// Where the keys are, in the server's data directory.
    pub fn directory(data: &Path) -> PathBuf {
        data.join("keys")
    }

    /// Whether there is no key in use. One that can't be looked for counts as one that is there.
    pub fn is_current_missing(directory: &Path) -> bool {
        !directory.join(CURRENT_KEY).try_exists().unwrap_or(true)
    }

    /// Reads the keys in `directory`, and makes those that are missing.
    ///
    /// # Errors
    /// [`KeyError`] if they can't be read or made. A damaged key is never replaced: every device would be locked out.
    pub fn load_or_create(directory: &Path) -> Result<Self, KeyError> {
        files::create_private_directory(directory)
            .map_err(|source| KeyError::File { path: directory.to_owned(), source })?;
        Ok(Self {
            current: load_or_create(&directory.join(CURRENT_KEY))?,
            next: load_or_create(&directory.join(NEXT_KEY))?,
        })
    }

    /// Reads the keys in `directory`.
    ///
    /// # Errors
    /// [`KeyError`] if one is missing, or can't be read.
    pub fn load(directory: &Path) -> Result<Self, KeyError> {
        Ok(Self { current: load(&directory.join(CURRENT_KEY))?, next: load(&directory.join(NEXT_KEY))? })
    }

    /// Reads the key that comes after the one in use, and gives its pin.
    ///
    /// # Errors
    /// [`KeyError`] if it is missing, or can't be read.
    pub fn load_next_pin(directory: &Path) -> Result<Pin, KeyError> {
        load(&directory.join(NEXT_KEY)).map(|key| pin(&key))
    }

    /// Takes the next key into use, and makes a new next one; gives both. It takes effect at the server's next start.
    ///
    /// Devices that don't know the next key are locked out then: it is for the caller to see that they do.
    ///
    /// # Errors
    /// [`KeyError`] if there is no next key, or the files can't be written.
    pub fn rotate(directory: &Path) -> Result<Self, KeyError> {
        let current = load(&directory.join(NEXT_KEY))?;
        let next = generate()?;
        let write = |name: &str, key: &KeyPair| {
            let path = directory.join(name);
            files::replace_private(&path, key.serialize_pem().as_bytes())
                .map_err(|source| KeyError::File { path, source })
        };
        // In this order a crash in between leaves both files with the same key: devices trust it.
        write(CURRENT_KEY, &current)?;
        write(NEXT_KEY, &next)?;
        Ok(Self { current, next })
    }

    /// The pin of the key in use.
    pub fn current_pin(&self) -> Pin {
        pin(&self.current)
    }

    /// The pin of the key that will come after it.
    pub fn next_pin(&self) -> Pin {
        pin(&self.next)
    }
}

fn load_or_create(path: &Path) -> Result<KeyPair, KeyError> {
    match load(path) {
        Err(KeyError::Missing(_)) => {
            let key = generate()?;
            files::replace_private(path, key.serialize_pem().as_bytes())
                .map_err(|source| KeyError::File { path: path.to_owned(), source })?;
            Ok(key)
        }
        other => other,
    }
}

fn load(path: &Path) -> Result<KeyPair, KeyError> {
    if files::others_may_read(path) {
        tracing::warn!(path = %path.display(), "others than the owner may read a key of the server: chmod 600 it");
    }
    let malformed = |reason: String| KeyError::Malformed { path: path.to_owned(), reason };
    match std::fs::read_to_string(path) {
        Ok(text) => KeyPair::from_pkcs8_pem_and_sign_algo(&text, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|error| malformed(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(malformed("it is no text".to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(KeyError::Missing(path.to_owned())),
        Err(source) => Err(KeyError::File { path: path.to_owned(), source }),
    }
}

fn generate() -> Result<KeyPair, KeyError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| KeyError::Generate(error.to_string()))
}

fn pin(key: &KeyPair) -> Pin {
    Pin(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(key)).into())
}

/// Who is at the other end of a connection, as TLS proved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Someone who holds a key.
    Holder {
        /// Its pin.
        key: Pin,
        /// What the connection speaks.
        protocol: Protocol,
    },
    /// A browser, or another client that speaks HTTP (`h2`, `http/1.1`, or no name at all): it is asked for no key.
    Browser,
}

/// Makes TLS connections out of TCP connections.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    /// With records as large as TLS has them.
    bulk: Arc<ServerConfig>,
    /// With the certificate for browsers, who are asked for none.
    web: Arc<ServerConfig>,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Acceptor")
    }
}

impl Acceptor {
    /// An acceptor that shows the key in use, and browsers this certificate.
    ///
    /// # Errors
    /// [`KeyError::Generate`] if no certificate can be made for the key.
    pub fn new(keys: &Keys, web: Arc<Certificate>) -> Result<Self, KeyError> {
        let unusable = |error: &dyn std::fmt::Display| KeyError::Generate(error.to_string());
        let certificate = CertificateParams::new(vec!["holdfast".to_owned()])
            .and_then(|parameters| parameters.self_signed(&keys.current))
            .map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(keys.current.serialize_der()));
        let provider = Arc::new(p256_provider());
        let verifier = AnyKey { algorithms: provider.signature_verification_algorithms };
        let mut for_web = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable(&error))?
            .with_no_client_auth()
            .with_cert_resolver(web);
        for_web.alpn_protocols = WEB.map(|name| name.as_bytes().to_vec()).into();
        for_web.send_tls13_tickets = 0;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(|error| unusable(&error))?;
        config.alpn_protocols = Protocol::ALL.map(|protocol| protocol.name().as_bytes().to_vec()).into();
        // Each connection proves the key anew: a resumed one would outlive its device's revocation.
        config.send_tls13_tickets = 0;
        let bulk = Arc::new(config.clone());
        // Header included. A microcontroller has room for one record; others lose by it 22 bytes in each of them.
        config.max_fragment_size = Some(alpn::MAX_RECORD + 5);
        Ok(Self { config: Arc::new(config), bulk, web: Arc::new(for_web) })
    }

    /// Shakes hands. The caller sets the deadline.
    ///
    /// # Errors
    /// Whatever ended the handshake, in words.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Stream, Peer)> {
        // No microcontroller speaks these, and much goes over them.
        let bulk = [Protocol::Data, Protocol::Api].map(|protocol| protocol.name().as_bytes());
        let names_only = |named: &[&[u8]], known: &[&[u8]]| named.iter().all(|name| known.contains(name));
        let mut is_web = false;
        let choose = |named: Option<&[&[u8]]>| match named {
            Some(named)
                if named.is_empty()
                    || named.iter().any(|name| WEB.iter().any(|web| web.as_bytes() == *name)) =>
            {
                is_web = true;
                Arc::clone(&self.web)
            }
            Some(named) if names_only(named, &bulk) => Arc::clone(&self.bulk),
            _ => Arc::clone(&self.config),
        };
        let stream = Stream::accept(choose, stream).await?;
        if is_web {
            return Ok((stream, Peer::Browser));
        }
        let connection = stream.agreed();
        let protocol = Protocol::ALL
            .into_iter()
            .find(|protocol| connection.alpn_protocol() == Some(protocol.name().as_bytes()))
            .ok_or_else(|| io::Error::other("no protocol was agreed on (ALPN)"))?;
        let key = connection
            .peer_certificates()
            .and_then(<[_]>::first)
            .and_then(|certificate| ParsedCertificate::try_from(certificate).ok())
            .map(|certificate| Pin(Sha256::digest(certificate.subject_public_key_info()).into()))
            .ok_or_else(|| io::Error::other("the peer showed no certificate"))?;
        Ok((stream, Peer::Holder { key, protocol }))
    }
}

/// ring, with P-256 first: what a microcontroller's TLS can do too.
fn p256_provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![ring::kx_group::SECP256R1, ring::kx_group::X25519];
    provider
}

/// Accepts every certificate whose key signs the handshake: the framed protocol then says who is refused, and
/// why, which an alert of TLS could not.
#[derive(Debug)]
struct AnyKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        ParsedCertificate::try_from(end_entity)?;
        Ok(ClientCertVerified::assertion())
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tempfile::TempDir;

    use super::{KeyError, Keys, files};

    #[test]
    fn keys_stay_and_are_private() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys");
        let made = Keys::load_or_create(&path).unwrap();
        let read = Keys::load_or_create(&path).unwrap();
        assert_eq!((made.current_pin(), made.next_pin()), (read.current_pin(), read.next_pin()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let current = path.join("current.pem");
        assert_eq!(fs::metadata(&current).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!files::others_may_read(&current));
        fs::set_permissions(&current, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(files::others_may_read(&current), "it is used, with a warning");
        assert!(Keys::load(&path).is_ok());
    }

    #[test]
    fn a_rotation_takes_the_next_key() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys");
        assert!(matches!(Keys::rotate(&path), Err(KeyError::Missing(_))), "nothing is made where nothing is");
        let before = Keys::load_or_create(&path).unwrap();
        assert_eq!(Keys::load_next_pin(&path).unwrap(), before.next_pin());
        let after = Keys::rotate(&path).unwrap();
        assert_eq!(after.current_pin(), before.next_pin());
        assert_ne!(after.next_pin(), before.next_pin());
        let read = Keys::load(&path).unwrap();
        assert_eq!((read.current_pin(), read.next_pin()), (after.current_pin(), after.next_pin()));

        // A new key is never taken into use at once: nobody knows it.
        fs::remove_file(path.join("next.pem")).unwrap();
        assert!(matches!(Keys::rotate(&path), Err(KeyError::Missing(_))));
        assert!(!Keys::is_current_missing(&path));
        fs::remove_file(path.join("current.pem")).unwrap();
        assert!(Keys::is_current_missing(&path));
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let directory = TempDir::new().unwrap();
        Keys::load_or_create(directory.path()).unwrap();
        let path = directory.path().join("current.pem");
        for damaged in [b"damaged".as_slice(), b"-----BEGIN \xff\xfe", b""] {
            fs::write(&path, damaged).unwrap();
            let error = Keys::load_or_create(directory.path()).unwrap_err();
            assert!(matches!(error, KeyError::Malformed { .. }), "{error:?}");
            assert!(error.to_string().contains("restore it from a backup"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }
}
