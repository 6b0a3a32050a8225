//! `holdfast rotate-key`: takes the server's next key into use.

use clap::Args;

use super::{api_client::ApiClient, error::CliError, output::Output};
use crate::api::view::{RotateAnswer, RotateRequest};

/// The arguments of `rotate-key`.
#[derive(Args, Clone, Debug)]
pub(super) struct RotateKey {
    /// Rotate even if devices don't know the next key: these are locked out
    #[arg(long)]
    force: bool,
}

/// Takes the next key into use from the server's next start on, and makes another next one.
pub(super) async fn run(api: &ApiClient, arguments: &RotateKey, output: &mut Output) -> Result<(), CliError> {
    let request = RotateRequest { force: arguments.force };
    let answer: RotateAnswer = api.post("/api/v1/keys/rotate", &request).await?;
    if output.json {
        return Ok(output.json_line(&answer)?);
    }
    output.line(&format!(
        "The server shows the key {} from its next start on: restart it now.",
        answer.current
    ))?;
    Ok(output.line("Enrolment lines that were printed before, and not used, are void then.")?)
}
