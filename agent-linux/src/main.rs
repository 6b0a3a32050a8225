//! `holdfast-agent`: holds one connection to the server, and keeps what must not be lost.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_agent::cli::main()
}
