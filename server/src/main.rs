//! `holdfast`: the server, and its operators' command line.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use holdfast_server::cli::{client, term_password};

/// The Holdfast server, and the command line of its operators.
#[derive(Parser)]
#[command(name = "holdfast", version)]
enum Command {
    Client(client::ClientArguments),
    /// Sets the password that lets a classic client stop the server, read from standard input
    TermPassword {
        /// The server's data directory
        #[arg(long, env = "HOLDFAST_DATA", default_value = "/var/lib/holdfast")]
        data: PathBuf,
    },
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::Client(arguments) => client::run(&arguments),
        Command::TermPassword { data } => term_password::run(&data),
    }
}
