//! What can't be read from an image of firmware: a line for each figure, its name and its value.

#![forbid(unsafe_code)]

use std::{io, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use holdfast_tests::measure;

/// Measure the reference board's firmware in QEMU
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, Subcommand)]
enum What {
    /// The most stack that was ever used, in bytes: `stack uart 3456`
    Stack,
    /// What a device takes for a ping and a message: `instructions ping 500`
    Instructions,
    /// From the start to the first archived message, in milliseconds, several times: `first-message uart 90 100 120`
    FirstMessage,
}

/// How often the times are measured.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let Arguments { what } = Arguments::parse();
    match run(what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the firmware could not be measured: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> io::Result<()> {
    match what {
        What::Stack => {
            println!("stack ethernet {}", measure::stack_of_ethernet()?);
            println!("stack uart {}", measure::stack_of_uart()?);
        }
        What::Instructions => {
            for (name, count) in measure::instructions()? {
                println!("instructions {name} {count}");
            }
        }
        What::FirstMessage => {
            times("ethernet", measure::first_message_of_ethernet)?;
            times("uart", measure::first_message_of_uart)?;
        }
    }
    Ok(())
}

/// Prints the times, shortest first.
fn times(name: &str, measure: fn() -> io::Result<Duration>) -> io::Result<()> {
    let mut times = (0..ROUNDS).map(|_| measure()).collect::<io::Result<Vec<_>>>()?;
    times.sort_unstable();
    let times: Vec<_> = times.iter().map(|time| time.as_millis().to_string()).collect();
    println!("first-message {name} {}", times.join(" "));
    Ok(())
}
