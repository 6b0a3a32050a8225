//! Public host keys of SSH servers.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The types of keys that OpenSSH's servers have.
const TYPES: &[&str] =
    &["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// The longest key, in bytes: RSA with 16,384 bits, and its type.
const LONGEST: usize = 2_100;

/// What is no host key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "expected the type and the base64 of a host key, as in /etc/ssh/ssh_host_ed25519_key.pub, found {kind:?} and {length} characters"
)]
pub struct InvalidHostKey {
    kind: String,
    length: usize,
}

/// A public host key of an SSH server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    kind: &'static str,
    bytes: Vec<u8>,
}

impl HostKey {
    /// The key of this type, in base64.
    ///
    /// # Errors
    /// [`InvalidHostKey`]: its type is not known, or it is not of this type.
    pub fn new(kind: &str, base64: &str) -> Result<Self, InvalidHostKey> {
        let known = TYPES.iter().find(|known| **known == kind).copied();
        let bytes = STANDARD.decode(base64).ok().filter(|bytes| bytes.len() <= LONGEST);
        known
            .zip(bytes)
            .filter(|(kind, bytes)| is_of(kind, bytes))
            .map(|(kind, bytes)| Self { kind, bytes })
            .ok_or_else(|| InvalidHostKey { kind: kind.chars().take(64).collect(), length: base64.len() })
    }

    /// The key in a line of a file `ssh_host_…_key.pub`, if there is one.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        Self::new(words.next()?, words.next()?).ok()
    }

    /// Its type: `ssh-ed25519`.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// The key in base64.
    pub fn base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// What stands in a file of keys.
    pub fn line(&self) -> String {
        format!("{} {}", self.kind, self.base64())
    }

    /// What people compare, as `ssh-keygen -l` shows it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.bytes)))
    }
}

/// Whether a key begins with its type, as all keys do: its length in four bytes, and its name.
fn is_of(kind: &str, bytes: &[u8]) -> bool {
    bytes.split_first_chunk().is_some_and(|(length, rest)| {
        usize::try_from(u32::from_be_bytes(*length)) == Ok(kind.len())
            && rest.strip_prefix(kind.as_bytes()).is_some_and(|key| !key.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::HostKey;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

    #[test]
    fn a_key_and_what_ssh_shows_of_it() {
        let key = HostKey::parse(&format!("ssh-ed25519 {KEY} root@kiosk\n")).unwrap();
        assert_eq!(key.line(), format!("ssh-ed25519 {KEY}"));
        assert_eq!(key.fingerprint(), "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA");
        assert_eq!(HostKey::new(key.kind(), &key.base64()), Ok(key));
    }

    #[test]
    fn what_is_no_key() {
        let longest = format!("AAAAC3NzaC1lZDI1NTE5{}", "A".repeat(4_000));
        for (kind, key) in [
            ("ssh-rsa", KEY),
            ("ssh-dss", KEY),
            ("-o", KEY),
            ("ssh-ed25519", "AAAA"),
            ("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5"),
            ("ssh-ed25519", "!"),
            ("ssh-ed25519", ""),
            ("ssh-ed25519", &longest),
        ] {
            assert!(HostKey::new(kind, key).is_err(), "{kind} {key}");
        }
        assert_eq!(HostKey::parse("ssh-ed25519"), None);
    }
}
