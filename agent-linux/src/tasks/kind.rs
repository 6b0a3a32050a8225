//! The kinds of tasks that this agent can do, and which of them this device takes, from whom.

use std::time::Duration;

use protocol_core::{
    code::Role,
    message::{Camera as CameraName, Cameras, Kind as KindName, Order, VideoParameters},
    task,
};

use super::{
    Contact,
    assignment::Work,
    data::DataConnection,
    openssh::{OpenSsh, Target},
    program::Program,
    ssh::Ssh,
    supervisor::Restart,
    video::Video,
};
use crate::config::{AllowedRole, Camera, Picture, TaskRules, Transport};

/// A kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Joins an operator to this device's SSH server.
    Ssh,
    /// The same, over a stock ssh to the server's SSH server.
    OpenSsh,
    /// Starts this device anew.
    Reboot,
    /// Shows one of this device's cameras.
    Video,
}

/// Why a task is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this device takes no tasks of the kind {0:?}")]
    Unknown(String),
    #[error("this device takes no {kind}: its agent.toml says [{table}] allow = []")]
    SwitchedOff { kind: &'static str, table: &'static str },
    #[error(
        "this device takes {kind} from {allowed} alone ([{table}] allow in its agent.toml), not from the role {role}"
    )]
    NotFrom { kind: &'static str, table: &'static str, allowed: String, role: Role },
    #[error("this device has another [tasks.ssh] transport in its agent.toml than {kind}")]
    OtherTransport { kind: &'static str },
    #[error("this device's agent knows no parameters of {kind}; update it")]
    Parameters { kind: &'static str },
    #[error("this device has no cameras: there are no [[cameras]] in its agent.toml")]
    NoCameras,
    #[error("this device has no camera {name:?} in its agent.toml, but {}", cameras.join(", "))]
    NoCamera { name: String, cameras: Vec<String> },
}

impl Kind {
    const ALL: [Self; 4] = [Self::Ssh, Self::OpenSsh, Self::Reboot, Self::Video];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ssh => task::SSH,
            Self::OpenSsh => task::OPENSSH,
            Self::Reboot => task::REBOOT,
            Self::Video => task::VIDEO,
        }
    }

    /// The table of `agent.toml` that has the rules for it.
    const fn table(self) -> &'static str {
        match self {
            Self::Ssh | Self::OpenSsh => "tasks.ssh",
            Self::Reboot => "tasks.reboot",
            Self::Video => "tasks.video",
        }
    }

    /// Whether it is done in the way that the configuration chooses, and can be.
    fn is_chosen(self, rules: &TaskRules) -> bool {
        match self {
            Self::Ssh => rules.ssh.transport == Transport::Holdfast,
            Self::OpenSsh => rules.ssh.transport == Transport::OpenSsh,
            Self::Reboot => true,
            Self::Video => !rules.video.cameras.is_empty(),
        }
    }

    fn allow(self, rules: &TaskRules) -> &[AllowedRole] {
        match self {
            Self::Ssh | Self::OpenSsh => &rules.ssh.allow,
            Self::Reboot => &rules.reboot.allow,
            Self::Video => &rules.video.allow,
        }
    }

    /// The cameras that this device shows to anybody at all.
    pub(super) fn cameras(rules: &TaskRules) -> Cameras<'_> {
        let shown = if rules.video.allow.is_empty() { &[] } else { rules.video.cameras.as_slice() };
        Cameras { cameras: shown.iter().filter_map(told).collect() }
    }

    /// The names of the kinds that this device takes from anybody at all.
    pub(super) fn offered(rules: &TaskRules) -> impl Iterator<Item = KindName<'static>> {
        let is_taken = |kind: &Self| kind.is_chosen(rules) && !kind.allow(rules).is_empty();
        let taken = Self::ALL.into_iter().filter(is_taken);
        taken.filter_map(|kind| KindName::new(kind.name()))
    }

    /// The kind that is ordered, if this device takes it from whoever asks: whatever the server says, the rules decide.
    pub(super) fn admit(order: &Order<'_>, rules: &TaskRules) -> Result<Self, Refusal> {
        let unknown = || Refusal::Unknown(order.kind.as_str().to_owned());
        let found =
            Self::ALL.into_iter().find(|kind| kind.name() == order.kind.as_str()).ok_or_else(unknown)?;
        let (kind, table, allow) = (found.name(), found.table(), found.allow(rules));
        if allow.is_empty() {
            return Err(Refusal::SwitchedOff { kind, table });
        }
        if !found.is_chosen(rules) {
            return Err(match found {
                Self::Video => Refusal::NoCameras,
                _ => Refusal::OtherTransport { kind },
            });
        }
        if !allow.iter().any(|asker| asker.role() == order.role) {
            let names: Vec<_> = allow.iter().map(|asker| asker.role().to_string()).collect();
            return Err(Refusal::NotFrom { kind, table, allowed: names.join(" and "), role: order.role });
        }
        Ok(found)
    }

    /// Whether a task of this kind is to end this agent, and all of the device with it.
    pub(super) const fn goes_down(self) -> bool {
        matches!(self, Self::Reboot)
    }

    /// Whether a task of this kind is begun again where its process fails.
    pub(super) const fn restart(self) -> Restart {
        match self {
            // The bytes that were on their way are gone. Cameras are started anew by their task's process.
            Self::Ssh | Self::Video => Restart::Never,
            // Before there are any: an SSH server turns logins away where many come at once.
            Self::OpenSsh | Self::Reboot => Restart::OnFailure { times: 2, pause: Duration::from_secs(1) },
        }
    }

    /// What a task of this kind does, if its parameters are understood.
    pub(super) fn work(
        self,
        order: &Order<'_>,
        rules: &TaskRules,
        step: Duration,
        contact: &Contact<'_>,
    ) -> Result<Work, Refusal> {
        let not_understood = || Refusal::Parameters { kind: self.name() };
        if matches!(self, Self::Ssh | Self::Reboot) && !order.parameters.is_empty() {
            return Err(not_understood());
        }
        let data = || DataConnection { task: order.task.0, key: order.key, servers: servers(contact), step };
        Ok(match self {
            Self::Ssh => Work::Ssh(Box::new(Ssh { data: data(), address: rules.ssh.address })),
            Self::OpenSsh => Work::OpenSsh(Box::new(OpenSsh {
                key: contact.identity.key.clone(),
                target: Target::new(order.parameters, ssh_host(rules, contact)).ok_or_else(not_understood)?,
                step,
                address: rules.ssh.address,
            })),
            Self::Reboot => Work::Reboot(Program { command: rules.reboot.command.clone() }),
            Self::Video => {
                let name = VideoParameters::decode(order.parameters).ok_or_else(not_understood)?.camera;
                let cameras = &rules.video.cameras;
                let camera = cameras.iter().find(|camera| camera.name == name.as_str()).cloned();
                let no_camera = || Refusal::NoCamera {
                    name: name.to_string(),
                    cameras: cameras.iter().map(|camera| camera.name.clone()).collect(),
                };
                let camera = camera.ok_or_else(no_camera)?;
                let (silence, restarts) = (rules.video.silence, rules.video.restarts);
                Work::Video(Box::new(Video { data: data(), camera, silence, restarts }))
            }
        })
    }
}

/// A camera, as the server is told of it.
fn told(camera: &Camera) -> Option<CameraName<'_>> {
    let (name, kind) = (KindName::new(&camera.name)?, KindName::new(camera.kind().name())?);
    let asked = camera.picture();
    let number = |of: fn(Picture) -> u16| asked.map_or(0, of);
    Some(CameraName {
        name,
        kind,
        width: number(|picture| picture.width),
        height: number(|picture| picture.height),
        framerate: number(|picture| picture.framerate),
    })
}

/// Where to try to reach the server, in turn: where the session stands first of all.
fn servers(contact: &Contact<'_>) -> Vec<String> {
    let others = contact.identity.targets().into_iter().filter(|address| address != contact.server);
    std::iter::once(contact.server.to_owned()).chain(others).collect()
}

/// On which host the server's SSH server is.
fn ssh_host<'a>(rules: &'a TaskRules, contact: &Contact<'a>) -> &'a str {
    let reached = contact.server.rsplit_once(':').map_or(contact.server, |(host, _)| host);
    rules.ssh.server_host.as_deref().unwrap_or(reached)
}

#[cfg(test)]
mod tests {
    use protocol_core::message::{Secret, TaskId, Text};

    use super::*;
    use crate::config::{RebootRules, SshRules};

    fn order(kind: &'static str, role: Role) -> Order<'static> {
        Order {
            task: TaskId(1),
            kind: KindName::new(kind).unwrap(),
            role,
            who: Text::new("ada").unwrap(),
            key: Secret([0; 16]),
            limit: 0,
            parameters: &[],
        }
    }

    fn rules(ssh: &[AllowedRole], reboot: &[AllowedRole]) -> TaskRules {
        TaskRules {
            ssh: SshRules { allow: ssh.to_vec(), ..SshRules::default() },
            reboot: RebootRules { allow: reboot.to_vec(), ..RebootRules::default() },
            ..TaskRules::default()
        }
    }

    #[test]
    fn every_kind_and_role_is_judged_by_the_rules_alone() {
        use AllowedRole::{Admin, Operator, Viewer};
        let roles = [(Role::Viewer, Viewer), (Role::Operator, Operator), (Role::Admin, Admin)];
        let allows: [&[AllowedRole]; 5] =
            [&[], &[Operator], &[Admin], &[Admin, Operator], &[Viewer, Operator, Admin]];
        for ssh in allows {
            for reboot in allows {
                let rules = rules(ssh, reboot);
                for (role, asker) in roles {
                    let admitted = |kind| Kind::admit(&order(kind, role), &rules).is_ok();
                    assert_eq!(admitted("ssh"), ssh.contains(&asker), "{role} {ssh:?}");
                    assert_eq!(admitted("reboot"), reboot.contains(&asker), "{role} {reboot:?}");
                    assert!(!admitted("video") && !admitted("surgery"));
                }
                for unknown in [Role::Other(0), Role::Other(4), Role::Other(u16::MAX)] {
                    assert!(Kind::admit(&order("ssh", unknown), &rules).is_err());
                }
            }
        }
    }

    #[test]
    fn refusals_say_what_would_have_to_change() {
        let told = |order: &Order<'_>, rules| Kind::admit(order, &rules).unwrap_err().to_string();
        let viewer = order("ssh", Role::Viewer);
        assert_eq!(
            told(&viewer, TaskRules::default()),
            "this device takes ssh from operator and admin alone ([tasks.ssh] allow in its agent.toml), not from the role viewer"
        );
        assert!(told(&viewer, rules(&[], &[])).contains("[tasks.ssh] allow = []"));
        let offered = |rules| Kind::offered(&rules).map(|kind| kind.to_string()).collect::<Vec<_>>();
        assert_eq!(offered(TaskRules::default()), ["ssh", "reboot"]);
        assert_eq!(offered(rules(&[], &[AllowedRole::Admin])), ["reboot"]);
        assert!(offered(rules(&[], &[])).is_empty());
        let openssh = |allow: &[AllowedRole]| {
            let mut rules = rules(allow, &[]);
            rules.ssh.transport = Transport::OpenSsh;
            rules
        };
        assert_eq!(offered(openssh(&[AllowedRole::Admin])), ["openssh"]);
        assert!(offered(openssh(&[])).is_empty());
        assert!(
            told(&order("ssh", Role::Admin), openssh(&[AllowedRole::Admin])).contains("another [tasks.ssh]")
        );
        assert!(told(&order("openssh", Role::Admin), openssh(&[])).contains("[tasks.ssh] allow = []"));
        assert!(Kind::admit(&order("openssh", Role::Admin), &openssh(&[AllowedRole::Admin])).is_ok());
    }
}
