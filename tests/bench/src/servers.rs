//! The servers that are measured: ours, and the peers beside it.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use holdfast_server::{
    store::{DeviceName, Enrolment, Facts, NewToken, Store, UnixMillis},
    tls::Keys,
};
use holdfast_tests::{process::Process, tls};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    device,
    error::{Error, Result},
    load::Speak,
    process::{self, free_port},
};

/// A server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Server {
    /// `holdfast serve`, its port for devices.
    Holdfast,
    /// `holdfast serve`, its classic port, with a gap of 0.
    Classic,
    /// The bare TLS echo: each read is written back as a whole.
    BareEcho,
    /// The stand-in for the original server.
    Original,
}

impl Server {
    /// Its name in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast",
            Self::Classic => "holdfast, classic",
            Self::BareEcho => "bare TLS echo",
            Self::Original => "original (Python)",
        }
    }

    const fn speaks(self) -> Speak {
        match self {
            Self::Holdfast => Speak::Framed,
            Self::BareEcho => Speak::Bare,
            Self::Classic | Self::Original => Speak::Classic,
        }
    }
}

/// Where everything of a run is: binaries, keys, and a directory for what the servers write.
pub(crate) struct Place {
    /// The `holdfast` that is measured.
    pub(crate) holdfast: PathBuf,
    /// The devices' keys, kept from run to run.
    pub(crate) keys: PathBuf,
    /// Emptied for each server that is started.
    pub(crate) directory: PathBuf,
}

/// A server that is running.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Starts it for at most `devices` connections.
    ///
    /// # Errors
    /// It can't be prepared or started.
    pub(crate) fn start(server: Server, place: &Place, devices: usize) -> Result<Self> {
        let directory = place.directory.join(server.name().replace([' ', ',', '(', ')'], "-"));
        // Nothing of an earlier run is left; if it can't go, what follows says so.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).map_err(Error::file(&directory))?;
        let address = free_port()?;
        let mut ready = "ready";
        let command = match server {
            Server::Holdfast | Server::Classic => {
                ready = "ready:";
                holdfast(server, place, &directory, address, devices)?
            }
            Server::BareEcho => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["echo", "--listen", &address.to_string()]);
                command
            }
            Server::Original => {
                let script = directory.join("original.py");
                fs::write(&script, include_str!("../original.py")).map_err(Error::file(&script))?;
                let mut command = Command::new("/usr/bin/python3");
                command.arg(script).arg(address.port().to_string()).arg(directory.join("messages.log"));
                command
            }
        };
        let process = process::start(&command, &directory.join("output"), ready)?;
        Ok(Self { server, process, address })
    }

    /// The load on this server, as a command that still lacks its size.
    ///
    /// # Errors
    /// This program does not know where it is.
    pub(crate) fn load(&self, place: &Place) -> Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["load", "--speak", self.server.speaks().name()])
            .args(["--server", &self.address.to_string()])
            .args(["--process", &self.process.id().to_string()])
            .arg("--keys")
            .arg(&place.keys);
        Ok(command)
    }
}

/// The real server, with its devices enrolled.
fn holdfast(
    server: Server,
    place: &Place,
    directory: &Path,
    address: SocketAddr,
    devices: usize,
) -> Result<Command> {
    let data = directory.join("data");
    if server == Server::Holdfast {
        let keys = device::keys(&place.keys, devices)?.iter().map(|key| tls::pin(key).0).collect();
        tokio::runtime::Runtime::new()?.block_on(enrol(&data, keys))?;
    }
    let config = directory.join("server.toml");
    // Nobody pings in between, so that idle is idle.
    let text = "classic-gap = \"0s\"\nkeep-alive.interval = \"1h\"\n";
    fs::write(&config, text).map_err(Error::file(&config))?;
    let other = free_port()?.to_string();
    let address = address.to_string();
    let (listen, classic) =
        if server == Server::Classic { (&other, address.as_str()) } else { (&address, "off") };
    let mut command = Command::new(&place.holdfast);
    command
        .args(["serve", "--listen", listen, "--classic", classic, "--http", "off", "--data"])
        .arg(data)
        .arg("--config")
        .arg(config);
    Ok(command)
}

/// Registers these keys in the store, as the enrolment of devices does.
async fn enrol(data: &Path, keys: Vec<[u8; 32]>) -> Result {
    // Before its devices: a server does not start whose devices know another key.
    Keys::load_or_create(&Keys::directory(data)).map_err(Error::talk)?;
    let directory = data.to_owned();
    let store = tokio::task::spawn_blocking(move || Store::open(&directory)).await.map_err(Error::talk)??;
    let now = UnixMillis::now();
    let name: DeviceName = "device".parse().map_err(Error::talk)?;
    let token_hash = [1; 32];
    let token = NewToken {
        hash: token_hash,
        name: Some(name),
        uses: u32::try_from(keys.len()).unwrap_or(u32::MAX).max(2),
        expires_at: UnixMillis(now.0 + 3_600_000),
        role: None,
        who: "bench".into(),
    };
    store.create_token(token).await?;
    let mut enrolling = JoinSet::new();
    for key in keys {
        let store = store.clone();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        enrolling.spawn(async move {
            store.enrol(Enrolment { token_hash, key, facts: Facts::default(), address }).await
        });
    }
    while let Some(enrolled) = enrolling.join_next().await {
        enrolled.map_err(Error::talk)??.map_err(Error::talk)?;
    }
    store.close().await;
    Ok(())
}
