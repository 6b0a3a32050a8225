//! Asking whether something is to be done.

use std::io::{self, BufRead, IsTerminal, Write};

use super::error::CliError;

/// Asks, on a terminal; where there is none it is an error that says what to give `instead` of an answer.
pub(super) fn confirm(question: &str, instead: &str) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("nobody is there to be asked: add {instead}")));
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
