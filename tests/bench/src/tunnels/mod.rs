//! Tunnels from an operator to a device's SSH server: ours, beside rathole, `ssh -R`, and no tunnel at all.
//!
//! Each measurement is a process of its own (`measure.rs`), which starts one tunnel, and a link between server and device
//! where there is one (`network.rs`).

pub(crate) mod delay;
pub(crate) mod measure;
pub(crate) mod service;

mod client;
mod handshake;
mod network;
pub(crate) mod ours;
pub(crate) mod peers;
mod rows;

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

pub(crate) use self::rows::{ROWS, Row};
use self::{
    network::{Link, SERVER},
    peers::Tunnel,
};
use crate::{
    compare::{Figures, Outcome, in_turn, in_words},
    error::{Error, Result},
};

/// Where the programs are, and where things are.
pub(crate) struct Place {
    pub(crate) holdfast: PathBuf,
    pub(crate) agent: PathBuf,
    pub(crate) rathole: PathBuf,
    pub(crate) directory: PathBuf,
}

/// Measures a row, so many rounds.
///
/// # Errors
/// This program does not know where it is.
pub(crate) fn measure(row: &'static Row, place: &Place, rounds: usize) -> Result<Outcome> {
    let link = Link::set_up(row.network, &place.directory.join("link.log"));
    let link = match link {
        Ok(link) => link,
        Err(error) => {
            let ways = row.tunnels.iter().map(|tunnel| tunnel.name());
            return Ok(Outcome::none(&row.sheet, ways, &error.to_string()));
        }
    };
    if let Some(link) = &link {
        link.open_fast()?;
    }
    let measured = in_turn(row.tunnels, rounds, Tunnel::name, |tunnel| {
        let figures = once(row, tunnel, place, link.as_ref())?;
        eprintln!("  {:<26}{}", tunnel.name(), in_words(&row.sheet, &figures));
        Ok(figures)
    });
    Ok(Outcome::of(&row.sheet, measured))
}

/// One measurement of one tunnel, in a process of its own.
fn once(row: &Row, tunnel: Tunnel, place: &Place, link: Option<&Link>) -> Result<Figures> {
    let here = env::current_exe()?;
    let mut command = match link {
        Some(link) => {
            let (namespace, address) = link.device();
            let mut command = link.on_server(&here);
            command.args(["tunnel", "--server-address", SERVER, "--device-address", address]);
            command.args(["--device-namespace", namespace]);
            command
        }
        None => {
            let mut command = match tunnel {
                // With a view of its own of what is mounted where, for the accounts and the SSH server of a machine.
                Tunnel::StockSsh => {
                    let mut command = Command::new("unshare");
                    command.arg("--mount").arg(&here);
                    command
                }
                _ => Command::new(&here),
            };
            command.args(["tunnel", "--server-address", "127.0.0.1", "--device-address", "127.0.0.1"]);
            command
        }
    };
    command.args(["--tunnel", tunnel.word(), "--measure", row.measure.word()]);
    command.arg("--holdfast").arg(&place.holdfast).arg("--agent").arg(&place.agent);
    command.arg("--rathole").arg(&place.rathole);
    command.arg("--directory").arg(place.directory.join(tunnel.word()));
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout)?),
        false => Err(Error::Told(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
