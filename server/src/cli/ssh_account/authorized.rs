//! `authorized-keys`: what sshd asks when somebody logs in to the account.

use std::{path::Path, time::Duration};

use clap::Args;
use tokio::time::timeout;

use crate::{
    api::view::{KeyAnswer, KeyRequest},
    cli::{api_client::ApiClient, ask, error::CliError, output::Output},
};

/// How long a login waits for the server.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `authorized-keys`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct AuthorizedKeys {
    /// The key's type (sshd's %t)
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The key, as base64 (sshd's %k)
    #[arg(value_name = "KEY")]
    key: String,
}

/// `holdfast authorized-keys TYPE KEY`: a line if the key is a device's of which a session waits now, else nothing. It
/// never fails: sshd would not look at the answer.
pub(in crate::cli) fn authorized_keys(
    data: &Path,
    key: &AuthorizedKeys,
    output: &mut Output,
) -> Result<(), CliError> {
    let api = ApiClient::local(data);
    let request = KeyRequest { kind: key.kind.clone(), key: key.key.clone() };
    let answer = ask(async {
        let asked = timeout(TIMEOUT, api.post::<_, KeyAnswer>("/api/v1/ssh-account/keys", &request)).await;
        asked.unwrap_or_else(|_| Err(CliError::failed("the server does not answer")))
    });
    match answer {
        Ok(KeyAnswer { line }) => line.iter().try_for_each(|line| output.line(line))?,
        // For whoever tries it by hand.
        Err(error) => _ = error.report(false),
    }
    Ok(())
}
