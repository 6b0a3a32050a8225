//! Our own tunnel, in the ways that there are of it.

use std::{fs, net::SocketAddr, path::Path, process::Command, sync::Arc};

use holdfast_tests::{system_sshd::SystemSshd, tls, wait};
use protocol_core::alpn;
use rcgen::KeyPair;
use rustls::ClientConfig;

use super::{
    client::Way,
    peers::{Running, Site, Target, Tunnel, said},
};
use crate::{
    error::{Error, Result},
    process::{self, free_port},
};

/// Starts a server, and so many devices that reach `target`.
///
/// # Errors
/// Something can't be started.
pub(crate) fn start(site: &Site, tunnel: Tunnel, target: &Target, devices: usize) -> Result<Running> {
    let data = site.file("data");
    let mut configurations = (String::new(), target.configuration.clone());
    let mut account = None;
    if tunnel == Tunnel::StockSsh {
        let sshd = SystemSshd::set_up_with(&site.holdfast, &data)?;
        configurations.0 = sshd.server_configuration();
        configurations.1.push_str("transport = 'openssh'\n");
        account = Some(sshd);
    }
    let listen = SocketAddr::new(site.server_address, free_port()?.port());
    let mut serve = Command::new(&site.holdfast);
    serve.args(["serve", "--classic", "off", "--http", "off", "--listen", &listen.to_string()]);
    serve.arg("--data").arg(&data).arg("--config").arg(site.write("server.toml", &configurations.0)?);
    let server = process::start(&serve, &site.file("server.log"), "ready:")?;
    let mut running = Running {
        ways: Vec::new(),
        ssh_config: site.file("ssh_config"),
        device: Vec::new(),
        server: vec![server],
        sshd: None,
        account,
    };
    let elsewhere = match tunnel {
        Tunnel::Elsewhere => Some(log_in(site, &data, "ada")?),
        _ => None,
    };
    for number in 0..devices {
        // The first has the name that ssh is told.
        let device = if number == 0 { "kiosk".to_owned() } else { format!("kiosk-{number}") };
        let line = invite(site, &data, &["--name", &device])?;
        let config = site.write(&format!("{device}.toml"), &configurations.1)?;
        let agent = |verb: &[&str]| {
            let mut agent = site.on_device(&site.agent);
            agent.args(verb).arg("--state").arg(site.file(&device)).arg("--config").arg(&config);
            agent
        };
        said(&mut agent(&["enroll", &line]))?;
        running.device.push(process::start(&agent(&["run"]), &site.file(&format!("{device}.log")), "")?);
        running.ways.push(match &elsewhere {
            Some(config) => Way::Elsewhere { server: listen, device, config: Arc::clone(config) },
            None => Way::Api { socket: data.join("api.sock"), device },
        });
    }
    for way in &running.ways {
        wait::until_true("the device takes sessions", || way.connect().is_ok());
    }
    let config = said(Command::new(&site.holdfast).args(["ssh-config", "--data"]).arg(&data))?;
    site.write("ssh_config", &config)?;
    Ok(running)
}

/// A line by which a device, or an operator, is enrolled.
///
/// # Errors
/// The server, which runs with `data`, makes none.
pub(crate) fn invite(site: &Site, data: &Path, whom: &[&str]) -> Result<String> {
    let printed = said(Command::new(&site.holdfast).arg("enroll").args(whom).arg("--data").arg(data))?;
    let line = printed.split_whitespace().find(|word| word.starts_with("hf1."));
    line.map(str::to_owned).ok_or_else(|| Error::Told(format!("expected an enrolment line, found {printed}")))
}

/// Logs an operator in, as from another machine: by what its TLS connections show that they are that operator's.
///
/// # Errors
/// The server, which runs with `data`, does not do it.
pub(crate) fn log_in(site: &Site, data: &Path, operator: &str) -> Result<Arc<ClientConfig>> {
    let line = invite(site, data, &["--operator", operator, "--role", "operator"])?;
    let home = site.file(&format!("home-{operator}"));
    let mut login = Command::new(&site.holdfast);
    login.args(["login", &line, "--context", "bench"]);
    login.env_remove("HOLDFAST_DATA").env_remove("HOLDFAST_CONTEXT").env("XDG_CONFIG_HOME", &home);
    said(&mut login)?;
    let context = home.join("holdfast/contexts/bench.toml");
    let text = fs::read_to_string(&context).map_err(Error::file(&context))?;
    let pem = text.find("-----BEGIN").and_then(|begin| text.get(begin..)?.split('"').next());
    let key = KeyPair::from_pem(pem.unwrap_or_default()).map_err(Error::talk)?;
    Ok(tls::client(&key, alpn::API))
}
