//! What was measured, as a table for people and as JSON.

use std::fs;

use serde::Serialize;

use crate::{
    compare::Outcome,
    load::{Idle, Measured},
    rows::{Aim, Row},
};

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    pub(crate) rows: Vec<Result>,
    pub(crate) compared: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    system: String,
}

/// A row, measured.
#[derive(Debug, Serialize)]
pub(crate) struct Result {
    name: &'static str,
    title: &'static str,
    /// Ours first.
    servers: Vec<Figures>,
    /// The least, the middle and the most of the rounds: our echoes a second for each of the peer's in the same
    /// round; one for each peer.
    ratios: Vec<Spread>,
    aim: Option<Goal>,
}

#[derive(Debug, Serialize)]
struct Figures {
    server: &'static str,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Kind {
    Echoes {
        /// Echoes a second.
        rate: Spread,
        /// CPU time of the server for each message, in microseconds.
        cpu: Spread,
        /// Median time to the echo, in milliseconds.
        p50: Spread,
        /// What 99 of 100 stay below, in milliseconds.
        p99: Spread,
    },
    Idle(Idle),
}

/// An aim, and whether it holds.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    words: String,
    /// Nothing: it was not measured.
    came: Option<f64>,
    pub(crate) holds: bool,
}

impl Goal {
    /// An aim that holds where this is so of what came; which is no number where nothing was measured.
    pub(crate) fn new(words: String, came: f64, holds: impl Fn(f64) -> bool) -> Self {
        let came = Some(came).filter(|came| !came.is_nan());
        Self { words, came, holds: came.is_some_and(holds) }
    }

    fn print(&self, of: &str) {
        let Self { words, came, holds } = self;
        match came {
            Some(came) => {
                let verdict = if *holds { "holds" } else { "FAILS" };
                println!("  {verdict}  {of:<48} {words}: {came:.2}");
            }
            None => println!("  NOT MEASURED  {of:<40} {words}"),
        }
    }
}

/// The least, the middle and the most of some rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Self { least: at(0), median, most: at(last) }
    }
}

impl Report {
    /// Of this machine, with nothing measured yet.
    pub(crate) fn new() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let release = read("/proc/sys/kernel/osrelease");
        let machine = Machine { processor, cores, system: format!("Linux {}", release.trim()) };
        Self { machine, rows: Vec::new(), compared: Vec::new() }
    }

    /// How many aims do not hold, those that were not measured among them.
    pub(crate) fn misses(&self) -> usize {
        let goals = self.rows.iter().flat_map(|row| &row.aim);
        let goals = goals.chain(self.compared.iter().flat_map(|row| &row.aims));
        goals.filter(|goal| !goal.holds).count()
    }

    /// Prints the machine, and which aims hold.
    pub(crate) fn print_aims(&self) {
        let Machine { processor, cores, system } = &self.machine;
        println!("\n{processor}, {cores} cores, {system}; load and servers share them\n");
        for row in &self.rows {
            if let Some(goal) = &row.aim {
                goal.print(row.title);
            }
        }
        for row in &self.compared {
            row.aims.iter().for_each(|goal| goal.print(row.name()));
        }
    }
}

impl Result {
    /// `measured`: for each server, its rounds.
    pub(crate) fn of_echoes(row: &'static Row, measured: &[Vec<Measured>]) -> Self {
        let figures = |(server, rounds): (&crate::servers::Server, &Vec<Measured>)| Figures {
            server: server.name(),
            kind: Kind::Echoes {
                rate: Spread::of(rounds.iter().map(|round| round.rate)),
                cpu: Spread::of(rounds.iter().map(|round| round.cpu)),
                p50: Spread::of(rounds.iter().map(|round| round.p50)),
                p99: Spread::of(rounds.iter().map(|round| round.p99)),
            },
        };
        let servers = row.servers.iter().zip(measured).map(figures).collect();
        let ours = measured.first().map(Vec::as_slice).unwrap_or_default();
        let ratio = |peer: &Vec<Measured>| {
            Spread::of(ours.iter().zip(peer).map(|(ours, peer)| ours.rate / peer.rate))
        };
        let ratios: Vec<Spread> = measured.iter().skip(1).map(ratio).collect();
        let aim = match (row.aim, ratios.first()) {
            (Some(Aim::OfPeer(least)), Some(ratio)) => {
                Some(Goal::new(format!("at least {least} of the peer"), ratio.median, |came| came >= least))
            }
            _ => None,
        };
        Self { name: row.name, title: row.title, servers, ratios, aim }
    }

    /// `measured`: one for each server.
    pub(crate) fn of_memory(row: &'static Row, measured: &[Idle]) -> Self {
        let servers = row
            .servers
            .iter()
            .zip(measured)
            .map(|(server, idle)| Figures { server: server.name(), kind: Kind::Idle(idle.clone()) })
            .collect();
        let aim = match (row.aim, measured.first()) {
            (Some(Aim::Bytes(most)), Some(idle)) => {
                Some(Goal::new(format!("at most {most} bytes each"), idle.memory, |came| came <= most))
            }
            _ => None,
        };
        Self { name: row.name, title: row.title, servers, ratios: Vec::new(), aim }
    }

    /// Prints the row as a table.
    pub(crate) fn print(&self) {
        println!("\n{} ({})", self.title, self.name);
        if self.servers.iter().any(|figures| matches!(figures.kind, Kind::Echoes { .. })) {
            println!(
                "  {:<26}{:>10}{:>10}{:>10}{:>9}{:>9}{:>9}   ours/peer",
                "echoes a second", "least", "median", "most", "CPU us", "p50 ms", "p99 ms"
            );
        } else {
            println!("  {:<26}{:>14}{:>16}", "for each connection", "memory, bytes", "opening, CPU us");
        }
        for (index, figures) in self.servers.iter().enumerate() {
            match &figures.kind {
                Kind::Echoes { rate, cpu, p50, p99 } => {
                    let ratio = index.checked_sub(1).and_then(|index| self.ratios.get(index));
                    let ratio = ratio.map_or_else(String::new, |Spread { least, median, most }| {
                        format!("   {least:.2} {median:.2} {most:.2}")
                    });
                    println!(
                        "  {:<26}{:>10.0}{:>10.0}{:>10.0}{:>9.1}{:>9.2}{:>9.2}{ratio}",
                        figures.server,
                        rate.least,
                        rate.median,
                        rate.most,
                        cpu.median,
                        p50.median,
                        p99.median
                    );
                }
                Kind::Idle(idle) => {
                    println!("  {:<26}{:>14.0}{:>16.0}", figures.server, idle.memory, idle.opening);
                }
            }
        }
    }
}
