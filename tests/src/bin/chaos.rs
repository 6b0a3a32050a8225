//! `cargo xtask chaos`: breaks everything at random, and ends with 0 only if all promises held.

#![forbid(unsafe_code)]

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use holdfast_tests::chaos::{Plan, run};

/// Break the server, its devices and the network between them at random, and see whether all promises hold
#[derive(Parser)]
struct Arguments {
    /// For how long faults come
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Which faults come: the same seed gives the same again
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many devices there are
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    agents: u16,
}

fn main() -> ExitCode {
    let Arguments { seconds, seed, agents } = Arguments::parse();
    let plan = Plan { length: Duration::from_secs(seconds), seed, agents: agents.into() };
    match run(plan) {
        Ok(report) => {
            print!("{report}");
            if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("chaos could not be run: {error}");
            ExitCode::FAILURE
        }
    }
}
