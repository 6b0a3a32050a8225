//! A whole run: each row's servers side by side, measured in turn, several rounds.

use std::{
    env, fs,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde::de::DeserializeOwned;

use crate::{
    compare::Outcome,
    console,
    error::{Error, Result},
    load::{Idle, Measured},
    process,
    report::{Report, Result as RowResult},
    rows::{Measure, ROWS, Row},
    servers::{Place, Running},
    tunnels::{self, peers::Site},
    video,
};

/// Measure a release build of the server beside its peers
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What is measured; without a name, everything. The start of a name is enough
    rows: Vec<String>,
    /// How often each pair is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Print one JSON object in place of the table
    #[arg(long)]
    json: bool,
    /// The server that is measured [default: the `holdfast` beside this program]
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// The agent that is measured [default: the `holdfast-agent` beside the server]
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// List what can be measured, and end
    #[arg(long)]
    list: bool,
}

/// Something that is measured.
#[derive(Clone, Copy)]
enum Chosen {
    Servers(&'static Row),
    Tunnels(&'static tunnels::Row),
    Video(&'static video::Row),
    Console(&'static console::Row),
}

impl Chosen {
    /// Everything, in the order of the report.
    fn all() -> impl Iterator<Item = Self> {
        let servers = ROWS.iter().map(Self::Servers);
        let tunnels = tunnels::ROWS.iter().map(Self::Tunnels);
        let video = video::ROWS.iter().map(Self::Video);
        servers.chain(tunnels).chain(video).chain(console::ROWS.iter().map(Self::Console))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Servers(row) => row.name,
            Self::Tunnels(row) => row.sheet.name,
            Self::Video(row) => row.sheet.name,
            Self::Console(row) => row.sheet.name,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Servers(row) => row.title,
            Self::Tunnels(row) => row.sheet.title,
            Self::Video(row) => row.sheet.title,
            Self::Console(row) => row.sheet.title,
        }
    }
}

/// `holdfast-bench run`.
///
/// # Errors
/// Something can't be started or measured, or an aim does not hold: what was measured is printed all the same.
pub(crate) fn run(arguments: &Arguments) -> Result {
    if arguments.list {
        Chosen::all().for_each(|row| println!("{:<20} {}", row.name(), row.title()));
        return Ok(());
    }
    let chosen = chosen(&arguments.rows)?;
    let place = place(arguments)?;
    let files = process::allow_open_files();
    let mut report = Report::new();
    for row in chosen {
        eprintln!("measuring {}: {}", row.name(), row.title());
        let Chosen::Servers(row) = row else {
            let outcome = compare(row, arguments, &place)?;
            if !arguments.json {
                outcome.print();
            }
            report.compared.push(outcome);
            continue;
        };
        if row.connections as u64 + 100 > files {
            return Err(Error::Told(format!(
                "{}: {} connections need more than the {files} open files that are allowed (ulimit -Hn)",
                row.name, row.connections
            )));
        }
        let result = measure(row, &place, arguments)?;
        if !arguments.json {
            result.print();
        }
        report.rows.push(result);
    }
    // What the servers wrote is of no use to anyone.
    let _ = fs::remove_dir_all(&place.directory);
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        report.print_aims();
    }
    match report.misses() {
        0 => Ok(()),
        misses => Err(Error::Told(format!("aims that do not hold, or were not measured: {misses}"))),
    }
}

/// What is meant by these names, or by how its own begin.
fn chosen(names: &[String]) -> Result<Vec<Chosen>> {
    let is_one = |name: &String| Chosen::all().any(|one| one.name() == name);
    let is_meant = |row: &str, name: &String| row == name || !is_one(name) && row.starts_with(name.as_str());
    let is_chosen = |row: &Chosen| names.is_empty() || names.iter().any(|name| is_meant(row.name(), name));
    let chosen: Vec<_> = Chosen::all().filter(is_chosen).collect();
    match chosen.is_empty() {
        true => Err(Error::Told(format!("nothing is called {}; --list names all", names.join(" or ")))),
        false => Ok(chosen),
    }
}

/// Measures several ways to do the same.
fn compare(row: Chosen, arguments: &Arguments, place: &Place) -> Result<Outcome> {
    let rounds = arguments.rounds;
    let site = |place: &tunnels::Place| Site {
        holdfast: place.holdfast.clone(),
        agent: place.agent.clone(),
        rathole: place.rathole.clone(),
        directory: place.directory.join("scene"),
        server_address: Ipv4Addr::LOCALHOST.into(),
        device_address: Ipv4Addr::LOCALHOST.into(),
        device_namespace: None,
    };
    let tunnels = tunnel_place(arguments)?;
    match row {
        Chosen::Tunnels(row) => tunnels::measure(row, &tunnels, rounds),
        Chosen::Video(row) => Ok(video::measure(row, &site(&tunnels), rounds, arguments.seconds)),
        Chosen::Console(row) => Ok(console::measure(row, place, rounds, arguments.seconds)),
        Chosen::Servers(row) => Err(Error::Told(format!("{} compares servers", row.name))),
    }
}

fn place(arguments: &Arguments) -> Result<Place> {
    let here = env::current_exe()?;
    let binaries = here.parent().unwrap_or(&here);
    let target = binaries.parent().unwrap_or(binaries).join("bench");
    fs::create_dir_all(&target).map_err(Error::file(&target))?;
    Ok(Place {
        holdfast: arguments.server.clone().unwrap_or_else(|| binaries.join("holdfast")),
        keys: target.join("keys.pem"),
        directory: target.join("run"),
    })
}

/// The same for tunnels.
fn tunnel_place(arguments: &Arguments) -> Result<tunnels::Place> {
    let Place { holdfast, directory, keys } = place(arguments)?;
    let beside = |file: &std::path::Path, name: &str| file.parent().unwrap_or(file).join(name);
    fs::create_dir_all(&directory).map_err(Error::file(&directory))?;
    let agent = arguments.agent.clone().unwrap_or_else(|| beside(&holdfast, "holdfast-agent"));
    Ok(tunnels::Place { holdfast, agent, rathole: beside(&keys, "bin/rathole"), directory })
}

fn measure(row: &'static Row, place: &Place, arguments: &Arguments) -> Result<RowResult> {
    match row.measure {
        Measure::Echoes { in_flight, together, payload } => {
            let servers = row
                .servers
                .iter()
                .map(|server| Running::start(*server, place, row.connections))
                .collect::<Result<Vec<_>>>()?;
            let size = [
                ("--connections", row.connections.to_string()),
                ("--in-flight", in_flight.to_string()),
                ("--payload", payload.to_string()),
                ("--seconds", arguments.seconds.to_string()),
            ];
            let mut measured: Vec<Vec<Measured>> = vec![Vec::new(); servers.len()];
            for round in 0..arguments.rounds {
                let mut turns: Vec<_> = servers.iter().zip(&mut measured).collect();
                // Whoever comes first gets the machine in the state of whoever came last: in turn.
                if round % 2 == 1 {
                    turns.reverse();
                }
                for (server, measured) in turns {
                    let mut command = server.load(place)?;
                    if together {
                        command.arg("--together");
                    }
                    let result: Measured = load(command, &size)?;
                    eprintln!("  {:<26}{:>9.0}/s", server.server.name(), result.rate);
                    measured.push(result);
                }
            }
            Ok(RowResult::of_echoes(row, &measured))
        }
        Measure::Memory => {
            let mut measured = Vec::new();
            for server in row.servers {
                let server = Running::start(*server, place, row.connections)?;
                let size = [("--connections", row.connections.to_string()), ("--seconds", "0".to_owned())];
                let idle: Idle = load(server.load(place)?, &size)?;
                eprintln!("  {:<26}{:>9.0} bytes", server.server.name(), idle.memory);
                measured.push(idle);
            }
            Ok(RowResult::of_memory(row, &measured))
        }
    }
}

/// Runs a load of this size, and reads what it measured.
fn load<T: DeserializeOwned>(mut command: Command, size: &[(&str, String)]) -> Result<T> {
    for (option, value) in size {
        command.arg(option).arg(value);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(Error::Told(format!("the load ended with {}: {command:?}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
