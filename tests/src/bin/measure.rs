//! What `cargo xtask sizes` can't read from an image: a line for each figure, its name and its value.

#![forbid(unsafe_code)]

use std::{io, process::ExitCode};

use clap::Parser;
use holdfast_tests::measure;

/// Measure the reference board's firmware in QEMU: `stack ethernet 12345`
#[derive(Parser)]
struct Arguments {}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the firmware could not be measured: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    println!("stack ethernet {}", measure::stack_of_ethernet()?);
    println!("stack uart {}", measure::stack_of_uart()?);
    Ok(())
}
