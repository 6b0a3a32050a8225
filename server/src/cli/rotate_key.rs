//! `holdfast rotate-key`: takes the server's next key into use.

use std::path::Path;

use serde_json::json;

use super::{error::CliError, output::Output};
use crate::tls::Keys;

/// Takes the next key into use from the server's next start on, and makes another next one.
pub(super) fn run(data: &Path, output: &mut Output) -> Result<(), CliError> {
    let directory = data.join("keys");
    let keys = Keys::rotate(&directory).map_err(|error| CliError::failed(error.to_string()))?;
    let (current, next) = (keys.current_pin().to_string(), keys.next_pin().to_string());
    if output.json {
        return Ok(output.json_line(&json!({ "current": current, "next": next }))?);
    }
    output.line(&format!("The server shows the key {current} from its next start on."))?;
    output.line(
        "Devices that were online since the last rotation know it. Leave the others time before the next.",
    )?;
    Ok(())
}
