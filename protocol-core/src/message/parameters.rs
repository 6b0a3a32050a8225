//! What tasks of some kinds are told beside their kind: the `parameters` of a `TASK`.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{Kind, Text};

/// How many host keys a server has at most.
pub const MAX_HOST_KEYS: usize = 4;

/// The parameters of `openssh`: how the device's ssh logs in to the server's SSH server, and where it is to have that listen.
/// On which host that is, is for the device to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSshParameters<'a> {
    /// The SSH server's port.
    #[serde(with = "crate::narrow")]
    pub port: u16,
    /// The account to log in as.
    #[serde(borrow)]
    pub account: Text<'a, 32>,
    /// The port, on the server's loopback, behind which the device's own SSH server is to be found.
    #[serde(with = "crate::narrow")]
    pub listen: u16,
    /// The keys of which the SSH server must show one.
    #[serde(borrow)]
    pub host_keys: Vec<HostKey<'a>, MAX_HOST_KEYS>,
}

/// A public key as SSH has it in bytes (RFC 4253, section 6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKey<'a>(#[serde(with = "serde_bytes")] pub &'a [u8]);

/// The parameters of `video`: which camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoParameters<'a> {
    /// Its name, as the device has [told](super::Cameras) it.
    #[serde(borrow)]
    pub camera: Kind<'a>,
}

macro_rules! parameters {
    ($($name:ident),*) => {
        $(impl<'a> $name<'a> {
            /// Writes them; gives nothing if there is not room enough.
            pub fn encode<'b>(&self, room: &'b mut [u8]) -> Option<&'b [u8]> {
                postcard::to_slice(self, room).ok().map(|written| &*written)
            }

            /// Reads them; gives nothing if these bytes are something else, or more.
            pub fn decode(parameters: &'a [u8]) -> Option<Self> {
                match postcard::take_from_bytes(parameters) {
                    Ok((read, [])) => Some(read),
                    _ => None,
                }
            }
        })*
    };
}

parameters!(OpenSshParameters, VideoParameters);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_video_are_frozen() {
        let parameters = VideoParameters { camera: Kind::new("door").unwrap() };
        assert_eq!(parameters.encode(&mut [0; 64]), Some(&b"\x04door"[..]));
        assert_eq!(VideoParameters::decode(b"\x04door"), Some(parameters));
        for bad in [&b""[..], b"\x04doo", b"\x04doors", b"\0", b"\x04Door", b"\x04do/r"] {
            assert_eq!(VideoParameters::decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn parameters_are_read_as_they_are_written() {
        let parameters = OpenSshParameters {
            port: 22,
            account: Text::new("ssh_server").unwrap(),
            listen: 40_000,
            host_keys: [HostKey(b"one"), HostKey(b"two")].into_iter().collect(),
        };
        let mut room = [0; 256];
        let written = parameters.encode(&mut room).unwrap();
        let golden = b"\x16\x0assh_server\xc0\xb8\x02\x02\x03one\x03two";
        assert_eq!(written, golden, "they are frozen");
        assert_eq!(OpenSshParameters::decode(written), Some(parameters.clone()));
        for end in 0..golden.len() {
            assert_eq!(OpenSshParameters::decode(&golden[..end]), None, "cut at {end}");
        }
        assert_eq!(OpenSshParameters::decode(&[&golden[..], b"x"].concat()), None);
        assert_eq!(parameters.encode(&mut [0; 16]), None);
    }
}
