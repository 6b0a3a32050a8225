//! `holdfast`: the server, and its operators' command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_server::cli::main()
}
