//! What the kinds of tasks differ in.

use protocol_core::task;

use crate::store::Kind;

/// A kind of task that operators can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// Joins an operator to the device's SSH server.
    Ssh,
    /// The same, over the SSH server of this machine.
    OpenSsh,
    /// Starts the device anew.
    Reboot,
    /// Shows a camera.
    Video,
}

impl TaskKind {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [Self::Ssh, Self::OpenSsh, Self::Reboot, Self::Video];

    /// Its name, on the wire, in the store and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssh => task::SSH,
            Self::OpenSsh => task::OPENSSH,
            Self::Reboot => task::REBOOT,
            Self::Video => task::VIDEO,
        }
    }

    /// The kind of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name as it is sent.
    pub fn kind(self) -> Kind {
        // Both types allow the same names; a test holds it.
        self.name().parse().unwrap_or(Kind::TEXT)
    }

    /// The kinds that do what is asked for by this one: a device takes one of them.
    pub(super) const fn transports(self) -> &'static [Self] {
        match self {
            Self::Ssh => &[Self::Ssh, Self::OpenSsh],
            Self::OpenSsh => &[Self::OpenSsh],
            Self::Reboot => &[Self::Reboot],
            Self::Video => &[Self::Video],
        }
    }

    /// Whether it has bytes of its own, which somebody waits for.
    pub const fn has_bytes(self) -> bool {
        match self {
            Self::Ssh | Self::OpenSsh | Self::Video => true,
            Self::Reboot => false,
        }
    }

    /// Whether its device goes away for it, and comes back.
    pub(super) const fn goes_down(self) -> bool {
        match self {
            Self::Ssh | Self::OpenSsh | Self::Video => false,
            Self::Reboot => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TaskKind;

    #[test]
    fn names_are_names_on_the_wire() {
        for kind in TaskKind::ALL {
            assert_eq!(kind.kind().as_str(), kind.name());
            assert_eq!(TaskKind::find(kind.name()), Some(kind));
        }
    }
}
