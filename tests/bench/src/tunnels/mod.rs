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
mod ours;
mod peers;
mod report;
mod rows;

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use self::{
    measure::Figures,
    network::{Link, SERVER},
    peers::Tunnel,
};
pub(crate) use self::{
    report::Outcome,
    rows::{ROWS, Row},
};
use crate::error::{Error, Result};

/// Where the programs are, and where things are.
pub(crate) struct Place {
    pub(crate) holdfast: PathBuf,
    pub(crate) agent: PathBuf,
    pub(crate) rathole: PathBuf,
    pub(crate) directory: PathBuf,
}

/// What came of a tunnel: its rounds, or why there are none.
type Rounds = std::result::Result<Vec<Figures>, String>;

/// Measures a row, so many rounds.
///
/// # Errors
/// This program does not know where it is.
pub(crate) fn measure(row: &'static Row, place: &Place, rounds: usize) -> Result<Outcome> {
    let link = Link::set_up(row.network, &place.directory.join("link.log"));
    let link = match link {
        Ok(link) => link,
        Err(error) => return Ok(Outcome::none(row, &error.to_string())),
    };
    if let Some(link) = &link {
        link.open_fast()?;
    }
    let mut measured: BTreeMap<&str, Rounds> = BTreeMap::new();
    for round in 0..rounds {
        let mut turns = row.tunnels.to_vec();
        // Whoever comes first gets the machine in the state of whoever came last: in turn.
        if round % 2 == 1 {
            turns.reverse();
        }
        for tunnel in turns {
            let rounds = measured.entry(tunnel.word()).or_insert_with(|| Ok(Vec::new()));
            let Ok(figures) = rounds else { continue };
            match once(row, tunnel, place, link.as_ref()) {
                Ok(news) => {
                    eprintln!("  {:<26}{}", tunnel.name(), in_words(row, &news));
                    figures.push(news);
                }
                Err(error) => {
                    eprintln!("  {:<26}{error}", tunnel.name());
                    *rounds = Err(error.to_string());
                }
            }
        }
    }
    let of = |tunnel: &Tunnel| (*tunnel, measured.remove(tunnel.word()).unwrap_or_else(|| Ok(Vec::new())));
    Ok(Outcome::of(row, row.tunnels.iter().map(of).collect()))
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

fn in_words(row: &Row, figures: &Figures) -> String {
    let shown = row.quantities.iter().filter_map(|quantity| {
        let value = figures.get(quantity.0)?;
        Some(format!("{:>10.*}", quantity.2, value))
    });
    shown.collect()
}
