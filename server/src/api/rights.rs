//! Who may do what: every request asks [`may`].

use std::{fs, net::IpAddr};

use protocol_core::{code::Role, message::Pin};
use tokio::time::Instant;

use crate::{
    event::Who,
    store::{OperatorId, SecretHash, rank},
};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A user of this machine.
    User {
        /// The user's number, as the kernel tells it.
        uid: u32,
    },
    /// An operator elsewhere.
    Operator(Operator),
}

/// An operator elsewhere, as the store knows them now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Their id.
    pub id: OperatorId,
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// By what they are known.
    pub credential: Credential,
    /// When what they have open ends, at the latest.
    pub until: Option<Instant>,
    /// When they were looked up, as the changes of roles are counted.
    pub moment: u64,
    /// What the access token is called by which they are known, if it is one.
    pub token: Option<String>,
    /// Where they are.
    pub address: IpAddr,
}

impl Operator {
    /// Their browser's login, if they are known by one.
    pub fn login(&self) -> Option<SecretHash> {
        match self.credential {
            Credential::Key(_) | Credential::AccessToken(_) => None,
            Credential::Login(hash) => Some(hash),
        }
    }
}

/// By what an operator is known. It never comes back once its rights were taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A key, by its pin.
    Key(Pin),
    /// A browser's login, by the hash of its secret.
    Login(SecretHash),
    /// An access token, by the hash of its secret.
    AccessToken(SecretHash),
}

impl Actor {
    /// The operator elsewhere, if it is one.
    pub const fn operator(&self) -> Option<&Operator> {
        match self {
            Self::User { .. } => None,
            Self::Operator(operator) => Some(operator),
        }
    }

    /// Their name. A user without one is told by the number.
    pub fn name(&self) -> String {
        match self {
            Self::User { uid } => {
                let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
                user_name(&users, *uid).unwrap_or_else(|| format!("uid {uid}"))
            }
            Self::Operator(operator) => operator.name.clone(),
        }
    }

    /// Their name, and where they are: for events. What is done by an access token says so: `anna/backup`.
    pub fn who(&self) -> Who {
        let (token, address) = match self {
            Self::User { .. } => (None, None),
            Self::Operator(operator) => (operator.token.as_ref(), Some(operator.address)),
        };
        let name = token.map_or_else(|| self.name(), |token| format!("{}/{token}", self.name()));
        Who { name, address }
    }

    /// What they may do, as devices are told it.
    pub fn role(&self) -> Role {
        match self {
            // Others get nowhere.
            Self::User { .. } => Role::Admin,
            Self::Operator(operator) => operator.role,
        }
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
    /// Look at its cameras, and at what was recorded of them.
    Watch,
    /// Record what its cameras show.
    Record,
    /// Throw somebody out who looks.
    StopViewer,
    /// Delete what was recorded.
    DeleteRecording,
    /// Have a task stopped.
    StopTask,
    /// Let a new device or operator in.
    Enrol,
    /// Take a device's or an operator's rights away.
    Revoke,
    /// Take the server's next key into use.
    RotateKey,
    /// Learn which ports a device may listen on now.
    AuthorizeKey,
    /// Stop the server.
    Stop,
    /// Change one's own password, second factor, logins and access tokens.
    OwnAccount,
    /// Make operators, change their roles, and see and end their logins.
    ManageOperators,
}

impl Action {
    /// Its name, in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Send => "send",
            Self::Ping => "ping",
            Self::Ssh => "ssh",
            Self::Reboot => "reboot",
            Self::Watch => "watch",
            Self::Record => "record",
            Self::StopViewer => "stop-viewer",
            Self::DeleteRecording => "delete-recording",
            Self::StopTask => "stop-task",
            Self::Enrol => "enrol",
            Self::Revoke => "revoke",
            Self::RotateKey => "rotate-key",
            Self::AuthorizeKey => "authorize-key",
            Self::Stop => "stop",
            Self::OwnAccount => "own-account",
            Self::ManageOperators => "manage-operators",
        }
    }

    /// The least role that may do it.
    const fn least_role(self) -> Role {
        match self {
            Self::Look | Self::OwnAccount | Self::Watch => Role::Viewer,
            Self::Send
            | Self::Ping
            | Self::Ssh
            | Self::Reboot
            | Self::StopTask
            | Self::Record
            | Self::StopViewer => Role::Operator,
            Self::Enrol
            | Self::Revoke
            | Self::RotateKey
            | Self::AuthorizeKey
            | Self::Stop
            | Self::DeleteRecording
            | Self::ManageOperators => Role::Admin,
        }
    }
}

/// What it is to be done to. Every role is for all of them, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// The server itself.
    Server,
    /// All devices.
    Devices,
    /// The device of this name, which may not exist.
    Device(&'a str),
    /// All operators.
    Operators,
    /// The operator of this name, who may not exist.
    Operator(&'a str),
}

/// The answer to one who may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A user of this machine asked.
    #[error("user {0} may not do this")]
    User(u32),
    /// An operator of this role asked.
    #[error("whoever has the role {0} may not do this")]
    Role(Role),
    /// A program asked for what a person does.
    #[error("no access token may do this")]
    AccessToken,
}

/// The one place where rights are decided: may `actor` do this to that?
///
/// Whoever reaches the socket as the server's own user, or as root, may do everything, other users nothing. Operators
/// elsewhere may do what their role allows: a viewer may look; an operator also works with devices; an admin may do all.
/// An access token may do what its operator may, but for what is about their own account.
///
/// # Errors
/// [`Denied`] if not.
pub fn may(actor: &Actor, action: Action, _: Object<'_>) -> Result<(), Denied> {
    match actor {
        Actor::User { uid } if [0, rustix::process::geteuid().as_raw()].contains(uid) => Ok(()),
        Actor::User { uid } => Err(Denied::User(*uid)),
        // Whoever finds a token must not make more of it than it is.
        Actor::Operator(Operator { token: Some(_), .. }) if action == Action::OwnAccount => {
            Err(Denied::AccessToken)
        }
        Actor::Operator(operator) if rank(operator.role) >= rank(action.least_role()) => Ok(()),
        Actor::Operator(operator) => Err(Denied::Role(operator.role)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_and_root_may_and_others_may_not() {
        let own = rustix::process::geteuid().as_raw();
        for uid in [own, 0] {
            assert!(may(&Actor::User { uid }, Action::Stop, Object::Server).is_ok());
        }
        let other = own.wrapping_add(12_345).max(1);
        for action in [
            Action::Look,
            Action::Send,
            Action::Ping,
            Action::Ssh,
            Action::Reboot,
            Action::Watch,
            Action::Record,
            Action::StopViewer,
            Action::DeleteRecording,
            Action::StopTask,
            Action::Enrol,
            Action::Revoke,
            Action::RotateKey,
            Action::AuthorizeKey,
            Action::Stop,
            Action::OwnAccount,
            Action::ManageOperators,
        ] {
            for object in [Object::Server, Object::Devices, Object::Device("a")] {
                assert!(may(&Actor::User { uid: other }, action, object).is_err());
            }
        }
    }

    #[test]
    fn a_role_that_is_not_known_may_nothing() {
        let address = "192.0.2.1".parse().unwrap();
        let (id, name, credential) = (OperatorId(1), "anna".to_owned(), Credential::Key(Pin([1; 32])));
        let role = Role::Other(4);
        let anna = Actor::Operator(Operator {
            id,
            name,
            role,
            credential,
            until: None,
            moment: 0,
            token: None,
            address,
        });
        assert!(may(&anna, Action::Look, Object::Devices).is_err());
    }

    #[test]
    fn users_have_names() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(user_name(users, 0).as_deref(), Some("root"));
        assert_eq!(user_name(users, 1000).as_deref(), Some("anna"));
        assert_eq!(user_name(users, 7), None);
    }
}
