//! `holdfast term-password`: sets the password that lets a classic client stop the server.

use std::{
    io::{self, IsTerminal, Read},
    path::Path,
};

use protocol_core::classic::MAX_PASSWORD;
use serde_json::json;

use super::{error::CliError, hidden, output::Output};
use crate::term_password::{self, TermPasswordError};

/// Reads the password, from a hidden prompt on a terminal or else from standard input, and sets it.
///
/// Of what comes on standard input one line end is removed.
pub(super) fn run(data: &Path, output: &mut Output) -> Result<(), CliError> {
    let set = read_password().and_then(|password| Ok(term_password::set(data, &password)?));
    set.map_err(|error| CliError::failed(format!("the TERM password was not changed: {error}")))?;
    match output.json {
        true => output.json_line(&json!({ "set": true }))?,
        false => output.line("The TERM password is set. A running server uses it from now on.")?,
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the new one can't be read: {0}")]
    Read(#[from] io::Error),
    #[error("you typed two different ones; try again")]
    Differ,
    #[error(transparent)]
    Set(#[from] TermPasswordError),
}

fn read_password() -> Result<Vec<u8>, Error> {
    let input = io::stdin();
    if input.is_terminal() {
        let password = hidden::line(&input, "New TERM password: ")?.unwrap_or_default();
        let same = hidden::line(&input, "The same again: ")?.unwrap_or_default() == password;
        return if same { Ok(password) } else { Err(Error::Differ) };
    }
    let mut password = Vec::new();
    // Enough for the longest password and its line end, and one more byte to tell that it is too long.
    input.take(MAX_PASSWORD as u64 + 3).read_to_end(&mut password)?;
    Ok(hidden::without_line_end(&password).to_vec())
}
