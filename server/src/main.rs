//! `holdfast`: the server, and its operators' command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_server::cli::main()
}
