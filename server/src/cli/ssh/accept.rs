//! `accept-host-key`: another key of a device's SSH server is the right one now.

use clap::Args;

use super::device_name;
use crate::{
    api::view::{AcceptedHostKey, HostKeyRequest, HostKeyView, HostKeysView, ShownHostKey},
    cli::{
        api_client::ApiClient,
        confirm::confirm,
        devices::path,
        error::CliError,
        output::{Cell, Output, clock},
    },
};

/// The arguments of `accept-host-key`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct AcceptHostKey {
    /// The device's name; DEVICE.fleet will do
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The key's type, as ssh-ed25519 [default: the key that was shown last and is not registered]
    #[arg(value_name = "TYPE", requires = "key")]
    kind: Option<String>,
    /// The key, as in /etc/ssh/ssh_host_ed25519_key.pub on the device
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Accept the key that was shown last without a question
    #[arg(long, conflicts_with = "key")]
    yes: bool,
}

/// `holdfast accept-host-key DEVICE [TYPE KEY]`.
pub(in crate::cli) async fn accept(
    api: &ApiClient,
    accept: &AcceptHostKey,
    output: &mut Output,
) -> Result<(), CliError> {
    let name = &device_name(&accept.device);
    let request = match (&accept.kind, &accept.key) {
        (Some(kind), Some(key)) => HostKeyRequest { kind: kind.clone(), key: key.clone() },
        _ => {
            if output.json && !accept.yes {
                return Err(CliError::Usage("--json asks nothing: add --yes, or TYPE and KEY".to_owned()));
            }
            let keys: HostKeysView = api.get(&path(name, "/host-key")).await?;
            let shown = last_shown(&keys)?;
            if !output.json {
                explain(&keys, shown);
            }
            let question = "Is this the device's key, and shall it be accepted?";
            if !accept.yes && !confirm(question, "--yes, or TYPE and KEY")? {
                return Err(CliError::failed("nothing was changed"));
            }
            HostKeyRequest { kind: shown.key.kind.clone(), key: shown.key.key.clone() }
        }
    };
    let answer: AcceptedHostKey = api.post(&path(name, "/host-key/accept"), &request).await?;
    if output.json {
        return Ok(output.json_line(&answer)?);
    }
    let (device, key) = (Cell::plain(&answer.device), Cell::plain(&answer.accepted.fingerprint));
    let place = answer.replaced.map(|replaced| format!(", in the place of {}", Cell::plain(replaced)));
    Ok(output.line(&format!("{device} is known by {key} now{}.", place.unwrap_or_default()))?)
}

/// The key that was shown last, if it is another than those that are registered.
fn last_shown(keys: &HostKeysView) -> Result<&ShownHostKey, CliError> {
    let none = || {
        CliError::failed(format!(
            "no other host key of {0} than the registered one was shown to anybody; `holdfast ssh {0}` shows one, if there is one, or give its TYPE and KEY",
            keys.device
        ))
    };
    keys.shown.as_ref().filter(|shown| !keys.registered.contains(&shown.key)).ok_or_else(none)
}

fn explain(keys: &HostKeysView, shown: &ShownHostKey) {
    let HostKeysView { device, registered, .. } = keys;
    tell_keys(device, registered, &shown.key);
    let from = shown.address.as_ref().map(|address| format!(" from {address}")).unwrap_or_default();
    let whom = shown.who.as_ref().map(|who| format!(" to {who}{from}")).unwrap_or_default();
    eprintln!("It was shown{} at {}.", Cell::plain(whom), clock(shown.at));
    eprintln!(
        "On the device, ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub tells its own (or another type's)."
    );
}

/// Says on standard error what is registered, and what was shown.
pub(super) fn tell_keys(device: &str, registered: &[HostKeyView], shown: &HostKeyView) {
    let line = |key: &HostKeyView| format!("{} {}", Cell::plain(&key.kind), Cell::plain(&key.fingerprint));
    for key in registered {
        eprintln!("registered for {}: {}", Cell::plain(device), line(key));
    }
    if registered.is_empty() {
        eprintln!("registered for {}: no host key", Cell::plain(device));
    }
    eprintln!("shown: {}", line(shown));
}
