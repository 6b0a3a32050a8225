//! `cargo xtask demo`: what Holdfast does, shown on this machine.

#![forbid(unsafe_code)]

use std::{env, path::PathBuf, process::ExitCode};

use clap::Parser;
use holdfast_tests::demo::{Places, run};

/// Run a server, two agents and a microcontroller, and let messages pass between them
#[derive(Parser)]
struct Arguments {
    /// Check what is shown, and end
    #[arg(long)]
    once: bool,
    /// The firmware of the microcontroller, which QEMU emulates; without it there is none
    #[arg(long, value_name = "IMAGE")]
    firmware: Option<PathBuf>,
    /// Where everything is kept; what is in this directory is removed
    directory: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { once, firmware, directory } = Arguments::parse();
    let programs =
        env::current_exe().ok().and_then(|demo| Some(demo.parent()?.to_owned())).unwrap_or_default();
    match run(&Places { programs, firmware, demo: directory }, once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
