//! The load, the peers and the report of `cargo xtask bench`; `docs/benchmarks.md` says what is measured.
//!
//! `run` starts the others as processes of their own: `holdfast serve`, the peers beside which it is measured, and
//! for each measurement a `load`.

#![forbid(unsafe_code)]

mod browser;
mod compare;
mod console;
mod device;
mod dialogue;
mod echo;
mod error;
mod load;
mod process;
mod report;
mod rows;
mod run;
mod servers;
mod tunnels;
mod video;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The load, the peers and the report of `cargo xtask bench`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Load(load::Arguments),
    Echo(echo::Arguments),
    Tunnel(tunnels::measure::Arguments),
    Service(tunnels::service::Arguments),
    Delay(tunnels::delay::Arguments),
    Camera(video::camera::Arguments),
    Plain(video::plain::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Echo(arguments) => echo::run(&arguments),
        Command::Tunnel(arguments) => tunnels::measure::run(&arguments),
        Command::Service(arguments) => tunnels::service::run(&arguments),
        Command::Delay(arguments) => tunnels::delay::run(&arguments),
        Command::Camera(arguments) => video::camera::run(&arguments),
        Command::Plain(arguments) => video::plain::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
