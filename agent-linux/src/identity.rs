//! Who this device is, and which servers it trusts: key, pins, addresses.
//!
//! The key is made here, is on disk before it is used, and never leaves the device.

use std::{fmt, fmt::Write as _};

use protocol_core::message::{Endpoints, Enrolled, Pin};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::state::{StateDirectory, StateError};

const FILE: &str = "identity.toml";

/// The key with which an enrolment was begun, until its answer has come.
const BEGUN_FILE: &str = "enrolment.toml";

/// What the device keeps of an enrolment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The name that the server knows the device by.
    pub name: String,
    /// The key that the server shows, or
    #[serde(with = "hexadecimal")]
    pub current: Pin,
    /// the one that comes after it.
    #[serde(with = "hexadecimal")]
    pub next: Pin,
    /// Where the server was reached, `host:port`, best first.
    pub addresses: Vec<String>,
    /// Where it says that it can be reached. They take the place of `addresses` when one of them has served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    /// The device's key.
    pub key: DeviceKey,
}

/// The device's secret key: P-256, as PKCS #8 in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceKey(String);

impl fmt::Debug for DeviceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DeviceKey(…)")
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It can't be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file is damaged.
    #[error(
        "{file} in the state directory is damaged ({what}); restore it, or enrol this device again with --again"
    )]
    Damaged {
        /// The file's name.
        file: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// No key could be made of the system's random numbers.
    #[error("no key could be made: {0}; has the system a source of random numbers (/dev/urandom)?")]
    Key(rcgen::Error),
}

impl DeviceKey {
    fn make() -> Result<Self, IdentityError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
        Ok(Self(pair.serialize_pem()))
    }

    /// The key as a file has it. It is a secret.
    pub fn pem(&self) -> &str {
        &self.0
    }

    /// The key as it signs.
    ///
    /// # Errors
    /// [`IdentityError::Damaged`].
    pub fn pair(&self) -> Result<KeyPair, IdentityError> {
        KeyPair::from_pkcs8_pem_and_sign_algo(&self.0, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| IdentityError::Damaged { file: FILE, what: error.to_string() })
    }
}

impl Identity {
    /// Reads the identity; nothing if the device is not enrolled.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(state: &StateDirectory) -> Result<Option<Self>, IdentityError> {
        let damaged =
            |error: toml::de::Error| IdentityError::Damaged { file: FILE, what: error.message().to_owned() };
        state.read(FILE)?.map(|text| toml::from_slice(&text).map_err(damaged)).transpose()
    }

    /// The identity that an answer to an enrolment gives, if the enrolment went to `addresses`.
    pub fn new(enrolled: &Enrolled<'_>, addresses: Vec<String>, key: DeviceKey) -> Self {
        let mut identity = Self {
            name: enrolled.name.as_str().to_owned(),
            current: enrolled.endpoints.current,
            next: enrolled.endpoints.next,
            addresses,
            candidates: Vec::new(),
            key,
        };
        identity.learn(&enrolled.endpoints);
        identity
    }

    /// Takes over where, and by which keys, the server says that it is found. Gives whether that is news.
    fn learn(&mut self, endpoints: &Endpoints<'_>) -> bool {
        let before = self.clone();
        (self.current, self.next) = (endpoints.current, endpoints.next);
        let said: Vec<_> = endpoints.addresses.iter().map(|address| address.as_str().to_owned()).collect();
        self.candidates = if said == self.addresses { Vec::new() } else { said };
        *self != before
    }

    /// Where to try to reach the server, in turn.
    pub fn targets(&self) -> Vec<String> {
        let mut targets = self.candidates.clone();
        targets.extend(self.addresses.iter().filter(|address| !self.candidates.contains(address)).cloned());
        targets
    }

    /// Notes that `address` has served, that the server calls the device `name`, and where it says that it
    /// is found. Writes only news, and nothing if the device was enrolled anew meanwhile.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn update(
        &mut self,
        state: &StateDirectory,
        address: &str,
        name: &str,
        endpoints: Option<&Endpoints<'_>>,
    ) -> Result<(), IdentityError> {
        let before = self.clone();
        name.clone_into(&mut self.name);
        if self.candidates.iter().any(|candidate| candidate == address) {
            self.addresses = std::mem::take(&mut self.candidates);
        }
        if let Some(endpoints) = endpoints {
            self.learn(endpoints);
        }
        if *self == before {
            return Ok(());
        }
        let _lock = state.lock_identity()?;
        match Self::read(state)? {
            Some(kept) if kept.key == self.key => self.write(state),
            _ => Ok(()),
        }
    }

    fn write(&self, state: &StateDirectory) -> Result<(), IdentityError> {
        Ok(state.write(FILE, &to_toml(FILE, self)?)?)
    }
}

/// An enrolment that was begun: a lost answer can be asked for again with the same key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Begun {
    /// The SHA-256 of the token, as hexadecimal digits.
    token: String,
    /// The key that the device will have.
    pub key: DeviceKey,
}

impl Begun {
    /// Whether an enrolment was begun here before, by whatever token, and not finished.
    pub fn is_begun(state: &StateDirectory) -> bool {
        state.file(BEGUN_FILE).exists()
    }

    /// Makes a key for an enrolment by `token`, or finds the one with which it was begun before. It is on
    /// disk.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn begin(state: &StateDirectory, token: &[u8; 16]) -> Result<Self, IdentityError> {
        let token = digits(&Sha256::digest(token));
        let before = state.read(BEGUN_FILE)?.and_then(|text| toml::from_slice::<Self>(&text).ok());
        if let Some(before) = before.filter(|before| before.token == token && before.key.pair().is_ok()) {
            return Ok(before);
        }
        let begun = Self { token, key: DeviceKey::make()? };
        state.write(BEGUN_FILE, &to_toml(BEGUN_FILE, &begun)?)?;
        Ok(begun)
    }

    /// Makes `identity` the device's.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn finish(self, state: &StateDirectory, identity: &Identity) -> Result<(), IdentityError> {
        let _lock = state.lock_identity()?;
        identity.write(state)?;
        Ok(state.remove(BEGUN_FILE)?)
    }

    /// Removes the key: nobody has registered it.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn forget(self, state: &StateDirectory) -> Result<(), IdentityError> {
        Ok(state.remove(BEGUN_FILE)?)
    }
}

fn to_toml<T: Serialize>(file: &'static str, value: &T) -> Result<String, IdentityError> {
    toml::to_string(value).map_err(|error| IdentityError::Damaged { file, what: error.to_string() })
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A pin as 64 hexadecimal digits.
mod hexadecimal {
    use super::{Deserialize as _, Deserializer, Pin, Serializer};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(pin: &Pin, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(pin)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pin, D::Error> {
        let text = String::deserialize(deserializer)?;
        pin(&text).ok_or_else(|| D::Error::custom("expected a pin of 64 hexadecimal digits"))
    }

    fn pin(text: &str) -> Option<Pin> {
        let mut pin = Pin([0; 32]);
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (at, byte) in pin.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
        }
        Some(pin)
    }
}

#[cfg(test)]
mod tests {
    use protocol_core::message::Text;

    use super::*;

    fn endpoints<'a>(addresses: &[&'a str]) -> Endpoints<'a> {
        let addresses = addresses.iter().map(|address| Text::new(address).unwrap()).collect();
        Endpoints { current: Pin([1; 32]), next: Pin([2; 32]), addresses }
    }

    fn enrolled(state: &StateDirectory) -> Identity {
        let begun = Begun::begin(state, &[7; 16]).unwrap();
        let enrolled = Enrolled { name: Text::new("kiosk-1").unwrap(), endpoints: endpoints(&["new:1"]) };
        let identity = Identity::new(&enrolled, vec!["old:1".into()], begun.key.clone());
        begun.finish(state, &identity).unwrap();
        identity
    }

    fn state() -> (tempfile::TempDir, StateDirectory) {
        let root = tempfile::tempdir().unwrap();
        let state = StateDirectory::make(root.path()).unwrap();
        (root, state)
    }

    #[test]
    fn an_identity_is_read_as_it_was_written_and_shows_no_key() {
        let (_root, state) = state();
        assert_eq!(Identity::read(&state).unwrap(), None);
        let identity = enrolled(&state);
        assert_eq!(Identity::read(&state).unwrap(), Some(identity.clone()));
        assert!(!state.file(BEGUN_FILE).exists());
        assert!(!format!("{identity:?}").contains("PRIVATE"), "{identity:?}");
    }

    #[test]
    fn an_enrolment_that_is_begun_again_has_the_same_key() {
        let (_root, state) = state();
        let first = Begun::begin(&state, &[7; 16]).unwrap().key;
        assert_eq!(Begun::begin(&state, &[7; 16]).unwrap().key, first);
        assert_ne!(Begun::begin(&state, &[8; 16]).unwrap().key, first, "another line");
    }

    #[test]
    fn addresses_are_taken_over_when_one_of_them_has_served() {
        let (_root, state) = state();
        let mut identity = enrolled(&state);
        assert_eq!(identity.targets(), ["new:1", "old:1"]);
        identity.update(&state, "old:1", "kiosk-1", Some(&endpoints(&["new:1", "new:2"]))).unwrap();
        assert_eq!(identity.targets(), ["new:1", "new:2", "old:1"]);
        identity.update(&state, "new:2", "kiosk-2", None).unwrap();
        assert_eq!(
            (identity.addresses.as_slice(), identity.candidates.len()),
            (&["new:1".into(), "new:2".into()][..], 0)
        );
        assert_eq!(Identity::read(&state).unwrap(), Some(identity));
    }

    #[test]
    fn what_is_no_news_is_not_written() {
        let (_root, state) = state();
        let mut identity = enrolled(&state);
        identity.update(&state, "new:1", "kiosk-1", Some(&endpoints(&["new:1"]))).unwrap();
        state.remove(FILE).unwrap();
        identity.update(&state, "new:1", "kiosk-1", Some(&endpoints(&["new:1"]))).unwrap();
        identity.update(&state, "new:1", "renamed", None).unwrap();
        assert_eq!(Identity::read(&state).unwrap(), None, "nor over what another process did");
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let (_root, state) = state();
        for (text, what) in
            [(&b"name = 'x'"[..], "missing field"), (b"name = '\xff'", "utf-8"), (b"\0", "expected `=`")]
        {
            std::fs::write(state.file(FILE), text).unwrap();
            let error = Identity::read(&state).unwrap_err().to_string();
            assert!(error.starts_with("identity.toml in the state directory is damaged"), "{error}");
            assert!(error.contains(what) && error.contains("--again"), "{error}");
        }
    }

    #[test]
    fn a_damaged_beginning_is_made_anew() {
        let (_root, state) = state();
        std::fs::write(state.file(BEGUN_FILE), b"token = '\xff'").unwrap();
        let key = Begun::begin(&state, &[7; 16]).unwrap().key;
        assert_eq!(Begun::begin(&state, &[7; 16]).unwrap().key, key);
    }
}
