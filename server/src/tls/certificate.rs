//! The certificate that browsers are shown: the operator's, or one that the server makes for first steps.

use std::{
    fmt, fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{config::CertificateFiles, files};

/// The file of the one that the server makes, with its key, beside the server's keys.
const OWN_FILE: &str = "console.pem";

/// How long such a one is good: browsers take none that is good for longer than 825 days.
const OWN_DAYS: u64 = 800;

/// A new one is made when it is good for fewer days than these.
const RENEWAL_DAYS: u64 = 30;

/// How often it is looked whether a new one is to be made.
const LOOK_INTERVAL: Duration = Duration::from_secs(3_600);

const DAY: Duration = Duration::from_secs(86_400);

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: expected {expected} in PEM: {reason}", path.display())]
    Malformed {
        /// Which one.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key don't belong together, or the key is of a kind that can't be used.
    #[error("{} and {}: {reason}", certificate.display(), key.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// None can be made.
    #[error("no certificate could be made: {0}")]
    Make(String),
}

/// What tells a file from another in its place.
type Stamp = Option<(i64, i64, u64, u64)>;

/// The certificate in use; it may change while the server runs.
pub struct Certificate {
    files: CertificateFiles,
    in_use: RwLock<Arc<CertifiedKey>>,
    seen: RwLock<[Stamp; 2]>,
    /// Of one that the server makes: for which hosts.
    own: Option<Vec<String>>,
    /// When it is looked at next whether that has run out.
    next_look: RwLock<SystemTime>,
}

impl Certificate {
    /// The operator's certificate.
    ///
    /// # Errors
    /// [`CertificateError`] if it can't be used.
    pub fn load(files: CertificateFiles) -> Result<Arc<Self>, CertificateError> {
        Self::load_now(files).map(Arc::new)
    }

    fn load_now(files: CertificateFiles) -> Result<Self, CertificateError> {
        let seen = RwLock::new(stamps(&files));
        let in_use = RwLock::new(Arc::new(read(&files)?));
        let next_look = RwLock::new(SystemTime::UNIX_EPOCH);
        Ok(Self { files, in_use, seen, own: None, next_look })
    }

    /// A certificate for these hosts, which the server has made, or makes now: in `directory`, beside its keys. One that
    /// fits is kept, so that a browser that was told to trust it does so after a restart.
    ///
    /// # Errors
    /// [`CertificateError`] if it can't be read or made.
    pub fn own(directory: &Path, hosts: &[String]) -> Result<Arc<Self>, CertificateError> {
        Self::own_at(directory, hosts, SystemTime::now())
    }

    fn own_at(directory: &Path, hosts: &[String], now: SystemTime) -> Result<Arc<Self>, CertificateError> {
        let path = directory.join(OWN_FILE);
        let files = CertificateFiles { certificate: path.clone(), key: path.clone() };
        if !read(&files).is_ok_and(|key| is_fit(&key, hosts, now)) {
            replace_own(&path, hosts, now)?;
        }
        Ok(Arc::new(Self { own: Some(hosts.to_vec()), ..Self::load_now(files)? }))
    }

    /// Reads the files again if they are others than before: gives whether a new certificate is in use. Of one that
    /// can't be used this tells once, and the one before stays in use. One that the server has made is made anew before
    /// it runs out. Blocks.
    ///
    /// # Errors
    /// [`CertificateError`] if the new one can't be made, or used.
    pub fn refresh(&self) -> Result<bool, CertificateError> {
        self.refresh_at(SystemTime::now())
    }

    fn refresh_at(&self, now: SystemTime) -> Result<bool, CertificateError> {
        if let Some(hosts) = &self.own
            && *self.next_look.read().unwrap_or_else(PoisonError::into_inner) <= now
        {
            *self.next_look.write().unwrap_or_else(PoisonError::into_inner) = now + LOOK_INTERVAL;
            let in_use = Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner));
            if !is_fit(&in_use, hosts, now) {
                replace_own(&self.files.certificate, hosts, now)?;
            }
        }
        let now = stamps(&self.files);
        if *self.seen.read().unwrap_or_else(PoisonError::into_inner) == now {
            return Ok(false);
        }
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = now;
        let read = Arc::new(read(&self.files)?);
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(true)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn stamps(files: &CertificateFiles) -> [Stamp; 2] {
    [&files.certificate, &files.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.mtime(), file.mtime_nsec(), file.ino(), file.len()))
    })
}

fn read(files: &CertificateFiles) -> Result<CertifiedKey, CertificateError> {
    let CertificateFiles { certificate, key } = files;
    let open = |path: &Path| {
        fs::read(path).map_err(|source| CertificateError::File { path: path.to_owned(), source })
    };
    let malformed = |path: &Path, expected, reason: &dyn fmt::Display| CertificateError::Malformed {
        path: path.to_owned(),
        expected,
        reason: reason.to_string(),
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&open(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(certificate, "a certificate", &error))?;
    if chain.is_empty() {
        return Err(malformed(certificate, "a certificate", &"there is none"));
    }
    let private = PrivateKeyDer::from_pem_slice(&open(key)?)
        .map_err(|error| malformed(key, "a private key without a password", &error))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|error| {
        CertificateError::Mismatch {
            certificate: certificate.clone(),
            key: key.clone(),
            reason: error.to_string(),
        }
    })
}

/// Whether the certificate that was made before is for all of these hosts, and good for a while.
fn is_fit(key: &CertifiedKey, hosts: &[String], now: SystemTime) -> bool {
    let Some(own) = key.cert.first() else { return false };
    let Ok(certificate) = ParsedCertificate::try_from(own) else { return false };
    let mut names = hosts.iter().filter_map(|host| ServerName::try_from(host.as_str()).ok());
    // It vouches for itself. When it was written says nothing: it may be a copy out of a backup.
    let mut itself = RootCertStore::empty();
    let later = (now + DAY * RENEWAL_DAYS as u32).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let later = UnixTime::since_unix_epoch(later);
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    names.all(|name| verify_server_name(&certificate, &name).is_ok())
        && itself.add(own.clone()).is_ok()
        && verify_server_cert_signed_by_trust_anchor(&certificate, &itself, &[], later, algorithms).is_ok()
}

/// Makes a certificate for these hosts, in the place of the one before.
fn replace_own(path: &Path, hosts: &[String], now: SystemTime) -> Result<(), CertificateError> {
    files::replace_private(path, make(hosts, now)?.as_bytes())
        .map_err(|source| CertificateError::File { path: path.to_owned(), source })
}

/// Makes a certificate for these hosts: in PEM, with its key.
fn make(hosts: &[String], now: SystemTime) -> Result<String, CertificateError> {
    let failed = |error: rcgen::Error| CertificateError::Make(error.to_string());
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    // What is neither a name nor an address is left out; nobody could ask for it by TLS.
    let hosts: Vec<_> =
        hosts.iter().filter(|host| ServerName::try_from(host.as_str()).is_ok()).cloned().collect();
    let mut parameters = CertificateParams::new(hosts).map_err(failed)?;
    parameters.distinguished_name.push(DnType::CommonName, "Holdfast");
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + now.saturating_sub(DAY);
    parameters.not_after = epoch + now + DAY * OWN_DAYS as u32;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

/// By which names browsers on this machine, or those that were told the addresses of the server (`host:port`), ask for it.
pub fn hosts(addresses: &[String], listening: IpAddr) -> Vec<String> {
    let mut hosts: Vec<String> = addresses
        .iter()
        .filter_map(|address| Some(address.rsplit_once(':')?.0.trim_matches(['[', ']']).to_owned()))
        .collect();
    if !listening.is_unspecified() {
        hosts.push(listening.to_string());
    }
    hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    hosts.sort();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use super::{Certificate, CertificateError, CertificateFiles, DAY, hosts, make};

    #[test]
    fn an_own_certificate_is_kept_while_it_is_for_all_hosts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.pem");
        let some =
            hosts(&["fleet.example.org:1".into(), "[2001:db8::1]:2".into()], "0.0.0.0".parse().unwrap());
        assert_eq!(some, ["127.0.0.1", "2001:db8::1", "::1", "fleet.example.org", "localhost"]);
        Certificate::own(directory.path(), &some).unwrap();
        let first = fs::read(&path).unwrap();
        Certificate::own(directory.path(), &some[..2]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first, "it is kept");
        let more = hosts(&["other.example.org:1".into()], "192.0.2.1".parse().unwrap());
        Certificate::own(directory.path(), &more).unwrap();
        assert_ne!(fs::read(&path).unwrap(), first, "it was not for that host");
        fs::write(&path, "damaged").unwrap();
        Certificate::own(directory.path(), &more).unwrap();
    }

    #[test]
    fn an_own_certificate_is_made_anew_before_it_runs_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.pem");
        let (hosts, made) = (hosts(&[], "192.0.2.1".parse().unwrap()), SystemTime::now() - DAY * 800);
        let certificate = Certificate::own_at(directory.path(), &hosts, made).unwrap();
        let first = fs::read(&path).unwrap();
        assert!(!certificate.refresh_at(made + DAY * 760).unwrap(), "it is good for 40 days more");
        assert!(certificate.refresh_at(made + DAY * 771).unwrap());
        let second = fs::read(&path).unwrap();
        assert_ne!(second, first);
        assert!(!certificate.refresh_at(made + DAY * 772).unwrap(), "the new one is good for long");
        // A copy of a backup is a young file.
        fs::write(&path, &first).unwrap();
        Certificate::own(directory.path(), &hosts).unwrap();
        assert_ne!(fs::read(&path).unwrap(), first);
        let third = fs::read(&path).unwrap();
        Certificate::own(directory.path(), &hosts).unwrap();
        assert_eq!(fs::read(&path).unwrap(), third, "it is kept");
    }

    #[test]
    fn a_broken_certificate_is_told_once_and_the_one_before_stays() {
        let directory = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: directory.path().join("certificate.pem"),
            key: directory.path().join("key.pem"),
        };
        let made = |host: &str| make(&[host.to_owned()], SystemTime::now()).unwrap();
        let (one, other) = (made("a.example"), made("b.example"));
        let missing = Certificate::load(files.clone()).unwrap_err();
        assert!(matches!(missing, CertificateError::File { .. }), "{missing}");
        fs::write(&files.certificate, &one).unwrap();
        fs::write(&files.key, &one).unwrap();
        let certificate = Certificate::load(files.clone()).unwrap();
        assert!(!certificate.refresh().unwrap());
        fs::write(&files.certificate, format!("{other}\n")).unwrap();
        let error = certificate.refresh().unwrap_err();
        assert!(matches!(error, CertificateError::Mismatch { .. }), "{error}");
        assert!(!certificate.refresh().unwrap(), "it was told");
        fs::write(&files.key, format!("{other}\n\n")).unwrap();
        assert!(certificate.refresh().unwrap());
        fs::write(&files.key, "-----BEGIN NOTHING-----").unwrap();
        let error = certificate.refresh().unwrap_err();
        assert!(matches!(error, CertificateError::Malformed { .. }), "{error}");
    }
}
