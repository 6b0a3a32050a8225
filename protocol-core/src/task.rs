//! What tasks, and what is in them, are called (`docs/protocol.md`, Tasks).

/// The kind of a task that joins an operator to the device's SSH server.
pub const SSH: &str = "ssh";

/// The kind of a task that does the same by an SSH server on the server's machine.
pub const OPENSSH: &str = "openssh";

/// The kind of a task that starts the device anew.
pub const REBOOT: &str = "reboot";

/// The kind of a task that shows one of the device's cameras.
pub const VIDEO: &str = "video";

/// Whether this can be the name of a user, as whom somebody logs in by ssh: `[a-z_][a-z0-9_-]{0,31}`. So it is no option of
/// ssh, and no more than one word anywhere.
pub fn is_user_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let mut bytes = name.bytes();
    name.len() <= 32
        && bytes.next().is_some_and(is_letter)
        && bytes.all(|byte| is_letter(byte) || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::is_user_name;

    #[test]
    fn names_of_users() {
        for good in ["a", "_apt", "ada-2_x", "u2345678901234567890123456789012"] {
            assert!(is_user_name(good), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "1st",
            "Ada",
            "a b",
            "a@b",
            "a%u",
            "a;b",
            "\u{e9}",
            "root\n",
            "u23456789012345678901234567890123",
        ] {
            assert!(!is_user_name(bad), "{bad:?}");
        }
    }
}
