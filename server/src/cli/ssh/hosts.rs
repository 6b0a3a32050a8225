//! `known-hosts`: the host keys of devices, as ssh asks for them.

use clap::Args;

use super::{DOMAIN, accept::tell_keys, device_name, host_name};
use crate::{
    api::view::{DeviceView, HostKeyRequest, HostKeyView, Page},
    cli::{
        api_client::ApiClient,
        devices,
        error::CliError,
        output::{Cell, Output},
    },
    host_key::HostKey,
};

/// What ssh says in place of a type where it has been shown no key yet.
const NO_KEY: &str = "NONE";

/// The arguments of `known-hosts`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct KnownHosts {
    /// The host as ssh names it: DEVICE, DEVICE.fleet, or [DEVICE.fleet]:PORT [default: all devices]
    #[arg(value_name = "HOST")]
    host: Option<String>,
    /// The key that the host has shown (ssh's %t and %K): one that is not registered is an event
    #[arg(long, num_args = 2, value_names = ["TYPE", "KEY"], requires = "host")]
    shown: Vec<String>,
}

/// `holdfast known-hosts [HOST]`.
pub(in crate::cli) async fn known_hosts(
    api: &ApiClient,
    known: &KnownHosts,
    output: &mut Output,
) -> Result<(), CliError> {
    let Some(host) = known.host.as_deref() else {
        let Page { items, .. } = api.get::<Page<DeviceView>>("/api/v1/devices").await?;
        for device in items.iter().filter(|device| device.revoked.is_none()) {
            if let Some(name) = host_name(device) {
                write(output, &format!("{name},{name}{DOMAIN}"), device)?;
            }
        }
        return Ok(());
    };
    let name = &device_name(without_port(host));
    let device: DeviceView = api.get(&devices::path(name, "")).await?;
    if let [kind, key] = known.shown.as_slice()
        && !keys(&device).any(|registered| registered == (kind.as_str(), key.as_str()))
        && kind != NO_KEY
    {
        explain(&device, kind, key);
        let request = HostKeyRequest { kind: kind.clone(), key: key.clone() };
        let () = api.post(&devices::path(name, "/host-key"), &request).await?;
    }
    // Under the name that ssh looks for, letter by letter: it is a device's, with what ssh put around it.
    Ok(write(output, host, &device)?)
}

/// Says why ssh will refuse this key, beside ssh's own words: those are of files that have no part in it.
fn explain(device: &DeviceView, kind: &str, key: &str) {
    let Ok(shown) = HostKey::new(kind, key) else { return };
    let view = |key: HostKey| HostKeyView {
        kind: key.kind().to_owned(),
        key: key.base64(),
        fingerprint: key.fingerprint(),
    };
    let registered: Vec<_> =
        keys(device).filter_map(|(kind, key)| HostKey::new(kind, key).ok()).map(view).collect();
    eprintln!("holdfast: this host key is not registered, and is refused.");
    tell_keys(&device.name, &registered, &view(shown));
    eprintln!(
        "If you know why (its SSH server was set up anew, or only after it was enrolled), an admin accepts it: holdfast accept-host-key {}",
        Cell::plain(&device.name)
    );
}

fn write(output: &mut Output, host: &str, device: &DeviceView) -> std::io::Result<()> {
    keys(device).try_for_each(|(kind, key)| output.line(&format!("{host} {kind} {key}")))
}

/// The device's keys, type and base64: what else it may have registered is left out.
fn keys(device: &DeviceView) -> impl Iterator<Item = (&str, &str)> {
    device.ssh_host_keys.iter().filter_map(|line| {
        let mut words = line.split(' ');
        let (kind, key) = (words.next()?, words.next()?);
        let is_kind = !kind.is_empty()
            && kind.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-.@".contains(&letter))
            && !kind.starts_with('@');
        let is_key = !key.is_empty()
            && key.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"+/=".contains(&letter));
        (is_kind && is_key).then_some((kind, key))
    })
}

/// `[host]:port` as `host`.
fn without_port(host: &str) -> &str {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    match host.strip_prefix('[').and_then(|host| host.split_once("]:")) {
        Some((host, port)) if is_port(port) => host,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn a_host_with_its_port() {
        assert_eq!(without_port("[kiosk.fleet]:2222"), "kiosk.fleet");
        for host in ["kiosk.fleet", "[kiosk]:22 evil", "[kiosk]:", "[kiosk"] {
            assert_eq!(without_port(host), host);
        }
    }
}
