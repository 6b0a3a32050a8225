//! Who may do what: every request asks [`may`].

use std::fs;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The user of this machine, as the kernel tells it.
    pub uid: u32,
}

impl Actor {
    /// The user's name, or the number where there is none: for events.
    pub fn name(&self) -> String {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        user_name(&users, self.uid).unwrap_or_else(|| format!("uid {}", self.uid))
    }
}

/// The name of a user in the text of `/etc/passwd`.
fn user_name(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == uid).then(|| name.to_owned())
    })
}

/// What someone wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// See what is known.
    Look,
    /// Send a message.
    Send,
    /// Ask for a sign of life.
    Ping,
    /// Reach its SSH server.
    Ssh,
    /// Start it anew.
    Reboot,
    /// Have a task stopped.
    StopTask,
    /// Let a new device in.
    Enrol,
    /// Take a device's rights away.
    Revoke,
    /// Take the server's next key into use.
    RotateKey,
    /// Stop the server.
    Stop,
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// The server itself.
    Server,
    /// All devices.
    Devices,
    /// The device of this name, which may not exist.
    Device(&'a str),
}

/// The answer to one who may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("user {uid} may not do this")]
pub struct Denied {
    /// Who asked.
    pub uid: u32,
}

/// The one place where rights are decided: may `actor` do this to that?
///
/// Whoever reaches the socket as the server's own user, or as root, may do everything; nobody else anything.
///
/// # Errors
/// [`Denied`] if not.
pub fn may(actor: &Actor, action: Action, object: Object<'_>) -> Result<(), Denied> {
    let own = rustix::process::geteuid().as_raw();
    if actor.uid == own || actor.uid == 0 {
        return Ok(());
    }
    tracing::warn!(uid = actor.uid, ?action, ?object, "denied");
    Err(Denied { uid: actor.uid })
}

#[cfg(test)]
mod tests {
    use super::{Action, Actor, Object, may, user_name};

    #[test]
    fn the_own_user_and_root_may_and_others_may_not() {
        let own = rustix::process::geteuid().as_raw();
        for uid in [own, 0] {
            assert!(may(&Actor { uid }, Action::Stop, Object::Server).is_ok());
        }
        let other = own.wrapping_add(12_345).max(1);
        for action in [
            Action::Look,
            Action::Send,
            Action::Ping,
            Action::Ssh,
            Action::Reboot,
            Action::StopTask,
            Action::Enrol,
            Action::Revoke,
            Action::RotateKey,
            Action::Stop,
        ] {
            for object in [Object::Server, Object::Devices, Object::Device("a")] {
                assert!(may(&Actor { uid: other }, action, object).is_err());
            }
        }
    }

    #[test]
    fn users_have_names() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(user_name(users, 0).as_deref(), Some("root"));
        assert_eq!(user_name(users, 1000).as_deref(), Some("anna"));
        assert_eq!(user_name(users, 7), None);
    }
}
