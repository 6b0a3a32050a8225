//! This machine's own SSH server as a way to devices: the account that they log in to, what they are told of it, and the
//! ports behind which they are found.

use std::{
    fs::File,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use nix::unistd::User;
use protocol_core::message::{HostKey, MAX_HOST_KEYS, OpenSshParameters, Text};
use sha2::{Digest, Sha256};
use tokio::net::{TcpSocket, TcpStream};

use crate::config::{SSH_ACCOUNT, SshAccount};

/// The account's name.
pub const ACCOUNT: &str = SSH_ACCOUNT;

/// The type of devices' keys.
pub const KEY_TYPE: &str = "ecdsa-sha2-nistp256";

/// The longest file of a host key that is read, in bytes.
const LONGEST_FILE: u64 = 4 * 1024;

/// The longest parameters of a task: they fit a frame with much else.
const LONGEST_PARAMETERS: usize = 4 * 1024;

/// Where connections to devices come from: another address than that of the ports, so that none can meet itself.
const SOURCE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);

/// What stands before the point of a P-256 key in its SubjectPublicKeyInfo.
const KEY_INFO: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What stands before the point in the key as SSH has it: two names and a length, each behind a length.
const KEY_HEAD: &[u8] = b"\0\0\0\x13ecdsa-sha2-nistp256\0\0\0\x08nistp256\0\0\0\x41";

/// The length of a point that is not compressed.
const POINT: usize = 65;

/// Why devices can't come by this machine's SSH server.
#[derive(Debug, thiserror::Error)]
pub enum SshAccountError {
    /// No host key is known.
    #[error(
        "no host key of this machine's SSH server is found ({}); install openssh-server, or correct [ssh-account] host-keys in server.toml",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoHostKey(Vec<PathBuf>),
    /// What a device has to be told has no room.
    #[error("[ssh-account] host-keys in server.toml are longer than a device can be told; leave some away")]
    TooLong,
    /// There is no port.
    #[error("there is no free port on loopback: {0}")]
    NoPort(io::Error),
    /// The account is not there.
    #[error("there is no account {0} on the server's machine: run `holdfast setup-ssh-account` there")]
    NoAccount(String),
    /// It is not known whether the account is there.
    #[error("the account {0} of the server's machine can't be looked up: {1}")]
    Account(String, io::Error),
    /// It is not known who listens.
    #[error("it can't be seen who listens on the server's machine: {0}")]
    Look(io::Error),
    /// The device keeps what it was given for earlier sessions.
    #[error("the device still listens on the ports of {} sessions that are over; {}", .0.len(), end_logins(.0))]
    Kept(Vec<u16>),
}

/// What is to be done about logins that listen on these ports, though their sessions are over.
pub fn end_logins(ports: &[u16]) -> String {
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    format!(
        "as root on the server's machine: `ss -ltnp` names sshd's process at 127.0.0.1:{}, and `kill PROCESS` ends its login",
        ports.join(" and :")
    )
}

/// The account's user.
///
/// # Errors
/// [`SshAccountError::NoAccount`] and [`SshAccountError::Account`].
pub fn user(account: &SshAccount) -> Result<u32, SshAccountError> {
    let found = User::from_name(&account.name);
    let found = found.map_err(|error| SshAccountError::Account(account.name.clone(), error.into()))?;
    found.map(|user| user.uid.as_raw()).ok_or_else(|| SshAccountError::NoAccount(account.name.clone()))
}

/// What a device is told that is to be found behind this port. Reads the host keys' files.
///
/// # Errors
/// [`SshAccountError`].
pub fn parameters(account: &SshAccount, listen: u16) -> Result<Vec<u8>, SshAccountError> {
    let keys: Vec<_> =
        account.host_keys.iter().filter_map(|path| read_key(path)).take(MAX_HOST_KEYS).collect();
    if keys.is_empty() {
        return Err(SshAccountError::NoHostKey(account.host_keys.clone()));
    }
    let parameters = OpenSshParameters {
        port: account.port,
        account: Text::shortened(&account.name),
        listen,
        host_keys: keys.iter().map(|key| HostKey(key)).collect(),
    };
    let mut room = vec![0; LONGEST_PARAMETERS];
    Ok(parameters.encode(&mut room).ok_or(SshAccountError::TooLong)?.to_vec())
}

/// The key in a file `ssh_host_…_key.pub`, if there is one.
fn read_key(path: &Path) -> Option<Vec<u8>> {
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST_FILE).read_to_string(&mut text).ok()?;
    let key = STANDARD.decode(text.split_whitespace().nth(1)?).ok()?;
    (!key.is_empty()).then_some(key)
}

/// By what a device's key is known here: nothing if this is no key that a device may have.
pub fn fingerprint(kind: &str, key: &str) -> Option<[u8; 32]> {
    let bytes = STANDARD.decode(key).ok().filter(|_| kind == KEY_TYPE)?;
    let point = bytes.strip_prefix(KEY_HEAD).filter(|point| point.len() == POINT)?;
    Some(Sha256::new().chain_update(KEY_INFO).chain_update(point).finalize().into())
}

/// What SSH's server is told of a device's key: that it may listen on these ports of loopback, and do nothing else.
pub fn authorized_key(key: &str, ports: &[u16]) -> String {
    let listen: String = ports.iter().map(|port| format!("permitlisten=\"127.0.0.1:{port}\",")).collect();
    // There is no word for no target. No host ever has a name of this ending (RFC 6761).
    format!("restrict,port-forwarding,{listen}permitopen=\"nowhere.invalid:1\" {KEY_TYPE} {key}")
}

/// A port of loopback that nobody listens on now.
///
/// # Errors
/// What the system says.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Connects to the SSH server behind this port of loopback; nothing if somebody listens there, and there is none.
///
/// # Errors
/// What the system says: nobody listens.
pub async fn connect(port: u16) -> io::Result<Option<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SOURCE)?;
    let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
    stream.set_nodelay(true)?;
    // An SSH server speaks first.
    let speaks = stream.peek(&mut [0]).await.is_ok_and(|count| count > 0);
    Ok(speaks.then_some(stream))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    const KEY: &str = "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGsX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU=";

    #[test]
    fn a_key_is_the_same_in_both_shapes() {
        let point = &STANDARD.decode(KEY).unwrap()[KEY_HEAD.len()..];
        let info = [&KEY_INFO[..], point].concat();
        assert_eq!(info.len(), 91);
        assert_eq!(fingerprint(KEY_TYPE, KEY), Some(Sha256::digest(info).into()));
        for (kind, key) in [("ssh-ed25519", KEY), (KEY_TYPE, &KEY[4..]), (KEY_TYPE, "!"), (KEY_TYPE, "")] {
            assert_eq!(fingerprint(kind, key), None);
        }
        let longer = STANDARD.encode([STANDARD.decode(KEY).unwrap(), vec![0]].concat());
        assert_eq!(fingerprint(KEY_TYPE, &longer), None);
    }

    #[test]
    fn a_device_is_told_of_the_host_keys_that_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let (there, empty) = (directory.path().join("there.pub"), directory.path().join("empty.pub"));
        fs::write(&there, format!("{KEY_TYPE} {KEY} root@fleet\n")).unwrap();
        fs::write(&empty, "\n").unwrap();
        let missing = directory.path().join("missing.pub");
        let mut account =
            SshAccount { host_keys: vec![missing.clone(), empty, there], ..SshAccount::default() };
        let told = parameters(&account, 40_000).unwrap();
        let read = OpenSshParameters::decode(&told).unwrap();
        assert_eq!((read.port, read.listen), (22, 40_000));
        assert_eq!(read.host_keys.iter().map(|key| STANDARD.encode(key.0)).collect::<Vec<_>>(), [KEY]);
        account.host_keys = vec![missing];
        let error = parameters(&account, 40_000).unwrap_err().to_string();
        assert!(error.contains("missing.pub") && error.contains("[ssh-account]"), "{error}");
    }

    #[tokio::test]
    async fn a_port_is_free_until_somebody_listens_there() {
        let port = free_port().unwrap();
        assert!(connect(port).await.is_err());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let serve = std::thread::spawn(move || {
            drop(listener.accept().unwrap());
            listener.accept().unwrap().0.write_all(b"SSH-2.0").unwrap();
        });
        assert!(connect(port).await.unwrap().is_none());
        assert!(connect(port).await.unwrap().is_some_and(|found| found.peer_addr().unwrap().port() == port));
        serve.join().unwrap();
    }
}
